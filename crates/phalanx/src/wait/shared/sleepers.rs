//! Who sleeps at something shared, as the detector of deadlocks sees it, and how it tells one of them.

use super::lot::{
    BUCKETS, DOOMED, Lot, NODES, PROCESS, ROLE, SLEEPING, TIMED, bucket_of, get_text, here, lot,
};
use crate::prim::{AtomicU64, Guarded, Ordering};
use crate::shm::{self, Arena};
use crate::sys;
use crate::wait::hook::Report;
use crate::wait::{Enders, OWNER, Role, SCOPED};

/// Reports for sleepers of this process that are about to be told.
pub(super) static VERDICTS: Guarded<Vec<(u32, Box<Report>)>> = Guarded::new(Vec::new());

/// Takes out the report for the sleeper on node `at`.
pub(super) fn verdict_on(at: u32) -> Option<Box<Report>> {
    VERDICTS.with(|verdicts| {
        let found = verdicts.iter().position(|(other, _)| *other == at);
        found.map(|found| verdicts.swap_remove(found).1)
    })
}

/// A thread of some process that sleeps at something shared, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleeper {
    /// Its identity in the tree.
    pub thread: u32,
    /// The name of the thread.
    pub name: String,
    /// What kind of wait, in words.
    pub kind: String,
    /// The part it plays in a deadlock.
    pub role: Role,
    /// `file:line` of the wait.
    pub place: String,
    /// The offset of what it waits for.
    pub key: u64,
    /// Who can end it.
    pub enders: Enders,
    /// The identity of the owner and whether only that thread may give it back.
    pub owner: Option<(u32, bool)>,
    /// Has it a time limit?
    pub timed: bool,
    /// One unbroken sleep has one number.
    pub seq: u64,
    /// Its number in the kernel.
    pub os_id: u32,
    /// `file:line` where the lock that it waits for was taken.
    pub taken: String,
    /// Where its node lies.
    pub at: u32,
}

/// Everybody of the tree who sleeps at something shared.
pub fn sleepers() -> Vec<Sleeper> {
    let Some(arena) = shm::arena() else {
        return Vec::new();
    };
    let lot = lot(arena);
    let high = lot.high.load(Ordering::Acquire).min(NODES as u32);
    (0..high).filter_map(|at| look_at(arena, lot, at)).collect()
}

fn taken_text(arena: &'static Arena, offset: u64) -> String {
    if offset == 0 {
        return String::new();
    }
    let words: [AtomicU64; 10] = std::array::from_fn(|at| {
        // SAFETY: a lock that a sleeping thread borrows has ten words of text there.
        let low = unsafe { arena.word(offset + at as u64 * 8) }.load(Ordering::Relaxed);
        // SAFETY: as above.
        let high = unsafe { arena.word(offset + at as u64 * 8 + 4) }.load(Ordering::Relaxed);
        AtomicU64::new(u64::from(high) << 32 | u64::from(low))
    });
    get_text(&words)
}

fn look_at(arena: &'static Arena, lot: &Lot, at: u32) -> Option<Sleeper> {
    let node = lot.node(at);
    let asleep = || {
        let queued = node.queued.load(Ordering::Acquire);
        queued != 0 && queued as usize <= BUCKETS && node.token.load(Ordering::Acquire) == SLEEPING
    };
    if node.claimed.load(Ordering::Acquire) == 0 || !asleep() {
        return None;
    }
    let seq = node.seq.load(Ordering::Acquire);
    let flags = node.flags.load(Ordering::Relaxed);
    let enders = node.enders.load(Ordering::Relaxed);
    let word = node.owner.load(Ordering::Relaxed);
    // SAFETY: the word is that of a lock that a sleeping thread borrows, so its object is alive.
    let word = (word != 0).then(|| unsafe { arena.word(word) }.load(Ordering::Relaxed));
    let sleeper = Sleeper {
        thread: node.thread.load(Ordering::Relaxed),
        name: get_text(&node.name),
        kind: get_text(&node.reason),
        role: Role::from_number(flags & ROLE),
        place: get_text(&node.place),
        key: node.key.load(Ordering::Relaxed),
        enders: match (enders, flags & PROCESS) {
            (0, _) => Enders::Unknown,
            (object, 0) => Enders::Holders(object, node.serial.load(Ordering::Relaxed)),
            (number, _) => Enders::Process(number as u32),
        },
        owner: word
            .filter(|word| word & OWNER != 0)
            .map(|word| (word & OWNER, word & SCOPED != 0)),
        timed: flags & TIMED != 0,
        seq,
        os_id: node.os_id.load(Ordering::Relaxed),
        taken: taken_text(arena, node.taken.load(Ordering::Relaxed)),
        at,
    };
    (asleep() && node.seq.load(Ordering::Acquire) == seq).then_some(sleeper)
}

/// Tells the thread of `sleeper`, which is one of this process, that its wait is a deadlock.
pub(crate) fn tell(sleeper: &Sleeper, report: Report) -> bool {
    let (_, lot) = here();
    let node = lot.node(sleeper.at);
    let at = bucket_of(sleeper.key);
    let told = lot.with(at, |bucket| {
        let same = node.queued.load(Ordering::Acquire) == at as u32 + 1
            && node.thread.load(Ordering::Relaxed) == sleeper.thread
            && node.seq.load(Ordering::Acquire) == sleeper.seq
            && node.token.load(Ordering::Acquire) == SLEEPING;
        if same {
            VERDICTS.with(|verdicts| verdicts.push((sleeper.at, Box::new(report))));
            node.queued.store(0, Ordering::Release);
            lot.unlink(bucket, sleeper.at);
            node.token.store(DOOMED, Ordering::Release);
        }
        same
    });
    if told {
        sys::wake_shared(&node.token);
    }
    told
}

/// Tells of a deadlock that is only to be reported.
pub(crate) fn report(report: &Report) {
    REPORTER.with(|reporter| {
        if let Some(reporter) = reporter {
            reporter(report);
        }
    });
}

/// Who tells of a deadlock that is only to be reported.
static REPORTER: Guarded<Option<fn(&Report)>> = Guarded::new(None);

/// Plugs in who tells of a deadlock that is only to be reported.
pub fn set_reporter(reporter: fn(&Report)) {
    REPORTER.with(|slot| *slot = Some(reporter));
}
