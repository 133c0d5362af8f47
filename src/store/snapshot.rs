//! Store ⇄ records: what a checkpoint writes and a restart reads.
//!
//! A checkpoint writes the nodes at the keys that changed since the one before: it costs what changed, not what is there.

use crate::model::{DecodeError, KeyPath, LogTime, Reader, StoreIndex, WallOffset, Writer};
use crate::mvcc::{self, Mvcc, Revision};
use crate::store::Store;
use crate::store::auth::Auth;
use crate::store::changes::Changes;
use crate::store::counters::Counters;
use crate::store::event::Event;
use crate::store::history::{History, HistoryLimits};
use crate::store::members::Members;
use crate::store::rows::DecodedNodes;
use crate::store::tree::{self, Misplaced, Node, Remains, Tree};

use std::ops::ControlFlow;
use std::sync::Arc;

/// One record to write or to remove.
#[derive(Debug)]
pub enum RecordChange {
    /// The node at this key, encoded.
    PutNode(KeyPath, Vec<u8>),
    /// No node at this key; there may never have been one.
    DropNode(KeyPath),
    /// No nodes below this key, on any level. Comes before what was put there since.
    DropBelow(KeyPath),
}

/// One of the records that together with the header make a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A node at its key.
    Node(KeyPath, Vec<u8>),
    /// What took an index; an empty record is a fact of the cluster.
    Event(StoreIndex, Vec<u8>),
    /// A change of the v3 key space.
    Revision(mvcc::Position, Vec<u8>),
}

/// A place among a store's records, which stand in one order: nodes, each behind its directory, then events by index, then changes
/// of the v3 key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the node with this key.
    Node(KeyPath),
    /// At the event with this index.
    Event(StoreIndex),
    /// At this change of the v3 key space.
    Revision(mvcc::Position),
}

/// Everything that is not a node, an event or a change of the v3 key space: small, and written whole each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(pub Vec<u8>);

const VERSION: u8 = 4;

/// Before there was a v3 key space. Still written while nothing has happened there: builds of then can read it.
const VERSION_WITHOUT_MVCC: u8 = 3;

/// Before there were users and roles. Still written while there are none: builds of then can read it.
const VERSION_WITHOUT_AUTH: u8 = 2;

/// Stamps were dates then.
const VERSION_WITHOUT_OFFSET: u8 = 1;

impl Store {
    /// Calls `visit` with every node.
    pub fn nodes(&self, visit: &mut impl FnMut(&KeyPath, Vec<u8>)) {
        self.tree.walk(&mut |path, node| visit(path, encode_node(node)));
    }

    /// Calls `visit` with what makes the node records of this store from those of the one that `changes` begin at. They must
    /// have been told of all events since. Directories that were emptied come first; the others follow in the order of a walk,
    /// each key once.
    pub fn changed_records(&self, changes: &Changes, visit: &mut impl FnMut(RecordChange)) {
        for dir in changes.emptied() {
            visit(RecordChange::DropBelow(dir.clone()));
        }
        let keys = changes.keys();
        let mut before: Option<&KeyPath> = None;
        for path in &keys {
            let found = self.tree.find_noting(path, &mut |depth, dir| {
                if dir.created <= changes.start() {
                    return;
                }
                let dir_path = path.ancestor(depth);
                // The first key at or below a directory that was made brings it along.
                if before.is_none_or(|key| *key != dir_path && dir_path.below(key).is_none()) {
                    visit(RecordChange::PutNode(dir_path, encode_node(dir)));
                }
            });
            before = Some(path);
            visit(match found {
                Some(node) => RecordChange::PutNode(KeyPath::clone(path), encode_node(node)),
                None => RecordChange::DropNode(KeyPath::clone(path)),
            });
        }
    }

    /// Events in the history from `from` on, encoded, with their index; an empty record is a fact of the cluster.
    pub fn events_since(&self, from: StoreIndex, visit: &mut impl FnMut(StoreIndex, Vec<u8>)) {
        for (index, slot) in self.history.slots_from(from) {
            visit(index, encode_slot(slot));
        }
    }

