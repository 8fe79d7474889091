//! Real threads on every primitive: nothing is lost, nothing happens twice, nobody sleeps for ever.
//!
//! Nothing sleeps to let another thread come first: what has to happen before is waited for. A test that hangs is
//! ended by its watchdog, which says its name.
#![cfg(not(loom))]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a watchdog must not use what it watches"
)]

use phalanx::queue::{GetError, Order, PutError, Queue};
use phalanx::sync::{Arrival, Barrier, Condvar, Event, Hold, Latch, Mutex, Passage, RMutex, Semaphore};
use phalanx::wait::{self, How};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const THREADS: usize = 8;
const ROUNDS: usize = 2_000;
/// Stops of a few microseconds, so that some waits end by time and some by a wake-up.
const SHORT: Duration = Duration::from_micros(50);

/// Ends the process if `body` takes longer than 20 s.
///
/// It looks now and then rather than wait on a channel: the thread sanitizer does not see into the locks of `std`.
fn watched(name: &'static str, body: impl FnOnce()) {
    let done: &AtomicBool = Box::leak(Box::default());
    thread::spawn(move || {
        for _ in 0..2_000 {
            thread::sleep(Duration::from_millis(10));
            if done.load(Ordering::Relaxed) {
                return;
            }
        }
        eprintln!("test `{name}` hangs: {:#?}", wait::live_threads());
        std::process::abort();
    });
    body();
    done.store(true, Ordering::Relaxed);
}

fn forever() -> How<'static> {
    How::forever()
}

/// Runs `body` in as many threads as there are in a test, and gives back what they return.
fn in_threads<R: Send>(body: impl Fn(usize) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let body = &body;
                scope.spawn(move || body(number))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Waits until `n` threads are in the queue of `key`.
fn until_asleep(key: usize, n: usize) {
    while wait::count(key) < n {
        thread::yield_now();
    }
}

/// A number without protection of its own: the thread sanitizer complains if two are inside.
struct Unguarded(UnsafeCell<usize>);

// SAFETY: each test reaches it only inside the lock that it tests.
unsafe impl Sync for Unguarded {}

impl Unguarded {
    fn add(&self) {
        // SAFETY: as above.
        unsafe { *self.0.get() += 1 };
    }

    fn into_inner(self) -> usize {
        self.0.into_inner()
    }
}

#[test]
fn a_mutex_lets_one_in() {
    watched("a_mutex_lets_one_in", || {
        let (mutex, count) = (Mutex::new(), Unguarded(UnsafeCell::new(0)));
        let timed_out: usize = in_threads(|number| {
            let mut timed_out = 0;
            for round in 0..ROUNDS {
                let how = if (number + round) % 4 == 0 {
                    How::at_most(SHORT)
                } else {
                    forever()
                };
                let hold = if round % 2 == 0 { Hold::Scoped } else { Hold::Plain };
                if mutex.lock(hold, &how).unwrap() {
                    count.add();
                    mutex.unlock().unwrap();
                } else {
                    timed_out += 1;
                }
            }
            timed_out
        })
        .into_iter()
        .sum();
        assert!(!mutex.is_locked());
        assert_eq!(count.into_inner() + timed_out, THREADS * ROUNDS);
        assert!(mutex.unlock().is_err());
    });
}

#[test]
fn an_rmutex_counts_its_owner() {
    watched("an_rmutex_counts_its_owner", || {
        let (mutex, count) = (RMutex::new(), Unguarded(UnsafeCell::new(0)));
        in_threads(|_| {
            for _ in 0..ROUNDS {
                assert!(mutex.lock(&forever()).unwrap());
                assert!(mutex.lock(&forever()).unwrap());
                assert_eq!(mutex.count(), 2);
                count.add();
                let times = mutex.unlock_all().unwrap();
                assert!(mutex.lock_many(times, &forever()).unwrap());
                mutex.unlock().unwrap();
                mutex.unlock().unwrap();
                assert!(mutex.unlock().is_err());
            }
        });
        assert_eq!((count.into_inner(), mutex.owner()), (THREADS * ROUNDS, 0));
    });
}

#[test]
fn a_semaphore_keeps_its_permits() {
    watched("a_semaphore_keeps_its_permits", || {
        let semaphore = Semaphore::with_bound(3, 3).unwrap();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        in_threads(|number| {
            for round in 0..ROUNDS {
                let how = if (number + round) % 4 == 0 {
                    How::at_most(SHORT)
                } else {
                    forever()
                };
                if semaphore.acquire(&how).unwrap() {
                    most.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    semaphore.release(1).unwrap();
                }
            }
        });
        assert_eq!(semaphore.value(), 3);
        assert!(most.into_inner() <= 3);
        assert!(semaphore.release(1).is_err());
    });
}

#[test]
fn many_permits_wake_many() {
    watched("many_permits_wake_many", || {
        let semaphore = Semaphore::new(0).unwrap();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| assert!(semaphore.acquire(&forever()).unwrap()));
            }
            until_asleep(wait::key_of(&semaphore), THREADS);
            semaphore.release(THREADS as u64).unwrap();
        });
        assert_eq!(semaphore.value(), 0);
    });
}

