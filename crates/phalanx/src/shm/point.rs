//! Named points of the protocols at which a test lets a process be killed.

use crate::prim::{AtomicU32, Ordering};
use crate::sys;

macro_rules! points {
    ($($name:ident = $text:literal,)* -- $($inner:ident = $inner_text:literal,)*) => {
        /// A moment between two steps of a protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Point { $($name,)* $($inner,)* }
        /// Those that a caller can bring about, by name.
        pub const NAMES: &[&str] = &[$($text,)*];
        /// Those further inside.
        pub const INNER: &[&str] = &[$($inner_text,)*];
    };
}

points! {
    PutBeforeCommit = "put.before_commit",
    PutAfterCommit = "put.after_commit",
    PutPayload = "put.payload",
    GetBeforeCommit = "get.before_commit",
    GetPayload = "get.payload",
    GetAfterCommit = "get.after_commit",
    Grow = "grow",
    Acquire = "acquire",
    Release = "release",
    Queued = "queued",
    Notify = "notify",
    Barrier = "barrier",
    TableBeforeCommit = "table.before_commit",
    TableAfterCommit = "table.after_commit",
    TableGrow = "table.grow",
    TableRebuild = "table.rebuild",
    TableRebuilt = "table.rebuilt",
    TaskTaken = "task.taken",
    TaskBeforeDone = "task.before_done",
    TaskAfterDone = "task.after_done",
    BundleBegun = "bundle.begun",
    BundleBeforeGiven = "bundle.before_given",
    --
    Run = "run",
    Slab = "slab",
    Free = "free",
    Take = "take",
    Bury = "bury",
    Bell = "bell",
    Offer = "offer",
    Recover = "recover",
    Mend = "mend",
    Mourn = "mourn",
    Load = "riders.load",
    Unload = "riders.unload",
}

/// The armed point and how many more visits it lets pass, or 0: nothing is armed.
static ARMED: AtomicU32 = AtomicU32::new(0);

/// Not 0: the point that is armed stops the process instead.
static STOPS: AtomicU32 = AtomicU32::new(0);

/// Kills this process (SIGKILL) at its `nth` visit, from 1, of the point called `name`. `false`: there is no such point.
pub fn arm(name: &str, nth: u32) -> bool {
    let at = NAMES.iter().chain(INNER).position(|&other| other == name);
    if let Some(at) = at {
        ARMED.store((at as u32 + 1) << 24 | nth.clamp(1, 0xFF_FFFF), Ordering::Relaxed);
    }
    at.is_some()
}

/// As [`arm`], but the process is stopped (SIGSTOP) there, until somebody lets it go on.
pub fn arm_to_stop(name: &str, nth: u32) -> bool {
    STOPS.store(1, Ordering::Relaxed);
    arm(name, nth)
}

/// Marks a point. One relaxed load unless a test has armed one.
#[inline]
pub fn reach(point: Point) {
    if ARMED.load(Ordering::Relaxed) != 0 {
        visit(point);
    }
}

/// As [`reach`], by name, for code that is generic over where it lies.
#[inline]
pub fn reach_named(name: &'static str) {
    if ARMED.load(Ordering::Relaxed) != 0
        && let Some(at) = NAMES.iter().position(|&other| other == name)
    {
        visit_number(at as u32);
    }
}

#[cold]
fn visit(point: Point) {
    visit_number(point as u32);
}

fn visit_number(point: u32) {
    let armed = ARMED.load(Ordering::Relaxed);
    if armed >> 24 == point + 1 && ARMED.fetch_sub(1, Ordering::Relaxed) & 0xFF_FFFF == 1 {
        if STOPS.swap(0, Ordering::Relaxed) == 0 {
            sys::die();
        }
        ARMED.store(0, Ordering::Relaxed);
        sys::stop();
    }
}
