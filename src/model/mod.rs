//! Words that every floor shares.
//!
//! Owns: the numbers, names and refusals of the domain. Never knows: a clock, the disk, the network, the tree.

mod clipped;
mod codec;
pub mod codes;
mod discovery;
mod id;
mod index;
pub mod json;
mod name;
mod password;
mod path;
mod random;
mod refusal;
mod release;
mod retention;
mod time;
mod unavailable;
mod url;

pub use clipped::{Clipped, beginning};
pub use codec::{DecodeError, Reader, Writer};
pub use discovery::Discovery;
pub use id::{ClusterId, MemberId};
pub use index::{LogIndex, LogPosition, StoreIndex, Term};
pub use name::{Name, Sought};
pub use password::PasswordHash;
pub use path::{KEYS_PREFIX_HIDDEN, KeyPath, PathLimits};
pub(crate) use path::{has_hidden, walk_order};
pub use random::{Random, scatter};
pub use refusal::{Refusal, Reply};
pub use release::{CLUSTER_VERSION, ETCD_VERSION};
pub use retention::Retention;
#[cfg(test)]
pub(crate) use time::StillClock;
pub use time::{Clock, LogTime, Stamp, TTL_MAX_S, Ttl, WallOffset, WallTime};
pub use unavailable::{Fate, TimeOut, Unavailable};
pub use url::{Url, UrlError};

/// A key's value: any bytes, shared between the tree, the history and answers under way.
///
/// It is always a copy of its own, never a slice of a connection's read buffer, which it would pin whole.
pub type Value = std::sync::Arc<[u8]>;
