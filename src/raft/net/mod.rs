//! openraft's network: what members say to each other about log, votes and snapshots, over `transport`.
//!
//! Owns: the bytes of each message. Never knows: how a connection is made, what a command does.

pub(in crate::raft) mod ask;
pub(in crate::raft) mod fence;
pub(in crate::raft) mod followers;
pub(in crate::raft) mod inbound;
pub(in crate::raft) mod lag;
pub(in crate::raft) mod messages;
pub(in crate::raft) mod peers;
pub(in crate::raft) mod transfer;
