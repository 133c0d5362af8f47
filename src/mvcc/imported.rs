//! A key space that goes on from what another program kept.
//!
//! Owns: the door through which revisions come in that are given already. Never knows: the other program's files.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::model::Value;
use crate::mvcc::auth::Auth;
use crate::mvcc::key::{KeyValue, LeaseId, Revision};
use crate::mvcc::lease::Lease;
use crate::mvcc::records::Loader;
use crate::mvcc::request::Alarm;
use crate::mvcc::{AlarmKind, Mvcc};

/// What is no key space.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Inconsistent {
    /// Two changes with the same place, or one behind the last revision.
    #[error("two changes have the same revision, or one is behind the last revision")]
    Places,
    /// A change that no request can have made.
    #[error("the change {}_{} is one that no request makes", .0.0, .0.1)]
    Change((u64, u32)),
    /// A lease that stands for none, or one that is there twice.
    #[error("there cannot be a lease {0}")]
    Lease(i64),
}

/// Everything but the changes.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Of the last change.
    pub revision: Revision,
    /// None before the first compaction.
    pub compacted: Option<Revision>,
    /// With their lives in seconds.
    pub leases: Vec<(LeaseId, i64)>,
    /// Those that are raised.
    pub alarms: Vec<Alarm>,
    /// Users and roles.
    pub auth: Auth,
}

/// Puts a key space together.
#[derive(Debug, Default)]
pub struct Import {
    changes: Vec<Arc<KeyValue>>,
}

impl Import {
    /// Adds a change: in any order, each once; also such as a compaction has made dispensable.
    ///
    /// # Errors
    /// [`Inconsistent::Change`].
    pub fn change(&mut self, kv: KeyValue) -> Result<(), Inconsistent> {
        let is_right = match kv.is_deletion() {
            true => kv.created == Revision(0) && kv.value.is_empty() && kv.lease.is_none(),
            false => kv.created >= Revision::FIRST && kv.created <= kv.modified,
        };
        if kv.key.is_empty() || !is_right {
            return Err(Inconsistent::Change((kv.modified.0, kv.sub)));
        }
        self.changes.push(Arc::new(kv));
        Ok(())
    }

    /// The key space, and how many of its keys hang on a lease that is not there: they hang on none from now on.
    ///
    /// # Errors
    /// See [`Inconsistent`].
    pub fn finish(self, kept: Kept) -> Result<(Mvcc, u64), Inconsistent> {
        let Self { mut changes } = self;
        let Kept { revision, compacted, leases, alarms, auth } = kept;
        let is_right = revision >= Revision::FIRST && revision.0 < u64::MAX;
        if !is_right || compacted.is_some_and(|compacted| compacted > revision) {
            return Err(Inconsistent::Places);
        }
        let mut mvcc = Mvcc { revision, compacted, auth, ..Mvcc::default() };
        for (id, ttl_s) in leases {
            if id.is_none() || mvcc.leases.insert(id, Lease::new(ttl_s)).is_some() {
                return Err(Inconsistent::Lease(id.0));
            }
        }
        mvcc.alarms = alarms.into_iter().collect();
        changes.sort_by_key(|kv| kv.place());
        let freed = free(&mut changes, |lease| mvcc.leases.contains_key(&lease));
        if changes.last().is_some_and(|last| last.modified > revision) {
            return Err(Inconsistent::Places);
        }
        let mvcc = Loader::of(mvcc, changes).finish().map_err(|_| Inconsistent::Places)?;
        Ok((mvcc, freed))
    }
}

/// Keys whose newest version hangs on a lease that is not there hang on none; how many.
fn free(changes: &mut [Arc<KeyValue>], is_there: impl Fn(LeaseId) -> bool) -> u64 {
    let hangs = |kv: &KeyValue| !kv.lease.is_none() && !is_there(kv.lease);
    // Most of them are older versions of keys that went with their leases.
    let mut suspects: BTreeSet<Value> =
        changes.iter().filter(|kv| hangs(kv)).map(|kv| kv.key.clone()).collect();
    let mut freed = 0;
    for kv in changes.iter_mut().rev() {
        if !suspects.remove(&kv.key) || !hangs(kv) {
            continue;
        }
        *kv = Arc::new(KeyValue { lease: LeaseId::NONE, ..KeyValue::clone(kv) });
        freed += 1;
    }
    freed
}

