//! The detector's findings, from the core's numbers to Python's objects.

use crate::lock::{Lock, RLock};
use crate::place::Place;
use crate::raw::{self, Obj};
use crate::slot::Slot;
use phalanx::prim::{AtomicBool, Ordering};
use phalanx::wait::hook::{self, Cause, Mode, Report};
use phalanx::wait::{self, Sleeper};
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr;

/// Is there a Python handler for SIGINT other than the usual one?
static OWN_SIGINT: AtomicBool = AtomicBool::new(false);

/// Was [`OWN_SIGINT`] looked at since the main thread began its present wait?
static EXCUSE_KNOWN: AtomicBool = AtomicBool::new(false);

/// The main thread begins a wait: a handler may have been installed since the last look.
pub fn forget_excuse() {
    EXCUSE_KNOWN.store(false, Ordering::Relaxed);
}

/// Looks, attached in the main thread, whether Ctrl-C may do more than raise KeyboardInterrupt.
pub fn refresh_excuse() {
    // SAFETY: attached; new references are given back; an error is none of the waiting program's business.
    unsafe {
        let pending = PyErr::take(Python::assume_attached());
        let module = ffi::PyImport_ImportModule(c"_signal".as_ptr());
        if !module.is_null() {
            let now = ffi::PyObject_CallMethod(module, c"getsignal".as_ptr(), c"i".as_ptr(), libc::SIGINT);
            let usual = ffi::PyObject_GetAttrString(module, c"default_int_handler".as_ptr());
            let callable = !now.is_null() && ffi::PyCallable_Check(now) != 0;
            OWN_SIGINT.store(callable && now != usual, Ordering::Relaxed);
            // SYNC(excuse): pairs with the Acquire load in excuse.
            EXCUSE_KNOWN.store(true, Ordering::Release);
            ffi::Py_XDECREF(now);
            ffi::Py_XDECREF(usual);
            ffi::Py_DECREF(module);
        }
        ffi::PyErr_Clear();
        if let Some(pending) = pending {
            pending.restore(Python::assume_attached());
        }
    }
}

/// May a signal handler wake the main thread? Then a process all asleep is not stuck.
fn excuse() -> bool {
    const FATAL: [libc::c_int; 7] = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGINT,
    ];
    let installed = |signal: libc::c_int| {
        // SAFETY: asks only; the struct is plain data.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, ptr::null(), &raw mut now) == 0
                && now.sa_sigaction != libc::SIG_DFL
                && now.sa_sigaction != libc::SIG_IGN
        }
    };
    // SYNC(excuse): pairs with the Release store in refresh_excuse.
    !EXCUSE_KNOWN.load(Ordering::Acquire)
        || alarm_is_set()
        || OWN_SIGINT.load(Ordering::Relaxed)
        || (1..=64).any(|signal| {
            !FATAL.contains(&signal) && signal != phalanx::sys::bond_signal() && installed(signal)
        })
}

/// Will a timer of this process run out, whatever its signal does then?
fn alarm_is_set() -> bool {
    // SAFETY: asks only; the struct is plain data.
    unsafe {
        let mut left: libc::itimerval = std::mem::zeroed();
        libc::getitimer(libc::ITIMER_REAL, &raw mut left) == 0
            && (left.it_value.tv_sec != 0 || left.it_value.tv_usec != 0)
    }
}

/// The class DeadlockError, once one was raised.
static ERROR: Slot = Slot::empty();

/// Is `class`, which may be None, DeadlockError or a subclass?
///
/// # Safety
/// Attached; a live object.
#[inline]
pub unsafe fn is_deadlock(class: Obj) -> bool {
    let error = ERROR.get();
    // SAFETY: as the caller promises; the error class is kept for ever.
    !error.is_null()
        && unsafe { ffi::PyType_Check(class) != 0 && ffi::PyType_IsSubtype(class.cast(), error.cast()) != 0 }
}

/// Plugs the detector in.
pub fn start() {
    phalanx::watch::start(excuse);
    phalanx::wait::shared::set_reporter(print_from_a_thread);
}

/// Set what happens when a deadlock is found: "raise", "report" or "off".
#[pyfunction]
pub fn set_deadlock_mode(mode: &str) -> PyResult<()> {
    hook::set_mode(match mode {
        "raise" => Mode::Raise,
        "report" => Mode::Report,
        "off" => Mode::Off,
        _ => return Err(PyValueError::new_err(format!("unknown deadlock mode '{mode}'"))),
    });
    Ok(())
}

