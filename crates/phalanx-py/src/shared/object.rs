//! Handles of shared objects: made, pickled as three numbers, taken up elsewhere.

use crate::raw::{self, Obj};
use phalanx::shm::{Handle, Name, Stale, tree};
use phalanx::wait::Enders;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Makes sure that this process is known in an arena.
pub fn join_tree() -> PyResult<()> {
    // Whoever is in the tree buries the others too.
    phalanx::wait::shared::attend();
    tree::join_tree().map_err(|refused| match refused {
        phalanx::shm::Refused::System(number) => os_error(number),
        other => PyOSError::new_err(format!("no shared memory: {other}")),
    })
}

/// The exception for an error number of the system, of the subclass that Python has for it.
pub fn os_error(number: i32) -> PyErr {
    // SAFETY: the caller makes an exception, so it is attached; a built-in class.
    unsafe {
        *libc::__errno_location() = number;
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
        PyErr::fetch(Python::assume_attached())
    }
}

/// As [`os_error`].
pub fn io_error(error: std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => os_error(number),
        None => error.into(),
    }
}

/// An object that was made, owned, or null with its exception set.
pub fn pointer<T>(made: PyResult<Bound<'_, T>>) -> Obj {
    match made {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            // SAFETY: who has just tried to make an object is attached.
            error.restore(unsafe { Python::assume_attached() });
            ptr::null_mut()
        }
    }
}

/// A tuple of owned references. Null: one of them was, or there is no memory.
///
/// # Safety
/// Attached; live objects, or nulls with an exception set.
pub unsafe fn tuple<const N: usize>(items: [Obj; N]) -> Obj {
    // SAFETY: as the caller promises; the references go to the tuple.
    unsafe {
        let tuple = if items.contains(&ptr::null_mut()) {
            ptr::null_mut()
        } else {
            ffi::PyTuple_New(N.cast_signed())
        };
        for (at, item) in items.into_iter().enumerate() {
            if tuple.is_null() {
                raw::release(item);
            } else {
                ffi::PyTuple_SET_ITEM(tuple, at.cast_signed(), item);
            }
        }
        tuple
    }
}

/// Who can end a wait for an object: whoever holds it.
pub fn enders(object: Name) -> Enders {
    Enders::Holders(object.offset, object.serial)
}

/// A new object of `kind`, big enough for a `T`, which `make` puts into it.
pub fn new<T>(kind: u32, make: impl FnOnce() -> T) -> PyResult<Handle> {
    join_tree()?;
    let handle = Handle::new(kind, size_of::<T>()).map_err(|_| no_memory())?;
    // SAFETY: the object is ours alone so far, that long, and aligned to 64 bytes.
    unsafe { handle.data().cast::<T>().write(make()) };
    Ok(handle)
}

/// What `make` put there.
///
/// # Safety
/// The handle's object was made by [`new`] with the same `T`, which lives in shared memory: all atomics.
#[inline]
pub unsafe fn of<T>(handle: &Handle) -> &T {
    // SAFETY: as the caller promises; the handle keeps it alive.
    unsafe { &*handle.data().cast::<T>() }
}

/// The numbers that stand for a handle in a pickle.
pub type Packed = (u64, u64, u64);

/// See [`Packed`].
pub fn pack(handle: &Handle) -> Packed {
    let ([low, high], offset) = handle.pack();
    (low, high, offset)
}

/// A handle from its numbers.
pub fn unpack((low, high, offset): Packed, kind: u32, what: &str) -> PyResult<Handle> {
    if phalanx::shm::arena().is_some() {
        tree::number();
    }
    Handle::unpack([low, high], offset, kind).map_err(|stale| match stale {
        Stale::OtherTree => PyRuntimeError::new_err(format!(
            "this {what} belongs to another tree of processes\n\
             hint: it can go to processes started through multiprocessing by the program that made it; a manager reaches others"
        )),
        Stale::NoSuch => PyRuntimeError::new_err(format!(
            "this {what} no longer exists: the last process that held it has let it go\n\
             hint: keep a reference until the receiver has it; a pickle can be loaded once"
        )),
    })
}

/// No room in the arena.
pub fn no_memory() -> PyErr {
    PyMemoryError::new_err("the shared memory of this tree of processes is full")
}

/// An object of `class` around a handle from a pickle: the class is called with what `__reduce__` had packed.
pub fn rebuild(
    class: &Bound<'_, pyo3::types::PyType>,
    packed: Packed,
    arguments: &[(&str, &Bound<'_, PyAny>)],
) -> PyResult<Py<PyAny>> {
    let keywords = pyo3::types::PyDict::new(class.py());
    keywords.set_item("_packed", packed)?;
    for (name, value) in arguments {
        keywords.set_item(name, value)?;
    }
    // Not the class itself: a subclass may have an __init__ of its own.
    Ok(class.call_method("__new__", (class,), Some(&keywords))?.unbind())
}

/// The handle of a new object, or of the one that `packed` stands for.
pub fn new_or<T>(
    packed: Option<Packed>,
    kind: u32,
    what: &str,
    make: impl FnOnce() -> T,
) -> PyResult<Handle> {
    match packed {
        Some(packed) => unpack(packed, kind, what),
        None => new(kind, make),
    }
}
