//! The board of a pool: tasks from the master to its workers, results back.
//!
//! One object stands for both halves. The master's knows which slots are free; a worker's knows which slot it has taken.

use super::bundle;
use super::object::{self, Packed};
use super::transfer;
use crate::codec::{self, Encoded, Room};
use crate::raw::{self, Ended, Method, Obj};
use phalanx::channel::{Item, Payload};
use phalanx::pool::{self, Bundled, Lost, ROOM, SLOTS, Stage, Thing, What};
use phalanx::prim::{AtomicU32, AtomicU64, Guarded, Ordering};
use phalanx::shm::{Handle, tree};
use phalanx::wait::{Enders, Reason, Role};
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::MaybeUninit;
use std::ptr;

static IDLE: Reason = Reason {
    name: "Pool worker idle",
    role: Role::Idle,
};
static RESULT: Reason = Reason {
    name: "Pool result",
    role: Role::Wait,
};

/// No slot.
const NONE: u32 = u32::MAX;

/// The board between the master of a pool and its workers.
#[pyclass(frozen, weakref, module = "phalanx._core", name = "Board")]
pub struct Board {
    handle: Handle,
    /// The master's: slots that are free.
    free: Guarded<Vec<u32>>,
    /// The master's: grows with everything that a waiting thread may want to know.
    news: AtomicU32,
    /// A worker's: the slot that it has taken and not given back.
    current: AtomicU32,
    /// A worker's: the bundle in that slot.
    bundle: Guarded<Option<Bundled>>,
    /// A worker's: bytes of the tasks and results of that bundle.
    bytes: AtomicU64,
    /// A worker's: where it counts what it does.
    seat: AtomicU32,
    /// A worker's: when it took the task, or finished the one before.
    since: AtomicU64,
}

impl Board {
    #[inline]
    pub(super) fn board(&self) -> &pool::Board {
        pool::Board::of(&self.handle)
    }

    /// The bundle that this worker has taken and not given back.
    pub(super) fn bundle(&self) -> Option<Bundled> {
        self.bundle.with(|bundle| *bundle)
    }

