//! Requests of version 3 in a log of etcd.
//!
//! Owns: which fields each has, and which request of ours it is. Never knows: what it does; who may do it (`rights`).
//!
//! | field of the entry | request |
//! |---|---|
//! | 3, 1013, 1102, 1106, 1107, 1202 | reads |
//! | 4, 5, 6 | put, delete a range, transaction |
//! | 7 | compact |
//! | 8, 9, 11 | grant a lease, revoke one, note what is left of some |
//! | 10 | alarms |
//! | 1000, 1011 | users count, or do not |
//! | 1012 | a token, which is in the memory of etcd alone |
//! | 1100, 1101, 1103, 1104, 1105 | add and delete a user, change its password, grant and revoke a role |
//! | 1200, 1201, 1203, 1204 | add and delete a role, grant and revoke what it may do |
//! | 1302, 9900 | downgrades |
//! | 100 | who asks: 1 number, 2 user, 3 revision of users then |

use base64::Engine as _;

use crate::etcd::buckets::{alarm_kind, has_no_password, permission};
use crate::etcd::entry::{EntryError, Wrapped, fields, proto, read_text, set, unknown};
use crate::etcd::proto::{Fields, Value, unexpected};
use crate::model::{MemberId, PasswordHash, Value as Bytes};
use crate::mvcc::{
    Alarm, AlarmRequest, Asker, AuthRequest, AuthRevision, Compare, CompareTarget, DeleteRange,
    KeyRange, LeaseId, Op, Order, Put, RangeQuery, Relation, Request, Revision, SortTarget, Txn,
};

/// Transactions inside of one another: etcd counts them against the limit on requests in one.
const DEPTH_MAX: usize = 128;

/// The shortest life of a lease, in seconds, with the election timeout that etcd has if it is not told otherwise. The log has
/// what clients asked for.
const TTL_S_MIN: i64 = 2;

/// What a request of version 3 does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// Nothing that is kept.
    Nothing,
    /// Changes something.
    Change(Request),
    /// Gives a user a password.
    Password {
        /// Whose.
        user: String,
        /// The user is new.
        is_new: bool,
        /// The password.
        given: Given,
    },
}

/// A password in the log.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// The user has none.
    None,
    /// From 3.5 on it is hashed before.
    Hash(PasswordHash),
    /// Each member hashes it for itself.
    Text(Vec<u8>),
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Hash(_) => "Hash(..)",
            Self::Text(_) => "Text(..)",
        })
    }
}

impl Wrapped<'_> {
    /// Who asks.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn asker(&self) -> Result<Asker, EntryError> {
        const WHAT: &str = "the header of a request";
        let (mut user, mut revision, mut texts) = (String::new(), 0, Ok(()));
        fields(WHAT, self.header, |number, value| match (number, value) {
            (2, Value::Bytes(name)) => read_text("a user", name, &mut user, &mut texts),
            (3, Value::Varint(found)) => set(&mut revision, found),
            // The request's number; from 3.7 on, which member took it.
            (1 | 4, Value::Varint(_)) => true,
            _ => false,
        })?;
        texts?;
        Ok(match revision {
            0 => Asker::Nobody,
            revision => Asker::User { name: user, revision: AuthRevision(revision) },
        })
    }

    /// What it does.
    ///
    /// # Errors
    /// When it cannot be read, or no known version writes it.
    pub fn meant(&self) -> Result<Meant, EntryError> {
        let body = self.body;
        let request = match self.number {
            3 | 11 | 1012 | 1013 | 1102 | 1106 | 1107 | 1202 | 1302 | 9900 => {
                return Ok(Meant::Nothing);
            }
            4 => Request::Put(put(body)?),
            5 => Request::DeleteRange(delete(body)?),
            6 => Request::Txn(txn(body, 0)?),
            7 => match compaction(body)? {
                Some(revision) => Request::Compact(revision),
                None => return Ok(Meant::Nothing),
            },
            8 => lease_grant(body)?,
            9 => Request::LeaseRevoke(LeaseId(only_number("a lease to revoke", body)?)),
            10 => match alarm(body)? {
                Some(request) => Request::Alarm(request),
                None => return Ok(Meant::Nothing),
            },
            1000 | 1011 => {
                fields("a switch of users", body, |_, _| false)?;
                let is_on = self.number == 1000;
                Request::Auth(if is_on { AuthRequest::Enable } else { AuthRequest::Disable })
            }
            1100 | 1103 => return password(body, self.number == 1100),
            1101 => {
                let [name] = texts("a user to delete", body)?;
                Request::Auth(AuthRequest::UserDelete { name })
            }
            1104 | 1105 => {
                let [user, role] = texts("a user's role", body)?;
                Request::Auth(match self.number {
                    1104 => AuthRequest::UserGrantRole { user, role },
                    _ => AuthRequest::UserRevokeRole { user, role },
                })
            }
            1200 | 1201 => {
                let [name] = texts("a role", body)?;
                Request::Auth(match self.number {
                    1200 => AuthRequest::RoleAdd { name },
                    _ => AuthRequest::RoleDelete { name },
                })
            }
            1203 => Request::Auth(role_grant(body)?),
            1204 => Request::Auth(role_revoke(body)?),
            other => return Err(unknown("the request", other)),
        };
        Ok(Meant::Change(request))
    }
}

