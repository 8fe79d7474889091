//! A queue of threads that wait to be notified.
//!
//! | `maybe` | meaning |
//! | --- | --- |
//! | 0 | nobody is in the queue |
//! | 1 | threads may be in the queue |
//!
//! A waiter enters the queue while it still has the lock of the condition, so whoever takes the lock next and notifies
//! finds it: no notification falls between giving back the lock and going to sleep. First in, first notified.

use crate::prim::{AtomicU32, Ordering};
use crate::wait::{self, How, Local, Space, Stopped, Wakeup};
use std::marker::PhantomData;

/// The waiting side of a condition. It does not know the lock: see [`Condvar::enter`].
#[derive(Debug, Default)]
#[repr(C)]
pub struct Condvar<S: Space = Local> {
    maybe: AtomicU32,
    space: PhantomData<S>,
}

impl<S: Space> Condvar<S> {
    /// Without waiters.
    pub fn new() -> Self {
        Self {
            maybe: AtomicU32::new(0),
            space: PhantomData,
        }
    }

    /// Enters the queue. The caller has the lock, gives it back next, and then sleeps in [`Condvar::sleep`].
    pub fn enter(&self, how: &How<'_>) -> Option<S::Ticket> {
        S::enqueue(wait::key_of(self), how, None, || {
            self.maybe.store(1, Ordering::Relaxed);
            true
        })
    }

    /// Sleeps until notified. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended. A notification that came too goes to the next.
    pub fn sleep(&self, ticket: S::Ticket, how: &How<'_>) -> Result<bool, Stopped> {
        match S::sleep(ticket, how) {
            Wakeup::Unparked(_) | Wakeup::Invalid => Ok(true),
            Wakeup::TimedOut => Ok(false),
            Wakeup::Stopped(stopped) => {
                if stopped.owes_a_wakeup() {
                    self.notify(1);
                }
                Err(stopped)
            }
        }
    }

    /// Leaves the queue without having slept. A notification that came meanwhile goes to the next.
    pub fn leave(&self, ticket: S::Ticket) {
        if !S::cancel(ticket) {
            self.notify(1);
        }
    }

    /// Wakes up to `n` threads, those first that came first, and says how many.
    #[inline]
    pub fn notify(&self, n: usize) -> usize {
        wait::step(wait::key_of(self));
        if self.maybe.load(Ordering::Relaxed) == 0 {
            0
        } else {
            self.notify_waiters(n)
        }
    }

    #[cold]
    fn notify_waiters(&self, n: usize) -> usize {
        // What is meant for all is not passed on for one who has died.
        let message = u32::from(n == usize::MAX);
        S::unpark(wait::key_of(self), n, message, |_, more| {
            if !more {
                self.maybe.store(0, Ordering::Relaxed);
            }
        })
    }

    /// How many threads wait at this moment.
    pub fn waiters(&self) -> usize {
        if self.maybe.load(Ordering::Relaxed) == 0 {
            0
        } else {
            S::count(wait::key_of(self))
        }
    }

    /// Forgets the waiters, in the child of a `fork`.
    pub fn reset_after_fork(&self) {
        self.maybe.store(0, Ordering::Relaxed);
    }
}
