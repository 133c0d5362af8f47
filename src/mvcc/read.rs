//! Ranges now and in the past, compares, changes since a revision.

use std::ops::Bound;
use std::sync::Arc;

use crate::model::Value;
use crate::mvcc::key::{KeyRange, KeyValue, Revision};
use crate::mvcc::request::{
    Change, Compare, CompareTarget, Op, OpReply, Order, RangeQuery, RangeReply, Refusal, Relation,
    SortTarget, Txn, TxnReply,
};
use crate::mvcc::write::Chosen;
use crate::mvcc::{Mvcc, Place};

impl Mvcc {
    /// Reads keys.
    ///
    /// # Errors
    /// [`Refusal::Compacted`], [`Refusal::FutureRevision`].
    pub fn range(&self, query: &RangeQuery) -> Result<RangeReply, Refusal> {
        self.check_revision(query.revision)?;
        Ok(self.read(query, self.revision))
    }

    /// What stands at a key now.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.live.get(key)
    }

    /// Does the condition hold?
    pub fn compare(&self, compare: &Compare) -> bool {
        if compare.range.is_empty() {
            return holds(compare, None);
        }
        let mut found = self.live.range::<_, [u8]>(compare.range.bounds()).peekable();
        if found.peek().is_none() {
            return holds(compare, None);
        }
        found.all(|(_, kv)| holds(compare, Some(kv)))
    }

    /// Does a transaction that writes nothing.
    ///
    /// # Errors
    /// As [`Mvcc::range`], of any of its requests.
    ///
    /// # Panics
    /// Unless [`Txn::is_read_only`].
    pub fn txn_read(&self, txn: &Txn) -> Result<TxnReply, Refusal> {
        let chosen = self.choose(txn);
        self.check_chosen(&chosen)?;
        Ok(self.run_reads(&chosen))
    }

    fn run_reads(&self, chosen: &Chosen<'_>) -> TxnReply {
        let replies = chosen.ops.iter().map(|(op, inside)| match (op, inside) {
            (Op::Range(query), _) => {
                let revision = self.revision;
                OpReply::Range { revision, reply: self.read(query, revision) }
            }
            (Op::Txn(_), Some(inside)) => OpReply::Txn(self.run_reads(inside)),
            (Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_), _) => {
                unreachable!("it writes nothing")
            }
        });
        TxnReply { succeeded: chosen.succeeded, replies: replies.collect() }
    }

    /// Can this revision be read?
    pub(super) fn check_revision(&self, revision: Revision) -> Result<(), Refusal> {
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        if revision != Revision(0) && self.compacted.is_some_and(|compacted| revision < compacted) {
            return Err(Refusal::Compacted);
        }
        Ok(())
    }

    /// Reads at a revision that can be read. `now` is the revision of what stands at the keys: the next one while a transaction is
    /// being applied that has changed something.
    pub(super) fn read(&self, query: &RangeQuery, now: Revision) -> RangeReply {
        if query.range.is_empty() {
            return RangeReply::default();
        }
        if query.revision == Revision(0) || query.revision == now {
            let live = self.live.range::<_, [u8]>(query.range.bounds());
            select(query, live.map(|(_, kv)| kv))
        } else {
            select(query, self.range_at(&query.range, query.revision).iter())
        }
    }

    /// The keys that were there at a revision, in order.
    fn range_at(&self, range: &KeyRange, revision: Revision) -> Vec<Arc<KeyValue>> {
        let mut then = self.past_at(range, revision).into_iter().peekable();
        let mut found = Vec::new();
        for (key, kv) in self.live.range::<_, [u8]>(range.bounds()) {
            while let Some(older) = then.next_if(|older| older.key < *key) {
                found.push(older);
            }
            if kv.modified <= revision {
                // Whatever it superseded was no longer there.
                then.next_if(|older| older.key == *key);
                found.push(Arc::clone(kv));
            }
        }
        found.extend(then);
        found.retain(|kv| !kv.is_deletion());
        found
    }

    /// Of each key that has older versions or was deleted, the newest of these at a revision, in the order of the keys.
    fn past_at(&self, range: &KeyRange, revision: Revision) -> Vec<Arc<KeyValue>> {
        let end = range.end();
        let mut found = Vec::new();
        let mut from = Place { key: range.start(), revision: Revision(0), sub: 0 };
        while let Some(first) = self.past.get_next(&from) {
            let key = &first.0.key;
            if end.as_ref().is_some_and(|end| key >= end) {
                break;
            }
            let newest = Place { key, revision, sub: u32::MAX };
            if let Some(older) = self.past.get_prev(&newest).filter(|older| older.0.key == *key) {
                found.push(Arc::clone(&older.0));
            }
            from = Place { key, revision: Revision(u64::MAX), sub: u32::MAX };
        }
        found
    }

    /// The version of the key that this change superseded, if it was there and is kept.
    pub(super) fn before(&self, kv: &KeyValue) -> Option<&Arc<KeyValue>> {
        let (revision, sub) = kv.place();
        let here = Place { key: &kv.key, revision, sub };
        let mut before =
            self.past.range::<_, Place<'_>>((Bound::Unbounded, Bound::Excluded(&here)));
        before.next_back().map(|older| &older.0).filter(|older| older.key == kv.key)
    }

    /// Did this change put what stood at the key when its revision was done? A later part of the same transaction may have put or
    /// deleted the key again.
    pub(super) fn survives_its_revision(&self, kv: &KeyValue) -> bool {
        let of_the_same = |other: &KeyValue| other.modified == kv.modified && other.sub > kv.sub;
        let is_superseded = || {
            let here = Place { key: &kv.key, revision: kv.modified, sub: kv.sub };
            let mut behind =
                self.past.range::<_, Place<'_>>((Bound::Excluded(&here), Bound::Unbounded));
            let next = behind.next().filter(|next| next.0.key == kv.key);
            next.is_some_and(|next| of_the_same(&next.0))
                || self.live.get(&kv.key).is_some_and(|live| of_the_same(live))
        };
        !kv.is_deletion() && !is_superseded()
    }

    /// What changed from this revision on, oldest first; nothing for one in the future.
    ///
    /// # Errors
    /// [`Refusal::Compacted`].
    pub fn changes_since(
        &self,
        revision: Revision,
    ) -> Result<impl Iterator<Item = Change> + '_, Refusal> {
        if self.compacted.is_some_and(|compacted| revision < compacted) {
            return Err(Refusal::Compacted);
        }
        // At the compacted revision itself stand the keys that were put by it: no deletion, and nothing of before.
        let is_last = move |kv: &KeyValue| Some(kv.modified) == self.compacted;
        let kept = move |kv: &&Arc<KeyValue>| !is_last(kv) || self.survives_its_revision(kv);
        let change = move |kv: &Arc<KeyValue>| {
            let prev = self.before(kv).filter(|prev| !prev.is_deletion() && !is_last(kv));
            Change { kv: Arc::clone(kv), prev: prev.map(Arc::clone) }
        };
        Ok(self.log_from(revision).filter(kept).map(change))
    }

    /// Changes from this revision on, as far as they are in the log.
    pub(super) fn log_from(&self, revision: Revision) -> impl Iterator<Item = &Arc<KeyValue>> {
        let first = self.log.binary_search_by(|kv| kv.place().cmp(&(revision, 0)));
        let first = first.unwrap_or_else(|first| first);
        self.log.focus().narrow(first..).into_iter()
    }
}

