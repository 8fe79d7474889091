//! The codec: a Python object to the bytes of a channel's record, and back.
//!
//! | kind | bytes |
//! | --- | --- |
//! | `NONE`, `FALSE`, `TRUE` | nothing |
//! | `INT`, `FLOAT` | 8, in the machine's order; an int beyond 64 bits is pickled |
//! | `STR` | UTF-8; a str with lone surrogates is pickled |
//! | `BYTES`, `BYTEARRAY` | what is in it |
//! | `TUPLE` | count u8, then the items: kind u8, bytes; before those of a str or bytes their length, u16 |
//! | `PICKLED` | a pickle, protocol 5 |
//! | `PICKLED_BUFFERS` | a pickle and the buffers it refers to: see `codec_pickle.rs` |
//! | `MESSAGE` | what `send_bytes` was given |
//!
//! The kinds without a pickle stand for exactly these classes: a subclass is pickled. Items of a tuple are immutable, so
//! nobody can tell that an item found twice arrives as two objects, except by `is`.
//!
//! What is read may be damaged: every length is checked, and what does not fit raises `pickle.UnpicklingError`.
//!
//! Pickling, a finalizer and, before 3.12, a garbage collection at an allocation run Python code, which may unwind (see
//! `raw.rs`). So no frame here owns anything across such a call; an unwound one leaks.

pub use crate::codec_decode::{as_bytes_message, decode, decode_block, decode_in_pieces};
use crate::codec_pickle::{self, Plan};
use crate::raw::Obj;
use pyo3::ffi;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::{ptr, slice};

/// The most bytes of a record that travels in the ring.
pub const INLINE: usize = 8192;

/// Room for a small record.
pub type Room = [MaybeUninit<u8>; INLINE];

/// `None`.
pub const NONE: u8 = 1;
/// `False`.
pub const FALSE: u8 = 2;
/// `True`.
pub const TRUE: u8 = 3;
/// An int of 64 bits.
pub const INT: u8 = 4;
/// A float.
pub const FLOAT: u8 = 5;
/// A str.
pub const STR: u8 = 6;
/// Bytes.
pub const BYTES: u8 = 7;
/// A tuple of the kinds above, or of such tuples.
pub const TUPLE: u8 = 8;
/// A bytearray.
pub const BYTEARRAY: u8 = 9;
/// A pickle.
pub const PICKLED: u8 = 10;
/// A pickle with buffers beside it.
pub const PICKLED_BUFFERS: u8 = 11;
/// A message of `send_bytes`.
pub const MESSAGE: u8 = 12;

/// How deep tuples may lie in each other, the outermost included.
pub const DEPTH: u8 = 5;

unsafe extern "C-unwind" {
    fn PyUnicode_AsUTF8String(text: Obj) -> Obj;
}

/// An encoded object.
#[derive(Debug)]
pub enum Encoded {
    /// It is in the room.
    Small {
        /// One of the kinds above.
        kind: u8,
        /// How many bytes of the room it takes.
        len: usize,
    },
    /// It waits to be written elsewhere; owned, to be freed by [`Plan::free`] as soon as it is written: until then a
    /// bytearray inside cannot be resized.
    Large(*mut Plan),
    /// An exception is set.
    Failed,
}

/// Encodes `object`, into `out` if it fits.
///
/// # Safety
/// Attached; a live object; the caller's frame owns nothing that is dropped.
#[inline]
pub unsafe fn encode(object: Obj, out: &mut Room) -> Encoded {
    let mut pen = Pen::new(out);
    // SAFETY: as the caller promises; the pen stays within `out`.
    unsafe {
        match value::<false>(object, &mut pen, DEPTH) {
            Some(kind) => pen.done(kind),
            None => encode_the_rest(object, out),
        }
    }
}

/// What is too large for the room or has no kind of its own.
#[cold]
unsafe fn encode_the_rest(object: Obj, out: &mut Room) -> Encoded {
    // SAFETY: as in `encode`. A plan is made of an owned reference and of memory that lives as long.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyBytes_Type {
            return Plan::whole(BYTES, ffi::Py_NewRef(object), bytes_of(object)).settle(out);
        }
        if class == &raw mut ffi::PyByteArray_Type {
            return codec_pickle::exported(BYTEARRAY, object, out);
        }
        if class == &raw mut ffi::PyUnicode_Type {
            if let Some(ascii) = ascii_of(object) {
                return Plan::whole(STR, ffi::Py_NewRef(object), ascii).settle(out);
            }
            let utf8 = PyUnicode_AsUTF8String(object);
            if !utf8.is_null() {
                return Plan::whole(STR, utf8, bytes_of(utf8)).settle(out);
            }
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_UnicodeEncodeError) == 0 {
                return Encoded::Failed;
            }
            // Lone surrogates: pickle has a way.
            ffi::PyErr_Clear();
        }
        codec_pickle::pickled(object, out)
    }
}