    /// Posts what `write` gives, in a free slot. `None`: there is no room, and nothing was asked for.
    pub(super) unsafe fn post_with(&self, write: impl FnOnce(&mut dyn FnMut(Thing<'_>)) -> bool) -> Obj {
        let board = self.board();
        let slot = self
            .free
            .with(|free| if board.has_room() { free.pop() } else { None });
        let Some(slot) = slot else { return raw::none() };
        if write(&mut |thing| board.post(slot, thing)) {
            // SAFETY: attached, as the callers promise.
            return unsafe { ffi::PyLong_FromLong(slot.into()) };
        }
        self.free.with(|free| free.push(slot));
        ptr::null_mut()
    }

    /// This worker gives back the task that it has taken.
    fn finish_with(&self, slot: u32, thing: Thing<'_>, failed: bool, bell: i32) {
        self.current.store(NONE, Ordering::Relaxed);
        let tally = self.tally();
        add_to(&tally.tasks, 1);
        add_to(&tally.bytes, thing.len());
        add_to(&tally.busy, self.lap());
        self.board().finish(slot, thing, failed, bell);
    }

    /// This worker gives back the bundle that it has taken.
    pub(super) fn finish_bundle(&self, bundle: Bundled, bell: i32) {
        let slot = self.current.swap(NONE, Ordering::Relaxed);
        self.bundle.with(|bundle| *bundle = None);
        let (tally, busy) = (self.tally(), self.lap());
        bundle.took(busy, self.bytes.swap(0, Ordering::Relaxed));
        add_to(&tally.tasks, bundle.outcome().given as u64);
        add_to(&tally.busy, busy);
        self.board().finish(slot, Thing::Bundle(bundle), false, bell);
    }

    /// So many bytes more of the bundle's tasks and results.
    pub(super) fn count_bytes(&self, n: u64) {
        add_to(&self.bytes, n);
        add_to(&self.tally().bytes, n);
    }

    /// How far this worker has come with the task that it has taken.
    #[inline]
    pub(super) fn note(&self, stage: Stage) {
        self.board().note(self.current.load(Ordering::Relaxed), stage);
    }

    /// The row where this worker counts.
    fn tally(&self) -> &pool::Tally {
        self.board().tally(self.seat.load(Ordering::Relaxed) as usize)
    }

    /// The nanoseconds since the last call, or since `sit`.
    fn lap(&self) -> u64 {
        let now = phalanx::sys::now();
        now.saturating_sub(self.since.swap(now, Ordering::Relaxed))
    }
}

/// What was in the hands of dead workers: slot, number of the worker, how far it had come, and seconds since then.
type Hands = Vec<(u32, u32, u8, Option<f64>)>;

fn hands(lost: Vec<Lost>) -> Hands {
    let now = phalanx::sys::now();
    let ago = |since: u64| (since != 0).then(|| now.saturating_sub(since) as f64 / 1e9);
    lost.into_iter()
        .map(|lost| {
            let event = lost.event;
            (lost.slot, lost.worker, event.stage as u8, ago(event.since))
        })
        .collect()
}

/// Counts without a bus lock: each row has one writer.
fn add_to(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

#[pymethods]
impl Board {
    #[new]
    #[pyo3(signature = (_packed = None))]
    fn new(_packed: Option<Packed>) -> PyResult<Self> {
        object::join_tree()?;
        let free = if _packed.is_none() {
            (0..SLOTS as u32).rev().collect()
        } else {
            Vec::new()
        };
        let handle = match _packed {
            Some(packed) => object::unpack(packed, pool::Board::OBJECT, "pool")?,
            None => pool::Board::make().map_err(|_| object::no_memory())?,
        };
        Ok(Self {
            handle,
            free: Guarded::new(free),
            news: AtomicU32::new(0),
            current: AtomicU32::new(NONE),
            bundle: Guarded::new(None),
            bytes: AtomicU64::new(0),
            seat: AtomicU32::new(0),
            since: AtomicU64::new(0),
        })
    }

    /// The handle for a pickle.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyAny>, (Packed,)) {
        let packed = object::pack(&slf.get().handle);
        (slf.get_type().into_any(), (packed,))
    }

    /// How many tasks can be posted before the first has to be collected.
    #[classattr]
    const SLOTS: usize = SLOTS;

    /// Take back a task that no worker has taken; return whether it was taken back.
    fn revoke(&self, slot: u32) -> bool {
        let revoked = (slot as usize) < SLOTS && self.board().revoke(slot);
        if revoked {
            self.free.with(|free| free.push(slot));
        }
        revoked
    }

    /// The number in the tree of the worker that has the task of a slot in its hands, 0 for none.
    fn worker(&self, slot: u32) -> u32 {
        if (slot as usize) < SLOTS {
            self.board().worker(slot)
        } else {
            0
        }
    }

    /// How far the bundle in a slot has come, as (tasks begun, tasks ended), or None if there is no bundle.
    fn progress(&self, slot: u32) -> Option<(usize, usize)> {
        let outcome = self.board().bundle(slot % SLOTS as u32)?.outcome();
        Some((outcome.begun, outcome.given))
    }

    /// Can a task be posted?
    fn has_room(&self) -> bool {
        self.board().has_room()
    }

    /// Collect, after a death: slots that are finished, to be reaped; lost ones; and bundles in the middle, to be reaped.
    ///
    /// The last two as (slot, number of the worker, how far it had come with the task, seconds since then or None):
    /// 0 taken, 1 loaded and called, 2 ended and its result on the way.
    fn collect_from_the_dead(&self) -> (Vec<u32>, Hands, Hands) {
        let estate = self.board().collect_from_the_dead();
        self.free
            .with(|free| free.extend(estate.lost.iter().map(|lost| lost.slot)));
        (estate.finished, hands(estate.lost), hands(estate.bundles))
    }

    /// Does a worker sleep that would find nothing to take?
    fn is_starving(&self) -> bool {
        self.board().is_starving()
    }

    /// Is anything finished and not collected?
    fn has_done(&self) -> bool {
        self.board().has_done()
    }

    /// Send each worker home once nothing is left to take.
    fn close(&self) {
        self.board().close();
    }

    /// A thread of the master begins or ceases to wait for results; bell: where to ring if that leaves nobody.
    fn heed(&self, on: bool, bell: i32) {
        self.board().heed(on, bell);
    }

    /// Grows with whatever a waiting thread may want to know.
    #[getter]
    fn news(&self) -> u32 {
        self.news.load(Ordering::Acquire)
    }

    /// Something has ended that a thread may wait for: those that wait look again.
    fn tell(&self) {
        self.news.fetch_add(1, Ordering::AcqRel);
        self.board().nudge();
    }

    /// The thread that tends the pool is about to sleep until the bell rings; false: it had better collect first.
    fn doze(&self) -> bool {
        self.board().doze()
    }

    /// This worker counts what it does in the row of `seat`.
    fn sit(&self, seat: u32) {
        self.seat.store(seat, Ordering::Relaxed);
        self.lap();
    }

    /// What the workers in a seat have done: tasks, nanoseconds busy, nanoseconds waiting, bytes.
    fn done_by(&self, seat: usize) -> (u64, u64, u64, u64) {
        let tally = self.board().tally(seat);
        let [tasks, busy, waiting, bytes] = [&tally.tasks, &tally.busy, &tally.waiting, &tally.bytes]
            .map(|word| word.load(Ordering::Relaxed));
        (tasks, busy, waiting, bytes)
    }

    /// The number of this process in the tree.
    #[staticmethod]
    fn me() -> u32 {
        tree::number()
    }

    /// Has this worker a bundle in hand?
    #[getter]
    fn has_bundle(&self) -> bool {
        self.bundle().is_some()
    }

    /// The slot that this worker has taken and not given back, or None.
    #[getter]
    fn current(&self) -> Option<u32> {
        Some(self.current.load(Ordering::Relaxed)).filter(|&slot| slot != NONE)
    }
}

/// Encodes `object` and hands it to `use_it`, in a block if it has more than `most` bytes. `false`: an exception is set.
pub(super) unsafe fn encoded(object: Obj, most: usize, use_it: impl FnOnce(Thing<'_>)) -> bool {
    let mut room = MaybeUninit::<Room>::uninit();
    // SAFETY: attached, as the callers promise; the room is only read as far as it was written; a plan is ours.
    unsafe {
        let room = room.assume_init_mut();
        let large = |(kind, payload): (u8, Payload)| Thing::Large(kind, payload.offset, payload.len);
        match codec::encode(object, room) {
            Encoded::Small { kind, len } => {
                let bytes = std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), len);
                if len <= most {
                    use_it(Thing::Small(kind, bytes));
                    return true;
                }
                match transfer::copied(bytes) {
                    Some(payload) => use_it(large((kind, payload))),
                    None => return false,
                }
            }
            Encoded::Large(plan) => match transfer::written(plan) {
                Some(written) => use_it(large(written)),
                None => return false,
            },
            Encoded::Failed => return false,
        }
        true
    }
}

/// The object in what was found. Null: an exception is set.
pub(super) unsafe fn decoded(what: What, bytes: *const u8) -> Obj {
    let item = match what {
        What::Small(kind, len) => Item::Small(kind, len),
        What::Large(kind, offset, len) => Item::Large(kind, Payload { offset, len }),
        What::Bundle(_) => return raw::raise(raw::runtime_error(), c"a bundle in a bundle"),
    };
    // SAFETY: as the callers promise: attached, and `bytes` holds what a small one says.
    unsafe { transfer::object_from(item, bytes, false) }
}

unsafe extern "C-unwind" fn post(slf: Obj, object: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        let this: &Board = raw::state(slf);
        this.post_with(|post| encoded(object, ROOM, post))
    }
}

