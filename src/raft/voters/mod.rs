//! Who takes part in consensus, and who leads.
//!
//! Owns: changes of the voters, what counts as having a leader. Never knows: names and URLs of members.

pub(in crate::raft) mod alone;
pub(in crate::raft) mod leadership;
pub(in crate::raft) mod voting;
