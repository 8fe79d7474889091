//! `Condition` of `multiprocessing`.

use super::lock::{Held, SharedLock, SharedLocking, SharedRLock};
use super::object::{self, Packed};
use crate::raw::{self, Ended, Method, Obj};
use crate::slot::Slot;
use phalanx::shm::{Handle, tree};
use phalanx::sync::Hold;
use phalanx::sync::shared::{Condvar, Mutex, RMutex};
use phalanx::wait::{Deadline, Enders, How, Reason, Role, Steady, Stopped};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

static CONDITION: Reason = Reason {
    name: "Condition",
    role: Role::Wait,
};
static RETAKE: Reason = Reason {
    name: "Condition",
    role: Role::Retake,
};

/// A queue of threads, of all processes of a tree, that wait to be notified.
#[pyclass(frozen, weakref, subclass, module = "phalanx._core", name = "SharedCondition")]
pub struct SharedCondition {
    handle: Handle,
    /// A SharedLock or SharedRLock; owned, never changed.
    lock: Slot,
}

impl SharedCondition {
    const KIND: u32 = 0x15;
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
    fn condvar(&self) -> &Condvar {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

impl Drop for SharedCondition {
    fn drop(&mut self) {
        // SAFETY: objects of the seam end attached; the reference is ours. A lock's end runs no Python code.
        unsafe { ffi::Py_XDECREF(self.lock.take()) };
    }
}

#[pymethods]
impl SharedCondition {
    #[new]
    #[pyo3(signature = (lock, _packed = None))]
    fn new(lock: &Bound<'_, PyAny>, _packed: Option<Packed>) -> PyResult<Self> {
        if lock.cast::<SharedLock>().is_err() && lock.cast::<SharedRLock>().is_err() {
            return Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "a Condition between processes needs a Lock or RLock of multiprocessing, not {}",
                lock.get_type().name()?
            )));
        }
        let handle = object::new_or(_packed, Self::KIND, "Condition", Condvar::new)?;
        let kept = Slot::empty();
        kept.put(lock.clone().into_ptr());
        Ok(Self { handle, lock: kept })
    }

    /// The lock.
    #[getter]
    fn _lock<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: owned here and never changed.
        unsafe { Bound::from_borrowed_ptr(py, self.lock.get()) }
    }

    /// How many threads wait.
    fn _waiters(&self) -> usize {
        self.condvar().waiters()
    }

    /// The handle for a pickle.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// Wake up to n of the threads that wait.
    fn _notify(&self, n: usize) -> usize {
        self.condvar().notify(n)
    }

    /// Does the calling thread hold the lock?
    fn _is_owned(&self, py: Python<'_>) -> bool {
        let lock = self._lock(py);
        if let Ok(lock) = lock.cast::<SharedLock>() {
            lock.get().owner() == tree::me()
        } else {
            lock.cast::<SharedRLock>()
                .is_ok_and(|lock| lock.get().held().mutex.is_mine())
        }
    }
}

struct CondWait<'a> {
    condvar: &'a Condvar,
    enders: Enders,
    /// The lock takes itself over when its owner has died.
    recovers: bool,
}

impl CondWait<'_> {
    fn plain(&self, mutex: &Mutex, how: &How<'_>) -> Result<bool, Stopped> {
        let Some(ticket) = self.condvar.enter(how) else {
            return Ok(false);
        };
        let _ = mutex.unlock();
        let waited = self.condvar.sleep(ticket, how);
        let recover = || mutex.recover();
        self.retake(waited, how, |again| mutex.lock(Hold::Scoped, again), recover)
    }

    fn recursive(&self, mutex: &RMutex, how: &How<'_>) -> Result<bool, Stopped> {
        let Some(ticket) = self.condvar.enter(how) else {
            return Ok(false);
        };
        let times = mutex.unlock_all().unwrap_or(1);
        let waited = self.condvar.sleep(ticket, how);
        let recover = || mutex.recover();
        self.retake(waited, how, |again| mutex.lock_many(times, again), recover)
    }

    /// Takes the lock again after a sleep, whatever comes. The first trouble is the one to tell.
    fn retake(
        &self,
        mut waited: Result<bool, Stopped>,
        how: &How<'_>,
        lock: impl Fn(&How<'_>) -> Result<bool, Stopped>,
        recover: impl Fn() -> bool,
    ) -> Result<bool, Stopped> {
        let notified = matches!(waited, Ok(true));
        let mut again = How {
            reason: &RETAKE,
            subject: how.subject,
            deadline: Deadline::NEVER,
            interrupt: if waited.is_ok() { how.interrupt } else { &Steady },
            enders: self.enders,
            taken: 0,
        };
        loop {
            match lock(&again) {
                Ok(_) => return waited,
                Err(Stopped::OwnerDied(_)) if self.recovers => {
                    recover();
                }
                Err(stopped) => {
                    let for_good = matches!(stopped, Stopped::Deadlock(_) | Stopped::OwnerDied(_));
                    if waited.is_ok() {
                        waited = Err(stopped);
                        if notified {
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

unsafe extern "C-unwind" fn wait_condition(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing; the condition keeps its lock alive.
    unsafe {
        let this: &SharedCondition = raw::state(slf);
        let Some([timeout]) = raw::arguments("wait", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let object = this.lock.get();
        let py = Python::assume_attached();
        let lock = Borrowed::<PyAny>::from_ptr(py, object);
        let (plain, recursive, recovers): (*const Held<Mutex>, *const Held<RMutex>, bool) =
            match lock.cast::<SharedLock>() {
                Ok(_) => {
                    let lock = raw::state::<SharedLock>(object);
                    (lock.held(), ptr::null(), lock.recovers())
                }
                Err(_) => {
                    let lock = raw::state::<SharedRLock>(object);
                    (ptr::null(), lock.held(), lock.recovers())
                }
            };
        let wait = CondWait {
            condvar: this.condvar(),
            enders: object::enders(this.handle.name()),
            recovers,
        };
        let owned = match plain.as_ref() {
            Some(held) => held.mutex.is_locked(),
            None => (*recursive).mutex.is_mine(),
        };
        if !owned {
            return raw::raise(
                raw::assertion_error(),
                c"must acquire() condition before using wait()",
            );
        }
        let enders = wait.enders;
        let ended = raw::wait_shared(slf, &CONDITION, patience.deadline(), enders, |how| {
            match plain.as_ref() {
                Some(held) => wait.plain(&held.mutex, how),
                None => wait.recursive(&(*recursive).mutex, how),
            }
        });
        // Not ours now if its owner has died, or nobody will ever give it back: then it stays as the last one noted it.
        let (mine, taken) = match plain.as_ref() {
            Some(held) => (held.mutex.owner() == tree::me(), &held.taken),
            None => ((*recursive).mutex.is_mine(), &(*recursive).taken),
        };
        if mine {
            taken.note();
        }
        match ended {
            Ended::OwnerDied(thread) => taken.tell(c"Condition", thread),
            ended => ended.into_bool(),
        }
    }
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    raw::attach::<SharedCondition>(
        py,
        &[Method::Fast(
            c"wait",
            wait_condition,
            c"wait($self, /, timeout=None)\n--\n\n\
Give the lock back, wait until notified, take the lock again; return whether notified, false after a time-out.\n\n\
timeout: seconds to wait at the most, None for no limit. Raises AssertionError if the lock is not held,\n\
phalanx.OwnerDied, phalanx.DeadlockError.",
        )],
    )
}
