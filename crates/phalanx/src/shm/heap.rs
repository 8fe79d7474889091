//! Blocks of shared memory. Whatever instruction a process is killed at, the heap is valid: see the README.

use super::arena::{Arena, arena};
use super::layout::{Block, CLASSES, HEAP, Header, LARGE, Slab, UNIT, ZONES};
use super::point::{self, Point};
use super::{riders, tree};
use crate::prim::{AtomicU64, Ordering};
use crate::sys;
use rustix::fd::AsFd;

/// The owner word of an object with handles.
pub(super) const OBJECT: u64 = 1 << 63;
/// The owner word of a part is this and the offset of the object.
pub(super) const PART: u64 = 1 << 62;

/// Kinds of used units.
const RUN: u64 = 1 << 56;
const SLAB: u64 = 2 << 56;
const KIND: u64 = 0xFF << 56;

/// So many bytes may stay resident in free units; what is freed beyond goes back to the system at once.
const RETAINED: u64 = 192 << 20;
/// What the system gives and takes back at once.
const PAGE: usize = 4096;
/// Runs of this many units and more lie in the zone of the large ones; freed runs below are always kept resident.
const LARGE_RUN: u32 = 16;

/// No room: the arena cannot hold so much, or the system gives no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Bytes at the beginning of each block that belong to the heap.
pub const HEAD: usize = size_of::<Block>();

/// A block of `size` bytes with its head, owned by this process. Its content is arbitrary.
///
/// # Errors
/// [`Full`].
pub fn allocate(size: usize) -> Result<u64, Full> {
    let arena = arena().ok_or(Full)?;
    let owner = u64::from(tree::number());
    let offset = match CLASSES.iter().position(|&class| size <= class) {
        Some(class) => small(arena, class, owner)?,
        None => run(arena, size, owner)?,
    };
    block(arena, offset).size.store(size as u64, Ordering::Relaxed);
    Ok(offset)
}

/// The head of the block at `offset`, which was given by [`allocate`].
#[inline]
pub(super) fn block(arena: &Arena, offset: u64) -> &Block {
    // SAFETY: blocks are 64-byte aligned and inside the file; the head is all atomics.
    unsafe { &*arena.at(offset as usize).cast::<Block>() }
}

/// Gives back a block that this process owns, or that only this process can reach.
pub fn free(offset: u64) {
    if let Some(arena) = arena() {
        release(arena, offset, false);
    }
}

/// As [`free`], for a block of more than a unit whose pages [`discard`] has given back already.
pub fn free_empty(offset: u64) {
    if let Some(arena) = arena() {
        release(arena, offset, true);
    }
}

/// Gives back the whole pages between two distances from the beginning of a block of more than a unit, which this
/// process owns and whose content there it does not need any more. The first page stays: it says whose the block is.
///
/// Killed anywhere in here, the block is this process's, and burial frees it.
pub fn discard(offset: u64, from: usize, to: usize) {
    let Some(arena) = arena() else { return };
    let (from, to) = (from.next_multiple_of(PAGE).max(PAGE), to & !(PAGE - 1));
    let len = arena
        .unit_of(offset)
        .filter(|&index| Arena::unit_offset(index) == offset)
        .map(|index| arena.unit(index).load(Ordering::Acquire))
        .filter(|word| word & KIND != SLAB)
        .map_or(0, |word| word as u32 as usize * UNIT);
    if from < to && to <= len {
        // SAFETY: whole pages of a run that is the caller's, behind its head; nobody needs their content.
        unsafe { sys::discard(arena.at(offset as usize + from), to - from) };
    }
}

/// The caller alone can free this block. Killed anywhere in here, it is free, or has the owner that it had.
fn release(arena: &Arena, offset: u64, empty: bool) {
    let Some(index) = arena.unit_of(offset) else {
        return;
    };
    riders::unload_in(arena, offset);
    let word = arena.unit(index).load(Ordering::Acquire);
    if word & KIND == SLAB {
        block(arena, offset).owner.store(0, Ordering::Release);
        slab(arena, index).full.store(0, Ordering::Release);
        return;
    }
    let len = word as u32;
    let header = arena.header();
    let bytes = u64::from(len) * UNIT as u64;
    let kept = header
        .retained
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes);
    if len >= LARGE_RUN && (empty || kept > RETAINED) {
        // Behind the first page, which says whose it is until the commit.
        // SAFETY: the run is still ours by the unit table, and nobody needs its content.
        unsafe { sys::discard(arena.at(offset as usize + PAGE), bytes as usize - PAGE) };
        forget_retained(header, bytes);
    }
    header.arena.with(
        || mend(arena),
        || {
            header.lowest[zone_of(arena, index)].fetch_min(index, Ordering::Relaxed);
            // The commit.
            arena.unit(index).store(0, Ordering::Release);
        },
    );
}

