//! The ring between processes: against a plain deque, with many at both ends, and at its limits.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(clippy::disallowed_methods, reason = "threads that the core does not start")]

mod processes;

use phalanx::channel::{Ended, INLINE, Item, Limits, Record};
use phalanx::shm::{Handle, heap, tree};
use phalanx::wait::{self, How};
use processes::items::{NO_LIMITS, Shape, block, fill, get, make, open, put, try_get};
use processes::{Child, Gate, alone, alone_for, buried, fork, patiently, until, used, words};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn at_most(maxsize: u32) -> Limits {
    Limits { maxsize, ..NO_LIMITS }
}

fn at_once() -> How<'static> {
    How::at_most(Duration::ZERO)
}

// ---------------------------------------------------------------- alone

#[derive(Debug, Clone)]
enum Call {
    Small(usize),
    Large(usize),
    Many(Vec<usize>),
    /// So many gets in a row.
    Get(usize),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let len = || prop_oneof![3 => Just(8_usize), 2 => 0..100_usize, 2 => 0..=INLINE, 1 => Just(INLINE)];
    let call = prop_oneof![
        4 => len().prop_map(Call::Small),
        2 => (1..200_000_usize).prop_map(Call::Large),
        1 => prop::collection::vec(len(), 0..12).prop_map(Call::Many),
        3 => (1..20_usize).prop_map(Call::Get),
    ];
    prop::collection::vec(call, 0..200)
}

/// Kind and bytes of record `number`.
fn content(number: u64, len: usize) -> (u8, Vec<u8>) {
    let bytes = (0..len).map(|at| (number as usize * 7 + at) as u8).collect();
    (number as u8, bytes)
}

fn bytes_of(offset: u64, len: usize) -> &'static mut [u8] {
    // SAFETY: the test owns the block and has one thread.
    unsafe { std::slice::from_raw_parts_mut(heap::bytes(offset), len) }
}

