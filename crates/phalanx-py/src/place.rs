//! Where a lock was taken, noted with two stores.
//!
//! The code object and the instruction come straight from the interpreter's current frame, whose layout differs from
//! version to version. [`check`] compares what is read so with what Python's own functions say, once at import; if it
//! differs, nothing is noted and reports do without the place.

use crate::raw::Obj;
use crate::slot::Slot;
use phalanx::prim::{AtomicBool, AtomicUsize, Ordering};
use pyo3::ffi;
use std::ptr;

/// A place in a program.
#[derive(Debug, Default)]
pub struct Place {
    /// Owned.
    code: Slot,
    instruction: AtomicUsize,
}

static KNOWN: AtomicBool = AtomicBool::new(false);

#[cfg(not(Py_3_13))]
unsafe extern "C" {
    fn _PyThreadState_UncheckedGet() -> *mut ffi::PyThreadState;
}
#[cfg(Py_3_13)]
unsafe extern "C" {
    #[link_name = "PyThreadState_GetUnchecked"]
    fn _PyThreadState_UncheckedGet() -> *mut ffi::PyThreadState;
}

/// Offsets in bytes: of the way from the thread state to the current frame, and in the frame.
struct Layout {
    /// In the thread state: the frame itself, or what points to it.
    state: usize,
    /// In what `state` points to, where the frame is behind one more pointer.
    via: Option<usize>,
    code: usize,
    instruction: usize,
    /// The frame of the caller.
    previous: usize,
}

#[cfg(not(Py_3_12))]
const LAYOUT: Layout = Layout {
    state: 56,
    via: Some(8),
    code: 32,
    instruction: 56,
    previous: 48,
};
#[cfg(all(Py_3_12, not(Py_3_13)))]
const LAYOUT: Layout = Layout {
    state: 56,
    via: Some(0),
    code: 0,
    instruction: 56,
    previous: 8,
};
#[cfg(Py_3_13)]
const LAYOUT: Layout = Layout {
    state: 72,
    via: None,
    code: 0,
    instruction: 56,
    previous: 8,
};

/// The current frame, or null.
#[inline]
unsafe fn frame() -> *mut u8 {
    // SAFETY: the layout is the one of this version, as `check` has seen, and the frame is this thread's own.
    unsafe {
        let state = _PyThreadState_UncheckedGet().cast::<u8>();
        let mut frame = *state.add(LAYOUT.state).cast::<*mut u8>();
        if let Some(via) = LAYOUT.via {
            if frame.is_null() {
                return frame;
            }
            frame = *frame.add(via).cast::<*mut u8>();
        }
        frame
    }
}

/// The code object (borrowed) and the address of the instruction that runs now; null without a frame.
#[inline]
unsafe fn current() -> (Obj, usize) {
    // SAFETY: as in `frame`.
    unsafe {
        let frame = frame();
        if frame.is_null() {
            return (ptr::null_mut(), 0);
        }
        (
            *frame.add(LAYOUT.code).cast::<Obj>(),
            *frame.add(LAYOUT.instruction).cast::<usize>(),
        )
    }
}

/// The byte offset of `instruction` in `code`.
unsafe fn offset(code: Obj, instruction: usize) -> Option<usize> {
    // SAFETY: a live code object; its instructions begin where the fixed part of it ends.
    let start = unsafe { code.addr() + (*ffi::Py_TYPE(code)).tp_basicsize as usize };
    instruction.checked_sub(start)
}

/// Turns noting on if the layout proves right. Called from a module that a Python frame imports.
pub fn check() {
    // Later versions are not known here.
    if cfg!(Py_3_14) || cfg!(Py_GIL_DISABLED) || cfg!(not(target_pointer_width = "64")) {
        return;
    }
    // SAFETY: attached; the frame and the code are borrowed or released as the functions say.
    unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return;
        }
        let code = ffi::PyFrame_GetCode(frame).cast::<ffi::PyObject>();
        let instruction = ffi::PyObject_GetAttrString(frame.cast(), c"f_lasti".as_ptr());
        if code.is_null() || instruction.is_null() {
            ffi::PyErr_Clear();
            return;
        }
        let said = ffi::PyLong_AsLong(instruction);
        let (seen, address) = current();
        let right = seen == code && offset(seen, address) == usize::try_from(said).ok();
        KNOWN.store(right, Ordering::Relaxed);
        ffi::Py_DECREF(instruction);
        ffi::Py_DECREF(code);
    }
}

