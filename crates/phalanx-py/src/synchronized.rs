//! ctypes objects in shared memory with a lock: what `Synchronized` and its like do for each access.

use crate::ending::{self, holder};
use crate::memory::{Get, Set, add_property, attribute_error, descriptor, number};
use crate::raw::{self, Method, Obj, Patience};
use crate::shared::lock::{self, SharedRLock};
use crate::slot::Slot;
use phalanx::prim::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use phalanx::sync::Hold;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

unsafe extern "C-unwind" {
    fn PyObject_SetAttr(object: Obj, name: Obj, value: Obj) -> c_int;
    fn PyObject_GetItem(object: Obj, key: Obj) -> Obj;
    fn PyObject_SetItem(object: Obj, key: Obj, value: Obj) -> c_int;
    fn PyObject_Size(object: Obj) -> ffi::Py_ssize_t;
    #[cfg(not(Py_3_12))]
    fn _PyErr_ChainExceptions(class: Obj, value: Obj, traceback: Obj);
}

raw::names! {
    name_acquire = c"acquire";
    name_release = c"release";
    name_enter = c"__enter__";
    name_exit = c"__exit__";
}

/// An object and the lock it is used under. `_bind`, called once, puts them in.
#[pyclass(frozen, subclass, module = "phalanx._core")]
#[derive(Default)]
pub struct SynchronizedBase {
    object: Slot,
    lock: Slot,
    acquire: Slot,
    release: Slot,
    /// The lock is one of our own, and its methods are those of its class.
    direct: AtomicBool,
    /// What kind of number lies where, if the object is a plain one in shared memory.
    number: AtomicU32,
    address: AtomicUsize,
}

#[pymethods]
impl SynchronizedBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in self.slots() {
            let object = slot.get();
            if !object.is_null() {
                // SAFETY: the slot owns the object.
                unsafe { raw::visit(&visit, object)? };
            }
        }
        Ok(())
    }

    #[expect(
        clippy::unused_self,
        reason = "what it holds is taken out before: see `ending`"
    )]
    fn __clear__(&self) {}
}

impl SynchronizedBase {
    fn slots(&self) -> [&Slot; 4] {
        [&self.object, &self.lock, &self.acquire, &self.release]
    }

    fn take_one(&self) -> Obj {
        let taken = self.slots().map(Slot::get);
        match taken.iter().position(|object| !object.is_null()) {
            Some(at) => self.slots()[at].take(),
            None => ptr::null_mut(),
        }
    }
}

holder!(SynchronizedBase, SynchronizedBase);

unsafe extern "C-unwind" fn bind(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing. Each reference made is given to a slot or back.
    unsafe {
        let names = [c"obj", c"lock", c"code", c"address"];
        let Some([object, lock, code, address]) = raw::arguments("_bind", names, args, count, keywords)
        else {
            return ptr::null_mut();
        };
        if object.is_null() || lock.is_null() {
            return raw::raise(raw::type_error(), c"_bind() needs an object and a lock");
        }
        let (code, address) = if code.is_null() || address.is_null() {
            (0, 0)
        } else {
            let (Some(code), Some(address)) = (number(code), number(address)) else {
                return ptr::null_mut();
            };
            (code as u32, address as usize)
        };
        let acquire = raw::PyObject_GetAttr(lock, name_acquire());
        if acquire.is_null() {
            return acquire;
        }
        let release = raw::PyObject_GetAttr(lock, name_release());
        if release.is_null() {
            raw::release(acquire);
            return release;
        }
        let this: &SynchronizedBase = raw::state(slf);
        if !this.object.get().is_null() {
            // Whoever uses what is there borrows it.
            raw::release(acquire);
            raw::release(release);
            return raw::raise(raw::runtime_error(), c"this object has its lock already");
        }
        this.direct.store(
            is_plain(lock, acquire) && is_plain(lock, release),
            Ordering::Relaxed,
        );
        this.number.store(code, Ordering::Relaxed);
        this.address.store(address, Ordering::Relaxed);
        this.acquire.put(acquire);
        this.release.put(release);
        this.lock.put(ffi::Py_NewRef(lock));
        this.object.put(ffi::Py_NewRef(object));
        raw::none()
    }
}

