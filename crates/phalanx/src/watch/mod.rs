//! Level 4. The detector: finds waits that can never end.
//!
//! It runs in the sleep of one of the sleeping threads, five times a second, and costs nothing while nobody sleeps.
//! See `watch/README.md` for the rules and why there is no false alarm.

pub mod graph;

#[cfg(not(loom))]
mod look;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod tree;
#[cfg(not(loom))]
pub use look::start;
