//! The codec's long way: pickles, the buffers they refer to, and whatever goes to a payload block.
//!
//! A payload of kind `PICKLED_BUFFERS`, in words of 8 bytes in the machine's order:
//!
//! ```text
//! count | length of the pickle | length of each buffer ... | pickle | buffers, each on a boundary of 64 bytes
//! ```
//!
//! Whether a buffer may be written to is in the pickle. On the way out every byte is copied once, from where the object has
//! it to the block. On the way in a buffer is a slice of a memoryview of the block, which lives as long as any slice: one
//! small array that is kept keeps the whole block.

use crate::codec::{self, Encoded, INLINE, PICKLED, PICKLED_BUFFERS, Room};
use crate::codec_decode::malformed;
use crate::raw::{self, Obj};
use crate::slot::Slot;
use phalanx::shm::riders::{self, Gathered};
use phalanx::shm::{self, Handle};
use pyo3::ffi;
use std::ffi::{CStr, c_char};
use std::ptr;

unsafe extern "C-unwind" {
    fn PyImport_ImportModule(name: *const c_char) -> Obj;
    fn PyObject_GetAttrString(object: Obj, name: *const c_char) -> Obj;
    fn PyPickleBuffer_FromObject(object: Obj) -> Obj;
    fn PyMemoryView_FromObject(object: Obj) -> Obj;
    fn PySequence_GetSlice(object: Obj, from: ffi::Py_ssize_t, to: ffi::Py_ssize_t) -> Obj;
    fn PyList_New(size: ffi::Py_ssize_t) -> Obj;
}

unsafe extern "C" {
    fn PyPickleBuffer_GetBuffer(object: Obj) -> *const ffi::Py_buffer;
    fn PyBuffer_IsContiguous(view: *const ffi::Py_buffer, order: c_char) -> std::ffi::c_int;
}

/// How deep lists, tuples and dicts may lie in each other for the short way to a pickle.
const PLAIN_DEPTH: u8 = 8;

/// What lies in Python.
#[derive(Clone, Copy)]
pub enum Part {
    /// `dump(object)`: the parts of the stream, and the buffers.
    Dump,
    /// `pickle.dumps`.
    DumpPlain,
    /// The number of the protocol.
    Protocol,
    /// `dump_in_band(object)`: bytes.
    DumpInBand,
    /// `pickle.loads`.
    Load,
    /// The names of keywords of a call of `loads`.
    Buffers,
    /// The exception for a damaged record.
    UnpicklingError,
}

const NAMES: [&CStr; 7] = [
    c"dump",
    c"dumps",
    c"PROTOCOL",
    c"dump_in_band",
    c"loads",
    c"BUFFERS",
    c"UnpicklingError",
];

static PARTS: [Slot; NAMES.len()] = [const { Slot::empty() }; NAMES.len()];

/// One of the parts, borrowed for ever; imported at first use. Null: an exception is set.
///
/// # Safety
/// Attached; the caller's frame owns nothing that is dropped.
#[inline]
pub unsafe fn part(which: Part) -> Obj {
    let slot = &PARTS[which as usize];
    let found = slot.get();
    if !found.is_null() {
        return found;
    }
    // SAFETY: as the caller promises. Two threads that come first find the same objects.
    unsafe {
        let module = PyImport_ImportModule(c"phalanx.multiprocessing._pickle".as_ptr());
        if module.is_null() {
            return module;
        }
        let found = PyObject_GetAttrString(module, NAMES[which as usize].as_ptr());
        raw::release(module);
        if !found.is_null() {
            slot.put(found);
        }
        found
    }
}

/// Bytes that lie somewhere in an object, and where they go.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: *const u8,
    len: usize,
    at: usize,
}

/// An encoded object that has to be copied to its place yet.
#[derive(Debug)]
pub struct Plan {
    kind: u8,
    len: usize,
    /// Owned; keeps what the pieces point to where it is.
    keep: Obj,
    head: Vec<u8>,
    pieces: Vec<Piece>,
    /// Handles in the pickle, which are to ride in its block.
    riders: Option<Gathered>,
}

impl Plan {
    fn new(kind: u8, keep: Obj) -> Self {
        Self {
            kind,
            len: 0,
            keep,
            head: Vec::new(),
            pieces: Vec::new(),
            riders: None,
        }
    }

