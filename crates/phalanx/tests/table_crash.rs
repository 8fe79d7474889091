//! Tables with processes that are killed inside: as before a change or as after it, and nothing else.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(
    clippy::disallowed_methods,
    reason = "pauses of different lengths before a kill"
)]

mod processes;

use phalanx::shm::{Handle, heap, point, tree};
use phalanx::table::{Slice, Table, begin_pulse};
use processes::records::{LONGEST, Made, Value, content, entry, item, make, taken};
use processes::{Ending, alone, alone_for, buried, fork, used};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Something that is done to a table, and the values that it has afterwards.
type Step = (Box<dyn Fn(&Table)>, Vec<Value>);

/// What a victim does to a table with keys, or to a list.
struct Deeds {
    keyed: bool,
    steps: Vec<Step>,
}

fn small(n: u8) -> Value {
    (2, vec![n; 20])
}

fn large(n: u8) -> Value {
    (2, vec![n; 30_000])
}

fn on_keys() -> Deeds {
    let mut model: Vec<(u64, Value)> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for round in 0..40_u8 {
        for key in [1, 2, 3, u64::from(round) + 4] {
            let value = if key == 2 {
                large(round)
            } else if key == 3 {
                (1, vec![round; 8])
            } else {
                small(round)
            };
            let copy = value.clone();
            match model.iter_mut().find(|(other, _)| *other == key) {
                Some((_, there)) => *there = value,
                None => model.push((key, value)),
            }
            let after = model.iter().map(|(_, value)| value.clone()).collect();
            steps.push((
                Box::new(move |table| table.set(entry(key, &copy).record()).unwrap()),
                after,
            ));
        }
        if round % 3 == 0 {
            let key = if round % 2 == 0 { 2 } else { u64::from(round) + 4 };
            model.retain(|(other, _)| *other != key);
            let after = model.iter().map(|(_, value)| value.clone()).collect();
            steps.push((
                Box::new(move |table| {
                    let (mut room, key) = (vec![0; LONGEST], Made::new(Some(key), None, None));
                    // SAFETY: room for the longest record.
                    let removed = unsafe { table.remove(key.record(), room.as_mut_ptr()) };
                    assert_eq!(removed, Ok(true));
                    taken(&room);
                }),
                after,
            ));
        }
    }
    Deeds { keyed: true, steps }
}

fn on_list() -> Deeds {
    let mut model: Vec<Value> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for round in 0..40_u8 {
        let new = vec![
            small(round),
            if round % 4 == 0 {
                large(round)
            } else {
                small(round)
            },
            (1, vec![round; 8]),
        ];
        model.extend(new.clone());
        steps.push((
            Box::new(move |table| {
                let made: Vec<Made> = new.iter().map(item).collect();
                table.extend(made.iter().map(Made::record)).unwrap();
            }),
            model.clone(),
        ));
        let at = usize::from(round) % model.len();
        model[at] = small(round + 100);
        steps.push((
            Box::new(move |table| assert!(table.put(at as i64, item(&small(round + 100)).record()).unwrap())),
            model.clone(),
        ));
        model.insert(at, large(round + 50));
        let slice = Slice {
            start: at as isize,
            stop: at as isize,
            step: 1,
        };
        steps.push((
            Box::new(move |table| {
                table
                    .splice(slice, std::iter::once(item(&large(round + 50)).record()), false)
                    .unwrap();
            }),
            model.clone(),
        ));
        let at = match round % 3 {
            0 => 0,
            1 => model.len() - 1,
            _ => model.len() / 2,
        };
        model.remove(at);
        steps.push((
            Box::new(move |table| {
                let mut room = vec![0; LONGEST];
                // SAFETY: room for the longest record.
                assert!(unsafe { table.pop(at as i64, room.as_mut_ptr()) }.unwrap());
                taken(&room);
            }),
            model.clone(),
        ));
        if round % 5 == 4 {
            model.reverse();
            steps.push((Box::new(|table| table.reverse().unwrap()), model.clone()));
        }
    }
    Deeds { keyed: false, steps }
}

/// Whatever is free is full of something else afterwards, so that nothing is right by luck.
fn soil() {
    let sizes = [
        256, 512, 1024, 2048, 4096, 8192, 16_384, 30_064, 65_536, 131_072, 262_144,
    ];
    let blocks = sizes.iter().flat_map(|&size| (0..40).map(move |_| size));
    let blocks: Vec<u64> = blocks.map(|size| heap::allocate(size).unwrap()).collect();
    for offset in blocks {
        // SAFETY: the block is ours and that long.
        unsafe { heap::bytes(offset).write_bytes(0xA5, heap::len(offset)) };
        heap::free(offset);
    }
}

