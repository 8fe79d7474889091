//! The work queue of a `ThreadPoolExecutor` and the loop of its workers.
//!
//! `submit` makes a future, queues the call and, if no worker is idle and there is room for one more, asks the face to
//! start a worker. Workers sleep in the queue; closing it lets each of them go once nothing is left.

use crate::ending::{self, holder};
use crate::future;
use crate::raw::{self, Method, Obj, Patience};
use crate::slot::Slot;
use phalanx::prim::{AtomicBool, AtomicUsize, Ordering};
use phalanx::queue::{GetError, Order, Queue};
use phalanx::sync::Semaphore;
use phalanx::wait::{Reason, Role};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::ptr;

static IDLE: Reason = Reason {
    name: "Executor idle",
    role: Role::Idle,
};

unsafe extern "C-unwind" {
    fn PyObject_Call(callable: Obj, args: Obj, kwargs: Obj) -> Obj;
    fn PyErr_WriteUnraisable(object: Obj);
}

/// One call to make. Owned references, given back by hand.
#[derive(Debug, Clone, Copy)]
struct Task {
    future: Obj,
    function: Obj,
    /// A tuple.
    args: Obj,
    /// A dict, or null.
    kwargs: Obj,
}

// SAFETY: owned references may be held by any thread; their counts change only attached.
unsafe impl Send for Task {}

impl Task {
    fn parts(&self) -> [Obj; 4] {
        [self.future, self.function, self.args, self.kwargs]
    }
}

/// The queue between an executor and its workers. It outlives the executor.
#[pyclass(frozen, weakref, module = "phalanx._core", name = "WorkQueue")]
pub struct WorkQueue {
    tasks: Queue<Task>,
    /// One permit for each worker that has nothing to do and is not yet promised to a task.
    idle: Semaphore,
    /// How many workers may still be started.
    room: AtomicUsize,
    /// Does `submit` take calls?
    accepting: AtomicBool,
}

#[pymethods]
impl WorkQueue {
    #[new]
    fn new(max_workers: usize) -> PyResult<Self> {
        let idle = Semaphore::new(0)
            .map_err(|_| pyo3::exceptions::PyOverflowError::new_err("no permit does not fit"))?;
        Ok(Self {
            tasks: Queue::new(Order::Fifo, 0),
            idle,
            room: AtomicUsize::new(max_workers),
            accepting: AtomicBool::new(true),
        })
    }

    /// One more worker has been started.
    fn _started(&self) {
        let _ = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1));
    }

    /// Let the workers go once nothing is left to do. The item is there for the standard library, which puts None.
    #[pyo3(signature = (item = None))]
    fn put(&self, item: Option<Py<PyAny>>) {
        drop(item);
        // SYNC(accepting): pairs with the Acquire load in submit.
        self.accepting.store(false, Ordering::Release);
        drop(self.tasks.close(false));
    }

    /// Refuse further calls; the workers stay.
    fn _refuse(&self) {
        // SYNC(accepting): pairs with the Acquire load in submit.
        self.accepting.store(false, Ordering::Release);
    }

    /// How many calls wait for a worker.
    fn qsize(&self) -> usize {
        self.tasks.len()
    }

    /// Does no call wait for a worker?
    fn empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Take out every call that waits and return their futures, oldest first.
    fn _drain(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let mut futures = Vec::new();
        for task in self.tasks.take_all() {
            // SAFETY: attached; the references were the queue's, and that to the future goes to the list.
            unsafe {
                futures.push(Bound::from_owned_ptr(py, task.future));
                task.parts()
                    .into_iter()
                    .skip(1)
                    .for_each(|part| ffi::Py_XDECREF(part));
            }
        }
        Ok(PyList::new(py, futures)?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.tasks.for_each(|task| {
            for part in task.parts().into_iter().filter(|part| !part.is_null()) {
                if result.is_ok() {
                    // SAFETY: a live object that the queue owns.
                    result = unsafe { raw::visit(&visit, part) };
                }
            }
        });
        result
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}
}

impl WorkQueue {
    fn take_one(&self) -> Obj {
        // A call of four parts is put back with what is left of it.
        let Some(mut task) = self.tasks.take_one() else {
            return ptr::null_mut();
        };
        let parts = [
            &mut task.future,
            &mut task.function,
            &mut task.args,
            &mut task.kwargs,
        ];
        let taken = parts.into_iter().find(|part| !part.is_null());
        let taken = taken.map_or(ptr::null_mut(), |part| std::mem::replace(part, ptr::null_mut()));
        if task.parts().iter().any(|part| !part.is_null()) {
            self.tasks.put_back(task);
        }
        taken
    }
}

holder!(WorkQueue, WorkQueue);

/// What an executor has in Rust: the way from `submit` to its work queue.
#[pyclass(frozen, subclass, module = "phalanx._core", name = "ExecutorBase")]
#[derive(Default)]
pub struct ExecutorBase {
    /// Owned. Set by the face.
    queue: Slot,
}

#[pymethods]
impl ExecutorBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// The queue that `submit` uses.
    fn _use(&self, queue: Py<WorkQueue>) {
        let old = self.queue.put(queue.into_ptr());
        // SAFETY: attached; the old reference was owned.
        unsafe { ffi::Py_XDECREF(old) };
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let queue = self.queue.get();
        if queue.is_null() {
            return Ok(());
        }
        // SAFETY: a live object that this executor owns.
        unsafe { raw::visit(&visit, queue) }
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}
}

impl ExecutorBase {
    fn take_one(&self) -> Obj {
        self.queue.take()
    }
}

