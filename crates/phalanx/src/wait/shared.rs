//! The door between processes: the same queues and tickets, with everything in the arena and nothing lost when a
//! process is killed. The protocol: `wait/README.md`, "Between processes".

use super::hook::{self, Mode, Report};
use super::{Deadline, Enders, How, OWNER, OwnerWord, Role, Stopped, Wakeup, roster};
use crate::prim::{AtomicU32, AtomicU64, Guarded, Ordering, fence};
use crate::shm::point::{Point, reach};
use crate::shm::{self, Arena, Guard, LOT_BYTES, tree};
use crate::sys::{self, Slept};

pub(super) const WAITING: u32 = 0;
pub(super) const SLEEPING: u32 = 1;
const DOOMED: u32 = 4;
/// The sleeper has died after somebody took it out of its queue: that one frees the node.
const ABANDONED: u32 = 5;
pub(super) const NOTIFIED: u32 = 1 << 31;

/// Waits awake until `done` says so, for as long as that has paid off lately for the calling thread.
pub fn spin_until<R>(done: impl Fn() -> Option<R>) -> Option<R> {
    let me = roster::me();
    super::spin::spin_until(me, &me.shared_patience, super::spin::SHARED_PATIENCE, done)
}

/// Has waiting awake paid off for the calling thread the last time?
pub fn is_eager() -> bool {
    super::ticket::processors() > 1 && super::spin::is_patient(roster::me())
}

/// What a waiter is told when another one of its queue died, if that spoils the wait of all.
pub const PEER_DIED: u32 = 4;

const BUCKETS: usize = 256;
const NODES: usize = 4096;
/// So many a process keeps for its next waits. Few, or idle processes would have them all.
const KEPT: usize = 8;
const TICK: u64 = 100_000_000;

const TIMED: u32 = 1 << 8;
/// Of `flags`: the enders are one process, not the holders of an object.
const PROCESS: u32 = 1 << 9;
const ROLE: u32 = 0xFF;

/// One wait of one thread of some process.
#[derive(Debug)]
#[repr(C, align(64))]
struct Node {
    token: AtomicU32,
    /// The process that uses it, 0: none.
    claimed: AtomicU32,
    thread: AtomicU32,
    /// The next node of the queue, by index + 1.
    next: AtomicU32,
    /// 0: in no queue; up to BUCKETS: in that bucket - 1; else the thread that has taken it out and will write the token.
    queued: AtomicU32,
    flags: AtomicU32,
    key: AtomicU64,
    /// The order of arrival.
    order: AtomicU64,
    seq: AtomicU64,
    /// Where the word that names the owner lies, 0: nobody in particular.
    owner: AtomicU64,
    /// Who can end the wait: an object whose holders can, or a process. 0: unknown.
    enders: AtomicU64,
    /// The serial number of that object.
    serial: AtomicU64,
    /// Where the place stands at which the lock was taken, 0: nowhere.
    taken: AtomicU64,
    /// The word that is to be 1 if the sleeper dies in the queue, 0: none.
    word: AtomicU64,
    os_id: AtomicU32,
    reason: [AtomicU64; 3],
    place: [AtomicU64; 10],
    name: [AtomicU64; 4],
}

#[derive(Debug)]
#[repr(C)]
struct Bucket {
    guard: Guard,
    first: AtomicU32,
}

#[repr(C)]
struct Lot {
    buckets: [Bucket; BUCKETS],
    orders: AtomicU64,
    /// No node at or above this index was ever claimed.
    high: AtomicU32,
    nodes: [Node; NODES],
}

const _: () = assert!(size_of::<Lot>() <= LOT_BYTES && size_of::<Node>() == 256);

/// Nodes of this process that no thread uses now.
static SPARE: Guarded<Spare> = Guarded::new(Spare {
    number: 0,
    nodes: Vec::new(),
});

struct Spare {
    /// The process that they belong to: a child of `fork` begins anew.
    number: u32,
    nodes: Vec<u32>,
}

