//! Processes that are killed at each named point of locks, permits and waits: the others go on, and what the dead had is
//! recovered.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]

mod processes;

use phalanx::shm::point;
use phalanx::sync::shared::{Event, Mutex, Permits, RMutex, ROWS, Semaphore};
use phalanx::sync::{Hold, NotLocked};
use processes::{
    Child, Ending, Placed, alone, alone_for, fork, killed_at, lock_or_recover, patiently, until, words,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn an_owner_that_is_killed() {
    alone_for("an_owner_that_is_killed", Duration::from_secs(120), || {
        for point in ["acquire", "release"] {
            for nth in [1, 2, 5] {
                let mutex = Placed::new(Mutex::new());
                let rmutex = Placed::new(RMutex::new());
                assert!(killed_at(point, nth, || {
                    loop {
                        assert!(mutex.lock(Hold::Scoped, &patiently()).unwrap());
                        mutex.unlock().unwrap();
                    }
                }));
                assert!(killed_at(point, nth, || {
                    loop {
                        assert!(rmutex.lock(&patiently()).unwrap());
                        assert!(rmutex.lock(&patiently()).unwrap());
                        rmutex.unlock().unwrap();
                        rmutex.unlock().unwrap();
                    }
                }));
                assert!(mutex.is_locked());
                let lock = || mutex.lock(Hold::Plain, &patiently());
                assert_eq!(lock_or_recover(lock, || mutex.recover()), 1, "{point} {nth}");
                assert_eq!(
                    lock_or_recover(|| rmutex.lock(&patiently()), || rmutex.recover()),
                    1
                );
                assert_eq!(rmutex.count(), 1);
                assert_eq!((mutex.unlock(), mutex.unlock()), (Ok(()), Err(NotLocked)));
            }
        }
    });
}

/// Killed in the middle of taking or giving: what it had counts as had, what it gave back as given, and nothing is lost.
#[test]
fn a_holder_of_permits_that_is_killed() {
    alone_for(
        "a_holder_of_permits_that_is_killed",
        Duration::from_secs(120),
        || {
            for (point, held) in [("acquire", 1), ("release", 0), ("offer", 0)] {
                for nth in 1..=6 {
                    let permits = Placed::new(Permits::new(2, 2).unwrap());
                    assert!(killed_at(point, nth, || {
                        loop {
                            assert!(permits.acquire(&patiently()).unwrap().is_some());
                            permits.release().unwrap();
                        }
                    }));
                    assert_eq!(permits.value(), 2 - held, "{point} {nth}");
                    assert_eq!(permits.recover(), held, "{point} {nth}");
                    assert_eq!(permits.value(), 2, "{point} {nth}");
                    (0..2).for_each(|_| assert!(permits.try_acquire().is_some()));
                    assert!(permits.try_acquire().is_none());
                    (0..2).for_each(|_| permits.release().unwrap());
                    assert!(permits.release().is_err());
                }
            }
        },
    );
}

/// Somebody sleeps, the giver dies over the giving, and nobody else ever comes by.
#[test]
fn a_giver_of_permits_that_is_killed() {
    alone_for(
        "a_giver_of_permits_that_is_killed",
        Duration::from_secs(120),
        || {
            for (point, nth) in [
                ("release", 1),
                ("release", 2),
                ("offer", 1),
                ("take", 1),
                ("notify", 1),
            ] {
                for signal in [false, true] {
                    let permits = Placed::new(Permits::new(u64::from(!signal), 1).unwrap());
                    let gate = processes::Gate::new();
                    let mut giver = fork(|| {
                        assert!(signal || permits.try_acquire().is_some());
                        gate.open();
                        until("they sleep", || phalanx::wait::shared::sleepers().len() == 1);
                        point::arm(point, nth);
                        permits.release().unwrap();
                    });
                    gate.pass();
                    let waiter = fork(|| assert!(permits.acquire(&patiently()).unwrap().is_some()));
                    assert_eq!(giver.ending(), Ending::Killed(libc::SIGKILL));
                    if signal && (point, nth) == ("release", 1) {
                        // It had not given: it was about to say so for the first time.
                        processes::buried(giver.number);
                        assert_eq!((permits.value(), permits.dead_holder()), (0, None));
                        permits.release().unwrap();
                    }
                    waiter.join();
                    assert_eq!(permits.value(), 0, "{point} {nth} {signal}");
                }
            }
        },
    );
}

/// Whoever gives back what the dead had dies over it, and the next goes on.
#[test]
fn a_recoverer_of_permits_that_is_killed() {
    alone("a_recoverer_of_permits_that_is_killed", || {
        for nth in [1, 2] {
            let permits = Placed::new(Permits::new(5, 5).unwrap());
            for n in 1..=2 {
                let holder = fork(|| (0..n).for_each(|_| assert!(permits.try_acquire().is_some())));
                holder.join();
            }
            assert_eq!(permits.value(), 2);
            assert!(killed_at("recover", nth, || assert!(permits.recover() > 0)));
            let left = if nth == 1 { 2 } else { 0 };
            assert_eq!(permits.value(), 5 - left);
            assert_eq!((permits.recover(), permits.recover()), (left, 0));
            assert_eq!(permits.value(), 5);
        }
    });
}

/// More processes hold permits than there are rows: all are counted, those with a row by name.
#[test]
fn more_holders_than_rows() {
    alone("more_holders_than_rows", || {
        let many = ROWS as u64 + 3;
        let permits = Placed::new(Permits::new(many + 1, many + 1).unwrap());
        let (gate, named) = (processes::Gate::new(), words(2));
        // They live and hold nothing any more: their rows are free.
        let idle: Vec<Child> = (0..many)
            .map(|_| {
                fork(|| {
                    assert!(permits.try_acquire().is_some());
                    permits.release().unwrap();
                    named[1].fetch_add(1, Ordering::Relaxed);
                    gate.pass();
                })
            })
            .collect();
        until("they have been there", || {
            named[1].load(Ordering::Relaxed) == many
        });
        let holders: Vec<Child> = (0..many)
            .map(|_| {
                fork(|| {
                    let row = permits.try_acquire().unwrap();
                    named[0].fetch_add(u64::from(row.index().is_some()), Ordering::Relaxed);
                    gate.pass();
                    permits.release().unwrap();
                })
            })
            .collect();
        until("they hold", || permits.value() == 1);
        gate.open();
        holders.into_iter().chain(idle).for_each(Child::join);
        assert_eq!(named[0].load(Ordering::Relaxed), ROWS as u64);
        assert_eq!(permits.value(), many + 1);
        // It has not become a signal.
        fork(|| assert!(permits.try_acquire().is_some())).join();
        assert_eq!((permits.recover(), permits.value()), (1, many + 1));
    });
}

#[test]
fn a_waiter_that_is_killed() {
    alone_for("a_waiter_that_is_killed", Duration::from_secs(120), || {
        let (mutex, semaphore, event) = (
            Placed::new(Mutex::new()),
            Placed::new(Semaphore::new(0).unwrap()),
            Placed::new(Event::new()),
        );
        for _ in 0..3 {
            assert!(mutex.lock(Hold::Plain, &patiently()).unwrap());
            for deed in 0..3 {
                assert!(killed_at("queued", 1, || {
                    let _ = match deed {
                        0 => mutex.lock(Hold::Plain, &patiently()),
                        1 => semaphore.acquire(&patiently()),
                        _ => event.wait(&patiently()),
                    };
                }));
            }
            let waiters = [
                fork(|| assert!(mutex.lock(Hold::Plain, &patiently()).unwrap())),
                fork(|| assert!(semaphore.acquire(&patiently()).unwrap())),
                fork(|| assert!(event.wait(&patiently()).unwrap())),
            ];
            until("they sleep", || phalanx::wait::shared::sleepers().len() == 3);
            mutex.unlock().unwrap();
            semaphore.release(1).unwrap();
            event.set();
            waiters.into_iter().for_each(Child::join);
            event.clear();
            // Its last owner has gone without giving it back.
            assert_eq!(
                lock_or_recover(|| mutex.lock(Hold::Plain, &patiently()), || mutex.recover()),
                1
            );
            mutex.unlock().unwrap();
        }
    });
}
