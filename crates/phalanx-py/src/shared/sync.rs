//! `Semaphore`, `BoundedSemaphore`, `Event`, `Barrier` of `multiprocessing`.

use super::condition::SharedCondition;
use super::deaths;
use super::lock::{self, Taken};
use super::object::{self, Packed};
use crate::raw::{self, Ended, Method, Obj, Patience};
use phalanx::shm::{Handle, tree};
use phalanx::sync::shared::{Arrival, Barrier, Event, Permits, ROWS, Row};
use phalanx::sync::{Passage, Round};
use phalanx::wait::shared::Ticket;
use phalanx::wait::{Reason, Role};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::ptr;

static SEMAPHORE: Reason = Reason {
    name: "Semaphore",
    role: Role::Wait,
};
static EVENT: Reason = Reason {
    name: "Event",
    role: Role::Wait,
};
static BARRIER: Reason = Reason {
    name: "Barrier",
    role: Role::Meet,
};

/// The handle of a semaphore, event, condition or barrier.
pub fn handle_of<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a Handle> {
    let semaphore = object.cast::<SharedSemaphore>().ok().map(|it| &it.get().handle);
    let event = object.cast::<SharedEvent>().ok().map(|it| &it.get().handle);
    let condition = object.cast::<SharedCondition>().ok().map(|it| it.get().handle());
    let barrier = object.cast::<SharedBarrier>().ok().map(|it| &it.get().handle);
    semaphore.or(event).or(condition).or(barrier)
}

// ---------------------------------------------------------------- Semaphore

/// A counter of permits for the threads of all processes of a tree.
#[pyclass(
    frozen,
    weakref,
    subclass,
    module = "phalanx.multiprocessing.synchronize",
    name = "Semaphore"
)]
pub struct SharedSemaphore {
    handle: Handle,
    recover: bool,
}

/// A counter of permits that refuses to grow beyond its first value.
#[pyclass(frozen, weakref, subclass, extends = SharedSemaphore, module = "phalanx.multiprocessing.synchronize", name = "BoundedSemaphore")]
pub struct SharedBoundedSemaphore;

const MOST: u64 = i32::MAX as u64;

/// What lies in the arena.
#[repr(C)]
struct Pool {
    permits: Permits,
    /// Where the process of each row took a permit last.
    taken: [Taken; ROWS],
}

impl SharedSemaphore {
    const KIND: u32 = 0x13;
    #[inline]
    fn pool(&self) -> &Pool {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }

    #[inline]
    fn permits(&self) -> &Permits {
        &self.pool().permits
    }

    /// Where the permit of this row was taken, if it has a place.
    #[inline]
    fn taken(&self, row: Row) -> Option<&Taken> {
        row.index().and_then(|at| self.pool().taken.get(at))
    }

    fn make(value: i64, bounded: bool, recover: bool, packed: Option<Packed>) -> PyResult<Self> {
        let value = u64::try_from(value).ok().filter(|&value| value <= MOST);
        let value =
            value.ok_or_else(|| PyValueError::new_err("semaphore initial value must be >= 0 and < 2**31"))?;
        let permits = Permits::new(value, if bounded { value } else { MOST })
            .map_err(|_| PyValueError::new_err("semaphore initial value is too large"))?;
        let handle = object::new_or(packed, Self::KIND, "Semaphore", || Pool {
            permits,
            taken: std::array::from_fn(|_| Taken::default()),
        })?;
        Ok(Self { handle, recover })
    }
}

#[pymethods]
impl SharedSemaphore {
    #[new]
    #[pyo3(signature = (value = 1, *, ctx = None, recover = false, _packed = None))]
    fn new(
        value: i64,
        ctx: Option<&Bound<'_, PyAny>>,
        recover: bool,
        _packed: Option<Packed>,
    ) -> PyResult<Self> {
        let _ = ctx;
        Self::make(value, false, recover, _packed)
    }

    /// How many permits there are at this moment.
    fn get_value(&self) -> u64 {
        self.permits().value()
    }

    /// Give back what processes held that died; return how many permits that was.
    fn recover(&self) -> u64 {
        self.permits().recover()
    }

    #[classmethod]
    fn _unpack(class: &Bound<'_, PyType>, packed: Packed, recover: bool) -> PyResult<Py<PyAny>> {
        let recover = pyo3::types::PyBool::new(class.py(), recover);
        object::rebuild(class, packed, &[("recover", recover.as_any())])
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Packed, bool))> {
        let this = slf.get();
        Ok((
            slf.get_type().getattr("_unpack")?,
            (object::pack(&this.handle), this.recover),
        ))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let semaphore = slf.get().permits();
        let name = slf.get_type().name()?;
        Ok(if semaphore.bound() < MOST {
            format!(
                "<{name}(value={}, maxvalue={})>",
                semaphore.value(),
                semaphore.bound()
            )
        } else {
            format!("<{name}(value={})>", semaphore.value())
        })
    }
}

