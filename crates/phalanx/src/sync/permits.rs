//! A semaphore between processes that knows who took its permits.
//!
//! One row a process: its number and how many permits it took and has not given back. A permit given back by a process that
//! has none makes the semaphore a *signal* for ever: then taking is consuming, and a dead consumer holds nothing.
//!
//! | a holder died | signal | effect |
//! | --- | --- | --- |
//! | with n permits | no | who waits learns it (`Stopped::OwnerDied`); `recover` gives the n permits back |
//! | with n permits | yes | nothing: somebody else will give |
//!
//! Until it is a signal, everything changes under `guard`, the row first and then `value`, so that
//! `value + rows + others = total` whenever the guard is free. Who steals the guard of a dead process makes `value` anew
//! from the rows. A signal has neither rows nor guard: one exchange of `value`.
//!
//! | killed | what it had done |
//! | --- | --- |
//! | taking, before the row | nothing |
//! | taking, after the row | it has taken the permit, and dies with it |
//! | giving, before the row | nothing: it dies with the permit |
//! | giving, after the row | it has given it back; nobody is woken, so whoever waits looks again at his next tick |
//! | giving what it never had, before `signal` is set | nothing |
//! | the same, after | it has given; as above |
//! | recovering | some rows are empty already: what they held is there; `recover` goes on with the others |
//!
//! A sleeper looks at the guard at each tick too: if its owner has died, nobody else may ever come by.
//!
//! A row is used again once it is empty. Beyond [`ROWS`] processes that hold permits at one time the others are counted
//! together: what they die with is not known, and not recovered.

use super::semaphore::Overflow;
use crate::prim::{AtomicU32, AtomicU64, Ordering, fence, fence_after_exchange};
use crate::shm::point::{Point, reach};
use crate::shm::{Guard, tree};
use crate::wait::{self, How, Interrupt, Shared, Space, Stopped, Wakeup, hook};

/// Processes that can hold permits at one time and be known by name.
pub const ROWS: usize = 60;
/// The most permits that one can hold.
const MOST: u64 = u64::MAX >> 2;

/// The semaphore and its rows.
#[derive(Debug)]
#[repr(C)]
pub struct Permits {
    /// How many permits there are to be had.
    value: AtomicU64,
    /// Threads may be asleep.
    waiters: AtomicU32,
    /// Not 0: a signal, for ever.
    signal: AtomicU32,
    guard: Guard,
    /// Permits of those who found no row.
    others: AtomicU32,
    /// How many permits there were at first. Never changed.
    total: u64,
    /// Never changed.
    bound: u64,
    /// number << 32 | permits.
    rows: [AtomicU64; ROWS],
}

fn number_of(row: u64) -> u32 {
    (row >> 32) as u32
}

/// Which row counts a permit, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row(Option<usize>);

impl Row {
    /// Its number, below [`ROWS`].
    #[inline]
    pub fn index(self) -> Option<usize> {
        self.0
    }
}

