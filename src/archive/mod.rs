//! The backup file: a whole store in one stream of bytes, in which nothing can be missing or changed unnoticed.
//!
//! Owns: the bytes of the file. Never knows: where they come from and go to, what is done with a store that was read.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `cairnbak` |
//! | 4 | version of the format: 2, or 1 where nothing has happened in the v3 key space: then it has no part in the file |
//! | | a frame of kind 1: what the backup is of ([`Head`]), with the store's header record: users, roles, members, counters |
//! | | frames of kind 2: records of the store, about 256 KiB each, as snapshots travel ([`Store::block_after`]) |
//! | | a frame of kind 3: how many records and blocks there were, and the SHA-256 of everything before this frame |
//!
//! A frame is its kind (1 byte), the length of its payload (4 bytes), the crc32c of both and the payload (4 bytes), and the payload.
//! Numbers are little-endian. The checksum of a frame tells where a file is damaged; the last frame tells that it is all there.
//! Nothing follows it.

mod read;
mod write;

use thiserror::Error;

use crate::model::LogIndex;
use crate::model::{
    ClusterId, DecodeError, LogPosition, MemberId, Reader, StoreIndex, Term, WallTime, Writer,
};
#[cfg(doc)]
use crate::store::Store;
use crate::store::{Header, RecordCounts};

pub use read::ArchiveReader;
pub use write::Archiver;

const MAGIC: &[u8; 8] = b"cairnbak";
/// With a v3 key space.
const VERSION: u32 = 2;
/// Before there was one. Still written while nothing has happened there.
const VERSION_WITHOUT_REVISIONS: u32 = 1;

const HEAD: u8 = 1;
const BLOCK: u8 = 2;
const END: u8 = 3;

/// kind, length, crc32c.
const FRAME_BYTES: usize = 9;

/// Records in one frame, roughly.
const BLOCK_BYTES: usize = 256 << 10;

/// The most that a frame holds: one record may be larger than a block, as large as the event of a recursive delete.
const FRAME_BYTES_MAX: u32 = 2 << 30;

/// Bytes of a SHA-256.
const SUM_BYTES: usize = 32;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The cluster that was backed up.
    pub cluster: ClusterId,
    /// The member that was asked.
    pub member: MemberId,
    /// What that member's wall clock showed.
    pub at: WallTime,
    /// The last entry of the log that is in it.
    pub position: LogPosition,
    /// The store's index: that of the last change of a key in it.
    pub index: StoreIndex,
    /// How many records follow.
    pub counts: RecordCounts,
    /// The version of cairn that wrote it.
    pub program: String,
    /// The store's header.
    pub header: Header,
}

impl Head {
    fn encode(&self, version: u32) -> Vec<u8> {
        let mut out = Writer::with_capacity(self.header.0.len() + 128);
        out.u64(self.cluster.0).u64(self.member.0).u64(self.at.0);
        out.varint(self.position.term.0).varint(self.position.index.0).varint(self.index.0);
        encode_counts(&mut out, version, self.counts);
        out.bytes(self.program.as_bytes()).bytes(&self.header.0);
        out.finish()
    }

    fn decode(payload: &[u8], version: u32) -> Result<Self, DecodeError> {
        let mut input = Reader::new(payload);
        let cluster = ClusterId(input.u64("cluster")?);
        let member = MemberId(input.u64("member")?);
        let at = WallTime(input.u64("time")?);
        let term = Term(input.varint("term")?);
        let position = LogPosition { term, index: LogIndex(input.varint("log index")?) };
        let index = StoreIndex(input.varint("index")?);
        let counts = decode_counts(&mut input, version)?;
        let program = input.text("program")?;
        let header = Header(input.bytes("store header")?.to_vec());
        input.end("head of a backup")?;
        Ok(Self { cluster, member, at, position, index, counts, program, header })
    }
}

/// What the last frame says of all the others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    counts: RecordCounts,
    blocks: u64,
    sum: [u8; SUM_BYTES],
}