/// Encodes what `send_bytes` is given: `object`, bytes or anything with a contiguous buffer.
///
/// # Safety
/// As [`encode`].
pub unsafe fn encode_message(object: Obj, out: &mut Room) -> Encoded {
    // SAFETY: as the caller promises; what is copied fits.
    unsafe {
        if ffi::Py_TYPE(object) != &raw mut ffi::PyBytes_Type {
            return codec_pickle::exported(MESSAGE, object, out);
        }
        let bytes = bytes_of(object);
        let mut pen = Pen::new(out);
        if pen.put(bytes.cast(), bytes.len()).is_some() {
            return pen.done(MESSAGE);
        }
        Plan::whole(MESSAGE, ffi::Py_NewRef(object), bytes).settle(out)
    }
}

/// Writes into a room.
struct Pen {
    at: *mut u8,
    left: usize,
}

impl Pen {
    #[inline]
    fn new(room: &mut Room) -> Self {
        Self {
            at: room.as_mut_ptr().cast(),
            left: INLINE,
        }
    }

    #[inline]
    fn done(self, kind: u8) -> Encoded {
        Encoded::Small {
            kind,
            len: INLINE - self.left,
        }
    }

    /// The place of the next `len` bytes, if there is room.
    #[inline]
    fn skip(&mut self, len: usize) -> Option<*mut u8> {
        self.left = self.left.checked_sub(len)?;
        let at = self.at;
        // SAFETY: that much room was left.
        self.at = unsafe { at.add(len) };
        Some(at)
    }

    #[inline]
    unsafe fn put(&mut self, from: *const u8, len: usize) -> Option<()> {
        let at = self.skip(len)?;
        // SAFETY: the caller's bytes, and a room of ours.
        unsafe { ptr::copy_nonoverlapping(from, at, len) };
        Some(())
    }

    #[inline]
    fn word(&mut self, word: [u8; 8]) -> Option<()> {
        // SAFETY: 8 bytes.
        unsafe { self.put(word.as_ptr(), 8) }
    }

    /// Writes characters as UTF-8, if there is room for the longest that so many may become.
    fn utf8<U: Copy + Into<u32>>(&mut self, characters: &[U]) -> Option<()> {
        if self.left / 4 < characters.len() {
            return None;
        }
        let (start, mut at) = (self.at, self.at);
        for character in characters {
            let code: u32 = (*character).into();
            let tail = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
            // SAFETY: 4 bytes are left for each character.
            unsafe {
                let len = match code {
                    0..0x80 => {
                        *at = code as u8;
                        1
                    }
                    0x80..0x800 => {
                        *at.cast() = [0xc0 | (code >> 6) as u8, tail(0)];
                        2
                    }
                    0xd800..0xe000 => return None,
                    0x800..0x1_0000 => {
                        *at.cast() = [0xe0 | (code >> 12) as u8, tail(6), tail(0)];
                        3
                    }
                    _ => {
                        *at.cast() = [0xf0 | (code >> 18) as u8, tail(12), tail(6), tail(0)];
                        4
                    }
                };
                at = at.add(len);
            }
        }
        // SAFETY: both lie in the room.
        let written = unsafe { at.offset_from_unsigned(start) };
        self.skip(written).map(|_| ())
    }

    /// What `write` writes; in a tuple after its length.
    #[inline]
    fn sized<const ITEM: bool>(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        if !ITEM {
            return write(self);
        }
        let length = self.skip(2)?;
        let before = self.left;
        write(self)?;
        let written = ((before - self.left) as u16).to_ne_bytes();
        // SAFETY: two bytes were left out for it; no room is longer than a u16 can say.
        unsafe { ptr::copy_nonoverlapping(written.as_ptr(), length, 2) };
        Some(())
    }
}

