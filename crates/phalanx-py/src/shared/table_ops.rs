//! What a `SharedTable` can do. Encoding and decoding run Python code, so these are plain functions: see `raw.rs`. Nothing
//! of it happens while a table is locked.

use super::key::{self, Sheet, Written};
use super::table::{Elsewhere, SharedTable};
use super::table_tools::*;
use crate::codec;
use crate::ending::{self, holder};
use crate::raw::{self, Method, Obj};
use phalanx::table::{At, Found, Part, Record, Unfit};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::{ptr, slice};

unsafe extern "C-unwind" {
    fn PyDict_New() -> Obj;
    fn PyDict_SetItem(dict: Obj, key: Obj, value: Obj) -> std::ffi::c_int;
}

type Fast = raw::Fast;

// ---------------------------------------------------------------- with keys

unsafe extern "C-unwind" fn item(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the arguments of a call; the frame owns nothing.
    unsafe {
        let (this, [key]) = begin!(slf, c"item", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let draft = keyed!(sheet, key);
        match look_up(this, At::Key(draft.record())) {
            Sought::Object(object) => object,
            Sought::Nothing => key_error(key),
        }
    }
}

unsafe extern "C-unwind" fn get(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key, default]) = begin!(slf, c"get", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let draft = keyed!(sheet, key);
        match look_up(this, At::Key(draft.record())) {
            Sought::Object(object) => object,
            Sought::Nothing if default.is_null() => raw::none(),
            Sought::Nothing => ffi::Py_NewRef(default),
        }
    }
}

unsafe extern "C-unwind" fn contains(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key]) = begin!(slf, c"contains", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let draft = keyed!(sheet, key);
        match this.table().get(At::Key(draft.record()), ptr::null_mut()) {
            Ok(found) => raw::boolean(found.is_some()),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn set(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key, value]) = begin!(slf, c"set", 2, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let mut draft = keyed!(sheet, key);
        valued!(this, draft, value);
        match this.table().set(draft.record()) {
            Ok(()) => raw::none(),
            Err(why) => {
                undo(draft.record());
                refused(why)
            }
        }
    }
}

unsafe extern "C-unwind" fn set_default(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key, default]) = begin!(slf, c"set_default", 2, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let mut draft = keyed!(sheet, key);
        valued!(this, draft, default);
        let mut room: Room = MaybeUninit::uninit();
        let to = room.as_mut_ptr().cast::<u8>();
        match this.table().set_default(draft.record(), to) {
            Ok(None) => ffi::Py_NewRef(default),
            Ok(Some(Found::Small(kind, len))) => {
                undo(draft.record());
                decoded(kind, slice::from_raw_parts(to, len.min(codec::INLINE)))
            }
            Ok(Some(Found::Large(_))) => {
                undo(draft.record());
                match look_up(this, At::Key(draft.record())) {
                    Sought::Object(object) => object,
                    // Removed meanwhile: as if it had been so before.
                    Sought::Nothing => set_default(slf, args, count, keywords),
                }
            }
            Err(why) => {
                undo(draft.record());
                refused(why)
            }
        }
    }
}

