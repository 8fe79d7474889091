//! Processes that are killed at random, in storms: nothing is lost but what was in the hands of the dead, and in the end
//! not one byte of the arena is in use.
//!
//! The storms are short here; `PHALANX_STORM_ROUNDS=100` makes them last that many times as long.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(
    clippy::disallowed_methods,
    reason = "a clock round everything, and pauses between random kills"
)]

mod processes;

use phalanx::channel::{Ended, Limits};
use phalanx::shm::{Handle, point, tree};
use phalanx::sync::Hold;
use phalanx::sync::shared::{Event, Mutex, Permits, RMutex};
use phalanx::wait::How;
use processes::items::{NO_LIMITS, Shape, get, make, put, try_get};
use processes::{
    Child, Dice, Ending, Placed, alone_for, fork, lock_or_recover, patiently, until, used, words,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn rounds() -> u32 {
    let rounds = std::env::var("PHALANX_STORM_ROUNDS").ok();
    rounds.map_or(1, |rounds| {
        rounds.parse().expect("PHALANX_STORM_ROUNDS is a number")
    })
}

fn seed() -> u64 {
    let seed = std::env::var("PHALANX_STORM_SEED").ok();
    let seed = seed.map_or_else(phalanx::sys::now, |seed| seed.parse().expect("a number"));
    eprintln!("PHALANX_STORM_SEED={seed}");
    seed
}

/// Lets this process die at some point of a protocol, some time or never.
fn arm_somehow(dice: &mut Dice) {
    let names: Vec<&str> = point::NAMES.iter().chain(point::INNER).copied().collect();
    let name = names[dice.below(names.len() as u64) as usize];
    if dice.below(3) != 0 {
        let exponent = dice.below(12);
        point::arm(name, 1 + dice.below(1 << exponent) as u32);
    }
}

/// Keeps `children`, with their roles, alive: kills one of them now and then, for `time`, and puts another one in its place.
/// How many died, those included that did so at a point of their own.
fn storm(
    dice: &mut Dice,
    time: Duration,
    children: &mut [(usize, Child)],
    born: impl Fn(usize) -> Child,
) -> u64 {
    let end = Instant::now() + time;
    let mut killed = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(200 + dice.below(9_000)));
        let at = dice.below(children.len() as u64) as usize;
        let (role, child) = &mut children[at];
        match dice.below(8) {
            // Stopped in the middle of whatever it does, it is not dead: the others wait for it.
            0 => {
                child.signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(dice.below(150)));
                assert!(!tree::is_dead(child.number) || child.has_ended());
                child.signal(libc::SIGCONT);
                continue;
            }
            // And it may be killed as it is.
            1 => child.signal(libc::SIGSTOP),
            _ => {}
        }
        child.kill();
        // Mostly it is reaped at once; sometimes the others find a zombie.
        if dice.below(4) == 0 {
            until("its end", || child.has_ended());
            tree::is_dead(child.number);
        }
        assert_eq!(
            child.ending(),
            Ending::Killed(libc::SIGKILL),
            "a survivor had failed before"
        );
        killed += 1;
        *child = born(*role);
    }
    killed
}

/// Kills all, for others that nothing kills.
fn replace_all(children: &mut [(usize, Child)], born: impl Fn(usize) -> Child) -> u64 {
    for (role, child) in children.iter_mut() {
        child.kill();
        assert_eq!(child.ending(), Ending::Killed(libc::SIGKILL));
        *child = born(*role);
    }
    children.len() as u64
}

