//! The board: slots that carry a task to a worker and its result back.

use super::bundle::Bundled;
use super::cargo::{Cargo, Thing, What};
use super::event::{Event, Note, Stage};
use crate::prim::{AtomicU32, AtomicU64, Ordering, fence, fence_after_exchange};
use crate::shm::heap::Full;
use crate::shm::point::{Point, reach};
use crate::shm::{self, Handle, tree};
use crate::sys;
use crate::wait::{self, How, Space, Stopped, Wakeup};
use std::collections::BTreeSet;
use std::ptr;

/// Tasks that are posted and not yet collected, at the most.
pub const SLOTS: usize = 1024;
/// Bytes that travel in a slot itself.
pub const ROOM: usize = 192;
/// Workers whose doings are counted one by one; those beyond share the last row.
pub const SEATS: usize = 128;

/// In the place of a slot, at a position whose task was revoked.
const NOBODY: u32 = u32::MAX;

const FREE: u64 = 0;
const READY: u64 = 1;
const TAKEN: u64 = 2;
const DONE: u64 = 3;
const PHASE: u64 = 0xFF;

/// Tasks and results between a master and its workers. Made by [`Board::make`]; lives in an object of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Board {
    /// Positions posted so far. The master's.
    tail: AtomicU64,
    closed: AtomicU32,
    /// Positions that need not be looked at any more.
    head: Line<AtomicU64>,
    /// Workers may be asleep.
    idle: Line<AtomicU32>,
    /// The newest finished slot + 1, 0 for none.
    done: Line<AtomicU32>,
    /// So many threads of the master wait for results; they sleep under this word's key.
    heed: AtomicU32,
    /// The master's own thread sleeps until the bell rings.
    drowsy: AtomicU32,
    /// Which socket the bell is: its inode.
    bell: AtomicU64,
    /// What the workers did, by their seats.
    tallies: [Tally; SEATS],
    order: [AtomicU32; SLOTS],
    slots: [Slot; SLOTS],
}

/// What the workers in one seat of a pool have done. Each is written by the worker that sits there.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Tally {
    /// Tasks finished.
    pub tasks: AtomicU64,
    /// Nanoseconds spent on them.
    pub busy: AtomicU64,
    /// Nanoseconds spent waiting for one.
    pub waiting: AtomicU64,
    /// Bytes of tasks and results.
    pub bytes: AtomicU64,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Line<T>(T);

#[derive(Debug)]
#[repr(C, align(64))]
struct Slot {
    /// worker << 32 | phase.
    state: AtomicU64,
    /// The slot + 1 that was finished before this one, 0 for none.
    next: AtomicU32,
    note: Note,
    cargo: Cargo<ROOM>,
}

// SAFETY: `cargo` belongs to whoever the phase says, and every change of phase is an atomic exchange or store.
unsafe impl Sync for Board {}

/// A task in the hands of this worker, or a result in the master's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Where it lay.
    pub slot: u32,
    /// What lay there.
    pub what: What,
    /// A result: the task failed, and this is why.
    pub failed: bool,
}

/// What dead workers have left.
#[derive(Debug, Default)]
pub struct Estate {
    /// Slots to be reaped.
    pub finished: Vec<u32>,
    /// Tasks that are lost; their slots are free now.
    pub lost: Vec<Lost>,
    /// Bundles that have not come to their end; their slots are to be reaped.
    pub bundles: Vec<Lost>,
}

/// What was in the hands of a worker when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Where it lay.
    pub slot: u32,
    /// The number of the worker.
    pub worker: u32,
    /// The last that is known of it; of a bundle, of its task that was begun last.
    pub event: Event,
}

/// Why a worker has no task.
#[derive(Debug)]
pub enum Ended {
    /// The deadline passed.
    TimedOut,
    /// The board is closed and empty.
    Closed,
    /// Stopped at the door.
    Stopped(Stopped),
}

fn worker_of(state: u64) -> u32 {
    (state >> 32) as u32
}

impl Board {
    /// The kind of a board's object in the arena.
    pub const OBJECT: u32 = 0x62;

