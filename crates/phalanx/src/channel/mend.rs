//! What is done for a ring in which somebody has died.

use super::ring::{BY_REFERENCE, FIRST, ON_TO_NEXT, Ring, Side, TABLE, WORDS, count, position, words};
use crate::prim::Ordering;
use crate::shm::point::{Point, reach};
use crate::shm::{Taken, UNIT, heap, tree};
use std::collections::BTreeSet;
use std::ptr;

impl Ring {
    /// Somebody died inside. Comes back with the guard of `side` locked.
    #[cold]
    pub(super) fn mend(&self, side: &Side) {
        self.dirty.store(1, Ordering::Release);
        side.guard.unlock();
        reach(Point::Mend);
        // Always in this order, so that two who mend do not wait for each other.
        let me = tree::me();
        let mut stolen = self.get.guard.lock(me) == Taken::Stolen;
        reach(Point::Mend);
        stolen |= self.put.guard.lock(me) == Taken::Stolen;
        // Another one may have mended meanwhile, and then somebody else died inside.
        if stolen {
            self.dirty.store(1, Ordering::Release);
        }
        if self.dirty.load(Ordering::Acquire) != 0 {
            reach(Point::Mend);
            self.sweep();
            reach(Point::Mend);
            self.dirty.store(0, Ordering::Release);
            reach(Point::Mend);
        }
        if ptr::eq(side, &self.put) {
            self.get.guard.unlock();
        } else {
            self.put.guard.unlock();
        }
    }

    /// With both guards: frees what no record and no table entry leads to.
    fn sweep(&self) {
        let (head, tail) = (
            self.get.mark.load(Ordering::Acquire),
            self.put.mark.load(Ordering::Acquire),
        );
        self.put.other.store(head, Ordering::Relaxed);
        self.get.other.store(tail, Ordering::Relaxed);
        self.hands.settle(count(head));
        let mut reachable = BTreeSet::new();
        let mut bytes = 0;
        let (mut at, mut left) = (position(head), count(tail).wrapping_sub(count(head)));
        while left != 0 {
            // SAFETY: whole records between head and tail.
            unsafe {
                let word = self.at(at).read();
                if word & ON_TO_NEXT != 0 {
                    at = (at / WORDS + 1).wrapping_mul(WORDS).wrapping_add(FIRST);
                    continue;
                }
                if word & BY_REFERENCE != 0 {
                    reachable.insert(self.at(at).add(1).read());
                    bytes += self.at(at).add(2).read();
                }
                at = at.wrapping_add(1 + words(word as u32 as usize));
                if at.is_multiple_of(WORDS) {
                    at = at.wrapping_add(FIRST);
                }
            }
            left -= 1;
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        let (oldest, newest) = (position(head) / WORDS, position(tail) / WORDS);
        for seq in 0..TABLE {
            let number = oldest.wrapping_add(seq) % (u32::MAX / WORDS + 1);
            let slot = &self.chunks[(number % TABLE) as usize];
            // One more than is in use may have been made ready by a putter.
            if seq > newest.wrapping_sub(oldest) % (u32::MAX / WORDS + 1) {
                slot.store(0, Ordering::Release);
            } else if slot.load(Ordering::Acquire) != 0 {
                reachable.insert(u64::from(slot.load(Ordering::Acquire)) * UNIT as u64);
            }
        }
        reachable.insert(u64::from(self.spare.load(Ordering::Acquire)) * UNIT as u64);
        heap::free_parts(self.object(), |offset| reachable.contains(&offset));
    }
}