#[test]
fn a_ring_does_what_a_deque_does() {
    alone_for("a_ring_does_what_a_deque_does", Duration::from_secs(180), || {
        let before = used();
        let limits = (
            prop_oneof![2 => Just(0), 1 => 1..20_u32],
            prop_oneof![2 => Just(u64::MAX), 1 => 1..400_000_u64],
        );
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::with_cases(50)
        });
        let run = runner.run(&(limits, calls()), |((maxsize, ceiling), calls)| {
            let (handle, ring) = make(Limits { maxsize, ceiling });
            let mut model: VecDeque<(u8, Vec<u8>, bool)> = VecDeque::new();
            let mut buffer = [0; INLINE];
            let mut number = 0;
            let full = |model: &VecDeque<_>| maxsize != 0 && model.len() >= maxsize as usize;
            let payloads = |model: &VecDeque<(u8, Vec<u8>, bool)>| -> u64 {
                model
                    .iter()
                    .filter(|item| item.2)
                    .map(|item| item.1.len() as u64)
                    .sum()
            };
            for call in calls {
                match call {
                    Call::Small(len) => {
                        number += 1;
                        let (kind, bytes) = content(number, len);
                        let taken = ring.try_put(Record::Small(kind, &bytes), -1).unwrap();
                        prop_assert_eq!(taken, !full(&model));
                        if taken {
                            model.push_back((kind, bytes, false));
                        }
                    }
                    Call::Large(len) => {
                        number += 1;
                        let (kind, bytes) = content(number, len);
                        let payload = block(number, len.max(8));
                        bytes_of(payload.offset, len).copy_from_slice(&bytes);
                        let payload = phalanx::channel::Payload {
                            len: len as u64,
                            ..payload
                        };
                        let taken = ring.try_put(Record::Large(kind, payload), -1).unwrap();
                        let there = payloads(&model);
                        let fits = there == 0 || there + len as u64 <= ceiling;
                        prop_assert_eq!(taken, !full(&model) && fits);
                        if taken {
                            model.push_back((kind, bytes, true));
                        } else {
                            heap::free(payload.offset);
                        }
                    }
                    Call::Many(lens) => {
                        let items: Vec<(u8, Vec<u8>)> = lens
                            .into_iter()
                            .map(|len| {
                                number += 1;
                                content(number, len)
                            })
                            .collect();
                        let records: Vec<Record<'_>> = items
                            .iter()
                            .map(|(kind, bytes)| Record::Small(*kind, bytes))
                            .collect();
                        let taken = ring.try_put_many(&records).unwrap();
                        let room = if maxsize == 0 {
                            usize::MAX
                        } else {
                            maxsize as usize - model.len()
                        };
                        prop_assert_eq!(taken, records.len().min(room));
                        model.extend(
                            items
                                .into_iter()
                                .take(taken)
                                .map(|(kind, bytes)| (kind, bytes, false)),
                        );
                    }
                    Call::Get(times) => {
                        for _ in 0..times {
                            // SAFETY: the buffer has INLINE bytes.
                            let got = unsafe { ring.try_get(buffer.as_mut_ptr(), false, -1) };
                            let Some((kind, bytes, large)) = model.pop_front() else {
                                prop_assert_eq!(got, None);
                                break;
                            };
                            match got {
                                Some(Item::Small(got, len)) => {
                                    prop_assert!(!large);
                                    prop_assert_eq!((got, &buffer[..len]), (kind, &bytes[..]));
                                }
                                Some(Item::Large(got, payload)) => {
                                    prop_assert!(large);
                                    prop_assert_eq!(got, kind);
                                    prop_assert_eq!(
                                        &*bytes_of(payload.offset, payload.len as usize),
                                        &bytes[..]
                                    );
                                    heap::free(payload.offset);
                                }
                                None => prop_assert!(false, "the ring has lost one"),
                            }
                        }
                    }
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert_eq!(
                    (ring.is_empty(), ring.is_full()),
                    (model.is_empty(), full(&model))
                );
                prop_assert_eq!(ring.unfinished(), model.len() as u64);
            }
            drop(handle);
            prop_assert_eq!(used(), before, "what was queued goes with the ring");
            Ok(())
        });
        run.unwrap();
    });
}

/// More than 2^32 words go through one ring, in records that end exactly with each chunk, and in others.
#[test]
fn positions_wrap() {
    alone_for("positions_wrap", Duration::from_secs(300), || {
        let before = used();
        for (len, items) in [(8_176, 4_300_000_u64), (INLINE, 4_250_000)] {
            let (handle, ring) = make(NO_LIMITS);
            let mut item = [0xA5_u8; INLINE];
            let mut buffer = [0; INLINE];
            for number in 0..items + 2 {
                if number < items {
                    item[..8].copy_from_slice(&number.to_le_bytes());
                    item[len - 8..len].copy_from_slice(&number.to_le_bytes());
                    assert!(ring.try_put(Record::Small(1, &item[..len]), -1).unwrap());
                }
                if let Some(number) = number.checked_sub(2) {
                    // SAFETY: the buffer has INLINE bytes.
                    let got = unsafe { ring.try_get(buffer.as_mut_ptr(), false, -1) };
                    assert_eq!(got, Some(Item::Small(1, len)));
                    assert!(
                        buffer[..8] == number.to_le_bytes() && buffer[len - 8..len] == number.to_le_bytes(),
                        "item {number}"
                    );
                }
            }
            drop(handle);
        }
        assert_eq!(used(), before);
    });
}