impl Permits {
    /// With `permits` permits, never more than `bound`.
    ///
    /// # Errors
    /// [`Overflow`] if that is too many.
    pub fn new(permits: u64, bound: u64) -> Result<Self, Overflow> {
        if permits > bound || bound > MOST {
            return Err(Overflow);
        }
        Ok(Self {
            value: AtomicU64::new(permits),
            waiters: AtomicU32::new(0),
            signal: AtomicU32::new(0),
            guard: Guard::default(),
            others: AtomicU32::new(0),
            total: permits,
            bound,
            rows: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    /// How many permits there are at this moment.
    pub fn value(&self) -> u64 {
        self.look();
        self.value.load(Ordering::Relaxed)
    }

    /// The most permits that it takes.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    #[inline]
    fn is_signal(&self) -> bool {
        // SYNC(signal): pairs with the Release store in give. Who sees a signal sees the value that it begins with.
        self.signal.load(Ordering::Acquire) != 0
    }

    /// Runs `f` with the guard locked and the value right; `None`: it is a signal.
    #[inline]
    fn guarded<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        if self.is_signal() {
            return None;
        }
        let locked = || (!self.is_signal()).then(f);
        self.guard.with(|| self.mend(), locked)
    }

    /// With the guard locked: somebody died inside, or rows have been emptied. What the rows say is true.
    #[cold]
    fn mend(&self) {
        if !self.is_signal() {
            let rows = self.rows.iter().map(|row| row.load(Ordering::Relaxed));
            let held: u64 = rows.map(|row| row & u64::from(u32::MAX)).sum();
            let others = u64::from(self.others.load(Ordering::Relaxed));
            self.value
                .store(self.total.saturating_sub(held + others), Ordering::Relaxed);
        }
    }

    /// If somebody has died with the guard, puts right what it left.
    fn look(&self) {
        if self.guard.is_abandoned() {
            self.guarded(|| ());
            self.offer(u64::MAX);
        }
    }

    /// The row of the calling process that counts a permit or, for one to be taken, any that is free.
    #[inline]
    fn row(&self, mine: u32, to_take: bool) -> Option<(usize, u64)> {
        let rows = || {
            self.rows
                .iter()
                .map(|row| row.load(Ordering::Relaxed))
                .enumerate()
        };
        let own = rows().find(|&(_, row)| number_of(row) == mine && (to_take || row as u32 != 0));
        own.or_else(|| if to_take { self.free_row(mine) } else { None })
    }

    /// Not one that another living process had, if there is another one: it would only take it again.
    #[cold]
    fn free_row(&self, mine: u32) -> Option<(usize, u64)> {
        let rows = || {
            self.rows
                .iter()
                .map(|row| row.load(Ordering::Relaxed))
                .enumerate()
        };
        let unused = |row: u64| row as u32 == 0 && (row == 0 || tree::is_known_dead(number_of(row)));
        let (at, _) = rows()
            .find(|&(_, row)| unused(row))
            .or_else(|| rows().find(|&(_, row)| row as u32 == 0))?;
        Some((at, u64::from(mine) << 32))
    }

    /// With the guard locked.
    #[inline]
    fn take(&self) -> Option<Row> {
        let value = self.value.load(Ordering::Relaxed);
        if value == 0 {
            return None;
        }
        let row = self.row(tree::number(), true);
        match row {
            Some((at, row)) => self.rows[at].store(row + 1, Ordering::Relaxed),
            None => self.count_other(1),
        }
        reach(Point::Acquire);
        self.value.store(value - 1, Ordering::Relaxed);
        reach(Point::Acquire);
        Some(Row(row.map(|(at, _)| at)))
    }

    #[cold]
    fn count_other(&self, more: u32) {
        let others = self.others.load(Ordering::Relaxed);
        self.others.store(others.wrapping_add(more), Ordering::Relaxed);
    }

    #[cold]
    fn take_signal(&self) -> Option<Row> {
        // SYNC(permits): pairs with the Release exchange in give_signal.
        self.value
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |value| value.checked_sub(1))
            .ok()?;
        reach(Point::Acquire);
        Some(Row(None))
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_acquire(&self) -> Option<Row> {
        wait::step(wait::key_of(self));
        self.guarded(|| self.take()).unwrap_or_else(|| self.take_signal())
    }

    /// Takes a permit, waiting as `how` says. `Ok(None)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`]; [`Stopped::OwnerDied`] if a process died that held permits.
    pub fn acquire(&self, how: &How<'_>) -> Result<Option<Row>, Stopped> {
        let died = Died {
            inner: how.interrupt,
            permits: self,
        };
        let how = How {
            interrupt: &died,
            ..*how
        };
        loop {
            if let Some(row) = self.try_acquire() {
                return Ok(Some(row));
            }
            if let Some(died) = self.known_death() {
                return Err(died);
            }
            let none = || {
                self.waiters.store(1, Ordering::Relaxed);
                // SYNC(waiters): pairs with the fence in offer. Either we see the permit or its giver sees us.
                fence(Ordering::SeqCst);
                self.value.load(Ordering::Relaxed) == 0
            };
            match Shared::park(wait::key_of(self), &how, None, none) {
                Wakeup::Unparked(_) | Wakeup::Invalid => {}
                Wakeup::TimedOut => return Ok(self.try_acquire()),
                Wakeup::Stopped(Stopped::Hopeless) => {
                    return Err(self.known_death().unwrap_or(Stopped::Hopeless));
                }
                Wakeup::Stopped(stopped) => {
                    if stopped.owes_a_wakeup() && self.value.load(Ordering::Relaxed) > 0 {
                        self.wake(1);
                    }
                    return Err(stopped);
                }
            }
        }
    }

    /// The dead who hold permits, by `is_dead`, with where they stand.
    fn dead(&self, is_dead: impl Fn(u32) -> bool) -> impl Iterator<Item = (usize, u32)> {
        let signal = self.is_signal();
        let rows = self.rows.iter().map(|row| row.load(Ordering::Acquire));
        rows.enumerate()
            .filter(move |&(_, row)| !signal && row as u32 != 0 && is_dead(number_of(row)))
            .map(|(at, row)| (at, number_of(row)))
    }

    fn known_death(&self) -> Option<Stopped> {
        let (_, number) = self.dead(tree::is_known_dead).next()?;
        Some(Stopped::OwnerDied(tree::thread_of(number)))
    }

    /// A dead process that holds permits, after asking the kernel.
    pub fn dead_holder(&self) -> Option<u32> {
        self.look();
        self.dead(tree::is_dead).next().map(|(_, number)| number)
    }

    /// The row in which the permits of process `number` are counted.
    pub fn row_of(&self, number: u32) -> Row {
        Row(self.dead(|other| other == number).next().map(|(at, _)| at))
    }

    /// Gives one permit back.
    ///
    /// # Errors
    /// [`Overflow`] if that were more than the bound.
    #[inline]
    pub fn release(&self) -> Result<(), Overflow> {
        wait::step(wait::key_of(self));
        self.guarded(|| self.give())
            .unwrap_or_else(|| self.give_signal())?;
        reach(Point::Offer);
        self.offer(1);
        Ok(())
    }

    /// With the guard locked.
    #[inline]
    fn give(&self) -> Result<(), Overflow> {
        let value = self.value.load(Ordering::Relaxed);
        if let Some((at, row)) = self.row(tree::number(), false) {
            self.rows[at].store(row - 1, Ordering::Relaxed);
            reach(Point::Release);
            self.value.store(value + 1, Ordering::Relaxed);
            reach(Point::Release);
            return Ok(());
        }
        self.give_more(value)
    }

    /// Gives a permit that is in no row of this process.
    #[cold]
    fn give_more(&self, value: u64) -> Result<(), Overflow> {
        if value >= self.bound {
            return Err(Overflow);
        }
        if self.others.load(Ordering::Relaxed) != 0 {
            self.count_other(u32::MAX);
            self.value.store(value + 1, Ordering::Relaxed);
            return Ok(());
        }
        self.value.store(value + 1, Ordering::Relaxed);
        reach(Point::Release);
        // SYNC(signal): pairs with the Acquire load in is_signal. The commit: killed before, the value is made anew.
        self.signal.store(1, Ordering::Release);
        reach(Point::Release);
        Ok(())
    }

    #[cold]
    fn give_signal(&self) -> Result<(), Overflow> {
        reach(Point::Release);
        // SYNC(permits): pairs with the Acquire exchange in take_signal.
        self.value
            .fetch_update(Ordering::Release, Ordering::Relaxed, |value| {
                (value < self.bound).then_some(value + 1)
            })
            .map(|_| ())
            .map_err(|_| Overflow)
    }

    /// Wakes up to `n` who wait. The caller has just unlocked the guard or exchanged the value.
    #[inline]
    fn offer(&self, n: u64) {
        // SYNC(waiters): pairs with the fence in acquire. Unlocking is an exchange.
        fence_after_exchange();
        if self.waiters.load(Ordering::Relaxed) != 0 {
            self.wake(n.min(self.value.load(Ordering::Relaxed)));
        }
    }

    #[cold]
    fn wake(&self, n: u64) {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        Shared::unpark(wait::key_of(self), n, 0, |_, more| {
            if !more {
                self.waiters.store(0, Ordering::Relaxed);
            }
        });
    }

    /// Gives back what the dead held, and says how much that was.
    pub fn recover(&self) -> u64 {
        // Asked without the guard: who finds somebody dead buries him.
        self.dead(tree::is_dead).for_each(drop);
        let recovered = self.guarded(|| {
            let mut recovered = 0;
            for (at, number) in self.dead(tree::is_known_dead) {
                let row = self.rows[at].load(Ordering::Relaxed);
                recovered += u64::from(row as u32);
                self.rows[at].store(u64::from(number) << 32, Ordering::Relaxed);
                reach(Point::Recover);
            }
            self.mend();
            recovered
        });
        self.offer(u64::MAX);
        recovered.unwrap_or(0)
    }
}

struct Died<'a> {
    inner: &'a dyn Interrupt,
    permits: &'a Permits,
}

impl Interrupt for Died<'_> {
    fn check(&self) -> bool {
        self.inner.check()
    }
    fn ticks(&self) -> bool {
        self.inner.ticks()
    }
    fn is_hopeless(&self) -> bool {
        self.permits.value() == 0 && self.permits.known_death().is_some()
    }
    fn describe(&self, place: &mut [u8; 80], thread: &mut [u8; 32]) {
        self.inner.describe(place, thread);
    }
    fn report(&self, report: &hook::Report) {
        self.inner.report(report);
    }
}
