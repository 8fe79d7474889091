//! What several processes share, as Python sees it.

pub mod block;
pub mod channel;
pub mod deaths;
pub mod lock;
pub mod object;
pub mod pipe;
pub mod sync;
pub mod transfer;
pub mod tree;