/// What a slot holds, borrowed. Null: an exception is set.
#[inline]
fn held(slot: &Slot, name: &CStr) -> Obj {
    let object = slot.get();
    if object.is_null() {
        raw::raise_text(
            attribute_error(),
            &format!(
                "{:?} is not set: __init__() was not called",
                name.to_string_lossy()
            ),
        );
    }
    object
}

/// Is `method` one that the class of our own RLock has, bound to `lock`?
unsafe fn is_plain(lock: Obj, method: Obj) -> bool {
    // SAFETY: live objects; attached.
    unsafe {
        ffi::PyObject_TypeCheck(lock, SharedRLock::type_object_raw(Python::assume_attached())) != 0
            && ffi::PyCFunction_CheckExact(method) != 0
            && ffi::PyCFunction_GetSelf(method) == lock
    }
}

/// Takes a lock of our own, without a call: True, or null with an exception set.
#[inline]
unsafe fn take_direct(this: &SynchronizedBase) -> Obj {
    // SAFETY: the slots are filled once, and the caller keeps `this`; `_bind` has looked at the class of the lock.
    unsafe {
        let lock = this.lock.get();
        lock::take(
            lock,
            raw::state::<SharedRLock>(lock),
            Hold::Plain,
            Patience::Forever,
        )
    }
}

/// Takes the lock. `false`: an exception is set.
#[inline]
unsafe fn take(this: &SynchronizedBase) -> bool {
    // SAFETY: as in `take_direct`.
    unsafe {
        let taken = if this.direct.load(Ordering::Relaxed) {
            take_direct(this)
        } else {
            let acquire = held(&this.acquire, c"acquire");
            if acquire.is_null() {
                return false;
            }
            raw::call(acquire, [])
        };
        if taken.is_null() {
            return false;
        }
        raw::release(taken);
        true
    }
}

/// Gives the lock back: None, or null with an exception set.
#[inline]
unsafe fn let_go(this: &SynchronizedBase) -> Obj {
    // SAFETY: as in `take_direct`.
    unsafe {
        if this.direct.load(Ordering::Relaxed) {
            return lock::give_back_once(this.lock.get());
        }
        let release = held(&this.release, c"release");
        if release.is_null() {
            return release;
        }
        raw::call(release, [])
    }
}

/// Gives the lock back after `result`, null for an exception that is set, and passes that on.
#[inline]
unsafe fn give_back(this: &SynchronizedBase, result: Obj) -> Obj {
    // SAFETY: as in `take`; `result` is null or owned.
    unsafe {
        if result.is_null() {
            return give_back_after_error(this);
        }
        let released = let_go(this);
        if released.is_null() {
            raw::release(result);
            return released;
        }
        raw::release(released);
        result
    }
}

/// As `finally` does: if the lock cannot be given back, that is raised, with the first exception as its context.
#[cold]
unsafe fn give_back_after_error(this: &SynchronizedBase) -> Obj {
    // SAFETY: as in `take`; the exception belongs to this frame in between.
    #[cfg(Py_3_12)]
    unsafe {
        let first = ffi::PyErr_GetRaisedException();
        let released = let_go(this);
        if released.is_null() {
            let later = ffi::PyErr_GetRaisedException();
            ffi::PyException_SetContext(later, first);
            ffi::PyErr_SetRaisedException(later);
        } else {
            raw::release(released);
            ffi::PyErr_SetRaisedException(first);
        }
    }
    // SAFETY: as above.
    #[cfg(not(Py_3_12))]
    unsafe {
        let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        #[allow(deprecated, reason = "the new function comes with 3.12")]
        ffi::PyErr_Fetch(&raw mut class, &raw mut value, &raw mut traceback);
        let released = let_go(this);
        if released.is_null() {
            _PyErr_ChainExceptions(class, value, traceback);
        } else {
            raw::release(released);
            #[allow(deprecated, reason = "the new function comes with 3.12")]
            ffi::PyErr_Restore(class, value, traceback);
        }
    }
    ptr::null_mut()
}

