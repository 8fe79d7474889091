//! The items of a `PriorityQueue`.
//!
//! They are in a Python list, ordered by `heapq`, because comparing runs Python code. The core queue holds as many
//! placeholders and does the counting and the waiting; a mutex makes a change of both one step. Its owner may run a
//! comparison that takes long, or that comes back to the same queue, which is a deadlock and is told as one.

use crate::queue::{Item, PyQueue, SHUT_DOWN, Tried, raise_class};
use crate::raw::{self, Obj, Patience};
use crate::slot::Slot;
use phalanx::queue::{PutError, Queue};
use phalanx::sync::{Hold, Mutex};
use phalanx::wait::{Reason, Role};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::ptr;

static MUTEX: Reason = Reason {
    name: "Lock",
    role: Role::Wait,
};

/// `heapq.heappush` and `heapq.heappop`, given by the face.
pub static PUSH: Slot = Slot::empty();
pub static POP: Slot = Slot::empty();

/// The list and its mutex.
pub struct Heap {
    mutex: Mutex,
    list: Py<PyList>,
}

impl Heap {
    /// An empty heap.
    pub fn new(py: Python<'_>) -> Self {
        Self {
            mutex: Mutex::new(),
            list: PyList::empty(py).unbind(),
        }
    }

    /// The list, borrowed.
    pub fn list(&self) -> Obj {
        self.list.as_ptr()
    }

    /// Shows the list to the garbage collector.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.list)
    }

    /// Takes the mutex. `false`: an exception is set.
    ///
    /// # Safety
    /// As [`raw::wait`].
    pub unsafe fn lock(&self, slf: Obj) -> bool {
        if self.mutex.try_lock(Hold::Scoped) {
            return true;
        }
        let deadline = Patience::Forever.deadline();
        // SAFETY: as the caller promises.
        unsafe {
            raw::wait(slf, &MUTEX, deadline, |how| self.mutex.lock(Hold::Scoped, how))
                .or_raise()
                .is_some()
        }
    }

    /// Gives the mutex back.
    pub fn unlock(&self) {
        // Taken by this thread before, so it cannot be free.
        let _ = self.mutex.unlock();
    }

    /// # Safety
    /// As [`raw::wait`]; `item` is alive.
    pub unsafe fn push_once(&self, slf: Obj, queue: &Queue<Item>, item: Obj) -> Tried {
        // SAFETY: as the caller promises.
        unsafe {
            if !self.lock(slf) {
                return Tried::Done(ptr::null_mut());
            }
            let tried = match queue.try_put(Item(ptr::null_mut())) {
                Ok(()) => {
                    let done = raw::call(PUSH.get(), [self.list(), item]);
                    if done.is_null() {
                        queue.set_unfinished(queue.unfinished().saturating_sub(1));
                    }
                    self.match_placeholders(queue);
                    Tried::Done(done)
                }
                Err(PutError::Full(_)) => Tried::Wait,
                Err(PutError::Closed(_)) => Tried::Done(raise_class(&SHUT_DOWN)),
                Err(PutError::Moved(_)) => Tried::Open,
            };
            self.unlock();
            tried
        }
    }

    /// # Safety
    /// As [`raw::wait`].
    pub unsafe fn pop_once(&self, slf: Obj, queue: &Queue<Item>) -> Tried {
        // SAFETY: as the caller promises.
        unsafe {
            if !self.lock(slf) {
                return Tried::Done(ptr::null_mut());
            }
            let tried = match queue.try_get() {
                Ok(_) => {
                    let item = raw::call(POP.get(), [self.list()]);
                    self.match_placeholders(queue);
                    Tried::Done(item)
                }
                Err(error) => PyQueue::not_got(error),
            };
            self.unlock();
            tried
        }
    }

    /// An item whose comparison raised may have stayed in the list or left it.
    fn match_placeholders(&self, queue: &Queue<Item>) {
        // SAFETY: attached; the list is owned.
        let length = unsafe { ffi::PyList_GET_SIZE(self.list()) } as usize;
        if length != queue.len() {
            queue.resize_with(length, || Item(ptr::null_mut()));
        }
    }
}