#[pymethods]
impl SharedBoundedSemaphore {
    #[new]
    #[pyo3(signature = (value = 1, *, ctx = None, recover = false, _packed = None))]
    fn new(
        value: i64,
        ctx: Option<&Bound<'_, PyAny>>,
        recover: bool,
        _packed: Option<Packed>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let _ = ctx;
        let base = SharedSemaphore::make(value, true, recover, _packed)?;
        Ok(PyClassInitializer::from(base).add_subclass(Self))
    }
}

unsafe fn take_permit(slf: Obj, patience: Patience) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let this: &SharedSemaphore = raw::state(slf);
        let permits = this.permits();
        loop {
            if let Some(row) = permits.try_acquire() {
                if let Some(taken) = this.taken(row) {
                    taken.note();
                }
                return raw::boolean(true);
            }
            let mut row = None;
            let ended = if patience == Patience::Now {
                match permits.dead_holder() {
                    Some(number) => Ended::OwnerDied(tree::thread_of(number)),
                    None => return raw::boolean(false),
                }
            } else {
                let enders = object::enders(this.handle.name());
                raw::wait_shared(slf, &SEMAPHORE, patience.deadline(), enders, |how| {
                    row = permits.acquire(how)?;
                    Ok(row.is_some())
                })
            };
            match ended {
                Ended::OwnerDied(_) if this.recover => {
                    permits.recover();
                }
                Ended::OwnerDied(thread) => {
                    return match this.taken(permits.row_of(tree::number_of(thread))) {
                        Some(taken) => taken.tell(c"Semaphore", thread),
                        None => deaths::raise(c"Semaphore", thread, ""),
                    };
                }
                ended => {
                    if let Some(taken) = row.and_then(|row| this.taken(row)) {
                        taken.note();
                    }
                    return ended.into_bool();
                }
            }
        }
    }
}

