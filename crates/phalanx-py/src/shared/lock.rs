//! `Lock` and `RLock` of `multiprocessing`.

use super::deaths;
use super::object::{self, Packed};
use crate::place::Site;
use crate::raw::{self, Ended, Method, Obj, Patience};
use crate::watch;
use phalanx::prim::{AtomicU64, Guarded, Ordering};
use phalanx::shm::{Handle, tree};
use phalanx::sync::Hold;
use phalanx::sync::shared::{Mutex, RMutex};
use phalanx::wait::{self, Reason, Role, Stopped};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::ptr;

static LOCK: Reason = Reason {
    name: "Lock",
    role: Role::Wait,
};
static RLOCK: Reason = Reason {
    name: "RLock",
    role: Role::Wait,
};

/// Where a lock was taken last, for whoever finds its owner dead.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Taken {
    mark: AtomicU64,
    text: [AtomicU64; 10],
}

/// The words for places noted before in this process.
static KNOWN: Guarded<Option<HashMap<u64, [u64; 10]>>> = Guarded::new(None);

impl Taken {
    /// Notes where the calling thread is; two loads if that is where it was taken last time too.
    ///
    /// # Safety
    /// Attached.
    #[inline]
    pub unsafe fn note(&self) {
        // SAFETY: as the caller promises.
        let mark = unsafe { Site::mark() } ^ u64::from(tree::number()) << 48;
        if self.mark.load(Ordering::Relaxed) != mark {
            // SAFETY: as the caller promises.
            unsafe { self.change(mark) };
        }
    }

    #[cold]
    unsafe fn change(&self, mark: u64) {
        let known = KNOWN.with(|known| known.as_ref().and_then(|known| known.get(&mark).copied()));
        let words = known.unwrap_or_else(|| {
            let mut text = [0; 80];
            // SAFETY: as the caller promises.
            if let Some(site) = unsafe { Site::here() } {
                site.write(&mut text);
            }
            let mut words = [0; 10];
            for (word, bytes) in words.iter_mut().zip(text.chunks_exact(8)) {
                let mut eight = [0; 8];
                eight.copy_from_slice(bytes);
                *word = u64::from_le_bytes(eight);
            }
            KNOWN.with(|known| {
                let known = known.get_or_insert_default();
                if known.len() > 4096 {
                    known.clear();
                }
                known.insert(mark, words);
            });
            words
        });
        // One at a time: two threads of this process may have a permit each.
        KNOWN.with(|_| {
            for (to, word) in self.text.iter().zip(words) {
                to.store(word, Ordering::Relaxed);
            }
            self.mark.store(mark, Ordering::Relaxed);
        });
    }

    /// `file:line`.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self
            .text
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take_while(|&byte| byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sets `OwnerDied` for something of `kind` that `thread` had taken here. Returns null.
    ///
    /// # Safety
    /// As [`deaths::raise`].
    pub unsafe fn tell(&self, kind: &std::ffi::CStr, thread: u32) -> Obj {
        let mut place = [0; 80];
        // The text is freed before Python code runs.
        let len = {
            let text = self.text();
            let len = text.len().min(place.len());
            place[..len].copy_from_slice(&text.as_bytes()[..len]);
            len
        };
        let place = std::str::from_utf8(&place[..len]).unwrap_or("");
        // SAFETY: as the caller promises.
        unsafe { deaths::raise(kind, thread, place) }
    }
}

/// What lies in the arena.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Held<M> {
    pub mutex: M,
    pub taken: Taken,
}

/// A lock for the threads of all processes of a tree. Any of them may release it.
#[pyclass(
    frozen,
    weakref,
    subclass,
    module = "phalanx.multiprocessing.synchronize",
    name = "Lock"
)]
pub struct SharedLock {
    pub handle: Handle,
    recover: bool,
}

/// The same for one that its owner may take again.
#[pyclass(
    frozen,
    weakref,
    subclass,
    module = "phalanx.multiprocessing.synchronize",
    name = "RLock"
)]
pub struct SharedRLock {
    pub handle: Handle,
    recover: bool,
}

