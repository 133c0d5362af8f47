//! cairn: etcd's v2 HTTP+JSON API on Raft and redb.
