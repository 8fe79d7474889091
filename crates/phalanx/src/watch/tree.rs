//! Deadlocks among the processes of a tree. The protocol: `watch/README.md`, "Between processes".

use super::look;
use crate::prim::{AtomicU64, Ordering};
use crate::shm::{self, tree};
use crate::sys;
use crate::wait::hook::{self, Cause, Foreign, Mode, Report};
use crate::wait::shared::{self, Sleeper};
use crate::wait::{self, Enders, Role};
use std::collections::BTreeMap;

/// Between two looks of one process, in nanoseconds: a little less than a sleeper's tick.
const PAUSE: u64 = 90_000_000;
/// With more processes than this each looks less often, so that all of them together look as often as so many: a look
/// costs as much as there are sleepers.
const CROWD: u64 = 16;
/// So many sleepers are shown.
const ROWS: usize = 64;

static LAST: AtomicU64 = AtomicU64::new(0);
/// So many processes the last look has seen.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// The sleep, by its thread and number, that was reported last in [`Mode::Report`].
static TOLD: AtomicU64 = AtomicU64::new(0);

/// What a look sees of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The processes whose threads all sleep for good, with their activity.
    pub quiet: BTreeMap<u32, u64>,
    /// Everybody who sleeps at something shared, without a time limit.
    pub sleepers: Vec<Sleeper>,
    /// Who holds the objects that those wait for, by offset and serial number.
    pub holders: BTreeMap<(u64, u64), Vec<u32>>,
    /// The processes whose end is waited for, by their number in the system.
    pub pids: BTreeMap<u32, u32>,
}

/// A deadlock in a picture: who takes part, and who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which rule.
    pub cause: Cause,
    /// Places in `Picture::sleepers`.
    pub members: Vec<usize>,
    /// One of them.
    pub victim: usize,
}

/// Called by every sleeper at something shared, ten times a second.
pub(super) fn look_around() {
    let mode = hook::mode();
    let (last, now) = (LAST.load(Ordering::Relaxed), sys::now());
    let pause = PAUSE * (SEEN.load(Ordering::Relaxed) / CROWD).max(1);
    if mode == Mode::Off
        || now.saturating_sub(last) < pause
        || LAST
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    certify();
    let before = picture();
    let Some(found) = find(&before) else { return };
    // The second look: who sleeps the same sleep in both slept at every moment between them.
    let after = picture();
    let same = found.members.iter().all(|&at| {
        let sleeper = &before.sleepers[at];
        let number = tree::number_of(sleeper.thread);
        let rested = found.cause == Cause::Cycle || before.quiet.get(&number) == after.quiet.get(&number);
        rested && after.sleepers.contains(sleeper)
    });
    let victim = &before.sleepers[found.victim];
    // Every process finds the same; the one whose thread is the victim tells it.
    if !same || tree::number_of(victim.thread) != tree::number() {
        return;
    }
    // A member that was killed meanwhile still looks asleep. Who waits for it is told of the death instead.
    let members = found.members.iter().map(|&at| before.sleepers[at].thread);
    if members.map(tree::number_of).any(tree::is_dead) {
        return;
    }
    let report = report(&before, &found);
    if mode == Mode::Raise {
        shared::tell(victim, report);
    } else {
        let mark = u64::from(victim.thread) << 32 | victim.seq & u64::from(u32::MAX);
        if TOLD.swap(mark, Ordering::Relaxed) != mark {
            shared::report(&report);
        }
    }
}

/// Says so if every thread of this process sleeps for good.
fn certify() {
    let activity = tree::activity();
    let ours = || -> Vec<Sleeper> {
        let mut sleepers = shared::sleepers();
        sleepers.retain(|sleeper| tree::number_of(sleeper.thread) == tree::number());
        sleepers
    };
    let (threads, sleepers) = (wait::live_threads(), ours());
    let asleep = threads.iter().all(|facts| {
        let local = facts.asleep.as_ref().is_some_and(|sleeper| !sleeper.timed);
        local
            || sleepers
                .iter()
                .any(|sleeper| sleeper.os_id == facts.os_id && !sleeper.timed)
    });
    if !asleep || !look::nobody_can_wake(&threads) {
        return;
    }
    if wait::live_threads() == threads && ours() == sleepers && tree::activity() == activity {
        tree::certify(activity);
    }
}

fn picture() -> Picture {
    let living = tree::living();
    SEEN.store(living.len() as u64, Ordering::Relaxed);
    let quiet = living
        .into_iter()
        .filter_map(|number| {
            let (activity, quiet) = tree::rest(number);
            quiet.then_some((number, activity))
        })
        .collect();
    let mut sleepers = shared::sleepers();
    sleepers.retain(|sleeper| !sleeper.timed);
    let (mut holders, mut pids) = (BTreeMap::new(), BTreeMap::new());
    for sleeper in &sleepers {
        match sleeper.enders {
            Enders::Holders(offset, serial) => {
                let held = || shm::holders_of(shm::Name { offset, serial });
                holders.entry((offset, serial)).or_insert_with(held);
            }
            Enders::Process(pid) => {
                if let Some(number) = tree::find(pid) {
                    pids.insert(pid, number);
                }
            }
            Enders::Unknown => {}
        }
    }
    Picture {
        quiet,
        sleepers,
        holders,
        pids,
    }
}

