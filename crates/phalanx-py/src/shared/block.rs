//! A payload block as a Python object: memory that goes back when the last view of it dies.

use crate::raw::Obj;
use phalanx::channel::Payload;
use phalanx::shm::{heap, tree};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::ptr;

/// The bytes of one large item, which this process has got.
#[pyclass(frozen, module = "phalanx._core", name = "PayloadBlock")]
pub struct PayloadBlock {
    payload: Payload,
    /// The process that it belongs to: a child of a fork sees it, and leaves it alone.
    number: u32,
}

#[pymethods]
impl PayloadBlock {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view"));
        }
        let payload = slf.get().payload;
        // SAFETY: the block lives as long as this object, which the view keeps.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                heap::bytes(payload.offset).cast(),
                payload.len as isize,
                0,
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

impl Drop for PayloadBlock {
    fn drop(&mut self) {
        if tree::number() == self.number {
            heap::free(self.payload.offset);
        }
    }
}

/// A new reference to an object that owns `payload`, or null with an exception set; the block is freed then.
pub fn block(py: Python<'_>, payload: Payload) -> Obj {
    let block = PayloadBlock {
        payload,
        number: tree::number(),
    };
    match Py::new(py, block) {
        Ok(block) => block.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}
