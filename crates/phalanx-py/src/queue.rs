//! `Queue`, `LifoQueue` and `PriorityQueue`.
//!
//! A queue begins native: the items are in the core's queue, and a call costs no Python. Once somebody asks for its
//! `queue`, `mutex` or one of its conditions, or if a subclass has its own `_put`, `_get`, `_qsize` or `_init`, its items
//! move to the open form in `phalanx/queue.py`, for good; the core then answers `Moved` and the call goes there.

use crate::ending::{self, holder};
use crate::heap::{self, Heap};
use crate::raw::{self, Ended, Method, Obj, Patience};
use crate::slot::Slot;
use phalanx::queue::{GetError, Order, PutError, Queue};
use phalanx::wait::{How, Reason, Role, Stopped};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ptr;

static GET: Reason = Reason {
    name: "Queue.get",
    role: Role::Wait,
};
static PUT: Reason = Reason {
    name: "Queue.put",
    role: Role::Wait,
};
static JOIN: Reason = Reason {
    name: "Queue.join",
    role: Role::Wait,
};

/// An owned object in a queue; null is the placeholder of a priority queue. Given back by hand.
#[derive(Debug)]
pub struct Item(pub Obj);

// SAFETY: an owned reference may be held by any thread; its count is changed only attached.
unsafe impl Send for Item {}

/// The classes of the exceptions, given by the face.
pub(crate) static EMPTY: Slot = Slot::empty();
static FULL: Slot = Slot::empty();
pub(crate) static SHUT_DOWN: Slot = Slot::empty();

/// Tell the extension which exceptions to raise and which functions order a heap.
#[pyfunction]
pub fn _set_queue_parts(
    empty: Py<PyAny>,
    full: Py<PyAny>,
    shut_down: Py<PyAny>,
    heappush: Py<PyAny>,
    heappop: Py<PyAny>,
) {
    let parts = [
        (&EMPTY, empty),
        (&FULL, full),
        (&SHUT_DOWN, shut_down),
        (&heap::PUSH, heappush),
        (&heap::POP, heappop),
    ];
    for (slot, part) in parts {
        // Kept for ever; a second call leaks the first parts, which are the same.
        slot.put(part.into_ptr());
    }
}

#[cold]
pub(crate) fn raise_class(class: &Slot) -> Obj {
    // SAFETY: attached; the class is set by the face before any queue is made.
    unsafe { ffi::PyErr_SetNone(class.get()) };
    ptr::null_mut()
}

/// A queue for threads.
#[pyclass(frozen, subclass, weakref, module = "phalanx._core", name = "Queue")]
pub struct PyQueue {
    queue: Queue<Item>,
    heap: Option<Heap>,
}

/// The newest item first.
#[pyclass(frozen, subclass, weakref, extends = PyQueue, module = "phalanx._core", name = "LifoQueue")]
pub struct PyLifoQueue;

/// The smallest item first.
#[pyclass(frozen, subclass, weakref, extends = PyQueue, module = "phalanx._core", name = "PriorityQueue")]
pub struct PyPriorityQueue;

fn bound(maxsize: &Bound<'_, PyAny>) -> PyResult<usize> {
    // Like the standard library: anything not above zero means no bound; too large to count means none either.
    if !maxsize.gt(0)? {
        return Ok(0);
    }
    Ok(maxsize
        .extract::<usize>()
        .unwrap_or_else(|_| maxsize.extract::<f64>().map_or(0, |size| size.ceil() as usize)))
}

#[pymethods]
impl PyQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            queue: Queue::new(Order::Fifo, 0),
            heap: None,
        }
    }

    /// Change the most items it takes.
    fn _set_bound(&self, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        self.queue.set_bound(bound(maxsize)?);
        Ok(())
    }

    /// Has it moved to the open form?
    fn _is_open(&self) -> bool {
        self.queue.is_moved()
    }

    fn _unfinished(&self) -> usize {
        self.queue.unfinished()
    }

    fn _is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(heap) = &self.heap {
            heap.visit(&visit)?;
        }
        traverse(&self.queue, &visit)
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}
}

