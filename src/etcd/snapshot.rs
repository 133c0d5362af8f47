//! A snapshot file: the version 2 store as JSON, in an envelope with a checksum.
//!
//! Owns: the envelope, the JSON, and what of its events becomes history here. Never knows: files; which snapshot counts.

use std::borrow::Cow;

use chrono::DateTime;
use thiserror::Error;

use crate::etcd::entry::Place;
use crate::etcd::json::{Json, JsonError};
use crate::etcd::proto::{Fields, ProtoError, Value as Field};
use crate::model::{KeyPath, LogTime, Name, StoreIndex, Value, WallOffset};
use crate::store::{
    Action, Counter, Counters, Event, FileValue, HistoryLimits, Import, Node, Removed, Shown, Store,
};

/// Directories in each other that are read; no more can be below the keys that a member here takes, and trees are walked
/// recursively.
pub const DEPTH_MAX: usize = 1000;

/// Slots of etcd's history.
const EVENTS_MAX: usize = 1000;

/// Keys with replaced bytes that are named; all are counted.
const REPLACED_NAMED_MAX: usize = 20;

/// What a text has where bytes were no UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Why there is no store in the bytes of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// It is no message of the kind.
    #[error("it is no snapshot: {0}")]
    Envelope(#[from] ProtoError),
    /// It holds nothing.
    #[error("it is empty")]
    Empty,
    /// It is not what was written.
    #[error("its checksum is {expected:08x}, and its bytes have {found:08x}")]
    Checksum {
        /// What was written.
        expected: u32,
        /// What is there.
        found: u32,
    },
    /// The store in it is no JSON, or JSON of another kind.
    #[error("the store in it cannot be read: {0}")]
    Json(#[from] JsonError),
    /// What is written there cannot be.
    #[error("the store in it cannot be: {0}")]
    Store(String),
}

/// A snapshot file, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The last entry in it.
    pub place: Place,
    /// Who voted then.
    pub voters: Vec<u64>,
    /// The store.
    pub json: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens a file and checks its checksum.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn open(file: &'a [u8]) -> Result<Self, SnapshotError> {
        let (mut expected, mut inner) = (0, &[][..]);
        let mut fields = Fields::of(file);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Field::Varint(crc)) => expected = u32::try_from(crc).unwrap_or(0),
                (2, Field::Bytes(bytes)) => inner = bytes,
                _ => {}
            }
        }
        if expected == 0 || inner.is_empty() {
            return Err(SnapshotError::Empty);
        }
        let found = crc32c::crc32c(inner);
        if found != expected {
            return Err(SnapshotError::Checksum { expected, found });
        }
        let (mut json, mut metadata) = (&[][..], &[][..]);
        let mut fields = Fields::of(inner);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Field::Bytes(bytes)) => json = bytes,
                (2, Field::Bytes(bytes)) => metadata = bytes,
                _ => {}
            }
        }
        let (mut place, mut state) = (Place::default(), &[][..]);
        let mut fields = Fields::of(metadata);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Field::Bytes(bytes)) => state = bytes,
                (2, Field::Varint(index)) => place.index = index,
                (3, Field::Varint(term)) => place.term = term,
                _ => {}
            }
        }
        let mut voters = Vec::new();
        let mut fields = Fields::of(state);
        while let Some((number, value)) = fields.next_field()? {
            if let (1, Field::Varint(voter)) = (number, value) {
                voters.push(voter);
            }
        }
        Ok(Self { place, voters, json })
    }
}

/// Keys whose bytes were no UTF-8 and were replaced when the snapshot was written, for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// How many nodes have such a name or value. Some may have had the letter in the first place.
    pub count: u64,
    /// The first of them.
    pub keys: Vec<String>,
}

/// The store of a snapshot: what users see as `/`, and what etcd keeps beside it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Below `/1`, with the history.
    pub keys: Store,
    /// Everything else, under its own paths, at the same index.
    pub hidden: Store,
    /// Of all trees.
    pub counters: Counters,
    /// See there.
    pub replaced: Replaced,
    /// The latest moment that an event tells.
    pub latest: LogTime,
}

/// A node as it stands there.
#[derive(Debug)]
struct Raw {
    created: u64,
    modified: u64,
    expires: Option<LogTime>,
    content: RawContent,
}

