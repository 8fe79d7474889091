//! Memory that processes share: blocks, counters, and ctypes objects with a lock.

use crate::ending::{self, holder};
use crate::raw::{self, Method, Obj, Patience};
use crate::shared::lock::{self, SharedRLock};
use crate::shared::object::{self, Packed};
use crate::slot::Slot;
use phalanx::prim::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use phalanx::shm::{Handle, OBJECT_HEAD};
use phalanx::sync::Hold;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyValueError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple, PyType};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

unsafe extern "C-unwind" {
    fn PyObject_SetAttr(object: Obj, name: Obj, value: Obj) -> c_int;
    fn PyObject_GetItem(object: Obj, key: Obj) -> Obj;
    fn PyObject_SetItem(object: Obj, key: Obj, value: Obj) -> c_int;
    fn PyObject_Size(object: Obj) -> ffi::Py_ssize_t;
    #[cfg(not(Py_3_12))]
    fn _PyErr_ChainExceptions(class: Obj, value: Obj, traceback: Obj);
}

fn attribute_error() -> Obj {
    // SAFETY: it is set once when the interpreter starts.
    unsafe { ffi::PyExc_AttributeError }
}

// ---------------------------------------------------------------- blocks

/// Zeroed memory that all processes of a tree see; it lives as long as any of them holds it.
///
/// Exports a writable buffer, aligned to 64 bytes. Pickles as a handle, at any time.
#[pyclass(frozen, weakref, module = "phalanx._core")]
pub struct SharedBlock {
    handle: Handle,
}

impl SharedBlock {
    const KIND: u32 = 0x31;
    const NAME: &'static str = "shared block";
}

#[pymethods]
impl SharedBlock {
    #[new]
    fn new(size: &Bound<'_, PyInt>) -> PyResult<Self> {
        let size = size.extract::<isize>()?;
        if size < 0 {
            return Err(PyValueError::new_err(format!("Size {size} out of range")));
        }
        if size >= isize::MAX - OBJECT_HEAD.cast_signed() {
            return Err(PyOverflowError::new_err(format!("Size {size} too large")));
        }
        object::join_tree()?;
        let handle = Handle::new(Self::KIND, size.cast_unsigned()).map_err(|_| {
            PyMemoryError::new_err(format!(
                "the shared memory of this tree of processes has no room for {size} bytes"
            ))
        })?;
        Ok(Self { handle })
    }

    fn __len__(&self) -> usize {
        self.handle.len()
    }

    /// Where it begins in this process.
    #[getter]
    fn _address(&self) -> usize {
        self.handle.data().addr()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let handle = &slf.get().handle;
        let (data, len) = (handle.data().cast(), handle.len().cast_signed());
        // SAFETY: the handle keeps the memory, which never moves, and the view keeps the object with the handle.
        if unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, len, 0, flags) } == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }

    /// The numbers that stand for it in a pickle; one _unpack is expected for them.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// Take up what _pack gave, in any process of the tree.
    #[classmethod]
    fn _unpack(_class: &Bound<'_, PyType>, low: u64, high: u64, offset: u64) -> PyResult<Self> {
        let handle = object::unpack((low, high, offset), Self::KIND, Self::NAME)?;
        Ok(Self { handle })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Packed)> {
        let rebuild = slf.get_type().getattr("_unpack")?;
        Ok((rebuild, slf.get()._pack()))
    }

    fn __repr__(&self) -> String {
        format!("<SharedBlock of {} bytes>", self.handle.len())
    }
}

// ---------------------------------------------------------------- counters

/// A number that all processes of a tree see and change without a lock: each operation is one step for all of them.
///
/// It holds 64 bits with a sign and wraps round: one more than 2**63 - 1 is -2**63. Pickles as a handle, at any time.
#[pyclass(frozen, weakref, module = "phalanx._core")]
pub struct AtomicCounter {
    handle: Handle,
}

impl AtomicCounter {
    const KIND: u32 = 0x32;
    const NAME: &'static str = "AtomicCounter";

    /// SYNC(counter): all operations are SeqCst, as a program that uses several counters expects.
    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: objects of this kind hold this.
        unsafe { object::of(&self.handle) }
    }
}

#[pymethods]
impl AtomicCounter {
    #[new]
    #[pyo3(signature = (value = None))]
    fn new(value: Option<&Bound<'_, PyInt>>) -> PyResult<Self> {
        let value: i64 = value.map_or(Ok(0), |value| value.extract())?;
        let handle = object::new(Self::KIND, || AtomicU64::new(value.cast_unsigned()))?;
        Ok(Self { handle })
    }

    /// The numbers that stand for it in a pickle; one _unpack is expected for them.
    fn _pack(&self) -> Packed {
        object::pack(&self.handle)
    }

    /// Take up what _pack gave, in any process of the tree.
    #[classmethod]
    fn _unpack(_class: &Bound<'_, PyType>, low: u64, high: u64, offset: u64) -> PyResult<Self> {
        let handle = object::unpack((low, high, offset), Self::KIND, Self::NAME)?;
        Ok(Self { handle })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Packed)> {
        let rebuild = slf.get_type().getattr("_unpack")?;
        Ok((rebuild, slf.get()._pack()))
    }

    fn __repr__(&self) -> String {
        format!(
            "AtomicCounter({})",
            self.word().load(Ordering::SeqCst).cast_signed()
        )
    }
}

/// An int of 64 bits. `None`: an exception is set.
unsafe fn number(object: Obj) -> Option<u64> {
    // SAFETY: a live object; attached.
    unsafe {
        let number = raw::PyLong_AsLongLong(object);
        if number == -1 && !ffi::PyErr_Occurred().is_null() {
            return None;
        }
        Some(number.cast_unsigned())
    }
}

