//! From the number of a dead process to `phalanx.OwnerDied`.

use crate::raw::{self, Obj};
use crate::slot::Slot;
use phalanx::shm::tree::{self, Life};
use pyo3::ffi;
use std::ffi::CStr;
use std::ptr;

/// The class OwnerDied, once one was raised.
static ERROR: Slot = Slot::empty();

/// Is `class`, which may be None, OwnerDied or a subclass?
///
/// # Safety
/// Attached; a live object.
#[inline]
pub unsafe fn is_owner_died(class: Obj) -> bool {
    let error = ERROR.get();
    // SAFETY: as the caller promises; the error class is kept for ever.
    !error.is_null()
        && unsafe { ffi::PyType_Check(class) != 0 && ffi::PyType_IsSubtype(class.cast(), error.cast()) != 0 }
}

/// Sets `OwnerDied` for something of `kind` that a thread of a dead process owned, taken at `place`. Returns null.
///
/// # Safety
/// Attached; the caller's frame owns nothing.
pub unsafe fn raise(kind: &CStr, thread: u32, place: &str) -> Obj {
    // SAFETY: as the caller promises.
    unsafe { raise_for(kind, &tree::life(tree::number_of(thread)), place, 1) }
}

/// The same for a process; `count` is how many things it had.
///
/// # Safety
/// As [`raise`].
pub unsafe fn raise_for(kind: &CStr, life: &Life, place: &str, count: u32) -> Obj {
    // SAFETY: attached; every reference made here is given back, and only plain pointers are alive while Python code runs.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"phalanx.multiprocessing._deaths".as_ptr());
        if module.is_null() {
            return module;
        }
        let function = ffi::PyObject_GetAttrString(module, c"owner_died".as_ptr());
        ffi::Py_DECREF(module);
        if function.is_null() {
            return function;
        }
        let text = |text: &str| ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize);
        let arguments = [
            ffi::PyUnicode_FromString(kind.as_ptr()),
            ffi::PyLong_FromUnsignedLong(life.pid.into()),
            text(&life.name),
            life.status
                .map_or_else(raw::none, |status| ffi::PyLong_FromUnsignedLong(status.into())),
            text(place),
            ffi::PyLong_FromUnsignedLong(count.into()),
        ];
        let error = raw::call(function, arguments);
        for argument in arguments {
            ffi::Py_XDECREF(argument);
        }
        ffi::Py_DECREF(function);
        if !error.is_null() {
            if ERROR.get().is_null() {
                ffi::Py_INCREF(ffi::Py_TYPE(error).cast());
                ERROR.put(ffi::Py_TYPE(error).cast());
            }
            ffi::PyErr_SetObject(ffi::Py_TYPE(error).cast(), error);
            raw::release(error);
        }
        ptr::null_mut()
    }
}
