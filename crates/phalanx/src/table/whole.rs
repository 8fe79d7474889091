//! A table as a whole: how it is made, locked, read and moved.

use super::list::Slice;
use super::record::{Large, Record};
use super::spine::{Locked, Spine};
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use crate::shm::heap::{self, Full};
use crate::shm::{self, Guard, Handle, Taken, tree};
use crate::sys;
use std::ptr;

/// A dict or a list of records in the arena. Made by [`Table::make`]; lives in an object of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Table {
    pub(super) guard: Guard,
    /// `MOVED`, or nothing.
    state: AtomicU32,
    /// Has it keys?
    keyed: AtomicU32,
    /// The number of the process that serves it to those who cannot reach the arena.
    server: AtomicU32,
    /// Where the spine lies. A change of the whole is committed by storing here.
    pub(super) root: AtomicU64,
    /// Grows with every change.
    pub(super) version: AtomicU64,
    /// The last one that a large value got.
    pub(super) stamp: AtomicU64,
    /// Where the word lies that says whether the server is there, or 0.
    pulse: AtomicU64,
}

/// The pulse of this process: where its word lies, and below that the number of the process, which a fork changes.
static PULSE: AtomicU64 = AtomicU64::new(0);

/// The calling thread stands for this process as a server: when it ends, those who use the tables that are made from now on
/// see it at once. It never gives up, so it is the main thread, or one that lives as long.
///
/// # Errors
/// [`Full`].
pub fn begin_pulse() -> Result<(), Full> {
    let (before, number) = (PULSE.load(Ordering::Acquire), tree::number());
    // SAFETY: the word of a pulse of this process, which has not been buried.
    let beats = |arena: &shm::Arena| !sys::has_stopped(unsafe { arena.word(before >> 16) });
    if before as u16 == number as u16 && shm::arena().is_some_and(beats) {
        return Ok(());
    }
    let block = heap::allocate(heap::HEAD + sys::PULSE_BYTES)?;
    // SAFETY: the block is ours, so it stays until this process is buried.
    match unsafe { sys::begin_pulse(heap::bytes(block)) } {
        Some(byte) => {
            let word = block + (heap::HEAD + byte) as u64;
            PULSE.store(word << 16 | u64::from(number), Ordering::Release);
        }
        None => heap::free(block),
    }
    Ok(())
}

/// Its content lies elsewhere now, for ever.
const MOVED: u32 = 1;

/// Why an operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The content is in the hands of the server now.
    Moved,
    /// The arena has no room. Nothing has changed.
    Full,
}

impl From<Full> for Refused {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// Which entry: by a record with its key, or by its place in a list, counted from the end if below 0.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// In a table with keys.
    Key(Record<'a>),
    /// In a list.
    Index(i64),
}

/// A value that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// So many bytes of this kind were copied.
    Small(u8, usize),
    /// It lies in a block, and may be gone a moment later: see [`Table::copy`].
    Large(Large),
}

/// What a snapshot is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The records without their large values.
    Keys,
    /// Everything.
    All,
    /// What a slice of a list says.
    Slice(Slice),
}

/// Copies of records, all of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Of the table at that moment.
    pub version: u64,
    words: Vec<u64>,
    count: usize,
    larges: Vec<Vec<u8>>,
}

impl Snapshot {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records in order; with each the bytes of its value.
    pub fn records(&self) -> impl Iterator<Item = (Record<'_>, &[u8])> {
        let mut at = 0;
        let mut larges = self.larges.iter();
        (0..self.count).map(move |_| {
            // SAFETY: whole records, one after the other.
            let record = unsafe { Record::new(self.words.as_ptr().add(at)) };
            at += record.len();
            let value = record
                .small()
                .unwrap_or_else(|| larges.next().map_or(&[], |large| large));
            (record, value)
        })
    }
}

impl Table {
    /// The kind of a table's object in the arena.
    pub const OBJECT: u32 = 0x54;

