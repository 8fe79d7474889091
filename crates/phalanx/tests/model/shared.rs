//! What processes hand to each other when they end: objects, and places in queues. Small models of modules that are not there
//! under loom.
//!
//! | here | mirrors |
//! | --- | --- |
//! | `Object::take_up`, `send`, `let_go`, `is_held` | `Handle::unpack`, `pack`, `Drop for Handle`, `let_go`, `Name::is_held` of `shm/handle.rs`; the guard is a mutex of loom |
//! | `Place::notify`, `inherit`, `mourn` | `Lot::notify`, `inherit`, `pass_on`, and `mourn` of `wait/shared/` |
use super::{bounded_by, every, spawn};
use loom::sync::{Arc, Mutex};
use phalanx::prim::{AtomicBool, AtomicU32, Ordering, fence};

// ---------------------------------------------------------------- an object and its holders

struct Object {
    /// As `heap::while_none_is_freed`.
    arena: Mutex<()>,
    /// Is it an object? A process number: that one is about to free it.
    owner: AtomicU32,
    holders: AtomicU32,
    transit: AtomicU32,
    freed: AtomicU32,
}

const OBJECT: u32 = 100;

fn object(holders: u32, transit: u32) -> Arc<Object> {
    Arc::new(Object {
        arena: Mutex::new(()),
        owner: AtomicU32::new(OBJECT),
        holders: AtomicU32::new(holders),
        transit: AtomicU32::new(transit),
        freed: AtomicU32::new(0),
    })
}

