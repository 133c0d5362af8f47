//! What a log entry may ask of the store, and its stored form.

use crate::model::{DecodeError, KeyPath, MemberId, Reader, StoreIndex, Ttl, Value, Writer};
use crate::mvcc;
use crate::store::auth::{self, AuthCommand};
use crate::store::members::MembersRevision;

/// A change that the log carries. Variants and fields are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Replace or make a file, or make a directory.
    Set {
        /// The key.
        path: KeyPath,
        /// What to put there.
        write: Write,
    },
    /// Make a node that must not be there yet.
    Create {
        /// The key.
        path: KeyPath,
        /// What to put there.
        write: Write,
    },
    /// Make a node below `dir` named after the index it takes.
    CreateInOrder {
        /// The directory; made when missing.
        dir: KeyPath,
        /// What to put there.
        write: Write,
    },
    /// RecordChange a node that must be there.
    Update {
        /// The key.
        path: KeyPath,
        /// What to put there.
        write: Write,
    },
    /// RecordChange a file if it is what the client thinks.
    CompareAndSwap {
        /// The key.
        path: KeyPath,
        /// What to put there.
        write: Write,
        /// What must hold.
        condition: Condition,
    },
    /// Remove a file, an empty directory (`dir`) or a subtree (`recursive`).
    Delete {
        /// The key.
        path: KeyPath,
        /// Directories too.
        dir: bool,
        /// Whatever is below too; implies `dir`.
        recursive: bool,
    },
    /// Remove a file if it is what the client thinks.
    CompareAndDelete {
        /// The key.
        path: KeyPath,
        /// What must hold.
        condition: Condition,
    },
    /// Let keys die whose deadline has passed by this entry's stamp, soonest first. [`Command::tick`] makes one.
    Tick {
        /// Once so many nodes are gone, those inside of dying directories included, no further key dies. `None`: all die, as
        /// in the entries of versions that knew no limit.
        nodes_max: Option<u64>,
    },
    /// A member belongs to the cluster from here on.
    AddMember {
        /// Its identity.
        id: MemberId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// The members that the checks were made on, if any were; of other members the command changes nothing.
        checked: Option<MembersRevision>,
    },
    /// A member moved.
    UpdateMember {
        /// Its identity.
        id: MemberId,
        /// Where its peers reach it now.
        peer_urls: Vec<String>,
    },
    /// A member says what it is called and where clients reach it.
    PublishMember {
        /// Its identity.
        id: MemberId,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
    /// A member left for good.
    RemoveMember {
        /// Its identity; never used again.
        id: MemberId,
        /// As in [`Command::AddMember`].
        checked: Option<MembersRevision>,
    },
    /// The version that all members speak, `MAJOR.MINOR.0`.
    SetClusterVersion {
        /// Wire: `etcdcluster`.
        version: String,
    },
    /// Users, roles, and whether they count.
    Auth(AuthCommand),
    /// Something of the v3 key space.
    Mvcc(mvcc::Command),
}

/// What a writing command puts into a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The new value; empty for directories and refreshes.
    pub value: Value,
    /// A directory instead of a file. Updates and compares ignore it.
    pub dir: bool,
    /// Lifetime, counted from the entry's stamp; `None` for ever.
    pub ttl: Option<Ttl>,
    /// Keep the value, move the deadline, wake no watcher.
    pub refresh: bool,
}

/// What must hold of a file for a compare to go through. At least one part is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its value.
    pub value: Option<Value>,
    /// Its `modifiedIndex`; zero counts as not given.
    pub index: StoreIndex,
}

const VERSION: u8 = 1;

/// The tag of a command of the v3 key space; behind those of users and roles.
const MVCC: u8 = 26;

/// Nodes that go in one tick, before other commands get their turn: a few milliseconds of work.
const TICK_NODES_MAX: u64 = 1000;

impl Command {
    /// A tick as leaders propose it. While more keys are due, another one has to follow.
    pub const fn tick() -> Self {
        Self::Tick { nodes_max: Some(TICK_NODES_MAX) }
    }

