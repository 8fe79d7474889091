//! Waiting awake for a moment, where that is sooner than a sleep and takes nothing from anybody.

use super::roster::Record;
use crate::prim::{AtomicU32, Ordering};

#[cfg(not(loom))]
use super::lot::door;
#[cfg(not(loom))]
use super::ticket::processors;
#[cfg(not(loom))]
use crate::prim::{AtomicU64, spin_loop, yield_now};
#[cfg(not(loom))]
use crate::sys;

use super::ticket::NOTIFIED;

/// A thread spins for this many nanoseconds at the most before it sleeps. A hand-over between two running threads takes
/// a tenth of it; an idle processor needs three times as long to wake.
const MOST_PATIENCE: u32 = 10_000;
#[cfg(not(loom))]
const LEAST_PATIENCE: u32 = 300;
/// The same between processes: as long as an idle processor needs to wake, since both sides fall asleep otherwise.
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub(super) const SHARED_PATIENCE: u32 = 40_000;
/// A spin between processes offers its processor after so many nanoseconds.
#[cfg(not(loom))]
const YIELD: u64 = 2_000;
/// A spin that lost its processor for so long has competition, and no business to be awake.
#[cfg(not(loom))]
const LOST: u64 = 300_000;
/// After that nobody of this process spins for so long; twice as long each time it happens again soon, up to a limit.
#[cfg(not(loom))]
const REST: u64 = 5_000_000;
#[cfg(not(loom))]
const LONGEST_REST: u64 = 400_000_000;
/// After this many waits in which it spun for less, a thread tries the most again.
#[cfg(not(loom))]
const RETRY: u32 = 32;

/// Waits awake for a while for `token` to become NOTIFIED, because a sleeping processor takes long to wake.
pub(super) fn spin(me: &Record, token: &AtomicU32) -> Option<u32> {
    spin_until(me, &me.patience, MOST_PATIENCE, || {
        // SYNC(token): pairs with the swap in `notify`.
        let token = token.load(Ordering::Acquire);
        (token & NOTIFIED != 0).then_some(token & !NOTIFIED)
    })
}

/// Did the last spin of the thread of `me` end well?
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub(super) fn is_patient(me: &Record) -> bool {
    me.shared_patience.load(Ordering::Relaxed) == SHARED_PATIENCE
}

/// In a model nobody spins.
#[cfg(loom)]
pub(super) fn spin_until<R>(_: &Record, _: &AtomicU32, _: u32, _: impl Fn() -> Option<R>) -> Option<R> {
    None
}

/// Waits awake until `done` says so, for as long as that has paid off lately for the thread of `me`.
#[cfg(not(loom))]
pub(super) fn spin_until<R>(
    me: &Record,
    learnt_patience: &AtomicU32,
    most: u32,
    done: impl Fn() -> Option<R>,
) -> Option<R> {
    if processors() < 2 {
        return None;
    }
    let shared = most > MOST_PATIENCE;
    if shared && COMPETITION.is_on() {
        return None;
    }
    let spinners = &door().spinners;
    let tries = me.tries.load(Ordering::Relaxed).wrapping_add(1);
    me.tries.store(tries, Ordering::Relaxed);
    let learnt = learnt_patience.load(Ordering::Relaxed);
    let patience = if tries % RETRY == 1 { most } else { learnt };
    // One processor has to be left for the thread that will wake us.
    if spinners.fetch_add(1, Ordering::Relaxed) as usize >= processors() - 1 {
        spinners.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    let start = sys::now();
    let (end, soon) = (start + u64::from(patience), start + YIELD);
    let (mut last, mut robbed) = (start, false);
    let found = 'spin: loop {
        for _ in 0..16 {
            if let Some(found) = done() {
                break 'spin Some(found);
            }
            spin_loop();
        }
        let now = sys::now();
        if shared && now - last >= LOST {
            robbed = true;
            COMPETITION.note(now);
        }
        if now >= end {
            break done();
        }
        last = now;
        // The kernel likes to run both sides on one processor: then whoever could end this wait needs ours.
        if shared && now >= soon {
            yield_now();
            let back = sys::now();
            if back - now >= LOST {
                robbed = true;
                COMPETITION.note(back);
                break done();
            }
            last = back;
        }
    };
    spinners.fetch_sub(1, Ordering::Relaxed);
    // All or less and less: a wake-up that comes while we spin will mostly do so again, and on a busy machine the
    // thread that would wake us needs our processor.
    let next = if found.is_some() && !robbed {
        most
    } else {
        patience.min(learnt) / 2
    };
    learnt_patience.store(next.max(LEAST_PATIENCE), Ordering::Relaxed);
    found
}

/// Are there others that want the processors? Then a spin delays whom it waits for, and the slice that it offers goes to
/// somebody else: on a busy machine a sleeper is woken much sooner than a spinner gets its processor back.
#[cfg(not(loom))]
struct Competition {
    until: AtomicU64,
    rest: AtomicU64,
}

#[cfg(not(loom))]
static COMPETITION: Competition = Competition {
    until: AtomicU64::new(0),
    rest: AtomicU64::new(0),
};

#[cfg(not(loom))]
impl Competition {
    fn is_on(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && sys::now() < until
    }

    /// A spinning thread did not run for a while.
    #[cold]
    fn note(&self, now: u64) {
        let (until, rest) = (
            self.until.load(Ordering::Relaxed),
            self.rest.load(Ordering::Relaxed),
        );
        let again = now.saturating_sub(until) < rest.max(REST);
        let rest = if again {
            (2 * rest).clamp(REST, LONGEST_REST)
        } else {
            REST
        };
        self.rest.store(rest, Ordering::Relaxed);
        self.until.store(now + rest, Ordering::Relaxed);
    }
}
