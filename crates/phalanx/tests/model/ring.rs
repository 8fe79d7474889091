//! The ring between processes, small. The module itself is not there under loom: it needs shared memory.
//!
//! | here | mirrors |
//! | --- | --- |
//! | `Guard::lock` | `lock`, `lock_slow` of `shm/guard.rs`; "asks the kernel" is a load of `dead` |
//! | `Ring::put`, `push` | `try_put`, `push`, `wake` of `channel/ring.rs` |
//! | `Ring::get`, `pop` | `try_get`, `pop` |
//! | `Ring::mend`, `sweep` | the same |
//! | `Ring::wait_for` | the same, at the door of one process instead of that between processes |
//!
//! A process that is killed is a thread that stops in the middle, at the step `dies`, and leaves everything as it is. Two
//! slots stand for chunks and records, a block of its own for the payload of each item.
use super::{Cell, bounded, bounded_by, forever, spawn};
use loom::sync::Arc;
use phalanx::prim::{AtomicBool, AtomicU32, Ordering, fence, yield_now};
use phalanx::wait::{self, Wakeup};

/// Steps at which a process may be killed.
const NEVER: u32 = 0;
const LOCKED: u32 = 1;
const GIVEN: u32 = 2;
const WRITTEN: u32 = 3;
const COMMITTED: u32 = 4;
const TAKEN: u32 = 5;
const UNLOCKED: u32 = 6;

/// Owners of a block, beside the numbers of processes.
const FREE: u32 = 0;
const PART: u32 = 100;

const SLOTS: u32 = 2;

struct Guard(AtomicU32);

impl Guard {
    /// `true`: stolen.
    fn lock(&self, me: u32, dead: &[AtomicBool; 8]) -> bool {
        loop {
            match self
                .0
                .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return false,
                Err(owner) => {
                    if dead[owner as usize].load(Ordering::Acquire)
                        && self
                            .0
                            .compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed)
                            .is_ok()
                    {
                        return true;
                    }
                }
            }
            yield_now();
        }
    }

    fn unlock(&self) {
        self.0.swap(0, Ordering::Release);
    }
}

struct Side {
    guard: Guard,
    sleepers: AtomicU32,
    mark: AtomicU32,
    other: AtomicU32,
}

impl Side {
    fn new() -> Self {
        Self {
            guard: Guard(AtomicU32::new(0)),
            sleepers: AtomicU32::new(0),
            mark: AtomicU32::new(0),
            other: AtomicU32::new(0),
        }
    }
}

struct Ring {
    put: Side,
    get: Side,
    dirty: AtomicU32,
    dead: [AtomicBool; 8],
    /// The number of the item in each.
    slots: [Cell; SLOTS as usize],
    /// Who owns the block of each item.
    blocks: [AtomicU32; 5],
    /// How often each item was got, by somebody who lived to tell.
    got: [AtomicU32; 5],
}

// SAFETY: loom itself checks every access to the slots.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

/// The process was killed here.
struct Killed;

fn ring() -> Arc<Ring> {
    Arc::new(Ring {
        put: Side::new(),
        get: Side::new(),
        dirty: AtomicU32::new(0),
        dead: [(); 8].map(|()| AtomicBool::new(false)),
        slots: [(); SLOTS as usize].map(|()| Cell::new()),
        blocks: [(); 5].map(|()| AtomicU32::new(FREE)),
        got: [(); 5].map(|()| AtomicU32::new(0)),
    })
}

impl Ring {
    fn set(&self, slot: u32, item: u32) {
        // SAFETY: loom fails the model if another access runs at the same time.
        self.slots[(slot % SLOTS) as usize]
            .0
            .with_mut(|at| unsafe { *at = item as usize });
    }

    fn slot(&self, slot: u32) -> u32 {
        self.slots[(slot % SLOTS) as usize].get() as u32
    }

    /// `me` runs `deed`; if that ends early it is dead, and the kernel says so.
    fn live<R>(&self, me: u32, deed: impl FnOnce() -> Result<R, Killed>) -> Option<R> {
        let result = deed();
        if result.is_err() {
            self.dead[me as usize].store(true, Ordering::Release);
        }
        result.ok()
    }

    fn lock(&self, me: u32, side: &Side) {
        if side.guard.lock(me, &self.dead) || self.dirty.load(Ordering::Relaxed) != 0 {
            self.mend(me, side);
        }
    }

    fn mend(&self, me: u32, side: &Side) {
        self.dirty.store(1, Ordering::Release);
        side.guard.unlock();
        self.get.guard.lock(me, &self.dead);
        self.put.guard.lock(me, &self.dead);
        if self.dirty.load(Ordering::Acquire) != 0 {
            self.sweep();
            self.dirty.store(0, Ordering::Release);
        }
        if std::ptr::eq(side, &self.put) {
            self.get.guard.unlock();
        } else {
            self.put.guard.unlock();
        }
    }