    /// What it writes into a node; most commands that change keys write something.
    pub fn write(&self) -> Option<&Write> {
        match self {
            Self::Set { write, .. }
            | Self::Create { write, .. }
            | Self::CreateInOrder { write, .. }
            | Self::Update { write, .. }
            | Self::CompareAndSwap { write, .. } => Some(write),
            Self::Delete { .. }
            | Self::CompareAndDelete { .. }
            | Self::Tick { .. }
            | Self::AddMember { .. }
            | Self::UpdateMember { .. }
            | Self::PublishMember { .. }
            | Self::RemoveMember { .. }
            | Self::SetClusterVersion { .. }
            | Self::Auth(_)
            | Self::Mvcc(_) => None,
        }
    }

    /// The stored form.
    pub fn encode(&self, out: &mut Writer) {
        out.u8(VERSION);
        match self {
            Self::Set { path, write } => encode_write(out.u8(1), path, write),
            Self::Create { path, write } => encode_write(out.u8(2), path, write),
            Self::CreateInOrder { dir, write } => encode_write(out.u8(3), dir, write),
            Self::Update { path, write } => encode_write(out.u8(4), path, write),
            Self::CompareAndSwap { path, write, condition } => {
                encode_write(out.u8(5), path, write);
                encode_condition(out, condition);
            }
            Self::Delete { path, dir, recursive } => {
                let flags = u8::from(*dir) | u8::from(*recursive) << 1;
                out.u8(6).bytes(path.as_bytes()).u8(flags);
            }
            Self::CompareAndDelete { path, condition } => {
                out.u8(7).bytes(path.as_bytes());
                encode_condition(out, condition);
            }
            Self::Tick { nodes_max: None } => {
                out.u8(8);
            }
            Self::Tick { nodes_max: Some(nodes_max) } => {
                out.u8(16).varint(*nodes_max);
            }
            Self::AddMember { id, peer_urls, checked: None } => {
                encode_texts(out.u8(9).u64(id.0), peer_urls);
            }
            Self::UpdateMember { id, peer_urls } => encode_texts(out.u8(10).u64(id.0), peer_urls),
            Self::PublishMember { id, name, client_urls } => {
                encode_texts(out.u8(11).u64(id.0).bytes(name.as_bytes()), client_urls);
            }
            Self::RemoveMember { id, checked: None } => {
                out.u8(12).u64(id.0);
            }
            Self::SetClusterVersion { version } => {
                out.u8(13).bytes(version.as_bytes());
            }
            Self::AddMember { id, peer_urls, checked: Some(revision) } => {
                encode_texts(out.u8(14).varint(revision.0).u64(id.0), peer_urls);
            }
            Self::RemoveMember { id, checked: Some(revision) } => {
                out.u8(15).varint(revision.0).u64(id.0);
            }
            Self::Auth(command) => command.encode(out),
            Self::Mvcc(command) => command.encode(out.u8(MVCC)),
        }
    }

    /// About as many bytes as [`Command::encode`] writes, so that there is room for them from the start.
    pub fn encoded_bytes(&self) -> usize {
        /// Tags, lengths and numbers.
        const HEAD: usize = 32;
        let of = |path: &KeyPath, values: [Option<&Value>; 2]| {
            let values = values.into_iter().flatten();
            path.as_bytes().len() + values.map(|value| value.len()).sum::<usize>()
        };
        HEAD + match self {
            Self::Set { path, write }
            | Self::Create { path, write }
            | Self::CreateInOrder { dir: path, write }
            | Self::Update { path, write } => of(path, [Some(&write.value), None]),
            Self::CompareAndSwap { path, write, condition } => {
                of(path, [Some(&write.value), condition.value.as_ref()])
            }
            Self::CompareAndDelete { path, condition } => {
                of(path, [condition.value.as_ref(), None])
            }
            Self::Delete { path, .. } => of(path, [None, None]),
            Self::Tick { .. }
            | Self::AddMember { .. }
            | Self::UpdateMember { .. }
            | Self::PublishMember { .. }
            | Self::RemoveMember { .. }
            | Self::SetClusterVersion { .. }
            | Self::Auth(_) => 0,
            Self::Mvcc(command) => command.encoded_bytes(),
        }
    }