/// Producers and consumers of numbered items on one ring, killed at random.
fn ring_storm(dice: &mut Dice, limits: Limits, time: Duration) -> String {
    const ITEMS: usize = 8_000_000;
    const STOP: u64 = u64::MAX;
    let before = used();
    let (handle, ring) = make(limits);
    // What each item went through: 1 is about to be put, 2 has been put; and how often it was got.
    let (sent, got) = (words(ITEMS), words(ITEMS));
    let next = words(1);
    let stop = words(1);
    let producer = || {
        while stop[0].load(Ordering::Relaxed) == 0 {
            let number = next[0].fetch_add(1, Ordering::Relaxed);
            if number as usize >= ITEMS {
                break;
            }
            sent[number as usize].store(1, Ordering::Relaxed);
            put(ring, number, Shape::of(number), &patiently()).unwrap();
            sent[number as usize].store(2, Ordering::Relaxed);
        }
    };
    let consumer = || {
        loop {
            let number = get(ring, &patiently()).unwrap();
            if number == STOP {
                break;
            }
            got[number as usize].fetch_add(1, Ordering::Relaxed);
        }
    };
    // Roles: 0 and 1 produce, 2 and 3 consume.
    let born = |role: usize| if role < 2 { fork(producer) } else { fork(consumer) };
    let seed = AtomicU64::new(dice.word());
    let armed = |role: usize| {
        let seed = seed.fetch_add(1, Ordering::Relaxed);
        fork(|| {
            arm_somehow(&mut Dice::new(seed));
            if role < 2 { producer() } else { consumer() }
        })
    };
    let mut children: Vec<(usize, Child)> = (0..4).map(|role| (role, armed(role))).collect();
    let mut killed = storm(dice, time, &mut children, armed);
    // From here on nobody dies any more.
    killed += replace_all(&mut children, born);
    stop[0].store(1, Ordering::Relaxed);
    let (producers, consumers): (Vec<_>, Vec<_>) = children.into_iter().partition(|(role, _)| *role < 2);
    producers.into_iter().for_each(|(_, child)| child.join());
    for _ in &consumers {
        put(ring, STOP, Shape::Small(8), &patiently()).unwrap();
    }
    consumers.into_iter().for_each(|(_, child)| child.join());
    assert!(ring.is_empty());

    let items = (next[0].load(Ordering::Relaxed) as usize).min(ITEMS);
    let states = || (0..items).map(|at| (sent[at].load(Ordering::Relaxed), got[at].load(Ordering::Relaxed)));
    let lost = states().filter(|&(sent, got)| sent != 0 && got == 0).count() as u64;
    let doubled = states().filter(|&(_, got)| got > 1).count();
    let invented = states().filter(|&(sent, got)| sent == 0 && got > 0).count();
    assert_eq!((doubled, invented), (0, 0));
    assert!(lost <= killed, "{lost} lost, {killed} killed");
    assert!(items as u64 > killed, "{items} items: nothing went on");
    drop(handle);
    until("everything to be given back", || {
        tree::patrol();
        used() == before
    });
    for page in [sent, got] {
        // SAFETY: made by `words`; nobody uses it any more.
        unsafe { libc::munmap(page.as_ptr().cast_mut().cast(), ITEMS * 8) };
    }
    format!("{items} items, {killed} killed, {lost} lost")
}

#[test]
fn a_storm_over_a_ring() {
    let rounds = rounds();
    alone_for(
        "a_storm_over_a_ring",
        Duration::from_secs(60 + u64::from(rounds) * 20),
        || {
            let mut dice = Dice::new(seed());
            for round in 0..rounds {
                for limits in [
                    NO_LIMITS,
                    Limits {
                        maxsize: 5,
                        ceiling: 100_000,
                    },
                ] {
                    let told = ring_storm(&mut dice, limits, Duration::from_millis(1_500));
                    eprintln!("round {round}, {limits:?}: {told}");
                }
            }
        },
    );
}