    /// A plan of one piece, which lives as long as `keep`, owned.
    pub fn whole(kind: u8, keep: Obj, piece: *const [u8]) -> Box<Self> {
        let mut plan = Box::new(Self::new(kind, keep));
        plan.append(piece);
        plan
    }

    fn append(&mut self, piece: *const [u8]) {
        self.pieces.push(Piece {
            from: piece.cast(),
            len: piece.len(),
            at: self.len,
        });
        self.len += piece.len();
    }

    /// What kind of record it is.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Which handles are to ride in the block that it is copied to.
    pub fn riders(&self) -> &[Handle] {
        self.riders.as_deref().unwrap_or(&[])
    }

    /// Copies everything to `to`. Need not be attached.
    ///
    /// # Safety
    /// Room for `len()` bytes that nobody else uses.
    pub unsafe fn write(&self, to: *mut u8) {
        // SAFETY: as the caller promises; the pieces live as long as `keep`, and lie one after the other.
        unsafe {
            ptr::copy_nonoverlapping(self.head.as_ptr(), to, self.head.len());
            let mut end = self.head.len();
            for piece in &self.pieces {
                // What lies between belonged to somebody else before.
                to.add(end).write_bytes(0, piece.at - end);
                ptr::copy_nonoverlapping(piece.from, to.add(piece.at), piece.len);
                end = piece.at + piece.len;
            }
        }
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// Attached; called once; the caller's frame owns nothing that is dropped.
    pub unsafe fn free(plan: *mut Self) {
        // SAFETY: it came from a box. Nothing is owned here any more when Python code may run.
        unsafe {
            let keep = (*plan).keep;
            drop(Box::from_raw(plan));
            raw::release(keep);
        }
    }

    /// Into the room if it fits, and nothing rides with it: that takes a block.
    ///
    /// # Safety
    /// As [`codec::encode`].
    pub unsafe fn settle(self: Box<Self>, out: &mut Room) -> Encoded {
        let (kind, len) = (self.kind, self.len);
        let plan = Box::into_raw(self);
        // SAFETY: it is ours, and fits; the plan is freed once.
        unsafe {
            if len > INLINE || !(*plan).riders().is_empty() {
                return Encoded::Large(plan);
            }
            (*plan).write(out.as_mut_ptr().cast());
            Self::free(plan);
        }
        Encoded::Small { kind, len }
    }
}

/// Encodes the contiguous memory that `object` exports.
///
/// # Safety
/// As [`codec::encode`].
pub unsafe fn exported(kind: u8, object: Obj, out: &mut Room) -> Encoded {
    // SAFETY: as the caller promises; the PickleBuffer is ours alone, so it stays exported until it is freed.
    unsafe {
        let keep = PyPickleBuffer_FromObject(object);
        if keep.is_null() {
            return Encoded::Failed;
        }
        let view = PyPickleBuffer_GetBuffer(keep);
        if PyBuffer_IsContiguous(view, b'C' as c_char) == 0 {
            raw::release(keep);
            raw::raise(ffi::PyExc_BufferError, c"the memory to send is not contiguous");
            return Encoded::Failed;
        }
        Plan::whole(kind, keep, memory_of_view(view)).settle(out)
    }
}

unsafe fn memory_of_view(view: *const ffi::Py_buffer) -> *const [u8] {
    // SAFETY: the caller's view is contiguous, and holds its memory.
    unsafe { ptr::slice_from_raw_parts((*view).buf.cast(), (*view).len as usize) }
}

/// Where bytes or a contiguous PickleBuffer have their memory. `None`: it has been released, and an exception is set.
unsafe fn memory_of(object: Obj) -> Option<*const [u8]> {
    // SAFETY: a live object, read as its class says.
    unsafe {
        if ffi::PyBytes_CheckExact(object) != 0 {
            return Some(codec::bytes_of(object));
        }
        let view = PyPickleBuffer_GetBuffer(object);
        (!view.is_null()).then(|| memory_of_view(view))
    }
}

/// Pickles.
///
/// # Safety
/// As [`codec::encode`].
pub unsafe fn pickled(object: Obj, out: &mut Room) -> Encoded {
    // SAFETY: as the caller promises; `dumped` is owned, and goes into the plan or back.
    unsafe {
        let (dump, dump_plain, protocol) = (part(Part::Dump), part(Part::DumpPlain), part(Part::Protocol));
        if dump.is_null() || dump_plain.is_null() || protocol.is_null() {
            return Encoded::Failed;
        }
        if is_plain(object, &mut { INLINE }, PLAIN_DEPTH) {
            let pickle = raw::call(dump_plain, [object, protocol]);
            if pickle.is_null() {
                return Encoded::Failed;
            }
            if ffi::PyBytes_CheckExact(pickle) == 0 {
                raw::release(pickle);
                raw::raise(raw::type_error(), c"phalanx: pickle.dumps must give bytes");
                return Encoded::Failed;
            }
            return Plan::whole(PICKLED, pickle, codec::bytes_of(pickle)).settle(out);
        }
        // What is put while a process object is pickled is not for that process.
        let before = shm::pack_for(0);
        riders::gather();
        let dumped = raw::call(dump, [object]);
        let riders = riders::gathered();
        shm::pack_for(before);
        if dumped.is_null() {
            return Encoded::Failed;
        }
        if let Some(mut plan) = plan_of(dumped) {
            plan.riders = Some(riders);
            return plan.settle(out);
        }
        drop(riders);
        raw::release(dumped);
        Encoded::Failed
    }
}

/// Is `object` small, and only of classes that no reducer can change? Then `pickle.dumps` says the same as `dump`, in
/// half the time. Runs no Python code.
unsafe fn is_plain(object: Obj, room: &mut usize, depth: u8) -> bool {
    // Each object takes some of the room, so that the search ends soon.
    let Some(left) = room.checked_sub(8) else {
        return false;
    };
    *room = left;
    // SAFETY: live objects, read as their exact classes allow. With the interpreter's lock nothing changes meanwhile.
    unsafe {
        let class = ffi::Py_TYPE(object);
        let length = if class == &raw mut ffi::PyUnicode_Type {
            ffi::PyUnicode_GetLength(object)
        } else if class == &raw mut ffi::PyBytes_Type {
            ffi::Py_SIZE(object)
        } else if class == &raw mut ffi::PyLong_Type
            || class == &raw mut ffi::PyFloat_Type
            || class == &raw mut ffi::PyBool_Type
            || object == ffi::Py_None()
        {
            0
        } else if depth == 0 || cfg!(Py_GIL_DISABLED) {
            return false;
        } else if class == &raw mut ffi::PyTuple_Type {
            return (0..ffi::PyTuple_GET_SIZE(object))
                .all(|at| is_plain(ffi::PyTuple_GET_ITEM(object, at), room, depth - 1));
        } else if class == &raw mut ffi::PyList_Type {
            return (0..ffi::PyList_GET_SIZE(object))
                .all(|at| is_plain(ffi::PyList_GET_ITEM(object, at), room, depth - 1));
        } else if class == &raw mut ffi::PyDict_Type {
            let (mut at, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while ffi::PyDict_Next(object, &raw mut at, &raw mut key, &raw mut value) != 0 {
                if !is_plain(key, room, depth - 1) || !is_plain(value, room, depth - 1) {
                    return false;
                }
            }
            return true;
        } else {
            return false;
        };
        match room.checked_sub(length as usize) {
            Some(left) => {
                *room = left;
                true
            }
            None => false,
        }
    }
}

/// The plan for what `dump` gave, which it takes over. `None`: an exception is set. Runs no Python code.
unsafe fn plan_of(dumped: Obj) -> Option<Box<Plan>> {
    // SAFETY: the classes are looked at before anything is read; nobody else has these lists.
    unsafe {
        let lists = ffi::PyTuple_CheckExact(dumped) != 0 && ffi::PyTuple_GET_SIZE(dumped) == 2 && {
            let is_list = |at| ffi::PyList_CheckExact(ffi::PyTuple_GET_ITEM(dumped, at)) != 0;
            is_list(0) && is_list(1)
        };
        if !lists {
            raw::raise(raw::type_error(), c"phalanx: `dump` must give two lists");
            return None;
        }
        let [stream, buffers] = [0, 1].map(|at| ffi::PyTuple_GET_ITEM(dumped, at));
        let count = ffi::PyList_GET_SIZE(buffers);
        let mut plan = Box::new(Plan::new(PICKLED, dumped));
        if count > 0 {
            plan.kind = PICKLED_BUFFERS;
            plan.len = Shape::head(count as usize);
        }
        let head = plan.len;
        for at in 0..ffi::PyList_GET_SIZE(stream) {
            plan.append(memory_of(ffi::PyList_GET_ITEM(stream, at))?);
        }
        if count > 0 {
            plan.head.reserve_exact(head);
            let words = [count as usize, plan.len - head];
            plan.head.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            for at in 0..count {
                let memory = memory_of(ffi::PyList_GET_ITEM(buffers, at))?;
                plan.head.extend(memory.len().to_ne_bytes());
                plan.len = Shape::aligned(plan.len);
                plan.append(memory);
            }
        }
        Some(plan)
    }
}

/// Where things lie in a payload with buffers.
struct Shape<'a> {
    lengths: &'a [u8],
    pickle: (usize, usize),
}

impl<'a> Shape<'a> {
    const WORD: usize = size_of::<usize>();

