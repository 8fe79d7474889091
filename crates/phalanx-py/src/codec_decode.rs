//! The codec's way back: from the bytes of a record to an object. What they mean is in `codec.rs`.

use crate::codec::{
    BYTEARRAY, BYTES, DEPTH, FALSE, FLOAT, INT, MESSAGE, NONE, PICKLED, PICKLED_BUFFERS, STR, TRUE, TUPLE,
};
use crate::codec_pickle::{self, Part};
use crate::raw::{self, Obj};
use pyo3::ffi;
use std::ffi::c_char;
use std::ptr;

/// From this size on other threads may run while bytes are copied.
const DETACH: usize = 1 << 20;

/// So many bytes of a very large payload are copied before their source goes back.
const PIECE: usize = 8 << 20;

unsafe extern "C-unwind" {
    fn PyTuple_New(size: ffi::Py_ssize_t) -> Obj;
    fn PyUnicode_DecodeUTF8(bytes: *const c_char, len: ffi::Py_ssize_t, errors: *const c_char) -> Obj;
}

/// The object in a small record: a new reference, or null with an exception set.
///
/// # Safety
/// Attached; the caller's frame owns nothing that is dropped.
#[inline]
pub unsafe fn decode(kind: u8, bytes: &[u8]) -> Obj {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            INT => match bytes.try_into() {
                Ok(word) => ffi::PyLong_FromLongLong(i64::from_ne_bytes(word)),
                Err(_) => malformed("an int", kind, bytes),
            },
            STR => decode_text(bytes),
            TUPLE => {
                let mut rest = bytes;
                let tuple = decode_tuple(&mut rest, DEPTH);
                if !tuple.is_null() && !rest.is_empty() {
                    raw::release(tuple);
                    return malformed("a tuple with something behind it", kind, bytes);
                }
                tuple
            }
            NONE | FALSE | TRUE => {
                if bytes.is_empty() {
                    constant(kind)
                } else {
                    malformed("a constant with something behind it", kind, bytes)
                }
            }
            FLOAT => match bytes.try_into() {
                Ok(word) => ffi::PyFloat_FromDouble(f64::from_ne_bytes(word)),
                Err(_) => malformed("a float", kind, bytes),
            },
            BYTES => new_bytes(bytes),
            BYTEARRAY => new_bytearray(bytes),
            PICKLED | MESSAGE => {
                // A view of the caller's memory could be kept by somebody who looks at all objects there are.
                let copy = new_bytes(bytes);
                if copy.is_null() {
                    return copy;
                }
                let object = codec_pickle::load(copy);
                ffi::Py_DECREF(copy);
                object
            }
            PICKLED_BUFFERS => {
                let copy = new_bytearray(bytes);
                if copy.is_null() {
                    return copy;
                }
                let object = codec_pickle::load_with_buffers(bytes, copy);
                raw::release(copy);
                object
            }
            _ => malformed("a record of an unknown kind", kind, bytes),
        }
    }
}

/// The object in a payload block: a new reference, or null with an exception set.
///
/// # Safety
/// As [`decode`]; `owner` exports the same bytes through the buffer protocol and keeps them while it is exported.
pub unsafe fn decode_block(kind: u8, bytes: &[u8], owner: Obj) -> Obj {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            PICKLED | MESSAGE => codec_pickle::load(owner),
            PICKLED_BUFFERS => codec_pickle::load_with_buffers(bytes, owner),
            _ => decode(kind, bytes),
        }
    }
}

/// The bytes (or bytearray, for that kind) of a payload that is so large that nobody wants it twice: it is copied in pieces,
/// and `copied` is told after each one how many bytes are not needed any more. A new reference, or null with an exception
/// set.
///
/// # Safety
/// Attached; `from` has `len` bytes, of which those that `copied` was told of are not read any more. `copied` runs without
/// the interpreter.
pub unsafe fn decode_in_pieces(kind: u8, from: *const u8, len: usize, mut copied: impl FnMut(usize)) -> Obj {
    // SAFETY: as the caller promises; nobody else has the object yet, so it may be filled.
    unsafe {
        let (object, to): (Obj, *mut u8) = if kind == BYTEARRAY {
            let object = ffi::PyByteArray_FromStringAndSize(ptr::null(), len.cast_signed());
            if object.is_null() {
                return object;
            }
            (object, ffi::PyByteArray_AS_STRING(object).cast())
        } else {
            let object = ffi::PyBytes_FromStringAndSize(ptr::null(), len.cast_signed());
            if object.is_null() {
                return object;
            }
            (object, ffi::PyBytes_AS_STRING(object) as *mut u8)
        };
        let state = raw::PyEval_SaveThread();
        let mut at = 0;
        while at < len {
            let piece = PIECE.min(len - at);
            ptr::copy_nonoverlapping(from.add(at), to.add(at), piece);
            at += piece;
            copied(at);
        }
        raw::PyEval_RestoreThread(state);
        object
    }
}

/// What `recv_bytes` gives for a record, of a block too: the message, or what was sent by `send`, pickled. A new
/// reference, or null with an exception set.
///
/// # Safety
/// As [`decode`].
pub unsafe fn as_bytes_message(kind: u8, bytes: &[u8]) -> Obj {
    // SAFETY: as the caller promises.
    unsafe {
        if kind == MESSAGE || kind == PICKLED {
            return new_bytes(bytes);
        }
        let object = decode(kind, bytes);
        if object.is_null() {
            return object;
        }
        let dump = codec_pickle::part(Part::DumpInBand);
        let pickle = if dump.is_null() {
            dump
        } else {
            raw::call(dump, [object])
        };
        raw::release(object);
        pickle
    }
}