pub(crate) fn traverse(queue: &Queue<Item>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut result = Ok(());
    queue.for_each(|item| {
        if result.is_ok() && !item.0.is_null() {
            // SAFETY: a live object that the queue owns.
            result = unsafe { raw::visit(visit, item.0) };
        }
    });
    result
}

impl PyQueue {
    fn take_one(&self) -> Obj {
        if let Some(heap) = &self.heap {
            // The list itself ends with the queue, empty.
            // SAFETY: attached; the list is owned, and its last item's reference goes to the caller.
            unsafe {
                let list = heap.list();
                let last = ffi::PyList_GET_SIZE(list) - 1;
                if last < 0 {
                    return ptr::null_mut();
                }
                let item = ffi::Py_NewRef(ffi::PyList_GET_ITEM(list, last));
                ffi::PyList_SetSlice(list, last, last + 1, ptr::null_mut());
                return item;
            }
        }
        self.queue.take_one().map_or(ptr::null_mut(), |item| item.0)
    }
}

holder!(PyQueue, PyQueue);
holder!(PyLifoQueue, PyQueue);
holder!(PyPriorityQueue, PyQueue);

#[pymethods]
impl PyLifoQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(PyQueue {
            queue: Queue::new(Order::Lifo, 0),
            heap: None,
        })
        .add_subclass(Self)
    }
}

#[pymethods]
impl PyPriorityQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(maxsize=0)")]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(PyQueue {
            queue: Queue::new(Order::Fifo, 0),
            heap: Some(Heap::new(py)),
        })
        .add_subclass(Self)
    }
}

/// What one try without waiting came to.
pub(crate) enum Tried {
    Done(Obj),
    /// Wait and try again.
    Wait,
    /// The open form goes on.
    Open,
}

impl PyQueue {
    /// # Safety
    /// Attached; `item` is alive; the caller's frame owns nothing.
    #[inline]
    unsafe fn put_once(&self, slf: Obj, item: Obj) -> Tried {
        // SAFETY: as the caller promises; the new reference is the queue's from here on.
        unsafe {
            if let Some(heap) = &self.heap {
                return heap.push_once(slf, &self.queue, item);
            }
            match self.queue.try_put(Item(ffi::Py_NewRef(item))) {
                Ok(()) => Tried::Done(raw::none()),
                Err(PutError::Full(_)) => {
                    ffi::Py_DECREF(item);
                    Tried::Wait
                }
                Err(PutError::Closed(_)) => {
                    ffi::Py_DECREF(item);
                    Tried::Done(raise_class(&SHUT_DOWN))
                }
                Err(PutError::Moved(_)) => {
                    ffi::Py_DECREF(item);
                    Tried::Open
                }
            }
        }
    }

    /// # Safety
    /// As `put_once`.
    #[inline]
    unsafe fn get_once(&self, slf: Obj) -> Tried {
        if let Some(heap) = &self.heap {
            // SAFETY: as the caller promises.
            return unsafe { heap.pop_once(slf, &self.queue) };
        }
        match self.queue.try_get() {
            Ok(item) => Tried::Done(item.0),
            Err(error) => Self::not_got(error),
        }
    }

    pub(crate) fn not_got(error: GetError) -> Tried {
        match error {
            GetError::Empty => Tried::Wait,
            GetError::Closed => Tried::Done(raise_class(&SHUT_DOWN)),
            GetError::Moved => Tried::Open,
        }
    }
}

