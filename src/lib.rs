//! cairn: etcd's v2 HTTP+JSON API on Raft and redb.

pub mod model;
pub mod store;