/// What happens when a deadlock is found: "raise", "report" or "off".
#[pyfunction]
pub fn deadlock_mode() -> &'static str {
    match hook::mode() {
        Mode::Raise => "raise",
        Mode::Report => "report",
        Mode::Off => "off",
    }
}

/// Sets the DeadlockError for `report`, which it frees.
///
/// # Safety
/// Attached; the report comes from `Ended::from`; the caller's frame owns nothing.
pub unsafe fn raise(report: *mut Report) {
    // SAFETY: as the caller promises. Python code runs in `tell`, after the report has been freed.
    unsafe {
        let arguments = arguments(&Box::from_raw(report));
        let error = tell(arguments, c"build_error");
        if !error.is_null() {
            // Kept for ever: the class of the first error, which is that of all.
            let class = ffi::Py_TYPE(error);
            if ERROR.get().is_null() {
                ffi::Py_INCREF(class.cast());
                ERROR.put(class.cast());
            }
            ffi::PyErr_SetObject(ffi::Py_TYPE(error).cast(), error);
            raw::release(error);
        }
    }
}

/// Prints `report` from a thread that lives only for this: the sleeping thread is inside the core, where it must not run
/// Python code.
pub fn print_from_a_thread(report: &Report) {
    let report = Box::into_raw(Box::new(report.clone()));
    // SAFETY: the thread is detached and owns the report; if it cannot be made, the report is freed here.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        libc::pthread_attr_init(&raw mut attributes);
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut thread: libc::pthread_t = std::mem::zeroed();
        // Only the promise about unwinding differs.
        let start: Start = std::mem::transmute::<StartUnwind, Start>(print_and_free);
        if libc::pthread_create(&raw mut thread, &raw const attributes, start, report.cast()) != 0 {
            drop(Box::from_raw(report));
        }
        libc::pthread_attr_destroy(&raw mut attributes);
    }
}

type Start = extern "C" fn(*mut libc::c_void) -> *mut libc::c_void;
type StartUnwind = extern "C-unwind" fn(*mut libc::c_void) -> *mut libc::c_void;

unsafe extern "C-unwind" {
    fn PyGILState_Ensure() -> ffi::PyGILState_STATE;
    fn PyGILState_Release(state: ffi::PyGILState_STATE);
}

extern "C-unwind" fn print_and_free(report: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: the report is ours; the frame holds plain pointers, as the thread may end while it attaches.
    unsafe {
        if ffi::Py_IsInitialized() == 0 {
            return ptr::null_mut();
        }
        let state = PyGILState_Ensure();
        let snapshot = arguments(&Box::from_raw(report.cast::<Report>()));
        let printed = tell(snapshot, c"describe");
        if printed.is_null() {
            ffi::PyErr_Clear();
        } else {
            raw::release(printed);
        }
        PyGILState_Release(state);
    }
    ptr::null_mut()
}

/// Calls the function `name` of `phalanx.deadlock` with the snapshot, which it gives back. New reference or null.
unsafe fn tell(snapshot: Obj, name: &std::ffi::CStr) -> Obj {
    // SAFETY: attached; plain pointers only, as Python code runs here.
    unsafe {
        if snapshot.is_null() {
            return snapshot;
        }
        let module = import(c"phalanx.deadlock".as_ptr());
        if module.is_null() {
            ffi::Py_DECREF(snapshot);
            return module;
        }
        let function = raw::PyObject_GetAttr(module, raw::intern(name));
        let result = if function.is_null() {
            function
        } else {
            raw::call(function, [snapshot])
        };
        ffi::Py_XDECREF(function);
        ffi::Py_DECREF(module);
        raw::release(snapshot);
        result
    }
}

unsafe extern "C-unwind" {
    #[link_name = "PyImport_ImportModule"]
    fn import(name: *const std::ffi::c_char) -> Obj;
}

/// The snapshot as a dict: see `phalanx/deadlock.py`. New reference or null. Runs no Python code.
unsafe fn arguments(report: &Report) -> Obj {
    // SAFETY: attached; `Py_BuildValue` takes over the references marked N.
    unsafe {
        if !report.tree.is_empty() {
            return tree(report);
        }
        let threads = ffi::PyList_New(0);
        let mut victim = 0;
        for sleeper in &report.threads {
            if sleeper.thread == report.victim {
                victim = sleeper.ident;
            }
            let thread = thread(sleeper, report.victim);
            if thread.is_null() || ffi::PyList_Append(threads, thread) != 0 {
                ffi::Py_XDECREF(thread);
                ffi::Py_XDECREF(threads);
                return ptr::null_mut();
            }
            ffi::Py_DECREF(thread);
        }
        let cause = match report.cause {
            Cause::Cycle => c"cycle",
            Cause::Asleep => c"asleep",
            Cause::Orphan => c"orphan",
        };
        ffi::Py_BuildValue(
            c"{s:s,s:K,s:N}".as_ptr(),
            c"cause".as_ptr(),
            cause.as_ptr(),
            c"victim".as_ptr(),
            victim,
            c"threads".as_ptr(),
            threads,
        )
    }
}

