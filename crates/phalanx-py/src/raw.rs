//! The bare interface to Python for functions that detach or run Python code.
//!
//! The rule of this file, and of every function attached by [`attach`]: up to CPython 3.13 a daemon thread that
//! re-attaches during shutdown is unwound by `pthread_exit`. So these functions are `extern "C-unwind"`, hold only
//! plain pointers and copies across a call that may run Python code, and catch panics only round detached code.

pub use crate::args::{Patience, arguments, optional_timeout, seconds, truth, type_name};
use phalanx::prim::{AtomicU64, Ordering};
use phalanx::wait::hook::Report;
use phalanx::wait::{Deadline, Enders, How, Interrupt, Reason, Stopped};
use pyo3::ffi::{self, PyObject};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// A Python object, borrowed or owned as the place says. Never dropped by itself.
pub type Obj = *mut PyObject;

// PyO3 declares these as functions that never unwind; for us they may.
unsafe extern "C-unwind" {
    pub fn PyEval_SaveThread() -> *mut ffi::PyThreadState;
    pub fn PyEval_RestoreThread(state: *mut ffi::PyThreadState);
    pub fn PyErr_CheckSignals() -> c_int;
    pub fn PyObject_IsTrue(object: Obj) -> c_int;
    pub fn PyObject_Vectorcall(callable: Obj, args: *const Obj, nargsf: usize, kwnames: Obj) -> Obj;
    pub fn PyObject_VectorcallMethod(name: Obj, args: *const Obj, nargsf: usize, kwnames: Obj) -> Obj;
    pub fn PyObject_GetAttr(object: Obj, name: Obj) -> Obj;
    pub fn PyFloat_AsDouble(object: Obj) -> f64;
    pub fn PyLong_AsLongLong(object: Obj) -> i64;
    pub fn Py_DecRef(object: Obj);
    #[cfg(not(Py_3_12))]
    fn PyErr_NormalizeException(class: *mut Obj, value: *mut Obj, traceback: *mut Obj);
}

/// A function with fast arguments and keywords.
pub type Fast = unsafe extern "C-unwind" fn(Obj, *const Obj, isize, Obj) -> Obj;
/// A function without arguments, or with one.
pub type NoArgs = unsafe extern "C-unwind" fn(Obj, Obj) -> Obj;

/// One method to attach.
pub enum Method {
    /// Takes arguments and keywords.
    Fast(&'static CStr, Fast, &'static CStr),
    /// Takes none.
    NoArgs(&'static CStr, NoArgs, &'static CStr),
    /// Takes one argument, and no keyword.
    One(&'static CStr, NoArgs, &'static CStr),
}

/// Adds `methods` to the class `T`.
pub fn attach<T: pyo3::PyTypeInfo>(py: pyo3::Python<'_>, methods: &[Method]) -> pyo3::PyResult<()> {
    let class = T::type_object(py);
    for method in methods {
        let (name, doc, flags) = match method {
            Method::Fast(name, _, doc) => (name, doc, ffi::METH_FASTCALL | ffi::METH_KEYWORDS),
            Method::NoArgs(name, _, doc) => (name, doc, ffi::METH_NOARGS),
            Method::One(name, _, doc) => (name, doc, ffi::METH_O),
        };
        // Only the promise about unwinding differs between our types and PyO3's, and the caller is C.
        let pointer = match method {
            Method::Fast(_, function, _) => {
                // SAFETY: as said above.
                let function =
                    unsafe { std::mem::transmute::<Fast, ffi::PyCFunctionFastWithKeywords>(*function) };
                ffi::PyMethodDefPointer {
                    PyCFunctionFastWithKeywords: function,
                }
            }
            Method::NoArgs(_, function, _) | Method::One(_, function, _) => {
                // SAFETY: as said above.
                let function = unsafe { std::mem::transmute::<NoArgs, ffi::PyCFunction>(*function) };
                ffi::PyMethodDefPointer {
                    PyCFunction: function,
                }
            }
        };
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: pointer,
            ml_flags: flags,
            ml_doc: doc.as_ptr(),
        }));
        // SAFETY: the definition is leaked, so it outlives the descriptor; the class is alive.
        unsafe {
            let descriptor = ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition);
            if descriptor.is_null()
                || ffi::PyObject_SetAttrString(class.as_ptr(), name.as_ptr(), descriptor) != 0
            {
                return Err(pyo3::PyErr::fetch(py));
            }
            ffi::Py_DECREF(descriptor);
        }
    }
    Ok(())
}