    /// Calls `visit` with all changes of the v3 key space that are kept, by revision and place in it, in order.
    pub fn revisions(&self, visit: &mut impl FnMut((u64, u32), Vec<u8>)) {
        self.mvcc.records(visit);
    }

    /// The same, only with those behind a revision; and with deletions that came since, in their order.
    pub fn revisions_since(
        &self,
        revision: Revision,
        deletions: &[Arc<mvcc::KeyValue>],
        visit: &mut impl FnMut((u64, u32), Vec<u8>),
    ) {
        self.mvcc.records_since(revision, deletions, visit);
    }

    /// Calls `visit` with the records behind `after`, or with all, until it breaks. Walks only what it visits.
    pub fn records_after(
        &self,
        after: Option<&Position>,
        visit: &mut impl FnMut(Record) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let names: Vec<_> = match after {
            Some(Position::Node(path)) => path.names().collect(),
            Some(Position::Event(_) | Position::Revision(_)) | None => Vec::new(),
        };
        let first_event = match after {
            Some(Position::Event(index)) => index.next(),
            Some(Position::Revision(_)) => self.index.next(),
            Some(Position::Node(_)) | None => {
                let root = self.tree.root();
                tree::walk_after(&KeyPath::root(), root, &names, &mut |path, node| {
                    visit(Record::Node(path.clone(), encode_node(node)))
                })?;
                StoreIndex(0)
            }
        };
        for (index, slot) in self.history.slots_from(first_event) {
            visit(Record::Event(index, encode_slot(slot)))?;
        }
        let behind = match after {
            Some(Position::Revision(position)) => Some(position),
            Some(Position::Node(_) | Position::Event(_)) | None => None,
        };
        self.mvcc.records_after(behind, &mut |position, record| {
            visit(Record::Revision(position, record))
        })
    }

    /// The header record.
    pub fn header(&self) -> Header {
        let mut out = Writer::default();
        let version = match (self.mvcc.is_untouched(), self.auth.is_untouched()) {
            (false, _) => VERSION,
            (true, false) => VERSION_WITHOUT_MVCC,
            (true, true) => VERSION_WITHOUT_AUTH,
        };
        out.u8(version).varint(self.now.0).signed(self.offset.0);
        out.varint(self.index.0).varint(self.history.oldest().0);
        self.counters.encode(&mut out);
        self.members.encode(&mut out);
        if version >= VERSION_WITHOUT_MVCC {
            self.auth.encode(&mut out);
        }
        if version == VERSION {
            self.mvcc.encode_header(&mut out);
        }
        Header(out.finish())
    }

    /// A checksum over all that is replicated, for comparing members at the same log index. Walks everything.
    ///
    /// The history is left out: how much of it is kept is each member's own setting.
    pub fn digest(&self) -> u32 {
        let mut out = Writer::default();
        out.varint(self.now.0).signed(self.offset.0).varint(self.index.0);
        self.counters.encode(&mut out);
        self.members.encode(&mut out);
        if !self.auth.is_untouched() {
            self.auth.encode(&mut out);
        }
        let mut digest = crc32c::crc32c(&out.finish());
        self.tree.walk(&mut |path, node| {
            digest = crc32c::crc32c_append(digest, path.as_bytes());
            digest = crc32c::crc32c_append(digest, &encode_node(node));
        });
        if self.mvcc.is_untouched() { digest } else { self.mvcc.digest(digest) }
    }
}

fn encode_slot(slot: Option<&Arc<Event>>) -> Vec<u8> {
    let mut out = Writer::default();
    if let Some(event) = slot {
        event.encode(&mut out);
    }
    out.finish()
}

const DIR: u8 = 1;
const EXPIRES: u8 = 2;

fn encode_node(node: &Node) -> Vec<u8> {
    let value = node.value();
    let mut out = Writer::with_capacity(24 + value.map_or(0, |value| value.len()));
    let flags =
        if node.is_dir() { DIR } else { 0 } | if node.expires.is_some() { EXPIRES } else { 0 };
    out.u8(flags).varint(node.created.0).varint(node.modified.0);
    if let Some(at) = node.expires {
        out.varint(at.0);
    }
    if let Some(value) = value {
        out.bytes(value);
    }
    out.finish()
}

