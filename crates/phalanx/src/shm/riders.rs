//! Handles in a message: they ride in its block, and are let go with it.
//!
//! A handle that is pickled into a block of the heap is not pickled for a process: whoever has the block keeps the object
//! alive, be it the putter, a queue or a getter. The receiver unpickles, which makes it a holder, and frees the block after
//! that. A block that nobody unpickles is freed too, by burial or with its queue, and its riders with it.
//!
//! The names of the riders lie at the end of the block, its head says how many there are, and the object's `riding` counts
//! them. All of this changes under the arena's lock; `riding` can be made anew from the blocks, which whoever steals that
//! lock does.

use super::arena::{Arena, arena};
use super::handle::{self, Handle, Name};
use super::heap::{self, OBJECT, block};
use super::point::{Point, reach};
use crate::prim::{AtomicU64, AtomicUsize, Ordering};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bytes that the name of one rider takes.
const SEAT: usize = 16;

/// Messages of this process whose handles do not ride yet: they are pickled, or about to be put.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What this thread packs belongs to a message that is being pickled, the innermost last.
    static GATHERED: RefCell<Vec<Vec<Handle>>> = const { RefCell::new(Vec::new()) };
    /// Objects that this thread is about to free, while it frees another one.
    static FREEING: RefCell<Option<Vec<u64>>> = const { RefCell::new(None) };
}

/// What the calling thread packs from now on, for nobody in particular, is to ride in the block of one message. Ended by
/// [`gathered`]; in between it may be begun and ended again, for another message.
pub fn gather() {
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    GATHERED.with_borrow_mut(|all| all.push(Vec::new()));
}

/// The handles that were packed since [`gather`].
pub fn gathered() -> Gathered {
    Gathered(GATHERED.with_borrow_mut(Vec::pop).unwrap_or_default())
}

/// Handles of one message. They keep their objects until they ride in its block (see [`load`]).
#[derive(Debug)]
pub struct Gathered(Vec<Handle>);

impl Drop for Gathered {
    fn drop(&mut self) {
        self.0.clear();
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

impl std::ops::Deref for Gathered {
    type Target = [Handle];

    fn deref(&self) -> &[Handle] {
        &self.0
    }
}

/// May a handle of that object be in a message of this process? `false`: every message with one that was pickled before
/// the call has been unpickled, or is lost.
pub fn may_travel(name: Name) -> bool {
    // In this order: a message rides before it is no longer under way.
    UNDER_WAY.load(Ordering::SeqCst) != 0 || name.is_on_its_way()
}

/// Does `handle` ride in a message that is being pickled? Then it is kept for that.
pub(super) fn joins(handle: &Handle) -> bool {
    GATHERED.with_borrow_mut(|all| match all.last_mut() {
        Some(gathered) => {
            gathered.push(handle.clone());
            true
        }
        None => false,
    })
}

/// The size of a block that has `size` bytes, with its head, and room for so many riders behind them.
pub fn size_with(size: usize, riders: usize) -> usize {
    match riders {
        0 => size,
        _ => size.next_multiple_of(8) + riders * SEAT,
    }
}

/// How many riders a block has.
pub fn count(offset: u64) -> usize {
    arena().map_or(0, |arena| {
        block(arena, offset).riders.load(Ordering::Acquire) as usize
    })
}

/// The two words of a rider's name: offset and serial.
fn seat(arena: &Arena, offset: u64, at: usize) -> &[AtomicU64; 2] {
    let size = block(arena, offset).size.load(Ordering::Relaxed) as usize;
    let from = offset as usize + size - (at + 1) * SEAT;
    // SAFETY: a block with riders has room for their names at its end, a multiple of 8 bytes from its beginning, which the
    // content does not reach.
    unsafe { &*arena.at(from).cast::<[AtomicU64; 2]>() }
}

/// Puts riders into a block, which this process owns, has room for them ([`size_with`]) and has none.
///
/// Killed in here, the block has no riders, or all; then `riding` may be too low, until the lock is stolen: so long the
/// objects are held by the process that died over it, since it is not buried before.
pub fn load(offset: u64, riders: &[Handle]) {
    let names: Vec<Name> = riders.iter().map(Handle::name).collect();
    load_names(offset, &names);
}

fn load_names(offset: u64, names: &[Name]) {
    let Some(arena) = arena().filter(|_| !names.is_empty()) else {
        return;
    };
    heap::while_none_is_freed(arena, || {
        for (at, name) in names.iter().enumerate() {
            let [place, serial] = seat(arena, offset, at);
            place.store(name.offset, Ordering::Relaxed);
            serial.store(name.serial, Ordering::Relaxed);
        }
        reach(Point::Load);
        // The commit.
        block(arena, offset)
            .riders
            .store(names.len() as u32, Ordering::Release);
        reach(Point::Load);
        for name in names {
            block(arena, name.offset).riding.fetch_add(1, Ordering::AcqRel);
        }
    });
}

/// The riders of block `from`, which stays meanwhile, ride in block `to` as well: as [`load`].
pub fn load_as(from: u64, to: u64) {
    let Some(arena) = arena().filter(|_| count(from) != 0) else {
        return;
    };
    let names: Vec<Name> = heap::while_none_is_freed(arena, || names(arena, from).collect());
    load_names(to, &names);
}

/// With the arena locked: those whose objects are still there.
fn names(arena: &Arena, offset: u64) -> impl Iterator<Item = Name> + '_ {
    let count = block(arena, offset).riders.load(Ordering::Acquire) as usize;
    (0..count).filter_map(move |at| {
        let [offset, serial] = seat(arena, offset, at)
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed));
        let same = heap::is_still(arena, offset, OBJECT)
            && block(arena, offset).serial.load(Ordering::Relaxed) == serial;
        same.then_some(Name { offset, serial })
    })
}

