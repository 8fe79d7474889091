//! A record: the key and the value of one entry, encoded. What the kinds and bytes mean is known to whoever encodes.
//!
//! | word | bits | |
//! | --- | --- | --- |
//! | 0 | all | the hash of the key |
//! | 1 | 0..32 | bytes of the key |
//! | | 32.. | kinds of the key, of the key as it is shown, and of the value, a byte each; then `LARGE` |
//! | 2 | 0..32 | bytes of the value |
//! | | 32.. | bytes of the key as it is shown, 0 if it is shown as it is |
//! | 3.. | | key, key as shown, value, each from a word on |
//!
//! Keys are equal if their kinds and bytes are. Keys that Python calls equal though they look different (`1` and `True`)
//! come with one key here and with what is shown beside it. The value of a `LARGE` record lies in a block of its own:
//! its offset, its length and its stamp are three words here.

use std::marker::PhantomData;
use std::{ptr, slice};

/// Words before the key.
pub const HEAD: usize = 3;

const LARGE: u64 = 1 << 56;
const LARGE_BYTES: usize = 24;

/// How many words so many bytes take.
#[inline]
pub const fn words(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The hash of a key.
#[inline]
pub fn hash(kind: u8, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        (product as u64 ^ (product >> 64) as u64).wrapping_add(FACTOR)
    };
    let mut state = fold(FACTOR, u64::from(kind) << 56 | bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = fold(state, u64::from_le_bytes(word));
    }
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(state, u64::from_le_bytes(tail))
}

/// A value in a block of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Large {
    /// Its kind.
    pub kind: u8,
    /// The block, as the heap gave it.
    pub offset: u64,
    /// Bytes behind the head of the block.
    pub len: u64,
    /// No two values of a table ever have the same one; 0 before it is in a table.
    pub stamp: u64,
}

/// A record, wherever it lies.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    at: *const u64,
    life: PhantomData<&'a [u64]>,
}

impl<'a> Record<'a> {
    /// The record that begins at `at`.
    ///
    /// # Safety
    /// A whole record lies there, made by [`Draft`], and nobody changes it during `'a`.
    #[inline]
    pub unsafe fn new(at: *const u64) -> Self {
        Self {
            at,
            life: PhantomData,
        }
    }

    #[inline]
    fn word(self, n: usize) -> u64 {
        // SAFETY: only asked for words of the record, which are there as `new` was promised.
        unsafe { *self.at.add(n) }
    }

    #[inline]
    fn bytes(self, word: usize, len: usize) -> &'a [u8] {
        // SAFETY: as in `word`.
        unsafe { slice::from_raw_parts(self.at.add(word).cast(), len) }
    }

    /// Its words.
    #[inline]
    pub fn as_words(self) -> &'a [u64] {
        // SAFETY: as in `word`.
        unsafe { slice::from_raw_parts(self.at, self.len()) }
    }

    /// How many words it has.
    #[inline]
    pub fn len(self) -> usize {
        self.value_at() + words(self.word(2) as u32 as usize)
    }

    /// Never: a record has a head.
    pub fn is_empty(self) -> bool {
        false
    }

    #[inline]
    fn key_len(self) -> usize {
        self.word(1) as u32 as usize
    }

    #[inline]
    fn value_at(self) -> usize {
        HEAD + words(self.key_len()) + words((self.word(2) >> 32) as usize)
    }

    /// The hash of its key.
    #[inline]
    pub fn hash(self) -> u64 {
        self.word(0)
    }

    /// Its key.
    #[inline]
    pub fn key(self) -> (u8, &'a [u8]) {
        ((self.word(1) >> 32) as u8, self.bytes(HEAD, self.key_len()))
    }

    /// Its key as it was given.
    #[inline]
    pub fn shown_key(self) -> (u8, &'a [u8]) {
        let kind = (self.word(1) >> 40) as u8;
        if kind == 0 {
            return self.key();
        }
        (
            kind,
            self.bytes(HEAD + words(self.key_len()), (self.word(2) >> 32) as usize),
        )
    }

    /// Have both the same key?
    #[inline]
    pub fn has_key_of(self, other: Record<'_>) -> bool {
        self.hash() == other.hash() && self.key() == other.key()
    }

    /// The kind of its value.
    #[inline]
    pub fn kind(self) -> u8 {
        (self.word(1) >> 48) as u8
    }

    /// The bytes of a value that lies in the record itself.
    #[inline]
    pub fn small(self) -> Option<&'a [u8]> {
        (self.word(1) & LARGE == 0).then(|| self.bytes(self.value_at(), self.word(2) as u32 as usize))
    }

    /// A value that lies elsewhere.
    #[inline]
    pub fn large(self) -> Option<Large> {
        (self.word(1) & LARGE != 0).then(|| {
            let at = self.value_at();
            Large {
                kind: self.kind(),
                offset: self.word(at),
                len: self.word(at + 1),
                stamp: self.word(at + 2),
            }
        })
    }

    /// Where the value lies, if another one of the same record's form can take its place by one store: 8 bytes in the
    /// record itself.
    #[inline]
    pub(super) fn word_of_value(self) -> Option<usize> {
        (self.word(2) as u32 == 8).then(|| self.value_at())
    }

    /// Copies the record, with that stamp if its value is large.
    ///
    /// # Safety
    /// Room for `len()` words that nobody else uses.
    #[inline]
    pub(super) unsafe fn write(self, to: *mut u64, stamp: u64) {
        // SAFETY: as the caller promises; the stamp is the record's last word.
        unsafe {
            ptr::copy_nonoverlapping(self.at, to, self.len());
            if self.word(1) & LARGE != 0 {
                to.add(self.value_at() + 2).write(stamp);
            }
        }
    }

    /// In a copy of this record with a large value: that one lies at `offset`.
    ///
    /// # Safety
    /// As [`Record::write`], which has been called.
    pub(super) unsafe fn write_offset(self, to: *mut u64, offset: u64) {
        // SAFETY: the offset is the first word of the value.
        unsafe { to.add(self.value_at()).write(offset) };
    }

    /// Writes the record with the key of `key`, which Python keeps when it replaces a value.
    ///
    /// # Safety
    /// As [`Record::write`], for [`Record::len_with_key_of`] words.
    pub(super) unsafe fn write_with_key_of(self, key: Record<'_>, to: *mut u64, stamp: u64) {
        let (front, back) = (key.value_at(), self.value_at());
        // SAFETY: as the caller promises.
        unsafe {
            ptr::copy_nonoverlapping(key.at, to, front);
            ptr::copy_nonoverlapping(self.at.add(back), to.add(front), self.len() - back);
            let kinds = 0xFF_FFFF << 48;
            to.add(1).write(key.word(1) & !kinds | self.word(1) & kinds);
            to.add(2)
                .write(key.word(2) >> 32 << 32 | self.word(2) & u64::from(u32::MAX));
            if self.word(1) & LARGE != 0 {
                to.add(front + 2).write(stamp);
            }
        }
    }

    /// See [`Record::write_with_key_of`].
    pub(super) fn len_with_key_of(self, key: Record<'_>) -> usize {
        key.value_at() + self.len() - self.value_at()
    }
}

