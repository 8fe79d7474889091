//! A lock that its owner may take again.
//!
//! | mutex | count | meaning |
//! | --- | --- | --- |
//! | free | 0 | free |
//! | owned by t, always SCOPED | n > 0 | t has taken it n times |
//!
//! Only the owner reads or writes `count`, so it needs no order of its own.

use super::mutex::{Hold, Mutex};
use crate::prim::{AtomicU64, Ordering};
use crate::wait::{How, Local, Space, Stopped};

/// Given back by a thread that does not own it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOwner;

/// The re-entrant lock. Not fair: see [`crate::sync`].
#[derive(Debug, Default)]
#[repr(C)]
pub struct RMutex<S: Space = Local> {
    mutex: Mutex<S>,
    count: AtomicU64,
}

impl<S: Space> RMutex<S> {
    /// A free lock.
    pub fn new() -> Self {
        Self {
            mutex: Mutex::new(),
            count: AtomicU64::new(0),
        }
    }

    /// Takes the lock if it is free or already owned by this thread.
    #[inline]
    pub fn try_lock(&self) -> bool {
        if self.is_mine() {
            self.count
                .store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return true;
        }
        let taken = self.mutex.try_lock(Hold::Scoped);
        if taken {
            self.count.store(1, Ordering::Relaxed);
        }
        taken
    }

    /// Takes the lock once more, waiting as `how` says. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// See [`Mutex::lock`].
    pub fn lock(&self, how: &How<'_>) -> Result<bool, Stopped> {
        self.lock_many(1, how)
    }

    /// Takes the lock as often as [`RMutex::unlock_all`] gave it back.
    ///
    /// # Errors
    /// See [`Mutex::lock`].
    pub fn lock_many(&self, times: u64, how: &How<'_>) -> Result<bool, Stopped> {
        if self.is_mine() {
            self.count
                .store(self.count.load(Ordering::Relaxed) + times, Ordering::Relaxed);
            return Ok(true);
        }
        let taken = self.mutex.lock(Hold::Scoped, how)?;
        if taken {
            self.count.store(times, Ordering::Relaxed);
        }
        Ok(taken)
    }

    /// Says how often this thread, which owns it, has taken it.
    pub fn set_count(&self, times: u64) {
        self.count.store(times, Ordering::Relaxed);
    }

    /// Gives it back once.
    ///
    /// # Errors
    /// [`NotOwner`] if this thread does not own it.
    #[inline]
    pub fn unlock(&self) -> Result<(), NotOwner> {
        if !self.is_mine() {
            return Err(NotOwner);
        }
        let count = self.count.load(Ordering::Relaxed) - 1;
        self.count.store(count, Ordering::Relaxed);
        if count == 0 {
            self.mutex.unlock().map_err(|_| NotOwner)
        } else {
            Ok(())
        }
    }

    /// Gives it back entirely and says how often it had been taken.
    ///
    /// # Errors
    /// [`NotOwner`] if this thread does not own it.
    pub fn unlock_all(&self) -> Result<u64, NotOwner> {
        if !self.is_mine() {
            return Err(NotOwner);
        }
        let count = self.count.swap(0, Ordering::Relaxed);
        self.mutex.unlock().map_err(|_| NotOwner)?;
        Ok(count)
    }

    /// Does the calling thread own it?
    #[inline]
    pub fn is_mine(&self) -> bool {
        self.mutex.owner() == S::current()
    }

    /// How often its owner has taken it, 0 if it is free.
    pub fn count(&self) -> u64 {
        if self.mutex.is_locked() {
            self.count.load(Ordering::Relaxed)
        } else {
            0
        }
    }

    /// The number of the owning thread, 0 if it is free.
    pub fn owner(&self) -> u32 {
        self.mutex.owner()
    }

    /// As [`Mutex::recover`].
    pub fn recover(&self) -> bool {
        self.mutex.recover()
    }

    /// Makes the lock free in the child of a `fork`.
    pub fn reset_after_fork(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.mutex.reset_after_fork();
    }
}
