//! The messages in a log of etcd: entries, what they ask, and what stands beside them.
//!
//! Owns: which fields each message has, in all versions from 2.0 to 3.6. Never knows: frames, files, what a request does.

use thiserror::Error;

use crate::etcd::proto::{Fields, ProtoError, Value, unexpected};

/// Whose log it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The member.
    pub node: u64,
    /// Its cluster.
    pub cluster: u64,
}

/// What a member promised and knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term that it has seen.
    pub term: u64,
    /// Whom it voted for.
    pub vote: u64,
    /// Entries up to this one it knew to be committed. Written lazily: it may lag behind what clients were told.
    pub commit: u64,
}

/// An entry and its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The entry's index.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A request, or the empty entry with which a leader begins.
    Normal,
    /// A member joins, leaves or moves.
    ConfChange,
}

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Where it stands.
    pub place: Place,
    /// What it carries.
    pub data: &'a [u8],
}

/// A message that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// It is no message of this kind.
    #[error("{what} cannot be read: {source}")]
    Proto {
        /// Which message.
        what: &'static str,
        /// Why.
        source: ProtoError,
    },
    /// A kind of entry, of change or of request that no version with a version 2 store writes.
    #[error(
        "{what} {found:?} is not known: a version of etcd that this program does not know wrote it"
    )]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The number or name.
        found: String,
    },
    /// A text that has to be one is none.
    #[error("{0} is no text")]
    NoText(&'static str),
    /// JSON in it is broken.
    #[error("{what} cannot be read: {why}")]
    Json {
        /// Of what.
        what: &'static str,
        /// Why.
        why: String,
    },
}

pub(super) fn proto(what: &'static str) -> impl Fn(ProtoError) -> EntryError {
    move |source| EntryError::Proto { what, source }
}

pub(super) fn unknown(what: &'static str, found: impl ToString) -> EntryError {
    EntryError::Unknown { what, found: found.to_string() }
}

/// Reads every field of a message; `take` says `false` to those that do not belong there.
pub(super) fn fields<'a>(
    what: &'static str,
    bytes: &'a [u8],
    mut take: impl FnMut(u64, Value<'a>) -> bool,
) -> Result<(), EntryError> {
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next_field().map_err(proto(what))? {
        if !take(number, value) {
            return Err(proto(what)(unexpected((number, value))));
        }
    }
    Ok(())
}

impl Metadata {
    /// Reads the metadata at the head of a segment.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut found = Self::default();
        fields("the metadata", bytes, |number, value| match (number, value) {
            (1, Value::Varint(node)) => set(&mut found.node, node),
            (2, Value::Varint(cluster)) => set(&mut found.cluster, cluster),
            _ => false,
        })?;
        Ok(found)
    }
}

impl HardState {
    /// Reads a hard state.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut found = Self::default();
        fields("a hard state", bytes, |number, value| match (number, value) {
            (1, Value::Varint(term)) => set(&mut found.term, term),
            (2, Value::Varint(vote)) => set(&mut found.vote, vote),
            (3, Value::Varint(commit)) => set(&mut found.commit, commit),
            _ => false,
        })?;
        Ok(found)
    }
}

impl Place {
    /// Reads the record of a snapshot in the log.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut found = Self::default();
        fields("the record of a snapshot", bytes, |number, value| match (number, value) {
            (1, Value::Varint(index)) => set(&mut found.index, index),
            (2, Value::Varint(term)) => set(&mut found.term, term),
            // Who votes, from 3.5 on: the snapshot says it as well.
            (3, Value::Bytes(_)) => true,
            _ => false,
        })?;
        Ok(found)
    }
}

impl<'a> Entry<'a> {
    /// Reads an entry, but not what it carries.
    ///
    /// # Errors
    /// When it is none, or of a kind that no version with a version 2 store writes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let (mut kind, mut place, mut data) = (0, Place::default(), &[][..]);
        fields("an entry", bytes, |number, value| match (number, value) {
            (1, Value::Varint(found)) => set(&mut kind, found),
            (2, Value::Varint(term)) => set(&mut place.term, term),
            (3, Value::Varint(index)) => set(&mut place.index, index),
            (4, Value::Bytes(found)) => set(&mut data, found),
            _ => false,
        })?;
        let kind = match kind {
            0 => EntryKind::Normal,
            1 => EntryKind::ConfChange,
            other => return Err(unknown("the kind of entry", other)),
        };
        Ok(Self { kind, place, data })
    }
}