/// Writes a record, part by part: first the key, then perhaps how it is shown, then the value. What a part consists of is
/// written by the caller to [`Draft::place`].
#[derive(Debug)]
pub struct Draft {
    at: *mut u64,
    end: usize,
}

impl Draft {
    /// A record to be written at `at`, without a key so far.
    ///
    /// # Safety
    /// There is room for the head and whatever parts the caller is going to add, and nobody else uses it.
    #[inline]
    pub unsafe fn new(at: *mut u64) -> Self {
        // SAFETY: as the caller promises.
        unsafe { ptr::write_bytes(at, 0, HEAD) };
        Self { at, end: HEAD }
    }

    /// Where the next part goes, from a word on.
    #[inline]
    pub fn place(&mut self) -> *mut u8 {
        // SAFETY: inside the room.
        unsafe { self.at.add(self.end).cast() }
    }

    #[inline]
    fn add(&mut self, word: usize, bits: u64, len: usize) {
        let before = self.end;
        self.end += words(len);
        // SAFETY: inside the room. What is left of the last word is the same in every copy, so that no byte is unknown.
        unsafe {
            *self.at.add(word) |= bits;
            self.at
                .cast::<u8>()
                .add(before * 8 + len)
                .write_bytes(0, (self.end - before) * 8 - len);
        }
    }

    /// `len` bytes at [`Draft::place`] are the key.
    #[inline]
    pub fn key(&mut self, kind: u8, len: usize) {
        // SAFETY: the caller has written them there.
        let hash = hash(kind, unsafe { slice::from_raw_parts(self.place(), len) });
        self.add(1, u64::from(kind) << 32 | len as u64, len);
        // SAFETY: inside the room.
        unsafe { self.at.write(hash) };
    }

    /// `len` bytes there are the key as it is shown.
    #[inline]
    pub fn shown(&mut self, kind: u8, len: usize) {
        self.add(2, (len as u64) << 32, len);
        // SAFETY: inside the room.
        unsafe { *self.at.add(1) |= u64::from(kind) << 40 };
    }

    /// `len` bytes there are the value.
    #[inline]
    pub fn small(&mut self, kind: u8, len: usize) {
        self.add(2, len as u64, len);
        // SAFETY: inside the room.
        unsafe { *self.at.add(1) |= u64::from(kind) << 48 };
    }

    /// The value lies in a block, which belongs to this process.
    pub fn large(&mut self, large: Large) {
        let place = self.place().cast::<[u64; 3]>();
        // SAFETY: inside the room, aligned to a word.
        unsafe { place.write([large.offset, large.len, large.stamp]) };
        self.small(large.kind, LARGE_BYTES);
        // SAFETY: inside the room.
        unsafe { *self.at.add(1) |= LARGE };
    }

    /// The record, as far as it is written.
    #[inline]
    pub fn record<'a>(&self) -> Record<'a> {
        // SAFETY: a whole record; without a key or value these have no bytes.
        unsafe { Record::new(self.at) }
    }

    /// How many words it has so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.end
    }

    /// Never: a record has a head.
    pub fn is_empty(&self) -> bool {
        false
    }
}