    fn head(count: usize) -> usize {
        Self::WORD * (2 + count)
    }

    fn aligned(at: usize) -> usize {
        at.next_multiple_of(64)
    }

    fn word(bytes: &[u8], at: usize) -> Option<usize> {
        let word = bytes.get(at * Self::WORD..)?.first_chunk()?;
        Some(usize::from_ne_bytes(*word))
    }

    fn count(&self) -> usize {
        self.lengths.len() / Self::WORD
    }

    /// From and to where each buffer goes. What `read` has accepted does not overflow.
    fn buffers(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut end = self.pickle.1;
        (0..self.count()).map(move |at| {
            let from = Self::aligned(end);
            end = from + Self::word(self.lengths, at).unwrap_or(0);
            (from, end)
        })
    }

    /// `None` if the payload is not exactly what its head says.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (count, pickle) = (Self::word(bytes, 0)?, Self::word(bytes, 1)?);
        let lengths = bytes
            .get(2 * Self::WORD..)?
            .get(..count.checked_mul(Self::WORD)?)?;
        let head = Self::head(count);
        let mut end = head.checked_add(pickle).filter(|end| *end <= bytes.len())?;
        let pickle = (head, end);
        for at in 0..count {
            let len = Self::word(lengths, at)?;
            end = Self::aligned(end)
                .checked_add(len)
                .filter(|end| *end <= bytes.len())?;
        }
        (end == bytes.len()).then_some(Self { lengths, pickle })
    }
}

