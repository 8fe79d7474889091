//! A place for one Python object that any thread may read.

use crate::raw::Obj;
use phalanx::prim::{AtomicPtr, Ordering};
use pyo3::ffi;
use std::ptr;

/// Holds one object or null. Who puts a reference in gives it away; who takes one out owns it; who looks borrows it from
/// whatever keeps the object in its place.
#[derive(Debug)]
pub struct Slot(AtomicPtr<ffi::PyObject>);

impl Default for Slot {
    fn default() -> Self {
        Self::empty()
    }
}

impl Slot {
    /// Holds nothing.
    pub const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The object, borrowed, or null.
    #[inline]
    pub fn get(&self) -> Obj {
        // SYNC(slot): pairs with the Release half of the swap in put; the object is seen whole.
        self.0.load(Ordering::Acquire)
    }

    /// Puts `object` in and gives out what was there before, owned.
    pub fn put(&self, object: Obj) -> Obj {
        // SYNC(slot): pairs with the Acquire load in get.
        self.0.swap(object, Ordering::AcqRel)
    }

    /// Takes out what is there, owned, or null.
    pub fn take(&self) -> Obj {
        self.put(ptr::null_mut())
    }
}
