//! The detector on real threads: what it must find, and what it must leave alone.
//!
//! "Every thread sleeps" is a statement about a whole process, so each test runs in one of its own: the test starts
//! this binary again for itself alone, with [`ALONE`] set, and ends it after 20 s.
//!
//! On the portable layer nothing is known of threads that never came through the door, so "all asleep" is never
//! claimed there; those tests check the claim on Linux only and say so.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a thread the detector knows nothing of"
)]

use phalanx::queue::{Order, Queue};
use phalanx::sync::{Hold, Latch, Mutex};
use phalanx::wait::hook::{self, Cause, Mode, Report};
use phalanx::wait::{self, How, Interrupt, Stopped};
use phalanx::{sys, watch};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ALONE: &str = "PHALANX_TEST_ALONE";
/// Longer than the detector needs for two looks.
const LOOKS: Duration = Duration::from_millis(700);

fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    // With a single test thread the harness itself starts none.
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let mut child = command.env(ALONE, name).stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("`{name}` still runs after 20 s");
            }
        }
    };
    assert!(status.success(), "`{name}` alone: {status}");
}

fn detect() {
    watch::start(|| false);
    wait::register(false);
}

/// Is it known here whether threads outside the door sleep?
fn sees_strangers() -> bool {
    let sees = cfg!(all(target_os = "linux", not(phalanx_sys = "portable")));
    if !sees {
        eprintln!("\"all asleep\" is never claimed on the portable layer: not checked");
    }
    sees
}

fn deadlock<T: std::fmt::Debug>(result: Result<T, Stopped>) -> Box<Report> {
    match result {
        Err(Stopped::Deadlock(report)) => report,
        other => panic!("{other:?} instead of a deadlock"),
    }
}

fn forever() -> How<'static> {
    How::forever()
}

fn lock(mutex: &Mutex, hold: Hold) {
    assert!(mutex.lock(hold, &forever()).unwrap());
}

/// Waits until `n` threads are in the queue of `key`.
fn until_asleep(key: usize, n: usize) {
    while wait::count(key) < n {
        thread::yield_now();
    }
}

/// Two threads that take two locks in opposite order, each after the other has its first; what each second `lock` gave.
fn cross(hold: Hold, how: impl Fn() -> How<'static> + Sync) -> [Result<bool, Stopped>; 2] {
    let locks = [Mutex::new(), Mutex::new()];
    let taken = [Latch::new(), Latch::new()];
    let run = |mine: usize, other: usize| {
        lock(&locks[mine], hold);
        taken[mine].open();
        assert!(taken[other].wait(&forever()).unwrap());
        let second = locks[other].lock(hold, &how());
        if matches!(second, Ok(true)) {
            locks[other].unlock().unwrap();
        }
        locks[mine].unlock().unwrap();
        second
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| run(1, 0));
        [run(0, 1), other.join().unwrap()]
    })
}

#[test]
fn two_locks_crossed() {
    alone("two_locks_crossed", || {
        detect();
        let results = cross(Hold::Scoped, forever);
        let mut reports = Vec::new();
        for result in results {
            match result {
                Ok(taken) => assert!(taken, "the other one goes on"),
                stopped => reports.push(deadlock(stopped)),
            }
        }
        assert_eq!(reports.len(), 1, "one is told");
        let Report {
            cause,
            threads,
            victim,
            tree: _,
        } = *reports.remove(0);
        assert_eq!(cause, Cause::Cycle);
        assert_eq!(threads.len(), 2);
        assert!(threads.iter().any(|sleeper| sleeper.thread == victim));
        for (at, sleeper) in threads.iter().enumerate() {
            let owner = sleeper.owner.unwrap();
            assert!(
                owner.scoped && owner.thread == threads[1 - at].thread,
                "each waits for the other"
            );
        }
    });
}

#[test]
fn a_lock_taken_again() {
    alone("a_lock_taken_again", || {
        detect();
        let mutex = Mutex::new();
        lock(&mutex, Hold::Scoped);
        let report = deadlock(mutex.lock(Hold::Scoped, &forever()));
        assert_eq!(
            (report.cause, report.threads.len(), report.victim),
            (Cause::Cycle, 1, wait::current())
        );
        mutex.unlock().unwrap();
        assert!(mutex.try_lock(Hold::Scoped), "as if nothing had been");
    });
}