/// Small records fill all chunks that a ring can have; then there is no room, and then there is again.
#[test]
fn every_chunk_is_used() {
    alone("every_chunk_is_used", || {
        let before = used();
        let (handle, ring) = make(NO_LIMITS);
        for _ in 0..2 {
            let item = [7; INLINE];
            let mut count = 0_u64;
            while ring.try_put(Record::Small(1, &item), -1).unwrap() {
                count += 1;
            }
            assert!(count > 28_000, "{count} of 8 KiB each");
            assert_eq!(ring.len() as u64, count);
            assert!(matches!(
                ring.put(Record::Small(1, &item), &at_once(), None, -1),
                Err(Ended::TimedOut)
            ));
            let mut buffer = [0; INLINE];
            for _ in 0..count {
                // SAFETY: the buffer has INLINE bytes.
                let got = unsafe { ring.try_get(buffer.as_mut_ptr(), false, -1) };
                assert_eq!(got, Some(Item::Small(1, INLINE)));
            }
            assert!(ring.is_empty());
        }
        drop(handle);
        assert_eq!(used(), before);
    });
}

#[test]
fn waits_end_in_time() {
    alone("waits_end_in_time", || {
        let (_handle, ring) = make(at_most(1));
        let soon = || How::at_most(Duration::from_millis(30));
        assert!(matches!(get(ring, &at_once()), Err(Ended::TimedOut)));
        assert!(matches!(get(ring, &soon()), Err(Ended::TimedOut)));
        assert!(matches!(ring.wait_for_item(&soon(), None), Err(Ended::TimedOut)));
        put(ring, 1, Shape::Small(8), &at_once()).unwrap();
        ring.wait_for_item(&soon(), None).unwrap();
        assert!(matches!(
            put(ring, 2, Shape::Small(8), &at_once()),
            Err(Ended::TimedOut)
        ));
        assert!(matches!(
            put(ring, 2, Shape::Large(100), &soon()),
            Err(Ended::TimedOut)
        ));
        assert_eq!(get(ring, &at_once()).unwrap(), 1);
    });
}

#[test]
fn one_item_is_taken_however_large() {
    alone("one_item_is_taken_however_large", || {
        let before = used();
        let (handle, ring) = make(Limits {
            maxsize: 0,
            ceiling: 1_000,
        });
        put(ring, 1, Shape::Large(1 << 20), &at_once()).unwrap();
        assert!(matches!(
            put(ring, 2, Shape::Large(100), &at_once()),
            Err(Ended::TimedOut)
        ));
        put(ring, 3, Shape::Small(8), &at_once()).unwrap();
        assert_eq!(get(ring, &at_once()).unwrap(), 1);
        put(ring, 4, Shape::Large(600), &at_once()).unwrap();
        assert!(matches!(
            put(ring, 5, Shape::Large(600), &at_once()),
            Err(Ended::TimedOut)
        ));
        put(ring, 6, Shape::Large(400), &at_once()).unwrap();
        let got: Vec<u64> = std::iter::from_fn(|| try_get(ring)).collect();
        assert_eq!(got, [3, 4, 6]);
        drop(handle);
        assert_eq!(used(), before);
    });
}

// ---------------------------------------------------------------- many

/// What goes in comes out once, and what one putter puts one getter gets in order.
fn many(
    producers: u64,
    consumers: usize,
    each: u64,
    limits: Limits,
    run: impl Fn(Vec<Box<dyn Fn() + Send + Sync>>),
) {
    let before = used();
    let (handle, ring) = make(limits);
    let got = words((producers * each) as usize);
    const DONE: u64 = u64::MAX;
    let mut parts: Vec<Box<dyn Fn() + Send + Sync>> = Vec::new();
    for producer in 0..producers {
        parts.push(Box::new(move || {
            for at in 0..each {
                let number = producer * each + at;
                put(ring, number, Shape::of(number), &patiently()).unwrap();
            }
        }));
    }
    for _ in 0..consumers {
        parts.push(Box::new(move || {
            let mut last = vec![0; producers as usize];
            loop {
                let number = get(ring, &patiently()).unwrap();
                if number == DONE {
                    break;
                }
                assert_eq!(
                    got[number as usize].fetch_add(1, Ordering::Relaxed),
                    0,
                    "item {number} again"
                );
                let (producer, at) = ((number / each) as usize, number % each + 1);
                assert!(at > last[producer], "out of order");
                last[producer] = at;
            }
        }));
    }
    // Those who put end by themselves; then the others are told.
    parts.push(Box::new(move || {
        until("all to be got", || {
            got.iter().all(|got| got.load(Ordering::Relaxed) == 1)
        });
        for _ in 0..consumers {
            put(ring, DONE, Shape::Small(8), &patiently()).unwrap();
        }
    }));
    run(parts);
    assert!(ring.is_empty() && got.iter().all(|got| got.load(Ordering::Relaxed) == 1));
    drop(handle);
    assert_eq!(used(), before);
}

