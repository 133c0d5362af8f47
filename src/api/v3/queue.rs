//! A queue in the key space, as etcd's clients make it: who made the oldest key below a name is first.
//!
//! Locks and elections are two names for it. The key of whoever waits hangs on a lease, so that nobody waits for those who are gone;
//! each waits for the one before it alone, so that one that leaves wakes one.

use std::sync::Arc;

use crate::api::context::Context;
use crate::api::v3::{access, lease, refused, write};
use crate::model::{Unavailable, Value};
use crate::mvcc::{
    Asker, Command, Compare, CompareTarget, DeleteRange, Intent, KeyRange, KeyValue, LeaseId, Mvcc,
    Op, OpReply, Order, Put, RangeQuery, Relation, Reply, Request, Revision, SortTarget, Txn,
};
use crate::raft::View;
use crate::replica::v3::watch::{Told, Wanted, Wants, WatchStream};
use crate::rpc::{Status, status};
use crate::store;

/// How long a place is kept for a client that has no lease, as in etcd.
const LEASE_TTL_S: i64 = 60;

/// A name, and who asks for it.
pub(super) struct Queue {
    pub(super) api: Arc<Context>,
    pub(super) asker: Asker,
    /// What its keys begin with.
    prefix: Vec<u8>,
}

/// A place in a queue; it is given back when it is dropped before it is taken.
pub(super) struct Place {
    api: Arc<Context>,
    asker: Asker,
    pub(super) key: Value,
    /// The revision that made the key.
    pub(super) created: Revision,
    /// By what the key is known: as a client may have the key already and want it twice, no other is given back.
    mark: Compare,
    pub(super) lease: LeaseId,
    /// The lease was granted for this place alone.
    own_lease: bool,
    taken: bool,
}

impl Queue {
    pub(super) fn new(api: Arc<Context>, asker: Asker, name: &[u8]) -> Self {
        Self { api, asker, prefix: [name, b"/"].concat() }
    }

    fn keys(&self) -> KeyRange {
        let mut end = self.prefix.clone();
        if let Some(slash) = end.last_mut() {
            *slash += 1;
        }
        KeyRange::Between(self.prefix[..].into(), end.into())
    }

    /// Takes a place with a value, or finds the one that the lease has already. Returns the value that stands there as well.
    pub(super) async fn join(
        &self,
        lease: LeaseId,
        value: Value,
    ) -> Result<(Place, Value), Status> {
        let own_lease = lease.is_none();
        let lease = if own_lease { self.lease().await? } else { lease };
        let key: Value = [&self.prefix[..], hex(lease).as_bytes()].concat().into();
        let mut put = Put::new(key.clone(), value.clone());
        put.lease = lease;
        let range = KeyRange::Single(key.clone());
        let txn = Txn {
            compares: vec![created_is(&key, Relation::Equal, 0)],
            success: vec![Op::Put(put), Op::Range(first(self.keys()))],
            failure: vec![Op::Range(RangeQuery::of(range)), Op::Range(first(self.keys()))],
        };
        let place = |created: Revision, relation| Place {
            api: Arc::clone(&self.api),
            asker: self.asker.clone(),
            key: key.clone(),
            created,
            mark: created_is(&key, relation, created.0),
            lease,
            own_lease,
            taken: false,
        };
        // The client may be gone before it is known what became of this: then whatever is made from now on must not stay behind.
        let mut unknown = place(self.api.replica.view().store.mvcc().revision(), Relation::Greater);
        let (revision, reply) = self.change(Request::Txn(txn)).await?;
        unknown.taken = true;
        let Reply::Txn(reply) = reply else { unreachable!("a transaction came to {reply:?}") };
        match reply.replies.into_iter().next() {
            Some(OpReply::Range { reply, .. }) if !reply.kvs.is_empty() => {
                let kv = &reply.kvs[0];
                Ok((place(kv.created, Relation::Equal), kv.value.clone()))
            }
            _ => Ok((place(revision, Relation::Equal), value)),
        }
    }

    async fn lease(&self) -> Result<LeaseId, Status> {
        let granted =
            lease::grant_to(&self.api, &self.asker, LeaseId::NONE, LEASE_TTL_S, None).await?;
        Ok(granted.id)
    }

    /// Changes the key space and says what came of it.
    pub(super) async fn change(&self, request: Request) -> Result<(Revision, Reply), Status> {
        write(&self.api, self.asker.clone(), request, None).await
    }

    /// Waits until a place is the first. It must be there still: whoever holds a lease that ended meanwhile is not first.
    pub(super) async fn wait(&self, place: &Place) -> Result<(), Status> {
        loop {
            // It holds the place itself, so it holds everything that was before it.
            let view = self.api.replica.view();
            let Some(before) = self.before(view.store.mvcc(), place.created) else { break };
            self.until_deleted(&view, &before.key).await?;
        }
        self.api.replica.read_barrier().await.map_err(refused::unavailable)?;
        let view = self.api.replica.view();
        let there = view.store.mvcc().get(&place.key).is_some_and(|kv| kv.created == place.created);
        if there { Ok(()) } else { Err(status::SESSION_EXPIRED) }
    }