#[test]
fn two_threads_join_each_other() {
    alone("two_threads_join_each_other", || {
        detect();
        let ends = [Latch::new(), Latch::new()];
        let promised = [Latch::new(), Latch::new()];
        let run = |mine: usize, other: usize| {
            ends[mine].promise();
            promised[mine].open();
            assert!(promised[other].wait(&forever()).unwrap());
            let joined = ends[other].wait(&forever());
            ends[mine].open();
            joined
        };
        let results = thread::scope(|scope| {
            let other = scope.spawn(|| run(1, 0));
            [run(0, 1), other.join().unwrap()]
        });
        let told: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(
            deadlock::<()>(Err(told.into_iter().next().unwrap())).cause,
            Cause::Cycle
        );
    });
}

#[test]
fn everybody_waits_for_an_item() {
    alone("everybody_waits_for_an_item", || {
        detect();
        if !sees_strangers() {
            return;
        }
        let queue = Queue::<u32>::new(Order::Fifo, 0);
        thread::scope(|scope| {
            let other = scope.spawn(|| queue.get(&forever()));
            let mine = queue.get(&forever());
            if mine.is_err() {
                queue.try_put(1).unwrap();
            }
            let theirs = other.join().unwrap();
            let (told, got) = if mine.is_err() {
                (mine, theirs)
            } else {
                (theirs, mine)
            };
            let report = deadlock(told);
            assert_eq!((report.cause, report.threads.len()), (Cause::Asleep, 2));
            // The other one sleeps on until it is alone, and is told then, or gets what the first one put.
            assert!(matches!(got, Ok(Ok(1)) | Err(Stopped::Deadlock(_))), "{got:?}");
        });
    });
}

#[test]
fn a_stranger_that_sleeps_for_ever_counts_as_asleep() {
    alone("a_stranger_that_sleeps_for_ever_counts_as_asleep", || {
        detect();
        if !sees_strangers() {
            return;
        }
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
        let report = deadlock(Queue::<u32>::new(Order::Fifo, 0).get(&forever()));
        assert_eq!(report.cause, Cause::Asleep);
    });
}

#[test]
fn an_owner_that_has_ended() {
    alone("an_owner_that_has_ended", || {
        detect();
        let mutex = Mutex::new();
        thread::scope(|scope| scope.spawn(|| lock(&mutex, Hold::Scoped)).join().unwrap());
        let report = deadlock(mutex.lock(Hold::Scoped, &forever()));
        assert_eq!((report.cause, report.threads.len()), (Cause::Orphan, 1));
        assert!(wait::facts(report.threads[0].owner.unwrap().thread).is_none());
    });
}

#[cfg(unix)]
#[test]
fn an_owner_lost_in_a_fork() {
    alone("an_owner_lost_in_a_fork", || {
        detect();
        let mutex = Mutex::new();
        let (taken, end) = (Latch::new(), Latch::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                lock(&mutex, Hold::Scoped);
                taken.open();
                end.wait(&forever()).unwrap();
                mutex.unlock().unwrap();
            });
            assert!(taken.wait(&forever()).unwrap());
            // SAFETY: the child uses nothing but the door, which is whole after a fork, and ends without destructors.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let found = match mutex.lock(Hold::Scoped, &forever()) {
                    Err(Stopped::Deadlock(report)) => {
                        let owner = report.threads[0].owner.unwrap();
                        report.cause == Cause::Orphan && wait::lost_in_fork(owner.thread)
                    }
                    _ => false,
                };
                // SAFETY: as above.
                unsafe { libc::_exit(i32::from(!found)) };
            }
            let mut status = -1;
            // SAFETY: `status` is a place for the answer.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert!(
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
                "{status:#x}"
            );
            end.open();
            // The parent has noticed nothing.
            assert!(mutex.lock(Hold::Scoped, &forever()).unwrap());
        });
    });
}

