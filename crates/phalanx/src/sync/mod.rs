//! Level 2. The primitives: each a small `repr(C)` state, a table of its bits, and nothing of Python.
//!
//! None of them sleeps by itself; they all come through [`crate::wait`]. Wake-ups go in the order of arrival, and a
//! thread that just comes by may take a free lock first ("barging"), because handing a lock over to a sleeper would
//! leave it idle for as long as the sleeper needs to wake.

mod barrier;
mod condvar;
mod event;
mod latch;
mod mutex;
mod rmutex;
mod semaphore;

pub use barrier::{Arrival, Barrier, Passage, Round};
pub use condvar::Condvar;
pub use event::Event;
pub use latch::Latch;
pub use mutex::{Hold, Mutex, NotLocked};
pub use rmutex::{NotOwner, RMutex};
pub use semaphore::{Overflow, Semaphore};
