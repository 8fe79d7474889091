//! A meeting point for a fixed number of threads.
//!
//! | phase | arrived | meaning |
//! | --- | --- | --- |
//! | Filling | 0..parties | waits for more |
//! | Acting | parties | the last one runs the action; whoever comes now waits for the next round |
//! | Broken | 0 | every wait fails until `reset` |
//!
//! `passes` and `breaks` count how the rounds so far have ended; the two together name a round.
//!
//! Between processes a member may die. In the queue: whoever buries it sets `lost` first and then wakes the others, and the
//! next who locks the state finds `lost` and breaks the round. With the state locked: the next who locks it finds that out and
//! breaks the round; a sleeper looks at each tick whether there is such a one, since perhaps nobody else comes. As the
//! last one, over the action: `actor` names it, and the others look. `lost` is cleared with the state locked and the queue
//! emptied, so it never means a member of a later round.
//!
//! A thread enters the queue while the state is locked, so a round that ends finds everybody who came. The outcome
//! travels with the wake-up, so a thread that wakes late is not confused by later rounds.

use crate::prim::{AtomicU32, AtomicUsize, Ordering};
use crate::wait::{self, Deadline, How, Interrupt, Local, Space, Stopped, Wakeup, hook};

const PASSED: u32 = 1;
const BROKEN: u32 = 2;
const RETRY: u32 = 3;
/// Another waiter has died: see `wait::shared::PEER_DIED`.
const PEER_DIED: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Filling,
    Acting,
    Broken,
}

#[derive(Debug)]
pub struct State {
    phase: Phase,
    arrived: usize,
    passes: u32,
    breaks: u32,
}

impl State {
    fn round(&self) -> u64 {
        u64::from(self.passes) << 32 | u64::from(self.breaks)
    }

    fn start_over(&mut self, phase: Phase) {
        self.phase = phase;
        self.arrived = 0;
    }
}

/// The mark of a ticket that belongs to no round yet.
const EARLY: u64 = u64::MAX;

/// The barrier.
#[derive(Debug)]
#[repr(C)]
pub struct Barrier<S: Space = Local> {
    parties: AtomicUsize,
    state: S::Guarded<State>,
    /// The key of those who came while the action of the last round was still running.
    early: u32,
    /// The last of its round, while it acts; 0: nobody. If its process dies the round is broken.
    actor: AtomicU32,
    /// A member of this round has died in the queue.
    lost: AtomicU32,
}

/// What arriving means for a thread.
#[derive(Debug)]
pub enum Arrival<S: Space = Local> {
    /// The last one of its round: run the action, then [`Barrier::pass`] or [`Barrier::abort`].
    Last,
    /// Number `index` of its round: sleep in [`Barrier::sleep`].
    Waits {
        /// The order of arrival, from 0.
        index: usize,
        /// The place in the queue.
        ticket: S::Ticket,
    },
    /// The action of the last round still runs: sleep, then arrive again.
    Early(S::Ticket),
    /// The barrier is broken.
    Broken,
}

/// The round that a thread has left without an end.
#[derive(Debug, Clone, Copy)]
pub struct Round(u64);

/// How waiting at a barrier ended.
#[derive(Debug)]
pub enum Passage {
    /// Everybody came.
    Passed,
    /// The barrier was broken, or reset.
    Broken,
    /// The deadline passed before everybody came; the barrier is broken now.
    TimedOut,
    /// Came early: arrive again.
    Retry,
    /// The wait was stopped; the caller says so and then calls `forsake` of the barrier.
    Stopped(Stopped, Round),
}

impl<S: Space> Barrier<S> {
    /// For `parties` threads, at least 1.
    pub fn new(parties: usize) -> Self {
        let state = S::guarded(State {
            phase: Phase::Filling,
            arrived: 0,
            passes: 0,
            breaks: 0,
        });
        Self {
            parties: AtomicUsize::new(parties),
            state,
            early: 0,
            actor: AtomicU32::new(0),
            lost: AtomicU32::new(0),
        }
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
        self.with(|state| {
            if state.phase == Phase::Filling {
                state.arrived
            } else {
                0
            }
        })
    }

    /// Is it broken?
    pub fn is_broken(&self) -> bool {
        self.with(|state| state.phase == Phase::Broken)
    }

