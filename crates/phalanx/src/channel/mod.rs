//! Level 4. Channels between processes: a ring of records in the arena. The protocol: `channel/README.md`.

mod hands;
mod ring;

pub use hands::{Hands, TooOften};
pub use ring::{Ended, INLINE, Item, Limits, Payload, Record, Ring};
