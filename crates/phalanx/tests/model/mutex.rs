use super::{Cell, bounded, bounded_by, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::{Hold, Mutex};
use phalanx::wait::How;

struct Counter {
    mutex: Mutex,
    cell: Cell,
}

fn counter() -> Arc<Counter> {
    Arc::new(Counter {
        mutex: Mutex::new(),
        cell: Cell::new(),
    })
}

/// `false`: the deadline or a signal came first.
fn add(counter: &Counter, how: &How<'_>) -> bool {
    let taken = matches!(counter.mutex.lock(Hold::Scoped, how), Ok(true));
    if taken {
        counter.cell.add();
        counter.mutex.unlock().unwrap();
    }
    taken
}

/// Nobody sleeps any more, the lock is free and nothing is left to wake.
fn done(counter: &Counter, times: usize) {
    assert!(counter.mutex.try_lock(Hold::Plain));
    assert_eq!(counter.cell.get(), times);
    counter.mutex.unlock().unwrap();
    assert_eq!(counter.mutex.owner(), 0);
    assert_eq!(phalanx::wait::count(phalanx::wait::key_of(&counter.mutex)), 0);
}

#[test]
fn two_threads_exclude_each_other() {
    every(|| {
        let counter = counter();
        let other = spawn(&counter, |counter| add(counter, &forever()));
        assert!(add(&counter, &forever()));
        assert!(other.join().unwrap());
        done(&counter, 2);
    });
}

#[test]
fn three_threads_exclude_each_other() {
    bounded(|| {
        let counter = counter();
        let others = [(); 2].map(|()| spawn(&counter, |counter| add(counter, &forever())));
        add(&counter, &forever());
        assert!(
            others
                .map(|other| other.join().unwrap())
                .iter()
                .all(|&taken| taken)
        );
        done(&counter, 3);
    });
}

#[test]
fn the_second_round_wakes_too() {
    bounded_by(5, || {
        let counter = counter();
        let other = spawn(&counter, |counter| {
            add(counter, &forever());
            add(counter, &forever());
        });
        add(&counter, &forever());
        other.join().unwrap();
        done(&counter, 3);
    });
}

#[test]
fn a_timeout_loses_no_wakeup() {
    bounded(|| {
        let counter = counter();
        let brief = spawn(&counter, |counter| add(counter, &briefly()));
        let patient = spawn(&counter, |counter| add(counter, &forever()));
        add(&counter, &forever());
        let taken = 2 + usize::from(brief.join().unwrap());
        assert!(patient.join().unwrap());
        done(&counter, taken);
    });
}

#[test]
fn an_interrupt_passes_its_wakeup_on() {
    bounded(|| {
        let counter = counter();
        let signalled = spawn(&counter, |counter| add(counter, &interrupted()));
        let patient = spawn(&counter, |counter| add(counter, &forever()));
        add(&counter, &forever());
        let taken = 2 + usize::from(signalled.join().unwrap());
        assert!(patient.join().unwrap());
        done(&counter, taken);
    });
}

#[test]
fn another_thread_may_give_it_back() {
    every(|| {
        let counter = counter();
        assert!(counter.mutex.try_lock(Hold::Plain));
        let other = spawn(&counter, |counter| counter.mutex.unlock().unwrap());
        add(&counter, &forever());
        other.join().unwrap();
        done(&counter, 1);
    });
}

#[test]
fn it_is_given_back_once() {
    every(|| {
        let counter = counter();
        assert!(counter.mutex.try_lock(Hold::Plain));
        let other = spawn(&counter, |counter| counter.mutex.unlock().is_ok());
        let mine = counter.mutex.unlock().is_ok();
        assert!(mine != other.join().unwrap());
        done(&counter, 0);
    });
}
