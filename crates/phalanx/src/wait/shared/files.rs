//! A wait for files, which no process wakes: the door asks the kernel for it.

use super::lot::{DOOMED, SLEEPING, WAITING, here};
use super::ticket::{Asleep, TICK, enqueue_at};
use crate::prim::Ordering;
use crate::sys::{self, Slept};
use crate::wait::{Deadline, How, Stopped, Wakeup};

/// Waits at the door for one of `files` to become readable, as a thread that waits for `how.enders`. `Ok(false)`: the
/// deadline passed.
///
/// # Errors
/// [`Stopped`] if the wait was interrupted, or could never have ended.
pub fn watch_files(files: &[i32], how: &How<'_>) -> Result<bool, Stopped> {
    let (_, lot) = here();
    let Some(ticket) = enqueue_at(None, how, None, || true) else {
        return Ok(false);
    };
    let node = lot.node(ticket.at);
    let short = Deadline::after(std::time::Duration::from_millis(20));
    let first = how
        .deadline
        .at()
        .map_or(short.at(), |end| short.at().map(|at| at.min(end)));
    match sys::sleep_on_files(files, first) {
        Slept::Woken => return Ok(true),
        Slept::Signal => {
            if let Some(stopped) = ticket.check(node, how) {
                return Err(stopped);
            }
        }
        Slept::TimedOut if how.deadline.has_passed() => return Ok(false),
        Slept::TimedOut => {}
    }
    ticket.describe(node, how);
    let _asleep = Asleep::begin();
    loop {
        let _ = node
            .token
            .compare_exchange(WAITING, SLEEPING, Ordering::AcqRel, Ordering::Relaxed);
        if node.token.load(Ordering::Acquire) == DOOMED {
            return match ticket.doomed(how, None) {
                Wakeup::Stopped(stopped) => Err(stopped),
                _ => Ok(false),
            };
        }
        let next = sys::now() + TICK;
        let until = how.deadline.at().map_or(next, |end| end.min(next));
        match sys::sleep_on_files(files, Some(until)) {
            Slept::Woken => return Ok(true),
            Slept::Signal => {
                if let Some(stopped) = ticket.check(node, how) {
                    return Err(stopped);
                }
            }
            Slept::TimedOut => {
                if how.deadline.has_passed() {
                    return Ok(false);
                }
                if let Some(Wakeup::Stopped(stopped)) = ticket.tick(node, how, None, &|| true) {
                    return Err(stopped);
                }
            }
        }
    }
}