fn in_threads(parts: Vec<Box<dyn Fn() + Send + Sync>>) {
    let parts: Vec<&(dyn Fn() + Sync)> = parts.iter().map(|part| &**part as _).collect();
    processes::in_threads(&parts);
}

fn in_processes(parts: Vec<Box<dyn Fn() + Send + Sync>>) {
    let children: Vec<Child> = parts.iter().map(fork).collect();
    children.into_iter().for_each(Child::join);
}

#[test]
fn threads_at_both_ends() {
    alone("threads_at_both_ends", || {
        many(2, 2, 4_000, NO_LIMITS, in_threads)
    });
}

#[test]
fn threads_at_both_ends_of_a_narrow_ring() {
    alone("threads_at_both_ends_of_a_narrow_ring", || {
        let limits = Limits {
            maxsize: 3,
            ceiling: 60_000,
        };
        many(2, 2, 1_500, limits, in_threads);
    });
}

#[test]
fn processes_at_both_ends() {
    alone("processes_at_both_ends", || {
        many(2, 2, 20_000, NO_LIMITS, in_processes)
    });
}

#[test]
fn processes_at_both_ends_of_a_narrow_ring() {
    alone("processes_at_both_ends_of_a_narrow_ring", || {
        let limits = Limits {
            maxsize: 3,
            ceiling: 60_000,
        };
        many(2, 2, 5_000, limits, in_processes);
    });
}

#[test]
fn one_to_many_and_many_to_one() {
    alone_for("one_to_many_and_many_to_one", Duration::from_secs(120), || {
        many(1, 5, 10_000, at_most(10), in_processes);
        many(5, 1, 2_000, at_most(10), in_processes);
    });
}

#[test]
fn putters_of_many_at_once() {
    alone("putters_of_many_at_once", || {
        let (_handle, ring) = make(at_most(40));
        let getter = fork(|| {
            for expected in 0..3_000 {
                assert_eq!(get(ring, &patiently()).unwrap(), expected);
            }
        });
        let items: Vec<[u8; 16]> = (0..3_000)
            .map(|number| {
                let mut item = [0; 16];
                fill(number, &mut item);
                item
            })
            .collect();
        let mut left: &[[u8; 16]] = &items;
        while !left.is_empty() {
            let records: Vec<Record<'_>> = left
                .iter()
                .take(25)
                .map(|item| Record::Small(7, &item[..]))
                .collect();
            let done = ring.try_put_many(&records).unwrap();
            left = &left[done..];
            if done == 0 {
                thread::yield_now();
            }
        }
        getter.join();
    });
}

/// A message there and back, with both sides asleep most of the time.
#[test]
fn nobody_sleeps_through_a_message() {
    alone("nobody_sleeps_through_a_message", || {
        let ((_there, there), (_back, back)) = (make(NO_LIMITS), make(NO_LIMITS));
        let other = fork(|| {
            for number in 0..5_000 {
                assert_eq!(get(there, &patiently()).unwrap(), number);
                put(back, number, Shape::Small(8), &patiently()).unwrap();
            }
        });
        for number in 0..5_000 {
            put(there, number, Shape::Small(8), &patiently()).unwrap();
            assert_eq!(get(back, &patiently()).unwrap(), number);
        }
        other.join();
    });
}

// ---------------------------------------------------------------- the other end is gone

