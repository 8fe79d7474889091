//! Tables: dicts and lists against plain ones.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]

mod processes;

use phalanx::table::{At, Found, Part, Refused, Slice, Table, Unfit};
use processes::records::{LONGEST, Made, SMALL, Value, content, entry, item, make, taken};
use processes::{alone, alone_for, used};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

fn value_at(table: &Table, at: At<'_>) -> Option<Value> {
    let mut room = vec![0; SMALL];
    // SAFETY: room for the longest small value; for a large one as much as it says.
    unsafe {
        Some(match table.get(at, room.as_mut_ptr()).unwrap()? {
            Found::Small(kind, len) => (kind, room[..len].to_vec()),
            Found::Large(large) => {
                let mut bytes = vec![0; large.len as usize];
                assert!(
                    table
                        .copy(at, large, bytes.as_mut_ptr(), large.len % 2 == 0)
                        .unwrap()
                );
                (large.kind, bytes)
            }
        })
    }
}

fn shown(key: u64) -> Vec<u8> {
    key.to_le_bytes()[..8 - key.leading_zeros() as usize / 8].to_vec()
}

fn values() -> impl Strategy<Value = Value> {
    let len = prop_oneof![
        8 => Just(8_usize), 3 => 0..40_usize, 2 => 0..3000_usize, 1 => Just(SMALL), 1 => SMALL + 1..100_000_usize
    ];
    (1..4_u8, len, any::<u8>())
        .prop_map(|(kind, len, fill)| (kind, (0..len).map(|at| fill.wrapping_add(at as u8)).collect()))
}

// ---------------------------------------------------------------- alone

#[derive(Debug, Clone)]
enum Call {
    Set(u64, Value),
    SetAll(Vec<(u64, Value)>),
    SetDefault(u64, Value),
    Remove(u64, bool),
    RemoveLast,
    Clear,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let key = || 0..60_u64;
    let call = prop_oneof![
        12 => (key(), values()).prop_map(|(key, value)| Call::Set(key, value)),
        1 => prop::collection::vec((key(), values()), 0..30).prop_map(Call::SetAll),
        2 => (key(), values()).prop_map(|(key, value)| Call::SetDefault(key, value)),
        6 => (key(), any::<bool>()).prop_map(|(key, copied)| Call::Remove(key, copied)),
        3 => Just(Call::RemoveLast),
        1 => prop::bool::weighted(0.2).prop_map(|clear| if clear { Call::Clear } else { Call::RemoveLast }),
    ];
    prop::collection::vec(call, 0..400)
}

