//! Threads that never hang and never lie: the primitives of Python's `threading` and `queue` as a Rust library.
//!
//! Every wait goes through one door ([`wait`]), so a wait that can never end is found ([`watch`]) and comes back as an
//! error in one of the threads involved.
//!
//! ```
//! use phalanx::sync::{Hold, Mutex};
//! use phalanx::wait::How;
//!
//! let mutex = Mutex::new();
//! assert!(mutex.lock(Hold::Scoped, &How::forever()).unwrap());
//! assert!(!mutex.try_lock(Hold::Scoped));
//! mutex.unlock().unwrap();
//! ```

/// The example of the README runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod channel;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod pool;
pub mod prim;
pub mod queue;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod shm;
pub mod sync;
pub mod sys;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod table;
pub mod wait;
pub mod watch;
