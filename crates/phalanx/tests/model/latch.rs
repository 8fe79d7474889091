use super::{Cell, bounded, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::Latch;

#[test]
fn everybody_passes_and_sees_what_was_done() {
    bounded(|| {
        let shared = Arc::new((Latch::new(), Cell::new()));
        let waiters = [(); 2].map(|()| {
            spawn(&shared, |(latch, cell)| {
                assert!(latch.wait(&forever()).unwrap());
                cell.get()
            })
        });
        shared.0.promise();
        shared.1.add();
        shared.0.open();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 1);
        }
    });
}

#[test]
fn two_may_open_it() {
    every(|| {
        let latch = Arc::new(Latch::new());
        let other = spawn(&latch, Latch::open);
        latch.open();
        assert!(latch.wait(&forever()).unwrap());
        other.join().unwrap();
    });
}

#[test]
fn who_leaves_early_leaves_the_others_alone() {
    for how in [briefly, interrupted] {
        bounded(move || {
            let latch = Arc::new(Latch::new());
            let hasty = spawn(&latch, move |latch| drop(latch.wait(&how())));
            let patient = spawn(&latch, |latch| latch.wait(&forever()).unwrap());
            latch.open();
            hasty.join().unwrap();
            assert!(patient.join().unwrap());
        });
    }
}
