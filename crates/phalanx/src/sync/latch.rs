//! A one-way gate that names the thread that will open it: the end of a thread, the result of a task.
//!
//! | `open` | `opener` | meaning |
//! | --- | --- | --- |
//! | OPEN | - | passed at once |
//! | 0 or WAITERS | 0 | shut, nobody in particular will open it |
//! | 0 or WAITERS | t, SCOPED | shut, thread t will open it: an edge of the wait graph |

use crate::prim::{AtomicU32, Ordering};
use crate::wait::{self, How, SCOPED, Stopped, Wakeup};

const OPEN: u32 = 1;
const WAITERS: u32 = 2;

/// The gate.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Latch {
    word: AtomicU32,
    opener: AtomicU32,
}

impl Latch {
    /// A shut gate.
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            opener: AtomicU32::new(0),
        }
    }

    /// The calling thread promises to open it.
    pub fn promise(&self) {
        self.opener.store(wait::current() | SCOPED, Ordering::Relaxed);
    }

    /// The number of the thread that promised to open it, 0 if none did.
    pub fn opener(&self) -> u32 {
        self.opener.load(Ordering::Relaxed) & wait::OWNER
    }

    /// Is it open?
    #[inline]
    pub fn is_open(&self) -> bool {
        wait::step(wait::key_of(self));
        // SYNC(latch): pairs with the Release in open.
        self.word.load(Ordering::Acquire) & OPEN != 0
    }

    /// Opens it for good and wakes every thread that waits.
    #[inline]
    pub fn open(&self) {
        wait::step(wait::key_of(self));
        // SYNC(latch): pairs with the Acquire loads in is_open and wait.
        if self.word.fetch_or(OPEN, Ordering::AcqRel) & WAITERS != 0 {
            wait::unpark(wait::key_of(self), usize::MAX, 0, |_, _| {});
        }
    }

    /// Waits until it is open. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended.
    pub fn wait(&self, how: &How<'_>) -> Result<bool, Stopped> {
        if self.is_open() {
            return Ok(true);
        }
        let shut = || self.word.fetch_or(WAITERS, Ordering::Acquire) & OPEN == 0;
        match wait::park(wait::key_of(self), how, Some(&self.opener), shut) {
            Wakeup::Unparked(_) | Wakeup::Invalid => Ok(true),
            Wakeup::TimedOut => Ok(self.is_open()),
            Wakeup::Stopped(stopped) => Err(stopped),
        }
    }

    /// Shuts it again, for a holder that starts over.
    pub fn reset(&self) {
        self.opener.store(0, Ordering::Relaxed);
        self.word.store(0, Ordering::Relaxed);
    }
}
