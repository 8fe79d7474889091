//! Objects into a ring and out of it.

use super::block;
use super::object;
use crate::codec::{self, Encoded, INLINE, Room};
use crate::codec_pickle::Plan;
use crate::raw::{self, Obj, Patience};
use phalanx::channel::{self, Item, Payload, Record, Ring};
use phalanx::shm::heap;
use phalanx::shm::point::{Point, reach};
use phalanx::shm::{Name, OBJECT_HEAD, riders};
use phalanx::wait::{self, Enders, How, Reason, Stopped};
use pyo3::ffi;
use pyo3::prelude::*;
use std::mem::{ManuallyDrop, MaybeUninit};

/// From this many bytes on a received payload is mapped, not copied.
const MAPPED: u64 = 256 << 10;

/// From this many bytes on a payload that is copied goes back page by page, so that it is never there twice. Less is kept
/// for the next one, for which it is warm.
const HUGE: u64 = 64 << 20;

/// Above this many bytes the interpreter is let go while they are copied.
pub const LONG: usize = 1 << 20;

/// So often a getter looks before it lets the interpreter go: a microsecond or two.
const EAGER: u32 = 48;

/// A putter that is so many bytes ahead gives its getter a moment, in nanoseconds, before it takes more memory.
const AHEAD: u64 = 16 << 20;
const COURTESY: u64 = 500_000;

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Put, or there is something to get.
    Yes,
    /// The time was over.
    TimedOut,
    /// Nobody is left at the other end.
    Closed,
    /// An exception is set.
    Raised,
}

/// One end of a ring, and how its waits look.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// The object that Python sees.
    pub subject: Obj,
    /// The ring.
    pub ring: &'a Ring,
    /// What kind of wait it is.
    pub reason: &'static Reason,
    /// Who can end it.
    pub enders: Enders,
    /// What the other end holds, if that can go away.
    pub others: Option<Name>,
    /// This end's socket, or -1.
    pub bell: i32,
    /// What is got counts as being in this process's hands.
    pub keep: bool,
}

/// How the object is to be encoded.
pub type Encode = unsafe fn(Obj, &mut Room) -> Encoded;

fn room() -> MaybeUninit<Room> {
    MaybeUninit::uninit()
}

