//! The v3 key space: revisions, keys, their versions, leases, alarms, users. A pure value, beside the v2 key space and independent of it.
//!
//! Owns: what a request does, what stood at a key at a revision, what changed since one. Never knows: a clock, the disk, the
//! network, deadlines of leases, v2's keys.
//! Holds: the same commands at the same log times give the same key space on every member, for ever. Cloning one is O(1).
//!
//! | part | what it holds |
//! |---|---|
//! | `live` | the newest version of every key that is there |
//! | `past` | versions that were superseded, and deletions, until a compaction takes them |
//! | `log` | every change since the last compaction, in order: what watches from the past and checkpoints read |
//!
//! | file | what is in it |
//! |---|---|
//! | `key.rs`, `request.rs` | the words: keys, intervals, requests, answers, refusals |
//! | `check.rs` | what can be refused without a look at the state |
//! | `write.rs` | puts, deletions, transactions |
//! | `read.rs` | ranges, compares, changes since a revision |
//! | `compaction.rs` | what goes, and when |
//! | `lease.rs`, `auth/` | leases, users |
//! | `tally.rs` | what was done, in numbers |
//! | `encoding.rs`, `records.rs`, `hash.rs` | commands, the state and its checksum as bytes |
//! | `imported.rs` | a key space that another program has kept |

mod auth;
mod check;
mod compaction;
mod encoding;
mod hash;
mod imported;
mod key;
mod lease;
mod read;
mod records;
mod request;
mod tally;
#[cfg(test)]
mod tests;
mod write;

use std::cmp::Ordering;
use std::sync::Arc;

use equivalent::{Comparable, Equivalent};
use imbl::{OrdMap, OrdSet, Vector};

use crate::model::{LogTime, Value};

pub use auth::{
    Asker, Auth, AuthReply, AuthRequest, AuthRevision, Intent, Permission, PermissionKind, ROOT,
    Token, User,
};
pub use check::{TxnLimits, check_delete, check_lease_grant, check_put, check_range, check_txn};
pub use imported::{Import, Inconsistent, Kept};
pub use key::{KeyRange, KeyValue, LeaseId, Revision};
pub use lease::{Deadline, Lease};
pub use records::{Loader, Position};
pub use request::{
    Alarm, AlarmKind, AlarmRequest, Applied, Change, ChangeKind, Command, Compare, CompareTarget,
    DeleteRange, Op, OpReply, Order, Put, RangeQuery, RangeReply, Refusal, Relation, Reply,
    Request, SortTarget, Txn, TxnReply,
};
pub use tally::Tally;

/// The v3 key space, at one revision.
#[derive(Clone, Debug)]
pub struct Mvcc {
    revision: Revision,
    /// None before the first compaction.
    compacted: Option<Revision>,
    live: OrdMap<Value, Arc<KeyValue>>,
    past: OrdSet<Superseded>,
    log: Vector<Arc<KeyValue>>,
    /// So many at the log's front are of the compacted revision, and all that they made free is given back.
    swept: usize,
    leases: OrdMap<LeaseId, Lease>,
    alarms: OrdSet<Alarm>,
    auth: Auth,
    /// What is in `live` and `past`, as [`KeyValue::bytes`] counts it.
    bytes: u64,
    /// What is in `live`.
    live_bytes: u64,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self {
            revision: Revision::FIRST,
            compacted: None,
            live: OrdMap::new(),
            past: OrdSet::new(),
            log: Vector::new(),
            swept: 0,
            leases: OrdMap::new(),
            alarms: OrdSet::new(),
            auth: Auth::default(),
            bytes: 0,
            live_bytes: 0,
        }
    }
}

/// A version that is not the newest of its key, or a deletion. Ordered by key, then by place.
#[derive(Clone, Debug)]
struct Superseded(Arc<KeyValue>);

/// Where a [`Superseded`] stands.
struct Place<'a> {
    key: &'a [u8],
    revision: Revision,
    sub: u32,
}

impl Superseded {
    fn place(&self) -> Place<'_> {
        let (revision, sub) = self.0.place();
        Place { key: &self.0.key, revision, sub }
    }
}

impl Place<'_> {
    fn order(&self, other: &Place<'_>) -> Ordering {
        let keys = self.key.cmp(other.key);
        keys.then_with(|| (self.revision, self.sub).cmp(&(other.revision, other.sub)))
    }
}

