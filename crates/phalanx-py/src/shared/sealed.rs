//! What is on its way to a board, and what was taken off one and not yet read.
//!
//! Pickling and its reverse run code of the program, which may wait for locks, raise, or be interrupted by a signal. So
//! nothing else happens meanwhile: a [`Parcel`] is made before it is posted, a [`Sealed`] is opened after it was collected,
//! neither under a lock. Opening may be interrupted and goes on where it was.

use super::board::item_of;
use super::object;
use super::transfer;
use crate::ending::{self, holder};
use crate::raw::{self, Method, Obj};
use crate::slot::Slot;
use phalanx::pool::{Bundled, CELL, Outcome, ROOM, Thing, What};
use phalanx::prim::{AtomicU32, Guarded, Ordering};
use phalanx::shm::heap;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::ptr;

// ------------------------------------------------------------------ on its way to a board

/// A task or a bundle that is not yet posted.
#[derive(Clone, Copy)]
pub(super) enum Packed {
    Small(u8, usize, [u8; ROOM]),
    Large(u8, u64, u64),
    Bundle(Bundled),
}

impl Packed {
    pub(super) fn of(thing: Thing<'_>) -> Self {
        match thing {
            Thing::Small(kind, bytes) => {
                let mut room = [0; ROOM];
                let len = bytes.len().min(ROOM);
                room[..len].copy_from_slice(&bytes[..len]);
                Self::Small(kind, len, room)
            }
            Thing::Large(kind, offset, len) => Self::Large(kind, offset, len),
            Thing::Bundle(bundle) => Self::Bundle(bundle),
        }
    }

    fn free(self) {
        match self {
            Self::Small(..) => {}
            Self::Large(_, offset, _) => heap::free(offset),
            Self::Bundle(bundle) => bundle.free(),
        }
    }
}

/// A task that is ready to be posted, by `Board.post`. Made by `Board.pack` and `Board.pack_many`.
#[pyclass(frozen, module = "phalanx._core", name = "Parcel")]
pub struct Parcel {
    packed: Guarded<Option<Packed>>,
}

impl Parcel {
    /// A new parcel, or null with an exception set.
    pub(super) unsafe fn make(packed: Packed) -> Obj {
        let parcel = Self {
            packed: Guarded::new(Some(packed)),
        };
        // SAFETY: attached, as the callers promise. The class has no part in collections, so no Python code runs.
        let made = unsafe { Bound::new(Python::assume_attached(), parcel) };
        object::pointer(made)
    }

    pub(super) unsafe fn of<'a>(object: Obj) -> Option<&'a Self> {
        // SAFETY: attached, as the callers promise; the class is checked, and the caller's argument keeps it alive.
        unsafe {
            let class = <Self as pyo3::PyTypeInfo>::type_object_raw(Python::assume_attached());
            (!object.is_null() && ffi::Py_TYPE(object) == class).then(|| raw::state(object))
        }
    }

    /// Hands what is in it to `post`. `false`: it is empty.
    pub(super) fn send(&self, post: impl FnOnce(Thing<'_>)) -> bool {
        let Some(packed) = self.packed.with(Option::take) else {
            return false;
        };
        match packed {
            Packed::Small(kind, len, bytes) => post(Thing::Small(kind, &bytes[..len])),
            Packed::Large(kind, offset, len) => post(Thing::Large(kind, offset, len)),
            Packed::Bundle(bundle) => post(Thing::Bundle(bundle)),
        }
        true
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(packed) = self.packed.with(Option::take) {
            packed.free();
        }
    }
}

// ------------------------------------------------------------------ taken off a board

/// One result as it lay on the board: what it is, its bytes if they are few, and whether it is a failure.
struct Raw<const N: usize> {
    what: What,
    bytes: [u8; N],
    failed: bool,
}

impl<const N: usize> Raw<N> {
    fn free(&self) {
        if let What::Large(_, offset, _) = self.what {
            heap::free(offset);
        }
    }

