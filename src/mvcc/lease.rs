//! Leases: which there are, how long they may live, what hangs on them, and what was recorded of their ends. When one has ended is not
//! decided here.

use std::sync::Arc;

use imbl::OrdSet;

use crate::model::{LogTime, Value};
use crate::mvcc::Mvcc;
use crate::mvcc::key::{KeyValue, LeaseId};
use crate::mvcc::request::{Change, Refusal, Reply};

/// A lease that was granted and not revoked.
#[derive(Clone, Debug)]
pub struct Lease {
    ttl_s: i64,
    deadline: Deadline,
    keys: OrdSet<Value>,
}

/// What the log says of the end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The lease ends then: it was not kept alive since this was recorded.
    Recorded(LogTime),
    /// The lease was kept alive after it was last recorded to end then; only the leader knows when it ends now. Zero if nothing
    /// was ever recorded.
    Lifted(LogTime),
}

impl Deadline {
    /// Of a lease of which nothing was recorded.
    pub(in crate::mvcc) const UNKNOWN: Self = Self::Lifted(LogTime(0));

    /// Does what was recorded last stand?
    pub fn is_recorded(self) -> bool {
        matches!(self, Self::Recorded(_))
    }

    /// The last moment that was recorded, whether it stands or not.
    fn latest(self) -> LogTime {
        match self {
            Self::Recorded(end) | Self::Lifted(end) => end,
        }
    }
}

impl Lease {
    /// One on which nothing hangs.
    pub(in crate::mvcc) fn new(ttl_s: i64) -> Self {
        Self::with_deadline(ttl_s, Deadline::UNKNOWN)
    }

    /// The same, of whose end something was recorded.
    pub(in crate::mvcc) fn with_deadline(ttl_s: i64, deadline: Deadline) -> Self {
        Self { ttl_s, deadline, keys: OrdSet::new() }
    }

    /// What was recorded of its end.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// How long it lives without being kept alive, in seconds.
    pub fn ttl_s(&self) -> i64 {
        self.ttl_s
    }

    /// The keys that hang on it, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Value> {
        self.keys.iter()
    }

    /// Does this key hang on it?
    pub fn holds(&self, key: &Value) -> bool {
        self.keys.contains(key)
    }
}

impl Mvcc {
    /// A lease.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases by id.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// How many there are.
    pub fn leases_count(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn grant(&mut self, id: LeaseId, ttl_s: i64) -> Result<Reply, Refusal> {
        // Nothing may hang on what stands for no lease.
        if id.is_none() || self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        self.leases.insert(id, Lease::new(ttl_s));
        Ok(Reply::LeaseGrant { id, ttl_s })
    }

    pub(super) fn revoke(
        &mut self,
        id: LeaseId,
        changes: &mut Vec<Change>,
    ) -> Result<Reply, Refusal> {
        let lease = self.leases.remove(&id).ok_or(Refusal::LeaseNotFound)?;
        for key in lease.keys() {
            let kv = self.live.get(key).map(Arc::clone).expect("keys and leases agree");
            self.delete(kv, changes);
        }
        Ok(Reply::LeaseRevoke)
    }

    /// Records when these leases end.
    ///
    /// A moment counts only if it is later than the last one that was recorded for the lease. A checkpoint may arrive behind the
    /// keep-alive that it should have come before, because the leader does not wait for the one with the other: it names an end
    /// that was lifted already.
    pub(super) fn checkpoint_leases(&mut self, ends: &[(LeaseId, LogTime)]) -> Reply {
        for (id, end) in ends {
            if let Some(lease) = self.leases.get_mut(id)
                && *end > lease.deadline.latest()
            {
                lease.deadline = Deadline::Recorded(*end);
            }
        }
        Reply::LeaseCheckpoint
    }

    /// The lease was kept alive, though it was recorded to end at `end`.
    pub(super) fn lift_deadline(&mut self, id: LeaseId, end: LogTime) -> Result<Reply, Refusal> {
        let lease = self.leases.get_mut(&id).ok_or(Refusal::LeaseNotFound)?;
        if end >= lease.deadline.latest() {
            lease.deadline = Deadline::Lifted(end);
        }
        Ok(Reply::LeaseKeepAlive)
    }

    /// These leases are not there, on which no key hangs: for a key space that was written down together with leases that came later.
    #[must_use]
    pub fn without_leases(mut self, ids: &[LeaseId]) -> Self {
        for id in ids {
            let gone = self.leases.remove(id);
            debug_assert!(gone.is_none_or(|lease| lease.keys.is_empty()), "keys hang on {id:?}");
        }
        self
    }

    /// No end of a lease is known: for a key space that goes on in another cluster, whose clients could keep nothing alive until now.
    #[must_use]
    pub fn without_deadlines(mut self) -> Self {
        let known = self.leases.iter().filter(|(_, lease)| lease.deadline != Deadline::UNKNOWN);
        let known: Vec<_> = known.map(|(id, _)| *id).collect();
        for id in known {
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.deadline = Deadline::UNKNOWN;
            }
        }
        self
    }

    /// The key hangs on the lease of `kv` instead of on that of `prev`.
    pub(super) fn attach(&mut self, prev: Option<&KeyValue>, kv: Option<&KeyValue>) {
        let before = prev.map_or(LeaseId::NONE, |prev| prev.lease);
        let after = kv.map_or(LeaseId::NONE, |kv| kv.lease);
        if before == after {
            return;
        }
        if let Some((prev, lease)) =
            prev.and_then(|prev| Some((prev, self.leases.get_mut(&before)?)))
        {
            lease.keys.remove(&prev.key);
        }
        if let Some((kv, lease)) = kv.and_then(|kv| Some((kv, self.leases.get_mut(&after)?))) {
            lease.keys.insert(kv.key.clone());
        }
    }
}
