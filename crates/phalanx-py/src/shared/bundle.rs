//! How a worker works through a bundle.

use super::board::{Board, decoded, encoded};
use super::object;
use crate::raw::{self, Method, Obj};
use phalanx::pool::{Bundled, CELL, Stage};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Calls a function with the items of a tuple.
unsafe fn call_with(function: Obj, items: Obj) -> Obj {
    // SAFETY: as the callers promise: attached, live objects.
    unsafe { ffi::PyObject_Call(function, items, ptr::null_mut()) }
}

// ------------------------------------------------------------------ a worker

/// The bundle that this worker has, or an exception.
unsafe fn mine(this: &Board) -> Option<Bundled> {
    let bundle = this.bundle();
    if bundle.is_none() {
        raw::raise(raw::runtime_error(), c"no bundle has been taken");
    }
    bundle
}

unsafe extern "C-unwind" fn call(slf: Obj, _: Obj) -> Obj {
    let mut bytes = [0; CELL];
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        match mine(raw::state(slf)) {
            Some(bundle) => {
                let what = bundle.call(bytes.as_mut_ptr());
                decoded(what, bytes.as_ptr())
            }
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn work(slf: Obj, function: Obj) -> Obj {
    let mut bytes = [0; CELL];
    // SAFETY: the descriptor has checked the class. References are given back by hand, and none is owned while Python
    // code runs that could end the thread but those that this leaks then.
    unsafe {
        let this: &Board = raw::state(slf);
        let Some(bundle) = mine(this) else {
            return ptr::null_mut();
        };
        let spread = bundle.mode() != 0;
        while let Some(what) = bundle.begin(bytes.as_mut_ptr()) {
            this.note(Stage::Taken);
            this.count_bytes(what.len());
            let item = decoded(what, bytes.as_ptr());
            if item.is_null() {
                return object::tuple([raw::caught()]);
            }
            this.note(Stage::Started);
            let result = if spread {
                call_with(function, item)
            } else {
                raw::call(function, [item])
            };
            raw::release(item);
            if this.current().is_none() {
                // In a child that the task has forked: it is no worker.
                return end_child(result);
            }
            this.note(Stage::Ended);
            if result.is_null() {
                return result;
            }
            if !give_to(this, bundle, result, false) {
                return object::tuple([raw::caught(), result]);
            }
            raw::release(result);
        }
        raw::none()
    }
}

/// What the task of another process has given or raised here: this one ends.
unsafe fn end_child(result: Obj) -> Obj {
    // SAFETY: attached, as the callers promise; an owned object, or null with an exception set.
    unsafe {
        if !result.is_null() {
            raw::release(result);
            ffi::PyErr_SetNone(ffi::PyExc_SystemExit);
        }
        ptr::null_mut()
    }
}

unsafe fn give_to(this: &Board, bundle: Bundled, value: Obj, failed: bool) -> bool {
    // SAFETY: as the callers promise: attached, a live object.
    unsafe {
        encoded(value, CELL, |thing| {
            this.count_bytes(thing.len());
            this.board().give(bundle, thing, failed);
        })
    }
}

unsafe extern "C-unwind" fn give(slf: Obj, failure: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let this: &Board = raw::state(slf);
        match mine(this) {
            Some(bundle) if give_to(this, bundle, failure, true) => raw::none(),
            _ => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn skip(slf: Obj, _: Obj) -> Obj {
    let mut bytes = [0; CELL];
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let Some(bundle) = mine(raw::state(slf)) else {
            return ptr::null_mut();
        };
        let outcome = bundle.outcome();
        raw::boolean(outcome.begun > outcome.given || bundle.skip(bytes.as_mut_ptr()))
    }
}

unsafe extern "C-unwind" fn finish_many(slf: Obj, bell: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let bell = raw::PyLong_AsLongLong(bell) as i32;
        let this: &Board = raw::state(slf);
        let Some(bundle) = mine(this) else {
            return ptr::null_mut();
        };
        this.finish_bundle(bundle, bell);
        raw::none()
    }
}

/// Adds the methods to the class of boards.
pub fn add(py: Python<'_>) -> PyResult<()> {
    raw::attach::<Board>(
        py,
        &[
            Method::NoArgs(
                c"call",
                call,
                c"call($self, /)\n--\n\nThe function of the bundle that was taken last. Asked once.",
            ),
            Method::One(
                c"work",
                work,
                c"work($self, function, /)\n--\n\n\
Do the tasks of the bundle, and give their results; None: all are done.\n\n\
Raises what a task raises. A tuple with an exception: a task could not be loaded; with an exception and a result: that\n\
result could not be pickled. In the three cases give() has to give that task's failure, and then work() goes on.",
            ),
            Method::One(
                c"give",
                give,
                c"give($self, failure, /)\n--\n\nGive the failure of the task of the bundle that was begun last.",
            ),
            Method::NoArgs(
                c"skip",
                skip,
                c"skip($self, /)\n--\n\nIs there a task of the bundle that give() may still give the failure of?",
            ),
            Method::One(
                c"finish_many",
                finish_many,
                c"finish_many($self, bell, /)\n--\n\nGive the bundle back.",
            ),
        ],
    )
}
