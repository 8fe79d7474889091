//! Memory that several processes share: the heap against a model, handles against a model, and both with processes that die.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
#![allow(
    clippy::disallowed_methods,
    reason = "threads that the core does not start, and a clock round all of them"
)]

mod processes;

use phalanx::shm::{self, Guard, Handle, Stale, Taken, UNIT, heap, tree};
use processes::items::block;
use processes::{Child, Dice, Gate, Placed, alone, alone_for, buried, fork, in_threads, until, used, words};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(cases)
    })
}

// ---------------------------------------------------------------- the heap

#[derive(Debug, Clone)]
enum Call {
    Allocate(usize),
    /// The block at this place of the list, counted round.
    Free(usize),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let size = prop_oneof![
        6 => 64..2_000_usize,
        3 => 2_000..40_000_usize,
        1 => 40_000..300_000_usize,
        1 => prop::sample::select(vec![64, 256, 257, 512, 8192, 16384, 16385, UNIT - 64, UNIT, UNIT + 1, 3 * UNIT]),
    ];
    let call = prop_oneof![
        3 => size.prop_map(Call::Allocate),
        2 => any::<usize>().prop_map(Call::Free),
    ];
    prop::collection::vec(call, 0..120)
}

fn content(offset: u64) -> &'static mut [u8] {
    // SAFETY: the test owns the block and has one thread.
    unsafe { std::slice::from_raw_parts_mut(heap::bytes(offset), heap::len(offset)) }
}

