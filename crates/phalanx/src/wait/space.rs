//! Where a primitive lies: in this process, or in the arena. One code for both.

use super::{How, OwnerWord, Wakeup, lot, roster, ticket};
use crate::prim::{AtomicU32, Guarded};

/// A door and the identities that belong to it.
pub trait Space: std::fmt::Debug + Default + Copy + Send + Sync + 'static {
    /// Can those who use it die one by one, and the others live?
    const MORTAL: bool;
    /// A place in a queue.
    type Ticket: std::fmt::Debug;
    /// Threads taken out of a queue.
    type Batch;
    /// Data behind a short lock.
    type Guarded<T: Send + std::fmt::Debug>: std::fmt::Debug + Send + Sync;

    /// The identity of the calling thread: 30 bits, never 0.
    fn current() -> u32;
    /// See [`super::enqueue`].
    fn enqueue(
        key: usize,
        how: &How<'_>,
        owner: Option<&OwnerWord>,
        valid: impl FnOnce() -> bool,
    ) -> Option<Self::Ticket>;
    /// See [`super::park`].
    fn park(key: usize, how: &How<'_>, owner: Option<&OwnerWord>, valid: impl Fn() -> bool) -> Wakeup;
    /// Sleeps until woken.
    fn sleep(ticket: Self::Ticket, how: &How<'_>) -> Wakeup;
    /// Leaves the queue without sleeping. `false`: a wake-up came first, and the caller has to pass it on.
    fn cancel(ticket: Self::Ticket) -> bool;
    /// Gives a ticket a number.
    fn mark(ticket: Self::Ticket, mark: u64) -> Self::Ticket;
    /// The number given by [`Space::mark`].
    fn mark_of(ticket: &Self::Ticket) -> u64;
    /// Should the holder of this ticket die in the queue, `word` will be 1. It lies where the key of the ticket lies.
    fn leave_word(ticket: &Self::Ticket, word: &AtomicU32) {
        let _ = (ticket, word);
    }
    /// See [`super::take`].
    fn take(key: usize, n: usize, then: impl FnOnce(usize, bool)) -> Self::Batch;
    /// Wakes a batch, handing over `message`.
    fn wake(batch: Self::Batch, message: u32);
    /// See [`super::unpark`].
    fn unpark(key: usize, n: usize, message: u32, then: impl FnOnce(usize, bool)) -> usize;
    /// See [`super::count`].
    fn count(key: usize) -> usize;
    /// Has the process of `thread` died, as far as is known without asking the kernel?
    fn is_known_dead(thread: u32) -> bool;
    /// Puts `value` behind a short lock.
    fn guarded<T: Send + std::fmt::Debug>(value: T) -> Self::Guarded<T>;
    /// Locks, runs `f(data, whole)`, unlocks. Not `whole`: whoever was inside last has died there.
    fn with<T: Send + std::fmt::Debug, R>(guarded: &Self::Guarded<T>, f: impl FnOnce(&mut T, bool) -> R)
    -> R;
    /// Has whoever is inside died there? Asks the kernel if somebody is.
    fn is_abandoned<T: Send + std::fmt::Debug>(guarded: &Self::Guarded<T>) -> bool {
        let _ = guarded;
        false
    }
    /// A moment between two steps of a protocol, for tests that kill.
    fn point(name: &'static str) {
        let _ = name;
    }
}

/// In this process: for its threads.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Local;

impl Space for Local {
    const MORTAL: bool = false;
    type Ticket = ticket::Ticket;
    type Batch = lot::Batch;
    type Guarded<T: Send + std::fmt::Debug> = Guarded<T>;

    #[inline]
    fn current() -> u32 {
        roster::current()
    }
    fn enqueue(
        key: usize,
        how: &How<'_>,
        owner: Option<&OwnerWord>,
        valid: impl FnOnce() -> bool,
    ) -> Option<Self::Ticket> {
        ticket::enqueue(key, how, owner, valid)
    }
    fn park(key: usize, how: &How<'_>, owner: Option<&OwnerWord>, valid: impl Fn() -> bool) -> Wakeup {
        ticket::park(key, how, owner, valid)
    }
    fn sleep(ticket: Self::Ticket, how: &How<'_>) -> Wakeup {
        ticket.sleep(how)
    }
    fn cancel(ticket: Self::Ticket) -> bool {
        ticket.cancel()
    }
    fn mark(ticket: Self::Ticket, mark: u64) -> Self::Ticket {
        ticket.marked(mark)
    }
    fn mark_of(ticket: &Self::Ticket) -> u64 {
        ticket.mark()
    }
    fn take(key: usize, n: usize, then: impl FnOnce(usize, bool)) -> Self::Batch {
        lot::take(key, n, then)
    }
    fn wake(batch: Self::Batch, message: u32) {
        batch.wake(message);
    }
    fn unpark(key: usize, n: usize, message: u32, then: impl FnOnce(usize, bool)) -> usize {
        lot::unpark(key, n, message, then)
    }
    fn count(key: usize) -> usize {
        lot::count(key)
    }
    #[inline]
    fn is_known_dead(_thread: u32) -> bool {
        false
    }
    fn guarded<T: Send + std::fmt::Debug>(value: T) -> Self::Guarded<T> {
        Guarded::new(value)
    }
    fn with<T: Send + std::fmt::Debug, R>(
        guarded: &Self::Guarded<T>,
        f: impl FnOnce(&mut T, bool) -> R,
    ) -> R {
        guarded.with(|data| f(data, true))
    }
}

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
pub use in_arena::Shared;

#[cfg(all(not(loom), target_os = "linux", not(phalanx_sys = "portable")))]
mod in_arena {
    use super::super::{How, OwnerWord, Wakeup, shared};
    use super::Space;
    use crate::prim::AtomicU32;
    use crate::shm::{Guard, Taken, tree};
    use std::cell::UnsafeCell;

    /// In the arena: for the threads of all processes of the tree.
    #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
    pub struct Shared;

    /// Data behind a short lock that survives its owner.
    #[derive(Debug)]
    #[repr(C)]
    pub struct Robust<T> {
        guard: Guard,
        data: UnsafeCell<T>,
    }

    // SAFETY: `data` is reached only with the guard locked.
    unsafe impl<T: Send> Sync for Robust<T> {}

    impl Space for Shared {
        const MORTAL: bool = true;
        type Ticket = shared::Ticket;
        type Batch = shared::Batch;
        type Guarded<T: Send + std::fmt::Debug> = Robust<T>;

        #[inline]
        fn current() -> u32 {
            tree::me()
        }
        fn enqueue(
            key: usize,
            how: &How<'_>,
            owner: Option<&OwnerWord>,
            valid: impl FnOnce() -> bool,
        ) -> Option<Self::Ticket> {
            shared::enqueue(key, how, owner, valid)
        }
        fn park(key: usize, how: &How<'_>, owner: Option<&OwnerWord>, valid: impl Fn() -> bool) -> Wakeup {
            shared::park(key, how, owner, valid)
        }
        fn sleep(ticket: Self::Ticket, how: &How<'_>) -> Wakeup {
            ticket.sleep(how)
        }
        fn cancel(ticket: Self::Ticket) -> bool {
            ticket.cancel()
        }
        fn mark(ticket: Self::Ticket, mark: u64) -> Self::Ticket {
            ticket.marked(mark)
        }
        fn mark_of(ticket: &Self::Ticket) -> u64 {
            ticket.mark()
        }
        fn leave_word(ticket: &Self::Ticket, word: &AtomicU32) {
            ticket.leave_word(word);
        }
        fn take(key: usize, n: usize, then: impl FnOnce(usize, bool)) -> Self::Batch {
            shared::take(key, n, then)
        }
        fn wake(batch: Self::Batch, message: u32) {
            batch.wake(message);
        }
        fn unpark(key: usize, n: usize, message: u32, then: impl FnOnce(usize, bool)) -> usize {
            shared::unpark(key, n, message, then)
        }
        fn count(key: usize) -> usize {
            shared::count(key)
        }
        #[inline]
        fn is_known_dead(thread: u32) -> bool {
            tree::is_known_dead(tree::number_of(thread))
        }
        fn guarded<T: Send + std::fmt::Debug>(value: T) -> Self::Guarded<T> {
            Robust {
                guard: Guard::default(),
                data: UnsafeCell::new(value),
            }
        }
        fn with<T: Send + std::fmt::Debug, R>(
            guarded: &Self::Guarded<T>,
            f: impl FnOnce(&mut T, bool) -> R,
        ) -> R {
            let taken = guarded.guard.lock(tree::me());
            // SAFETY: the guard is locked.
            let result = f(unsafe { &mut *guarded.data.get() }, taken == Taken::Free);
            guarded.guard.unlock();
            result
        }
        fn is_abandoned<T: Send + std::fmt::Debug>(guarded: &Self::Guarded<T>) -> bool {
            guarded.guard.is_abandoned()
        }
        fn point(name: &'static str) {
            crate::shm::point::reach_named(name);
        }
    }
}
