//! What happened to a key.

use std::sync::Arc;

use crate::model::{DecodeError, KeyPath, LogTime, Reader, StoreIndex, WallOffset, Writer};
use crate::store::tree::FileValue;

/// Wire: `action`. `get` is no event and is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A set.
    Set,
    /// A create, in order or not.
    Create,
    /// An update.
    Update,
    /// A compare-and-swap that went through.
    CompareAndSwap,
    /// A delete.
    Delete,
    /// A compare-and-delete that went through.
    CompareAndDelete,
    /// A deadline passed.
    Expire,
}

impl Action {
    /// All of them; the position is the stored form.
    pub const ALL: [Self; 7] = [
        Self::Set,
        Self::Create,
        Self::Update,
        Self::CompareAndSwap,
        Self::Delete,
        Self::CompareAndDelete,
        Self::Expire,
    ];

    /// Wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Create => "create",
            Self::Update => "update",
            Self::CompareAndSwap => "compareAndSwap",
            Self::Delete => "delete",
            Self::CompareAndDelete => "compareAndDelete",
            Self::Expire => "expire",
        }
    }

    /// Does the node cease to be?
    pub const fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::CompareAndDelete | Self::Expire)
    }
}

/// A node as an event shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `None` for directories, and for nodes that the event removed.
    pub value: Option<FileValue>,
    /// A directory.
    pub dir: bool,
    /// Wire: `modifiedIndex`.
    pub modified: StoreIndex,
    /// Wire: `createdIndex`.
    pub created: StoreIndex,
    /// Wire: `expiration`; `ttl` follows from it and the event's stamp.
    pub expires: Option<LogTime>,
}

/// One change of the key space, as its writer is answered and its watchers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was done.
    pub action: Action,
    /// Its place in the order of all changes; also the node's `modifiedIndex`.
    pub index: StoreIndex,
    /// The stamp of the entry that did it.
    pub at: LogTime,
    /// How the leader's wall clock went with the log's then: every member shows the same dates, however much later.
    pub offset: WallOffset,
    /// The key.
    pub path: KeyPath,
    /// Afterwards.
    pub node: Shown,
    /// Before, if there was something.
    pub prev: Option<Shown>,
    /// A refresh: takes an index and a slot in the history, wakes no watcher.
    pub refresh: bool,
    /// What else went with a directory.
    pub removed: Removed,
}

/// The nodes that were below a directory when it was removed; their watchers are told of the directory's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// None.
    Nothing,
    /// These, relative to the directory (`/x/y`), in bytewise order.
    Paths(Arc<[Box<[u8]>]>),
    /// More than [`Removed::PATHS_MAX`], or longer ones than [`Removed::BYTES_MAX`]: every watcher below is told, whether its
    /// node existed or not.
    Many,
}

impl Removed {
    /// Paths that are listed one by one. The list is made while the entry is applied, half a microsecond for each path: more of
    /// them would hold up other writes for longer than the odd needless wake-up is worth.
    pub const PATHS_MAX: usize = 65_536;

    /// Bytes of all paths that are listed. Each repeats the directories on its way: without this limit, thousands of writes of
    /// long keys and one delete would make an event of more than a gigabyte.
    pub const BYTES_MAX: usize = 8 << 20;

    /// Was there a node at `rest`, relative to the directory?
    pub fn contains(&self, rest: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Paths(paths) => paths.binary_search_by(|path| (**path).cmp(rest)).is_ok(),
            Self::Many => true,
        }
    }

    /// How many nodes these are; the least that it can be when they are not listed.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Paths(paths) => paths.len() as u64,
            Self::Many => Self::PATHS_MAX as u64 + 1,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Nothing | Self::Many => 0,
            Self::Paths(paths) => {
                let pointers = shared(size_of_val(&**paths));
                paths.iter().fold(pointers, |sum, path| sum + allocated(path.len()))
            }
        }
    }
}

/// What an allocation of so many bytes takes.
fn allocated(bytes: usize) -> usize {
    const STEP: usize = 16;
    bytes.next_multiple_of(STEP)
}