#[test]
fn the_heap_does_what_a_list_of_blocks_does() {
    alone("the_heap_does_what_a_list_of_blocks_does", || {
        let before = used();
        runner(200)
            .run(&calls(), |calls| {
                // Offset to size and to the byte that the block is full of.
                let mut model: BTreeMap<u64, (usize, u8)> = BTreeMap::new();
                for (call, fill) in calls.into_iter().zip(1..) {
                    match call {
                        Call::Allocate(size) => {
                            let offset = heap::allocate(size).unwrap();
                            prop_assert!(offset.is_multiple_of(64));
                            prop_assert_eq!(heap::len(offset), size - heap::HEAD);
                            let below = model.range(..offset).next_back();
                            prop_assert!(below.is_none_or(|(&at, &(size, _))| at + size as u64 <= offset));
                            let above = model.range(offset..).next();
                            prop_assert!(above.is_none_or(|(&at, _)| offset + size as u64 <= at));
                            content(offset).fill(fill);
                            model.insert(offset, (size, fill));
                        }
                        Call::Free(_) if model.is_empty() => {}
                        Call::Free(at) => {
                            let offset = *model.keys().nth(at % model.len()).unwrap();
                            let (_, fill) = model.remove(&offset).unwrap();
                            prop_assert!(content(offset).iter().all(|&byte| byte == fill));
                            heap::free(offset);
                        }
                    }
                    let sum: usize = model.values().map(|&(size, _)| size).sum();
                    prop_assert_eq!(used() - before, sum as u64);
                }
                model.into_keys().for_each(heap::free);
                prop_assert_eq!(used(), before);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn what_is_freed_is_used_again() {
    alone("what_is_freed_is_used_again", || {
        let round = || {
            let small: Vec<u64> = (0..2_000).map(|at| heap::allocate(64 + at).unwrap()).collect();
            let large: Vec<u64> = (1..30).map(|at| heap::allocate(at * UNIT).unwrap()).collect();
            small.into_iter().chain(large).for_each(heap::free);
            heap::usage()
        };
        let first = round();
        for _ in 0..50 {
            assert_eq!(round(), first, "the file does not grow in a steady state");
        }
    });
}

#[test]
fn what_is_discarded_is_gone_and_nothing_else() {
    alone("what_is_discarded_is_gone_and_nothing_else", || {
        const LEN: usize = 40 * UNIT;
        let before = used();
        let (neighbour, block) = (heap::allocate(LEN).unwrap(), heap::allocate(LEN).unwrap());
        content(neighbour).fill(7);
        content(block).fill(8);
        // In pieces that end anywhere, as somebody who copies does it.
        let half = LEN / 2 + 17;
        heap::discard(block, 0, 1_000);
        heap::discard(block, 1_000, half);
        let bytes = content(block);
        let (page, whole) = (4096 - heap::HEAD, half & !4095);
        assert!(
            bytes[..page].iter().all(|&byte| byte == 8),
            "the first page stays"
        );
        assert!(bytes[page..whole - heap::HEAD].iter().all(|&byte| byte == 0));
        assert!(bytes[whole - heap::HEAD..].iter().all(|&byte| byte == 8));
        heap::discard(block, half, LEN);
        heap::free_empty(block);
        assert!(content(neighbour).iter().all(|&byte| byte == 7));
        // Small ones share their unit: nothing of it may go.
        let small = heap::allocate(9_000).unwrap();
        content(small).fill(9);
        heap::discard(small, 0, 9_000);
        assert!(content(small).iter().all(|&byte| byte == 9));
        heap::free(small);
        heap::free(neighbour);
        assert_eq!(used(), before);
    });
}

#[test]
fn too_much_is_refused() {
    alone("too_much_is_refused", || {
        let before = heap::usage();
        assert!(heap::allocate(1 << 40).is_err());
        assert!(heap::allocate(usize::MAX - 4096).is_err());
        assert_eq!(heap::usage(), before);
        let offset = heap::allocate(100 << 20).unwrap();
        assert!(
            heap::usage().1 >= 100 << 20,
            "the file grows into what is reserved"
        );
        heap::free(offset);
    });
}

/// Allocates, fills, checks and frees in random order, a few hundred times.
fn churn(seed: u64, times: u32) {
    let mut dice = Dice::new(seed);
    let mut blocks: Vec<(u64, u64)> = Vec::new();
    for at in 0..times {
        if blocks.len() > 40 || (!blocks.is_empty() && dice.below(5) < 2) {
            let (number, offset) = blocks.swap_remove(dice.below(blocks.len() as u64) as usize);
            assert_eq!(
                processes::items::check(content(offset)),
                Some(number),
                "nobody else has written here"
            );
            heap::free(offset);
        } else {
            let len = if dice.below(20) == 0 {
                70_000
            } else {
                8 + dice.below(3_000)
            };
            let number = seed << 32 | u64::from(at);
            blocks.push((number, block(number, len as usize).offset));
        }
    }
    blocks.into_iter().for_each(|(_, offset)| heap::free(offset));
}

#[test]
fn threads_share_the_heap() {
    alone("threads_share_the_heap", || {
        let before = used();
        in_threads(&[
            &|| churn(1, 3_000),
            &|| churn(2, 3_000),
            &|| churn(3, 3_000),
            &|| churn(4, 3_000),
        ]);
        assert_eq!(used(), before);
    });
}

#[test]
fn processes_share_the_heap() {
    alone("processes_share_the_heap", || {
        let before = used();
        let children: Vec<Child> = (1..5).map(|seed| fork(move || churn(seed, 3_000))).collect();
        children.into_iter().for_each(Child::join);
        assert_eq!(used(), before);
    });
}

/// Processes that are killed anywhere in the heap leave it whole, and what they had comes back.
#[test]
fn a_killed_process_leaves_the_heap_whole() {
    alone_for(
        "a_killed_process_leaves_the_heap_whole",
        Duration::from_secs(120),
        || {
            let before = used();
            let mut dice = Dice::new(11);
            let mut children: Vec<Child> = Vec::new();
            for seed in 1..120 {
                children.push(fork(move || {
                    loop {
                        churn(seed, 500);
                    }
                }));
                thread::sleep(Duration::from_micros(dice.below(6_000)));
                if children.len() > 2 {
                    let killed = children.swap_remove(dice.below(children.len() as u64) as usize);
                    killed.kill();
                    killed.perish();
                }
            }
            for child in children {
                child.kill();
                child.perish();
            }
            assert_eq!(used(), before, "all is given back");
            churn(1_000, 5_000);
            assert_eq!(used(), before);
        },
    );
}

/// The child that has just made the file longer dies before it says so; then somebody wants less than it did.
#[test]
fn a_file_that_is_longer_than_is_known() {
    alone("a_file_that_is_longer_than_is_known", || {
        let (used, known) = heap::usage();
        let file = shm::arena().unwrap().file();
        let longer = known + (200 << 20);
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), longer as i64) }, 0);
        let blocks: Vec<u64> = (0..40).map(|_| heap::allocate(UNIT).unwrap()).collect();
        assert!(heap::usage().1 > known);
        blocks.into_iter().for_each(heap::free);
        assert_eq!(heap::usage().0, used);
    });
}

// ---------------------------------------------------------------- handles

const KIND: u32 = 77;

#[derive(Debug, Clone)]
enum Deed {
    New(usize),
    Clone(usize),
    Drop(usize),
    Pack(usize),
    /// The pickle at this place, and whether it stays for a second time.
    Unpack(usize, bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let at = any::<usize>;
    let deed = prop_oneof![
        (1..3_000_usize).prop_map(Deed::New),
        at().prop_map(Deed::Clone),
        at().prop_map(Deed::Drop),
        at().prop_map(Deed::Pack),
        (at(), prop::bool::weighted(0.2)).prop_map(|(at, stays)| Deed::Unpack(at, stays)),
    ];
    prop::collection::vec(deed, 0..100)
}

#[test]
fn an_object_lives_as_long_as_somebody_holds_it() {
    alone("an_object_lives_as_long_as_somebody_holds_it", || {
        let before = used();
        let tree_id = shm::arena().unwrap().tree();
        let me = tree::number();
        runner(300)
            .run(&deeds(), |deeds| {
                let mut handles: Vec<Handle> = Vec::new();
                let mut pickles: Vec<u64> = Vec::new();
                // Offset to: size, transit.
                let mut transit: BTreeMap<u64, u32> = BTreeMap::new();
                for deed in deeds {
                    match deed {
                        Deed::New(size) => {
                            let handle = Handle::new(KIND, size).unwrap();
                            prop_assert_eq!(handle.len(), size);
                            // SAFETY: the object has that many bytes and is ours alone.
                            let data = unsafe { std::slice::from_raw_parts_mut(handle.data(), size) };
                            prop_assert!(data.iter().all(|&byte| byte == 0));
                            data.fill(0xFF);
                            transit.insert(handle.offset(), 0);
                            handles.push(handle);
                        }
                        Deed::Clone(at) if !handles.is_empty() => {
                            let again = handles[at % handles.len()].clone();
                            handles.push(again);
                        }
                        Deed::Drop(at) if !handles.is_empty() => {
                            handles.swap_remove(at % handles.len());
                        }
                        Deed::Pack(at) if !handles.is_empty() => {
                            let (tree, offset) = handles[at % handles.len()].pack();
                            prop_assert_eq!(tree, tree_id);
                            *transit.get_mut(&offset).unwrap() += 1;
                            pickles.push(offset);
                        }
                        Deed::Unpack(at, stays) if !pickles.is_empty() => {
                            let at = at % pickles.len();
                            let offset = if stays {
                                pickles[at]
                            } else {
                                pickles.swap_remove(at)
                            };
                            let alive = transit[&offset] > 0
                                || handles.iter().any(|handle| handle.offset() == offset);
                            match Handle::unpack(tree_id, offset, KIND) {
                                Ok(handle) => {
                                    prop_assert!(alive);
                                    let transit = transit.get_mut(&offset).unwrap();
                                    *transit = transit.saturating_sub(1);
                                    handles.push(handle);
                                }
                                Err(stale) => {
                                    prop_assert!(!alive, "only a pickle taken up twice can be stale");
                                    prop_assert_eq!(stale, Stale::NoSuch);
                                }
                            }
                        }
                        _ => {}
                    }
                    for handle in &handles {
                        let mut holders = handle.holders();
                        holders.retain(|&number| number != 0);
                        prop_assert_eq!(holders, vec![me]);
                        prop_assert!(handle.is_held() && handle.name().is_held());
                    }
                    transit.retain(|offset, transit| {
                        *transit > 0 || handles.iter().any(|handle| handle.offset() == *offset)
                    });
                    pickles.retain(|offset| transit.contains_key(offset));
                }
                handles.clear();
                // What is still on its way is taken up and let go.
                for (offset, transit) in transit {
                    for _ in 0..transit {
                        Handle::unpack(tree_id, offset, KIND).unwrap();
                    }
                }
                prop_assert_eq!(used(), before);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn what_is_no_handle_is_refused() {
    alone("what_is_no_handle_is_refused", || {
        let handle = Handle::new(KIND, 100).unwrap();
        let (tree, offset) = handle.pack();
        assert_eq!(
            Handle::unpack([tree[0] ^ 1, tree[1]], offset, KIND),
            Err(Stale::OtherTree)
        );
        assert_eq!(Handle::unpack(tree, offset, KIND + 1), Err(Stale::NoSuch));
        for wrong in [0, 1, offset + 64, offset + 1, u64::MAX, 1 << 50] {
            assert_eq!(
                Handle::unpack(tree, wrong, KIND),
                Err(Stale::NoSuch),
                "{wrong:#x}"
            );
        }
        let block = heap::allocate(100).unwrap();
        assert_eq!(
            Handle::unpack(tree, block, KIND),
            Err(Stale::NoSuch),
            "a block, and no object"
        );
        heap::free(block);
        let name = handle.name();
        drop(Handle::unpack(tree, offset, KIND));
        drop(handle);
        assert!(!name.is_held());
        let other = Handle::new(KIND, 100).unwrap();
        assert_eq!(other.offset(), name.offset, "the place is used again");
        assert!(!name.is_held(), "by another one");
    });
}

/// A thread that drops the last handle of its process while another one takes one up.
#[test]
fn one_thread_lets_go_while_another_takes_up() {
    alone("one_thread_lets_go_while_another_takes_up", || {
        let before = used();
        for _ in 0..3_000 {
            let handle = Handle::new(KIND, 100).unwrap();
            let (tree, offset) = handle.pack();
            let mine = thread::scope(|scope| {
                let other = scope.spawn(|| Handle::unpack(tree, offset, KIND).unwrap());
                drop(handle);
                other.join().unwrap()
            });
            assert_eq!(mine.holders(), [tree::number()], "it is held");
        }
        assert_eq!(used(), before);
    });
}

#[test]
fn a_child_holds_what_its_parent_held() {
    alone("a_child_holds_what_its_parent_held", || {
        let before = used();
        let (tell, end) = (Gate::new(), Gate::new());
        let handle = Handle::new(KIND, 5_000).unwrap();
        let name = handle.name();
        let child = fork(|| {
            tell.open();
            end.pass();
            assert!(handle.is_held());
        });
        tell.pass();
        assert_eq!(handle.holders(), [tree::number(), child.number]);
        drop(handle);
        assert!(name.is_held() && used() > before, "the child keeps it");
        end.open();
        child.join();
        until("the burial", || used() == before);
        assert!(!name.is_held());
    });
}

#[test]
fn what_a_killed_child_held_is_freed() {
    alone("what_a_killed_child_held_is_freed", || {
        let before = used();
        let made = Gate::new();
        let child = fork(|| {
            let mine: Vec<Handle> = (1..50).map(|at| Handle::new(KIND, at * 1_000).unwrap()).collect();
            let blocks: Vec<u64> = (1..50).map(|at| heap::allocate(at * 2_000).unwrap()).collect();
            made.open();
            loop {
                std::hint::black_box((&mine, &blocks));
                thread::yield_now();
            }
        });
        made.pass();
        assert!(used() > before);
        child.kill();
        child.perish();
        assert_eq!(used(), before);
    });
}

/// Killed when it had begun to free an object: the parts of that go too.
#[test]
fn an_object_that_is_half_freed() {
    alone("an_object_that_is_half_freed", || {
        let before = used();
        let child = fork(|| {
            let whole = heap::allocate(30_000).unwrap();
            for size in [100, 20_000, 3 * UNIT] {
                heap::give_to(heap::allocate(size).unwrap(), whole);
            }
            phalanx::sys::die();
        });
        child.perish();
        assert_eq!(used(), before);
    });
}

/// A handle in a pickle keeps its object while nobody holds it, and a grandchild can take it up.
#[test]
fn a_handle_on_its_way_keeps_its_object() {
    alone("a_handle_on_its_way_keeps_its_object", || {
        let before = used();
        let handle = Handle::new(KIND, 8).unwrap();
        // SAFETY: the object has 8 bytes, and only this process yet.
        unsafe { handle.data().cast::<u64>().write(4711) };
        let (tree, offset) = handle.pack();
        drop(handle);
        assert_ne!(used(), before);
        let child = fork(|| {
            fork(|| {
                let handle = Handle::unpack(tree, offset, KIND).unwrap();
                // SAFETY: as above; nobody writes any more.
                assert_eq!(unsafe { handle.data().cast::<u64>().read() }, 4711);
            })
            .join();
        });
        child.join();
        until("all to be given back", || used() == before);
    });
}

// ---------------------------------------------------------------- the robust lock

#[test]
fn a_guard_excludes() {
    alone("a_guard_excludes", || {
        let guard = Placed::new(Guard::default());
        let plain = words(1);
        let run = || {
            for _ in 0..20_000 {
                let taken = guard.lock(tree::me());
                assert_eq!(taken, Taken::Free);
                let seen = plain[0].load(Ordering::Relaxed);
                plain[0].store(seen + 1, Ordering::Relaxed);
                guard.unlock();
            }
        };
        let children: Vec<Child> = (0..3).map(|_| fork(run)).collect();
        in_threads(&[&run, &run]);
        children.into_iter().for_each(Child::join);
        assert_eq!(plain[0].load(Ordering::Relaxed), 100_000);
    });
}

#[test]
fn a_guard_outlives_its_owner() {
    alone("a_guard_outlives_its_owner", || {
        let guard = Placed::new(Guard::default());
        for _ in 0..5 {
            let inside = Gate::new();
            let child = fork(|| {
                guard.lock(tree::me());
                inside.open();
                phalanx::sys::die();
            });
            inside.pass();
            // Several come for it; one is told, all get in.
            let told: usize = thread::scope(|scope| {
                let all: Vec<_> = (0..3)
                    .map(|_| {
                        scope.spawn(|| {
                            let taken = guard.lock(tree::me());
                            guard.unlock();
                            usize::from(taken == Taken::Stolen)
                        })
                    })
                    .collect();
                all.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(told, 1);
            child.perish();
        }
    });
}

/// Signals that come more often than a sleeper naps do not keep it from finding the owner dead.
#[test]
fn a_guard_is_stolen_under_a_hail_of_signals() {
    alone("a_guard_is_stolen_under_a_hail_of_signals", || {
        extern "C" fn nothing(_: i32) {}
        let guard = Placed::new(Guard::default());
        let inside = Gate::new();
        let child = fork(|| {
            guard.lock(tree::me());
            inside.open();
            phalanx::sys::die();
        });
        inside.pass();
        // SAFETY: plain system calls and structs of plain numbers; the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
            assert_eq!(
                libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()),
                0
            );
            // To this thread: any other would do for a signal to the process.
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::ptr::null_mut();
            assert_eq!(
                libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer),
                0
            );
            let often = libc::timespec {
                tv_sec: 0,
                tv_nsec: 500_000,
            };
            let often = libc::itimerspec {
                it_interval: often,
                it_value: often,
            };
            assert_eq!(
                libc::timer_settime(timer, 0, &raw const often, std::ptr::null_mut()),
                0
            );
        }
        assert_eq!(guard.lock(tree::me()), Taken::Stolen);
        child.perish();
    });
}

// ---------------------------------------------------------------- another program of the tree

const INHERITED: &str = "PHALANX_TEST_FD";

#[test]
fn another_program_attaches() {
    if let Ok(fd) = std::env::var(INHERITED) {
        let mut parts = fd.split(' ').map(|part| part.parse::<u64>().unwrap());
        let mut next = || parts.next().unwrap();
        let (fd, tree, offset) = (next() as i32, [next(), next()], next());
        assert_eq!(
            Handle::unpack(tree, offset, KIND),
            Err(Stale::OtherTree),
            "no tree yet"
        );
        // SAFETY: the descriptor was handed down for this.
        let file = unsafe { BorrowedFd::borrow_raw(fd) };
        shm::attach(file.try_clone_to_owned().unwrap()).unwrap();
        shm::attach(file.try_clone_to_owned().unwrap()).unwrap();
        tree::join_tree().unwrap();
        let handle = Handle::unpack(tree, offset, KIND).unwrap();
        // SAFETY: the object has 8 bytes, the other side waits for our end.
        unsafe { handle.data().cast::<u64>().write(tree::number().into()) };
        return;
    }
    alone("another_program_attaches", || {
        let before = used();
        let handle = Handle::new(KIND, 8).unwrap();
        let (tree, offset) = handle.pack();
        // SAFETY: a duplicate that is handed down, without close-on-exec.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::dup(shm::arena().unwrap().file().as_raw_fd())) };
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args([
            "another_program_attaches",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ]);
        let facts = format!("{} {} {} {offset}", fd.as_raw_fd(), tree[0], tree[1]);
        let mut other = command
            .env(INHERITED, facts)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let status = other.wait().unwrap();
        assert!(status.success());
        // SAFETY: as above.
        let number = unsafe { handle.data().cast::<u64>().read() } as u32;
        assert!(number != 0 && number != tree::number());
        buried(number);
        assert_eq!(handle.holders(), [tree::number()]);
        drop(handle);
        assert_eq!(used(), before);
    });
}

#[test]
fn what_is_no_arena_is_refused() {
    alone("what_is_no_arena_is_refused", || {
        let file = |bytes: u64, sealed: bool| {
            // SAFETY: plain system calls; the descriptor is new.
            unsafe {
                let fd = libc::memfd_create(c"x".as_ptr(), libc::MFD_ALLOW_SEALING);
                assert!(fd >= 0 && libc::ftruncate(fd, bytes as i64) == 0);
                if sealed {
                    libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK);
                }
                OwnedFd::from_raw_fd(fd)
            }
        };
        for (bytes, sealed) in [(0, true), (4096, true), (1 << 30, true), (1 << 30, false)] {
            assert_eq!(
                shm::attach(file(bytes, sealed)),
                Err(shm::Refused::Foreign),
                "{bytes} {sealed}"
            );
        }
    });
}