#[test]
fn a_table_with_keys_does_what_an_ordered_dict_does() {
    alone_for(
        "a_table_with_keys_does_what_an_ordered_dict_does",
        Duration::from_secs(180),
        || {
            let before = used();
            runner(60)
                .run(&calls(), |calls| {
                    let (handle, table) = make(true);
                    let mut model: Vec<(u64, Value)> = Vec::new();
                    fn set(model: &mut Vec<(u64, Value)>, key: u64, value: Value) {
                        match model.iter_mut().find(|(other, _)| *other == key) {
                            Some((_, there)) => *there = value,
                            None => model.push((key, value)),
                        }
                    }
                    let mut room = vec![0; LONGEST];
                    for call in calls {
                        match call {
                            Call::Set(key, value) => {
                                table.set(entry(key, &value).record()).unwrap();
                                set(&mut model, key, value);
                            }
                            Call::SetAll(entries) => {
                                let made: Vec<Made> =
                                    entries.iter().map(|(key, value)| entry(*key, value)).collect();
                                table.set_all(made.iter().map(Made::record)).unwrap();
                                entries
                                    .into_iter()
                                    .for_each(|(key, value)| set(&mut model, key, value));
                            }
                            Call::SetDefault(key, value) => {
                                let made = entry(key, &value);
                                // SAFETY: nothing is copied.
                                let found = unsafe { table.set_default(made.record(), std::ptr::null_mut()) }
                                    .unwrap();
                                prop_assert_eq!(
                                    found.is_some(),
                                    model.iter().any(|(other, _)| *other == key)
                                );
                                match found {
                                    Some(_) => made.undo(),
                                    None => model.push((key, value)),
                                }
                            }
                            Call::Remove(key, copied) => {
                                let made = Made::new(Some(key), None, None);
                                let to = if copied {
                                    room.as_mut_ptr()
                                } else {
                                    std::ptr::null_mut()
                                };
                                // SAFETY: room for the longest record.
                                let removed = unsafe { table.remove(made.record(), to) }.unwrap();
                                let place = model.iter().position(|(other, _)| *other == key);
                                prop_assert_eq!(removed, place.is_some());
                                if let Some(place) = place {
                                    let (key, value) = model.remove(place);
                                    if copied {
                                        prop_assert_eq!(taken(&room), (shown(key), value));
                                    }
                                }
                            }
                            Call::RemoveLast => {
                                // SAFETY: room for the longest record.
                                let removed = unsafe { table.remove_last(room.as_mut_ptr()) }.unwrap();
                                let last = model.pop();
                                prop_assert_eq!(removed, last.is_some());
                                if let Some((key, value)) = last {
                                    prop_assert_eq!(taken(&room), (shown(key), value));
                                }
                            }
                            Call::Clear => {
                                table.clear().unwrap();
                                model.clear();
                            }
                        }
                        prop_assert_eq!(table.count().unwrap(), model.len());
                        for (key, value) in model.iter().rev().take(3) {
                            let made = Made::new(Some(*key), None, None);
                            let there = value_at(table, At::Key(made.record()));
                            prop_assert_eq!(there.as_ref(), Some(value));
                        }
                    }
                    for key in 0..60 {
                        let made = Made::new(Some(key), None, None);
                        let there = value_at(table, At::Key(made.record()));
                        let expected = model
                            .iter()
                            .find(|(other, _)| *other == key)
                            .map(|(_, value)| value.clone());
                        prop_assert_eq!(there, expected);
                    }
                    let expected: Vec<_> = model
                        .into_iter()
                        .map(|(key, value)| (shown(key), value))
                        .collect();
                    prop_assert_eq!(content(table), expected);
                    drop(handle);
                    prop_assert_eq!(used(), before);
                    Ok(())
                })
                .unwrap();
        },
    );
}

#[derive(Debug, Clone)]
enum Deed {
    Append(Value),
    Extend(Vec<Value>),
    Put(i64, Value),
    Pop(i64),
    Splice(isize, isize, isize, Vec<Value>),
    Delete(isize, isize, isize),
    Reverse,
    Repeat(usize),
    Sort,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let place = || -25..25_isize;
    let step = || prop::sample::select(vec![1_isize, 1, 1, 2, 3, -1, -2]);
    let several = || prop::collection::vec(values(), 0..6);
    let deed = prop_oneof![
        8 => values().prop_map(Deed::Append),
        2 => several().prop_map(Deed::Extend),
        4 => (-25..25_i64, values()).prop_map(|(at, value)| Deed::Put(at, value)),
        6 => prop_oneof![Just(-1_i64), Just(0), -25..25_i64].prop_map(Deed::Pop),
        4 => (place(), place(), step(), several()).prop_map(|(a, b, c, new)| Deed::Splice(a, b, c, new)),
        2 => (place(), values()).prop_map(|(at, value)| Deed::Splice(at, at, 1, vec![value])),
        2 => (place(), place(), step()).prop_map(|(a, b, c)| Deed::Delete(a, b, c)),
        1 => Just(Deed::Reverse),
        1 => (0..3_usize).prop_map(Deed::Repeat),
        1 => Just(Deed::Sort),
    ];
    prop::collection::vec(deed, 0..150)
}