    /// A new, empty table: a dict or a list. This process serves it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make(keyed: bool) -> Result<Handle, Full> {
        let handle = Handle::new(Self::OBJECT, size_of::<Self>())?;
        let table = Self::of(&handle);
        table.keyed.store(keyed.into(), Ordering::Relaxed);
        table.server.store(tree::number(), Ordering::Relaxed);
        let pulse = PULSE.load(Ordering::Acquire);
        if pulse as u16 == tree::number() as u16 {
            table.pulse.store(pulse >> 16, Ordering::Relaxed);
        }
        let spine = Spine::make(0, 0)?;
        heap::give_to(spine, table.object());
        table.root.store(spine, Ordering::Release);
        Ok(handle)
    }

    /// The table of a handle.
    #[inline]
    pub fn of(handle: &Handle) -> &Self {
        // SAFETY: objects of this kind hold a table, zeroed at first, all atomics; the handle keeps it alive.
        unsafe { &*handle.data().cast::<Self>() }
    }

    /// Has it keys, or is it a list?
    #[inline]
    pub fn is_keyed(&self) -> bool {
        self.keyed.load(Ordering::Relaxed) != 0
    }

    /// The number of the process that serves it.
    pub fn server(&self) -> u32 {
        self.server.load(Ordering::Relaxed)
    }

    /// Has the server ended? `None`: it has no pulse, so somebody has to ask for its life.
    #[inline]
    pub fn server_has_ended(&self) -> Option<bool> {
        let at = self.pulse.load(Ordering::Relaxed);
        if at == 0 {
            return None;
        }
        // SAFETY: a word of the pulse, or of whatever lies there once the server is buried: then the rest does not matter.
        let stopped = shm::arena().is_some_and(|arena| sys::has_stopped(unsafe { arena.word(at) }));
        Some(stopped || tree::is_known_dead(self.server()))
    }

    /// The offset of the object that it lies in.
    pub(super) fn object(&self) -> u64 {
        let address = ptr::from_ref(self).addr() - shm::OBJECT_HEAD;
        shm::arena()
            .and_then(|arena| arena.offset_of(address))
            .unwrap_or(0)
    }

    /// Locks it.
    ///
    /// # Errors
    /// [`Refused::Moved`].
    #[inline]
    pub(super) fn lock(&self) -> Result<Locked<'_>, Refused> {
        let locked = self.lock_anyway();
        if self.state.load(Ordering::Relaxed) & MOVED != 0 {
            return Err(Refused::Moved);
        }
        Ok(locked)
    }

    #[inline]
    fn lock_anyway(&self) -> Locked<'_> {
        let taken = self.guard.lock(tree::me());
        let locked = Locked { table: self };
        if taken == Taken::Stolen {
            locked.mend();
        }
        locked
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// [`Refused::Moved`].
    #[inline]
    pub fn count(&self) -> Result<usize, Refused> {
        Ok(self.lock()?.len())
    }

    /// Has the content gone to the server?
    pub fn is_moved(&self) -> bool {
        self.state.load(Ordering::Acquire) & MOVED != 0
    }

    /// Finds a value; a small one is copied to `to`, unless that is null.
    ///
    /// # Errors
    /// [`Refused::Moved`].
    ///
    /// # Safety
    /// `to` is null or has room for the longest small value there is.
    #[inline]
    pub unsafe fn get(&self, at: At<'_>, to: *mut u8) -> Result<Option<Found>, Refused> {
        let locked = self.lock()?;
        // SAFETY: as the caller promises.
        Ok(locked.find(at).map(|(_, record)| unsafe { found(record, to) }))
    }

    /// Copies a large value that was found at `at`; `false`: it has changed meanwhile, and what was copied is worthless.
    /// Nobody has to wait for the copy unless it is `locked`.
    ///
    /// # Errors
    /// [`Refused::Moved`].
    ///
    /// # Safety
    /// `to` has room for `large.len` bytes.
    pub unsafe fn copy(&self, at: At<'_>, large: Large, to: *mut u8, locked: bool) -> Result<bool, Refused> {
        let is_still = |inside: &Locked<'_>| {
            let now = inside.find(at).and_then(|(_, record)| record.large());
            now.is_some_and(|now| now.stamp == large.stamp)
        };
        if locked {
            let inside = self.lock()?;
            let same = is_still(&inside);
            if same {
                // SAFETY: as the caller promises; the block is the table's.
                unsafe { copy_block(large, to) };
            }
            return Ok(same);
        }
        // SAFETY: as the caller promises; the arena stays mapped, whatever lies there now.
        unsafe { copy_block(large, to) };
        Ok(is_still(&self.lock()?))
    }

    /// What is in it at this moment.
    ///
    /// # Errors
    /// [`Refused::Moved`].
    pub fn snapshot(&self, part: Part) -> Result<Snapshot, Refused> {
        // Large values are copied while others go on; if those never stop, they wait once.
        for last in [false, false, true] {
            let locked = self.lock()?;
            let mut snapshot = locked.snapshot(part);
            let larges = if part == Part::Keys {
                Vec::new()
            } else {
                snapshot.larges()
            };
            if larges.is_empty() || last {
                snapshot.larges = larges.into_iter().map(whole).collect();
                return Ok(snapshot);
            }
            drop(locked);
            snapshot.larges = larges.into_iter().map(whole).collect();
            if self.lock()?.version() == snapshot.version {
                return Ok(snapshot);
            }
        }
        unreachable!("the last turn returns")
    }

    /// Takes everything out, for the server, and refuses all operations from now on. `None`: that was done before.
    pub fn move_out(&self) -> Option<Snapshot> {
        let locked = self.lock().ok()?;
        let mut snapshot = locked.snapshot(Part::All);
        snapshot.larges = snapshot.larges().into_iter().map(whole).collect();
        // The commit. Killed here, the server takes its manager with it.
        self.state.fetch_or(MOVED, Ordering::AcqRel);
        let _ = locked.clear();
        Some(snapshot)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn clear(&self) -> Result<(), Refused> {
        Ok(self.lock()?.clear()?)
    }
}

