//! Arguments of raw functions, from Python's objects to plain values.

use crate::raw::{
    Obj, PyFloat_AsDouble, PyObject_IsTrue, overflow_error, raise, raise_text, type_error, value_error,
};
use phalanx::wait::Deadline;
use pyo3::ffi;
use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

/// The arguments of a [`Fast`] function by place or keyword; absent ones are null. `None`: an exception is set.
///
/// # Safety
/// The first three parameters after `what` are those of the call.
pub unsafe fn arguments<const N: usize>(
    what: &str,
    names: [&CStr; N],
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Option<[Obj; N]> {
    let count = count as usize;
    let mut found = [ptr::null_mut(); N];
    if count > N {
        raise_text(
            type_error(),
            &format!("{what}() takes at most {N} arguments ({count} given)"),
        );
        return None;
    }
    for (at, slot) in found.iter_mut().enumerate().take(count) {
        // SAFETY: `args` holds `count` objects.
        *slot = unsafe { *args.add(at) };
    }
    if keywords.is_null() {
        return Some(found);
    }
    // SAFETY: `keywords` is a tuple of str, and its values follow the `count` plain arguments.
    unsafe {
        for at in 0..ffi::PyTuple_GET_SIZE(keywords) {
            let keyword = ffi::PyTuple_GET_ITEM(keywords, at);
            let equal = |name: &&CStr| ffi::PyUnicode_CompareWithASCIIString(keyword, name.as_ptr()) == 0;
            match names.iter().position(equal) {
                Some(place) if found[place].is_null() => found[place] = *args.add(count + at as usize),
                Some(place) => {
                    let name = names[place].to_string_lossy();
                    raise_text(
                        type_error(),
                        &format!("{what}() got multiple values for argument '{name}'"),
                    );
                    return None;
                }
                None => {
                    ffi::PyErr_Format(
                        type_error(),
                        c"'%U' is an invalid keyword argument for this function".as_ptr(),
                        keyword,
                    );
                    return None;
                }
            }
        }
    }
    Some(found)
}

/// Is `object` true? An absent one is `default`. `None`: an exception is set.
///
/// # Safety
/// Null or a live object.
#[inline]
pub unsafe fn truth(object: Obj, default: bool) -> Option<bool> {
    // SAFETY: as the caller promises.
    unsafe {
        if object.is_null() {
            return Some(default);
        }
        if object == ffi::Py_True() || object == ffi::Py_False() {
            return Some(object == ffi::Py_True());
        }
        match PyObject_IsTrue(object) {
            -1 => None,
            answer => Some(answer != 0),
        }
    }
}

/// `threading.TIMEOUT_MAX` in seconds.
pub const TIMEOUT_MAX: f64 = 9_223_372_036.0;

/// A number of seconds as a float. `None`: an exception is set.
///
/// # Safety
/// A live object.
pub unsafe fn seconds(object: Obj) -> Option<f64> {
    // SAFETY: as the caller promises.
    unsafe {
        let number = ffi::PyFloat_Check(object) != 0 || ffi::PyLong_Check(object) != 0 || has_float(object);
        if !number {
            raise_text(
                type_error(),
                &format!(
                    "'{}' object cannot be interpreted as an integer",
                    type_name(object)
                ),
            );
            return None;
        }
        let value = PyFloat_AsDouble(object);
        if value == -1.0 && !ffi::PyErr_Occurred().is_null() {
            return None;
        }
        if value.is_nan() {
            raise(value_error(), c"Invalid value NaN (not a number)");
            return None;
        }
        if value > TIMEOUT_MAX {
            raise(overflow_error(), c"timeout value is too large");
            return None;
        }
        Some(value)
    }
}

/// Has the class of `object` a `__float__`?
unsafe fn has_float(object: Obj) -> bool {
    // SAFETY: a live object.
    unsafe {
        let methods = (*ffi::Py_TYPE(object)).tp_as_number;
        !methods.is_null() && (*methods).nb_float.is_some()
    }
}

/// The name of the class of `object`.
///
/// # Safety
/// A live object.
pub unsafe fn type_name(object: Obj) -> String {
    // SAFETY: as the caller promises; tp_name is a C string as long as the class lives.
    unsafe {
        CStr::from_ptr((*ffi::Py_TYPE(object)).tp_name)
            .to_string_lossy()
            .into_owned()
    }
}

/// Patience as Python says it.
#[derive(Clone, Copy, PartialEq)]
pub enum Patience {
    /// Do not wait.
    Now,
    /// Wait without a limit.
    Forever,
    /// Wait this many seconds.
    Seconds(f64),
}

impl Patience {
    /// The point in time, from now on.
    pub fn deadline(self) -> Deadline {
        match self {
            Self::Forever => Deadline::NEVER,
            Self::Now => Deadline::after(Duration::ZERO),
            Self::Seconds(seconds) => {
                Deadline::after(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
            }
        }
    }
}

/// `timeout` of a wait that takes `None` for no limit and nothing below zero seriously. `None`: an exception is set.
///
/// # Safety
/// Null or a live object.
pub unsafe fn optional_timeout(timeout: Obj) -> Option<Patience> {
    // SAFETY: as the caller promises.
    unsafe {
        if timeout.is_null() || timeout == ffi::Py_None() {
            return Some(Patience::Forever);
        }
        let seconds = seconds(timeout)?;
        Some(if seconds > 0.0 {
            Patience::Seconds(seconds)
        } else {
            Patience::Now
        })
    }
}
