//! `Condition`: native with our own locks, through Python with any other.

use crate::ending::{self, holder};
use crate::lock::{self, Lock, RLock};
use crate::raw::{self, Method, Obj, Patience};
use crate::slot::Slot;
use phalanx::prim::Guarded;
use phalanx::sync::{Condvar, Hold, Mutex, RMutex};
use phalanx::wait::{Deadline, Enders, How, Reason, Role, Steady, Stopped, Ticket};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ptr;

static LOCK: Reason = Reason {
    name: "Lock",
    role: Role::Retake,
};
static RLOCK: Reason = Reason {
    name: "RLock",
    role: Role::Retake,
};
static CONDITION: Reason = Reason {
    name: "Condition",
    role: Role::Wait,
};

/// A queue of threads that wait to be notified, with the lock that guards what they wait for.
#[pyclass(frozen, subclass, weakref, module = "phalanx._core", name = "Condition")]
#[derive(Default)]
pub struct Condition {
    condvar: Condvar,
    /// Owned. Set by `__init__`.
    lock: Slot,
}

/// A place in the queue of a condition with a foreign lock.
#[pyclass(frozen, module = "phalanx._core", name = "Ticket")]
pub struct PyTicket(Guarded<Option<Ticket>>);

/// The lock of a condition, by class.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Lock(&'a Lock),
    RLock(&'a RLock),
    Foreign,
}

impl Condition {
    fn take_one(&self) -> Obj {
        self.lock.take()
    }

    fn lock(&self) -> Obj {
        self.lock.get()
    }

    #[inline]
    fn kind(&self) -> Kind<'_> {
        let lock = self.lock();
        // SAFETY: attached; the lock is owned by this condition, and the exact classes are checked.
        unsafe {
            if lock.is_null() {
                Kind::Foreign
            } else if ffi::Py_TYPE(lock) == class::<Lock>() {
                Kind::Lock(raw::state(lock))
            } else if ffi::Py_TYPE(lock) == class::<RLock>() {
                Kind::RLock(raw::state(lock))
            } else {
                Kind::Foreign
            }
        }
    }
}

#[inline]
fn class<T: pyo3::PyTypeInfo>() -> *mut ffi::PyTypeObject {
    // SAFETY: every caller is attached.
    T::type_object_raw(unsafe { Python::assume_attached() })
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(lock=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    #[pyo3(signature = (lock = None))]
    fn __init__(&self, py: Python<'_>, lock: Option<Py<PyAny>>) -> PyResult<()> {
        let lock = match lock {
            Some(lock) => {
                // As the standard library: what is no lock is told at once.
                lock.getattr(py, "acquire")?;
                lock.getattr(py, "release")?;
                lock
            }
            None => Py::new(py, RLock::default())?.into_any(),
        };
        let old = self.lock.put(lock.into_ptr());
        // SAFETY: the old lock was owned here.
        drop(unsafe { Bound::from_owned_ptr_or_opt(py, old) });
        Ok(())
    }

    /// The lock.
    #[getter]
    fn _lock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        // SAFETY: the lock is owned here.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.lock()) }.map(Bound::unbind)
    }

    /// How many threads wait.
    #[getter]
    fn _waiting(&self) -> usize {
        self.condvar.waiters()
    }

    /// Forget the waiters, in the child of a fork.
    fn _forget_waiters(&self) {
        self.condvar.reset_after_fork();
    }

    /// Enter the queue; the lock is still held.
    fn _enter(slf: &Bound<'_, Self>, timed: bool) -> PyTicket {
        let deadline = if timed {
            Deadline::after(std::time::Duration::MAX / 4)
        } else {
            Deadline::NEVER
        };
        let subject = slf.as_ptr().addr();
        let how = How {
            reason: &CONDITION,
            subject,
            deadline,
            interrupt: &Steady,
            enders: Enders::Unknown,
            taken: 0,
        };
        PyTicket(Guarded::new(slf.get().condvar.enter(&how)))
    }

    /// Wake another thread in place of this one, which was notified and cannot act on it.
    fn _pass_on(&self) {
        self.condvar.notify(1);
    }

    /// Leave the queue without having slept.
    fn _leave(&self, ticket: &PyTicket) {
        if let Some(ticket) = ticket.take() {
            self.condvar.leave(ticket);
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let lock = self.lock();
        if lock.is_null() {
            return Ok(());
        }
        // SAFETY: a live object that this condition owns.
        unsafe { raw::visit(&visit, lock) }
    }
}

impl PyTicket {
    fn take(&self) -> Option<Ticket> {
        self.0.with(Option::take)
    }
}

holder!(Condition, Condition);

/// Gives the lock back, sleeps, takes it again: all that a native wait does detached.
struct Wait<'a> {
    condvar: &'a Condvar,
    lock: Obj,
}

