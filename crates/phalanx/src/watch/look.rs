//! From the live threads to a verdict, twice, because a snapshot takes time.

use super::graph::{self, Finding};
use crate::sys::{self, Strangers};
use crate::wait::hook::{self, Cause, Mode, Report};
use crate::wait::{self, Facts};
use std::sync::OnceLock;

/// Is there an excuse for a process all asleep, such as a signal handler that may wake it?
static EXCUSE: OnceLock<fn() -> bool> = OnceLock::new();

/// Plugs the detector in at the door. `excuse` is asked when every thread sleeps: `true` if something outside, such as
/// an installed signal handler, may wake one. The first call counts.
pub fn start(excuse: fn() -> bool) {
    let _ = EXCUSE.set(excuse);
    hook::set_look(look);
    #[cfg(all(target_os = "linux", not(phalanx_sys = "portable")))]
    hook::set_look_around(super::tree::look_around);
}

fn look() {
    let mode = hook::mode();
    if mode == Mode::Off {
        return;
    }
    let before = wait::live_threads();
    let Some(finding) = graph::find(&before) else {
        return;
    };
    let victim = &before[finding.victim];
    let Some(sleeper) = victim.asleep.as_ref() else {
        return;
    };
    if finding.cause == Cause::Asleep && !nobody_can_wake(&before) {
        return;
    }
    if !still_so(&before, &finding) {
        return;
    }
    let threads = finding
        .threads
        .iter()
        .filter_map(|&at| before[at].asleep.clone())
        .collect();
    let report = Report {
        cause: finding.cause,
        threads,
        victim: victim.thread,
        tree: Vec::new(),
    };
    wait::tell(sleeper, report, mode);
}

/// The second look. Whoever sleeps the same unbroken sleep in both slept at every moment between them, so all these
/// sleeps overlap at one moment, and the owners seen in both are the owners of that moment.
fn still_so(before: &[Facts], finding: &Finding) -> bool {
    let after = wait::live_threads();
    let same = |facts: &Facts| {
        after
            .iter()
            .any(|other| other.thread == facts.thread && other.asleep == facts.asleep)
    };
    let involved = finding.threads.iter().all(|&at| same(&before[at]));
    let nobody_new = finding.cause != Cause::Asleep || after.len() == before.len();
    // The owner may have registered between: gone means gone in both, and for the same sleeper.
    let still = finding.cause != Cause::Orphan
        || graph::find(&after).is_some_and(|again| {
            again.cause == Cause::Orphan && after[again.victim].thread == before[finding.victim].thread
        });
    involved && nobody_new && still
}

/// Is there neither a thread that we cannot see into nor a handler that may run?
pub(super) fn nobody_can_wake(threads: &[Facts]) -> bool {
    let known: Vec<u32> = threads.iter().map(|facts| facts.os_id).collect();
    sys::strangers(&known) == Strangers::Asleep && !EXCUSE.get().is_some_and(|excuse| excuse())
}
