//! The slots that the detector and the explorer plug into, so that the door needs no import of them.

use super::Sleeper;
use crate::prim::{AtomicBool, AtomicU32, Ordering};
#[cfg(not(loom))]
use std::sync::OnceLock;

/// What the detector found, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which rule found it.
    pub cause: Cause,
    /// The threads involved; for a cycle each waits for what the next one owns.
    pub threads: Vec<Sleeper>,
    /// The number of the thread that is told.
    pub victim: u32,
    /// Those of the whole tree, if processes take part; `threads` is empty then.
    pub tree: Vec<Foreign>,
}

/// One row of a report about several processes, in words: the reader may be in another process than the thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The process number in the system.
    pub pid: u32,
    /// What the process calls itself.
    pub process: String,
    /// The name of the thread.
    pub thread: String,
    /// What kind of wait.
    pub kind: String,
    /// `file:line` of the wait.
    pub place: String,
    /// The same for where the thing waited for was taken, if that is known.
    pub taken: String,
    /// The row of the report whose thread owns it, if one does.
    pub owner: Option<usize>,
    /// A name for the thing waited for: equal numbers are one thing.
    pub thing: u64,
    /// Is this the thread that is told?
    pub victim: bool,
}

/// Which rule says that a wait can never end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Each waits for what the next one owns.
    Cycle,
    /// Every thread sleeps without a time limit.
    Asleep,
    /// The owner has ended, or did not survive `fork`.
    Orphan,
}

/// What happens when a deadlock is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Nothing is looked for.
    Off = 0,
    /// The wait of one thread ends with the report.
    Raise = 1,
    /// One thread hands the report to [`super::Interrupt::report`] and sleeps on.
    Report = 2,
}

#[cfg(not(loom))]
static MODE: AtomicU32 = AtomicU32::new(Mode::Raise as u32);
#[cfg(not(loom))]
static LISTENING: AtomicBool = AtomicBool::new(false);
#[cfg(not(loom))]
static STEP: OnceLock<fn(usize)> = OnceLock::new();
#[cfg(not(loom))]
static LOOK: OnceLock<fn()> = OnceLock::new();
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
static LOOK_AROUND: OnceLock<fn()> = OnceLock::new();

#[cfg(loom)]
loom::lazy_static! {
    static ref MODE: AtomicU32 = AtomicU32::new(Mode::Off as u32);
    static ref LISTENING: AtomicBool = AtomicBool::new(false);
    static ref LOOK: crate::prim::Guarded<Option<fn()>> = crate::prim::Guarded::new(None);
}

/// Sets what happens when a deadlock is found.
pub fn set_mode(mode: Mode) {
    MODE.store(mode as u32, Ordering::Relaxed);
}

/// What happens when a deadlock is found.
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        0 => Mode::Off,
        1 => Mode::Raise,
        _ => Mode::Report,
    }
}

/// Plugs in the detector: `look` is called by one sleeping thread every 200 ms. The first one stays.
#[cfg(not(loom))]
pub fn set_look(look: fn()) {
    let _ = LOOK.set(look);
}

/// Plugs in the detector of a model.
#[cfg(loom)]
pub fn set_look(look: fn()) {
    LOOK.with(|slot| *slot = Some(look));
}

/// Plugs in a listener for [`super::step`]. The first one stays.
#[cfg(not(loom))]
pub fn set_step(step: fn(usize)) {
    let _ = STEP.set(step);
    LISTENING.store(true, Ordering::Relaxed);
}

/// Plugs in the detector for processes: `look` is called by every thread that sleeps at something shared, ten times a
/// second. The first one stays.
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub fn set_look_around(look: fn()) {
    let _ = LOOK_AROUND.set(look);
}

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub(super) fn look_around() {
    if let Some(look) = LOOK_AROUND.get() {
        look();
    }
}

pub(super) fn look() {
    #[cfg(not(loom))]
    if let Some(look) = LOOK.get() {
        look();
    }
    #[cfg(loom)]
    if let Some(look) = LOOK.with(|slot| *slot) {
        look();
    }
}

#[inline]
pub(super) fn step(key: usize) {
    if LISTENING.load(Ordering::Relaxed) {
        tell(key);
    }
}

#[cold]
fn tell(_key: usize) {
    #[cfg(not(loom))]
    if let Some(step) = STEP.get() {
        step(_key);
    }
}
