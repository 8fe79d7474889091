//! A short lock in shared memory that survives its owner.
//!
//! | owner bits | SLEEPERS | meaning |
//! | --- | --- | --- |
//! | 0 | 0 | free |
//! | t | 0 | thread t is inside |
//! | t | 1 | the same, and somebody may sleep: giving it back wakes one |
//!
//! Who takes the lock after a sleep leaves SLEEPERS set, since others may sleep too. A sleep lasts 10 ms at the most, so
//! a wake-up that dies with its sender costs that and no more.

use super::tree;
use crate::prim::{AtomicU32, Ordering, spin_loop};
use crate::sys;

const SLEEPERS: u32 = 1 << 31;
const SPINS: u32 = 200;
const NAP: u64 = 10_000_000;

/// The lock. What it guards must be whole after every store, or be mended by whoever is told that it was stolen.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Guard {
    word: AtomicU32,
}

/// How a guard was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was free.
    Free,
    /// Its owner had died inside.
    Stolen,
}

impl Guard {
    /// Takes it for the thread `me` (see [`tree::me`]).
    #[inline]
    pub fn lock(&self, me: u32) -> Taken {
        // SYNC(guard): pairs with the Release in unlock.
        match self
            .word
            .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Taken::Free,
            Err(_) => self.lock_slow(me),
        }
    }

    #[cold]
    fn lock_slow(&self, me: u32) -> Taken {
        let mut mark = 0;
        loop {
            for _ in 0..SPINS {
                if self.word.load(Ordering::Relaxed) & !SLEEPERS == 0 && self.take(0, me | mark) {
                    return Taken::Free;
                }
                spin_loop();
            }
            let word = self.word.load(Ordering::Relaxed);
            if word == 0 {
                continue;
            }
            mark = SLEEPERS;
            if word & SLEEPERS == 0 {
                let marked =
                    self.word
                        .compare_exchange(word, word | SLEEPERS, Ordering::Relaxed, Ordering::Relaxed);
                if marked.is_err() {
                    continue;
                }
            }
            let until = sys::now() + NAP;
            // A signal that comes more often than a nap lasts must not keep us from looking.
            if sys::sleep_on_shared(&self.word, word | SLEEPERS, Some(until)) != sys::Slept::Woken {
                let owner = self.word.load(Ordering::Relaxed);
                if owner & !SLEEPERS != 0
                    && tree::is_dead(tree::number_of(owner & !SLEEPERS))
                    && self.take(owner, me | SLEEPERS)
                {
                    return Taken::Stolen;
                }
            }
        }
    }

    fn take(&self, seen: u32, mine: u32) -> bool {
        // SYNC(guard): as in lock.
        self.word
            .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives it back.
    #[inline]
    pub fn unlock(&self) {
        // SYNC(guard): pairs with the Acquire in lock and take.
        if self.word.swap(0, Ordering::Release) & SLEEPERS != 0 {
            sys::wake_shared(&self.word);
        }
    }

    /// Has its owner died inside? Asks the kernel if there is one.
    pub fn is_abandoned(&self) -> bool {
        let owner = self.word.load(Ordering::Relaxed) & !SLEEPERS;
        owner != 0 && tree::is_dead(tree::number_of(owner))
    }

    /// Takes it, runs `mend` if its last owner died inside, runs `f`, gives it back.
    #[inline]
    pub fn with<R>(&self, mend: impl FnOnce(), f: impl FnOnce() -> R) -> R {
        if self.lock(tree::me()) == Taken::Stolen {
            mend();
        }
        let unlock = Unlock(self);
        let result = f();
        drop(unlock);
        result
    }
}

/// Gives it back when the section ends, also by a panic.
struct Unlock<'a>(&'a Guard);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}
