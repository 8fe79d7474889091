//! `Future`: the part that threads wait on and that a pool fills.
//!
//! | state | latch | meaning |
//! | --- | --- | --- |
//! | Pending | shut, opener 0 | waits for a worker |
//! | Running | shut, opener = the worker | a worker runs it: an edge of the wait graph |
//! | Cancelled, Notified | open | will never run |
//! | Finished | open | has a result or an exception |
//!
//! A future is *shared* once somebody has asked for its condition, waiters or callbacks, which live in Python. The
//! standard library's own methods, handed over by the face, then do the changes, with that condition held.

use crate::ending::{self, holder};
use crate::raw::{self, Method, Obj};
use crate::slot::Slot;
use phalanx::prim::Guarded;
use phalanx::prim::{AtomicBool, Ordering};
use phalanx::sync::Latch;
use phalanx::wait::{Reason, Role};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ptr;

static RESULT: Reason = Reason {
    name: "Future.result",
    role: Role::Wait,
};

/// What the face hands over, in this order: CancelledError, TimeoutError, the class Future, and the standard library's
/// `set_result`, `set_exception` and `set_running_or_notify_cancel`.
static PARTS: [Slot; 6] = [const { Slot::empty() }; 6];

#[derive(Clone, Copy)]
enum Part {
    Cancelled,
    Timeout,
    Class,
    SetResult,
    SetException,
    SetRunning,
}

fn part(which: Part) -> Obj {
    PARTS[which as usize].get()
}