holder!(ExecutorBase, ExecutorBase);

unsafe extern "C-unwind" fn submit(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        if count < 1 {
            return raw::raise(
                raw::type_error(),
                c"submit() missing 1 required positional argument: 'fn'",
            );
        }
        let queue = raw::state::<ExecutorBase>(slf).queue.get();
        if queue.is_null() {
            return raw::raise(raw::runtime_error(), c"executor.__init__() was not called");
        }
        let queue: &WorkQueue = raw::state(queue);
        // SYNC(accepting): pairs with the Release stores in put and _refuse; the reason is seen with the refusal.
        if !queue.accepting.load(Ordering::Acquire) {
            return raw::call_method(names::refuse(), [slf]);
        }
        let Some(task) = task(args, count, keywords) else {
            return ptr::null_mut();
        };
        let future = ffi::Py_NewRef(task.future);
        if queue.tasks.try_put(task).is_err() {
            task.parts().into_iter().for_each(|part| ffi::Py_XDECREF(part));
            ffi::Py_DECREF(future);
            return raw::call_method(names::refuse(), [slf]);
        }
        if !queue.idle.try_acquire() && queue.room.load(Ordering::Relaxed) != 0 {
            let started = raw::call_method(names::adjust(), [slf]);
            if started.is_null() {
                raw::release(future);
                return started;
            }
            raw::release(started);
        }
        future
    }
}

/// The call to make. `None`: an exception is set.
unsafe fn task(args: *const Obj, count: isize, keywords: Obj) -> Option<Task> {
    // SAFETY: the arguments of the call; nothing here runs Python code.
    unsafe {
        let future = future::make();
        let tuple = ffi::PyTuple_New(count - 1);
        let named = if keywords.is_null() {
            0
        } else {
            ffi::PyTuple_GET_SIZE(keywords)
        };
        let kwargs = if named == 0 {
            ptr::null_mut()
        } else {
            ffi::PyDict_New()
        };
        let mut failed = future.is_null() || tuple.is_null() || (named != 0 && kwargs.is_null());
        if !failed {
            for at in 1..count {
                ffi::PyTuple_SET_ITEM(tuple, at - 1, ffi::Py_NewRef(*args.offset(at)));
            }
            for at in 0..named {
                let value = *args.offset(count + at);
                failed |= ffi::PyDict_SetItem(kwargs, ffi::PyTuple_GET_ITEM(keywords, at), value) != 0;
            }
        }
        if failed {
            [future, tuple, kwargs]
                .into_iter()
                .for_each(|part| ffi::Py_XDECREF(part));
            return None;
        }
        Some(Task {
            future,
            function: ffi::Py_NewRef(*args),
            args: tuple,
            kwargs,
        })
    }
}

/// Makes calls until the queue is closed and nothing is left.
unsafe extern "C-unwind" fn work(slf: Obj, _: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        let queue: &WorkQueue = raw::state(slf);
        loop {
            let task = match queue.tasks.try_get() {
                Ok(task) => task,
                Err(GetError::Closed | GetError::Moved) => {
                    return raw::none();
                }
                Err(GetError::Empty) => {
                    let _ = queue.idle.release(1);
                    let forever = Patience::Forever.deadline();
                    loop {
                        let ended = raw::wait(slf, &IDLE, forever, |how| queue.tasks.wait_for_item(how));
                        if ended.or_raise().is_none() {
                            return ptr::null_mut();
                        }
                        match queue.tasks.try_get() {
                            Ok(task) => break task,
                            Err(GetError::Empty) => {}
                            Err(_) => return raw::none(),
                        }
                    }
                }
            };
            if !run(task) {
                return ptr::null_mut();
            }
        }
    }
}

/// Makes one call and ends its future. `false`: an exception is set, which is not that of the call.
unsafe fn run(task: Task) -> bool {
    // SAFETY: attached; the references of the task are given back here, the last use of each.
    unsafe {
        match future::begin(task.future) {
            Some(true) => {}
            answer => {
                task.parts()
                    .into_iter()
                    .filter(|part| !part.is_null())
                    .for_each(|part| raw::release(part));
                if answer.is_none() {
                    PyErr_WriteUnraisable(ptr::null_mut());
                }
                return true;
            }
        }
        let result = PyObject_Call(task.function, task.args, task.kwargs);
        let failed = result.is_null();
        let value = if failed { raw::caught() } else { result };
        let ended = future::finish(task.future, value, failed);
        // The future first: whoever waits for it must not find the arguments still alive for long.
        raw::release(value);
        task.parts()
            .into_iter()
            .filter(|part| !part.is_null())
            .for_each(|part| raw::release(part));
        ended
    }
}

mod names {
    crate::raw::names! {
        refuse = c"_refuse";
        adjust = c"_adjust_thread_count";
    }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<WorkQueue>(py);
    ending::adopt::<ExecutorBase>(py);
    raw::attach::<ExecutorBase>(
        py,
        &[Method::Fast(
            c"submit",
            submit,
            c"submit($self, fn, /, *args, **kwargs)\n--\n\n\
Queue the call fn(*args, **kwargs) and return its Future.\n\n\
Raises RuntimeError after shutdown() or while the interpreter ends, BrokenThreadPool if an initializer failed. O(1).",
        )],
    )?;
    raw::attach::<WorkQueue>(
        py,
        &[Method::NoArgs(
            c"_work",
            work,
            c"_work($self, /)\n--\n\nMake calls until the queue is closed and nothing is left.",
        )],
    )
}
