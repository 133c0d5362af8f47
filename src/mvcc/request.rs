//! What may be asked of the v3 key space, and what comes of it.

use std::sync::Arc;

use thiserror::Error;

use crate::model::{LogTime, MemberId, Value};
use crate::mvcc::auth::{Asker, AuthReply, AuthRequest};
use crate::mvcc::key::{KeyRange, KeyValue, LeaseId, Revision};

/// Which keys to read, and how to show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// Which keys.
    pub range: KeyRange,
    /// The most that are shown; zero for all.
    pub limit: u64,
    /// As of this revision; zero for now.
    pub revision: Revision,
    /// In which order.
    pub order: Order,
    /// By what.
    pub target: SortTarget,
    /// This member's own state will do.
    pub serializable: bool,
    /// Values are not shown. They are left out when the answer is rendered.
    pub keys_only: bool,
    /// Only the count is shown.
    pub count_only: bool,
    /// None that was modified before; zero for no limit, as for the three below.
    pub modified_min: i64,
    /// None that was modified later.
    pub modified_max: i64,
    /// None that was made before.
    pub created_min: i64,
    /// None that was made later.
    pub created_max: i64,
}

impl RangeQuery {
    /// All of these keys as they are now, in their order.
    pub fn of(range: KeyRange) -> Self {
        Self {
            range,
            limit: 0,
            revision: Revision(0),
            order: Order::None,
            target: SortTarget::Key,
            serializable: false,
            keys_only: false,
            count_only: false,
            modified_min: 0,
            modified_max: 0,
            created_min: 0,
            created_max: 0,
        }
    }
}

/// In which order keys are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they come: by key, or ascending if a [`SortTarget`] other than the key is given.
    #[default]
    None,
    /// The smallest first.
    Ascend,
    /// The greatest first.
    Descend,
}

/// What keys are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// How often it was put.
    Version,
    /// When it was made.
    Created,
    /// When it was modified.
    Modified,
    /// What stands there.
    Value,
}

/// What a [`RangeQuery`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// What is shown, in order.
    pub kvs: Vec<Arc<KeyValue>>,
    /// There would have been more without the limit.
    pub more: bool,
    /// How many keys are in the range, whatever limits and filters say.
    pub count: u64,
}

/// Puts a value at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub key: Value,
    /// What.
    pub value: Value,
    /// What the key hangs on from now on.
    pub lease: LeaseId,
    /// Show what was there before.
    pub prev_kv: bool,
    /// The value stays as it is.
    pub ignore_value: bool,
    /// The lease stays as it is.
    pub ignore_lease: bool,
}

impl Put {
    /// A value at a key, without a lease.
    pub fn new(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }
}

/// Deletes keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which.
    pub range: KeyRange,
    /// Show what was there.
    pub prev_kv: bool,
}

/// What must hold of every key in a range; of a missing key if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// How the key's compares with the given one.
    pub relation: Relation,
    /// What is compared, with the given one.
    pub target: CompareTarget,
}

/// How two things compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    #[default]
    Equal,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
    /// Another one.
    NotEqual,
}

/// What is compared. A missing key has zero everywhere, and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// How often it was put.
    Version(i64),
    /// When it was made.
    Created(i64),
    /// When it was modified.
    Modified(i64),
    /// What stands there. Never holds of a missing key.
    Value(Value),
    /// What it hangs on.
    Lease(i64),
}

/// Several requests at one revision, on a condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of these must hold for the first branch.
    pub compares: Vec<Compare>,
    /// What is done then.
    pub success: Vec<Op>,
    /// What is done otherwise.
    pub failure: Vec<Op>,
}

/// One request of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads.
    Range(RangeQuery),
    /// Writes.
    Put(Put),
    /// Deletes.
    DeleteRange(DeleteRange),
    /// Another one inside.
    Txn(Txn),
}

/// What came of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnReply {
    /// All compares held.
    pub succeeded: bool,
    /// One for each request of the branch.
    pub replies: Vec<OpReply>,
}

/// What came of an [`Op`]. The revisions are those that its own header shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReply {
    /// Read.
    Range {
        /// The revision when it was read.
        revision: Revision,
        /// What was there.
        reply: RangeReply,
    },
    /// Written.
    Put {
        /// The revision that wrote it.
        revision: Revision,
        /// What was there before, if it is to be shown.
        prev: Option<Arc<KeyValue>>,
    },
    /// Deleted.
    DeleteRange {
        /// The revision that deleted them, or the one before where nothing was deleted.
        revision: Revision,
        /// How many keys.
        deleted: u64,
        /// What was there, if it is to be shown.
        prev_kvs: Vec<Arc<KeyValue>>,
    },
    /// One inside.
    Txn(TxnReply),
}

/// Why a key space takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// A member has no room.
    NoSpace,
    /// A member's data is not that of the others.
    Corrupt,
}

/// A member has raised it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Who.
    pub member: MemberId,
    /// Why.
    pub kind: AlarmKind,
}