#[derive(Debug)]
enum RawContent {
    File(Value),
    Dir(Vec<(Name, Raw)>),
}

/// A node that is being read.
struct Open {
    name: Name,
    node: Raw,
    /// Where the reader is among its own fields.
    fields: crate::etcd::json::Members,
    /// And among its children, while it is there.
    children: Option<crate::etcd::json::Members>,
}

/// Reads the store of a snapshot. History is kept up to `limits`.
///
/// # Errors
/// See [`SnapshotError`].
pub fn load(json: &[u8], limits: HistoryLimits) -> Result<Loaded, SnapshotError> {
    let mut reader = Json::of(json);
    let (mut root, mut index, mut events) = (None, None, Events::default());
    let mut counters = Counters::default();
    let mut members = reader.object()?;
    while let Some(name) = reader.name(&mut members)? {
        match &*name {
            b"Root" => root = Some(tree(&mut reader)?),
            b"CurrentIndex" => index = Some(reader.number()?),
            b"WatcherHub" => events = history(&mut reader)?,
            b"Stats" => counters = stats(&mut reader)?,
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    let missing = |what: &str| SnapshotError::Store(format!("{what} is missing"));
    let root = root.ok_or_else(|| missing("\"Root\""))?;
    let index = index.ok_or_else(|| missing("\"CurrentIndex\""))?;
    // There must be room for the changes to come.
    if index > u64::MAX / 2 {
        return Err(SnapshotError::Store(format!("there is no index {index}")));
    }
    let mut replaced = Replaced::default();
    let (mut keys, mut hidden) = (Import::default(), Import::default());
    let RawContent::Dir(tops) = root.content else {
        return Err(SnapshotError::Store("its root is no directory".to_owned()));
    };
    for (name, node) in tops {
        match (&*name, node.content) {
            (b"1", RawContent::Dir(children)) => fill(&mut keys, children, &mut replaced)?,
            (b"0" | b"2", RawContent::Dir(_)) if node.expires.is_some() => {
                return Err(SnapshotError::Store("the cluster's own keys expire".to_owned()));
            }
            (b"0" | b"2", RawContent::Dir(children)) => {
                let node = Raw { content: RawContent::Dir(children), ..node };
                fill(&mut hidden, vec![(name, node)], &mut Replaced::default())?;
            }
            _ => {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(SnapshotError::Store(format!(
                    "it has a key /{name}, which no version of etcd makes"
                )));
            }
        }
    }
    let latest = events.latest;
    let (at, none) = ((StoreIndex(index), latest), Counters::default());
    let keys = keys.finish(limits, at, events.up_to(index), none);
    let hidden = hidden.finish(limits, at, Vec::new(), none);
    Ok(Loaded { keys, hidden, counters, replaced, latest })
}

/// Reads a node and all that is below it.
fn tree(reader: &mut Json<'_>) -> Result<Raw, SnapshotError> {
    let open = |reader: &mut Json<'_>, name: Name| -> Result<Open, SnapshotError> {
        let content = RawContent::File(Value::from(&b""[..]));
        let node = Raw { created: 0, modified: 0, expires: None, content };
        Ok(Open { name, node, fields: reader.object()?, children: None })
    };
    let mut stack = vec![open(reader, Name::from(&b""[..]))?];
    loop {
        let top = stack.last_mut().expect("the loop ends with the last");
        if let Some(children) = &mut top.children {
            if let Some(name) = reader.name(children)? {
                if name.is_empty() || name.contains(&b'/') {
                    return Err(reader.error("the name of a key").into());
                }
                if stack.len() > DEPTH_MAX + 1 {
                    return Err(SnapshotError::Store(format!(
                        "it has keys of more than {DEPTH_MAX} components, and a member here takes none of them: remove them while \
                         etcd runs"
                    )));
                }
                let child = open(reader, Name::from(&*name))?;
                stack.push(child);
            } else {
                top.children = None;
            }
            continue;
        }
        let Some(field) = reader.name(&mut top.fields)? else {
            let done = stack.pop().expect("it is the one that was looked at");
            let Some(dir) = stack.last_mut() else { return Ok(done.node) };
            let RawContent::Dir(children) = &mut dir.node.content else {
                unreachable!("what has open children is a directory")
            };
            children.push((done.name, done.node));
            continue;
        };
        match &*field {
            b"CreatedIndex" => top.node.created = reader.number()?,
            b"ModifiedIndex" => top.node.modified = reader.number()?,
            b"ExpireTime" => top.node.expires = deadline(reader)?,
            b"Value" => {
                let text = reader.text()?;
                if let RawContent::File(value) = &mut top.node.content {
                    *value = Value::from(&*text);
                }
            }
            b"Children" => {
                if !reader.null()? {
                    top.node.content = RawContent::Dir(Vec::new());
                    top.children = Some(reader.object()?);
                }
            }
            _ => reader.skip()?,
        }
    }
}

/// Adds nodes below the root of what is put together, children behind their directory.
fn fill(
    import: &mut Import,
    children: Vec<(Name, Raw)>,
    replaced: &mut Replaced,
) -> Result<(), SnapshotError> {
    let mut key = Vec::new();
    let mut stack = vec![(0, in_order(children).into_iter())];
    while let Some((length, children)) = stack.last_mut() {
        key.truncate(*length);
        let Some((name, raw)) = children.next() else {
            stack.pop();
            continue;
        };
        key.push(b'/');
        key.extend_from_slice(&name);
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, REPLACEMENT).is_some();
        if has(&name) || matches!(&raw.content, RawContent::File(value) if has(value)) {
            replaced.count += 1;
            if replaced.keys.len() < REPLACED_NAMED_MAX {
                replaced.keys.push(String::from_utf8_lossy(&key).into_owned());
            }
        }
        let (created, modified) = (StoreIndex(raw.created), StoreIndex(raw.modified));
        let (node, below) = match raw.content {
            RawContent::File(value) => {
                (Node::file_modified(created, modified, raw.expires, &value), None)
            }
            RawContent::Dir(below) => {
                (Node::dir_modified(created, modified, raw.expires), Some(below))
            }
        };
        let placed = import.node(&key, node);
        placed.map_err(|_| SnapshotError::Store("a key stands in the wrong place".to_owned()))?;
        if let Some(below) = below {
            stack.push((key.len(), in_order(below).into_iter()));
        }
    }
    Ok(())
}

