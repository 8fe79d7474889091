//! The board of a pool: tasks from the master to its workers, results back.
//!
//! One object stands for both halves. The master's knows which slots are free; a worker's knows which slot it has taken.

use super::bundle;
use super::master::{self, Desk};
use super::object::{self, Packed};
use super::transfer;
use crate::codec::{self, Encoded, Room};
use crate::raw::{self, Method, Obj};
use phalanx::channel::{Item, Payload};
use phalanx::pool::{self, Bundled, ROOM, SLOTS, Stage, Thing, What};
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
    /// The master's.
    desk: Desk,
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

    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The bundle that this worker has taken and not given back.
    pub(super) fn bundle(&self) -> Option<Bundled> {
        self.bundle
            .with(|bundle| *bundle)
            .filter(|_| self.current().is_some())
    }

    /// The task that this worker has taken and not given back. Not that of the worker that has forked this process.
    pub(super) fn current(&self) -> Option<u32> {
        Some(self.current.load(Ordering::Relaxed)).filter(|&slot| slot != NONE && self.board().is_mine(slot))
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
            desk: Desk::new(free),
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

    /// Does a worker sleep that would find nothing to take?
    fn is_starving(&self) -> bool {
        self.board().is_starving()
    }

    /// Is anything finished and not collected?
    fn has_done(&self) -> bool {
        self.board().has_done() || self.desk.has_done()
    }

    /// Send each worker home once nothing is left to take.
    fn close(&self) {
        self.board().close();
    }

    /// The master says which socket its bell is, before it starts a worker.
    fn hang(&self, bell: i32) {
        self.board().hang(bell);
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

    /// Has this worker a task in hand? A child that a task has forked has none: it is its parent's.
    #[getter]
    fn has_task(&self) -> bool {
        self.current().is_some()
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
    let Some(item) = item_of(what) else {
        return raw::raise(raw::runtime_error(), c"a bundle in a bundle");
    };
    // SAFETY: as the callers promise: attached, and `bytes` holds what a small one says.
    unsafe { transfer::object_from(item, bytes, false) }
}

/// The same as a channel has it; `None` for a bundle.
pub(super) fn item_of(what: What) -> Option<Item> {
    match what {
        What::Small(kind, len) => Some(Item::Small(kind, len)),
        What::Large(kind, offset, len) => Some(Item::Large(kind, Payload { offset, len })),
        What::Bundle(_) => None,
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
            return raw::boolean(this.has_done());
        }
        let enough = || this.news.load(Ordering::Acquire) != seen || this.desk.has_done();
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
            let forever = raw::Patience::Forever.deadline();
            let enders = object::enders(this.handle.name());
            let ended = raw::wait_shared(slf, &IDLE, forever, enders, |how| match board.take(to, how) {
                Ok(taken) => {
                    found = Some(taken);
                    Ok(true)
                }
                Err(pool::Ended::Stopped(stopped)) => Err(stopped),
                Err(_) => Ok(false),
            });
            if found.is_none() && ended.or_raise().is_none() {
                return ptr::null_mut();
            }
        }
        match found {
            Some(taken) => {
                let bundle = match taken.what {
                    What::Bundle(bundle) => Some(bundle),
                    _ => None,
                };
                this.bundle.with(|current| *current = bundle);
                this.current.store(taken.slot, Ordering::Relaxed);
                let tally = this.tally();
                add_to(&tally.waiting, this.lap());
                if let Some(bundle) = bundle {
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
        let Some(slot) = this.current().filter(|_| this.bundle().is_none()) else {
            return raw::raise(raw::runtime_error(), c"no task has been taken that goes alone");
        };
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
    master::add(py)?;
    bundle::add(py)
}
