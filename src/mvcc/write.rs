//! Puts, deletions, transactions.
//!
//! A request looks at everything that could refuse it before it changes anything.

use std::sync::Arc;

use crate::model::Value;
use crate::mvcc::key::{KeyRange, KeyValue, LeaseId, Revision};
use crate::mvcc::request::{Change, DeleteRange, Op, OpReply, Put, Refusal, Reply, Txn, TxnReply};
use crate::mvcc::{Mvcc, Superseded};

/// The branch that a transaction takes, and those that the ones inside of it take: all are chosen before anything is written.
pub(super) struct Chosen<'a> {
    pub(super) succeeded: bool,
    pub(super) ops: Vec<(&'a Op, Option<Chosen<'a>>)>,
}

impl Mvcc {
    pub(super) fn apply_put(
        &mut self,
        put: &Put,
        changes: &mut Vec<Change>,
    ) -> Result<Reply, Refusal> {
        self.check_lease(put.lease)?;
        self.check_ignored(put)?;
        let prev = self.put(put, changes);
        Ok(Reply::Put { prev: prev.filter(|_| put.prev_kv) })
    }

    pub(super) fn apply_delete(
        &mut self,
        delete: &DeleteRange,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let gone = self.delete_range(&delete.range, changes);
        let deleted = gone.len() as u64;
        Reply::DeleteRange { deleted, prev_kvs: if delete.prev_kv { gone } else { Vec::new() } }
    }

    pub(super) fn apply_txn(
        &mut self,
        txn: &Txn,
        changes: &mut Vec<Change>,
    ) -> Result<Reply, Refusal> {
        let chosen = self.choose(txn);
        self.check_chosen(&chosen)?;
        Ok(Reply::Txn(self.run(&chosen, changes)))
    }

