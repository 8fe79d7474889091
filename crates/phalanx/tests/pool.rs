//! The board of a pool: each task once, each result once, also where workers are killed.
#![cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]

mod processes;

use phalanx::pool::{BUNDLE, Board, Bundled, CELL, Ended, Lost, ROOM, SLOTS, Stage, Thing, What};
use phalanx::shm::{Handle, heap, point, tree};
use phalanx::sys;
use processes::{Child, Dice, Ending, alone, alone_for, fork, patiently, until, used};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const KIND: u8 = 7;

/// One master's tasks: numbers, whose result is their square.
struct Master {
    handle: Handle,
    free: Vec<u32>,
    /// slot -> task.
    out: BTreeMap<u32, u64>,
    done: BTreeMap<u64, u64>,
    lost: BTreeSet<u64>,
}

impl Master {
    fn new() -> Self {
        Self {
            handle: Board::make().unwrap(),
            free: (0..SLOTS as u32).collect(),
            out: BTreeMap::new(),
            done: BTreeMap::new(),
            lost: BTreeSet::new(),
        }
    }

    fn board(&self) -> &Board {
        Board::of(&self.handle)
    }

    /// Every third task lies in a block.
    fn post(&mut self, task: u64) -> bool {
        if !self.board().has_room() {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        self.board().post(slot, thing(task, &task.to_le_bytes()));
        self.out.insert(slot, task);
        true
    }

    fn reap(&mut self, slot: u32) {
        let mut bytes = [0; ROOM];
        // SAFETY: the board has just said that it is finished; the buffer is long enough.
        let taken = unsafe { self.board().reap(slot, bytes.as_mut_ptr()) };
        let task = self.out.remove(&slot).expect("nothing is finished twice");
        assert_eq!(number(taken.what, &bytes), task * task);
        assert!(self.done.insert(task, task * task).is_none());
        self.free.push(slot);
    }

    fn collect(&mut self) {
        let mut slots = Vec::new();
        self.board().collect(|slot| slots.push(slot));
        slots.into_iter().for_each(|slot| self.reap(slot));
    }

    /// What the dead have left. Lost tasks are kept apart.
    fn bury(&mut self) {
        let estate = self.board().collect_from_the_dead();
        estate.finished.into_iter().for_each(|slot| self.reap(slot));
        for Lost { slot, .. } in estate.lost {
            self.lost
                .insert(self.out.remove(&slot).expect("a lost task was out"));
            self.free.push(slot);
        }
    }

    fn worker(&self) -> Child {
        fork(|| work(self.board()))
    }
}

/// Small for most, in a block for every third.
fn thing(task: u64, bytes: &[u8; 8]) -> Thing<'_> {
    if !task.is_multiple_of(3) {
        return Thing::Small(KIND, bytes);
    }
    let block = heap::allocate(heap::HEAD + 8).unwrap();
    // SAFETY: the block is ours and that long.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), heap::bytes(block), 8) };
    Thing::Large(KIND, block, 8)
}

fn number(what: What, bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    match what {
        What::Small(kind, len) => {
            assert_eq!((kind, len), (KIND, 8));
            eight.copy_from_slice(&bytes[..8]);
        }
        What::Large(kind, block, len) => {
            assert_eq!((kind, len), (KIND, 8));
            // SAFETY: the block is ours now and has eight bytes.
            unsafe { std::ptr::copy_nonoverlapping(heap::bytes(block), eight.as_mut_ptr(), 8) };
            heap::free(block);
        }
        What::Bundle(_) => panic!("a bundle where a number was expected"),
    }
    u64::from_le_bytes(eight)
}

