//! Bundles: many small tasks that travel in one slot, and end one by one.

use super::cargo::{Cargo, Thing, What};
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use crate::shm::heap::{self, Full};
use crate::shm::point::{Point, reach};

/// Tasks in a bundle, at the most: as many as fill a block of 4 KiB.
pub const BUNDLE: usize = (4096 - heap::HEAD - size_of::<Head>()) / size_of::<Cargo<CELL>>();
/// Bytes of a task or a result that travel in the bundle itself.
pub const CELL: usize = 48;

/// Lies in front of the cells, the first of which says what is called.
#[derive(Debug)]
#[repr(C)]
struct Head {
    /// Tasks that count << 32 | tasks that the worker has begun.
    cursor: AtomicU64,
    /// Nanoseconds that they took.
    spent: AtomicU64,
    /// Bytes of tasks and results.
    bytes: AtomicU64,
    /// Tasks that have ended.
    given: AtomicU32,
    /// Results that the master has read.
    read: AtomicU32,
    /// Tasks that were put in.
    many: AtomicU32,
    /// How it is called, as the two sides understand it.
    mode: AtomicU32,
    call: Cargo<CELL>,
}

/// Tasks that call one function, by the offset of the block in which they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundled(pub(super) u64);

/// What became of the tasks of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// So many results have been read, from the first on.
    pub read: usize,
    /// So many have ended.
    pub given: usize,
    /// So many were begun: one more, if the worker died in the middle of one.
    pub begun: usize,
    /// Nanoseconds that they took.
    pub spent: u64,
    /// Bytes of tasks and results.
    pub bytes: u64,
}

fn both(cursor: u64) -> (usize, usize) {
    (cursor as u32 as usize, (cursor >> 32) as usize)
}

