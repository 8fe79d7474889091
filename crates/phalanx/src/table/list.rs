//! A table without keys: a list.

use super::record::Record;
use super::spine::Locked;
use super::whole::{At, Refused, Table};
use crate::shm::heap::Full;
use crate::shm::point::{Point, reach};

/// Where in a list, as a slice says, which is cut to what there is once the list is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first place, from the end if below 0.
    pub start: isize,
    /// The place before which it ends.
    pub stop: isize,
    /// Never 0.
    pub step: isize,
}

/// A slice of a certain list: the first place, the step, how many.
pub type Places = (usize, isize, usize);

impl Slice {
    /// For a list of `len` items, as Python cuts it.
    pub fn of(self, len: usize) -> Places {
        let len = len as isize;
        let (low, high) = if self.step < 0 { (-1, len - 1) } else { (0, len) };
        let cut = |place: isize| {
            let place = if place < 0 {
                place.saturating_add(len)
            } else {
                place
            };
            place.clamp(low, high)
        };
        let (start, stop) = (cut(self.start), cut(self.stop));
        let count = if self.step < 0 {
            if stop < start {
                (start - stop - 1) / self.step.saturating_neg() + 1
            } else {
                0
            }
        } else if start < stop {
            (stop - start - 1) / self.step + 1
        } else {
            0
        };
        (start.max(0) as usize, self.step, count as usize)
    }
}

/// Why a slice was not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Not now, or never.
    Refused(Refused),
    /// With a step the numbers must be equal: that many places there are.
    Places(usize),
}

impl<E: Into<Refused>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl Table {
    /// Puts a value in place of another. `false`: there is no such place, and a large value still belongs to the caller.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn put(&self, index: i64, record: Record<'_>) -> Result<bool, Refused> {
        let locked = self.lock()?;
        locked.reserve(0, record.len())?;
        match locked.slot_of(index) {
            Some(slot) => Ok(locked.replace(slot, record).map(|()| true)?),
            None => Ok(false),
        }
    }

    /// Puts several behind the last one, all or none.
    ///
    /// # Errors
    /// [`Refused`]; large values still belong to the caller then.
    #[inline]
    pub fn extend<'a>(&self, records: impl Iterator<Item = Record<'a>> + Clone) -> Result<(), Refused> {
        let locked = self.lock()?;
        let (count, words) = size(records.clone());
        locked.reserve(count, words)?;
        if count == 1 {
            for record in records {
                let offset = locked.append(record)?;
                locked.add(offset);
            }
            return Ok(());
        }
        let new = locked.append_all(records)?;
        let (begin, end) = locked.window();
        for (slot, &offset) in (end..).zip(&new) {
            locked.set_slot(slot, offset);
        }
        reach(Point::TableBeforeCommit);
        locked.set_window(begin, end + count as u32);
        reach(Point::TableAfterCommit);
        locked.changed(count as i64, words as i64);
        Ok(())
    }

    /// Removes the last or the first item, or one between, and copies its record to `to`; a large value belongs to this
    /// process then. `false`: there is no such item.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Safety
    /// `to` is null or has room for the longest record there is.
    pub unsafe fn pop(&self, index: i64, to: *mut u64) -> Result<bool, Refused> {
        let locked = self.lock()?;
        // SAFETY: as the caller promises.
        unsafe { locked.pop(index, to) }
    }

    /// Removes the item at `index`, if the list is as it was at `version`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn remove_at(&self, version: u64, index: i64) -> Result<bool, Refused> {
        let locked = self.lock()?;
        if locked.version() != version {
            return Ok(false);
        }
        // SAFETY: nothing is copied.
        unsafe { locked.pop(index, std::ptr::null_mut()) }
    }

    /// Puts `records` in place of the items of a slice; without any this deletes. All at one moment, all or none.
    ///
    /// # Errors
    /// [`Unfit`]; large values still belong to the caller then.
    pub fn splice<'a>(
        &self,
        slice: Slice,
        records: impl Iterator<Item = Record<'a>> + Clone,
        delete: bool,
    ) -> Result<(), Unfit> {
        let locked = self.lock()?;
        let len = locked.len();
        let (mut from, mut step, count) = slice.of(len);
        let (more, words) = size(records.clone());
        if step != 1 && !delete && more != count {
            return Err(Unfit::Places(count));
        }
        // Garbage does not pile up here either, though slots are made anew in any case.
        locked.reserve(0, words)?;
        let mut new = locked.append_all(records.clone())?;
        if step < 0 {
            from = from.saturating_add_signed(step * (count as isize - 1).max(0));
            step = -step;
            new.reverse();
        }
        let old: Vec<u64> = locked.offsets().collect();
        let mut all = Vec::with_capacity(old.len() + new.len());
        let mut gone = Vec::with_capacity(count);
        if step == 1 {
            all.extend_from_slice(&old[..from]);
            all.append(&mut new);
            all.extend_from_slice(&old[from + count..]);
            gone.extend_from_slice(&old[from..from + count]);
        } else {
            let mut new = new.into_iter();
            for (at, offset) in old.into_iter().enumerate() {
                let hit =
                    at >= from && (at - from) % step as usize == 0 && (at - from) / (step as usize) < count;
                if hit {
                    gone.push(offset);
                    all.extend(new.next());
                } else {
                    all.push(offset);
                }
            }
        }
        let front = if from == 0 && count == 0 { more } else { 0 };
        let done = locked.exchange(&all, &gone, words as u64, front);
        if done.is_err() {
            // They are the caller's again.
            records.for_each(|record| locked.take_large(record));
        }
        Ok(done?)
    }

    /// Puts the items into another order: the first comes from the place `order[0]`, and so on. `false`: the list is not as
    /// it was at `version`, or that is no order of its places.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn permute(&self, version: u64, order: &[usize]) -> Result<bool, Refused> {
        let locked = self.lock()?;
        let old: Vec<u64> = locked.offsets().collect();
        let mut seen = vec![false; old.len()];
        let whole = order.len() == old.len()
            && order.iter().all(|&place| {
                seen.get_mut(place)
                    .is_some_and(|seen| !std::mem::replace(seen, true))
            });
        if locked.version() != version || !whole {
            return Ok(false);
        }
        let new: Vec<u64> = order.iter().map(|&place| old[place]).collect();
        locked.exchange(&new, &[], 0, 0)?;
        Ok(true)
    }

    /// Turns it round.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn reverse(&self) -> Result<(), Refused> {
        let locked = self.lock()?;
        let new: Vec<u64> = locked.offsets().rev().collect();
        Ok(locked.exchange(&new, &[], 0, 0)?)
    }

    /// Repeats it, `times` in all; below 1 empties it.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn repeat(&self, times: usize) -> Result<(), Refused> {
        let locked = self.lock()?;
        if times == 0 {
            return Ok(locked.clear()?);
        }
        let kept = locked.kept();
        let words = kept.checked_mul(times as u64 - 1).ok_or(Full)?;
        locked.reserve(0, words as usize)?;
        let old: Vec<u64> = locked.offsets().collect();
        let mut all = old.clone();
        for _ in 1..times {
            for &offset in &old {
                match locked.append_copy(offset) {
                    Ok(copy) => all.push(copy),
                    Err(full) => {
                        let copies = &all[old.len()..];
                        copies
                            .iter()
                            .for_each(|&copy| locked.free_large(locked.record_of(copy)));
                        return Err(full.into());
                    }
                }
            }
        }
        Ok(locked.exchange(&all, &[], words, 0)?)
    }
}

