//! The primitives between processes: what they promise while all live, and what the others see when one dies. The
//! barrier: `shared_barrier.rs`.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(clippy::disallowed_methods, reason = "threads that the core does not start")]

mod processes;

use phalanx::shm::{point, tree};
use phalanx::sync::Hold;
use phalanx::sync::shared::{Condvar, Event, Mutex, Permits, RMutex, Semaphore};
use phalanx::wait::{self, How, Interrupt, Stopped};
use processes::{Child, Ending, Gate, Placed, add, alone, fork, in_threads, patiently, until, used, words};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn at_once() -> How<'static> {
    How::at_most(Duration::ZERO)
}

fn briefly() -> How<'static> {
    How::at_most(Duration::from_millis(30))
}

/// Three children and two threads of this process run `part`.
fn together(part: impl Fn() + Sync) {
    let children: Vec<Child> = (0..3).map(|_| fork(&part)).collect();
    in_threads(&[&part, &part]);
    children.into_iter().for_each(Child::join);
}

/// A child that does `deed` and then nothing until it is killed.
fn doer(deed: impl FnOnce()) -> Child {
    let done = Gate::new();
    let child = fork(|| {
        deed();
        done.open();
        loop {
            thread::park();
        }
    });
    until("the deed", || done.is_open() || child.has_ended());
    child
}

/// Kills `child` as soon as `n` wait in the queue of `placed`, while `wait` runs in a thread of its own.
fn kill_while<T: Sync, R: Send>(
    placed: &Placed<T>,
    n: usize,
    child: Child,
    wait: impl FnOnce() -> R + Send,
) -> R {
    let result = thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        placed.until_waiting(n);
        child.kill();
        waiter.join().unwrap()
    });
    child.perish();
    result
}

// ---------------------------------------------------------------- all live

#[test]
fn a_mutex_excludes() {
    alone("a_mutex_excludes", || {
        let (mutex, plain) = (Placed::new(Mutex::new()), words(1));
        together(|| {
            for _ in 0..5_000 {
                assert!(mutex.lock(Hold::Scoped, &patiently()).unwrap());
                add(&plain[0]);
                mutex.unlock().unwrap();
            }
        });
        assert_eq!(plain[0].load(Ordering::Relaxed), 25_000);
        assert!(mutex.try_lock(Hold::Plain) && !mutex.try_lock(Hold::Plain));
        assert_eq!(mutex.owner(), tree::me());
        assert!(!mutex.lock(Hold::Plain, &briefly()).unwrap());
        mutex.unlock().unwrap();
        assert!(mutex.unlock().is_err());
    });
}

#[test]
fn an_rmutex_knows_its_owner() {
    alone("an_rmutex_knows_its_owner", || {
        let (lock, plain) = (Placed::new(RMutex::new()), words(1));
        together(|| {
            for at in 0..4_000 {
                assert!(lock.lock(&patiently()).unwrap());
                if at % 3 == 0 {
                    assert!(lock.lock(&patiently()).unwrap());
                    lock.unlock().unwrap();
                }
                assert!(lock.is_mine());
                add(&plain[0]);
                lock.unlock().unwrap();
                assert!(lock.unlock().is_err() || lock.is_mine());
            }
        });
        assert_eq!(plain[0].load(Ordering::Relaxed), 20_000);
        lock.lock(&at_once()).unwrap();
        fork(|| {
            assert!(!lock.is_mine(), "a child is another one");
            assert!(!lock.try_lock() && lock.unlock().is_err());
            assert_eq!(lock.count(), 1);
        })
        .join();
    });
}

#[test]
fn a_semaphore_lets_in_so_many() {
    alone("a_semaphore_lets_in_so_many", || {
        let (semaphore, inside) = (Placed::new(Semaphore::with_bound(2, 2).unwrap()), words(1));
        together(|| {
            for _ in 0..3_000 {
                assert!(semaphore.acquire(&patiently()).unwrap());
                assert!(inside[0].fetch_add(1, Ordering::Relaxed) < 2);
                inside[0].fetch_sub(1, Ordering::Relaxed);
                semaphore.release(1).unwrap();
            }
        });
        assert_eq!(semaphore.value(), 2);
        assert!(semaphore.release(1).is_err());
        semaphore.acquire(&at_once()).unwrap();
        semaphore.acquire(&at_once()).unwrap();
        assert!(!semaphore.acquire(&briefly()).unwrap());
    });
}