/// The state behind the two classes.
pub trait SharedLocking: Sync + pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> {
    const REASON: &'static Reason;
    const WORD: &'static std::ffi::CStr;
    fn handle(&self) -> &Handle;
    fn recovers(&self) -> bool;
    fn taken(&self) -> &Taken;
    fn try_lock(&self, hold: Hold) -> bool;
    fn lock(&self, hold: Hold, how: &wait::How<'_>) -> Result<bool, Stopped>;
    fn owner(&self) -> u32;
    fn recover_now(&self) -> bool;
}

impl SharedLock {
    const KIND: u32 = 0x11;
    #[inline]
    pub fn held(&self) -> &Held<Mutex> {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

impl SharedRLock {
    const KIND: u32 = 0x12;
    #[inline]
    pub fn held(&self) -> &Held<RMutex> {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

impl SharedLocking for SharedLock {
    const REASON: &'static Reason = &LOCK;
    const WORD: &'static std::ffi::CStr = c"Lock";
    fn handle(&self) -> &Handle {
        &self.handle
    }
    fn recovers(&self) -> bool {
        self.recover
    }
    #[inline]
    fn taken(&self) -> &Taken {
        &self.held().taken
    }
    #[inline]
    fn try_lock(&self, hold: Hold) -> bool {
        self.held().mutex.try_lock(hold)
    }
    fn lock(&self, hold: Hold, how: &wait::How<'_>) -> Result<bool, Stopped> {
        self.held().mutex.lock(hold, how)
    }
    fn owner(&self) -> u32 {
        self.held().mutex.owner()
    }
    fn recover_now(&self) -> bool {
        self.held().mutex.recover()
    }
}

impl SharedLocking for SharedRLock {
    const REASON: &'static Reason = &RLOCK;
    const WORD: &'static std::ffi::CStr = c"RLock";
    fn handle(&self) -> &Handle {
        &self.handle
    }
    fn recovers(&self) -> bool {
        self.recover
    }
    #[inline]
    fn taken(&self) -> &Taken {
        &self.held().taken
    }
    #[inline]
    fn try_lock(&self, _hold: Hold) -> bool {
        self.held().mutex.try_lock()
    }
    fn lock(&self, _hold: Hold, how: &wait::How<'_>) -> Result<bool, Stopped> {
        self.held().mutex.lock(how)
    }
    fn owner(&self) -> u32 {
        self.held().mutex.owner()
    }
    fn recover_now(&self) -> bool {
        self.held().mutex.recover()
    }
}

/// Who has it, in the words of the standard library's repr: the process and perhaps the thread.
fn owner_in_words(py: Python<'_>, owner: u32) -> PyResult<String> {
    if owner == 0 {
        return Ok("None".into());
    }
    if tree::number_of(owner) != tree::number() {
        return Ok("SomeOtherProcess".into());
    }
    if owner != tree::me() {
        return Ok("SomeOtherThread".into());
    }
    let process: String = py
        .import("multiprocessing.process")?
        .call_method0("current_process")?
        .getattr("name")?
        .extract()?;
    let thread: String = py
        .import("threading")?
        .call_method0("current_thread")?
        .getattr("name")?
        .extract()?;
    Ok(if thread == "MainThread" {
        process
    } else {
        format!("{process}|{thread}")
    })
}

#[pymethods]
impl SharedLock {
    #[new]
    #[pyo3(signature = (*, ctx = None, recover = false, _packed = None))]
    fn new(ctx: Option<&Bound<'_, PyAny>>, recover: bool, _packed: Option<Packed>) -> PyResult<Self> {
        let _ = ctx;
        let handle = object::new_or(_packed, Self::KIND, "Lock", Held::<Mutex>::default)?;
        Ok(Self { handle, recover })
    }

    /// Make the lock free after its owner has died; return whether it had a dead owner.
    fn recover(&self) -> bool {
        tree::is_dead(tree::number_of(self.owner()));
        self.recover_now()
    }

    #[classmethod]
    fn _unpack(class: &Bound<'_, pyo3::types::PyType>, packed: Packed, recover: bool) -> PyResult<Py<PyAny>> {
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

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Lock(owner={})>", owner_in_words(py, self.owner())?))
    }
}

#[pymethods]
impl SharedRLock {
    #[new]
    #[pyo3(signature = (*, ctx = None, recover = false, _packed = None))]
    fn new(ctx: Option<&Bound<'_, PyAny>>, recover: bool, _packed: Option<Packed>) -> PyResult<Self> {
        let _ = ctx;
        let handle = object::new_or(_packed, Self::KIND, "RLock", Held::<RMutex>::default)?;
        Ok(Self { handle, recover })
    }

    /// Make the lock free after its owner has died; return whether it had a dead owner.
    fn recover(&self) -> bool {
        tree::is_dead(tree::number_of(self.owner()));
        self.recover_now()
    }

    #[classmethod]
    fn _unpack(class: &Bound<'_, pyo3::types::PyType>, packed: Packed, recover: bool) -> PyResult<Py<PyAny>> {
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

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let owner = owner_in_words(py, self.owner())?;
        let count = match self.held().mutex.count() {
            _ if owner.starts_with("SomeOther") => "nonzero".into(),
            count => count.to_string(),
        };
        Ok(format!("<RLock({owner}, {count})>"))
    }
}

/// Takes `lock`; the place is noted when it succeeds.
///
/// # Safety
/// As [`raw::wait`].
#[inline]
pub unsafe fn take<L: SharedLocking>(slf: Obj, lock: &L, hold: Hold, patience: Patience) -> Obj {
    if lock.try_lock(hold) {
        // SAFETY: attached, as the caller promises.
        unsafe { lock.taken().note() };
        return raw::boolean(true);
    }
    // SAFETY: as the caller promises.
    unsafe { take_slowly(slf, lock, hold, patience) }
}

#[cold]
unsafe fn take_slowly<L: SharedLocking>(slf: Obj, lock: &L, hold: Hold, patience: Patience) -> Obj {
    // SAFETY: as the caller promises.
    unsafe {
        loop {
            let ended = if patience == Patience::Now {
                // Nobody will tick for us: ask now whether the owner lives.
                let owner = lock.owner();
                if owner == 0 || !tree::is_dead(tree::number_of(owner)) {
                    return raw::boolean(false);
                }
                Ended::OwnerDied(owner)
            } else {
                let enders = object::enders(lock.handle().name());
                let taken = lock.taken().text.as_ptr().addr();
                raw::wait_for_lock(slf, L::REASON, patience.deadline(), enders, taken, |how| {
                    lock.lock(hold, how)
                })
            };
            match ended {
                Ended::OwnerDied(_) if lock.recovers() => {
                    lock.recover_now();
                    if lock.try_lock(hold) {
                        lock.taken().note();
                        return raw::boolean(true);
                    }
                }
                Ended::OwnerDied(thread) => return lock.taken().tell(L::WORD, thread),
                Ended::Yes => {
                    lock.taken().note();
                    return raw::boolean(true);
                }
                ended => return ended.into_bool(),
            }
        }
    }
}

/// `block` and `timeout`, as multiprocessing has them: a negative time is none. `None`: an exception is set.
///
/// # Safety
/// The arguments of a call.
pub unsafe fn patience(args: *const Obj, count: isize, keywords: Obj) -> Option<Patience> {
    // SAFETY: as the caller promises.
    unsafe {
        if count == 0 && keywords.is_null() {
            return Some(Patience::Forever);
        }
        let [block, timeout] = raw::arguments("acquire", [c"block", c"timeout"], args, count, keywords)?;
        if raw::truth(block, true)? {
            raw::optional_timeout(timeout)
        } else {
            Some(Patience::Now)
        }
    }
}

unsafe extern "C-unwind" fn acquire<L: SharedLocking>(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        match patience(args, count, keywords) {
            Some(patience) => take(slf, raw::state::<L>(slf), Hold::Plain, patience),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn enter<L: SharedLocking>(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { take(slf, raw::state::<L>(slf), Hold::Scoped, Patience::Forever) }
}

unsafe extern "C-unwind" fn release(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    match unsafe { raw::state::<SharedLock>(slf) }.held().mutex.unlock() {
        Ok(()) => raw::none(),
        Err(_) => raw::raise(raw::value_error(), c"semaphore or lock released too many times"),
    }
}

/// Gives an RLock back once.
///
/// # Safety
/// Attached.
pub unsafe fn give_back_once(slf: Obj) -> Obj {
    // SAFETY: as in acquire.
    match unsafe { raw::state::<SharedRLock>(slf) }.held().mutex.unlock() {
        Ok(()) => raw::none(),
        Err(_) => raw::raise(
            raw::assertion_error(),
            c"attempt to release recursive lock not owned by thread",
        ),
    }
}

unsafe extern "C-unwind" fn release_once(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    unsafe { give_back_once(slf) }
}

unsafe extern "C-unwind" fn exit(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in acquire; the first argument is an exception class or None.
    unsafe {
        let mine = raw::state::<SharedLock>(slf).owner() == tree::me();
        if count > 0 && !mine && (watch::is_deadlock(*args) || deaths::is_owner_died(*args)) {
            return raw::none();
        }
        release(slf, ptr::null_mut())
    }
}

unsafe extern "C-unwind" fn exit_once(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in exit.
    unsafe {
        let mine = raw::state::<SharedRLock>(slf).held().mutex.is_mine();
        if count > 0 && !mine && (watch::is_deadlock(*args) || deaths::is_owner_died(*args)) {
            return raw::none();
        }
        give_back_once(slf)
    }
}

unsafe extern "C-unwind" fn locked<L: SharedLocking>(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in acquire.
    raw::boolean(unsafe { raw::state::<L>(slf) }.owner() != 0)
}

const ACQUIRE: &std::ffi::CStr = c"acquire($self, /, block=True, timeout=None)\n--\n\n\
Take the lock, waiting until it is free; return whether it was taken.\n\n\
block: if false, do not wait. timeout: seconds to wait at the most, None for no limit, below zero means zero.\n\
Raises phalanx.OwnerDied if the process that has it died, phalanx.DeadlockError if the wait could never end. O(1).";
const RELEASE: &std::ffi::CStr =
    c"release($self, /)\n--\n\nGive the lock back. Raises ValueError if it is free. O(1).";
const RELEASE_ONCE: &std::ffi::CStr =
    c"release($self, /)\n--\n\nGive the lock back once. Raises AssertionError if this thread does not own it. O(1).";
const ENTER: &std::ffi::CStr = c"__enter__($self, /)\n--\n\nTake the lock for a with block.";
const EXIT: &std::ffi::CStr =
    c"__exit__($self, /, *exc_info)\n--\n\nGive the lock back at the end of a with block.";
const LOCKED: &std::ffi::CStr = c"locked($self, /)\n--\n\nIs the lock held by anybody?";

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // The classes call themselves as those of multiprocessing do.
    module.add("SharedLock", py.get_type::<SharedLock>())?;
    module.add("SharedRLock", py.get_type::<SharedRLock>())?;
    raw::attach::<SharedLock>(
        py,
        &[
            Method::Fast(c"acquire", acquire::<SharedLock>, ACQUIRE),
            Method::NoArgs(c"release", release, RELEASE),
            Method::NoArgs(c"__enter__", enter::<SharedLock>, ENTER),
            Method::Fast(c"__exit__", exit, EXIT),
            Method::NoArgs(c"locked", locked::<SharedLock>, LOCKED),
        ],
    )?;
    raw::attach::<SharedRLock>(
        py,
        &[
            Method::Fast(c"acquire", acquire::<SharedRLock>, ACQUIRE),
            Method::NoArgs(c"release", release_once, RELEASE_ONCE),
            Method::NoArgs(c"__enter__", enter::<SharedRLock>, ENTER),
            Method::Fast(c"__exit__", exit_once, EXIT),
            Method::NoArgs(c"locked", locked::<SharedRLock>, LOCKED),
        ],
    )
}
