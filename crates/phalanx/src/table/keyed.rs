//! A table with keys, in the order in which they came.

use super::record::Record;
use super::spine::Locked;
use super::whole::{At, Found, Refused, Table};
use crate::shm::heap::Full;
use crate::shm::point::{Point, reach};

impl Table {
    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`Refused`]; a large value still belongs to the caller then.
    #[inline]
    pub fn set(&self, record: Record<'_>) -> Result<(), Refused> {
        Ok(self.lock()?.set(record)?)
    }

    /// Sets several at one moment. Killed in the middle, the first of them are set.
    ///
    /// # Errors
    /// [`Refused`], and how many were set: the large values of the rest still belong to the caller.
    pub fn set_all<'a>(&self, records: impl Iterator<Item = Record<'a>>) -> Result<(), (Refused, usize)> {
        let locked = self.lock().map_err(|refused| (refused, 0))?;
        for (done, record) in records.enumerate() {
            locked.set(record).map_err(|full| (full.into(), done))?;
        }
        Ok(())
    }

    /// Puts these entries, no two of them with one key, in place of all there are, at one moment, if the table is as it was
    /// at `version`.
    ///
    /// # Errors
    /// [`Refused`]; large values still belong to the caller then, and with `false`.
    pub fn replace_all<'a>(
        &self,
        version: u64,
        records: impl Iterator<Item = Record<'a>> + Clone,
    ) -> Result<bool, Refused> {
        let locked = self.lock()?;
        if locked.version() != version {
            return Ok(false);
        }
        locked.replace_all(records)?;
        Ok(true)
    }

    /// Sets the value of a key that is not there yet: `None`. Or finds the one that is there, as [`Table::get`] does.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Safety
    /// As [`Table::get`].
    pub unsafe fn set_default(&self, record: Record<'_>, to: *mut u8) -> Result<Option<Found>, Refused> {
        let locked = self.lock()?;
        if let Some((_, there)) = locked.find(At::Key(record)) {
            // SAFETY: as the caller promises.
            return Ok(Some(unsafe { super::whole::found(there, to) }));
        }
        locked.set(record)?;
        Ok(None)
    }

    /// Removes an entry and says whether there was one. Its record is copied to `to`, unless that is null, and a large
    /// value belongs to this process then.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Safety
    /// `to` is null or has room for the longest record there is.
    pub unsafe fn remove(&self, key: Record<'_>, to: *mut u64) -> Result<bool, Refused> {
        let locked = self.lock()?;
        let Some((slot, record)) = locked.find(At::Key(key)) else {
            return Ok(false);
        };
        // SAFETY: as the caller promises.
        unsafe { locked.take_out(slot, record, to) };
        Ok(true)
    }

    /// The same for the entry that came last.
    ///
    /// # Errors
    /// [`Refused`].
    ///
    /// # Safety
    /// As [`Table::remove`].
    pub unsafe fn remove_last(&self, to: *mut u64) -> Result<bool, Refused> {
        let locked = self.lock()?;
        let (begin, end) = locked.window();
        let Some(slot) = (begin..end).rev().find(|&slot| locked.record(slot).is_some()) else {
            return Ok(false);
        };
        // Empty slots behind it do not have to be passed again. Here, lest a slot that counts falls out of the window.
        locked.set_window(begin, slot + 1);
        if let Some(record) = locked.record(slot) {
            // SAFETY: as the caller promises.
            unsafe { locked.take_out(slot, record, to) };
        }
        Ok(true)
    }
}

impl Locked<'_> {
    #[inline]
    fn set(&self, record: Record<'_>) -> Result<(), Full> {
        self.reserve(0, record.len())?;
        if let Some((slot, _)) = self.find(At::Key(record)) {
            return self.replace(slot, record);
        }
        self.reserve(1, record.len())?;
        let offset = self.append(record)?;
        self.add(offset);
        Ok(())
    }

    /// # Safety
    /// As [`Table::remove`].
    unsafe fn take_out(&self, slot: u32, record: Record<'_>, to: *mut u64) {
        if !to.is_null() {
            // SAFETY: as the caller promises; the record is still in its place.
            unsafe { record.write(to, record.large().map_or(0, |large| large.stamp)) };
        }
        reach(Point::TableBeforeCommit);
        self.set_slot(slot, 0);
        reach(Point::TableAfterCommit);
        self.changed(-1, -(record.len() as i64));
        if to.is_null() {
            self.free_large(record);
        } else {
            self.take_large(record);
        }
    }
}
