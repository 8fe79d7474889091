//! One wait of one thread: described, queued, asleep, ended.

use super::hook::{self, Mode, Report};
use super::lot::{self, door};
use super::roster::{self, Owner, Record, Sleeper};
use super::{How, OWNER, OwnerWord, Reason, SCOPED, Stopped, Wakeup};
use crate::prim::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Guarded, Ordering, fence, yield_now};
use crate::sys::{self, Slept};
use std::ptr;

// The token of a node:
//
// | value | meaning | who leaves it |
// | --- | --- | --- |
// | WAITING | awake: about to spin, or in a signal handler | the sleeper, to SLEEPING; a waker, to NOTIFIED |
// | SLEEPING | in the kernel, or just before or after | a waker to NOTIFIED, the detector to DOOMED or TOLD, a poke to POKED, the sleeper to WAITING |
// | POKED | asked to look for deadlocks | the sleeper, to SLEEPING |
// | TOLD | asked to hand on the report in `verdict` | the sleeper, to SLEEPING |
// | DOOMED | out of the queue, with the report in `verdict` | nobody: the wait is over |
// | NOTIFIED + m | out of the queue, with message m | nobody: the wait is over |
const WAITING: u32 = 0;
const SLEEPING: u32 = 1;
const POKED: u32 = 2;
const TOLD: u32 = 3;
const DOOMED: u32 = 4;
pub(super) const NOTIFIED: u32 = 1 << 31;

/// Between two looks of a sleeping thread that looks after deadlocks or signals.
const TICK: u64 = 100_000_000;
/// The place of one wait in a queue. Nodes are used again, never freed: a late wake-up hits a live word.
pub(crate) struct Node {
    token: AtomicU32,
    key: AtomicUsize,
    thread: AtomicU32,
    reason: AtomicPtr<Reason>,
    subject: AtomicUsize,
    owner: AtomicPtr<OwnerWord>,
    timed: AtomicBool,
    /// Sleeps without looking for deadlocks, because another thread looks.
    unwatched: AtomicBool,
    /// The wait that this one interrupts: a signal handler may wait while its thread stays queued.
    outer: AtomicPtr<Node>,
    verdict: Guarded<Option<Box<Report>>>,
}

