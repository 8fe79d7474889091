//! A master's half of a board: tasks onto it, results off it, and the log of what has become of them.
//!
//! Each change of hands is one call from here, without any Python code between its steps: a signal handler, a finalizer or
//! another thread finds a job in one place, never in none or in two. What may run Python code (pickling, a collection that
//! an allocation starts) comes before, and what was found is handed on as it is, to be read later: see `sealed.rs`.

use super::board::{Board, encoded};
use super::object;
use super::sealed::{Packed, Parcel, Sealed};
use crate::raw::{self, Method, Obj};
use phalanx::pool::{BUNDLE, Bundled, CELL, Lost, ROOM, SLOTS, What};
use phalanx::prim::Guarded;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::ptr;

/// What a master keeps about its board.
pub(super) struct Desk {
    /// Slots that are free.
    free: Guarded<Vec<u32>>,
    /// Slots that are finished, off the stack and not yet reaped.
    came: Guarded<VecDeque<u32>>,
    /// What was in the hands of the dead; `true`: it is a bundle.
    lost: Guarded<VecDeque<(Lost, bool)>>,
}

impl Desk {
    pub(super) fn new(free: Vec<u32>) -> Self {
        Self {
            free: Guarded::new(free),
            came: Guarded::new(VecDeque::new()),
            lost: Guarded::new(VecDeque::new()),
        }
    }

    /// Is something to be reaped?
    pub(super) fn has_done(&self) -> bool {
        !self.came.with(|came| came.is_empty())
    }
}

/// The `_slot` of a job that has been on the board.
const GONE: std::ffi::c_long = -1;

/// What an entry of the log tells: a result; news of a bundle that is under way, and whether it was cut; that a worker died
/// over a task, or over a bundle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Result,
    News,
    Cut,
    Lost,
    Wreck,
}

// ------------------------------------------------------------------ jobs, and entries of the log

/// The job of a slot, borrowed, or null.
unsafe fn job_of(jobs: Obj, slot: u32) -> Obj {
    // SAFETY: attached, as the callers promise; `jobs` is a dict with int keys, so no Python code runs.
    unsafe {
        let key = ffi::PyLong_FromLong(slot.into());
        let job = ffi::PyDict_GetItemWithError(jobs, key);
        ffi::Py_XDECREF(key);
        job
    }
}

/// Takes the job of a slot out of the jobs, and says so in its `_slot`. Owned, or null.
unsafe fn take_job(jobs: Obj, slot: u32) -> Obj {
    // SAFETY: as in job_of; the job is kept by the reference that is taken, and its class has no `__setattr__`.
    unsafe {
        let job = job_of(jobs, slot);
        if job.is_null() {
            ffi::PyErr_Clear();
            return job;
        }
        ffi::Py_INCREF(job);
        let key = ffi::PyLong_FromLong(slot.into());
        ffi::PyDict_DelItem(jobs, key);
        ffi::Py_XDECREF(key);
        let gone = ffi::PyLong_FromLong(GONE);
        set_slot(job, gone);
        ffi::Py_XDECREF(gone);
        job
    }
}

unsafe fn set_slot(job: Obj, slot: Obj) -> bool {
    // SAFETY: attached, as the callers promise.
    unsafe {
        let name = intern!(Python::assume_attached(), "_slot").as_ptr();
        ffi::PyObject_SetAttr(job, name, slot) == 0
    }
}

/// Puts an entry, which is consumed, into the log. `false`: an exception is set.
unsafe fn log(found: Obj, entry: Obj) -> bool {
    // SAFETY: attached, as the callers promise; `found` is a deque, whose `append` runs no Python code.
    unsafe {
        let name = intern!(Python::assume_attached(), "append").as_ptr();
        let done = raw::call_method(name, [found, entry]);
        raw::release(entry);
        raw::release(done);
        !done.is_null()
    }
}

/// An entry whose job is yet to be put in, and what is sealed in it, borrowed. Nulls: an exception is set.
unsafe fn blank(kind: Kind) -> (Obj, Obj) {
    // SAFETY: attached, as the callers promise. A collection may run here: nothing has been touched yet.
    unsafe {
        let sealed = Sealed::make();
        let entry = object::tuple([raw::none(), ffi::PyLong_FromLong(kind as _), sealed]);
        if entry.is_null() {
            (entry, entry)
        } else {
            (entry, sealed)
        }
    }
}

