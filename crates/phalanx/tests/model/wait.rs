use super::{bounded, bounded_by, briefly, every, forever, handling, interrupted, spawn};
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use phalanx::wait::{self, How, Stopped, Wakeup, hook};

/// A word that threads wait to become other than 0.
#[derive(Default)]
struct Flag(AtomicU32);

impl Flag {
    fn key(&self) -> usize {
        wait::key_of(self)
    }

    fn is_down(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn park(&self, how: &How<'_>) -> Wakeup {
        wait::park(self.key(), how, None, || self.is_down())
    }

    /// With the queue locked, as a primitive would clear its bit for waiters.
    fn raise(&self, n: usize, message: u32) -> usize {
        wait::unpark(self.key(), n, message, |_, _| self.0.store(1, Ordering::Relaxed))
    }
}

#[test]
fn parked_before_or_after_the_change_it_is_woken() {
    every(|| {
        let flag = Arc::new(Flag::default());
        let sleeper = spawn(&flag, |flag| flag.park(&forever()));
        let woken = flag.raise(1, 7);
        match sleeper.join().unwrap() {
            Wakeup::Unparked(7) => assert_eq!(woken, 1),
            Wakeup::Invalid => assert_eq!(woken, 0),
            other => panic!("{other:?}"),
        }
        assert_eq!(wait::count(flag.key()), 0);
    });
}

#[test]
fn one_wakeup_wakes_one() {
    bounded(|| {
        let flag = Arc::new(Flag::default());
        let sleepers = [(); 2].map(|()| spawn(&flag, |flag| flag.park(&forever())));
        let first = wait::unpark_one(flag.key(), |_, _| {});
        let rest = flag.raise(usize::MAX, 0);
        let unparked = sleepers.map(|sleeper| sleeper.join().unwrap());
        let unparked = unparked
            .iter()
            .filter(|wakeup| matches!(wakeup, Wakeup::Unparked(_)))
            .count();
        assert_eq!(unparked, usize::from(first) + rest);
    });
}

#[test]
fn time_out_against_wakeup() {
    every(|| {
        let flag = Arc::new(Flag::default());
        let sleeper = spawn(&flag, |flag| flag.park(&briefly()));
        let woken = flag.raise(1, 7) == 1;
        match sleeper.join().unwrap() {
            Wakeup::Unparked(7) => assert!(woken),
            Wakeup::TimedOut | Wakeup::Invalid => assert!(!woken),
            other => panic!("{other:?}"),
        }
        assert_eq!(wait::count(flag.key()), 0);
    });
}

#[test]
fn signal_against_wakeup() {
    every(|| {
        let flag = Arc::new(Flag::default());
        let sleeper = spawn(&flag, |flag| flag.park(&interrupted()));
        let woken = flag.raise(1, 7) == 1;
        match sleeper.join().unwrap() {
            Wakeup::Unparked(7) | Wakeup::Stopped(Stopped::Interrupted { notified: true }) => assert!(woken),
            Wakeup::Stopped(Stopped::Interrupted { notified: false }) | Wakeup::Invalid => assert!(!woken),
            other => panic!("{other:?}"),
        }
        assert_eq!(wait::count(flag.key()), 0);
    });
}

#[test]
fn a_wakeup_during_a_signal_handler_is_not_lost() {
    every(|| {
        let flag = Arc::new(Flag::default());
        let sleeper = spawn(&flag, |flag| flag.park(&handling()));
        let woken = flag.raise(1, 7) == 1;
        match sleeper.join().unwrap() {
            Wakeup::Unparked(7) => assert!(woken),
            Wakeup::Invalid => assert!(!woken),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn cancel_against_wakeup() {
    every(|| {
        let flag = Arc::new(Flag::default());
        let ticket = wait::enqueue(flag.key(), &forever(), None, || true).unwrap();
        let waker = spawn(&flag, |flag| flag.raise(1, 0));
        let left = ticket.cancel();
        // The node may be in use again at once, and the old wake-up must not reach the new wait.
        match wait::park(flag.key(), &briefly(), None, || true) {
            Wakeup::TimedOut => assert_eq!(waker.join().unwrap(), usize::from(!left)),
            Wakeup::Unparked(0) => assert!(left && waker.join().unwrap() == 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(wait::count(flag.key()), 0);
    });
}

#[test]
fn a_dropped_ticket_leaves_nothing_behind() {
    every(|| {
        let flag = Arc::new(Flag::default());
        drop(wait::enqueue(flag.key(), &forever(), None, || true));
        let ticket = wait::enqueue(flag.key(), &forever(), None, || true);
        let waker = spawn(&flag, |flag| flag.raise(1, 0));
        drop(ticket);
        assert!(matches!(
            wait::park(flag.key(), &briefly(), None, || true),
            Wakeup::TimedOut | Wakeup::Unparked(0)
        ));
        waker.join().unwrap();
        assert_eq!(wait::count(flag.key()), 0);
    });
}

#[test]
fn keys_of_one_bucket_do_not_mix() {
    bounded(|| {
        let flags = Arc::new([Flag::default(), Flag::default(), Flag::default()]);
        let sleeper = spawn(&flags, |flags| flags[0].park(&forever()));
        assert_eq!(flags[1].raise(1, 1) + flags[2].raise(1, 2), 0);
        let woken = flags[0].raise(1, 3);
        match sleeper.join().unwrap() {
            Wakeup::Unparked(3) => assert_eq!(woken, 1),
            Wakeup::Invalid => assert_eq!(woken, 0),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_wait_inside_a_wait() {
    every(|| {
        let flags = Arc::new([Flag::default(), Flag::default()]);
        let outer = wait::enqueue(flags[0].key(), &forever(), None, || true).unwrap();
        let waker = spawn(&flags, |flags| flags[0].raise(1, 1) + flags[1].raise(1, 2));
        let inner = flags[1].park(&forever());
        assert!(
            matches!(inner, Wakeup::Unparked(2) | Wakeup::Invalid),
            "{inner:?}"
        );
        let outer = outer.sleep(&forever());
        assert!(matches!(outer, Wakeup::Unparked(1)), "{outer:?}");
        waker.join().unwrap();
    });
}

loom::lazy_static! {
    static ref LOOKERS: (Mutex<Vec<u32>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());
}

fn note_look() {
    LOOKERS.0.lock().unwrap().push(wait::current());
    LOOKERS.1.notify_all();
}

fn has_looked(thread: u32) {
    let mut lookers = LOOKERS.0.lock().unwrap();
    while !lookers.contains(&thread) {
        lookers = LOOKERS.1.wait(lookers).unwrap();
    }
}

/// Threads that sleep on their flags until those are raised, one after the other. As long as one sleeps, one looks: if
/// nobody took the post of the sentinel over, the last one would never look, and the model would stand still.
fn somebody_looks(sleepers: usize, bound: usize) {
    bounded_by(bound, move || {
        hook::set_mode(hook::Mode::Raise);
        hook::set_look(note_look);
        let flags = Arc::new([Flag::default(), Flag::default(), Flag::default()]);
        let ids = Arc::new([AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)]);
        let mut threads: Vec<_> = (0..sleepers)
            .map(|at| {
                let ids = ids.clone();
                spawn(&flags, move |flags| {
                    ids[at].store(wait::current(), Ordering::Release);
                    drop(flags[at].park(&forever()));
                })
            })
            .collect();
        let last = threads.pop().unwrap();
        for (at, thread) in threads.into_iter().enumerate() {
            flags[at].raise(1, 0);
            thread.join().unwrap();
        }
        // Known by now, or it cannot be asleep and will look by itself.
        let mut id = ids[sleepers - 1].load(Ordering::Acquire);
        while id == 0 {
            loom::thread::yield_now();
            id = ids[sleepers - 1].load(Ordering::Acquire);
        }
        has_looked(id);
        flags[sleepers - 1].raise(1, 0);
        last.join().unwrap();
    });
}

#[test]
fn the_post_of_the_sentinel_is_handed_over() {
    somebody_looks(2, 3);
}

#[test]
fn a_poke_that_comes_too_late_goes_on() {
    somebody_looks(3, 2);
}