#[test]
fn a_getter_learns_that_no_putter_is_left() {
    alone("a_getter_learns_that_no_putter_is_left", || {
        let (_ring, ring) = make(NO_LIMITS);
        let end = Handle::new(1, 8).unwrap();
        let name = end.name();
        let ready = Gate::new();
        // The child is the only one who holds the putters' end.
        let child = fork(|| {
            put(ring, 1, Shape::Large(5_000), &patiently()).unwrap();
            ready.open();
            loop {
                thread::yield_now();
            }
        });
        ready.pass();
        drop(end);
        let mut bytes = [0; INLINE];
        let mut get = |how: &How<'_>| {
            // SAFETY: the buffer has INLINE bytes.
            let item = unsafe { ring.get(bytes.as_mut_ptr(), how, Some(name), false, -1) };
            item.map(|item| open(item, &bytes))
        };
        assert!(matches!(get(&patiently()), Ok(Some(1))));
        assert!(
            matches!(
                get(&How::at_most(Duration::from_millis(20))),
                Err(Ended::TimedOut)
            ),
            "it lives"
        );
        thread::scope(|scope| {
            scope.spawn(|| {
                until("the getter sleeps", || !wait::shared::sleepers().is_empty());
                child.kill();
            });
            assert!(matches!(get(&patiently()), Err(Ended::Closed)));
        });
        assert!(
            matches!(get(&patiently()), Err(Ended::Closed)),
            "and again at once"
        );
        child.perish();
    });
}

#[test]
fn a_putter_learns_that_no_getter_is_left() {
    alone("a_putter_learns_that_no_getter_is_left", || {
        let (_ring, ring) = make(at_most(1));
        let end = Handle::new(1, 8).unwrap();
        let name = end.name();
        let mut children: Vec<Child> = (0..2)
            .map(|_| {
                fork(|| {
                    loop {
                        thread::yield_now();
                    }
                })
            })
            .collect();
        drop(end);
        put(ring, 1, Shape::Small(8), &patiently()).unwrap();
        let put = |how: &How<'_>| ring.put(Record::Small(7, &[0; 8]), how, Some(name), -1);
        assert!(matches!(put(&at_once()), Err(Ended::TimedOut)));
        let first = children.pop().unwrap();
        first.kill();
        first.perish();
        assert!(
            matches!(
                put(&How::at_most(Duration::from_millis(150))),
                Err(Ended::TimedOut)
            ),
            "one lives"
        );
        let last = children.pop().unwrap();
        last.kill();
        assert!(matches!(put(&patiently()), Err(Ended::Closed)));
        last.perish();
        assert_eq!(get(ring, &at_once()).unwrap(), 1, "what is there can be got");
    });
}

// ---------------------------------------------------------------- a putter that is stopped

/// A process that is stopped in the middle of a put is not dead: others wait for it.
#[test]
fn a_stopped_process_keeps_its_guard() {
    alone("a_stopped_process_keeps_its_guard", || {
        let (_handle, ring) = make(NO_LIMITS);
        let child = fork(|| {
            for number in 0.. {
                if put(ring, number, Shape::Small(4_000), &patiently()).is_err() {
                    break;
                }
            }
        });
        let mut expected = 0;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Stopped in the heap's guard, the child holds us up as well, until somebody else lets it go on.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(100));
                    child.signal(libc::SIGCONT);
                }
            });
            for _ in 0..20 {
                child.signal(libc::SIGSTOP);
                assert!(!tree::is_dead(child.number));
                while let Some(number) = try_get(ring) {
                    assert_eq!(number, expected);
                    expected += 1;
                    if !child.is_stopped() {
                        break;
                    }
                }
                child.signal(libc::SIGCONT);
                until("it goes on", || !ring.is_empty());
            }
            over.store(true, Ordering::Relaxed);
        });
        let number = child.number;
        child.kill();
        child.perish();
        buried(number);
        while let Some(number) = try_get(ring) {
            assert_eq!(number, expected);
            expected += 1;
        }
        put(ring, 1, Shape::Small(8), &patiently()).unwrap();
        assert_eq!(try_get(ring), Some(1));
    });
}
