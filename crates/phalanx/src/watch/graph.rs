//! Pure: a snapshot of threads in, a finding out. Knows no clock, no lock and no thread.

use crate::wait::hook::Cause;
use crate::wait::{Facts, Role, Sleeper};

/// What a snapshot shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub cause: Cause,
    /// The places in the snapshot of the threads involved, in the order of the cycle.
    pub threads: Vec<usize>,
    /// The place of the thread to tell.
    pub victim: usize,
}

/// Looks for a thread whose owner is gone, then for a cycle, then for a process all asleep.
pub fn find(threads: &[Facts]) -> Option<Finding> {
    orphan(threads)
        .or_else(|| cycle(threads))
        .or_else(|| all_asleep(threads))
}

/// The sleeper at `at`, if its wait has no time limit.
fn untimed(threads: &[Facts], at: usize) -> Option<&Sleeper> {
    threads[at].asleep.as_ref().filter(|sleeper| !sleeper.timed)
}

/// The place of the thread that alone can end the wait at `at`. `Some(None)`: that thread is gone.
fn blocker(threads: &[Facts], at: usize) -> Option<Option<usize>> {
    let owner = untimed(threads, at)?.owner.filter(|owner| owner.scoped)?;
    Some(threads.iter().position(|facts| facts.thread == owner.thread))
}

fn orphan(threads: &[Facts]) -> Option<Finding> {
    let at = (0..threads.len()).find(|&at| blocker(threads, at) == Some(None))?;
    Some(Finding {
        cause: Cause::Orphan,
        threads: vec![at],
        victim: at,
    })
}

fn cycle(threads: &[Facts]) -> Option<Finding> {
    // 0: not seen, otherwise the number of the walk that came by.
    let mut seen = vec![0; threads.len()];
    for start in 0..threads.len() {
        let mut at = start;
        while seen[at] == 0 {
            seen[at] = start + 1;
            match blocker(threads, at) {
                Some(Some(next)) => at = next,
                _ => break,
            }
        }
        if seen[at] == start + 1
            && let Some(Some(mut next)) = blocker(threads, at)
        {
            let mut members = vec![at];
            while next != at {
                members.push(next);
                next = blocker(threads, next)??;
            }
            let victim = *members
                .iter()
                .max_by_key(|&&member| rank(threads, member))
                .unwrap_or(&at);
            return Some(Finding {
                cause: Cause::Cycle,
                threads: members,
                victim,
            });
        }
    }
    None
}

fn all_asleep(threads: &[Facts]) -> Option<Finding> {
    if threads.is_empty() || (0..threads.len()).any(|at| untimed(threads, at).is_none()) {
        return None;
    }
    // Only a wait that nobody in particular can end is the root of the trouble.
    let ends = (0..threads.len()).filter(|&at| blocker(threads, at).is_none());
    let told = |at: usize| rank(threads, at);
    let mut victim = ends.max_by_key(|&at| told(at))?;
    // Telling a worker without work would help nobody: then whoever waits for it is told.
    if told(victim).0 == 0 {
        victim = (0..threads.len()).max_by_key(|&at| told(at))?;
    }
    // Nothing but workers without work is the normal state of a pool, not a deadlock.
    if told(victim).0 == 0 {
        return None;
    }
    Some(Finding {
        cause: Cause::Asleep,
        threads: (0..threads.len()).collect(),
        victim,
    })
}

/// Whom to tell: an ordinary wait before a join before a lock taken back before an idle worker, a thread that the program waits for before a
/// daemon, the oldest thread first.
fn rank(threads: &[Facts], at: usize) -> (u8, bool, std::cmp::Reverse<u32>) {
    let Some(sleeper) = &threads[at].asleep else {
        return (0, false, std::cmp::Reverse(u32::MAX));
    };
    let role = match sleeper.reason.role {
        Role::Idle => 0,
        Role::Retake => 1,
        Role::Join => 2,
        Role::Wait | Role::Meet => 3,
    };
    (role, !sleeper.daemon, std::cmp::Reverse(sleeper.thread))
}
