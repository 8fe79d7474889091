//! The barrier between processes: what it promises while all live, and what the others see when one dies.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]

mod processes;

use phalanx::shm::{point, tree};
use phalanx::sync::Passage;
use phalanx::sync::shared::{Arrival, Barrier};
use phalanx::sys;
use phalanx::wait::{self, Deadline, How, Reason, Role};
use processes::{Child, Ending, Gate, Placed, add, alone, fork, patiently, until, words};
use std::sync::atomic::Ordering;
use std::time::Duration;

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
            deadline: Deadline::after(Duration::from_millis(30)),
            ..meeting()
        };
        assert_eq!(meet(&barrier, &how, || ()), Met::TimedOut);
        assert_eq!(meet(&barrier, &meeting(), || ()), Met::Broken);
    });
}

// ---------------------------------------------------------------- somebody dies

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
