//! The seam: the extension module `phalanx._core`. It converts, detaches, raises; it decides nothing.

mod args;
mod codec;
mod codec_decode;
mod codec_pickle;
mod codec_probe;
mod condition;
mod ending;
mod executor;
mod future;
mod heap;
mod lock;
mod memory;
mod place;
mod queue;
mod raw;
mod shared;
mod simple_queue;
mod slot;
mod sync;
mod synchronized;
mod watch;

use pyo3::prelude::*;

/// Make the calling thread known to the detector. daemon: the program ends without waiting for it. name: what reports in
/// other processes call it; 32 bytes are kept.
#[pyfunction]
#[pyo3(signature = (daemon, name = None))]
fn thread_begin(daemon: bool, name: Option<&Bound<'_, pyo3::types::PyString>>) {
    phalanx::wait::register(daemon);
    // A name with lone surrogates is none.
    if let Some(Ok(name)) = name.map(|name| name.to_str()) {
        shared::tree::set_thread_name(name);
    }
}

/// Say which thread runs signal handlers, by its identity.
#[pyfunction]
fn set_main_thread(ident: u64) {
    raw::set_main(ident);
}

/// The primitives behind phalanx's Python modules. Import those, not this.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::codec_probe::{
        _codec_as_bytes, _codec_decode, _codec_encode, _codec_encode_message, _codec_roundtrip,
    };
    #[pymodule_export]
    use super::condition::{Condition, PyTicket};
    #[pymodule_export]
    use super::executor::{ExecutorBase, WorkQueue};
    #[pymodule_export]
    use super::future::{_set_future_parts, FutureBase};
    #[pymodule_export]
    use super::lock::RLock;
    #[pymodule_export]
    use super::memory::{AtomicCounter, SharedBlock};
    #[pymodule_export]
    use super::queue::{_set_queue_parts, PyLifoQueue, PyPriorityQueue, PyQueue};
    #[pymodule_export]
    use super::shared::block::PayloadBlock;
    #[pymodule_export]
    use super::shared::board::Board;
    #[pymodule_export]
    use super::shared::channel::Channel;
    #[pymodule_export]
    use super::shared::condition::SharedCondition;
    #[pymodule_export]
    use super::shared::peer::Peer;
    #[pymodule_export]
    use super::shared::pipe::{PipeEnd, make_pipe};
    #[pymodule_export]
    use super::shared::sealed::{Parcel, Sealed};
    #[pymodule_export]
    use super::shared::sync::SharedBarrier;
    #[pymodule_export]
    use super::shared::table::SharedTable;
    #[pymodule_export]
    use super::shared::tree::{
        _kill_at, _kill_points, child_expected, child_failed, child_started, close_ends, fork_done, hold_end,
        is_part_of, orphan_rule_is_known, patrol, pickle_for, process_begins, process_reaped, shared_usage,
        tree_attach, tree_fd, tree_joined,
    };
    #[pymodule_export]
    use super::simple_queue::SimpleQueue;
    #[pymodule_export]
    use super::sync::{PyBarrier, PyBoundedSemaphore, PyEvent, PyLatch, PySemaphore};
    #[pymodule_export]
    use super::synchronized::{_locked_property, SynchronizedBase};
    #[pymodule_export]
    use super::watch::{deadlock_mode, set_deadlock_mode};
    #[pymodule_export]
    use super::{set_main_thread, thread_begin};

    use super::{
        condition, executor, future, lock, memory, place, queue, shared, simple_queue, sync, synchronized,
        watch,
    };
    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // SAFETY: attached, so there is a current interpreter.
        if unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } != 0 {
            return Err(PyImportError::new_err("phalanx does not work in subinterpreters"));
        }
        // What is made only once is made now, while no other thread can be in the middle of it when one forks.
        phalanx::wait::register(false);
        phalanx::wait::processors();
        // The class calls itself `lock`, as the standard one does.
        module.add("Lock", py.get_type::<lock::Lock>())?;
        // Before 3.13 the public name is a function, found as `threading.Lock`.
        module.add("allocate_lock", wrap_pyfunction!(lock::allocate_lock, py)?)?;
        lock::add(py)?;
        sync::add(py)?;
        condition::add(py)?;
        queue::add(py)?;
        simple_queue::add(py)?;
        future::add(py)?;
        executor::add(py)?;
        memory::add(py)?;
        synchronized::add(py)?;
        shared::lock::add(module)?;
        shared::sync::add(module)?;
        shared::condition::add(module)?;
        shared::board::add(py)?;
        shared::sealed::add(py)?;
        shared::channel::add(py)?;
        shared::pipe::add(py)?;
        shared::table_ops::add(module)?;
        shared::tree::add(module)?;
        place::check();
        watch::start();
        Ok(())
    }
}
