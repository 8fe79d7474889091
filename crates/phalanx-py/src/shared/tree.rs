//! The tree of processes: its segment, forks, births and deaths.

use super::channel::Channel;
use super::lock::{SharedLock, SharedRLock};
use super::object;
use super::pipe::PipeEnd;
use crate::raw::{self, Obj};
use phalanx::prim::Guarded;
use phalanx::shm::{self, Handle, point, tree};
use phalanx::wait::{self, Enders, Reason, Role};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

static JOIN: Reason = Reason {
    name: "Process.join",
    role: Role::Join,
};

thread_local! {
    static NAME: Cell<[u8; 32]> = const { Cell::new([0; 32]) };
}

/// The name of the calling thread, for reports in other processes.
pub fn write_thread_name(to: &mut [u8; 32]) {
    let name = NAME.get();
    if name[0] != 0 {
        *to = name;
    } else if raw::is_main() {
        to[..10].copy_from_slice(b"MainThread");
    }
}

/// Names the calling thread for reports in other processes; 32 bytes are kept.
pub fn set_thread_name(name: &str) {
    let mut kept = [0; 32];
    let mut end = name.len().min(kept.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    kept[..end].copy_from_slice(&name.as_bytes()[..end]);
    NAME.set(kept);
}

/// The descriptor of this tree's shared segment, which is made now if there is none. Close-on-exec.
#[pyfunction]
pub fn tree_fd() -> PyResult<i32> {
    object::join_tree()?;
    shm::arena()
        .map(|arena| arena.file().as_raw_fd())
        .ok_or_else(|| PyRuntimeError::new_err("no shared segment"))
}

/// Take over a parent's segment through its descriptor, which stays the caller's. `number`: what the parent expects this
/// process as, from child_expected, 0 if it does not.
#[pyfunction]
#[pyo3(signature = (fd, number=0))]
pub fn tree_attach(fd: i32, number: u32) -> PyResult<()> {
    if fd < 0 {
        return Err(PyValueError::new_err("a descriptor is not negative"));
    }
    // SAFETY: duplicated at once; a bad number is an error of the system.
    let file = unsafe { BorrowedFd::borrow_raw(fd) }
        .try_clone_to_owned()
        .map_err(object::io_error)?;
    shm::attach(file)
        .map_err(|refused| PyRuntimeError::new_err(format!("cannot join the tree: {refused}")))?;
    if number != 0 {
        wait::shared::attend();
        tree::enter_as(number);
    }
    object::join_tree()
}

/// Has this process a shared segment?
#[pyfunction]
pub fn tree_joined() -> bool {
    shm::arena().is_some()
}

/// The child that this thread has just forked has this pid; 0: the fork has failed. It knows by `end` that we live: see
/// hold_end; -1 for none.
#[pyfunction]
pub fn fork_done(pid: u32, end: i32) {
    if end >= 0 {
        hold_end(end);
    }
    tree::forked(pid);
}

/// The number in the tree of a child that is to be started, other than by fork.
#[pyfunction]
pub fn child_expected() -> PyResult<u32> {
    object::join_tree()?;
    Ok(tree::expect())
}

/// From now on this thread pickles for the child with this number, which holds what is pickled; 0: for nobody in
/// particular. Returns the number before.
#[pyfunction]
pub fn pickle_for(number: u32) -> u32 {
    shm::pack_for(number)
}

/// The child with this number has this pid.
#[pyfunction]
pub fn child_started(number: u32, pid: u32) {
    tree::started(number, pid);
}

/// The child with this number could not be started.
#[pyfunction]
pub fn child_failed(number: u32) {
    tree::miscarried(number);
}

/// This process has unpickled what it was given at its start; from here on it is the program's. `name` is for reports.
/// It ends when the pipe `sentinel` hangs up, -1 for none, unless PHALANX_ORPHANS says otherwise: SIGTERM, after a second
/// SIGKILL. Raises OSError where the system cannot do that.
#[pyfunction]
pub fn process_begins(name: &str, sentinel: i32) -> PyResult<()> {
    shm::begin();
    tree::set_name(name);
    if sentinel < 0 || orphan_rule_is("keep") || phalanx::sys::end_with(sentinel) {
        Ok(())
    } else {
        Err(object::io_error(std::io::Error::last_os_error()))
    }
}

/// Is PHALANX_ORPHANS one of the values that it may have? `_settings.py` says which.
#[pyfunction]
pub fn orphan_rule_is_known() -> bool {
    ["", "end", "keep"].into_iter().any(orphan_rule_is)
}

fn orphan_rule_is(value: &str) -> bool {
    std::env::var_os("PHALANX_ORPHANS").unwrap_or_default() == value
}

/// What tells each child, by being closed, that this process is gone: nobody else may keep a copy of it.
static PARENT_ENDS: Guarded<Vec<i32>> = Guarded::new(Vec::new());

/// From now on the descriptor `fd` is closed in every process that is forked.
#[pyfunction]
pub fn hold_end(fd: i32) {
    PARENT_ENDS.with(|ends| ends.push(fd));
}

/// Close descriptors, those that are held for this process alone too. Raises OSError for one that is not open.
#[pyfunction]
#[pyo3(signature = (*fds))]
pub fn close_ends(fds: Vec<i32>) -> PyResult<()> {
    // First: a fork in between must not close a number that means something else.
    PARENT_ENDS.with(|ends| ends.retain(|end| !fds.contains(end)));
    let mut failed = None;
    for fd in fds {
        // SAFETY: a plain system call on what the caller owns.
        if unsafe { libc::close(fd) } != 0 {
            failed = failed.or(Some(std::io::Error::last_os_error()));
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// What Python's own hooks would do at a fork, for less: they cost each child pages that it has to copy.
fn attend_forks() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn before() {
        PARENT_ENDS.hold();
    }
    extern "C" fn parent() {
        PARENT_ENDS.let_go();
    }
    extern "C" fn child() {
        PARENT_ENDS.let_go();
        PARENT_ENDS.with(|ends| {
            for end in ends.drain(..) {
                // SAFETY: a plain system call; if somebody has closed it already, it fails.
                unsafe { libc::close(end) };
            }
        });
        // Waits of the main thread run signal handlers; it is the one that forked.
        raw::forked();
    }
    ONCE.call_once(|| phalanx::sys::at_fork(before, parent, child));
}

/// A child was reaped: its pid and its wait status.
#[pyfunction]
pub fn process_reaped(pid: u32, status: i32) {
    tree::reaped(pid, status as u32);
}

/// Kill this process (SIGKILL) when it comes to a point of a protocol for the nth time: for tests.
#[pyfunction]
pub fn _kill_at(point: &str, nth: u32) -> PyResult<()> {
    if point::arm(point, nth) {
        Ok(())
    } else {
        Err(PyValueError::new_err(format!(
            "there is no point called {point:?}"
        )))
    }
}

/// The points that _kill_at knows.
#[pyfunction]
pub fn _kill_points() -> Vec<&'static str> {
    point::NAMES.to_vec()
}

/// Bytes in use in the shared segment, and its length.
#[pyfunction]
pub fn shared_usage() -> (u64, u64) {
    shm::heap::usage()
}

/// Does the word at `offset` of the arena, which somebody waits at, belong to `object`? False for what is not shared.
#[pyfunction]
pub fn is_part_of(offset: u64, object: &Bound<'_, PyAny>) -> bool {
    let covers = |handle: &Handle| {
        let from = handle.offset();
        (from..from + (shm::OBJECT_HEAD + handle.len()) as u64).contains(&offset)
    };
    if let Ok(end) = object.cast::<PipeEnd>() {
        return end.get().rings().any(covers);
    }
    if let Ok(channel) = object.cast::<Channel>() {
        return covers(&channel.get().handle);
    }
    if let Ok(lock) = object.cast::<SharedLock>() {
        return covers(&lock.get().handle);
    }
    if let Ok(lock) = object.cast::<SharedRLock>() {
        return covers(&lock.get().handle);
    }
    super::sync::handle_of(object).is_some_and(covers)
}

/// Look after the dead of this tree now.
#[pyfunction]
pub fn patrol() {
    tree::living().into_iter().for_each(|number| {
        tree::is_dead(number);
    });
}

/// Wait for the end of the process `pid`, by its sentinel if that is all there is; false after a time-out.
///
/// # Safety
/// Attached as a raw function: see `raw.rs`.
unsafe extern "C-unwind" fn wait_for_exit(_: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the arguments of the call; the frame owns nothing.
    unsafe {
        let names = [c"pid", c"sentinel", c"timeout", c"process", c"by_pid"];
        let Some([pid, sentinel, timeout, process, by_pid]) =
            raw::arguments("wait_for_exit", names, args, count, keywords)
        else {
            return ptr::null_mut();
        };
        if pid.is_null() || sentinel.is_null() {
            return raw::raise(raw::type_error(), c"wait_for_exit() needs a pid and a sentinel");
        }
        let pid = raw::PyLong_AsLongLong(pid);
        let sentinel = raw::PyLong_AsLongLong(sentinel);
        if !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        let Some(patience) = raw::optional_timeout(timeout) else {
            return ptr::null_mut();
        };
        if let Err(error) = object::join_tree() {
            error.restore(Python::assume_attached());
            return ptr::null_mut();
        }
        let enders = Enders::Process(pid as u32);
        // Not the sentinel: a grandchild may hold its other end open.
        let mut own = -1;
        if by_pid == ffi::Py_True() {
            own = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) as i32;
            if own < 0 && *libc::__errno_location() == libc::ESRCH {
                return raw::boolean(true);
            }
        }
        let files = [if own >= 0 { own } else { sentinel as i32 }];
        let ended = raw::wait_shared(process, &JOIN, patience.deadline(), enders, |how| {
            wait::shared::watch_files(&files, how)
        });
        if own >= 0 {
            libc::close(own);
        }
        ended.into_bool()
    }
}

/// Copies this process for its parent: see `_template.py`.
unsafe extern "C-unwind" fn clone_sibling(_: Obj, _: Obj) -> Obj {
    // SAFETY: attached; the template that calls this has one thread.
    unsafe {
        // All copies run the same program.
        phalanx::sys::image();
        ffi::PyOS_BeforeFork();
        let made = phalanx::sys::clone_sibling();
        match made {
            Ok(0) => ffi::PyOS_AfterFork_Child(),
            _ => ffi::PyOS_AfterFork_Parent(),
        }
        match made {
            Ok(pid) => ffi::PyLong_FromUnsignedLong(pid.into()),
            Err(errno) => {
                let error = object::os_error(errno.raw_os_error());
                error.restore(Python::assume_attached());
                ptr::null_mut()
            }
        }
    }
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"wait_for_exit".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            // SAFETY: only the promise about unwinding differs, and the caller is C.
            PyCFunctionFastWithKeywords: unsafe {
                std::mem::transmute::<raw::Fast, ffi::PyCFunctionFastWithKeywords>(wait_for_exit)
            },
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: c"wait_for_exit(pid, sentinel, timeout=None, process=None, by_pid=False)\n--\n\n\
Wait until the sentinel of a child can be read, or, by_pid, until it has ended; false after a time-out.\n\n\
timeout: seconds, None for no limit. Raises phalanx.DeadlockError if the child can never end."
            .as_ptr(),
    }));
    // SAFETY: attached; the definition is leaked; a new reference is handed over.
    let function = unsafe {
        Bound::from_owned_ptr_or_err(
            module.py(),
            ffi::PyCFunction_NewEx(definition, ptr::null_mut(), ptr::null_mut()),
        )?
    };
    module.add("wait_for_exit", function)?;
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"clone_sibling".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            // SAFETY: only the promise about unwinding differs, and the caller is C.
            PyCFunction: unsafe { std::mem::transmute::<raw::NoArgs, ffi::PyCFunction>(clone_sibling) },
        },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: c"clone_sibling()\n--\n\n\
Fork, with the own parent as the parent of the new process. Returns its pid, 0 in the new process.\n\n\
Raises OSError where the kernel cannot do that. For a process with a single thread."
            .as_ptr(),
    }));
    // SAFETY: as above.
    let function = unsafe {
        Bound::from_owned_ptr_or_err(
            module.py(),
            ffi::PyCFunction_NewEx(definition, ptr::null_mut(), ptr::null_mut()),
        )?
    };
    module.add("clone_sibling", function)?;
    attend_forks();
    Ok(())
}