unsafe extern "C-unwind" fn get_locked(slf: Obj, name: *mut c_void) -> Obj {
    // SAFETY: the descriptor has checked the class; its closure is an interned str; the frame owns nothing.
    unsafe {
        let this: &SynchronizedBase = raw::state(slf);
        if !take(this) {
            return ptr::null_mut();
        }
        give_back(this, raw::PyObject_GetAttr(this.object.get(), name.cast()))
    }
}

unsafe extern "C-unwind" fn set_locked(slf: Obj, value: Obj, name: *mut c_void) -> c_int {
    // SAFETY: as in get_locked.
    unsafe {
        if value.is_null() {
            raw::raise(attribute_error(), c"what lies in shared memory cannot be deleted");
            return -1;
        }
        let this: &SynchronizedBase = raw::state(slf);
        if !take(this) {
            return -1;
        }
        let set = PyObject_SetAttr(this.object.get(), name.cast(), value);
        ended(give_back(this, done(set)))
    }
}

unsafe extern "C-unwind" fn get_number(slf: Obj, name: *mut c_void) -> Obj {
    // SAFETY: as in get_locked; the object inside keeps the number where it is.
    unsafe {
        let this: &SynchronizedBase = raw::state(slf);
        let Some((code, at)) = this.number() else {
            return get_locked(slf, name);
        };
        if !take(this) {
            return ptr::null_mut();
        }
        give_back(this, load(code, at))
    }
}

unsafe extern "C-unwind" fn set_number(slf: Obj, value: Obj, name: *mut c_void) -> c_int {
    // SAFETY: as in get_number.
    unsafe {
        let this: &SynchronizedBase = raw::state(slf);
        let Some((code, at)) = this.number().filter(|_| !value.is_null()) else {
            return set_locked(slf, value, name);
        };
        if !take(this) {
            return -1;
        }
        let set = if store(code, at, value) {
            0
        } else {
            PyObject_SetAttr(this.object.get(), name.cast(), value)
        };
        ended(give_back(this, done(set)))
    }
}

impl SynchronizedBase {
    #[inline]
    fn number(&self) -> Option<(u8, *mut u8)> {
        let code = self.number.load(Ordering::Relaxed) as u8;
        (code != 0).then(|| {
            (
                code,
                ptr::with_exposed_provenance_mut(self.address.load(Ordering::Relaxed)),
            )
        })
    }
}

/// The number of a kind, by its ctypes code, that lies somewhere.
#[inline]
unsafe fn load(code: u8, at: *const u8) -> Obj {
    // SAFETY: as `_bind` was told; another process may write to it at any time.
    unsafe {
        match code {
            b'b' => ffi::PyLong_FromLong(at.cast::<i8>().read_volatile().into()),
            b'B' => ffi::PyLong_FromLong(at.read_volatile().into()),
            b'h' => ffi::PyLong_FromLong(at.cast::<i16>().read_volatile().into()),
            b'H' => ffi::PyLong_FromLong(at.cast::<u16>().read_volatile().into()),
            b'i' => ffi::PyLong_FromLong(at.cast::<i32>().read_volatile().into()),
            b'I' => ffi::PyLong_FromLongLong(at.cast::<u32>().read_volatile().into()),
            b'l' | b'q' => ffi::PyLong_FromLongLong(at.cast::<i64>().read_volatile()),
            b'L' | b'Q' => ffi::PyLong_FromUnsignedLongLong(at.cast::<u64>().read_volatile()),
            b'f' => ffi::PyFloat_FromDouble(at.cast::<f32>().read_volatile().into()),
            b'd' => ffi::PyFloat_FromDouble(at.cast::<f64>().read_volatile()),
            _ => raw::raise(
                raw::system_error(),
                c"phalanx: a number of an unknown kind; please report this",
            ),
        }
    }
}

