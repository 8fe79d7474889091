//! Which process has how many items of a `JoinableQueue` in its hands: got, and not yet done.
//!
//! One word for each process: its number and its count. A get writes down, before its commit, at which head it takes one;
//! whoever finds it dead inside compares that with the head and knows whether the item was taken.
//!
//! A row without items may become another process's. The last row is nobody's: there the items of those are counted who
//! find no row, because as many processes as there are other rows have items in their hands. Whoever dies of them leaves his
//! items in nobody's hands: `join` never ends by itself then, nor does `forget_the_dead` count them as done.

use crate::prim::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};
use crate::shm::tree;
use crate::wait::{self, How, Interrupt, Space, Stopped, Wakeup, hook};

const ROWS: usize = 128;
/// The row of all who find no other.
const NOBODYS: usize = ROWS - 1;

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

fn number_of(word: u64) -> u32 {
    (word >> 32) as u32
}

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

    /// Under the get guard: the row of process `number`, a new one if it has none.
    fn row(&self, number: u32) -> usize {
        let named = || self.rows[..NOBODYS].iter().enumerate();
        let find = |fits: &dyn Fn(u64) -> bool| {
            named().find_map(|(at, row)| {
                let word = row.load(Ordering::Acquire);
                fits(word).then_some((at, word))
            })
        };
        if let Some((at, _)) = find(&|word| number_of(word) == number) {
            return at;
        }
        // Not one that another living process had, if there is another one: it would only take it again.
        let unused = |word| word as u32 == 0 && (word == 0 || tree::is_known_dead(number_of(word)));
        match find(&unused).or_else(|| find(&|word| word as u32 == 0)) {
            Some((at, word)) => {
                // Without items it can only be changed by a take, and those have the guard.
                let mine = u64::from(number) << 32;
                let _ = self.rows[at].compare_exchange(word, mine, Ordering::AcqRel, Ordering::Relaxed);
                at
            }
            None => NOBODYS,
        }
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
        self.named()
            .filter(|&word| word as u32 != 0 && tree::is_dead(number_of(word)))
            .map(|word| (number_of(word), word as u32))
            .collect()
    }

    fn named(&self) -> impl Iterator<Item = u64> {
        self.rows[..NOBODYS].iter().map(|row| row.load(Ordering::Acquire))
    }

    /// Counts what the dead had in their hands as done, and says how much that was.
    pub fn forget_the_dead(&self) -> u64 {
        let dead = self.of_the_dead();
        let mut forgotten = 0;
        for row in &self.rows[..NOBODYS] {
            let word = row.load(Ordering::Acquire);
            if dead.iter().any(|&(number, _)| number == number_of(word))
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
        let strike = |row: &AtomicU64, fits: &dyn Fn(u64) -> bool| {
            row.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                (word as u32 != 0 && fits(word)).then(|| word - 1)
            })
            .is_ok()
        };
        let (nobodys, named) = self.rows.split_last().expect("there are rows");
        // An item may be got by one process and done by another.
        let taken = named
            .iter()
            .any(|row| strike(row, &|word| number_of(word) == mine))
            || strike(nobodys, &|_| true)
            || named.iter().any(|row| strike(row, &|_| true));
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
        self.named()
            .any(|word| word as u32 != 0 && tree::is_known_dead(number_of(word)))
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