unsafe extern "C-unwind" fn delete(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key]) = begin!(slf, c"delete", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let draft = keyed!(sheet, key);
        match this.table().remove(draft.record(), ptr::null_mut()) {
            Ok(true) => raw::none(),
            Ok(false) => key_error(key),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn discard(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key]) = begin!(slf, c"discard", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let draft = keyed!(sheet, key);
        match this.table().remove(draft.record(), ptr::null_mut()) {
            Ok(_) => raw::none(),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn take(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item; the record is copied to a sheet.
    unsafe {
        let (this, [key, default]) = begin!(slf, c"take", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let draft = keyed!(sheet, key);
        let mut taken: Sheet = MaybeUninit::uninit();
        match this.table().remove(draft.record(), taken.as_mut_ptr().cast()) {
            Ok(true) => value_of_taken(Record::new(taken.as_ptr().cast())),
            Ok(false) if default.is_null() => key_error(key),
            Ok(false) => ffi::Py_NewRef(default),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn take_last(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in take.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        let mut taken: Sheet = MaybeUninit::uninit();
        match this.table().remove_last(taken.as_mut_ptr().cast()) {
            Ok(true) => {
                let record = Record::new(taken.as_ptr().cast());
                pair(key_of(record), value_of_taken(record))
            }
            Ok(false) => raw::none(),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn keys(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        collect(this, Part::Keys, |record, _| key_of(record))
    }
}

unsafe extern "C-unwind" fn values(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        collect(this, Part::All, |record, bytes| decoded(record.kind(), bytes))
    }
}

unsafe extern "C-unwind" fn items(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        collect(this, Part::All, |record, bytes| {
            pair(key_of(record), decoded(record.kind(), bytes))
        })
    }
}

unsafe extern "C-unwind" fn content(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item; the dict is ours until it is returned.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        let snapshot = match this.table().snapshot(Part::All) {
            Ok(snapshot) => Box::into_raw(Box::new(snapshot)),
            Err(why) => return refused(why),
        };
        let dict = PyDict_New();
        let full = !dict.is_null()
            && (*snapshot).records().all(|(record, bytes)| {
                let (key, value) = (key_of(record), decoded(record.kind(), bytes));
                let set = !key.is_null() && !value.is_null() && PyDict_SetItem(dict, key, value) == 0;
                for object in [key, value] {
                    if !object.is_null() {
                        raw::release(object);
                    }
                }
                set
            });
        drop(Box::from_raw(snapshot));
        if !full && !dict.is_null() {
            raw::release(dict);
            return ptr::null_mut();
        }
        dict
    }
}

unsafe extern "C-unwind" fn set_all(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item; the batch is freed once.
    unsafe {
        let (this, [pairs]) = begin!(slf, c"set_all", 1, args, count, keywords);
        let Some(batch) = batch_of(pairs, true, this.open) else {
            return ptr::null_mut();
        };
        let set = this.table().set_all((*batch).records());
        Batch::free(batch, set.map_or_else(|(_, done)| done, |()| usize::MAX));
        set.map_or_else(|(why, _)| refused(why), |()| raw::none())
    }
}

unsafe extern "C-unwind" fn replace_all(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in set_all.
    unsafe {
        let (this, [version, pairs]) = begin!(slf, c"replace_all", 2, args, count, keywords);
        let Some(version) = unsigned(version) else {
            return ptr::null_mut();
        };
        let Some(batch) = batch_of(pairs, true, this.open) else {
            return ptr::null_mut();
        };
        let done = this.table().replace_all(version, (*batch).records());
        Batch::free(batch, if done == Ok(true) { usize::MAX } else { 0 });
        done.map_or_else(refused, raw::boolean)
    }
}

// ---------------------------------------------------------------- without keys

unsafe extern "C-unwind" fn at(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [key]) = begin!(slf, c"at", 1, args, count, keywords);
        match place(key) {
            Some(Place::Index(index)) => match look_up(this, At::Index(index)) {
                Sought::Object(object) => object,
                Sought::Nothing => index_error(c"list index out of range"),
            },
            Some(Place::Slice(slice)) => collect(this, Part::Slice(slice), |record, bytes| {
                decoded(record.kind(), bytes)
            }),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn put(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [index, value]) = begin!(slf, c"put", 2, args, count, keywords);
        let Some(index) = self::index(index) else {
            return ptr::null_mut();
        };
        let mut sheet: Sheet = MaybeUninit::uninit();
        let mut draft = draft(&mut sheet);
        valued!(this, draft, value);
        let put = this.table().put(index, draft.record());
        if put != Ok(true) {
            undo(draft.record());
        }
        match put {
            Ok(true) => raw::none(),
            Ok(false) => index_error(c"list assignment index out of range"),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn append(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [value]) = begin!(slf, c"append", 1, args, count, keywords);
        let mut sheet: Sheet = MaybeUninit::uninit();
        let mut draft = draft(&mut sheet);
        valued!(this, draft, value);
        match this.table().extend(std::iter::once(draft.record())) {
            Ok(()) => raw::none(),
            Err(why) => {
                undo(draft.record());
                refused(why)
            }
        }
    }
}

unsafe extern "C-unwind" fn extend(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in set_all.
    unsafe {
        let (this, [values]) = begin!(slf, c"extend", 1, args, count, keywords);
        let Some(batch) = batch_of(values, false, this.open) else {
            return ptr::null_mut();
        };
        let done = this.table().extend((*batch).records());
        Batch::free(batch, if done.is_ok() { usize::MAX } else { 0 });
        done.map_or_else(refused, |()| raw::none())
    }
}

unsafe extern "C-unwind" fn pop(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in take.
    unsafe {
        let (this, [index]) = begin!(slf, c"pop", 0, args, count, keywords);
        let index = if index.is_null() {
            Some(-1)
        } else {
            self::index(index)
        };
        let Some(index) = index else {
            return ptr::null_mut();
        };
        let mut taken: Sheet = MaybeUninit::uninit();
        match this.table().pop(index, taken.as_mut_ptr().cast()) {
            Ok(true) => value_of_taken(Record::new(taken.as_ptr().cast())),
            Ok(false) if this.table().count() == Ok(0) => index_error(c"pop from empty list"),
            Ok(false) => index_error(c"pop index out of range"),
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn splice(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in set_all.
    unsafe {
        let (this, [key, values]) = begin!(slf, c"splice", 1, args, count, keywords);
        let place = match place(key) {
            Some(place) => place,
            None => return ptr::null_mut(),
        };
        let slice = match place {
            Place::Slice(slice) => slice,
            Place::Index(index) => {
                if !values.is_null() {
                    return put(slf, args, count, keywords);
                }
                return match this.table().pop(index, ptr::null_mut()) {
                    Ok(true) => raw::none(),
                    Ok(false) => index_error(c"list assignment index out of range"),
                    Err(why) => refused(why),
                };
            }
        };
        if values.is_null() {
            return match this.table().splice(slice, std::iter::empty(), true) {
                Ok(()) | Err(Unfit::Places(_)) => raw::none(),
                Err(Unfit::Refused(why)) => refused(why),
            };
        }
        let Some(batch) = batch_of(values, false, this.open) else {
            return ptr::null_mut();
        };
        let done = this.table().splice(slice, (*batch).records(), false);
        let given = (*batch).starts.len();
        Batch::free(batch, if done.is_ok() { usize::MAX } else { 0 });
        match done {
            Ok(()) => raw::none(),
            Err(Unfit::Refused(why)) => refused(why),
            Err(Unfit::Places(places)) => {
                let text = c"attempt to assign sequence of size %zd to extended slice of size %zd";
                ffi::PyErr_Format(raw::value_error(), text.as_ptr(), given, places);
                ptr::null_mut()
            }
        }
    }
}

unsafe extern "C-unwind" fn reverse(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        this.table().reverse().map_or_else(refused, |()| raw::none())
    }
}

unsafe extern "C-unwind" fn repeat(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [times]) = begin!(slf, c"repeat", 1, args, count, keywords);
        let Some(times) = index(times) else {
            return ptr::null_mut();
        };
        let times = usize::try_from(times).unwrap_or(0);
        this.table().repeat(times).map_or_else(refused, |()| raw::none())
    }
}

unsafe extern "C-unwind" fn versioned(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        match this.table().snapshot(Part::All) {
            Ok(snapshot) => {
                let snapshot = Box::into_raw(Box::new(snapshot));
                let version = ffi::PyLong_FromUnsignedLongLong((*snapshot).version);
                let keyed = this.table().is_keyed();
                let list = list_of(snapshot, |record, bytes| {
                    if keyed {
                        key_of(record)
                    } else {
                        decoded(record.kind(), bytes)
                    }
                });
                pair(version, list)
            }
            Err(why) => refused(why),
        }
    }
}

unsafe extern "C-unwind" fn permute(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item; no Python code runs while the vector is there.
    unsafe {
        let (this, [version, order]) = begin!(slf, c"permute", 2, args, count, keywords);
        let Some(version) = unsigned(version) else {
            return ptr::null_mut();
        };
        if ffi::PyList_CheckExact(order) == 0 {
            return raw::raise(raw::type_error(), c"a list is wanted");
        }
        let places: Vec<usize> = (0..ffi::PyList_GET_SIZE(order))
            .map(|at| ffi::PyLong_AsSize_t(ffi::PyList_GET_ITEM(order, at)))
            .collect();
        ffi::PyErr_Clear();
        let done = this.table().permute(version, &places);
        drop(places);
        done.map_or_else(refused, raw::boolean)
    }
}

unsafe extern "C-unwind" fn remove_at(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let (this, [version, index]) = begin!(slf, c"remove_at", 2, args, count, keywords);
        let (Some(version), Some(index)) = (unsigned(version), self::index(index)) else {
            return ptr::null_mut();
        };
        this.table()
            .remove_at(version, index)
            .map_or_else(refused, raw::boolean)
    }
}

// ---------------------------------------------------------------- both

unsafe extern "C-unwind" fn count(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        this.table()
            .count()
            .map_or_else(refused, |count| ffi::PyLong_FromSize_t(count))
    }
}

unsafe extern "C-unwind" fn clear(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let Some(this) = served(slf) else {
            return ptr::null_mut();
        };
        this.table().clear().map_or_else(refused, |()| raw::none())
    }
}

unsafe extern "C-unwind" fn move_out(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in item.
    unsafe {
        let this: &SharedTable = raw::state(slf);
        let Some(snapshot) = this.table().move_out() else {
            return raw::none();
        };
        list_of(Box::into_raw(Box::new(snapshot)), |record, bytes| {
            let key = if this.table().is_keyed() {
                key_of(record)
            } else {
                raw::none()
            };
            let kind = ffi::PyLong_FromLong(record.kind().into());
            let bytes = ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len().cast_signed());
            pair(key, pair(kind, bytes))
        })
    }
}