fn lot(arena: &'static Arena) -> &'static Lot {
    // SAFETY: the room is reserved for it, zero at first, aligned to a page, and all atomics.
    unsafe { &*arena.lot().cast::<Lot>() }
}

fn here() -> (&'static Arena, &'static Lot) {
    let arena = shm::arena().expect("a shared thing lies in an arena");
    (arena, lot(arena))
}

fn offset_of(arena: &Arena, address: usize) -> u64 {
    arena.offset_of(address).unwrap_or(0)
}

fn bucket_of(key: u64) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % BUCKETS
}

fn put_text<const N: usize>(to: &[AtomicU64; N], text: &[u8]) {
    for (at, word) in to.iter().enumerate() {
        let mut eight = [0; 8];
        let part = text.get(at * 8..).unwrap_or_default();
        let part = &part[..part.len().min(8)];
        eight[..part.len()].copy_from_slice(part);
        word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
    }
}

fn get_text<const N: usize>(from: &[AtomicU64; N]) -> String {
    let bytes: Vec<u8> = from
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Lot {
    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize % NODES]
    }

    /// A node for a wait of this process. There may be none for a moment if thousands wait.
    fn claim(&self) -> u32 {
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

    fn give_back(&self, at: u32) {
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
    fn with<R>(&self, at: usize, f: impl FnOnce(&Bucket) -> R) -> R {
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

    fn push(&self, bucket: &Bucket, at: u32) {
        self.node(at).next.store(0, Ordering::Relaxed);
        let mut link = &bucket.first;
        while let Some(next) = link.load(Ordering::Relaxed).checked_sub(1) {
            link = &self.node(next).next;
        }
        link.store(at + 1, Ordering::Release);
    }

    fn unlink(&self, bucket: &Bucket, at: u32) {
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
    fn queue<'a>(&'a self, bucket: &'a Bucket, key: u64) -> impl Iterator<Item = u32> + 'a {
        let mut link = bucket.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let at = link.checked_sub(1)?;
            link = self.node(at).next.load(Ordering::Relaxed);
            Some(at)
        })
        .filter(move |&at| self.node(at).key.load(Ordering::Relaxed) == key)
    }

    fn notify(&self, at: u32, message: u32) {
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
    fn inherit(&self, at: u32, message: u32) {
        let abandoned =
            self.node(at)
                .token
                .compare_exchange(ABANDONED, WAITING, Ordering::AcqRel, Ordering::Relaxed);
        if abandoned.is_ok() {
            self.pass_on(at, message);
        }
    }

    /// Frees a node, whose message nobody has read. 0 is meant for one sleeper, whichever; others are for all who wait.
    fn pass_on(&self, at: u32, message: u32) {
        let node = self.node(at);
        if message == 0 {
            take_at(self, node.key.load(Ordering::Relaxed), 1, |_, _| {}).wake(0);
        }
        Self::free(node);
    }

    fn free(node: &Node) {
        node.queued.store(0, Ordering::Relaxed);
        node.token.store(WAITING, Ordering::Relaxed);
        // The commit; before it, the next undertaker does all this again.
        node.claimed.store(0, Ordering::Release);
    }
}

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

/// A place in a queue, held by the thread that will sleep on it.
#[derive(Debug)]
pub struct Ticket {
    at: u32,
    key: u64,
    over: bool,
    mark: u64,
}

/// As [`super::enqueue`], for a key in the arena.
pub fn enqueue(
    key: usize,
    how: &How<'_>,
    owner: Option<&OwnerWord>,
    valid: impl FnOnce() -> bool,
) -> Option<Ticket> {
    enqueue_at(Some(key), how, owner, valid)
}

/// Without a key the node itself is it: nobody but the detector can wake such a sleeper.
fn enqueue_at(
    key: Option<usize>,
    how: &How<'_>,
    owner: Option<&OwnerWord>,
    valid: impl FnOnce() -> bool,
) -> Option<Ticket> {
    attend();
    let (arena, lot) = here();
    let at = lot.claim();
    let node = lot.node(at);
    let key = offset_of(arena, key.unwrap_or_else(|| super::key_of(node)));
    node.token.store(WAITING, Ordering::Relaxed);
    node.thread.store(tree::me(), Ordering::Relaxed);
    node.key.store(key, Ordering::Relaxed);
    let (enders, serial, kind) = match how.enders {
        Enders::Unknown => (0, 0, 0),
        Enders::Holders(object, serial) => (object, serial, 0),
        Enders::Process(number) => (u64::from(number), 0, PROCESS),
    };
    let timed = if how.deadline.is_never() { 0 } else { TIMED };
    node.flags
        .store(how.reason.role as u32 | timed | kind, Ordering::Relaxed);
    node.enders.store(enders, Ordering::Relaxed);
    node.serial.store(serial, Ordering::Relaxed);
    let taken = if how.taken == 0 {
        0
    } else {
        offset_of(arena, how.taken)
    };
    node.taken.store(taken, Ordering::Relaxed);
    node.word.store(0, Ordering::Relaxed);
    let os_id = roster::me().os_id.load(Ordering::Relaxed);
    node.os_id.store(os_id, Ordering::Relaxed);
    let word = owner.map_or(0, |word| offset_of(arena, super::key_of(word)));
    node.owner.store(word, Ordering::Relaxed);
    let queued = lot.with(bucket_of(key), |bucket| {
        let valid = valid();
        if valid {
            node.order
                .store(lot.orders.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            node.queued.store(bucket_of(key) as u32 + 1, Ordering::Release);
            lot.push(bucket, at);
        }
        valid
    });
    if !queued {
        lot.give_back(at);
        return None;
    }
    reach(Point::Queued);
    Some(Ticket {
        at,
        key,
        over: false,
        mark: 0,
    })
}

/// As [`super::park`], for a key in the arena. `valid` is asked again now and then: a wake-up may have died with its
/// sender or its receiver.
pub fn park(key: usize, how: &How<'_>, owner: Option<&OwnerWord>, valid: impl Fn() -> bool) -> Wakeup {
    match enqueue(key, how, owner, &valid) {
        Some(ticket) => ticket.sleep_while(how, owner, &valid),
        None => Wakeup::Invalid,
    }
}

impl Ticket {
    /// Sleeps until woken.
    pub fn sleep(self, how: &How<'_>) -> Wakeup {
        self.sleep_while(how, None, &|| true)
    }

    fn sleep_while(mut self, how: &How<'_>, owner: Option<&OwnerWord>, valid: &dyn Fn() -> bool) -> Wakeup {
        if how.deadline.has_passed() {
            return self.leave(Wakeup::TimedOut);
        }
        let (_, lot) = here();
        let node = lot.node(self.at);
        let told = spin_until(|| {
            // SYNC(token): pairs with the swap in `notify`.
            let token = node.token.load(Ordering::Acquire);
            (token & NOTIFIED != 0).then_some(token & !NOTIFIED)
        });
        if let Some(message) = told {
            self.over = true;
            return Wakeup::Unparked(message);
        }
        self.describe(node, how);
        let awake = Asleep::begin();
        let mut next = sys::now() + TICK;
        let ending = loop {
            // SYNC(token): pairs with the swap in `notify`.
            match node.token.load(Ordering::Acquire) {
                SLEEPING => {}
                WAITING => {
                    let _ =
                        node.token
                            .compare_exchange(WAITING, SLEEPING, Ordering::AcqRel, Ordering::Relaxed);
                    continue;
                }
                DOOMED => break None,
                token => break Some(Wakeup::Unparked(token & !NOTIFIED)),
            }
            let until = how.deadline.at().map_or(next, |end| end.min(next));
            match sys::sleep_on_shared(&node.token, SLEEPING, Some(until)) {
                Slept::Woken => {}
                Slept::Signal => {
                    if let Some(stopped) = self.check(node, how) {
                        return self.leave(Wakeup::Stopped(stopped));
                    }
                }
                Slept::TimedOut => {
                    if how.deadline.has_passed() {
                        return self.leave(Wakeup::TimedOut);
                    }
                    if sys::now() < next {
                        continue;
                    }
                    next = sys::now() + TICK;
                    if let Some(ending) = self.tick(node, how, owner, valid) {
                        return self.leave(ending);
                    }
                }
            }
        };
        drop(awake);
        match ending {
            Some(wakeup) => {
                self.over = true;
                lot.give_back(self.at);
                std::mem::forget(self);
                wakeup
            }
            None => self.doomed(how, owner),
        }
    }

    /// What a sleeper does ten times a second: see to the dead, to itself, and to deadlocks.
    fn tick(
        &self,
        node: &Node,
        how: &How<'_>,
        owner: Option<&OwnerWord>,
        valid: &dyn Fn() -> bool,
    ) -> Option<Wakeup> {
        tree::patrol();
        if how.interrupt.ticks()
            && let Some(stopped) = self.check(node, how)
        {
            return Some(Wakeup::Stopped(stopped));
        }
        if let Some(stopped) = despair(how, owner) {
            return Some(Wakeup::Stopped(stopped));
        }
        let taker = node.queued.load(Ordering::Acquire);
        if taker as usize > BUCKETS && tree::is_dead(tree::number_of(taker)) {
            // Whoever took us out of the queue died before it told us.
            let _ = node
                .token
                .compare_exchange(SLEEPING, NOTIFIED, Ordering::AcqRel, Ordering::Relaxed);
            return None;
        }
        if !valid() {
            return Some(Wakeup::Invalid);
        }
        if how.deadline.is_never() && hook::mode() != Mode::Off {
            hook::look_around();
        }
        None
    }

    /// Runs what must run in this thread; it is awake meanwhile.
    fn check(&self, node: &Node, how: &How<'_>) -> Option<Stopped> {
        let _ = node
            .token
            .compare_exchange(SLEEPING, WAITING, Ordering::AcqRel, Ordering::Relaxed);
        tree::stir();
        node.seq.fetch_add(1, Ordering::AcqRel);
        let stop = how.interrupt.check();
        tree::stir();
        // Asleep again, for whoever looks now; a waker or the detector may have been faster.
        let _ = node
            .token
            .compare_exchange(WAITING, SLEEPING, Ordering::AcqRel, Ordering::Relaxed);
        stop.then_some(Stopped::Interrupted { notified: false })
    }

    /// Writes down what this wait is, once it is certain to last.
    fn describe(&self, node: &Node, how: &How<'_>) {
        put_text(&node.reason, how.reason.name.as_bytes());
        let mut place = [0; 80];
        let mut name = [0; 32];
        how.interrupt.describe(&mut place, &mut name);
        put_text(&node.place, &place);
        put_text(&node.name, &name);
        node.seq.fetch_add(1, Ordering::AcqRel);
    }

    fn doomed(mut self, how: &How<'_>, owner: Option<&OwnerWord>) -> Wakeup {
        self.over = true;
        let report = verdict_on(self.at);
        drop(self);
        Wakeup::Stopped(match report {
            // A death among those concerned is the better explanation, if it came between the verdict and now.
            Some(report) => despair(how, owner).unwrap_or(Stopped::Deadlock(report)),
            None => Stopped::Interrupted { notified: false },
        })
    }

    /// Leaves the queue without sleeping. `false`: a wake-up came first, and the caller has to pass it on.
    pub fn cancel(mut self) -> bool {
        let out = self.pull().is_none();
        self.over = true;
        out
    }

    /// With a number for its holder.
    pub fn marked(mut self, mark: u64) -> Self {
        self.mark = mark;
        self
    }

    /// The number given by [`Ticket::marked`], 0 otherwise.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Should the sleeper die in the queue, `word` will be 1; it lies in the object that the key lies in.
    pub fn leave_word(&self, word: &AtomicU32) {
        let (arena, lot) = here();
        let offset = offset_of(arena, super::key_of(word));
        lot.node(self.at).word.store(offset, Ordering::Relaxed);
    }

    /// Leaves the queue with `ending`, or with the wake-up that came first.
    fn leave(mut self, ending: Wakeup) -> Wakeup {
        let Some(token) = self.pull() else {
            self.over = true;
            return ending;
        };
        self.over = true;
        if token == DOOMED {
            // What ends the wait by itself comes first.
            verdict_on(self.at);
            return ending;
        }
        match ending {
            Wakeup::Stopped(Stopped::Interrupted { .. }) => {
                Wakeup::Stopped(Stopped::Interrupted { notified: true })
            }
            Wakeup::Stopped(stopped) => Wakeup::Stopped(stopped),
            _ => Wakeup::Unparked(token & !NOTIFIED),
        }
    }

    /// Takes the own node out. `Some`: somebody has done so before, and left this token.
    fn pull(&self) -> Option<u32> {
        let (_, lot) = here();
        let node = lot.node(self.at);
        let at = bucket_of(self.key);
        let mine = lot.with(at, |bucket| {
            let mine = node.queued.load(Ordering::Acquire) == at as u32 + 1;
            if mine {
                node.queued.store(0, Ordering::Release);
                lot.unlink(bucket, self.at);
            }
            mine
        });
        if mine {
            return None;
        }
        // The token is on its way, unless whoever sends it has died.
        let mut tries = 0u32;
        loop {
            let token = node.token.load(Ordering::Acquire);
            if token & NOTIFIED != 0 || token == DOOMED {
                return Some(token);
            }
            tries += 1;
            std::thread::yield_now();
            if tries.is_multiple_of(1024) {
                let taker = node.queued.load(Ordering::Acquire);
                if taker as usize <= BUCKETS || tree::is_dead(tree::number_of(taker)) {
                    return Some(NOTIFIED);
                }
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.over {
            self.pull();
        }
        here().1.give_back(self.at);
    }
}

/// Why this wait will not be ended any more by whoever was to end it, if that is so.
fn despair(how: &How<'_>, owner: Option<&OwnerWord>) -> Option<Stopped> {
    let owner = owner.map_or(0, |word| word.load(Ordering::Relaxed) & OWNER);
    if owner != 0 && tree::is_dead(tree::number_of(owner)) {
        return Some(Stopped::OwnerDied(owner));
    }
    how.interrupt.is_hopeless().then_some(Stopped::Hopeless)
}

/// While it lives this thread sleeps, as far as other processes can see.
struct Asleep;

impl Asleep {
    fn begin() -> Self {
        tree::stir();
        Self
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        tree::stir();
    }
}

/// Reports for sleepers of this process that are about to be told.
static VERDICTS: Guarded<Vec<(u32, Box<Report>)>> = Guarded::new(Vec::new());

/// Takes out the report for the sleeper on node `at`.
fn verdict_on(at: u32) -> Option<Box<Report>> {
    VERDICTS.with(|verdicts| {
        let found = verdicts.iter().position(|(other, _)| *other == at);
        found.map(|found| verdicts.swap_remove(found).1)
    })
}

/// From now on this process buries others: whoever enters the tree says so once.
pub fn attend() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn before() {
        SPARE.hold();
        VERDICTS.hold();
    }
    extern "C" fn parent() {
        VERDICTS.let_go();
        SPARE.let_go();
    }
    extern "C" fn child() {
        parent();
        SPARE.with(|spare| spare.nodes.clear());
        VERDICTS.with(Vec::clear);
    }
    ONCE.call_once(|| {
        tree::set_mourner(mourn);
        sys::at_fork(before, parent, child);
    });
}

/// Process `number` is dead: takes its waits out of their queues and passes on what had come for them.
fn mourn(number: u32) {
    let Some(arena) = shm::arena() else { return };
    let lot = lot(arena);
    // SYNC(abandoned): pairs with the fence below. Either we find what was abandoned, or who abandons it finds us dead.
    fence(Ordering::SeqCst);
    let high = lot.high.load(Ordering::Acquire).min(NODES as u32);
    for at in 0..high {
        let node = lot.node(at);
        let taker = || tree::number_of(node.queued.load(Ordering::Acquire));
        if taker() == number {
            lot.inherit(at, 0);
        }
        let is_its = || node.claimed.load(Ordering::Acquire) == number;
        if !is_its() {
            continue;
        }
        let key = node.key.load(Ordering::Relaxed);
        let waited = lot.with(bucket_of(key), |bucket| {
            let waited = is_its() && node.queued.load(Ordering::Acquire) == bucket_of(key) as u32 + 1;
            if waited {
                let word = node.word.load(Ordering::Relaxed);
                if word != 0 {
                    // First: as long as the node is queued the word is meant for it, and whoever buries after us does it again.
                    // SAFETY: the dead still holds the object: its seat is given up after this.
                    unsafe { arena.word(word) }.store(1, Ordering::Release);
                }
                reach(Point::Mourn);
                node.queued.store(0, Ordering::Release);
                lot.unlink(bucket, at);
            }
            waited
        });
        reach(Point::Mourn);
        if waited && node.flags.load(Ordering::Relaxed) & ROLE == Role::Meet as u32 {
            take_at(lot, key, usize::MAX, |_, _| {}).wake(PEER_DIED);
        }
        if waited || taker() == 0 {
            if is_its() {
                Lot::free(node);
            }
            continue;
        }
        // Somebody has taken it out and has told it, or is about to: then that one learns that nobody listens.
        let told = node
            .token
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |token| {
                (token & NOTIFIED == 0).then_some(ABANDONED)
            });
        // SYNC(abandoned): pairs with the fence above.
        fence(Ordering::SeqCst);
        match told {
            Err(token) => lot.pass_on(at, token & !NOTIFIED),
            Ok(_) if tree::is_known_dead(taker()) => lot.inherit(at, 0),
            Ok(_) => {}
        }
    }
}

/// A thread of some process that sleeps at something shared, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleeper {
    /// Its identity in the tree.
    pub thread: u32,
    /// The name of the thread.
    pub name: String,
    /// What kind of wait, in words.
    pub kind: String,
    /// The part it plays in a deadlock.
    pub role: Role,
    /// `file:line` of the wait.
    pub place: String,
    /// The offset of what it waits for.
    pub key: u64,
    /// Who can end it.
    pub enders: Enders,
    /// The identity of the owner and whether only that thread may give it back.
    pub owner: Option<(u32, bool)>,
    /// Has it a time limit?
    pub timed: bool,
    /// One unbroken sleep has one number.
    pub seq: u64,
    /// Its number in the kernel.
    pub os_id: u32,
    /// `file:line` where the lock that it waits for was taken.
    pub taken: String,
    /// Where its node lies.
    pub at: u32,
}

/// Everybody of the tree who sleeps at something shared.
pub fn sleepers() -> Vec<Sleeper> {
    let Some(arena) = shm::arena() else {
        return Vec::new();
    };
    let lot = lot(arena);
    let high = lot.high.load(Ordering::Acquire).min(NODES as u32);
    (0..high).filter_map(|at| look_at(arena, lot, at)).collect()
}

fn taken_text(arena: &'static Arena, offset: u64) -> String {
    if offset == 0 {
        return String::new();
    }
    let words: [AtomicU64; 10] = std::array::from_fn(|at| {
        // SAFETY: a lock that a sleeping thread borrows has ten words of text there.
        let low = unsafe { arena.word(offset + at as u64 * 8) }.load(Ordering::Relaxed);
        // SAFETY: as above.
        let high = unsafe { arena.word(offset + at as u64 * 8 + 4) }.load(Ordering::Relaxed);
        AtomicU64::new(u64::from(high) << 32 | u64::from(low))
    });
    get_text(&words)
}

fn look_at(arena: &'static Arena, lot: &Lot, at: u32) -> Option<Sleeper> {
    let node = lot.node(at);
    let asleep = || {
        let queued = node.queued.load(Ordering::Acquire);
        queued != 0 && queued as usize <= BUCKETS && node.token.load(Ordering::Acquire) == SLEEPING
    };
    if node.claimed.load(Ordering::Acquire) == 0 || !asleep() {
        return None;
    }
    let seq = node.seq.load(Ordering::Acquire);
    let flags = node.flags.load(Ordering::Relaxed);
    let enders = node.enders.load(Ordering::Relaxed);
    let word = node.owner.load(Ordering::Relaxed);
    // SAFETY: the word is that of a lock that a sleeping thread borrows, so its object is alive.
    let word = (word != 0).then(|| unsafe { arena.word(word) }.load(Ordering::Relaxed));
    let sleeper = Sleeper {
        thread: node.thread.load(Ordering::Relaxed),
        name: get_text(&node.name),
        kind: get_text(&node.reason),
        role: Role::from_number(flags & ROLE),
        place: get_text(&node.place),
        key: node.key.load(Ordering::Relaxed),
        enders: match (enders, flags & PROCESS) {
            (0, _) => Enders::Unknown,
            (object, 0) => Enders::Holders(object, node.serial.load(Ordering::Relaxed)),
            (number, _) => Enders::Process(number as u32),
        },
        owner: word
            .filter(|word| word & OWNER != 0)
            .map(|word| (word & OWNER, word & super::SCOPED != 0)),
        timed: flags & TIMED != 0,
        seq,
        os_id: node.os_id.load(Ordering::Relaxed),
        taken: taken_text(arena, node.taken.load(Ordering::Relaxed)),
        at,
    };
    (asleep() && node.seq.load(Ordering::Acquire) == seq).then_some(sleeper)
}

/// Tells the thread of `sleeper`, which is one of this process, that its wait is a deadlock.
pub(crate) fn tell(sleeper: &Sleeper, report: Report) -> bool {
    let (_, lot) = here();
    let node = lot.node(sleeper.at);
    let at = bucket_of(sleeper.key);
    let told = lot.with(at, |bucket| {
        let same = node.queued.load(Ordering::Acquire) == at as u32 + 1
            && node.thread.load(Ordering::Relaxed) == sleeper.thread
            && node.seq.load(Ordering::Acquire) == sleeper.seq
            && node.token.load(Ordering::Acquire) == SLEEPING;
        if same {
            VERDICTS.with(|verdicts| verdicts.push((sleeper.at, Box::new(report))));
            node.queued.store(0, Ordering::Release);
            lot.unlink(bucket, sleeper.at);
            node.token.store(DOOMED, Ordering::Release);
        }
        same
    });
    if told {
        sys::wake_shared(&node.token);
    }
    told
}

/// Waits at the door for one of `files` to become readable, as a thread that waits for `how.enders`. `Ok(false)`: the
/// deadline passed.
///
/// # Errors
/// [`Stopped`] if the wait was interrupted, or could never have ended.
pub fn watch_files(files: &[i32], how: &How<'_>) -> Result<bool, Stopped> {
    let (_, lot) = here();
    let Some(ticket) = enqueue_at(None, how, None, || true) else {
        return Ok(false);
    };
    let node = lot.node(ticket.at);
    let short = Deadline::after(std::time::Duration::from_millis(20));
    let first = how
        .deadline
        .at()
        .map_or(short.at(), |end| short.at().map(|at| at.min(end)));
    match sys::sleep_on_files(files, first) {
        Slept::Woken => return Ok(true),
        Slept::Signal => {
            if let Some(stopped) = ticket.check(node, how) {
                return Err(stopped);
            }
        }
        Slept::TimedOut if how.deadline.has_passed() => return Ok(false),
        Slept::TimedOut => {}
    }
    ticket.describe(node, how);
    let _asleep = Asleep::begin();
    loop {
        let _ = node
            .token
            .compare_exchange(WAITING, SLEEPING, Ordering::AcqRel, Ordering::Relaxed);
        if node.token.load(Ordering::Acquire) == DOOMED {
            return match ticket.doomed(how, None) {
                Wakeup::Stopped(stopped) => Err(stopped),
                _ => Ok(false),
            };
        }
        let next = sys::now() + TICK;
        let until = how.deadline.at().map_or(next, |end| end.min(next));
        match sys::sleep_on_files(files, Some(until)) {
            Slept::Woken => return Ok(true),
            Slept::Signal => {
                if let Some(stopped) = ticket.check(node, how) {
                    return Err(stopped);
                }
            }
            Slept::TimedOut => {
                if how.deadline.has_passed() {
                    return Ok(false);
                }
                if let Some(Wakeup::Stopped(stopped)) = ticket.tick(node, how, None, &|| true) {
                    return Err(stopped);
                }
            }
        }
    }
}

/// Has the thread of `sleeper`, one of this process, tell of a deadlock that is only to be reported.
pub(crate) fn report(sleeper: &Sleeper, report: &Report) {
    let _ = sleeper;
    REPORTER.with(|reporter| {
        if let Some(reporter) = reporter {
            reporter(report);
        }
    });
}

/// Who tells of a deadlock that is only to be reported.
static REPORTER: Guarded<Option<fn(&Report)>> = Guarded::new(None);

/// Plugs in who tells of a deadlock that is only to be reported.
pub fn set_reporter(reporter: fn(&Report)) {
    REPORTER.with(|slot| *slot = Some(reporter));
}
