//! The door between processes: the same queues and tickets, with everything in the arena and nothing lost when a
//! process is killed. The protocol: `wait/README.md`, "Between processes".

mod files;
mod lot;
mod mourn;
mod sleepers;
mod ticket;

pub use files::watch_files;
pub use mourn::attend;
pub use sleepers::{Sleeper, set_reporter, sleepers};
pub(crate) use sleepers::{report, tell};
pub use ticket::{Ticket, enqueue, park};

use self::lot::{Lot, bucket_of, here, offset_of};
use crate::prim::Ordering;
use crate::shm::point::{Point, reach};
use crate::shm::tree;

/// Waits awake until `done` says so, for as long as that has paid off lately for the calling thread.
pub fn spin_until<R>(done: impl Fn() -> Option<R>) -> Option<R> {
    let me = super::roster::me();
    super::spin::spin_until(me, &me.shared_patience, super::spin::SHARED_PATIENCE, done)
}

/// Has waiting awake paid off for the calling thread the last time?
pub fn is_eager() -> bool {
    super::ticket::processors() > 1 && super::spin::is_patient(super::roster::me())
}

/// What a waiter is told when another one of its queue died, if that spoils the wait of all.
pub const PEER_DIED: u32 = 4;

/// Threads taken out of a queue and not yet woken.
#[must_use = "these threads sleep until `wake`"]
#[derive(Debug, Default)]
pub struct Batch {
    nodes: Vec<u32>,
}

impl Batch {
    /// How many.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Wakes them, handing over `message` (below 2^31).
    pub fn wake(self, message: u32) {
        if !self.nodes.is_empty() {
            let (_, lot) = here();
            reach(Point::Notify);
            self.nodes.iter().for_each(|&at| lot.notify(at, message));
        }
    }
}

/// As [`super::take`], for a key in the arena.
pub fn take(key: usize, n: usize, then: impl FnOnce(usize, bool)) -> Batch {
    attend();
    let (arena, lot) = here();
    let key = offset_of(arena, key);
    take_at(lot, key, n, then)
}

fn take_at(lot: &Lot, key: u64, n: usize, then: impl FnOnce(usize, bool)) -> Batch {
    lot.with(bucket_of(key), |bucket| {
        let mut nodes: Vec<u32> = lot.queue(bucket, key).take(n.saturating_add(1)).collect();
        let more = nodes.len() > n;
        nodes.truncate(n);
        for &at in &nodes {
            // From here on it is ours to wake; should we die before, the sleeper finds out by itself.
            lot.node(at).queued.store(tree::me(), Ordering::Release);
            reach(Point::Take);
            lot.unlink(bucket, at);
        }
        then(nodes.len(), more);
        Batch { nodes }
    })
}

/// As [`super::unpark`], for a key in the arena.
pub fn unpark(key: usize, n: usize, message: u32, then: impl FnOnce(usize, bool)) -> usize {
    let batch = take(key, n, then);
    let woken = batch.len();
    batch.wake(message);
    woken
}

/// How many threads are in the queue of `key`.
pub fn count(key: usize) -> usize {
    let (arena, lot) = here();
    let key = offset_of(arena, key);
    lot.with(bucket_of(key), |bucket| lot.queue(bucket, key).count())
}
