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

#[cfg(all(target_os = "linux", not(phalanx_sys = "portable")))]
mod processes {
    use super::*;
    use phalanx::shm::tree;
    use phalanx::wait::{Enders, shared};
    use phalanx::watch::tree::{Picture, find};

    /// Processes 1 to 5; who is on its way counts as number 0.
    const PROCESSES: u32 = 5;

    /// What one sleeper of a process waits for.
    #[derive(Debug, Clone)]
    enum For {
        Unknown,
        /// An object that these hold.
        Held(Vec<u32>),
        /// The end of a process, which may not be known.
        End(u32),
        /// A lock of sleeper 1 of a process, held by these, and whether that thread alone may give it back.
        Lock(u32, bool, Vec<u32>),
    }

    /// For each process: is it quiet, and the sleeps of its threads with their roles.
    type Tree = Vec<(bool, Vec<(Role, For)>)>;

    fn trees() -> impl Strategy<Value = Tree> {
        let holders = || prop::collection::vec(prop_oneof![1 => Just(0), 9 => 1..=PROCESSES], 0..3);
        let waited = prop_oneof![
            1 => Just(For::Unknown),
            6 => holders().prop_map(For::Held),
            2 => (1..=PROCESSES + 1).prop_map(For::End),
            3 => (1..=PROCESSES, any::<bool>(), holders()).prop_map(|(owner, scoped, held)| For::Lock(owner, scoped, held)),
        ];
        let role = prop_oneof![4 => Just(Role::Wait), 1 => Just(Role::Join), 1 => Just(Role::Idle)];
        let sleeps = prop::collection::vec((role, waited), 0..3);
        prop::collection::vec((prop::bool::weighted(0.85), sleeps), PROCESSES as usize)
    }

    fn picture(tree: &Tree) -> Picture {
        let mut picture = Picture {
            quiet: Default::default(),
            sleepers: Vec::new(),
            holders: Default::default(),
            pids: (1..=PROCESSES).map(|number| (1000 + number, number)).collect(),
        };
        for (number, (quiet, sleeps)) in (1..).zip(tree) {
            if *quiet {
                picture.quiet.insert(number, 7);
            }
            for (thread, (role, waited)) in (1..).zip(sleeps) {
                let key = u64::from(number * 100 + thread);
                let (enders, owner, held) = match waited {
                    For::Unknown => (Enders::Unknown, None, None),
                    For::Held(held) => (Enders::Holders(key, 1), None, Some(held)),
                    For::End(of) => (Enders::Process(1000 + of), None, None),
                    For::Lock(of, scoped, held) => {
                        let owner = tree::thread_of(*of) + 1;
                        (Enders::Holders(key, 1), Some((owner, *scoped)), Some(held))
                    }
                };
                picture.holders.extend(held.map(|held| ((key, 1), held.clone())));
                picture.sleepers.push(shared::Sleeper {
                    thread: tree::thread_of(number) + thread,
                    name: String::new(),
                    kind: String::new(),
                    role: *role,
                    place: String::new(),
                    key,
                    enders,
                    owner,
                    timed: false,
                    seq: 1,
                    os_id: 0,
                    taken: String::new(),
                    at: 0,
                });
            }
        }
        picture
    }

    /// Is `set` a set of quiet processes in which every wait can be ended only by one of them, and by at least one?
    fn is_stuck(tree: &Tree, set: u32) -> bool {
        let inside = |number: u32| number >= 1 && set >> number & 1 != 0;
        (1..)
            .zip(tree)
            .filter(|(number, _)| inside(*number))
            .all(|(_, (quiet, sleeps))| {
                let caught = |waited: &For| match waited {
                    For::Unknown => false,
                    For::End(of) => *of <= PROCESSES && inside(*of),
                    For::Lock(of, true, _) => inside(*of),
                    For::Held(held) | For::Lock(_, false, held) => {
                        !held.is_empty() && held.iter().all(|&of| inside(of))
                    }
                };
                *quiet && !sleeps.is_empty() && sleeps.iter().all(|(_, waited)| caught(waited))
            })
    }

    /// Follows the locks that only their owners may give back: does the way lead round?
    fn goes_round(tree: &Tree) -> bool {
        let next =
            |(number, thread): (u32, u32)| match tree[number as usize - 1].1.get(thread as usize - 1)?.1 {
                For::Lock(of, true, _) if !tree[of as usize - 1].1.is_empty() => Some((of, 1)),
                _ => None,
            };
        (1..=PROCESSES).any(|number| (0..10).try_fold((number, 1), |at, _| next(at)).is_some())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_verdict_is_what_a_naive_search_finds(tree in trees()) {
            // All sets of processes; the union of stuck ones is stuck.
            let stuck = (0..2_u32 << PROCESSES).filter(|set| set & 1 == 0 && is_stuck(&tree, *set)).fold(0, |all, set| all | set);
            let worth = (1..).zip(&tree).any(|(number, (_, sleeps))| {
                stuck >> number & 1 != 0 && sleeps.iter().any(|(role, _)| *role != Role::Idle)
            });
            let expected = if goes_round(&tree) {
                Some(Cause::Cycle)
            } else {
                worth.then_some(Cause::Asleep)
            };
            let picture = picture(&tree);
            let found = find(&picture);
            prop_assert_eq!(found.as_ref().map(|found| found.cause), expected);
            let Some(found) = found else { return Ok(()) };
            prop_assert!(found.members.contains(&found.victim));
            if found.cause == Cause::Asleep {
                let members = found.members.iter().map(|&at| tree::number_of(picture.sleepers[at].thread));
                prop_assert_eq!(members.fold(0, |all, number| all | 1 << number), stuck);
            }
        }
    }

    #[test]
    fn who_waits_at_an_object_that_nobody_holds_is_not_stuck() {
        let held = |by: &[u32]| vec![(Role::Wait, For::Held(by.to_vec()))];
        let with = |by: &[u32]| vec![(true, held(&[2])), (true, held(by))];
        assert!(find(&picture(&with(&[1]))).is_some(), "each waits for the other");
        assert_eq!(
            find(&picture(&with(&[]))),
            None,
            "the second learns of the death, and may wake the first then"
        );
        assert_eq!(find(&picture(&vec![(true, held(&[]))])), None);
    }
}