/// Raises or clears alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmRequest {
    /// Raises one.
    Activate(Alarm),
    /// Clears those of this member and kind; of all members, of all kinds where none is given.
    Deactivate {
        /// Whose.
        member: Option<MemberId>,
        /// Which.
        kind: Option<AlarmKind>,
    },
}

/// A change that the log carries: who wants what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whose permissions count.
    pub asker: Asker,
    /// What is to be done.
    pub request: Request,
}

impl Command {
    /// What a member does on its own.
    pub fn internal(request: Request) -> Self {
        Self { asker: Asker::Internal, request }
    }
}

/// A request that goes through the log. Variants and fields are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Writes a key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// Does several things at once.
    Txn(Txn),
    /// Forgets what was superseded or deleted up to this revision.
    Compact(Revision),
    /// Makes a lease.
    LeaseGrant {
        /// Which; chosen before the log.
        id: LeaseId,
        /// How long it lives without being kept alive, in seconds.
        ttl_s: i64,
    },
    /// Ends a lease, and deletes the keys that hang on it.
    LeaseRevoke(LeaseId),
    /// Raises or clears alarms.
    Alarm(AlarmRequest),
    /// Changes users, roles, tokens or the flag.
    Auth(AuthRequest),
    /// Records when leases end, so that the next leader knows.
    LeaseCheckpoint(Vec<(LeaseId, LogTime)>),
    /// Keeps a lease alive whose end was recorded, or is about to be.
    LeaseKeepAlive {
        /// Which.
        id: LeaseId,
        /// The end that does not stand any more.
        end: LogTime,
    },
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The revision since.
    pub revision: Revision,
    /// The answer.
    pub reply: Result<Reply, Refusal>,
    /// What changed, for watchers: in the order of the places in the revision, which is one for all.
    pub changes: Vec<Change>,
}

/// A key that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key now. For a deletion only the key and the revision are given.
    pub kv: Arc<KeyValue>,
    /// The key before, unless it was not there or is compacted.
    pub prev: Option<Arc<KeyValue>>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was put.
    Put,
    /// It was deleted.
    Delete,
}

impl Change {
    /// What happened to the key.
    pub fn kind(&self) -> ChangeKind {
        if self.kv.is_deletion() { ChangeKind::Delete } else { ChangeKind::Put }
    }
}

/// The answer to a request that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Written.
    Put {
        /// What was there before, if it is to be shown.
        prev: Option<Arc<KeyValue>>,
    },
    /// Deleted.
    DeleteRange {
        /// How many keys.
        deleted: u64,
        /// What was there, if it is to be shown.
        prev_kvs: Vec<Arc<KeyValue>>,
    },
    /// Done.
    Txn(TxnReply),
    /// Compacted.
    Compact,
    /// Made.
    LeaseGrant {
        /// Which.
        id: LeaseId,
        /// Its life in seconds.
        ttl_s: i64,
    },
    /// Ended.
    LeaseRevoke,
    /// The alarms that were raised or cleared.
    Alarm(Vec<Alarm>),
    /// Changed.
    Auth(AuthReply),
    /// Recorded.
    LeaseCheckpoint,
    /// Kept alive.
    LeaseKeepAlive,
}

/// Every "no" of the v3 key space. Codes and texts stand beside the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{self:?}")]
pub enum Refusal {
    /// A request without a key.
    KeyEmpty,
    /// `ignore_value` or `ignore_lease` of a key that is not there; an empty [`Op`].
    KeyNotFound,
    /// `ignore_value` with a value.
    ValueProvided,
    /// `ignore_lease` with a lease.
    LeaseProvided,
    /// A [`Txn`] is larger than allowed.
    TooManyOps,
    /// A [`Txn`] would write a key twice.
    DuplicateKey,
    /// What was to be read is gone.
    Compacted,
    /// There is no such revision yet.
    FutureRevision,
    /// There is no such lease.
    LeaseNotFound,
    /// There is such a lease already.
    LeaseExists,
    /// It would live for longer than is allowed.
    TtlTooLarge,
    /// The alarm for space is raised.
    NoSpace,
    /// The alarm for damage is raised.
    Corrupt,
    /// A user's name is empty; a request without a token.
    UserEmpty,
    /// There is such a user already.
    UserExists,
    /// There is no such user.
    UserNotFound,
    /// A role's name is empty.
    RoleEmpty,
    /// There is such a role already.
    RoleExists,
    /// There is no such role.
    RoleNotFound,
    /// The user does not have the role.
    RoleNotGranted,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// Not without the user root.
    RootUserMissing,
    /// Not without the role root of that user.
    RootRoleMissing,
    /// Users and roles do not count.
    AuthDisabled,
    /// The user root and its role cannot be taken away.
    InvalidAuthManagement,
    /// Another name or password is needed.
    AuthFailed,
    /// Users or roles have changed since the caller was looked up.
    AuthOldRevision,
    /// Not allowed.
    PermissionDenied,
    /// A token that nobody knows.
    InvalidToken,
}