impl End<'_> {
    /// Runs a wait of the ring at the door.
    unsafe fn wait(
        self,
        patience: Patience,
        mut f: impl FnMut(&How<'_>) -> Result<(), channel::Ended>,
    ) -> Done {
        let mut done = Done::Yes;
        // SAFETY: attached, as the callers promise; their frames own nothing.
        unsafe {
            let ended = raw::wait_shared(
                self.subject,
                self.reason,
                patience.deadline(),
                self.enders,
                |how| match f(how) {
                    Ok(()) => Ok(true),
                    Err(channel::Ended::TimedOut) => {
                        done = Done::TimedOut;
                        Ok(false)
                    }
                    Err(channel::Ended::Closed) => {
                        done = Done::Closed;
                        Ok(false)
                    }
                    Err(channel::Ended::NoMemory) => {
                        done = Done::Raised;
                        Ok(false)
                    }
                    Err(channel::Ended::Stopped(stopped)) => Err::<bool, Stopped>(stopped),
                },
            );
            if ended.or_raise().is_none() {
                return Done::Raised;
            }
            if done == Done::Raised {
                object::no_memory().restore(Python::assume_attached());
            }
        }
        done
    }

    /// Puts `object`, encoded by `encode`.
    ///
    /// # Safety
    /// Attached; live objects; the caller's frame owns nothing.
    #[inline]
    pub unsafe fn put(self, object: Obj, patience: Patience, encode: Encode) -> Done {
        let mut room = room();
        // SAFETY: as the caller promises; the room is only read as far as it was written.
        unsafe {
            let room = room.assume_init_mut();
            match encode(object, room) {
                Encoded::Small { kind, len } => {
                    let bytes = std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), len);
                    self.put_record(Record::Small(kind, bytes), patience)
                }
                Encoded::Large(plan) => self.put_large(plan, patience),
                Encoded::Failed => Done::Raised,
            }
        }
    }

    /// Puts the items of a tuple, several small ones under one lock.
    ///
    /// # Safety
    /// As [`End::put`].
    pub unsafe fn put_many(self, items: Obj, patience: Patience) -> Done {
        // Not dropped where Python code ends the thread: a leak, and no unwinding through a destructor.
        let mut batch = ManuallyDrop::new(Batch::default());
        let mut room = room();
        let mut done = Done::Yes;
        // SAFETY: as the caller promises; the room is only read as far as it was written.
        unsafe {
            let room = room.assume_init_mut();
            for at in 0..ffi::PyTuple_GET_SIZE(items) {
                match codec::encode(ffi::PyTuple_GET_ITEM(items, at), room) {
                    Encoded::Small { kind, len } => {
                        batch.add(kind, std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), len));
                        if batch.is_full() {
                            done = self.put_batch(&mut batch, patience);
                        }
                    }
                    Encoded::Large(plan) => {
                        done = self.put_batch(&mut batch, patience);
                        if done == Done::Yes {
                            done = self.put_large(plan, patience);
                        } else {
                            Plan::free(plan);
                        }
                    }
                    Encoded::Failed => {
                        // What came before goes out; the error of this one is kept meanwhile.
                        let error = PyErr::fetch(Python::assume_attached());
                        if self.put_batch(&mut batch, patience) == Done::Yes {
                            error.restore(Python::assume_attached());
                        }
                        done = Done::Raised;
                    }
                }
                if done != Done::Yes {
                    break;
                }
            }
            if done == Done::Yes {
                done = self.put_batch(&mut batch, patience);
            }
        }
        drop(ManuallyDrop::into_inner(batch));
        done
    }

    /// Puts what is in the batch, and empties it.
    unsafe fn put_batch(self, batch: &mut Batch, patience: Patience) -> Done {
        let mut at = 0;
        while at < batch.marks.len() {
            let put = {
                let records: Vec<Record<'_>> = (at..batch.marks.len()).map(|at| batch.record(at)).collect();
                self.ring.try_put_many(&records)
            };
            match put {
                Ok(n) if n > 0 => at += n,
                _ => {
                    // SAFETY: as the callers promise.
                    let done = unsafe { self.put_record(batch.record(at), patience) };
                    if done != Done::Yes {
                        return done;
                    }
                    at += 1;
                }
            }
        }
        batch.clear();
        Done::Yes
    }

    #[inline]
    unsafe fn put_record(self, record: Record<'_>, patience: Patience) -> Done {
        match self.ring.try_put(record, self.bell) {
            Ok(true) => Done::Yes,
            Ok(false) if patience == Patience::Now => Done::TimedOut,
            // SAFETY: as the callers promise.
            _ => unsafe { self.wait(patience, |how| self.ring.put(record, how, self.others, self.bell)) },
        }
    }

    #[cold]
    unsafe fn put_large(self, plan: *mut Plan, patience: Patience) -> Done {
        // SAFETY: the plan is ours and freed once; the block is ours until it is put.
        unsafe {
            if self.ring.bytes() > AHEAD {
                self.let_the_getter_come();
            }
            let Some((kind, payload)) = written(plan) else {
                return Done::Raised;
            };
            let done = self.put_record(Record::Large(kind, payload), patience);
            if done != Done::Yes {
                heap::free(payload.offset);
            }
            done
        }
    }

    /// Waits a little for the getter: memory that it gives back is warm, and touching fresh memory costs more than this.
    unsafe fn let_the_getter_come(self) {
        // SAFETY: attached, as the callers promise; their frames own nothing.
        unsafe {
            let state = raw::PyEval_SaveThread();
            let end = phalanx::sys::now() + COURTESY;
            while self.ring.bytes() > AHEAD && phalanx::sys::now() < end {
                std::thread::yield_now();
            }
            raw::PyEval_RestoreThread(state);
        }
    }

    /// Gets an object, made by `decode`. Null unless `Done::Yes`; with `Done::Raised` an exception is set.
    ///
    /// # Safety
    /// As [`End::put`].
    #[inline]
    pub unsafe fn get(self, patience: Patience, bytes_wanted: bool) -> (Done, Obj) {
        let mut room = room();
        let to = room.as_mut_ptr().cast::<u8>();
        // SAFETY: the room has INLINE bytes.
        let item = unsafe { self.ring.try_get(to, self.keep, self.bell) };
        let item = match item {
            Some(item) => item,
            // SAFETY: as the caller promises.
            None => match unsafe { self.get_slowly(to, patience) } {
                Ok(item) => item,
                Err(done) => return (done, std::ptr::null_mut()),
            },
        };
        // SAFETY: the item was just got into that room.
        let object = unsafe { object_from(item, to, bytes_wanted) };
        (if object.is_null() { Done::Raised } else { Done::Yes }, object)
    }

    #[cold]
    unsafe fn get_slowly(self, to: *mut u8, patience: Patience) -> Result<Item, Done> {
        if patience == Patience::Now {
            let closed = self.others.is_some_and(|others| !others.is_held()) && self.ring.is_empty();
            return Err(if closed { Done::Closed } else { Done::TimedOut });
        }
        if wait::shared::is_eager() {
            // The answer of a peer that runs comes sooner than the interpreter could be let go and taken back.
            for _ in 0..EAGER {
                if !self.ring.is_empty() {
                    // SAFETY: `to` has INLINE bytes.
                    if let Some(item) = unsafe { self.ring.try_get(to, self.keep, self.bell) } {
                        return Ok(item);
                    }
                }
                std::hint::spin_loop();
            }
        }
        let mut found = None;
        // SAFETY: as the callers promise; `to` has INLINE bytes.
        let done = unsafe {
            self.wait(patience, |how| {
                let item = self.ring.get(to, how, self.others, self.keep, self.bell)?;
                found = Some(item);
                Ok(())
            })
        };
        match found {
            Some(item) if done == Done::Yes => Ok(item),
            _ => Err(done),
        }
    }

    /// Waits until there is something to get.
    ///
    /// # Safety
    /// As [`End::put`].
    pub unsafe fn wait_for_item(self, patience: Patience) -> Done {
        if !self.ring.is_empty() {
            return Done::Yes;
        }
        if patience == Patience::Now {
            let closed = self.others.is_some_and(|others| !others.is_held()) && self.ring.is_empty();
            return if closed { Done::Closed } else { Done::TimedOut };
        }
        // SAFETY: as the caller promises.
        unsafe { self.wait(patience, |how| self.ring.wait_for_item(how, self.others)) }
    }
}

