//! Processes that are killed at each named point of the protocols of ring, heap and burial. Those of the primitives:
//! `crash_sync.rs`; at random: `storms.rs`.
//!
//! What must hold for the others: at most the item in the hands of the dead is lost, none comes twice, none is torn, nobody
//! waits for ever, and in the end not one byte of the arena is in use.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]

mod processes;

use phalanx::channel::{INLINE, Limits, Record, Ring};
use phalanx::shm::{self, Handle, UNIT, heap, point, tree};
use phalanx::sync::shared::Event;
use phalanx::wait::{How, Stopped};
use processes::items::{NO_LIMITS, Shape, get, get_and, make, put, try_get};
use processes::{Child, Ending, Placed, alone, alone_for, fork, killed_at, patiently, until, used, words};
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    // Each name occurs in a test, below or in the file that is named; this one notices a new one.
    let known = [
        "put.before_commit",
        "put.after_commit",
        "put.payload",
        "get.before_commit",
        "get.after_commit",
        "get.payload",
        "grow",
        "queued",
        "notify",
        "run",
        "slab",
        "free",
        "take",
        "bury",
        "bell",
        "mend",
        // tests/crash_sync.rs
        "acquire",
        "release",
        "offer",
        "recover",
        // tests/shared_barrier.rs
        "barrier",
        "mourn",
        // tests/riders.rs
        "riders.load",
        "riders.unload",
        // tests/table_crash.rs
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
            "{name} is new: say in a test what its death leaves"
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
