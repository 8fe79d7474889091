//! Dicts and lists in shared memory: the object that Python sees. What it can do is in `table_ops.rs`.

use super::object;
use phalanx::prim::{AtomicU64, Ordering};
use phalanx::shm::{Handle, tree};
use phalanx::sys;
use phalanx::table::Table;
use pyo3::prelude::*;

pyo3::create_exception!(
    phalanx._core,
    Elsewhere,
    pyo3::exceptions::PyException,
    "An operation that cannot be done in shared memory: the server has to do it."
);

/// A dict or a list of encoded objects that the processes of a tree share.
///
/// keyed: a dict. Operations raise Elsewhere where the server has to do them: for keys and values that cannot lie here,
/// once the content has been moved, and when the process that made the table, which is its server, is gone.
#[pyclass(frozen, weakref, module = "phalanx._core", name = "SharedTable")]
pub struct SharedTable {
    handle: Handle,
    /// May values have proxies of a manager in them?
    pub open: bool,
    /// When somebody last asked for the life of the server, where it has no pulse.
    asked: AtomicU64,
}

/// What was asked so many nanoseconds ago is not asked again.
const FRESH: u64 = 50_000_000;

impl SharedTable {
    fn over(handle: Handle, open: bool) -> Self {
        Self {
            handle,
            open,
            asked: AtomicU64::new(0),
        }
    }

    #[inline]
    pub fn table(&self) -> &Table {
        Table::of(&self.handle)
    }

    /// Is the server there?
    #[inline]
    pub fn is_served(&self) -> bool {
        match self.table().server_has_ended() {
            Some(ended) => !ended,
            None => !self.is_server_dead(),
        }
    }

    #[cold]
    fn is_server_dead(&self) -> bool {
        let (server, now) = (self.table().server(), sys::now());
        if tree::is_known_dead(server) {
            return true;
        }
        if now.wrapping_sub(self.asked.load(Ordering::Relaxed)) < FRESH {
            return false;
        }
        self.asked.store(now, Ordering::Relaxed);
        tree::is_dead(server)
    }
}

#[pymethods]
impl SharedTable {
    #[new]
    fn new(keyed: bool) -> PyResult<Self> {
        object::join_tree()?;
        let handle = Table::make(keyed).map_err(|_| object::no_memory())?;
        Ok(Self::over(handle, false))
    }

    /// The same table; values with proxies in them are welcome.
    fn opened(&self) -> Self {
        Self::over(self.handle.clone(), true)
    }

    /// Where it lies: for `find`, in processes of the tree, as long as somebody holds it.
    fn place(&self) -> (u64, u64, u64, u64) {
        let [low, high] = phalanx::shm::arena().map_or([0; 2], phalanx::shm::Arena::tree);
        let name = self.handle.name();
        (low, high, name.offset, name.serial)
    }

    /// The table at a place, or None if there is none or this process belongs to another tree.
    #[staticmethod]
    fn find(low: u64, high: u64, offset: u64, serial: u64) -> Option<Self> {
        phalanx::shm::arena()?;
        tree::number();
        let handle = Handle::unpack([low, high], offset, Table::OBJECT).ok()?;
        (handle.name().serial == serial).then(|| Self::over(handle, false))
    }

    /// Has the server taken the content?
    #[getter]
    fn moved(&self) -> bool {
        self.table().is_moved()
    }
}
