//! Memory that processes share: blocks and counters. What ctypes objects need with a lock is in `synchronized.rs`.

use crate::ending::{self, holder};
use crate::raw::{self, Method, Obj};
use crate::shared::object::{self, Packed};
use phalanx::prim::{AtomicU64, Ordering};
use phalanx::shm::{Handle, OBJECT_HEAD};
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyType};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

// ---------------------------------------------------------------- blocks

/// Zeroed memory that all processes of a tree see; it lives as long as any of them holds it.
///
/// Exports a writable buffer, aligned to 64 bytes. Pickles as a handle, at any time.
#[pyclass(frozen, weakref, module = "phalanx._core")]
pub struct SharedBlock {
    handle: Handle,
}

impl SharedBlock {
    const KIND: u32 = 0x31;
    const NAME: &'static str = "shared block";
}

#[pymethods]
impl SharedBlock {
    #[new]
    fn new(size: &Bound<'_, PyInt>) -> PyResult<Self> {
        let size = size.extract::<isize>()?;
        if size < 0 {
            return Err(PyValueError::new_err(format!("Size {size} out of range")));
        }
        if size >= isize::MAX - OBJECT_HEAD.cast_signed() {
            return Err(PyOverflowError::new_err(format!("Size {size} too large")));
        }
        object::join_tree()?;
        let handle = Handle::new(Self::KIND, size.cast_unsigned()).map_err(|_| {
            PyMemoryError::new_err(format!(
                "the shared memory of this tree of processes has no room for {size} bytes"
            ))
        })?;
        Ok(Self { handle })
    }

    fn __len__(&self) -> usize {
        self.handle.len()
    }

    /// Where it begins in this process.
    #[getter]
    fn _address(&self) -> usize {
        self.handle.data().addr()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let handle = &slf.get().handle;
        let (data, len) = (handle.data().cast(), handle.len().cast_signed());
        // SAFETY: the handle keeps the memory, which never moves, and the view keeps the object with the handle.
        if unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, len, 0, flags) } == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }

    /// The numbers that stand for it in a pickle; one _unpack is expected for them.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// Take up what _pack gave, in any process of the tree.
    #[classmethod]
    fn _unpack(_class: &Bound<'_, PyType>, low: u64, high: u64, offset: u64) -> PyResult<Self> {
        let handle = object::unpack((low, high, offset), Self::KIND, Self::NAME)?;
        Ok(Self { handle })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Packed)> {
        let rebuild = slf.get_type().getattr("_unpack")?;
        Ok((rebuild, slf.get()._pack()))
    }

    fn __repr__(&self) -> String {
        format!("<SharedBlock of {} bytes>", self.handle.len())
    }
}

// ---------------------------------------------------------------- counters

/// A number that all processes of a tree see and change without a lock: each operation is one step for all of them.
///
/// It holds 64 bits with a sign and wraps round: one more than 2**63 - 1 is -2**63. Pickles as a handle, at any time.
#[pyclass(frozen, weakref, module = "phalanx._core")]
pub struct AtomicCounter {
    handle: Handle,
}

impl AtomicCounter {
    const KIND: u32 = 0x32;
    const NAME: &'static str = "AtomicCounter";

    /// SYNC(counter): all operations are SeqCst, as a program that uses several counters expects.
    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

#[pymethods]
impl AtomicCounter {
    #[new]
    #[pyo3(signature = (value = None))]
    fn new(value: Option<&Bound<'_, PyInt>>) -> PyResult<Self> {
        let value: i64 = value.map_or(Ok(0), |value| value.extract())?;
        let handle = object::new(Self::KIND, || AtomicU64::new(value.cast_unsigned()))?;
        Ok(Self { handle })
    }

    /// The numbers that stand for it in a pickle; one _unpack is expected for them.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// Take up what _pack gave, in any process of the tree.
    #[classmethod]
    fn _unpack(_class: &Bound<'_, PyType>, low: u64, high: u64, offset: u64) -> PyResult<Self> {
        let handle = object::unpack((low, high, offset), Self::KIND, Self::NAME)?;
        Ok(Self { handle })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Packed)> {
        let rebuild = slf.get_type().getattr("_unpack")?;
        Ok((rebuild, slf.get()._pack()))
    }

    fn __repr__(&self) -> String {
        format!(
            "AtomicCounter({})",
            self.word().load(Ordering::SeqCst).cast_signed()
        )
    }
}

/// An int of 64 bits. `None`: an exception is set.
///
/// # Safety
/// A live object.
pub unsafe fn number(object: Obj) -> Option<u64> {
    // SAFETY: a live object; attached.
    unsafe {
        let number = raw::PyLong_AsLongLong(object);
        if number == -1 && !ffi::PyErr_Occurred().is_null() {
            return None;
        }
        Some(number.cast_unsigned())
    }
}

fn python_int(word: u64) -> Obj {
    // SAFETY: attached, as every caller.
    unsafe { ffi::PyLong_FromLongLong(word.cast_signed()) }
}

unsafe extern "C-unwind" fn counter_add(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let n = if count == 0 && keywords.is_null() {
            Some(1)
        } else {
            match raw::arguments("add", [c"n"], args, count, keywords) {
                Some([n]) if n.is_null() => Some(1),
                Some([n]) => number(n),
                None => None,
            }
        };
        let Some(n) = n else { return ptr::null_mut() };
        let before = raw::state::<AtomicCounter>(slf)
            .word()
            .fetch_add(n, Ordering::SeqCst);
        python_int(before.wrapping_add(n))
    }
}

