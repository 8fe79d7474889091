//! The ring. Everything that changes does so under one of two guards and is committed by one store.

use super::hands::Hands;
use super::record::{Ended, INLINE, Item, Limits, Payload, Record};
use crate::prim::{AtomicU32, AtomicU64, Ordering, fence, fence_after_exchange};
use crate::shm::heap::{self, Full};
use crate::shm::point::{Point, reach};
use crate::shm::{self, Guard, Handle, Name, Taken, UNIT, tree};
use crate::sys;
use crate::wait::{self, How, Interrupt, Space, Stopped, Wakeup, hook};
use std::ptr;

/// Words in a chunk; the first ones are the head of its block.
pub(super) const WORDS: u32 = (UNIT / 8) as u32;
pub(super) const FIRST: u32 = (heap::HEAD / 8) as u32;
/// Chunks that a ring can have at one time.
pub(super) const TABLE: u32 = 4096;

const KIND: u32 = 32;
pub(super) const BY_REFERENCE: u64 = 1 << 40;
pub(super) const ON_TO_NEXT: u64 = 1 << 41;

/// A queue of records in the arena. Made by [`Ring::make`]; lives in an object of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Ring {
    pub(super) put: Side,
    pub(super) get: Side,
    /// At most so many items, 0: no limit.
    maxsize: AtomicU64,
    /// At most so many bytes in payloads, unless there is only one.
    ceiling: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Somebody has died inside: what is PART of the ring and cannot be reached is to be freed.
    pub(super) dirty: AtomicU32,
    /// A chunk that has been emptied, kept for the next.
    pub(super) spare: AtomicU32,
    /// Somebody selects on the bell of this ring: one byte lies in it while there are items.
    watched: AtomicU32,
    /// Round the commit and the byte, inside a side's guard.
    bell: Guard,
    pub(super) hands: Hands,
    pub(super) chunks: [AtomicU32; TABLE as usize],
}

/// One end: putters move the tail, getters the head.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Side {
    pub(super) guard: Guard,
    /// Threads may sleep until this end can move; they wait under this word's key.
    sleepers: AtomicU32,
    /// count << 32 | position.
    pub(super) mark: AtomicU64,
    /// What this end last saw of the other one.
    pub(super) other: AtomicU64,
}

pub(super) fn count(mark: u64) -> u32 {
    (mark >> 32) as u32
}

pub(super) fn position(mark: u64) -> u32 {
    mark as u32
}

fn mark(count: u32, position: u32) -> u64 {
    u64::from(count) << 32 | u64::from(position)
}

pub(super) fn words(len: usize) -> u32 {
    len.div_ceil(8) as u32
}

/// The wait of a getter or putter ends when nobody is left at the other end.
struct Lonely<'a> {
    inner: &'a dyn Interrupt,
    /// What the other end holds, if that can end.
    others: Option<Name>,
}

impl Interrupt for Lonely<'_> {
    fn check(&self) -> bool {
        self.inner.check()
    }
    fn ticks(&self) -> bool {
        self.inner.ticks()
    }
    fn is_hopeless(&self) -> bool {
        self.inner.is_hopeless() || self.others.is_some_and(|others| !others.is_held())
    }
    fn describe(&self, place: &mut [u8; 80], thread: &mut [u8; 32]) {
        self.inner.describe(place, thread);
    }
    fn report(&self, report: &hook::Report) {
        self.inner.report(report);
    }
}

impl Ring {
    /// The kind of a ring's object in the arena.
    pub const OBJECT: u32 = 0x52;

