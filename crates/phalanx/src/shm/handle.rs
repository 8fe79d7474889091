//! Objects with handles: alive as long as a process holds one, or one is on its way.

use super::arena::{Arena, arena};
use super::heap::{self, Full, OBJECT};
use super::layout::{Block, Object, SEATS};
use super::point::{Point, reach};
use super::{riders, tree};
use crate::prim::{AtomicBool, Guarded, Ordering};
use std::cell::Cell;
use std::collections::BTreeMap;

/// How often this process holds each object.
static HELD: Guarded<BTreeMap<u64, u32>> = Guarded::new(BTreeMap::new());

thread_local! {
    /// The process that this thread pickles for, 0 for nobody in particular.
    static FOR: Cell<u32> = const { Cell::new(0) };
}

/// In a number from [`Handle::pack`]: above this bit stands the process that it is meant for.
const TO: u32 = 48;
/// In a number from [`Handle::pack`]: the handle rides in the block of its message.
const RIDES: u64 = 1 << 47;

/// What this process has taken up of the handles meant for it, until it begins: see [`begin`].
static KEPT: Guarded<Vec<Handle>> = Guarded::new(Vec::new());
static BEGUN: AtomicBool = AtomicBool::new(false);

/// From now on the calling thread pickles for the process `number`, 0 for nobody in particular. Returns what was said
/// before.
pub fn pack_for(number: u32) -> u32 {
    FOR.replace(number)
}

/// All that this process was given at its start is unpickled.
pub fn begin() {
    if !BEGUN.swap(true, Ordering::AcqRel) {
        drop(KEPT.with(std::mem::take));
    }
}

/// Bytes in front of an object's own data.
pub const OBJECT_HEAD: usize = size_of::<Object>();

/// One handle of this process to a shared object. The last one of the last process frees the object.
#[derive(Debug, PartialEq, Eq)]
pub struct Handle {
    offset: u64,
}

/// Names an object without holding it: it may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// Where it lay.
    pub offset: u64,
    /// Which of those that lay there.
    pub serial: u64,
}

impl Name {
    /// Does any process hold it, or is a handle on its way?
    pub fn is_held(self) -> bool {
        // Without the lock a handle that is packed, and then let go, may be seen nowhere: neither held, later on its way.
        self.is_there_and(is_held)
            || (self.is_there_and(|_| true)
                && arena()
                    .is_some_and(|arena| heap::while_none_is_freed(arena, || self.is_there_and(is_held))))
    }

    /// Is a handle on its way, pickled and not yet unpickled?
    pub fn is_on_its_way(self) -> bool {
        self.is_there_and(|object| is_on_its_way(&object.block))
    }

    fn is_there_and(self, what: impl FnOnce(&Object) -> bool) -> bool {
        arena().is_some_and(|arena| {
            let object = object(arena, self.offset);
            object.block.owner.load(Ordering::Acquire) == OBJECT
                && object.block.serial.load(Ordering::Relaxed) == self.serial
                && what(object)
        })
    }
}

/// Why a handle cannot be taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Its object has been freed, or the number was never a handle of this kind.
    NoSuch,
    /// It belongs to another tree of processes, or this process to none.
    OtherTree,
}

fn object(arena: &Arena, offset: u64) -> &Object {
    // SAFETY: an object's block is 64-byte aligned, inside the file, at least that long, and all atomics.
    unsafe { &*arena.at(offset as usize).cast::<Object>() }
}

fn is_on_its_way(block: &Block) -> bool {
    block.transit.load(Ordering::Acquire) != 0 || block.riding.load(Ordering::Acquire) != 0
}

fn is_held(object: &Object) -> bool {
    // First who may take it up, then who has: a handle that is taken up meanwhile is seen here or there. One that is packed
    // meanwhile may not be seen.
    is_on_its_way(&object.block)
        || object
            .holders
            .iter()
            .any(|word| word.load(Ordering::Acquire) != 0)
}

impl Handle {
    /// A new object of `kind` with `size` bytes, zeroed, and its first handle.
    ///
    /// # Errors
    /// [`Full`] if there is no memory.
    pub fn new(kind: u32, size: usize) -> Result<Self, Full> {
        let offset = heap::allocate(OBJECT_HEAD + size)?;
        let arena = arena().ok_or(Full)?;
        // SAFETY: the block is ours alone and that long.
        unsafe { std::ptr::write_bytes(arena.at(offset as usize + OBJECT_HEAD), 0, size) };
        Self::adopt(offset, kind)
    }

    /// The head of an object that nobody but this process knows yet, and a handle to it.
    fn dress(arena: &Arena, offset: u64, kind: u32) -> Self {
        let object = object(arena, offset);
        object.block.kind.store(kind, Ordering::Relaxed);
        object.block.transit.store(0, Ordering::Relaxed);
        object.block.riding.store(0, Ordering::Relaxed);
        let serial = arena.header().last_serial.fetch_add(1, Ordering::Relaxed) + 1;
        object.block.serial.store(serial, Ordering::Relaxed);
        object
            .holders
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        Self::hold(arena, offset)
    }

