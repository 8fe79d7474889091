//! Linux: futex, the monotonic clock, `/proc/self/task`.

use super::{Slept, Strangers};
use crate::prim::AtomicU32;
use rustix::io::Errno;
use rustix::thread::futex;
use std::num::NonZero;

pub(super) fn sleep_on(word: &AtomicU32, expected: u32, until: Option<u64>) -> Slept {
    let until = until.map(|ns| futex::Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as _,
    });
    // The bitset form takes an absolute time on the monotonic clock.
    let every = NonZero::<u32>::MAX;
    match futex::wait_bitset(word, futex::Flags::PRIVATE, expected, until.as_ref(), every) {
        Err(Errno::INTR) => Slept::Signal,
        Err(Errno::TIMEDOUT) => Slept::TimedOut,
        _ => Slept::Woken,
    }
}

pub(super) fn wake(word: &AtomicU32) {
    // The only error is a bad address, which a reference cannot be.
    let _ = futex::wake(word, futex::Flags::PRIVATE, 1);
}

#[inline]
pub(super) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[inline]
pub(super) fn thread_ident() -> u64 {
    // SAFETY: pthread_self has no precondition.
    unsafe { libc::pthread_self() as u64 }
}

pub(super) fn os_thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

pub(super) fn strangers(known: &[u32]) -> Strangers {
    // One stranger may wake another behind our back. Two equal rounds mean that each slept unbroken from its first
    // visit to its second, so there was a moment between the rounds when all of them slept.
    let mut rounds = [const { Vec::new() }; 2];
    for round in &mut rounds {
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
            return Strangers::Unknown;
        };
        for task in tasks {
            let id = task
                .ok()
                .and_then(|task| task.file_name().to_str()?.parse::<u32>().ok());
            let Some(id) = id else { return Strangers::Unknown };
            if !known.contains(&id) {
                // In this order: with the count read first, it could wake after that and sleep again before the other.
                if !sleeps_for_good(id) {
                    return Strangers::Awake;
                }
                let Some(sleeps) = how_often_asleep(id) else {
                    return Strangers::Awake;
                };
                round.push((id, sleeps));
            }
        }
        round.sort_unstable();
    }
    if rounds[0] == rounds[1] {
        Strangers::Asleep
    } else {
        Strangers::Awake
    }
}

/// How often thread `id` has gone to sleep so far.
fn how_often_asleep(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{id}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok())
}

/// Is thread `id` inside a futex wait without a time limit, on a word private to this process?
/// Then only a thread of this process can wake it, so it counts as asleep when all the others are.
fn sleeps_for_good(id: u32) -> bool {
    const WAIT: u64 = 0;
    const WAIT_BITSET: u64 = 9;
    const PRIVATE: u64 = 128;
    const OPERATION: u64 = 127;
    let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{id}/syscall")) else {
        return false;
    };
    let mut fields = text.split_ascii_whitespace();
    if fields.next().and_then(|n| n.parse::<i64>().ok()) != Some(libc::SYS_futex) {
        return false;
    }
    let mut argument = || {
        fields
            .next()
            .and_then(|n| u64::from_str_radix(n.trim_start_matches("0x"), 16).ok())
    };
    let (Some(_word), Some(operation), Some(_value), Some(timeout)) =
        (argument(), argument(), argument(), argument())
    else {
        return false;
    };
    let verb = operation & OPERATION;
    operation & PRIVATE != 0 && (verb == WAIT || verb == WAIT_BITSET) && timeout == 0
}

pub(super) fn at_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    super::sibling::remember(before, parent, child);
    // SAFETY: the three are plain functions that live as long as the program.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    assert_eq!(failed, 0, "no memory to register the fork handlers");
}