#[test]
fn an_event_wakes_all() {
    watched("an_event_wakes_all", || {
        let event = Event::new();
        for _ in 0..50 {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| assert!(event.wait(&forever()).unwrap()));
                }
                until_asleep(wait::key_of(&event), THREADS);
                event.set();
                // They have seen it all the same.
                event.clear();
            });
        }
        assert!(!event.wait(&How::at_most(SHORT)).unwrap());
        event.set();
        assert!(event.wait(&How::at_most(Duration::ZERO)).unwrap());
    });
}

#[test]
fn two_events_play_ping_pong() {
    watched("two_events_play_ping_pong", || {
        let (ping, pong) = (Event::new(), Event::new());
        let play = |mine: &Event, other: &Event| {
            for _ in 0..ROUNDS {
                assert!(mine.wait(&forever()).unwrap());
                mine.clear();
                other.set();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| play(&ping, &pong));
            scope.spawn(|| play(&pong, &ping));
            ping.set();
        });
        assert!(ping.is_set() && !pong.is_set());
    });
}

#[test]
fn a_condvar_notifies_in_the_order_of_arrival() {
    watched("a_condvar_notifies_in_the_order_of_arrival", || {
        let condvar = Condvar::new();
        let woken = Queue::new(Order::Fifo, 0);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (condvar, woken) = (&condvar, &woken);
                scope.spawn(move || {
                    let ticket = condvar.enter(&forever()).unwrap();
                    assert!(condvar.sleep(ticket, &forever()).unwrap());
                    woken.try_put(number).unwrap();
                });
                until_asleep(wait::key_of(condvar), number + 1);
            }
            for number in 0..THREADS {
                assert_eq!(condvar.notify(1), 1);
                assert_eq!(woken.get(&forever()).unwrap(), Ok(number));
            }
            assert_eq!((condvar.notify(1), condvar.waiters()), (0, 0));
        });
    });
}

#[test]
fn a_condition_hands_over_every_item() {
    watched("a_condition_hands_over_every_item", || {
        let (mutex, condvar, items) = (Mutex::new(), Condvar::new(), AtomicUsize::new(0));
        let lock = || assert!(mutex.lock(Hold::Scoped, &forever()).unwrap());
        let taken = in_threads(|number| {
            let mut taken = 0;
            for round in 0..ROUNDS {
                lock();
                if number % 2 == 0 {
                    items.fetch_add(1, Ordering::Relaxed);
                    condvar.notify(1);
                } else {
                    while items.load(Ordering::Relaxed) == 0 {
                        let how = if round % 3 == 0 {
                            How::at_most(SHORT)
                        } else {
                            forever()
                        };
                        let ticket = condvar.enter(&how).unwrap();
                        mutex.unlock().unwrap();
                        condvar.sleep(ticket, &how).unwrap();
                        lock();
                    }
                    items.fetch_sub(1, Ordering::Relaxed);
                    taken += 1;
                }
                mutex.unlock().unwrap();
            }
            taken
        });
        assert_eq!(taken.iter().sum::<usize>(), THREADS / 2 * ROUNDS);
        assert_eq!((items.into_inner(), condvar.waiters()), (0, 0));
    });
}

/// The index of arrival, `None` for the last one; `Err` if it is broken.
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
            other => return Err(other),
        }
    }
}

#[test]
fn a_barrier_holds_everybody_back() {
    watched("a_barrier_holds_everybody_back", || {
        let (barrier, arrived) = (Barrier::new(THREADS), AtomicUsize::new(0));
        let indexes = in_threads(|_| {
            let mut indexes = Vec::new();
            for round in 1..=ROUNDS / 10 {
                arrived.fetch_add(1, Ordering::Relaxed);
                indexes.push(meet(&barrier, &forever()).unwrap());
                assert!(arrived.load(Ordering::Relaxed) >= round * THREADS);
                // So that nobody adds to the next round before all have looked.
                meet(&barrier, &forever()).unwrap();
            }
            indexes
        });
        for round in 0..ROUNDS / 10 {
            let mut met: Vec<_> = indexes
                .iter()
                .map(|indexes| indexes[round].unwrap_or(THREADS - 1))
                .collect();
            met.sort_unstable();
            assert_eq!(
                met,
                (0..THREADS).collect::<Vec<_>>(),
                "each place was taken once in round {round}"
            );
        }
    });
}

