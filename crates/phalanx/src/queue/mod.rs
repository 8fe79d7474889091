//! Level 4. The queue behind `queue.Queue`, `LifoQueue` and `SimpleQueue`.
//!
//! | field | meaning |
//! | --- | --- |
//! | `items` | what was put and not yet got, oldest first |
//! | `unfinished` | what was put and not yet reported done |
//! | `closed` | `shutdown` was called: nothing can be put any more |
//! | `moved` | the items have gone elsewhere for good: every call says so |
//! | `getters`, `putters`, `joiners` | how many threads are in, or on their way into, the three wait queues |
//!
//! Why no wake-up is lost: a getter counts itself in `getters` before it looks, under the lock, whether the queue is
//! still empty; a putter puts under the same lock and reads `getters` after. If the getter looked first, the putter sees
//! the count and wakes it; if the putter was first, the getter sees the item. Putters and joiners alike.

use crate::prim::{AtomicUsize, Guarded, Ordering};
use crate::wait::{self, How, Stopped, Wakeup};
use std::collections::VecDeque;

/// Which end is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Fifo,
    /// The newest first.
    Lifo,
}

/// Why nothing was put.
#[derive(Debug, PartialEq, Eq)]
pub enum PutError<T> {
    /// No room; the item comes back.
    Full(T),
    /// Shut down; the item comes back.
    Closed(T),
    /// Moved out; the item comes back.
    Moved(T),
}

/// Why nothing was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetError {
    /// Nothing there.
    Empty,
    /// Shut down and nothing there.
    Closed,
    /// Moved out.
    Moved,
}

/// More items reported done than were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyDone;

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    unfinished: usize,
    closed: bool,
    moved: bool,
}

/// A queue for many producers and many consumers, FIFO for each producer, bounded or not.
#[derive(Debug)]
pub struct Queue<T> {
    order: Order,
    bound: AtomicUsize,
    state: Guarded<State<T>>,
    getters: AtomicUsize,
    putters: AtomicUsize,
    joiners: AtomicUsize,
}

impl<T> Queue<T> {
    /// An empty queue. `bound` 0: any number of items.
    pub fn new(order: Order, bound: usize) -> Self {
        Self {
            order,
            bound: AtomicUsize::new(bound),
            state: Guarded::new(State {
                items: VecDeque::new(),
                unfinished: 0,
                closed: false,
                moved: false,
            }),
            getters: AtomicUsize::new(0),
            putters: AtomicUsize::new(0),
            joiners: AtomicUsize::new(0),
        }
    }

