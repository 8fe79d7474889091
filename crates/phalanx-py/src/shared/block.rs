//! A received payload as a Python object: memory that goes back when the last view of it dies.
//!
//! What is got belongs to the process that got it, and a child of a fork is to have a copy of its own, as of any other
//! memory. So a long payload is mapped once more, privately: what is read is the shared memory itself, without a copy, and
//! what is written is copied page by page. The block below it is an object with holders, so it stays while a child that
//! was forked meanwhile has it too. A short payload is cheaper copied.

use crate::raw::Obj;
use phalanx::channel::Payload;
use phalanx::shm::{self, Handle, OBJECT_HEAD};
use phalanx::sys;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::ptr;

/// The kind of a received payload in the arena.
const RECEIVED: u32 = 0x18;

/// The bytes of one large item, which this process has got.
#[pyclass(frozen, module = "phalanx._core", name = "PayloadBlock")]
pub struct PayloadBlock {
    /// The private mapping of the whole block.
    map: Mapping,
    /// Keeps the block; dropped after the mapping.
    _handle: Handle,
}

/// A private mapping, undone when it is dropped.
struct Mapping {
    base: *mut u8,
    len: usize,
}

// SAFETY: memory that only Python objects reach, as they reach any other buffer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by map_private; no view of the object that owns it is left.
        unsafe { sys::unmap(self.base, self.len) };
    }
}

#[pymethods]
impl PayloadBlock {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view"));
        }
        let bytes = slf.get().bytes();
        // SAFETY: the mapping lives as long as this object, which the view keeps.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.cast_mut().cast(),
                bytes.len() as isize,
                0,
                flags,
            )
        };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}

impl PayloadBlock {
    fn bytes(&self) -> *const [u8] {
        let from = self.map.base.wrapping_add(OBJECT_HEAD);
        ptr::slice_from_raw_parts(from, self.map.len - OBJECT_HEAD)
    }
}

/// An object that owns the block of `payload`, a new reference, and its bytes. `None`: it cannot be mapped, and the block
/// is still the caller's.
pub fn block(py: Python<'_>, payload: Payload) -> Option<(Obj, *const [u8])> {
    let len = OBJECT_HEAD + payload.len as usize;
    let base = sys::map_private(shm::arena()?.file(), payload.offset, len).ok()?;
    let map = Mapping { base, len };
    let handle = Handle::adopt(payload.offset, RECEIVED).ok()?;
    let block = Py::new(py, PayloadBlock { map, _handle: handle }).ok()?;
    let bytes = block.get().bytes();
    Some((block.into_ptr(), bytes))
}
