//! The queues in the arena: nodes, buckets, and what keeps them whole.

use super::take_at;
use crate::prim::{AtomicU32, AtomicU64, Guarded, Ordering};
use crate::shm::{self, Arena, Guard, LOT_BYTES, SEATS, tree};
use crate::sys;

pub(super) const WAITING: u32 = 0;
pub(super) const SLEEPING: u32 = 1;
pub(super) const DOOMED: u32 = 4;
/// The sleeper has died after somebody took it out of its queue: that one frees the node.
pub(super) const ABANDONED: u32 = 5;
pub(super) const NOTIFIED: u32 = 1 << 31;

pub(super) const BUCKETS: usize = 256;
pub(super) const NODES: usize = 4096;
/// So many a process keeps for its next waits. Few, or idle processes would have them all.
const KEPT: usize = 3;

pub(super) const TIMED: u32 = 1 << 8;
/// Of `flags`: the enders are one process, not the holders of an object.
pub(super) const PROCESS: u32 = 1 << 9;
pub(super) const ROLE: u32 = 0xFF;

/// One wait of one thread of some process.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Node {
    pub(super) token: AtomicU32,
    /// The process that uses it, 0: none.
    pub(super) claimed: AtomicU32,
    pub(super) thread: AtomicU32,
    /// The next node of the queue, by index + 1.
    next: AtomicU32,
    /// 0: in no queue; up to BUCKETS: in that bucket - 1; else the thread that has taken it out and will write the token.
    pub(super) queued: AtomicU32,
    pub(super) flags: AtomicU32,
    pub(super) key: AtomicU64,
    /// The order of arrival.
    pub(super) order: AtomicU64,
    pub(super) seq: AtomicU64,
    /// Where the word that names the owner lies, 0: nobody in particular.
    pub(super) owner: AtomicU64,
    /// Who can end the wait: an object whose holders can, or a process. 0: unknown.
    pub(super) enders: AtomicU64,
    /// The serial number of that object.
    pub(super) serial: AtomicU64,
    /// Where the place stands at which the lock was taken, 0: nowhere.
    pub(super) taken: AtomicU64,
    /// The word that is to be 1 if the sleeper dies in the queue, 0: none.
    pub(super) word: AtomicU64,
    pub(super) os_id: AtomicU32,
    pub(super) reason: [AtomicU64; 3],
    pub(super) place: [AtomicU64; 10],
    pub(super) name: [AtomicU64; 4],
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Bucket {
    guard: Guard,
    first: AtomicU32,
}

#[repr(C)]
pub(super) struct Lot {
    buckets: [Bucket; BUCKETS],
    pub(super) orders: AtomicU64,
    /// No node at or above this index was ever claimed.
    pub(super) high: AtomicU32,
    nodes: [Node; NODES],
}

const _: () = assert!(size_of::<Lot>() <= LOT_BYTES && size_of::<Node>() == 256 && KEPT * SEATS < NODES);

/// Nodes of this process that no thread uses now.
pub(super) static SPARE: Guarded<Spare> = Guarded::new(Spare {
    number: 0,
    nodes: Vec::new(),
});

pub(super) struct Spare {
    /// The process that they belong to: a child of `fork` begins anew.
    number: u32,
    pub(super) nodes: Vec<u32>,
}

pub(super) fn lot(arena: &'static Arena) -> &'static Lot {
    // SAFETY: the room is reserved for it, zero at first, aligned to a page, and all atomics.
    unsafe { &*arena.lot().cast::<Lot>() }
}

pub(super) fn here() -> (&'static Arena, &'static Lot) {
    let arena = shm::arena().expect("a shared thing lies in an arena");
    (arena, lot(arena))
}

pub(super) fn offset_of(arena: &Arena, address: usize) -> u64 {
    arena.offset_of(address).unwrap_or(0)
}

pub(super) fn bucket_of(key: u64) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % BUCKETS
}

pub(super) fn put_text<const N: usize>(to: &[AtomicU64; N], text: &[u8]) {
    for (at, word) in to.iter().enumerate() {
        let mut eight = [0; 8];
        let part = text.get(at * 8..).unwrap_or_default();
        let part = &part[..part.len().min(8)];
        eight[..part.len()].copy_from_slice(part);
        word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
    }
}

