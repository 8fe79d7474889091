//! Another process of the tree, looked after by its number.

use super::object;
use phalanx::shm::{self, tree};
use phalanx::table;
use pyo3::prelude::*;

/// A process of the tree, by its number there.
#[pyclass(frozen, module = "phalanx._core", name = "Peer")]
pub struct Peer {
    number: u32,
}

#[pymethods]
impl Peer {
    #[new]
    fn new(number: u32) -> Self {
        Self { number }
    }

    /// This process: the identity of its tree, in two numbers, and its own number there.
    #[staticmethod]
    fn here() -> PyResult<(u64, u64, u32)> {
        object::join_tree()?;
        let [low, high] = shm::arena().map_or([0; 2], shm::Arena::tree);
        Ok((low, high, tree::number()))
    }

    /// The number of the live process `pid`, or None.
    #[staticmethod]
    fn find(pid: u32) -> Option<u32> {
        tree::find(pid)
    }

    /// Say that the calling thread stands for this process as a server, from now to its end: others see when it ends.
    #[staticmethod]
    fn serve() -> PyResult<()> {
        object::join_tree()?;
        table::begin_pulse().map_err(|_| object::no_memory())
    }

    /// Its number in the tree.
    #[getter]
    fn number(&self) -> u32 {
        self.number
    }

    /// Is it gone, with all its threads? Asks the kernel.
    fn is_gone(&self) -> bool {
        tree::is_dead(self.number)
    }

    /// Its pid, its name, and its wait status once it is dead and somebody has seen that.
    fn life(&self) -> (u32, String, Option<u32>) {
        let life = tree::life(self.number);
        (life.pid, life.name, life.status)
    }
}