impl Ord for Superseded {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().order(&other.place())
    }
}

impl PartialOrd for Superseded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Superseded {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Superseded {}

impl Equivalent<Superseded> for Place<'_> {
    fn equivalent(&self, other: &Superseded) -> bool {
        self.order(&other.place()).is_eq()
    }
}

impl Comparable<Superseded> for Place<'_> {
    fn compare(&self, other: &Superseded) -> Ordering {
        self.order(&other.place())
    }
}

impl Mvcc {
    /// Applies one committed command at a time in the log.
    pub fn apply(&mut self, now: LogTime, command: &Command) -> Applied {
        self.sweep();
        let mut changes = Vec::new();
        let before = self.revision;
        let reply = self.request(now, command, &mut changes);
        assert!(reply.is_ok() || changes.is_empty(), "a refused request changes nothing");
        if !changes.is_empty() {
            self.revision = before.next();
        }
        Applied { revision: self.revision, reply, changes }
    }

    fn request(
        &mut self,
        now: LogTime,
        Command { asker, request }: &Command,
        changes: &mut Vec<Change>,
    ) -> Result<Reply, Refusal> {
        let changes_keys = matches!(
            request,
            Request::Put(_)
                | Request::DeleteRange(_)
                | Request::Txn(_)
                | Request::Compact(_)
                | Request::LeaseGrant { .. }
                | Request::LeaseRevoke(_)
        );
        if changes_keys && self.has_alarm(AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        self.permit(asker, request)?;
        if self.has_alarm(AlarmKind::NoSpace) && request.grows() {
            return Err(Refusal::NoSpace);
        }
        match request {
            Request::Put(put) => self.apply_put(put, changes),
            Request::DeleteRange(delete) => Ok(self.apply_delete(delete, changes)),
            Request::Txn(txn) => self.apply_txn(txn, changes),
            Request::Compact(revision) => self.compact(*revision),
            Request::LeaseGrant { id, ttl_s } => self.grant(*id, *ttl_s),
            Request::LeaseRevoke(id) => self.revoke(*id, changes),
            Request::Alarm(alarm) => Ok(Reply::Alarm(self.change_alarms(*alarm))),
            Request::Auth(change) => self.auth.apply(now, asker, change).map(Reply::Auth),
            Request::LeaseCheckpoint(ends) => Ok(self.checkpoint_leases(ends)),
            Request::LeaseKeepAlive { id, end } => self.lift_deadline(*id, *end),
        }
    }

    /// May the caller do this?
    fn permit(&self, asker: &Asker, request: &Request) -> Result<(), Refusal> {
        if !self.auth.enabled() {
            return Ok(());
        }
        match request {
            Request::Put(put) => self.permit_put(asker, put),
            Request::DeleteRange(delete) => self.permit_delete(asker, delete),
            Request::Txn(txn) => self.permit_txn(asker, txn),
            // etcd asks for nobody here; what is compacted is lost for everybody else.
            Request::Compact(_) => self.auth.check_known(asker),
            Request::LeaseRevoke(id) => self.permit_lease(asker, *id),
            // The last two are the leader's own.
            Request::LeaseGrant { .. }
            | Request::Alarm(_)
            | Request::Auth(_)
            | Request::LeaseCheckpoint(_)
            | Request::LeaseKeepAlive { .. } => Ok(()),
        }
    }

    fn permit_put(&self, asker: &Asker, put: &Put) -> Result<(), Refusal> {
        let key = KeyRange::Single(put.key.clone());
        self.auth.check(asker, Intent::Write, &key)?;
        self.permit_lease(asker, put.lease)?;
        if put.prev_kv { self.auth.check(asker, Intent::Read, &key) } else { Ok(()) }
    }

    fn permit_delete(&self, asker: &Asker, delete: &DeleteRange) -> Result<(), Refusal> {
        self.auth.check(asker, Intent::Write, &delete.range)?;
        if delete.prev_kv { self.auth.check(asker, Intent::Read, &delete.range) } else { Ok(()) }
    }

    /// Who puts on a lease or ends it may make all of its keys go.
    fn permit_lease(&self, asker: &Asker, id: LeaseId) -> Result<(), Refusal> {
        let Some(lease) = self.leases.get(&id) else { return Ok(()) };
        for key in lease.keys() {
            self.auth.check(asker, Intent::Write, &KeyRange::Single(key.clone()))?;
        }
        Ok(())
    }

    /// May the caller do everything in it, on both branches? For those without a write, which do not go through the log.
    ///
    /// # Errors
    /// As [`Auth::check`].
    pub fn permit_txn(&self, asker: &Asker, txn: &Txn) -> Result<(), Refusal> {
        self.auth.check_known(asker)?;
        for compare in &txn.compares {
            self.auth.check(asker, Intent::Read, &compare.range)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(query) => self.auth.check(asker, Intent::Read, &query.range)?,
                Op::Put(put) => self.permit_put(asker, put)?,
                Op::DeleteRange(delete) => self.permit_delete(asker, delete)?,
                Op::Txn(txn) => self.permit_txn(asker, txn)?,
            }
        }
        Ok(())
    }

