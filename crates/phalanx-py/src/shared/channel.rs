//! The queues of `multiprocessing`: a ring, without a thread that feeds it.

use super::deaths;
use super::object::{self, Packed};
use super::transfer::{Done, End};
use crate::codec;
use crate::raw::{self, Ended, Method, Obj, Patience};
use phalanx::channel::{Limits, Ring};
use phalanx::prim::{AtomicBool, Ordering};
use phalanx::shm::{Handle, tree};
use phalanx::wait::{Reason, Role};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

static PUT: Reason = Reason {
    name: "Queue.put",
    role: Role::Wait,
};
static GET: Reason = Reason {
    name: "Queue.get",
    role: Role::Wait,
};
static JOIN: Reason = Reason {
    name: "Queue.join",
    role: Role::Wait,
};

/// What the queues of multiprocessing have in common: a ring of records in shared memory.
///
/// maxsize: items, 0 for no limit. ceiling: bytes in large payloads; a put beyond it waits, unless the queue is empty.
/// joinable: items count as unfinished until task_done.
#[pyclass(frozen, weakref, subclass, module = "phalanx._core", name = "Channel")]
pub struct Channel {
    pub handle: Handle,
    joinable: bool,
    closed: AtomicBool,
    /// This process has put into it.
    used: AtomicBool,
}

impl Channel {
    #[inline]
    fn ring(&self) -> &Ring {
        Ring::of(&self.handle)
    }

    fn end<'a>(&'a self, subject: Obj, reason: &'static Reason) -> End<'a> {
        End {
            subject,
            ring: self.ring(),
            reason,
            enders: object::enders(self.handle.name()),
            others: None,
            bell: -1,
            keep: self.joinable,
        }
    }
}

#[pymethods]
impl Channel {
    #[new]
    #[pyo3(signature = (maxsize = 0, ceiling = u64::MAX, joinable = false, _packed = None))]
    fn new(maxsize: i64, ceiling: u64, joinable: bool, _packed: Option<Packed>) -> PyResult<Self> {
        object::join_tree()?;
        let handle = match _packed {
            Some(packed) => object::unpack(packed, Ring::OBJECT, "Queue")?,
            None => {
                let maxsize = u32::try_from(maxsize.max(0)).unwrap_or(0);
                Ring::make(Limits { maxsize, ceiling }).map_err(|_| object::no_memory())?
            }
        };
        Ok(Self {
            handle,
            joinable,
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
        })
    }

    /// The handle for a pickle.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// How many items are in it, exactly.
    fn qsize(&self) -> usize {
        self.ring().len()
    }

    /// Set how many items it takes at the most, 0 for no limit, before anybody puts into it.
    fn _limit(&self, maxsize: i64) {
        self.ring()
            .set_maxsize(u32::try_from(maxsize.max(0)).unwrap_or(0));
    }

    /// Is it empty? Raises OSError if this process has put into it and closed it, as the standard one does.
    fn empty(&self) -> PyResult<bool> {
        if self.closed.load(Ordering::Relaxed) && self.used.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(self.ring().is_empty())
    }

    /// Does it hold as many items as it may?
    fn full(&self) -> bool {
        self.ring().is_full()
    }

    /// Refuse puts and gets of this process from now on.
    fn _close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Has this process closed it?
    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Say that one item is done. Raises ValueError if that is said more often than items were put.
    fn task_done(&self) -> PyResult<()> {
        let ring = self.ring();
        ring.hands()
            .done(|| ring.len() as u64)
            .map_err(|_| PyValueError::new_err("task_done() called too many times"))
    }

    /// How many items were put and are not done.
    #[getter]
    fn _unfinished_tasks(&self) -> u64 {
        self.ring().unfinished()
    }

    /// Count what processes had in their hands that died as done; return how many items that was.
    fn recover(&self) -> u64 {
        let ring = self.ring();
        let forgotten = ring.hands().forget_the_dead();
        ring.hands().wake();
        forgotten
    }
}

unsafe fn is_open(slf: Obj) -> bool {
    // SAFETY: the descriptor has checked the class.
    let open = !unsafe { raw::state::<Channel>(slf) }
        .closed
        .load(Ordering::Relaxed);
    if !open {
        // SAFETY: attached; the object is alive.
        unsafe { ffi::PyErr_Format(raw::value_error(), c"Queue %R is closed".as_ptr(), slf) };
    }
    open
}