unsafe extern "C-unwind" fn counter_exchange(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in counter_add.
    unsafe {
        let Some([value]) = raw::arguments("exchange", [c"value"], args, count, keywords) else {
            return ptr::null_mut();
        };
        if value.is_null() {
            return raw::raise(
                raw::type_error(),
                c"exchange() missing required argument 'value' (pos 1)",
            );
        }
        match number(value) {
            Some(value) => python_int(
                raw::state::<AtomicCounter>(slf)
                    .word()
                    .swap(value, Ordering::SeqCst),
            ),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn counter_compare_exchange(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as in counter_add.
    unsafe {
        let names = [c"expected", c"new"];
        let Some([expected, new]) = raw::arguments("compare_exchange", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        if expected.is_null() || new.is_null() {
            return raw::raise(
                raw::type_error(),
                c"compare_exchange() needs both the expected and the new value",
            );
        }
        let (Some(expected), Some(new)) = (number(expected), number(new)) else {
            return ptr::null_mut();
        };
        let word = raw::state::<AtomicCounter>(slf).word();
        raw::boolean(
            word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok(),
        )
    }
}

unsafe extern "C-unwind" fn counter_value(slf: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as in counter_add.
    python_int(
        unsafe { raw::state::<AtomicCounter>(slf) }
            .word()
            .load(Ordering::SeqCst),
    )
}

unsafe extern "C-unwind" fn counter_set_value(slf: Obj, value: Obj, _: *mut c_void) -> c_int {
    // SAFETY: as in counter_add.
    unsafe {
        if value.is_null() {
            raw::raise(attribute_error(), c"the value of a counter cannot be deleted");
            return -1;
        }
        let Some(value) = number(value) else { return -1 };
        raw::state::<AtomicCounter>(slf)
            .word()
            .store(value, Ordering::SeqCst);
        0
    }
}

// ---------------------------------------------------------------- properties

/// The built-in exception class.
pub fn attribute_error() -> Obj {
    // SAFETY: it is set once when the interpreter starts.
    unsafe { ffi::PyExc_AttributeError }
}

/// The getter of a property: the object and the closure.
pub type Get = unsafe extern "C-unwind" fn(Obj, *mut c_void) -> Obj;
/// The setter of a property; a null value deletes.
pub type Set = unsafe extern "C-unwind" fn(Obj, Obj, *mut c_void) -> c_int;

/// A new data descriptor of class `T`. `name` and what `closure` points to live as long as the process.
pub fn descriptor<T: pyo3::PyTypeInfo>(
    py: Python<'_>,
    name: *const c_char,
    get: Get,
    set: Option<Set>,
    doc: &'static CStr,
    closure: *mut c_void,
) -> PyResult<Py<PyAny>> {
    let definition = Box::leak(Box::new(ffi::PyGetSetDef {
        name,
        // SAFETY: only the promise about unwinding differs, and the caller is C.
        get: Some(unsafe { std::mem::transmute::<Get, ffi::getter>(get) }),
        // SAFETY: as above.
        set: set.map(|set| unsafe { std::mem::transmute::<Set, ffi::setter>(set) }),
        doc: doc.as_ptr(),
        closure,
    }));
    // SAFETY: the definition is leaked, so it outlives the descriptor; the class is alive.
    unsafe {
        let descriptor = ffi::PyDescr_NewGetSet(T::type_object_raw(py), definition);
        Bound::from_owned_ptr_or_err(py, descriptor).map(Bound::unbind)
    }
}

/// Adds a property to class `T`.
pub fn add_property<T: pyo3::PyTypeInfo>(
    py: Python<'_>,
    name: &'static CStr,
    get: Get,
    set: Option<Set>,
    doc: &'static CStr,
) -> PyResult<()> {
    let property = descriptor::<T>(py, name.as_ptr(), get, set, doc, ptr::null_mut())?;
    T::type_object(py).setattr(name.to_string_lossy().as_ref(), property)
}

holder!(SharedBlock);
holder!(AtomicCounter);

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<SharedBlock>(py);
    ending::adopt::<AtomicCounter>(py);
    raw::attach::<AtomicCounter>(
        py,
        &[
            Method::Fast(
                c"add",
                counter_add,
                c"add($self, /, n=1)\n--\n\n\
Add n, which may be negative, and return the value after that. O(1).\n\n\
Wraps round beyond 64 bits. Raises OverflowError if n itself has more.",
            ),
            Method::Fast(
                c"exchange",
                counter_exchange,
                c"exchange($self, /, value)\n--\n\nSet the value and return the one before. O(1).",
            ),
            Method::Fast(
                c"compare_exchange",
                counter_compare_exchange,
                c"compare_exchange($self, /, expected, new)\n--\n\n\
Set the value to new if it is expected; return whether it was. O(1).",
            ),
        ],
    )?;
    add_property::<AtomicCounter>(
        py,
        c"value",
        counter_value,
        Some(counter_set_value),
        c"The value now. Use add() to change it by something: between reading and setting another may.",
    )
}