/// Always `true`, so that it can stand at the end of an arm.
pub(super) fn set<T>(to: &mut T, value: T) -> bool {
    *to = value;
    true
}

/// How a request changes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Create a node with a name in order.
    Post,
    /// Set, create, update, or compare and swap.
    Put,
    /// Delete, or compare and delete.
    Delete,
    /// A read that went through the log.
    Qget,
    /// Let keys expire.
    Sync,
}

/// A request for the version 2 store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is asked.
    pub method: Method,
    /// The key, with the prefix of its tree: `/1/a`.
    pub path: &'a [u8],
    /// The new value.
    pub value: &'a [u8],
    /// A directory is meant.
    pub dir: bool,
    /// The value that must be there; empty for none.
    pub prev_value: &'a [u8],
    /// The index that must be there; zero for none.
    pub prev_index: u64,
    /// Whether the key must be there, if that was said.
    pub prev_exist: Option<bool>,
    /// When the key dies, in nanoseconds since 1970; zero for never.
    pub expiration: i64,
    /// A whole directory is meant.
    pub recursive: bool,
    /// Of a SYNC: keys with deadlines up to this one die, in nanoseconds since 1970.
    pub time: i64,
    /// Only the deadline changes. Since 2.3.
    pub refresh: bool,
}

/// What a normal entry asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Nothing: a leader's first entry.
    Nothing,
    /// Something of the version 2 store.
    Request(Request<'a>),
    /// The version of the cluster, as 3.6 writes it.
    ClusterVersion(String),
    /// Name and client URLs of a member, as 3.6 writes it.
    Attributes {
        /// The member.
        member: u64,
        /// What it is called.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
    /// Something of the version 3 store. It has no effect on version 2.
    VersionThree(Wrapped<'a>),
}

/// A request of version 3, of which nothing is read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapped<'a> {
    /// The number of its field, which says what it is.
    pub number: u64,
    /// What stands there.
    pub body: &'a [u8],
    /// Who asks.
    pub header: &'a [u8],
}

impl<'a> Asked<'a> {
    /// Reads what a normal entry carries.
    ///
    /// A request of version 2 stands there bare, in all versions; one of version 3 is wrapped. The two are told apart by strict
    /// reading: the method, a text in field 2, is no message.
    ///
    /// # Errors
    /// When it is neither.
    pub fn decode(data: &'a [u8]) -> Result<Self, EntryError> {
        if data.is_empty() {
            return Ok(Self::Nothing);
        }
        match request(data) {
            Ok(request) => Ok(Self::Request(request)),
            Err(bare) => wrapped(data).map_err(|wrapped| match bare {
                // A method or path that is wrong says more than what the other reading says.
                EntryError::Unknown { .. } => bare,
                EntryError::Proto { .. } | EntryError::NoText(_) | EntryError::Json { .. } => {
                    wrapped
                }
            }),
        }
    }
}

fn request(data: &[u8]) -> Result<Request<'_>, EntryError> {
    let mut method = &[][..];
    let mut found = Request {
        method: Method::Qget,
        path: &[],
        value: &[],
        dir: false,
        prev_value: &[],
        prev_index: 0,
        prev_exist: None,
        expiration: 0,
        recursive: false,
        time: 0,
        refresh: false,
    };
    fields("a request", data, |number, field| match (number, field) {
        (2, Value::Bytes(text)) => set(&mut method, text),
        (3, Value::Bytes(path)) => set(&mut found.path, path),
        (4, Value::Bytes(value)) => set(&mut found.value, value),
        (5, Value::Varint(dir)) => set(&mut found.dir, dir != 0),
        (6, Value::Bytes(value)) => set(&mut found.prev_value, value),
        (7, Value::Varint(index)) => set(&mut found.prev_index, index),
        (8, Value::Varint(exist)) => set(&mut found.prev_exist, Some(exist != 0)),
        (9, Value::Varint(at)) => set(&mut found.expiration, at.cast_signed()),
        (12, Value::Varint(recursive)) => set(&mut found.recursive, recursive != 0),
        (15, Value::Varint(time)) => set(&mut found.time, time.cast_signed()),
        (17, Value::Varint(refresh)) => set(&mut found.refresh, refresh != 0),
        // The request's number, and what only reads have: wait, since, sorted, quorum, stream.
        (1 | 10 | 11 | 13 | 14 | 16, Value::Varint(_)) => true,
        _ => false,
    })?;
    found.method = match method {
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"QGET" => Method::Qget,
        b"SYNC" => Method::Sync,
        other => return Err(unknown("the method", String::from_utf8_lossy(other))),
    };
    Ok(found)
}