/// What was found, and what it is: 0 a value, 1 the failure of the task, 2 what went wrong while it was read.
pub(super) unsafe fn read(what: What, failed: bool, bytes: *const u8) -> (Obj, u8) {
    // SAFETY: as the callers promise: attached, and `bytes` holds what a small one says.
    unsafe {
        let value = decoded(what, bytes);
        if value.is_null() {
            (raw::caught(), 2)
        } else {
            (value, u8::from(failed))
        }
    }
}

/// A tuple of a slot, what the result is (as in `read`, or 3 for a bundle), and the result.
unsafe fn reaped(this: &Board, slot: u32) -> Obj {
    let mut bytes = [0; ROOM];
    // SAFETY: the slot is finished, as the callers promise; references go to the tuple.
    unsafe {
        let taken = this.board().reap(slot, bytes.as_mut_ptr());
        this.free.with(|free| free.push(slot));
        let (value, kind) = match taken.what {
            What::Bundle(bundle) => (bundle::outcome(bundle), 3),
            what => read(what, taken.failed, bytes.as_ptr()),
        };
        if value.is_null() {
            return value;
        }
        let tuple = ffi::PyTuple_New(3);
        if tuple.is_null() {
            raw::release(value);
            return tuple;
        }
        ffi::PyTuple_SET_ITEM(tuple, 0, ffi::PyLong_FromLong(slot.into()));
        ffi::PyTuple_SET_ITEM(tuple, 1, ffi::PyLong_FromLong(kind.into()));
        ffi::PyTuple_SET_ITEM(tuple, 2, value);
        tuple
    }
}