pub(super) fn decode_node(record: &[u8]) -> Result<Node, DecodeError> {
    let mut input = Reader::new(record);
    let flags = input.u8("node flags")?;
    let created = StoreIndex(input.varint("created")?);
    let modified = StoreIndex(input.varint("modified")?);
    let expires = if flags & EXPIRES == 0 { None } else { Some(LogTime(input.varint("expires")?)) };
    let node = if flags & DIR == 0 {
        Node::file_modified(created, modified, expires, input.bytes("value")?)
    } else {
        Node::dir_modified(created, modified, expires)
    };
    input.end("node")?;
    Ok(node)
}

/// Puts a store together again from its records.
#[derive(Debug)]
pub struct Loader {
    /// All but the nodes.
    store: Store,
    nodes: tree::Builder,
    revisions: mvcc::Loader,
}

impl Loader {
    /// Starts with the header.
    ///
    /// # Errors
    /// When the record is malformed, was written by a newer version, or has indexes that cannot be.
    pub fn new(limits: HistoryLimits, header: &Header) -> Result<Self, DecodeError> {
        let mut input = Reader::new(&header.0);
        let version = input.u8("store version")?;
        if !(VERSION_WITHOUT_OFFSET..=VERSION).contains(&version) {
            return Err(DecodeError::Unknown { what: "store version", found: version.into() });
        }
        let now = LogTime(input.varint("stamp")?);
        let offset = match version {
            VERSION_WITHOUT_OFFSET => WallOffset(0),
            _ => WallOffset(input.signed("wall offset")?),
        };
        let index = StoreIndex(input.varint("index")?);
        let oldest = StoreIndex(input.varint("oldest event")?);
        // The history reaches from `oldest` up to `index`, or is empty and starts right after it; indexes begin at one.
        let next = index.0.checked_add(1).ok_or(DecodeError::Malformed("index"))?;
        if oldest.0 == 0 || oldest.0 > next {
            return Err(DecodeError::Malformed("oldest event"));
        }
        let counters = Counters::decode(&mut input)?;
        let members = Members::decode(&mut input)?;
        let auth = match version {
            VERSION | VERSION_WITHOUT_MVCC => Auth::decode(&mut input)?,
            _ => Auth::default(),
        };
        let revisions = match version {
            VERSION => mvcc::Loader::new(&mut input)?,
            _ => mvcc::Loader::default(),
        };
        input.end("store header")?;
        let mut history = History::new(limits);
        history.restart(oldest);
        Ok(Self {
            store: Store {
                now,
                offset,
                index,
                tree: Tree::default(),
                history,
                members,
                auth,
                counters,
                mvcc: Mvcc::default(),
                remains: Remains::default(),
            },
            nodes: tree::Builder::default(),
            revisions,
        })
    }

    /// The index of the first event that [`Loader::event`] takes.
    pub fn oldest_event(&self) -> StoreIndex {
        self.store.history.next()
    }

    /// All parts of it, which may be put together side by side.
    pub fn parts(&mut self) -> (NodeLoader<'_>, EventLoader<'_>, RevisionLoader<'_>) {
        (
            NodeLoader(&mut self.nodes),
            EventLoader(&mut self.store.history),
            RevisionLoader(&mut self.revisions),
        )
    }

    /// Adds a node: see [`NodeLoader::node`].
    ///
    /// # Errors
    /// As there.
    pub fn node(&mut self, key: &[u8], record: &[u8]) -> Result<(), DecodeError> {
        self.parts().0.node(key, record)
    }

    /// Adds an event: see [`EventLoader::event`].
    ///
    /// # Errors
    /// As there.
    pub fn event(&mut self, index: StoreIndex, record: &[u8]) -> Result<(), DecodeError> {
        self.parts().1.event(index, record)
    }

    /// Adds a change of the v3 key space: see [`RevisionLoader::revision`].
    ///
    /// # Errors
    /// As there.
    pub fn revision(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        self.parts().2.revision(record)
    }