/// Runs `f` while no object turns from held to unused.
pub(super) fn while_none_is_freed<R>(arena: &Arena, f: impl FnOnce() -> R) -> R {
    arena.header().arena.with(|| mend(arena), f)
}

/// With the arena locked: somebody died who had it. The units are what their words say; the shortcuts may be wrong.
fn mend(arena: &Arena) {
    let header = arena.header();
    for (zone, lowest) in header.lowest.iter().enumerate() {
        lowest.store(arena.first_unit(zone), Ordering::Relaxed);
    }
    let slabs: Vec<(u32, u64)> = units(arena).filter(|(_, word)| word & KIND == SLAB).collect();
    for (class, first) in header.slabs.iter().enumerate() {
        let class = class as u64;
        let mut next = 0;
        for &(index, _) in slabs.iter().filter(|(_, word)| word >> 32 & 0xFF == class) {
            slab(arena, index).next.store(next, Ordering::Release);
            next = index;
        }
        first.store(next, Ordering::Release);
    }
    riders::recount(arena);
}

fn slab(arena: &Arena, index: u32) -> &Slab {
    // SAFETY: the unit is a slab, whose first 64 bytes are its head, all atomics.
    unsafe { &*arena.at(Arena::unit_offset(index) as usize).cast::<Slab>() }
}

/// The slots of slab `index` of size class `class`.
fn slots(index: u32, class: usize) -> impl Iterator<Item = u64> {
    let first = Arena::unit_offset(index) + size_of::<Slab>() as u64;
    let size = CLASSES[class];
    (0..(UNIT - size_of::<Slab>()) / size).map(move |at| first + (at * size) as u64)
}

fn small(arena: &Arena, class: usize, owner: u64) -> Result<u64, Full> {
    let header = arena.header();
    loop {
        // The slab that served last, then all of them. Unit 0 is never a slab, so 0 means none.
        let hint = header.hints[class].load(Ordering::Acquire);
        let mut index = if hint != 0 {
            hint
        } else {
            header.slabs[class].load(Ordering::Acquire)
        };
        let mut from_hint = hint != 0;
        while index != 0 {
            let this = slab(arena, index);
            if this.full.load(Ordering::Relaxed) == 0 {
                if let Some(offset) = slots(index, class).find(|&offset| {
                    let word = &block(arena, offset).owner;
                    word.load(Ordering::Relaxed) == 0
                        && word
                            .compare_exchange(0, owner, Ordering::AcqRel, Ordering::Relaxed)
                            .is_ok()
                }) {
                    header.hints[class].store(index, Ordering::Release);
                    return Ok(offset);
                }
                this.full.store(1, Ordering::Release);
            }
            index = if from_hint {
                from_hint = false;
                header.slabs[class].load(Ordering::Acquire)
            } else {
                this.next.load(Ordering::Acquire)
            };
        }
        let before = header.slabs[class].load(Ordering::Acquire);
        header.arena.with(
            || mend(arena),
            || -> Result<(), Full> {
                if header.slabs[class].load(Ordering::Acquire) != before {
                    return Ok(()); // another thread has just made one
                }
                let index = find(arena, 0, 1)?;
                slots(index, class).for_each(|offset| {
                    block(arena, offset).owner.store(0, Ordering::Relaxed);
                    block(arena, offset).riders.store(0, Ordering::Relaxed);
                });
                let new = slab(arena, index);
                new.next.store(before, Ordering::Relaxed);
                new.full.store(0, Ordering::Relaxed);
                arena
                    .unit(index)
                    .store(SLAB | (class as u64) << 32 | 1, Ordering::Release);
                point::reach(Point::Slab);
                header.slabs[class].store(index, Ordering::Release);
                header.hints[class].store(index, Ordering::Release);
                Ok(())
            },
        )?;
    }
}