#[test]
fn an_event_is_seen_by_all() {
    alone("an_event_is_seen_by_all", || {
        let (event, arrived) = (Placed::new(Event::new()), words(1));
        for round in 1..40 {
            let children: Vec<Child> = (0..3)
                .map(|_| {
                    fork(|| {
                        assert!(event.wait(&patiently()).unwrap());
                        arrived[0].fetch_add(1, Ordering::Relaxed);
                    })
                })
                .collect();
            if round % 2 == 0 {
                event.until_waiting(3);
            }
            event.set();
            if round % 2 == 0 {
                // They have seen it all the same.
                event.clear();
            }
            children.into_iter().for_each(Child::join);
            event.clear();
            assert_eq!(arrived[0].load(Ordering::Relaxed), 3 * round);
        }
        assert!(!event.wait(&briefly()).unwrap());
    });
}

/// A queue of numbers under a condition: the mutex and the condvar as `Condition` uses them.
#[derive(Default)]
struct Condition {
    mutex: Mutex,
    changed: Condvar,
    value: AtomicU64,
}

impl Condition {
    /// Waits, with the lock, until `ready`. `false`: in vain.
    fn wait_for(&self, ready: impl Fn(u64) -> bool) -> bool {
        while !ready(self.value.load(Ordering::Relaxed)) {
            let ticket = self.changed.enter(&patiently()).unwrap();
            self.mutex.unlock().unwrap();
            let notified = self.changed.sleep(ticket, &patiently()).unwrap();
            assert!(self.mutex.lock(Hold::Scoped, &patiently()).unwrap());
            if !notified {
                return false;
            }
        }
        true
    }

    fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        assert!(self.mutex.lock(Hold::Scoped, &patiently()).unwrap());
        let result = f();
        self.mutex.unlock().unwrap();
        result
    }
}

#[test]
fn a_condition_passes_the_turn() {
    alone("a_condition_passes_the_turn", || {
        let condition = Placed::new(Condition::default());
        const PLAYERS: u64 = 4;
        let players: Vec<Child> = (0..PLAYERS)
            .map(|me| {
                fork(|| {
                    for _ in 0..300 {
                        condition.with(|| {
                            assert!(condition.wait_for(|turn| turn % PLAYERS == me));
                            add(&condition.value);
                            condition.changed.notify(usize::MAX);
                        });
                    }
                })
            })
            .collect();
        players.into_iter().for_each(Child::join);
        assert_eq!(condition.value.load(Ordering::Relaxed), 300 * PLAYERS);
        assert_eq!(condition.changed.waiters(), 0);
    });
}

/// Every primitive is as it was when all who used it have gone: no node, no byte is left.
#[test]
fn nothing_is_left_behind() {
    alone("nothing_is_left_behind", || {
        let before = used();
        for _ in 0..30 {
            let event = Placed::new(Event::new());
            let mut children: Vec<Child> = (0..8).map(|_| fork(|| drop(event.wait(&patiently())))).collect();
            event.until_waiting(8);
            for child in children.drain(4..) {
                child.kill();
                child.perish();
            }
            until("the dead to be out of the queue", || {
                wait::shared::count(wait::key_of(&*event)) == 4
            });
            event.set();
            children.into_iter().for_each(Child::join);
            assert!(wait::shared::sleepers().is_empty());
        }
        until("the last burials", || {
            used() == before && tree::living().len() == 1
        });
    });
}

// ---------------------------------------------------------------- somebody dies

