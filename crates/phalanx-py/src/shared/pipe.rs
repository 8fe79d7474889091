//! One end of a pipe: a ring for each direction, and a socket that tells of the other end to whoever selects on it.

use super::object::{self, Packed};
use super::transfer::{Done, End};
use crate::codec;
use crate::raw::{self, Method, Obj, Patience};
use phalanx::channel::{Limits, Ring};
use phalanx::prim::{AtomicBool, AtomicU32, AtomicU64, Guarded, Ordering};
use phalanx::shm::{self, Handle, Name, tree};
use phalanx::sys;
use phalanx::wait::{Reason, Role};
use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;

static SEND: Reason = Reason {
    name: "Connection.send",
    role: Role::Wait,
};
static RECV: Reason = Reason {
    name: "Connection.recv",
    role: Role::Wait,
};

const NO_FILE: u32 = u32::MAX;

/// One end of a pipe between processes.
#[pyclass(frozen, weakref, subclass, module = "phalanx._core", name = "PipeEnd")]
pub struct PipeEnd {
    /// What this end gets from, and puts to.
    inbound: Option<Handle>,
    outbound: Option<Handle>,
    /// Held while the end is open: the other one sees by it whether somebody is here.
    token: Guarded<Option<Handle>>,
    mine: Name,
    theirs: Name,
    closed: AtomicBool,
    /// This end's socket, and a duplicate of the other one's: kept until somebody selects, to ring our own bell.
    socket: AtomicU32,
    other_socket: AtomicU32,
    /// When this end last saw to it that the other one lives.
    looked: AtomicU64,
}

/// So long nobody asks whether the other end lives, in nanoseconds: who waits asks as often.
const LOOK: u64 = 100_000_000;

/// The token's kind in the arena.
const TOKEN: u32 = 0x17;

/// What a pickle of an end holds, apart from its descriptors.
type State = (Option<Packed>, Option<Packed>, Packed, (u64, u64));

fn make_ring(ceiling: u64) -> PyResult<Handle> {
    Ring::make(Limits { maxsize: 0, ceiling }).map_err(|_| object::no_memory())
}

impl PipeEnd {
    fn make(
        inbound: Option<Handle>,
        outbound: Option<Handle>,
        token: Handle,
        theirs: Name,
        socket: Option<OwnedFd>,
        other_socket: Option<OwnedFd>,
    ) -> Self {
        let file =
            |file: Option<OwnedFd>| AtomicU32::new(file.map_or(NO_FILE, |file| file.into_raw_fd() as u32));
        Self {
            inbound,
            outbound,
            mine: token.name(),
            token: Guarded::new(Some(token)),
            theirs,
            closed: AtomicBool::new(false),
            socket: file(socket),
            other_socket: file(other_socket),
            looked: AtomicU64::new(sys::coarse_now()),
        }
    }

    /// What it gets from and puts to.
    pub fn rings(&self) -> impl Iterator<Item = &Handle> {
        self.inbound.iter().chain(&self.outbound)
    }

    fn bell(&self) -> i32 {
        self.socket.load(Ordering::Relaxed) as i32
    }

    fn shut(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        drop(self.token.with(Option::take));
        if !self.mine.is_held() {
            // Nobody is left on this side: the other one has to know.
            for ring in self.inbound.iter().chain(&self.outbound) {
                Ring::of(ring).wake_all();
            }
        }
        for file in [&self.socket, &self.other_socket] {
            let file = file.swap(NO_FILE, Ordering::AcqRel);
            if file != NO_FILE {
                // SAFETY: it was ours and nobody else has taken it out.
                drop(unsafe { OwnedFd::from_raw_fd(file as i32) });
            }
        }
    }

    /// Is somebody at the other end? A killed one is noticed by whoever waits or reaps; where nobody does, by us, now and
    /// then.
    #[inline]
    fn has_peer(&self) -> bool {
        let now = sys::coarse_now();
        if now.saturating_sub(self.looked.load(Ordering::Relaxed)) >= LOOK {
            self.look_after_peer(now);
        }
        self.theirs.is_held()
    }

