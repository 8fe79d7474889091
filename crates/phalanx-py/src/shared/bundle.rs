//! Bundles on a board: how the master makes them and reads what became of them, and how a worker works through one.

use super::board::{Board, decoded, encoded, read};
use super::object;
use crate::raw::{self, Method, Obj};
use phalanx::pool::{BUNDLE, Bundled, CELL, SLOTS, Stage, Thing};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Calls a function with the items of a tuple.
unsafe fn call_with(function: Obj, items: Obj) -> Obj {
    // SAFETY: as the callers promise: attached, live objects.
    unsafe { ffi::PyObject_Call(function, items, ptr::null_mut()) }
}

/// A tuple of owned references.
unsafe fn tuple<const N: usize>(items: [Obj; N]) -> Obj {
    // SAFETY: attached, as the callers promise; the references go to the tuple.
    unsafe {
        let tuple = ffi::PyTuple_New(N.cast_signed());
        for (at, item) in items.into_iter().enumerate() {
            if tuple.is_null() {
                raw::release(item);
            } else {
                ffi::PyTuple_SET_ITEM(tuple, at.cast_signed(), item);
            }
        }
        tuple
    }
}

// ------------------------------------------------------------------ the master

unsafe extern "C-unwind" fn post_many(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops.
    unsafe {
        let names = [c"function", c"items", c"mode"];
        let Some([function, items, mode]) = raw::arguments("post_many", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        let mode = raw::PyLong_AsLongLong(mode) as u32;
        if ffi::PyTuple_Check(items) == 0 || ffi::PyTuple_GET_SIZE(items) > BUNDLE as isize {
            return raw::raise(
                raw::value_error(),
                c"items must be a tuple of at most BUNDLE items",
            );
        }
        let many = ffi::PyTuple_GET_SIZE(items);
        let this: &Board = raw::state(slf);
        let board = this.board();
        this.post_with(|post| {
            let Ok(bundle) = Bundled::make(many as usize, mode) else {
                object::no_memory().restore(Python::assume_attached());
                return false;
            };
            let all = encoded(function, CELL, |thing| board.set_call(bundle, thing))
                && (0..many).all(|at| {
                    encoded(ffi::PyTuple_GET_ITEM(items, at), CELL, |thing| {
                        board.push(bundle, thing)
                    })
                });
            if all {
                post(Thing::Bundle(bundle));
            } else {
                bundle.free();
            }
            all
        })
    }
}

/// What has become of a bundle, and was not yet told: `(first, values, begun, nanoseconds, bytes, odd)`. Null: an exception
/// is set.
unsafe fn news(bundle: Bundled) -> Obj {
    let outcome = bundle.outcome();
    let many = outcome.given.saturating_sub(outcome.read);
    let mut bytes = [0; CELL];
    // SAFETY: attached, as the callers promise; only results that have been given are read; references go to the lists.
    unsafe {
        let (values, odd) = (ffi::PyList_New(many.cast_signed()), ffi::PyList_New(0));
        if values.is_null() || odd.is_null() {
            return ptr::null_mut();
        }
        for at in 0..many {
            let (what, failed) = bundle.result(bytes.as_mut_ptr());
            let (value, kind) = read(what, failed, bytes.as_ptr());
            if kind == 0 {
                ffi::PyList_SET_ITEM(values, at.cast_signed(), value);
                continue;
            }
            ffi::PyList_SET_ITEM(values, at.cast_signed(), raw::none());
            let position = ffi::PyLong_FromSize_t(outcome.read + at);
            let one = tuple([position, ffi::PyLong_FromLong(kind.into()), value]);
            if one.is_null() || ffi::PyList_Append(odd, one) != 0 {
                return ptr::null_mut();
            }
            ffi::Py_DECREF(one);
        }
        let numbers = [outcome.begun as u64, outcome.spent, outcome.bytes];
        let [begun, spent, size] = numbers.map(|n| ffi::PyLong_FromUnsignedLongLong(n));
        tuple([
            ffi::PyLong_FromSize_t(outcome.read),
            values,
            begun,
            spent,
            size,
            odd,
        ])
    }
}

/// As `news`, of a bundle that was reaped, which goes.
pub(super) unsafe fn outcome(bundle: Bundled) -> Obj {
    // SAFETY: as the callers promise: attached, and nobody else has the bundle any more.
    let news = unsafe { news(bundle) };
    bundle.free();
    news
}

unsafe extern "C-unwind" fn cut(slf: Obj, slot: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class.
    unsafe { news_of(slot, |slot| raw::state::<Board>(slf).board().cut(slot)) }
}

unsafe extern "C-unwind" fn look(slf: Obj, slot: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class.
    unsafe { news_of(slot, |slot| raw::state::<Board>(slf).board().bundle(slot)) }
}

/// The news of the bundle that `find` finds in a slot, or None.
unsafe fn news_of(slot: Obj, find: impl FnOnce(u32) -> Option<Bundled>) -> Obj {
    // SAFETY: attached, as the callers promise; the frame owns nothing.
    unsafe {
        match u32::try_from(raw::PyLong_AsLongLong(slot)) {
            Ok(slot) if (slot as usize) < SLOTS => find(slot).map_or_else(raw::none, |bundle| news(bundle)),
            _ => raw::raise(raw::value_error(), c"no such slot"),
        }
    }
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
                return tuple([raw::caught()]);
            }
            this.note(Stage::Started);
            let result = if spread {
                call_with(function, item)
            } else {
                raw::call(function, [item])
            };
            raw::release(item);
            this.note(Stage::Ended);
            if result.is_null() {
                return result;
            }
            if !give_to(this, bundle, result, false) {
                return tuple([raw::caught(), result]);
            }
            raw::release(result);
        }
        raw::none()
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
    py.get_type::<Board>().setattr("BUNDLE", BUNDLE)?;
    raw::attach::<Board>(
        py,
        &[
            Method::Fast(
                c"post_many",
                post_many,
                c"post_many($self, /, function, items, mode)\n--\n\n\
Post a tuple of at most BUNDLE tasks that call one function, with an item each (mode 0) or with its parts (mode 1).\n\n\
Return their slot, or None if the board is full. Raises what pickling raises.",
            ),
            Method::One(
                c"cut",
                cut,
                c"cut($self, slot, /)\n--\n\n\
Take back the tasks of a posted bundle that its worker has not begun; return what collect() would, or None if there is no\n\
bundle. Those before `begun` stay with the worker.",
            ),
            Method::One(
                c"look",
                look,
                c"look($self, slot, /)\n--\n\n\
What has become of a posted bundle and was not told yet, as collect() would tell it, or None if there is no bundle.",
            ),
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
