//! What becomes of the waits of a process that has died.

use super::lot::{ABANDONED, Lot, NODES, NOTIFIED, ROLE, SPARE, bucket_of, lot};
use super::sleepers::VERDICTS;
use super::{PEER_DIED, take_at};
use crate::prim::{Ordering, fence};
use crate::shm::point::{Point, reach};
use crate::shm::{self, tree};
use crate::sys;
use crate::wait::Role;

/// From now on this process buries others: whoever enters the tree says so once.
pub fn attend() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn before() {
        SPARE.hold();
        VERDICTS.hold();
    }
    extern "C" fn parent() {
        VERDICTS.let_go();
        SPARE.let_go();
    }
    extern "C" fn child() {
        parent();
        SPARE.with(|spare| spare.nodes.clear());
        VERDICTS.with(Vec::clear);
    }
    ONCE.call_once(|| {
        tree::set_mourner(mourn);
        sys::at_fork(before, parent, child);
    });
}

/// Process `number` is dead: takes its waits out of their queues and passes on what had come for them.
fn mourn(number: u32) {
    let Some(arena) = shm::arena() else { return };
    let lot = lot(arena);
    // SYNC(abandoned): pairs with the fence below. Either we find what was abandoned, or who abandons it finds us dead.
    fence(Ordering::SeqCst);
    let high = lot.high.load(Ordering::Acquire).min(NODES as u32);
    for at in 0..high {
        let node = lot.node(at);
        let taker = || tree::number_of(node.queued.load(Ordering::Acquire));
        if taker() == number {
            lot.inherit(at, 0);
        }
        let is_its = || node.claimed.load(Ordering::Acquire) == number;
        if !is_its() {
            continue;
        }
        let key = node.key.load(Ordering::Relaxed);
        let waited = lot.with(bucket_of(key), |bucket| {
            let waited = is_its() && node.queued.load(Ordering::Acquire) == bucket_of(key) as u32 + 1;
            if waited {
                let word = node.word.load(Ordering::Relaxed);
                if word != 0 {
                    // First: as long as the node is queued the word is meant for it, and whoever buries after us does it again.
                    // SAFETY: the dead still holds the object: its seat is given up after this.
                    unsafe { arena.word(word) }.store(1, Ordering::Release);
                }
                reach(Point::Mourn);
                node.queued.store(0, Ordering::Release);
                lot.unlink(bucket, at);
            }
            waited
        });
        reach(Point::Mourn);
        if waited && node.flags.load(Ordering::Relaxed) & ROLE == Role::Meet as u32 {
            take_at(lot, key, usize::MAX, |_, _| {}).wake(PEER_DIED);
        }
        if waited || taker() == 0 {
            if is_its() {
                Lot::free(node);
            }
            continue;
        }
        // Somebody has taken it out and has told it, or is about to: then that one learns that nobody listens.
        let told = node
            .token
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |token| {
                (token & NOTIFIED == 0).then_some(ABANDONED)
            });
        // SYNC(abandoned): pairs with the fence above.
        fence(Ordering::SeqCst);
        match told {
            Err(token) => lot.pass_on(at, token & !NOTIFIED),
            Ok(_) if tree::is_known_dead(taker()) => lot.inherit(at, 0),
            Ok(_) => {}
        }
    }
}