    /// The calling thread arrives. An acting or filling barrier with a single party has no wait at all.
    pub fn arrive(&self, how: &How<'_>) -> Arrival<S> {
        let key = wait::key_of(&self.state);
        wait::step(key);
        self.with(|state| match state.phase {
            Phase::Broken => Arrival::Broken,
            Phase::Acting => match S::enqueue(wait::key_of(&self.early), how, None, || true) {
                Some(ticket) => Arrival::Early(S::mark(ticket, EARLY)),
                None => Arrival::Broken,
            },
            Phase::Filling if state.arrived + 1 == self.parties() => {
                self.begin_to_act(state);
                Arrival::Last
            }
            Phase::Filling => match self.queue_up(how, state.round()) {
                Some(ticket) => {
                    state.arrived += 1;
                    Arrival::Waits {
                        index: state.arrived - 1,
                        ticket,
                    }
                }
                None => Arrival::Broken,
            },
        })
    }

    /// With the state locked: enters the queue of `round`.
    fn queue_up(&self, how: &How<'_>, round: u64) -> Option<S::Ticket> {
        let ticket = S::enqueue(wait::key_of(&self.state), how, None, || true)?;
        // Killed before, it has died with the state locked.
        S::leave_word(&ticket, &self.lost);
        Some(S::mark(ticket, round))
    }

    /// Arrives if that completes the round: as [`Arrival::Last`], or not at all.
    pub fn arrive_last(&self) -> bool {
        wait::step(wait::key_of(&self.state));
        self.with(|state| {
            let last = state.phase == Phase::Filling && state.arrived + 1 == self.parties();
            if last {
                self.begin_to_act(state);
            }
            last
        })
    }

    fn begin_to_act(&self, state: &mut State) {
        self.actor.store(S::current(), Ordering::Relaxed);
        state.phase = Phase::Acting;
        state.arrived += 1;
    }

    /// Is it certain that the round is never going to end?
    fn is_bereft(&self) -> bool {
        let actor = self.actor.load(Ordering::Relaxed);
        actor != 0 && S::is_known_dead(actor)
    }

    /// Has somebody died here, of whom nobody may have been told?
    fn is_haunted(&self) -> bool {
        self.is_bereft() || self.has_lost() || S::is_abandoned(&self.state)
    }

    fn has_lost(&self) -> bool {
        S::MORTAL && self.lost.load(Ordering::Acquire) != 0
    }

    /// Sleeps until the round is over. The time limit counts until everybody has come, not until the action is done.
    pub fn sleep(&self, ticket: S::Ticket, how: &How<'_>) -> Passage {
        let round = S::mark_of(&ticket);
        let bereft = Bereft {
            inner: how.interrupt,
            barrier: self,
        };
        let how = &How {
            interrupt: &bereft,
            ..*how
        };
        let patient = How {
            deadline: Deadline::NEVER,
            ..*how
        };
        let mut wakeup = S::sleep(ticket, if round == EARLY { &patient } else { how });
        loop {
            let given_up = match wakeup {
                Wakeup::Unparked(PASSED) => return Passage::Passed,
                Wakeup::Unparked(RETRY) => return Passage::Retry,
                // Whoever comes early belongs to no round that could break.
                Wakeup::Unparked(PEER_DIED) if round == EARLY => return Passage::Retry,
                Wakeup::Unparked(PEER_DIED) => match self.outlive(round, how) {
                    Ok(passage) => return passage,
                    Err(ticket) => {
                        wakeup = S::sleep(ticket, how);
                        continue;
                    }
                },
                Wakeup::Stopped(Stopped::Hopeless) if !bereft.inner.is_hopeless() => {
                    self.finish(BROKEN, |state| {
                        let bereft = self.is_bereft();
                        if bereft {
                            state.start_over(Phase::Broken);
                            state.breaks = state.breaks.wrapping_add(1);
                        }
                        bereft
                    });
                    return match self.give_up(round, None) {
                        _ if round == EARLY => Passage::Retry,
                        Ok(Passage::Passed) => Passage::Passed,
                        _ => Passage::Broken,
                    };
                }
                Wakeup::Unparked(_) | Wakeup::Invalid => return Passage::Broken,
                Wakeup::TimedOut => self.give_up(round, Some(&patient)),
                Wakeup::Stopped(stopped) => return Passage::Stopped(stopped, Round(round)),
            };
            match given_up {
                Ok(passage) => return passage,
                Err(ticket) => wakeup = S::sleep(ticket, &patient),
            }
        }
    }

    /// Somebody has died in the queue. Mostly of this round, which is broken then by `lost`; but an undertaker that is slow may
    /// come too late for that round and wake those of the next: they queue up again.
    fn outlive(&self, round: u64, how: &How<'_>) -> Result<Passage, S::Ticket> {
        self.with(|state| {
            if state.round() == round {
                return self.queue_up(how, round).map_or(Ok(Passage::Broken), Err);
            }
            Ok(if state.breaks == round as u32 {
                Passage::Passed
            } else {
                Passage::Broken
            })
        })
    }

