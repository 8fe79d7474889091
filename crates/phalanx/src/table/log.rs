//! Where the records of a table lie: chunks, written from the beginning to the end. What is replaced stays as garbage until
//! the rest moves to new chunks.

use super::record::Record;
use super::spine::Spine;
use super::whole::Table;
use crate::prim::{AtomicU64, Ordering};
use crate::shm::UNIT;
use crate::shm::heap::{self, Full};
use crate::shm::point::{Point, reach};

/// The first words of a chunk.
#[derive(Debug)]
#[repr(C)]
struct Chunk {
    /// The chunk before this one, or 0.
    next: AtomicU64,
    /// Words given out.
    fill: AtomicU64,
    capacity: AtomicU64,
}

const HEAD: usize = heap::HEAD + size_of::<Chunk>();
/// Sizes of chunks in bytes: a table begins with small ones.
const SIZES: [usize; 4] = [1024, 4096, 16384, UNIT];
/// So much garbage, in words, is never too much.
const TOLERATED: u64 = 4096;

fn chunk<'a>(offset: u64) -> &'a Chunk {
    // SAFETY: chunks begin the blocks that spines and chunks name, and are all atomics.
    unsafe { &*heap::bytes(offset).cast::<Chunk>() }
}

/// The words at an offset.
#[inline]
pub(super) fn at(offset: u64) -> *mut u64 {
    heap::bytes(offset).wrapping_sub(heap::HEAD).cast()
}

fn fits(spine: &Spine, words: usize) -> bool {
    let newest = spine.chunk.load(Ordering::Relaxed);
    newest != 0 && {
        let chunk = chunk(newest);
        chunk.fill.load(Ordering::Relaxed) + words as u64 <= chunk.capacity.load(Ordering::Relaxed)
    }
}

/// Should the records move before so many words are written?
#[inline]
pub(super) fn is_wasteful(spine: &Spine, words: usize, kept: u64) -> bool {
    spine.logged.load(Ordering::Relaxed) > 2 * kept + TOLERATED && !fits(spine, words)
}

/// Room for so many words.
#[inline]
pub(super) fn place(table: &Table, spine: &Spine, words: usize) -> Result<u64, Full> {
    if !fits(spine, words) {
        let new = new_chunk(spine, words)?;
        heap::give_to(new, table.object());
        reach(Point::TableGrow);
        spine.chunk.store(new, Ordering::Release);
    }
    Ok(take(spine, words))
}

fn take(spine: &Spine, words: usize) -> u64 {
    let newest = spine.chunk.load(Ordering::Relaxed);
    let chunk = chunk(newest);
    // Before anything there counts, so that nothing that counts is ever beyond it.
    let from = chunk.fill.load(Ordering::Relaxed);
    chunk.fill.store(from + words as u64, Ordering::Release);
    let logged = spine.logged.load(Ordering::Relaxed);
    spine.logged.store(logged + words as u64, Ordering::Relaxed);
    newest + HEAD as u64 + 8 * from
}

/// A chunk with room for so many words, ours so far, which leads to the newest one.
fn new_chunk(spine: &Spine, words: usize) -> Result<u64, Full> {
    let enough =
        |size: usize| (size - HEAD) / 8 >= words && size as u64 > 2 * spine.logged.load(Ordering::Relaxed);
    let size = SIZES.into_iter().find(|&size| enough(size)).unwrap_or(UNIT);
    let offset = heap::allocate(size)?;
    let new = chunk(offset);
    new.next
        .store(spine.chunk.load(Ordering::Relaxed), Ordering::Relaxed);
    new.fill.store(0, Ordering::Relaxed);
    new.capacity.store(((size - HEAD) / 8) as u64, Ordering::Relaxed);
    Ok(offset)
}

/// Copies a record to the chunks of a spine that nobody sees yet.
pub(super) fn copy(spine: &Spine, record: Record<'_>) -> Result<u64, Full> {
    let words = record.len();
    if !fits(spine, words) {
        spine.chunk.store(new_chunk(spine, words)?, Ordering::Relaxed);
    }
    let offset = take(spine, words);
    // SAFETY: room for the record that nobody else uses.
    unsafe { record.write(at(offset), record.large().map_or(0, |large| large.stamp)) };
    Ok(offset)
}

/// All chunks of a spine, the newest first.
pub(super) fn chunks(spine: &Spine) -> impl Iterator<Item = u64> {
    let first = spine.chunk.load(Ordering::Acquire);
    let next = |&offset: &u64| Some(chunk(offset).next.load(Ordering::Acquire));
    std::iter::successors(Some(first), next).take_while(|&offset| offset != 0)
}

/// Words given out in all of them.
pub(super) fn recount(spine: &Spine) -> u64 {
    chunks(spine)
        .map(|offset| chunk(offset).fill.load(Ordering::Relaxed))
        .sum()
}

/// They become parts of an object.
pub(super) fn give_all_to(spine: &Spine, object: u64) {
    chunks(spine).for_each(|offset| heap::give_to(offset, object));
}

/// Frees the chunks of a spine that does not count any more.
pub(super) fn free_all(spine: &Spine) {
    let all: Vec<u64> = chunks(spine).collect();
    all.into_iter().for_each(heap::free);
}
