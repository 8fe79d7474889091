//! Keys and values of shared tables, from Python objects to records.
//!
//! A key lives in a table if it is an exact `str`, `bytes`, `int` of 64 bits, `bool`, `float`, `None`, or a tuple of such.
//! Python calls `1`, `1.0` and `True` one key: in the record they are the int, and what was given is shown beside it.

use super::transfer;
use crate::codec::{
    self, BYTES, Encoded, FALSE, FLOAT, INT, NONE, PICKLED, PICKLED_BUFFERS, Room, STR, TRUE, TUPLE,
};
use crate::codec_pickle::Plan;
use crate::raw::Obj;
use phalanx::shm::heap;
use phalanx::table::{Draft, HEAD, Large, words};
use pyo3::ffi;
use std::mem::MaybeUninit;
use std::{ptr, slice};

/// Words of the longest record: a key, what is shown of it, and a small value.
pub const LONGEST: usize = HEAD + 3 * words(codec::INLINE);

/// Room for a record.
pub type Sheet = MaybeUninit<[u64; LONGEST]>;

/// What every pickle of a manager's proxy has in it.
const PROXY: &[u8] = b"RebuildProxy";

unsafe extern "C-unwind" {
    fn PyObject_Hash(object: Obj) -> ffi::Py_hash_t;
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is in the draft.
    Yes,
    /// It cannot lie in a table: an affair of the server.
    Elsewhere,
    /// An exception is set.
    Raised,
}

/// Is it of a class whose objects can be keys here?
unsafe fn is_plain(object: Obj, depth: u8) -> bool {
    // SAFETY: a live object, read as its exact class allows.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyTuple_Type {
            depth > 0
                && (0..ffi::PyTuple_GET_SIZE(object))
                    .all(|at| is_plain(ffi::PyTuple_GET_ITEM(object, at), depth - 1))
        } else if class == &raw mut ffi::PyFloat_Type {
            // A NaN is a key by its identity.
            !ffi::PyFloat_AS_DOUBLE(object).is_nan()
        } else {
            class == &raw mut ffi::PyUnicode_Type
                || class == &raw mut ffi::PyLong_Type
                || class == &raw mut ffi::PyBytes_Type
                || class == &raw mut ffi::PyBool_Type
                || object == ffi::Py_None()
        }
    }
}

/// The room for a part of a draft.
///
/// # Safety
/// The draft was begun on a [`Sheet`] and has room for this part.
unsafe fn room<'a>(draft: &mut Draft) -> &'a mut Room {
    // SAFETY: as the caller promises; a room may hold anything.
    unsafe { &mut *draft.place().cast::<Room>() }
}

/// Writes a key.
///
/// # Safety
/// Attached; a live object; a new draft on a [`Sheet`]; the caller's frame owns nothing that is dropped.
#[inline]
pub unsafe fn write_key(object: Obj, draft: &mut Draft) -> Written {
    // SAFETY: as the caller promises; parts are added in order and fit.
    unsafe {
        if !is_plain(object, codec::DEPTH) {
            return if PyObject_Hash(object) == -1 {
                Written::Raised
            } else {
                Written::Elsewhere
            };
        }
        match codec::encode(object, room(draft)) {
            Encoded::Small { kind, len } => match kind {
                STR | BYTES | INT | NONE => {
                    draft.key(kind, len);
                    Written::Yes
                }
                _ => write_alike(kind, len, draft),
            },
            // It is very long, or has surrogates, or is an int of more than 64 bits.
            Encoded::Large(plan) => {
                Plan::free(plan);
                Written::Elsewhere
            }
            Encoded::Failed => Written::Raised,
        }
    }
}

/// Writes a key that may be equal to one of another kind; `len` bytes of it are in the draft's room.
unsafe fn write_alike(kind: u8, len: usize, draft: &mut Draft) -> Written {
    // SAFETY: the bytes were written there; parts are added in order and fit.
    unsafe {
        let place = draft.place();
        match kind {
            TRUE | FALSE => {
                place.cast::<i64>().write_unaligned((kind == TRUE).into());
                draft.key(INT, 8);
                draft.shown(kind, 0);
            }
            FLOAT => {
                let value = place.cast::<f64>().read_unaligned();
                match whole(value) {
                    Some(int) => {
                        place.cast::<i64>().write_unaligned(int);
                        draft.key(INT, 8);
                        draft.place().cast::<f64>().write_unaligned(value);
                        draft.shown(FLOAT, 8);
                    }
                    None => draft.key(FLOAT, 8),
                }
            }
            TUPLE => {
                let mut given: MaybeUninit<[u8; codec::INLINE]> = MaybeUninit::uninit();
                let given = given.as_mut_ptr().cast::<u8>();
                ptr::copy_nonoverlapping(place, given, len);
                let given = slice::from_raw_parts(given, len);
                let mut pen = Pen {
                    to: place,
                    at: 0,
                    same: true,
                };
                if pen.tuple(&mut { given }).is_none() {
                    return Written::Elsewhere;
                }
                let (written, same) = (pen.at, pen.same);
                draft.key(TUPLE, written);
                if !same {
                    ptr::copy_nonoverlapping(given.as_ptr(), draft.place(), len);
                    draft.shown(TUPLE, len);
                }
            }
            _ => return Written::Elsewhere,
        }
        Written::Yes
    }
}

