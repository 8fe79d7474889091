//! The one arena of this process: made, or taken over from the parent.

use super::layout::{
    HEAP, Header, LARGE, LEAST, LOT, LOT_BYTES, MAGIC, MOST, NUMBERS, PROCESSES, Process, UNIT, UNITS,
    VERSION, ZONES,
};
use crate::prim::{AtomicPtr, AtomicU32, AtomicU64, Guarded, Ordering};
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

/// Why there is no arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The system said no, with this number.
    System(i32),
    /// The file is none of ours.
    Foreign,
    /// It was made by another version of this library, or for another architecture.
    Version(u32),
    /// This process has its own arena already, with objects in it.
    HasOne,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(number) => write!(f, "{}", std::io::Error::from_raw_os_error(*number)),
            Self::Foreign => write!(f, "this descriptor is not a shared segment of phalanx"),
            Self::Version(other) => {
                write!(
                    f,
                    "the shared segment has layout {other}, this process knows layout {VERSION}"
                )
            }
            Self::HasOne => write!(f, "this process belongs to another tree of processes already"),
        }
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.raw_os_error())
    }
}

/// The mapped arena. Never unmapped: pointers into it live as long as the process.
#[derive(Debug)]
pub struct Arena {
    base: *mut u8,
    file: OwnedFd,
}

// SAFETY: what it points to is shared memory, reached through atomics and guards.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

static ARENA: AtomicPtr<Arena> = AtomicPtr::new(ptr::null_mut());
static MAKING: Guarded<()> = Guarded::new(());

/// The arena, if this process has one.
#[inline]
pub fn arena() -> Option<&'static Arena> {
    // SYNC(arena): pairs with the Release in publish.
    let arena = ARENA.load(Ordering::Acquire);
    // SAFETY: published arenas are leaked.
    unsafe { arena.as_ref() }
}

/// The arena; made now if there is none.
///
/// # Errors
/// [`Refused`] if the system gives no memory or descriptor.
pub fn arena_or_make() -> Result<&'static Arena, Refused> {
    if let Some(arena) = arena() {
        return Ok(arena);
    }
    MAKING.with(|()| match arena() {
        Some(arena) => Ok(arena),
        None => make().map(publish),
    })
}

/// Takes over the arena of a parent through a duplicate of its descriptor. Harmless if it is the one we have.
///
/// # Errors
/// [`Refused`]: the descriptor is no arena, of another version, or this process has another one.
pub fn attach(file: OwnedFd) -> Result<(), Refused> {
    MAKING.with(|()| {
        let there = open(file)?;
        match arena() {
            None => {
                publish(there);
                Ok(())
            }
            Some(mine) if mine.tree() == there.tree() => {
                // SAFETY: nobody has seen this second mapping.
                unsafe { sys::unmap(there.base, there.reserved()) };
                Ok(())
            }
            Some(_) => Err(Refused::HasOne),
        }
    })
}

fn publish(arena: Arena) -> &'static Arena {
    let arena = Box::leak(Box::new(arena));
    // SYNC(arena): pairs with the Acquire in arena.
    ARENA.store(arena, Ordering::Release);
    arena
}

fn make() -> Result<Arena, Refused> {
    let first = HEAP + 16 * UNIT;
    let file = sys::memory_file(first)?;
    let mut reserve = MOST;
    let base = loop {
        match sys::map(file.as_fd(), reserve) {
            Ok(base) => break base,
            Err(_) if reserve / 2 >= LEAST => reserve /= 2,
            Err(error) => return Err(error.into()),
        }
    };
    let arena = Arena { base, file };
    let header = arena.header();
    header.reserved.store(reserve as u64, Ordering::Relaxed);
    header
        .processes_size
        .store(size_of::<Process>() as u32, Ordering::Relaxed);
    let mut random = [0; 16];
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    for (word, bytes) in header.tree.iter().zip(random.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
    }
    for zone in 0..ZONES {
        let first = arena.first_unit(zone);
        header.units[zone].store(if zone == 0 { 16 } else { first }, Ordering::Relaxed);
        header.lowest[zone].store(first, Ordering::Relaxed);
    }
    header.length.store(first as u64, Ordering::Relaxed);
    header.version.store(VERSION, Ordering::Relaxed);
    header.magic.store(MAGIC, Ordering::Release);
    arena.advise();
    Ok(arena)
}

