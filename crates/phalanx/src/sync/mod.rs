//! Level 3. The primitives: each a small `repr(C)` state, a table of its bits, and nothing of Python.
//!
//! None of them sleeps by itself; they all come through [`crate::wait`]. Wake-ups go in the order of arrival, and a
//! thread that just comes by may take a free lock first ("barging"), because handing a lock over to a sleeper would
//! leave it idle for as long as the sleeper needs to wake.

mod barrier;
mod condvar;
mod event;
mod latch;
mod mutex;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod permits;
mod rmutex;
mod semaphore;

use crate::wait::Local;

pub use barrier::{Passage, Round};
pub use latch::Latch;
pub use mutex::{Hold, NotLocked};
pub use rmutex::NotOwner;
pub use semaphore::Overflow;

/// What arriving at a [`Barrier`] means for a thread.
pub type Arrival = barrier::Arrival<Local>;
/// A meeting point for a fixed number of threads.
pub type Barrier = barrier::Barrier<Local>;
/// A queue of threads that wait to be notified.
pub type Condvar = condvar::Condvar<Local>;
/// A flag that threads wait for.
pub type Event = event::Event<Local>;
/// A mutual-exclusion lock.
pub type Mutex = mutex::Mutex<Local>;
/// A lock that its owner may take again.
pub type RMutex = rmutex::RMutex<Local>;
/// A counter of permits.
pub type Semaphore = semaphore::Semaphore<Local>;

/// The same primitives for the threads of several processes: they lie in the arena.
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod shared {
    use super::{barrier, condvar, event, mutex, rmutex, semaphore};
    use crate::wait::Shared;

    pub use super::permits::{Permits, ROWS, Row};

    /// What arriving at a [`Barrier`] means for a thread.
    pub type Arrival = barrier::Arrival<Shared>;
    /// A meeting point for a fixed number of threads.
    pub type Barrier = barrier::Barrier<Shared>;
    /// A queue of threads that wait to be notified.
    pub type Condvar = condvar::Condvar<Shared>;
    /// A flag that threads wait for.
    pub type Event = event::Event<Shared>;
    /// A mutual-exclusion lock.
    pub type Mutex = mutex::Mutex<Shared>;
    /// A lock that its owner may take again.
    pub type RMutex = rmutex::RMutex<Shared>;
    /// A counter of permits.
    pub type Semaphore = semaphore::Semaphore<Shared>;
}