/// The places of a slice, found in the simplest way.
fn places(slice: Slice, len: usize) -> Vec<usize> {
    let len = len as isize;
    let wrap = |place: isize| if place < 0 { place + len } else { place };
    let (start, stop) = (wrap(slice.start), wrap(slice.stop));
    let mut all: Vec<usize> = Vec::new();
    let mut at = if slice.step > 0 {
        start.max(0)
    } else {
        start.min(len - 1)
    };
    while if slice.step > 0 {
        at < stop.min(len)
    } else {
        at > stop.max(-1)
    } {
        all.push(at as usize);
        at += slice.step;
    }
    all
}

#[test]
fn a_table_without_keys_does_what_a_list_does() {
    alone_for(
        "a_table_without_keys_does_what_a_list_does",
        Duration::from_secs(180),
        || {
            let before = used();
            runner(60)
                .run(&deeds(), |deeds| {
                    let (handle, table) = make(false);
                    let mut model: Vec<Value> = Vec::new();
                    let mut room = vec![0; LONGEST];
                    for deed in deeds {
                        let len = model.len() as i64;
                        let wrap = |at: i64| if at < 0 { at + len } else { at };
                        match deed {
                            Deed::Append(value) => {
                                table.extend(std::iter::once(item(&value).record())).unwrap();
                                model.push(value);
                            }
                            Deed::Extend(new) => {
                                let made: Vec<Made> = new.iter().map(item).collect();
                                table.extend(made.iter().map(Made::record)).unwrap();
                                model.extend(new);
                            }
                            Deed::Put(at, value) => {
                                let made = item(&value);
                                let there = (0..len).contains(&wrap(at));
                                prop_assert_eq!(table.put(at, made.record()).unwrap(), there);
                                if there {
                                    model[wrap(at) as usize] = value;
                                } else {
                                    made.undo();
                                }
                            }
                            Deed::Pop(at) => {
                                // SAFETY: room for the longest record.
                                let popped = unsafe { table.pop(at, room.as_mut_ptr()) }.unwrap();
                                prop_assert_eq!(popped, (0..len).contains(&wrap(at)));
                                if popped {
                                    prop_assert_eq!(taken(&room).1, model.remove(wrap(at) as usize));
                                }
                            }
                            Deed::Splice(start, stop, step, new) => {
                                let made: Vec<Made> = new.iter().map(item).collect();
                                let slice = Slice { start, stop, step };
                                let done = table.splice(slice, made.iter().map(Made::record), false);
                                let at = places(slice, model.len());
                                let (from, _, count) = slice.of(model.len());
                                prop_assert_eq!(count, at.len());
                                if step == 1 {
                                    prop_assert_eq!(done, Ok(()));
                                    model.splice(from..from + count, new);
                                } else if new.len() == at.len() {
                                    prop_assert_eq!(done, Ok(()));
                                    at.into_iter().zip(new).for_each(|(at, value)| model[at] = value);
                                } else {
                                    prop_assert_eq!(done, Err(Unfit::Places(at.len())));
                                    made.iter().for_each(Made::undo);
                                }
                            }
                            Deed::Delete(start, stop, step) => {
                                let slice = Slice { start, stop, step };
                                table.splice(slice, std::iter::empty(), true).unwrap();
                                let mut at = places(slice, model.len());
                                at.sort_unstable();
                                at.into_iter().rev().for_each(|at| drop(model.remove(at)));
                            }
                            Deed::Reverse => {
                                table.reverse().unwrap();
                                model.reverse();
                            }
                            Deed::Repeat(times) => {
                                if model.len() < 40 {
                                    table.repeat(times).unwrap();
                                    model = std::iter::repeat_n(model, times).flatten().collect();
                                }
                            }
                            Deed::Sort => {
                                let version = table.snapshot(Part::Keys).unwrap().version;
                                let mut order: Vec<usize> = (0..model.len()).collect();
                                order.sort_by_key(|&at| &model[at]);
                                prop_assert!(!table.permute(version + 1, &order).unwrap());
                                prop_assert!(table.permute(version, &order).unwrap());
                                model.sort();
                            }
                        }
                        prop_assert_eq!(table.count().unwrap(), model.len());
                        for at in [-1, 0, 7] {
                            let expected = usize::try_from(if at < 0 { at + model.len() as i64 } else { at });
                            let expected = expected.ok().and_then(|at| model.get(at));
                            let there = value_at(table, At::Index(at));
                            prop_assert_eq!(there.as_ref(), expected);
                        }
                    }
                    let expected: Vec<_> = model.into_iter().map(|value| (Vec::new(), value)).collect();
                    prop_assert_eq!(content(table), expected);
                    drop(handle);
                    prop_assert_eq!(used(), before);
                    Ok(())
                })
                .unwrap();
        },
    );
}