/// By name. Names that differed only in bytes that are no UTF-8 have become one: etcd itself would keep the last.
fn in_order(mut children: Vec<(Name, Raw)>) -> Vec<(Name, Raw)> {
    if children.is_sorted_by(|(one, _), (other, _)| one < other) {
        return children;
    }
    children.reverse();
    children.sort_by(|(one, _), (other, _)| one.cmp(other));
    children.dedup_by(|(later, _), (kept, _)| later == kept);
    children
}

/// A deadline as Go writes it: a date in the zone of its server; the year 1 stands for none.
fn deadline(reader: &mut Json<'_>) -> Result<Option<LogTime>, SnapshotError> {
    let text = reader.text()?;
    let wrong = || SnapshotError::Json(reader.error("a date"));
    if text.starts_with(b"0001-01-01T00:00:00") {
        return Ok(None);
    }
    let text = std::str::from_utf8(&text).map_err(|_| wrong())?;
    let date = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    let nanos = date.timestamp_nanos_opt().ok_or_else(wrong)?;
    // What should have died before 1970 dies first of all.
    Ok(Some(LogTime(u64::try_from(nanos).unwrap_or(0))))
}

fn stats(reader: &mut Json<'_>) -> Result<Counters, SnapshotError> {
    let mut counters = Counters::default();
    let mut members = reader.object()?;
    while let Some(name) = reader.name(&mut members)? {
        let counter = match &*name {
            b"setsSuccess" => Counter::SetsSuccess,
            b"setsFail" => Counter::SetsFail,
            b"deleteSuccess" => Counter::DeleteSuccess,
            b"deleteFail" => Counter::DeleteFail,
            b"updateSuccess" => Counter::UpdateSuccess,
            b"updateFail" => Counter::UpdateFail,
            b"createSuccess" => Counter::CreateSuccess,
            b"createFail" => Counter::CreateFail,
            b"compareAndSwapSuccess" => Counter::CompareAndSwapSuccess,
            b"compareAndSwapFail" => Counter::CompareAndSwapFail,
            b"compareAndDeleteSuccess" => Counter::CompareAndDeleteSuccess,
            b"compareAndDeleteFail" => Counter::CompareAndDeleteFail,
            b"expireCount" => Counter::ExpireCount,
            // Reads and watchers are each member's own.
            _ => {
                reader.skip()?;
                continue;
            }
        };
        counters = counters.plus(counter, reader.number()?);
    }
    Ok(counters)
}