#[test]
fn who_waits_for_a_mutex_learns_of_its_owners_death() {
    alone("who_waits_for_a_mutex_learns_of_its_owners_death", || {
        let mutex = Placed::new(Mutex::new());
        for round in 0..3 {
            let owner = doer(|| assert!(mutex.lock(Hold::Scoped, &patiently()).unwrap()));
            let number = owner.number;
            let ended = kill_while(&mutex, 1, owner, || mutex.lock(Hold::Plain, &patiently()));
            match ended {
                Err(Stopped::OwnerDied(thread)) => assert_eq!(tree::number_of(thread), number),
                ended => panic!("{ended:?}"),
            }
            // Nothing is free until somebody says that what it guards is whole.
            assert!(!mutex.try_lock(Hold::Plain));
            assert!(matches!(
                mutex.lock(Hold::Plain, &patiently()),
                Err(Stopped::OwnerDied(_))
            ));
            assert!(mutex.recover());
            assert!(!mutex.recover(), "once");
            assert!(mutex.lock(Hold::Plain, &at_once()).unwrap(), "round {round}");
            assert!(!mutex.recover(), "its owner lives");
            mutex.unlock().unwrap();
        }
    });
}

#[test]
fn all_who_wait_for_a_dead_owner_are_told() {
    alone("all_who_wait_for_a_dead_owner_are_told", || {
        let mutex = Placed::new(Mutex::new());
        let owner = doer(|| assert!(mutex.lock(Hold::Scoped, &patiently()).unwrap()));
        let waiters: Vec<Child> = (0..4)
            .map(|_| {
                fork(|| {
                    let ended = mutex.lock(Hold::Scoped, &patiently());
                    assert!(matches!(ended, Err(Stopped::OwnerDied(_))), "{ended:?}");
                })
            })
            .collect();
        mutex.until_waiting(4);
        owner.kill();
        waiters.into_iter().for_each(Child::join);
        owner.perish();
        assert!(mutex.recover() && mutex.try_lock(Hold::Plain));
    });
}

#[test]
fn who_comes_late_learns_it_too() {
    alone("who_comes_late_learns_it_too", || {
        let (mutex, lock) = (Placed::new(Mutex::new()), Placed::new(RMutex::new()));
        let owner = doer(|| {
            assert!(mutex.lock(Hold::Plain, &patiently()).unwrap());
            assert!(lock.lock(&patiently()).unwrap() && lock.lock(&patiently()).unwrap());
        });
        owner.kill();
        owner.perish();
        assert!(matches!(
            mutex.lock(Hold::Scoped, &patiently()),
            Err(Stopped::OwnerDied(_))
        ));
        assert!(matches!(lock.lock(&patiently()), Err(Stopped::OwnerDied(_))));
        assert!(mutex.recover() && lock.recover());
        assert!(lock.lock(&patiently()).unwrap());
        assert_eq!(lock.count(), 1);
        lock.unlock().unwrap();
        assert!(mutex.try_lock(Hold::Scoped));
    });
}

/// The lock goes on to the next although the one who gave it back died in the middle of that.
#[test]
fn an_owner_that_dies_while_it_unlocks() {
    alone("an_owner_that_dies_while_it_unlocks", || {
        for point in ["release", "take", "notify"] {
            let mutex = Placed::new(Mutex::new());
            let go = Gate::new();
            let mut owner = fork(|| {
                assert!(mutex.lock(Hold::Scoped, &patiently()).unwrap());
                go.pass();
                point::arm(point, 1);
                let _ = mutex.unlock();
            });
            until("the lock to be taken", || mutex.is_locked());
            let ended = thread::scope(|scope| {
                let wait = || match mutex.lock(Hold::Plain, &patiently()) {
                    Ok(true) => {
                        mutex.unlock().unwrap();
                        true
                    }
                    Err(Stopped::OwnerDied(_)) => false,
                    ended => panic!("{ended:?}"),
                };
                let waiters = [(); 2].map(|()| scope.spawn(wait));
                mutex.until_waiting(2);
                go.open();
                waiters.map(|waiter| waiter.join().unwrap())
            });
            // Before the commit it died as the owner, after it the lock was free.
            assert_eq!(ended, [point == "notify"; 2], "{point}");
            assert_eq!(owner.ending(), Ending::Killed(libc::SIGKILL));
            assert_eq!(mutex.recover(), point != "notify");
            assert!(mutex.try_lock(Hold::Plain));
        }
    });
}

