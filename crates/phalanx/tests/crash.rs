//! Processes that are killed: at every named point of the protocols, and at random.
//!
//! What must hold for the others: at most the item in the hands of the dead is lost, none comes twice, none is torn, nobody
//! waits for ever, and in the end not one byte of the arena is in use.
//!
//! The storms are short here; `PHALANX_STORM_ROUNDS=100` makes them last that many times as long.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(
    clippy::disallowed_methods,
    reason = "a clock round everything, and pauses between random kills"
)]

mod processes;

use phalanx::channel::{Ended, INLINE, Limits, Record, Ring};
use phalanx::shm::{self, Handle, UNIT, heap, point, tree};
use phalanx::sync::shared::{Event, Mutex, Permits, RMutex, ROWS, Semaphore};
use phalanx::sync::{Hold, NotLocked};
use phalanx::wait::{How, Stopped};
use processes::{
    Child, Dice, Ending, Placed, Shape, alone, alone_for, fork, get, get_and, patiently, put, try_get, until,
    used, words,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NO_LIMITS: Limits = Limits {
    maxsize: 0,
    ceiling: u64::MAX,
};

fn make(limits: Limits) -> (Handle, &'static Ring) {
    let handle = Ring::make(limits).unwrap();
    // SAFETY: the arena is never unmapped, and the callers keep the handle as long as the ring is used.
    let ring = unsafe { &*std::ptr::from_ref(Ring::of(&handle)) };
    (handle, ring)
}

/// Runs `deed` in a child that is killed at the `nth` visit of `point`. `false`: it never came there.
fn killed_at(point: &str, nth: u32, deed: impl FnOnce()) -> bool {
    let mut child = fork(|| {
        assert!(point::arm(point, nth), "no point {point}");
        deed();
    });
    let ending = child.ending();
    processes::buried(child.number);
    assert!(
        matches!(ending, Ending::Killed(libc::SIGKILL) | Ending::Exited(0)),
        "{point} {nth}: {ending:?}"
    );
    ending != Ending::Exited(0)
}

/// Nothing but the ring itself and a chunk or two: neither payloads nor chunks that nobody finds again.
fn holds_no_more_than_it_needs(handle: &Handle, before: u64, what: &str) {
    let more = used() - before - (handle.len() + shm::OBJECT_HEAD) as u64;
    let chunk = (UNIT - heap::HEAD) as u64;
    assert!(
        more.is_multiple_of(chunk) && more / chunk <= 2,
        "{what}: {more} bytes"
    );
}

/// Everything that is in the ring, in order.
fn drain(ring: &Ring) -> Vec<u64> {
    std::iter::from_fn(|| try_get(ring)).collect()
}

#[test]
fn every_point_is_visited() {
    // Each name occurs in one of the tests below; this one notices a new one.
    let known = [
        "put.before_commit",
        "put.after_commit",
        "put.payload",
        "get.before_commit",
        "get.after_commit",
        "get.payload",
        "grow",
        "acquire",
        "release",
        "queued",
        "notify",
        "barrier",
        "run",
        "slab",
        "free",
        "take",
        "bury",
        "bell",
        "offer",
        "recover",
        "mend",
        "riders.load",
        "riders.unload",
        // tests/shared.rs
        "mourn",
        // tests/table.rs
        "table.before_commit",
        "table.after_commit",
        "table.grow",
        "table.rebuild",
        "table.rebuilt",
        // tests/pool.rs
        "task.taken",
        "task.before_done",
        "task.after_done",
        "bundle.begun",
        "bundle.before_given",
    ];
    for name in point::NAMES.iter().chain(point::INNER) {
        assert!(
            known.contains(name),
            "{name} is new: say in tests/crash.rs what its death leaves"
        );
    }
}

// ---------------------------------------------------------------- the ring

const SHAPES: [Shape; 5] = [
    Shape::Small(8),
    Shape::Small(5_001),
    Shape::Small(INLINE),
    Shape::Large(300),
    Shape::Large(150_000),
];

#[test]
fn a_putter_that_is_killed() {
    alone_for("a_putter_that_is_killed", Duration::from_secs(180), || {
        let before = used();
        let mut visits = 0;
        for point in ["put.before_commit", "put.after_commit", "put.payload"] {
            for shape in SHAPES {
                for nth in [1, 2, 3, 9, 20] {
                    let (handle, ring) = make(NO_LIMITS);
                    let done = words(1);
                    // 0 to 4 by us, from 100 by the one that dies, from 200 by us again.
                    (0..5).for_each(|number| put(ring, number, Shape::of(number), &patiently()).unwrap());
                    let killed = killed_at(point, nth, || {
                        for number in 100..130 {
                            put(ring, number, shape, &patiently()).unwrap();
                            done[0].store(number - 99, Ordering::Relaxed);
                        }
                    });
                    visits += u32::from(killed);
                    assert_eq!(killed, point != "put.payload" || matches!(shape, Shape::Large(_)));
                    let done = done[0].load(Ordering::Relaxed);
                    (200..205).for_each(|number| put(ring, number, shape, &patiently()).unwrap());
                    // Dead after the commit, it has put one that it does not know of.
                    let there = done + u64::from(killed && point == "put.after_commit");
                    let expected: Vec<u64> = (0..5).chain(100..100 + there).chain(200..205).collect();
                    assert_eq!(drain(ring), expected, "{point} {shape:?} {nth}");
                    holds_no_more_than_it_needs(&handle, before, point);
                    drop(handle);
                    assert_eq!(used(), before, "{point} {shape:?} {nth}: bytes are lost");
                }
            }
        }
        assert!(visits >= 60);
    });
}

#[test]
fn a_getter_that_is_killed() {
    alone_for("a_getter_that_is_killed", Duration::from_secs(180), || {
        let before = used();
        for point in ["get.before_commit", "get.after_commit", "get.payload"] {
            for shape in SHAPES {
                for nth in [1, 2, 3, 9, 20] {
                    let (handle, ring) = make(NO_LIMITS);
                    let done = words(1);
                    (0..40).for_each(|number| put(ring, number, shape, &patiently()).unwrap());
                    let killed = killed_at(point, nth, || {
                        for expected in 0..30 {
                            assert_eq!(get(ring, &patiently()).unwrap(), expected);
                            done[0].store(expected + 1, Ordering::Relaxed);
                        }
                    });
                    assert_eq!(killed, point != "get.payload" || matches!(shape, Shape::Large(_)));
                    let done = done[0].load(Ordering::Relaxed);
                    // What it had taken and not said is lost with it, one at the most.
                    let taken = done + u64::from(killed && point != "get.before_commit");
                    put(ring, 40, shape, &patiently()).unwrap();
                    assert_eq!(
                        drain(ring),
                        (taken..41).collect::<Vec<u64>>(),
                        "{point} {shape:?} {nth}"
                    );
                    holds_no_more_than_it_needs(&handle, before, point);
                    drop(handle);
                    assert_eq!(used(), before, "{point} {shape:?} {nth}: bytes are lost");
                }
            }
        }
    });
}

/// The table of a queue of tasks stays right: what the dead had taken counts as in its hands, what it had not as queued.
#[test]
fn a_worker_that_is_killed() {
    alone_for("a_worker_that_is_killed", Duration::from_secs(120), || {
        let before = used();
        for point in ["get.before_commit", "get.after_commit"] {
            for nth in [1, 2, 7] {
                let (handle, ring) = make(NO_LIMITS);
                let queued = || ring.len() as u64;
                (0..10).for_each(|number| put(ring, number, Shape::of(number), &patiently()).unwrap());
                let killed = killed_at(point, nth, || {
                    loop {
                        get_and(ring, &patiently(), true).unwrap();
                        ring.hands().done(queued).unwrap();
                    }
                });
                assert!(killed);
                put(ring, 10, Shape::Small(8), &patiently()).unwrap();
                let taken = u64::from(point == "get.after_commit");
                // The next get finds out what the dead had begun.
                get_and(ring, &patiently(), true).unwrap();
                ring.hands().done(queued).unwrap();
                // It had done all before the nth; of that one it had taken it or not.
                let left = 10 - u64::from(nth - 1) - taken;
                assert_eq!(ring.len() as u64, left, "{point} {nth}");
                assert_eq!(ring.unfinished(), left + taken, "{point} {nth}");
                let ended = ring
                    .hands()
                    .join(&How::at_most(Duration::from_millis(300)), queued);
                match (taken, ended) {
                    (0, Ok(false)) | (1, Err(Stopped::Hopeless)) => {}
                    (_, ended) => panic!("{point} {nth}: {ended:?}"),
                }
                assert_eq!(ring.hands().forget_the_dead(), taken);
                for _ in 0..left {
                    get_and(ring, &patiently(), true).unwrap();
                    ring.hands().done(queued).unwrap();
                }
                assert!(ring.hands().join(&patiently(), queued).unwrap());
                assert!(ring.hands().done(queued).is_err());
                drop(handle);
                assert_eq!(used(), before);
            }
        }
    });
}

/// Whoever puts the ring right after a death dies over it, at each step; the next goes on.
#[test]
fn a_mender_that_is_killed() {
    alone("a_mender_that_is_killed", || {
        let before = used();
        for nth in 1..=5 {
            let (handle, ring) = make(NO_LIMITS);
            (0..3).for_each(|number| put(ring, number, Shape::Large(9_000), &patiently()).unwrap());
            // One is taken by nobody, one is put by nobody: both had been begun.
            assert!(killed_at("get.after_commit", 1, || {
                get_and(ring, &patiently(), true).unwrap();
            }));
            assert!(killed_at("put.before_commit", 1, || {
                put(ring, 7, Shape::Large(70_000), &patiently()).unwrap();
            }));
            assert!(killed_at("mend", nth, || put(
                ring,
                8,
                Shape::Small(8),
                &patiently()
            )
            .unwrap()));
            put(ring, 9, Shape::Small(8), &patiently()).unwrap();
            assert_eq!(ring.hands().forget_the_dead(), 1);
            assert_eq!(ring.unfinished(), 3);
            assert_eq!(drain(ring), [1, 2, 9], "{nth}");
            holds_no_more_than_it_needs(&handle, before, "mend");
            drop(handle);
            assert_eq!(used(), before);
        }
    });
}

/// While somebody is about to mend, another one has done so, and a third one has died inside since.
#[test]
fn a_death_while_another_one_is_mended() {
    alone("a_death_while_another_one_is_mended", || {
        for nth in 1..=2 {
            let (_handle, ring) = make(NO_LIMITS);
            (0..3).for_each(|number| put(ring, number, Shape::Small(8), &patiently()).unwrap());
            assert!(killed_at("put.before_commit", 1, || {
                put(ring, 7, Shape::Small(8), &patiently()).unwrap();
            }));
            let mender = fork(|| {
                point::arm_to_stop("mend", 1);
                put(ring, 8, Shape::Small(8), &patiently()).unwrap();
            });
            until("it stops", || mender.is_stopped());
            put(ring, 9, Shape::Small(8), &patiently()).unwrap();
            // It had only begun to take what it then did not get.
            assert!(killed_at("get.before_commit", nth, || {
                for _ in 0..nth {
                    get_and(ring, &patiently(), true).unwrap();
                }
            }));
            mender.signal(libc::SIGCONT);
            mender.join();
            assert_eq!(ring.hands().forget_the_dead(), u64::from(nth) - 1);
            assert_eq!(ring.unfinished(), 6 - u64::from(nth));
            assert_eq!(drain(ring).len(), 6 - nth as usize);
        }
    });
}

/// More processes have items in their hands than there are rows: all are counted, and each death is told of the right one.
#[test]
fn more_workers_than_rows() {
    alone("more_workers_than_rows", || {
        const ROWS: u64 = 127;
        const MANY: u64 = ROWS + 3;
        const IDLE: u64 = 5;
        let (_handle, ring) = make(NO_LIMITS);
        let queued = || ring.len() as u64;
        (0..IDLE + MANY).for_each(|number| put(ring, number, Shape::Small(8), &patiently()).unwrap());
        let (gates, counts) = ([0; 2].map(|_| processes::Gate::new()), words(2));
        // They are done with theirs and live on: their rows are free.
        let idle: Vec<Child> = (0..IDLE)
            .map(|_| {
                fork(|| {
                    get_and(ring, &patiently(), true).unwrap();
                    ring.hands().done(queued).unwrap();
                    counts[0].fetch_add(1, Ordering::Relaxed);
                    gates[0].pass();
                })
            })
            .collect();
        until("they are done", || counts[0].load(Ordering::Relaxed) == IDLE);
        // One after the other, so that it is the last three that find no row.
        let mut busy: Vec<Child> = (0..MANY)
            .map(|at| {
                let child = fork(|| {
                    get_and(ring, &patiently(), true).unwrap();
                    counts[1].fetch_add(1, Ordering::Relaxed);
                    gates[1].pass();
                    ring.hands().done(queued).unwrap();
                });
                until("it has one", || counts[1].load(Ordering::Relaxed) > at);
                child
            })
            .collect();
        assert_eq!((ring.len(), ring.unfinished()), (0, MANY));
        gates[0].open();
        idle.into_iter().for_each(Child::join);
        assert_eq!(ring.hands().forget_the_dead(), 0);
        // One with a row dies, and only its own item counts as dead.
        let victim = busy.remove(ROWS as usize - 1);
        victim.kill();
        let number = victim.number;
        victim.perish();
        assert_eq!(ring.hands().of_the_dead(), [(number, 1)]);
        assert_eq!(ring.hands().forget_the_dead(), 1);
        assert_eq!(ring.unfinished(), MANY - 1);
        // And of one without a row nothing is known.
        let victim = busy.pop().unwrap();
        victim.kill();
        victim.perish();
        assert_eq!(ring.hands().of_the_dead(), []);
        gates[1].open();
        busy.into_iter().for_each(Child::join);
        assert_eq!(ring.unfinished(), 1);
    });
}

/// The two ends of a bell, and whether a byte lies in it.
fn bell() -> ([i32; 2], impl Fn() -> bool) {
    let mut ends = [0; 2];
    // SAFETY: plain system calls; the array has room for two.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
    assert_eq!(made, 0);
    let look = move || {
        let mut polled = libc::pollfd {
            fd: ends[1],
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: as above, for one file.
        unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
    };
    (ends, look)
}

/// A ring that somebody selects on: a byte lies in the bell while there are items, whoever dies.
#[test]
fn a_bell_whose_ringer_dies() {
    alone("a_bell_whose_ringer_dies", || {
        let small = [0; 8];
        for nth in [1, 2, 5] {
            let (_handle, ring) = make(NO_LIMITS);
            let ([put_end, get_end], rings) = bell();
            let put = |times: u32| {
                (0..times).for_each(|_| assert!(ring.try_put(Record::Small(7, &small), put_end).unwrap()));
            };
            let get = || {
                let mut bytes = [0; INLINE];
                // SAFETY: the buffer has INLINE bytes.
                unsafe { ring.try_get(bytes.as_mut_ptr(), false, get_end) }.is_some()
            };
            put(2);
            ring.watch(put_end);
            assert!(rings());
            while get() {}
            assert!(!rings());
            // One that puts, and one that gets, dies between the bell and the commit.
            assert!(killed_at("bell", nth, || put(5)));
            assert_eq!(ring.len() as u32, nth - 1);
            while get() {}
            assert!(!rings(), "nothing is there");
            put(5);
            assert!(rings());
            assert!(killed_at("bell", nth, || while get() {}));
            assert_eq!(ring.len() as u32, 5 - nth);
            while get() {}
            assert!(!rings());
            put(3);
            assert!(rings() && get() && get() && rings() && get() && !rings());
        }
    });
}

/// A getter sleeps, the putter dies between its commit and the wake-up; and the other way round.
#[test]
fn a_wakeup_that_dies_with_its_sender() {
    alone_for(
        "a_wakeup_that_dies_with_its_sender",
        Duration::from_secs(120),
        || {
            for point in ["put.after_commit", "take", "notify"] {
                for sleepers in [1, 3] {
                    let (_handle, ring) = make(NO_LIMITS);
                    let getters: Vec<Child> = (0..sleepers)
                        .map(|_| fork(|| assert!(get(ring, &patiently()).is_ok())))
                        .collect();
                    until("they sleep", || {
                        phalanx::wait::shared::sleepers().len() == sleepers
                    });
                    assert!(killed_at(point, 1, || put(
                        ring,
                        1,
                        Shape::Large(500),
                        &patiently()
                    )
                    .unwrap()));
                    // One has the item; the others get one each.
                    (1..sleepers).for_each(|_| put(ring, 2, Shape::Small(8), &patiently()).unwrap());
                    getters.into_iter().for_each(Child::join);
                    assert!(ring.is_empty());
                }
            }
            for point in ["get.after_commit", "take", "notify"] {
                let (_handle, ring) = make(Limits {
                    maxsize: 1,
                    ..NO_LIMITS
                });
                put(ring, 1, Shape::Small(8), &patiently()).unwrap();
                let putter = fork(|| put(ring, 2, Shape::Small(8), &patiently()).unwrap());
                until("it sleeps", || phalanx::wait::shared::sleepers().len() == 1);
                assert!(killed_at(point, 1, || assert_eq!(
                    get(ring, &patiently()).unwrap(),
                    1
                )));
                putter.join();
                assert_eq!(get(ring, &patiently()).unwrap(), 2);
            }
        },
    );
}

/// A sleeper dies in the queue; the wake-up goes to another one.
#[test]
fn a_sleeper_that_is_killed() {
    alone_for("a_sleeper_that_is_killed", Duration::from_secs(120), || {
        let before = used();
        for nth in [1, 2] {
            let (handle, ring) = make(NO_LIMITS);
            let patient = fork(|| assert_eq!(get(ring, &patiently()).unwrap(), 7));
            until("it sleeps", || phalanx::wait::shared::sleepers().len() == 1);
            let mut victim = fork(|| {
                point::arm("queued", nth);
                // Woken once without effect before it comes there the second time.
                loop {
                    let _ = get(ring, &How::at_most(Duration::from_millis(5)));
                }
            });
            until("its end", || victim.has_ended());
            put(ring, 7, Shape::Large(9_000), &patiently()).unwrap();
            patient.join();
            assert_eq!(victim.ending(), Ending::Killed(libc::SIGKILL));
            processes::buried(victim.number);
            assert!(ring.is_empty());
            drop(handle);
            assert_eq!(used(), before);
        }
    });
}

#[test]
fn the_heap_grows_under_a_dead_one() {
    alone("the_heap_grows_under_a_dead_one", || {
        let before = used();
        let mut mine = Vec::new();
        for size in [100, 100_000, 20 << 20] {
            for nth in [1, 2, 3] {
                // It allocates until the file has to grow, which is where it dies.
                let killed = killed_at("grow", nth, || {
                    for _ in 0..100 * nth {
                        heap::allocate(size).unwrap();
                        heap::allocate(20_000).unwrap();
                    }
                });
                assert!(killed, "{size} {nth}");
                // So that there is less room each time, in both zones.
                mine.extend((0..20).map(|_| heap::allocate(200_000).unwrap()));
                mine.push(heap::allocate(size).unwrap());
            }
        }
        mine.into_iter().for_each(heap::free);
        assert_eq!(used(), before);
    });
}

/// Killed with the arena locked, in the middle of an allocation: no unit is lost, and the shortcuts are right again.
#[test]
fn an_allocation_that_is_never_finished() {
    alone("an_allocation_that_is_never_finished", || {
        let before = used();
        // Whatever the file has is given back and taken again, so that a unit that is lost makes it grow.
        let all = || {
            let blocks: Vec<u64> = (0..300)
                .map(|at| heap::allocate(100 + at * 1_000).unwrap())
                .collect();
            blocks.into_iter().for_each(heap::free);
            heap::usage()
        };
        all();
        for (point, size) in [("run", 20_000), ("run", 5 << 20), ("slab", 100), ("slab", 16_000)] {
            for nth in [1, 2] {
                let steady = all();
                let killed = killed_at(point, nth, || {
                    for _ in 0..2_000 {
                        heap::allocate(size).unwrap();
                    }
                });
                assert!(killed, "{point} {size}");
                let after = all();
                assert_eq!((after.0, before), (before, before));
                let blocks: Vec<u64> = (0..200).map(|_| heap::allocate(size).unwrap()).collect();
                blocks.into_iter().for_each(heap::free);
                assert_eq!(all(), heap::usage());
                assert!(steady.0 == before);
            }
        }
        let steady = all();
        for _ in 0..200 {
            assert!(killed_at("run", 1, || {
                heap::allocate(700_000).unwrap();
            }));
            assert!(killed_at("slab", 1, || {
                loop {
                    heap::allocate(16_000).unwrap();
                }
            }));
        }
        // What the dead began is found again. The slabs that they finished stay slabs.
        let slack = 64 * UNIT as u64;
        assert!(all().1 <= steady.1 + slack, "{:?} and then {:?}", steady, all());
        assert_eq!(used(), before);
    });
}

/// Killed when an object was about to be freed.
#[test]
fn an_object_whose_last_holder_dies_over_it() {
    alone("an_object_whose_last_holder_dies_over_it", || {
        let before = used();
        for nth in [1, 2, 5] {
            assert!(killed_at("free", nth, || {
                loop {
                    let (handle, ring) = make(NO_LIMITS);
                    (0..20).for_each(|number| put(ring, number, Shape::of(number), &patiently()).unwrap());
                    drop(handle);
                }
            }));
            assert_eq!(used(), before, "{nth}");
        }
    });
}

/// The undertaker dies, at each step of a burial; the next one does it again.
#[test]
fn an_undertaker_that_is_killed() {
    alone("an_undertaker_that_is_killed", || {
        let before = used();
        for nth in 1..=4 {
            let (handle, ring) = make(NO_LIMITS);
            let event = Placed::new(Event::new());
            let mut victim = fork(|| {
                let mine: Vec<Handle> = (1..9).map(|at| Handle::new(3, at * 700).unwrap()).collect();
                for size in 1..9 {
                    heap::allocate(size * 9_000).unwrap();
                }
                put(ring, 1, Shape::Large(5_000), &patiently()).unwrap();
                let _ = event.wait(&patiently());
                drop(mine);
            });
            event.until_waiting(1);
            victim.kill();
            until("its end", || victim.has_ended());
            let mut undertaker = fork(|| {
                point::arm("bury", nth);
                tree::is_dead(victim.number);
            });
            assert_eq!(undertaker.ending(), Ending::Killed(libc::SIGKILL));
            // The seat may be somebody else's by now, and he must not suffer from the second burial.
            let newcomer = fork(|| {
                let name = handle.name();
                let mine = Handle::new(4, 5_000).unwrap();
                until("the second burial", || {
                    tree::life(victim.number).dead && !tree::living().contains(&victim.number)
                });
                assert!(mine.holders() == [tree::number()] && name.is_held());
            });
            processes::buried(undertaker.number);
            processes::buried(victim.number);
            newcomer.join();
            assert_eq!(victim.ending(), Ending::Killed(libc::SIGKILL));
            assert_eq!(phalanx::wait::shared::count(phalanx::wait::key_of(&*event)), 0);
            assert_eq!(drain(ring), [1]);
            drop((handle, event));
            assert_eq!(used(), before, "{nth}");
        }
    });
}

// ---------------------------------------------------------------- the primitives

/// Takes the lock; if its owner has died, says that all is well. How often it did so.
fn lock_or_recover(lock: impl Fn() -> Result<bool, Stopped>, recover: impl Fn() -> bool) -> u32 {
    let mut recovered = 0;
    loop {
        match lock() {
            Ok(true) => return recovered,
            Err(Stopped::OwnerDied(_)) => recovered += u32::from(recover()),
            ended => panic!("{ended:?}"),
        }
    }
}

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

// ---------------------------------------------------------------- storms

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
