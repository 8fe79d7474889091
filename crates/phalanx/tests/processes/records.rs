//! Tables, and records in them with values that are known.

use phalanx::shm::{Handle, heap};
use phalanx::table::{Draft, HEAD, Large, Part, Record, Table, words};

/// Values from this many bytes on lie in blocks of their own.
pub const SMALL: usize = 8192;
pub const LONGEST: usize = HEAD + 3 * words(SMALL);

/// A value: its kind and its bytes.
pub type Value = (u8, Vec<u8>);

/// The record of a key, shown perhaps as something else, and a value.
#[derive(Clone)]
pub struct Made(Vec<u64>);

impl Made {
    pub fn new(key: Option<u64>, shown: Option<u8>, value: Option<&Value>) -> Self {
        let mut room = vec![0; LONGEST];
        // SAFETY: room for the longest record there is.
        let mut draft = unsafe { Draft::new(room.as_mut_ptr()) };
        let write = |to: *mut u8, bytes: &[u8]| {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        };
        if let Some(key) = key {
            let bytes = &key.to_le_bytes()[..8 - key.leading_zeros() as usize / 8];
            write(draft.place(), bytes);
            draft.key(4, bytes.len());
            if let Some(shown) = shown {
                write(draft.place(), &[shown; 3]);
                draft.shown(9, 3);
            }
        }
        match value {
            Some((kind, bytes)) if bytes.len() > SMALL => {
                let offset = heap::allocate(heap::HEAD + bytes.len()).unwrap();
                write(heap::bytes(offset), bytes);
                draft.large(Large {
                    kind: *kind,
                    offset,
                    len: bytes.len() as u64,
                    stamp: 0,
                });
            }
            Some((kind, bytes)) => {
                write(draft.place(), bytes);
                draft.small(*kind, bytes.len());
            }
            None => {}
        }
        let len = draft.len();
        room.truncate(len);
        Self(room)
    }

    pub fn record(&self) -> Record<'_> {
        // SAFETY: a whole record.
        unsafe { Record::new(self.0.as_ptr()) }
    }

    /// It is in no table: its block goes back.
    pub fn undo(&self) {
        if let Some(large) = self.record().large() {
            heap::free(large.offset);
        }
    }
}

pub fn entry(key: u64, value: &Value) -> Made {
    Made::new(Some(key), None, Some(value))
}

pub fn item(value: &Value) -> Made {
    Made::new(None, None, Some(value))
}

pub fn make(keyed: bool) -> (Handle, &'static Table) {
    let handle = Table::make(keyed).unwrap();
    // SAFETY: the arena is never unmapped, and the callers keep the handle as long as the table is used.
    let table = unsafe { &*std::ptr::from_ref(Table::of(&handle)) };
    (handle, table)
}

/// What a record says that was taken out; a large value is freed.
pub fn taken(words: &[u64]) -> (Vec<u8>, Value) {
    // SAFETY: a whole record.
    let record = unsafe { Record::new(words.as_ptr()) };
    let value = match record.large() {
        Some(large) => {
            // SAFETY: the block is ours.
            let bytes =
                unsafe { std::slice::from_raw_parts(heap::bytes(large.offset), large.len as usize) }.to_vec();
            heap::free(large.offset);
            bytes
        }
        None => record.small().unwrap().to_vec(),
    };
    (record.shown_key().1.to_vec(), (record.kind(), value))
}

pub fn content(table: &Table) -> Vec<(Vec<u8>, Value)> {
    let snapshot = table.snapshot(Part::All).unwrap();
    assert_eq!(snapshot.len(), table.count().unwrap());
    let records = snapshot.records();
    records
        .map(|(record, value)| (record.shown_key().1.to_vec(), (record.kind(), value.to_vec())))
        .collect()
}