    #[cold]
    fn look_after_peer(&self, now: u64) {
        self.looked.store(now, Ordering::Relaxed);
        // Number 0 stands for a handle on its way. The dead are buried: then they hold nothing any more.
        for holder in shm::holders_of(self.theirs)
            .into_iter()
            .filter(|&holder| holder != 0)
        {
            tree::is_dead(holder);
        }
    }

    fn end<'a>(&'a self, subject: Obj, ring: &'a Handle, reason: &'static Reason) -> End<'a> {
        End {
            subject,
            ring: Ring::of(ring),
            reason,
            enders: object::enders(self.theirs),
            others: Some(self.theirs),
            bell: self.bell(),
            keep: false,
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Make a pipe: its two ends, the first only for getting unless duplex.
#[pyfunction]
#[pyo3(signature = (class, duplex, ceiling))]
pub fn make_pipe(
    class: &Bound<'_, pyo3::types::PyType>,
    duplex: bool,
    ceiling: u64,
) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    object::join_tree()?;
    let (left, right) = std::os::unix::net::UnixStream::pair().map_err(object::io_error)?;
    let (left, right) = (OwnedFd::from(left), OwnedFd::from(right));
    let (to_left, to_right) = (
        make_ring(ceiling)?,
        if duplex { Some(make_ring(ceiling)?) } else { None },
    );
    let token = || Handle::new(TOKEN, 0).map_err(|_| object::no_memory());
    let (a, b) = (token()?, token()?);
    let (a_name, b_name) = (a.name(), b.name());
    let right_again = right.try_clone().map_err(object::io_error)?;
    let left_again = if duplex {
        Some(left.try_clone().map_err(object::io_error)?)
    } else {
        None
    };
    let first = PipeEnd::make(
        Some(to_left.clone()),
        to_right.clone(),
        a,
        b_name,
        Some(left),
        Some(right_again),
    );
    let second = PipeEnd::make(to_right, Some(to_left), b, a_name, Some(right), left_again);
    Ok((wrap(class, first)?, wrap(class, second)?))
}

/// An object of `class` that takes over what `end` has.
fn wrap(class: &Bound<'_, pyo3::types::PyType>, end: PipeEnd) -> PyResult<Py<PyAny>> {
    let py = class.py();
    let seed = Bound::new(py, end)?;
    Ok(class.call_method1("__new__", (class, seed))?.unbind())
}

#[pymethods]
impl PipeEnd {
    /// Takes over what `seed` has.
    #[new]
    fn new(seed: &Bound<'_, Self>) -> PyResult<Self> {
        let seed = seed.get();
        let token = seed
            .token
            .with(Option::take)
            .ok_or_else(|| PyOSError::new_err("handle is closed"))?;
        seed.closed.store(true, Ordering::Release);
        let take = |file: &AtomicU32| AtomicU32::new(file.swap(NO_FILE, Ordering::AcqRel));
        Ok(Self {
            inbound: seed.inbound.clone(),
            outbound: seed.outbound.clone(),
            mine: seed.mine,
            token: Guarded::new(Some(token)),
            theirs: seed.theirs,
            closed: AtomicBool::new(false),
            socket: take(&seed.socket),
            other_socket: take(&seed.other_socket),
            looked: AtomicU64::new(sys::coarse_now()),
        })
    }

    /// Is it closed in this process?
    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Can it get?
    #[getter]
    fn readable(&self) -> bool {
        self.inbound.is_some()
    }

    /// Can it put?
    #[getter]
    fn writable(&self) -> bool {
        self.outbound.is_some()
    }

    /// Let go of it in this process. Harmless when repeated.
    fn close(&self) {
        self.shut();
    }

    /// The socket that can be read while there is something to get, or the other end is gone.
    ///
    /// From the first call on the transfers of this pipe keep it so, which costs them a system call now and then.
    fn fileno(&self) -> PyResult<i32> {
        self.check_open()?;
        if let Some(ring) = &self.inbound {
            let ring = Ring::of(ring);
            let other = self.other_socket.load(Ordering::Acquire);
            if !ring.is_watched() {
                ring.watch(if other == NO_FILE { -1 } else { other as i32 });
            }
            let other = self.other_socket.swap(NO_FILE, Ordering::AcqRel);
            if other != NO_FILE {
                // While we have it the kernel cannot tell us that the other end is gone.
                // SAFETY: it was ours and nobody else has taken it out.
                drop(unsafe { OwnedFd::from_raw_fd(other as i32) });
            }
        }
        Ok(self.bell())
    }

