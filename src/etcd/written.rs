//! A store as etcd keeps one: the snapshot, the log and the version 3 store that a member of 3.4 starts from.
//!
//! Owns: the bytes of these files. Never knows: where they are put.
//! The log holds no entry: everything is in the snapshot, and the state says that it is committed. Without a version 3 store that
//! has come as far as the snapshot etcd does not start, so there is an empty one.

use std::io::Write as _;

use chrono::{DateTime, SecondsFormat};

use crate::etcd::entry::{Metadata, Place};
use crate::etcd::facts::{self, Attributes, RaftAttributes};
use crate::etcd::proto::Message;
use crate::etcd::wal::{Kind, SegmentWriter};
use crate::model::{CLUSTER_VERSION, KeyPath, LogTime, MemberId, StoreIndex, WallOffset};
use crate::store::{Counter, Event, MemberRecord, Node, ROOT, Shown, Store};

/// Slots of etcd's history.
const EVENTS_MAX: usize = 1000;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The keys and all that belongs to them.
    pub store: &'a Store,
    /// The last entry that led to it.
    pub place: Place,
    /// The only member, and its cluster.
    pub owner: Metadata,
    /// What that member is called, and where it is reached.
    pub record: &'a MemberRecord,
}

impl Written<'_> {
    /// The name of the snapshot file.
    pub fn snapshot_name(&self) -> String {
        format!("{:016x}-{:016x}.snap", self.place.term, self.place.index)
    }

    /// The name of the only segment.
    pub fn segment_name(&self) -> String {
        format!("{:016x}-{:016x}.wal", 0, 0)
    }

    /// The snapshot file, in parts: what stands before the store, the store, what stands behind it.
    pub fn snapshot(&self) -> [Vec<u8>; 3] {
        let json = self.json();
        let voters = Message::default().varint(1, self.owner.node).finish();
        let metadata = Message::default().bytes(1, &voters);
        let metadata = metadata.varint(2, self.place.index).varint(3, self.place.term).finish();
        let behind = Message::default().bytes(2, &metadata).finish();
        let inner_head = Message::default().bytes_head(1, json.len()).finish();
        let parts = [&inner_head[..], &json, &behind];
        let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let length = parts.iter().map(|part| part.len()).sum();
        let mut head = Message::default().varint(1, crc.into()).bytes_head(2, length).finish();
        head.extend_from_slice(&inner_head);
        [head, json, behind]
    }

    /// The segment.
    pub fn segment(&self) -> Vec<u8> {
        let Place { index, term } = self.place;
        let mut writer = SegmentWriter::new(0, true);
        let Metadata { node, cluster } = self.owner;
        writer
            .push(Kind::Metadata, &Message::default().varint(1, node).varint(2, cluster).finish());
        for (index, term) in [(0, 0), (index, term)] {
            writer.push(
                Kind::Snapshot,
                &Message::default().varint(1, index).varint(2, term).finish(),
            );
        }
        let state = Message::default().varint(1, term).varint(2, node).varint(3, index);
        writer.push(Kind::State, &state.finish());
        writer.finish()
    }

    fn json(&self) -> Vec<u8> {
        let mut out = Json(Vec::new());
        let index = self.store.index().0;
        out.raw(r#"{"Root":"#);
        out.open(b"/", StoreIndex(0), StoreIndex(0), None);
        out.name(b"0", true);
        self.cluster(&mut out);
        out.name(b"1", false);
        let root = self.store.get(&KeyPath::root()).outcome.ok();
        let none = StoreIndex(0);
        out.open(b"/1", none, none, None);
        if let Some(root) = root {
            out.children(&mut b"/1".to_vec(), root, self.store.wall_offset());
        }
        out.raw("}}");
        if self.store.auth().prepared() {
            out.name(b"2", false);
            self.auth(&mut out);
        }
        out.raw(r#"}},"WatcherHub":{"EventHistory":"#);
        self.history(&mut out);
        out.raw(&format!(r#"}},"CurrentIndex":{index},"Stats":{{"#));
        for (place, (name, counter)) in COUNTERS.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let number = self.store.counters().get(*counter);
            out.raw(&format!(r#"{comma}"{name}":{number}"#));
        }
        out.raw(r#","watchers":0},"CurrentVersion":2}"#);
        out.0
    }

    /// The hidden keys of the cluster.
    fn cluster(&self, out: &mut Json) {
        let id = MemberId(self.owner.node);
        let raft =
            RaftAttributes { peer_urls: Some(self.record.peer_urls.clone()), learner: false };
        let own = Attributes {
            name: self.record.name.clone(),
            client_urls: Some(self.record.client_urls.clone()),
        };
        let text = |json: serde_json::Result<Vec<u8>>| json.expect("texts are JSON");
        let mut files = vec![
            (facts::raft_attributes(id), text(serde_json::to_vec(&raft))),
            (facts::attributes(id), text(serde_json::to_vec(&own))),
        ];
        files.extend(self.store.members().removed().map(|id| (facts::removed(id), Vec::new())));
        let version = self.store.members().version().unwrap_or(CLUSTER_VERSION);
        files.push((KeyPath::from(facts::VERSION), version.as_bytes().to_vec()));
        out.dir_of(&KeyPath::from("/0"), files);
    }

    /// The hidden keys of users and roles.
    fn auth(&self, out: &mut Json) {
        let auth = self.store.auth();
        let dir = KeyPath::from("/2");
        let enabled = if auth.enabled() { "true" } else { "false" };
        let mut files = vec![(dir.child(b"enabled"), enabled.as_bytes().to_vec())];
        let (users, roles) = (dir.child(b"users"), dir.child(b"roles"));
        for name in auth.users() {
            let Some(user) = auth.user(name) else { continue };
            let record = serde_json::json!({
                "user": name, "password": user.password.as_str(), "roles": auth.roles_of(name),
            });
            files.push((users.child(name.as_bytes()), record.to_string().into_bytes()));
        }
        for name in auth.roles().into_iter().filter(|name| *name != ROOT) {
            let Some(permissions) = auth.role(name) else { continue };
            let kv = serde_json::json!({ "read": permissions.read, "write": permissions.write });
            let record = serde_json::json!({ "role": name, "permissions": { "kv": kv } });
            files.push((roles.child(name.as_bytes()), record.to_string().into_bytes()));
        }
        out.dir_of(&dir, files);
    }

    /// The ring of events: one for each index, also where there is none that anyone sees.
    fn history(&self, out: &mut Json) {
        let history = self.store.history();
        let skip = history.len().saturating_sub(EVENTS_MAX);
        let from = StoreIndex(history.oldest().0 + skip as u64);
        out.raw(r#"{"Queue":{"Events":["#);
        let mut count = 0;
        for (index, slot) in history.slots_from(from) {
            out.raw(if count == 0 { "" } else { "," });
            match slot {
                Some(event) => out.event(event),
                None => out.raw(&format!(
                    r#"{{"action":"set","node":{{"key":"/0/version","value":"{CLUSTER_VERSION}","modifiedIndex":{0},"createdIndex":{0}}}}}"#,
                    index.0
                )),
            }
            count += 1;
        }
        for place in count..EVENTS_MAX {
            out.raw(if place == 0 { "null" } else { ",null" });
        }
        let (back, last) = (count % EVENTS_MAX, self.store.index().0);
        out.raw(&format!(
            r#"],"Size":{count},"Front":0,"Back":{back},"Capacity":{EVENTS_MAX}}},"StartIndex":{},"LastIndex":{last}}}"#,
            from.0
        ));
    }
}

const COUNTERS: [(&str, Counter); 13] = [
    ("setsSuccess", Counter::SetsSuccess),
    ("setsFail", Counter::SetsFail),
    ("deleteSuccess", Counter::DeleteSuccess),
    ("deleteFail", Counter::DeleteFail),
    ("updateSuccess", Counter::UpdateSuccess),
    ("updateFail", Counter::UpdateFail),
    ("createSuccess", Counter::CreateSuccess),
    ("createFail", Counter::CreateFail),
    ("compareAndSwapSuccess", Counter::CompareAndSwapSuccess),
    ("compareAndSwapFail", Counter::CompareAndSwapFail),
    ("compareAndDeleteSuccess", Counter::CompareAndDeleteSuccess),
    ("compareAndDeleteFail", Counter::CompareAndDeleteFail),
    ("expireCount", Counter::ExpireCount),
];

/// A date as Go reads it; the year 1 stands for none.
fn date(at: Option<LogTime>, offset: WallOffset) -> String {
    const NONE: &str = "0001-01-01T00:00:00Z";
    let Some(at) = at else { return NONE.to_owned() };
    let (seconds, nanos) = at.on_the_wall(offset).parts();
    let date =
        i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, nanos));
    date.map_or_else(|| NONE.to_owned(), |date| date.to_rfc3339_opts(SecondsFormat::Nanos, true))
}

/// The text that is being written.
struct Json(Vec<u8>);

impl Json {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A text; what is not UTF-8 is replaced, as etcd does.
    fn text(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        serde_json::to_writer(&mut self.0, &text).expect("a text is JSON, and memory takes it");
    }

    /// The name of a child, before the child.
    fn name(&mut self, name: &[u8], first: bool) {
        if !first {
            self.raw(",");
        }
        self.text(name);
        self.raw(":");
    }

    fn head(&mut self, path: &[u8], created: StoreIndex, modified: StoreIndex, expires: &str) {
        self.raw(r#"{"Path":"#);
        self.text(path);
        // Writing to memory does not fail.
        let _ = write!(
            self.0,
            r#","CreatedIndex":{},"ModifiedIndex":{},"ExpireTime":"{expires}","Value":"#,
            created.0, modified.0
        );
    }

    /// Begins a directory; its children follow, and two closing braces.
    fn open(
        &mut self,
        path: &[u8],
        created: StoreIndex,
        modified: StoreIndex,
        expires: Option<(LogTime, WallOffset)>,
    ) {
        let (at, offset) = expires.map_or((None, WallOffset(0)), |(at, offset)| (Some(at), offset));
        self.head(path, created, modified, &date(at, offset));
        self.raw(r#""","Children":{"#);
    }

    fn file(&mut self, path: &[u8], node: &Node, value: &[u8], offset: WallOffset) {
        self.head(path, node.created, node.modified, &date(node.expires, offset));
        self.text(value);
        self.raw(r#","Children":null}"#);
    }

    /// What is below a node at `path`.
    fn children(&mut self, path: &mut Vec<u8>, node: &Node, offset: WallOffset) {
        let Some(dir) = node.as_dir() else { return };
        let length = path.len();
        for (place, (name, child)) in dir.children().iter().enumerate() {
            self.name(name, place == 0);
            path.push(b'/');
            path.extend_from_slice(name);
            match child.value() {
                Some(value) => self.file(path, child, value, offset),
                None => {
                    let expires = child.expires.map(|at| (at, offset));
                    self.open(path, child.created, child.modified, expires);
                    self.children(path, child, offset);
                    self.raw("}}");
                }
            }
            path.truncate(length);
        }
    }

    /// A directory of hidden keys, with all directories on the way to these files.
    fn dir_of(&mut self, dir: &KeyPath, mut files: Vec<(KeyPath, Vec<u8>)>) {
        files.sort();
        let none = StoreIndex(0);
        self.open(dir.as_bytes(), none, none, None);
        let name_in = |path: &KeyPath| path.names().nth(dir.depth()).map(<[u8]>::to_vec);
        for (place, group) in
            files.chunk_by(|(one, _), (other, _)| name_in(one) == name_in(other)).enumerate()
        {
            let name = name_in(&group[0].0).expect("files are below their directory");
            let path = dir.child(&name);
            self.name(&name, place == 0);
            match group {
                [(file, value)] if *file == path => {
                    self.head(path.as_bytes(), none, none, &date(None, WallOffset(0)));
                    self.text(value);
                    self.raw(r#","Children":null}"#);
                }
                _ => self.dir_of(&path, group.to_vec()),
            }
        }
        self.raw("}}");
    }

    fn event(&mut self, event: &Event) {
        self.raw(&format!(r#"{{"action":"{}","node":"#, event.action.as_str()));
        self.shown(event, &event.node);
        if let Some(prev) = &event.prev {
            self.raw(r#","prevNode":"#);
            self.shown(event, prev);
        }
        self.raw(if event.refresh { r#","refresh":true}"# } else { "}" });
    }

    fn shown(&mut self, event: &Event, shown: &Shown) {
        self.raw(r#"{"key":"#);
        let key = [b"/1", event.path.as_bytes()].concat();
        self.text(&key);
        if let Some(value) = &shown.value {
            self.raw(r#","value":"#);
            self.text(value);
        }
        if shown.dir {
            self.raw(r#","dir":true"#);
        }
        if let Some(at) = shown.expires {
            let (date, ttl) = (date(Some(at), event.offset), at.seconds_left(event.at));
            self.raw(&format!(r#","expiration":"{date}","ttl":{ttl}"#));
        }
        let (modified, created) = (shown.modified.0, shown.created.0);
        self.raw(&format!(r#","modifiedIndex":{modified},"createdIndex":{created}}}"#));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::log::{End, Log};
    use crate::etcd::replay::Replay;
    use crate::etcd::snapshot::Envelope;
    use crate::store::{
        Auth, Command, Filter, Found, HistoryLimits, Members, PasswordHash, Permissions, Scan,
        Write,
    };

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 5000, bytes_max: 1 << 24 };

    fn store() -> Store {
        let mut store = Store::new(LIMITS);
        let set = |store: &mut Store, path: &str, value: &[u8], expires| {
            let write = Write { value: value.into(), dir: false, ttl: None, refresh: false };
            store.replay(LogTime(5), &Command::Set { path: KeyPath::from(path), write }, expires);
        };
        for n in 0..1500 {
            set(&mut store, &format!("/a/b-{}", n % 7), format!("<{n}> \"é\"").as_bytes(), None);
        }
        store.skip_indexes(2);
        let at = LogTime(1_900_000_000_123_456_789);
        set(&mut store, "/dies", b"", Some(at));
        let path = KeyPath::from("/a");
        store.replay(LogTime(6), &Command::Delete { path, dir: true, recursive: true }, None);
        set(&mut store, "/_x/y", b"z", None);
        let record = MemberRecord {
            name: "m".into(),
            peer_urls: vec!["http://p:1".into()],
            client_urls: vec!["http://c:1".into()],
        };
        let members =
            Members::of([(MemberId(7), record)], [MemberId(3), MemberId(4)], Some("3.4.0".into()));
        let users = ["root", "u"]
            .map(|name| (name.into(), PasswordHash::new("$2a$x"), Some(vec!["r".into()])));
        let role = Permissions { read: Some(vec!["/*".into()]), write: None };
        let auth = Auth::of(true, users, [("r".into(), role)]).unwrap();
        let counters = store.counters().plus(Counter::UpdateFail, 9);
        store.with_facts(members, auth, counters)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let store = store();
        let record = store.members().get(MemberId(7)).unwrap().clone();
        let place = Place { index: 2000, term: 9 };
        let owner = Metadata { node: 7, cluster: 77 };
        let written = Written { store: &store, place, owner, record: &record };
        assert_eq!(written.snapshot_name(), "0000000000000009-00000000000007d0.snap");
        let file = written.snapshot().concat();
        let envelope = Envelope::open(&file).unwrap();
        assert_eq!((envelope.place, &envelope.voters[..]), (place, &[7][..]));
        assert!(serde_json::from_slice::<serde_json::Value>(envelope.json).is_ok());
        let replay = Replay::of(envelope.json, LIMITS).unwrap();
        let facts = replay.facts().unwrap();
        assert_eq!((facts.members[0].id, &facts.members[0].record), (MemberId(7), &record));
        let members = facts.members_of(vec![(MemberId(7), record.clone())]);
        let (keys, counters) = replay.finish();
        let read = keys.with_facts(members, facts.auth, counters);
        assert_eq!(read.index(), store.index());
        assert_eq!(read.nodes_count(), store.nodes_count());
        let mut nodes = [Vec::new(), Vec::new()];
        for (store, nodes) in [&store, &read].into_iter().zip(&mut nodes) {
            store.nodes(&mut |path, node| nodes.push((path.clone(), node)));
        }
        assert_eq!(nodes[0], nodes[1]);
        assert_eq!(read.counters(), store.counters());
        assert_eq!(
            read.auth().user("u").map(|user| &user.password),
            store.auth().user("u").map(|user| &user.password)
        );
        assert_eq!(
            (read.auth().roles(), read.auth().role("r")),
            (store.auth().roles(), store.auth().role("r"))
        );
        assert!(read.members().was_removed(MemberId(3)) && read.auth().enabled());
        // The last thousand events.
        assert_eq!(read.history().oldest().0, store.index().0 - 999);
        let filter = Filter { path: KeyPath::from("/dies"), recursive: false };
        let find = |store: &Store| match store
            .history()
            .find(Scan { from: read.history().oldest(), filter: &filter })
        {
            Ok(Found::Event(event)) => (event.index, event.node.clone(), event.action),
            other => panic!("{other:?}"),
        };
        assert_eq!(find(&read), find(&store));

        let mut log = Log::default();
        assert_eq!(log.segment(&written.segment(), true), Ok(End::Whole));
        assert_eq!((log.metadata(), log.state().commit), (Some(owner), 2000));
        assert!(log.names_snapshot(place) && log.ends().is_none());
    }
}
