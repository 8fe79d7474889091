//! Which process has how many items of a `JoinableQueue` in its hands: got, and not yet done.
//!
//! One word for each process: its number and its count. A get writes down, before its commit, at which head it takes one;
//! whoever finds it dead inside compares that with the head and knows whether the item was taken.

use crate::prim::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};
use crate::shm::tree;
use crate::wait::{self, How, Interrupt, Space, Stopped, Wakeup, hook};

const ROWS: usize = 128;

/// The table.
#[derive(Debug)]
#[repr(C)]
pub struct Hands {
    /// number << 32 | count.
    rows: [AtomicU64; ROWS],
    /// row << 32 | head count, of the get that is under way; all ones: none.
    intent: AtomicU64,
    /// `done` was said so often for items that are still queued.
    early: AtomicU64,
    sleepers: AtomicU32,
}

/// `done` was said more often than there were items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften;

const NONE: u64 = u64::MAX;

impl Hands {
    /// Under the get guard, before the commit that moves the head from `count`.
    pub(super) fn take(&self, count: u32) {
        let row = self.row(tree::number());
        // In this order: killed between the two, the dead has one too many, which `recover` can mend, not one too few.
        self.rows[row].fetch_add(1, Ordering::AcqRel);
        self.intent
            .store((row as u64) << 32 | u64::from(count), Ordering::Release);
    }

    /// With the guards locked, after somebody died inside: was the take committed?
    pub(super) fn settle(&self, count: u32) {
        let intent = self.intent.swap(NONE, Ordering::AcqRel);
        if intent != NONE && intent as u32 == count {
            let row = &self.rows[(intent >> 32) as usize % ROWS];
            if row.load(Ordering::Acquire) as u32 > 0 {
                row.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// The row of process `number`; the last one is shared by all who find no other.
    fn row(&self, number: u32) -> usize {
        let mine = |word: u64| (word >> 32) as u32 == number;
        if let Some(row) = self.rows.iter().position(|row| mine(row.load(Ordering::Acquire))) {
            return row;
        }
        for (at, row) in self.rows.iter().enumerate() {
            let word = row.load(Ordering::Acquire);
            let unused = word as u32 == 0 && (word == 0 || tree::is_known_dead((word >> 32) as u32));
            if unused
                && row
                    .compare_exchange(word, u64::from(number) << 32, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return at;
            }
        }
        ROWS - 1
    }

    /// How many items are queued or in hands. Exact: 0 means that there was a moment without any.
    pub(super) fn unfinished(&self, queued: impl Fn() -> u64) -> u64 {
        loop {
            let before = self.intent.load(Ordering::Acquire);
            let total = self.total();
            let queued = queued();
            // An item that went from the queue into hands meanwhile may have been seen in neither. If none did, the queue
            // has only grown and the hands have only let go.
            if self.intent.load(Ordering::Acquire) == before {
                return total.wrapping_add(queued);
            }
            spin_loop();
        }
    }

    /// How many items are in hands, less those that were done before they were got.
    fn total(&self) -> u64 {
        let held: u64 = self
            .rows
            .iter()
            .map(|row| row.load(Ordering::Acquire) & u64::from(u32::MAX))
            .sum();
        held.wrapping_sub(self.early.load(Ordering::Acquire))
    }

    /// The dead who had items in their hands, with how many.
    pub fn of_the_dead(&self) -> Vec<(u32, u32)> {
        let rows = self.rows.iter().map(|row| row.load(Ordering::Acquire));
        rows.filter(|&word| word as u32 != 0 && tree::is_dead((word >> 32) as u32))
            .map(|word| ((word >> 32) as u32, word as u32))
            .collect()
    }

    /// Counts what the dead had in their hands as done, and says how much that was.
    pub fn forget_the_dead(&self) -> u64 {
        let dead = self.of_the_dead();
        let mut forgotten = 0;
        for row in &self.rows {
            let word = row.load(Ordering::Acquire);
            if dead.iter().any(|&(number, _)| number == (word >> 32) as u32)
                && row
                    .compare_exchange(
                        word,
                        word & !u64::from(u32::MAX),
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                forgotten += word & u64::from(u32::MAX);
            }
        }
        forgotten
    }

    /// One item is done. `queued`: how many are still in the ring.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn done(&self, queued: impl Fn() -> u64) -> Result<(), TooOften> {
        let mine = tree::number();
        let own = self
            .rows
            .iter()
            .filter(|row| (row.load(Ordering::Relaxed) >> 32) as u32 == mine);
        // An item may be got by one process and done by another.
        let taken = own.chain(&self.rows).any(|row| {
            row.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                (word as u32 != 0).then(|| word - 1)
            })
            .is_ok()
        });
        if !taken {
            if queued() <= self.early.load(Ordering::Acquire) {
                return Err(TooOften);
            }
            self.early.fetch_add(1, Ordering::AcqRel);
        }
        if self.unfinished(queued) == 0 {
            self.wake();
        }
        Ok(())
    }

    /// Wakes everybody who waits for the last item to be done.
    pub fn wake(&self) {
        // SYNC(hands): pairs with the fence in join.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) != 0 {
            wait::Shared::unpark(wait::key_of(&self.sleepers), usize::MAX, 0, |_, _| {
                self.sleepers.store(0, Ordering::Relaxed);
            });
        }
    }

    /// Waits until everything is done. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`]; `Hopeless` if a process died with an item in its hands.
    pub fn join(&self, how: &How<'_>, queued: impl Fn() -> u64) -> Result<bool, Stopped> {
        let bereft = Bereft {
            inner: how.interrupt,
            hands: self,
        };
        let how = How {
            interrupt: &bereft,
            ..*how
        };
        loop {
            let undone = || self.unfinished(&queued) != 0;
            if !undone() {
                return Ok(true);
            }
            if self.has_known_dead() {
                return Err(Stopped::Hopeless);
            }
            let asleep = || {
                self.sleepers.store(1, Ordering::Relaxed);
                // SYNC(hands): pairs with the fence in wake. Either we see that all is done or its maker sees us.
                fence(Ordering::SeqCst);
                undone()
            };
            match wait::Shared::park(wait::key_of(&self.sleepers), &how, None, asleep) {
                Wakeup::Unparked(_) | Wakeup::Invalid => {}
                Wakeup::TimedOut => return Ok(!undone()),
                Wakeup::Stopped(stopped) => return Err(stopped),
            }
        }
    }

    fn has_known_dead(&self) -> bool {
        self.rows.iter().any(|row| {
            let word = row.load(Ordering::Acquire);
            word as u32 != 0 && tree::is_known_dead((word >> 32) as u32)
        })
    }
}

struct Bereft<'a> {
    inner: &'a dyn Interrupt,
    hands: &'a Hands,
}

impl Interrupt for Bereft<'_> {
    fn check(&self) -> bool {
        self.inner.check()
    }
    fn ticks(&self) -> bool {
        self.inner.ticks()
    }
    fn is_hopeless(&self) -> bool {
        self.hands.has_known_dead()
    }
    fn describe(&self, place: &mut [u8; 80], thread: &mut [u8; 32]) {
        self.inner.describe(place, thread);
    }
    fn report(&self, report: &hook::Report) {
        self.inner.report(report);
    }
}
