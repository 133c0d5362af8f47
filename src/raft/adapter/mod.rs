//! What openraft is told about us: its type parameters, and the runtime it runs on.

pub(in crate::raft) mod runtime;
pub(in crate::raft) mod types;