    /// A new board.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make() -> Result<Handle, Full> {
        // Zeroes are an empty board.
        Handle::new(Self::OBJECT, size_of::<Self>())
    }

    /// The board of a handle.
    #[inline]
    pub fn of(handle: &Handle) -> &Self {
        // SAFETY: objects of this kind hold a board, zeroed at first; the handle keeps it alive.
        unsafe { &*handle.data().cast::<Self>() }
    }

    /// The offset of the object that it lies in.
    fn object(&self) -> u64 {
        let address = ptr::from_ref(self).addr() - shm::OBJECT_HEAD;
        shm::arena()
            .and_then(|arena| arena.offset_of(address))
            .unwrap_or(0)
    }

    /// What the workers in a seat have done.
    pub fn tally(&self, seat: usize) -> &Tally {
        &self.tallies[seat.min(SEATS - 1)]
    }

    // ---------------------------------------------------------------- the master

    /// Posts a task into the slot numbered `slot`, which is free. One thread of the master at a time.
    pub fn post(&self, slot: u32, thing: Thing<'_>) {
        let there = &self.slots[slot as usize];
        // SAFETY: a free slot is the master's.
        unsafe { there.cargo.write(thing, false, self.object()) };
        there.note.clear();
        // SYNC(board): pairs with the Acquire exchange in try_take.
        there.state.store(READY, Ordering::Release);
        let tail = self.tail.load(Ordering::Relaxed);
        self.order[tail as usize % SLOTS].store(slot, Ordering::Relaxed);
        // SYNC(tail): pairs with the Acquire load in try_take.
        self.tail.store(tail + 1, Ordering::Release);
        // SYNC(idle): pairs with the fence in take. Either the worker sees the task or we see that it sleeps.
        fence(Ordering::SeqCst);
        if self.idle.0.load(Ordering::Relaxed) != 0 {
            self.wake_workers(1);
        }
    }

    #[cold]
    fn wake_workers(&self, n: usize) {
        let idle = &self.idle.0;
        wait::Shared::unpark(wait::key_of(idle), n, 0, |_, more| {
            if !more {
                idle.store(0, Ordering::Relaxed);
            }
        });
    }

    /// Is there room for one more position? A slot that is long in a worker's hands does not stand in the way, nor one that
    /// was revoked.
    pub fn has_room(&self) -> bool {
        let room = || self.tail.load(Ordering::Relaxed) - self.head.0.load(Ordering::Acquire) < SLOTS as u64;
        room() || {
            self.pass_over();
            room()
        }
    }

    /// Moves `head` over positions whose tasks were revoked: a worker does that too, but it may be long until one comes by.
    #[cold]
    fn pass_over(&self) {
        loop {
            let head = self.head.0.load(Ordering::Acquire);
            if head >= self.tail.load(Ordering::Acquire) {
                return;
            }
            let slot = self.order[head as usize % SLOTS].load(Ordering::Relaxed);
            if slot != NOBODY && self.slots[slot as usize].state.load(Ordering::Acquire) & PHASE == READY {
                return;
            }
            let _ = self
                .head
                .0
                .compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Takes back a task that no worker has taken. `true`: its slot is free, and what was in it is freed.
    pub fn revoke(&self, slot: u32) -> bool {
        let there = &self.slots[slot as usize];
        // SYNC(board): as in try_take.
        let ours = there
            .state
            .compare_exchange(READY, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if ours {
            // First: the slot may carry a later task then, which is not to be taken in the turn of this one.
            self.strike_out(slot);
            there.cargo.discard();
            there.state.store(FREE, Ordering::Release);
        }
        ours
    }

    /// Nothing is at the position of this slot any more. Looks at all that have not been passed, the newest first.
    fn strike_out(&self, slot: u32) {
        let (head, tail) = (
            self.head.0.load(Ordering::Acquire),
            self.tail.load(Ordering::Relaxed),
        );
        let mut places = (head..tail)
            .rev()
            .map(|position| &self.order[position as usize % SLOTS]);
        if let Some(place) = places.find(|place| place.load(Ordering::Relaxed) == slot) {
            place.store(NOBODY, Ordering::Relaxed);
        }
    }

    /// Says what a bundle that is not yet posted calls.
    pub fn set_call(&self, bundle: Bundled, thing: Thing<'_>) {
        bundle.set_call(thing, self.object());
    }

    /// Puts a task into a bundle that is not yet posted and has room.
    pub fn push(&self, bundle: Bundled, thing: Thing<'_>) {
        bundle.push(thing, self.object());
    }

    /// Takes back those tasks of the bundle in `slot` that its worker has not begun; the others stay with it.
    pub fn cut(&self, slot: u32) -> Option<Bundled> {
        // Only the master reaps, and it is the master who cuts: the bundle is there.
        let bundle = self.bundle(slot)?;
        bundle.cut();
        Some(bundle)
    }

    /// The bundle in `slot`, for a look at what has become of it so far.
    pub fn bundle(&self, slot: u32) -> Option<Bundled> {
        // As in cut.
        self.slots[slot as usize].cargo.bundle()
    }

    /// Does a worker sleep that would find nothing to take?
    pub fn is_starving(&self) -> bool {
        self.idle.0.load(Ordering::Relaxed) != 0
            && self.head.0.load(Ordering::Relaxed) >= self.tail.load(Ordering::Relaxed)
    }

    /// Which worker has the task of this slot in its hands, 0 for none.
    pub fn worker(&self, slot: u32) -> u32 {
        let state = self.slots[slot as usize].state.load(Ordering::Acquire);
        if state & PHASE == TAKEN {
            worker_of(state)
        } else {
            0
        }
    }

    /// Takes all finished slots off the stack, the oldest first, and hands them to `each` as numbers.
    pub fn collect(&self, mut each: impl FnMut(u32)) {
        // SYNC(done): pairs with the Release exchange in finish.
        let mut next = self.done.0.swap(0, Ordering::Acquire);
        let mut back = 0;
        while next != 0 {
            let slot = &self.slots[(next as usize - 1) % SLOTS];
            let further = slot.next.load(Ordering::Relaxed);
            slot.next.store(back, Ordering::Relaxed);
            back = next;
            next = further;
        }
        while back != 0 {
            let slot = (back - 1) % SLOTS as u32;
            back = self.slots[slot as usize].next.load(Ordering::Relaxed);
            each(slot);
        }
    }

    /// Has any slot been finished and not collected?
    #[inline]
    pub fn has_done(&self) -> bool {
        self.done.0.load(Ordering::Relaxed) != 0
    }

    /// Reads the result in a finished slot and frees the slot; small ones are copied to `to`. A bundle is the caller's
    /// then, to be freed.
    ///
    /// # Safety
    /// The slot came from [`Board::collect`] or [`Board::collect_from_the_dead`]; `to` is valid for [`ROOM`] bytes.
    pub unsafe fn reap(&self, slot: u32, to: *mut u8) -> Taken {
        let there = &self.slots[slot as usize];
        // SAFETY: a finished slot is the master's.
        let (what, failed) = unsafe { there.cargo.read(to) };
        there.cargo.forget();
        there.state.store(FREE, Ordering::Release);
        Taken { slot, what, failed }
    }

    /// Collects, and what dead workers have left with it.
    pub fn collect_from_the_dead(&self) -> Estate {
        let held = |slot: &Slot| {
            let state = slot.state.load(Ordering::Acquire);
            let held = matches!(state & PHASE, TAKEN | DONE) && worker_of(state) != 0;
            held.then(|| worker_of(state))
        };
        let workers: BTreeSet<u32> = self.slots.iter().filter_map(held).collect();
        let dead: BTreeSet<u32> = workers
            .into_iter()
            .filter(|&worker| tree::is_dead(worker))
            .collect();
        // Only now: what they pushed before they died is on the stack, and they push no more.
        let mut estate = Estate::default();
        let mut collected = [false; SLOTS];
        self.collect(|slot| {
            collected[slot as usize] = true;
            estate.finished.push(slot);
        });
        for (at, slot) in (0..).zip(&self.slots) {
            let Some(worker) = held(slot).filter(|worker| dead.contains(worker)) else {
                continue;
            };
            let lost = Lost {
                slot: at,
                worker,
                event: slot.note.get(),
            };
            if slot.state.load(Ordering::Acquire) & PHASE == DONE {
                if !collected[at as usize] {
                    estate.finished.push(at);
                }
            } else if slot.cargo.bundle().is_some() {
                estate.bundles.push(lost);
            } else {
                slot.cargo.discard();
                slot.state.store(FREE, Ordering::Release);
                estate.lost.push(lost);
            }
        }
        estate
    }

    /// Sends each worker home once nothing is left to take.
    pub fn close(&self) {
        self.closed.store(1, Ordering::SeqCst);
        self.wake_workers(usize::MAX);
    }

    /// Says whether a thread of the master waits for results from now on; `bell` is rung if that leaves nobody.
    pub fn heed(&self, on: bool, bell: i32) {
        if on {
            self.heed.fetch_add(1, Ordering::SeqCst);
            // SYNC(heed): pairs with the fence in finish. Either we see what was pushed or its worker sees us.
            fence_after_exchange();
        } else if self.heed.fetch_sub(1, Ordering::SeqCst) == 1 {
            // SYNC(heed): as above.
            fence_after_exchange();
            if self.has_done() {
                self.ring(bell);
            }
        }
    }

    /// A thread that heeds waits until something is finished, or `enough`.
    ///
    /// # Errors
    /// [`Stopped`]. `Ok(false)`: the deadline passed.
    pub fn wait_done(&self, how: &How<'_>, enough: impl Fn() -> bool) -> Result<bool, Stopped> {
        let ready = || self.has_done() || enough();
        if ready() || wait::shared::spin_until(|| ready().then_some(())).is_some() {
            return Ok(true);
        }
        // SYNC(heed): a fence lies between the raising of `heed` and this look at the stack.
        match wait::Shared::park(wait::key_of(&self.heed), how, None, || !ready()) {
            Wakeup::Unparked(_) | Wakeup::Invalid => Ok(true),
            Wakeup::TimedOut => Ok(ready()),
            Wakeup::Stopped(stopped) => Err(stopped),
        }
    }

    /// Wakes every thread that heeds, for news that are not on the stack.
    pub fn nudge(&self) {
        wait::Shared::unpark(wait::key_of(&self.heed), usize::MAX, 0, |_, _| {});
    }

    /// The master's own thread is about to sleep on its files. `false`: it had better collect first.
    pub fn doze(&self) -> bool {
        self.drowsy.store(1, Ordering::Relaxed);
        // SYNC(drowsy): pairs with the fence in finish.
        fence(Ordering::SeqCst);
        let quiet = !self.has_done() || self.heed.load(Ordering::Relaxed) != 0;
        if !quiet {
            self.drowsy.store(0, Ordering::Relaxed);
        }
        quiet
    }

    /// The master says which socket its bell is, before it starts a worker.
    pub fn hang(&self, bell: i32) {
        self.bell.store(sys::inode(bell).unwrap_or(0), Ordering::Relaxed);
    }

    /// A task may have closed the bell, and opened a socket of its own under the same number: nothing is written there.
    fn ring(&self, bell: i32) {
        if self.drowsy.swap(0, Ordering::SeqCst) != 0
            && sys::inode(bell) == Some(self.bell.load(Ordering::Relaxed))
        {
            sys::ring_bell(bell);
        }
    }

    // ---------------------------------------------------------------- a worker

    /// Takes the oldest task, if there is one; small ones are copied to `to`.
    ///
    /// # Safety
    /// `to` is valid for [`ROOM`] bytes.
    pub unsafe fn try_take(&self, to: *mut u8) -> Option<Taken> {
        let me = tree::number();
        loop {
            let head = self.head.0.load(Ordering::Acquire);
            // SYNC(tail): pairs with the Release store in post.
            if head >= self.tail.load(Ordering::Acquire) {
                return None;
            }
            let number = self.order[head as usize % SLOTS].load(Ordering::Relaxed);
            let slot = &self.slots[if number == NOBODY { 0 } else { number as usize }];
            let mine = u64::from(me) << 32 | TAKEN;
            // SYNC(board): pairs with the Release store in post.
            let taken = number != NOBODY
                && slot
                    .state
                    .compare_exchange(READY, mine, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if taken {
                reach(Point::TaskTaken);
                slot.note.set(Stage::Taken);
            }
            let _ = self
                .head
                .0
                .compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Relaxed);
            if taken {
                // SAFETY: the slot is ours; `to` is as the caller promises.
                let (what, _) = unsafe { slot.cargo.read(to) };
                return Some(Taken {
                    slot: number,
                    what,
                    failed: false,
                });
            }
        }
    }

    /// Takes the oldest task, waiting for one as `how` says.
    ///
    /// # Errors
    /// [`Ended`].
    ///
    /// # Safety
    /// As [`Board::try_take`].
    pub unsafe fn take(&self, to: *mut u8, how: &How<'_>) -> Result<Taken, Ended> {
        let some = || self.head.0.load(Ordering::Relaxed) < self.tail.load(Ordering::Relaxed);
        loop {
            // SAFETY: as the caller promises.
            if let Some(taken) = unsafe { self.try_take(to) } {
                return Ok(taken);
            }
            if self.closed.load(Ordering::SeqCst) != 0 && !some() {
                return Err(Ended::Closed);
            }
            if wait::shared::spin_until(|| some().then_some(())).is_some() {
                continue;
            }
            let none = || {
                self.idle.0.store(1, Ordering::Relaxed);
                // SYNC(idle): pairs with the fence in post.
                fence(Ordering::SeqCst);
                !some() && self.closed.load(Ordering::Relaxed) == 0
            };
            match wait::Shared::park(wait::key_of(&self.idle.0), how, None, none) {
                Wakeup::Unparked(_) | Wakeup::Invalid => {}
                Wakeup::TimedOut if some() => {}
                Wakeup::TimedOut => return Err(Ended::TimedOut),
                Wakeup::Stopped(stopped) => {
                    if stopped.owes_a_wakeup() && some() {
                        self.wake_workers(1);
                    }
                    return Err(Ended::Stopped(stopped));
                }
            }
        }
    }

    /// Notes how far this worker has come with the task in `slot`, which it has taken.
    #[inline]
    pub fn note(&self, slot: u32, stage: Stage) {
        self.slots[slot as usize % SLOTS].note.set(stage);
    }

    /// Is the task in `slot` in the hands of this process? Not in those of a child that it has forked.
    #[inline]
    pub fn is_mine(&self, slot: u32) -> bool {
        let mine = u64::from(tree::number()) << 32 | TAKEN;
        self.slots[slot as usize % SLOTS].state.load(Ordering::Relaxed) == mine
    }

    /// Gives back the result of the task of a bundle that was begun last.
    pub fn give(&self, bundle: Bundled, thing: Thing<'_>, failed: bool) {
        bundle.give(thing, failed, self.object());
    }

    /// Gives back the result of the task in `slot`, which this worker has taken ([`Board::is_mine`]), and wakes the master.
    pub fn finish(&self, slot: u32, thing: Thing<'_>, failed: bool, bell: i32) {
        let there = &self.slots[slot as usize % SLOTS];
        // SAFETY: a slot that was taken is this worker's.
        unsafe { there.cargo.write(thing, failed, self.object()) };
        reach(Point::TaskBeforeDone);
        let mine = u64::from(tree::number()) << 32;
        // SYNC(board): pairs with the Acquire load in collect_from_the_dead; the push below is for collect.
        there.state.store(mine | DONE, Ordering::Release);
        reach(Point::TaskAfterDone);
        let mut newest = self.done.0.load(Ordering::Relaxed);
        loop {
            there.next.store(newest, Ordering::Relaxed);
            // SYNC(done): pairs with the Acquire swap in collect. Nobody takes single slots off, so none can come back
            // unseen.
            match self
                .done
                .0
                .compare_exchange_weak(newest, slot + 1, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => newest = now,
            }
        }
        // SYNC(drowsy), SYNC(heed): pairs with the exchange in heed and the fence in doze.
        fence(Ordering::SeqCst);
        if self.heed.load(Ordering::Relaxed) != 0 {
            self.nudge();
        } else if self.drowsy.load(Ordering::Relaxed) != 0 {
            self.ring(bell);
        }
    }
}