/// Puts a job, owned, into its entry, and the entry into the log. A null job is nobody's. `false`: an exception is set.
unsafe fn log_for(job: Obj, found: Obj, entry: Obj) -> bool {
    // SAFETY: attached, as the callers promise; nobody else has the entry.
    unsafe {
        if job.is_null() {
            raw::release(entry);
            return true;
        }
        // What is replaced is None.
        ffi::Py_DECREF(ffi::PyTuple_GET_ITEM(entry, 0));
        ffi::PyTuple_SET_ITEM(entry, 0, job);
        log(found, entry)
    }
}

/// Seals what lies in a finished slot, whose cargo is gone then.
unsafe fn reap(this: &Board, slot: u32, sealed: Obj) {
    let mut bytes = [0; ROOM];
    // SAFETY: the slot is finished, as the callers promise, and `sealed` is one of ours.
    unsafe {
        let taken = this.board().reap(slot, bytes.as_mut_ptr());
        let sealed: &Sealed = raw::state(sealed);
        match taken.what {
            What::Bundle(bundle) => {
                sealed.fill_many(bundle);
                bundle.free();
            }
            what => sealed.fill(what, taken.failed, bytes),
        }
    }
}

/// Reaps what has come. How many, or `None`: an exception is set.
unsafe fn reap_all(this: &Board, jobs: Obj, found: Obj) -> Option<i64> {
    let mut n = 0;
    while this.desk().has_done() {
        // SAFETY: attached, as the callers promise.
        unsafe {
            let (entry, sealed) = blank(Kind::Result);
            if entry.is_null() {
                return None;
            }
            // Another one may have taken it while a collection ran.
            let Some(slot) = this.desk().came.with(VecDeque::pop_front) else {
                raw::release(entry);
                break;
            };
            reap(this, slot, sealed);
            let job = take_job(jobs, slot);
            this.desk().free.with(|free| free.push(slot));
            if !log_for(job, found, entry) {
                return None;
            }
            n += 1;
        }
    }
    Some(n)
}

/// Logs what was in the hands of the dead. How many tasks are lost, or `None`: an exception is set.
unsafe fn bury_all(this: &Board, jobs: Obj, found: Obj, others: Obj) -> Option<i64> {
    let (mut n, now) = (0, phalanx::sys::now());
    while let Some((lost, bundled)) = this.desk().lost.with(|lost| lost.front().copied()) {
        let ago = (lost.event.since != 0).then(|| now.saturating_sub(lost.event.since) as f64 / 1e9);
        // SAFETY: attached, as the callers promise.
        unsafe {
            let last = object::tuple([
                ffi::PyLong_FromLong(lost.worker.into()),
                ffi::PyLong_FromLong((lost.event.stage as u8).into()),
                ago.map_or_else(raw::none, |ago| ffi::PyFloat_FromDouble(ago)),
                ffi::Py_NewRef(others),
            ]);
            let (entry, sealed) = blank(if bundled { Kind::Wreck } else { Kind::Lost });
            if last.is_null() || entry.is_null() {
                raw::release(last);
                raw::release(entry);
                return None;
            }
            if bundled {
                reap(this, lost.slot, sealed);
                n += raw::state::<Sealed>(sealed).lost();
                raw::state::<Sealed>(sealed).note(last);
            } else {
                n += 1;
                ffi::Py_DECREF(ffi::PyTuple_GET_ITEM(entry, 2));
                ffi::PyTuple_SET_ITEM(entry, 2, last);
            }
            let job = take_job(jobs, lost.slot);
            this.desk().lost.with(VecDeque::pop_front);
            this.desk().free.with(|free| free.push(lost.slot));
            if !log_for(job, found, entry) {
                return None;
            }
        }
    }
    Some(n)
}

fn number_of(slot: Obj) -> Option<u32> {
    // SAFETY: attached, as the callers promise.
    let number = unsafe { raw::PyLong_AsLongLong(slot) };
    u32::try_from(number).ok().filter(|&slot| (slot as usize) < SLOTS)
}

// ------------------------------------------------------------------ the calls

