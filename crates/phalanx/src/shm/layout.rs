//! What stands where in the arena. Every process of a tree reads it with the same code or not at all: see `VERSION`.

use super::guard::Guard;
use crate::prim::{AtomicU32, AtomicU64};

/// Reads `phalanx1` in a dump.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"phalanx1");
/// Grows with every change of anything that lies in the arena.
pub(super) const VERSION: u32 = 3;

/// The unit of the heap, in bytes.
pub const UNIT: usize = 64 << 10;
/// Runs of this many units and more lie in a zone of their own, at multiples of it: the system may use huge pages there.
pub const LARGE: u32 = 32;
/// Zones of the heap: small blocks, large runs.
pub(super) const ZONES: usize = 2;
/// How many processes can live in one tree at one time.
pub const SEATS: usize = 1024;
/// How many process numbers there are; 0 is nobody.
pub(super) const NUMBERS: usize = 1 << 16;
/// Thread identities: this many bits below the process number.
pub(super) const THREAD_BITS: u32 = 14;
/// The most that an arena can hold, in bytes, if the system lets us reserve as much.
pub(super) const MOST: usize = 64 << 30;
/// The least worth trying.
pub(super) const LEAST: usize = 1 << 30;
/// Room for the wait queues, whose layout `wait` knows.
pub const LOT_BYTES: usize = 2 << 20;

/// The size classes of small blocks, in bytes.
pub(super) const CLASSES: [usize; 7] = [256, 512, 1024, 2048, 4096, 8192, 16384];

/// The beginning of the arena.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Header {
    pub magic: AtomicU64,
    pub version: AtomicU32,
    pub processes_size: AtomicU32,
    /// Bytes of address space; the same in every process.
    pub reserved: AtomicU64,
    /// Chosen at random: arenas of different trees differ.
    pub tree: [AtomicU64; 2],
    /// Behind the last unit of each zone that the file has now.
    pub units: [AtomicU32; ZONES],
    /// No unit of the zone below this one is free.
    pub lowest: [AtomicU32; ZONES],
    /// The length of the file in bytes.
    pub length: AtomicU64,
    /// Bytes in free units that were not given back to the system, roughly.
    pub retained: AtomicU64,
    pub arena: Guard,
    pub last_number: AtomicU32,
    pub last_serial: AtomicU64,
    /// When somebody last looked who is alive.
    pub patrol: AtomicU64,
    /// When somebody last looked for deadlocks among processes.
    pub look: AtomicU64,
    pub slabs: [AtomicU32; CLASSES.len()],
    pub hints: [AtomicU32; CLASSES.len()],
    /// The number of the process in each seat, 0 if it is free.
    pub seats: [AtomicU32; SEATS],
}

/// One process. The name is written once, before anybody can look for it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Process {
    pub state: AtomicU32,
    pub pid: AtomicU32,
    pub started: AtomicU64,
    pub parent: AtomicU32,
    pub seat: AtomicU32,
    /// Its wait status, once known: see `KNOWN`.
    pub status: AtomicU32,
    /// When it was conceived, while UNBORN without a pid; 0: it is expected as long as its parent lives.
    pub since: AtomicU64,
    /// What distinguishes the program that it runs (see `sys::image`), 0 if that is not known.
    pub image: AtomicU64,
    /// Grows whenever one of its threads falls asleep or wakes at something shared.
    pub activity: AtomicU64,
    /// The `activity` at which all its threads were found asleep for good.
    pub quiet: AtomicU64,
    pub name: [AtomicU64; 6],
}

/// Set in `Process::status` once the lower bits are a wait status.
pub(super) const KNOWN: u32 = 1 << 31;

/// What begins every block of the heap.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Block {
    /// See the table in the README.
    pub owner: AtomicU64,
    /// Bytes, with this head.
    pub size: AtomicU64,
    /// What kind of object it is.
    pub kind: AtomicU32,
    /// Handles that are pickled for nobody in particular and not yet unpickled.
    pub transit: AtomicU32,
    /// Objects that lie in one place one after the other have different ones.
    pub serial: AtomicU64,
    /// Handles of this object that ride in blocks.
    pub riding: AtomicU32,
    /// Handles that ride in this block: see `riders.rs`.
    pub riders: AtomicU32,
}

/// A block with handles: who holds it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Object {
    /// Its owner is `OBJECT`.
    pub block: Block,
    /// One bit for each seat that holds it.
    pub holders: [AtomicU64; SEATS / 64],
}

/// The first 64 bytes of a slab.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slab {
    /// The next slab of the class, 0 at the end.
    pub next: AtomicU32,
    /// No free slot was found lately.
    pub full: AtomicU32,
}

/// Where things begin.
pub(super) const PROCESSES: usize = 16 << 10;
pub(super) const LOT: usize = PROCESSES + NUMBERS * size_of::<Process>();
pub(super) const UNITS: usize = LOT + LOT_BYTES;
/// The heap begins behind the largest unit table, so that it begins at the same place in every arena.
pub(super) const HEAP: usize = (UNITS + MOST / UNIT * size_of::<AtomicU64>()).next_multiple_of(2 << 20);

const _: () = {
    assert!(size_of::<Header>() <= PROCESSES);
    assert!(size_of::<Header>() == 4288);
    assert!(size_of::<Process>() == 128);
    assert!(size_of::<Block>() == 64);
    assert!(size_of::<Object>() == 192);
    assert!(size_of::<Slab>() == 64);
    assert!(UNIT * LARGE as usize == 2 << 20);
    assert!(HEAP.is_multiple_of(UNIT) && UNITS.is_multiple_of(4096) && LOT.is_multiple_of(4096));
};
