//! Level 1. Memory that several processes share and that outlives its writers. The protocols: `shm/README.md`.

mod arena;
mod guard;
mod handle;
pub mod heap;
mod layout;
pub mod point;
pub mod riders;
pub mod tree;

pub use arena::{Arena, Refused, arena, arena_or_make, attach};
pub use guard::{Guard, Taken};
pub use handle::{Handle, Name, OBJECT_HEAD, Stale, begin, holders, holders_of, pack_for};
pub use layout::{LOT_BYTES, SEATS, UNIT};