/// Kills a child at the `nth` visit of `point` and looks what the table has then. `false`: it never came there.
fn killed_at(name: &str, nth: u32, deeds: &Deeds) -> bool {
    soil();
    let before = used();
    let (handle, table) = make(deeds.keyed);
    let done = processes::words(1);
    let mut child = fork(|| {
        assert!(point::arm(name, nth), "no point {name}");
        for (step, _) in &deeds.steps {
            step(table);
            done[0].fetch_add(1, Ordering::Release);
        }
    });
    let ending = child.ending();
    buried(child.number);
    soil();
    let done = done[0].load(Ordering::Acquire) as usize;
    let there: Vec<Value> = content(table).into_iter().map(|(_, value)| value).collect();
    let after = |n: usize| n.checked_sub(1).map_or(&[][..], |n| &deeds.steps[n].1[..]);
    let whole = there == after(done) || (done < deeds.steps.len() && there == after(done + 1));
    assert!(whole, "{name} {nth}: neither before nor after step {done}");
    // And it can be used: the rest is done here, from the state that it is in.
    let from = if there == after(done) { done } else { done + 1 };
    for (step, after) in &deeds.steps[from..] {
        step(table);
        let there: Vec<Value> = content(table).into_iter().map(|(_, value)| value).collect();
        assert_eq!(&there, after, "{name} {nth}");
    }
    table.clear().unwrap();
    assert!(
        used() - before < 2048,
        "{name} {nth}: {} bytes nobody knows of",
        used() - before
    );
    drop(handle);
    assert_eq!(used(), before, "{name} {nth}: something is left");
    ending == Ending::Killed(libc::SIGKILL)
}

#[test]
fn killed_at_any_point_it_is_as_before_or_after() {
    alone_for(
        "killed_at_any_point_it_is_as_before_or_after",
        Duration::from_secs(300),
        || {
            for deeds in [on_keys(), on_list()] {
                for name in point::NAMES.iter().filter(|name| name.starts_with("table.")) {
                    let visits = (1..).step_by(if name.contains("commit") { 41 } else { 5 });
                    let deaths = visits.take_while(|&nth| killed_at(name, nth, &deeds)).count();
                    assert!(deaths > 0, "nobody dies at {name}");
                }
            }
        },
    );
}

#[test]
fn killed_at_any_moment_it_can_be_used() {
    alone_for(
        "killed_at_any_moment_it_can_be_used",
        Duration::from_secs(120),
        || {
            let before = used();
            for keyed in [true, false] {
                let (handle, table) = make(keyed);
                for turn in 0..40_u64 {
                    let ready = processes::Gate::new();
                    let mut child = fork(|| {
                        ready.open();
                        for n in turn.. {
                            let value = (2, vec![n as u8; (n * 997 % 12_000) as usize]);
                            if keyed {
                                table.set(entry(n % 23, &value).record()).unwrap();
                                let key = Made::new(Some(n * 7 % 23), None, None);
                                // SAFETY: nothing is copied.
                                unsafe { table.remove(key.record(), std::ptr::null_mut()) }.unwrap();
                            } else {
                                table.extend(std::iter::once(item(&value).record())).unwrap();
                                if n % 3 != 0 || table.count().unwrap() > 50 {
                                    // SAFETY: nothing is copied.
                                    unsafe { table.pop((n % 5) as i64, std::ptr::null_mut()) }.unwrap();
                                }
                            }
                        }
                    });
                    ready.pass();
                    std::thread::sleep(Duration::from_micros(300 * (turn % 7)));
                    child.kill();
                    assert_eq!(child.ending(), Ending::Killed(libc::SIGKILL));
                    buried(child.number);
                    for (_, (kind, bytes)) in content(table) {
                        assert!(
                            kind == 2 && bytes.iter().all(|&byte| byte == bytes[0]),
                            "a torn value"
                        );
                    }
                    assert!(!tree::living().contains(&child.number));
                }
                table.clear().unwrap();
                drop(handle);
                assert_eq!(used(), before);
            }
        },
    );
}

#[test]
fn the_end_of_the_server_is_seen_at_once() {
    alone("the_end_of_the_server_is_seen_at_once", || {
        let before = used();
        let there = processes::words(3);
        let mut server = fork(|| {
            begin_pulse().unwrap();
            begin_pulse().unwrap();
            let (handle, table) = make(true);
            assert_eq!(table.server_has_ended(), Some(false));
            let ([low, high], offset) = handle.pack();
            for (word, value) in there.iter().zip([low, high, offset]) {
                word.store(value, Ordering::Release);
            }
            loop {
                std::thread::park();
            }
        });
        processes::until("a table", || there[2].load(Ordering::Acquire) != 0);
        let [low, high, offset] = [0, 1, 2].map(|n: usize| there[n].load(Ordering::Acquire));
        let handle = Handle::unpack([low, high], offset, Table::OBJECT).unwrap();
        let table = Table::of(&handle);
        assert_eq!(
            (table.server(), table.server_has_ended()),
            (server.number, Some(false))
        );
        server.kill();
        processes::until("the end", || server.has_ended());
        assert!(!tree::living().is_empty() && table.server_has_ended() == Some(true));
        assert_eq!(server.ending(), Ending::Killed(libc::SIGKILL));
        buried(server.number);
        assert_eq!(table.server_has_ended(), Some(true));
        drop(handle);
        assert_eq!(used(), before);
        let (_handle, own) = make(true);
        assert_eq!(own.server_has_ended(), None, "no pulse, no answer");
    });
}
