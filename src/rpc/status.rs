//! What a call can come to: gRPC's codes, what they are over HTTP, and etcd's texts.
//!
//! Clients match on the texts as well as on the codes, so both are part of the contract and stand here alone.

use std::borrow::Cow;

use thiserror::Error;

/// gRPC's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "gRPC defines them")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// Every code, by its number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// As it is sent.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// That which is sent as this number; one that nobody knows counts as [`Code::Unknown`].
    pub fn of_number(number: i32) -> Self {
        let known = usize::try_from(number).ok().and_then(|place| Self::ALL.get(place));
        known.copied().unwrap_or(Self::Unknown)
    }

    /// As Go prints it, in metrics and inside other texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }

    /// What the JSON gateway answers.
    pub const fn http(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Cancelled => 408,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::InvalidArgument | Self::OutOfRange => 400,
            Self::DeadlineExceeded => 504,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::FailedPrecondition => 412,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::Unauthenticated => 401,
        }
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Status {
    /// What kind of reason.
    pub code: Code,
    /// The reason.
    pub text: Cow<'static, str>,
}

impl Status {
    /// A text that is always the same.
    pub const fn new(code: Code, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }

    /// A text with something in it.
    pub fn with(code: Code, text: String) -> Self {
        Self { code, text: Cow::Owned(text) }
    }

    /// As Go prints an error of gRPC, where it becomes part of a message.
    pub fn nested(&self) -> String {
        format!("rpc error: code = {} desc = {}", self.code.name(), self.text)
    }
}

macro_rules! statuses {
    ($( $code:ident { $( $name:ident $text:literal )* } )*) => {
        $( $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: Status = Status::new(Code::$code, $text);
        )* )*

        /// All of them.
        pub const ALL: &[Status] = &[$( $( $name, )* )*];
    };
}

statuses! {
    Cancelled {
        WATCH_CANCELED "etcdserver: watch canceled"
        CANCELED "context canceled"
    }
    Unknown {
        ELECTION_NOT_LEADER "election: not leader"
        ELECTION_NO_LEADER "election: no leader"
        LEADER_KEY_MISSING "\"leader\" field must be provided"
        SESSION_EXPIRED "mutex: session is expired"
        VERIFY_ONLY "auth: token signing attempted with verify-only key"
    }
    InvalidArgument {
        USER_EMPTY "etcdserver: user name is empty"
        ROLE_EMPTY "etcdserver: role name is empty"
        AUTH_FAILED "etcdserver: authentication failed, invalid user ID or password"
        INVALID_AUTH_MGMT "etcdserver: invalid auth management"
        AUTH_OLD_REVISION "etcdserver: revision of auth store is old"
        KEY_EMPTY "etcdserver: key is not provided"
        KEY_NOT_FOUND "etcdserver: key not found"
        VALUE_PROVIDED "etcdserver: value is provided"
        LEASE_PROVIDED "etcdserver: lease is provided"
        TOO_MANY_OPS "etcdserver: too many operations in txn request"
        DUPLICATE_KEY "etcdserver: duplicate key given in txn request"
        REQUEST_TOO_LARGE "etcdserver: request is too large"
        PERMISSION_NOT_GIVEN "etcdserver: permission not given"
        BAD_MEMBER_URLS "etcdserver: given member URLs are invalid"
    }
    DeadlineExceeded {
        DEADLINE_EXCEEDED "context deadline exceeded"
    }
    NotFound {
        LEASE_NOT_FOUND "etcdserver: requested lease not found"
        MEMBER_NOT_FOUND "etcdserver: member not found"
    }
    PermissionDenied {
        PERMISSION_DENIED "etcdserver: permission denied"
    }
    ResourceExhausted {
        NO_SPACE "etcdserver: mvcc: database space exceeded"
        TOO_MANY_REQUESTS "etcdserver: too many requests"
    }
    FailedPrecondition {
        USER_EXISTS "etcdserver: user name already exists"
        USER_NOT_FOUND "etcdserver: user name not found"
        ROLE_EXISTS "etcdserver: role name already exists"
        ROLE_NOT_FOUND "etcdserver: role name not found"
        ROLE_NOT_GRANTED "etcdserver: role is not granted to the user"
        PERMISSION_NOT_GRANTED "etcdserver: permission is not granted to the role"
        ROOT_USER_MISSING "etcdserver: root user does not exist"
        ROOT_ROLE_MISSING "etcdserver: root user does not have root role"
        AUTH_DISABLED "etcdserver: authentication is not enabled"
        LEASE_EXISTS "etcdserver: lease already exists"
        MEMBER_EXISTS "etcdserver: member ID already exist"
        PEER_URL_EXISTS "etcdserver: Peer URLs already exists"
        NOT_ENOUGH_STARTED "etcdserver: re-configuration failed due to not enough started members"
        NOT_LEARNER "etcdserver: can only promote a learner member"
        LEARNER_NOT_READY "etcdserver: can only promote a learner member which is in sync with leader"
        TOO_MANY_LEARNERS "etcdserver: too many learner members in cluster"
        NOT_LEADER "etcdserver: not leader"
        BAD_TRANSFEREE "etcdserver: bad leader transferee"
    }
    OutOfRange {
        COMPACTED "etcdserver: mvcc: required revision has been compacted"
        FUTURE_REVISION "etcdserver: mvcc: required revision is a future revision"
        TTL_TOO_LARGE "etcdserver: too large lease TTL"
    }
    Unavailable {
        NO_LEADER "etcdserver: no leader"
        LEADER_CHANGED "etcdserver: leader changed"
        NOT_CAPABLE "etcdserver: not capable"
        STOPPED "etcdserver: server stopped"
        TIMEOUT "etcdserver: request timed out"
        TIMEOUT_LEADER_FAILED "etcdserver: request timed out, possibly due to previous leader failure"
        TIMEOUT_CONNECTION_LOST "etcdserver: request timed out, possibly due to connection lost"
        TIMEOUT_APPLYING "etcdserver: request timed out, waiting for the applied index took too long"
        UNHEALTHY "etcdserver: unhealthy cluster"
        NOT_FOR_LEARNER "etcdserver: rpc not supported for learner"
    }
    DataLoss {
        CORRUPT "etcdserver: corrupt cluster"
    }
    Unauthenticated {
        INVALID_TOKEN "etcdserver: invalid auth token"
    }
}
