//! The checksum over all changes up to a revision that members compare: etcd's, to the bit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::mvcc::Mvcc;
use crate::mvcc::key::{KeyValue, Revision};
use crate::mvcc::request::Refusal;

impl Mvcc {
    /// The checksum at a revision, zero for now; and the compacted revision then. Walks everything.
    ///
    /// # Errors
    /// [`Refusal::Compacted`], also for the compacted revision itself; [`Refusal::FutureRevision`].
    pub fn hash(&self, revision: Revision) -> Result<(u32, Option<Revision>), Refusal> {
        let asked = revision != Revision(0);
        if asked && self.compacted.is_some_and(|compacted| revision <= compacted) {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        let last = if asked { revision } else { self.revision };
        let compacted = self.compacted.unwrap_or_default();
        let old = self.old_versions();
        let all = || old.iter().chain(&self.log);
        // Of what was compacted, etcd counts the keys that are there now and have not changed since. If no key is there now, it counts
        // what the compaction left.
        let now = newest(all().take_while(|kv| kv.modified <= last));
        let kept = match now.is_empty() {
            false => now,
            true => newest(all().take_while(|kv| kv.modified <= compacted)),
        };
        let mut crc = crc32c::crc32c(b"key");
        for kv in all().take_while(|kv| kv.modified <= last) {
            if kv.modified <= compacted && !kept.contains(&kv.place()) {
                continue;
            }
            crc = crc32c::crc32c_append(crc, &stored_key(kv));
            crc = crc32c::crc32c_append(crc, &stored_value(kv));
        }
        Ok((crc, self.compacted))
    }
}

impl Mvcc {
    /// All changes in their order as etcd stores them, key and value, without those that a compaction has made dispensable.
    pub fn stored(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let compacted = self.compacted.unwrap_or_default();
        let old = self.old_versions();
        let all = move || old.clone().into_iter().chain(self.log.iter().map(Arc::clone));
        let before: Vec<_> = all().take_while(|kv| kv.modified <= compacted).collect();
        let kept = newest(before.iter());
        let is_kept =
            move |kv: &Arc<KeyValue>| kv.modified > compacted || kept.contains(&kv.place());
        all().filter(is_kept).map(|kv| (stored_key(&kv), stored_value(&kv)))
    }
}

/// Of changes in their order, the last one of each key that it did not delete.
fn newest<'a>(changes: impl Iterator<Item = &'a Arc<KeyValue>>) -> BTreeSet<(Revision, u32)> {
    let last: BTreeMap<&[u8], &KeyValue> = changes.map(|kv| (&*kv.key, &**kv)).collect();
    last.values().filter(|kv| !kv.is_deletion()).map(|kv| kv.place()).collect()
}

/// The key under which etcd stores a change.
fn stored_key(kv: &KeyValue) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&kv.modified.0.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&u64::from(kv.sub).to_be_bytes());
    if kv.is_deletion() {
        key.push(b't');
    }
    key
}

/// What etcd stores there: a `mvccpb.KeyValue`, fields in the order of their numbers, zeros left out.
fn stored_value(kv: &KeyValue) -> Vec<u8> {
    const BYTES: u64 = 2;
    let mut out = crate::model::Writer::with_capacity(32 + kv.key.len() + kv.value.len());
    let mut bytes = |field: u64, value: &[u8]| {
        if !value.is_empty() {
            out.varint(field << 3 | BYTES).bytes(value);
        }
    };
    bytes(1, &kv.key);
    if kv.is_deletion() {
        return out.finish();
    }
    let mut number = |field: u64, value: u64| {
        if value != 0 {
            out.varint(field << 3).varint(value);
        }
    };
    number(2, kv.created.0);
    number(3, kv.modified.0);
    number(4, kv.version);
    if !kv.value.is_empty() {
        out.varint(5 << 3 | BYTES).bytes(&kv.value);
    }
    if !kv.lease.is_none() {
        out.varint(6 << 3).varint(kv.lease.0.cast_unsigned());
    }
    out.finish()
}