    /// Descriptors for a pickle: the own socket, and the other one's duplicate or None.
    fn _files(&self) -> PyResult<(i32, Option<i32>)> {
        self.check_open()?;
        let other = self.other_socket.load(Ordering::Acquire);
        Ok((self.bell(), (other != NO_FILE).then_some(other as i32)))
    }

    /// The name of this end: what `_may_travel` takes.
    fn _name(&self) -> (u64, u64) {
        (self.mine.offset, self.mine.serial)
    }

    /// May the end of that name be in a message of this process that nobody has unpickled yet?
    #[staticmethod]
    fn _may_travel(offset: u64, serial: u64) -> bool {
        shm::riders::may_travel(Name { offset, serial })
    }

    /// The handles for a pickle.
    fn _pack(&self) -> PyResult<State> {
        self.check_open()?;
        let token = self
            .token
            .with(|token| token.as_ref().map(object::pack))
            .ok_or_else(|| PyOSError::new_err("handle is closed"))?;
        Ok((
            self.inbound.as_ref().map(object::pack),
            self.outbound.as_ref().map(object::pack),
            token,
            (self.theirs.offset, self.theirs.serial),
        ))
    }

    /// An end from its pickle; takes over the descriptors.
    #[classmethod]
    fn _unpack(
        class: &Bound<'_, pyo3::types::PyType>,
        state: State,
        socket: i32,
        other_socket: Option<i32>,
    ) -> PyResult<Py<PyAny>> {
        // SAFETY: the caller hands both descriptors over.
        let own = |file: i32| unsafe { OwnedFd::from_raw_fd(file) };
        let (socket, other_socket) = (own(socket), other_socket.map(own));
        let (inbound, outbound, token, (offset, serial)) = state;
        let ring = |packed| object::unpack(packed, Ring::OBJECT, "Connection");
        let end = Self::make(
            inbound.map(ring).transpose()?,
            outbound.map(ring).transpose()?,
            object::unpack(token, TOKEN, "Connection")?,
            Name { offset, serial },
            Some(socket),
            other_socket,
        );
        wrap(class, end)
    }

    /// How many messages can be received at once. Raises OSError if closed.
    fn _pending(&self) -> PyResult<usize> {
        self.check_open()?;
        Ok(self.inbound.as_ref().map_or(0, |ring| Ring::of(ring).len()))
    }

    fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("handle is closed"));
        }
        Ok(())
    }
}

/// The ring of a direction. `None`: an exception is set.
unsafe fn ring_for(this: &PipeEnd, out: bool) -> Option<&Handle> {
    if this.closed.load(Ordering::Relaxed) {
        // SAFETY: a built-in class.
        raw::raise(unsafe { ffi::PyExc_OSError }, c"handle is closed");
        return None;
    }
    let ring = if out {
        this.outbound.as_ref()
    } else {
        this.inbound.as_ref()
    };
    if ring.is_none() {
        let text = if out {
            c"connection is read-only"
        } else {
            c"connection is write-only"
        };
        // SAFETY: a built-in class.
        raw::raise(unsafe { ffi::PyExc_OSError }, text);
    }
    ring
}

unsafe fn put(slf: Obj, object: Obj, encode: super::transfer::Encode) -> Obj {
    // SAFETY: the descriptor has checked the class; the frame owns nothing.
    unsafe {
        let this: &PipeEnd = raw::state(slf);
        let Some(ring) = ring_for(this, true) else {
            return ptr::null_mut();
        };
        if !this.has_peer() {
            return broken();
        }
        match this.end(slf, ring, &SEND).put(object, Patience::Forever, encode) {
            Done::Yes => raw::none(),
            Done::Raised => ptr::null_mut(),
            Done::TimedOut | Done::Closed => broken(),
        }
    }
}

#[cold]
fn broken() -> Obj {
    // SAFETY: attached; a built-in class.
    unsafe {
        let error = ffi::Py_BuildValue(c"is".as_ptr(), libc::EPIPE, c"Broken pipe".as_ptr());
        if !error.is_null() {
            ffi::PyErr_SetObject(ffi::PyExc_BrokenPipeError, error);
            ffi::Py_DECREF(error);
        }
    }
    ptr::null_mut()
}