fn run(arena: &Arena, size: usize, owner: u64) -> Result<u64, Full> {
    let len = u32::try_from(size.div_ceil(UNIT)).map_err(|_| Full)?;
    let (zone, len) = match len {
        0..LARGE_RUN => (0, len),
        _ => (1, len.checked_next_multiple_of(LARGE).ok_or(Full)?),
    };
    if zone == 1 {
        // What the dead had may be just what is wanted.
        tree::patrol();
    }
    let header = arena.header();
    let index = header.arena.with(
        || mend(arena),
        || -> Result<u32, Full> {
            let index = find(arena, zone, len)?;
            let offset = Arena::unit_offset(index);
            block(arena, offset).owner.store(owner, Ordering::Relaxed);
            block(arena, offset).riders.store(0, Ordering::Relaxed);
            point::reach(Point::Run);
            // The commit.
            arena.unit(index).store(RUN | u64::from(len), Ordering::Release);
            Ok(index)
        },
    )?;
    forget_retained(header, u64::from(len) * UNIT as u64);
    let offset = Arena::unit_offset(index);
    if zone == 1 {
        // Only what was asked for: the rest of the run may never be touched.
        let len = size.next_multiple_of(4096);
        if sys::allocate(arena.file().as_fd(), offset, len as u64).is_err() {
            release(arena, offset, false);
            return Err(Full);
        }
        // SAFETY: whole pages of the mapping, inside the file.
        unsafe { sys::populate(arena.at(offset as usize), len) };
    }
    Ok(offset)
}

/// So many bytes of those that were kept are so no longer.
fn forget_retained(header: &Header, bytes: u64) {
    let _ = header
        .retained
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            Some(kept.saturating_sub(bytes))
        });
}

fn zone_of(arena: &Arena, index: u32) -> usize {
    usize::from(index >= arena.first_unit(1))
}

/// `len` free units in a row, with the arena locked. Extends the file if need be.
fn find(arena: &Arena, zone: usize, len: u32) -> Result<u32, Full> {
    let header = arena.header();
    let units = header.units[zone].load(Ordering::Acquire);
    let mut index = header.lowest[zone]
        .load(Ordering::Relaxed)
        .max(arena.first_unit(zone));
    let mut start = index;
    let mut lowest = None;
    while index < units {
        match arena.unit(index).load(Ordering::Acquire) {
            0 => {
                lowest.get_or_insert(index);
                index += 1;
                if index - start == len {
                    break;
                }
            }
            word => {
                index += (word as u32).max(1);
                start = index;
            }
        }
    }
    if index - start < len {
        // `start` begins the free tail of the file, or is its end.
        let wanted = start.checked_add(len).ok_or(Full)?;
        if wanted > arena.last_unit(zone) {
            return Err(Full);
        }
        let grown = wanted.max(units + 16).min(arena.last_unit(zone));
        let length = HEAP + grown as usize * UNIT;
        point::reach(Point::Grow);
        if header.length.load(Ordering::Relaxed) < length as u64 {
            sys::extend(arena.file().as_fd(), length).map_err(|_| Full)?;
            header.length.store(length as u64, Ordering::Relaxed);
        }
        header.units[zone].store(grown, Ordering::Release);
    }
    let lowest = lowest.filter(|&lowest| lowest != start).unwrap_or(start + len);
    header.lowest[zone].store(lowest, Ordering::Relaxed);
    Ok(start)
}

/// Where runs and slabs begin, with their words.
fn units(arena: &Arena) -> impl Iterator<Item = (u32, u64)> {
    (0..ZONES).flat_map(move |zone| {
        let units = arena.header().units[zone].load(Ordering::Acquire);
        let mut index = arena.first_unit(zone);
        std::iter::from_fn(move || {
            while index < units {
                let this = index;
                let word = arena.unit(this).load(Ordering::Acquire);
                index += (word as u32).max(1);
                if word != 0 {
                    return Some((this, word));
                }
            }
            None
        })
    })
}

/// Every used block, as (offset, owner word). What others allocate and free meanwhile may come or not; a run that ends in
/// that moment may come with a word of whatever lies there then, so whoever changes a block looks twice: see [`is_still`].
pub(super) fn blocks(arena: &Arena) -> impl Iterator<Item = (u64, u64)> {
    units(arena)
        .flat_map(move |(index, word)| {
            let class = (word >> 32 & 0xFF) as usize;
            let (slots, run) = if word & KIND == SLAB {
                (Some(slots(index, class.min(CLASSES.len() - 1))), None)
            } else {
                (None, Some(Arena::unit_offset(index)))
            };
            slots.into_iter().flatten().chain(run)
        })
        .map(move |offset| (offset, block(arena, offset).owner.load(Ordering::Acquire)))
        .filter(|&(_, owner)| owner != 0)
}

