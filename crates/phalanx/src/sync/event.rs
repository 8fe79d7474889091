//! A flag that threads wait for.
//!
//! | SET | WAITERS | meaning |
//! | --- | --- | --- |
//! | 0 | 0 | clear, nobody waits |
//! | 0 | 1 | clear, threads may be asleep |
//! | 1 | 0 | set: nobody needs to wait |
//! | 1 | 1 | set: a thread came too late to sleep |
//!
//! A thread sleeps only if it finds the flag clear with its queue locked, after it has put WAITERS there. Where WAITERS
//! is, the flag is set with the queue locked and emptied in the same step: whoever came before it has seen the event,
//! even if it is cleared again at once, and whoever comes after the clearing is not woken for the old event.

use crate::prim::{AtomicU32, Ordering};
use crate::wait::{self, How, Local, Space, Stopped, Wakeup};
use std::marker::PhantomData;

const SET: u32 = 1;
const WAITERS: u32 = 2;
/// The message of a waker; between processes 0 says that the waker died before it had come so far.
const WAS_SET: u32 = 1;

/// The event. Setting it wakes everybody.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Event<S: Space = Local> {
    word: AtomicU32,
    space: PhantomData<S>,
}

impl<S: Space> Event<S> {
    /// A clear event.
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            space: PhantomData,
        }
    }

    /// Is it set?
    #[inline]
    pub fn is_set(&self) -> bool {
        wait::step(wait::key_of(self));
        // SYNC(event): pairs with the Release in set.
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets it and wakes every thread that waits.
    #[inline]
    pub fn set(&self) {
        wait::step(wait::key_of(self));
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITERS == 0 {
            // SYNC(event): pairs with the Acquire loads in is_set and wait.
            match self
                .word
                .compare_exchange_weak(word, SET, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        self.set_and_wake();
    }

    #[cold]
    fn set_and_wake(&self) {
        S::unpark(wait::key_of(self), usize::MAX, WAS_SET, |_, _| {
            // SYNC(event): as in set.
            self.word.store(SET, Ordering::Release);
        });
    }

    /// Clears it.
    #[inline]
    pub fn clear(&self) {
        wait::step(wait::key_of(self));
        self.word.fetch_and(!SET, Ordering::Relaxed);
    }

    /// Waits until it is set. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended.
    pub fn wait(&self, how: &How<'_>) -> Result<bool, Stopped> {
        if self.is_set() {
            return Ok(true);
        }
        let clear = || self.word.fetch_or(WAITERS, Ordering::Acquire) & SET == 0;
        loop {
            return match S::park(wait::key_of(self), how, None, clear) {
                Wakeup::Unparked(0) => continue,
                Wakeup::Unparked(_) | Wakeup::Invalid => Ok(true),
                Wakeup::TimedOut => Ok(self.is_set()),
                Wakeup::Stopped(stopped) => Err(stopped),
            };
        }
    }

    /// Keeps the flag and forgets the waiters, in the child of a `fork`.
    pub fn reset_after_fork(&self) {
        self.word.fetch_and(SET, Ordering::Relaxed);
    }
}