/// How many there are, and their words.
fn size<'a>(records: impl Iterator<Item = Record<'a>>) -> (usize, usize) {
    records.fold((0, 0), |(count, words), record| (count + 1, words + record.len()))
}

impl Locked<'_> {
    fn append_all<'a>(&self, records: impl Iterator<Item = Record<'a>>) -> Result<Vec<u64>, Full> {
        let mut offsets = Vec::new();
        let mut done = Vec::new();
        for record in records {
            match self.append(record) {
                Ok(offset) => {
                    offsets.push(offset);
                    done.push(record);
                }
                Err(full) => {
                    // They are the caller's again.
                    done.into_iter().for_each(|record| self.take_large(record));
                    return Err(full);
                }
            }
        }
        Ok(offsets)
    }

    /// # Safety
    /// As [`Table::pop`].
    unsafe fn pop(&self, index: i64, to: *mut u64) -> Result<bool, Refused> {
        let Some((slot, record)) = self.find(At::Index(index)) else {
            return Ok(false);
        };
        if !to.is_null() {
            // SAFETY: as the caller promises.
            unsafe { record.write(to, record.large().map_or(0, |large| large.stamp)) };
        }
        let (begin, end) = self.window();
        if slot + 1 == end || slot == begin {
            reach(Point::TableBeforeCommit);
            if slot + 1 == end {
                self.set_window(begin, end - 1);
            } else {
                self.set_window(begin + 1, end);
            }
            reach(Point::TableAfterCommit);
            self.changed(-1, -(record.len() as i64));
        } else {
            let all: Vec<u64> = self.offsets().collect();
            let place = (slot - begin) as usize;
            let rest = all[..place].iter().chain(&all[place + 1..]).copied();
            let kept = self.kept() - record.len() as u64;
            self.rebuild(rest, all.len() - 1, kept, 1, 0, false)?;
        }
        if to.is_null() {
            self.free_large(record);
        } else {
            self.take_large(record);
        }
        Ok(true)
    }

    /// Other records in place of all.
    pub(super) fn replace_all<'a>(
        &self,
        records: impl Iterator<Item = Record<'a>> + Clone,
    ) -> Result<(), Full> {
        let (_, words) = size(records.clone());
        self.reserve(0, words)?;
        let new = self.append_all(records.clone())?;
        let old: Vec<u64> = self.offsets().collect();
        let done = self.exchange(&new, &old, words as u64, 0);
        if done.is_err() {
            records.for_each(|record| self.take_large(record));
        }
        done
    }

    /// Other records in all places, `words` of them new; those of `gone` do not count any more.
    fn exchange(&self, all: &[u64], gone: &[u64], words: u64, front: usize) -> Result<(), Full> {
        let left: u64 = gone
            .iter()
            .map(|&offset| self.record_of(offset).len() as u64)
            .sum();
        let kept = self.kept() + words - left;
        // Who puts something to the front mostly does it again.
        let front = if front == 0 { 0 } else { front + all.len() / 2 };
        self.rebuild(all.iter().copied(), all.len(), kept, 1, front, false)?;
        for &offset in gone {
            self.free_large(self.record_of(offset));
        }
        Ok(())
    }
}
