//! Level 0. The only system calls, and the only `cfg(target_os)`.
//!
//! A platform gives these functions, all under the same names:
//!
//! | function | contract |
//! | --- | --- |
//! | `sleep_on(word, expected, until)` | sleeps while `*word == expected`, until `wake(word)`, a signal or the time `until`; may wake early |
//! | `wake(word)` | wakes the sleeper on `word`; the word may belong to another sleep by then, which is harmless |
//! | `now()` | monotonic nanoseconds |
//! | `thread_ident()` | what Python's `threading.get_ident()` returns |
//! | `os_thread_id()` | what Python's `threading.get_native_id()` returns |
//! | `processors()` | how many threads can run at one time |
//! | `strangers(known)` | are there threads in this process outside `known`, and are they asleep for good? |
//! | `at_fork(before, parent, child)` | runs the three round every `fork` of this process |
//!
//! What processes share (`shared.rs`: memory files, futexes in them, the life of other processes) exists on Linux only.

use crate::prim::AtomicU32;

/// Why [`sleep_on`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// Woken, or the word had changed before; look at the word.
    Woken,
    /// A signal handler ran in this thread.
    Signal,
    /// The time has come.
    TimedOut,
}

/// What is known of threads that never came through the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// None, or each of them sleeps without a time limit on a word that only this process can wake.
    Asleep,
    /// At least one may run again by itself.
    Awake,
    /// The platform does not tell.
    Unknown,
}

#[cfg(loom)]
mod model;
#[cfg(loom)]
use model as platform;

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod linux;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
use linux as platform;

#[cfg(all(not(loom), any(not(target_os = "linux"), phalanx_sys = "portable")))]
mod portable;
#[cfg(all(not(loom), any(not(target_os = "linux"), phalanx_sys = "portable")))]
use portable as platform;

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod bond;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod pulse;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod shared;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod sibling;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub use bond::{bond_signal, end_with, loosen};
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub use pulse::*;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub use shared::*;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub use sibling::clone_sibling;

/// Sleeps while `*word == expected`, until woken, a signal, or the time `until` (see [`now`]).
pub fn sleep_on(word: &AtomicU32, expected: u32, until: Option<u64>) -> Slept {
    platform::sleep_on(word, expected, until)
}

/// Wakes the thread that sleeps on `word`.
pub fn wake(word: &AtomicU32) {
    platform::wake(word);
}

/// Monotonic nanoseconds.
#[inline]
pub fn now() -> u64 {
    platform::now()
}

/// The identity that Python gives this thread.
#[inline]
pub fn thread_ident() -> u64 {
    platform::thread_ident()
}

/// The kernel's number of this thread, 0 where there is none.
pub fn os_thread_id() -> u32 {
    platform::os_thread_id()
}

/// How many threads can run at one time.
pub fn processors() -> usize {
    platform::processors()
}

/// Looks at the threads of this process whose kernel numbers are not in `known`.
pub fn strangers(known: &[u32]) -> Strangers {
    platform::strangers(known)
}

/// Runs `before` ahead of every `fork`, `parent` and `child` after it.
#[cfg(not(loom))]
pub fn at_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    platform::at_fork(before, parent, child);
}