impl Wait<'_> {
    fn plain(&self, mutex: &Mutex, how: &How<'_>) -> Result<bool, Stopped> {
        let Some(ticket) = self.condvar.enter(how) else {
            return Ok(false);
        };
        // Locked, as the caller has checked; another thread that releases it meanwhile breaks its own program only.
        let _ = mutex.unlock();
        let waited = self.condvar.sleep(ticket, how);
        self.retake(waited, how, &LOCK, |again| mutex.lock(Hold::Scoped, again))
    }

    fn recursive(&self, mutex: &RMutex, how: &How<'_>) -> Result<bool, Stopped> {
        let Some(ticket) = self.condvar.enter(how) else {
            return Ok(false);
        };
        let times = mutex.unlock_all().unwrap_or(1);
        let waited = self.condvar.sleep(ticket, how);
        self.retake(waited, how, &RLOCK, |again| mutex.lock_many(times, again))
    }

    /// Takes the lock again after a sleep, whatever comes. The first trouble is the one to tell.
    fn retake(
        &self,
        waited: Result<bool, Stopped>,
        how: &How<'_>,
        reason: &'static Reason,
        lock: impl Fn(&How<'_>) -> Result<bool, Stopped>,
    ) -> Result<bool, Stopped> {
        let notified = matches!(waited, Ok(true));
        let mut waited = waited;
        // Once an exception is set, handlers cannot run any more.
        let interrupt = if waited.is_ok() { how.interrupt } else { &Steady };
        let mut again = How {
            reason,
            subject: self.lock.addr(),
            deadline: Deadline::NEVER,
            interrupt,
            enders: Enders::Unknown,
            taken: 0,
        };
        loop {
            match lock(&again) {
                Ok(_) => return waited,
                Err(stopped) => {
                    let for_good = matches!(stopped, Stopped::Deadlock(_));
                    if waited.is_ok() {
                        waited = Err(stopped);
                        if notified {
                            // Nobody will act on the notification here.
                            self.condvar.notify(1);
                        }
                    }
                    if for_good {
                        return waited;
                    }
                    again.interrupt = &Steady;
                }
            }
        }
    }
}

unsafe extern "C-unwind" fn wait(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let condition: &Condition = raw::state(slf);
        let Some([timeout]) = raw::arguments("wait", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let owned = match condition.kind() {
            Kind::Lock(lock) => lock.mutex.is_locked(),
            Kind::RLock(lock) => lock.mutex.is_mine(),
            Kind::Foreign => {
                let timeout = if timeout.is_null() {
                    ffi::Py_None()
                } else {
                    timeout
                };
                return raw::call_method(names::wait_foreign(), [slf, timeout]);
            }
        };
        if !owned {
            return raw::raise(raw::runtime_error(), c"cannot wait on un-acquired lock");
        }
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let wait = Wait {
            condvar: &condition.condvar,
            lock: condition.lock(),
        };
        let deadline = patience.deadline();
        match condition.kind() {
            Kind::Lock(lock) => {
                let ended = raw::wait(slf, &CONDITION, deadline, |how| wait.plain(&lock.mutex, how));
                if lock.mutex.owner() == phalanx::wait::current() {
                    lock.place.note();
                }
                ended.into_bool()
            }
            Kind::RLock(lock) => {
                let ended = raw::wait(slf, &CONDITION, deadline, |how| wait.recursive(&lock.mutex, how));
                if lock.mutex.is_mine() {
                    lock.place.note();
                }
                ended.into_bool()
            }
            Kind::Foreign => ptr::null_mut(),
        }
    }
}