    /// The object, and what it is: 0 a value, 1 the failure of the task, 2 what was raised while it was read. What was
    /// raised once and not again goes to `stray`.
    unsafe fn read(self, stray: &Slot) -> (Obj, u32) {
        let mut disturbed = ptr::null_mut();
        // SAFETY: attached, as the callers promise, and the bytes are there.
        unsafe {
            let value = match item_of(self.what) {
                Some(item) => transfer::object_surely(item, self.bytes.as_ptr(), &mut disturbed),
                None => raw::raise(raw::runtime_error(), c"a bundle in a bundle"),
            };
            if !disturbed.is_null() {
                raw::release(stray.put(disturbed));
            }
            if value.is_null() {
                (raw::caught(), 2)
            } else {
                (value, u32::from(self.failed))
            }
        }
    }
}

enum Content {
    Nothing,
    One(Raw<ROOM>),
    Many(VecDeque<Raw<CELL>>),
}

/// In `kind`: what was found is a bundle.
const MANY: u32 = 3;

/// What became of a task or of a bundle, read by `open()`.
#[pyclass(frozen, module = "phalanx._core", name = "Sealed")]
pub struct Sealed {
    content: Guarded<Content>,
    outcome: Guarded<Option<Outcome>>,
    kind: AtomicU32,
    opened: AtomicU32,
    /// All owned: the value, or the values of a bundle; its failures; what a signal raised meanwhile; what is noted.
    value: Slot,
    odd: Slot,
    stray: Slot,
    last: Slot,
}

impl Sealed {
    /// A new one with nothing in it, or null with an exception set.
    pub(super) unsafe fn make() -> Obj {
        let sealed = Self {
            content: Guarded::new(Content::Nothing),
            outcome: Guarded::new(None),
            kind: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            value: Slot::empty(),
            odd: Slot::empty(),
            stray: Slot::empty(),
            last: Slot::empty(),
        };
        // SAFETY: attached, as the callers promise; before anything is touched that Python code could find half done.
        let made = unsafe { Bound::new(Python::assume_attached(), sealed) };
        object::pointer(made)
    }

    pub(super) fn fill(&self, what: What, failed: bool, bytes: [u8; ROOM]) {
        self.content
            .with(|content| *content = Content::One(Raw { what, bytes, failed }));
    }

    /// With what a bundle says, and all of its results that are new.
    pub(super) fn fill_many(&self, bundle: Bundled) {
        let outcome = bundle.outcome();
        let mut cells = VecDeque::new();
        let mut bytes = [0; CELL];
        // SAFETY: the buffer has CELL bytes, and the master reads under its lock.
        while let Some((what, failed)) = unsafe { bundle.result(bytes.as_mut_ptr()) } {
            cells.push_back(Raw { what, bytes, failed });
        }
        let given = outcome.read + cells.len();
        self.outcome
            .with(|slot| *slot = Some(Outcome { given, ..outcome }));
        self.kind.store(MANY, Ordering::Relaxed);
        self.content.with(|content| *content = Content::Many(cells));
    }

    fn outcome(&self) -> Option<Outcome> {
        self.outcome.with(|outcome| *outcome)
    }

    /// How many tasks were begun and have not ended.
    pub(super) fn lost(&self) -> i64 {
        self.outcome()
            .map_or(0, |outcome| outcome.begun.saturating_sub(outcome.given) as i64)
    }

    /// Keeps `last`, which is owned.
    pub(super) fn note(&self, last: Obj) {
        self.last.put(last);
    }

    fn take_one(&self) -> Obj {
        let slots = [&self.value, &self.odd, &self.stray, &self.last];
        slots
            .into_iter()
            .map(Slot::take)
            .find(|object| !object.is_null())
            .unwrap_or(ptr::null_mut())
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        match self
            .content
            .with(|content| std::mem::replace(content, Content::Nothing))
        {
            Content::Nothing => {}
            Content::One(raw) => raw.free(),
            Content::Many(cells) => cells.iter().for_each(Raw::free),
        }
    }
}

holder!(Sealed, Sealed);

fn shown(py: Python<'_>, slot: &Slot) -> Option<Py<PyAny>> {
    // SAFETY: attached; owned by the slot, from which nothing is taken while the object lives.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, slot.get()) }.map(Bound::unbind)
}

#[pymethods]
impl Sealed {
    /// 0 a value, 1 the failure of the task, 2 what was raised while it was read, 3 the outcome of a bundle. Known once
    /// it is open, that it is a bundle before.
    #[getter]
    fn kind(&self) -> u32 {
        self.kind.load(Ordering::Relaxed)
    }

