//! A mutual-exclusion lock in one word that names its owner.
//!
//! | owner bits | SCOPED | PARKED | meaning |
//! | --- | --- | --- | --- |
//! | 0 | 0 | 0 | free |
//! | 0 | 0 | 1 | free, threads may be asleep; one of them has just been woken and will try |
//! | t | 0 | 0 | taken by thread t with `acquire`; any thread may give it back |
//! | t | 1 | 0 | taken by thread t with `with`; only t is expected to give it back |
//! | t | * | 1 | the same, and threads may be asleep: giving back goes through the queue |
//!
//! The one rule against sleeping for ever: a thread goes to sleep only if it finds, with its queue locked, an owner and
//! PARKED; and PARKED is cleared only with that queue locked and empty.

use crate::prim::{AtomicU32, Ordering};
use crate::wait::{self, How, Local, OWNER, PARKED, SCOPED, Space, Stopped, Wakeup};
use std::marker::PhantomData;

/// How a lock is taken, for the detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hold {
    /// By `acquire`: another thread may give it back.
    Plain = 0,
    /// By `with`, or re-entrant: the owner itself has to give it back.
    Scoped = SCOPED,
}

/// Given back although nobody had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLocked;

/// The lock. Not fair: see [`crate::sync`].
#[derive(Debug)]
#[repr(C)]
pub struct Mutex<S: Space = Local> {
    word: AtomicU32,
    space: PhantomData<S>,
}

impl<S: Space> Default for Mutex<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Space> Mutex<S> {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            space: PhantomData,
        }
    }

    /// A free lock.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            space: PhantomData,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self, hold: Hold) -> bool {
        wait::step(wait::key_of(self));
        let mine = S::current() | hold as u32;
        // SYNC(mutex): pairs with the Release stores in unlock; what the last owner did is seen.
        match self
            .word
            .compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => {
                S::point("acquire");
                true
            }
            Err(word) => word & OWNER == 0 && self.try_lock_parked(mine),
        }
    }

    #[cold]
    fn try_lock_parked(&self, mine: u32) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & OWNER == 0 {
            // SYNC(mutex): as in try_lock.
            match self.word.compare_exchange_weak(
                word,
                mine | (word & PARKED),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes the lock, waiting as `how` says. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended; the lock is not taken then.
    pub fn lock(&self, hold: Hold, how: &How<'_>) -> Result<bool, Stopped> {
        let key = wait::key_of(self);
        loop {
            if self.try_lock(hold) {
                return Ok(true);
            }
            let word = self.word.load(Ordering::Relaxed);
            if word & OWNER == 0 {
                continue;
            }
            if S::is_known_dead(word & OWNER) {
                return Err(Stopped::OwnerDied(word & OWNER));
            }
            if word & PARKED == 0
                && self
                    .word
                    .compare_exchange(word, word | PARKED, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            let taken = || {
                let word = self.word.load(Ordering::Relaxed);
                word & PARKED != 0 && word & OWNER != 0
            };
            match S::park(key, how, Some(&self.word), taken) {
                Wakeup::Unparked(_) | Wakeup::Invalid => {}
                Wakeup::TimedOut => return Ok(self.try_lock(hold)),
                Wakeup::Stopped(stopped) => {
                    if stopped.owes_a_wakeup() && self.word.load(Ordering::Relaxed) & OWNER == 0 {
                        self.wake_one();
                    }
                    return Err(stopped);
                }
            }
        }
    }

    /// Gives the lock back; any thread may.
    ///
    /// # Errors
    /// [`NotLocked`] if nobody has it.
    #[inline]
    pub fn unlock(&self) -> Result<(), NotLocked> {
        wait::step(wait::key_of(self));
        let word = self.word.load(Ordering::Relaxed);
        if word & OWNER == 0 {
            return Err(NotLocked);
        }
        S::point("release");
        // SYNC(mutex): pairs with the Acquire exchanges in try_lock.
        if word & PARKED == 0
            && self
                .word
                .compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed)
                .is_ok()
        {
            return Ok(());
        }
        self.unlock_parked()
    }

    #[cold]
    fn unlock_parked(&self) -> Result<(), NotLocked> {
        let mut freed = false;
        S::unpark(wait::key_of(self), 1, 0, |_, more| {
            // Another thread may have given it back meanwhile: then the owner bits are 0, and it is not ours to free.
            freed = self.word.load(Ordering::Relaxed) & OWNER != 0;
            if freed {
                // SYNC(mutex): pairs with the Acquire exchanges in try_lock.
                self.word.store(if more { PARKED } else { 0 }, Ordering::Release);
            }
        });
        if freed { Ok(()) } else { Err(NotLocked) }
    }

    /// Passes on a wake-up that its receiver could not use.
    fn wake_one(&self) {
        S::unpark(wait::key_of(self), 1, 0, |_, more| {
            if !more {
                self.word.fetch_and(!PARKED, Ordering::Relaxed);
            }
        });
    }

    /// Does somebody have it?
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.owner() != 0
    }

    /// The number of the thread that took it, 0 if it is free.
    #[inline]
    pub fn owner(&self) -> u32 {
        self.word.load(Ordering::Relaxed) & OWNER
    }

    /// Makes the lock free after its owner's process has died; `false` if it has no such owner. What it guards may be half
    /// changed.
    pub fn recover(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let dead = word & OWNER != 0 && S::is_known_dead(word & OWNER);
        // SYNC(mutex): as in unlock; two may recover, one frees it.
        let freed = dead
            && self
                .word
                .compare_exchange(word, word & PARKED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if freed {
            self.wake_one();
        }
        freed
    }

    /// Makes the lock free in the child of a `fork`, where its owner and its waiters may be gone.
    pub fn reset_after_fork(&self) {
        self.word.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    /// The rows of the table above.
    fn row(mutex: &Mutex) -> (u32, bool, bool) {
        let word = mutex.word.load(Ordering::Relaxed);
        (word & OWNER, word & SCOPED != 0, word & PARKED != 0)
    }

    #[test]
    fn its_states() {
        let (mutex, me) = (Mutex::new(), wait::current());
        assert_eq!(row(&mutex), (0, false, false));
        assert!(mutex.try_lock(Hold::Plain));
        assert_eq!(row(&mutex), (me, false, false));
        assert!(!mutex.try_lock(Hold::Scoped));
        assert!(!mutex.lock(Hold::Plain, &How::at_most(Duration::ZERO)).unwrap());
        assert_eq!(
            row(&mutex),
            (me, false, true),
            "a waiter that has left leaves its mark"
        );
        mutex.unlock().unwrap();
        assert_eq!(
            row(&mutex),
            (0, false, false),
            "and the trip through the queue removes it"
        );
        assert!(mutex.lock(Hold::Scoped, &How::forever()).unwrap());
        assert_eq!(row(&mutex), (me, true, false));
        mutex.unlock().unwrap();
        assert_eq!(mutex.unlock(), Err(NotLocked));
    }

    #[test]
    fn the_mark_survives_being_taken() {
        let mutex = Mutex::new();
        mutex.word.store(PARKED, Ordering::Relaxed);
        assert!(mutex.try_lock(Hold::Plain));
        assert_eq!(row(&mutex), (wait::current(), false, true));
        mutex.reset_after_fork();
        assert_eq!(row(&mutex), (0, false, false));
    }
}