impl Node {
    fn get() -> &'static Self {
        if let Some(node) = door().spare.with(Vec::pop) {
            return node;
        }
        Box::leak(Box::new(Self {
            token: AtomicU32::new(WAITING),
            key: AtomicUsize::new(0),
            thread: AtomicU32::new(0),
            reason: AtomicPtr::new(ptr::null_mut()),
            subject: AtomicUsize::new(0),
            owner: AtomicPtr::new(ptr::null_mut()),
            timed: AtomicBool::new(false),
            unwatched: AtomicBool::new(false),
            outer: AtomicPtr::new(ptr::null_mut()),
            verdict: Guarded::new(None),
        }))
    }

    pub(super) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// Ends the wait with `message`. The caller has taken the node out of its queue.
    pub(super) fn notify(&self, message: u32) {
        // SYNC(token): pairs with the Acquire load in `Ticket::sleep`; what the waker did before is seen after the wait.
        if self.token.swap(NOTIFIED | message, Ordering::AcqRel) != WAITING {
            sys::wake(&self.token);
        }
    }

    pub(super) fn of(record: &Record) -> Option<&'static Self> {
        let node = record.waiting.load(Ordering::Acquire);
        // SAFETY: nodes are leaked, so a pointer to one is always good.
        unsafe { node.as_ref() }
    }

    /// Asks an unwatched sleeper to look for deadlocks. `false`: this one cannot.
    pub(super) fn poke(&self) -> bool {
        let poked = self.unwatched.load(Ordering::SeqCst)
            && self
                .token
                .compare_exchange(SLEEPING, POKED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if poked {
            sys::wake(&self.token);
        }
        poked
    }

    /// The wait of `record`, if it sleeps and nobody has woken it yet.
    pub(super) fn describe(record: &'static Record, thread: u32) -> Option<Sleeper> {
        let seq = record.seq.load(Ordering::Acquire);
        let node = Self::of(record)?;
        let key = node.key.load(Ordering::Relaxed);
        lot::pinned(key, node, || {
            // All is read while the node cannot leave its queue, so all of it belongs to one wait.
            if !node.serves(record, thread, seq) || !node.settled() || node.key.load(Ordering::Relaxed) != key
            {
                return None;
            }
            // SAFETY: a node in a queue is described, and its reason is 'static.
            let reason = unsafe { node.reason.load(Ordering::Relaxed).as_ref() }?;
            // SAFETY: while the node is in its queue its thread is inside the wait and borrows the word.
            let word = unsafe { node.owner.load(Ordering::Relaxed).as_ref() };
            let owner = word
                .map(|word| word.load(Ordering::Relaxed))
                .filter(|word| word & OWNER != 0);
            Some(Sleeper {
                thread,
                ident: record.ident.load(Ordering::Relaxed),
                os_id: record.os_id.load(Ordering::Relaxed),
                daemon: record.daemon.load(Ordering::Relaxed),
                reason,
                subject: node.subject.load(Ordering::Relaxed),
                key,
                owner: owner.map(|word| Owner {
                    thread: word & OWNER,
                    scoped: word & SCOPED != 0,
                }),
                timed: node.timed.load(Ordering::Relaxed),
                seq,
            })
        })?
    }

    /// Asleep, not in the middle of a spin, a signal handler or a report.
    fn settled(&self) -> bool {
        matches!(self.token.load(Ordering::Acquire), SLEEPING | POKED)
    }

    /// Is this the node of sleep `seq` of `thread`? Asked while the node is pinned.
    fn serves(&self, record: &Record, thread: u32, seq: u64) -> bool {
        self.thread() == thread
            && record.id.load(Ordering::Relaxed) == thread
            && record.seq.load(Ordering::Acquire) == seq
    }

    /// Turns the token of a settled node, which is pinned, into `token`.
    #[cfg(not(loom))]
    fn strike(&self, token: u32) -> bool {
        // SYNC(token): as in `notify`.
        let strike = |from| {
            self.token
                .compare_exchange(from, token, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        // The sleeper itself may turn POKED into SLEEPING between the two, hence the third.
        strike(SLEEPING) || strike(POKED) || strike(SLEEPING)
    }

    /// In the child of a `fork`: the thread that had taken the waits of `record` out of their queues is gone and will
    /// not write their tokens.
    #[cfg(not(loom))]
    pub(super) fn finish_orphans(record: &Record) {
        let mut node = Self::of(record);
        while let Some(this) = node {
            let token = this.token.load(Ordering::Relaxed);
            let queued = lot::pinned(this.key.load(Ordering::Relaxed), this, || ()).is_some();
            if !queued && token & NOTIFIED == 0 && token != DOOMED {
                this.token.store(NOTIFIED, Ordering::Relaxed);
            }
            // SAFETY: as in `of`.
            node = unsafe { this.outer.load(Ordering::Relaxed).as_ref() };
        }
    }
}

/// Tells the thread of `sleeper` that its wait is a deadlock. `false` if that sleep has ended meanwhile.
///
/// In [`Mode::Raise`] this ends its wait, in [`Mode::Report`] the wait goes on.
#[cfg(not(loom))]
pub(crate) fn tell(sleeper: &Sleeper, report: Report, mode: Mode) -> bool {
    let record = door().roster.with(|roster| roster.find(sleeper.thread));
    let Some((record, node)) = record.and_then(|record| Some((record, Node::of(record)?))) else {
        return false;
    };
    let give = |token: u32| {
        if !node.serves(record, sleeper.thread, sleeper.seq) || !node.settled() {
            return false;
        }
        node.verdict.with(|verdict| *verdict = Some(Box::new(report)));
        node.strike(token)
    };
    let told = match mode {
        Mode::Off => false,
        Mode::Raise => lot::pull_if(sleeper.key, node, || give(DOOMED)),
        // A sleep that goes on is found again with every look.
        Mode::Report if record.told.load(Ordering::Relaxed) == sleeper.seq => false,
        Mode::Report => lot::pinned(sleeper.key, node, || give(TOLD)).unwrap_or(false),
    };
    if told {
        record.told.store(sleeper.seq, Ordering::Relaxed);
        sys::wake(&node.token);
    }
    told
}

/// Does this sleep still go on? Then what it waits for is still borrowed by its thread. A thread that looks after signals
/// in the middle of its sleep has not left it.
#[cfg(not(loom))]
pub fn is_still_waiting(sleeper: &Sleeper) -> bool {
    let record = door().roster.with(|roster| roster.find(sleeper.thread));
    let Some((record, node)) = record.and_then(|record| Some((record, Node::of(record)?))) else {
        return false;
    };
    lot::pinned(sleeper.key, node, || {
        node.serves(record, sleeper.thread, sleeper.seq)
    })
    .unwrap_or(false)
}

/// A place in a queue, held by the thread that will sleep on it.
#[derive(Debug)]
pub struct Ticket {
    key: usize,
    node: &'static Node,
    me: &'static Record,
    over: bool,
    mark: u64,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Node(thread {}, key {:#x})",
            self.thread(),
            self.key.load(Ordering::Relaxed)
        )
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({})", self.id.load(Ordering::Relaxed))
    }
}

/// Puts the calling thread at the end of the queue of `key`, if `valid()` still holds once nobody else can enter or
/// leave it. `owner` is the word that says who can end this wait, if one thread can.
pub fn enqueue(
    key: usize,
    how: &How<'_>,
    owner: Option<&OwnerWord>,
    valid: impl FnOnce() -> bool,
) -> Option<Ticket> {
    let me = roster::me();
    let node = Node::get();
    node.token.store(WAITING, Ordering::Relaxed);
    node.key.store(key, Ordering::Relaxed);
    node.thread
        .store(me.id.load(Ordering::Relaxed), Ordering::Relaxed);
    node.reason
        .store(ptr::from_ref(how.reason).cast_mut(), Ordering::Relaxed);
    node.subject.store(how.subject, Ordering::Relaxed);
    node.owner.store(
        owner.map_or(ptr::null_mut(), |word| ptr::from_ref(word).cast_mut()),
        Ordering::Relaxed,
    );
    node.timed.store(!how.deadline.is_never(), Ordering::Relaxed);
    node.unwatched.store(false, Ordering::Relaxed);
    node.outer
        .store(me.waiting.load(Ordering::Relaxed), Ordering::Relaxed);
    let ticket = Ticket {
        key,
        node,
        me,
        over: false,
        mark: 0,
    };
    me.seq.fetch_add(1, Ordering::AcqRel);
    // SYNC(waiting): pairs with the Acquire load in `Node::of`; the description is seen with the pointer.
    me.waiting
        .store(ptr::from_ref(node).cast_mut(), Ordering::Release);
    if lot::push(key, node, valid) {
        Some(ticket)
    } else {
        // Never queued, so there is nothing to leave but the record.
        let mut ticket = ticket;
        ticket.over = true;
        None
    }
}

/// Sleeps in the queue of `key` until woken. See [`enqueue`] for `owner` and `valid`.
pub fn park(key: usize, how: &How<'_>, owner: Option<&OwnerWord>, valid: impl FnOnce() -> bool) -> Wakeup {
    match enqueue(key, how, owner, valid) {
        Some(ticket) => ticket.sleep(how),
        None => Wakeup::Invalid,
    }
}

impl Ticket {
    /// Sleeps until woken.
    pub fn sleep(mut self, how: &How<'_>) -> Wakeup {
        if how.deadline.has_passed() {
            return self.leave(Wakeup::TimedOut);
        }
        if let Some(message) = super::spin::spin(self.me, &self.node.token) {
            return self.end(Wakeup::Unparked(message));
        }
        let mut watch = Watch::new(how, self.me, self.node);
        let mut look = false;
        loop {
            // SYNC(token): pairs with the swap in `notify`.
            let token = self.node.token.load(Ordering::Acquire);
            match token {
                SLEEPING => {}
                WAITING | POKED | TOLD => {
                    if token == TOLD
                        && let Some(report) = self.node.verdict.with(Option::take)
                    {
                        how.interrupt.report(&report);
                    }
                    let exchange = self.node.token.compare_exchange(
                        token,
                        SLEEPING,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if exchange.is_err() {
                        continue;
                    }
                    // A poke finds only who is SLEEPING: whoever was not may have been passed over.
                    look |= watch.unwatched();
                }
                DOOMED => {
                    let report = self.node.verdict.with(Option::take);
                    let stopped = match report {
                        Some(report) => Stopped::Deadlock(report),
                        None => Stopped::Interrupted { notified: false },
                    };
                    return self.end(Wakeup::Stopped(stopped));
                }
                message => return self.end(Wakeup::Unparked(message & !NOTIFIED)),
            }
            if look {
                look = false;
                watch.look();
                continue;
            }
            match sys::sleep_on(&self.node.token, SLEEPING, watch.until(how)) {
                Slept::Woken => {}
                Slept::Signal => {
                    // A handler may run for long, and somebody has to look.
                    watch.resign();
                    if self.check(how) {
                        return self.interrupted();
                    }
                    // Not the same sleep any more: the handler may have changed anything.
                    let seq = self.me.seq.fetch_add(2, Ordering::AcqRel);
                    if self.me.told.load(Ordering::Relaxed) == seq {
                        self.me.told.store(seq + 2, Ordering::Relaxed);
                    }
                    look = true;
                }
                Slept::TimedOut => {
                    // In a model the time has come as soon as there is a limit.
                    if how.deadline.has_passed() || (cfg!(loom) && !how.deadline.is_never()) {
                        return self.leave(Wakeup::TimedOut);
                    }
                    if how.interrupt.ticks() && self.check(how) {
                        return self.interrupted();
                    }
                    look = true;
                }
            }
        }
    }

    /// Leaves the queue without sleeping. `false`: a wake-up came first, and the caller has to pass it on.
    pub fn cancel(mut self) -> bool {
        self.over = true;
        self.pull().is_none()
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

    /// Asks the caller whether to end the wait. This thread is awake meanwhile: it may run signal handlers.
    fn check(&self, how: &How<'_>) -> bool {
        // Where a waker or the detector was faster, the loop sees it.
        let _ = self
            .node
            .token
            .compare_exchange(SLEEPING, WAITING, Ordering::AcqRel, Ordering::Relaxed);
        how.interrupt.check()
    }

    /// Leaves the queue. `Some`: somebody has taken the node out before and left this token.
    fn pull(&self) -> Option<u32> {
        if lot::pull(self.key, self.node) {
            return None;
        }
        // The token may still be on its way, and the node must not be used again before it has come.
        let mut token = self.node.token.load(Ordering::Acquire);
        while token & NOTIFIED == 0 && token != DOOMED {
            yield_now();
            // SYNC(token): pairs with the swap in `notify`.
            token = self.node.token.load(Ordering::Acquire);
        }
        Some(token)
    }

    fn interrupted(self) -> Wakeup {
        self.leave(Wakeup::Stopped(Stopped::Interrupted { notified: false }))
    }

    /// Leaves the queue with `ending`, or with the wake-up that came first.
    fn leave(mut self, ending: Wakeup) -> Wakeup {
        let Some(token) = self.pull() else {
            return self.end(ending);
        };
        let stop = matches!(ending, Wakeup::Stopped(_));
        match self.node.verdict.with(Option::take) {
            // The exception of a handler comes first: it is set already.
            _ if stop => {
                let notified = token & NOTIFIED != 0;
                self.end(Wakeup::Stopped(Stopped::Interrupted { notified }))
            }
            Some(report) if token == DOOMED => self.end(Wakeup::Stopped(Stopped::Deadlock(report))),
            _ => self.end(Wakeup::Unparked(token & !NOTIFIED)),
        }
    }

    fn end(&mut self, ending: Wakeup) -> Wakeup {
        self.over = true;
        ending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.over {
            self.pull();
        }
        self.me.seq.fetch_add(1, Ordering::AcqRel);
        self.me
            .waiting
            .store(self.node.outer.load(Ordering::Relaxed), Ordering::Release);
        door().spare.with(|spare| spare.push(self.node));
    }
}

/// How many threads can run at one time; asked once.
pub fn processors() -> usize {
    #[cfg(loom)]
    return 1;
    #[cfg(not(loom))]
    {
        // No `OnceLock`: a child of `fork` would wait for a parent's thread that was just inside it.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        match COUNT.load(Ordering::Relaxed) {
            0 => {
                let count = sys::processors();
                COUNT.store(count, Ordering::Relaxed);
                count
            }
            count => count,
        }
    }
}

/// The part of a sleep that looks after deadlocks and signals.
///
/// One sleeping thread at a time, the sentinel, wakes up every two ticks to look. The others sleep on, unwatched, after
/// their first tick; when the sentinel's own wait ends it pokes one of them to take over.
struct Watch {
    me: u32,
    node: &'static Node,
    watched: bool,
    sentinel: bool,
    /// The next look; `None` while another thread looks.
    next: Option<u64>,
    ticks: bool,
}

impl Watch {
    fn new(how: &How<'_>, me: &Record, node: &'static Node) -> Self {
        let watched = how.deadline.is_never() && hook::mode() != Mode::Off;
        let ticks = how.interrupt.ticks();
        let next = (watched || ticks).then(|| sys::now() + TICK);
        Self {
            me: me.id.load(Ordering::Relaxed),
            node,
            watched,
            sentinel: false,
            next,
            ticks,
        }
    }

    fn until(&self, how: &How<'_>) -> Option<u64> {
        match (how.deadline.at(), self.next) {
            (Some(end), Some(next)) => Some(end.min(next)),
            (end, next) => end.or(next),
        }
    }

    /// Will this thread sleep on without a look of its own?
    fn unwatched(&self) -> bool {
        self.watched && !self.sentinel && self.next.is_none()
    }

    fn look(&mut self) {
        let now = sys::now();
        // In a model, where time runs out at once, a signal comes once and the sentinel looks once.
        self.next = (self.ticks && !cfg!(loom)).then_some(now + TICK);
        if !self.watched {
            return;
        }
        // SYNC(sentinel): `unwatched` is stored before `sentinel` is read here; the leaving sentinel stores 0 before it
        // reads `unwatched`. One of the two sees the other, so somebody always looks.
        self.node.unwatched.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let sentinel = &door().sentinel;
        match sentinel.compare_exchange(0, self.me, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => self.sentinel = true,
            // The same thread, in a wait that a signal handler of this one interrupts.
            Err(other) if other == self.me => {}
            Err(_) => return,
        }
        self.node.unwatched.store(false, Ordering::SeqCst);
        self.next = (!cfg!(loom)).then_some(now + if self.ticks { TICK } else { 2 * TICK });
        hook::look();
    }
}

impl Watch {
    /// Gives the post of the sentinel to another sleeper.
    fn resign(&mut self) {
        if std::mem::take(&mut self.sentinel) {
            // SYNC(sentinel): see `look`.
            door().sentinel.store(0, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            roster::poke_one();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.resign();
        if self.unwatched() {
            // SYNC(sentinel): as in `look`. A poke may have come too late for this sleep: then it goes on to the next.
            self.node.unwatched.store(false, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if door().sentinel.load(Ordering::SeqCst) == 0 {
                roster::poke_one();
            }
        }
    }
}