#[test]
fn a_setter_that_dies_while_it_sets() {
    alone("a_setter_that_dies_while_it_sets", || {
        let event = Placed::new(Event::new());
        let waiters: Vec<Child> = (0..3)
            .map(|_| fork(|| assert!(event.wait(&patiently()).unwrap())))
            .collect();
        event.until_waiting(3);
        let setter = fork(|| {
            point::arm("notify", 1);
            event.set();
        });
        waiters.into_iter().for_each(Child::join);
        setter.perish();
        assert!(event.is_set());
    });
}

#[test]
fn permits_that_were_on_their_way() {
    alone("permits_that_were_on_their_way", || {
        let semaphore = Placed::new(Semaphore::new(0).unwrap());
        let waiters: Vec<Child> = (0..3)
            .map(|_| fork(|| assert!(semaphore.acquire(&patiently()).unwrap())))
            .collect();
        semaphore.until_waiting(3);
        let giver = fork(|| {
            point::arm("notify", 1);
            let _ = semaphore.release(3);
        });
        waiters.into_iter().for_each(Child::join);
        giver.perish();
        assert_eq!(semaphore.value(), 0);
    });
}

/// A semaphore that knows who took its permits gives those of the dead back, unless it is used as a signal.
#[test]
fn permits_of_the_dead() {
    alone("permits_of_the_dead", || {
        let permits = Placed::new(Permits::new(3, 3).unwrap());
        for _ in 0..3 {
            let holder = doer(|| {
                (0..3).for_each(|_| assert!(permits.acquire(&patiently()).unwrap().is_some()));
                permits.release().unwrap();
            });
            assert!(permits.acquire(&patiently()).unwrap().is_some());
            let number = holder.number;
            assert_eq!(permits.dead_holder(), None);
            let ended = thread::scope(|scope| {
                let waiter = scope.spawn(|| permits.acquire(&patiently()));
                until("it sleeps", || wait::shared::sleepers().len() == 1);
                holder.kill();
                waiter.join().unwrap()
            });
            assert!(
                matches!(ended, Err(Stopped::OwnerDied(thread)) if tree::number_of(thread) == number),
                "{ended:?}"
            );
            holder.perish();
            assert_eq!(permits.dead_holder(), Some(number));
            assert!(matches!(
                permits.acquire(&patiently()),
                Err(Stopped::OwnerDied(_))
            ));
            assert_eq!((permits.recover(), permits.recover()), (2, 0));
            permits.release().unwrap();
            assert_eq!(permits.value(), 3);
            assert!(permits.release().is_err(), "more than there are");
        }
        // Given by one, taken by another: the dead consumer holds nothing.
        let signal = Placed::new(Permits::new(0, u64::MAX >> 2).unwrap());
        signal.release().unwrap();
        let consumer = doer(|| assert!(signal.acquire(&patiently()).unwrap().is_some()));
        consumer.kill();
        consumer.perish();
        assert!(signal.acquire(&briefly()).unwrap().is_none());
        assert_eq!(signal.dead_holder(), None);
    });
}

/// Who dies while it waits is out of the queue, and the next one is notified in its place.
#[test]
fn a_notification_is_not_lost_on_the_dead() {
    alone("a_notification_is_not_lost_on_the_dead", || {
        let condition = Placed::new(Condition::default());
        let waiter = || {
            fork(|| {
                let ticket = condition.changed.enter(&patiently()).unwrap();
                assert!(condition.changed.sleep(ticket, &patiently()).unwrap());
            })
        };
        let key = wait::key_of(&condition.changed);
        let asleep = |n| until("they sleep", || wait::shared::sleepers().len() == n);
        for buried_before in [true, false] {
            let first = waiter();
            asleep(1);
            let second = waiter();
            asleep(2);
            first.kill();
            let mut first = first;
            if buried_before {
                first.perish();
                assert_eq!(wait::shared::count(key), 1);
                assert_eq!(condition.changed.notify(1), 1);
            } else {
                // Dead, and nobody has noticed: the notification goes to it first.
                until("its end", || first.has_ended());
                assert_eq!(condition.changed.notify(1), 1);
                assert_eq!(first.ending(), Ending::Killed(libc::SIGKILL));
            }
            second.join();
            assert_eq!(condition.changed.notify(1), 0, "one for one");
        }
    });
}