impl Place {
    /// Notes where the calling thread is.
    #[inline]
    pub fn note(&self) {
        if !KNOWN.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: attached, and the layout is known.
        let (code, instruction) = unsafe { current() };
        self.instruction.store(instruction, Ordering::Relaxed);
        if self.code.get() != code {
            self.change(code);
        }
    }

    #[cold]
    fn change(&self, code: Obj) {
        // SAFETY: attached; the new code runs at this moment, and the old one was owned here. Code objects end without
        // running Python code.
        unsafe {
            ffi::Py_XINCREF(code);
            ffi::Py_XDECREF(self.code.put(code));
        }
    }

    /// The code object (borrowed) and the byte offset in it.
    pub fn get(&self) -> Option<(Obj, usize)> {
        let code = self.code.get();
        if code.is_null() {
            return None;
        }
        // SAFETY: the code is owned here.
        let offset = unsafe { offset(code, self.instruction.load(Ordering::Relaxed)) }?;
        Some((code, offset))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: objects of the seam end attached; the reference is ours.
        unsafe { ffi::Py_XDECREF(self.code.take()) };
    }
}

/// A place in the running program, as plain borrowed data: good while the frame that it was read from runs.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    code: Obj,
    instruction: usize,
    file: *const std::ffi::c_char,
}

/// So many frames are looked through.
const DEEP: usize = 12;

impl Site {
    /// Where the calling thread is in the program.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn here() -> Option<Self> {
        if !KNOWN.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: attached, and the layout is known; frames are linked from the inside out.
        unsafe {
            let mut frame = frame();
            let mut first = None;
            for _ in 0..DEEP {
                if frame.is_null() {
                    break;
                }
                let site = Self::of(frame);
                // The program's own frame, not one of the machinery between it and us.
                if site.is_some_and(|site| !site.is_inner()) {
                    return site;
                }
                first = first.or(site);
                frame = *frame.add(LAYOUT.previous).cast::<*mut u8>();
            }
            first
        }
    }

    unsafe fn of(frame: *const u8) -> Option<Self> {
        // SAFETY: a live frame of this thread; the name is kept alive by the code, the code by its frame. The attribute
        // is a plain slot: no Python code runs.
        unsafe {
            let code = *frame.add(LAYOUT.code).cast::<Obj>();
            // Some frames of the interpreter itself have none.
            if code.is_null() || ffi::PyCode_Check(code) == 0 {
                return None;
            }
            let file = ffi::PyObject_GetAttr(code, names::file());
            if file.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            let text = ffi::PyUnicode_AsUTF8(file);
            ffi::Py_DECREF(file);
            if text.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            Some(Self {
                code,
                instruction: *frame.add(LAYOUT.instruction).cast::<usize>(),
                file: text,
            })
        }
    }

    /// Is it in a file of ours or of the standard package?
    fn is_inner(&self) -> bool {
        // SAFETY: as `here` says.
        let file = unsafe { std::ffi::CStr::from_ptr(self.file) }.to_bytes();
        let inside = |what: &[u8]| file.windows(what.len()).any(|part| part == what);
        file.first() == Some(&b'<') && !file.starts_with(b"<stdin>") && !file.starts_with(b"<string>")
            || inside(b"/multiprocessing/")
    }

    /// What two notes of one line have in common: equal numbers, equal places.
    ///
    /// # Safety
    /// Attached.
    #[inline]
    pub unsafe fn mark() -> u64 {
        if !KNOWN.load(Ordering::Relaxed) {
            return 0;
        }
        // SAFETY: attached, and the layout is known.
        let (code, instruction) = unsafe { current() };
        (code.addr() as u64).rotate_left(20) ^ instruction as u64
    }

    /// Writes `file:line`, cut at the front if need be. May be called detached: it only reads the code object.
    pub fn write(&self, to: &mut [u8; 80]) {
        // SAFETY: as `here` says; the line table of a code object never changes.
        let (file, line) = unsafe {
            let offset = offset(self.code, self.instruction).unwrap_or(0);
            let line = ffi::PyCode_Addr2Line(self.code.cast(), offset as std::ffi::c_int);
            (std::ffi::CStr::from_ptr(self.file).to_bytes(), line)
        };
        let line = format!(":{line}");
        let room = to.len() - line.len();
        let file = &file[file.len().saturating_sub(room)..];
        to[..file.len()].copy_from_slice(file);
        to[file.len()..file.len() + line.len()].copy_from_slice(line.as_bytes());
    }
}

mod names {
    crate::raw::names! {
        file = c"co_filename";
    }
}
