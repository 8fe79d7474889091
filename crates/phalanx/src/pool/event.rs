//! How far a worker had come with its task: what is told of it if it dies.

use crate::prim::{AtomicU64, Ordering};
use crate::sys;

/// How far a worker has come with the task in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It has taken the task.
    Taken,
    /// It has loaded the task, and calls its function.
    Started,
    /// The function has ended; the result is being written.
    Ended,
}

/// The last that is known of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// How far its worker had come.
    pub stage: Stage,
    /// Since when, in nanoseconds of [`sys::now`], to some milliseconds; 0 if the worker did not come to note it.
    pub since: u64,
}

const STAGE: u64 = 3;

/// The word in which a worker notes its last event: nanoseconds without the lowest two bits, which are the stage. Zeroes
/// are a task that nobody has noted anything of.
///
/// Written by the one who has the slot. Read while the worker runs it is a hint; after its death it is the truth.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Note(AtomicU64);

impl Note {
    #[inline]
    pub(super) fn set(&self, stage: Stage) {
        self.0
            .store(sys::coarse_now() & !STAGE | stage as u64, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Event {
        let word = self.0.load(Ordering::Relaxed);
        let stage = match word & STAGE {
            0 => Stage::Taken,
            1 => Stage::Started,
            _ => Stage::Ended,
        };
        Event {
            stage,
            since: word & !STAGE,
        }
    }
}