/// The int of 64 bits that is equal to a float.
fn whole(value: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    (value.fract() == 0.0 && (-BEYOND..BEYOND).contains(&value)).then_some(value as i64)
}

/// Writes an encoded tuple again, with equal items alike, to a room.
struct Pen {
    to: *mut u8,
    at: usize,
    same: bool,
}

impl Pen {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        if codec::INLINE - self.at < bytes.len() {
            return None;
        }
        // SAFETY: that much of the room is left.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.to.add(self.at), bytes.len()) };
        self.at += bytes.len();
        Some(())
    }

    fn int(&mut self, value: i64) -> Option<()> {
        self.same = false;
        self.put(&[INT])?;
        self.put(&value.to_ne_bytes())
    }

    fn tuple(&mut self, rest: &mut &[u8]) -> Option<()> {
        fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
            let (taken, after) = rest.split_at_checked(len)?;
            *rest = after;
            Some(taken)
        }
        let count = take(rest, 1)?;
        self.put(count)?;
        for _ in 0..count[0] {
            let kind = take(rest, 1)?;
            match kind[0] {
                TRUE | FALSE => self.int((kind[0] == TRUE).into())?,
                FLOAT => {
                    let word = take(rest, 8)?;
                    match whole(f64::from_ne_bytes(word.try_into().ok()?)) {
                        Some(int) => self.int(int)?,
                        None => self.put(kind).and_then(|()| self.put(word))?,
                    }
                }
                other => {
                    self.put(kind)?;
                    match other {
                        INT => {
                            let word = take(rest, 8)?;
                            self.put(word)?;
                        }
                        STR | BYTES => {
                            let len = take(rest, 2)?;
                            self.put(len)?;
                            let bytes = take(rest, u16::from_ne_bytes(len.try_into().ok()?).into())?;
                            self.put(bytes)?;
                        }
                        TUPLE => self.tuple(rest)?,
                        _ => {}
                    }
                }
            }
        }
        Some(())
    }
}

/// Writes a value. `open`: it may have proxies of a manager in it.
///
/// # Safety
/// As [`write_key`], with the key written, or none.
#[inline]
pub unsafe fn write_value(object: Obj, draft: &mut Draft, open: bool) -> Written {
    // SAFETY: as the caller promises; the value is the last part and fits.
    unsafe {
        let room = room(draft);
        match codec::encode(object, room) {
            Encoded::Small { kind, len } => {
                let bytes = slice::from_raw_parts(room.as_ptr().cast::<u8>(), len);
                if !open && has_proxy(kind, bytes) {
                    return Written::Elsewhere;
                }
                draft.small(kind, len);
                Written::Yes
            }
            Encoded::Large(plan) => write_large(plan, draft, open),
            Encoded::Failed => Written::Raised,
        }
    }
}

#[cold]
unsafe fn write_large(plan: *mut Plan, draft: &mut Draft, open: bool) -> Written {
    // SAFETY: the plan is ours and freed once; the block is ours.
    unsafe {
        let (kind, len) = ((*plan).kind(), (*plan).len());
        let Some(offset) = transfer::write_behind(plan, heap::HEAD) else {
            return Written::Raised;
        };
        let to = heap::bytes(offset);
        if !open && has_proxy(kind, slice::from_raw_parts(to, len)) {
            heap::free(offset);
            return Written::Elsewhere;
        }
        draft.large(Large {
            kind,
            offset,
            len: len as u64,
            stamp: 0,
        });
        Written::Yes
    }
}

/// Has a pickle a proxy in it? What only looks like one takes the long way, and comes to the same.
fn has_proxy(kind: u8, bytes: &[u8]) -> bool {
    let pickle = match kind {
        PICKLED => bytes,
        PICKLED_BUFFERS => pickle_of(bytes),
        _ => return false,
    };
    // SAFETY: both are that long.
    let found = unsafe {
        libc::memmem(
            pickle.as_ptr().cast(),
            pickle.len(),
            PROXY.as_ptr().cast(),
            PROXY.len(),
        )
    };
    !found.is_null()
}

/// The pickle in a payload with buffers: see `codec_pickle.rs`.
fn pickle_of(bytes: &[u8]) -> &[u8] {
    let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(8 * at..)?.first_chunk()?) as usize);
    let pickle = || {
        let from = word(0)?.checked_add(2)?.checked_mul(8)?;
        bytes.get(from..from.checked_add(word(1)?)?)
    };
    pickle().unwrap_or(bytes)
}
