//! Handles in messages: the objects live as long as the message, and not longer, whoever dies over it.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(
    clippy::disallowed_methods,
    reason = "a clock round everything, and pauses between random kills"
)]

mod processes;

use phalanx::channel::{INLINE, Item, Limits, Payload, Record, Ring};
use phalanx::shm::{self, Handle, heap, point, riders, tree};
use processes::{Child, Dice, Ending, alone, alone_for, buried, fork, patiently, until, used};
use std::time::{Duration, Instant};

const KIND: u32 = 7;
const MESSAGE: u8 = 9;

/// Pickles handles into a block of this process, with `more` bytes behind them.
fn message(handles: &[&Handle], more: usize) -> Payload {
    riders::gather();
    let words: Vec<u64> = handles
        .iter()
        .flat_map(|handle| {
            let (tree, number) = handle.pack();
            [tree[0], tree[1], number]
        })
        .collect();
    let gathered = riders::gathered();
    let len = words.len() * 8 + more;
    let offset = heap::allocate(riders::size_with(heap::HEAD + len, gathered.len())).unwrap();
    // SAFETY: the block is ours and that long.
    unsafe {
        let to = heap::bytes(offset);
        std::ptr::copy_nonoverlapping(words.as_ptr().cast::<u8>(), to, words.len() * 8);
        to.add(words.len() * 8).write_bytes(0xA5, more);
    }
    riders::load(offset, &gathered);
    Payload {
        offset,
        len: len as u64,
    }
}

fn unpickled(payload: Payload, at: usize) -> Handle {
    let word = |word: usize| {
        // SAFETY: the message has three words for each handle, and nobody changes it.
        unsafe {
            heap::bytes(payload.offset)
                .cast::<u64>()
                .add(3 * at + word)
                .read()
        }
    };
    Handle::unpack([word(0), word(1)], word(2), KIND).expect("what rides in a message stays as long as that")
}

fn queue() -> Handle {
    Ring::make(Limits {
        maxsize: 0,
        ceiling: u64::MAX,
    })
    .unwrap()
}

fn put(queue: &Handle, payload: Payload) {
    let record = Record::Large(MESSAGE, payload);
    Ring::of(queue).put(record, &patiently(), None, -1).unwrap();
}

