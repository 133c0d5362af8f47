//! Leases: which there are, how long they may live, what hangs on them. When they end is not known here.

use std::sync::Arc;

use imbl::OrdSet;

use crate::model::Value;
use crate::mvcc::Mvcc;
use crate::mvcc::key::{KeyValue, LeaseId};
use crate::mvcc::request::{Change, Refusal, Reply};

/// A lease that was granted and not revoked.
#[derive(Clone, Debug)]
pub struct Lease {
    ttl_s: i64,
    keys: OrdSet<Value>,
}

impl Lease {
    /// One on which nothing hangs.
    pub(in crate::mvcc) fn new(ttl_s: i64) -> Self {
        Self { ttl_s, keys: OrdSet::new() }
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
