//! How objects that hold other objects begin and end.
//!
//! PyO3's own `tp_new`, `tp_clear` and `tp_dealloc` catch what unwinds. But the end of a held object, a weak reference's
//! callback or, before 3.12, a garbage collection during an allocation may run Python code, and a thread that the
//! shutdown ends in there unwinds. So [`adopt`] puts plain functions before them that do this part without catching.

use crate::raw::{Obj, Py_DecRef};
use phalanx::prim::{AtomicPtr, Ordering};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::ptr;

unsafe extern "C-unwind" {
    fn PyObject_ClearWeakRefs(object: Obj);
}

/// PyO3's functions of one class. SYNC(original): stored with Release in adopt, loaded with Acquire by our functions.
#[derive(Debug, Default)]
pub struct Original {
    new: AtomicPtr<()>,
    clear: AtomicPtr<()>,
    dealloc: AtomicPtr<()>,
}

impl Original {
    /// Nothing yet.
    pub const fn none() -> Self {
        Self {
            new: AtomicPtr::new(ptr::null_mut()),
            clear: AtomicPtr::new(ptr::null_mut()),
            dealloc: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

/// A class whose objects hold others.
pub trait Holder: pyo3::PyTypeInfo {
    /// PyO3's functions of this class.
    fn original() -> &'static Original;

    /// Takes out one held object, or null. What is taken out is the caller's.
    ///
    /// # Safety
    /// Attached; `object` is of this class.
    unsafe fn take_one(object: Obj) -> Obj;
}

type New = unsafe extern "C" fn(*mut ffi::PyTypeObject, Obj, Obj) -> Obj;
type NewUnwind = unsafe extern "C-unwind" fn(*mut ffi::PyTypeObject, Obj, Obj) -> Obj;
type Clear = unsafe extern "C" fn(Obj) -> c_int;
type ClearUnwind = unsafe extern "C-unwind" fn(Obj) -> c_int;
type Dealloc = unsafe extern "C" fn(Obj);
type DeallocUnwind = unsafe extern "C-unwind" fn(Obj);

/// Puts our functions before PyO3's. Called once for each class, before a subclass is made.
pub fn adopt<T: Holder>(py: Python<'_>) {
    let class = T::type_object_raw(py);
    let original = T::original();
    // SAFETY: the class is alive and used by nobody yet; only the promise about unwinding differs, and the callers are C.
    unsafe {
        if let Some(new) = (*class).tp_new {
            original.new.store(new as *mut (), Ordering::Release);
            (*class).tp_new = Some(std::mem::transmute::<NewUnwind, New>(new_object::<T>));
        }
        if let Some(clear) = (*class).tp_clear {
            original.clear.store(clear as *mut (), Ordering::Release);
            (*class).tp_clear = Some(std::mem::transmute::<ClearUnwind, Clear>(clear_object::<T>));
        }
        if let Some(dealloc) = (*class).tp_dealloc {
            original.dealloc.store(dealloc as *mut (), Ordering::Release);
            (*class).tp_dealloc = Some(std::mem::transmute::<DeallocUnwind, Dealloc>(end_object::<T>));
        }
    }
}

unsafe extern "C-unwind" fn new_object<T: Holder>(
    class: *mut ffi::PyTypeObject,
    args: Obj,
    kwargs: Obj,
) -> Obj {
    // SAFETY: stored by `adopt` from a function of this type.
    unsafe {
        let new = std::mem::transmute::<*mut (), New>(T::original().new.load(Ordering::Acquire));
        // From 3.12 on garbage is collected between instructions only.
        let collects = cfg!(not(Py_3_12)) && ffi::PyGC_Disable() == 1;
        let object = new(class, args, kwargs);
        if collects {
            ffi::PyGC_Enable();
        }
        object
    }
}

unsafe fn release_all<T: Holder>(object: Obj) {
    // SAFETY: as `Holder::take_one`; each reference is released once.
    unsafe {
        loop {
            let held = T::take_one(object);
            if held.is_null() {
                return;
            }
            Py_DecRef(held);
        }
    }
}

unsafe extern "C-unwind" fn clear_object<T: Holder>(object: Obj) -> c_int {
    // SAFETY: called by the collector with an object of this class.
    unsafe {
        release_all::<T>(object);
        let clear = std::mem::transmute::<*mut (), Clear>(T::original().clear.load(Ordering::Acquire));
        clear(object)
    }
}

unsafe extern "C-unwind" fn end_object<T: Holder>(object: Obj) {
    // SAFETY: the last reference is gone. What it still holds is released first, so that PyO3's function, which frees the
    // memory, finds nothing whose end could run Python code.
    unsafe {
        if ffi::PyObject_IS_GC(object) != 0 {
            ffi::PyObject_GC_UnTrack(object.cast());
        }
        if (*ffi::Py_TYPE(object)).tp_weaklistoffset > 0 {
            PyObject_ClearWeakRefs(object);
        }
        release_all::<T>(object);
        let dealloc = std::mem::transmute::<*mut (), Dealloc>(T::original().dealloc.load(Ordering::Acquire));
        dealloc(object);
    }
}

/// A [`Holder`] whose objects are taken out by a function of the state.
///
/// With one class only, its objects hold nothing: what is left are weak references and the collector.
macro_rules! holder {
    ($class:ty) => {
        impl $crate::ending::Holder for $class {
            fn original() -> &'static $crate::ending::Original {
                static ORIGINAL: $crate::ending::Original = $crate::ending::Original::none();
                &ORIGINAL
            }

            unsafe fn take_one(_object: $crate::raw::Obj) -> $crate::raw::Obj {
                std::ptr::null_mut()
            }
        }
    };
    ($class:ty, $state:ty) => {
        impl $crate::ending::Holder for $class {
            fn original() -> &'static $crate::ending::Original {
                static ORIGINAL: $crate::ending::Original = $crate::ending::Original::none();
                &ORIGINAL
            }

            unsafe fn take_one(object: $crate::raw::Obj) -> $crate::raw::Obj {
                // SAFETY: as the caller promises; the classes share the state.
                unsafe { $crate::raw::state::<$state>(object).take_one() }
            }
        }
    };
}
pub(crate) use holder;