fn constant(kind: u8) -> Obj {
    match kind {
        NONE => raw::none(),
        _ => raw::boolean(kind == TRUE),
    }
}

unsafe fn decode_tuple(rest: &mut &[u8], depth: u8) -> Obj {
    let (Some((count, after)), 1..) = (rest.split_first(), depth) else {
        return malformed("a tuple", TUPLE, rest);
    };
    *rest = after;
    // SAFETY: attached; the tuple is filled before anybody gets it, and released with what is in it if that fails.
    unsafe {
        let count = ffi::Py_ssize_t::from(*count);
        let tuple = PyTuple_New(count);
        if tuple.is_null() {
            return tuple;
        }
        for at in 0..count {
            let item = decode_item(rest, depth - 1);
            if item.is_null() {
                raw::release(tuple);
                return item;
            }
            ffi::PyTuple_SET_ITEM(tuple, at, item);
        }
        tuple
    }
}

unsafe fn decode_item(rest: &mut &[u8], depth: u8) -> Obj {
    fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
        let (taken, after) = rest.split_at_checked(len)?;
        *rest = after;
        Some(taken)
    }
    fn word<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        take(rest, N)?.try_into().ok()
    }
    fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let len = word(rest).map(u16::from_ne_bytes)?;
        take(rest, usize::from(len))
    }
    let all = *rest;
    let Some([kind]) = word(rest) else {
        return malformed("an item of a tuple", TUPLE, all);
    };
    // SAFETY: attached.
    unsafe {
        let object = match kind {
            INT => word(rest).map(|word| ffi::PyLong_FromLongLong(i64::from_ne_bytes(word))),
            STR => sized(rest).map(|bytes| decode_text(bytes)),
            NONE | FALSE | TRUE => Some(constant(kind)),
            FLOAT => word(rest).map(|word| ffi::PyFloat_FromDouble(f64::from_ne_bytes(word))),
            BYTES => sized(rest).map(|bytes| new_bytes(bytes)),
            TUPLE => Some(decode_tuple(rest, depth)),
            _ => None,
        };
        object.unwrap_or_else(|| malformed("an item of a tuple", kind, all))
    }
}

unsafe fn decode_text(bytes: &[u8]) -> Obj {
    // SAFETY: attached; the bytes are only read, and nobody else has the new str yet.
    unsafe {
        // The str of one character or none is shared.
        if bytes.len() > 1 && bytes.is_ascii() {
            let text = ffi::PyUnicode_New(bytes.len().cast_signed(), 127);
            if !text.is_null() {
                let data = ffi::PyUnicode_DATA(text).cast();
                ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
            }
            return text;
        }
        let text = PyUnicode_DecodeUTF8(bytes.as_ptr().cast(), bytes.len().cast_signed(), ptr::null());
        if text.is_null() && ffi::PyErr_ExceptionMatches(ffi::PyExc_UnicodeDecodeError) != 0 {
            ffi::PyErr_Clear();
            return malformed("a str that is not UTF-8", STR, bytes);
        }
        text
    }
}

unsafe fn new_bytes(bytes: &[u8]) -> Obj {
    // SAFETY: attached; nobody else has the object yet, so it may be filled.
    unsafe {
        if bytes.len() < DETACH {
            return ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len().cast_signed());
        }
        let object = ffi::PyBytes_FromStringAndSize(ptr::null(), bytes.len().cast_signed());
        if !object.is_null() {
            copy_detached(bytes, ffi::PyBytes_AS_STRING(object) as *mut u8);
        }
        object
    }
}

unsafe fn new_bytearray(bytes: &[u8]) -> Obj {
    // SAFETY: as in `new_bytes`.
    unsafe {
        if bytes.len() < DETACH {
            return ffi::PyByteArray_FromStringAndSize(bytes.as_ptr().cast(), bytes.len().cast_signed());
        }
        let object = ffi::PyByteArray_FromStringAndSize(ptr::null(), bytes.len().cast_signed());
        if !object.is_null() {
            copy_detached(bytes, ffi::PyByteArray_AS_STRING(object).cast());
        }
        object
    }
}

unsafe fn copy_detached(bytes: &[u8], to: *mut u8) {
    // SAFETY: attached before and after; room for the bytes, which nobody else uses.
    unsafe {
        let state = raw::PyEval_SaveThread();
        ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        raw::PyEval_RestoreThread(state);
    }
}

/// Sets the exception for a record that cannot be what it says.
#[cold]
pub fn malformed(what: &str, kind: u8, bytes: &[u8]) -> Obj {
    // SAFETY: attached, as all of this file.
    let class = unsafe { codec_pickle::part(Part::UnpicklingError) };
    if class.is_null() {
        return class;
    }
    raw::raise_text(
        class,
        &format!(
            "phalanx: a record of a channel is damaged: {what} (kind {kind}, {} bytes)\n\
hint: see that all processes run the same version of phalanx, and that no extension module writes beyond its memory",
            bytes.len()
        ),
    )
}
