//! A process that ends with its parent, without a thread that watches: the kernel sends a signal when the pipe hangs up
//! whose other end only the parent has.
//!
//! | since the hang-up | what happens |
//! | --- | --- |
//! | 0 | both timers are armed: the process has a moment to notice by itself, as by `parent_process().join()` |
//! | 1 s | the first timer runs out: SIGTERM |
//! | 1.8 s | the second: SIGKILL |

use crate::prim::{AtomicI32, AtomicUsize, Ordering};
use std::ptr;

/// The pipe that hangs up, -1 for none.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The timers, [`NO_TIMER`] for none.
static TIMERS: [AtomicUsize; 2] = [AtomicUsize::new(NO_TIMER), AtomicUsize::new(NO_TIMER)];
const NO_TIMER: usize = usize::MAX;
/// When they run out, in nanoseconds.
const GRACE: [u64; 2] = [1_000_000_000, 1_800_000_000];

/// Which signal says that a file is ready: not in `libc`, the same on every architecture of Linux.
const F_SETSIG: i32 = 10;

/// The signal that says so; a handler for it is no sign that the program handles signals.
pub fn bond_signal() -> i32 {
    libc::SIGRTMAX() - 2
}

fn has_hung_up(pipe: i32) -> bool {
    let mut polled = libc::pollfd {
        fd: pipe,
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, as said.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 1 && polled.revents & (libc::POLLHUP | libc::POLLERR) != 0 }
}

/// The parent is gone: see the table. Safe in a signal handler.
fn hung_up() {
    for (timer, after) in TIMERS.iter().zip(GRACE) {
        let timer = timer.load(Ordering::Relaxed);
        // SAFETY: system calls that a signal handler may make; the timer is this process's own.
        unsafe {
            if timer == NO_TIMER {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
            let mut time: libc::itimerspec = std::mem::zeroed();
            time.it_value.tv_sec = (after / 1_000_000_000) as _;
            time.it_value.tv_nsec = (after % 1_000_000_000) as _;
            libc::timer_settime(
                ptr::without_provenance_mut(timer),
                0,
                &raw const time,
                ptr::null_mut(),
            );
        }
    }
}

extern "C" fn signalled(_signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid record; system calls that a signal handler may make; errno is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let pipe = PIPE.load(Ordering::Relaxed);
        if pipe >= 0 && has_hung_up(pipe) {
            if (*info).si_code == libc::SI_TIMER {
                libc::kill(libc::getpid(), libc::SIGTERM);
            } else {
                hung_up();
            }
        }
        *errno = before;
    }
}

fn make_timer(signal: i32) -> usize {
    // SAFETY: a new timer; the event is plain data.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = signal;
        let mut timer: libc::timer_t = ptr::null_mut();
        if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) == 0 {
            timer.addr()
        } else {
            NO_TIMER
        }
    }
}

/// This process ends when the pipe `pipe`, which must stay open, hangs up. `false`: the system cannot do that.
pub fn end_with(pipe: i32) -> bool {
    TIMERS[0].store(make_timer(bond_signal()), Ordering::Relaxed);
    TIMERS[1].store(make_timer(libc::SIGKILL), Ordering::Relaxed);
    PIPE.store(pipe, Ordering::Relaxed);
    // SAFETY: plain system calls; the handler is one that may interrupt anything.
    let watched = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction =
            signalled as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
        let watched = libc::sigaction(bond_signal(), &raw const action, ptr::null_mut()) == 0
            && libc::fcntl(pipe, F_SETSIG, bond_signal()) == 0
            && libc::fcntl(pipe, libc::F_SETOWN, libc::getpid()) == 0;
        let flags = libc::fcntl(pipe, libc::F_GETFL);
        watched && flags >= 0 && libc::fcntl(pipe, libc::F_SETFL, flags | libc::O_ASYNC) == 0
    };
    // It may have hung up before.
    if has_hung_up(pipe) {
        hung_up();
    }
    watched
}

/// In the child of a fork: the bond was its parent's.
pub fn loosen() {
    PIPE.store(-1, Ordering::Relaxed);
    TIMERS
        .iter()
        .for_each(|timer| timer.store(NO_TIMER, Ordering::Relaxed));
}