#[test]
fn a_barrier_breaks_for_all_or_none() {
    watched("a_barrier_breaks_for_all_or_none", || {
        let gate = Barrier::new(THREADS);
        for _ in 0..200 {
            let barrier = Barrier::new(THREADS);
            let passed = in_threads(|number| {
                meet(&gate, &forever()).unwrap();
                let how = if number == 0 {
                    How::at_most(SHORT)
                } else {
                    forever()
                };
                meet(&barrier, &how).is_ok()
            });
            assert!(passed.iter().all(|&each| each == passed[0]), "{passed:?}");
            assert_eq!(barrier.is_broken(), !passed[0]);
        }
    });
}

#[test]
fn a_latch_opens_once_for_all() {
    watched("a_latch_opens_once_for_all", || {
        let (latch, done) = (Latch::new(), Unguarded(UnsafeCell::new(0)));
        assert!(!latch.wait(&How::at_most(SHORT)).unwrap());
        let seen = in_threads(|number| {
            if number == 0 {
                latch.promise();
                done.add();
                latch.open();
            }
            assert!(latch.wait(&forever()).unwrap());
            // SAFETY: written before the latch was opened, and never again.
            unsafe { *done.0.get() }
        });
        assert_eq!(seen, [1; THREADS]);
    });
}

/// Half of the threads put, half get, some of them with time limits; every item arrives once.
fn exchange(queue: &Queue<usize>) {
    let sums = in_threads(|number| {
        let mut sum = 0;
        for round in 0..ROUNDS {
            let timed = (number + round) % 4 == 0;
            let how = || if timed { How::at_most(SHORT) } else { forever() };
            if number % 2 == 0 {
                let mut item = round + 1;
                while let Err(back) = queue.put(item, &how()).unwrap() {
                    let PutError::Full(back) = back else {
                        panic!("{back:?}")
                    };
                    item = back;
                }
            } else {
                let item = loop {
                    match queue.get(&how()).unwrap() {
                        Ok(item) => break item,
                        Err(error) => assert_eq!(error, GetError::Empty),
                    }
                };
                sum += item;
                queue.task_done().unwrap();
            }
        }
        sum
    });
    assert_eq!(
        sums.iter().sum::<usize>(),
        THREADS / 2 * ROUNDS * (ROUNDS + 1) / 2
    );
    assert!(queue.join(&forever()).unwrap());
    assert_eq!((queue.len(), queue.unfinished()), (0, 0));
    assert!(queue.task_done().is_err());
}

#[test]
fn a_queue_delivers_every_item_once() {
    watched("a_queue_delivers_every_item_once", || {
        for order in [Order::Fifo, Order::Lifo] {
            for bound in [0, 1, 3] {
                exchange(&Queue::new(order, bound));
            }
        }
    });
}

#[test]
fn one_producer_keeps_its_order() {
    watched("one_producer_keeps_its_order", || {
        let queue = Queue::new(Order::Fifo, 2);
        thread::scope(|scope| {
            scope.spawn(|| (0..ROUNDS).for_each(|item| queue.put(item, &forever()).unwrap().unwrap()));
            for item in 0..ROUNDS {
                assert_eq!(queue.get(&forever()).unwrap(), Ok(item));
            }
        });
    });
}

#[test]
fn join_returns_when_all_is_done() {
    watched("join_returns_when_all_is_done", || {
        let queue = Queue::new(Order::Fifo, 0);
        (0..ROUNDS).for_each(|item| queue.try_put(item).unwrap());
        let joined = AtomicUsize::new(0);
        in_threads(|number| {
            if number == 0 {
                assert!(queue.join(&forever()).unwrap());
                assert_eq!(queue.unfinished(), 0);
                joined.fetch_add(1, Ordering::Relaxed);
            } else {
                while queue.try_get().is_ok() {
                    assert_eq!(joined.load(Ordering::Relaxed), 0);
                    queue.task_done().unwrap();
                }
            }
        });
        assert_eq!(joined.into_inner(), 1);
    });
}

#[test]
fn a_closed_queue_sends_everybody_home() {
    watched("a_closed_queue_sends_everybody_home", || {
        let queue = Queue::<usize>::new(Order::Fifo, 0);
        thread::scope(|scope| {
            let getters: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| queue.get(&forever()).unwrap()))
                .collect();
            // Asleep or on their way: both must come home.
            queue.close(false);
            for getter in getters {
                assert_eq!(getter.join().unwrap(), Err(GetError::Closed));
            }
        });
    });
}