/// What so many bytes behind an [`Arc`] take: its two counters stand in front of them.
fn shared(bytes: usize) -> usize {
    allocated(bytes + 2 * size_of::<usize>())
}

const VERSION: u8 = 2;

/// Stamps were dates then.
const VERSION_WITHOUT_OFFSET: u8 = 1;

impl Event {
    /// Bytes that it takes in the history: what `--history-bytes` counts. A value that the key still has is counted all the
    /// same, for the event alone keeps it once the key is written again.
    pub fn weight(&self) -> usize {
        /// Its slot, and its part of the summaries that searches read.
        const IN_HISTORY: usize = 32;
        let value = |shown: &Shown| match &shown.value {
            Some(value) => allocated(FileValue::OVERHEAD + value.len()),
            None => 0,
        };
        IN_HISTORY
            + shared(size_of::<Self>())
            + shared(self.path.as_bytes().len())
            + value(&self.node)
            + self.prev.as_ref().map_or(0, value)
            + self.removed.weight()
    }

    /// The stored form.
    pub fn encode(&self, out: &mut Writer) {
        out.u8(VERSION).u8(self.action as u8).varint(self.index.0).varint(self.at.0);
        out.signed(self.offset.0);
        out.bytes(self.path.as_bytes()).u8(u8::from(self.refresh));
        self.node.encode(out);
        out.u8(u8::from(self.prev.is_some()));
        if let Some(prev) = &self.prev {
            prev.encode(out);
        }
        match &self.removed {
            Removed::Nothing => {
                out.u8(0);
            }
            Removed::Paths(paths) => {
                out.u8(1).varint(paths.len() as u64);
                for path in &**paths {
                    out.bytes(path);
                }
            }
            Removed::Many => {
                out.u8(2);
            }
        }
    }

    /// The counterpart of [`Event::encode`].
    ///
    /// # Errors
    /// When the bytes are malformed or were written by a newer version.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.u8("event version")?;
        if !(VERSION_WITHOUT_OFFSET..=VERSION).contains(&version) {
            return Err(DecodeError::Unknown { what: "event version", found: version.into() });
        }
        let tag = input.u8("action")?;
        let action = *Action::ALL
            .get(usize::from(tag))
            .ok_or(DecodeError::Unknown { what: "action", found: tag.into() })?;
        Ok(Self {
            action,
            index: StoreIndex(input.varint("index")?),
            at: LogTime(input.varint("stamp")?),
            offset: match version {
                VERSION_WITHOUT_OFFSET => WallOffset(0),
                _ => WallOffset(input.signed("wall offset")?),
            },
            path: KeyPath::clean(input.bytes("key")?),
            refresh: input.u8("refresh")? != 0,
            node: Shown::decode(input)?,
            prev: if input.u8("prev")? == 0 { None } else { Some(Shown::decode(input)?) },
            removed: match input.u8("removed")? {
                0 => Removed::Nothing,
                1 => {
                    let count = input.varint("removed count")?;
                    let mut paths = Vec::new();
                    for _ in 0..count {
                        paths.push(Box::from(input.bytes("removed path")?));
                    }
                    Removed::Paths(paths.into())
                }
                2 => Removed::Many,
                tag => return Err(DecodeError::Unknown { what: "removed", found: tag.into() }),
            },
        })
    }
}

