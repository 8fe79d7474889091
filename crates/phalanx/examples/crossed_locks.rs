//! Two threads take two locks in opposite order. One of them is told and lets go, and both come home.

use phalanx::sync::{Hold, Latch, Mutex};
use phalanx::wait::hook::Report;
use phalanx::wait::{How, Stopped};
use phalanx::watch;

static LOCKS: [(&str, Mutex); 2] = [("accounts", Mutex::new()), ("audit", Mutex::new())];

/// The caller's own name of the lock is the `subject` of the wait; the core never looks inside.
fn waiting_for(lock: usize) -> How<'static> {
    How {
        subject: lock,
        ..How::forever()
    }
}

fn describe(report: &Report) {
    println!(
        "{:?}: {} threads wait for each other",
        report.cause,
        report.threads.len()
    );
    for sleeper in &report.threads {
        let owner = sleeper.owner.map_or(0, |owner| owner.thread);
        println!(
            "  thread {} waits for {}, which thread {owner} holds",
            sleeper.thread, LOCKS[sleeper.subject].0
        );
    }
    println!("  told: thread {}", report.victim);
}

fn transfer(first: usize, second: usize, taken: &[Latch; 2]) {
    let take = |lock: usize| LOCKS[lock].1.lock(Hold::Scoped, &waiting_for(lock));
    take(first).expect("the first lock is free");
    taken[first].open();
    taken[second]
        .wait(&How::forever())
        .expect("the other thread comes");
    match take(second) {
        Ok(_) => {
            println!("thread {} has both", phalanx::wait::current());
            LOCKS[second].1.unlock().expect("taken above");
        }
        Err(Stopped::Deadlock(report)) => describe(&report),
        Err(other) => panic!("{other:?}"),
    }
    LOCKS[first].1.unlock().expect("taken above");
}

fn main() {
    watch::start(|| false);
    let taken = [Latch::new(), Latch::new()];
    std::thread::scope(|scope| {
        scope.spawn(|| transfer(0, 1, &taken));
        scope.spawn(|| transfer(1, 0, &taken));
    });
}
