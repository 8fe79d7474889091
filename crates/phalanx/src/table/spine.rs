//! The spine of a table, and what is done while the table is locked.

use super::log;
use super::record::Record;
use super::whole::{At, Table, copy_block};
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use crate::shm::heap::{self, Full};
use crate::shm::point::{Point, reach};
use crate::shm::riders;
use std::collections::BTreeSet;
use std::ptr;

/// The block behind the root: slots, each the offset of a record or 0, and for a table with keys the cells of an index.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Spine {
    /// end << 32 | begin: these slots count. Ends of a list and new keys are committed by storing here.
    window: AtomicU64,
    capacity: AtomicU32,
    /// The index has 2 to this power cells, or none if it is 0.
    bits: AtomicU32,
    /// Slots in the window that are not 0.
    live: AtomicU64,
    /// Cells that are not 0.
    used: AtomicU64,
    /// The chunk that records are written to; it leads to the older ones.
    pub(super) chunk: AtomicU64,
    /// Words given out in all chunks.
    pub(super) logged: AtomicU64,
    /// Words of the records that count.
    kept: AtomicU64,
    spare: AtomicU64,
}

impl Spine {
    /// A block for `capacity` slots and an index of 2 to the power of `bits` cells, ours and empty.
    pub(super) fn make(capacity: u32, bits: u32) -> Result<u64, Full> {
        let cells = if bits == 0 { 0 } else { 1 << bits };
        let offset = heap::allocate(heap::HEAD + size_of::<Self>() + 8 * (capacity as usize + cells))?;
        // SAFETY: the block is ours and that long. Slots beyond the window are written before they count.
        unsafe {
            let to = heap::bytes(offset);
            to.write_bytes(0, size_of::<Self>());
            to.add(size_of::<Self>() + 8 * capacity as usize)
                .write_bytes(0, 8 * cells);
        }
        let spine = Self::at(offset);
        spine.capacity.store(capacity, Ordering::Relaxed);
        spine.bits.store(bits, Ordering::Relaxed);
        Ok(offset)
    }

    pub(super) fn at<'a>(offset: u64) -> &'a Self {
        // SAFETY: a spine begins every block that the root ever names, and is all atomics.
        unsafe { &*heap::bytes(offset).cast::<Self>() }
    }

    fn begin_and_end(&self) -> (u32, u32) {
        let window = self.window.load(Ordering::Relaxed);
        (window as u32, (window >> 32) as u32)
    }

    fn words(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the callers stay inside the slots and cells that the block has.
        unsafe { &*ptr::from_ref(self).add(1).cast::<AtomicU64>().add(at) }
    }

    pub(super) fn slot(&self, at: u32) -> &AtomicU64 {
        debug_assert!(at < self.capacity.load(Ordering::Relaxed));
        self.words(at as usize)
    }

    fn cell(&self, at: usize) -> &AtomicU64 {
        self.words(self.capacity.load(Ordering::Relaxed) as usize + at)
    }

    /// Notes in the index that the record with this hash lies in that slot.
    fn enter(&self, hash: u64, slot: u32) {
        let bits = self.bits.load(Ordering::Relaxed);
        if bits == 0 {
            return;
        }
        let mask = (1usize << bits) - 1;
        let mut at = hash as usize & mask;
        while self.cell(at).load(Ordering::Relaxed) != 0 {
            at = (at + 1) & mask;
        }
        self.cell(at)
            .store(hash >> 32 << 32 | u64::from(slot + 1), Ordering::Relaxed);
        self.used.fetch_add(1, Ordering::Relaxed);
    }
}

/// A locked table. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    pub(super) table: &'a Table,
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.table.guard.unlock();
    }
}