/// The snapshot of several processes: plain text and numbers. New reference or null.
unsafe fn tree(report: &Report) -> Obj {
    // SAFETY: attached; `Py_BuildValue` takes over the references marked N.
    unsafe {
        let rows = ffi::PyList_New(0);
        for row in &report.tree {
            let text =
                |text: &str| ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize);
            let owner = row.owner.map_or(-1, |at| at as i64);
            let entry = ffi::Py_BuildValue(
                c"{s:I,s:N,s:N,s:N,s:N,s:N,s:L,s:K,s:N}".as_ptr(),
                c"pid".as_ptr(),
                row.pid,
                c"process".as_ptr(),
                text(&row.process),
                c"thread".as_ptr(),
                text(&row.thread),
                c"kind".as_ptr(),
                text(&row.kind),
                c"place".as_ptr(),
                text(&row.place),
                c"taken".as_ptr(),
                text(&row.taken),
                c"owner".as_ptr(),
                owner,
                c"thing".as_ptr(),
                row.thing,
                c"victim".as_ptr(),
                raw::boolean(row.victim),
            );
            if entry.is_null() || ffi::PyList_Append(rows, entry) != 0 {
                ffi::Py_XDECREF(entry);
                ffi::Py_XDECREF(rows);
                return ptr::null_mut();
            }
            ffi::Py_DECREF(entry);
        }
        let cause = match report.cause {
            Cause::Cycle => c"cycle",
            Cause::Asleep => c"asleep",
            Cause::Orphan => c"orphan",
        };
        ffi::Py_BuildValue(
            c"{s:s,s:N}".as_ptr(),
            c"cause".as_ptr(),
            cause.as_ptr(),
            c"tree".as_ptr(),
            rows,
        )
    }
}

unsafe fn thread(sleeper: &Sleeper, victim: u32) -> Obj {
    // SAFETY: as in `arguments`. The object that a thread waits for is borrowed by its call, which cannot return while
    // we are attached if the sleep goes on; the victim's own call is the one that we are in.
    unsafe {
        let object = ptr::with_exposed_provenance_mut::<ffi::PyObject>(sleeper.subject);
        let raising = sleeper.thread == victim && wait::current() == victim;
        let alive = !object.is_null() && (raising || wait::is_still_waiting(sleeper));
        let object = if alive { object } else { ffi::Py_None() };
        let owner = sleeper.owner.map(|owner| owner.thread);
        let facts = owner.and_then(wait::facts);
        let ident = match &facts {
            Some(facts) => ffi::PyLong_FromUnsignedLongLong(facts.ident),
            None => raw::none(),
        };
        let taken = match if alive { place(object) } else { None } {
            Some((code, offset)) => ffi::Py_BuildValue(c"On".as_ptr(), code, offset),
            None => raw::none(),
        };
        let name = std::ffi::CString::new(sleeper.reason.name).unwrap_or_default();
        ffi::Py_BuildValue(
            c"{s:K,s:I,s:s,s:O,s:N,s:N,s:N,s:N}".as_ptr(),
            c"ident".as_ptr(),
            sleeper.ident,
            c"native_id".as_ptr(),
            sleeper.os_id,
            c"kind".as_ptr(),
            name.as_ptr(),
            c"object".as_ptr(),
            object,
            c"owner".as_ptr(),
            ident,
            c"owner_alive".as_ptr(),
            raw::boolean(facts.is_some()),
            c"taken".as_ptr(),
            taken,
            c"forked".as_ptr(),
            raw::boolean(owner.is_some_and(wait::lost_in_fork)),
        )
    }
}

/// Where the lock `object` was taken, if it is one of ours.
unsafe fn place(object: Obj) -> Option<(Obj, usize)> {
    // SAFETY: attached, and a live object.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above.
    let object = unsafe { Borrowed::<PyAny>::from_ptr(py, object) };
    let place: Option<&Place> = if let Ok(lock) = object.cast::<Lock>() {
        Some(&lock.get().place)
    } else if let Ok(lock) = object.cast::<RLock>() {
        Some(&lock.get().place)
    } else {
        None
    };
    place.and_then(Place::get)
}