    /// The store.
    ///
    /// # Errors
    /// When the events do not reach up to the store's index, or changes of the v3 key space do not fit together.
    pub fn finish(self) -> Result<Store, DecodeError> {
        if self.store.history.next() != self.store.index.next() {
            return Err(DecodeError::Malformed("end of the events"));
        }
        let mvcc = self.revisions.finish()?;
        Ok(Store { tree: self.nodes.finish(), mvcc, ..self.store })
    }
}

/// The nodes of a store that is put together.
#[derive(Debug)]
pub struct NodeLoader<'a>(&'a mut tree::Builder);

impl NodeLoader<'_> {
    /// Adds a node. They come in the bytewise order of their keys, or in that of a walk: as the tables and peers have them.
    ///
    /// # Errors
    /// When the record is malformed, not in order, or its directory is missing.
    pub fn node(&mut self, key: &[u8], record: &[u8]) -> Result<(), DecodeError> {
        self.0.push(key, decode_node(record)?).map_err(misplaced)
    }

    /// Adds nodes that were decoded before, as [`NodeLoader::node`] does.
    ///
    /// # Errors
    /// When one is not in order, or its directory is missing.
    pub fn nodes(&mut self, nodes: DecodedNodes) -> Result<(), DecodeError> {
        nodes.each(|key, node| self.0.push(key, node)).map_err(misplaced)
    }
}

fn misplaced(_: Misplaced) -> DecodeError {
    DecodeError::Malformed("place of a node")
}

/// The events of a store that is put together.
#[derive(Debug)]
pub struct EventLoader<'a>(&'a mut History);

impl EventLoader<'_> {
    /// Adds an event; they come in the order of their indexes, without a gap.
    ///
    /// # Errors
    /// When the record is malformed or does not follow the one before.
    pub fn event(&mut self, index: StoreIndex, record: &[u8]) -> Result<(), DecodeError> {
        let history = &mut *self.0;
        if index != history.next() {
            return Err(DecodeError::Malformed("order of events"));
        }
        if record.is_empty() {
            history.push_silent();
            return Ok(());
        }
        let mut input = Reader::new(record);
        let event = Event::decode(&mut input)?;
        input.end("event")?;
        if event.index != index {
            return Err(DecodeError::Malformed("index of an event"));
        }
        history.push(Arc::new(event));
        Ok(())
    }
}

/// The changes of the v3 key space of a store that is put together.
#[derive(Debug)]
pub struct RevisionLoader<'a>(&'a mut mvcc::Loader);