/// `block` and `timeout` of `put` and `get`. `None`: an exception is set.
pub(crate) unsafe fn patience(block: Obj, timeout: Obj) -> Option<Patience> {
    // SAFETY: live objects or null.
    unsafe {
        if !raw::truth(block, true)? {
            return Some(Patience::Now);
        }
        if timeout.is_null() || timeout == ffi::Py_None() {
            return Some(Patience::Forever);
        }
        let seconds = raw::seconds(timeout)?;
        if seconds < 0.0 {
            raw::raise(raw::value_error(), c"'timeout' must be a non-negative number");
            return None;
        }
        Some(Patience::Seconds(seconds))
    }
}

/// Tries, waits, tries again until the deadline.
///
/// # Safety
/// Attached; the caller's frame owns nothing.
#[inline]
pub(crate) unsafe fn keep_trying(
    slf: Obj,
    patience: Patience,
    reason: &'static Reason,
    failure: &Slot,
    once: impl Fn() -> Tried,
    wait: impl Fn(&How<'_>) -> Result<bool, Stopped>,
    open: impl FnOnce() -> Obj,
) -> Obj {
    match once() {
        Tried::Done(result) => return result,
        Tried::Open => return open(),
        Tried::Wait if patience == Patience::Now => return raise_class(failure),
        Tried::Wait => {}
    }
    let deadline = patience.deadline();
    loop {
        // SAFETY: as the caller promises.
        let Some(worth_it) = (unsafe { raw::wait(slf, reason, deadline, &wait).or_raise() }) else {
            return ptr::null_mut();
        };
        match once() {
            Tried::Done(result) => return result,
            Tried::Open => return open(),
            Tried::Wait if !worth_it => return raise_class(failure),
            Tried::Wait => {}
        }
    }
}

unsafe fn put_with(slf: Obj, item: Obj, patience: Patience, open: impl FnOnce() -> Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let queue: &PyQueue = raw::state(slf);
        let once = || queue.put_once(slf, item);
        keep_trying(
            slf,
            patience,
            &PUT,
            &FULL,
            once,
            |how| queue.queue.wait_for_room(how),
            open,
        )
    }
}

unsafe fn get_with(slf: Obj, patience: Patience, open: impl FnOnce() -> Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let queue: &PyQueue = raw::state(slf);
        let once = || queue.get_once(slf);
        keep_trying(
            slf,
            patience,
            &GET,
            &EMPTY,
            once,
            |how| queue.queue.wait_for_item(how),
            open,
        )
    }
}

/// An absent argument as Python's default.
unsafe fn or(object: Obj, default: Obj) -> Obj {
    if object.is_null() { default } else { object }
}

unsafe extern "C-unwind" fn put(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let names = [c"item", c"block", c"timeout"];
        let (item, block, timeout) = if count == 1 && keywords.is_null() {
            (*args, ptr::null_mut(), ptr::null_mut())
        } else {
            match raw::arguments("put", names, args, count, keywords) {
                Some([item, block, timeout]) => (item, block, timeout),
                None => return ptr::null_mut(),
            }
        };
        if item.is_null() {
            return raw::raise(
                raw::type_error(),
                c"put() missing 1 required positional argument: 'item'",
            );
        }
        // Without a bound nothing is waited for, and as in the standard library the timeout is not even looked at.
        let bounded = raw::state::<PyQueue>(slf).queue.bound() != 0;
        let patience = if bounded {
            patience(block, timeout)
        } else {
            Some(Patience::Now)
        };
        let Some(patience) = patience else {
            return ptr::null_mut();
        };
        put_with(slf, item, patience, || {
            let (block, timeout) = (or(block, ffi::Py_True()), or(timeout, ffi::Py_None()));
            raw::call_method(names::open_put(), [slf, item, block, timeout])
        })
    }
}

unsafe extern "C-unwind" fn put_nowait(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let Some([item]) = raw::arguments("put_nowait", [c"item"], args, count, keywords) else {
            return ptr::null_mut();
        };
        if item.is_null() {
            return raw::raise(
                raw::type_error(),
                c"put_nowait() missing 1 required positional argument: 'item'",
            );
        }
        put_with(slf, item, Patience::Now, || {
            raw::call_method(names::open_put(), [slf, item, ffi::Py_False(), ffi::Py_None()])
        })
    }
}