/// Tell the extension the classes and functions that belong to futures.
#[pyfunction]
pub fn _set_future_parts(parts: Vec<Py<PyAny>>) -> PyResult<()> {
    if parts.len() != PARTS.len() {
        return Err(PyValueError::new_err(format!(
            "{} parts expected, not {}",
            PARTS.len(),
            parts.len()
        )));
    }
    for (slot, part) in PARTS.iter().zip(parts) {
        // Kept for ever.
        slot.put(part.into_ptr());
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Running,
    Cancelled,
    Notified,
    Finished,
}

const STATES: [(State, &str); 5] = [
    (State::Pending, "PENDING"),
    (State::Running, "RUNNING"),
    (State::Cancelled, "CANCELLED"),
    (State::Notified, "CANCELLED_AND_NOTIFIED"),
    (State::Finished, "FINISHED"),
];

struct Slots {
    state: State,
    /// Owned, or null for None.
    result: Obj,
    /// Owned, or null for None.
    exception: Obj,
}

// SAFETY: owned references may be held by any thread; their counts change only attached.
unsafe impl Send for Slots {}

/// The result of a call that may not have been made yet.
#[pyclass(frozen, subclass, module = "phalanx._core", name = "FutureBase")]
pub struct FutureBase {
    slots: Guarded<Slots>,
    latch: Latch,
    shared: AtomicBool,
}

impl FutureBase {
    fn state(&self) -> State {
        self.slots.with(|slots| slots.state)
    }

    /// New references to the result and the exception, null for None.
    fn outcome(&self) -> (State, Obj, Obj) {
        self.slots.with(|slots| {
            // SAFETY: attached; the references are owned by the slots, whose lock is held.
            unsafe {
                ffi::Py_XINCREF(slots.result);
                ffi::Py_XINCREF(slots.exception);
            }
            (slots.state, slots.result, slots.exception)
        })
    }

    fn is_shared(&self) -> bool {
        // SYNC(shared): pairs with the Release store in _share; the attributes made before are seen.
        self.shared.load(Ordering::Acquire)
    }

    fn show(&self, latch_for: State) {
        match latch_for {
            State::Pending => self.latch.reset(),
            State::Running => self.latch.promise(),
            State::Cancelled | State::Notified | State::Finished => self.latch.open(),
        }
    }

    fn set_slot(
        &self,
        value: Option<Py<PyAny>>,
        slot: impl FnOnce(&mut Slots) -> &mut Obj,
    ) -> Option<Py<PyAny>> {
        let new = value.map_or(ptr::null_mut(), Py::into_ptr);
        let old = self.slots.with(|slots| std::mem::replace(slot(slots), new));
        // SAFETY: attached; the old reference was owned.
        Python::attach(|py| unsafe { Bound::from_owned_ptr_or_opt(py, old) }.map(Bound::unbind))
    }
}

#[pymethods]
impl FutureBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let slots = Slots {
            state: State::Pending,
            result: ptr::null_mut(),
            exception: ptr::null_mut(),
        };
        Self {
            slots: Guarded::new(slots),
            latch: Latch::new(),
            shared: AtomicBool::new(false),
        }
    }

    fn __init__(&self) {}

    /// From now on the standard library's methods do the changes.
    fn _share(&self) {
        // Under the lock under which it is asked for, so that no change is half way.
        // SYNC(shared): pairs with the Acquire load in is_shared.
        self.slots.with(|_| self.shared.store(true, Ordering::Release));
    }

    #[getter]
    fn _state(&self) -> &'static str {
        let state = self.state();
        STATES
            .iter()
            .find(|(other, _)| *other == state)
            .map_or("", |(_, name)| name)
    }

    #[setter(_state)]
    fn put_state(&self, name: &str) -> PyResult<()> {
        let found = STATES.iter().find(|(_, other)| *other == name);
        let (state, _) =
            found.ok_or_else(|| PyValueError::new_err(format!("unknown state of a future: {name:?}")))?;
        self.slots.with(|slots| slots.state = *state);
        self.show(*state);
        Ok(())
    }

    #[getter]
    fn _result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let (_, result, exception) = self.outcome();
        // SAFETY: both are new references.
        unsafe {
            drop(Bound::from_owned_ptr_or_opt(py, exception));
            Bound::from_owned_ptr_or_opt(py, result).map(Bound::unbind)
        }
    }

    #[setter(_result)]
    fn put_result(&self, value: Option<Py<PyAny>>) {
        drop(self.set_slot(value, |slots| &mut slots.result));
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let (_, result, exception) = self.outcome();
        // SAFETY: both are new references.
        unsafe {
            drop(Bound::from_owned_ptr_or_opt(py, result));
            Bound::from_owned_ptr_or_opt(py, exception).map(Bound::unbind)
        }
    }

    #[setter(_exception)]
    fn put_exception(&self, value: Option<Py<PyAny>>) {
        drop(self.set_slot(value, |slots| &mut slots.exception));
    }

    /// Was the call cancelled?
    fn cancelled(&self) -> bool {
        matches!(self.state(), State::Cancelled | State::Notified)
    }

    /// Is the call being made at this moment?
    fn running(&self) -> bool {
        self.state() == State::Running
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Both passes of the collector must see the same: so this waits for the lock, which nobody holds for long.
        let (result, exception) = self.slots.with(|slots| (slots.result, slots.exception));
        for object in [result, exception].into_iter().filter(|object| !object.is_null()) {
            // SAFETY: a live object that this future owns.
            unsafe { raw::visit(&visit, object) }?;
        }
        Ok(())
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}
}

impl FutureBase {
    fn take_one(&self) -> Obj {
        self.slots.with(|slots| {
            let slot = if slots.result.is_null() {
                &mut slots.exception
            } else {
                &mut slots.result
            };
            std::mem::replace(slot, ptr::null_mut())
        })
    }
}

holder!(FutureBase, FutureBase);

/// A new future, made without running Python code. Null with an exception set if there is no memory.
///
/// # Safety
/// Attached; the face has been loaded.
pub unsafe fn make() -> Obj {
    // SAFETY: the class is a heap type that inherits `tp_new` from `FutureBase`, which looks at no argument.
    unsafe {
        let class = part(Part::Class).cast::<ffi::PyTypeObject>();
        match (*class).tp_new {
            Some(new) => {
                let nothing = ffi::PyTuple_New(0);
                let future = new(class, nothing, ptr::null_mut());
                ffi::Py_XDECREF(nothing);
                future
            }
            None => raw::raise(
                raw::system_error(),
                c"phalanx: the class Future has no constructor",
            ),
        }
    }
}

