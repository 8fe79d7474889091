//! A counter of permits that threads wait for.
//!
//! | bits 1..64 | bit 0 | meaning |
//! | --- | --- | --- |
//! | n > 0 | 0 | n permits to be had |
//! | 0 | 0 | none, nobody waits |
//! | 0 | 1 | none, threads may be asleep |
//! | n > 0 | 1 | permits have come; the threads woken for them are on their way, others may be asleep |
//!
//! A thread sleeps only if it finds, with its queue locked, no permit and bit 0; bit 0 is cleared only with that queue
//! locked and empty.

use crate::prim::{AtomicU64, Ordering};
use crate::wait::{self, How, Local, Space, Stopped, Wakeup};
use std::marker::PhantomData;

const WAITERS: u64 = 1;
const ONE: u64 = 2;

/// More permits given back than fit, or than the bound allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// The semaphore. Wakes in the order of arrival; a thread that comes by may take a permit first.
#[derive(Debug)]
#[repr(C)]
pub struct Semaphore<S: Space = Local> {
    word: AtomicU64,
    /// Written only by `init`.
    bound: AtomicU64,
    space: PhantomData<S>,
}

impl<S: Space> Semaphore<S> {
    /// The most permits that one can hold.
    pub const MOST: u64 = u64::MAX >> 2;

    /// With `permits` permits and no bound but [`Semaphore::MOST`].
    ///
    /// # Errors
    /// [`Overflow`] if that is too many.
    pub fn new(permits: u64) -> Result<Self, Overflow> {
        Self::with_bound(permits, Self::MOST)
    }

    /// With `permits` permits, never more than `bound`.
    ///
    /// # Errors
    /// [`Overflow`] if that is too many.
    pub fn with_bound(permits: u64, bound: u64) -> Result<Self, Overflow> {
        if permits > bound || bound > Self::MOST {
            return Err(Overflow);
        }
        Ok(Self {
            word: AtomicU64::new(permits * ONE),
            bound: AtomicU64::new(bound),
            space: PhantomData,
        })
    }

    /// Starts over with `permits` permits and `bound`, for a holder that is initialised late. Nobody may use it yet.
    ///
    /// # Errors
    /// [`Overflow`] if that is too many.
    pub fn init(&self, permits: u64, bound: u64) -> Result<(), Overflow> {
        if permits > bound || bound > Self::MOST {
            return Err(Overflow);
        }
        self.bound.store(bound, Ordering::Relaxed);
        self.word.store(permits * ONE, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        wait::step(wait::key_of(self));
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= ONE {
            // SYNC(semaphore): pairs with the Release exchange in release.
            match self
                .word
                .compare_exchange_weak(word, word - ONE, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes a permit, waiting as `how` says. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended; no permit is taken then.
    pub fn acquire(&self, how: &How<'_>) -> Result<bool, Stopped> {
        loop {
            if self.try_acquire() {
                return Ok(true);
            }
            let none = || self.word.fetch_or(WAITERS, Ordering::Relaxed) < ONE;
            match S::park(wait::key_of(self), how, None, none) {
                Wakeup::Unparked(_) | Wakeup::Invalid => {}
                Wakeup::TimedOut => return Ok(self.try_acquire()),
                Wakeup::Stopped(stopped) => {
                    if stopped.owes_a_wakeup() && self.value() > 0 {
                        self.wake(1);
                    }
                    return Err(stopped);
                }
            }
        }
    }

    /// Gives `n` permits back and wakes as many threads.
    ///
    /// # Errors
    /// [`Overflow`] if that were more than the bound; nothing changes then.
    #[inline]
    pub fn release(&self, n: u64) -> Result<(), Overflow> {
        wait::step(wait::key_of(self));
        let bound = self.bound.load(Ordering::Relaxed);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if n > bound || word / ONE > bound - n {
                return Err(Overflow);
            }
            // SYNC(semaphore): pairs with the Acquire exchange in try_acquire.
            match self
                .word
                .compare_exchange_weak(word, word + n * ONE, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & WAITERS != 0 {
            self.wake(n);
        }
        Ok(())
    }

    /// The most permits that it takes.
    pub fn bound(&self) -> u64 {
        self.bound.load(Ordering::Relaxed)
    }

    #[cold]
    fn wake(&self, n: u64) {
        S::unpark(
            wait::key_of(self),
            usize::try_from(n).unwrap_or(usize::MAX),
            0,
            |_, more| {
                if !more {
                    self.word.fetch_and(!WAITERS, Ordering::Relaxed);
                }
            },
        );
    }

    /// How many permits there are at this moment.
    #[inline]
    pub fn value(&self) -> u64 {
        self.word.load(Ordering::Relaxed) / ONE
    }
}