unsafe extern "C-unwind" fn get(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let (block, timeout) = if count == 0 && keywords.is_null() {
            (ptr::null_mut(), ptr::null_mut())
        } else {
            match raw::arguments("get", [c"block", c"timeout"], args, count, keywords) {
                Some([block, timeout]) => (block, timeout),
                None => return ptr::null_mut(),
            }
        };
        let Some(patience) = patience(block, timeout) else {
            return ptr::null_mut();
        };
        get_with(slf, patience, || {
            let (block, timeout) = (or(block, ffi::Py_True()), or(timeout, ffi::Py_None()));
            raw::call_method(names::open_get(), [slf, block, timeout])
        })
    }
}

unsafe extern "C-unwind" fn get_nowait(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        get_with(slf, Patience::Now, || {
            raw::call_method(names::open_get(), [slf, ffi::Py_False(), ffi::Py_None()])
        })
    }
}

/// Give out (items, unfinished, closed) and let the open form go on; None if that has been done.
unsafe extern "C-unwind" fn move_out(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put_with; no Python code runs once the items are out.
    unsafe {
        let state: &PyQueue = raw::state(slf);
        if let Some(heap) = &state.heap
            && !heap.lock(slf)
        {
            return ptr::null_mut();
        }
        let moved = state.queue.move_out();
        let result = match &moved {
            None => raw::none(),
            Some((items, unfinished, closed)) => {
                let list = match &state.heap {
                    Some(heap) => ffi::Py_NewRef(heap.list()),
                    None => list_of(items.iter()),
                };
                ffi::Py_BuildValue(c"(NKN)".as_ptr(), list, *unfinished as u64, raw::boolean(*closed))
            }
        };
        drop(moved);
        if let Some(heap) = &state.heap {
            heap.unlock();
        }
        result
    }
}

/// A new list that takes over the items.
unsafe fn list_of<'a>(items: impl ExactSizeIterator<Item = &'a Item>) -> Obj {
    // SAFETY: attached; each place of the new list is filled once.
    unsafe {
        let list = ffi::PyList_New(items.len() as isize);
        if !list.is_null() {
            for (at, item) in items.enumerate() {
                ffi::PyList_SET_ITEM(list, at as isize, item.0);
            }
        }
        list
    }
}

unsafe extern "C-unwind" fn task_done(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let queue = &raw::state::<PyQueue>(slf).queue;
        if queue.is_moved() {
            return raw::call_method(names::open_task_done(), [slf]);
        }
        match queue.task_done() {
            Ok(()) => raw::none(),
            Err(_) => raw::raise(raw::value_error(), c"task_done() called too many times"),
        }
    }
}

unsafe extern "C-unwind" fn join(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let queue = &raw::state::<PyQueue>(slf).queue;
        if !queue.is_moved() && queue.unfinished() > 0 {
            let ended: Ended = raw::wait(slf, &JOIN, Patience::Forever.deadline(), |how| queue.join(how));
            if ended.or_raise().is_none() {
                return ptr::null_mut();
            }
        }
        if queue.is_moved() {
            return raw::call_method(names::open_join(), [slf]);
        }
        raw::none()
    }
}

unsafe extern "C-unwind" fn qsize(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let queue = &raw::state::<PyQueue>(slf).queue;
        if queue.is_moved() {
            return raw::call_method(names::open_qsize(), [slf]);
        }
        ffi::PyLong_FromSize_t(queue.len())
    }
}