fn try_get(queue: &Handle) -> Option<Payload> {
    let mut bytes = [0; INLINE];
    // SAFETY: the room that is asked for.
    match unsafe { Ring::of(queue).try_get(bytes.as_mut_ptr(), false, -1) } {
        Some(Item::Large(MESSAGE, payload)) => Some(payload),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rider_lives_as_long_as_its_message() {
    alone("a_rider_lives_as_long_as_its_message", || {
        let before = used();
        for more in [0, 1, 7, 100, 5_000, 40_000, 300_000, 3_000_000] {
            for many in [1, 2, 3, 40] {
                let (one, other) = (Handle::new(KIND, 10).unwrap(), Handle::new(KIND, 90_000).unwrap());
                let (first, second) = (one.name(), other.name());
                // The same one may ride several times.
                let all: Vec<&Handle> = (0..many)
                    .map(|at| if at % 2 == 0 { &one } else { &other })
                    .collect();
                let payload = message(&all, more);
                assert_eq!(riders::count(payload.offset), many);
                drop((one, other));
                assert!(first.is_held() && first.is_on_its_way());
                assert_eq!(second.is_held(), many > 1);
                assert_eq!(shm::holders_of(first), [0], "nobody in particular");
                // Any number of times.
                for _ in 0..3 {
                    assert_eq!(unpickled(payload, 0).name(), first);
                }
                let kept = unpickled(payload, many - 1);
                heap::free(payload.offset);
                assert_eq!(kept.holders(), [tree::number()]);
                assert!(!kept.name().is_on_its_way());
                assert_eq!([first, second].iter().filter(|name| name.is_held()).count(), 1);
                drop(kept);
                assert_eq!(used(), before, "{more} {many}");
            }
        }
        // A message within a message: each has its own.
        let (outer, inner) = (Handle::new(KIND, 1).unwrap(), Handle::new(KIND, 1).unwrap());
        riders::gather();
        outer.pack();
        let payload = message(&[&inner], 0);
        let gathered = riders::gathered();
        assert!(riders::may_travel(outer.name()) && gathered.len() == 1);
        assert_eq!(riders::count(payload.offset), 1);
        drop(gathered);
        assert!(!riders::may_travel(outer.name()) && riders::may_travel(inner.name()));
        // Bytes that were read may be unpickled later, so that object stays.
        riders::keep(payload.offset);
        heap::free(payload.offset);
        let name = inner.name();
        drop((inner, outer));
        assert!(name.is_held());
    });
}

#[test]
fn a_message_goes_with_its_queue_and_that_with_its_own() {
    alone("a_message_goes_with_its_queue_and_that_with_its_own", || {
        let before = used();
        // A chain that is longer than the stack that it is taken apart on.
        let last = Handle::new(KIND, 1).unwrap();
        let name = last.name();
        let mut inner = queue();
        put(&inner, message(&[&last], 0));
        drop(last);
        for _ in 0..1_000 {
            let outer = queue();
            put(&outer, message(&[&inner], 0));
            inner = outer;
        }
        assert!(name.is_held());
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn(|| drop(inner)).unwrap().join().unwrap();
        assert!(!name.is_held());
        assert_eq!(used(), before);
    });
}

/// Putters and getters that die at each step: what rode is held by those who live, or by nobody.
#[test]
fn whoever_dies_over_a_message() {
    alone_for("whoever_dies_over_a_message", Duration::from_secs(120), || {
        let before = used();
        let mut died = 0;
        for point in [
            "riders.load",
            "riders.unload",
            "put.before_commit",
            "put.after_commit",
            "get.before_commit",
            "get.after_commit",
            "get.payload",
            "free",
        ] {
            for nth in 1..=12 {
                let one = queue();
                let (mine, theirs) = (Handle::new(KIND, 10).unwrap(), Handle::new(KIND, 20_000).unwrap());
                let mut child = fork(|| {
                    assert!(point::arm(point, nth));
                    for _ in 0..5 {
                        let third = Handle::new(KIND, 300).unwrap();
                        put(&one, message(&[&mine, &third, &theirs, &mine], 0));
                        put(&one, message(&[&third], 100_000));
                        drop(third);
                        let payload = try_get(&one).unwrap();
                        drop(unpickled(payload, 0));
                        heap::free(payload.offset);
                    }
                });
                died += u32::from(child.ending() == Ending::Killed(libc::SIGKILL));
                buried(child.number);
                // What the dead had taken out and not yet made its own goes when the queue is used again.
                put(&one, message(&[&mine], 0));
                // What lies in the queue is whole.
                while let Some(payload) = try_get(&one) {
                    assert!(unpickled(payload, 0).name().is_on_its_way());
                    heap::free(payload.offset);
                }
                for handle in [&mine, &theirs] {
                    assert_eq!(handle.holders(), [tree::number()], "{point} {nth}");
                }
                drop((one, mine, theirs));
                assert_eq!(used(), before, "{point} {nth}");
            }
        }
        assert!(died > 40, "{died}");
    });
}

/// The undertaker of a getter dies over the message in its hands.
#[test]
fn an_undertaker_that_dies_over_a_message() {
    alone("an_undertaker_that_dies_over_a_message", || {
        let before = used();
        for nth in 1..=4 {
            let one = queue();
            let handles: Vec<Handle> = (0..3).map(|_| Handle::new(KIND, 10).unwrap()).collect();
            let names: Vec<_> = handles.iter().map(Handle::name).collect();
            put(&one, message(&[&handles[0], &handles[1], &handles[2]], 0));
            drop(handles);
            let mut getter = fork(|| {
                let _ = try_get(&one).unwrap();
                phalanx::sys::die();
            });
            until("its end", || getter.has_ended());
            assert!(names.iter().all(|name| name.is_held()));
            let mut undertaker = fork(|| {
                point::arm("riders.unload", nth);
                tree::is_dead(getter.number);
            });
            assert_eq!(undertaker.ending(), Ending::Killed(libc::SIGKILL), "{nth}");
            buried(undertaker.number);
            buried(getter.number);
            getter.ending();
            assert!(!names.iter().any(|name| name.is_held()));
            drop(one);
            assert_eq!(used(), before, "{nth}");
        }
    });
}

/// Processes that pass objects round in messages, killed at random.
#[test]
fn a_storm_over_messages() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("PHALANX_STORM_ROUNDS").unwrap_or(1);
    let time = Duration::from_secs(60 + rounds * 10);
    alone_for("a_storm_over_messages", time, || {
        let seed = number("PHALANX_STORM_SEED").unwrap_or_else(phalanx::sys::now);
        eprintln!("PHALANX_STORM_SEED={seed}");
        let mut dice = Dice::new(seed);
        let before = used();
        for _ in 0..rounds {
            let queues = [queue(), queue()];
            let kept = Handle::new(KIND, 100).unwrap();
            let work = |seed: u64| {
                let mut dice = Dice::new(seed);
                let mut mine: Vec<Handle> = vec![kept.clone()];
                loop {
                    let queue = &queues[dice.below(2) as usize];
                    let any = dice.below(mine.len() as u64) as usize;
                    match dice.below(5) {
                        0 if mine.len() < 9 => {
                            mine.push(Handle::new(KIND, dice.below(3_000) as usize + 1).unwrap());
                        }
                        1 if any != 0 => drop(mine.swap_remove(any)),
                        2 if Ring::of(queue).len() < 50 => {
                            let more = dice.below(9_000) as usize;
                            put(queue, message(&[&mine[any], &mine[0], &mine[any]], more));
                        }
                        _ => {
                            if let Some(payload) = try_get(queue) {
                                let handle = unpickled(payload, dice.below(3) as usize);
                                if mine.len() < 9 {
                                    mine.push(handle);
                                }
                                heap::free(payload.offset);
                            }
                        }
                    }
                }
            };
            let work = &work;
            let born = |seed: u64| {
                fork(move || {
                    let mut dice = Dice::new(seed ^ 0x5DEE_CE66);
                    let names: Vec<&str> = point::NAMES.iter().chain(point::INNER).copied().collect();
                    if dice.below(3) != 0 {
                        let name = names[dice.below(names.len() as u64) as usize];
                        let exponent = dice.below(12);
                        point::arm(name, 1 + dice.below(1 << exponent) as u32);
                    }
                    work(seed);
                })
            };
            let mut children: Vec<Child> = (0..4).map(|_| born(dice.word())).collect();
            let end = Instant::now() + Duration::from_secs(2);
            while Instant::now() < end {
                std::thread::sleep(Duration::from_micros(200 + dice.below(6_000)));
                let child = &mut children[dice.below(4) as usize];
                child.kill();
                if dice.below(4) == 0 {
                    until("its end", || child.has_ended());
                    tree::is_dead(child.number);
                }
                let ending = child.ending();
                assert_eq!(
                    ending,
                    Ending::Killed(libc::SIGKILL),
                    "a survivor had failed before"
                );
                *child = born(dice.word());
            }
            for child in children {
                child.kill();
                child.perish();
            }
            // What lies there is whole.
            for queue in &queues {
                while let Some(payload) = try_get(queue) {
                    (0..3).for_each(|at| drop(unpickled(payload, at)));
                    heap::free(payload.offset);
                }
            }
            until("everybody to be buried", || {
                tree::patrol();
                tree::living().len() == 1
            });
            drop(queues);
            assert_eq!(kept.holders(), [tree::number()]);
        }
        until("everything to be given back", || used() == before);
    });
}