    /// Puts `item` if there is room.
    ///
    /// # Errors
    /// [`PutError`], with the item.
    #[inline]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        wait::step(wait::key_of(self));
        let bound = self.bound.load(Ordering::Relaxed);
        self.state.with(|state| {
            if state.closed || state.moved {
                return Err(if state.moved {
                    PutError::Moved(item)
                } else {
                    PutError::Closed(item)
                });
            }
            if bound != 0 && state.items.len() >= bound {
                return Err(PutError::Full(item));
            }
            state.items.push_back(item);
            state.unfinished += 1;
            Ok(())
        })?;
        if self.getters.load(Ordering::SeqCst) != 0 {
            wait::unpark_one(wait::key_of(&self.getters), |_, _| {});
        }
        Ok(())
    }

    /// Gets an item if there is one.
    ///
    /// # Errors
    /// [`GetError`].
    #[inline]
    pub fn try_get(&self) -> Result<T, GetError> {
        wait::step(wait::key_of(self));
        let item = self.state.with(|state| {
            let item = match self.order {
                Order::Fifo => state.items.pop_front(),
                Order::Lifo => state.items.pop_back(),
            };
            item.ok_or(match state {
                State { moved: true, .. } => GetError::Moved,
                State { closed: true, .. } => GetError::Closed,
                _ => GetError::Empty,
            })
        })?;
        if self.putters.load(Ordering::SeqCst) != 0 {
            wait::unpark_one(wait::key_of(&self.putters), |_, _| {});
        }
        Ok(item)
    }

    /// Sleeps until [`Queue::try_get`] is worth another try. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended.
    pub fn wait_for_item(&self, how: &How<'_>) -> Result<bool, Stopped> {
        self.wait_until(&self.getters, how, |state| {
            !state.items.is_empty() || state.closed || state.moved
        })
    }

    /// Sleeps until [`Queue::try_put`] is worth another try. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended.
    pub fn wait_for_room(&self, how: &How<'_>) -> Result<bool, Stopped> {
        let room = |state: &mut State<T>| {
            // Read with the wait queue locked: a bound changed after this wakes the queue, one changed before is seen.
            let bound = self.bound.load(Ordering::Relaxed);
            bound == 0 || state.items.len() < bound || state.closed || state.moved
        };
        self.wait_until(&self.putters, how, room)
    }

    /// Sleeps until everything put has been reported done, or moved out. `Ok(false)`: the deadline passed.
    ///
    /// # Errors
    /// [`Stopped`] if the wait was interrupted or could never have ended.
    pub fn join(&self, how: &How<'_>) -> Result<bool, Stopped> {
        loop {
            if self.is_done() {
                return Ok(true);
            }
            if !self.wait_until(&self.joiners, how, |state| state.unfinished == 0 || state.moved)? {
                return Ok(self.is_done());
            }
        }
    }

    fn is_done(&self) -> bool {
        self.state.with(|state| state.unfinished == 0 || state.moved)
    }

    fn wait_until(
        &self,
        queue: &AtomicUsize,
        how: &How<'_>,
        ready: impl Fn(&mut State<T>) -> bool,
    ) -> Result<bool, Stopped> {
        queue.fetch_add(1, Ordering::SeqCst);
        let wakeup = wait::park(wait::key_of(queue), how, None, || !self.state.with(&ready));
        queue.fetch_sub(1, Ordering::SeqCst);
        match wakeup {
            Wakeup::Unparked(_) | Wakeup::Invalid => Ok(true),
            Wakeup::TimedOut => Ok(false),
            Wakeup::Stopped(stopped) => {
                if stopped.owes_a_wakeup() && self.state.with(&ready) {
                    wait::unpark_one(wait::key_of(queue), |_, _| {});
                }
                Err(stopped)
            }
        }
    }

    /// Puts `item`, waiting for room as `how` says.
    ///
    /// # Errors
    /// [`PutError::Full`] when the deadline passed; the outer error as in [`Queue::wait_for_room`].
    pub fn put(&self, item: T, how: &How<'_>) -> Result<Result<(), PutError<T>>, Stopped> {
        let mut item = item;
        loop {
            match self.try_put(item) {
                Err(PutError::Full(back)) => item = back,
                done => return Ok(done),
            }
            if !self.wait_for_room(how)? {
                return Ok(self.try_put(item));
            }
        }
    }

    /// Gets an item, waiting for one as `how` says.
    ///
    /// # Errors
    /// [`GetError::Empty`] when the deadline passed; the outer error as in [`Queue::wait_for_item`].
    pub fn get(&self, how: &How<'_>) -> Result<Result<T, GetError>, Stopped> {
        loop {
            match self.try_get() {
                Err(GetError::Empty) => {}
                done => return Ok(done),
            }
            if !self.wait_for_item(how)? {
                return Ok(self.try_get());
            }
        }
    }

    /// Reports one item done.
    ///
    /// # Errors
    /// [`TooManyDone`] if nothing was left to report.
    pub fn task_done(&self) -> Result<(), TooManyDone> {
        wait::step(wait::key_of(self));
        let left = self.state.with(|state| {
            state.unfinished = state.unfinished.checked_sub(1).ok_or(TooManyDone)?;
            Ok(state.unfinished)
        })?;
        if left == 0 && self.joiners.load(Ordering::SeqCst) != 0 {
            wait::unpark(wait::key_of(&self.joiners), usize::MAX, 0, |_, _| {});
        }
        Ok(())
    }

    /// How many items are there.
    #[inline]
    pub fn len(&self) -> usize {
        self.state.with(|state| state.items.len())
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most items it takes, 0 for any number.
    pub fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// Changes the most items it takes; putters look again.
    pub fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
        wait::unpark(wait::key_of(&self.putters), usize::MAX, 0, |_, _| {});
    }

    /// How many items were put and not yet reported done.
    pub fn unfinished(&self) -> usize {
        self.state.with(|state| state.unfinished)
    }

    /// Sets the count that [`Queue::join`] waits for.
    pub fn set_unfinished(&self, unfinished: usize) {
        self.state.with(|state| state.unfinished = unfinished);
        if unfinished == 0 {
            wait::unpark(wait::key_of(&self.joiners), usize::MAX, 0, |_, _| {});
        }
    }

    /// Was it shut down?
    pub fn is_closed(&self) -> bool {
        self.state.with(|state| state.closed)
    }

    /// Refuses every further put. `drain`: also gives out what is there and counts it as done.
    pub fn close(&self, drain: bool) -> VecDeque<T> {
        wait::step(wait::key_of(self));
        let items = self.state.with(|state| {
            state.closed = true;
            let items = if drain {
                std::mem::take(&mut state.items)
            } else {
                VecDeque::new()
            };
            state.unfinished = state.unfinished.saturating_sub(items.len());
            items
        });
        self.wake_everybody();
        items
    }

    /// Takes out one item, whatever the state, and leaves the counts alone: for the end of the queue.
    pub fn take_one(&self) -> Option<T> {
        self.state.with(|state| state.items.pop_front())
    }

    /// Puts an item back at the front, whatever the state, and leaves the counts alone.
    pub fn put_back(&self, item: T) {
        self.state.with(|state| state.items.push_front(item));
    }

    /// Takes out every item and leaves the counts alone.
    pub fn take_all(&self) -> VecDeque<T> {
        self.state.with(|state| std::mem::take(&mut state.items))
    }

    /// Gives out the items, the count of unfinished ones and whether it is shut down, for another kind of queue to go
    /// on with. From now on every call says [`GetError::Moved`]. `None`: it has been moved before.
    pub fn move_out(&self) -> Option<(VecDeque<T>, usize, bool)> {
        let moved = self.state.with(|state| {
            let first = !std::mem::replace(&mut state.moved, true);
            first.then(|| (std::mem::take(&mut state.items), state.unfinished, state.closed))
        });
        self.wake_everybody();
        moved
    }

    /// Was it moved out?
    #[inline]
    pub fn is_moved(&self) -> bool {
        self.state.with(|state| state.moved)
    }

    /// Makes the number of items `n` without counting them as put or got, for a holder that keeps the real ones.
    pub fn resize_with(&self, n: usize, filler: impl FnMut() -> T) {
        self.state.with(|state| state.items.resize_with(n, filler));
    }

    /// Everybody who waits looks again.
    pub fn wake_everybody(&self) {
        for key in [&self.getters, &self.putters, &self.joiners] {
            wait::unpark(wait::key_of(key), usize::MAX, 0, |_, _| {});
        }
    }

    /// Calls `f` on each item: for a garbage collector, which must see the same items in each of its passes. `f` runs with
    /// the state locked, so it must not come back to the queue.
    pub fn for_each(&self, f: impl FnMut(&T)) {
        self.state.with(|state| state.items.iter().for_each(f));
    }
}