unsafe extern "C-unwind" fn collect(slf: Obj, _: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class. The numbers are copied out before Python code runs, so nothing is
    // owned then but the list.
    unsafe {
        let this: &Board = raw::state(slf);
        let mut slots = [0_u32; SLOTS];
        let mut n = 0;
        this.board().collect(|slot| {
            slots[n] = slot;
            n += 1;
        });
        let list = ffi::PyList_New(0);
        for &slot in &slots[..n] {
            let one = reaped(this, slot);
            if list.is_null() || one.is_null() || ffi::PyList_Append(list, one) != 0 {
                return ptr::null_mut();
            }
            ffi::Py_DECREF(one);
        }
        list
    }
}

unsafe extern "C-unwind" fn reap(slf: Obj, slot: Obj) -> Obj {
    // SAFETY: as in collect.
    unsafe {
        let slot = raw::PyLong_AsLongLong(slot);
        match u32::try_from(slot) {
            Ok(slot) if (slot as usize) < SLOTS => reaped(raw::state(slf), slot),
            _ => raw::raise(raw::value_error(), c"no such slot"),
        }
    }
}

unsafe extern "C-unwind" fn wait_done(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let Some([seen, timeout]) = raw::arguments("wait_done", [c"seen", c"timeout"], args, count, keywords)
        else {
            return ptr::null_mut();
        };
        let seen = raw::PyLong_AsLongLong(seen) as u32;
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let this: &Board = raw::state(slf);
        if patience == raw::Patience::Now {
            return raw::boolean(this.board().has_done());
        }
        let enough = || this.news.load(Ordering::Acquire) != seen;
        raw::wait_shared(slf, &RESULT, patience.deadline(), Enders::Unknown, |how| {
            this.board().wait_done(how, enough)
        })
        .into_bool()
    }
}

