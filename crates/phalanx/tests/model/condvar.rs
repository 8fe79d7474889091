use super::{Cell, bounded, bounded_by, briefly, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::{Condvar, Hold, Mutex};
use phalanx::wait::{How, Stopped};

struct Condition {
    mutex: Mutex,
    condvar: Condvar,
    cell: Cell,
}

fn condition() -> Arc<Condition> {
    Arc::new(Condition {
        mutex: Mutex::new(),
        condvar: Condvar::new(),
        cell: Cell::new(),
    })
}

impl Condition {
    fn lock(&self) {
        assert!(self.mutex.lock(Hold::Scoped, &forever()).unwrap());
    }

    fn unlock(&self) {
        self.mutex.unlock().unwrap();
    }

    /// With the lock, before and after.
    fn wait(&self, how: &How<'_>) -> Result<bool, Stopped> {
        let ticket = self.condvar.enter(how).unwrap();
        self.unlock();
        let woken = self.condvar.sleep(ticket, how);
        self.lock();
        woken
    }

    fn change_and_notify(&self, n: usize) {
        self.lock();
        self.cell.add();
        self.condvar.notify(n);
        self.unlock();
    }
}

#[test]
fn a_change_before_the_sleep_is_not_missed() {
    bounded_by(5, || {
        let condition = condition();
        let waiter = spawn(&condition, |condition| {
            condition.lock();
            while condition.cell.get() == 0 {
                assert!(condition.wait(&forever()).unwrap());
            }
            condition.unlock();
        });
        condition.change_and_notify(1);
        waiter.join().unwrap();
        assert_eq!(condition.condvar.waiters(), 0);
    });
}

#[test]
fn the_first_that_came_is_the_first_notified() {
    bounded(|| {
        let condition = condition();
        // In the order of arrival, whoever sleeps first.
        let first = condition.condvar.enter(&forever()).unwrap();
        let waiter = spawn(&condition, |condition| {
            let second = condition.condvar.enter(&briefly()).unwrap();
            condition.condvar.sleep(second, &briefly()).unwrap()
        });
        let woken = condition.condvar.notify(1);
        assert_eq!(woken, 1);
        assert!(condition.condvar.sleep(first, &forever()).unwrap());
        assert!(
            !waiter.join().unwrap(),
            "one notification, and it went to the first"
        );
    });
}

#[test]
fn notify_all_wakes_all() {
    bounded(|| {
        let condition = condition();
        let waiters = [(); 2].map(|()| {
            spawn(&condition, |condition| {
                condition.lock();
                while condition.cell.get() == 0 {
                    condition.wait(&forever()).unwrap();
                }
                condition.unlock();
            })
        });
        condition.change_and_notify(usize::MAX);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn a_notification_is_used_once_or_passed_on() {
    for how in [briefly, interrupted] {
        bounded(move || {
            let condition = condition();
            let tickets = [
                condition.condvar.enter(&how()).unwrap(),
                condition.condvar.enter(&forever()).unwrap(),
            ];
            let [hasty, patient] = tickets;
            let notifier = spawn(&condition, |condition| assert_eq!(condition.condvar.notify(1), 1));
            let woken = matches!(condition.condvar.sleep(hasty, &how()), Ok(true));
            if woken {
                // The one notification is used up.
                assert_eq!(condition.condvar.notify(1), 1);
            }
            assert!(condition.condvar.sleep(patient, &forever()).unwrap());
            notifier.join().unwrap();
            assert_eq!(condition.condvar.waiters(), 0);
        });
    }
}

#[test]
fn a_ticket_given_up_passes_its_notification_on() {
    bounded(|| {
        let condition = condition();
        let [given_up, kept] = [(); 2].map(|()| condition.condvar.enter(&forever()).unwrap());
        let notifier = spawn(&condition, |condition| assert_eq!(condition.condvar.notify(1), 1));
        condition.condvar.leave(given_up);
        // Its node is free now: whoever gets it next must not be woken for it.
        let next = condition.condvar.enter(&briefly()).unwrap();
        assert!(!condition.condvar.sleep(next, &briefly()).unwrap());
        assert!(condition.condvar.sleep(kept, &forever()).unwrap());
        notifier.join().unwrap();
        assert_eq!(condition.condvar.waiters(), 0);
    });
}