fn put(bytes: &[u8]) -> Result<Put, EntryError> {
    let (mut key, mut value) = (&[][..], &[][..]);
    let mut put = Put::new(Bytes::default(), Bytes::default());
    fields("a put", bytes, |number, field| match (number, field) {
        (1, Value::Bytes(found)) => set(&mut key, found),
        (2, Value::Bytes(found)) => set(&mut value, found),
        (3, Value::Varint(lease)) => set(&mut put.lease, LeaseId(lease.cast_signed())),
        (4, Value::Varint(flag)) => set(&mut put.prev_kv, flag != 0),
        (5, Value::Varint(flag)) => set(&mut put.ignore_value, flag != 0),
        (6, Value::Varint(flag)) => set(&mut put.ignore_lease, flag != 0),
        _ => false,
    })?;
    if key.is_empty() {
        return Err(unknown("a put", "without a key"));
    }
    Ok(Put { key: Bytes::from(key), value: Bytes::from(value), ..put })
}

fn delete(bytes: &[u8]) -> Result<DeleteRange, EntryError> {
    let (mut key, mut end, mut prev_kv) = (&[][..], &[][..], false);
    fields("a deletion", bytes, |number, field| match (number, field) {
        (1, Value::Bytes(found)) => set(&mut key, found),
        (2, Value::Bytes(found)) => set(&mut end, found),
        (3, Value::Varint(flag)) => set(&mut prev_kv, flag != 0),
        _ => false,
    })?;
    Ok(DeleteRange { range: range(key, end), prev_kv })
}

fn range(key: &[u8], end: &[u8]) -> KeyRange {
    KeyRange::new(Bytes::from(key), Bytes::from(end))
}

/// A read in a transaction: it counts where it cannot be done, and shows nothing.
fn query(bytes: &[u8]) -> Result<RangeQuery, EntryError> {
    let (mut key, mut end, mut revision) = (&[][..], &[][..], 0);
    fields("a range", bytes, |number, field| match (number, field) {
        (1, Value::Bytes(found)) => set(&mut key, found),
        (2, Value::Bytes(found)) => set(&mut end, found),
        (4, Value::Varint(found)) => set(&mut revision, found.cast_signed()),
        (3 | 5..=13, Value::Varint(_)) => true,
        _ => false,
    })?;
    Ok(RangeQuery {
        range: range(key, end),
        limit: 1,
        revision: Revision(u64::try_from(revision).unwrap_or(0)),
        order: Order::None,
        target: SortTarget::Key,
        serializable: false,
        keys_only: true,
        count_only: true,
        modified_min: 0,
        modified_max: 0,
        created_min: 0,
        created_max: 0,
    })
}