    fn sweep(&self) {
        let (head, tail) = (
            self.get.mark.load(Ordering::Acquire),
            self.put.mark.load(Ordering::Acquire),
        );
        self.put.other.store(head, Ordering::Relaxed);
        self.get.other.store(tail, Ordering::Relaxed);
        let reachable: Vec<u32> = (head..tail).map(|at| self.slot(at)).collect();
        for (item, block) in (0..).zip(&self.blocks) {
            if block.load(Ordering::Acquire) == PART && !reachable.contains(&item) {
                block.store(FREE, Ordering::Release);
            }
        }
    }

    /// Puts `item`; `false`: no room. Killed at the step `dies`.
    fn try_put(&self, me: u32, item: u32, dies: u32) -> Result<bool, Killed> {
        let step = |at| if at == dies { Err(Killed) } else { Ok(()) };
        self.blocks[item as usize].store(me, Ordering::Relaxed);
        self.lock(me, &self.put);
        step(LOCKED)?;
        let tail = self.put.mark.load(Ordering::Relaxed);
        let full = |head| tail - head >= SLOTS;
        if full(self.put.other.load(Ordering::Relaxed)) {
            let head = self.get.mark.load(Ordering::Acquire);
            self.put.other.store(head, Ordering::Relaxed);
            if full(head) {
                self.put.guard.unlock();
                return Ok(false);
            }
        }
        self.set(tail, item);
        step(WRITTEN)?;
        self.blocks[item as usize].store(PART, Ordering::Release);
        step(GIVEN)?;
        self.put.mark.store(tail + 1, Ordering::Release);
        step(COMMITTED)?;
        self.put.guard.unlock();
        step(UNLOCKED)?;
        self.wake(&self.get);
        Ok(true)
    }

    fn is_empty(&self) -> bool {
        let head = self.get.mark.load(Ordering::Acquire);
        self.put.mark.load(Ordering::Acquire) == head
    }

    /// Gets the oldest item and says that it has.
    fn try_get(&self, me: u32, dies: u32) -> Result<Option<u32>, Killed> {
        if self.is_empty() {
            return Ok(None);
        }
        let step = |at| if at == dies { Err(Killed) } else { Ok(()) };
        self.lock(me, &self.get);
        step(LOCKED)?;
        let head = self.get.mark.load(Ordering::Relaxed);
        if self.get.other.load(Ordering::Relaxed) == head {
            let tail = self.put.mark.load(Ordering::Acquire);
            self.get.other.store(tail, Ordering::Relaxed);
            if tail == head {
                self.get.guard.unlock();
                return Ok(None);
            }
        }
        let item = self.slot(head);
        step(WRITTEN)?;
        self.get.mark.store(head + 1, Ordering::Release);
        step(COMMITTED)?;
        self.blocks[item as usize].store(me, Ordering::Release);
        step(TAKEN)?;
        self.get.guard.unlock();
        step(UNLOCKED)?;
        self.wake(&self.put);
        let before = self.blocks[item as usize].swap(FREE, Ordering::AcqRel);
        assert_eq!(before, me, "the block is whose item it is");
        self.got[item as usize].fetch_add(1, Ordering::Relaxed);
        Ok(Some(item))
    }

    fn wait_for(&self, side: &Side, ready: impl Fn() -> bool) {
        let unready = || {
            side.sleepers.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            !ready()
        };
        match wait::park(wait::key_of(&side.sleepers), &forever(), None, unready) {
            Wakeup::Unparked(_) | Wakeup::Invalid => {}
            other => panic!("{other:?}"),
        }
    }

    fn wake(&self, side: &Side) {
        fence(Ordering::SeqCst);
        if side.sleepers.load(Ordering::Relaxed) != 0 {
            wait::unpark(wait::key_of(&side.sleepers), 1, 0, |_, more| {
                if !more {
                    side.sleepers.store(0, Ordering::Relaxed);
                }
            });
        }
    }

    fn has_room(&self) -> bool {
        let (tail, head) = (
            self.put.mark.load(Ordering::Acquire),
            self.get.mark.load(Ordering::Acquire),
        );
        tail - head < SLOTS
    }

    fn put(&self, me: u32, item: u32) {
        while !matches!(self.try_put(me, item, NEVER), Ok(true)) {
            self.wait_for(&self.put, || self.has_room());
        }
    }

    fn get(&self, me: u32) -> u32 {
        loop {
            if let Ok(Some(item)) = self.try_get(me, NEVER) {
                return item;
            }
            self.wait_for(&self.get, || !self.is_empty());
        }
    }

    fn got(&self, item: u32) -> u32 {
        self.got[item as usize].load(Ordering::Relaxed)
    }