/// Fields of the wrapping message.
mod wrap {
    pub(super) const ID: u64 = 1;
    pub(super) const REQUEST: u64 = 2;
    pub(super) const HEADER: u64 = 100;
    pub(super) const CLUSTER_VERSION: u64 = 1300;
    pub(super) const ATTRIBUTES: u64 = 1301;
    /// Of version 3: keys and leases, its users and roles, downgrades.
    pub(super) const VERSION_THREE: [std::ops::RangeInclusive<u64>; 4] =
        [3..=11, 1000..=1299, 1302..=1302, 9900..=9900];
}

fn wrapped(data: &[u8]) -> Result<Asked<'_>, EntryError> {
    let (mut found, mut header) = (None, &[][..]);
    fields("a wrapped request", data, |number, value| match (number, value) {
        (wrap::ID, Value::Varint(_)) => true,
        (wrap::HEADER, Value::Bytes(bytes)) => set(&mut header, bytes),
        (number, Value::Bytes(bytes))
            // It is one request: a bare one with a method that is not known is not taken for another.
            if found.is_none()
                && (matches!(number, wrap::REQUEST | wrap::CLUSTER_VERSION | wrap::ATTRIBUTES)
                || wrap::VERSION_THREE.iter().any(|numbers| numbers.contains(&number))) =>
        {
            set(&mut found, Some((number, bytes)))
        }
        _ => false,
    })?;
    Ok(match found {
        None => return Err(unknown("a wrapped request", "without a request")),
        Some((wrap::REQUEST, bytes)) => Asked::Request(request(bytes)?),
        Some((wrap::CLUSTER_VERSION, bytes)) => {
            let mut version = String::new();
            let mut texts = Ok(());
            fields("a cluster's version", bytes, |number, value| match (number, value) {
                (1, Value::Bytes(bytes)) => {
                    read_text("a cluster's version", bytes, &mut version, &mut texts)
                }
                _ => false,
            })?;
            texts?;
            Asked::ClusterVersion(version)
        }
        Some((wrap::ATTRIBUTES, bytes)) => attributes(bytes)?,
        Some((number, body)) => Asked::VersionThree(Wrapped { number, body, header }),
    })
}

pub(super) fn read_text(
    what: &'static str,
    bytes: &[u8],
    to: &mut String,
    outcome: &mut Result<(), EntryError>,
) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.clone_into(to),
        Err(_) => *outcome = Err(EntryError::NoText(what)),
    }
    true
}

fn attributes(bytes: &[u8]) -> Result<Asked<'_>, EntryError> {
    const WHAT: &str = "a member's attributes";
    let (mut member, mut inner) = (0, &[][..]);
    fields(WHAT, bytes, |number, value| match (number, value) {
        (1, Value::Varint(id)) => set(&mut member, id),
        (2, Value::Bytes(bytes)) => set(&mut inner, bytes),
        _ => false,
    })?;
    let (mut name, mut client_urls, mut texts) = (String::new(), Vec::new(), Ok(()));
    fields(WHAT, inner, |number, value| match (number, value) {
        (1, Value::Bytes(bytes)) => read_text(WHAT, bytes, &mut name, &mut texts),
        (2, Value::Bytes(bytes)) => {
            let mut url = String::new();
            let read = read_text(WHAT, bytes, &mut url, &mut texts);
            client_urls.push(url);
            read
        }
        _ => false,
    })?;
    texts?;
    Ok(Asked::Attributes { member, name, client_urls })
}

/// How the members change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// One joins, with or without a vote.
    Add {
        /// It has no vote yet. Since 3.4.
        learner: bool,
    },
    /// One leaves for good.
    Remove,
    /// One moves.
    Update,
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// What changes.
    pub kind: ChangeKind,
    /// Which member.
    pub member: u64,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// A learner gets its vote. Since 3.4.
    pub promote: bool,
}

/// What stands in a change beside it, as JSON; ids there may be beyond what JSON's numbers hold elsewhere, and are not needed.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Context {
    #[serde(rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isPromote")]
    promote: bool,
}

