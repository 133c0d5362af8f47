//! openraft's storage: the log over `disk::wal`, the state machine over `store`, checkpoints over `disk::tables`.
//!
//! Owns: the stored forms of entries, votes and memberships. Never knows: peers, who leads.

pub(in crate::raft) mod blocking;
pub(in crate::raft) mod checkpoint;
pub(in crate::raft) mod encoding;
pub(in crate::raft) mod log;
pub(in crate::raft) mod machine;
pub(in crate::raft) mod outgoing;
pub(in crate::raft) mod pace;
mod recent;
pub(in crate::raft) mod sole;
pub(in crate::raft) mod state;