#[test]
fn a_slice_is_cut_as_python_cuts_it() {
    for len in 0..6 {
        for start in -8..8 {
            for stop in -8..8 {
                for step in [-3, -2, -1, 1, 2, 3] {
                    let slice = Slice { start, stop, step };
                    let (from, _, count) = slice.of(len);
                    let ours: Vec<usize> = (0..count)
                        .map(|n| from.wrapping_add_signed(step * n as isize))
                        .collect();
                    assert_eq!(ours, places(slice, len), "{slice:?} of {len}");
                }
            }
        }
    }
    let huge = Slice {
        start: isize::MIN,
        stop: isize::MAX,
        step: isize::MAX,
    };
    assert_eq!(huge.of(5), (0, isize::MAX, 1));
}

#[test]
fn a_replaced_value_keeps_the_key_that_came_first() {
    alone("a_replaced_value_keeps_the_key_that_came_first", || {
        let (_handle, table) = make(true);
        let value = |n: u8, len: usize| (2, vec![n; len]);
        for (shown, len) in [
            (Some(7), 8),
            (None, 8),
            (Some(9), 40),
            (None, 20_000),
            (Some(3), 0),
        ] {
            table
                .set(Made::new(Some(5), shown, Some(&value(len as u8, len))).record())
                .unwrap();
            assert_eq!(content(table), [(vec![7; 3], value(len as u8, len))]);
        }
    });
}

#[test]
fn garbage_does_not_pile_up() {
    alone("garbage_does_not_pile_up", || {
        let (handle, table) = make(true);
        for n in 0..200_000_u64 {
            let value = (2, vec![n as u8; (n % 50) as usize]);
            table.set(entry(n % 10, &value).record()).unwrap();
            if n % 20 == 19 {
                table.clear().unwrap();
            }
        }
        let (list_handle, list) = make(false);
        for n in 0..200_000_u64 {
            list.extend(std::iter::once(item(&(2, vec![n as u8; 30])).record()))
                .unwrap();
            if n >= 10 {
                // SAFETY: nothing is copied.
                assert!(unsafe { list.pop(0, std::ptr::null_mut()) }.unwrap());
            }
        }
        assert!(used() < 400_000, "{}", used());
        drop((handle, list_handle));
    });
}

#[test]
fn what_moved_out_refuses_everything() {
    alone("what_moved_out_refuses_everything", || {
        let before = used();
        let (handle, table) = make(true);
        let values: Vec<Value> = vec![(2, vec![1; 8]), (2, vec![2; 50_000])];
        for (key, value) in (1..).zip(&values) {
            table.set(entry(key, value).record()).unwrap();
        }
        let moved = table.move_out().unwrap();
        let there: Vec<Value> = moved
            .records()
            .map(|(record, value)| (record.kind(), value.to_vec()))
            .collect();
        assert_eq!(there, values);
        assert!(table.is_moved() && table.move_out().is_none());
        let small = entry(1, &values[0]);
        assert_eq!(table.set(small.record()), Err(Refused::Moved));
        assert_eq!(table.count(), Err(Refused::Moved));
        assert_eq!(table.clear(), Err(Refused::Moved));
        assert!(table.snapshot(Part::Keys).is_err());
        drop(handle);
        assert_eq!(used(), before);
    });
}
