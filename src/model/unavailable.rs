//! Why a member cannot do what it was asked.

use std::fmt;

use thiserror::Error;

use crate::model::MemberId;

/// No answer from consensus. Wire: status 500, code 300, the text as `cause`.
///
/// Source of the texts: etcd 3.4; dashboards and clients match on how they begin. What follows a semicolon is ours: it says
/// what became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// No answer in time.
    #[error("etcdserver: request timed out{why}{fate}")]
    TimedOut {
        /// What may be behind it.
        why: TimeOut,
        /// What became of the request.
        fate: Fate,
    },
    /// This member does not lead. Nothing was proposed.
    #[error("etcdserver: not leader")]
    NotLeader {
        /// The leader, if this member knows one.
        leader: Option<MemberId>,
    },
    /// The member is on its way out, and took nothing on.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The member stopped before it knew what became of a write.
    #[error("etcdserver: server stopped; the write may still take effect")]
    Interrupted,
    /// As many bytes of requests are under way as `--max-inflight-bytes` allows.
    #[error(
        "too many bytes of requests are under way on this member (--max-inflight-bytes {bytes_max}); nothing was written"
    )]
    Overloaded {
        /// The limit.
        bytes_max: usize,
    },
    /// The member has started again and may hold less than it has shown before.
    #[error(
        "this member has started again and has found no leader yet, so what it holds may be older than what it has shown before. \
         Ask another member, or add quorum=true to wait. Check that a majority of the members runs and, if this one moved, that \
         the others know: etcdctl member update"
    )]
    Regaining,
    /// As many passwords wait to be checked as may.
    #[error(
        "too many passwords are being checked on this member, or too many wrong ones came for this user; nothing was done. Try \
         again in a few seconds"
    )]
    TooManyPasswords,
    /// The key space weighs as much as `--quota-bytes` allows.
    #[error(
        "the key space is as large as --quota-bytes allows ({bytes_max}); nothing was written. Delete keys, or raise \
         --quota-bytes; keys can be read, deleted, refreshed and overwritten with values that are no longer"
    )]
    QuotaExceeded {
        /// The limit.
        bytes_max: u64,
    },
    /// This member's disk is nearly full.
    #[error(
        "the disk of this member is nearly full; nothing was written. Make space on it, or delete keys; keys can be read, \
         deleted, refreshed and overwritten with values that are no longer"
    )]
    DiskFull,
    /// As many watchers wait as `--max-watchers` allows.
    #[error(
        "too many watchers are waiting on this member; raise --max-watchers or use another member"
    )]
    TooManyWatchers,
}

/// What may be behind a time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOut {
    /// Nothing in particular.
    Unclear,
    /// A leader was elected meanwhile.
    LeaderFailed,
    /// No contact to the leader, or to a majority.
    ConnectionLost,
}

/// What became of a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was a read; there is nothing to become.
    Read,
    /// It changed nothing and never will.
    NotWritten,
    /// It is not known: it may be in the log, or get there.
    Unknown,
}

impl fmt::Display for TimeOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unclear => "",
            Self::LeaderFailed => ", possibly due to previous leader failure",
            Self::ConnectionLost => ", possibly due to connection lost",
        })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "",
            Self::NotWritten => "; nothing was written",
            Self::Unknown => "; the write may still take effect",
        })
    }
}