impl Shown {
    fn encode(&self, out: &mut Writer) {
        let flags = u8::from(self.dir)
            | u8::from(self.value.is_some()) << 1
            | u8::from(self.expires.is_some()) << 2;
        out.u8(flags).varint(self.modified.0).varint(self.created.0);
        if let Some(value) = &self.value {
            out.bytes(value);
        }
        if let Some(expires) = self.expires {
            out.varint(expires.0);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = input.u8("node flags")?;
        let modified = StoreIndex(input.varint("modified")?);
        let created = StoreIndex(input.varint("created")?);
        let value =
            if flags & 2 == 0 { None } else { Some(FileValue::from(input.bytes("value")?)) };
        let expires = if flags & 4 == 0 { None } else { Some(LogTime(input.varint("expires")?)) };
        Ok(Self { value, dir: flags & 1 != 0, modified, created, expires })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown() -> impl Strategy<Value = Shown> {
        let value = proptest::option::of(any::<Vec<u8>>());
        (value, any::<bool>(), any::<(u64, u64)>(), any::<Option<u64>>()).prop_map(
            |(value, dir, (modified, created), expires)| Shown {
                value: value.as_deref().map(Into::into),
                dir,
                modified: StoreIndex(modified),
                created: StoreIndex(created),
                expires: expires.map(LogTime),
            },
        )
    }

    fn removed() -> impl Strategy<Value = Removed> {
        prop_oneof![
            Just(Removed::Nothing),
            Just(Removed::Many),
            proptest::collection::vec(any::<Vec<u8>>(), 0..5).prop_map(|paths| {
                Removed::Paths(paths.into_iter().map(Vec::into_boxed_slice).collect())
            }),
        ]
    }

    fn events() -> impl Strategy<Value = Event> {
        let path = "(/[a-z_\u{e9}]{1,3}){0,4}".prop_map(|text| KeyPath::from(text.as_str()));
        let numbers = any::<(u64, u64, i64, bool)>();
        (0..7usize, numbers, path, shown(), proptest::option::of(shown()), removed()).prop_map(
            |(action, (index, at, offset, refresh), path, node, prev, removed)| Event {
                action: Action::ALL[action],
                index: StoreIndex(index),
                at: LogTime(at),
                offset: WallOffset(offset),
                path,
                node,
                prev,
                refresh,
                removed,
            },
        )
    }

    proptest! {
        #[test]
        fn events_survive_their_encoding_and_every_cut_is_noticed(event in events()) {
            let mut out = Writer::default();
            event.encode(&mut out);
            let bytes = out.finish();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(Event::decode(&mut input).unwrap(), event);
            prop_assert!(input.is_empty());
            for end in 0..bytes.len() {
                prop_assert!(Event::decode(&mut Reader::new(&bytes[..end])).is_err());
            }
        }

        #[test]
        fn random_bytes_are_refused_or_read_but_never_panic(mut bytes in any::<Vec<u8>>()) {
            bytes.insert(0, 1);
            let _ = Event::decode(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn an_event_weighs_what_it_keeps_in_memory() {
        let shown = |value: Option<&[u8]>| Shown {
            value: value.map(Into::into),
            dir: false,
            modified: StoreIndex(1),
            created: StoreIndex(1),
            expires: None,
        };
        let mut event = Event {
            action: Action::Set,
            index: StoreIndex(1),
            at: LogTime(1),
            offset: WallOffset(0),
            path: KeyPath::from("/a"),
            node: shown(None),
            prev: None,
            refresh: false,
            removed: Removed::Nothing,
        };
        let empty = event.weight();
        assert!((size_of::<Event>()..size_of::<Event>() + 128).contains(&empty), "{empty}");
        event.node = shown(Some(&[0; 1000]));
        event.prev = Some(shown(Some(&[0; 5000])));
        event.path = KeyPath::from(format!("/{}", "k".repeat(2000)).as_str());
        let with_values = event.weight() - empty;
        let least = 8000 + 2 * FileValue::OVERHEAD;
        assert!((least..least + 40).contains(&with_values), "{with_values}");
        // A short path takes a pointer, a length and one allocation.
        event.removed = Removed::Paths((0..1000).map(|_| Box::from(&b"/x"[..])).collect());
        let with_paths = event.weight() - empty - with_values;
        assert!((32_000..32_100).contains(&with_paths), "{with_paths}");
    }

    #[test]
    fn an_event_from_before_there_were_offsets_is_read() {
        // Version 1: set of /a to "v" at index 3, stamp 300.
        let bytes = [1, 0, 3, 0xac, 2, 2, b'/', b'a', 0, 2, 3, 3, 1, b'v', 0, 0];
        let event = Event::decode(&mut Reader::new(&bytes)).expect("it is well formed");
        assert_eq!((event.at, event.offset), (LogTime(300), WallOffset(0)));
        assert_eq!(event.node.value.as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn the_stored_tag_of_each_action_is_its_place() {
        for (place, action) in Action::ALL.iter().enumerate() {
            assert_eq!(*action as usize, place);
        }
    }
}
