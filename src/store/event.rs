//! What happened to a key.

use std::sync::Arc;

use crate::model::{DecodeError, KeyPath, LogTime, Reader, StoreIndex, Value, Writer};

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
    const ALL: [Self; 7] = [
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
    pub value: Option<Value>,
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
    /// The key.
    pub path: KeyPath,
    /// Afterwards.
    pub node: Shown,
    /// Before, if there was something.
    pub prev: Option<Shown>,
    /// A refresh: takes an index and a slot in the history, wakes nobody.
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
    /// More than [`Removed::PATHS_MAX`]: whoever watches below is told, whether the node existed or not.
    Many,
}

impl Removed {
    /// Paths that are listed one by one; beyond it a list would weigh more than the odd needless wake-up.
    pub const PATHS_MAX: usize = 100_000;

    /// Was there a node at `rest`, relative to the directory?
    pub fn contains(&self, rest: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Paths(paths) => paths.binary_search_by(|path| (**path).cmp(rest)).is_ok(),
            Self::Many => true,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Nothing | Self::Many => 0,
            Self::Paths(paths) => paths.iter().map(|path| path.len() + 32).sum(),
        }
    }
}

impl Event {
    /// Bytes that it keeps alive, roughly: what the history's byte limit counts.
    pub fn weight(&self) -> usize {
        const OVERHEAD: usize = 200;
        let value = |shown: &Shown| shown.value.as_ref().map_or(0, |value| value.len());
        OVERHEAD
            + self.path.as_bytes().len()
            + value(&self.node)
            + self.prev.as_ref().map_or(0, value)
            + self.removed.weight()
    }

    /// The stored form.
    pub fn encode(&self, out: &mut Writer) {
        out.u8(1).u8(self.action as u8).varint(self.index.0).varint(self.at.0);
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
        if version != 1 {
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
        let value = if flags & 2 == 0 { None } else { Some(Value::from(input.bytes("value")?)) };
        let expires = if flags & 4 == 0 { None } else { Some(LogTime(input.varint("expires")?)) };
        Ok(Self { value, dir: flags & 1 != 0, modified, created, expires })
    }
}