/// Stores a number there, truncated as ctypes does it; `false` for what ctypes has to convert or refuse.
#[inline]
unsafe fn store(code: u8, at: *mut u8, value: Obj) -> bool {
    // SAFETY: as in `load`; only the value of an exact int or float is looked at.
    unsafe {
        if code == b'd' {
            let exact = ffi::PyFloat_CheckExact(value) != 0;
            if exact {
                at.cast::<f64>().write_volatile(ffi::PyFloat_AS_DOUBLE(value));
            }
            return exact;
        }
        if ffi::PyLong_CheckExact(value) == 0 {
            return false;
        }
        let mut overflow = 0;
        let value = ffi::PyLong_AsLongLongAndOverflow(value, &raw mut overflow);
        if overflow != 0 {
            return false;
        }
        match code {
            b'b' | b'B' => at.write_volatile(value as u8),
            b'h' | b'H' => at.cast::<u16>().write_volatile(value as u16),
            b'i' | b'I' => at.cast::<u32>().write_volatile(value as u32),
            b'l' | b'q' | b'L' | b'Q' => at.cast::<i64>().write_volatile(value),
            _ => return false,
        }
        true
    }
}

/// A result as [`give_back`] takes it, from that of a setter.
unsafe fn done(set: c_int) -> Obj {
    if set == 0 { raw::none() } else { ptr::null_mut() }
}

/// And back.
unsafe fn ended(result: Obj) -> c_int {
    if result.is_null() {
        return -1;
    }
    // SAFETY: an owned reference to None.
    unsafe { ffi::Py_DECREF(result) };
    0
}

unsafe extern "C-unwind" fn get_item(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in get_locked; `args` holds `count` objects.
    unsafe {
        if count != 1 {
            return raw::raise(raw::type_error(), c"__getitem__() takes one argument");
        }
        let this: &SynchronizedBase = raw::state(slf);
        if !take(this) {
            return ptr::null_mut();
        }
        give_back(this, PyObject_GetItem(this.object.get(), *args))
    }
}

unsafe extern "C-unwind" fn set_item(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in get_item.
    unsafe {
        if count != 2 {
            return raw::raise(raw::type_error(), c"__setitem__() takes two arguments");
        }
        let this: &SynchronizedBase = raw::state(slf);
        if !take(this) {
            return ptr::null_mut();
        }
        let set = PyObject_SetItem(this.object.get(), *args, *args.add(1));
        give_back(this, done(set))
    }
}

unsafe extern "C-unwind" fn size(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in get_locked. The length never changes.
    unsafe {
        let object = held(&raw::state::<SynchronizedBase>(slf).object, c"_obj");
        if object.is_null() {
            return object;
        }
        match PyObject_Size(object) {
            -1 => ptr::null_mut(),
            size => ffi::PyLong_FromSsize_t(size),
        }
    }
}

unsafe extern "C-unwind" fn enter(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in get_locked.
    unsafe {
        let lock = held(&raw::state::<SynchronizedBase>(slf).lock, c"_lock");
        if lock.is_null() {
            return lock;
        }
        raw::call_method(name_enter(), [lock])
    }
}

unsafe extern "C-unwind" fn exit(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as in get_locked; `args` holds `count` objects.
    unsafe {
        let lock = held(&raw::state::<SynchronizedBase>(slf).lock, c"_lock");
        if lock.is_null() {
            return lock;
        }
        match count {
            0 => raw::call_method(name_exit(), [lock]),
            3 => raw::call_method(name_exit(), [lock, *args, *args.add(1), *args.add(2)]),
            _ => raw::raise(
                raw::type_error(),
                c"__exit__() takes an exception's class, the exception and its traceback",
            ),
        }
    }
}

unsafe extern "C-unwind" fn acquire(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in get_locked; the arguments of the call.
    unsafe {
        let this: &SynchronizedBase = raw::state(slf);
        if count == 0 && keywords.is_null() && this.direct.load(Ordering::Relaxed) {
            return take_direct(this);
        }
        let method = held(&this.acquire, c"acquire");
        if method.is_null() {
            return method;
        }
        raw::PyObject_Vectorcall(method, args, count.cast_unsigned(), keywords)
    }
}