/// Does a used block begin at `offset`?
pub(super) fn is_block(arena: &Arena, offset: u64) -> bool {
    let Some(index) = arena.unit_of(offset) else {
        return false;
    };
    let word = arena.unit(index).load(Ordering::Acquire);
    let class = (word >> 32 & 0xFF) as usize;
    match word & KIND {
        RUN => offset == Arena::unit_offset(index),
        SLAB => class < CLASSES.len() && slots(index, class).any(|slot| slot == offset),
        _ => false,
    }
}

/// Is the block at `offset` one that `owner` owns? If so it stays, since only the caller frees what `owner` owns.
pub(super) fn is_still(arena: &Arena, offset: u64, owner: u64) -> bool {
    is_block(arena, offset) && block(arena, offset).owner.load(Ordering::Acquire) == owner
}

/// Frees the blocks that the dead process `number` owned itself, and the parts of an object that it was about to free.
pub(super) fn take_back(arena: &Arena, number: u32) {
    let own = u64::from(number);
    let own: Vec<u64> = blocks(arena)
        .filter(|&(offset, owner)| owner == own && is_still(arena, offset, own))
        .map(|(offset, _)| offset)
        .collect();
    if own.is_empty() {
        return;
    }
    for (offset, owner) in blocks(arena) {
        let whole = owner & !PART;
        if owner & PART != 0 && own.binary_search(&whole).is_ok() && is_still(arena, offset, owner) {
            release(arena, offset, false);
        }
    }
    own.into_iter().for_each(|offset| release(arena, offset, false));
}

/// Frees the parts of the object at `whole` that `reachable` does not know.
pub fn free_parts(whole: u64, reachable: impl Fn(u64) -> bool) {
    let Some(arena) = arena() else { return };
    let part = PART | whole;
    for (offset, owner) in blocks(arena) {
        if owner == part && !reachable(offset) && is_still(arena, offset, part) {
            release(arena, offset, false);
        }
    }
}

/// Says that the block at `offset` belongs to the object at `whole` from now on.
pub fn give_to(offset: u64, whole: u64) {
    if let Some(arena) = arena() {
        block(arena, offset).owner.store(PART | whole, Ordering::Release);
    }
}

/// Says that the block at `offset` belongs to this process from now on.
pub fn take_over(offset: u64) {
    if let Some(arena) = arena() {
        let mine = u64::from(tree::number());
        block(arena, offset).owner.store(mine, Ordering::Release);
    }
}

/// The bytes of a block behind its head.
#[inline]
pub fn bytes(offset: u64) -> *mut u8 {
    arena().map_or(std::ptr::null_mut(), |arena| arena.at(offset as usize + HEAD))
}

/// How many bytes the caller of [`allocate`] asked for, without the head.
pub fn len(offset: u64) -> usize {
    arena().map_or(0, |arena| {
        block(arena, offset).size.load(Ordering::Relaxed) as usize - HEAD
    })
}

/// How many bytes of the heap are in use, and how long the file is.
pub fn usage() -> (u64, u64) {
    let Some(arena) = arena() else { return (0, 0) };
    let used = blocks(arena)
        .map(|(offset, _)| block(arena, offset).size.load(Ordering::Relaxed))
        .sum();
    (used, arena.header().length.load(Ordering::Relaxed))
}

/// Every used block with its owner word (see the README) and its size in bytes, for whoever looks for a leak.
pub fn survey() -> Vec<(u64, u64, u64)> {
    let Some(arena) = arena() else { return Vec::new() };
    let size = |offset| block(arena, offset).size.load(Ordering::Relaxed);
    blocks(arena)
        .map(|(offset, owner)| (offset, owner, size(offset)))
        .collect()
}

/// A word of the heap as an atomic, for those above who know what lies there.
///
/// # Safety
/// `offset` is aligned to 8, inside a live block, and used as a 64-bit atomic only.
#[inline]
pub unsafe fn word(offset: u64) -> &'static AtomicU64 {
    // SAFETY: as the caller promises; the arena is never unmapped.
    unsafe {
        &*arena()
            .map_or(std::ptr::null_mut(), |arena| arena.at(offset as usize))
            .cast::<AtomicU64>()
    }
}
