//! A store that goes on in another cluster: what changes when a backup is restored.

use crate::model::{MemberId, StoreIndex};
use crate::store::Store;
use crate::store::members::Members;

impl Store {
    /// The cluster has these members, with these peer URLs, and never had others. Their names and client URLs are empty until
    /// they have started.
    ///
    /// Keys, history, users, roles and index stay as they are: the facts of a cluster take no index here. Leases of v3 have their
    /// whole lives before them again.
    #[must_use]
    pub fn with_members<'a>(
        self,
        members: impl IntoIterator<Item = (MemberId, &'a [String])>,
    ) -> Self {
        let mut present = Members::default();
        if let Some(version) = self.members.version() {
            present.set_version(version);
        }
        for (id, peer_urls) in members {
            present.add(id, peer_urls);
        }
        Self { members: present, mvcc: self.mvcc.without_deadlines(), ..self }
    }

    /// The next change takes an index that is higher by `by` than it would be, and nothing is known of the changes before: who
    /// waits for one of them is told that the history is gone, and reads everything anew. Indexes of keys stay as they are. The
    /// same goes for the revision of the v3 key space, if anything has happened there.
    ///
    /// `None` when there is no such index.
    pub fn bumped(mut self, by: u64) -> Option<Self> {
        if by == 0 {
            return Some(self);
        }
        // There must be room for changes to come.
        let index = self.index.0.checked_add(by).filter(|index| *index < u64::MAX / 2)?;
        self.index = StoreIndex(index);
        self.history.restart(self.index.next());
        if !self.mvcc.is_untouched() {
            self.mvcc = self.mvcc.bumped(by)?;
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyPath, LogTime, Refusal};
    use crate::mvcc;
    use crate::store::{Command, Filter, Header, HistoryLimits, Loader, Scan, Write};

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 20 };

    fn set(store: &mut Store) -> u64 {
        let write = Write { value: vec![1].into(), dir: false, ttl: None, refresh: false };
        store.apply(LogTime(1), &Command::Set { path: KeyPath::from("/a"), write });
        store.index().0
    }

    #[test]
    fn an_index_that_was_skipped_is_gone_and_the_next_one_is_new() {
        let mut store = Store::new(LIMITS);
        set(&mut store);
        set(&mut store);
        let mut bumped = store.clone().bumped(1000).unwrap();
        assert_eq!(bumped.index().0, 1002);
        let filter = Filter { path: KeyPath::from("/a"), recursive: false };
        for from in [1, 2, 500, 1002] {
            let scan = Scan { from: StoreIndex(from), filter: &filter };
            let found = bumped.history().find(scan);
            assert!(matches!(found, Err(Refusal::HistoryCleared { .. })), "{from}: {found:?}");
        }
        assert_eq!(set(&mut bumped), 1003);
        // What is written to disk is read back.
        let mut loader = Loader::new(LIMITS, &Header(bumped.header().0)).unwrap();
        let (block, _) = bumped.block_after(None, 1 << 20);
        loader.block(&block).unwrap();
        assert_eq!(loader.finish().unwrap().digest(), bumped.digest());
        assert_eq!(store.clone().bumped(0).unwrap().history().len(), 2, "no bump, no loss");
        assert!(store.bumped(u64::MAX - 2).is_none());
    }

    #[test]
    fn a_revision_that_was_skipped_is_compacted_and_keys_stay() {
        let mut store = Store::new(LIMITS);
        let put = |store: &mut Store| {
            let put = mvcc::Request::Put(mvcc::Put::new(&b"k"[..], &b"v"[..]));
            store.apply(LogTime(1), &Command::Mvcc(mvcc::Command::internal(put)));
        };
        assert_eq!(store.clone().bumped(9).unwrap().mvcc().revision().0, 1, "nothing is there");
        put(&mut store);
        put(&mut store);
        let mut bumped = store.bumped(1000).unwrap();
        bumped.check();
        assert_eq!(bumped.mvcc().revision().0, 1003);
        assert!(bumped.mvcc().changes_since(mvcc::Revision(1002)).is_err());
        let range = mvcc::RangeQuery::of(mvcc::KeyRange::all());
        assert_eq!(bumped.mvcc().range(&range).unwrap().kvs[0].modified.0, 3);
        put(&mut bumped);
        assert_eq!(bumped.mvcc().get(b"k").unwrap().modified.0, 1004);
        let mut loader = Loader::new(LIMITS, &bumped.header()).unwrap();
        let (block, _) = bumped.block_after(None, 1 << 20);
        loader.block(&block).unwrap();
        assert_eq!(loader.finish().unwrap().digest(), bumped.digest());
    }

    #[test]
    fn other_members_take_no_index() {
        let mut store = Store::new(LIMITS);
        let old = Command::AddMember {
            id: MemberId(7),
            peer_urls: vec!["http://old:1".to_owned()],
            checked: None,
        };
        store.apply(LogTime(1), &old);
        store.apply(LogTime(1), &Command::SetClusterVersion { version: "3.4.0".into() });
        let index = store.index();
        let urls = ["http://a:1".to_owned()];
        let store = store.with_members([(MemberId(9), &urls[..])]);
        assert_eq!(store.index(), index);
        let ids: Vec<_> = store.members().iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [MemberId(9)]);
        assert!(!store.members().was_removed(MemberId(7)));
        assert_eq!(store.members().version(), Some("3.4.0"));
    }
}