/// `block` and `timeout`. `None`: an exception is set.
unsafe fn patience(block: Obj, timeout: Obj) -> Option<Patience> {
    // SAFETY: null or live objects.
    unsafe {
        if raw::truth(block, true)? {
            raw::optional_timeout(timeout)
        } else {
            Some(Patience::Now)
        }
    }
}

/// Sets `queue.Full` or `queue.Empty`.
#[cold]
unsafe fn raise_from_queue(name: &std::ffi::CStr) -> Obj {
    // SAFETY: attached; references are given back.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"queue".as_ptr());
        if !module.is_null() {
            let class = ffi::PyObject_GetAttrString(module, name.as_ptr());
            ffi::Py_DECREF(module);
            if !class.is_null() {
                ffi::PyErr_SetNone(class);
                ffi::Py_DECREF(class);
            }
        }
        ptr::null_mut()
    }
}

unsafe fn put_one(slf: Obj, object: Obj, patience: Patience) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        if !is_open(slf) {
            return ptr::null_mut();
        }
        let this: &Channel = raw::state(slf);
        this.used.store(true, Ordering::Relaxed);
        match this.end(slf, &PUT).put(object, patience, codec::encode) {
            Done::Yes => raw::none(),
            Done::TimedOut | Done::Closed => raise_from_queue(c"Full"),
            Done::Raised => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn put(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        if count == 1 && keywords.is_null() {
            return put_one(slf, *args, Patience::Forever);
        }
        let names = [c"obj", c"block", c"timeout"];
        let Some([object, block, timeout]) = raw::arguments("put", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        if object.is_null() {
            return raw::raise(raw::type_error(), c"put() missing 1 required argument: 'obj'");
        }
        match patience(block, timeout) {
            Some(patience) => put_one(slf, object, patience),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn put_nowait(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        match raw::arguments("put_nowait", [c"obj"], args, count, keywords) {
            Some([object]) if !object.is_null() => put_one(slf, object, Patience::Now),
            Some(_) => raw::raise(
                raw::type_error(),
                c"put_nowait() missing 1 required argument: 'obj'",
            ),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn put_many(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        let names = [c"items", c"block", c"timeout"];
        let Some([items, block, timeout]) = raw::arguments("put_many", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        if items.is_null() {
            return raw::raise(
                raw::type_error(),
                c"put_many() missing 1 required argument: 'items'",
            );
        }
        let Some(patience) = patience(block, timeout) else {
            return ptr::null_mut();
        };
        if !is_open(slf) {
            return ptr::null_mut();
        }
        // A tuple of its own: the program may change a list while an item of it is pickled.
        let items = PySequence_Tuple(items);
        if items.is_null() {
            return items;
        }
        let this: &Channel = raw::state(slf);
        this.used.store(true, Ordering::Relaxed);
        let done = this.end(slf, &PUT).put_many(items, patience);
        raw::release(items);
        match done {
            Done::Yes => raw::none(),
            Done::TimedOut | Done::Closed => raise_from_queue(c"Full"),
            Done::Raised => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" {
    fn PySequence_Tuple(object: Obj) -> Obj;
}

unsafe fn get_one(slf: Obj, patience: Patience) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        if !is_open(slf) {
            return ptr::null_mut();
        }
        let this: &Channel = raw::state(slf);
        match this.end(slf, &GET).get(patience, false) {
            (Done::Yes, object) => object,
            (Done::TimedOut | Done::Closed, _) => raise_from_queue(c"Empty"),
            (Done::Raised, _) => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn get(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        if count == 0 && keywords.is_null() {
            return get_one(slf, Patience::Forever);
        }
        let Some([block, timeout]) = raw::arguments("get", [c"block", c"timeout"], args, count, keywords)
        else {
            return ptr::null_mut();
        };
        match patience(block, timeout) {
            Some(patience) => get_one(slf, patience),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn get_nowait(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe { get_one(slf, Patience::Now) }
}

unsafe extern "C-unwind" fn get_many(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        let Some([most, timeout]) = raw::arguments("get_many", [c"max", c"timeout"], args, count, keywords)
        else {
            return ptr::null_mut();
        };
        if most.is_null() {
            return raw::raise(
                raw::type_error(),
                c"get_many() missing 1 required argument: 'max'",
            );
        }
        let most = raw::PyLong_AsLongLong(most);
        if most == -1 && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        if most < 1 {
            return raw::raise(raw::value_error(), c"max must be at least 1");
        }
        let Some(mut patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        if !is_open(slf) {
            return ptr::null_mut();
        }
        let list = ffi::PyList_New(0);
        let mut left = most;
        while left > 0 && !list.is_null() {
            let this: &Channel = raw::state(slf);
            let (done, object) = this.end(slf, &GET).get(patience, false);
            if done == Done::Yes {
                let appended = ffi::PyList_Append(list, object);
                raw::release(object);
                if appended == 0 {
                    left -= 1;
                    patience = Patience::Now;
                    continue;
                }
            }
            if done == Done::Raised {
                // What was got before one item turned out bad must not be lost with it.
                let py = Python::assume_attached();
                let error = PyErr::fetch(py);
                let _ = error
                    .value(py)
                    .setattr("got", Borrowed::<PyAny>::from_ptr(py, list));
                error.restore(py);
                raw::release(list);
                return ptr::null_mut();
            }
            break;
        }
        if !list.is_null() && ffi::PyList_GET_SIZE(list) == 0 {
            raw::release(list);
            return raise_from_queue(c"Empty");
        }
        list
    }
}

unsafe extern "C-unwind" fn join(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put_one.
    unsafe {
        let Some([timeout]) = raw::arguments("join", [c"timeout"], args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        let this: &Channel = raw::state(slf);
        let ring = this.ring();
        let enders = object::enders(this.handle.name());
        let queued = || ring.len() as u64;
        let ended = raw::wait_shared(slf, &JOIN, patience.deadline(), enders, |how| {
            ring.hands().join(how, queued)
        });
        match ended {
            Ended::Hopeless => {
                // Plain numbers survive the call below; the list does not have to.
                let first = ring.hands().of_the_dead().first().copied();
                let (number, items) = first.unwrap_or((0, 0));
                deaths::raise_for(c"JoinableQueue", &tree::life(number), "", items)
            }
            ended => ended.into_bool(),
        }
    }
}

const PUT_DOC: &std::ffi::CStr = c"put($self, /, obj, block=True, timeout=None)\n--\n\n\
Put an object. It is in the queue, for every process to see, when this returns.\n\n\
block: if false, do not wait for room. timeout: seconds to wait at the most, None for no limit.\n\
Raises queue.Full, ValueError if this process has closed the queue, what pickling raises,\n\
phalanx.DeadlockError if room could never come. O(size of the object).";
const GET_DOC: &std::ffi::CStr = c"get($self, /, block=True, timeout=None)\n--\n\n\
Get the oldest object.\n\n\
block: if false, do not wait for one. timeout: seconds to wait at the most, None for no limit.\n\
Raises queue.Empty, ValueError if this process has closed the queue, what unpickling raises (the object is lost\n\
then, the queue is not), phalanx.DeadlockError if nothing could ever come.";

pub fn add(py: Python<'_>) -> PyResult<()> {
    raw::attach::<Channel>(
        py,
        &[
            Method::Fast(c"put", put, PUT_DOC),
            Method::Fast(
                c"put_nowait",
                put_nowait,
                c"put_nowait($self, /, obj)\n--\n\nPut an object without waiting; queue.Full if there is no room.",
            ),
            Method::Fast(c"get", get, GET_DOC),
            Method::NoArgs(
                c"get_nowait",
                get_nowait,
                c"get_nowait($self, /)\n--\n\nGet the oldest object without waiting; queue.Empty if there is none.",
            ),
            Method::Fast(
                c"get_many",
                get_many,
                c"get_many($self, /, max, timeout=None)\n--\n\n\
Get up to max objects as a list: wait for the first as get() does, take what else is there.\n\n\
timeout: seconds to wait for the first, None for no limit. Raises queue.Empty. An error of unpickling has the objects\n\
that came before the bad one as its attribute `got`.",
            ),
            Method::Fast(
                c"put_many",
                put_many,
                c"put_many($self, /, items, block=True, timeout=None)\n--\n\n\
Put several objects, in order, with less than a lock for each.\n\n\
block, timeout: as for put(), for each wait. An error leaves the objects before it in the queue.",
            ),
            Method::Fast(
                c"join",
                join,
                c"join($self, /, timeout=None)\n--\n\n\
Wait until every object that was put is done; return whether that is so, false after a time-out.\n\n\
Raises phalanx.OwnerDied if a process died with objects in its hands; recover() counts those as done.",
            ),
        ],
    )
}
