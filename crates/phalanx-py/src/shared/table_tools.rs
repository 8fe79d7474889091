//! What the operations of a `SharedTable` are made of: arguments, records to objects, batches. Nothing here runs Python code
//! while a table is locked, and no frame owns anything across such code: see `raw.rs`.

use super::key::{self, Sheet, Written};
use super::object;
use super::table::{Elsewhere, SharedTable};
use crate::codec::{self, BYTEARRAY, BYTES};
use crate::raw::{self, Obj};
use phalanx::shm::heap;
use phalanx::table::{At, Draft, Found, Large, Part, Record, Refused, Slice, Snapshot};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::{ptr, slice};

unsafe extern "C-unwind" {
    fn PyNumber_AsSsize_t(object: Obj, class: Obj) -> ffi::Py_ssize_t;
    fn PySlice_Unpack(
        slice: Obj,
        start: *mut ffi::Py_ssize_t,
        stop: *mut ffi::Py_ssize_t,
        step: *mut ffi::Py_ssize_t,
    ) -> std::ffi::c_int;
    fn PyList_New(size: ffi::Py_ssize_t) -> Obj;
    fn PyTuple_New(size: ffi::Py_ssize_t) -> Obj;
}

/// From this size on other threads may run while bytes are copied.
pub(super) const LONG: u64 = super::transfer::LONG as u64;
/// So often a large value is copied without a lock, in vain, before it is copied with one.
pub(super) const TRIES: u32 = 4;

pub(super) type Room = MaybeUninit<codec::Room>;

pub(super) fn py<'a>() -> Python<'a> {
    // SAFETY: attached, as all of this file.
    unsafe { Python::assume_attached() }
}

