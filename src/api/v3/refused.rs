//! Every "no" of the floors below, as a status.

use crate::model::{TimeOut, Unavailable};
use crate::replica::MemberRefusal;
use crate::rpc::{Code, Status, status};

/// No answer from consensus, or it is not asked.
pub(super) fn unavailable(why: Unavailable) -> Status {
    match why {
        Unavailable::TimedOut { why: TimeOut::Unclear, .. } | Unavailable::Regaining => {
            status::TIMEOUT
        }
        Unavailable::TimedOut { why: TimeOut::LeaderFailed, .. } => status::TIMEOUT_LEADER_FAILED,
        Unavailable::TimedOut { why: TimeOut::ConnectionLost, .. } => {
            status::TIMEOUT_CONNECTION_LOST
        }
        Unavailable::NotLeader { .. } => status::NO_LEADER,
        Unavailable::Stopped | Unavailable::Interrupted => status::STOPPED,
        Unavailable::Overloaded { .. }
        | Unavailable::TooManyPasswords
        | Unavailable::TooManyWatchers => status::TOO_MANY_REQUESTS,
        Unavailable::QuotaExceeded { .. } | Unavailable::DiskFull => status::NO_SPACE,
    }
}

/// The members stay as they are.
pub(super) fn member(refusal: MemberRefusal) -> Status {
    match refusal {
        MemberRefusal::IdExists => status::MEMBER_EXISTS,
        MemberRefusal::UrlExists => status::PEER_URL_EXISTS,
        MemberRefusal::Unknown(_) | MemberRefusal::Removed(_) | MemberRefusal::Gone(_) => {
            status::MEMBER_NOT_FOUND
        }
        MemberRefusal::NotEnoughStarted => status::NOT_ENOUGH_STARTED,
        MemberRefusal::Unhealthy => status::UNHEALTHY,
        MemberRefusal::Alive(_) => Status::with(Code::FailedPrecondition, refusal.to_string()),
        MemberRefusal::Unavailable(why) => unavailable(why),
    }
}
