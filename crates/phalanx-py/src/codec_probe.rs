//! The codec as tests and benchmarks see it, without a channel. Not for daemon threads: PyO3's frames do not unwind.

use crate::codec::{self, Encoded, INLINE};
use crate::codec_pickle::Plan;
use crate::raw::Obj;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::MaybeUninit;
use std::{ptr, slice};

/// An encoded object with its bytes: bytes if it is small, a bytearray that stands for the payload block if not.
struct Record {
    kind: u8,
    bytes: Obj,
}

unsafe fn record(py: Python<'_>, encode: impl FnOnce(&mut codec::Room) -> Encoded) -> PyResult<Record> {
    let mut room = [MaybeUninit::uninit(); INLINE];
    // SAFETY: attached; the first `len` bytes of the room are written, and so is the whole of a plan's block.
    unsafe {
        let (kind, bytes) = match encode(&mut room) {
            Encoded::Small { kind, len } => (
                kind,
                ffi::PyBytes_FromStringAndSize(room.as_ptr().cast(), len.cast_signed()),
            ),
            Encoded::Large(plan) => {
                let bytes = ffi::PyByteArray_FromStringAndSize(ptr::null(), (*plan).len().cast_signed());
                let kind = (*plan).kind();
                if !bytes.is_null() {
                    (*plan).write(ffi::PyByteArray_AS_STRING(bytes).cast());
                }
                Plan::free(plan);
                (kind, bytes)
            }
            Encoded::Failed => return Err(PyErr::fetch(py)),
        };
        if bytes.is_null() {
            return Err(PyMemoryError::new_err("no memory for the record"));
        }
        Ok(Record { kind, bytes })
    }
}

fn pair(py: Python<'_>, record: &Record) -> (u8, Py<PyAny>) {
    // SAFETY: the reference is owned.
    (
        record.kind,
        unsafe { Bound::from_owned_ptr(py, record.bytes) }.unbind(),
    )
}

/// The memory of bytes or a bytearray, as long as nobody changes it.
unsafe fn memory<'a>(object: Obj) -> PyResult<&'a [u8]> {
    // SAFETY: the caller keeps the object alive.
    unsafe {
        if ffi::PyBytes_CheckExact(object) != 0 {
            Ok(&*codec::bytes_of(object))
        } else if ffi::PyByteArray_Check(object) != 0 {
            Ok(slice::from_raw_parts(
                // Not the macro: it gives null for an empty one.
                ffi::PyByteArray_AsString(object).cast(),
                ffi::PyByteArray_GET_SIZE(object) as usize,
            ))
        } else {
            Err(pyo3::exceptions::PyTypeError::new_err("bytes or bytearray"))
        }
    }
}

/// The kind and the bytes of an encoded object; a bytearray stands for a payload block.
#[pyfunction]
pub fn _codec_encode(object: &Bound<'_, PyAny>) -> PyResult<(u8, Py<PyAny>)> {
    let py = object.py();
    // SAFETY: attached; a live object.
    unsafe { record(py, |room| codec::encode(object.as_ptr(), room)) }.map(|record| pair(py, &record))
}

/// The kind and the bytes of a message of `send_bytes`.
#[pyfunction]
pub fn _codec_encode_message(object: &Bound<'_, PyAny>) -> PyResult<(u8, Py<PyAny>)> {
    let py = object.py();
    // SAFETY: attached; a live object.
    unsafe { record(py, |room| codec::encode_message(object.as_ptr(), room)) }.map(|record| pair(py, &record))
}

/// The object in a record: a bytearray stands for a payload block.
#[pyfunction]
pub fn _codec_decode(kind: u8, bytes: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; the bytes live during the call, and a bytearray keeps its size while it is exported.
    unsafe {
        let memory = memory(bytes.as_ptr())?;
        let object = if ffi::PyBytes_CheckExact(bytes.as_ptr()) != 0 {
            codec::decode(kind, memory)
        } else {
            codec::decode_block(kind, memory, bytes.as_ptr())
        };
        Bound::from_owned_ptr_or_err(bytes.py(), object).map(Bound::unbind)
    }
}

/// What `recv_bytes` makes of a record.
#[pyfunction]
pub fn _codec_as_bytes(kind: u8, bytes: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: as in `_codec_decode`.
    unsafe {
        let message = codec::as_bytes_message(kind, memory(bytes.as_ptr())?);
        Bound::from_owned_ptr_or_err(bytes.py(), message).map(Bound::unbind)
    }
}

/// Encodes and decodes an object `times` times and gives the last copy.
#[pyfunction]
#[pyo3(signature = (object, times=1))]
pub fn _codec_roundtrip(object: &Bound<'_, PyAny>, times: usize) -> PyResult<Py<PyAny>> {
    let py = object.py();
    let mut copy = py.None();
    for _ in 0..times {
        let mut room = [MaybeUninit::uninit(); INLINE];
        // SAFETY: attached; live objects; a small record has been written to the room.
        copy = unsafe {
            match codec::encode(object.as_ptr(), &mut room) {
                Encoded::Small { kind, len } => {
                    let bytes = slice::from_raw_parts(room.as_ptr().cast(), len);
                    Bound::from_owned_ptr_or_err(py, codec::decode(kind, bytes))?.unbind()
                }
                encoded => {
                    let (kind, bytes) = pair(py, &record(py, |_| encoded)?);
                    _codec_decode(kind, bytes.bind(py))?
                }
            }
        };
    }
    Ok(copy)
}