/// The arguments of a call that takes `N`, or fewer down to `least`, by position. Missing ones are null.
pub(super) unsafe fn positional<const N: usize>(
    name: &CStr,
    least: usize,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Option<[Obj; N]> {
    let count = count as usize;
    // SAFETY: `args` has `count` entries.
    unsafe {
        if count > N || count < least || (!keywords.is_null() && ffi::PyTuple_GET_SIZE(keywords) != 0) {
            ffi::PyErr_Format(
                raw::type_error(),
                c"%s() takes %d positional arguments".as_ptr(),
                name.as_ptr(),
                N as std::ffi::c_int,
            );
            return None;
        }
        let mut all = [ptr::null_mut(); N];
        all.iter_mut()
            .take(count)
            .enumerate()
            .for_each(|(at, to)| *to = *args.add(at));
        Some(all)
    }
}

#[cold]
pub(super) fn elsewhere() -> Obj {
    let class = py().get_type::<Elsewhere>();
    // SAFETY: attached.
    unsafe { ffi::PyErr_SetNone(class.as_ptr()) };
    ptr::null_mut()
}

#[cold]
pub(super) fn refused(why: Refused) -> Obj {
    match why {
        Refused::Moved => elsewhere(),
        Refused::Full => {
            object::no_memory().restore(py());
            ptr::null_mut()
        }
    }
}

/// Not written: the exception is set, or is now.
#[cold]
pub(super) fn unwritten(why: Written) -> Obj {
    if why == Written::Elsewhere {
        elsewhere();
    }
    ptr::null_mut()
}

#[cold]
pub(super) unsafe fn key_error(key: Obj) -> Obj {
    // SAFETY: a live object. With the key itself for a value, a tuple or None would be taken for the arguments.
    unsafe {
        let error = raw::call(ffi::PyExc_KeyError, [key]);
        if !error.is_null() {
            ffi::PyErr_SetObject(ffi::PyExc_KeyError, error);
            raw::release(error);
        }
    }
    ptr::null_mut()
}

pub(super) fn index_error(text: &CStr) -> Obj {
    // SAFETY: always there.
    raw::raise(unsafe { ffi::PyExc_IndexError }, text)
}

/// A new draft on `sheet`.
pub(super) unsafe fn draft(sheet: &mut Sheet) -> Draft {
    // SAFETY: a sheet has room for the longest record.
    unsafe { Draft::new(sheet.as_mut_ptr().cast()) }
}

/// The block of a draft that came to nothing.
pub(super) fn undo(record: Record<'_>) {
    if let Some(large) = record.large() {
        heap::free(large.offset);
    }
}

// ---------------------------------------------------------------- records to objects

pub(super) unsafe fn decoded(kind: u8, bytes: &[u8]) -> Obj {
    // SAFETY: attached; the callers' frames own nothing.
    unsafe { codec::decode(kind, bytes) }
}

/// The key of a record.
pub(super) unsafe fn key_of(record: Record<'_>) -> Obj {
    let (kind, bytes) = record.shown_key();
    // SAFETY: as in `decoded`.
    unsafe { decoded(kind, bytes) }
}

/// The value of a record that was taken out; a large one's block is ours.
pub(super) unsafe fn value_of_taken(record: Record<'_>) -> Obj {
    let Some(large) = record.large() else {
        // SAFETY: as in `decoded`.
        return unsafe { decoded(record.kind(), record.small().unwrap_or(&[])) };
    };
    // SAFETY: the block is ours, and freed here. What decoding needs of it is copied.
    unsafe {
        let bytes = slice::from_raw_parts(heap::bytes(large.offset), large.len as usize);
        let object = decoded(large.kind, bytes);
        heap::free(large.offset);
        object
    }
}

/// What was looked for.
pub(super) enum Sought {
    /// A new reference, or null with an exception set.
    Object(Obj),
    /// There is no such entry.
    Nothing,
}

/// Finds a value and decodes it.
#[inline]
pub(super) unsafe fn look_up(this: &SharedTable, at: At<'_>) -> Sought {
    let mut room: Room = MaybeUninit::uninit();
    let to = room.as_mut_ptr().cast::<u8>();
    // SAFETY: a small value fits into a room.
    unsafe {
        let mut tries = 0;
        loop {
            match this.table().get(at, to) {
                Ok(Some(Found::Small(kind, len))) => {
                    return Sought::Object(decoded(kind, slice::from_raw_parts(to, len.min(codec::INLINE))));
                }
                Ok(Some(Found::Large(large))) => {
                    tries += 1;
                    if let Some(object) = copy_large(this, at, large, tries > TRIES) {
                        return Sought::Object(object);
                    }
                }
                Ok(None) => return Sought::Nothing,
                Err(why) => return Sought::Object(refused(why)),
            }
        }
    }
}

/// The object of a large value, or null with an exception set. `None`: it has changed meanwhile.
#[cold]
pub(super) unsafe fn copy_large(this: &SharedTable, at: At<'_>, large: Large, locked: bool) -> Option<Obj> {
    let len = large.len.cast_signed() as ffi::Py_ssize_t;
    // SAFETY: attached before and after; the new object is ours alone until it is returned. `at` points to the caller's frame.
    unsafe {
        let bytes = large.kind == BYTES;
        let object = if bytes {
            ffi::PyBytes_FromStringAndSize(ptr::null(), len)
        } else {
            ffi::PyByteArray_FromStringAndSize(ptr::null(), len)
        };
        if object.is_null() {
            return Some(object);
        }
        let to = if bytes {
            ffi::PyBytes_AS_STRING(object) as *mut u8
        } else {
            ffi::PyByteArray_AS_STRING(object).cast()
        };
        let copied = if large.len >= LONG {
            let state = raw::PyEval_SaveThread();
            let copied = this.table().copy(at, large, to, locked);
            raw::PyEval_RestoreThread(state);
            copied
        } else {
            this.table().copy(at, large, to, locked)
        };
        match copied {
            Ok(true) if bytes || large.kind == BYTEARRAY => Some(object),
            Ok(true) => {
                let bytes = slice::from_raw_parts(to, large.len as usize);
                let value = codec::decode_block(large.kind, bytes, object);
                raw::release(object);
                Some(value)
            }
            Ok(false) => {
                raw::release(object);
                None
            }
            Err(why) => {
                raw::release(object);
                Some(refused(why))
            }
        }
    }
}

/// Makes a list, or a dict, of what `f` makes of each record.
pub(super) unsafe fn collect(
    this: &SharedTable,
    part: Part,
    f: impl Fn(Record<'_>, &[u8]) -> Obj + Copy,
) -> Obj {
    match this.table().snapshot(part) {
        // SAFETY: as the callers promise.
        Ok(snapshot) => unsafe { list_of(Box::into_raw(Box::new(snapshot)), f) },
        Err(why) => refused(why),
    }
}

/// The snapshot is freed here; the box is only raw lest it be dropped by an unwinding.
pub(super) unsafe fn list_of(snapshot: *mut Snapshot, f: impl Fn(Record<'_>, &[u8]) -> Obj) -> Obj {
    // SAFETY: the list is filled before anybody gets it, and released with what is in it.
    unsafe {
        let list = PyList_New((*snapshot).len().cast_signed());
        let full = !list.is_null()
            && (*snapshot).records().enumerate().all(|(at, (record, bytes))| {
                let object = f(record, bytes);
                ffi::PyList_SET_ITEM(list, at.cast_signed(), object);
                !object.is_null()
            });
        drop(Box::from_raw(snapshot));
        if !full && !list.is_null() {
            raw::release(list);
            return ptr::null_mut();
        }
        list
    }
}

/// A tuple of two owned objects, null if one of them is.
pub(super) unsafe fn pair(first: Obj, second: Obj) -> Obj {
    // SAFETY: owned references, or null.
    unsafe {
        let tuple = if first.is_null() || second.is_null() {
            ptr::null_mut()
        } else {
            PyTuple_New(2)
        };
        if tuple.is_null() {
            for object in [first, second] {
                if !object.is_null() {
                    raw::release(object);
                }
            }
            return tuple;
        }
        ffi::PyTuple_SET_ITEM(tuple, 0, first);
        ffi::PyTuple_SET_ITEM(tuple, 1, second);
        tuple
    }
}

/// The table of `slf`. `None`: its server is gone, and `Elsewhere` is set.
#[inline]
pub(super) unsafe fn served<'a>(slf: Obj) -> Option<&'a SharedTable> {
    // SAFETY: the descriptor has checked the class.
    let this: &SharedTable = unsafe { raw::state(slf) };
    if this.is_served() {
        return Some(this);
    }
    elsewhere();
    None
}

/// Begins an operation: the table, the arguments and, for some, a record with a key. Returns null if that fails.
macro_rules! begin {
    ($slf:ident, $name:literal, $least:literal, $args:ident, $count:ident, $keywords:ident) => {{
        let Some(all) = positional($name, $least, $args, $count, $keywords) else {
            return ptr::null_mut();
        };
        let Some(this) = served($slf) else {
            return ptr::null_mut();
        };
        (this, all)
    }};
}

macro_rules! keyed {
    ($sheet:ident, $key:expr) => {{
        let mut draft = draft(&mut $sheet);
        match key::write_key($key, &mut draft) {
            Written::Yes => draft,
            why => return unwritten(why),
        }
    }};
}

macro_rules! valued {
    ($this:ident, $draft:ident, $value:expr) => {
        match key::write_value($value, &mut $draft, $this.open) {
            Written::Yes => {}
            why => return unwritten(why),
        }
    };
}

/// Records of many objects, one after the other.
pub(super) struct Batch {
    words: Vec<u64>,
    pub(super) starts: Vec<usize>,
}

impl Batch {
    pub(super) fn new() -> *mut Self {
        Box::into_raw(Box::new(Self {
            words: Vec::new(),
            starts: Vec::new(),
        }))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> + Clone {
        // SAFETY: whole records begin there.
        self.starts
            .iter()
            .map(|&at| unsafe { Record::new(self.words.as_ptr().add(at)) })
    }

    /// Writes one more record.
    pub(super) unsafe fn add(batch: *mut Self, key: Obj, value: Obj, open: bool) -> Written {
        // SAFETY: the callers' objects; nothing is owned while Python code runs, but by the raw box.
        unsafe {
            (*batch).words.reserve(key::LONGEST);
            let start = (*batch).words.len();
            let mut draft = Draft::new((*batch).words.as_mut_ptr().add(start));
            if !key.is_null() {
                match key::write_key(key, &mut draft) {
                    Written::Yes => {}
                    why => return why,
                }
            }
            let written = key::write_value(value, &mut draft, open);
            if written == Written::Yes {
                (*batch).words.set_len(start + draft.len());
                (*batch).starts.push(start);
            }
            written
        }
    }

    /// Frees it; the large values from the `done`th on are in no table.
    pub(super) unsafe fn free(batch: *mut Self, done: usize) {
        // SAFETY: it came from `new`, once.
        let batch = unsafe { Box::from_raw(batch) };
        batch.records().skip(done).for_each(undo);
    }
}

/// Fills a batch from an exact list: of values, or of exact pairs. `None`: it is freed, and an exception is set.
pub(super) unsafe fn batch_of(list: Obj, keyed: bool, open: bool) -> Option<*mut Batch> {
    // SAFETY: the classes are looked at; the list may change while Python code runs, so it is asked anew each time, and
    // each item is held.
    unsafe {
        if ffi::PyList_CheckExact(list) == 0 {
            raw::raise(raw::type_error(), c"a list is wanted");
            return None;
        }
        let batch = Batch::new();
        let mut at = 0;
        while at < ffi::PyList_GET_SIZE(list) {
            let item = ffi::Py_NewRef(ffi::PyList_GET_ITEM(list, at));
            let written = if !keyed {
                Batch::add(batch, ptr::null_mut(), item, open)
            } else if ffi::PyTuple_CheckExact(item) != 0 && ffi::PyTuple_GET_SIZE(item) == 2 {
                Batch::add(
                    batch,
                    ffi::PyTuple_GET_ITEM(item, 0),
                    ffi::PyTuple_GET_ITEM(item, 1),
                    open,
                )
            } else {
                raw::raise(raw::type_error(), c"a list of pairs is wanted");
                Written::Raised
            };
            raw::release(item);
            if written != Written::Yes {
                Batch::free(batch, 0);
                unwritten(written);
                return None;
            }
            at += 1;
        }
        Some(batch)
    }
}

/// Where in a list.
pub(super) enum Place {
    Index(i64),
    Slice(Slice),
}

/// From what stands in brackets. `None`: an exception is set.
pub(super) unsafe fn place(object: Obj) -> Option<Place> {
    // SAFETY: a live object; asking for an index may run Python code, and nothing is owned.
    unsafe {
        if ffi::PySlice_Check(object) != 0 {
            let (mut start, mut stop, mut step) = (0, 0, 0);
            if PySlice_Unpack(object, &raw mut start, &raw mut stop, &raw mut step) < 0 {
                return None;
            }
            return Some(Place::Slice(Slice { start, stop, step }));
        }
        if ffi::PyIndex_Check(object) == 0 {
            let text = c"list indices must be integers or slices, not %.200s";
            ffi::PyErr_Format(raw::type_error(), text.as_ptr(), (*ffi::Py_TYPE(object)).tp_name);
            return None;
        }
        index(object).map(Place::Index)
    }
}

/// An index. `None`: an exception is set.
pub(super) unsafe fn index(object: Obj) -> Option<i64> {
    // SAFETY: as in place.
    unsafe {
        let index = PyNumber_AsSsize_t(object, ffi::PyExc_IndexError);
        (index != -1 || ffi::PyErr_Occurred().is_null()).then_some(index as i64)
    }
}

pub(super) unsafe fn unsigned(object: Obj) -> Option<u64> {
    // SAFETY: a live object.
    unsafe {
        let value = ffi::PyLong_AsUnsignedLongLong(object);
        (value != u64::MAX || ffi::PyErr_Occurred().is_null()).then_some(value)
    }
}

pub(super) use {begin, keyed, valued};
