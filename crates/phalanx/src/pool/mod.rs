//! Level 4. Pools of processes: tasks out, results back, nothing lost but what was in the hands of the dead. The protocol:
//! `pool/README.md`.

mod board;
mod bundle;
mod cargo;
mod event;

pub use board::{Board, Ended, Estate, Lost, ROOM, SEATS, SLOTS, Taken, Tally};
pub use bundle::{BUNDLE, Bundled, CELL, Outcome};
pub use cargo::{Thing, What};
pub use event::{Event, Stage};