impl End {
    fn encode(&self, version: u32) -> Vec<u8> {
        let mut out = Writer::default();
        encode_counts(&mut out, version, self.counts);
        out.varint(self.blocks);
        out.bytes(&self.sum);
        out.finish()
    }

    fn decode(payload: &[u8], version: u32) -> Result<Self, DecodeError> {
        let mut input = Reader::new(payload);
        let counts = decode_counts(&mut input, version)?;
        let blocks = input.varint("blocks")?;
        let sum = input.bytes("checksum")?.try_into();
        input.end("end of a backup")?;
        Ok(Self { counts, blocks, sum: sum.map_err(|_| DecodeError::Malformed("checksum"))? })
    }
}

fn encode_counts(out: &mut Writer, version: u32, counts: RecordCounts) {
    out.varint(counts.nodes).varint(counts.events);
    if version > VERSION_WITHOUT_REVISIONS {
        out.varint(counts.revisions);
    }
}

fn decode_counts(input: &mut Reader<'_>, version: u32) -> Result<RecordCounts, DecodeError> {
    Ok(RecordCounts {
        nodes: input.varint("nodes")?,
        events: input.varint("events")?,
        revisions: match version {
            VERSION_WITHOUT_REVISIONS => 0,
            _ => input.varint("revisions")?,
        },
    })
}

fn crc_of(kind: u8, length: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), &length.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

/// Why there is no backup in a stream of bytes.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It is something else.
    #[error(
        "this is no backup file of cairn: it does not begin with '{}'",
        String::from_utf8_lossy(MAGIC)
    )]
    NoBackup,
    /// A later version wrote it.
    #[error(
        "the backup file has format {0}, and this version of cairn reads formats up to {VERSION}: use the version of cairn that wrote it, \
         or a newer one"
    )]
    OtherVersion(u32),
    /// It ends too early.
    #[error(
        "the backup file is cut off at offset {offset}, in {within}: copy it again from where it is whole"
    )]
    Cut {
        /// Where the bytes end.
        offset: u64,
        /// What should go on there.
        within: &'static str,
    },
    /// It is not what was written.
    #[error("the backup file is damaged at offset {offset}: {what}")]
    Damaged {
        /// Where the damaged part begins.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// It cannot be read.
    #[error("at offset {offset}: {source}")]
    Io {
        /// How far reading came.
        offset: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ArchiveError {
    /// Where in the file it is.
    pub fn offset(&self) -> u64 {
        match self {
            Self::NoBackup => 0,
            Self::OtherVersion(_) => MAGIC.len() as u64,
            Self::Cut { offset, .. } | Self::Damaged { offset, .. } | Self::Io { offset, .. } => {
                *offset
            }
        }
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    //! Backup files that a fuzzer makes up.

    use sha2::{Digest, Sha256};

    use super::{ArchiveReader, BLOCK, END, End, HEAD, MAGIC, VERSION, write};
    use crate::fuzz::Target;
    use crate::store::RecordCounts;

    pub(crate) const TARGETS: &[Target] = &[Target { name: "backup", read }];

    /// As it is, and as what stands in the frames of a file whose checksums are right.
    fn read(input: &[u8]) {
        for file in [input.to_vec(), framed(input)] {
            let store = ArchiveReader::new(&file[..]).and_then(ArchiveReader::into_store);
            if let Ok((head, store)) = store {
                store.check();
                assert_eq!(head.counts.nodes, store.nodes_count());
            }
        }
    }

    /// The first two bytes are the length of the head, the rest is a block.
    fn framed(input: &[u8]) -> Vec<u8> {
        let (length, rest) = input.split_at(input.len().min(2));
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (head, block) = rest.split_at(length.min(rest.len()));
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&VERSION.to_le_bytes());
        write::frame(&mut file, HEAD, head);
        write::frame(&mut file, BLOCK, block);
        let mut counts = RecordCounts::default();
        let _ = counts.add(block);
        let end = End { counts, blocks: 1, sum: Sha256::digest(&file).into() };
        write::frame(&mut file, END, &end.encode(VERSION));
        file
    }
}