impl Mvcc {
    /// Which kinds of alarms are raised, each once.
    pub fn alarm_kinds(&self) -> impl Iterator<Item = AlarmKind> {
        [AlarmKind::NoSpace, AlarmKind::Corrupt].into_iter().filter(|kind| self.has_alarm(*kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogTime;
    use crate::mvcc::{
        AuthRevision, Command, KeyRange, Permission, PermissionKind, Put, RangeQuery, Refusal,
        Request, User,
    };

    fn kv(key: &str, modified: u64, sub: u32, created: u64, version: u64, lease: i64) -> KeyValue {
        KeyValue {
            key: key.as_bytes().into(),
            value: if version == 0 {
                Value::default()
            } else {
                modified.to_string().as_bytes().into()
            },
            created: Revision(created),
            modified: Revision(modified),
            version,
            lease: LeaseId(lease),
            sub,
        }
    }

    fn kept(revision: u64, compacted: Option<u64>, leases: &[i64]) -> Kept {
        Kept {
            revision: Revision(revision),
            compacted: compacted.map(Revision),
            leases: leases.iter().map(|id| (LeaseId(*id), 60)).collect(),
            ..Kept::default()
        }
    }

    fn import(changes: &[KeyValue], kept: Kept) -> Result<(Mvcc, u64), Inconsistent> {
        let mut import = Import::default();
        changes.iter().try_for_each(|kv| import.change(kv.clone()))?;
        import.finish(kept)
    }

    fn keys(mvcc: &Mvcc, revision: u64) -> Vec<(String, u64)> {
        let query = RangeQuery { revision: Revision(revision), ..RangeQuery::of(KeyRange::all()) };
        let kvs = mvcc.range(&query).unwrap().kvs;
        kvs.iter().map(|kv| (String::from_utf8_lossy(&kv.key).into(), kv.modified.0)).collect()
    }

    #[test]
    fn old_revisions_are_read_and_the_next_change_takes_the_next_one() {
        let changes = [
            kv("b", 3, 1, 3, 1, 7),
            kv("a", 2, 0, 2, 1, 0),
            kv("c", 3, 0, 3, 1, 0),
            kv("a", 5, 0, 0, 0, 0),
            kv("a", 4, 0, 2, 2, 9),
        ];
        let (mut mvcc, freed) = import(&changes, kept(5, None, &[7])).unwrap();
        mvcc.check();
        assert_eq!((mvcc.revision().0, freed), (5, 0), "the key of lease 9 is gone as well");
        let named = |names: &[(&str, u64)]| {
            names.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect::<Vec<_>>()
        };
        assert_eq!(keys(&mvcc, 2), named(&[("a", 2)]));
        assert_eq!(keys(&mvcc, 4), named(&[("a", 4), ("b", 3), ("c", 3)]));
        assert_eq!(keys(&mvcc, 0), named(&[("b", 3), ("c", 3)]));
        let lease = mvcc.lease(LeaseId(7)).unwrap();
        assert_eq!(lease.keys().map(|key| key.to_vec()).collect::<Vec<_>>(), [b"b"]);
        let places: Vec<_> = mvcc.changes_since(Revision(3)).unwrap().collect();
        assert_eq!(
            places.iter().map(|c| (c.kv.modified.0, c.kv.sub)).collect::<Vec<_>>(),
            [(3, 0), (3, 1), (4, 0), (5, 0)]
        );
        let put = Request::Put(Put::new(&b"a"[..], &b"x"[..]));
        mvcc.apply(LogTime(1), &Command::internal(put));
        let put = mvcc.get(b"a").unwrap();
        assert_eq!((put.created.0, put.version), (6, 1));
    }

    #[test]
    fn what_a_compaction_left_lying_is_dropped() {
        let all = [
            kv("a", 2, 0, 2, 1, 0),
            kv("b", 3, 0, 3, 1, 0),
            kv("a", 4, 0, 2, 2, 0),
            kv("b", 5, 0, 0, 0, 0),
            kv("c", 6, 0, 6, 1, 0),
        ];
        // A compaction that had begun, and one that was finished.
        let (begun, _) = import(&all, kept(6, Some(5), &[])).unwrap();
        let (done, _) = import(&[all[2].clone(), all[4].clone()], kept(6, Some(5), &[])).unwrap();
        assert_eq!(begun.hash(Revision(0)), done.hash(Revision(0)));
        assert_eq!(keys(&begun, 5), keys(&done, 5));
        let old = RangeQuery { revision: Revision(4), ..RangeQuery::of(KeyRange::all()) };
        assert_eq!(begun.range(&old), Err(Refusal::Compacted));
        assert_eq!(begun.versions_count(), 2);
    }

    #[test]
    fn keys_of_a_lease_that_is_gone_hang_on_none() {
        let changes = [
            kv("a", 2, 0, 2, 1, 9),
            kv("a", 3, 0, 2, 2, 0),
            kv("b", 4, 0, 4, 1, 9),
            kv("b", 5, 0, 4, 2, 9),
        ];
        let (mvcc, freed) = import(&changes, kept(5, None, &[])).unwrap();
        mvcc.check();
        assert_eq!(freed, 1);
        assert_eq!(mvcc.get(b"b").unwrap().lease, LeaseId::NONE);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let right = kv("a", 2, 0, 2, 1, 0);
        for wrong in [
            kv("", 2, 0, 2, 1, 0),
            kv("a", 2, 0, 3, 1, 0),
            kv("a", 2, 0, 0, 1, 0),
            kv("a", 2, 0, 2, 0, 0),
            KeyValue { value: b"x"[..].into(), ..kv("a", 2, 0, 0, 0, 0) },
        ] {
            assert_eq!(
                import(&[wrong], kept(2, None, &[])).unwrap_err(),
                Inconsistent::Change((2, 0))
            );
        }
        for (changes, kept) in [
            (&[right.clone(), right.clone()][..], kept(2, None, &[])),
            (std::slice::from_ref(&right), kept(1, None, &[])),
            (&[], kept(0, None, &[])),
            (&[], kept(u64::MAX, None, &[])),
            (std::slice::from_ref(&right), kept(2, Some(3), &[])),
        ] {
            assert_eq!(import(changes, kept).unwrap_err(), Inconsistent::Places);
        }
        assert_eq!(import(&[], kept(1, None, &[0])).unwrap_err(), Inconsistent::Lease(0));
        assert_eq!(import(&[], kept(1, None, &[4, 4])).unwrap_err(), Inconsistent::Lease(4));
    }

    #[test]
    fn users_and_roles_come_in_order() {
        let permission = |key: &str, kind| Permission {
            kind,
            range: KeyRange::new(key.as_bytes().into(), Value::default()),
        };
        let (read, write) = (PermissionKind::Read, PermissionKind::Write);
        let user = User { password: None, roles: vec!["z".into(), "a".into(), "z".into()] };
        let role = vec![permission("b", read), permission("a", write), permission("a", read)];
        let auth = Auth::of(true, AuthRevision(9), [("u".into(), user)], [("a".into(), role)]);
        let kept = Kept { auth, ..kept(1, None, &[]) };
        let (mvcc, _) = Import::default().finish(kept).unwrap();
        assert_eq!(mvcc.auth().user("u").unwrap().roles, ["a", "z"]);
        let sorted = [permission("a", write), permission("a", read), permission("b", read)];
        assert_eq!(mvcc.auth().role("a").unwrap(), sorted);
        assert!(mvcc.auth().enabled() && mvcc.auth().revision() == AuthRevision(9));
    }
}