    fn hold(arena: &Arena, offset: u64) -> Self {
        let number = tree::number();
        HELD.with(|held| {
            let count = held.entry(offset).or_insert(0);
            *count += 1;
            if *count == 1 {
                set(arena, offset, arena.process(number).seat.load(Ordering::Relaxed));
            }
        });
        Self { offset }
    }

    /// Turns a block that this process owns, with room for an object's head in front, into an object of `kind`.
    ///
    /// # Errors
    /// [`Full`] without an arena.
    pub fn adopt(offset: u64, kind: u32) -> Result<Self, Full> {
        let arena = arena().ok_or(Full)?;
        let handle = Self::dress(arena, offset, kind);
        // The commit: from here on it is an object.
        object(arena, offset).block.owner.store(OBJECT, Ordering::Release);
        Ok(handle)
    }

    /// The number that stands for the object in a pickle; one [`Handle::unpack`] is expected for it. Meant for a process
    /// (see [`pack_for`]), that one holds the object from now on, as long as it lives or is expected. Meant for a message
    /// (see [`riders::gather`]), the object stays as long as the message, and it may be taken up any number of times.
    pub fn pack(&self) -> ([u64; 2], u64) {
        let Some(arena) = arena() else { return ([0; 2], 0) };
        let to = FOR.get();
        let seat = arena.process(to).seat.load(Ordering::Acquire);
        if to != 0 && (seat as usize) < SEATS {
            set(arena, self.offset, seat);
            return (arena.tree(), self.offset | u64::from(to) << TO);
        }
        if riders::joins(self) {
            return (arena.tree(), self.offset | RIDES);
        }
        object(arena, self.offset)
            .block
            .transit
            .fetch_add(1, Ordering::AcqRel);
        (arena.tree(), self.offset)
    }

    /// Takes up what [`Handle::pack`] gave, in any process of the tree.
    ///
    /// # Errors
    /// [`Stale`]: another tree, or no object of `kind` at that place.
    pub fn unpack(tree: [u64; 2], packed: u64, kind: u32) -> Result<Self, Stale> {
        let (offset, to) = (packed & (RIDES - 1), packed >> TO);
        let arena = arena()
            .filter(|arena| arena.tree() == tree)
            .ok_or(Stale::OtherTree)?;
        if !heap::is_block(arena, offset) {
            return Err(Stale::NoSuch);
        }
        let there = object(arena, offset);
        // The same pickle may be taken up twice: then nothing keeps the object until we hold it.
        let handle = heap::while_none_is_freed(arena, || {
            let same = there.block.owner.load(Ordering::Acquire) == OBJECT
                && there.block.kind.load(Ordering::Relaxed) == kind;
            same.then(|| Self::hold(arena, offset)).ok_or(Stale::NoSuch)
        })?;
        if to != 0 {
            // It may come twice in what we begin with, and the first one must not take our only bit away.
            if to == u64::from(tree::number()) && !BEGUN.load(Ordering::Acquire) {
                let kept = handle.clone();
                KEPT.with(|all| all.push(kept));
            }
            return Ok(handle);
        }
        if packed & RIDES != 0 {
            return Ok(handle);
        }
        let _ = there
            .block
            .transit
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |transit| {
                transit.checked_sub(1)
            });
        Ok(handle)
    }

    /// Where the object lies: a name for it that every process of the tree understands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its data.
    #[inline]
    pub fn data(&self) -> *mut u8 {
        arena().map_or(std::ptr::null_mut(), |arena| {
            arena.at(self.offset as usize + OBJECT_HEAD)
        })
    }

    /// How many bytes its data has.
    pub fn len(&self) -> usize {
        heap::len(self.offset) + heap::HEAD - OBJECT_HEAD
    }

    /// Never: objects have data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which processes hold it.
    pub fn holders(&self) -> Vec<u32> {
        holders(self.offset)
    }

    /// A name for it that does not hold it.
    pub fn name(&self) -> Name {
        let serial = arena().map_or(0, |arena| {
            object(arena, self.offset).block.serial.load(Ordering::Relaxed)
        });
        Name {
            offset: self.offset,
            serial,
        }
    }

    /// Does any process but the dead ones hold it, or is a handle on its way?
    pub fn is_held(&self) -> bool {
        self.name().is_held()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        match arena() {
            Some(arena) => Self::hold(arena, self.offset),
            None => Self { offset: self.offset },
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(arena) = arena() else { return };
        let one_of_many = || {
            HELD.with(|held| match held.get_mut(&self.offset) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    true
                }
                _ => false,
            })
        };
        if one_of_many() {
            return;
        }
        let seat = arena.process(tree::number()).seat.load(Ordering::Relaxed);
        let ours = heap::while_none_is_freed(arena, || {
            // Another thread may have taken it up meanwhile.
            !one_of_many()
                && HELD.with(|held| held.remove(&self.offset).is_some())
                && let_go(arena, self.offset, seat)
        });
        if ours {
            free(self.offset);
        }
    }
}

