//! What etcd keeps on disk: bytes in, values out.
//!
//! Owns: the formats of the write-ahead log, of the snapshots, and of the version 3 store; what the entries of a log come to. Never
//! knows: files and directories (`migrate`), who asks.
//!
//! | file | what it reads |
//! |---|---|
//! | `proto` | protocol buffers, field by field |
//! | `wal` | frames of a segment, and the chain of their checksums |
//! | `entry` | entries and requests |
//! | `log` | all segments: which entries count |
//! | `json` | JSON, piece by piece |
//! | `snapshot` | the version 2 store in a snapshot file |
//! | `replay` | what entries do to a store |
//! | `facts` | members, users and roles, which are hidden keys in etcd |
//! | `bolt` | files of bbolt: pages and buckets |
//! | `buckets` | the version 3 store in such a file |
//! | `requests` | requests of version 3 in entries |
//! | `rights`, `passwords` | what etcd asks and makes when it applies them |
//! | `written` | nothing: it writes these files, for the way back |
//!
//! Source of the formats: files written by etcd 3.4.23, and the behaviour of 2.3.8, 3.4.23 and 3.5.33.

pub mod bolt;
pub mod buckets;
pub mod entry;
mod facts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod json;
pub mod log;
pub mod passwords;
pub mod proto;
pub mod replay;
pub mod requests;
mod rights;
pub mod snapshot;
pub mod wal;
pub mod written;
