//! Why a member cannot do what it was asked.

use thiserror::Error;

use crate::model::MemberId;

/// No answer from consensus. Wire: status 500, code 300, the text as `cause`.
///
/// Source of the texts: etcd 3.4; dashboards and clients match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// No answer in time. The write may still happen.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// No answer in time, and the leader changed meanwhile. The write may still happen.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimedOutLeaderFailed,
    /// No answer in time, and this member has no contact to a majority. The write may still happen.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimedOutConnectionLost,
    /// This member does not lead and knows who does, if somebody does. Nothing was proposed.
    #[error("etcdserver: not leader")]
    NotLeader {
        /// Whom to ask.
        leader: Option<MemberId>,
    },
    /// The member is on its way out.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// As many watchers wait as `--max-watchers` allows.
    #[error(
        "too many watchers are waiting on this member; raise --max-watchers or use another member"
    )]
    TooManyWatchers,
}