unsafe extern "C-unwind" fn take(slf: Obj, _: Obj) -> Obj {
    let mut bytes = [0; ROOM];
    let to = bytes.as_mut_ptr();
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops; `bytes` has ROOM bytes.
    unsafe {
        let this: &Board = raw::state(slf);
        let board = this.board();
        let mut found = board.try_take(to);
        if found.is_none() {
            let mut closed = false;
            let forever = raw::Patience::Forever.deadline();
            let enders = object::enders(this.handle.name());
            let ended = raw::wait_shared(slf, &IDLE, forever, enders, |how| match board.take(to, how) {
                Ok(taken) => {
                    found = Some(taken);
                    Ok(true)
                }
                Err(pool::Ended::Stopped(stopped)) => Err(stopped),
                Err(_) => {
                    closed = true;
                    Ok(false)
                }
            });
            if let Some(taken) = found {
                // Whatever a signal has raised meanwhile concerns the task.
                this.current.store(taken.slot, Ordering::Relaxed);
            }
            if !matches!(ended, Ended::Yes) && ended.or_raise().is_none() {
                return ptr::null_mut();
            }
            if closed {
                return raw::none();
            }
        }
        match found {
            Some(taken) => {
                this.current.store(taken.slot, Ordering::Relaxed);
                let tally = this.tally();
                add_to(&tally.waiting, this.lap());
                if let What::Bundle(bundle) = taken.what {
                    this.bundle.with(|current| *current = Some(bundle));
                    return ffi::PyLong_FromLong(bundle.mode().into());
                }
                add_to(&tally.bytes, taken.what.len());
                let task = decoded(taken.what, to);
                this.note(Stage::Started);
                task
            }
            None => raw::none(),
        }
    }
}

unsafe extern "C-unwind" fn finish(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let names = [c"value", c"failed", c"bell"];
        let Some([value, failed, bell]) = raw::arguments("finish", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(failed) = raw::truth(failed, false) else {
            return ptr::null_mut();
        };
        let bell = raw::PyLong_AsLongLong(bell) as i32;
        let this: &Board = raw::state(slf);
        let slot = this.current.load(Ordering::Relaxed);
        if slot == NONE {
            return raw::raise(raw::runtime_error(), c"no task has been taken");
        }
        this.note(Stage::Ended);
        let done = encoded(value, ROOM, |thing| {
            this.finish_with(slot, thing, failed, bell);
        });
        if done { raw::none() } else { ptr::null_mut() }
    }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    raw::attach::<Board>(
        py,
        &[
            Method::One(
                c"post",
                post,
                c"post($self, task, /)\n--\n\n\
Post a task for any worker; return its slot, or None if the board is full. Raises what pickling raises. O(size).",
            ),
            Method::NoArgs(
                c"collect",
                collect,
                c"collect($self, /)\n--\n\nReap every finished slot: a list of (slot, kind, value), oldest first.\n\n\
kind: 0 for a value, 1 for the failure of the task, 2 for what was raised while the result was read, 3 for a bundle: \
(first, values, begun, nanoseconds, bytes, odd): the values are those of the tasks from number first on that have ended,\n\
and odd is a list of (number, kind, value) for those of them that are None.",
            ),
            Method::One(
                c"reap",
                reap,
                c"reap($self, slot, /)\n--\n\nReap one slot that collect_from_the_dead() has named, as collect() does.",
            ),
            Method::Fast(
                c"wait_done",
                wait_done,
                c"wait_done($self, /, seen, timeout=None)\n--\n\n\
Wait until a slot is finished or `news` is not `seen` any more; return false after timeout seconds.",
            ),
            Method::NoArgs(
                c"take",
                take,
                c"take($self, /)\n--\n\n\
Take the oldest task, waiting for one; None once the board is closed and empty; for a bundle, its mode.",
            ),
            Method::Fast(
                c"finish",
                finish,
                c"finish($self, /, value, failed, bell)\n--\n\n\
Give back the result of the task that was taken last. Raises what pickling raises; the task is kept then.",
            ),
        ],
    )?;
    bundle::add(py)
}
