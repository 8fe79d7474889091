//! A place in a queue, and the sleep of the thread that holds it.

use super::lot::{
    BUCKETS, DOOMED, NOTIFIED, Node, PROCESS, SLEEPING, TIMED, WAITING, bucket_of, here, offset_of, put_text,
};
use super::mourn::attend;
use super::sleepers::verdict_on;
use super::spin_until;
use crate::prim::{AtomicU32, Ordering};
use crate::shm::point::{Point, reach};
use crate::shm::tree;
use crate::sys::{self, Slept};
use crate::wait::hook::{self, Mode};
use crate::wait::{Enders, How, OWNER, OwnerWord, Stopped, Wakeup, key_of, roster};

pub(super) const TICK: u64 = 100_000_000;

/// A place in a queue, held by the thread that will sleep on it.
#[derive(Debug)]
pub struct Ticket {
    pub(super) at: u32,
    key: u64,
    over: bool,
    mark: u64,
}

/// As [`crate::wait::enqueue`], for a key in the arena.
pub fn enqueue(
    key: usize,
    how: &How<'_>,
    owner: Option<&OwnerWord>,
    valid: impl FnOnce() -> bool,
) -> Option<Ticket> {
    enqueue_at(Some(key), how, owner, valid)
}

/// Without a key the node itself is it: nobody but the detector can wake such a sleeper.
pub(super) fn enqueue_at(
    key: Option<usize>,
    how: &How<'_>,
    owner: Option<&OwnerWord>,
    valid: impl FnOnce() -> bool,
) -> Option<Ticket> {
    attend();
    let (arena, lot) = here();
    let at = lot.claim();
    let node = lot.node(at);
    let key = offset_of(arena, key.unwrap_or_else(|| key_of(node)));
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
    let word = owner.map_or(0, |word| offset_of(arena, key_of(word)));
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

/// As [`crate::wait::park`], for a key in the arena. `valid` is asked again now and then: a wake-up may have died with its
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
    pub(super) fn tick(
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
    pub(super) fn check(&self, node: &Node, how: &How<'_>) -> Option<Stopped> {
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
    pub(super) fn describe(&self, node: &Node, how: &How<'_>) {
        put_text(&node.reason, how.reason.name.as_bytes());
        let mut place = [0; 80];
        let mut name = [0; 32];
        how.interrupt.describe(&mut place, &mut name);
        put_text(&node.place, &place);
        put_text(&node.name, &name);
        node.seq.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn doomed(mut self, how: &How<'_>, owner: Option<&OwnerWord>) -> Wakeup {
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
        let offset = offset_of(arena, key_of(word));
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
pub(super) struct Asleep;

impl Asleep {
    pub(super) fn begin() -> Self {
        tree::stir();
        Self
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        tree::stir();
    }
}
