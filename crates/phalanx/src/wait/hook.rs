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