/// Somebody reads the message of a block as bytes, and may unpickle it who knows when: its riders' objects stay as long as
/// the tree.
pub fn keep(offset: u64) {
    let Some(arena) = arena().filter(|_| count(offset) != 0) else {
        return;
    };
    heap::while_none_is_freed(arena, || {
        names(arena, offset).for_each(|name| {
            block(arena, name.offset).transit.fetch_add(1, Ordering::AcqRel);
        });
    });
}

/// Lets the riders of a block go, which this process owns.
///
/// Killed anywhere in here, the block has its riders or not, and an object that nobody holds any more is the dead's own.
pub fn unload(offset: u64) {
    if let Some(arena) = arena() {
        unload_in(arena, offset);
    }
}

pub(super) fn unload_in(arena: &Arena, offset: u64) {
    let riders = &block(arena, offset).riders;
    if riders.load(Ordering::Acquire) == 0 {
        return;
    }
    let mut ours = Vec::new();
    heap::while_none_is_freed(arena, || {
        for name in names(arena, offset) {
            if handle::let_go_riding(arena, name.offset) {
                ours.push(name.offset);
            }
            reach(Point::Unload);
        }
        riders.store(0, Ordering::Release);
        reach(Point::Unload);
    });
    free_all(ours);
}

/// Frees objects that are ours. What they carry may be freed by that in turn: one after the other, not one inside the other.
fn free_all(objects: Vec<u64>) {
    if objects.is_empty() {
        return;
    }
    let inside = FREEING.try_with(|waiting| match &mut *waiting.borrow_mut() {
        Some(waiting) => {
            waiting.extend(&objects);
            true
        }
        nobody => {
            *nobody = Some(objects.clone());
            false
        }
    });
    match inside {
        Ok(true) => {}
        Ok(false) => {
            let next = || {
                FREEING.with_borrow_mut(|waiting| {
                    let next = waiting.as_mut().and_then(Vec::pop);
                    if next.is_none() {
                        *waiting = None;
                    }
                    next
                })
            };
            std::iter::from_fn(next).for_each(handle::free);
        }
        // The thread is at its end.
        Err(_) => objects.into_iter().for_each(handle::free),
    }
}

/// With the arena locked, after somebody died who had it: counts every object's riders anew.
pub(super) fn recount(arena: &Arena) {
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for (offset, _) in heap::blocks(arena) {
        names(arena, offset).for_each(|name| *counts.entry(name.offset).or_default() += 1);
    }
    for (offset, owner) in heap::blocks(arena) {
        if owner == OBJECT {
            // Not 0 first: who looks meanwhile, without the lock, would see an object that nobody holds.
            let count = counts.get(&offset).copied().unwrap_or(0);
            block(arena, offset).riding.store(count, Ordering::Release);
        }
    }
}