unsafe extern "C-unwind" fn acquire(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe {
        match lock::patience(args, count, keywords) {
            Some(patience) => take_permit(slf, patience),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn enter(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe { take_permit(slf, Patience::Forever) }
}

unsafe extern "C-unwind" fn exit(slf: Obj, _: *const Obj, _: isize, _: Obj) -> Obj {
    // SAFETY: as the caller promises.
    unsafe { release(slf, ptr::null_mut()) }
}

unsafe extern "C-unwind" fn release(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in take_permit.
    match unsafe { raw::state::<SharedSemaphore>(slf) }.permits().release() {
        Ok(()) => raw::none(),
        Err(_) => raw::raise(raw::value_error(), c"semaphore or lock released too many times"),
    }
}

// ---------------------------------------------------------------- Event

/// A flag that the threads of all processes of a tree wait for.
#[pyclass(
    frozen,
    weakref,
    subclass,
    module = "phalanx.multiprocessing.synchronize",
    name = "Event"
)]
pub struct SharedEvent {
    handle: Handle,
}

impl SharedEvent {
    const KIND: u32 = 0x14;
    fn event(&self) -> &Event {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

#[pymethods]
impl SharedEvent {
    #[new]
    #[pyo3(signature = (*, ctx = None, _packed = None))]
    fn new(ctx: Option<&Bound<'_, PyAny>>, _packed: Option<Packed>) -> PyResult<Self> {
        let _ = ctx;
        let handle = object::new_or(_packed, Self::KIND, "Event", Event::new)?;
        Ok(Self { handle })
    }

    /// Is it set?
    fn is_set(&self) -> bool {
        self.event().is_set()
    }

    /// Set it and wake everybody who waits.
    fn set(&self) {
        self.event().set();
    }

    /// Clear it.
    fn clear(&self) {
        self.event().clear();
    }

    #[classmethod]
    fn _unpack(class: &Bound<'_, PyType>, packed: Packed) -> PyResult<Py<PyAny>> {
        object::rebuild(class, packed, &[])
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Packed,))> {
        Ok((
            slf.get_type().getattr("_unpack")?,
            (object::pack(&slf.get().handle),),
        ))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if slf.get().event().is_set() {
            "set"
        } else {
            "unset"
        };
        Ok(format!(
            "<{} at {:p} {state}>",
            slf.get_type().name()?,
            slf.as_ptr()
        ))
    }
}

unsafe extern "C-unwind" fn wait_event(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe {
        let this: &SharedEvent = raw::state(slf);
        let Some([timeout]) = raw::arguments("wait", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let event = this.event();
        if event.is_set() || patience == Patience::Now {
            return raw::boolean(event.is_set());
        }
        let enders = object::enders(this.handle.name());
        raw::wait_shared(slf, &EVENT, patience.deadline(), enders, |how| event.wait(how)).into_bool()
    }
}

// ---------------------------------------------------------------- Barrier

/// A meeting point for threads of all processes of a tree.
#[pyclass(frozen, weakref, subclass, module = "phalanx._core", name = "SharedBarrier")]
pub struct SharedBarrier {
    handle: Handle,
}

impl SharedBarrier {
    const KIND: u32 = 0x16;
    fn barrier(&self) -> &Barrier {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

#[pymethods]
impl SharedBarrier {
    #[new]
    #[pyo3(signature = (parties = 1, _packed = None))]
    fn new(parties: usize, _packed: Option<Packed>) -> PyResult<Self> {
        let handle = object::new_or(_packed, Self::KIND, "Barrier", || Barrier::new(parties))?;
        Ok(Self { handle })
    }

    /// The handle for a pickle.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// How many meet.
    #[getter]
    fn parties(&self) -> usize {
        self.barrier().parties()
    }

    /// How many wait at this moment.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.barrier().waiting()
    }

    /// Is it broken?
    #[getter]
    fn broken(&self) -> bool {
        self.barrier().is_broken()
    }

    /// Break it: everybody who waits, now or later, fails.
    fn abort(&self) {
        self.barrier().abort();
    }

    /// Start over; everybody who waits fails.
    fn reset(&self) {
        self.barrier().reset();
    }

    /// The last one has run the action: everybody goes on. False if it was broken meanwhile.
    fn _pass(&self) -> bool {
        self.barrier().pass()
    }
}

/// What `_arrive` returns apart from an index.
const LAST: i64 = -1;
const BROKEN: i64 = -2;
const TIMED_OUT: i64 = -3;

/// Arrives and sleeps until the round is over. Returns the index of arrival, or one of the numbers above.
unsafe extern "C-unwind" fn arrive(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe {
        let this: &SharedBarrier = raw::state(slf);
        let Some([timeout]) = raw::arguments("_arrive", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let barrier = this.barrier();
        if barrier.arrive_last() {
            return ffi::PyLong_FromLongLong(LAST);
        }
        let enders = object::enders(this.handle.name());
        let mut answer = BROKEN;
        let mut left: Option<Round> = None;
        let ended = raw::wait_shared(slf, &BARRIER, patience.deadline(), enders, |how| {
            loop {
                let (index, ticket): (i64, Ticket) = match barrier.arrive(how) {
                    Arrival::Last => {
                        answer = LAST;
                        return Ok(true);
                    }
                    Arrival::Broken => return Ok(true),
                    Arrival::Early(ticket) => (BROKEN, ticket),
                    Arrival::Waits { index, ticket } => (index as i64, ticket),
                };
                match barrier.sleep(ticket, how) {
                    Passage::Passed => {
                        answer = index;
                        return Ok(true);
                    }
                    Passage::Broken => return Ok(true),
                    Passage::TimedOut => {
                        answer = TIMED_OUT;
                        return Ok(true);
                    }
                    Passage::Retry => {}
                    Passage::Stopped(stopped, round) => {
                        left = Some(round);
                        return Err(stopped);
                    }
                }
            }
        });
        if let Some(round) = left {
            barrier.forsake(round);
        }
        match ended.or_raise() {
            Some(_) => ffi::PyLong_FromLongLong(answer),
            None => ptr::null_mut(),
        }
    }
}

const ACQUIRE: &std::ffi::CStr = c"acquire($self, /, block=True, timeout=None)\n--\n\n\
Take a permit, waiting until there is one; return whether it was taken.\n\n\
block: if false, do not wait. timeout: seconds to wait at the most, None for no limit, below zero means zero.\n\
Raises phalanx.OwnerDied if a process died that held permits, phalanx.DeadlockError if the wait could never end.";

const RELEASE: &std::ffi::CStr = c"release($self, /)\n--\n\n\
Release a permit. Raises ValueError if that were more than a bounded semaphore has. O(1).";

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("SharedSemaphore", py.get_type::<SharedSemaphore>())?;
    module.add("SharedBoundedSemaphore", py.get_type::<SharedBoundedSemaphore>())?;
    module.add("SharedEvent", py.get_type::<SharedEvent>())?;
    raw::attach::<SharedSemaphore>(
        py,
        &[
            Method::Fast(c"acquire", acquire, ACQUIRE),
            Method::NoArgs(c"release", release, RELEASE),
            Method::NoArgs(
                c"__enter__",
                enter,
                c"__enter__($self, /)\n--\n\nTake a permit for a with block.",
            ),
            Method::Fast(
                c"__exit__",
                exit,
                c"__exit__($self, /, *exc_info)\n--\n\nGive the permit back.",
            ),
        ],
    )?;
    raw::attach::<SharedEvent>(
        py,
        &[Method::Fast(
            c"wait",
            wait_event,
            c"wait($self, /, timeout=None)\n--\n\nWait until it is set; return whether it is.\n\n\
timeout: seconds to wait at the most, None for no limit. Raises phalanx.DeadlockError if the wait could never end.",
        )],
    )?;
    raw::attach::<SharedBarrier>(
        py,
        &[Method::Fast(
            c"_arrive",
            arrive,
            c"_arrive($self, /, timeout=None)\n--\n\n\
Arrive and wait: the index of arrival, -1 for the last one, -2 if broken, -3 after a time-out.",
        )],
    )
}