/// Locks, permits and events that everybody uses, killed at random. What the dead held is recovered; all others go on.
#[test]
fn a_storm_over_the_primitives() {
    let rounds = rounds();
    alone_for(
        "a_storm_over_the_primitives",
        Duration::from_secs(60 + u64::from(rounds) * 10),
        || {
            let mut dice = Dice::new(seed());
            let before = used();
            for round in 0..rounds {
                let (mutex, rmutex, ping, pong) = (
                    Placed::new(Mutex::new()),
                    Placed::new(RMutex::new()),
                    Placed::new(Event::new()),
                    Placed::new(Permits::new(1, 1).unwrap()),
                );
                // Who is inside: nobody, or somebody who died there.
                let (inside, stop, steps) = (words(3), words(1), words(4));
                let visit = |at: usize| {
                    let other = inside[at].swap(u64::from(tree::number()), Ordering::Relaxed) as u32;
                    assert!(other == 0 || tree::is_dead(other), "two were inside");
                    std::hint::spin_loop();
                    let me = inside[at].swap(0, Ordering::Relaxed) as u32;
                    assert_eq!(me, tree::number(), "two were inside");
                };
                let work = |role: usize| {
                    while stop[0].load(Ordering::Relaxed) == 0 {
                        lock_or_recover(|| mutex.lock(Hold::Scoped, &patiently()), || mutex.recover());
                        visit(0);
                        mutex.unlock().unwrap();
                        lock_or_recover(|| rmutex.lock(&patiently()), || rmutex.recover());
                        rmutex.lock(&patiently()).unwrap();
                        visit(1);
                        rmutex.unlock().unwrap();
                        rmutex.unlock().unwrap();
                        if role.is_multiple_of(2) {
                            ping.set();
                            let acquire = || pong.acquire(&patiently()).map(|row| row.is_some());
                            lock_or_recover(acquire, || pong.recover() > 0);
                            visit(2);
                            pong.release().unwrap();
                        } else {
                            let _ = ping.wait(&How::at_most(Duration::from_millis(2))).unwrap();
                            ping.clear();
                        }
                        steps[role].fetch_add(1, Ordering::Relaxed);
                    }
                };
                let work = &work;
                let seed = AtomicU64::new(dice.word());
                let armed = |role: usize| {
                    let seed = seed.fetch_add(1, Ordering::Relaxed);
                    fork(move || {
                        arm_somehow(&mut Dice::new(seed));
                        work(role);
                    })
                };
                let mut children: Vec<(usize, Child)> = (0..4).map(|role| (role, armed(role))).collect();
                let mut killed = storm(&mut dice, Duration::from_millis(1_500), &mut children, armed);
                killed += replace_all(&mut children, |role| fork(move || work(role)));
                let all: Vec<u64> = steps.iter().map(|steps| steps.load(Ordering::Relaxed)).collect();
                until("everybody to go on", || {
                    steps
                        .iter()
                        .zip(&all)
                        .all(|(steps, before)| steps.load(Ordering::Relaxed) > before + 2)
                });
                stop[0].store(1, Ordering::Relaxed);
                children.into_iter().for_each(|(_, child)| child.join());
                eprintln!("round {round}: {killed} killed, steps {all:?}");
            }
            until("everything to be given back", || {
                tree::patrol();
                used() == before && phalanx::wait::shared::sleepers().is_empty()
            });
        },
    );
}

/// Whole families: children that start children, all with handles and queued items, killed from above and below.
#[test]
fn a_storm_over_families() {
    let rounds = rounds();
    alone_for(
        "a_storm_over_families",
        Duration::from_secs(60 + u64::from(rounds) * 10),
        || {
            let mut dice = Dice::new(seed());
            let before = used();
            for _ in 0..rounds {
                let (handle, ring) = make(Limits {
                    maxsize: 50,
                    ceiling: 300_000,
                });
                let counter = words(1);
                let grown = |seed: u64| {
                    let mut dice = Dice::new(seed);
                    let mut mine: BTreeMap<u64, Handle> = BTreeMap::new();
                    loop {
                        let number = counter[0].fetch_add(1, Ordering::Relaxed);
                        match dice.below(6) {
                            0 | 1 => {
                                match put(ring, number, Shape::of(number), &How::at_most(Duration::ZERO)) {
                                    Ok(()) | Err(Ended::TimedOut) => {}
                                    Err(ended) => panic!("{ended:?}"),
                                }
                            }
                            2 | 3 => {
                                try_get(ring);
                            }
                            4 => drop(mine.insert(
                                dice.below(20),
                                Handle::new(1, dice.below(9_000) as usize + 1).unwrap(),
                            )),
                            _ if dice.below(40) == 0 => {
                                let seed = dice.word();
                                let mut child = fork(|| {
                                    let mut dice = Dice::new(seed);
                                    for _ in 0..dice.below(500) {
                                        let _ = try_get(ring);
                                        drop(Handle::new(2, 500).unwrap());
                                    }
                                });
                                if dice.below(2) == 0 {
                                    child.kill();
                                }
                                child.ending();
                            }
                            _ => drop(mine.remove(&dice.below(20))),
                        }
                    }
                };
                let grown = &grown;
                let born = |role: usize| {
                    let seed = phalanx::sys::now() + role as u64;
                    fork(move || {
                        arm_somehow(&mut Dice::new(seed));
                        grown(seed);
                    })
                };
                let mut children: Vec<(usize, Child)> = (0..3).map(|role| (role, born(role))).collect();
                storm(&mut dice, Duration::from_millis(1_000), &mut children, born);
                for (_, child) in children {
                    child.kill();
                    child.perish();
                }
                // The ring works, whatever happened.
                while try_get(ring).is_some() {}
                put(ring, 5, Shape::Large(70_000), &patiently()).unwrap();
                assert_eq!(try_get(ring), Some(5));
                drop(handle);
            }
            until("everything to be given back", || {
                tree::patrol();
                used() == before && tree::living().len() == 1
            });
        },
    );
}