impl RevisionLoader<'_> {
    /// Adds a change; they come in any order, each once.
    ///
    /// # Errors
    /// When the record is malformed, or of a revision that the header does not know.
    pub fn revision(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        self.0.record(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ttl;
    use crate::store::{AuthCommand, Command, PasswordHash, Write as Writing};
    use proptest::prelude::*;

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 1000, bytes_max: 1 << 20 };

    fn store() -> Store {
        let mut store = Store::new(LIMITS);
        for key in ["/a", "/d/x", "/d/y"] {
            let write =
                Writing { value: b"v"[..].into(), dir: false, ttl: Ttl::from_s(9), refresh: false };
            store.apply(LogTime(1), &Command::Set { path: KeyPath::from(key), write });
        }
        store.apply(LogTime(1), &Command::SetClusterVersion { version: "3.4.0".into() });
        store
    }

    fn record(store: &Store, key: &str) -> Vec<u8> {
        encode_node(store.get(&KeyPath::from(key)).outcome.unwrap())
    }

    #[test]
    fn a_node_without_its_directory_is_refused() {
        let store = store();
        let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
        let (file, dir) = (record(&store, "/d/x"), record(&store, "/d"));
        assert!(loader.node(b"/d/x", &file).is_err(), "its directory comes first");
        assert!(loader.node(b"", &dir).is_err(), "the root has no record");
        loader.node(b"/d", &dir).unwrap();
        loader.node(b"/d/x", &file).unwrap();
        assert!(loader.node(b"/d/x/y", &file).is_err(), "a file holds nothing");
        let mut longer = file;
        longer.push(0);
        assert!(loader.node(b"/d/z", &longer).is_err(), "bytes are left over");
    }

    #[test]
    fn a_gap_in_the_events_is_refused() {
        let store = store();
        let mut events = Vec::new();
        store.events_since(StoreIndex(0), &mut |index, record| events.push((index, record)));
        assert_eq!(events.len(), 4);
        assert!(events[3].1.is_empty(), "a fact of the cluster is an empty record");
        let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
        assert!(loader.event(events[1].0, &events[1].1).is_err(), "the first is missing");
        assert!(loader.event(events[0].0, &events[1].1).is_err(), "another one's record");
        for (index, record) in &events[..3] {
            loader.event(*index, record).unwrap();
        }
        assert!(loader.finish().is_err(), "the last is missing");
    }

    #[test]
    fn events_are_given_from_an_index_on() {
        let store = store();
        for (from, count) in [(0, 4), (1, 4), (3, 2), (4, 1), (5, 0), (99, 0)] {
            let mut seen = 0;
            store.events_since(StoreIndex(from), &mut |_, _| seen += 1);
            assert_eq!(seen, count, "from {from}");
        }
    }

    #[test]
    fn records_go_on_behind_any_of_them() {
        let mut store = store();
        // A name that sorts before the slash: order is by names, not by the bytes of whole keys.
        let write = Writing { value: b"v"[..].into(), dir: false, ttl: None, refresh: false };
        store.apply(LogTime(1), &Command::Set { path: KeyPath::from("/d-/x"), write });
        let after = |position: Option<&Position>| {
            let mut records = Vec::new();
            let _ = store.records_after(position, &mut |record| {
                records.push(record);
                ControlFlow::Continue(())
            });
            records
        };
        let all = after(None);
        assert_eq!(all.len(), 6 + 5);
        for (place, record) in all.iter().enumerate() {
            let position = match record {
                Record::Node(path, _) => Position::Node(path.clone()),
                Record::Event(index, _) => Position::Event(*index),
                Record::Revision(position, _) => Position::Revision(position.clone()),
            };
            assert_eq!(after(Some(&position)), all[place + 1..], "behind {position:?}");
        }
        let gone = Position::Node(KeyPath::from("/d/w/deep"));
        assert_eq!(after(Some(&gone)), all[2..], "behind a key that is not there");
        let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
        for record in &all {
            match record {
                Record::Node(path, record) => loader.node(path.as_bytes(), record).unwrap(),
                Record::Event(index, record) => loader.event(*index, record).unwrap(),
                Record::Revision(_, record) => loader.revision(record).unwrap(),
            }
        }
        assert_eq!(loader.finish().unwrap().digest(), store.digest());
    }

    #[test]
    fn a_header_of_a_newer_version_or_with_a_byte_more_is_refused() {
        let Header(bytes) = store().header();
        let mut newer = bytes.clone();
        newer[0] = VERSION + 1;
        assert!(matches!(
            Loader::new(LIMITS, &Header(newer)),
            Err(DecodeError::Unknown { what: "store version", .. })
        ));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Loader::new(LIMITS, &Header(longer)).is_err());
        for end in 0..bytes.len() {
            assert!(Loader::new(LIMITS, &Header(bytes[..end].to_vec())).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_header_from_before_there_were_offsets_is_read() {
        let mut out = Writer::default();
        out.u8(VERSION_WITHOUT_OFFSET).varint(700).varint(0).varint(1);
        Counters::default().encode(&mut out);
        Members::default().encode(&mut out);
        let loader = Loader::new(LIMITS, &Header(out.finish())).unwrap();
        let store = loader.finish().unwrap();
        assert_eq!((store.now(), store.wall_offset()), (LogTime(700), WallOffset(0)));
    }

    #[test]
    fn a_header_without_users_is_what_it_was_before_there_were_any_and_one_with_users_is_not() {
        let mut store = store();
        assert_eq!(store.header().0[0], VERSION_WITHOUT_AUTH);
        let password = Some(PasswordHash::new("h"));
        let command = AuthCommand::PutUser { name: "u".into(), password, roles: None };
        store.apply(LogTime(1), &Command::Auth(command));
        let Header(bytes) = store.header();
        assert_eq!(bytes[0], VERSION_WITHOUT_MVCC);
        for end in 0..bytes.len() {
            assert!(Loader::new(LIMITS, &Header(bytes[..end].to_vec())).is_err(), "cut at {end}");
        }
        let loader = Loader::new(LIMITS, &Header(bytes)).unwrap();
        assert_eq!(loader.store.auth().user("u"), store.auth().user("u"));
    }

    #[test]
    fn a_store_in_which_version_3_was_never_used_is_what_it_was_before_and_another_one_is_not() {
        let mut store = store();
        assert_eq!(store.header().0[0], VERSION_WITHOUT_AUTH);
        let compact = mvcc::Request::Compact(Revision(9));
        store.apply(LogTime(1), &Command::Mvcc(mvcc::Command::internal(compact)));
        assert_eq!(store.header().0[0], VERSION_WITHOUT_AUTH, "a refused request leaves nothing");
        let (digest, bytes) = (store.digest(), store.bytes());
        let put = mvcc::Request::Put(mvcc::Put::new(&b"k"[..], &b"v"[..]));
        store.apply(LogTime(1), &Command::Mvcc(mvcc::Command::internal(put)));
        assert_eq!(store.index(), StoreIndex(4), "version 2 does not count it");
        assert_ne!(store.digest(), digest);
        assert_eq!(store.bytes() - bytes, 128 + 2);
        let Header(bytes) = store.header();
        assert_eq!(bytes[0], VERSION);
        for end in 0..bytes.len() {
            assert!(Loader::new(LIMITS, &Header(bytes[..end].to_vec())).is_err(), "cut at {end}");
        }
        let mut loader = Loader::new(LIMITS, &store.header()).unwrap();
        let (block, _) = store.block_after(None, 1 << 20);
        loader.block(&block).unwrap();
        let read = loader.finish().unwrap();
        assert_eq!(read.digest(), store.digest());
        assert_eq!(read.mvcc().get(b"k"), store.mvcc().get(b"k"));
    }

    #[test]
    fn a_header_whose_indexes_cannot_be_is_refused() {
        for (index, oldest) in [(u64::MAX, 1), (3, 0), (3, 5), (0, u64::MAX)] {
            let mut out = Writer::default();
            out.u8(VERSION_WITHOUT_AUTH).varint(0).signed(0).varint(index).varint(oldest);
            Counters::default().encode(&mut out);
            Members::default().encode(&mut out);
            assert!(Loader::new(LIMITS, &Header(out.finish())).is_err(), "{index} {oldest}");
        }
    }

    #[test]
    fn a_member_with_a_shorter_history_keeps_the_newest_of_a_longer_one() {
        let store = store();
        let limits = HistoryLimits { events_max: 2, ..LIMITS };
        let mut loader = Loader::new(limits, &store.header()).unwrap();
        store.events_since(StoreIndex(0), &mut |index, record| {
            loader.event(index, &record).unwrap();
        });
        let loaded = loader.finish().unwrap();
        assert_eq!((loaded.history().oldest(), loaded.history().len()), (StoreIndex(3), 2));
    }

    proptest! {
        #[test]
        fn flipped_bytes_in_records_are_refused_or_read_but_never_panic(
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            noise in any::<Vec<u8>>(),
        ) {
            let store = store();
            let flip = |mut bytes: Vec<u8>| {
                if !bytes.is_empty() {
                    let at = place.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            };
            if let Ok(mut loader) = Loader::new(LIMITS, &Header(flip(store.header().0))) {
                let _ = loader.node(b"/d", &flip(record(&store, "/d")));
                let _ = loader.node(b"/d/x", &flip(record(&store, "/d/x")));
                let _ = loader.node(b"/n", &noise);
                store.events_since(StoreIndex(0), &mut |index, record| {
                    let _ = loader.event(index, &flip(record));
                });
                if let Ok(store) = loader.finish() {
                    store.check();
                }
            }
        }
    }
}