    /// The undertaker's part, and one more put and get of item 0: whatever was left is swept, nothing is lost for ever.
    fn last_rites(&self, the_dead: u32) {
        if self.dead[the_dead as usize].load(Ordering::Acquire) {
            for block in &self.blocks {
                let _ = block.compare_exchange(the_dead, FREE, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        while let Ok(Some(_)) = self.try_get(3, NEVER) {}
        assert!(matches!(self.try_put(3, 0, NEVER), Ok(true)));
        assert!(matches!(self.try_get(3, NEVER), Ok(Some(0))));
        for block in &self.blocks {
            assert_eq!(block.load(Ordering::Relaxed), FREE, "a block is left");
        }
    }
}

#[test]
fn items_come_once_and_in_order() {
    bounded_by(5, || {
        let ring = ring();
        let putter = spawn(&ring, |ring| {
            ring.put(1, 1);
            ring.put(1, 2);
            ring.put(1, 3);
        });
        assert_eq!([ring.get(2), ring.get(2), ring.get(2)], [1, 2, 3]);
        putter.join().unwrap();
        ring.last_rites(0);
    });
}

#[test]
fn two_putters_and_one_getter() {
    bounded(|| {
        let ring = ring();
        let putters = [1, 2].map(|me| spawn(&ring, move |ring| ring.put(me, me)));
        assert_eq!(ring.get(3) + ring.get(3), 3);
        putters.map(|putter| putter.join().unwrap());
        ring.last_rites(0);
    });
}

#[test]
fn one_putter_and_two_getters() {
    bounded(|| {
        let ring = ring();
        let getters = [1, 2].map(|me| spawn(&ring, move |ring| ring.get(me)));
        ring.put(3, 1);
        ring.put(3, 2);
        let got: u32 = getters.map(|getter| getter.join().unwrap()).into_iter().sum();
        assert_eq!(got, 3);
        ring.last_rites(0);
    });
}

#[test]
fn a_putter_dies_at_each_step() {
    for dies in [LOCKED, WRITTEN, GIVEN, COMMITTED, UNLOCKED] {
        bounded_by(4, move || {
            let ring = ring();
            let victim = spawn(&ring, move |ring| {
                ring.live(1, || ring.try_put(1, 1, dies));
            });
            // It puts and gets while the other one dies.
            ring.put(2, 2);
            let mut got = vec![ring.get(2)];
            victim.join().unwrap();
            while let Ok(Some(item)) = ring.try_get(2, NEVER) {
                got.push(item);
            }
            got.sort_unstable();
            let committed = matches!(dies, COMMITTED | UNLOCKED);
            assert_eq!(got, if committed { vec![1, 2] } else { vec![2] });
            ring.last_rites(1);
        });
    }
}

#[test]
fn a_getter_dies_at_each_step() {
    for dies in [LOCKED, WRITTEN, COMMITTED, TAKEN, UNLOCKED] {
        bounded_by(4, move || {
            let ring = ring();
            ring.put(2, 1);
            let victim = spawn(&ring, move |ring| {
                ring.live(1, || ring.try_get(1, dies));
            });
            ring.put(2, 2);
            let mut left = 0;
            while let Ok(Some(_)) = ring.try_get(2, NEVER) {
                left += 1;
            }
            victim.join().unwrap();
            while let Ok(Some(_)) = ring.try_get(2, NEVER) {
                left += 1;
            }
            assert!(ring.got(1) <= 1 && ring.got(2) <= 1, "twice");
            let died = ring.dead[1].load(Ordering::Acquire);
            let lost = died && !matches!(dies, LOCKED | WRITTEN);
            assert_eq!(left, if lost { 1 } else { 2 });
            ring.last_rites(1);
        });
    }
}

/// One dies at each end: those who find out at the two ends at one time do not wait for each other.
#[test]
fn both_ends_are_mended_at_one_time() {
    bounded_by(2, || {
        let ring = ring();
        ring.put(3, 1);
        ring.put(3, 2);
        ring.live(2, || ring.try_get(2, COMMITTED));
        ring.live(1, || ring.try_put(1, 3, GIVEN));
        // Neither has to wait for the other before it comes to the guards.
        let putter = spawn(&ring, |ring| ring.put(3, 4));
        assert_eq!([ring.get(4), ring.get(4)], [2, 4]);
        putter.join().unwrap();
        assert_eq!((ring.got(1), ring.got(3)), (0, 0));
        ring.last_rites(1);
    });
}

/// A sleeper is not passed over, whether the room or the item comes before or after it looked.
#[test]
fn nobody_sleeps_through_a_commit() {
    bounded_by(5, || {
        let ring = ring();
        ring.put(1, 1);
        ring.put(1, 2);
        let putter = spawn(&ring, |ring| ring.put(1, 3));
        assert_eq!([ring.get(2), ring.get(2), ring.get(2)], [1, 2, 3]);
        putter.join().unwrap();
    });
}