fn open(file: OwnedFd) -> Result<Arena, Refused> {
    if sys::length(file.as_fd())? < HEAP || !sys::is_sealed(file.as_fd()) {
        return Err(Refused::Foreign);
    }
    let base = sys::map(file.as_fd(), PROCESSES)?;
    // SAFETY: the file has at least that length and cannot shrink.
    let header = unsafe { &*base.cast::<Header>() };
    let (magic, version) = (
        header.magic.load(Ordering::Acquire),
        header.version.load(Ordering::Relaxed),
    );
    let size = header.processes_size.load(Ordering::Relaxed) as usize;
    let reserved = header.reserved.load(Ordering::Relaxed) as usize;
    // SAFETY: `header` is not used after this.
    unsafe { sys::unmap(base, PROCESSES) };
    if magic != MAGIC {
        return Err(Refused::Foreign);
    }
    if version != VERSION || size != size_of::<Process>() || !(LEAST..=MOST).contains(&reserved) {
        return Err(Refused::Version(version));
    }
    let base = sys::map(file.as_fd(), reserved)?;
    let arena = Arena { base, file };
    arena.advise();
    Ok(arena)
}

impl Arena {
    /// The descriptor to hand to a child.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Which tree it belongs to.
    pub fn tree(&self) -> [u64; 2] {
        self.header()
            .tree
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed))
    }

    /// Huge pages are welcome where the large runs lie.
    fn advise(&self) {
        let first = HEAP + self.first_unit(1) as usize * UNIT;
        // SAFETY: whole pages of the mapping.
        unsafe { sys::welcome_huge_pages(self.at(first), self.reserved() - first) };
    }

    fn reserved(&self) -> usize {
        self.header().reserved.load(Ordering::Relaxed) as usize
    }

    /// How many units the heap can have at the most.
    pub(super) fn most_units(&self) -> u32 {
        ((self.reserved() - HEAP) / UNIT) as u32
    }

    /// Where a zone begins. Unit 0 stays unused: 0 means none.
    pub(super) fn first_unit(&self, zone: usize) -> u32 {
        match zone {
            0 => 1,
            _ => self.most_units() / 4 / LARGE * LARGE,
        }
    }

    /// Where a zone ends at the latest.
    pub(super) fn last_unit(&self, zone: usize) -> u32 {
        match zone {
            0 => self.first_unit(1),
            _ => self.most_units() / LARGE * LARGE,
        }
    }

    /// The address of `offset`, which lies inside the file.
    #[inline]
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: offsets inside the arena are below `reserved`.
        unsafe { self.base.add(offset) }
    }

    /// The offset of an address in the arena, `None` for one outside.
    #[inline]
    pub fn offset_of(&self, address: usize) -> Option<u64> {
        let offset = address.wrapping_sub(self.base.addr());
        (offset < self.reserved()).then_some(offset as u64)
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the header is mapped, aligned, and all atomics.
        unsafe { &*self.base.cast::<Header>() }
    }

    #[inline]
    pub(super) fn process(&self, number: u32) -> &Process {
        let number = number as usize % NUMBERS;
        // SAFETY: the table has NUMBERS entries, all atomics.
        unsafe {
            &*self
                .at(PROCESSES + number * size_of::<Process>())
                .cast::<Process>()
        }
    }

    /// Room for the wait queues: `LOT_BYTES` bytes, zero at first.
    pub fn lot(&self) -> *mut u8 {
        const { assert!(LOT + LOT_BYTES == UNITS) };
        self.at(LOT)
    }

    #[inline]
    pub(super) fn unit(&self, index: u32) -> &AtomicU64 {
        debug_assert!(index < self.most_units());
        // SAFETY: the table is as long as the heap can ever be.
        unsafe { &*self.at(UNITS + index as usize * 8).cast::<AtomicU64>() }
    }

    /// Where unit `index` of the heap begins.
    #[inline]
    pub(super) fn unit_offset(index: u32) -> u64 {
        (HEAP + index as usize * UNIT) as u64
    }

    /// The unit that holds `offset`, if it lies in the heap as it is now.
    pub(super) fn unit_of(&self, offset: u64) -> Option<u32> {
        let index = (offset as usize).checked_sub(HEAP)? / UNIT;
        let index = u32::try_from(index).ok()?;
        let zone = usize::from(index >= self.first_unit(1));
        (index < self.header().units[zone].load(Ordering::Acquire)).then_some(index)
    }

    /// An atomic word anywhere in the arena.
    ///
    /// # Safety
    /// `offset` is inside the heap, aligned, and never used as anything but a 32-bit atomic.
    #[inline]
    pub unsafe fn word(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: as the caller promises.
        unsafe { &*self.at(offset as usize).cast::<AtomicU32>() }
    }
}