/// Unpickles from what `object` exports. A new reference, or null with an exception set.
///
/// # Safety
/// Attached; a live object; the caller's frame owns nothing that is dropped.
pub unsafe fn load(object: Obj) -> Obj {
    // SAFETY: as the caller promises.
    unsafe {
        let load = part(Part::Load);
        if load.is_null() {
            return load;
        }
        raw::call(load, [object])
    }
}

/// Unpickles from `owner`, which exports `bytes`. A new reference, or null with an exception set.
///
/// # Safety
/// As [`load`].
pub unsafe fn load_with_buffers(bytes: &[u8], owner: Obj) -> Obj {
    let Some(shape) = Shape::read(bytes) else {
        return malformed("a pickle with buffers", PICKLED_BUFFERS, bytes);
    };
    // SAFETY: as the caller promises. The list is filled before anybody gets it, and released with what is in it; slices
    // are cut to what the owner exports.
    unsafe {
        let (load, keywords) = (part(Part::Load), part(Part::Buffers));
        if load.is_null() || keywords.is_null() {
            return ptr::null_mut();
        }
        let view = PyMemoryView_FromObject(owner);
        if view.is_null() {
            return view;
        }
        let slice =
            |(from, to): (usize, usize)| PySequence_GetSlice(view, from.cast_signed(), to.cast_signed());
        let mut loaded = ptr::null_mut();
        let list = PyList_New(shape.count().cast_signed());
        if !list.is_null() {
            let full = shape.buffers().enumerate().all(|(at, place)| {
                let buffer = slice(place);
                ffi::PyList_SET_ITEM(list, at.cast_signed(), buffer);
                !buffer.is_null()
            });
            let pickle = if full {
                slice(shape.pickle)
            } else {
                ptr::null_mut()
            };
            if !pickle.is_null() {
                let args = [pickle, list];
                loaded = raw::PyObject_Vectorcall(load, args.as_ptr(), 1, keywords);
                raw::release(pickle);
            }
            raw::release(list);
        }
        raw::release(view);
        loaded
    }
}