impl ConfChange {
    /// Reads what an entry of that kind carries.
    ///
    /// # Errors
    /// When it is no such change.
    pub fn decode(data: &[u8]) -> Result<Self, EntryError> {
        let (mut kind, mut member, mut context) = (0, 0, &[][..]);
        fields("a change of members", data, |number, value| match (number, value) {
            (1, Value::Varint(_)) => true,
            (2, Value::Varint(found)) => set(&mut kind, found),
            (3, Value::Varint(id)) => set(&mut member, id),
            (4, Value::Bytes(json)) => set(&mut context, json),
            _ => false,
        })?;
        let kind = match kind {
            0 => ChangeKind::Add { learner: false },
            1 => ChangeKind::Remove,
            2 => ChangeKind::Update,
            3 => ChangeKind::Add { learner: true },
            other => return Err(unknown("the change of members", other)),
        };
        let context = match context {
            [] => Context::default(),
            json => serde_json::from_slice(json).map_err(|error| EntryError::Json {
                what: "a member in a change of members",
                why: error.to_string(),
            })?,
        };
        let peer_urls = context.peer_urls.unwrap_or_default();
        Ok(Self { kind, member, peer_urls, promote: context.promote })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::Message;
    use proptest::prelude::*;

    fn put(path: &[u8]) -> Message {
        Message::default().varint(1, 7).bytes(2, b"PUT").bytes(3, path).bytes(4, b"v")
    }

    #[test]
    fn both_forms_of_a_request_are_read() {
        let bare =
            put(b"/1/a").varint(9, (-5_i64).cast_unsigned()).varint(8, 0).varint(17, 1).finish();
        let Ok(Asked::Request(found)) = Asked::decode(&bare) else { panic!("a request") };
        assert_eq!((found.path, found.value, found.expiration), (&b"/1/a"[..], &b"v"[..], -5));
        assert_eq!((found.prev_exist, found.refresh), (Some(false), true));
        let inner = put(b"/1/a").finish();
        let wrapped = Message::default().bytes(100, &[]).bytes(2, &inner).finish();
        assert!(matches!(Asked::decode(&wrapped), Ok(Asked::Request(_))));
        assert_eq!(Asked::decode(&[]), Ok(Asked::Nothing));
        let three = Message::default().bytes(100, &[8, 1]).bytes(4, &[10, 1, b'k']).finish();
        assert!(
            matches!(Asked::decode(&three), Ok(Asked::VersionThree(three)) if three.number == 4)
        );
    }

    #[test]
    fn facts_of_the_cluster_as_3_6_writes_them_are_read() {
        let version = Message::default().bytes(1, b"3.6.0").finish();
        let version = Message::default().bytes(1300, &version).finish();
        assert_eq!(Asked::decode(&version), Ok(Asked::ClusterVersion("3.6.0".to_owned())));
        let inner = Message::default().bytes(1, b"m").bytes(2, b"http://c:1").finish();
        let message = Message::default().varint(1, 9).bytes(2, &inner).finish();
        let message = Message::default().bytes(1301, &message).finish();
        let (name, client_urls) = ("m".to_owned(), vec!["http://c:1".to_owned()]);
        assert_eq!(Asked::decode(&message), Ok(Asked::Attributes { member: 9, name, client_urls }));
    }

    #[test]
    fn what_no_version_writes_is_refused() {
        let method = Message::default().bytes(2, b"PATCH").bytes(3, b"/1/a").finish();
        let error = Asked::decode(&method).unwrap_err().to_string();
        assert!(error.contains("PATCH"), "{error}");
        for bytes in [&[0xff][..], &[0x08, 1], &[0x12, 0], b"hello"] {
            assert!(Asked::decode(bytes).is_err(), "{bytes:?}");
        }
        let entry = Message::default().varint(1, 2).varint(2, 1).varint(3, 1).finish();
        assert!(Entry::decode(&entry).unwrap_err().to_string().contains("\"2\""));
        let change = Message::default().varint(2, 4).finish();
        assert!(ConfChange::decode(&change).is_err());
        let change = Message::default().varint(2, 0).bytes(4, b"{").finish();
        assert!(ConfChange::decode(&change).is_err());
    }

    #[test]
    fn ids_beyond_the_integers_of_a_float_do_not_disturb() {
        let json = br#"{"id":13938032930480214161,"peerURLs":["http://a:1"],"name":"x","isLearner":true,"isPromote":true}"#;
        let change =
            Message::default().varint(1, 1).varint(2, 3).varint(3, u64::MAX).bytes(4, json);
        let found = ConfChange::decode(&change.finish()).unwrap();
        assert_eq!(found.member, u64::MAX);
        assert_eq!((found.kind, found.promote), (ChangeKind::Add { learner: true }, true));
        assert_eq!(found.peer_urls, ["http://a:1"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = (Metadata::decode(&bytes), HardState::decode(&bytes), Place::decode(&bytes));
            let _ = (Entry::decode(&bytes), Asked::decode(&bytes), ConfChange::decode(&bytes));
        }
    }
}
