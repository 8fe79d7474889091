//! `SimpleQueue`: unbounded, without task tracking, and safe to put into from a destructor at any moment: no Python code
//! runs while its state is locked.

use crate::ending::{self, holder};
use crate::queue::{EMPTY, Item, Tried, keep_trying, patience, traverse};
use crate::raw::{self, Method, Obj, Patience};
use phalanx::queue::{Order, Queue};
use phalanx::wait::{Reason, Role};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::ptr;

static GET: Reason = Reason {
    name: "SimpleQueue.get",
    role: Role::Wait,
};

/// An unbounded queue without task tracking, whose `put` may be called from a destructor at any moment.
#[pyclass(frozen, subclass, weakref, module = "_queue", name = "SimpleQueue")]
pub struct SimpleQueue {
    queue: Queue<Item>,
}

#[pymethods]
impl SimpleQueue {
    #[new]
    fn new() -> Self {
        Self {
            queue: Queue::new(Order::Fifo, 0),
        }
    }

    /// Is it empty? Another thread may change that at once.
    fn empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many items are in it. Another thread may change that at once.
    fn qsize(&self) -> usize {
        self.queue.len()
    }

    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, pyo3::types::PyType>, item: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let types = cls.py().import("types")?;
        Ok(types.getattr("GenericAlias")?.call1((cls, item))?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        traverse(&self.queue, &visit)
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}
}

impl SimpleQueue {
    fn take_one(&self) -> Obj {
        self.queue.take_one().map_or(ptr::null_mut(), |item| item.0)
    }
}

holder!(SimpleQueue, SimpleQueue);

unsafe extern "C-unwind" fn simple_put(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing. An unbounded queue is never full.
    unsafe {
        let item = if count == 1 && keywords.is_null() {
            *args
        } else {
            match raw::arguments("put", [c"item", c"block", c"timeout"], args, count, keywords) {
                Some([item, _, _]) => item,
                None => return ptr::null_mut(),
            }
        };
        if item.is_null() {
            return raw::raise(
                raw::type_error(),
                c"put() missing required argument 'item' (pos 1)",
            );
        }
        match raw::state::<SimpleQueue>(slf)
            .queue
            .try_put(Item(ffi::Py_NewRef(item)))
        {
            Ok(()) => raw::none(),
            Err(_) => raw::raise(
                raw::system_error(),
                c"phalanx: a SimpleQueue refused an item; please report this",
            ),
        }
    }
}

unsafe extern "C-unwind" fn simple_put_nowait(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as in simple_put.
    unsafe {
        match raw::arguments("put_nowait", [c"item"], args, count, keywords) {
            Some([item]) => simple_put(
                slf,
                &raw const item,
                isize::from(!item.is_null()),
                ptr::null_mut(),
            ),
            None => ptr::null_mut(),
        }
    }
}

unsafe fn simple_get_with(slf: Obj, patience: Patience) -> Obj {
    // SAFETY: as in simple_put.
    unsafe {
        let queue = &raw::state::<SimpleQueue>(slf).queue;
        let once = || match queue.try_get() {
            Ok(item) => Tried::Done(item.0),
            Err(_) => Tried::Wait,
        };
        keep_trying(
            slf,
            patience,
            &GET,
            &EMPTY,
            once,
            |how| queue.wait_for_item(how),
            ptr::null_mut,
        )
    }
}

unsafe extern "C-unwind" fn simple_get(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in simple_put.
    unsafe {
        if count == 0 && keywords.is_null() {
            return simple_get_with(slf, Patience::Forever);
        }
        let Some([block, timeout]) = raw::arguments("get", [c"block", c"timeout"], args, count, keywords)
        else {
            return ptr::null_mut();
        };
        match patience(block, timeout) {
            Some(patience) => simple_get_with(slf, patience),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn simple_get_nowait(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in simple_put.
    unsafe { simple_get_with(slf, Patience::Now) }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<SimpleQueue>(py);
    raw::attach::<SimpleQueue>(
        py,
        &[
            Method::Fast(
                c"put",
                simple_put,
                c"put($self, /, item, block=True, timeout=None)\n--\n\n\
Put an item. Never waits; block and timeout are there for Queue's sake. O(1).",
            ),
            Method::Fast(
                c"put_nowait",
                simple_put_nowait,
                c"put_nowait($self, /, item)\n--\n\nThe same as put(item).",
            ),
            Method::Fast(
                c"get",
                simple_get,
                c"get($self, /, block=True, timeout=None)\n--\n\n\
Take an item out, waiting until there is one.\n\n\
block: if false, do not wait. timeout: seconds to wait at the most, None for no limit.\n\
Raises queue.Empty when none came in time, ValueError for a negative timeout, phalanx.DeadlockError if the wait could\n\
never end. O(1).",
            ),
            Method::NoArgs(
                c"get_nowait",
                simple_get_nowait,
                c"get_nowait($self, /)\n--\n\nTake an item out if there is one now; otherwise raise queue.Empty.",
            ),
        ],
    )
}