/// Writes a plan into a block of this process, as a payload, and frees the plan. `None`: an exception is set.
///
/// # Safety
/// As [`write_behind`].
pub unsafe fn written(plan: *mut Plan) -> Option<(u8, Payload)> {
    // SAFETY: as the caller promises.
    unsafe {
        let (kind, len) = ((*plan).kind(), (*plan).len() as u64);
        let offset = write_behind(plan, OBJECT_HEAD)?;
        Some((kind, Payload { offset, len }))
    }
}

/// Writes a plan into a block of this process, `head` bytes from where that begins, and frees the plan. `None`: an
/// exception is set.
///
/// # Safety
/// Attached; the plan is the caller's; the caller's frame owns nothing.
pub unsafe fn write_behind(plan: *mut Plan, head: usize) -> Option<u64> {
    // SAFETY: the plan is ours and freed once; the block is ours.
    unsafe {
        let (len, riders) = ((*plan).len(), (*plan).riders());
        let Ok(offset) = heap::allocate(riders::size_with(head + len, riders.len())) else {
            Plan::free(plan);
            object::no_memory().restore(Python::assume_attached());
            return None;
        };
        let to = heap::bytes(offset).wrapping_add(head - heap::HEAD);
        reach(Point::PutPayload);
        if len >= LONG {
            let state = raw::PyEval_SaveThread();
            (*plan).write(to);
            raw::PyEval_RestoreThread(state);
        } else {
            (*plan).write(to);
        }
        riders::load(offset, riders);
        Plan::free(plan);
        Some(offset)
    }
}

/// Copies bytes into a block of this process. `None`: an exception is set.
pub fn copied(bytes: &[u8]) -> Option<Payload> {
    let Ok(offset) = heap::allocate(OBJECT_HEAD + bytes.len()) else {
        // SAFETY: the callers are attached.
        object::no_memory().restore(unsafe { Python::assume_attached() });
        return None;
    };
    // SAFETY: the block is ours and that long.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), payload_bytes(offset), bytes.len()) };
    let len = bytes.len() as u64;
    Some(Payload { offset, len })
}