    /// The second half of [`Passage::Stopped`]: breaks the round that the thread has left, unless it is over already. In
    /// between the others still sleep, so a report can show them.
    pub fn forsake(&self, round: Round) {
        let _ = self.give_up(round.0, None);
    }

    /// Breaks `round` for all, unless it is over already: a thread that gives up late must not break the next one.
    /// While the action runs there is nothing to give up; the ticket to wait for its end with comes back if `patient`.
    fn give_up(&self, round: u64, patient: Option<&How<'_>>) -> Result<Passage, S::Ticket> {
        let (result, batches) = self.with(|state| {
            let broken_before = state.breaks != round as u32;
            if state.round() != round {
                // Passed, as far as can be told: it is over and no round has broken since.
                return (
                    Ok(if broken_before {
                        Passage::Broken
                    } else {
                        Passage::Passed
                    }),
                    None,
                );
            }
            if let Some(patient) = patient.filter(|_| state.phase == Phase::Acting) {
                let ticket = self.queue_up(patient, round);
                return (ticket.map_or(Ok(Passage::Broken), Err), None);
            }
            state.start_over(Phase::Broken);
            state.breaks = state.breaks.wrapping_add(1);
            (Ok(Passage::TimedOut), Some(self.take()))
        });
        wake::<S>(batches, BROKEN);
        result
    }

    /// Ends the round of [`Arrival::Last`]: everybody goes on. `false`: it was broken or reset meanwhile.
    pub fn pass(&self) -> bool {
        let mut passed = false;
        self.finish(PASSED, |state| {
            passed = state.phase == Phase::Acting;
            if passed {
                state.start_over(Phase::Filling);
                state.passes = state.passes.wrapping_add(1);
            }
            passed
        });
        passed
    }

    /// Breaks the barrier: everybody who waits, now or later, fails.
    pub fn abort(&self) {
        self.finish(BROKEN, |state| {
            state.start_over(Phase::Broken);
            state.breaks = state.breaks.wrapping_add(1);
            true
        });
    }

    /// Starts over; everybody who waits fails.
    pub fn reset(&self) {
        self.finish(BROKEN, |state| {
            state.start_over(Phase::Filling);
            state.breaks = state.breaks.wrapping_add(1);
            true
        });
    }

    fn finish(&self, message: u32, change: impl FnOnce(&mut State) -> bool) {
        wait::step(wait::key_of(&self.state));
        let batches = self.with(|state| change(state).then(|| self.take()));
        wake::<S>(batches, message);
    }

    /// Runs `f` on the state. If somebody died in the middle of changing it, or in the queue, the barrier is broken first.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, batches) = S::with(&self.state, |state, whole| {
            let lost = self.has_lost() && state.phase != Phase::Broken;
            let batches = (!whole || lost).then(|| {
                state.start_over(Phase::Broken);
                state.breaks = state.breaks.wrapping_add(1);
                self.take()
            });
            S::point("barrier");
            let result = f(state);
            if state.phase != Phase::Acting {
                self.actor.store(0, Ordering::Relaxed);
            }
            (result, batches)
        });
        wake::<S>(batches, BROKEN);
        result
    }

    /// Empties both queues, with the state locked, so that nobody of the next round is woken for this one.
    fn take(&self) -> (S::Batch, S::Batch) {
        let round = S::take(wait::key_of(&self.state), usize::MAX, |_, _| {});
        if S::MORTAL {
            // Whoever dies from now on was taken out: nobody says that he is lost.
            self.lost.store(0, Ordering::Relaxed);
        }
        (round, S::take(wait::key_of(&self.early), usize::MAX, |_, _| {}))
    }
}

struct Bereft<'a, S: Space> {
    inner: &'a dyn Interrupt,
    barrier: &'a Barrier<S>,
}

impl<S: Space> Interrupt for Bereft<'_, S> {
    fn check(&self) -> bool {
        self.inner.check()
    }
    fn ticks(&self) -> bool {
        self.inner.ticks()
    }
    fn is_hopeless(&self) -> bool {
        self.inner.is_hopeless() || self.barrier.is_haunted()
    }
    fn describe(&self, place: &mut [u8; 80], thread: &mut [u8; 32]) {
        self.inner.describe(place, thread);
    }
    fn report(&self, report: &hook::Report) {
        self.inner.report(report);
    }
}

fn wake<S: Space>(batches: Option<(S::Batch, S::Batch)>, message: u32) {
    if let Some((round, early)) = batches {
        S::wake(round, message);
        S::wake(early, if message == PASSED { RETRY } else { message });
    }
}
