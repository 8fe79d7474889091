//! Level 3. Dicts and lists of encoded objects that processes share. The protocol: `table/README.md`.

mod keyed;
mod list;
mod log;
mod record;
mod spine;
mod whole;

pub use list::{Places, Slice, Unfit};
pub use record::{Draft, HEAD, Large, Record, hash, words};
pub use whole::{At, Found, Part, Refused, Snapshot, Table, begin_pulse};