unsafe extern "C-unwind" fn release(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in get_locked.
    unsafe { let_go(raw::state(slf)) }
}

/// A new reference to what a slot holds.
fn lent(slot: &Slot, name: &CStr) -> Obj {
    let object = held(slot, name);
    // SAFETY: null or an object that the slot keeps.
    unsafe { ffi::Py_XINCREF(object) };
    object
}

unsafe extern "C-unwind" fn get_obj(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in get_locked.
    lent(&unsafe { raw::state::<SynchronizedBase>(slf) }.object, c"_obj")
}

unsafe extern "C-unwind" fn get_lock(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in get_locked.
    lent(&unsafe { raw::state::<SynchronizedBase>(slf) }.lock, c"_lock")
}

unsafe extern "C-unwind" fn own_object(slf: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as in get_locked.
    lent(&unsafe { raw::state::<SynchronizedBase>(slf) }.object, c"_obj")
}

unsafe extern "C-unwind" fn own_lock(slf: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as in get_locked.
    lent(&unsafe { raw::state::<SynchronizedBase>(slf) }.lock, c"_lock")
}

/// A property of a subclass of SynchronizedBase: the attribute `name` of the object inside, read and set under the lock.
///
/// It is never freed: keep one for each name.
#[pyfunction]
pub fn _locked_property(py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
    let mut interned = name.clone().into_ptr();
    // SAFETY: attached; the reference is kept for ever, and with it its text.
    unsafe {
        ffi::PyUnicode_InternInPlace(&raw mut interned);
        let text = ffi::PyUnicode_AsUTF8AndSize(interned, ptr::null_mut());
        if text.is_null() {
            return Err(PyErr::fetch(py));
        }
        let (get, set): (Get, Set) = match CStr::from_ptr(text).to_bytes() {
            b"value" => (get_number, set_number),
            _ => (get_locked, set_locked),
        };
        descriptor::<SynchronizedBase>(
            py,
            text,
            get,
            Some(set),
            c"Read and set under the lock.",
            interned.cast(),
        )
    }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<SynchronizedBase>(py);
    raw::attach::<SynchronizedBase>(
        py,
        &[
            Method::Fast(
                c"_bind",
                bind,
                c"_bind($self, /, obj, lock, code=0, address=0)\n--\n\n\
Put the object and its lock in, once. code, address: of a number that obj keeps there, by its type in ctypes.",
            ),
            Method::NoArgs(
                c"get_obj",
                get_obj,
                c"get_obj($self, /)\n--\n\nThe object inside, which can be used without the lock.",
            ),
            Method::Fast(
                c"acquire",
                acquire,
                c"acquire($self, /, *args, **kwargs)\n--\n\nThe same as that method of the lock.",
            ),
            Method::NoArgs(
                c"release",
                release,
                c"release($self, /)\n--\n\nThe same as that method of the lock.",
            ),
            Method::NoArgs(c"get_lock", get_lock, c"get_lock($self, /)\n--\n\nThe lock."),
            Method::NoArgs(
                c"__enter__",
                enter,
                c"__enter__($self, /)\n--\n\nTake the lock for a with block.",
            ),
            Method::Fast(
                c"__exit__",
                exit,
                c"__exit__($self, /, *exc_info)\n--\n\nGive the lock back at the end of a with block.",
            ),
            Method::Fast(
                c"_getitem",
                get_item,
                c"_getitem($self, key, /)\n--\n\nAn item or a slice of the object inside, under the lock.",
            ),
            Method::Fast(
                c"_setitem",
                set_item,
                c"_setitem($self, key, value, /)\n--\n\nSet an item or a slice of the object inside, under the lock.",
            ),
            Method::NoArgs(c"_len", size, c"_len($self, /)\n--\n\nThe length of the object inside."),
        ],
    )?;
    let add = |name, get, doc| add_property::<SynchronizedBase>(py, name, get, None, doc);
    add(c"_obj", own_object, c"The object inside.")?;
    add(c"_lock", own_lock, c"The lock.")
}
