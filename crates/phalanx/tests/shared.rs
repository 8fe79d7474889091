//! The primitives between processes: what they promise while all live, and what the others see when one dies.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(clippy::disallowed_methods, reason = "threads that the core does not start")]

mod processes;

use phalanx::shm::{point, tree};
use phalanx::sync::shared::{Arrival, Barrier, Condvar, Event, Mutex, Permits, RMutex, Semaphore};
use phalanx::sync::{Hold, Passage};
use phalanx::sys;
use phalanx::wait::{self, How, Interrupt, Reason, Role, Stopped};
use processes::{Child, Ending, Gate, Placed, alone, fork, in_threads, patiently, until, used, words};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn at_once() -> How<'static> {
    How::at_most(Duration::ZERO)
}

fn briefly() -> How<'static> {
    How::at_most(Duration::from_millis(30))
}

/// Adds one, in a way that loses some if two do so at one time.
fn add(plain: &AtomicU64) {
    plain.store(plain.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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

static MEET: Reason = Reason {
    name: "Barrier.wait",
    role: Role::Meet,
};

fn meeting() -> How<'static> {
    How {
        reason: &MEET,
        ..patiently()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Met {
    Last,
    Passed,
    Broken,
    TimedOut,
}

/// What `Barrier.wait` does; `action` is what the last one runs.
fn meet(barrier: &Barrier, how: &How<'_>, action: impl FnOnce()) -> Met {
    loop {
        let ticket = match barrier.arrive(how) {
            Arrival::Last => {
                action();
                return if barrier.pass() { Met::Last } else { Met::Broken };
            }
            Arrival::Waits { ticket, .. } | Arrival::Early(ticket) => ticket,
            Arrival::Broken => return Met::Broken,
        };
        match barrier.sleep(ticket, how) {
            Passage::Passed => return Met::Passed,
            Passage::Broken => return Met::Broken,
            Passage::TimedOut => return Met::TimedOut,
            Passage::Retry => {}
            Passage::Stopped(stopped, _) => panic!("{stopped:?}"),
        }
    }
}

#[test]
fn a_barrier_lets_all_pass_together() {
    alone("a_barrier_lets_all_pass_together", || {
        let (barrier, before, last) = (Placed::new(Barrier::new(4)), words(1), words(1));
        const ROUNDS: u64 = 300;
        let members: Vec<Child> = (0..4)
            .map(|_| {
                fork(|| {
                    for round in 1..=ROUNDS {
                        before[0].fetch_add(1, Ordering::Relaxed);
                        match meet(&barrier, &meeting(), || add(&last[0])) {
                            Met::Last | Met::Passed => {}
                            met => panic!("{met:?}"),
                        }
                        assert!(before[0].load(Ordering::Relaxed) >= 4 * round);
                    }
                })
            })
            .collect();
        members.into_iter().for_each(Child::join);
        assert_eq!(last[0].load(Ordering::Relaxed), ROUNDS);
        assert!(!barrier.is_broken() && barrier.waiting() == 0);
        let how = How {
            deadline: briefly().deadline,
            ..meeting()
        };
        assert_eq!(meet(&barrier, &how, || ()), Met::TimedOut);
        assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken);
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

#[test]
fn a_barrier_breaks_when_a_member_dies() {
    alone("a_barrier_breaks_when_a_member_dies", || {
        let barrier = Placed::new(Barrier::new(4));
        for _ in 0..3 {
            let victim = fork(|| {
                meet(&barrier, &meeting(), || ());
            });
            until("it waits", || barrier.waiting() == 1);
            let others: Vec<Child> = (0..2)
                .map(|_| fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken)))
                .collect();
            until("all wait", || barrier.waiting() == 3);
            victim.kill();
            others.into_iter().for_each(Child::join);
            victim.perish();
            assert!(barrier.is_broken());
            assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken);
            barrier.reset();
        }
    });
}

/// The last one dies in its action, or between that and the end of the round.
#[test]
fn a_barrier_breaks_when_the_last_one_dies_in_the_action() {
    alone("a_barrier_breaks_when_the_last_one_dies_in_the_action", || {
        let barrier = Placed::new(Barrier::new(3));
        for _ in 0..3 {
            let others: Vec<Child> = (0..2)
                .map(|_| fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken)))
                .collect();
            until("they wait", || barrier.waiting() == 2);
            let (acts, early) = (Gate::new(), Gate::new());
            let last = fork(|| {
                meet(&barrier, &meeting(), || {
                    acts.open();
                    early.pass();
                    sys::die();
                });
            });
            acts.pass();
            // Somebody for the next round is there already.
            let next = fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken));
            until("all sleep", || wait::shared::sleepers().len() == 3);
            early.open();
            others.into_iter().for_each(Child::join);
            next.join();
            last.perish();
            assert!(barrier.is_broken());
            barrier.reset();
        }
        let members: Vec<Child> = (0..3)
            .map(|_| {
                fork(|| {
                    assert!(matches!(
                        meet(&barrier, &meeting(), || ()),
                        Met::Last | Met::Passed
                    ))
                })
            })
            .collect();
        members.into_iter().for_each(Child::join);
    });
}

