//! What lies in a slot or in a cell: few bytes, or the number of a block.

use super::bundle::Bundled;
use crate::prim::{AtomicU64, Ordering};
use crate::shm::heap;
use std::cell::UnsafeCell;
use std::ptr;

/// In `what`: the bytes lie in a block.
const IN_BLOCK: u64 = 1 << 63;
/// In `what`: the result is that the task failed.
const FAILED: u64 = 1 << 62;
/// In `what`: the block is a bundle.
const BUNDLED: u64 = 1 << 61;
const KIND: u32 = 48;
const LEN: u64 = (1 << KIND) - 1;

/// What is posted, or given back.
#[derive(Debug, Clone, Copy)]
pub enum Thing<'a> {
    /// Few bytes (at most [`ROOM`](super::ROOM), in a bundle [`CELL`](super::CELL)) of a kind that the reader understands.
    Small(u8, &'a [u8]),
    /// A block of the heap that belongs to this process, and how many bytes in it count.
    Large(u8, u64, u64),
    /// Many tasks, or their results.
    Bundle(Bundled),
}

/// What was found in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// So many bytes of this kind, copied to the caller's buffer.
    Small(u8, usize),
    /// A block, which belongs to this process now, and how many bytes in it count.
    Large(u8, u64, u64),
    /// A bundle, which goes on belonging to the board.
    Bundle(Bundled),
}

impl Thing<'_> {
    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        match *self {
            Self::Small(_, bytes) => bytes.len() as u64,
            Self::Large(_, _, len) => len,
            Self::Bundle(_) => 0,
        }
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl What {
    /// How many bytes it has.
    pub fn len(self) -> u64 {
        match self {
            Self::Small(_, len) => len as u64,
            Self::Large(_, _, len) => len,
            Self::Bundle(_) => 0,
        }
    }

    /// Has it none?
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Room for `N` bytes, which whoever it belongs to writes and reads. Zeroes are an empty one.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Cargo<const N: usize> {
    /// Flags, kind, length.
    what: AtomicU64,
    /// The block, if there is one.
    block: AtomicU64,
    bytes: UnsafeCell<[u8; N]>,
}

impl<const N: usize> Cargo<N> {
    /// Writes `thing`; its blocks belong to the object at `whole` from then on.
    ///
    /// # Safety
    /// It is the caller's until the caller shows it to another.
    pub(super) unsafe fn write(&self, thing: Thing<'_>, failed: bool, whole: u64) {
        let what = match thing {
            Thing::Small(kind, bytes) => {
                let len = bytes.len().min(N);
                // SAFETY: it is ours, and the bytes are outside of it.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes.get().cast::<u8>(), len) };
                u64::from(kind) << KIND | len as u64
            }
            Thing::Large(kind, block, len) => {
                heap::give_to(block, whole);
                self.block.store(block, Ordering::Relaxed);
                IN_BLOCK | u64::from(kind) << KIND | (len & LEN)
            }
            Thing::Bundle(Bundled(block)) => {
                heap::give_to(block, whole);
                self.block.store(block, Ordering::Relaxed);
                IN_BLOCK | BUNDLED
            }
        };
        let failed = if failed { FAILED } else { 0 };
        self.what.store(what | failed, Ordering::Relaxed);
    }

    /// Reads what is there, and whether it is a failure. A block is the caller's from then on, a bundle is not.
    ///
    /// # Safety
    /// It is the caller's; `to` is valid for `N` bytes.
    pub(super) unsafe fn read(&self, to: *mut u8) -> (What, bool) {
        let what = self.what.load(Ordering::Relaxed);
        let (kind, len) = ((what >> KIND) as u8, what & LEN);
        let found = if what & IN_BLOCK == 0 {
            let len = (len as usize).min(N);
            // SAFETY: it is ours; `to` has room, as the caller promises.
            unsafe { ptr::copy_nonoverlapping(self.bytes.get().cast::<u8>(), to, len) };
            What::Small(kind, len)
        } else if what & BUNDLED != 0 {
            What::Bundle(Bundled(self.block.load(Ordering::Relaxed)))
        } else {
            match self.block.swap(0, Ordering::Relaxed) {
                0 => What::Small(kind, 0), // it was read before
                block => {
                    heap::take_over(block);
                    What::Large(kind, block, len)
                }
            }
        };
        (found, what & FAILED != 0)
    }

    /// The bundle that lies there.
    pub(super) fn bundle(&self) -> Option<Bundled> {
        (self.what.load(Ordering::Relaxed) & BUNDLED != 0)
            .then(|| Bundled(self.block.load(Ordering::Relaxed)))
            .filter(|bundle| bundle.0 != 0)
    }

    /// What was there has been read.
    pub(super) fn forget(&self) {
        self.what.store(0, Ordering::Relaxed);
    }

    /// Frees what is there, unread. It is the caller's.
    pub(super) fn discard(&self) {
        if let Some(bundle) = self.bundle() {
            bundle.free();
        } else if self.what.load(Ordering::Relaxed) & IN_BLOCK != 0 {
            let block = self.block.swap(0, Ordering::Relaxed);
            if block != 0 {
                heap::free(block);
            }
        }
        self.forget();
    }
}