#[test]
fn the_watch_is_handed_over() {
    alone("the_watch_is_handed_over", || {
        detect();
        let queue = Queue::<u32>::new(Order::Fifo, 0);
        thread::scope(|scope| {
            // The first to sleep looks after deadlocks.
            let first = scope.spawn(|| queue.get(&forever()).unwrap());
            while !wait::live_threads().iter().any(|facts| facts.asleep.is_some()) {
                thread::yield_now();
            }
            thread::sleep(LOOKS);
            let crossed = scope.spawn(|| cross(Hold::Scoped, forever));
            thread::sleep(Duration::from_millis(150));
            queue.try_put(1).unwrap();
            assert_eq!(first.join().unwrap(), Ok(1));
            assert_eq!(
                crossed
                    .join()
                    .unwrap()
                    .iter()
                    .filter(|result| result.is_err())
                    .count(),
                1
            );
        });
    });
}

#[test]
fn a_wait_with_a_time_limit_is_no_deadlock() {
    alone("a_wait_with_a_time_limit_is_no_deadlock", || {
        detect();
        let results = cross(Hold::Scoped, || How::at_most(LOOKS));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        // Nor is one that waits for a thread in a wait with a time limit.
        let queue = Queue::<u32>::new(Order::Fifo, 0);
        thread::scope(|scope| {
            let getter = scope.spawn(|| queue.get(&forever()));
            assert!(!Latch::new().wait(&How::at_most(LOOKS)).unwrap());
            queue.try_put(1).unwrap();
            assert_eq!(getter.join().unwrap().unwrap(), Ok(1));
        });
    });
}

#[test]
fn a_gate_is_not_owned() {
    alone("a_gate_is_not_owned", || {
        detect();
        // Crossed, but any thread may open a gate, and a third one does.
        let gates = [Mutex::new(), Mutex::new()];
        let shut = [Latch::new(), Latch::new()];
        thread::scope(|scope| {
            let waiters = [0, 1].map(|mine: usize| {
                let (gates, shut) = (&gates, &shut);
                scope.spawn(move || {
                    lock(&gates[mine], Hold::Plain);
                    shut[mine].open();
                    shut[1 - mine].wait(&forever()).unwrap();
                    gates[1 - mine].lock(Hold::Plain, &forever())
                })
            });
            gates.iter().for_each(|gate| until_asleep(wait::key_of(gate), 1));
            thread::sleep(LOOKS);
            gates.iter().for_each(|gate| gate.unlock().unwrap());
            for waiter in waiters {
                assert!(waiter.join().unwrap().unwrap());
            }
        });
    });
}

#[test]
fn a_stranger_at_work_may_wake_somebody() {
    alone("a_stranger_at_work_may_wake_somebody", || {
        detect();
        let queue = Queue::new(Order::Fifo, 0);
        thread::scope(|scope| {
            // It has never come through the door, and sleeps in the kernel on no lock of ours.
            scope.spawn(|| {
                thread::sleep(LOOKS);
                queue.try_put(1).unwrap();
            });
            assert_eq!(queue.get(&forever()).unwrap(), Ok(1));
        });
    });
}

/// Runs `handler` in the sleeping thread, once; its answer ends the wait or does not.
struct Handler<F: Fn() -> bool> {
    ran: AtomicBool,
    handler: F,
}

impl<F: Fn() -> bool> Interrupt for Handler<F> {
    fn check(&self) -> bool {
        !self.ran.swap(true, Ordering::Relaxed) && (self.handler)()
    }

    fn ticks(&self) -> bool {
        true
    }
}

#[test]
fn a_thread_in_a_signal_handler_is_awake() {
    alone("a_thread_in_a_signal_handler_is_awake", || {
        detect();
        let (mine, theirs, started) = (Latch::new(), Latch::new(), AtomicBool::new(false));
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                // Until the handler runs this thread is the one awake.
                while !started.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                let waited = theirs.wait(&forever());
                mine.open();
                waited
            });
            // The outer wait has no time limit, and the handler takes longer than the detector.
            let slow = || {
                started.store(true, Ordering::Relaxed);
                let end = Instant::now() + 2 * LOOKS;
                while Instant::now() < end {
                    thread::yield_now();
                }
                theirs.open();
                false
            };
            let interrupt = Handler {
                ran: AtomicBool::new(false),
                handler: slow,
            };
            assert!(
                mine.wait(&How {
                    interrupt: &interrupt,
                    ..forever()
                })
                .unwrap()
            );
            assert!(other.join().unwrap().unwrap());
        });
    });
}