#[test]
fn a_barrier_whose_member_dies_inside() {
    alone("a_barrier_whose_member_dies_inside", || {
        for point in ["barrier", "queued", "notify"] {
            let barrier = Placed::new(Barrier::new(3));
            let other = fork(|| {
                let met = meet(&barrier, &meeting(), || ());
                assert!(matches!(met, Met::Broken | Met::Passed), "{met:?}");
            });
            until("it waits", || barrier.waiting() == 1);
            if point == "notify" {
                let second = fork(|| {
                    let met = meet(&barrier, &meeting(), || ());
                    assert!(matches!(met, Met::Broken | Met::Passed), "{met:?}");
                });
                until("both wait", || barrier.waiting() == 2);
                let victim = fork(|| {
                    point::arm(point, 1);
                    meet(&barrier, &meeting(), || ());
                });
                second.join();
                victim.perish();
            } else {
                let victim = fork(|| {
                    point::arm(point, 1);
                    meet(&barrier, &meeting(), || ());
                });
                victim.perish();
                if point == "barrier" {
                    // Dead before it had come: the next who looks finds that out.
                    assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken);
                }
            }
            other.join();
        }
    });
}

/// Nobody else was there to be told: whoever comes later learns it.
#[test]
fn a_barrier_whose_only_member_dies() {
    alone("a_barrier_whose_only_member_dies", || {
        let barrier = Placed::new(Barrier::new(2));
        for _ in 0..3 {
            let victim = fork(|| {
                meet(&barrier, &meeting(), || ());
            });
            until_asleep(1);
            victim.kill();
            victim.perish();
            assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken);
            assert!(barrier.is_broken());
            barrier.reset();
            assert!(!barrier.is_broken());
            let member = fork(|| assert_ne!(meet(&barrier, &meeting(), || ()), Met::Broken));
            assert_ne!(meet(&barrier, &meeting(), || ()), Met::Broken);
            member.join();
        }
    });
}

/// Not asked of the barrier: looking at it would find out who died inside.
fn until_asleep(n: usize) {
    until("they sleep", || wait::shared::sleepers().len() == n);
}

/// Somebody dies with the state locked, and nobody comes after him.
#[test]
fn a_barrier_whose_last_comer_dies_inside() {
    alone("a_barrier_whose_last_comer_dies_inside", || {
        for nth in 1..=2 {
            let barrier = Placed::new(Barrier::new(4));
            let others: Vec<Child> = (0..2)
                .map(|_| fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken)))
                .collect();
            until_asleep(2);
            let victim = fork(|| {
                point::arm("barrier", nth);
                barrier.arrive_last();
                meet(&barrier, &meeting(), || ());
            });
            victim.perish();
            others.into_iter().for_each(Child::join);
            assert!(barrier.is_broken());
        }
    });
}

/// Whoever buries a member dies before he has told the others.
#[test]
fn a_barrier_whose_undertaker_dies() {
    alone("a_barrier_whose_undertaker_dies", || {
        for point in ["mourn", "take", "notify"] {
            let barrier = Placed::new(Barrier::new(3));
            let other = fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken));
            let mut victim = fork(|| {
                meet(&barrier, &meeting(), || ());
            });
            until_asleep(2);
            // It must not bury him itself.
            other.signal(libc::SIGSTOP);
            victim.kill();
            until("its end", || victim.has_ended());
            let mut undertaker = fork(|| {
                point::arm(point, 1);
                tree::is_dead(victim.number);
            });
            assert_eq!(undertaker.ending(), Ending::Killed(libc::SIGKILL), "{point}");
            other.signal(libc::SIGCONT);
            other.join();
            assert_eq!(victim.ending(), Ending::Killed(libc::SIGKILL));
            processes::buried(victim.number);
            assert!(barrier.is_broken());
            barrier.reset();
            assert!(!barrier.is_broken() && barrier.waiting() == 0);
        }
    });
}

/// An undertaker so slow that its round is broken, and the next one has begun, before it tells anybody.
#[test]
fn a_barrier_whose_undertaker_is_late() {
    alone("a_barrier_whose_undertaker_is_late", || {
        let barrier = Placed::new(Barrier::new(2));
        let mut victim = fork(|| {
            meet(&barrier, &meeting(), || ());
        });
        until_asleep(1);
        victim.kill();
        until("its end", || victim.has_ended());
        let undertaker = fork(|| {
            point::arm_to_stop("mourn", 2);
            assert!(tree::is_dead(victim.number));
        });
        until("it stops", || undertaker.is_stopped());
        assert!(barrier.is_broken());
        barrier.reset();
        let member = fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Passed));
        until_asleep(1);
        undertaker.signal(libc::SIGCONT);
        undertaker.join();
        until_asleep(1);
        assert_eq!(meet(&barrier, &meeting(), || ()), Met::Last);
        member.join();
        assert_eq!(victim.ending(), Ending::Killed(libc::SIGKILL));
    });
}

/// A round that is over is over, whoever dies of those who passed.
#[test]
fn the_next_round_does_not_suffer_from_the_last() {
    alone("the_next_round_does_not_suffer_from_the_last", || {
        let barrier = Placed::new(Barrier::new(2));
        for _ in 0..5 {
            let first = fork(|| {
                meet(&barrier, &meeting(), || ());
            });
            until("it waits", || barrier.waiting() == 1);
            // It is let through, and dies before it has noticed.
            first.signal(libc::SIGSTOP);
            assert_eq!(meet(&barrier, &meeting(), || ()), Met::Last);
            let next = fork(|| assert_eq!(meet(&barrier, &meeting(), || ()), Met::Passed));
            until("the next round begins", || wait::shared::sleepers().len() == 1);
            first.kill();
            first.perish();
            assert_eq!(wait::shared::sleepers().len(), 1, "it was not meant for this one");
            assert_eq!(meet(&barrier, &meeting(), || ()), Met::Last);
            next.join();
        }
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
