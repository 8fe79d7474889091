use super::{Cell, bounded_by, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::{NotOwner, RMutex};
use phalanx::wait::How;

struct Counter {
    mutex: RMutex,
    cell: Cell,
}

fn counter() -> Arc<Counter> {
    Arc::new(Counter {
        mutex: RMutex::new(),
        cell: Cell::new(),
    })
}

fn add_twice(counter: &Counter, how: &How<'_>) -> bool {
    let taken = matches!(counter.mutex.lock(how), Ok(true));
    if taken {
        assert!(counter.mutex.try_lock());
        counter.cell.add();
        counter.mutex.unlock().unwrap();
        assert!(counter.mutex.is_mine());
        counter.cell.add();
        counter.mutex.unlock().unwrap();
    }
    taken
}

#[test]
fn it_is_free_after_the_last_unlock_only() {
    bounded_by(5, || {
        let counter = counter();
        let other = spawn(&counter, |counter| add_twice(counter, &forever()));
        add_twice(&counter, &forever());
        other.join().unwrap();
        assert!(counter.mutex.try_lock());
        assert_eq!((counter.cell.get(), counter.mutex.count()), (4, 1));
    });
}

#[test]
fn only_the_owner_gives_it_back() {
    every(|| {
        let counter = counter();
        let other = spawn(&counter, |counter| counter.mutex.unlock());
        assert!(counter.mutex.try_lock());
        assert_eq!(other.join().unwrap(), Err(NotOwner));
        assert_eq!(counter.mutex.unlock(), Ok(()));
        assert_eq!(counter.mutex.unlock(), Err(NotOwner));
    });
}

#[test]
fn given_back_entirely_and_taken_again() {
    bounded_by(5, || {
        let counter = counter();
        assert!(counter.mutex.lock(&forever()).unwrap() && counter.mutex.try_lock());
        let other = spawn(&counter, |counter| add_twice(counter, &forever()));
        let times = counter.mutex.unlock_all().unwrap();
        assert!(counter.mutex.lock_many(times, &forever()).unwrap());
        counter.mutex.unlock().unwrap();
        counter.mutex.unlock().unwrap();
        assert!(!counter.mutex.is_mine());
        other.join().unwrap();
        assert_eq!(counter.mutex.owner(), 0);
    });
}

#[test]
fn whoever_leaves_has_counted_nothing() {
    for how in [briefly, interrupted] {
        bounded_by(5, move || {
            let counter = counter();
            let other = spawn(&counter, move |counter| add_twice(counter, &how()));
            add_twice(&counter, &forever());
            let taken = other.join().unwrap();
            assert!(counter.mutex.try_lock());
            assert_eq!(counter.cell.get(), 2 + 2 * usize::from(taken));
            assert_eq!(counter.mutex.count(), 1);
        });
    }
}