unsafe fn only<'a>(what: &str, args: *const Obj, count: isize, keywords: Obj) -> Option<&'a Obj> {
    // SAFETY: the arguments of the call.
    unsafe {
        if count != 1 || !keywords.is_null() {
            raw::raise_text(
                raw::type_error(),
                &format!("{what}() takes exactly one argument ({count} given)"),
            );
            return None;
        }
        Some(&*args)
    }
}

unsafe extern "C-unwind" fn send(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put.
    unsafe {
        match only("send", args, count, keywords) {
            Some(&object) => put(slf, object, codec::encode),
            None => ptr::null_mut(),
        }
    }
}

/// The bytes of one contiguous buffer, whole: `send_bytes` in Python has cut it.
unsafe extern "C-unwind" fn send_buffer(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put.
    unsafe {
        match only("_send_buffer", args, count, keywords) {
            Some(&object) => put(slf, object, codec::encode_message),
            None => ptr::null_mut(),
        }
    }
}

unsafe fn take(slf: Obj, bytes_wanted: bool) -> Obj {
    // SAFETY: as in put.
    unsafe {
        let this: &PipeEnd = raw::state(slf);
        let Some(ring) = ring_for(this, false) else {
            return ptr::null_mut();
        };
        match this.end(slf, ring, &RECV).get(Patience::Forever, bytes_wanted) {
            (Done::Yes, object) => object,
            (Done::Raised, _) => ptr::null_mut(),
            (Done::TimedOut | Done::Closed, _) => {
                ffi::PyErr_SetNone(ffi::PyExc_EOFError);
                ptr::null_mut()
            }
        }
    }
}

unsafe extern "C-unwind" fn recv(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put.
    unsafe { take(slf, false) }
}

unsafe extern "C-unwind" fn recv_whole(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as in put.
    unsafe { take(slf, true) }
}

unsafe extern "C-unwind" fn poll(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as in put.
    unsafe {
        let patience = if count == 0 && keywords.is_null() {
            Patience::Now
        } else {
            let Some([timeout]) = raw::arguments("poll", [c"timeout"], args, count, keywords) else {
                return ptr::null_mut();
            };
            let Some(patience) = raw::optional_timeout(timeout) else {
                return ptr::null_mut();
            };
            patience
        };
        let this: &PipeEnd = raw::state(slf);
        let Some(ring) = ring_for(this, false) else {
            return ptr::null_mut();
        };
        // A wait that is shorter than a sleeper's tick sees nothing of a death.
        this.has_peer();
        match this.end(slf, ring, &RECV).wait_for_item(patience) {
            // At the end of the stream something can be got at once: EOFError.
            Done::Yes | Done::Closed => raw::boolean(true),
            Done::TimedOut => raw::boolean(false),
            Done::Raised => ptr::null_mut(),
        }
    }
}

pub fn add(py: Python<'_>) -> PyResult<()> {
    raw::attach::<PipeEnd>(
        py,
        &[
            Method::Fast(
                c"send",
                send,
                c"send($self, obj, /)\n--\n\nSend an object. It never waits for the other end to receive.\n\n\
Raises what pickling raises, BrokenPipeError if nobody is left at the other end, OSError if closed or read-only.",
            ),
            Method::Fast(
                c"_send_buffer",
                send_buffer,
                c"_send_buffer($self, buffer, /)\n--\n\nSend the bytes of a buffer as one message.",
            ),
            Method::NoArgs(
                c"recv",
                recv,
                c"recv($self, /)\n--\n\nReceive an object, waiting for one.\n\n\
Raises EOFError if nothing is left and nobody is at the other end, OSError if closed or write-only,\n\
phalanx.DeadlockError if nothing could ever come.",
            ),
            Method::NoArgs(
                c"_recv_whole",
                recv_whole,
                c"_recv_whole($self, /)\n--\n\nReceive a message as bytes.",
            ),
            Method::Fast(
                c"poll",
                poll,
                c"poll($self, /, timeout=0.0)\n--\n\nCan something be received, or is the stream at its end?\n\n\
timeout: seconds to wait for it, None for no limit.",
            ),
        ],
    )
}