/// Writes the bytes of `object` and gives its kind. `None`: it has no kind of its own, or there is no room. Runs no Python
/// code.
#[inline]
unsafe fn value<const ITEM: bool>(object: Obj, pen: &mut Pen, depth: u8) -> Option<u8> {
    // SAFETY: a live object, read as its exact class allows.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyLong_Type {
            let mut overflow: c_int = 0;
            let value = ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow);
            if overflow != 0 {
                return None;
            }
            pen.word(value.to_ne_bytes())?;
            Some(INT)
        } else if class == &raw mut ffi::PyUnicode_Type {
            pen.sized::<ITEM>(|pen| text(object, pen))?;
            Some(STR)
        } else if class == &raw mut ffi::PyTuple_Type {
            tuple(object, pen, depth)?;
            Some(TUPLE)
        } else if object == ffi::Py_None() {
            Some(NONE)
        } else if class == &raw mut ffi::PyFloat_Type {
            pen.word(ffi::PyFloat_AS_DOUBLE(object).to_ne_bytes())?;
            Some(FLOAT)
        } else if class == &raw mut ffi::PyBytes_Type {
            let bytes = bytes_of(object);
            pen.sized::<ITEM>(|pen| pen.put(bytes.cast(), bytes.len()))?;
            Some(BYTES)
        } else if class == &raw mut ffi::PyBool_Type {
            Some(if object == ffi::Py_True() { TRUE } else { FALSE })
        } else if !ITEM && class == &raw mut ffi::PyByteArray_Type {
            let len = ffi::PyByteArray_GET_SIZE(object) as usize;
            pen.put(ffi::PyByteArray_AS_STRING(object).cast(), len)?;
            Some(BYTEARRAY)
        } else {
            None
        }
    }
}

unsafe fn tuple(object: Obj, pen: &mut Pen, depth: u8) -> Option<()> {
    // SAFETY: an exact tuple, which nobody changes; its items are alive.
    unsafe {
        let count = ffi::PyTuple_GET_SIZE(object);
        if depth == 0 {
            return None;
        }
        *pen.skip(1)? = u8::try_from(count).ok()?;
        for at in 0..count {
            let kind = pen.skip(1)?;
            *kind = value::<true>(ffi::PyTuple_GET_ITEM(object, at), pen, depth - 1)?;
        }
        Some(())
    }
}

/// Writes UTF-8. `None`: there may be no room, or there is a surrogate.
#[inline]
unsafe fn text(object: Obj, pen: &mut Pen) -> Option<()> {
    // SAFETY: an exact str, whose data does not change; `len` units of the size that the kind says, aligned.
    unsafe {
        if let Some(ascii) = ascii_of(object) {
            return pen.put(ascii.cast(), ascii.len());
        }
        if ffi::PyUnicode_IS_READY(object) == 0 {
            return None;
        }
        let len = ffi::PyUnicode_GET_LENGTH(object) as usize;
        let data = ffi::PyUnicode_DATA(object);
        match ffi::PyUnicode_KIND(object) {
            ffi::PyUnicode_1BYTE_KIND => pen.utf8(slice::from_raw_parts(data.cast::<u8>(), len)),
            ffi::PyUnicode_2BYTE_KIND => pen.utf8(slice::from_raw_parts(data.cast::<u16>(), len)),
            _ => pen.utf8(slice::from_raw_parts(data.cast::<u32>(), len)),
        }
    }
}

/// The data of a str that is ASCII.
#[inline]
unsafe fn ascii_of(object: Obj) -> Option<*const [u8]> {
    // SAFETY: an exact str; what is not ready (before 3.12, from old extensions) has no data yet.
    unsafe {
        if ffi::PyUnicode_IS_READY(object) == 0 || ffi::PyUnicode_KIND(object) != ffi::PyUnicode_1BYTE_KIND {
            return None;
        }
        let len = ffi::PyUnicode_GET_LENGTH(object) as usize;
        let data = ptr::slice_from_raw_parts(ffi::PyUnicode_DATA(object) as *const u8, len);
        (*data).is_ascii().then_some(data)
    }
}

/// The data of exact bytes.
#[inline]
pub unsafe fn bytes_of(object: Obj) -> *const [u8] {
    // SAFETY: the caller has looked at the class.
    unsafe {
        let len = ffi::Py_SIZE(object) as usize;
        ptr::slice_from_raw_parts(ffi::PyBytes_AS_STRING(object).cast(), len)
    }
}