fn txn(bytes: &[u8], depth: usize) -> Result<Txn, EntryError> {
    const WHAT: &str = "a transaction";
    if depth > DEPTH_MAX {
        return Err(unknown(WHAT, "deeper than any"));
    }
    let mut txn = Txn::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next_field().map_err(proto(WHAT))? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => txn.compares.push(compare(bytes)?),
            (2, Value::Bytes(bytes)) => txn.success.push(op(bytes, depth)?),
            (3, Value::Bytes(bytes)) => txn.failure.push(op(bytes, depth)?),
            field => return Err(proto(WHAT)(unexpected(field))),
        }
    }
    Ok(txn)
}

fn op(bytes: &[u8], depth: usize) -> Result<Op, EntryError> {
    let mut found = None;
    fields("a request in a transaction", bytes, |number, value| match (number, value) {
        (1..=4, Value::Bytes(bytes)) if found.is_none() => set(&mut found, Some((number, bytes))),
        _ => false,
    })?;
    Ok(match found {
        Some((1, bytes)) => Op::Range(query(bytes)?),
        Some((2, bytes)) => Op::Put(put(bytes)?),
        Some((3, bytes)) => Op::DeleteRange(delete(bytes)?),
        Some((_, bytes)) => Op::Txn(txn(bytes, depth + 1)?),
        None => return Err(unknown("a request in a transaction", "that is none")),
    })
}