fn work(board: &Board) {
    let mut bytes = [0; ROOM];
    loop {
        // SAFETY: the buffer has ROOM bytes.
        match unsafe { board.take(bytes.as_mut_ptr(), &patiently()) } {
            Ok(taken) => {
                let task = number(taken.what, &bytes);
                board.finish(taken.slot, thing(task, &(task * task).to_le_bytes()), false, -1);
            }
            Err(Ended::Closed) => return,
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_task_once() {
    alone("each_task_once", || {
        tree::number();
        let before = used();
        let mut master = Master::new();
        let workers: Vec<Child> = (0..4).map(|_| master.worker()).collect();
        let all = 20_000;
        let mut next = 0;
        until("all are done", || {
            while next < all && master.post(next) {
                next += 1;
            }
            master.collect();
            master.done.len() as u64 == all
        });
        master.board().close();
        workers.into_iter().for_each(Child::join);
        assert!(master.out.is_empty() && master.free.len() == SLOTS);
        drop(master);
        assert_eq!(used(), before);
    });
}

#[test]
fn a_revoked_task_is_taken_by_nobody() {
    alone("a_revoked_task_is_taken_by_nobody", || {
        tree::number();
        let before = used();
        let mut master = Master::new();
        for task in 0..30 {
            assert!(master.post(task));
        }
        let slots: Vec<(u32, u64)> = master.out.iter().map(|(&slot, &task)| (slot, task)).collect();
        for (slot, task) in slots {
            if task % 2 == 0 {
                assert!(master.board().revoke(slot) && !master.board().revoke(slot));
                master.out.remove(&slot);
                master.free.push(slot);
            }
        }
        let worker = master.worker();
        until("the others are done", || {
            master.collect();
            master.done.len() == 15
        });
        assert!(master.done.keys().all(|task| task % 2 == 1));
        master.board().close();
        worker.join();
        drop(master);
        assert_eq!(used(), before);
    });
}

#[test]
fn a_worker_that_is_killed() {
    alone_for("a_worker_that_is_killed", Duration::from_secs(120), || {
        tree::number();
        let before = used();
        for (point, lost) in [("task.taken", 1), ("task.before_done", 1), ("task.after_done", 0)] {
            for nth in [1, 2, 3, 7] {
                let mut master = Master::new();
                (0..20).for_each(|task| assert!(master.post(task)));
                let mut victim = fork(|| {
                    assert!(point::arm(point, nth));
                    work(master.board());
                });
                assert_eq!(victim.ending(), Ending::Killed(libc::SIGKILL));
                master.bury();
                assert_eq!(master.lost.len(), lost, "{point} {nth}");
                assert_eq!(
                    master.done.len() + master.lost.len(),
                    nth as usize,
                    "{point} {nth}"
                );
                let worker = master.worker();
                until("the others are done", || {
                    master.collect();
                    master.done.len() + master.lost.len() == 20
                });
                master.board().close();
                worker.join();
            }
        }
        assert_eq!(used(), before);
    });
}

#[test]
fn workers_killed_at_random() {
    alone_for("workers_killed_at_random", Duration::from_secs(120), || {
        tree::number();
        let before = used();
        let mut dice = Dice::new(11);
        let mut master = Master::new();
        let mut workers: Vec<Child> = (0..3).map(|_| master.worker()).collect();
        let (mut next, mut killed) = (0, 0);
        let all = 60_000;
        until("all have ended", || {
            while next < all && master.post(next) {
                next += 1;
            }
            master.collect();
            if killed < 60 && dice.below(4) == 0 {
                let at = dice.below(3) as usize;
                let victim = std::mem::replace(&mut workers[at], master.worker());
                victim.kill();
                victim.perish();
                master.bury();
                killed += 1;
            }
            (master.done.len() + master.lost.len()) as u64 == all
        });
        assert!(
            master.lost.len() <= killed,
            "{} lost by {killed}",
            master.lost.len()
        );
        master.board().close();
        workers.into_iter().for_each(Child::join);
        drop(master);
        assert_eq!(used(), before);
    });
}

// ---------------------------------------------------------------- bundles

/// Posts the tasks from `first` on in one bundle, in slot 0.
fn post_bundle(board: &Board, first: u64, many: u64) {
    let bundle = Bundled::make(many as usize, 1).unwrap();
    board.set_call(bundle, thing(0, &0_u64.to_le_bytes()));
    for task in first..first + many {
        board.push(bundle, thing(task, &task.to_le_bytes()));
    }
    board.post(0, Thing::Bundle(bundle));
}

/// Works through one bundle; the task `bad` fails.
fn work_bundle(board: &Board, bad: u64, before: impl Fn(u64)) {
    let mut bytes = [0; ROOM];
    // SAFETY: the buffer has ROOM bytes, here and below.
    let taken = unsafe { board.take(bytes.as_mut_ptr(), &patiently()) }.unwrap();
    let What::Bundle(bundle) = taken.what else {
        panic!("{taken:?}")
    };
    assert_eq!(bundle.mode(), 1);
    // SAFETY: as above; this worker has the bundle.
    let call = unsafe { bundle.call(bytes.as_mut_ptr()) };
    assert_eq!(number(call, &bytes), 0);
    // SAFETY: as above.
    while let Some(what) = unsafe { bundle.begin(bytes.as_mut_ptr()) } {
        let task = number(what, &bytes);
        before(task);
        board.give(bundle, thing(task, &(task * task).to_le_bytes()), task == bad);
    }
    bundle.took(1, 2);
    board.finish(taken.slot, Thing::Bundle(bundle), false, -1);
}

/// The results of a bundle that is to be reaped, with the failures among them, and how many tasks were begun.
fn unbundle(board: &Board, slot: u32) -> (Vec<u64>, Vec<usize>, usize) {
    let mut bytes = [0; ROOM];
    // SAFETY: the board has just named the slot; the buffer has ROOM bytes.
    let What::Bundle(bundle) = unsafe { board.reap(slot, bytes.as_mut_ptr()) }.what else {
        panic!("no bundle")
    };
    let outcome = bundle.outcome();
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    let mut cell = [0; CELL];
    for at in outcome.read..outcome.given {
        // SAFETY: the bundle is ours, and so many have ended.
        let (what, failed) = unsafe { bundle.result(cell.as_mut_ptr()) }.unwrap();
        values.push(number(what, &cell));
        if failed {
            failures.push(at);
        }
    }
    bundle.free();
    (values, failures, outcome.begun)
}

#[test]
fn what_was_revoked_does_not_stand_in_the_way() {
    alone("what_was_revoked_does_not_stand_in_the_way", || {
        tree::number();
        let mut master = Master::new();
        // One that is taken and stays so, and behind it nothing but tasks that are taken back.
        assert!(master.post(1));
        let mut bytes = [0; ROOM];
        // SAFETY: the buffer has ROOM bytes.
        let taken = unsafe { master.board().try_take(bytes.as_mut_ptr()) }.unwrap();
        for round in 0..3 * SLOTS as u64 {
            assert!(master.post(2), "no room in round {round}");
            let slot = *master.out.iter().find(|(_, task)| **task == 2).unwrap().0;
            assert!(master.board().revoke(slot));
            master.out.remove(&slot);
            master.free.push(slot);
        }
        let board = master.board();
        board.finish(taken.slot, thing(1, &1_u64.to_le_bytes()), false, -1);
        assert!(master.post(3));
        let worker = master.worker();
        master.board().close();
        worker.join();
        master.collect();
        assert_eq!(master.done, BTreeMap::from([(1, 1), (3, 9)]));
    });
}

#[test]
fn a_slot_that_is_used_again_keeps_the_order() {
    alone("a_slot_that_is_used_again_keeps_the_order", || {
        tree::number();
        let mut master = Master::new();
        for task in 1..=4 {
            assert!(master.post(task));
        }
        let slots: Vec<u32> = (1..=3)
            .map(|task| *master.out.iter().find(|(_, other)| **other == task).unwrap().0)
            .collect();
        for slot in slots {
            assert!(master.board().revoke(slot));
            master.out.remove(&slot);
            master.free.push(slot);
        }
        for task in 5..=7 {
            assert!(master.post(task));
        }
        let mut bytes = [0; ROOM];
        for task in 4..=7 {
            // SAFETY: the buffer has ROOM bytes.
            let taken = unsafe { master.board().try_take(bytes.as_mut_ptr()) }.unwrap();
            assert_eq!(master.out[&taken.slot], task);
        }
    });
}

#[test]
fn nothing_is_given_for_a_task_that_was_not_begun() {
    alone("nothing_is_given_for_a_task_that_was_not_begun", || {
        tree::number();
        let handle = Board::make().unwrap();
        let board = Board::of(&handle);
        post_bundle(board, 10, 5);
        let mut bytes = [0; ROOM];
        // SAFETY: the buffer has ROOM bytes, here and below.
        let taken = unsafe { board.try_take(bytes.as_mut_ptr()) }.unwrap();
        let What::Bundle(bundle) = taken.what else {
            panic!("{taken:?}")
        };
        let give = || board.give(bundle, thing(0, &100_u64.to_le_bytes()), false);
        give();
        assert_eq!(bundle.outcome().given, 0);
        // SAFETY: as above; this worker has the bundle.
        number(unsafe { bundle.begin(bytes.as_mut_ptr()) }.unwrap(), &bytes);
        give();
        give();
        assert_eq!((bundle.outcome().begun, bundle.outcome().given), (1, 1));
        assert!(bundle.has_news());
        // SAFETY: as above.
        let (what, failed) = unsafe { bundle.result(bytes.as_mut_ptr()) }.unwrap();
        assert_eq!((number(what, &bytes), failed), (100, false));
        // SAFETY: as above.
        assert!(unsafe { bundle.result(bytes.as_mut_ptr()) }.is_none());
        assert!(!bundle.has_news());
    });
}

#[test]
fn a_task_is_not_that_of_a_child_of_its_worker() {
    alone("a_task_is_not_that_of_a_child_of_its_worker", || {
        tree::number();
        let mut master = Master::new();
        assert!(master.post(1));
        let board = master.board();
        fork(|| {
            let mut bytes = [0; ROOM];
            // SAFETY: the buffer has ROOM bytes.
            let taken = unsafe { board.try_take(bytes.as_mut_ptr()) }.unwrap();
            assert!(board.is_mine(taken.slot));
            fork(|| assert!(!board.is_mine(taken.slot))).join();
            number(taken.what, &bytes);
            board.finish(taken.slot, thing(1, &1_u64.to_le_bytes()), false, -1);
            assert!(!board.is_mine(taken.slot));
        })
        .join();
        master.collect();
        assert_eq!(master.done, BTreeMap::from([(1, 1)]));
    });
}

fn squares(tasks: std::ops::Range<u64>) -> Vec<u64> {
    tasks.map(|task| task * task).collect()
}

#[test]
fn a_bundle_ends_task_by_task() {
    alone("a_bundle_ends_task_by_task", || {
        tree::number();
        let before = used();
        let handle = Board::make().unwrap();
        let board = Board::of(&handle);
        let many = BUNDLE as u64;
        post_bundle(board, 100, many);
        fork(|| work_bundle(board, 107, |_| {})).join();
        let mut slots = Vec::new();
        board.collect(|slot| slots.push(slot));
        assert_eq!(slots, [0]);
        assert_eq!(
            unbundle(board, 0),
            (squares(100..100 + many), vec![7], BUNDLE),
            "each result, and one failure"
        );
        drop(handle);
        assert_eq!(used(), before);
    });
}

#[test]
fn what_is_cut_off_is_not_begun() {
    alone("what_is_cut_off_is_not_begun", || {
        tree::number();
        let before = used();
        let handle = Board::make().unwrap();
        let board = Board::of(&handle);
        post_bundle(board, 0, 20);
        // The worker stops itself in the middle of its seventh task, as a slow one would be.
        let worker = fork(|| {
            work_bundle(board, u64::MAX, |task| {
                if task == 6 {
                    // SAFETY: plain system call.
                    unsafe { libc::raise(libc::SIGSTOP) };
                }
            });
        });
        until("it has stopped", || worker.is_stopped());
        let bundle = board.cut(0).unwrap();
        let outcome = bundle.outcome();
        assert_eq!((outcome.read, outcome.given, outcome.begun), (0, 6, 7));
        // What has ended can be read while the worker is busy.
        let mut cell = [0; CELL];
        // SAFETY: six results are there; the buffer is long enough.
        let early = [0; 2].map(|_: u8| number(unsafe { bundle.result(cell.as_mut_ptr()) }.unwrap().0, &cell));
        assert_eq!(early, [0, 1]);
        assert_eq!(board.cut(0), Some(bundle), "twice is once");
        worker.signal(libc::SIGCONT);
        worker.join();
        let mut slots = Vec::new();
        board.collect(|slot| slots.push(slot));
        assert_eq!(slots, [0]);
        assert_eq!(unbundle(board, 0), (squares(2..7), vec![], 7));
        assert_eq!(board.cut(0), None, "there is no bundle any more");
        drop(handle);
        assert_eq!(used(), before);
    });
}

#[test]
fn a_worker_that_is_killed_in_a_bundle() {
    alone_for(
        "a_worker_that_is_killed_in_a_bundle",
        Duration::from_secs(120),
        || {
            tree::number();
            let before = used();
            for point in ["bundle.begun", "bundle.before_given"] {
                for nth in [1, 2, 3, 12] {
                    let handle = Board::make().unwrap();
                    let board = Board::of(&handle);
                    post_bundle(board, 0, 12);
                    let mut victim = fork(|| {
                        assert!(point::arm(point, nth));
                        work_bundle(board, u64::MAX, |_| {});
                    });
                    assert_eq!(victim.ending(), Ending::Killed(libc::SIGKILL));
                    let estate = board.collect_from_the_dead();
                    assert!(estate.finished.is_empty() && estate.lost.is_empty());
                    let [Lost { slot, .. }] = estate.bundles[..] else {
                        panic!("{estate:?}")
                    };
                    // One was begun and has not ended; all before it are there, all after it are untouched.
                    let begun = nth as usize;
                    let ended = squares(0..u64::from(nth) - 1);
                    assert_eq!(unbundle(board, slot), (ended, vec![], begun), "{point} {nth}");
                    drop(handle);
                    assert_eq!(used(), before, "{point} {nth}");
                }
            }
        },
    );
}

#[test]
fn a_bundle_that_nobody_took_goes_with_its_board() {
    alone("a_bundle_that_nobody_took_goes_with_its_board", || {
        tree::number();
        let before = used();
        let handle = Board::make().unwrap();
        let board = Board::of(&handle);
        post_bundle(board, 0, 12);
        assert!(board.revoke(0));
        post_bundle(board, 0, 12);
        drop(handle);
        assert_eq!(used(), before);
    });
}

/// What a master learns of the task that its worker died over, where the worker came so far with it.
fn last_event(far: Option<Stage>) -> Stage {
    let handle = Board::make().unwrap();
    let board = Board::of(&handle);
    // The slot has carried another task before, and a note of that one.
    let mut bytes = [0; ROOM];
    board.post(0, Thing::Small(KIND, &[1]));
    // SAFETY: the buffer has ROOM bytes; the slot was finished.
    unsafe {
        assert!(board.try_take(bytes.as_mut_ptr()).is_some());
        board.note(0, Stage::Ended);
        board.finish(0, Thing::Small(KIND, &[1]), false, -1);
        board.collect(|_| {});
        board.reap(0, bytes.as_mut_ptr());
    }
    board.post(0, Thing::Small(KIND, &[2]));
    let begun = sys::now();
    let mut victim = fork(|| {
        let mut bytes = [0; ROOM];
        assert!(far.is_some() || point::arm("task.taken", 1));
        // SAFETY: the buffer has ROOM bytes.
        unsafe { board.try_take(bytes.as_mut_ptr()) };
        board.note(0, far.unwrap());
        std::process::abort();
    });
    assert!(matches!(victim.ending(), Ending::Killed(_)));
    let [lost] = board.collect_from_the_dead().lost[..] else {
        panic!("one task was lost")
    };
    let tick = Duration::from_millis(50).as_nanos() as u64; // the clock of notes stands still for so long at the most
    let noted = (begun.saturating_sub(tick)..=sys::now()).contains(&lost.event.since);
    assert!(
        lost.slot == 0 && (noted || far.is_none() && lost.event.since == 0),
        "{lost:?}"
    );
    lost.event.stage
}

#[test]
fn the_last_event_of_a_lost_task() {
    alone("the_last_event_of_a_lost_task", || {
        tree::number();
        assert_eq!(last_event(None), Stage::Taken);
        for stage in [Stage::Taken, Stage::Started, Stage::Ended] {
            assert_eq!(last_event(Some(stage)), stage);
        }
    });
}
