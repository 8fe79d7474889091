//! Level 4. Channels between processes: a ring of records in the arena. The protocol: `channel/README.md`.

mod hands;
mod mend;
mod record;
mod ring;

pub use hands::{Hands, TooOften};
pub use record::{Ended, INLINE, Item, Limits, Payload, Record};
pub use ring::Ring;