/// The target says what is compared; what is given for another one counts as zero.
fn compare(bytes: &[u8]) -> Result<Compare, EntryError> {
    let (mut result, mut target, mut key, mut end) = (0, 0, &[][..], &[][..]);
    let mut given: Option<(u64, Value<'_>)> = None;
    fields("a compare", bytes, |number, value| match (number, value) {
        (1, Value::Varint(found)) => set(&mut result, found),
        (2, Value::Varint(found)) => set(&mut target, found),
        (3, Value::Bytes(found)) => set(&mut key, found),
        (64, Value::Bytes(found)) => set(&mut end, found),
        (4 | 5 | 6 | 8, Value::Varint(_)) | (7, Value::Bytes(_)) => {
            set(&mut given, Some((number, value)))
        }
        _ => false,
    })?;
    let number = |field: u64| match given {
        Some((found, Value::Varint(given))) if found == field => given.cast_signed(),
        _ => 0,
    };
    let relation = match result {
        0 => Relation::Equal,
        1 => Relation::Greater,
        2 => Relation::Less,
        3 => Relation::NotEqual,
        other => return Err(unknown("the relation of a compare", other)),
    };
    let target = match target {
        0 => CompareTarget::Version(number(4)),
        1 => CompareTarget::Created(number(5)),
        2 => CompareTarget::Modified(number(6)),
        3 => CompareTarget::Value(match given {
            Some((_, Value::Bytes(given))) => Bytes::from(given),
            _ => Bytes::default(),
        }),
        4 => CompareTarget::Lease(number(8)),
        other => return Err(unknown("the target of a compare", other)),
    };
    Ok(Compare { range: range(key, end), relation, target })
}

/// `None` for one below zero, which is refused.
fn compaction(bytes: &[u8]) -> Result<Option<Revision>, EntryError> {
    let mut revision = 0;
    fields("a compaction", bytes, |number, value| match (number, value) {
        (1, Value::Varint(found)) => set(&mut revision, found),
        (2, Value::Varint(_)) => true,
        _ => false,
    })?;
    Ok(i64::try_from(revision).is_ok().then_some(Revision(revision)))
}

fn lease_grant(bytes: &[u8]) -> Result<Request, EntryError> {
    let (mut ttl_s, mut id) = (0, 0);
    fields("a lease", bytes, |number, value| match (number, value) {
        (1, Value::Varint(found)) => set(&mut ttl_s, found.cast_signed()),
        (2, Value::Varint(found)) => set(&mut id, found.cast_signed()),
        _ => false,
    })?;
    Ok(Request::LeaseGrant { id: LeaseId(id), ttl_s: ttl_s.max(TTL_S_MIN) })
}

/// A message with one number, in its first field.
fn only_number(what: &'static str, bytes: &[u8]) -> Result<i64, EntryError> {
    let mut found = 0;
    fields(what, bytes, |number, value| match (number, value) {
        (1, Value::Varint(number)) => set(&mut found, number.cast_signed()),
        _ => false,
    })?;
    Ok(found)
}

/// As in etcd, each alarm is cleared by its member and its kind.
fn alarm(bytes: &[u8]) -> Result<Option<AlarmRequest>, EntryError> {
    let (mut action, mut member, mut kind) = (0, 0, 0);
    fields("an alarm", bytes, |number, value| match (number, value) {
        (1, Value::Varint(found)) => set(&mut action, found),
        (2, Value::Varint(found)) => set(&mut member, found),
        (3, Value::Varint(found)) => set(&mut kind, found),
        _ => false,
    })?;
    let Some(kind) = alarm_kind(kind)? else { return Ok(None) };
    let member = MemberId(member);
    Ok(match action {
        0 => None,
        1 => Some(AlarmRequest::Activate(Alarm { member, kind })),
        2 => Some(AlarmRequest::Deactivate { member: Some(member), kind: Some(kind) }),
        other => return Err(unknown("the action of an alarm", other)),
    })
}

/// The texts in the first fields of a message.
fn texts<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[String; N], EntryError> {
    let mut found = std::array::from_fn(|_| String::new());
    let mut outcome = Ok(());
    fields(what, bytes, |number, value| {
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match (place.and_then(|place| found.get_mut(place)), value) {
            (Some(to), Value::Bytes(text)) => read_text(what, text, to, &mut outcome),
            _ => false,
        }
    })?;
    outcome?;
    Ok(found)
}

fn password(bytes: &[u8], is_new: bool) -> Result<Meant, EntryError> {
    const WHAT: &str = "a user";
    let (mut user, mut texts) = (String::new(), Ok(()));
    let (mut text, mut hash, mut options) = (&[][..], String::new(), &[][..]);
    let hashed = if is_new { 4 } else { 3 };
    fields(WHAT, bytes, |number, value| match (number, value) {
        (1, Value::Bytes(name)) => read_text(WHAT, name, &mut user, &mut texts),
        (2, Value::Bytes(password)) => set(&mut text, password),
        (number, Value::Bytes(base64)) if number == hashed => {
            read_text("a hashed password", base64, &mut hash, &mut texts)
        }
        (3, Value::Bytes(found)) => set(&mut options, found),
        _ => false,
    })?;
    texts?;
    let given = if has_no_password(options)? {
        Given::None
    } else if hash.is_empty() {
        Given::Text(text.to_vec())
    } else {
        let hash = base64::engine::general_purpose::STANDARD.decode(&hash).ok();
        let hash = hash.and_then(|hash| String::from_utf8(hash).ok());
        Given::Hash(PasswordHash::new(&hash.ok_or(EntryError::NoText("a hashed password"))?))
    };
    Ok(Meant::Password { user, is_new, given })
}

fn role_grant(bytes: &[u8]) -> Result<AuthRequest, EntryError> {
    const WHAT: &str = "a role's permission";
    let (mut role, mut texts, mut held) = (String::new(), Ok(()), None);
    fields(WHAT, bytes, |number, value| match (number, value) {
        (1, Value::Bytes(name)) => read_text(WHAT, name, &mut role, &mut texts),
        (2, Value::Bytes(bytes)) => set(&mut held, Some(bytes)),
        _ => false,
    })?;
    texts?;
    let held = held.ok_or_else(|| unknown(WHAT, "that permits nothing"))?;
    Ok(AuthRequest::RoleGrantPermission { role, permission: permission(held)? })
}

fn role_revoke(bytes: &[u8]) -> Result<AuthRequest, EntryError> {
    const WHAT: &str = "a role's permission";
    let (mut role, mut texts) = (String::new(), Ok(()));
    let (mut key, mut end) = (&[][..], &[][..]);
    fields(WHAT, bytes, |number, value| match (number, value) {
        (1, Value::Bytes(name)) => read_text(WHAT, name, &mut role, &mut texts),
        (2, Value::Bytes(found)) => set(&mut key, found),
        (3, Value::Bytes(found)) => set(&mut end, found),
        _ => false,
    })?;
    texts?;
    Ok(AuthRequest::RoleRevokePermission { role, range: range(key, end) })
}
