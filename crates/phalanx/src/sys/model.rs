//! The sleep as loom sees it. Time does not exist: a sleep with a limit may end at once.

use super::{Slept, Strangers};
use crate::prim::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};

struct Shelf {
    lock: Mutex<()>,
    bell: Condvar,
}

loom::lazy_static! {
    static ref SHELF: Shelf = Shelf { lock: Mutex::new(()), bell: Condvar::new() };
}

pub(super) fn sleep_on(word: &AtomicU32, expected: u32, until: Option<u64>) -> Slept {
    if until.is_some() {
        return if word.load(Ordering::SeqCst) == expected {
            Slept::TimedOut
        } else {
            Slept::Woken
        };
    }
    let mut guard = SHELF.lock.lock().unwrap();
    while word.load(Ordering::SeqCst) == expected {
        guard = SHELF.bell.wait(guard).unwrap();
    }
    Slept::Woken
}

pub(super) fn wake(_word: &AtomicU32) {
    drop(SHELF.lock.lock().unwrap());
    SHELF.bell.notify_all();
}

pub(super) fn now() -> u64 {
    1
}

pub(super) fn thread_ident() -> u64 {
    0
}

pub(super) fn os_thread_id() -> u32 {
    0
}

pub(super) fn processors() -> usize {
    1
}

pub(super) fn strangers(_known: &[u32]) -> Strangers {
    Strangers::Unknown
}
