use super::{Cell, bounded, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::Event;

#[test]
fn what_was_done_before_is_seen_after() {
    every(|| {
        let shared = Arc::new((Event::new(), Cell::new()));
        let waiter = spawn(&shared, |(event, cell)| {
            assert!(event.wait(&forever()).unwrap());
            cell.get()
        });
        shared.1.add();
        shared.0.set();
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

#[test]
fn everybody_is_woken_even_if_it_is_cleared_at_once() {
    bounded(|| {
        let event = Arc::new(Event::new());
        let waiters = [(); 2].map(|()| spawn(&event, |event| event.wait(&forever()).unwrap()));
        event.set();
        event.clear();
        // Whoever came too late is woken by this one.
        event.set();
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    });
}

#[test]
fn two_set_it_and_nobody_sleeps() {
    bounded(|| {
        let event = Arc::new(Event::new());
        let other = spawn(&event, Event::set);
        let waiter = spawn(&event, |event| event.wait(&forever()).unwrap());
        event.set();
        assert!(waiter.join().unwrap());
        other.join().unwrap();
        assert!(event.is_set());
    });
}

#[test]
fn an_old_event_does_not_wake_who_has_cleared_it() {
    every(|| {
        let event = Arc::new(Event::new());
        // Leaves the mark of a waiter behind.
        let _ = event.wait(&briefly());
        let setter = spawn(&event, Event::set);
        while !event.is_set() {
            loom::thread::yield_now();
        }
        event.clear();
        assert!(!event.wait(&briefly()).unwrap(), "it was set once and cleared");
        setter.join().unwrap();
    });
}

#[test]
fn who_leaves_early_leaves_the_others_alone() {
    for how in [briefly, interrupted] {
        bounded(move || {
            let event = Arc::new(Event::new());
            let hasty = spawn(&event, move |event| drop(event.wait(&how())));
            let patient = spawn(&event, |event| event.wait(&forever()).unwrap());
            event.set();
            hasty.join().unwrap();
            assert!(patient.join().unwrap());
        });
    }
}