/// Says that a worker begins. `Some(false)`: cancelled meanwhile; `None`: an exception is set.
///
/// # Safety
/// Attached; `future` is of our class; the caller's frame owns nothing.
pub unsafe fn begin(future: Obj) -> Option<bool> {
    // SAFETY: as the caller promises.
    unsafe {
        let state: &FutureBase = raw::state(future);
        let pending = state.slots.with(|slots| {
            let pending = !state.is_shared() && slots.state == State::Pending;
            if pending {
                slots.state = State::Running;
            }
            pending
        });
        if pending {
            state.latch.promise();
            return Some(true);
        }
        let answer = raw::call(part(Part::SetRunning), [future]);
        if answer.is_null() {
            return None;
        }
        let truth = raw::truth(answer, false);
        raw::release(answer);
        truth
    }
}

/// Ends a future that nobody shares; `Some(false)`: it has ended before, `None`: others share it.
fn finish_alone(state: &FutureBase, value: Obj, failed: bool) -> Option<bool> {
    let ended = state.slots.with(|slots| {
        if state.is_shared() {
            return None;
        }
        let open = matches!(slots.state, State::Pending | State::Running);
        if open {
            // Nothing was there before the end.
            let slot = if failed {
                &mut slots.exception
            } else {
                &mut slots.result
            };
            // SAFETY: attached, as the callers promise; a live object.
            *slot = unsafe { ffi::Py_NewRef(value) };
            slots.state = State::Finished;
        }
        Some(open)
    });
    if ended == Some(true) {
        state.latch.open();
    }
    ended
}

/// Ends a future with `value`, which is borrowed, as its result or its exception. `false`: an exception is set.
///
/// # Safety
/// As [`begin`].
pub unsafe fn finish(future: Obj, value: Obj, failed: bool) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let state: &FutureBase = raw::state(future);
        if finish_alone(state, value, failed) == Some(true) {
            return true;
        }
        let function = part(if failed {
            Part::SetException
        } else {
            Part::SetResult
        });
        let answer = raw::call(function, [future, value]);
        if answer.is_null() {
            return false;
        }
        raw::release(answer);
        true
    }
}

unsafe extern "C-unwind" fn end_alone(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let names = [c"value", c"failed"];
        let Some([value, failed]) = raw::arguments("_end_alone", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let Some(failed) = raw::truth(failed, false) else {
            return ptr::null_mut();
        };
        let state: &FutureBase = raw::state(slf);
        let ended = finish_alone(state, value, failed);
        if ended == Some(false) {
            state.slots.with(|slots| {
                if slots.state == State::Cancelled {
                    slots.state = State::Notified;
                }
            });
        }
        raw::boolean(ended.is_some())
    }
}

#[cold]
unsafe fn raise_part(which: Part) -> Obj {
    // SAFETY: attached; an exception class.
    unsafe { ffi::PyErr_SetNone(part(which)) };
    ptr::null_mut()
}

/// The outcome as `result()` or `exception()` gives it; `None` while there is none.
unsafe fn ended(future: &FutureBase, wants_exception: bool) -> Option<Obj> {
    // SAFETY: attached; new references are handed on or given back.
    unsafe {
        let (state, result, exception) = future.outcome();
        match state {
            State::Cancelled | State::Notified => {
                ffi::Py_XDECREF(result);
                ffi::Py_XDECREF(exception);
                Some(raise_part(Part::Cancelled))
            }
            State::Finished if wants_exception => {
                ffi::Py_XDECREF(result);
                Some(if exception.is_null() {
                    raw::none()
                } else {
                    exception
                })
            }
            State::Finished if !exception.is_null() && ffi::PyExceptionInstance_Check(exception) == 0 => {
                ffi::Py_XDECREF(result);
                ffi::Py_DECREF(exception);
                Some(raw::raise(
                    raw::type_error(),
                    c"exceptions must derive from BaseException",
                ))
            }
            State::Finished if !exception.is_null() => {
                ffi::Py_XDECREF(result);
                ffi::PyErr_SetObject(ffi::Py_TYPE(exception).cast(), exception);
                ffi::Py_DECREF(exception);
                Some(ptr::null_mut())
            }
            State::Finished => Some(if result.is_null() { raw::none() } else { result }),
            State::Pending | State::Running => {
                ffi::Py_XDECREF(result);
                ffi::Py_XDECREF(exception);
                None
            }
        }
    }
}