#[test]
fn a_wait_in_a_signal_handler_is_the_wait_that_counts() {
    alone("a_wait_in_a_signal_handler_is_the_wait_that_counts", || {
        detect();
        let mutex = Mutex::new();
        lock(&mutex, Hold::Scoped);
        // The outer wait could be ended by anybody; the inner one needs a lock that this very thread holds.
        let told = AtomicBool::new(false);
        let again = || {
            assert_eq!(deadlock(mutex.lock(Hold::Scoped, &forever())).cause, Cause::Cycle);
            told.store(true, Ordering::Relaxed);
            true
        };
        let interrupt = Handler {
            ran: AtomicBool::new(false),
            handler: again,
        };
        let outer = Latch::new().wait(&How {
            interrupt: &interrupt,
            ..forever()
        });
        assert!(
            matches!(outer, Err(Stopped::Interrupted { notified: false })),
            "{outer:?}"
        );
        assert!(told.into_inner());
    });
}

#[test]
fn an_excuse_is_believed() {
    alone("an_excuse_is_believed", || {
        watch::start(|| true);
        let ticks = AtomicU32::new(0);
        struct Later<'a>(&'a AtomicU32);
        impl Interrupt for Later<'_> {
            fn check(&self) -> bool {
                self.0.fetch_add(1, Ordering::Relaxed) == 8
            }
            fn ticks(&self) -> bool {
                true
            }
        }
        let waited = Latch::new().wait(&How {
            interrupt: &Later(&ticks),
            ..forever()
        });
        assert!(matches!(waited, Err(Stopped::Interrupted { .. })), "{waited:?}");
    });
}

#[test]
fn nothing_is_looked_for_when_it_is_off() {
    alone("nothing_is_looked_for_when_it_is_off", || {
        detect();
        hook::set_mode(Mode::Off);
        let interrupt = Handler {
            ran: AtomicBool::new(false),
            handler: || false,
        };
        let mutex = Mutex::new();
        lock(&mutex, Hold::Scoped);
        thread::scope(|scope| {
            let again = scope.spawn(|| {
                lock(&Mutex::new(), Hold::Scoped);
                mutex.lock(
                    Hold::Scoped,
                    &How {
                        interrupt: &interrupt,
                        ..forever()
                    },
                )
            });
            thread::sleep(LOOKS);
            mutex.unlock().unwrap();
            assert!(again.join().unwrap().unwrap());
        });
    });
}

/// Takes a report as it comes, and ends the wait then.
struct Listener {
    reports: AtomicU32,
    end: AtomicBool,
}

impl Interrupt for Listener {
    fn check(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    fn ticks(&self) -> bool {
        true
    }

    fn report(&self, report: &Report) {
        assert_eq!(report.cause, Cause::Cycle);
        self.reports.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn reported_only_it_goes_on() {
    alone("reported_only_it_goes_on", || {
        detect();
        hook::set_mode(Mode::Report);
        static LISTENER: Listener = Listener {
            reports: AtomicU32::new(0),
            end: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            let crossed = scope.spawn(|| {
                cross(Hold::Scoped, || How {
                    interrupt: &LISTENER,
                    ..forever()
                })
            });
            while LISTENER.reports.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            thread::sleep(LOOKS);
            assert_eq!(
                LISTENER.reports.load(Ordering::Relaxed),
                1,
                "one sleep is reported once"
            );
            assert!(!crossed.is_finished(), "it is reported, not ended");
            LISTENER.end.store(true, Ordering::Relaxed);
            let results = crossed.join().unwrap();
            assert!(
                results
                    .iter()
                    .any(|result| matches!(result, Err(Stopped::Interrupted { .. }))),
                "{results:?}"
            );
        });
    });
}

#[test]
fn the_layer_says_what_it_knows_of_strangers() {
    alone("the_layer_says_what_it_knows_of_strangers", || {
        let me = [sys::os_thread_id()];
        if cfg!(any(not(target_os = "linux"), phalanx_sys = "portable")) {
            assert_eq!(sys::strangers(&me), sys::Strangers::Unknown);
            return;
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            });
            assert_eq!(sys::strangers(&me), sys::Strangers::Awake);
            stop.store(true, Ordering::Relaxed);
            busy.join().unwrap();
        });
        let end = Instant::now() + Duration::from_secs(5);
        // A joined thread stays in the kernel's list for a moment.
        while sys::strangers(&me) != sys::Strangers::Asleep {
            assert!(Instant::now() < end);
        }
    });
}