unsafe extern "C-unwind" fn pack(_: Obj, task: Obj) -> Obj {
    let mut packed = None;
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        let done = encoded(task, ROOM, |thing| packed = Some(Packed::of(thing)));
        match packed {
            Some(packed) if done => Parcel::make(packed),
            _ => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn pack_many(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        let names = [c"function", c"items", c"mode"];
        let Some([function, items, mode]) = raw::arguments("pack_many", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let mode = raw::PyLong_AsLongLong(mode) as u32;
        if ffi::PyTuple_Check(items) == 0 || ffi::PyTuple_GET_SIZE(items) > BUNDLE as isize {
            return raw::raise(
                raw::value_error(),
                c"items must be a tuple of at most BUNDLE items",
            );
        }
        let many = ffi::PyTuple_GET_SIZE(items);
        let board = raw::state::<Board>(slf).board();
        let Ok(bundle) = Bundled::make(many as usize, mode) else {
            object::no_memory().restore(Python::assume_attached());
            return ptr::null_mut();
        };
        let all = encoded(function, CELL, |thing| board.set_call(bundle, thing))
            && (0..many).all(|at| {
                encoded(ffi::PyTuple_GET_ITEM(items, at), CELL, |thing| {
                    board.push(bundle, thing);
                })
            });
        if all {
            return Parcel::make(Packed::Bundle(bundle));
        }
        bundle.free();
        ptr::null_mut()
    }
}

unsafe extern "C-unwind" fn post(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        let names = [c"parcel", c"job", c"jobs"];
        let Some([parcel, job, jobs]) = raw::arguments("post", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(parcel) = Parcel::of(parcel) else {
            return raw::raise(raw::type_error(), c"parcel must be what pack() has made");
        };
        let this: &Board = raw::state(slf);
        let board = this.board();
        let slot = this
            .desk()
            .free
            .with(|free| if board.has_room() { free.pop() } else { None });
        let Some(slot) = slot else {
            return raw::boolean(false);
        };
        let key = ffi::PyLong_FromLong(slot.into());
        let known = !key.is_null() && ffi::PyDict_SetItem(jobs, key, job) == 0;
        let noted = known && set_slot(job, key);
        ffi::Py_XDECREF(key);
        if noted && parcel.send(|thing| board.post(slot, thing)) {
            return raw::boolean(true);
        }
        if known {
            raw::release(take_job(jobs, slot));
        }
        this.desk().free.with(|free| free.push(slot));
        if noted {
            return raw::raise(raw::value_error(), c"a parcel is posted once");
        }
        ptr::null_mut()
    }
}

unsafe extern "C-unwind" fn collect(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let Some([jobs, found]) = raw::arguments("collect", [c"jobs", c"found"], args, count, keywords)
        else {
            return ptr::null_mut();
        };
        let this: &Board = raw::state(slf);
        this.board()
            .collect(|slot| this.desk().came.with(|came| came.push_back(slot)));
        reap_all(this, jobs, found).map_or(ptr::null_mut(), |n| ffi::PyLong_FromLongLong(n))
    }
}

unsafe extern "C-unwind" fn bury(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing when Python code may run.
    unsafe {
        let names = [c"jobs", c"found", c"others"];
        let Some([jobs, found, others]) = raw::arguments("bury", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let this: &Board = raw::state(slf);
        {
            let estate = this.board().collect_from_the_dead();
            this.desk().came.with(|came| came.extend(estate.finished));
            this.desk().lost.with(|lost| {
                lost.extend(estate.lost.into_iter().map(|one| (one, false)));
                lost.extend(estate.bundles.into_iter().map(|one| (one, true)));
            });
        }
        if reap_all(this, jobs, found).is_none() {
            return ptr::null_mut();
        }
        bury_all(this, jobs, found, others).map_or(ptr::null_mut(), |n| ffi::PyLong_FromLongLong(n))
    }
}

unsafe extern "C-unwind" fn revoke(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let names = [c"slot", c"jobs", c"found", c"entry"];
        let Some([slot, jobs, found, entry]) = raw::arguments("revoke", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(slot) = number_of(slot) else {
            return raw::raise(raw::value_error(), c"no such slot");
        };
        let this: &Board = raw::state(slf);
        if !this.board().revoke(slot) {
            return raw::boolean(false);
        }
        let job = take_job(jobs, slot);
        this.desk().free.with(|free| free.push(slot));
        let logged = log(found, ffi::Py_NewRef(entry));
        // Its end may run Python code.
        raw::release(job);
        if logged {
            raw::boolean(true)
        } else {
            ptr::null_mut()
        }
    }
}

/// Logs news of the bundle in a slot; `cut`: what its worker has not begun is taken back.
unsafe fn tell(slf: Obj, slot: Obj, jobs: Obj, found: Obj, cut: bool) -> Obj {
    // SAFETY: as the callers promise: attached, a board; the frame owns nothing.
    unsafe {
        let Some(slot) = number_of(slot) else {
            return raw::raise(raw::value_error(), c"no such slot");
        };
        let this: &Board = raw::state(slf);
        let (entry, sealed) = blank(if cut { Kind::Cut } else { Kind::News });
        if entry.is_null() {
            return entry;
        }
        let job = job_of(jobs, slot);
        let board = this.board();
        let bundle = if job.is_null() {
            None
        } else if cut {
            board.cut(slot)
        } else {
            board.bundle(slot).filter(|bundle| bundle.has_news())
        };
        let Some(bundle) = bundle else {
            ffi::PyErr_Clear();
            raw::release(entry);
            return raw::boolean(false);
        };
        raw::state::<Sealed>(sealed).fill_many(bundle);
        if log_for(ffi::Py_NewRef(job), found, entry) {
            raw::boolean(true)
        } else {
            ptr::null_mut()
        }
    }
}

unsafe extern "C-unwind" fn cut(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        match raw::arguments("cut", [c"slot", c"jobs", c"found"], args, count, keywords) {
            Some([slot, jobs, found]) => tell(slf, slot, jobs, found, true),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn look(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        match raw::arguments("look", [c"slot", c"jobs", c"found"], args, count, keywords) {
            Some([slot, jobs, found]) => tell(slf, slot, jobs, found, false),
            None => ptr::null_mut(),
        }
    }
}

/// Adds the methods to the class of boards.
pub fn add(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Board>();
    class.setattr("BUNDLE", BUNDLE)?;
    for (name, kind) in [
        ("RESULT", Kind::Result),
        ("NEWS", Kind::News),
        ("CUT", Kind::Cut),
        ("LOST", Kind::Lost),
        ("WRECK", Kind::Wreck),
    ] {
        class.setattr(name, kind as u8)?;
    }
    raw::attach::<Board>(
        py,
        &[
            Method::One(
                c"pack",
                pack,
                c"pack($self, task, /)\n--\n\nMake a parcel of a task. Raises what pickling raises. O(size).",
            ),
            Method::Fast(
                c"pack_many",
                pack_many,
                c"pack_many($self, /, function, items, mode)\n--\n\n\
Make a parcel of a tuple of at most BUNDLE tasks that call one function, with an item each (mode 0) or with its parts (mode 1).\n\n\
Raises what pickling raises.",
            ),
            Method::Fast(
                c"post",
                post,
                c"post($self, /, parcel, job, jobs)\n--\n\n\
Post a parcel for any worker; false: the board is full. It is one step to enter the job in the dict `jobs` by its slot,\n\
to set its `_slot`, and to post it. Once it is off the board again, `_slot` is -1. O(1).",
            ),
            Method::Fast(
                c"collect",
                collect,
                c"collect($self, /, jobs, found)\n--\n\n\
Reap every finished slot, the oldest first; return how many. Each is one step out of `jobs` and, as\n\
(job, RESULT, Sealed), to the end of the deque `found`.",
            ),
            Method::Fast(
                c"bury",
                bury,
                c"bury($self, /, jobs, found, others)\n--\n\n\
Collect, and also what dead workers have left; return how many tasks are lost. Those appear in `found` as\n\
(job, LOST, last), and what is left of a bundle as (job, WRECK, Sealed) with `last` in it. `last` is a tuple: number of the\n\
worker, how far it had come (0 taken, 1 loaded and called, 2 ended and its result on the way), seconds since then or\n\
None, others.",
            ),
            Method::Fast(
                c"revoke",
                revoke,
                c"revoke($self, /, slot, jobs, found, entry)\n--\n\n\
Take back a task that no worker has taken; return whether it was. It is one step out of `jobs`, and `entry` into `found`.",
            ),
            Method::Fast(
                c"cut",
                cut,
                c"cut($self, /, slot, jobs, found)\n--\n\n\
Take back the tasks of a posted bundle that its worker has not begun; false: there is no bundle. What has ended so far\n\
appears in `found` as (job, CUT, Sealed); the tasks before `begun` stay with the worker.",
            ),
            Method::Fast(
                c"look",
                look,
                c"look($self, /, slot, jobs, found)\n--\n\n\
As cut(), without taking anything back, as (job, NEWS, Sealed); false: there is nothing new.",
            ),
        ],
    )
}
