//! Any platform with threads: `std` only, no processes. Also built and tested on Linux.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the layer that the ban protects"
)]

use super::{Slept, Strangers};
use crate::prim::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const SHELVES: usize = 64;
static SHELF: [(Mutex<()>, Condvar); SHELVES] = [const { (Mutex::new(()), Condvar::new()) }; SHELVES];

fn shelf(word: &AtomicU32) -> &'static (Mutex<()>, Condvar) {
    &SHELF[(word as *const AtomicU32 as usize >> 4) % SHELVES]
}

pub(super) fn sleep_on(word: &AtomicU32, expected: u32, until: Option<u64>) -> Slept {
    let (lock, bell) = shelf(word);
    let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    // SYNC(portable-futex): the waker passes through `lock` after its store, so the store is seen here or the bell rings.
    if word.load(Ordering::SeqCst) != expected {
        return Slept::Woken;
    }
    match until {
        None => drop(bell.wait(guard).unwrap_or_else(PoisonError::into_inner)),
        Some(until) => {
            let left = Duration::from_nanos(until.saturating_sub(now()));
            let (_guard, result) = bell
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner);
            if result.timed_out() {
                return Slept::TimedOut;
            }
        }
    }
    Slept::Woken
}

pub(super) fn wake(word: &AtomicU32) {
    let (lock, bell) = shelf(word);
    // SYNC(portable-futex): see sleep_on.
    drop(lock.lock().unwrap_or_else(PoisonError::into_inner));
    bell.notify_all();
}

pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

#[cfg(unix)]
pub(super) fn thread_ident() -> u64 {
    // SAFETY: pthread_self has no precondition.
    unsafe { libc::pthread_self() as u64 }
}

#[cfg(not(unix))]
pub(super) fn thread_ident() -> u64 {
    u64::from(os_thread_id())
}

pub(super) fn os_thread_id() -> u32 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static MINE: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    MINE.with(|id| *id as u32)
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

pub(super) fn strangers(_known: &[u32]) -> Strangers {
    Strangers::Unknown
}

#[cfg(unix)]
pub(super) fn at_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: the three are plain functions that live as long as the program.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    assert_eq!(failed, 0, "no memory to register the fork handlers");
}

#[cfg(not(unix))]
pub(super) fn at_fork(_before: extern "C" fn(), _parent: extern "C" fn(), _child: extern "C" fn()) {}
