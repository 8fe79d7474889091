//! What several processes share, as Python sees it.

pub mod block;
pub mod board;
pub mod bundle;
pub mod channel;
pub mod condition;
pub mod deaths;
pub mod key;
pub mod lock;
pub mod master;
pub mod object;
pub mod peer;
pub mod pipe;
pub mod sealed;
pub mod sync;
pub mod table;
pub mod table_ops;
pub mod table_tools;
pub mod transfer;
pub mod tree;