    /// A new, empty ring.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make(limits: Limits) -> Result<Handle, Full> {
        let handle = Handle::new(Self::OBJECT, size_of::<Self>())?;
        let ring = Self::of(&handle);
        ring.maxsize.store(u64::from(limits.maxsize), Ordering::Relaxed);
        ring.ceiling.store(limits.ceiling, Ordering::Relaxed);
        let start = mark(0, FIRST);
        for word in [&ring.put.mark, &ring.put.other, &ring.get.mark, &ring.get.other] {
            word.store(start, Ordering::Release);
        }
        Ok(handle)
    }

    /// The ring of a handle.
    #[inline]
    pub fn of(handle: &Handle) -> &Self {
        const { assert!(size_of::<Self>() < 32 << 10) };
        // SAFETY: objects of this kind hold a ring, zeroed at first, all atomics; the handle keeps it alive.
        unsafe { &*handle.data().cast::<Self>() }
    }

    /// The offset of the object that it lies in.
    pub(super) fn object(&self) -> u64 {
        let address = ptr::from_ref(self).addr() - shm::OBJECT_HEAD;
        shm::arena()
            .and_then(|arena| arena.offset_of(address))
            .unwrap_or(0)
    }

    /// How many items are in it.
    #[inline]
    pub fn len(&self) -> usize {
        let tail = self.put.mark.load(Ordering::Acquire);
        let head = self.get.mark.load(Ordering::Acquire);
        // The head may have passed the tail that we read first.
        let n = count(tail).wrapping_sub(count(head));
        if n > u32::MAX / 2 { 0 } else { n as usize }
    }

    /// Is nothing in it?
    #[inline]
    pub fn is_empty(&self) -> bool {
        let head = self.get.mark.load(Ordering::Acquire);
        count(self.put.mark.load(Ordering::Acquire)) == count(head)
    }

    /// At most so many items, 0: no limit.
    pub fn maxsize(&self) -> usize {
        self.maxsize.load(Ordering::Relaxed) as usize
    }

    /// Changes how many items it takes; nobody may have put into it yet.
    pub fn set_maxsize(&self, maxsize: u32) {
        self.maxsize.store(u64::from(maxsize), Ordering::Relaxed);
    }

    /// Does it hold as many items as it may?
    pub fn is_full(&self) -> bool {
        let most = self.maxsize();
        most != 0 && self.len() >= most
    }

    /// How many bytes of payloads are queued.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Which tasks are in whose hands.
    pub fn hands(&self) -> &Hands {
        &self.hands
    }

    /// How many items are queued or in somebody's hands.
    pub fn unfinished(&self) -> u64 {
        self.hands.unfinished(|| self.len() as u64)
    }

    // ---------------------------------------------------------------- put

    /// Puts one record, waiting for room as `how` says. `others`: what the getters hold, if
    /// they can all go away. `bell`: see [`Ring::watch`].
    ///
    /// # Errors
    /// [`Ended`]; the payload still belongs to the caller then.
    pub fn put(
        &self,
        record: Record<'_>,
        how: &How<'_>,
        others: Option<Name>,
        bell: i32,
    ) -> Result<(), Ended> {
        loop {
            match self.try_put(record, bell) {
                Ok(true) => return Ok(()),
                Ok(false) => self.wait_for(&self.put, how, others, || self.has_room(record))?,
                Err(full) => return Err(full.into()),
            }
        }
    }

    /// Puts one record if there is room.
    ///
    /// # Errors
    /// [`Full`]: the arena has no memory for it.
    #[inline]
    pub fn try_put(&self, record: Record<'_>, bell: i32) -> Result<bool, Full> {
        self.lock(&self.put);
        let put = self.push(record, bell);
        self.put.guard.unlock();
        if let Ok(true) = put {
            reach(Point::PutAfterCommit);
            self.wake(&self.get, 1);
        }
        put
    }

    /// Puts as many of `records` as there is room for now, under one lock, and says how many.
    ///
    /// # Errors
    /// [`Full`]: the arena had no memory for the first.
    pub fn try_put_many(&self, records: &[Record<'_>]) -> Result<usize, Full> {
        self.lock(&self.put);
        let mut done = 0;
        let mut failed = None;
        for &record in records {
            match self.push(record, -1) {
                Ok(true) => done += 1,
                Ok(false) => break,
                Err(full) => {
                    failed = Some(full);
                    break;
                }
            }
        }
        self.put.guard.unlock();
        if done > 0 {
            self.wake(&self.get, done);
        }
        match failed {
            Some(full) if done == 0 => Err(full),
            _ => Ok(done),
        }
    }

    fn has_room(&self, record: Record<'_>) -> bool {
        let fits = match record {
            Record::Large(_, payload) => {
                let bytes = self.bytes.load(Ordering::Relaxed);
                bytes == 0 || bytes + payload.len <= self.ceiling.load(Ordering::Relaxed)
            }
            Record::Small(..) => true,
        };
        let (tail, head) = (
            self.put.mark.load(Ordering::Acquire),
            self.get.mark.load(Ordering::Acquire),
        );
        let chunks = (position(tail) / WORDS).wrapping_sub(position(head) / WORDS) % (u32::MAX / WORDS + 1);
        !self.is_full() && fits && chunks < TABLE - 2
    }

    /// Under the put guard: writes the record and commits it.
    fn push(&self, record: Record<'_>, bell: i32) -> Result<bool, Full> {
        let tail = self.put.mark.load(Ordering::Relaxed);
        let most = self.maxsize.load(Ordering::Relaxed);
        let mut head = self.put.other.load(Ordering::Relaxed);
        let far = |head: u64| {
            let used = position(tail).wrapping_sub(position(head)) / WORDS;
            used >= TABLE - 2 || (most != 0 && u64::from(count(tail).wrapping_sub(count(head))) >= most)
        };
        if far(head) {
            // SYNC(head): pairs with the Release store in pop.
            head = self.get.mark.load(Ordering::Acquire);
            self.put.other.store(head, Ordering::Relaxed);
            if far(head) {
                return Ok(false);
            }
        }
        let len = match record {
            Record::Small(_, bytes) => words(bytes.len()),
            Record::Large(_, payload) => {
                let bytes = self.bytes.load(Ordering::Relaxed);
                if bytes != 0 && bytes + payload.len > self.ceiling.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                2
            }
        };
        let mut at = position(tail);
        if at % WORDS + 1 + len > WORDS {
            let next = (at / WORDS + 1).wrapping_mul(WORDS).wrapping_add(FIRST);
            self.chunk_for_put(next)?;
            // A record of one word always fits, but for a chunk that is full to the last word.
            if !at.is_multiple_of(WORDS) {
                // SAFETY: behind the tail, in a chunk of the ring.
                unsafe { self.at(at).write(ON_TO_NEXT) };
            }
            at = next;
        } else if at % WORDS == FIRST {
            self.chunk_for_put(at)?;
        }
        // SAFETY: 1 + len words behind the tail, in a chunk of the ring that no getter reads yet.
        unsafe {
            let to = self.at(at);
            match record {
                Record::Small(kind, bytes) => {
                    to.write(u64::from(kind) << KIND | bytes.len() as u64);
                    copy_small(bytes.as_ptr(), to.add(1).cast::<u8>(), bytes.len());
                }
                Record::Large(kind, payload) => {
                    to.write(BY_REFERENCE | u64::from(kind) << KIND | 16);
                    to.add(1).write(payload.offset);
                    to.add(2).write(payload.len);
                    self.bytes.fetch_add(payload.len, Ordering::Relaxed);
                    heap::give_to(payload.offset, self.object());
                }
            }
        }
        reach(Point::PutBeforeCommit);
        let mut end = at.wrapping_add(1 + len);
        if end.is_multiple_of(WORDS) {
            // Exactly full: the next record begins in the next chunk.
            end = end.wrapping_add(FIRST);
        }
        let end = mark(count(tail).wrapping_add(1), end);
        if self.watched.load(Ordering::Relaxed) != 0 && bell >= 0 {
            self.bell.lock(tree::me());
            if count(self.get.mark.load(Ordering::Acquire)) == count(tail) {
                sys::ring_bell(bell);
            }
            reach(Point::Bell);
            self.put.mark.store(end, Ordering::Release);
            self.bell.unlock();
        } else {
            // SYNC(tail): pairs with the Acquire load in pop. The commit.
            self.put.mark.store(end, Ordering::Release);
        }
        Ok(true)
    }

    /// Makes sure that the chunk of position `at` is there.
    fn chunk_for_put(&self, at: u32) -> Result<(), Full> {
        let slot = &self.chunks[(at / WORDS % TABLE) as usize];
        if slot.load(Ordering::Relaxed) != 0 {
            return Ok(());
        }
        let spare = self.spare.swap(0, Ordering::AcqRel);
        let unit = if spare != 0 {
            spare
        } else {
            let block = heap::allocate(UNIT - 64)?;
            heap::give_to(block, self.object());
            (block / UNIT as u64) as u32
        };
        slot.store(unit, Ordering::Release);
        Ok(())
    }

    /// The word at a position whose chunk is there.
    pub(super) unsafe fn at(&self, position: u32) -> *mut u64 {
        let unit = self.chunks[(position / WORDS % TABLE) as usize].load(Ordering::Acquire);
        // The head of the block is part of the chunk's positions.
        let offset = u64::from(unit) * UNIT as u64 + u64::from(position % WORDS) * 8;
        heap::bytes(offset).wrapping_sub(heap::HEAD).cast::<u64>()
    }

    // ---------------------------------------------------------------- get

    /// Gets the oldest record, waiting for one as `how` says; small ones are copied to `to`, which has room for
    /// [`INLINE`] bytes. `others`: what the putters hold, if they can all go away. `bell`: see
    /// [`Ring::watch`].
    ///
    /// # Errors
    /// [`Ended`].
    ///
    /// # Safety
    /// `to` is valid for [`INLINE`] bytes.
    pub unsafe fn get(
        &self,
        to: *mut u8,
        how: &How<'_>,
        others: Option<Name>,
        keep: bool,
        bell: i32,
    ) -> Result<Item, Ended> {
        loop {
            // SAFETY: as the caller promises.
            if let Some(item) = unsafe { self.try_get(to, keep, bell) } {
                return Ok(item);
            }
            self.wait_for(&self.get, how, others, || !self.is_empty())?;
        }
    }

    /// Waits until there is something to get, and leaves it there.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn wait_for_item(&self, how: &How<'_>, others: Option<Name>) -> Result<(), Ended> {
        while self.is_empty() {
            self.wait_for(&self.get, how, others, || !self.is_empty())?;
        }
        Ok(())
    }

    /// Gets the oldest record, if there is one. `keep`: it counts as being in this process's hands until
    /// [`Hands::done`].
    ///
    /// # Safety
    /// As for [`Ring::get`].
    #[inline]
    pub unsafe fn try_get(&self, to: *mut u8, keep: bool, bell: i32) -> Option<Item> {
        if self.is_empty() {
            if self.is_watched() && bell >= 0 {
                self.hush(bell);
            }
            return None;
        }
        self.lock(&self.get);
        // SAFETY: as the caller promises.
        let item = unsafe { self.pop(to, keep, bell) };
        self.get.guard.unlock();
        if item.is_some() {
            reach(Point::GetAfterCommit);
            self.wake(&self.put, 1);
        }
        item
    }

    /// Under the get guard: reads the oldest record and commits.
    unsafe fn pop(&self, to: *mut u8, keep: bool, bell: i32) -> Option<Item> {
        let head = self.get.mark.load(Ordering::Relaxed);
        let mut tail = self.get.other.load(Ordering::Relaxed);
        if count(tail) == count(head) {
            // SYNC(tail): pairs with the Release store in push.
            tail = self.put.mark.load(Ordering::Acquire);
            self.get.other.store(tail, Ordering::Relaxed);
            if count(tail) == count(head) {
                return None;
            }
        }
        let first = position(head);
        let mut at = first;
        // SAFETY: between head and tail there are whole records.
        let (item, words) = unsafe {
            let mut word = self.at(at).read();
            if word & ON_TO_NEXT != 0 {
                at = (at / WORDS + 1).wrapping_mul(WORDS).wrapping_add(FIRST);
                word = self.at(at).read();
            }
            let kind = (word >> KIND) as u8;
            let len = word as u32 as usize;
            let from = self.at(at).add(1);
            if word & BY_REFERENCE == 0 {
                let len = len.min(INLINE);
                copy_small(from.cast::<u8>(), to, len);
                (Item::Small(kind, len), words(len))
            } else {
                let payload = Payload {
                    offset: from.read(),
                    len: from.add(1).read(),
                };
                (Item::Large(kind, payload), 2)
            }
        };
        let mut end = at.wrapping_add(1 + words);
        if end.is_multiple_of(WORDS) {
            end = end.wrapping_add(FIRST);
        }
        if keep {
            self.hands.take(count(head));
        }
        reach(Point::GetBeforeCommit);
        let new = mark(count(head).wrapping_add(1), end);
        if self.watched.load(Ordering::Relaxed) != 0 && bell >= 0 {
            self.bell.lock(tree::me());
            self.get.mark.store(new, Ordering::Release);
            reach(Point::Bell);
            if count(self.put.mark.load(Ordering::Acquire)) == count(new) {
                sys::silence_bell(bell);
            }
            self.bell.unlock();
        } else {
            // SYNC(head): pairs with the Acquire load in push. The commit.
            self.get.mark.store(new, Ordering::Release);
        }
        if let Item::Large(_, payload) = item {
            reach(Point::GetPayload);
            self.bytes.fetch_sub(payload.len, Ordering::Relaxed);
            heap::take_over(payload.offset);
        }
        if end / WORDS != first / WORDS {
            self.leave(first);
        }
        Some(item)
    }

    /// The chunk of position `at` has been emptied.
    fn leave(&self, at: u32) {
        let unit = self.chunks[(at / WORDS % TABLE) as usize].swap(0, Ordering::AcqRel);
        if unit != 0
            && self
                .spare
                .compare_exchange(0, unit, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            heap::free(u64::from(unit) * UNIT as u64);
        }
    }

    // ---------------------------------------------------------------- both ends

    /// From now on one byte lies in the bell, a socket, while there are items, so that it can be selected on. `bell` is
    /// the putters' end: everybody who puts passes his, everybody who gets passes the other.
    pub fn watch(&self, bell: i32) {
        let me = tree::me();
        // Nobody is in the middle of a put or get who has not seen it.
        self.lock(&self.get);
        if self.put.guard.lock(me) == Taken::Stolen {
            self.dirty.store(1, Ordering::Release);
        }
        if self.watched.swap(1, Ordering::AcqRel) == 0 && !self.is_empty() {
            sys::ring_bell(bell);
        }
        self.put.guard.unlock();
        self.get.guard.unlock();
    }

    /// Somebody may have died between the bell and the commit: what is empty must not look ready for ever.
    #[cold]
    fn hush(&self, bell: i32) {
        self.bell.lock(tree::me());
        if self.is_empty() {
            sys::silence_bell(bell);
        }
        self.bell.unlock();
    }

    /// Is it selected on?
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) != 0
    }

    #[inline]
    fn lock(&self, side: &Side) {
        if side.guard.lock(tree::me()) == Taken::Stolen || self.dirty.load(Ordering::Relaxed) != 0 {
            self.mend(side);
        }
    }

    /// Waits until `ready`, at the side that it concerns.
    fn wait_for(
        &self,
        side: &Side,
        how: &How<'_>,
        others: Option<Name>,
        ready: impl Fn() -> bool,
    ) -> Result<(), Ended> {
        if how.deadline.has_passed() {
            return Err(Ended::TimedOut);
        }
        if wait::shared::spin_until(|| ready().then_some(())).is_some() {
            return Ok(());
        }
        if others.is_some_and(|others| !others.is_held()) && !ready() {
            return Err(Ended::Closed);
        }
        let lonely = Lonely {
            inner: how.interrupt,
            others,
        };
        let how = How {
            interrupt: &lonely,
            ..*how
        };
        let unready = || {
            side.sleepers.store(1, Ordering::Relaxed);
            // SYNC(sleepers): pairs with the fence in wake. Either we see the change or its maker sees us.
            fence(Ordering::SeqCst);
            !ready()
        };
        match wait::Shared::park(wait::key_of(&side.sleepers), &how, None, unready) {
            Wakeup::Unparked(_) | Wakeup::Invalid => Ok(()),
            Wakeup::TimedOut if ready() => Ok(()),
            Wakeup::TimedOut => Err(Ended::TimedOut),
            Wakeup::Stopped(Stopped::Hopeless) if ready() => Ok(()),
            Wakeup::Stopped(Stopped::Hopeless) => Err(Ended::Closed),
            Wakeup::Stopped(stopped) => {
                if stopped.owes_a_wakeup() {
                    self.wake(side, 1);
                }
                Err(Ended::Stopped(stopped))
            }
        }
    }

    /// Wakes up to `n` threads that wait for the other end to move. The caller has just unlocked a guard.
    #[inline]
    fn wake(&self, side: &Side, n: usize) {
        // SYNC(sleepers): pairs with the fence in wait_for. Unlocking is an exchange.
        fence_after_exchange();
        if side.sleepers.load(Ordering::Relaxed) != 0 {
            wake_some(side, n);
        }
    }

    /// Wakes everybody: an end has been closed.
    pub fn wake_all(&self) {
        wake_some(&self.put, usize::MAX);
        wake_some(&self.get, usize::MAX);
    }
}

#[cold]
fn wake_some(side: &Side, n: usize) {
    wait::Shared::unpark(wait::key_of(&side.sleepers), n, 0, |_, more| {
        if !more {
            side.sleepers.store(0, Ordering::Relaxed);
        }
    });
}

/// Copies a few bytes; the usual 8 without a call.
#[inline]
unsafe fn copy_small(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: as the callers promise: both are valid for `len` bytes and do not overlap.
    unsafe {
        if len == 8 {
            to.cast::<u64>()
                .write_unaligned(from.cast::<u64>().read_unaligned());
        } else {
            ptr::copy_nonoverlapping(from, to, len);
        }
    }
}
