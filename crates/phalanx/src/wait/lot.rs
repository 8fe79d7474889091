//! The queues: a fixed number of buckets, each with the sleeping threads of the keys that fall into it, oldest first.

use super::roster::Roster;
use super::ticket::Node;
use crate::prim::{AtomicU32, Guarded};
use std::collections::VecDeque;

// One in a model: an address is another one in each execution, and a model must not depend on that.
const BUCKETS: usize = if cfg!(loom) { 1 } else { 256 };

/// The whole state behind the door.
pub(crate) struct Door {
    buckets: [Guarded<VecDeque<Queued>>; BUCKETS],
    pub(super) roster: Guarded<Roster>,
    pub(super) spare: Guarded<Vec<&'static Node>>,
    /// The thread that looks for deadlocks in its sleep, or 0.
    pub(super) sentinel: AtomicU32,
    /// How many threads spin at this moment.
    pub(super) spinners: AtomicU32,
    /// The last thread number given in the parent, 0 in a process that is no child of `fork`.
    pub(super) forked_at: AtomicU32,
}

#[derive(Clone, Copy)]
struct Queued {
    key: usize,
    node: &'static Node,
}

#[cfg(not(loom))]
static DOOR: Door = Door {
    buckets: [const { Guarded::new(VecDeque::new()) }; BUCKETS],
    roster: Guarded::new(Roster::new()),
    spare: Guarded::new(Vec::new()),
    sentinel: AtomicU32::new(0),
    spinners: AtomicU32::new(0),
    forked_at: AtomicU32::new(0),
};

#[cfg(loom)]
loom::lazy_static! {
    static ref DOOR: Door = Door {
        buckets: std::array::from_fn(|_| Guarded::new(VecDeque::new())),
        roster: Guarded::new(Roster::new()),
        spare: Guarded::new(Vec::new()),
        sentinel: AtomicU32::new(0),
        spinners: AtomicU32::new(0),
        forked_at: AtomicU32::new(0),
    };
}

#[inline]
pub(crate) fn door() -> &'static Door {
    #[cfg(loom)]
    return &*DOOR;
    #[cfg(not(loom))]
    &DOOR
}

fn bucket(key: usize) -> &'static Guarded<VecDeque<Queued>> {
    // Fibonacci hashing: the high bits of the product are well mixed.
    let mixed = (key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    &door().buckets[mixed as usize % BUCKETS]
}

/// Puts `node` at the end of the queue of `key` if `valid()` still holds there.
pub(super) fn push(key: usize, node: &'static Node, valid: impl FnOnce() -> bool) -> bool {
    bucket(key).with(|queue| {
        let valid = valid();
        if valid {
            queue.push_back(Queued { key, node });
        }
        valid
    })
}

/// Takes `node` out of the queue of `key`. `false` if it was out already.
pub(super) fn pull(key: usize, node: &'static Node) -> bool {
    bucket(key).with(|queue| {
        let at = queue.iter().position(|other| std::ptr::eq(other.node, node));
        at.and_then(|at| queue.remove(at)).is_some()
    })
}

/// How many threads are in the queue of `key`.
pub fn count(key: usize) -> usize {
    bucket(key).with(|queue| queue.iter().filter(|queued| queued.key == key).count())
}

/// Takes `node` out of the queue of `key` if it is there and `agreed()`, which is asked there.
#[cfg(not(loom))]
pub(super) fn pull_if(key: usize, node: &Node, agreed: impl FnOnce() -> bool) -> bool {
    bucket(key).with(|queue| {
        let at = queue.iter().position(|other| std::ptr::eq(other.node, node));
        at.filter(|_| agreed()).and_then(|at| queue.remove(at)).is_some()
    })
}

/// Runs `f` while `node` is sure to stay in the queue of `key`; `None` if it is not there.
pub(super) fn pinned<R>(key: usize, node: &Node, f: impl FnOnce() -> R) -> Option<R> {
    bucket(key).with(|queue| queue.iter().any(|other| std::ptr::eq(other.node, node)).then(f))
}

/// Threads taken out of a queue and not yet woken.
#[must_use = "these threads sleep until `wake`"]
#[derive(Default)]
pub struct Batch {
    first: Option<&'static Node>,
    rest: Vec<&'static Node>,
}

impl Batch {
    /// How many.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Wakes them, handing over `message` (below 2^31).
    pub fn wake(self, message: u32) {
        self.first
            .into_iter()
            .chain(self.rest)
            .for_each(|node| node.notify(message));
    }

    fn add(&mut self, node: &'static Node) {
        match self.first {
            None => self.first = Some(node),
            Some(_) => self.rest.push(node),
        }
    }
}

/// Takes up to `n` threads out of the queue of `key`, oldest first. `then(more)` runs before anybody else can
/// enter or leave that queue; `more`: others are left.
pub fn take(key: usize, n: usize, then: impl FnOnce(usize, bool)) -> Batch {
    bucket(key).with(|queue| {
        let mut batch = Batch::default();
        let mut more = false;
        let mut at = 0;
        while at < queue.len() {
            if queue[at].key != key {
                at += 1;
            } else if batch.len() < n {
                // A front element leaves in constant time, which is the usual case.
                if let Some(queued) = queue.remove(at) {
                    batch.add(queued.node);
                }
            } else {
                more = true;
                break;
            }
        }
        then(batch.len(), more);
        batch
    })
}

/// Wakes up to `n` threads of `key`, oldest first, handing over `message`. See [`take`] for `then`.
pub fn unpark(key: usize, n: usize, message: u32, then: impl FnOnce(usize, bool)) -> usize {
    let batch = take(key, n, then);
    let woken = batch.len();
    batch.wake(message);
    woken
}

/// Wakes the thread that has waited longest for `key`. See [`take`] for `then`.
pub fn unpark_one(key: usize, then: impl FnOnce(usize, bool)) -> bool {
    unpark(key, 1, 0, then) == 1
}

#[cfg(not(loom))]
impl Door {
    /// Locks everything, so that a child of `fork` finds whole data.
    pub(super) fn hold(&self) {
        self.roster.hold();
        self.spare.hold();
        self.buckets.iter().for_each(Guarded::hold);
    }

    pub(super) fn let_go(&self) {
        self.buckets.iter().for_each(Guarded::let_go);
        self.spare.let_go();
        self.roster.let_go();
    }

    /// In the child only the waits of the thread that forked are left.
    pub(super) fn keep_only(&self, thread: u32) {
        for bucket in &self.buckets {
            bucket.with(|queue| queue.retain(|queued| queued.node.thread() == thread));
        }
    }
}
