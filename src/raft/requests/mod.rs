//! A client's request on its way through consensus: writes into the log and back, reads that are not stale.
//!
//! Owns: who waits for which log entry. Never knows: HTTP, deadlines of requests.

pub(in crate::raft) mod budget;
pub(in crate::raft) mod handover;
pub(in crate::raft) mod propose;
pub(in crate::raft) mod questions;
pub(in crate::raft) mod reads;
pub(in crate::raft) mod tickets;
