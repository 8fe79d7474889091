//! A process that ends with its parent, without a thread that watches: the kernel sends a signal when the pipe hangs up
//! whose other end only the parent has.

use crate::prim::{AtomicI32, AtomicUsize, Ordering};
use std::ptr;

/// The pipe that hangs up, -1 for none.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The timer that kills whoever does not end by SIGTERM.
static TIMER: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Which signal says that a file is ready: not in `libc`, the same on every architecture of Linux.
const F_SETSIG: i32 = 10;

/// From SIGTERM to SIGKILL, in seconds.
const GRACE: i64 = 1;

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

/// Ends this process if the pipe has hung up: SIGTERM now, SIGKILL a second later. Safe in a signal handler.
extern "C" fn look(_signal: i32) {
    let pipe = PIPE.load(Ordering::Relaxed);
    if pipe < 0 || !has_hung_up(pipe) {
        return;
    }
    // SAFETY: system calls that a signal handler may make; errno is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let timer = TIMER.load(Ordering::Relaxed);
        if timer != usize::MAX {
            let mut time: libc::itimerspec = std::mem::zeroed();
            time.it_value.tv_sec = GRACE as _;
            libc::timer_settime(ptr::without_provenance_mut(timer), 0, &raw const time, ptr::null_mut());
        }
        libc::kill(libc::getpid(), if timer == usize::MAX { libc::SIGKILL } else { libc::SIGTERM });
        *errno = before;
    }
}

/// This process ends when the pipe `pipe`, which must stay open, hangs up. `false`: the system cannot do that.
pub fn end_with(pipe: i32) -> bool {
    // SAFETY: plain system calls; the handler is one that may interrupt anything.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut timer: libc::timer_t = ptr::null_mut();
        let made = libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) == 0;
        TIMER.store(if made { timer.addr() } else { usize::MAX }, Ordering::Relaxed);
        PIPE.store(pipe, Ordering::Relaxed);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = look as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        let watched = libc::sigaction(bond_signal(), &raw const action, ptr::null_mut()) == 0
            && libc::fcntl(pipe, F_SETSIG, bond_signal()) == 0
            && libc::fcntl(pipe, libc::F_SETOWN, libc::getpid()) == 0;
        let flags = libc::fcntl(pipe, libc::F_GETFL);
        let watched = watched && flags >= 0 && libc::fcntl(pipe, libc::F_SETFL, flags | libc::O_ASYNC) == 0;
        // It may have hung up before.
        look(0);
        watched
    }
}

/// In the child of a fork: the bond was its parent's.
pub fn loosen() {
    PIPE.store(-1, Ordering::Relaxed);
    TIMER.store(usize::MAX, Ordering::Relaxed);
}
