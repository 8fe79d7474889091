use super::{bounded, bounded_by, briefly, every, forever, interrupted, spawn};
use loom::sync::Arc;
use phalanx::queue::{GetError, Order, PutError, Queue};

fn queue(bound: usize) -> Arc<Queue<u32>> {
    Arc::new(Queue::new(Order::Fifo, bound))
}

fn get(queue: &Queue<u32>) -> Result<u32, GetError> {
    queue.get(&forever()).unwrap()
}

fn put(queue: &Queue<u32>, item: u32) {
    assert_eq!(queue.put(item, &forever()).unwrap(), Ok(()));
}

#[test]
fn two_items_come_in_order() {
    bounded_by(5, || {
        let queue = queue(0);
        let getter = spawn(&queue, |queue| [get(queue), get(queue)]);
        put(&queue, 1);
        put(&queue, 2);
        assert_eq!(getter.join().unwrap(), [Ok(1), Ok(2)]);
    });
}

#[test]
fn two_getters_get_one_each() {
    bounded(|| {
        let queue = queue(0);
        let getters = [(); 2].map(|()| spawn(&queue, get));
        put(&queue, 1);
        put(&queue, 2);
        let got: u32 = getters
            .map(|getter| getter.join().unwrap().unwrap())
            .into_iter()
            .sum();
        assert_eq!((got, queue.len()), (3, 0));
    });
}

#[test]
fn room_for_one() {
    bounded(|| {
        let queue = queue(1);
        let putter = spawn(&queue, |queue| {
            put(queue, 1);
            put(queue, 2);
            assert!(matches!(queue.try_put(3), Ok(()) | Err(PutError::Full(3))));
        });
        assert_eq!([get(&queue), get(&queue)], [Ok(1), Ok(2)]);
        putter.join().unwrap();
        assert!(queue.len() <= 1);
    });
}

#[test]
fn two_putters_share_the_room() {
    bounded(|| {
        let queue = queue(1);
        let putters = [1, 2].map(|item| spawn(&queue, move |queue| put(queue, item)));
        let got = get(&queue).unwrap() + get(&queue).unwrap();
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        assert_eq!((got, queue.len()), (3, 0));
    });
}

#[test]
fn an_item_is_not_lost_in_a_wait_that_ends_early() {
    for how in [briefly, interrupted] {
        bounded(move || {
            let queue = queue(0);
            let hasty = spawn(&queue, move |queue| match queue.get(&how()) {
                Ok(Ok(item)) => put(queue, item),
                Ok(Err(error)) => assert_eq!(error, GetError::Empty),
                Err(_) => {}
            });
            let patient = spawn(&queue, get);
            put(&queue, 7);
            hasty.join().unwrap();
            assert_eq!(patient.join().unwrap(), Ok(7));
        });
    }
}

#[test]
fn close_wakes_everybody() {
    bounded(|| {
        let queue = queue(1);
        let getters = [(); 2].map(|()| spawn(&queue, get));
        queue.close(false);
        assert_eq!(
            getters.map(|getter| getter.join().unwrap()),
            [Err(GetError::Closed); 2]
        );
        assert_eq!(queue.try_put(1), Err(PutError::Closed(1)));
    });
}

#[test]
fn close_against_put() {
    bounded(|| {
        let queue = queue(1);
        assert_eq!(queue.try_put(1), Ok(()));
        let putter = spawn(&queue, |queue| queue.put(2, &forever()).unwrap());
        assert_eq!(queue.close(true).len(), 1);
        assert_eq!(putter.join().unwrap(), Err(PutError::Closed(2)));
        assert_eq!((queue.unfinished(), get(&queue)), (0, Err(GetError::Closed)));
    });
}

#[test]
fn join_waits_for_the_last_task() {
    every(|| {
        let queue = queue(0);
        put(&queue, 1);
        let worker = spawn(&queue, |queue| {
            get(queue).unwrap();
            queue.task_done().unwrap();
        });
        assert!(queue.join(&forever()).unwrap());
        assert_eq!(queue.unfinished(), 0);
        worker.join().unwrap();
        assert!(queue.task_done().is_err());
    });
}

#[test]
fn join_after_two_workers() {
    bounded(|| {
        let queue = queue(0);
        put(&queue, 1);
        put(&queue, 2);
        let workers = [(); 2].map(|()| spawn(&queue, |queue| queue.task_done().unwrap()));
        assert!(queue.join(&forever()).unwrap());
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(queue.unfinished(), 0);
    });
}

#[test]
fn a_wider_bound_is_noticed() {
    every(|| {
        let queue = queue(1);
        assert_eq!(queue.try_put(1), Ok(()));
        let putter = spawn(&queue, |queue| put(queue, 2));
        queue.set_bound(2);
        putter.join().unwrap();
        assert_eq!(queue.len(), 2);
    });
}

#[test]
fn moved_out_it_says_so_to_all() {
    bounded(|| {
        let queue = queue(0);
        let putter = spawn(&queue, |queue| queue.try_put(1));
        let getter = spawn(&queue, get);
        let (items, unfinished, closed) = queue.move_out().unwrap();
        let put = putter.join().unwrap();
        let got = getter.join().unwrap();
        assert!(!closed && unfinished == usize::from(put.is_ok()));
        match got {
            // Got before it was moved.
            Ok(item) => assert!(put.is_ok() && item == 1 && items.is_empty()),
            Err(error) => {
                assert_eq!(error, GetError::Moved);
                assert_eq!(items.len(), unfinished, "whatever was put has moved");
            }
        }
        assert!(queue.move_out().is_none());
    });
}
