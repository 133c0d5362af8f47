//! Which leases were there when the file of version 3 had come as far as it says.
//!
//! etcd writes into its file which entry was the last only with a change of keys. A lease that was granted behind that entry may be
//! in the file all the same, and a put that was refused in between, because the lease was not there yet, would go through now.
//! etcd itself lets it through when it starts again.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::entry::{Asked, EntryError, EntryKind};
use crate::etcd::requests::Meant;
use crate::mvcc::{self, LeaseId, Request};

/// What an entry does to a lease on which no key hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// The lease is there behind the entry, whether it was before or not.
    Granted(LeaseId),
    /// The lease is not there behind the entry.
    Revoked(LeaseId),
}

impl LeaseChange {
    /// What the entry does to a lease; `None` if nothing.
    ///
    /// # Errors
    /// When the entry cannot be understood.
    pub fn of(kind: EntryKind, data: &[u8]) -> Result<Option<Self>, EntryError> {
        if kind != EntryKind::Normal {
            return Ok(None);
        }
        let Asked::VersionThree(wrapped) = Asked::decode(data)? else { return Ok(None) };
        Ok(match wrapped.meant()? {
            Meant::Change(Request::LeaseGrant { id, ttl_s }) => {
                mvcc::check_lease_grant(ttl_s).is_ok().then_some(Self::Granted(id))
            }
            Meant::Change(Request::LeaseRevoke(id)) => Some(Self::Revoked(id)),
            Meant::Change(_) | Meant::Nothing | Meant::Password { .. } => None,
        })
    }
}

/// Some leases, and whether they are there behind the entries that were looked at so far.
#[derive(Clone, Debug)]
pub struct LeasesInLog {
    /// `None` where the log does not tell.
    leases: BTreeMap<LeaseId, Option<bool>>,
    last: u64,
}

impl LeasesInLog {
    /// Before the first entry, when there are no leases.
    pub fn new(leases: BTreeSet<LeaseId>) -> Self {
        Self { leases: leases.into_iter().map(|id| (id, Some(false))).collect(), last: 0 }
    }

    /// Looks at the entry at `index`. Of what comes before a hole, or in an entry that is not understood, nothing is known.
    pub fn entry(&mut self, index: u64, kind: EntryKind, data: &[u8]) {
        let change = LeaseChange::of(kind, data);
        if index != self.last + 1 || change.is_err() {
            self.leases.values_mut().for_each(|is_there| *is_there = None);
        }
        self.last = index;
        let (id, is_there) = match change {
            Ok(Some(LeaseChange::Granted(id))) => (id, true),
            Ok(Some(LeaseChange::Revoked(id))) => (id, false),
            Ok(None) | Err(_) => return,
        };
        if let Some(lease) = self.leases.get_mut(&id) {
            *lease = Some(is_there);
        }
    }

    /// Those that are known not to be there behind the entry at `index`, if that is the last that was looked at.
    pub fn absent_behind(self, index: u64) -> Vec<LeaseId> {
        let known = self.leases.into_iter().filter(|_| self.last == index);
        known.filter(|(_, is_there)| *is_there == Some(false)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::Message;

    const GRANT: u64 = 8;
    const REVOKE: u64 = 9;

    fn grant(id: u64, ttl_s: u64) -> Vec<u8> {
        of_three(GRANT, Message::default().varint(1, ttl_s).varint(2, id))
    }

    fn revoke(id: u64) -> Vec<u8> {
        of_three(REVOKE, Message::default().varint(1, id))
    }

    fn of_three(number: u64, body: Message) -> Vec<u8> {
        let header = Message::default().varint(1, 9).finish();
        Message::default().bytes(number, &body.finish()).bytes(100, &header).finish()
    }

    fn absent(first: u64, entries: &[Vec<u8>]) -> Vec<i64> {
        let mut leases = LeasesInLog::new([5, 6].map(LeaseId).into());
        let mut index = first - 1;
        for data in entries {
            index += 1;
            leases.entry(index, EntryKind::Normal, data);
        }
        assert!(leases.clone().absent_behind(index + 1).is_empty(), "what comes then is not known");
        leases.absent_behind(index).into_iter().map(|LeaseId(id)| id).collect()
    }

    #[test]
    fn a_log_from_its_first_entry_on_tells_of_all() {
        assert_eq!(absent(1, &[]), [5, 6]);
        assert_eq!(absent(1, &[grant(5, 60), grant(7, 60)]), [6]);
        assert_eq!(absent(1, &[grant(5, 60), grant(6, 60), revoke(5)]), [5]);
        assert_eq!(absent(1, &[revoke(5), grant(5, 60), grant(6, 9_000_000_001)]), [6]);
    }

    #[test]
    fn a_log_that_begins_later_tells_of_those_that_it_names() {
        assert!(absent(100, &[grant(7, 60)]).is_empty());
        assert_eq!(absent(100, &[grant(5, 60), revoke(5)]), [5]);
        assert_eq!(absent(100, &[revoke(6), revoke(5), grant(5, 60)]), [6]);
        // Whatever this entry is, it may be about a lease.
        let unknown = Message::default().bytes(4, &[0x3a, 0]).finish();
        assert_eq!(absent(1, &[unknown.clone(), revoke(5)]), [5]);
        assert!(absent(1, &[revoke(5), unknown]).is_empty());
    }
}