impl Object {
    fn take_up(&self, seat: u32) -> bool {
        {
            let _guard = self.arena.lock().unwrap();
            if self.owner.load(Ordering::Acquire) != OBJECT {
                return false;
            }
            self.holders.fetch_or(1 << seat, Ordering::AcqRel);
        }
        let _ = self
            .transit
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |transit| {
                transit.checked_sub(1)
            });
        assert_eq!(self.freed.load(Ordering::Acquire), 0, "held, and freed");
        true
    }

    /// Packs a handle for whoever comes, and lets the own one go.
    fn send(&self, seat: u32) {
        self.transit.fetch_add(1, Ordering::AcqRel);
        self.let_go(seat);
    }

    fn is_held(&self) -> bool {
        let look = || self.transit.load(Ordering::Acquire) != 0 || self.holders.load(Ordering::Acquire) != 0;
        look() || {
            let _guard = self.arena.lock().unwrap();
            look()
        }
    }

    fn let_go(&self, seat: u32) {
        assert_eq!(self.freed.load(Ordering::Acquire), 0, "held, and freed");
        let ours = {
            let _guard = self.arena.lock().unwrap();
            let others = self.holders.load(Ordering::Acquire) & !(1 << seat) != 0;
            if others || self.transit.load(Ordering::Acquire) != 0 {
                self.holders.fetch_and(!(1 << seat), Ordering::AcqRel);
                false
            } else {
                self.owner
                    .compare_exchange(OBJECT, seat, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            }
        };
        if ours {
            self.freed.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[test]
fn the_last_of_three_frees_it() {
    bounded_by(4, || {
        let object = object(0b111, 0);
        let others = [1, 2].map(|seat| spawn(&object, move |object| object.let_go(seat)));
        object.let_go(0);
        others.map(|other| other.join().unwrap());
        assert_eq!(object.freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_handle_on_its_way_keeps_it() {
    every(|| {
        let object = object(0b1, 1);
        let taker = spawn(&object, |object| {
            assert!(object.take_up(1), "it was on its way to us");
            object.let_go(1);
        });
        object.let_go(0);
        taker.join().unwrap();
        assert_eq!(object.freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn who_looks_sees_a_handle_that_is_passed_on() {
    bounded_by(4, || {
        let object = object(0b1, 0);
        let sender = spawn(&object, |object| object.send(0));
        let taker = spawn(&object, |object| {
            if object.transit.load(Ordering::Acquire) != 0 {
                assert!(object.take_up(1));
            }
        });
        assert!(
            object.is_held(),
            "held by the first, on its way, or held by the second"
        );
        sender.join().unwrap();
        taker.join().unwrap();
    });
}

#[test]
fn a_pickle_taken_up_twice_finds_it_or_not() {
    bounded_by(4, || {
        let object = object(0b1, 1);
        let takers = [1, 2].map(|seat| {
            spawn(&object, move |object| {
                let found = object.take_up(seat);
                if found {
                    object.let_go(seat);
                }
                found
            })
        });
        object.let_go(0);
        let found = takers.map(|taker| taker.join().unwrap());
        assert!(found[0] || found[1]);
        assert_eq!(object.freed.load(Ordering::Relaxed), 1);
    });
}

// ---------------------------------------------------------------- a place in a queue whose owner has died

const WAITING: u32 = 0;
const SLEEPING: u32 = 1;
const ABANDONED: u32 = 5;
const NOTIFIED: u32 = 1 << 31;

/// The sleeper and the taker, both of which die, or only the first.
const SLEEPER: u32 = 1;
const TAKER: u32 = 2;

/// A node that `TAKER` has just taken out of its queue for `SLEEPER`.
struct Place {
    token: AtomicU32,
    queued: AtomicU32,
    claimed: AtomicU32,
    dead: [AtomicBool; 3],
    passed_on: AtomicU32,
    freed: AtomicU32,
}

fn place() -> Arc<Place> {
    Arc::new(Place {
        token: AtomicU32::new(SLEEPING),
        queued: AtomicU32::new(TAKER),
        claimed: AtomicU32::new(SLEEPER),
        dead: [(); 3].map(|()| AtomicBool::new(false)),
        passed_on: AtomicU32::new(0),
        freed: AtomicU32::new(0),
    })
}

impl Place {
    fn notify(&self) {
        let told = self
            .token
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |token| {
                (token != ABANDONED).then_some(NOTIFIED)
            });
        if told.is_err() {
            self.inherit();
        }
    }

    fn inherit(&self) {
        if self
            .token
            .compare_exchange(ABANDONED, WAITING, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            self.pass_on();
        }
    }

    fn pass_on(&self) {
        self.passed_on.fetch_add(1, Ordering::Relaxed);
        self.free();
    }

    fn free(&self) {
        self.queued.store(0, Ordering::Relaxed);
        self.token.store(WAITING, Ordering::Relaxed);
        self.freed.fetch_add(1, Ordering::Relaxed);
        self.claimed.store(0, Ordering::Release);
    }

    fn is_known_dead(&self, number: u32) -> bool {
        self.dead[number as usize].load(Ordering::Acquire)
    }

    /// The undertaker of `number`: `bury`, then `mourn`.
    fn mourn(&self, number: u32) {
        self.dead[number as usize].store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.queued.load(Ordering::Acquire) == number {
            self.inherit();
        }
        if self.claimed.load(Ordering::Acquire) != number {
            return;
        }
        // It is in no queue, under the lock of the bucket.
        if self.queued.load(Ordering::Acquire) == 0 {
            if self.claimed.load(Ordering::Acquire) == number {
                self.free();
            }
            return;
        }
        let told = self
            .token
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |token| {
                (token & NOTIFIED == 0).then_some(ABANDONED)
            });
        fence(Ordering::SeqCst);
        match told {
            Err(_) => self.pass_on(),
            Ok(_) if self.is_known_dead(self.queued.load(Ordering::Acquire)) => self.inherit(),
            Ok(_) => {}
        }
    }

    fn passed_on_once(&self) {
        assert_eq!(self.passed_on.load(Ordering::Relaxed), 1, "the notification");
        assert_eq!(self.freed.load(Ordering::Relaxed), 1, "the node");
        assert_eq!(self.claimed.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_sleeper_dies_while_it_is_told() {
    every(|| {
        let place = place();
        let undertaker = spawn(&place, |place| place.mourn(SLEEPER));
        place.notify();
        undertaker.join().unwrap();
        place.passed_on_once();
    });
}

#[test]
fn the_sleeper_dies_and_then_the_taker() {
    every(|| {
        let place = place();
        // The taker has died before it said a word; both are buried at one time.
        let undertaker = spawn(&place, |place| place.mourn(SLEEPER));
        place.mourn(TAKER);
        undertaker.join().unwrap();
        place.passed_on_once();
    });
}

#[test]
fn the_taker_dies_right_after_it_told_the_dead() {
    every(|| {
        let place = place();
        let undertaker = spawn(&place, |place| place.mourn(SLEEPER));
        place.notify();
        place.mourn(TAKER);
        undertaker.join().unwrap();
        place.passed_on_once();
    });
}