/// Pure: a picture in, a deadlock out.
pub fn find(picture: &Picture) -> Option<Found> {
    cycle(picture).or_else(|| stuck(picture))
}

/// Threads that wait in a circle, each for a lock that only the next one may give back.
fn cycle(picture: &Picture) -> Option<Found> {
    let next = |at: usize| {
        let (owner, scoped) = picture.sleepers[at].owner?;
        picture
            .sleepers
            .iter()
            .position(|sleeper| scoped && sleeper.thread == owner)
    };
    for start in 0..picture.sleepers.len() {
        let mut members = vec![start];
        let mut at = start;
        while let Some(then) = next(at) {
            if then == start {
                let victim = victim(picture, &members)?;
                return Some(Found {
                    cause: Cause::Cycle,
                    members,
                    victim,
                });
            }
            if members.contains(&then) {
                break;
            }
            members.push(then);
            at = then;
        }
    }
    None
}

/// Quiet processes that nobody outside can wake: the greatest set in which every wait can be ended only from inside.
fn stuck(picture: &Picture) -> Option<Found> {
    let mut set: Vec<u32> = picture.quiet.keys().copied().collect();
    loop {
        let before = set.len();
        let inside = set.clone();
        set.retain(|&number| {
            let mut own = picture
                .sleepers
                .iter()
                .filter(|sleeper| tree::number_of(sleeper.thread) == number);
            own.clone().next().is_some() && own.all(|sleeper| only_from(picture, sleeper, &inside))
        });
        if set.len() == before {
            break;
        }
    }
    let members: Vec<usize> = (0..picture.sleepers.len())
        .filter(|&at| set.contains(&tree::number_of(picture.sleepers[at].thread)))
        .collect();
    let victim = victim(picture, &members)?;
    // Nothing but workers without work is no deadlock.
    (rank(picture, victim).0 > 0).then_some(Found {
        cause: Cause::Asleep,
        members,
        victim,
    })
}

/// Can this wait be ended by processes of `inside` only, and by at least one?
fn only_from(picture: &Picture, sleeper: &Sleeper, inside: &[u32]) -> bool {
    if let Some((owner, true)) = sleeper.owner {
        return inside.contains(&tree::number_of(owner));
    }
    match sleeper.enders {
        Enders::Unknown => false,
        Enders::Process(pid) => picture
            .pids
            .get(&pid)
            .is_some_and(|number| inside.contains(number)),
        // Nobody is left: then this waiter is about to learn of that, and wakes by itself.
        Enders::Holders(offset, serial) => picture.holders.get(&(offset, serial)).is_some_and(|holders| {
            !holders.is_empty() && holders.iter().all(|holder| inside.contains(holder))
        }),
    }
}

/// As between threads: an ordinary wait before a join before a lock taken back before an idle worker; the youngest
/// process first, because its parent may still tell of it.
fn rank(picture: &Picture, at: usize) -> (u8, u32) {
    let sleeper = &picture.sleepers[at];
    let role = match sleeper.role {
        Role::Idle => 0,
        Role::Retake => 1,
        Role::Join => 2,
        Role::Wait | Role::Meet => 3,
    };
    (role, sleeper.thread)
}

fn victim(picture: &Picture, members: &[usize]) -> Option<usize> {
    members.iter().copied().max_by_key(|&at| rank(picture, at))
}

fn report(picture: &Picture, found: &Found) -> Report {
    let shown = &found.members[..found.members.len().min(ROWS)];
    let mut rows: Vec<usize> = shown.to_vec();
    if !rows.contains(&found.victim) {
        rows.push(found.victim);
    }
    let tree = rows
        .iter()
        .map(|&at| {
            let sleeper = &picture.sleepers[at];
            let life = tree::life(tree::number_of(sleeper.thread));
            let owner = sleeper.owner.map(|(thread, _)| thread);
            Foreign {
                pid: life.pid,
                process: life.name,
                thread: sleeper.name.clone(),
                kind: sleeper.kind.clone(),
                place: sleeper.place.clone(),
                taken: sleeper.taken.clone(),
                owner: owner.and_then(|owner| {
                    rows.iter()
                        .position(|&other| picture.sleepers[other].thread == owner)
                }),
                thing: match sleeper.enders {
                    Enders::Process(pid) => u64::from(pid),
                    _ => sleeper.key,
                },
                victim: at == found.victim,
            }
        })
        .collect();
    Report {
        cause: found.cause,
        threads: Vec::new(),
        victim: 0,
        tree,
    }
}