    /// What was found; of a bundle `(first, values, nanoseconds, bytes, odd)`: the values are those of the tasks from
    /// number first on that have ended, and odd is a list of `(number, kind, value)` for those of them that are None.
    #[getter]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        shown(py, &self.value)
    }

    /// What a signal handler has raised while it was read, or None.
    #[getter]
    fn stray(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        shown(py, &self.stray)
    }

    /// What is known of the worker that died over a bundle, or None.
    #[getter]
    fn last(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        shown(py, &self.last)
    }

    /// How many tasks of a bundle were begun.
    #[getter]
    fn begun(&self) -> usize {
        self.outcome().map_or(0, |outcome| outcome.begun)
    }

    /// How many tasks of a bundle have ended.
    #[getter]
    fn given(&self) -> usize {
        self.outcome().map_or(0, |outcome| outcome.given)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let slots = [&self.value, &self.odd, &self.stray, &self.last];
        for object in slots
            .map(Slot::get)
            .into_iter()
            .filter(|object| !object.is_null())
        {
            // SAFETY: a live object that this one owns.
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

unsafe extern "C-unwind" fn open(slf: Obj, _: Obj) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing that drops when Python code runs.
    unsafe {
        let this: &Sealed = raw::state(slf);
        if this.opened.load(Ordering::Relaxed) != 0 {
            return raw::none();
        }
        let done = if this.kind() == MANY {
            open_many(this)
        } else {
            let one = this
                .content
                .with(|content| match std::mem::replace(content, Content::Nothing) {
                    Content::One(raw) => Some(raw),
                    _ => None,
                });
            if let Some(raw) = one {
                let (value, kind) = raw.read(&this.stray);
                this.kind.store(kind, Ordering::Relaxed);
                this.value.put(value);
            }
            true
        };
        if !done {
            return ptr::null_mut();
        }
        this.opened.store(1, Ordering::Relaxed);
        raw::none()
    }
}

/// Reads the results of a bundle one by one into two lists, and makes the outcome of them. `false`: an exception is set.
unsafe fn open_many(this: &Sealed) -> bool {
    // SAFETY: attached, as the callers promise; references go to the lists, which this one owns.
    unsafe {
        for slot in [&this.value, &this.odd] {
            if slot.get().is_null() {
                slot.put(ffi::PyList_New(0));
            }
            if slot.get().is_null() {
                return false;
            }
        }
        let Some(outcome) = this.outcome() else {
            return true;
        };
        let (values, odd) = (this.value.get(), this.odd.get());
        loop {
            let next = this.content.with(|content| match content {
                Content::Many(cells) => cells.pop_front(),
                _ => None,
            });
            let Some(raw) = next else { break };
            let (value, kind) = raw.read(&this.stray);
            if kind == 0 {
                let put = ffi::PyList_Append(values, value);
                raw::release(value);
                if put != 0 {
                    return false;
                }
                continue;
            }
            let at = outcome.read + ffi::PyList_GET_SIZE(values) as usize;
            let one = object::tuple([
                ffi::PyLong_FromSize_t(at),
                ffi::PyLong_FromLong(kind.into()),
                value,
            ]);
            if one.is_null() {
                return false;
            }
            let put = ffi::PyList_Append(odd, one) == 0 && ffi::PyList_Append(values, ffi::Py_None()) == 0;
            ffi::Py_DECREF(one);
            if !put {
                return false;
            }
        }
        let whole = object::tuple([
            ffi::PyLong_FromSize_t(outcome.read),
            ffi::Py_NewRef(values),
            ffi::PyLong_FromUnsignedLongLong(outcome.spent),
            ffi::PyLong_FromUnsignedLongLong(outcome.bytes),
            ffi::Py_NewRef(odd),
        ]);
        if whole.is_null() {
            return false;
        }
        ffi::Py_DECREF(this.value.put(whole));
        true
    }
}

/// Adds the method to the class.
pub fn add(py: Python<'_>) -> PyResult<()> {
    ending::adopt::<Sealed>(py);
    raw::attach::<Sealed>(
        py,
        &[Method::NoArgs(
            c"open",
            open,
            c"open($self, /)\n--\n\n\
Read what was found. What reading raises is a result of kind 2, if it is raised twice; if only the first time, a signal\n\
handler has raised it, and it is `stray`. May be called again.",
        )],
    )
}