/// Sleep with the ticket of `_enter`; the foreign lock has been given back.
unsafe extern "C-unwind" fn sleep(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait.
    unsafe {
        let names = [c"ticket", c"timeout"];
        let Some([ticket, timeout]) = raw::arguments("_sleep", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        if ticket.is_null() || ffi::Py_TYPE(ticket) != class::<PyTicket>() {
            return raw::raise(raw::type_error(), c"_sleep() takes a ticket of _enter()");
        }
        let condvar = &raw::state::<Condition>(slf).condvar;
        let ticket: &PyTicket = raw::state(ticket);
        raw::wait(slf, &CONDITION, patience.deadline(), |how| match ticket.take() {
            Some(ticket) => condvar.sleep(ticket, how),
            None => Ok(false),
        })
        .into_bool()
    }
}

/// Does the calling thread hold the lock, as far as can be known? `None`: an exception is set.
unsafe fn is_mine(slf: Obj) -> Option<bool> {
    // SAFETY: as in wait.
    unsafe {
        match raw::state::<Condition>(slf).kind() {
            Kind::Lock(lock) => Some(lock.mutex.is_locked()),
            Kind::RLock(lock) => Some(lock.mutex.is_mine()),
            Kind::Foreign => {
                let answer = raw::call_method(names::is_owned(), [slf]);
                if answer.is_null() {
                    return None;
                }
                let truth = raw::truth(answer, false);
                raw::release(answer);
                truth
            }
        }
    }
}

unsafe fn notify_up_to(slf: Obj, n: usize) -> Obj {
    // SAFETY: as in wait.
    unsafe {
        match is_mine(slf) {
            None => ptr::null_mut(),
            Some(false) => raw::raise(raw::runtime_error(), c"cannot notify on un-acquired lock"),
            Some(true) => {
                raw::state::<Condition>(slf).condvar.notify(n);
                raw::none()
            }
        }
    }
}

unsafe extern "C-unwind" fn notify(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait.
    unsafe {
        if count == 0 && keywords.is_null() {
            return notify_up_to(slf, 1);
        }
        let Some([n]) = raw::arguments("notify", [c"n"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let n = raw::PyLong_AsLongLong(n);
        if n == -1 && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        notify_up_to(slf, usize::try_from(n).unwrap_or(0))
    }
}

unsafe extern "C-unwind" fn notify_all(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in wait.
    unsafe { notify_up_to(slf, usize::MAX) }
}

unsafe extern "C-unwind" fn enter(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in wait.
    unsafe {
        let condition: &Condition = raw::state(slf);
        let object = condition.lock();
        match condition.kind() {
            Kind::Lock(lock) => lock::take(object, lock, Hold::Scoped, Patience::Forever).into_bool(),
            Kind::RLock(lock) => lock::take(object, lock, Hold::Scoped, Patience::Forever).into_bool(),
            Kind::Foreign => raw::call_method(names::enter(), [object]),
        }
    }
}

unsafe extern "C-unwind" fn exit(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in wait; `__exit__` always has three arguments.
    unsafe {
        let condition: &Condition = raw::state(slf);
        match condition.kind() {
            Kind::Lock(_) => lock::exit(condition.lock(), args, count, ptr::null_mut()),
            Kind::RLock(_) => lock::exit_once(condition.lock(), args, count, ptr::null_mut()),
            Kind::Foreign if count == 3 => raw::call_method(
                names::exit(),
                [condition.lock(), *args, *args.add(1), *args.add(2)],
            ),
            Kind::Foreign => raw::raise(raw::type_error(), c"__exit__() takes exactly 3 arguments"),
        }
    }
}

unsafe extern "C-unwind" fn acquire(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait.
    unsafe {
        let condition: &Condition = raw::state(slf);
        match condition.kind() {
            Kind::Lock(_) => lock::acquire::<Lock>(condition.lock(), args, count, keywords),
            Kind::RLock(_) => lock::acquire::<RLock>(condition.lock(), args, count, keywords),
            Kind::Foreign => {
                let method = raw::PyObject_GetAttr(condition.lock(), names::acquire());
                if method.is_null() {
                    return method;
                }
                let result = raw::PyObject_Vectorcall(method, args, count as usize, keywords);
                raw::release(method);
                result
            }
        }
    }
}

unsafe extern "C-unwind" fn release(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in wait.
    unsafe {
        let condition: &Condition = raw::state(slf);
        match condition.kind() {
            Kind::Lock(_) => lock::give_back(condition.lock()),
            Kind::RLock(_) => lock::give_back_once(condition.lock()),
            Kind::Foreign => raw::call_method(names::release(), [condition.lock()]),
        }
    }
}

/// Interned names of methods.
mod names {
    crate::raw::names! {
        acquire = c"acquire";
        release = c"release";
        enter = c"__enter__";
        exit = c"__exit__";
        is_owned = c"_is_owned";
        wait_foreign = c"_wait_foreign";
    }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<Condition>(py);
    raw::attach::<Condition>(
        py,
        &[
            Method::Fast(
                c"wait",
                wait,
                c"wait($self, /, timeout=None)\n--\n\n\
Give the lock back, wait until notified, take the lock again; return whether notified, false after a time-out.\n\n\
timeout: seconds to wait at the most, None for no limit. Raises RuntimeError if the lock is not held,\n\
phalanx.DeadlockError if the wait could never end. Threads are notified in the order in which they came.",
            ),
            Method::Fast(
                c"notify",
                notify,
                c"notify($self, /, n=1)\n--\n\n\
Wake up to n of the threads that wait, those first that came first. The lock must be held (RuntimeError). O(n).",
            ),
            Method::NoArgs(
                c"notify_all",
                notify_all,
                c"notify_all($self, /)\n--\n\nWake all threads that wait. The lock must be held (RuntimeError).",
            ),
            Method::Fast(
                c"acquire",
                acquire,
                c"acquire($self, /, *args, **kwargs)\n--\n\nTake the lock, with the arguments of its acquire().",
            ),
            Method::NoArgs(c"release", release, c"release($self, /)\n--\n\nGive the lock back."),
            Method::NoArgs(c"__enter__", enter, c"__enter__($self, /)\n--\n\nTake the lock for a with block."),
            Method::Fast(c"__exit__", exit, c"__exit__($self, /, *exc_info)\n--\n\nGive the lock back."),
            Method::Fast(
                c"_sleep",
                sleep,
                c"_sleep($self, ticket, timeout=None)\n--\n\nSleep with the ticket of _enter.",
            ),
        ],
    )
}
