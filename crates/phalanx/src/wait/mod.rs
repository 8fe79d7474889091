//! Level 2. THE DOOR: whoever must sleep comes through here.
//!
//! The protocol and why no wake-up is lost: `wait/README.md`.
//!
//! A key is the address of the thing waited for. [`enqueue`] puts the calling thread into the queue of a key, the
//! [`Ticket`] sleeps, and [`unpark`] wakes the threads of a key in the order in which they came.

mod deadline;
pub mod hook;
mod lot;
mod roster;
#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub mod shared;
mod space;
mod spin;
mod ticket;

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub use space::Shared;
pub use space::{Local, Space};

pub use deadline::Deadline;
pub use lot::{Batch, count, take, unpark, unpark_one};
pub use roster::{Facts, Owner, Sleeper, current, facts, live_threads, lost_in_fork, register, set_daemon};
pub use ticket::{Ticket, enqueue, park, processors};

#[cfg(not(loom))]
pub use ticket::is_still_waiting;
#[cfg(not(loom))]
pub(crate) use ticket::tell;

use crate::prim::AtomicU32;

/// The word of a lock holds its owner's thread number in these bits.
pub const OWNER: u32 = (1 << 30) - 1;
/// The owner is bound to give it back itself: taken by `with`, or re-entrant. Only then does an edge of the wait graph lead to it.
pub const SCOPED: u32 = 1 << 30;
/// Threads may be asleep in the queue of this word.
pub const PARKED: u32 = 1 << 31;

/// What a wait is, in words for the report and in the little that the detector needs to know.
#[derive(Debug, PartialEq, Eq)]
pub struct Reason {
    /// The word used in a report, such as `Lock` or `Queue.get`.
    pub name: &'static str,
    /// What follows from this wait when nobody is left to end it.
    pub role: Role,
}

/// The part that a sleeping thread plays in a deadlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An ordinary wait.
    Wait,
    /// Waits for the end of another thread: that thread is the better one to tell.
    Join,
    /// Takes back a lock that it must not go on without: told only if nobody else can be.
    Retake,
    /// A worker without work: telling it would help nobody.
    Idle,
    /// Waits for others to come to the same place: if one of them dies there, nobody passes.
    Meet,
}

impl Role {
    /// The role whose number is `number`, [`Role::Wait`] if there is none.
    pub fn from_number(number: u32) -> Self {
        [Self::Wait, Self::Join, Self::Retake, Self::Idle, Self::Meet]
            .into_iter()
            .find(|&role| role as u32 == number)
            .unwrap_or(Self::Wait)
    }
}

/// Which processes can end a wait for something shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enders {
    /// Not known: perhaps somebody we cannot see.
    Unknown,
    /// Those that hold the object at this offset of the arena, with this serial number: another one may lie there later.
    Holders(u64, u64),
    /// The process that the system knows by this number, by ending.
    Process(u32),
}

/// Runs what must run in the sleeping thread itself while it stays in its queue.
pub trait Interrupt {
    /// Called after a signal, and every 100 ms if [`Interrupt::ticks`]. `true` ends the wait.
    fn check(&self) -> bool;
    /// Should [`Interrupt::check`] be called now and then without a signal too?
    fn ticks(&self) -> bool {
        false
    }
    /// Asked now and then in a wait for something shared: is it certain that nobody will end it any more?
    fn is_hopeless(&self) -> bool {
        false
    }
    /// Writes `file:line` of the wait and the name of the thread for other processes to read.
    fn describe(&self, place: &mut [u8; 80], thread: &mut [u8; 32]) {
        let _ = (place, thread);
    }
    /// Tells of a deadlock that is only to be reported.
    fn report(&self, report: &hook::Report) {
        eprintln!("phalanx: {report:?}");
    }
}

/// A wait that signals do not end.
#[derive(Debug)]
pub struct Steady;

impl Interrupt for Steady {
    fn check(&self) -> bool {
        false
    }
}

/// How to wait: what for in words, for how long, and what may end it early.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// What kind of wait this is.
    pub reason: &'static Reason,
    /// The caller's own name for the thing waited for; the core hands it back in a report and never looks inside.
    pub subject: usize,
    /// Until when.
    pub deadline: Deadline,
    /// What may end it early.
    pub interrupt: &'a dyn Interrupt,
    /// Who can end it, for something shared.
    pub enders: Enders,
    /// Where, in the arena, stands in 80 bytes of text the place at which a lock was taken; 0 for none.
    pub taken: usize,
}

static PLAIN: Reason = Reason {
    name: "wait",
    role: Role::Wait,
};

impl How<'static> {
    /// Without a time limit.
    pub fn forever() -> Self {
        Self {
            reason: &PLAIN,
            subject: 0,
            deadline: Deadline::NEVER,
            interrupt: &Steady,
            enders: Enders::Unknown,
            taken: 0,
        }
    }

    /// At most for `time`.
    pub fn at_most(time: std::time::Duration) -> Self {
        Self {
            deadline: Deadline::after(time),
            ..Self::forever()
        }
    }
}

impl std::fmt::Debug for How<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "How({}, {:?})", self.reason.name, self.deadline)
    }
}

/// How a wait ended.
#[derive(Debug)]
pub enum Wakeup {
    /// Another thread woke it and handed over this number.
    Unparked(u32),
    /// There was nothing to wait for any more.
    Invalid,
    /// The deadline passed first.
    TimedOut,
    /// It was stopped.
    Stopped(Stopped),
}

/// Why a wait ended without what it waited for.
#[derive(Debug)]
pub enum Stopped {
    /// [`Interrupt::check`] said so. If `notified`, a wake-up came too and has to be passed on.
    Interrupted {
        /// A wake-up was consumed.
        notified: bool,
    },
    /// It would never have ended.
    Deadlock(Box<hook::Report>),
    /// The process of this thread, which owned the lock, has died.
    OwnerDied(u32),
    /// [`Interrupt::is_hopeless`] said so.
    Hopeless,
}

impl Stopped {
    /// Must the caller wake somebody else in its place?
    pub fn owes_a_wakeup(&self) -> bool {
        matches!(self, Self::Interrupted { notified: true })
    }
}

/// Says that the calling thread is about to touch the shared state `key`. One relaxed load unless somebody listens.
#[inline]
pub fn step(key: usize) {
    hook::step(key);
}

/// The key of the thing at `address`.
#[inline]
pub fn key_of<T>(address: &T) -> usize {
    std::ptr::from_ref(address).addr()
}

/// The word that says who can end a wait, for [`enqueue`]: an owner's thread number with [`SCOPED`] and [`PARKED`].
pub type OwnerWord = AtomicU32;