/// Filters, sorts and limits.
fn select<'a>(query: &RangeQuery, all: impl Iterator<Item = &'a Arc<KeyValue>>) -> RangeReply {
    if query.count_only {
        return RangeReply { kvs: Vec::new(), more: false, count: all.count() as u64 };
    }
    let limit = match query.limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let is_sorted = query.target == SortTarget::Key && query.order != Order::Descend;
    // As in etcd: without an order and a filter, only the first keys that the limit allows, and one more, are sorted by another target.
    let sorted_max = match query.order {
        Order::None if !filters(query) => limit.saturating_add(1),
        Order::None | Order::Ascend | Order::Descend => usize::MAX,
    };
    let (mut kvs, mut count, mut more) = (Vec::new(), 0, false);
    for kv in all {
        count += 1;
        if !passes(query, kv) {
            continue;
        }
        if is_sorted && kvs.len() == limit {
            more = true;
        } else if kvs.len() < sorted_max {
            kvs.push(Arc::clone(kv));
        }
    }
    if !is_sorted {
        sort(query, &mut kvs);
        more = kvs.len() > limit;
        kvs.truncate(limit);
    }
    RangeReply { kvs, more, count }
}

fn filters(query: &RangeQuery) -> bool {
    let bounds = [query.modified_min, query.modified_max, query.created_min, query.created_max];
    bounds.iter().any(|bound| *bound != 0)
}

fn passes(query: &RangeQuery, kv: &KeyValue) -> bool {
    let within = |revision: Revision, min: i64, max: i64| {
        let revision = i64::try_from(revision.0).unwrap_or(i64::MAX);
        (min == 0 || revision >= min) && (max == 0 || revision <= max)
    };
    within(kv.modified, query.modified_min, query.modified_max)
        && within(kv.created, query.created_min, query.created_max)
}

/// Keys that are equal in what they are sorted by stay in their own order.
fn sort(query: &RangeQuery, kvs: &mut [Arc<KeyValue>]) {
    let order = |one: &Arc<KeyValue>, other: &Arc<KeyValue>| match query.target {
        SortTarget::Key => one.key.cmp(&other.key),
        SortTarget::Version => one.version.cmp(&other.version),
        SortTarget::Created => one.created.cmp(&other.created),
        SortTarget::Modified => one.modified.cmp(&other.modified),
        SortTarget::Value => one.value.cmp(&other.value),
    };
    match query.order {
        Order::None | Order::Ascend => kvs.sort_by(order),
        Order::Descend => kvs.sort_by(|one, other| order(other, one)),
    }
}

/// Does the condition hold of a key, or of a missing one?
fn holds(compare: &Compare, kv: Option<&Arc<KeyValue>>) -> bool {
    let number =
        |of: fn(&KeyValue) -> u64| kv.map_or(0, |kv| i64::try_from(of(kv)).unwrap_or(i64::MAX));
    let order = match &compare.target {
        CompareTarget::Version(given) => number(|kv| kv.version).cmp(given),
        CompareTarget::Created(given) => number(|kv| kv.created.0).cmp(given),
        CompareTarget::Modified(given) => number(|kv| kv.modified.0).cmp(given),
        CompareTarget::Lease(given) => kv.map_or(0, |kv| kv.lease.0).cmp(given),
        CompareTarget::Value(given) => match kv {
            Some(kv) => Value::cmp(&kv.value, given),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    }
}
