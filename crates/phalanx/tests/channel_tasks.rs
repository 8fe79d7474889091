//! The tasks of a ring that are not done: who waits for their end, and what becomes of those of the dead.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(clippy::disallowed_methods, reason = "threads that the core does not start")]

mod processes;

use phalanx::wait::{self, How, Stopped};
use processes::items::{NO_LIMITS, Shape, get_and, make, put};
use processes::{Child, Gate, alone, fork, patiently, until};
use std::thread;
use std::time::Duration;

fn at_once() -> How<'static> {
    How::at_most(Duration::ZERO)
}

#[test]
fn a_join_ends_with_the_last_task() {
    alone("a_join_ends_with_the_last_task", || {
        let (_handle, ring) = make(NO_LIMITS);
        let queued = || ring.len() as u64;
        assert!(ring.hands().join(&at_once(), queued).unwrap());
        assert!(ring.hands().done(queued).is_err(), "nothing was put");
        for round in 0..20 {
            for number in 0..50 {
                put(ring, number, Shape::of(number), &patiently()).unwrap();
            }
            assert!(!ring.hands().join(&at_once(), queued).unwrap());
            let workers: Vec<Child> = (0..2)
                .map(|_| {
                    fork(|| {
                        while let Ok(number) = get_and(ring, &at_once(), true) {
                            // Each task makes another one, for a while.
                            if number < 40 {
                                put(ring, number + 25, Shape::of(number), &patiently()).unwrap();
                            }
                            ring.hands().done(queued).unwrap();
                        }
                    })
                })
                .collect();
            assert!(ring.hands().join(&patiently(), queued).unwrap(), "round {round}");
            assert!(ring.is_empty(), "all is done when a join ends");
            assert_eq!(ring.unfinished(), 0);
            workers.into_iter().for_each(Child::join);
            assert!(ring.hands().done(queued).is_err());
        }
    });
}

/// A join does not end between "no longer queued" and "not yet in hands", nor before a task that another one has put.
#[test]
fn a_join_does_not_end_early() {
    alone("a_join_does_not_end_early", || {
        let (_handle, ring) = make(NO_LIMITS);
        let queued = || ring.len() as u64;
        let (stop, begun) = (Gate::new(), Gate::new());
        // One task at any time: each puts the next before it is done.
        put(ring, 1, Shape::Small(8), &patiently()).unwrap();
        let worker = fork(|| {
            let mut number = get_and(ring, &patiently(), true).unwrap();
            begun.open();
            while !stop.is_open() {
                put(ring, number + 1, Shape::Small(8), &patiently()).unwrap();
                ring.hands().done(queued).unwrap();
                number = get_and(ring, &patiently(), true).unwrap();
            }
            ring.hands().done(queued).unwrap();
        });
        begun.pass();
        for _ in 0..300_000 {
            assert_ne!(ring.unfinished(), 0);
        }
        for _ in 0..10_000 {
            assert!(!ring.hands().join(&at_once(), queued).unwrap());
        }
        stop.open();
        assert!(ring.hands().join(&patiently(), queued).unwrap());
        worker.join();
    });
}

#[test]
fn a_join_learns_of_tasks_that_died() {
    alone("a_join_learns_of_tasks_that_died", || {
        let (_handle, ring) = make(NO_LIMITS);
        let queued = || ring.len() as u64;
        for number in 0..5 {
            put(ring, number, Shape::Small(8), &patiently()).unwrap();
        }
        let taken = Gate::new();
        let worker = fork(|| {
            for _ in 0..3 {
                get_and(ring, &patiently(), true).unwrap();
            }
            ring.hands().done(queued).unwrap();
            taken.open();
            loop {
                thread::yield_now();
            }
        });
        taken.pass();
        let number = worker.number;
        let ended = thread::scope(|scope| {
            scope.spawn(|| {
                until("the join sleeps", || !wait::shared::sleepers().is_empty());
                worker.kill();
            });
            ring.hands().join(&patiently(), queued)
        });
        assert!(matches!(ended, Err(Stopped::Hopeless)), "{ended:?}");
        worker.perish();
        assert_eq!(ring.hands().of_the_dead(), [(number, 2)]);
        assert_eq!(ring.hands().forget_the_dead(), 2);
        assert_eq!(ring.hands().of_the_dead(), []);
        assert_eq!(ring.unfinished(), 2);
        for _ in 0..2 {
            get_and(ring, &patiently(), true).unwrap();
            ring.hands().done(queued).unwrap();
        }
        assert!(ring.hands().join(&at_once(), queued).unwrap());
    });
}