/// Which processes hold an object; one more, number 0, if a handle is on its way. Nobody, if the object is gone.
pub fn holders_of(name: Name) -> Vec<u32> {
    let found = holders(name.offset);
    let same = arena().is_some_and(|arena| {
        heap::is_block(arena, name.offset)
            && object(arena, name.offset).block.serial.load(Ordering::Relaxed) == name.serial
    });
    if same { found } else { Vec::new() }
}

/// As [`holders_of`], for whatever object lies at `offset` now.
pub fn holders(offset: u64) -> Vec<u32> {
    let Some(arena) = arena().filter(|arena| heap::is_block(arena, offset)) else {
        return Vec::new();
    };
    let object = object(arena, offset);
    let mut all = Vec::new();
    if object.block.owner.load(Ordering::Acquire) != OBJECT {
        return all;
    }
    if is_on_its_way(&object.block) {
        all.push(0);
    }
    for (at, word) in object.holders.iter().enumerate() {
        let mut word = word.load(Ordering::Acquire);
        while word != 0 {
            let seat = at * 64 + word.trailing_zeros() as usize;
            word &= word - 1;
            all.push(arena.header().seats[seat].load(Ordering::Acquire));
        }
    }
    all
}

fn set(arena: &Arena, offset: u64, seat: u32) {
    if (seat as usize) < SEATS {
        object(arena, offset).holders[seat as usize / 64].fetch_or(1 << (seat % 64), Ordering::AcqRel);
    }
}

/// While none is freed: the process in `seat` does not hold the object any more. `true`: nobody does, and the caller frees it.
fn let_go(arena: &Arena, offset: u64, seat: u32) -> bool {
    let object = object(arena, offset);
    let (at, bit) = (seat as usize / 64, 1 << (seat % 64));
    let others = object.holders.iter().enumerate().any(|(word_at, word)| {
        let word = word.load(Ordering::Acquire);
        (if word_at == at { word & !bit } else { word }) != 0
    });
    if others || is_on_its_way(&object.block) {
        if at < object.holders.len() {
            object.holders[at].fetch_and(!bit, Ordering::AcqRel);
        }
        return false;
    }
    // The last one leaves its bit: killed before this it still holds the object, killed after it the object is its own.
    take_for_myself(&object.block)
}

/// While none is freed: one of the riders is let go. `true`: nobody holds the object any more, and the caller frees it.
pub(super) fn let_go_riding(arena: &Arena, offset: u64) -> bool {
    let object = object(arena, offset);
    let riding = &object.block.riding;
    if riding.load(Ordering::Acquire) == 1
        && object.block.transit.load(Ordering::Acquire) == 0
        && object
            .holders
            .iter()
            .all(|word| word.load(Ordering::Acquire) == 0)
    {
        return take_for_myself(&object.block);
    }
    riding.fetch_sub(1, Ordering::AcqRel);
    false
}

/// While none is freed: the object that nobody holds is this process's block from here on.
fn take_for_myself(block: &Block) -> bool {
    let mine = u64::from(tree::number());
    block
        .owner
        .compare_exchange(OBJECT, mine, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
}

pub(super) fn free(offset: u64) {
    reach(Point::Free);
    heap::free_parts(offset, |_| false);
    heap::free(offset);
}

/// The process in `seat` holds whatever this process holds.
pub(super) fn hold_all(arena: &Arena, seat: u32) {
    HELD.with(|held| {
        // After a fork that nobody announced, the parent may have let go of one before we came.
        let there = held
            .keys()
            .filter(|&&offset| heap::is_still(arena, offset, OBJECT));
        there.for_each(|&offset| set(arena, offset, seat));
    });
}

/// The process in `seat` is dead and holds nothing.
pub(super) fn release_seat(arena: &Arena, seat: u32) {
    for (offset, owner) in heap::blocks(arena) {
        if owner == OBJECT {
            let word = &object(arena, offset).holders[(seat as usize % SEATS) / 64];
            let holds = (seat as usize) < SEATS && word.load(Ordering::Acquire) >> (seat % 64) & 1 != 0;
            // If it is an object still, it stays one until its bit is cleared.
            if holds
                && heap::is_still(arena, offset, OBJECT)
                && heap::while_none_is_freed(arena, || let_go(arena, offset, seat))
            {
                free(offset);
            }
        }
    }
}

pub(super) fn hold_table() {
    HELD.hold();
}

pub(super) fn let_go_table() {
    HELD.let_go();
}