/// The ring of events.
#[derive(Default)]
struct Events {
    /// As they stand in the ring; an event of the cluster's own keys has only its index.
    ring: Vec<Option<(u64, Option<Event>)>>,
    front: usize,
    latest: LogTime,
}

impl Events {
    /// A slot for each index, the last of which is `index`; none when the ring does not reach so far.
    fn up_to(self, index: u64) -> Vec<Option<Event>> {
        let Self { mut ring, front, .. } = self;
        if !ring.is_empty() {
            let front = front % ring.len();
            ring.rotate_left(front);
        }
        let mut slots: Vec<_> = ring.into_iter().flatten().collect();
        slots.sort_by_key(|(at, _)| *at);
        // From the last on backwards, as long as none is missing.
        let mut wanted = index;
        let mut kept = Vec::new();
        while let Some((at, event)) = slots.pop() {
            if at != wanted || wanted == 0 {
                break;
            }
            kept.push(event);
            wanted -= 1;
        }
        kept.reverse();
        kept
    }
}

fn history(reader: &mut Json<'_>) -> Result<Events, SnapshotError> {
    let mut events = Events::default();
    let mut hub = reader.object()?;
    while let Some(name) = reader.name(&mut hub)? {
        if &*name != b"EventHistory" || reader.null()? {
            if &*name != b"EventHistory" {
                reader.skip()?;
            }
            continue;
        }
        let mut history = reader.object()?;
        while let Some(name) = reader.name(&mut history)? {
            if &*name != b"Queue" {
                reader.skip()?;
                continue;
            }
            let mut queue = reader.object()?;
            while let Some(name) = reader.name(&mut queue)? {
                match &*name {
                    b"Front" => events.front = usize::try_from(reader.number()?).unwrap_or(0),
                    b"Events" if !reader.null()? => {
                        let mut ring = reader.list()?;
                        while reader.item(&mut ring)? {
                            if events.ring.len() == EVENTS_MAX {
                                return Err(SnapshotError::Store(format!(
                                    "it has more than {EVENTS_MAX} events"
                                )));
                            }
                            let event = match reader.null()? {
                                true => None,
                                false => Some(event(reader, &mut events.latest)?),
                            };
                            events.ring.push(event);
                        }
                    }
                    b"Events" => {}
                    _ => reader.skip()?,
                }
            }
        }
    }
    Ok(events)
}

/// A node of an event.
struct RawShown<'a> {
    key: Cow<'a, [u8]>,
    shown: Shown,
    /// Seconds, if the event tells them.
    ttl: i64,
}

/// The index of an event, and the event if it is one of users' keys.
fn event(
    reader: &mut Json<'_>,
    latest: &mut LogTime,
) -> Result<(u64, Option<Event>), SnapshotError> {
    let (mut action, mut node, mut prev, mut refresh) = (None, None, None, false);
    let mut members = reader.object()?;
    while let Some(name) = reader.name(&mut members)? {
        match &*name {
            b"action" => {
                let text = reader.text()?;
                let known = |action: &Action| action.as_str().as_bytes() == &*text;
                action = Action::ALL.into_iter().find(known);
                if action.is_none() {
                    return Err(reader.error("a known action").into());
                }
            }
            b"node" => node = Some(shown(reader)?),
            b"prevNode" if !reader.null()? => prev = Some(shown(reader)?),
            b"prevNode" => {}
            b"refresh" => refresh = reader.boolean()?,
            _ => reader.skip()?,
        }
    }
    let (Some(action), Some(node)) = (action, node) else {
        return Err(reader.error("an event with action and node").into());
    };
    let index = node.shown.modified;
    for shown in [Some(&node), prev.as_ref()].into_iter().flatten() {
        if let (Some(expires), 1..) = (shown.shown.expires, shown.ttl) {
            // Lifetimes are rounded up, so this is a second early at most.
            let ttl = shown.ttl.unsigned_abs().saturating_mul(1_000_000_000);
            *latest = (*latest).max(LogTime(expires.0.saturating_sub(ttl)));
        }
    }
    let Some(key) = node.key.strip_prefix(b"/1/") else { return Ok((index.0, None)) };
    let prev = prev.map(|prev| prev.shown);
    let mut shown = node.shown;
    if action.removes() {
        (shown.value, shown.expires) = (None, None);
        shown.dir |= prev.as_ref().is_some_and(|prev| prev.dir);
    }
    // etcd tells all who watch below a directory of its end, whatever was in it.
    let removed = match action.removes() && shown.dir {
        true => Removed::Many,
        false => Removed::Nothing,
    };
    let path = KeyPath::clean(key);
    let (at, offset) = (*latest, WallOffset(0));
    let event = Event { action, index, at, offset, path, node: shown, prev, refresh, removed };
    Ok((index.0, Some(event)))
}