    /// The place before one, if there is any.
    fn before(&self, mvcc: &Mvcc, created: Revision) -> Option<Arc<KeyValue>> {
        let created_max = i64::try_from(created.0).unwrap_or(i64::MAX).saturating_sub(1);
        let (order, target) = (Order::Descend, SortTarget::Created);
        let query =
            RangeQuery { created_max, order, target, limit: 1, ..RangeQuery::of(self.keys()) };
        // What is not read in the past is always there.
        mvcc.range(&query).ok()?.kvs.pop()
    }

    /// The first place, if there is any.
    pub(super) fn first(&self, mvcc: &Mvcc) -> Option<Arc<KeyValue>> {
        mvcc.range(&first(self.keys())).ok()?.kvs.pop()
    }

    async fn until_deleted(&self, view: &View, key: &Value) -> Result<(), Status> {
        let range = KeyRange::Single(key.clone());
        let wants = Wants { puts: false, deletes: true, previous: false };
        let mut watchers = self.watch(view, range, wants)?;
        match watchers.next().await {
            // That it is compacted says that something happened; the next look says what.
            Some(Told::Events { .. } | Told::Compacted { .. } | Told::Progress { .. }) => Ok(()),
            None => Err(status::STOPPED),
        }
    }

    /// Watches what follows a view.
    fn watch(&self, view: &View, range: KeyRange, wants: Wants) -> Result<WatchStream, Status> {
        let mut watchers =
            self.api.replica.hub().v3().stream(self.api.settings.watch_progress_interval);
        let from = Some(view.store.mvcc().revision().next());
        match watchers.create(Wanted { id: 0, range, from, wants, progress: false }) {
            Ok(_) => Ok(watchers),
            Err(_) => Err(refused::unavailable(Unavailable::TooManyWatchers)),
        }
    }

    /// Watches all places, or one, behind a view.
    pub(super) fn watch_places(
        &self,
        view: &View,
        one: Option<Value>,
    ) -> Result<WatchStream, Status> {
        let range = one.map_or_else(|| self.keys(), KeyRange::Single);
        self.watch(view, range, Wants { puts: true, deletes: true, previous: false })
    }

    /// May the caller see who is in the queue?
    pub(super) fn check_read(&self) -> Result<(), Status> {
        access::check(&self.api, &self.asker, Intent::Read, &self.keys())
    }

    /// If a place is still there: writes what `then` says.
    pub(super) async fn if_there(
        &self,
        key: &Value,
        created: u64,
        then: Op,
    ) -> Result<(Revision, bool), Status> {
        let compares = vec![created_is(key, Relation::Equal, created)];
        let txn = Txn { compares, success: vec![then], failure: Vec::new() };
        let (revision, reply) = self.change(Request::Txn(txn)).await?;
        let Reply::Txn(reply) = reply else { unreachable!("a transaction came to {reply:?}") };
        Ok((revision, reply.succeeded))
    }
}

/// How the revision that made a key compares.
fn created_is(key: &Value, relation: Relation, created: u64) -> Compare {
    let target = CompareTarget::Created(i64::try_from(created).unwrap_or(i64::MAX));
    Compare { range: KeyRange::Single(key.clone()), relation, target }
}

/// The oldest of these keys.
fn first(range: KeyRange) -> RangeQuery {
    let (order, target) = (Order::Ascend, SortTarget::Created);
    RangeQuery { order, target, limit: 1, ..RangeQuery::of(range) }
}

/// As Go writes it.
fn hex(LeaseId(lease): LeaseId) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

impl Place {
    /// It stays when this is dropped: its client knows of it.
    pub(super) fn take(mut self) -> Self {
        self.taken = true;
        self
    }
}

impl Drop for Place {
    /// Its client has given up, or was refused.
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        // Where there is no runtime any more the member stops, and the place goes with its lease.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (api, asker, lease) = (Arc::clone(&self.api), self.asker.clone(), self.lease);
        let request = if self.own_lease {
            Request::LeaseRevoke(lease)
        } else {
            let range = KeyRange::Single(self.key.clone());
            let delete = Op::DeleteRange(DeleteRange { range, prev_kv: false });
            let compares = vec![self.mark.clone()];
            Request::Txn(Txn { compares, success: vec![delete], failure: Vec::new() })
        };
        runtime.spawn(async move {
            let command = store::Command::Mvcc(Command { asker, request });
            // Without a leader this takes long; the place does not outlive its lease.
            while let Err(why) = api.replica.write(command.clone()).await {
                let over = why == Unavailable::Stopped || why == Unavailable::Interrupted;
                if over || api.replica.view().store.mvcc().lease(lease).is_none() {
                    break;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_written_as_go_writes_them() {
        assert_eq!(hex(LeaseId(0x694d_7aa0)), "694d7aa0");
        assert_eq!(hex(LeaseId(-255)), "-ff");
        assert_eq!(hex(LeaseId(i64::MIN)), "-8000000000000000");
    }
}