unsafe extern "C-unwind" fn decode(_: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in item; the caller holds the bytes.
    unsafe {
        let Some([kind, bytes]) = positional(c"_table_decode", 2, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(kind) = unsigned(kind) else {
            return ptr::null_mut();
        };
        if ffi::PyBytes_CheckExact(bytes) == 0 {
            return raw::raise(raw::type_error(), c"bytes are wanted");
        }
        decoded(kind as u8, &*codec::bytes_of(bytes))
    }
}

holder!(SharedTable);

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    ending::adopt::<SharedTable>(py);
    module.add("Elsewhere", py.get_type::<Elsewhere>())?;
    let fast: [(&'static CStr, Fast, &'static CStr); 19] = [
        (c"item", item, c"item(key)\n--\n\nThe value of a key; KeyError without one."),
        (c"get", get, c"get(key, default=None)\n--\n\nThe value of a key, or the default."),
        (c"contains", contains, c"contains(key)\n--\n\nIs the key there?"),
        (c"set", set, c"set(key, value)\n--\n\nSet the value of a key."),
        (c"set_default", set_default, c"set_default(key, default)\n--\n\nThe value of a key, set now if it was not there."),
        (c"set_all", set_all, c"set_all(pairs)\n--\n\nSet the values of several keys at one moment."),
        (c"replace_all", replace_all, c"replace_all(version, pairs)\n--\n\nReplace everything, unless the table has changed since that version."),
        (c"delete", delete, c"delete(key)\n--\n\nRemove a key; KeyError without it."),
        (c"discard", discard, c"discard(key)\n--\n\nRemove a key, if it is there."),
        (c"take", take, c"take(key, default)\n--\n\nRemove a key and return its value, or the default; KeyError without either."),
        (c"at", at, c"at(index)\n--\n\nAn item, or a list of those of a slice."),
        (c"put", put, c"put(index, value)\n--\n\nReplace an item."),
        (c"append", append, c"append(value)\n--\n\nAdd an item."),
        (c"extend", extend, c"extend(values)\n--\n\nAdd the items of a list at one moment."),
        (c"pop", pop, c"pop(index=-1)\n--\n\nRemove an item and return it."),
        (c"splice", splice, c"splice(index, values)\n--\n\nReplace the items of a slice, or one item, at one moment; remove them without values."),
        (c"repeat", repeat, c"repeat(times)\n--\n\nRepeat all items, so many times in all."),
        (c"permute", permute, c"permute(version, order)\n--\n\nPut the items into another order, unless the list has changed since that version."),
        (c"remove_at", remove_at, c"remove_at(version, index)\n--\n\nRemove an item, unless the list has changed since that version."),
    ];
    let none: [(&'static CStr, raw::NoArgs, &'static CStr); 10] = [
        (c"take_last", take_last, c"take_last()\n--\n\nRemove what came last: its key and value, or None if there is nothing."),
        (c"keys", keys, c"keys()\n--\n\nA list of all keys."),
        (c"values", values, c"values()\n--\n\nA list of all values."),
        (c"items", items, c"items()\n--\n\nA list of all pairs."),
        (c"content", content, c"content()\n--\n\nA dict with the content."),
        (c"reverse", reverse, c"reverse()\n--\n\nTurn the list round."),
        (c"versioned", versioned, c"versioned()\n--\n\nThe version of the table, which every change changes, and its keys; of a list its items."),
        (c"count", count, c"count()\n--\n\nHow many entries there are."),
        (c"clear", clear, c"clear()\n--\n\nRemove everything."),
        (c"move_out", move_out, c"move_out()\n--\n\nTake everything out for ever: pairs of key and encoded value; None the second time."),
    ];
    let fast = fast.map(|(name, function, doc)| Method::Fast(name, function, doc));
    let none = none.map(|(name, function, doc)| Method::NoArgs(name, function, doc));
    raw::attach::<SharedTable>(py, &fast)?;
    raw::attach::<SharedTable>(py, &none)?;
    raw::attach::<SharedTable>(
        py,
        &[Method::Fast(
            c"decode",
            decode,
            c"decode(kind, data)\n--\n\nThe object of an encoded value.",
        )],
    )
}