    /// The counterpart of [`Command::encode`].
    ///
    /// # Errors
    /// When the bytes end early, are malformed, or were written by a newer version.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.u8("command version")?;
        if version != VERSION {
            return Err(DecodeError::Unknown { what: "command version", found: version.into() });
        }
        Ok(match input.u8("command tag")? {
            1 => {
                let (path, write) = decode_write(input)?;
                Self::Set { path, write }
            }
            2 => {
                let (path, write) = decode_write(input)?;
                Self::Create { path, write }
            }
            3 => {
                let (dir, write) = decode_write(input)?;
                Self::CreateInOrder { dir, write }
            }
            4 => {
                let (path, write) = decode_write(input)?;
                Self::Update { path, write }
            }
            5 => {
                let (path, write) = decode_write(input)?;
                Self::CompareAndSwap { path, write, condition: decode_condition(input)? }
            }
            6 => {
                let path = decode_path(input)?;
                let flags = input.u8("delete flags")?;
                Self::Delete { path, dir: flags & 1 != 0, recursive: flags & 2 != 0 }
            }
            7 => Self::CompareAndDelete {
                path: decode_path(input)?,
                condition: decode_condition(input)?,
            },
            8 => Self::Tick { nodes_max: None },
            9 => Self::AddMember {
                id: decode_id(input)?,
                peer_urls: decode_texts(input)?,
                checked: None,
            },
            10 => Self::UpdateMember { id: decode_id(input)?, peer_urls: decode_texts(input)? },
            11 => Self::PublishMember {
                id: decode_id(input)?,
                name: input.text("member name")?,
                client_urls: decode_texts(input)?,
            },
            12 => Self::RemoveMember { id: decode_id(input)?, checked: None },
            13 => Self::SetClusterVersion { version: input.text("cluster version")? },
            14 => {
                let checked = Some(decode_revision(input)?);
                let (id, peer_urls) = (decode_id(input)?, decode_texts(input)?);
                Self::AddMember { id, peer_urls, checked }
            }
            15 => {
                let checked = Some(decode_revision(input)?);
                Self::RemoveMember { id: decode_id(input)?, checked }
            }
            16 => Self::Tick { nodes_max: Some(input.varint("nodes of a tick")?) },
            tag @ auth::TAG_FIRST..=auth::TAG_LAST => Self::Auth(AuthCommand::decode(tag, input)?),
            MVCC => Self::Mvcc(mvcc::Command::decode(input)?),
            tag => return Err(DecodeError::Unknown { what: "command", found: tag.into() }),
        })
    }
}

const DIR: u8 = 1;
const REFRESH: u8 = 2;
const HAS_TTL: u8 = 4;

fn encode_write(out: &mut Writer, path: &KeyPath, write: &Write) {
    let flags = if write.dir { DIR } else { 0 }
        | if write.refresh { REFRESH } else { 0 }
        | if write.ttl.is_some() { HAS_TTL } else { 0 };
    out.bytes(path.as_bytes()).u8(flags).bytes(&write.value);
    if let Some(ttl) = write.ttl {
        out.varint(ttl.as_s());
    }
}

fn decode_write(input: &mut Reader<'_>) -> Result<(KeyPath, Write), DecodeError> {
    let path = decode_path(input)?;
    let flags = input.u8("write flags")?;
    let value = Value::from(input.bytes("value")?);
    let ttl = if flags & HAS_TTL == 0 {
        None
    } else {
        Some(Ttl::from_s(input.varint("ttl")?).ok_or(DecodeError::Malformed("ttl"))?)
    };
    let write = Write { value, dir: flags & DIR != 0, ttl, refresh: flags & REFRESH != 0 };
    Ok((path, write))
}

fn encode_condition(out: &mut Writer, condition: &Condition) {
    out.u8(u8::from(condition.value.is_some())).varint(condition.index.0);
    if let Some(value) = &condition.value {
        out.bytes(value);
    }
}

fn decode_condition(input: &mut Reader<'_>) -> Result<Condition, DecodeError> {
    let has_value = input.u8("condition flags")? != 0;
    let index = StoreIndex(input.varint("condition index")?);
    let value = if has_value { Some(Value::from(input.bytes("condition value")?)) } else { None };
    Ok(Condition { value, index })
}

fn decode_path(input: &mut Reader<'_>) -> Result<KeyPath, DecodeError> {
    Ok(KeyPath::clean(input.bytes("key")?))
}

