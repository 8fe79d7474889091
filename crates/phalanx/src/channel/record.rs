//! What travels through a ring, and how it ends.

use crate::shm::heap::Full;
use crate::wait::Stopped;

/// Records up to this many bytes travel in the ring itself.
pub const INLINE: usize = 8192;

/// How much a ring takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Items, 0: no limit.
    pub maxsize: u32,
    /// Bytes in payloads; one item is always taken, however large.
    pub ceiling: u64,
}

/// A block that travels by reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// As [`crate::shm::heap::allocate`] gave it.
    pub offset: u64,
    /// Bytes behind its head.
    pub len: u64,
}

/// What is put: small bytes, or a payload that belongs to the putter so far.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// At most [`INLINE`] bytes, of a kind that the reader understands.
    Small(u8, &'a [u8]),
    /// A block.
    Large(u8, Payload),
}

/// What was got. Small bytes lie in the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// This many bytes of this kind.
    Small(u8, usize),
    /// A block, which belongs to this process now.
    Large(u8, Payload),
}

/// Why nothing was put or got.
#[derive(Debug)]
pub enum Ended {
    /// Not now: full, or empty; the deadline passed.
    TimedOut,
    /// Never again: nobody is left at the other end.
    Closed,
    /// The arena has no room.
    NoMemory,
    /// Stopped at the door.
    Stopped(Stopped),
}

impl From<Full> for Ended {
    fn from(_: Full) -> Self {
        Self::NoMemory
    }
}
