//! `Lock` and `RLock`.

use crate::ending::{self, holder};
use crate::place::Place;
use crate::raw::{self, Ended, Method, Obj, Patience};
use crate::watch;
use phalanx::sync::{Hold, Mutex, RMutex};
use phalanx::wait::{self, Reason, Role};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ptr;

static LOCK: Reason = Reason {
    name: "Lock",
    role: Role::Wait,
};
static RLOCK: Reason = Reason {
    name: "RLock",
    role: Role::Wait,
};

/// A mutual-exclusion lock. Any thread may release it.
#[pyclass(frozen, weakref, module = "_thread", name = "lock")]
#[derive(Default)]
pub struct Lock {
    pub mutex: Mutex,
    pub place: Place,
}

/// A lock that its owner may take again.
#[pyclass(frozen, weakref, subclass, module = "_thread", name = "RLock")]
#[derive(Default)]
pub struct RLock {
    pub mutex: RMutex,
    pub place: Place,
}

/// Make a lock. The lock class itself can be called from Python 3.13 on, as in the standard library.
#[pyfunction(name = "Lock")]
pub fn allocate_lock() -> Lock {
    Lock::default()
}

#[pymethods]
impl Lock {
    #[cfg(Py_3_13)]
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let state = if slf.get().mutex.is_locked() {
            "locked"
        } else {
            "unlocked"
        };
        format!("<{state} _thread.lock object at {:p}>", slf.as_ptr())
    }
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let mutex = &slf.get().mutex;
        let owner = wait::facts(mutex.owner()).map_or(0, |facts| facts.ident);
        let state = if mutex.owner() == 0 { "unlocked" } else { "locked" };
        // The name that the class was made with: qualified for our own, plain for a Python subclass.
        // SAFETY: attached, and the object is alive.
        let name = unsafe { raw::type_name(slf.as_ptr()) };
        Ok(format!(
            "<{state} {name} object owner={owner} count={} at {:p}>",
            mutex.count(),
            slf.as_ptr()
        ))
    }
}