fn shown<'a>(reader: &mut Json<'a>) -> Result<RawShown<'a>, SnapshotError> {
    let shown = Shown {
        value: None,
        dir: false,
        modified: StoreIndex(0),
        created: StoreIndex(0),
        expires: None,
    };
    let mut found = RawShown { key: Cow::Borrowed(b""), shown, ttl: 0 };
    let mut members = reader.object()?;
    while let Some(name) = reader.name(&mut members)? {
        match &*name {
            b"key" => found.key = reader.text()?,
            b"value" if !reader.null()? => {
                found.shown.value = Some(FileValue::from(&*reader.text()?))
            }
            b"value" => {}
            b"dir" => found.shown.dir = reader.boolean()?,
            b"expiration" if !reader.null()? => found.shown.expires = deadline(reader)?,
            b"expiration" => {}
            b"ttl" => found.ttl = reader.signed()?,
            b"modifiedIndex" => found.shown.modified = StoreIndex(reader.number()?),
            b"createdIndex" => found.shown.created = StoreIndex(reader.number()?),
            _ => reader.skip()?,
        }
    }
    if found.shown.dir {
        found.shown.value = None;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Filter, Found, Scan};

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 2000, bytes_max: 1 << 20 };

    fn dir(children: &str) -> String {
        format!(
            r#"{{"CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{{{children}}}}}"#
        )
    }

    fn file(value: &str, expires: &str) -> String {
        format!(
            r#"{{"Path":"?","CreatedIndex":2,"ModifiedIndex":3,"ExpireTime":"{expires}","ACL":"","Value":"{value}","Children":null}}"#
        )
    }

    const NEVER: &str = "0001-01-01T00:00:00Z";

    fn json(keys: &str, events: &str, index: u64) -> String {
        let root = dir(&format!(r#""0":{},"1":{}"#, dir(""), dir(keys)));
        format!(
            r#"{{"Root":{root},"WatcherHub":{{"EventHistory":{{"Queue":{{"Events":[{events}],"Size":0,"Front":1,"Back":0,"Capacity":3}},"StartIndex":1}}}},"CurrentIndex":{index},"Stats":{{"setsSuccess":4,"getsFail":9}},"New":[1]}}"#
        )
    }

    fn event(index: u64, key: &str, more: &str) -> String {
        format!(
            r#"{{"action":"set","node":{{"key":"{key}","value":"v","modifiedIndex":{index},"createdIndex":1{more}}}}}"#
        )
    }

    fn loaded(json: &str) -> Loaded {
        load(json.as_bytes(), LIMITS).expect("it can be read")
    }

    #[test]
    fn dates_keep_their_nanoseconds_in_any_zone() {
        let dates = [
            ("2046-11-20T17:12:22.241698836Z", Some(2_426_346_742_241_698_836)),
            ("2046-11-20T19:12:22.241698836+02:00", Some(2_426_346_742_241_698_836)),
            ("1754-08-30T22:43:41Z", Some(0)),
            (NEVER, None),
        ];
        for (date, wanted) in dates {
            let found = loaded(&json(&format!(r#""a":{}"#, file("v", date)), "", 3));
            let node = found.keys.get(&KeyPath::from("/a")).outcome.unwrap();
            assert_eq!(node.expires.map(|at| at.0), wanted, "{date}");
            assert_eq!((node.created.0, node.modified.0), (2, 3));
        }
        let wrong = json(&format!(r#""a":{}"#, file("v", "tomorrow")), "", 3);
        assert!(load(wrong.as_bytes(), LIMITS).unwrap_err().to_string().contains("a date"));
    }

    #[test]
    fn names_that_became_one_are_one_and_replaced_bytes_are_counted() {
        let (one, other) = (file("first", NEVER), file("last", NEVER));
        let keys = format!(
            r#""z":{one},"\ufffd":{one},"a":{},"\ufffd":{other}"#,
            file("x\\ufffdy", NEVER)
        );
        let found = loaded(&json(&keys, "", 3));
        found.keys.check();
        assert_eq!(found.keys.nodes_count(), 3);
        let node = found.keys.get(&KeyPath::from("/\u{fffd}")).outcome.unwrap();
        assert_eq!(node.value(), Some(&b"last"[..]));
        assert_eq!(
            (found.replaced.count, &found.replaced.keys[..]),
            (2, &["/a".to_owned(), "/\u{fffd}".to_owned()][..])
        );
    }

    #[test]
    fn the_ring_is_turned_and_ends_with_the_index_or_counts_for_nothing() {
        let ring =
            [event(5, "/1/c", ""), event(3, "/1/a", ""), event(4, "/0/version", "")].join(",");
        let found = loaded(&json("", &ring, 5));
        assert_eq!((found.keys.history().oldest().0, found.keys.history().len()), (3, 3));
        let filter = Filter { path: KeyPath::root(), recursive: true };
        let find = |from| match found
            .keys
            .history()
            .find(Scan { from: StoreIndex(from), filter: &filter })
        {
            Ok(Found::Event(event)) => event.index.0,
            other => panic!("{other:?}"),
        };
        assert_eq!([find(3), find(4), find(5)], [3, 5, 5]);
        // One is missing: what comes behind counts.
        let found = loaded(&json("", &[event(3, "/1/a", ""), event(5, "/1/c", "")].join(","), 5));
        assert_eq!(found.keys.history().oldest().0, 5);
        let found = loaded(&json("", &event(4, "/1/a", ""), 5));
        assert_eq!((found.keys.history().oldest().0, found.keys.history().len()), (6, 0));
        assert!(found.counters.get(Counter::SetsSuccess) == 4 && found.keys.index().0 == 5);
    }

    #[test]
    fn a_lifetime_tells_when_an_event_was() {
        let more = r#","expiration":"2026-01-01T00:00:10Z","ttl":10"#;
        let found = loaded(&json("", &event(3, "/1/a", more), 3));
        assert_eq!(found.latest.0 / 1_000_000_000, 1_767_225_600);
        assert_eq!(found.keys.now(), found.latest);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let deep =
            format!("{}{}{}", r#""d":{"Children":{"#.repeat(1001), r#""x":{}"#, "}}".repeat(1001));
        for (text, words) in [
            (json(&deep, "", 3), "more than 1000 components"),
            (json("", "", u64::MAX), "no index"),
            (json(r#""a/b":{}"#, "", 3), "the name of a key"),
            (json("", "", 3).replace("\"Root\"", "\"Boot\""), "\"Root\" is missing"),
            (json("", "", 3).replace("\"CurrentIndex\"", "\"C\""), "\"CurrentIndex\" is missing"),
            (json("", "", 3).replace("\"1\":", "\"7\":"), "a key /7"),
            (json("", &event(3, "/1/a", "").replace("set", "sit"), 3), "a known action"),
            (json("", "{}", 3), "an event with action and node"),
            (format!("{} x", json("", "", 3)), "the end"),
            (String::new(), "an object"),
        ] {
            let error = load(text.as_bytes(), LIMITS).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn an_envelope_with_a_wrong_sum_is_told() {
        assert_eq!(Envelope::open(&[]), Err(SnapshotError::Empty));
        assert_eq!(Envelope::open(&[8, 5]), Err(SnapshotError::Empty));
        assert!(matches!(
            Envelope::open(&[8, 5, 18, 1, 0]),
            Err(SnapshotError::Checksum { expected: 5, .. })
        ));
        assert!(matches!(Envelope::open(&[8]), Err(SnapshotError::Envelope(_))));
    }
}
