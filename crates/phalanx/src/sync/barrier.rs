//! A meeting point for a fixed number of threads.
//!
//! | phase | arrived | meaning |
//! | --- | --- | --- |
//! | Filling | 0..parties | waits for more |
//! | Acting | parties | the last one runs the action; whoever comes now waits for the next round |
//! | Broken | 0 | every wait fails until `reset` |
//!
//! A thread enters the queue while the state is locked, so a round that ends finds everybody who came. The outcome
//! travels with the wake-up, so a thread that wakes late is not confused by later rounds.

use crate::prim::{AtomicUsize, Guarded, Ordering};
use crate::wait::{self, How, Stopped, Ticket, Wakeup};

const PASSED: u32 = 1;
const BROKEN: u32 = 2;
const RETRY: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Filling,
    Acting,
    Broken,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    arrived: usize,
}

/// The barrier.
#[derive(Debug)]
pub struct Barrier {
    parties: AtomicUsize,
    state: Guarded<State>,
    /// The key of those who came while the action of the last round was still running.
    early: u32,
}

/// What arriving means for a thread.
#[derive(Debug)]
pub enum Arrival {
    /// The last one of its round: run the action, then [`Barrier::pass`] or [`Barrier::abort`].
    Last,
    /// Number `index` of its round: sleep in [`Barrier::sleep`].
    Waits {
        /// The order of arrival, from 0.
        index: usize,
        /// The place in the queue.
        ticket: Ticket,
    },
    /// The action of the last round still runs: sleep, then arrive again.
    Early(Ticket),
    /// The barrier is broken.
    Broken,
}

/// How waiting at a barrier ended.
#[derive(Debug)]
pub enum Passage {
    /// Everybody came.
    Passed,
    /// The barrier was broken, or reset.
    Broken,
    /// The deadline passed; the caller aborts the barrier.
    TimedOut,
    /// Came early: arrive again.
    Retry,
    /// The wait was stopped; the caller aborts the barrier.
    Stopped(Stopped),
}

impl Barrier {
    /// For `parties` threads, at least 1.
    pub fn new(parties: usize) -> Self {
        let state = Guarded::new(State { phase: Phase::Filling, arrived: 0 });
        Self { parties: AtomicUsize::new(parties), state, early: 0 }
    }

    /// How many threads meet.
    pub fn parties(&self) -> usize {
        self.parties.load(Ordering::Relaxed)
    }

    /// Changes how many threads meet, for a holder that is initialised late. Nobody may use it yet.
    pub fn init(&self, parties: usize) {
        self.parties.store(parties, Ordering::Relaxed);
    }

    /// How many of them wait at this moment.
    pub fn waiting(&self) -> usize {
        self.state.with(|state| if state.phase == Phase::Filling { state.arrived } else { 0 })
    }

    /// Is it broken?
    pub fn is_broken(&self) -> bool {
        self.state.with(|state| state.phase == Phase::Broken)
    }

    /// The calling thread arrives. An acting or filling barrier with a single party has no wait at all.
    pub fn arrive(&self, how: &How<'_>) -> Arrival {
        let key = wait::key_of(&self.state);
        wait::step(key);
        self.state.with(|state| match state.phase {
            Phase::Broken => Arrival::Broken,
            Phase::Acting => match wait::enqueue(wait::key_of(&self.early), how, None, || true) {
                Some(ticket) => Arrival::Early(ticket),
                None => Arrival::Broken,
            },
            Phase::Filling if state.arrived + 1 == self.parties() => {
                state.phase = Phase::Acting;
                state.arrived += 1;
                Arrival::Last
            }
            Phase::Filling => match wait::enqueue(key, how, None, || true) {
                Some(ticket) => {
                    state.arrived += 1;
                    Arrival::Waits { index: state.arrived - 1, ticket }
                }
                None => Arrival::Broken,
            },
        })
    }

    /// Arrives if that completes the round: as [`Arrival::Last`], or not at all.
    pub fn arrive_last(&self) -> bool {
        wait::step(wait::key_of(&self.state));
        self.state.with(|state| {
            let last = state.phase == Phase::Filling && state.arrived + 1 == self.parties();
            if last {
                state.phase = Phase::Acting;
                state.arrived += 1;
            }
            last
        })
    }

    /// Sleeps until the round is over.
    pub fn sleep(&self, ticket: Ticket, how: &How<'_>) -> Passage {
        match ticket.sleep(how) {
            Wakeup::Unparked(PASSED) => Passage::Passed,
            Wakeup::Unparked(RETRY) => Passage::Retry,
            Wakeup::Unparked(_) | Wakeup::Invalid => Passage::Broken,
            Wakeup::TimedOut => Passage::TimedOut,
            Wakeup::Stopped(stopped) => Passage::Stopped(stopped),
        }
    }

    /// Ends the round of [`Arrival::Last`]: everybody goes on. `false`: it was broken or reset meanwhile.
    pub fn pass(&self) -> bool {
        let mut passed = false;
        self.finish(PASSED, |state| {
            passed = state.phase == Phase::Acting;
            if passed {
                state.phase = Phase::Filling;
                state.arrived = 0;
            }
            passed
        });
        passed
    }

    /// Breaks the barrier: everybody who waits, now or later, fails.
    pub fn abort(&self) {
        self.finish(BROKEN, |state| {
            state.phase = Phase::Broken;
            state.arrived = 0;
            true
        });
    }

    /// Starts over; everybody who waits fails.
    pub fn reset(&self) {
        self.finish(BROKEN, |state| {
            state.phase = Phase::Filling;
            state.arrived = 0;
            true
        });
    }

    fn finish(&self, message: u32, change: impl FnOnce(&mut State) -> bool) {
        wait::step(wait::key_of(&self.state));
        // Both queues are emptied with the state locked, so nobody of the next round is woken for this one.
        let batches = self.state.with(|state| {
            change(state).then(|| {
                let round = wait::take(wait::key_of(&self.state), usize::MAX, |_, _| {});
                (round, wait::take(wait::key_of(&self.early), usize::MAX, |_, _| {}))
            })
        });
        if let Some((round, early)) = batches {
            round.wake(message);
            early.wake(if message == PASSED { RETRY } else { message });
        }
    }
}