/// # Safety
/// `to` is null or has room for the value.
#[inline]
pub(super) unsafe fn found(record: Record<'_>, to: *mut u8) -> Found {
    match (record.small(), record.large()) {
        (Some(bytes), _) => {
            if !to.is_null() {
                // SAFETY: as the caller promises.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
            }
            Found::Small(record.kind(), bytes.len())
        }
        (None, Some(large)) => Found::Large(large),
        (None, None) => Found::Small(record.kind(), 0),
    }
}

/// Copies a block that others may free, use again and write to meanwhile: the caller looks later whether they did.
///
/// # Safety
/// `to` has room for it.
pub(super) unsafe fn copy_block(large: Large, to: *mut u8) {
    let from = heap::bytes(large.offset);
    let len = large.len as usize;
    // SAFETY: blocks begin at a multiple of 64 and are whole words long; volatile, since the content may change.
    unsafe {
        for n in 0..len / 8 {
            to.cast::<u64>()
                .add(n)
                .write_unaligned(from.cast::<u64>().add(n).read_volatile());
        }
        for n in len / 8 * 8..len {
            to.add(n).write(from.add(n).read_volatile());
        }
    }
}

fn whole(large: Large) -> Vec<u8> {
    let len = large.len as usize;
    let mut bytes = Vec::with_capacity(len);
    // SAFETY: there is room for so many, and all of them are written.
    unsafe {
        copy_block(large, bytes.as_mut_ptr());
        bytes.set_len(len);
    }
    bytes
}

impl Snapshot {
    fn larges(&self) -> Vec<Large> {
        self.records().filter_map(|(record, _)| record.large()).collect()
    }
}

impl Locked<'_> {
    fn snapshot(&self, part: Part) -> Snapshot {
        let mut snapshot = Snapshot {
            version: self.version(),
            ..Snapshot::default()
        };
        let mut add = |offset: u64| {
            snapshot
                .words
                .extend_from_slice(self.record_of(offset).as_words());
            snapshot.count += 1;
        };
        let Part::Slice(slice) = part else {
            self.offsets().for_each(add);
            return snapshot;
        };
        let (from, step, count) = slice.of(self.len());
        let first = self.window().0 as usize + from;
        for n in 0..count {
            let slot = first.wrapping_add_signed(step.wrapping_mul(n as isize));
            add(self.spine().slot(slot as u32).load(Ordering::Relaxed));
        }
        snapshot
    }
}