impl Bundled {
    /// An empty bundle with room for `many` tasks, in a block that belongs to this process.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make(many: usize, mode: u32) -> Result<Self, Full> {
        let bytes = size_of::<Head>() + many.min(BUNDLE) * size_of::<Cargo<CELL>>();
        let bundle = Self(heap::allocate(heap::HEAD + bytes)?);
        // SAFETY: the block is ours and that long; zeroes are an empty head and empty cells.
        unsafe { std::ptr::write_bytes(heap::bytes(bundle.0), 0, bytes) };
        bundle.head().mode.store(mode, Ordering::Relaxed);
        Ok(bundle)
    }

    fn head(&self) -> &Head {
        // SAFETY: the block begins with a head, and blocks are aligned to 64.
        unsafe { &*heap::bytes(self.0).cast::<Head>() }
    }

    /// The cell of a task that was put in, or that there is room for.
    fn cell(&self, at: usize) -> &Cargo<CELL> {
        debug_assert!(at < BUNDLE);
        let cells = heap::bytes(self.0).wrapping_add(size_of::<Head>());
        // SAFETY: the block has so many cells, as the callers promise.
        unsafe { &*cells.cast::<Cargo<CELL>>().add(at) }
    }

    /// How many were put in.
    fn many(self) -> usize {
        (self.head().many.load(Ordering::Relaxed) as usize).min(BUNDLE)
    }

    // ---------------------------------------------------------------- the master

    pub(super) fn set_call(self, thing: Thing<'_>, whole: u64) {
        // SAFETY: nobody else knows of the bundle yet.
        unsafe { self.head().call.write(thing, false, whole) };
    }

    pub(super) fn push(self, thing: Thing<'_>, whole: u64) {
        let head = self.head();
        let many = self.many();
        // SAFETY: as in set_call; there is room, as the callers promise.
        unsafe { self.cell(many).write(thing, false, whole) };
        head.many.store(many as u32 + 1, Ordering::Relaxed);
        head.cursor.store((many as u64 + 1) << 32, Ordering::Relaxed);
    }

    pub(super) fn cut(self) {
        let cursor = &self.head().cursor;
        let mut now = cursor.load(Ordering::Relaxed);
        loop {
            let (begun, _) = both(now);
            // SYNC(cursor): one word holds both numbers, so a task is begun before the cut or not at all.
            match cursor.compare_exchange_weak(
                now,
                (begun as u64) << 32 | begun as u64,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(other) => now = other,
            }
        }
    }

    /// What has become of it so far.
    pub fn outcome(self) -> Outcome {
        let head = self.head();
        Outcome {
            read: head.read.load(Ordering::Relaxed) as usize,
            // SYNC(given): pairs with the Release store in give.
            given: head.given.load(Ordering::Acquire) as usize,
            begun: both(head.cursor.load(Ordering::Acquire)).0.min(self.many()),
            spent: head.spent.load(Ordering::Relaxed),
            bytes: head.bytes.load(Ordering::Relaxed),
        }
    }

    /// Is there a result that has not been read?
    pub fn has_news(self) -> bool {
        let Outcome { read, given, .. } = self.outcome();
        read < given
    }

    /// Reads the first result that has not been read, and whether it is a failure; small ones are copied to `to`. `None`:
    /// there is none.
    ///
    /// # Safety
    /// `to` is valid for [`CELL`] bytes. One thread at a time.
    pub unsafe fn result(self, to: *mut u8) -> Option<(What, bool)> {
        let Outcome { read, given, .. } = self.outcome();
        if read >= given.min(self.many()) {
            return None;
        }
        self.head().read.store(read as u32 + 1, Ordering::Relaxed);
        // SAFETY: the worker has no business with a cell that it has given; `to` is as the caller promises.
        Some(unsafe { self.cell(read).read(to) })
    }

    /// Frees it, with what nobody has read. It is the caller's.
    pub fn free(self) {
        self.head().call.discard();
        (0..self.many()).for_each(|at| self.cell(at).discard());
        heap::free(self.0);
    }

    // ---------------------------------------------------------------- the worker

    /// How it is called: what `make` was given.
    pub fn mode(self) -> u32 {
        self.head().mode.load(Ordering::Relaxed)
    }

    /// What is called.
    ///
    /// # Safety
    /// Asked once, by the worker that has the bundle; `to` is valid for [`CELL`] bytes.
    pub unsafe fn call(self, to: *mut u8) -> What {
        // SAFETY: as the caller promises.
        unsafe { self.head().call.read(to).0 }
    }

    /// Begins the next task; `None`: there is none that counts.
    ///
    /// # Safety
    /// This worker has the bundle; `to` is valid for [`CELL`] bytes.
    pub unsafe fn begin(self, to: *mut u8) -> Option<What> {
        let cursor = &self.head().cursor;
        let mut now = cursor.load(Ordering::Relaxed);
        loop {
            let (begun, end) = both(now);
            if begun >= end.min(self.many()) {
                return None;
            }
            // SYNC(cursor): pairs with the exchange in cut.
            match cursor.compare_exchange_weak(now, now + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    reach(Point::BundleBegun);
                    // SAFETY: this cell is ours until it is given back.
                    return Some(unsafe { self.cell(begun).read(to) }.0);
                }
                Err(other) => now = other,
            }
        }
    }

    /// Begins the next task, and drops it: its failure is to be given. `false`: there is none that counts.
    ///
    /// # Safety
    /// As [`Bundled::begin`].
    pub unsafe fn skip(self, to: *mut u8) -> bool {
        // SAFETY: as the caller promises.
        let what = unsafe { self.begin(to) };
        if let Some(What::Large(_, block, _)) = what {
            heap::free(block);
        }
        what.is_some()
    }

    pub(super) fn give(self, thing: Thing<'_>, failed: bool, whole: u64) {
        let head = self.head();
        let at = head.given.load(Ordering::Relaxed);
        // Nothing is given for a task that was not begun: it is somebody else's.
        if at as usize >= both(head.cursor.load(Ordering::Relaxed)).0.min(self.many()) {
            return;
        }
        // SAFETY: the cell is this worker's since begin.
        unsafe { self.cell(at as usize).write(thing, failed, whole) };
        reach(Point::BundleBeforeGiven);
        // SYNC(given): pairs with the Acquire load in outcome.
        head.given.store(at + 1, Ordering::Release);
    }

    /// Says how long the tasks took, and how many bytes they and their results had.
    pub fn took(self, nanoseconds: u64, bytes: u64) {
        self.head().spent.store(nanoseconds, Ordering::Relaxed);
        self.head().bytes.store(bytes, Ordering::Relaxed);
    }
}