/// The state behind two different lock classes.
pub trait Locking: Sync + pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> {
    const REASON: &'static Reason;
    fn try_lock(&self, hold: Hold) -> bool;
    fn lock(&self, hold: Hold, how: &wait::How<'_>) -> Result<bool, wait::Stopped>;
    fn place(&self) -> &Place;
}

impl Locking for Lock {
    const REASON: &'static Reason = &LOCK;
    #[inline]
    fn try_lock(&self, hold: Hold) -> bool {
        self.mutex.try_lock(hold)
    }
    fn lock(&self, hold: Hold, how: &wait::How<'_>) -> Result<bool, wait::Stopped> {
        self.mutex.lock(hold, how)
    }
    #[inline]
    fn place(&self) -> &Place {
        &self.place
    }
}

impl Locking for RLock {
    const REASON: &'static Reason = &RLOCK;
    #[inline]
    fn try_lock(&self, _hold: Hold) -> bool {
        self.mutex.try_lock()
    }
    fn lock(&self, _hold: Hold, how: &wait::How<'_>) -> Result<bool, wait::Stopped> {
        self.mutex.lock(how)
    }
    #[inline]
    fn place(&self) -> &Place {
        &self.place
    }
}

/// Takes `lock`; the place is noted when it succeeds.
///
/// # Safety
/// As [`raw::wait`].
#[inline]
pub unsafe fn take<L: Locking>(object: Obj, lock: &L, hold: Hold, patience: Patience) -> Ended {
    if lock.try_lock(hold) {
        lock.place().note();
        return Ended::Yes;
    }
    if patience == Patience::Now {
        return Ended::TimedOut;
    }
    // SAFETY: as the caller promises.
    let ended = unsafe { raw::wait(object, L::REASON, patience.deadline(), |how| lock.lock(hold, how)) };
    if matches!(ended, Ended::Yes) {
        lock.place().note();
    }
    ended
}

/// `blocking` and `timeout` of `Lock.acquire`. `None`: an exception is set.
unsafe fn patience(args: *const Obj, count: isize, keywords: Obj) -> Option<Patience> {
    // SAFETY: the arguments of the call.
    unsafe {
        let [blocking, timeout] =
            raw::arguments("acquire", [c"blocking", c"timeout"], args, count, keywords)?;
        let blocking = raw::truth(blocking, true)?;
        if timeout.is_null() {
            return Some(if blocking {
                Patience::Forever
            } else {
                Patience::Now
            });
        }
        let seconds = raw::seconds(timeout)?;
        if !blocking && seconds != -1.0 {
            raw::raise(
                raw::value_error(),
                c"can't specify a timeout for a non-blocking call",
            );
            return None;
        }
        if seconds < 0.0 && seconds != -1.0 {
            #[cfg(not(Py_3_13))]
            raw::raise(raw::value_error(), c"timeout value must be positive");
            #[cfg(Py_3_13)]
            raw::raise(raw::value_error(), c"timeout value must be a non-negative number");
            return None;
        }
        Some(match blocking {
            false => Patience::Now,
            true if seconds == -1.0 => Patience::Forever,
            true => Patience::Seconds(seconds),
        })
    }
}

pub unsafe extern "C-unwind" fn acquire<L: Locking>(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let lock: &L = raw::state(slf);
        if count == 0 && keywords.is_null() {
            return take(slf, lock, Hold::Plain, Patience::Forever).into_bool();
        }
        match patience(args, count, keywords) {
            Some(patience) => take(slf, lock, Hold::Plain, patience).into_bool(),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn enter<L: Locking>(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { take(slf, raw::state::<L>(slf), Hold::Scoped, Patience::Forever).into_bool() }
}

#[inline]
pub unsafe fn give_back(slf: Obj) -> Obj {
    // SAFETY: as in acquire.
    let lock: &Lock = unsafe { raw::state(slf) };
    match lock.mutex.unlock() {
        Ok(()) => raw::none(),
        Err(_) => raw::raise(raw::runtime_error(), c"release unlocked lock"),
    }
}

#[inline]
pub unsafe fn give_back_once(slf: Obj) -> Obj {
    // SAFETY: as in acquire.
    let lock: &RLock = unsafe { raw::state(slf) };
    match lock.mutex.unlock() {
        Ok(()) => raw::none(),
        Err(_) => raw::raise(raw::runtime_error(), c"cannot release un-acquired lock"),
    }
}

unsafe extern "C-unwind" fn release(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { give_back(slf) }
}

/// The end of a `with` block. A DeadlockError may leave a condition's wait without the lock: then there is nothing to give
/// back, and what another thread holds stays its own.
pub unsafe extern "C-unwind" fn exit(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in acquire; the first argument is an exception class or None.
    unsafe {
        if count > 0 && watch::is_deadlock(*args) && !is_mine(raw::state::<Lock>(slf)) {
            return raw::none();
        }
        give_back(slf)
    }
}

fn is_mine(lock: &Lock) -> bool {
    lock.mutex.owner() == wait::current()
}

unsafe extern "C-unwind" fn release_once(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { give_back_once(slf) }
}

/// As [`exit`].
pub unsafe extern "C-unwind" fn exit_once(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in exit.
    unsafe {
        if count > 0 && watch::is_deadlock(*args) && !raw::state::<RLock>(slf).mutex.is_mine() {
            return raw::none();
        }
        give_back_once(slf)
    }
}

unsafe extern "C-unwind" fn locked(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    raw::boolean(unsafe { raw::state::<Lock>(slf) }.mutex.is_locked())
}

unsafe extern "C-unwind" fn reinit(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { raw::state::<Lock>(slf) }.mutex.reset_after_fork();
    raw::none()
}

unsafe extern "C-unwind" fn reinit_rlock(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { raw::state::<RLock>(slf) }.mutex.reset_after_fork();
    raw::none()
}

unsafe extern "C-unwind" fn is_owned(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    raw::boolean(unsafe { raw::state::<RLock>(slf) }.mutex.is_mine())
}

unsafe extern "C-unwind" fn recursion_count(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire; attached.
    unsafe {
        let mutex = &raw::state::<RLock>(slf).mutex;
        ffi::PyLong_FromUnsignedLongLong(if mutex.is_mine() { mutex.count() } else { 0 })
    }
}

unsafe extern "C-unwind" fn release_save(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire; attached.
    unsafe {
        match raw::state::<RLock>(slf).mutex.unlock_all() {
            Ok(count) => ffi::Py_BuildValue(
                c"Kk".as_ptr(),
                count,
                phalanx::sys::thread_ident() as libc::c_ulong,
            ),
            Err(_) => raw::raise(raw::runtime_error(), c"cannot release un-acquired lock"),
        }
    }
}

unsafe extern "C-unwind" fn acquire_restore(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in acquire; the argument is what `_release_save` gave, which is checked.
    unsafe {
        let mut times = 0u64;
        let mut owner: libc::c_ulong = 0;
        if count != 1 || ffi::PyTuple_Check(*args) == 0 {
            return raw::raise(
                raw::type_error(),
                c"_acquire_restore() takes the tuple that _release_save() returned",
            );
        }
        if ffi::PyArg_ParseTuple(
            *args,
            c"Kk:_acquire_restore".as_ptr(),
            &raw mut times,
            &raw mut owner,
        ) == 0
        {
            return ptr::null_mut();
        }
        let lock: &RLock = raw::state(slf);
        match retake(slf, lock, times).or_raise() {
            Some(_) => raw::none(),
            None => ptr::null_mut(),
        }
    }
}

/// Takes `lock` as often as before a condition's wait.
///
/// # Safety
/// As [`raw::wait`].
pub unsafe fn retake(object: Obj, lock: &RLock, times: u64) -> Ended {
    // SAFETY: as the caller promises.
    let ended = if lock.mutex.try_lock() {
        lock.mutex.set_count(times);
        Ended::Yes
    } else {
        // SAFETY: as the caller promises.
        unsafe {
            raw::wait(object, &RLOCK, wait::Deadline::NEVER, |how| {
                lock.mutex.lock_many(times, how)
            })
        }
    };
    if matches!(ended, Ended::Yes) {
        lock.place.note();
    }
    ended
}

const ACQUIRE: &std::ffi::CStr = c"acquire($self, /, blocking=True, timeout=-1)\n--\n\n\
Take the lock, waiting until it is free; return whether it was taken.\n\n\
blocking: if false, do not wait. timeout: seconds to wait at the most, -1 for no limit.\n\
Raises ValueError for another negative timeout or one together with blocking=False, OverflowError beyond\n\
threading.TIMEOUT_MAX, phalanx.DeadlockError if the wait could never end. O(1).";
const RELEASE: &std::ffi::CStr = c"release($self, /)\n--\n\n\
Give the lock back. Raises RuntimeError if it is not held. O(1).";
const ENTER: &std::ffi::CStr = c"__enter__($self, /)\n--\n\nTake the lock for a with block.";
const EXIT: &std::ffi::CStr =
    c"__exit__($self, /, *exc_info)\n--\n\nGive the lock back at the end of a with block.";
const LOCKED: &std::ffi::CStr = c"locked($self, /)\n--\n\nIs the lock held by any thread?";
const REINIT: &std::ffi::CStr =
    c"_at_fork_reinit($self, /)\n--\n\nMake the lock free in the child of a fork.";

holder!(Lock);
holder!(RLock);

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<Lock>(py);
    ending::adopt::<RLock>(py);
    raw::attach::<Lock>(
        py,
        &[
            Method::Fast(c"acquire", acquire::<Lock>, ACQUIRE),
            Method::Fast(c"acquire_lock", acquire::<Lock>, ACQUIRE),
            Method::NoArgs(c"release", release, RELEASE),
            Method::NoArgs(c"release_lock", release, RELEASE),
            Method::NoArgs(c"__enter__", enter::<Lock>, ENTER),
            Method::Fast(c"__exit__", exit, EXIT),
            Method::NoArgs(c"locked", locked, LOCKED),
            Method::NoArgs(c"locked_lock", locked, LOCKED),
            Method::NoArgs(c"_at_fork_reinit", reinit, REINIT),
        ],
    )?;
    raw::attach::<RLock>(
        py,
        &[
            Method::Fast(c"acquire", acquire::<RLock>, ACQUIRE),
            Method::NoArgs(c"release", release_once, RELEASE),
            Method::NoArgs(c"__enter__", enter::<RLock>, ENTER),
            Method::Fast(c"__exit__", exit_once, EXIT),
            Method::NoArgs(
                c"_is_owned",
                is_owned,
                c"_is_owned($self, /)\n--\n\nDoes the calling thread hold it?",
            ),
            Method::NoArgs(
                c"_recursion_count",
                recursion_count,
                c"_recursion_count($self, /)\n--\n\nHow often the calling thread holds it.",
            ),
            Method::NoArgs(
                c"_release_save",
                release_save,
                c"_release_save($self, /)\n--\n\nGive it back entirely; returns what _acquire_restore takes.",
            ),
            Method::Fast(
                c"_acquire_restore",
                acquire_restore,
                c"_acquire_restore($self, state, /)\n--\n\nTake it as often as before _release_save.",
            ),
            Method::NoArgs(c"_at_fork_reinit", reinit_rlock, REINIT),
        ],
    )
}