/// The Rust state of `object`.
///
/// # Safety
/// `object` is an instance of `T`, as method descriptors check, and outlives the result.
#[inline]
pub unsafe fn state<'a, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
    object: Obj,
) -> &'a T {
    // SAFETY: `Py<T>` is a transparent pointer to an object of class T; the caller keeps it alive.
    unsafe {
        let holder: *const pyo3::Py<T> = (&raw const object).cast();
        let inner: *const T = (*holder).get();
        &*inner
    }
}

/// Sets an exception.
#[cold]
pub fn raise(class: Obj, text: &CStr) -> Obj {
    // SAFETY: we are attached, as every caller of the seam is; the class is one of the built-in ones.
    unsafe { ffi::PyErr_SetString(class, text.as_ptr()) };
    ptr::null_mut()
}

/// Sets an exception with a text made on the spot.
#[cold]
pub fn raise_text(class: Obj, text: &str) -> Obj {
    let text = std::ffi::CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: as in `raise`.
    unsafe { ffi::PyErr_SetString(class, text.as_ptr()) };
    ptr::null_mut()
}

macro_rules! exceptions {
    ($($name:ident = $object:ident;)*) => {
        $(
            /// The built-in exception class.
            #[inline]
            pub fn $name() -> Obj {
                // SAFETY: it is set once when the interpreter starts.
                unsafe { ffi::$object }
            }
        )*
    };
}

exceptions! {
    value_error = PyExc_ValueError;
    type_error = PyExc_TypeError;
    runtime_error = PyExc_RuntimeError;
    overflow_error = PyExc_OverflowError;
    system_error = PyExc_SystemError;
    assertion_error = PyExc_AssertionError;
}