unsafe fn wait_for(slf: Obj, timeout: Obj, wants_exception: bool) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let future: &FutureBase = raw::state(slf);
        if let Some(outcome) = ended(future, wants_exception) {
            return outcome;
        }
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        if patience != raw::Patience::Now {
            let waited = raw::wait(slf, &RESULT, patience.deadline(), |how| future.latch.wait(how));
            if waited.or_raise().is_none() {
                return ptr::null_mut();
            }
        }
        ended(future, wants_exception).unwrap_or_else(|| raise_part(Part::Timeout))
    }
}

unsafe extern "C-unwind" fn result(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait_for.
    unsafe {
        match raw::arguments("result", [c"timeout"], args, count, keywords) {
            Some([timeout]) => wait_for(slf, timeout, false),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn exception(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait_for.
    unsafe {
        match raw::arguments("exception", [c"timeout"], args, count, keywords) {
            Some([timeout]) => wait_for(slf, timeout, true),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn done(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in wait_for.
    let state = unsafe { raw::state::<FutureBase>(slf) }.state();
    raw::boolean(!matches!(state, State::Pending | State::Running))
}

unsafe fn set(slf: Obj, args: *const Obj, count: isize, keywords: Obj, failed: bool) -> Obj {
    // SAFETY: as in wait_for.
    unsafe {
        let (name, what) = if failed {
            (c"exception", "set_exception")
        } else {
            (c"result", "set_result")
        };
        let Some([value]) = raw::arguments(what, [name], args, count, keywords) else {
            return ptr::null_mut();
        };
        if value.is_null() {
            return raw::raise_text(
                raw::type_error(),
                &format!("{what}() missing 1 required positional argument"),
            );
        }
        // A change that is not allowed is told by the standard library's own method, in its words.
        if finish(slf, value, failed) {
            raw::none()
        } else {
            ptr::null_mut()
        }
    }
}

unsafe extern "C-unwind" fn set_result(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait_for.
    unsafe { set(slf, args, count, keywords, false) }
}

unsafe extern "C-unwind" fn set_exception(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in wait_for.
    unsafe { set(slf, args, count, keywords, true) }
}

unsafe extern "C-unwind" fn set_running(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in wait_for.
    unsafe { begin(slf).map_or(ptr::null_mut(), raw::boolean) }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<FutureBase>(py);
    raw::attach::<FutureBase>(
        py,
        &[
            Method::Fast(
                c"result",
                result,
                c"result($self, /, timeout=None)\n--\n\n\
Wait for the call to end and return what it returned, or raise what it raised.\n\n\
timeout: seconds to wait at the most, None for no limit. Raises TimeoutError when the time is over, CancelledError if\n\
the call was cancelled, phalanx.DeadlockError if it can never end.",
            ),
            Method::Fast(
                c"exception",
                exception,
                c"exception($self, /, timeout=None)\n--\n\n\
Wait for the call to end and return what it raised, or None.\n\n\
timeout: seconds to wait at the most, None for no limit. Raises TimeoutError when the time is over, CancelledError if\n\
the call was cancelled, phalanx.DeadlockError if it can never end.",
            ),
            Method::NoArgs(c"done", done, c"done($self, /)\n--\n\nHas the call ended, or was it cancelled?"),
            Method::Fast(
                c"set_result",
                set_result,
                c"set_result($self, /, result)\n--\n\nEnd the call with a result. Raises InvalidStateError if it has ended.",
            ),
            Method::Fast(
                c"set_exception",
                set_exception,
                c"set_exception($self, /, exception)\n--\n\n\
End the call with an exception. Raises InvalidStateError if it has ended.",
            ),
            Method::Fast(
                c"_end_alone",
                end_alone,
                c"_end_alone($self, /, value, failed)\n--\n\n\
End the call in one step, unless it has ended or was cancelled; false: others share it, and nothing was done.",
            ),
            Method::NoArgs(
                c"set_running_or_notify_cancel",
                set_running,
                c"set_running_or_notify_cancel($self, /)\n--\n\n\
Say that the call begins; return false if it was cancelled before. For executors only.",
            ),
        ],
    )
}
