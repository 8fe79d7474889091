//! Level 4. Pools of processes: tasks out, results back, nothing lost but what was in the hands of the dead. The protocol:
//! `pool/README.md`.

mod board;

pub use board::{Board, Ended, ROOM, SEATS, SLOTS, Taken, Tally, Thing, What};