    fn change_alarms(&mut self, request: AlarmRequest) -> Vec<Alarm> {
        match request {
            AlarmRequest::Activate(alarm) => {
                self.alarms.insert(alarm);
                vec![alarm]
            }
            AlarmRequest::Deactivate { member, kind } => {
                let meant = |alarm: &&Alarm| {
                    member.is_none_or(|member| member == alarm.member)
                        && kind.is_none_or(|kind| kind == alarm.kind)
                };
                let cleared: Vec<_> = self.alarms.iter().filter(meant).copied().collect();
                for alarm in &cleared {
                    self.alarms.remove(alarm);
                }
                cleared
            }
        }
    }

    /// Of the last change. Wire: `header.revision`.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What is older cannot be read any more; none before the first compaction.
    pub fn compacted(&self) -> Option<Revision> {
        self.compacted
    }

    /// All alarms that are raised.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.alarms.iter().copied()
    }

    /// Has any member raised this?
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    /// Users, roles, tokens, and whether they count.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// How many keys there are.
    pub fn keys_count(&self) -> u64 {
        self.live.len() as u64
    }

    /// How many versions are kept, deletions included.
    pub fn versions_count(&self) -> u64 {
        (self.live.len() + self.past.len()) as u64
    }

    /// What all versions weigh that are kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the keys weigh that are there.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Is everything as in a new cluster?
    pub fn is_untouched(&self) -> bool {
        self.revision == Revision::FIRST
            && self.compacted.is_none()
            && self.leases.is_empty()
            && self.alarms.is_empty()
            && self.auth.is_untouched()
    }

    /// Panics unless the parts agree. For tests; walks everything.
    pub fn check(&self) {
        let (mut bytes, mut on_leases) = (0, 0);
        for (key, kv) in &self.live {
            assert_eq!(*key, kv.key);
            assert!(!kv.is_deletion() && kv.modified <= self.revision, "{kv:?}");
            bytes += kv.bytes();
            if !kv.lease.is_none() {
                on_leases += 1;
                let lease =
                    self.leases.get(&kv.lease).expect("a key hangs on a lease that is there");
                assert!(lease.holds(key));
            }
        }
        assert_eq!(bytes, self.live_bytes);
        let held: usize = self.leases.iter().map(|(_, lease)| lease.keys().count()).sum();
        assert_eq!(held, on_leases, "leases and keys agree");
        bytes += self.past.iter().map(|old| old.0.bytes()).sum::<u64>();
        assert_eq!(bytes, self.bytes);
        assert!(self.log.iter().is_sorted_by(|one, other| one.place() < other.place()));
    }
}

impl Request {
    /// Does it need room?
    pub fn grows(&self) -> bool {
        match self {
            Self::Put(_) | Self::LeaseGrant { .. } => true,
            Self::Txn(txn) => txn.puts(),
            Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseCheckpoint(_)
            | Self::LeaseKeepAlive { .. }
            | Self::Alarm(_)
            | Self::Auth(_) => false,
        }
    }
}

impl Txn {
    /// Does any branch put something?
    pub fn puts(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Txn(txn) => txn.puts(),
            Op::Range(_) | Op::DeleteRange(_) => false,
        })
    }

    /// Does no branch write anything? Such a one needs no place in the log.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Txn(txn) => txn.is_read_only(),
            Op::Put(_) | Op::DeleteRange(_) => false,
        })
    }

    /// Will this member's own state do for all that it reads?
    pub fn is_serializable(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(query) => query.serializable,
            Op::Txn(txn) => txn.is_serializable(),
            Op::Put(_) | Op::DeleteRange(_) => true,
        })
    }
}