/// What is meant for all is not passed on: who comes afterwards waits.
#[test]
fn an_event_that_is_over_wakes_nobody() {
    alone("an_event_that_is_over_wakes_nobody", || {
        let event = Placed::new(Event::new());
        let first = fork(|| drop(event.wait(&patiently())));
        event.until_waiting(1);
        first.signal(libc::SIGSTOP);
        event.set();
        event.clear();
        let late = thread::scope(|scope| {
            let late = scope.spawn(|| event.wait(&How::at_most(Duration::from_millis(400))));
            event.until_waiting(1);
            first.kill();
            first.perish();
            late.join().unwrap()
        });
        assert!(!late.unwrap(), "it was set before this one came");
    });
}

// ---------------------------------------------------------------- signals, and many

struct Signalled;

impl Interrupt for Signalled {
    fn check(&self) -> bool {
        true
    }
    fn ticks(&self) -> bool {
        true
    }
}

#[test]
fn an_interrupted_wait_passes_its_wakeup_on() {
    alone("an_interrupted_wait_passes_its_wakeup_on", || {
        let semaphore = Placed::new(Semaphore::new(0).unwrap());
        let got = words(1);
        let impatient = || {
            let how = How {
                interrupt: &Signalled,
                ..patiently()
            };
            if matches!(semaphore.acquire(&how), Ok(true)) {
                got[0].fetch_add(1, Ordering::Relaxed);
            }
        };
        for _ in 0..20 {
            let some: Vec<Child> = (0..2).map(|_| fork(impatient)).collect();
            let patient = fork(|| {
                assert!(semaphore.acquire(&patiently()).unwrap());
                got[0].fetch_add(1, Ordering::Relaxed);
            });
            semaphore.release(1).unwrap();
            some.into_iter().for_each(Child::join);
            // Enough for the patient one whatever the others did.
            semaphore.release(2).unwrap();
            patient.join();
            while semaphore.try_acquire() {
                got[0].fetch_add(1, Ordering::Relaxed);
            }
            assert_eq!(got[0].swap(0, Ordering::Relaxed), 3);
        }
    });
}

/// More waits at one time than one process keeps nodes for.
#[test]
fn many_threads_sleep() {
    alone("many_threads_sleep", || {
        let event = Placed::new(Event::new());
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| assert!(event.wait(&patiently()).unwrap()));
            }
            event.until_waiting(200);
            assert_eq!(wait::shared::count(wait::key_of(&*event)), 200);
            event.set();
        });
        assert_eq!(wait::shared::count(wait::key_of(&*event)), 0);
    });
}

/// A fork while other threads are in the middle of waits: the child finds a door that works.
#[test]
fn a_fork_among_sleeping_threads() {
    alone("a_fork_among_sleeping_threads", || {
        let (semaphore, stop) = (Placed::new(Semaphore::new(1).unwrap()), Gate::new());
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.is_open() {
                        assert!(semaphore.acquire(&patiently()).unwrap());
                        semaphore.release(1).unwrap();
                    }
                });
            }
            for _ in 0..50 {
                // Only what survives a fork of a program with threads: no allocation that another thread may hold up.
                fork(|| {
                    for _ in 0..20 {
                        assert!(semaphore.acquire(&patiently()).unwrap());
                        semaphore.release(1).unwrap();
                    }
                })
                .join();
            }
            stop.open();
        });
        assert_eq!(semaphore.value(), 1);
    });
}
