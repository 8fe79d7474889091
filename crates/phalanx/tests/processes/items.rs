//! A ring, and numbered items on it whose bytes tell whether they are whole.

use phalanx::channel::{Ended, INLINE, Item, Limits, Payload, Record, Ring};
use phalanx::shm::{Handle, heap, point};
use phalanx::wait::How;

/// Items without end, as far as the ring is concerned.
pub const NO_LIMITS: Limits = Limits {
    maxsize: 0,
    ceiling: u64::MAX,
};

/// A new ring.
pub fn make(limits: Limits) -> (Handle, &'static Ring) {
    let handle = Ring::make(limits).unwrap();
    // SAFETY: the arena is never unmapped, and the callers keep the handle as long as the ring is used.
    let ring = unsafe { &*std::ptr::from_ref(Ring::of(&handle)) };
    (handle, ring)
}

/// The form in which a numbered item travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// In the ring, with so many bytes, 8 at least.
    Small(usize),
    /// In a block of so many bytes.
    Large(usize),
}

impl Shape {
    /// Each size now and then.
    pub fn of(number: u64) -> Self {
        match number % 8 {
            0 => Self::Small(5_000 + (number % 3_000) as usize),
            1 => Self::Large(100 + (number % 50_000) as usize),
            2 => Self::Small(8 + (number % 200) as usize),
            _ => Self::Small(8),
        }
    }
}

fn pattern(number: u64, at: usize) -> u8 {
    (number as u8).wrapping_mul(31).wrapping_add(at as u8)
}

/// Item `number`, in full: the number, then a pattern that depends on it.
pub fn fill(number: u64, to: &mut [u8]) {
    to[..8].copy_from_slice(&number.to_le_bytes());
    for (at, byte) in to.iter_mut().enumerate().skip(8) {
        *byte = pattern(number, at);
    }
}

/// The number of an item that arrived, `None` if it is not whole.
pub fn check(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let whole = bytes
        .iter()
        .enumerate()
        .skip(8)
        .all(|(at, &byte)| byte == pattern(number, at));
    whole.then_some(number)
}

/// A block of this process with item `number` in it.
pub fn block(number: u64, len: usize) -> Payload {
    let offset = heap::allocate(heap::HEAD + len).unwrap();
    // SAFETY: the block is ours alone and that long.
    fill(number, unsafe {
        std::slice::from_raw_parts_mut(heap::bytes(offset), len)
    });
    Payload {
        offset,
        len: len as u64,
    }
}

/// Puts item `number` in `shape`.
pub fn put(ring: &Ring, number: u64, shape: Shape, how: &How<'_>) -> Result<(), Ended> {
    match shape {
        Shape::Small(len) => {
            let mut bytes = [0; INLINE];
            fill(number, &mut bytes[..len]);
            ring.put(Record::Small(7, &bytes[..len]), how, None, -1)
        }
        Shape::Large(len) => {
            let payload = block(number, len);
            point::reach(point::Point::PutPayload);
            let put = ring.put(Record::Large(8, payload), how, None, -1);
            if put.is_err() {
                heap::free(payload.offset);
            }
            put
        }
    }
}

/// The number of what was got; a block is given back.
pub fn open(item: Item, bytes: &[u8; INLINE]) -> Option<u64> {
    match item {
        Item::Small(7, len) => check(&bytes[..len]),
        Item::Large(8, payload) => {
            // SAFETY: the block is ours alone and that long.
            let number = check(unsafe {
                std::slice::from_raw_parts(heap::bytes(payload.offset), payload.len as usize)
            });
            heap::free(payload.offset);
            number
        }
        _ => None,
    }
}

/// Gets the oldest item and says its number. Panics at one that is not whole.
pub fn get(ring: &Ring, how: &How<'_>) -> Result<u64, Ended> {
    get_and(ring, how, false)
}

/// As [`get`]; `keep`: it counts as unfinished.
pub fn get_and(ring: &Ring, how: &How<'_>, keep: bool) -> Result<u64, Ended> {
    let mut bytes = [0; INLINE];
    // SAFETY: the buffer has INLINE bytes.
    let item = unsafe { ring.get(bytes.as_mut_ptr(), how, None, keep, -1) }?;
    Ok(open(item, &bytes).expect("a whole item"))
}

/// As [`get`], without waiting.
pub fn try_get(ring: &Ring) -> Option<u64> {
    let mut bytes = [0; INLINE];
    // SAFETY: the buffer has INLINE bytes.
    let item = unsafe { ring.try_get(bytes.as_mut_ptr(), false, -1) }?;
    Some(open(item, &bytes).expect("a whole item"))
}