fn decode_id(input: &mut Reader<'_>) -> Result<MemberId, DecodeError> {
    Ok(MemberId(input.u64("member id")?))
}

fn decode_revision(input: &mut Reader<'_>) -> Result<MembersRevision, DecodeError> {
    Ok(MembersRevision(input.varint("revision of the members")?))
}

/// A count and that many texts.
pub(super) fn encode_texts(out: &mut Writer, texts: &[String]) {
    out.varint(texts.len() as u64);
    for text in texts {
        out.bytes(text.as_bytes());
    }
}

/// The counterpart of [`encode_texts`].
pub(super) fn decode_texts(input: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = input.varint("text count")?;
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(input.text("text")?);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writes() -> impl Strategy<Value = Write> {
        (any::<Vec<u8>>(), any::<bool>(), proptest::option::of(0..=9_223_372_036u64), any::<bool>())
            .prop_map(|(value, dir, ttl, refresh)| Write {
                value: value.into(),
                dir,
                ttl: ttl.and_then(Ttl::from_s),
                refresh,
            })
    }

    fn conditions() -> impl Strategy<Value = Condition> {
        (proptest::option::of(any::<Vec<u8>>()), any::<u64>()).prop_map(|(value, index)| {
            Condition { value: value.map(Into::into), index: StoreIndex(index) }
        })
    }

    fn commands() -> impl Strategy<Value = Command> {
        let path = "(/[a-z_]{1,3}){0,4}".prop_map(|text| KeyPath::from(text.as_str()));
        (0..14, path, writes(), conditions(), any::<u64>(), any::<(bool, bool)>()).prop_map(
            |(which, path, write, condition, number, (dir, recursive))| {
                let checked = dir.then_some(MembersRevision(number));
                let id = MemberId(number);
                let urls = vec!["http://127.0.0.1:2380".to_owned()];
                match which {
                    0 => Command::Set { path, write },
                    1 => Command::Create { path, write },
                    2 => Command::CreateInOrder { dir: path, write },
                    3 => Command::Update { path, write },
                    4 => Command::CompareAndSwap { path, write, condition },
                    5 => Command::Delete { path, dir, recursive },
                    6 => Command::CompareAndDelete { path, condition },
                    7 => Command::Tick { nodes_max: None },
                    13 => Command::Tick { nodes_max: Some(number) },
                    8 => Command::AddMember { id, peer_urls: urls, checked },
                    9 => Command::UpdateMember { id, peer_urls: urls },
                    10 => Command::PublishMember { id, name: "n".into(), client_urls: urls },
                    11 => Command::RemoveMember { id, checked },
                    _ => Command::SetClusterVersion { version: "3.4.0".into() },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn commands_survive_their_encoding(command in commands()) {
            let mut out = Writer::default();
            command.encode(&mut out);
            let bytes = out.finish();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(Command::decode(&mut input).unwrap(), command);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn random_bytes_are_refused_or_read_but_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = Command::decode(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn the_stored_forms_of_a_removal_are_fixed() {
        let stored = |checked| {
            let mut out = Writer::default();
            Command::RemoveMember { id: MemberId(7), checked }.encode(&mut out);
            out.finish()
        };
        assert_eq!(stored(None), [1, 12, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(stored(Some(MembersRevision(300))), [1, 15, 0xac, 2, 7, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_stored_forms_of_a_tick_are_fixed() {
        let stored = |command: Command| {
            let mut out = Writer::default();
            command.encode(&mut out);
            out.finish()
        };
        assert_eq!(
            stored(Command::Tick { nodes_max: None }),
            [1, 8],
            "of versions without a limit"
        );
        assert_eq!(stored(Command::tick()), [1, 16, 0xe8, 7]);
    }

    #[test]
    fn the_stored_form_of_a_set_is_fixed() {
        let write = Write {
            value: b"v".as_slice().into(),
            dir: false,
            ttl: Ttl::from_s(300),
            refresh: false,
        };
        let mut out = Writer::default();
        Command::Set { path: KeyPath::from("/a"), write }.encode(&mut out);
        assert_eq!(out.finish(), [1, 1, 2, b'/', b'a', 4, 1, b'v', 0xac, 2]);
    }
}