/// A new reference to `None`.
#[inline]
pub fn none() -> Obj {
    // SAFETY: None is always there and we are attached.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// A new reference to `True` or `False`.
#[inline]
pub fn boolean(value: bool) -> Obj {
    // SAFETY: both are always there and we are attached.
    unsafe { ffi::Py_NewRef(if value { ffi::Py_True() } else { ffi::Py_False() }) }
}

/// The identity of the thread that runs signal handlers.
static MAIN: AtomicU64 = AtomicU64::new(0);

/// Says which thread runs signal handlers.
pub fn set_main(ident: u64) {
    MAIN.store(ident, Ordering::Relaxed);
}

/// In the child of a fork: this thread does.
pub fn forked() {
    set_main(phalanx::sys::thread_ident());
}

/// Does this thread run signal handlers?
pub fn is_main() -> bool {
    MAIN.load(Ordering::Relaxed) == phalanx::sys::thread_ident()
}

/// How often any thread has detached at our door: a hint that the interpreter is free.
static DETACHED: AtomicU64 = AtomicU64::new(0);

/// How long a woken thread waits, in nanoseconds, for whoever woke it to detach: as long as that one may need to empty a
/// short queue, and less than a sleep and a wake-up cost.
const COURTESY: u64 = 20_000;

thread_local! {
    /// How many wake-ups to go before courtesy is tried again; it grows while it does not pay.
    static RUDE: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Lets the thread that woke us detach first, which it mostly does at once because it waits in its turn. Asking for the
/// interpreter while it is held means a sleep in the kernel and another wake-up.
fn let_the_waker_go(before: u64) {
    let (skip, step) = RUDE.get();
    if skip > 0 {
        return RUDE.set((skip - 1, step));
    }
    if phalanx::wait::processors() < 2 {
        return;
    }
    let end = phalanx::sys::now() + COURTESY;
    let mut paid = DETACHED.load(Ordering::Relaxed) != before;
    while !paid && phalanx::sys::now() < end {
        std::hint::spin_loop();
        paid = DETACHED.load(Ordering::Relaxed) != before;
    }
    let step = if paid { 0 } else { (step * 2 + 1).min(63) };
    RUDE.set((step, step));
}

/// Runs signal handlers in the middle of a wait.
struct Signals {
    main: bool,
    state: Cell<*mut ffi::PyThreadState>,
    /// Where the wait stands, for a wait that other processes see.
    site: Option<crate::place::Site>,
}

impl Interrupt for Signals {
    fn check(&self) -> bool {
        if !self.main {
            return false;
        }
        // SAFETY: this is the main thread, detached; only the main thread ends the interpreter, so it is not unwound.
        unsafe {
            PyEval_RestoreThread(self.state.get());
            let failed = PyErr_CheckSignals() != 0;
            crate::watch::refresh_excuse();
            self.state.set(PyEval_SaveThread());
            failed
        }
    }

    fn ticks(&self) -> bool {
        self.main
    }

    fn describe(&self, place: &mut [u8; 80], thread: &mut [u8; 32]) {
        if let Some(site) = &self.site {
            site.write(place);
        }
        crate::shared::tree::write_thread_name(thread);
    }

    fn report(&self, report: &Report) {
        crate::watch::print_from_a_thread(report);
    }
}

/// How a detached wait ended, as plain data.
#[derive(Clone, Copy)]
pub enum Ended {
    /// With what it waited for.
    Yes,
    /// The time was over.
    TimedOut,
    /// A signal handler raised; the exception is set.
    Interrupted,
    /// It would never have ended; the box is owned.
    Deadlock(*mut Report),
    /// The process of this thread died and still owned what was waited for.
    OwnerDied(u32),
    /// Nobody is left who could have ended it.
    Hopeless,
    /// The core panicked; the text is owned.
    Panicked(*mut String),
}

impl Ended {
    /// From the result of the core.
    pub fn from(result: Result<bool, Stopped>) -> Self {
        match result {
            Ok(true) => Self::Yes,
            Ok(false) => Self::TimedOut,
            Err(Stopped::Interrupted { .. }) => Self::Interrupted,
            Err(Stopped::Deadlock(report)) => Self::Deadlock(Box::into_raw(report)),
            Err(Stopped::OwnerDied(thread)) => Self::OwnerDied(thread),
            Err(Stopped::Hopeless) => Self::Hopeless,
        }
    }

    /// `true` or `false` for an ended wait; `None`: an exception is set.
    ///
    /// # Safety
    /// Called once for each value.
    pub unsafe fn or_raise(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::TimedOut => Some(false),
            Self::Interrupted => None,
            Self::Deadlock(report) => {
                // SAFETY: the box came from `from` and is freed here, once.
                unsafe { crate::watch::raise(report) };
                None
            }
            Self::OwnerDied(thread) => {
                // SAFETY: attached, as every caller is.
                unsafe { crate::shared::deaths::raise(c"lock", thread, "") };
                None
            }
            Self::Hopeless => {
                raise(runtime_error(), c"nobody is left who could end this wait");
                None
            }
            Self::Panicked(text) => {
                // SAFETY: the box came from `panicked` and is freed here, once.
                let text = unsafe { Box::from_raw(text) };
                raise_text(system_error(), &text);
                None
            }
        }
    }

    /// The same as a Python bool, or null with an exception set.
    ///
    /// # Safety
    /// Called once for each value.
    pub unsafe fn into_bool(self) -> Obj {
        // SAFETY: as the caller promises.
        unsafe { self.or_raise() }.map_or(ptr::null_mut(), boolean)
    }
}

fn panicked(payload: &(dyn std::any::Any + Send)) -> Ended {
    let said = payload.downcast_ref::<String>().map(String::as_str);
    let said = said
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    let text =
        format!("phalanx: internal error: {said}\nhint: please report this with the program that shows it");
    Ended::Panicked(Box::into_raw(Box::new(text)))
}

/// Detaches, waits in the core, attaches again.
///
/// # Safety
/// Attached; `subject` is null or alive during the wait; the caller's frame owns nothing that is dropped.
pub unsafe fn wait(
    subject: Obj,
    reason: &'static Reason,
    deadline: Deadline,
    f: impl FnOnce(&How<'_>) -> Result<bool, Stopped>,
) -> Ended {
    // SAFETY: as the caller promises.
    unsafe { wait_somewhere(subject, reason, deadline, Enders::Unknown, None, f) }
}

/// As [`wait`], for something that other processes share: they see where this one waits. `enders` can end it.
///
/// # Safety
/// As [`wait`].
pub unsafe fn wait_shared(
    subject: Obj,
    reason: &'static Reason,
    deadline: Deadline,
    enders: Enders,
    f: impl FnOnce(&How<'_>) -> Result<bool, Stopped>,
) -> Ended {
    // SAFETY: as the caller promises. The frame that the site lies in outlives the wait.
    unsafe {
        let site = crate::place::Site::here();
        wait_somewhere(subject, reason, deadline, enders, site, f)
    }
}

/// As [`wait_shared`], for a lock whose place was written at the address `taken` of the arena.
///
/// # Safety
/// As [`wait`].
pub unsafe fn wait_for_lock(
    subject: Obj,
    reason: &'static Reason,
    deadline: Deadline,
    enders: Enders,
    taken: usize,
    f: impl FnOnce(&How<'_>) -> Result<bool, Stopped>,
) -> Ended {
    // SAFETY: as the caller promises.
    unsafe { wait_shared(subject, reason, deadline, enders, |how| f(&How { taken, ..*how })) }
}

unsafe fn wait_somewhere(
    subject: Obj,
    reason: &'static Reason,
    deadline: Deadline,
    enders: Enders,
    site: Option<crate::place::Site>,
    f: impl FnOnce(&How<'_>) -> Result<bool, Stopped>,
) -> Ended {
    // SAFETY: attached, as the caller promises.
    let main = is_main();
    if main {
        crate::watch::forget_excuse();
    }
    let signals = Signals {
        main,
        // SAFETY: attached, as the caller promises.
        state: Cell::new(unsafe { PyEval_SaveThread() }),
        site,
    };
    let before = DETACHED.fetch_add(1, Ordering::Relaxed) + 1;
    let how = How {
        reason,
        subject: subject.addr(),
        deadline,
        interrupt: &signals,
        enders,
        taken: 0,
    };
    let ended = match catch_unwind(AssertUnwindSafe(|| f(&how))) {
        Ok(result) => Ended::from(result),
        Err(payload) => panicked(&*payload),
    };
    // Whoever woke us from another process holds another interpreter.
    if matches!(ended, Ended::Yes) && signals.site.is_none() {
        let_the_waker_go(before);
    }
    // SAFETY: the state is the one that was saved last in this thread. The thread may end in here; `signals` and
    // `how` hold nothing to drop.
    unsafe { PyEval_RestoreThread(signals.state.get()) };
    ended
}

/// The exception that is set, taken away, with its traceback.
///
/// # Safety
/// Attached, and an exception is set.
pub unsafe fn caught() -> Obj {
    // SAFETY: attached, and an exception is set.
    unsafe {
        #[cfg(Py_3_12)]
        return ffi::PyErr_GetRaisedException();
        #[cfg(not(Py_3_12))]
        {
            let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            #[allow(deprecated, reason = "the new function comes with 3.12")]
            ffi::PyErr_Fetch(&raw mut class, &raw mut value, &raw mut traceback);
            PyErr_NormalizeException(&raw mut class, &raw mut value, &raw mut traceback);
            if !traceback.is_null() {
                ffi::PyException_SetTraceback(value, traceback);
                ffi::Py_DECREF(traceback);
            }
            ffi::Py_XDECREF(class);
            value
        }
    }
}

/// Calls a method by its interned name. New reference or null.
///
/// # Safety
/// Live objects; `args[0]` is the object itself.
#[inline]
pub unsafe fn call_method<const N: usize>(name: Obj, args: [Obj; N]) -> Obj {
    // SAFETY: as the caller promises.
    unsafe { PyObject_VectorcallMethod(name, args.as_ptr(), N, ptr::null_mut()) }
}

/// Calls `callable` with plain arguments. New reference or null.
///
/// # Safety
/// Live objects.
#[inline]
pub unsafe fn call<const N: usize>(callable: Obj, args: [Obj; N]) -> Obj {
    // SAFETY: as the caller promises.
    unsafe { PyObject_Vectorcall(callable, args.as_ptr(), N, ptr::null_mut()) }
}

/// Gives a reference back; the object's end may run Python code.
///
/// # Safety
/// An owned reference.
#[inline]
pub unsafe fn release(object: Obj) {
    // SAFETY: as the caller promises.
    unsafe { Py_DecRef(object) };
}

/// Shows an owned object to the garbage collector.
///
/// # Safety
/// A live object that the visiting object owns.
pub unsafe fn visit(visit: &pyo3::PyVisit<'_>, object: Obj) -> Result<(), pyo3::PyTraverseError> {
    // SAFETY: `Py` is a transparent pointer, and it is only lent.
    visit.call(unsafe { &*(&raw const object).cast::<pyo3::Py<pyo3::PyAny>>() })
}

/// An interned string that lives as long as the process.
pub fn intern(text: &CStr) -> Obj {
    // SAFETY: attached; the reference is kept for ever.
    unsafe { ffi::PyUnicode_InternFromString(text.as_ptr() as *const c_char) }
}

/// Functions that give interned names, made once.
macro_rules! names {
    ($($name:ident = $text:expr;)*) => {
        $(
            /// The interned name.
            #[inline]
            pub fn $name() -> $crate::raw::Obj {
                static NAME: $crate::slot::Slot = $crate::slot::Slot::empty();
                let name = NAME.get();
                if !name.is_null() {
                    return name;
                }
                // Two threads that come first intern the same object.
                let name = $crate::raw::intern($text);
                NAME.put(name);
                name
            }
        )*
    };
}
pub(crate) use names;