pub(super) fn get_text<const N: usize>(from: &[AtomicU64; N]) -> String {
    let bytes: Vec<u8> = from
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Lot {
    pub(super) fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize % NODES]
    }

    /// A node for a wait of this process. There may be none for a moment if thousands wait.
    pub(super) fn claim(&self) -> u32 {
        let number = tree::number();
        let spare = SPARE.with(|spare| {
            if spare.number != number {
                spare.number = number;
                spare.nodes.clear();
            }
            spare.nodes.pop()
        });
        if let Some(at) = spare {
            return at;
        }
        loop {
            let mut nodes = (0..).zip(&self.nodes);
            let free = nodes.find(|&(at, node)| {
                if node.claimed.load(Ordering::Relaxed) != 0 {
                    return false;
                }
                // First, lest it be claimed where no undertaker looks.
                self.high.fetch_max(at + 1, Ordering::AcqRel);
                node.claimed
                    .compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            });
            if let Some((at, _)) = free {
                return at;
            }
            std::thread::yield_now();
        }
    }

    pub(super) fn give_back(&self, at: u32) {
        let node = self.node(at);
        node.queued.store(0, Ordering::Relaxed);
        node.token.store(WAITING, Ordering::Release);
        let number = tree::number();
        let kept = SPARE.with(|spare| {
            let kept = spare.number == number && spare.nodes.len() < KEPT;
            if kept {
                spare.nodes.push(at);
            }
            kept
        });
        if !kept {
            node.claimed.store(0, Ordering::Release);
        }
    }

    /// Runs `f` with bucket `at` locked and whole.
    pub(super) fn with<R>(&self, at: usize, f: impl FnOnce(&Bucket) -> R) -> R {
        let bucket = &self.buckets[at];
        bucket.guard.with(|| self.rebuild(at), || f(bucket))
    }

    /// The last owner of the bucket died inside: `queued` of each node says what is true.
    fn rebuild(&self, at: usize) {
        let high = self.high.load(Ordering::Acquire).min(NODES as u32);
        let mut queued: Vec<u32> = (0..high)
            .filter(|&index| self.node(index).queued.load(Ordering::Acquire) == at as u32 + 1)
            .collect();
        queued.sort_by_key(|&index| self.node(index).order.load(Ordering::Relaxed));
        let mut next = 0;
        for &index in queued.iter().rev() {
            self.node(index).next.store(next, Ordering::Relaxed);
            next = index + 1;
        }
        self.buckets[at].first.store(next, Ordering::Release);
    }

    pub(super) fn push(&self, bucket: &Bucket, at: u32) {
        self.node(at).next.store(0, Ordering::Relaxed);
        let mut link = &bucket.first;
        while let Some(next) = link.load(Ordering::Relaxed).checked_sub(1) {
            link = &self.node(next).next;
        }
        link.store(at + 1, Ordering::Release);
    }

    pub(super) fn unlink(&self, bucket: &Bucket, at: u32) {
        let mut link = &bucket.first;
        while let Some(next) = link.load(Ordering::Relaxed).checked_sub(1) {
            if next == at {
                link.store(self.node(at).next.load(Ordering::Relaxed), Ordering::Release);
                return;
            }
            link = &self.node(next).next;
        }
    }

    /// The nodes of `key`, with its bucket locked, oldest first.
    pub(super) fn queue<'a>(&'a self, bucket: &'a Bucket, key: u64) -> impl Iterator<Item = u32> + 'a {
        let mut link = bucket.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let at = link.checked_sub(1)?;
            link = self.node(at).next.load(Ordering::Relaxed);
            Some(at)
        })
        .filter(move |&at| self.node(at).key.load(Ordering::Relaxed) == key)
    }

    pub(super) fn notify(&self, at: u32, message: u32) {
        let node = self.node(at);
        // SYNC(token): pairs with the Acquire load in `Ticket::sleep`.
        let told = node
            .token
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |token| {
                (token != ABANDONED).then_some(NOTIFIED | message)
            });
        match told {
            Ok(WAITING) => {}
            Ok(_) => sys::wake_shared(&node.token),
            Err(_) => self.inherit(at, message),
        }
    }

    /// A node was taken out of its queue for a sleeper who had died: what was for that one goes to the next.
    pub(super) fn inherit(&self, at: u32, message: u32) {
        let abandoned =
            self.node(at)
                .token
                .compare_exchange(ABANDONED, WAITING, Ordering::AcqRel, Ordering::Relaxed);
        if abandoned.is_ok() {
            self.pass_on(at, message);
        }
    }

    /// Frees a node, whose message nobody has read. 0 is meant for one sleeper, whichever; others are for all who wait.
    pub(super) fn pass_on(&self, at: u32, message: u32) {
        let node = self.node(at);
        if message == 0 {
            take_at(self, node.key.load(Ordering::Relaxed), 1, |_, _| {}).wake(0);
        }
        Self::free(node);
    }

    pub(super) fn free(node: &Node) {
        node.queued.store(0, Ordering::Relaxed);
        node.token.store(WAITING, Ordering::Relaxed);
        // The commit; before it, the next undertaker does all this again.
        node.claimed.store(0, Ordering::Release);
    }
}
