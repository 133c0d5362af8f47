//! Every "no" of the floors below, as a status.

use crate::model::{TimeOut, Unavailable};
use crate::mvcc::Refusal;
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

/// The key space says no.
pub(super) fn mvcc(refusal: Refusal) -> Status {
    match refusal {
        Refusal::KeyEmpty => status::KEY_EMPTY,
        Refusal::KeyNotFound => status::KEY_NOT_FOUND,
        Refusal::ValueProvided => status::VALUE_PROVIDED,
        Refusal::LeaseProvided => status::LEASE_PROVIDED,
        Refusal::TooManyOps => status::TOO_MANY_OPS,
        Refusal::DuplicateKey => status::DUPLICATE_KEY,
        Refusal::Compacted => status::COMPACTED,
        Refusal::FutureRevision => status::FUTURE_REVISION,
        Refusal::LeaseNotFound => status::LEASE_NOT_FOUND,
        Refusal::LeaseExists => status::LEASE_EXISTS,
        Refusal::TtlTooLarge => status::TTL_TOO_LARGE,
        Refusal::NoSpace => status::NO_SPACE,
        Refusal::Corrupt => status::CORRUPT,
        Refusal::UserEmpty => status::USER_EMPTY,
        Refusal::UserExists => status::USER_EXISTS,
        Refusal::UserNotFound => status::USER_NOT_FOUND,
        Refusal::RoleEmpty => status::ROLE_EMPTY,
        Refusal::RoleExists => status::ROLE_EXISTS,
        Refusal::RoleNotFound => status::ROLE_NOT_FOUND,
        Refusal::RoleNotGranted => status::ROLE_NOT_GRANTED,
        Refusal::PermissionNotGranted => status::PERMISSION_NOT_GRANTED,
        Refusal::RootUserMissing => status::ROOT_USER_MISSING,
        Refusal::RootRoleMissing => status::ROOT_ROLE_MISSING,
        Refusal::AuthDisabled => status::AUTH_DISABLED,
        Refusal::InvalidAuthManagement => status::INVALID_AUTH_MGMT,
        Refusal::AuthFailed => status::AUTH_FAILED,
        Refusal::AuthOldRevision => status::AUTH_OLD_REVISION,
        Refusal::PermissionDenied => status::PERMISSION_DENIED,
        Refusal::InvalidToken => status::INVALID_TOKEN,
    }
}