fn python_int(word: u64) -> Obj {
    // SAFETY: attached, as every caller.
    unsafe { ffi::PyLong_FromLongLong(word.cast_signed()) }
}

unsafe extern "C-unwind" fn counter_add(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let n = if count == 0 && keywords.is_null() {
            Some(1)
        } else {
            match raw::arguments("add", [c"n"], args, count, keywords) {
                Some([n]) if n.is_null() => Some(1),
                Some([n]) => number(n),
                None => None,
            }
        };
        let Some(n) = n else { return ptr::null_mut() };
        let before = raw::state::<AtomicCounter>(slf)
            .word()
            .fetch_add(n, Ordering::SeqCst);
        python_int(before.wrapping_add(n))
    }
}

unsafe extern "C-unwind" fn counter_exchange(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in counter_add.
    unsafe {
        let Some([value]) = raw::arguments("exchange", [c"value"], args, count, keywords) else {
            return ptr::null_mut();
        };
        if value.is_null() {
            return raw::raise(
                raw::type_error(),
                c"exchange() missing required argument 'value' (pos 1)",
            );
        }
        match number(value) {
            Some(value) => python_int(
                raw::state::<AtomicCounter>(slf)
                    .word()
                    .swap(value, Ordering::SeqCst),
            ),
            None => ptr::null_mut(),
        }
    }
}

unsafe extern "C-unwind" fn counter_compare_exchange(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as in counter_add.
    unsafe {
        let names = [c"expected", c"new"];
        let Some([expected, new]) = raw::arguments("compare_exchange", names, args, count, keywords) else {
            return ptr::null_mut();
        };
        if expected.is_null() || new.is_null() {
            return raw::raise(
                raw::type_error(),
                c"compare_exchange() needs both the expected and the new value",
            );
        }
        let (Some(expected), Some(new)) = (number(expected), number(new)) else {
            return ptr::null_mut();
        };
        let word = raw::state::<AtomicCounter>(slf).word();
        raw::boolean(
            word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok(),
        )
    }
}

unsafe extern "C-unwind" fn counter_value(slf: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as in counter_add.
    python_int(
        unsafe { raw::state::<AtomicCounter>(slf) }
            .word()
            .load(Ordering::SeqCst),
    )
}

unsafe extern "C-unwind" fn counter_set_value(slf: Obj, value: Obj, _: *mut c_void) -> c_int {
    // SAFETY: as in counter_add.
    unsafe {
        if value.is_null() {
            raw::raise(attribute_error(), c"the value of a counter cannot be deleted");
            return -1;
        }
        let Some(value) = number(value) else { return -1 };
        raw::state::<AtomicCounter>(slf)
            .word()
            .store(value, Ordering::SeqCst);
        0
    }
}

// ---------------------------------------------------------------- properties

type Get = unsafe extern "C-unwind" fn(Obj, *mut c_void) -> Obj;
type Set = unsafe extern "C-unwind" fn(Obj, Obj, *mut c_void) -> c_int;

/// A new data descriptor of class `T`. `name` and what `closure` points to live as long as the process.
fn descriptor<T: pyo3::PyTypeInfo>(
    py: Python<'_>,
    name: *const c_char,
    get: Get,
    set: Option<Set>,
    doc: &'static CStr,
    closure: *mut c_void,
) -> PyResult<Py<PyAny>> {
    let definition = Box::leak(Box::new(ffi::PyGetSetDef {
        name,
        // SAFETY: only the promise about unwinding differs, and the caller is C.
        get: Some(unsafe { std::mem::transmute::<Get, ffi::getter>(get) }),
        // SAFETY: as above.
        set: set.map(|set| unsafe { std::mem::transmute::<Set, ffi::setter>(set) }),
        doc: doc.as_ptr(),
        closure,
    }));
    // SAFETY: the definition is leaked, so it outlives the descriptor; the class is alive.
    unsafe {
        let descriptor = ffi::PyDescr_NewGetSet(T::type_object_raw(py), definition);
        Bound::from_owned_ptr_or_err(py, descriptor).map(Bound::unbind)
    }
}

/// Adds a property to class `T`.
fn add_property<T: pyo3::PyTypeInfo>(
    py: Python<'_>,
    name: &'static CStr,
    get: Get,
    set: Option<Set>,
    doc: &'static CStr,
) -> PyResult<()> {
    let property = descriptor::<T>(py, name.as_ptr(), get, set, doc, ptr::null_mut())?;
    T::type_object(py).setattr(name.to_string_lossy().as_ref(), property)
}

// ---------------------------------------------------------------- objects with a lock

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

holder!(SharedBlock);
holder!(AtomicCounter);
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
    ending::adopt::<SharedBlock>(py);
    ending::adopt::<AtomicCounter>(py);
    ending::adopt::<SynchronizedBase>(py);
    raw::attach::<AtomicCounter>(
        py,
        &[
            Method::Fast(
                c"add",
                counter_add,
                c"add($self, /, n=1)\n--\n\n\
Add n, which may be negative, and return the value after that. O(1).\n\n\
Wraps round beyond 64 bits. Raises OverflowError if n itself has more.",
            ),
            Method::Fast(
                c"exchange",
                counter_exchange,
                c"exchange($self, /, value)\n--\n\nSet the value and return the one before. O(1).",
            ),
            Method::Fast(
                c"compare_exchange",
                counter_compare_exchange,
                c"compare_exchange($self, /, expected, new)\n--\n\n\
Set the value to new if it is expected; return whether it was. O(1).",
            ),
        ],
    )?;
    add_property::<AtomicCounter>(
        py,
        c"value",
        counter_value,
        Some(counter_set_value),
        c"The value now. Use add() to change it by something: between reading and setting another may.",
    )?;
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
