use super::{bounded, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::{Overflow, Semaphore};

fn semaphore(permits: u64) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits).unwrap())
}

#[test]
fn a_permit_goes_round() {
    every(|| {
        let semaphore = semaphore(1);
        let round = |semaphore: &Semaphore| {
            assert!(semaphore.acquire(&forever()).unwrap());
            semaphore.release(1).unwrap();
        };
        let other = spawn(&semaphore, round);
        round(&semaphore);
        other.join().unwrap();
        assert_eq!(semaphore.value(), 1);
    });
}

#[test]
fn two_permits_at_once_wake_two() {
    bounded(|| {
        let semaphore = semaphore(0);
        let others = [(); 2].map(|()| spawn(&semaphore, |semaphore| semaphore.acquire(&forever()).unwrap()));
        semaphore.release(2).unwrap();
        assert!(others.into_iter().all(|other| other.join().unwrap()));
        assert_eq!(semaphore.value(), 0);
    });
}

#[test]
fn two_permits_one_by_one_wake_two() {
    bounded(|| {
        let semaphore = semaphore(0);
        let others = [(); 2].map(|()| spawn(&semaphore, |semaphore| semaphore.acquire(&forever()).unwrap()));
        semaphore.release(1).unwrap();
        semaphore.release(1).unwrap();
        assert!(others.into_iter().all(|other| other.join().unwrap()));
        assert_eq!(semaphore.value(), 0);
    });
}

#[test]
fn a_permit_is_not_lost_in_a_wait_that_ends_early() {
    for how in [briefly, interrupted] {
        bounded(move || {
            let semaphore = semaphore(0);
            let hasty = spawn(&semaphore, move |semaphore| {
                let taken = matches!(semaphore.acquire(&how()), Ok(true));
                if taken {
                    semaphore.release(1).unwrap();
                }
            });
            let patient = spawn(&semaphore, |semaphore| semaphore.acquire(&forever()).unwrap());
            semaphore.release(1).unwrap();
            hasty.join().unwrap();
            assert!(patient.join().unwrap());
            assert_eq!(semaphore.value(), 0);
        });
    }
}

#[test]
fn the_bound_holds() {
    every(|| {
        let semaphore = Arc::new(Semaphore::with_bound(0, 1).unwrap());
        let other = spawn(&semaphore, |semaphore| semaphore.release(1));
        let mine = semaphore.release(1);
        let results = [mine, other.join().unwrap()];
        assert_eq!(
            results.iter().filter(|&&result| result == Err(Overflow)).count(),
            1
        );
        assert_eq!(semaphore.value(), 1);
    });
}