impl Locked<'_> {
    pub(super) fn spine(&self) -> &Spine {
        Spine::at(self.table.root.load(Ordering::Relaxed))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.spine().live.load(Ordering::Relaxed) as usize
    }

    pub(super) fn version(&self) -> u64 {
        self.table.version.load(Ordering::Relaxed)
    }

    /// After a commit: how many entries and words there are more now, or fewer.
    pub(super) fn changed(&self, entries: i64, words: i64) {
        let spine = self.spine();
        let add = |word: &AtomicU64, n: i64| {
            word.store(
                word.load(Ordering::Relaxed).wrapping_add_signed(n),
                Ordering::Relaxed,
            )
        };
        add(&spine.live, entries);
        add(&spine.kept, words);
        add(&self.table.version, 1);
    }

    /// The slot of an index of a list.
    pub(super) fn slot_of(&self, index: i64) -> Option<u32> {
        let (begin, end) = self.spine().begin_and_end();
        let len = i64::from(end - begin);
        let index = if index < 0 { index + len } else { index };
        (0..len).contains(&index).then(|| begin + index as u32)
    }

    /// The record in a slot of the window, if there is one.
    pub(super) fn record(&self, slot: u32) -> Option<Record<'_>> {
        let offset = self.spine().slot(slot).load(Ordering::Relaxed);
        (offset != 0).then(|| self.record_of(offset))
    }

    /// The record at an offset from a slot, or from [`Locked::append`].
    #[inline]
    pub(super) fn record_of(&self, offset: u64) -> Record<'_> {
        // SAFETY: a whole record lies there, and the table is locked.
        unsafe { Record::new(log::at(offset)) }
    }

    /// Finds an entry: its slot and its record.
    #[inline]
    pub(super) fn find(&self, at: At<'_>) -> Option<(u32, Record<'_>)> {
        match at {
            At::Index(index) => {
                let slot = self.slot_of(index)?;
                Some((slot, self.record(slot)?))
            }
            At::Key(key) => self.find_key(key),
        }
    }

    fn find_key(&self, key: Record<'_>) -> Option<(u32, Record<'_>)> {
        let spine = self.spine();
        let bits = spine.bits.load(Ordering::Relaxed);
        if bits == 0 {
            return None;
        }
        let (_, end) = spine.begin_and_end();
        let mask = (1usize << bits) - 1;
        let mut at = key.hash() as usize & mask;
        loop {
            let cell = spine.cell(at).load(Ordering::Relaxed);
            if cell == 0 {
                return None;
            }
            let slot = cell as u32 - 1;
            // A cell may outlive its entry: its slot is 0, beyond the end, or has another record.
            if cell >> 32 == key.hash() >> 32
                && slot < end
                && let Some(record) = self.record(slot)
                && record.has_key_of(key)
            {
                return Some((slot, record));
            }
            at = (at + 1) & mask;
        }
    }

    /// Offsets of all records, in order.
    pub(super) fn offsets(&self) -> impl DoubleEndedIterator<Item = u64> + Clone + '_ {
        let spine = self.spine();
        let (begin, end) = spine.begin_and_end();
        (begin..end)
            .map(|slot| spine.slot(slot).load(Ordering::Relaxed))
            .filter(|&offset| offset != 0)
    }

    // ---------------------------------------------------------------- changes

    /// Makes sure of so many slots behind the window and of room in the index; of chunks only that garbage does not pile
    /// up. Everything that was found before is to be found again.
    #[inline]
    pub(super) fn reserve(&self, slots: usize, words: usize) -> Result<(), Full> {
        let spine = self.spine();
        let (_, end) = spine.begin_and_end();
        let capacity = spine.capacity.load(Ordering::Relaxed) as usize;
        let crowded = self.table.is_keyed() && spine.used.load(Ordering::Relaxed) as usize + slots > capacity;
        let copy = log::is_wasteful(spine, words, spine.kept.load(Ordering::Relaxed));
        if slots != 0 && (end as usize + slots > capacity || crowded) || copy {
            let kept = spine.kept.load(Ordering::Relaxed);
            return self.rebuild(self.offsets(), self.len(), kept, slots, 0, copy);
        }
        Ok(())
    }

    /// Writes a record to the log. It does not count before its offset is in a slot of the window.
    #[inline]
    pub(super) fn append(&self, record: Record<'_>) -> Result<u64, Full> {
        let offset = log::place(self.table, self.spine(), record.len())?;
        let stamp = self.adopt(record);
        // SAFETY: room for the record that nobody else uses.
        unsafe { record.write(log::at(offset), stamp) };
        Ok(offset)
    }

    /// A large value becomes the table's, and gets its stamp.
    fn adopt(&self, record: Record<'_>) -> u64 {
        let Some(large) = record.large() else { return 0 };
        heap::give_to(large.offset, self.table.object());
        self.table.stamp.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts another value into a slot; the key stays as it was.
    #[inline]
    pub(super) fn replace(&self, slot: u32, new: Record<'_>) -> Result<(), Full> {
        let Some(old) = self.record(slot) else {
            return Ok(());
        };
        if let (Some(at), Some(from)) = (old.word_of_value(), new.word_of_value())
            && old.kind() == new.kind()
        {
            let offset = self.spine().slot(slot).load(Ordering::Relaxed) + 8 * at as u64;
            reach(Point::TableBeforeCommit);
            // SAFETY: words of the two records, aligned. The commit.
            unsafe { heap::word(offset).store(new.as_words()[from], Ordering::Release) };
            self.changed(0, 0);
            reach(Point::TableAfterCommit);
            return Ok(());
        }
        let words = new.len_with_key_of(old);
        let offset = log::place(self.table, self.spine(), words)?;
        let stamp = self.adopt(new);
        // SAFETY: room for so many words that nobody else uses.
        unsafe { new.write_with_key_of(old, log::at(offset), stamp) };
        reach(Point::TableBeforeCommit);
        self.spine().slot(slot).store(offset, Ordering::Release);
        reach(Point::TableAfterCommit);
        self.changed(0, words as i64 - old.len() as i64);
        self.free_large(old);
        Ok(())
    }

    /// Puts a record behind the last one; there is a slot.
    #[inline]
    pub(super) fn add(&self, offset: u64) {
        let record = self.record_of(offset);
        let spine = self.spine();
        let (begin, end) = spine.begin_and_end();
        spine.slot(end).store(offset, Ordering::Relaxed);
        if self.table.is_keyed() {
            spine.enter(record.hash(), end);
        }
        reach(Point::TableBeforeCommit);
        self.set_window(begin, end + 1);
        reach(Point::TableAfterCommit);
        self.changed(1, record.len() as i64);
    }

    /// Commits a new window.
    pub(super) fn set_window(&self, begin: u32, end: u32) {
        self.spine()
            .window
            .store(u64::from(end) << 32 | u64::from(begin), Ordering::Release);
    }

    pub(super) fn window(&self) -> (u32, u32) {
        self.spine().begin_and_end()
    }

    pub(super) fn set_slot(&self, slot: u32, offset: u64) {
        self.spine().slot(slot).store(offset, Ordering::Release);
    }

    /// The block of a value that does not count any more.
    pub(super) fn free_large(&self, record: Record<'_>) {
        if let Some(large) = record.large() {
            heap::free(large.offset);
        }
    }

    /// The value of a record that does not count any more is ours.
    pub(super) fn take_large(&self, record: Record<'_>) {
        if let Some(large) = record.large() {
            heap::take_over(large.offset);
        }
    }

    /// Copies the record at an offset, also a large value.
    pub(super) fn append_copy(&self, offset: u64) -> Result<u64, Full> {
        let record = self.record_of(offset);
        let Some(large) = record.large() else {
            return self.append(record);
        };
        let riders = riders::count(large.offset);
        let block = heap::allocate(riders::size_with(heap::HEAD + large.len as usize, riders))?;
        let copy = log::place(self.table, self.spine(), record.len()).inspect_err(|_| heap::free(block))?;
        riders::load_as(large.offset, block);
        heap::give_to(block, self.table.object());
        let stamp = self.table.stamp.fetch_add(1, Ordering::Relaxed) + 1;
        // SAFETY: both have that room, and nobody else uses the new ones.
        unsafe {
            copy_block(large, heap::bytes(block));
            record.write(log::at(copy), stamp);
            record.write_offset(log::at(copy), block);
        }
        Ok(copy)
    }

    /// Words of all records that count.
    pub(super) fn kept(&self) -> u64 {
        self.spine().kept.load(Ordering::Relaxed)
    }

    /// Removes everything.
    pub(super) fn clear(&self) -> Result<(), Full> {
        let larges: Vec<u64> = self.larges().collect();
        self.rebuild(std::iter::empty(), 0, 0, 0, 0, true)?;
        larges.into_iter().for_each(heap::free);
        Ok(())
    }

    fn larges(&self) -> impl Iterator<Item = u64> + '_ {
        self.offsets()
            .filter_map(|offset| self.record_of(offset).large().map(|large| large.offset))
    }

    /// A new spine with `count` records, which have `kept` words, and with `room` more slots behind and `front` before.
    /// `copy`: the records go to new chunks too.
    pub(super) fn rebuild(
        &self,
        offsets: impl Iterator<Item = u64>,
        count: usize,
        kept: u64,
        room: usize,
        front: usize,
        copy: bool,
    ) -> Result<(), Full> {
        let keyed = self.table.is_keyed();
        let wanted = count + room;
        let capacity = match (keyed, wanted) {
            (_, 0) => 0,
            (true, _) => (wanted + count / 2).max(8).next_power_of_two(),
            (false, _) => (wanted + wanted / 2).max(8) + front,
        };
        let bits = if keyed && capacity > 0 {
            capacity.trailing_zeros() + 1
        } else {
            0
        };
        // An index cell has 32 bits for a slot.
        let capacity = u32::try_from(capacity)
            .ok()
            .filter(|&n| n < u32::MAX / 4)
            .ok_or(Full)?;
        let (old_block, old) = (self.table.root.load(Ordering::Relaxed), self.spine());
        let block = Spine::make(capacity, bits)?;
        let new = Spine::at(block);
        if !copy {
            new.chunk
                .store(old.chunk.load(Ordering::Relaxed), Ordering::Relaxed);
            new.logged
                .store(old.logged.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let mut end = front as u32;
        for offset in offsets {
            let record = self.record_of(offset);
            let offset = if copy {
                match log::copy(new, record) {
                    Ok(offset) => offset,
                    Err(full) => {
                        log::free_all(new);
                        heap::free(block);
                        return Err(full);
                    }
                }
            } else {
                offset
            };
            new.slot(end).store(offset, Ordering::Relaxed);
            new.enter(record.hash(), end);
            end += 1;
        }
        new.window
            .store(u64::from(end) << 32 | front as u64, Ordering::Relaxed);
        new.live.store(count as u64, Ordering::Relaxed);
        new.kept.store(kept, Ordering::Relaxed);
        if copy {
            log::give_all_to(new, self.table.object());
        }
        heap::give_to(block, self.table.object());
        reach(Point::TableRebuild);
        self.table.root.store(block, Ordering::Release);
        reach(Point::TableRebuilt);
        self.changed(0, 0);
        if copy {
            log::free_all(old);
        }
        heap::free(old_block);
        Ok(())
    }

    /// Somebody died inside. What is committed counts; everything that can be derived from it is derived again, and what
    /// nothing leads to is freed.
    #[cold]
    pub(super) fn mend(&self) {
        let spine = self.spine();
        let cells = 1usize << spine.bits.load(Ordering::Relaxed);
        // One cell is none.
        (0..cells & !1).for_each(|at| spine.cell(at).store(0, Ordering::Relaxed));
        spine.used.store(0, Ordering::Relaxed);
        let (begin, end) = spine.begin_and_end();
        let (mut live, mut kept) = (0, 0);
        for slot in begin..end {
            if let Some(record) = self.record(slot) {
                spine.enter(record.hash(), slot);
                live += 1;
                kept += record.len() as u64;
            }
        }
        spine.live.store(live, Ordering::Relaxed);
        spine.kept.store(kept, Ordering::Relaxed);
        spine.logged.store(log::recount(spine), Ordering::Relaxed);
        // Whoever compares versions must not take what was half done for nothing.
        self.table.version.fetch_add(1, Ordering::Relaxed);
        let mut reachable: BTreeSet<u64> = self.larges().collect();
        reachable.insert(self.table.root.load(Ordering::Relaxed));
        reachable.extend(log::chunks(spine));
        heap::free_parts(self.table.object(), |offset| reachable.contains(&offset));
    }
}
