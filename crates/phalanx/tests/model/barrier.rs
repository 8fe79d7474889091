use super::{bounded, bounded_by, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::sync::{Arrival, Barrier, Passage};
use phalanx::wait::How;

/// `Ok`: passed, with the index or `None` for the last. `Err`: broken, or gave up.
fn meet(barrier: &Barrier, how: &How<'_>) -> Result<Option<usize>, Passage> {
    loop {
        let (index, ticket) = match barrier.arrive(how) {
            Arrival::Last => {
                return if barrier.pass() {
                    Ok(None)
                } else {
                    Err(Passage::Broken)
                };
            }
            Arrival::Broken => return Err(Passage::Broken),
            Arrival::Waits { index, ticket } => (index, ticket),
            Arrival::Early(ticket) => (usize::MAX, ticket),
        };
        match barrier.sleep(ticket, how) {
            Passage::Passed => return Ok(Some(index)),
            Passage::Retry => {}
            other => {
                if let Passage::Stopped(_, round) = &other {
                    barrier.forsake(*round);
                }
                return Err(other);
            }
        }
    }
}

#[test]
fn two_meet_twice() {
    bounded(|| {
        let barrier = Arc::new(Barrier::new(2));
        let rounds = |barrier: &Barrier| [(); 2].map(|()| meet(barrier, &forever()).unwrap());
        let other = spawn(&barrier, rounds);
        let mine = rounds(&barrier);
        let theirs = other.join().unwrap();
        for (mine, theirs) in mine.into_iter().zip(theirs) {
            // One came first and one came last.
            assert!(mine.xor(theirs) == Some(0), "{mine:?} {theirs:?}");
        }
        assert_eq!(barrier.waiting(), 0);
    });
}

#[test]
fn abort_against_pass() {
    bounded(|| {
        let barrier = Arc::new(Barrier::new(2));
        let party = spawn(&barrier, |barrier| meet(barrier, &forever()).is_ok());
        let aborter = spawn(&barrier, Barrier::abort);
        let mine = meet(&barrier, &forever()).is_ok();
        aborter.join().unwrap();
        assert_eq!(party.join().unwrap(), mine, "all or none");
        assert!(barrier.is_broken());
    });
}

#[test]
fn reset_lets_nobody_sleep_on() {
    every(|| {
        let barrier = Arc::new(Barrier::new(2));
        let party = spawn(&barrier, |barrier| {
            loop {
                match meet(barrier, &forever()) {
                    Ok(_) => return,
                    Err(Passage::Broken) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
        barrier.reset();
        assert!(meet(&barrier, &forever()).is_ok());
        party.join().unwrap();
        assert!(!barrier.is_broken());
    });
}

#[test]
fn who_gives_up_breaks_it_for_all_or_passes_with_all() {
    for how in [briefly, interrupted] {
        every(move || {
            let barrier = Arc::new(Barrier::new(2));
            let hasty = spawn(&barrier, move |barrier| meet(barrier, &how()));
            let patient = meet(&barrier, &forever());
            let hasty = hasty.join().unwrap();
            match (&patient, &hasty) {
                // A signal may come after the round; then it is not broken.
                (Ok(_), Ok(_) | Err(Passage::Stopped(..))) => assert!(!barrier.is_broken()),
                (Err(Passage::Broken), Err(Passage::TimedOut | Passage::Stopped(..))) => {
                    assert!(barrier.is_broken())
                }
                _ => panic!("patient {patient:?}, hasty {hasty:?}"),
            }
        });
    }
}

#[test]
fn who_comes_early_waits_for_the_next_round() {
    bounded_by(2, || {
        let barrier = Arc::new(Barrier::new(2));
        let others = [(); 3].map(|()| spawn(&barrier, |barrier| meet(barrier, &forever()).unwrap()));
        let mut met = vec![meet(&barrier, &forever()).unwrap()];
        met.extend(others.map(|other| other.join().unwrap()));
        assert_eq!(
            met.iter().filter(|index| index.is_none()).count(),
            2,
            "two rounds: {met:?}"
        );
        assert_eq!(barrier.waiting(), 0);
    });
}