    /// Which branches are taken.
    pub(super) fn choose<'a>(&self, txn: &'a Txn) -> Chosen<'a> {
        let succeeded = txn.compares.iter().all(|compare| self.compare(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let ops = branch.iter().map(|op| {
            let inside = match op {
                Op::Txn(txn) => Some(self.choose(txn)),
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => None,
            };
            (op, inside)
        });
        Chosen { succeeded, ops: ops.collect() }
    }

    /// Can all of it be done? As in etcd, what is wrong with any put is said before what is wrong with a range.
    pub(super) fn check_chosen(&self, chosen: &Chosen<'_>) -> Result<(), Refusal> {
        self.check_puts(chosen)?;
        self.check_ranges(chosen)
    }

    fn check_puts(&self, chosen: &Chosen<'_>) -> Result<(), Refusal> {
        for (op, inside) in &chosen.ops {
            match op {
                Op::Put(put) => {
                    self.check_ignored(put)?;
                    self.check_lease(put.lease)?;
                }
                Op::Range(_) | Op::DeleteRange(_) => {}
                Op::Txn(_) => inside.iter().try_for_each(|inside| self.check_puts(inside))?,
            }
        }
        Ok(())
    }

    fn check_ranges(&self, chosen: &Chosen<'_>) -> Result<(), Refusal> {
        for (op, inside) in &chosen.ops {
            match op {
                Op::Range(query) => self.check_revision(query.revision)?,
                Op::Put(_) | Op::DeleteRange(_) => {}
                Op::Txn(_) => inside.iter().try_for_each(|inside| self.check_ranges(inside))?,
            }
        }
        Ok(())
    }

    fn run(&mut self, chosen: &Chosen<'_>, changes: &mut Vec<Change>) -> TxnReply {
        let mut replies = Vec::with_capacity(chosen.ops.len());
        for (op, inside) in &chosen.ops {
            replies.push(match op {
                Op::Range(query) => {
                    let revision = self.revision_with(changes);
                    OpReply::Range { revision, reply: self.read(query, revision) }
                }
                Op::Put(put) => {
                    let prev = self.put(put, changes).filter(|_| put.prev_kv);
                    OpReply::Put { revision: self.revision_with(changes), prev }
                }
                Op::DeleteRange(delete) => {
                    let gone = self.delete_range(&delete.range, changes);
                    let deleted = gone.len() as u64;
                    let prev_kvs = if delete.prev_kv { gone } else { Vec::new() };
                    let revision = self.revision_with(changes);
                    OpReply::DeleteRange { revision, deleted, prev_kvs }
                }
                Op::Txn(_) => {
                    let inside = inside.as_ref().expect("a branch was chosen for each");
                    OpReply::Txn(self.run(inside, changes))
                }
            });
        }
        TxnReply { succeeded: chosen.succeeded, replies }
    }

    /// The revision while a request is being applied that has changed this so far.
    fn revision_with(&self, changes: &[Change]) -> Revision {
        if changes.is_empty() { self.revision } else { self.revision.next() }
    }

    fn check_lease(&self, lease: LeaseId) -> Result<(), Refusal> {
        if lease.is_none() || self.leases.contains_key(&lease) {
            Ok(())
        } else {
            Err(Refusal::LeaseNotFound)
        }
    }

    /// What stays as it is must be there.
    fn check_ignored(&self, put: &Put) -> Result<(), Refusal> {
        if (put.ignore_value || put.ignore_lease) && !self.live.contains_key(&put.key) {
            Err(Refusal::KeyNotFound)
        } else {
            Ok(())
        }
    }

    /// Puts, and returns what was there.
    fn put(&mut self, put: &Put, changes: &mut Vec<Change>) -> Option<Arc<KeyValue>> {
        let main = self.revision.next();
        let prev = self.live.get(&put.key).map(Arc::clone);
        // Versions of a key share its bytes.
        let key = prev.as_ref().map_or(&put.key, |prev| &prev.key).clone();
        let kept = prev.as_deref();
        let value = kept.filter(|_| put.ignore_value).map_or(&put.value, |prev| &prev.value);
        let kv = Arc::new(KeyValue {
            value: value.clone(),
            created: kept.map_or(main, |prev| prev.created),
            modified: main,
            version: kept.map_or(0, |prev| prev.version) + 1,
            lease: kept.filter(|_| put.ignore_lease).map_or(put.lease, |prev| prev.lease),
            sub: place_of(changes),
            key,
        });
        self.attach(kept, Some(&kv));
        self.live.insert(kv.key.clone(), Arc::clone(&kv));
        self.bytes += kv.bytes();
        self.live_bytes += kv.bytes();
        if let Some(prev) = &prev {
            self.live_bytes -= prev.bytes();
            self.past.insert(Superseded(Arc::clone(prev)));
        }
        self.log.push_back(Arc::clone(&kv));
        changes.push(Change { kv, prev: prev.clone() });
        prev
    }

    fn delete_range(&mut self, range: &KeyRange, changes: &mut Vec<Change>) -> Vec<Arc<KeyValue>> {
        if range.is_empty() {
            return Vec::new();
        }
        let found = self.live.range::<_, [u8]>(range.bounds());
        let found: Vec<_> = found.map(|(_, kv)| Arc::clone(kv)).collect();
        for kv in &found {
            self.attach(Some(kv), None);
            self.delete(Arc::clone(kv), changes);
        }
        found
    }

    /// Deletes what is there; it hangs on no lease any more.
    pub(super) fn delete(&mut self, prev: Arc<KeyValue>, changes: &mut Vec<Change>) {
        let kv = Arc::new(KeyValue {
            key: prev.key.clone(),
            value: Value::default(),
            created: Revision(0),
            modified: self.revision.next(),
            version: 0,
            lease: LeaseId::NONE,
            sub: place_of(changes),
        });
        self.live.remove(&kv.key);
        self.bytes += kv.bytes();
        self.live_bytes -= prev.bytes();
        self.past.insert(Superseded(Arc::clone(&prev)));
        self.past.insert(Superseded(Arc::clone(&kv)));
        self.log.push_back(Arc::clone(&kv));
        changes.push(Change { kv, prev: Some(prev) });
    }
}

/// The place in its revision of the next change.
fn place_of(changes: &[Change]) -> u32 {
    u32::try_from(changes.len()).expect("so many keys do not fit in memory")
}
