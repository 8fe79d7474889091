//! `Semaphore`, `BoundedSemaphore`, `Event`, `Latch`, `Barrier`.

use crate::ending::{self, holder};
use crate::raw::{self, Method, Obj, Patience};
use phalanx::sync::{Arrival, Barrier, Event, Latch, Passage, Round, Semaphore};
use phalanx::wait::{How, Reason, Role, Stopped, Ticket};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ptr;

static SEMAPHORE: Reason = Reason {
    name: "Semaphore",
    role: Role::Wait,
};
static EVENT: Reason = Reason {
    name: "Event",
    role: Role::Wait,
};
static JOIN: Reason = Reason {
    name: "Thread.join",
    role: Role::Join,
};
static SHUTDOWN: Reason = Reason {
    name: "shutdown",
    role: Role::Join,
};
static BARRIER: Reason = Reason {
    name: "Barrier",
    role: Role::Wait,
};

/// A counter of permits.
#[pyclass(frozen, subclass, weakref, module = "phalanx._core", name = "Semaphore")]
pub struct PySemaphore {
    semaphore: Semaphore,
}

/// A counter of permits that refuses to grow beyond its first value.
#[pyclass(frozen, subclass, weakref, extends = PySemaphore, module = "phalanx._core", name = "BoundedSemaphore")]
pub struct PyBoundedSemaphore;

fn init(semaphore: &Semaphore, value: i128, bounded: bool) -> PyResult<()> {
    if value < 0 {
        return Err(PyValueError::new_err("semaphore initial value must be >= 0"));
    }
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    let bound = if bounded { value } else { Semaphore::MOST };
    let most = Semaphore::MOST;
    semaphore
        .init(value, bound)
        .map_err(|_| PyOverflowError::new_err(format!("semaphore initial value must be <= {most}")))
}

#[pymethods]
impl PySemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(value=1)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let semaphore = Semaphore::new(1).map_err(|_| PyOverflowError::new_err("one permit does not fit"))?;
        Ok(Self { semaphore })
    }

    #[pyo3(signature = (value = 1))]
    fn __init__(&self, value: i128) -> PyResult<()> {
        init(&self.semaphore, value, false)
    }

    #[getter]
    fn _value(&self) -> u64 {
        self.semaphore.value()
    }
}

#[pymethods]
impl PyBoundedSemaphore {
    #[new]
    #[pyo3(signature = (*args, **kwargs), text_signature = "(value=1)")]
    fn new(
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(PySemaphore::new(args, kwargs)?).add_subclass(Self))
    }

    #[pyo3(signature = (value = 1))]
    fn __init__(slf: PyRef<'_, Self>, value: i128) -> PyResult<()> {
        init(&slf.as_super().semaphore, value, true)
    }

    #[getter]
    fn _initial_value(slf: PyRef<'_, Self>) -> u64 {
        slf.as_super().semaphore.bound()
    }
}

/// Takes a permit.
#[inline]
unsafe fn take_permit(slf: Obj, patience: Patience) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let semaphore = &raw::state::<PySemaphore>(slf).semaphore;
        if semaphore.try_acquire() {
            return raw::boolean(true);
        }
        if patience == Patience::Now {
            return raw::boolean(false);
        }
        raw::wait(slf, &SEMAPHORE, patience.deadline(), |how| semaphore.acquire(how)).into_bool()
    }
}