unsafe extern "C-unwind" fn shutdown(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_with.
    unsafe {
        let Some([immediate]) = raw::arguments("shutdown", [c"immediate"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(drain) = raw::truth(immediate, false) else {
            return ptr::null_mut();
        };
        let state: &PyQueue = raw::state(slf);
        if let Some(heap) = &state.heap
            && !heap.lock(slf)
        {
            return ptr::null_mut();
        }
        let open = state.queue.is_moved();
        let items = if open {
            Default::default()
        } else {
            state.queue.close(drain)
        };
        let items = std::mem::ManuallyDrop::new(items);
        if let Some(heap) = &state.heap {
            if drain && !open {
                ffi::PyList_SetSlice(heap.list(), 0, ffi::PY_SSIZE_T_MAX, ptr::null_mut());
            }
            heap.unlock();
        }
        if open {
            let immediate = if drain { ffi::Py_True() } else { ffi::Py_False() };
            return raw::call_method(names::open_shutdown(), [slf, immediate]);
        }
        for item in items.iter().filter(|item| !item.0.is_null()) {
            raw::release(item.0);
        }
        drop(std::mem::ManuallyDrop::into_inner(items));
        raw::none()
    }
}

mod names {
    crate::raw::names! {
        open_put = c"_open_put";
        open_get = c"_open_get";
        open_task_done = c"_open_task_done";
        open_join = c"_open_join";
        open_qsize = c"_open_qsize";
        open_shutdown = c"_open_shutdown";
    }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<PyQueue>(py);
    ending::adopt::<PyLifoQueue>(py);
    ending::adopt::<PyPriorityQueue>(py);
    raw::attach::<PyQueue>(
        py,
        &[
            Method::Fast(
                c"put",
                put,
                c"put($self, /, item, block=True, timeout=None)\n--\n\n\
Put an item, waiting for room if the queue has a bound.\n\n\
block: if false, do not wait. timeout: seconds to wait at the most, None for no limit.\n\
Raises queue.Full when there is no room in time, queue.ShutDown after shutdown(), ValueError for a negative timeout,\n\
phalanx.DeadlockError if the wait could never end. O(1), O(log n) in a PriorityQueue.",
            ),
            Method::Fast(
                c"put_nowait",
                put_nowait,
                c"put_nowait($self, /, item)\n--\n\nPut an item if there is room now; otherwise raise queue.Full.",
            ),
            Method::Fast(
                c"get",
                get,
                c"get($self, /, block=True, timeout=None)\n--\n\n\
Take an item out, waiting until there is one.\n\n\
block: if false, do not wait. timeout: seconds to wait at the most, None for no limit.\n\
Raises queue.Empty when none came in time, queue.ShutDown after shutdown() when nothing is left, ValueError for a\n\
negative timeout, phalanx.DeadlockError if the wait could never end. O(1), O(log n) in a PriorityQueue.",
            ),
            Method::NoArgs(
                c"get_nowait",
                get_nowait,
                c"get_nowait($self, /)\n--\n\nTake an item out if there is one now; otherwise raise queue.Empty.",
            ),
            Method::NoArgs(
                c"_move_out",
                move_out,
                c"_move_out($self, /)\n--\n\n\
Give out (items, unfinished, closed) and let the open form go on; None if that has been done.",
            ),
            Method::NoArgs(
                c"task_done",
                task_done,
                c"task_done($self, /)\n--\n\n\
Say that one item taken out is done with. Raises ValueError if there were more calls than items.",
            ),
            Method::NoArgs(
                c"join",
                join,
                c"join($self, /)\n--\n\n\
Wait until task_done() was called for every item that was put.\n\n\
Raises phalanx.DeadlockError if nobody is left who could call it.",
            ),
            Method::NoArgs(
                c"qsize",
                qsize,
                c"qsize($self, /)\n--\n\nHow many items are in it. Another thread may change that at once.",
            ),
            Method::Fast(
                c"shutdown",
                shutdown,
                c"shutdown($self, /, immediate=False)\n--\n\n\
Refuse further items: put() raises queue.ShutDown, and so does get() once nothing is left.\n\n\
immediate: also drop what is in the queue and count it as done.",
            ),
        ],
    )
}