/// Small records, encoded and not yet put.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Kind, and where its bytes end.
    marks: Vec<(u8, usize)>,
}

impl Batch {
    fn add(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.marks.push((kind, self.bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.marks.len() >= 256 || self.bytes.len() >= 1 << 16
    }

    fn record(&self, at: usize) -> Record<'_> {
        let (kind, end) = self.marks[at];
        let start = at.checked_sub(1).map_or(0, |before| self.marks[before].1);
        Record::Small(kind, &self.bytes[start..end])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.marks.clear();
    }
}

/// The object of an item that was just got.
///
/// # Safety
/// Attached; `to` holds what a small item says.
#[inline]
pub unsafe fn object_from(item: Item, to: *const u8, bytes_wanted: bool) -> Obj {
    // SAFETY: as the caller promises; a large item's block is ours.
    unsafe {
        match item {
            Item::Small(kind, len) => {
                let bytes = std::slice::from_raw_parts(to, len.min(INLINE));
                if bytes_wanted {
                    codec::as_bytes_message(kind, bytes)
                } else {
                    codec::decode(kind, bytes)
                }
            }
            Item::Large(kind, payload) => large(kind, payload, bytes_wanted, None),
        }
    }
}

/// As [`object_from`], tried twice in a thread in which signal handlers run: what reading raises only the first time was
/// raised by one of them, and goes to `stray`, owned.
///
/// # Safety
/// As [`object_from`].
pub unsafe fn object_surely(item: Item, to: *const u8, stray: &mut Obj) -> Obj {
    // SAFETY: as the caller promises.
    unsafe {
        match item {
            Item::Small(..) => surely(Some(stray), || object_from(item, to, false)),
            Item::Large(kind, payload) => large(kind, payload, false, Some(stray)),
        }
    }
}

unsafe fn surely(stray: Option<&mut Obj>, decode: impl Fn() -> Obj) -> Obj {
    let object = decode();
    let Some(stray) = stray.filter(|_| object.is_null() && raw::is_main()) else {
        return object;
    };
    // SAFETY: attached, as the callers promise; an exception is set, and is ours then.
    unsafe {
        let first = raw::caught();
        let object = decode();
        if object.is_null() {
            raw::release(first);
        } else {
            *stray = first;
        }
        object
    }
}

#[cold]
unsafe fn large(kind: u8, payload: Payload, bytes_wanted: bool, stray: Option<&mut Obj>) -> Obj {
    // SAFETY: the block is ours. Its bytes are read before it goes back, or the object that exports them keeps it.
    unsafe {
        let mapped = payload.len >= MAPPED && kind == codec::PICKLED_BUFFERS && !bytes_wanted;
        if mapped && let Some((owner, bytes)) = block::block(Python::assume_attached(), payload) {
            let object = surely(stray, || codec::decode_block(kind, &*bytes, owner));
            // The block stays as long as a view of it, its riders do not.
            riders::unload(payload.offset);
            raw::release(owner);
            return object;
        }
        let (from, len) = (payload_bytes(payload.offset), payload.len as usize);
        if bytes_wanted {
            riders::keep(payload.offset);
        }
        let as_it_is = match kind {
            codec::BYTES | codec::BYTEARRAY => !bytes_wanted,
            codec::MESSAGE | codec::PICKLED => bytes_wanted,
            _ => false,
        };
        if as_it_is && payload.len >= HUGE {
            // What has been read is not read again: the pages go back while the copy grows.
            let mut gone = 0;
            let object = codec::decode_in_pieces(kind, from, len, |copied| {
                heap::discard(payload.offset, gone, OBJECT_HEAD + copied);
                gone = OBJECT_HEAD + copied;
            });
            heap::free_empty(payload.offset);
            return object;
        }
        let bytes = std::slice::from_raw_parts(from, len);
        let object = if bytes_wanted {
            codec::as_bytes_message(kind, bytes)
        } else {
            surely(stray, || codec::decode(kind, bytes))
        };
        heap::free(payload.offset);
        object
    }
}

/// Where the bytes of a payload begin: behind the room for the head of the object that it may become.
fn payload_bytes(offset: u64) -> *mut u8 {
    heap::bytes(offset).wrapping_add(OBJECT_HEAD - heap::HEAD)
}