unsafe extern "C-unwind" fn acquire(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe {
        if count == 0 && keywords.is_null() {
            return take_permit(slf, Patience::Forever);
        }
        let Some([blocking, timeout]) =
            raw::arguments("acquire", [c"blocking", c"timeout"], args, count, keywords)
        else {
            return ptr::null_mut();
        };
        let Some(blocking) = raw::truth(blocking, true) else {
            return ptr::null_mut();
        };
        if !blocking {
            if !timeout.is_null() && timeout != ffi::Py_None() {
                return raw::raise(
                    raw::value_error(),
                    c"can't specify timeout for non-blocking acquire",
                );
            }
            return take_permit(slf, Patience::Now);
        }
        match raw::optional_timeout(timeout) {
            Some(patience) => take_permit(slf, patience),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn enter(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe { take_permit(slf, Patience::Forever) }
}

#[inline]
unsafe fn give_permits(slf: Obj, n: u64) -> Obj {
    // SAFETY: as in take_permit.
    match unsafe { raw::state::<PySemaphore>(slf) }.semaphore.release(n) {
        Ok(()) => raw::none(),
        Err(_) => raw::raise(raw::value_error(), c"Semaphore released too many times"),
    }
}

unsafe extern "C-unwind" fn release(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe {
        if count == 0 && keywords.is_null() {
            return give_permits(slf, 1);
        }
        let Some([n]) = raw::arguments("release", [c"n"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let n = raw::PyLong_AsLongLong(n);
        if n == -1 && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        match u64::try_from(n) {
            Ok(n) if n > 0 => give_permits(slf, n),
            _ => raw::raise(raw::value_error(), c"n must be one or more"),
        }
    }
}

unsafe extern "C-unwind" fn exit(slf: Obj, _: *const Obj, _: isize, _: Obj) -> Obj {
    // SAFETY: as in take_permit.
    unsafe { give_permits(slf, 1) }
}

/// A flag that threads wait for.
#[pyclass(frozen, subclass, weakref, module = "phalanx._core", name = "Event")]
#[derive(Default)]
pub struct PyEvent {
    event: Event,
}

#[pymethods]
impl PyEvent {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn __init__(&self) {}

    fn _at_fork_reinit(&self) {
        self.event.reset_after_fork();
    }

    #[getter]
    fn _flag(&self) -> bool {
        self.event.is_set()
    }
}

unsafe extern "C-unwind" fn is_set(slf: Obj, _: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class.
    raw::boolean(unsafe { raw::state::<PyEvent>(slf) }.event.is_set())
}

unsafe extern "C-unwind" fn set(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in is_set.
    unsafe { raw::state::<PyEvent>(slf) }.event.set();
    raw::none()
}

unsafe extern "C-unwind" fn clear(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in is_set.
    unsafe { raw::state::<PyEvent>(slf) }.event.clear();
    raw::none()
}

unsafe extern "C-unwind" fn wait_event(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in is_set; the frame owns nothing.
    unsafe {
        let event = &raw::state::<PyEvent>(slf).event;
        let Some([timeout]) = raw::arguments("wait", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        if event.is_set() {
            return raw::boolean(true);
        }
        match raw::optional_timeout(timeout) {
            None => ptr::null_mut(),
            Some(Patience::Now) => raw::boolean(false),
            Some(patience) => raw::wait(slf, &EVENT, patience.deadline(), |how| event.wait(how)).into_bool(),
        }
    }
}

/// A gate that opens once, and that knows which thread will open it.
#[pyclass(frozen, weakref, module = "phalanx._core", name = "Latch")]
#[derive(Default)]
pub struct PyLatch {
    latch: Latch,
}

#[pymethods]
impl PyLatch {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The calling thread will set it.
    fn promise(&self) {
        self.latch.promise();
    }

    /// Open it for good and wake every thread that waits.
    fn set(&self) {
        self.latch.open();
    }

    /// Is it open?
    fn is_set(&self) -> bool {
        self.latch.is_open()
    }
}

unsafe extern "C-unwind" fn wait_latch(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let names = [c"timeout", c"subject", c"shutdown"];
        let Some([timeout, subject, shutdown]) = raw::arguments("wait", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(shutdown) = raw::truth(shutdown, false) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let latch = &raw::state::<PyLatch>(slf).latch;
        if latch.is_open() {
            return raw::boolean(true);
        }
        if patience == Patience::Now {
            return raw::boolean(false);
        }
        let reason = if shutdown { &SHUTDOWN } else { &JOIN };
        raw::wait(subject, reason, patience.deadline(), |how| latch.wait(how)).into_bool()
    }
}

/// A meeting point for a fixed number of threads. The face runs the action and raises BrokenBarrierError.
#[pyclass(frozen, subclass, weakref, module = "phalanx._core", name = "Barrier")]
pub struct PyBarrier {
    barrier: Barrier,
}

#[pymethods]
impl PyBarrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(parties, action=None, timeout=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            barrier: Barrier::new(1),
        }
    }

    fn _init(&self, parties: usize) {
        self.barrier.init(parties);
    }

    /// End the round of the thread that came last.
    fn _pass(&self) -> bool {
        self.barrier.pass()
    }

    /// Break the barrier: everybody who waits, now or later, gets BrokenBarrierError until reset().
    fn abort(&self) {
        self.barrier.abort();
    }

    /// Start over with an unbroken, empty barrier; everybody who waits gets BrokenBarrierError.
    fn reset(&self) {
        self.barrier.reset();
    }

    /// How many threads meet.
    #[getter]
    fn parties(&self) -> usize {
        self.barrier.parties()
    }

    /// How many of them wait at this moment.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.barrier.waiting()
    }

    /// Is it broken?
    #[getter]
    fn broken(&self) -> bool {
        self.barrier.is_broken()
    }
}

/// How one arrival at a barrier ended, as plain data.
#[derive(Clone, Copy)]
enum Met {
    Index(i64),
    Again,
    Broken,
}

const LAST: i64 = -1;
const BROKEN: i64 = -2;

/// Sleeps until the round is over. A stopped wait leaves its round in `left`.
fn meet(
    barrier: &Barrier,
    index: i64,
    ticket: Ticket,
    how: &How<'_>,
    left: &mut Option<Round>,
) -> Result<Met, Stopped> {
    match barrier.sleep(ticket, how) {
        Passage::Passed => Ok(Met::Index(index)),
        Passage::Retry => Ok(Met::Again),
        Passage::Broken | Passage::TimedOut => Ok(Met::Broken),
        Passage::Stopped(stopped, round) => {
            *left = Some(round);
            Err(stopped)
        }
    }
}

/// Arrive and wait: the index of the thread, -1 for the last one, which runs the action, -2 for a broken barrier.
unsafe extern "C-unwind" fn arrive(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let Some([timeout]) = raw::arguments("_arrive", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let barrier = &raw::state::<PyBarrier>(slf).barrier;
        let mut met = Met::Broken;
        let mut left = None;
        // A thread that need not sleep must not pay for detaching.
        if barrier.arrive_last() {
            return ffi::PyLong_FromLongLong(LAST);
        }
        let ended = raw::wait(slf, &BARRIER, patience.deadline(), |how| {
            loop {
                met = match barrier.arrive(how) {
                    Arrival::Last => Met::Index(LAST),
                    Arrival::Broken => Met::Broken,
                    Arrival::Waits { index, ticket } => meet(barrier, index as i64, ticket, how, &mut left)?,
                    Arrival::Early(ticket) => meet(barrier, 0, ticket, how, &mut left)?,
                };
                if !matches!(met, Met::Again) {
                    return Ok(true);
                }
            }
        });
        if ended.or_raise().is_none() {
            // Only now, after the report has shown the others as they sleep, does the barrier break for them.
            match left {
                Some(round) => barrier.forsake(round),
                None => barrier.abort(),
            }
            return ptr::null_mut();
        }
        ffi::PyLong_FromLongLong(match met {
            Met::Index(index) => index,
            Met::Again | Met::Broken => BROKEN,
        })
    }
}

holder!(PySemaphore);
holder!(PyBoundedSemaphore);
holder!(PyEvent);
holder!(PyLatch);
holder!(PyBarrier);

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<PySemaphore>(py);
    ending::adopt::<PyBoundedSemaphore>(py);
    ending::adopt::<PyEvent>(py);
    ending::adopt::<PyLatch>(py);
    ending::adopt::<PyBarrier>(py);
    raw::attach::<PySemaphore>(
        py,
        &[
            Method::Fast(
                c"acquire",
                acquire,
                c"acquire($self, /, blocking=True, timeout=None)\n--\n\n\
Take a permit, waiting until there is one; return whether one was taken.\n\n\
blocking: if false, do not wait. timeout: seconds to wait at the most, None for no limit.\n\
Raises ValueError for a timeout together with blocking=False, phalanx.DeadlockError if the wait could never end.\n\
Threads are woken in the order of arrival; a thread that comes by may take a permit first. O(1).",
            ),
            Method::Fast(
                c"release",
                release,
                c"release($self, /, n=1)\n--\n\n\
Give n permits back and wake as many waiting threads.\n\n\
Raises ValueError if n is below 1, or if a bounded semaphore would exceed its first value. O(n).",
            ),
            Method::NoArgs(c"__enter__", enter, c"__enter__($self, /)\n--\n\nTake a permit for a with block."),
            Method::Fast(c"__exit__", exit, c"__exit__($self, /, *exc_info)\n--\n\nGive the permit back."),
        ],
    )?;
    raw::attach::<PyEvent>(
        py,
        &[
            Method::NoArgs(c"is_set", is_set, c"is_set($self, /)\n--\n\nIs the flag set? O(1)."),
            Method::NoArgs(c"set", set, c"set($self, /)\n--\n\nSet the flag and wake every waiting thread."),
            Method::NoArgs(c"clear", clear, c"clear($self, /)\n--\n\nClear the flag. O(1)."),
            Method::Fast(
                c"wait",
                wait_event,
                c"wait($self, /, timeout=None)\n--\n\n\
Wait until the flag is set; return whether it was, which is false only after a time-out.\n\n\
timeout: seconds to wait at the most, None for no limit. A thread that waited when set() was called returns true,\n\
even if the flag is cleared at once. Raises phalanx.DeadlockError if the wait could never end.",
            ),
        ],
    )?;
    raw::attach::<PyLatch>(
        py,
        &[Method::Fast(
            c"wait",
            wait_latch,
            c"wait($self, /, timeout=None, subject=None, shutdown=False)\n--\n\n\
Wait until the latch is set; return whether it is.\n\n\
timeout: seconds, None for no limit. subject: the object that a deadlock report names. shutdown: the interpreter\n\
waits for its threads.",
        )],
    )?;
    raw::attach::<PyBarrier>(
        py,
        &[Method::Fast(
            c"_arrive",
            arrive,
            c"_arrive($self, /, timeout=None)\n--\n\n\
Arrive and wait: the index of the thread, -1 for the last one, -2 for a broken barrier.",
        )],
    )
}
