//! Random programs against plain models: the queue against a `VecDeque`, the wait graph against a naive search.
#![cfg(not(loom))]

use phalanx::queue::{GetError, Order, PutError, Queue};
use phalanx::wait::hook::Cause;
use phalanx::wait::{Facts, Owner, Reason, Role, Sleeper};
use phalanx::watch::graph;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy)]
enum Call {
    Put,
    Get,
    Done,
    SetBound(usize),
    Close { drain: bool },
    TakeAll,
    MoveOut,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        30 => Just(Call::Put),
        25 => Just(Call::Get),
        15 => Just(Call::Done),
        3 => (0..4_usize).prop_map(Call::SetBound),
        1 => any::<bool>().prop_map(|drain| Call::Close { drain }),
        1 => Just(Call::TakeAll),
        1 => Just(Call::MoveOut),
    ];
    prop::collection::vec(call, 0..120)
}

/// What the documentation says, in the plainest way.
#[derive(Default)]
struct Plain {
    items: VecDeque<u32>,
    bound: usize,
    unfinished: usize,
    closed: bool,
    moved: bool,
}

impl Plain {
    fn put(&mut self, item: u32) -> Result<(), PutError<u32>> {
        if self.moved {
            return Err(PutError::Moved(item));
        }
        if self.closed {
            return Err(PutError::Closed(item));
        }
        if self.bound > 0 && self.items.len() >= self.bound {
            return Err(PutError::Full(item));
        }
        self.items.push_back(item);
        self.unfinished += 1;
        Ok(())
    }

    fn get(&mut self, order: Order) -> Result<u32, GetError> {
        let item = if order == Order::Fifo {
            self.items.pop_front()
        } else {
            self.items.pop_back()
        };
        item.ok_or(if self.moved {
            GetError::Moved
        } else if self.closed {
            GetError::Closed
        } else {
            GetError::Empty
        })
    }
}

proptest! {
    #[test]
    fn a_queue_does_what_a_deque_does(fifo: bool, bound in 0..4_usize, calls in calls()) {
        let order = if fifo { Order::Fifo } else { Order::Lifo };
        let queue = Queue::new(order, bound);
        let mut plain = Plain { bound, ..Plain::default() };
        for (number, call) in (0..).zip(calls) {
            match call {
                Call::Put => prop_assert_eq!(queue.try_put(number), plain.put(number)),
                Call::Get => prop_assert_eq!(queue.try_get(), plain.get(order)),
                Call::Done => {
                    prop_assert_eq!(queue.task_done().is_ok(), plain.unfinished > 0);
                    plain.unfinished = plain.unfinished.saturating_sub(1);
                }
                Call::SetBound(bound) => {
                    queue.set_bound(bound);
                    plain.bound = bound;
                }
                Call::Close { drain } => {
                    let expected = if drain { std::mem::take(&mut plain.items) } else { VecDeque::new() };
                    plain.unfinished = plain.unfinished.saturating_sub(expected.len());
                    plain.closed = true;
                    prop_assert_eq!(queue.close(drain), expected);
                }
                Call::TakeAll => prop_assert_eq!(queue.take_all(), std::mem::take(&mut plain.items)),
                Call::MoveOut => {
                    let moved = queue.move_out();
                    prop_assert_eq!(moved.is_some(), !plain.moved);
                    if let Some((items, unfinished, closed)) = moved {
                        prop_assert_eq!(items, std::mem::take(&mut plain.items));
                        prop_assert_eq!((unfinished, closed), (plain.unfinished, plain.closed));
                    }
                    plain.moved = true;
                }
            }
            prop_assert_eq!(queue.len(), plain.items.len());
            prop_assert_eq!(queue.unfinished(), plain.unfinished);
            prop_assert_eq!((queue.is_closed(), queue.is_moved()), (plain.closed, plain.moved));
        }
    }
}

static REASONS: [Reason; 3] = [
    Reason {
        name: "wait",
        role: Role::Wait,
    },
    Reason {
        name: "join",
        role: Role::Join,
    },
    Reason {
        name: "idle",
        role: Role::Idle,
    },
];

/// A thread: awake, or asleep with a role, a time limit, and an owner that may be gone and may be bound.
type Sleep = Option<(usize, bool, Option<(u32, bool)>)>;

fn threads() -> impl Strategy<Value = Vec<Sleep>> {
    let owner = prop::option::weighted(0.8, (1..8_u32, prop::bool::weighted(0.8)));
    let sleep = (0..3_usize, prop::bool::weighted(0.15), owner);
    prop::collection::vec(prop::option::weighted(0.9, sleep), 0..8)
}

/// Thread `n` of a snapshot has the number `n + 1`.
fn snapshot(threads: &[Sleep]) -> Vec<Facts> {
    let facts = threads.iter().zip(1..).map(|(sleep, thread)| Facts {
        thread,
        ident: 0,
        os_id: thread,
        asleep: sleep.map(|(role, timed, owner)| Sleeper {
            thread,
            ident: 0,
            os_id: thread,
            daemon: thread % 2 == 0,
            reason: &REASONS[role],
            subject: 0,
            key: 0,
            owner: owner.map(|(thread, scoped)| Owner { thread, scoped }),
            timed,
            seq: 1,
        }),
    });
    facts.collect()
}

/// The number of the thread that alone can end the wait of this one.
fn waits_for(sleep: &Sleep) -> Option<u32> {
    match sleep {
        Some((_, false, Some((owner, true)))) => Some(*owner),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_graph_finds_what_a_naive_search_finds(threads in threads()) {
        let count = threads.len();
        let edge = |from: usize| waits_for(&threads[from]).map(|owner| owner as usize - 1);
        let orphans: Vec<_> = (0..count).filter(|&at| edge(at).is_some_and(|owner| owner >= count)).collect();
        // Whoever still walks after as many steps as there are threads walks in a circle.
        let circles = (0..count).any(|start| (0..=count).try_fold(start, |at, _| edge(at).filter(|&to| to < count)).is_some());
        let sleeping = threads.iter().all(|sleep| matches!(sleep, Some((_, false, _))));
        let worth_telling = threads.iter().any(|sleep| matches!(sleep, Some((0 | 1, ..))));

        let finding = graph::find(&snapshot(&threads));
        let expected = if !orphans.is_empty() {
            Some(Cause::Orphan)
        } else if circles {
            Some(Cause::Cycle)
        } else if count > 0 && sleeping && worth_telling {
            Some(Cause::Asleep)
        } else {
            None
        };
        prop_assert_eq!(finding.as_ref().map(|finding| finding.cause), expected);

        let Some(finding) = finding else { return Ok(()) };
        prop_assert!(finding.threads.contains(&finding.victim), "the victim is involved");
        let role = |at: usize| threads[at].map(|(role, ..)| role);
        match finding.cause {
            Cause::Orphan => prop_assert!(orphans.contains(&finding.victim)),
            Cause::Cycle => {
                let members = &finding.threads;
                for (at, &member) in members.iter().enumerate() {
                    prop_assert_eq!(edge(member), Some(members[(at + 1) % members.len()]), "each waits for the next");
                    prop_assert_eq!(members.iter().filter(|&&other| other == member).count(), 1);
                }
                // A wait is told rather than a join, a join rather than an idle worker.
                prop_assert_eq!(role(finding.victim), members.iter().map(|&member| role(member)).min().unwrap());
            }
            Cause::Asleep => {
                prop_assert_eq!(finding.threads.len(), count);
                prop_assert!(role(finding.victim) != Some(2), "telling an idle worker helps nobody");
            }
        }
    }
}
