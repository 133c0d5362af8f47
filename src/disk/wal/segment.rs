//! One file of the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::files::{File, Files, WRITING_PAUSE};
use crate::disk::wal::LogOwner;
use crate::disk::wal::frame::{self, BatchWriter, Carried, FRAME_BYTES};

/// Where batches begin.
pub(super) const HEADER_BYTES: u64 = 4096;

const MAGIC: &[u8; 8] = b"cairnwal";
const VERSION: u32 = 1;
/// magic, version, crc32c, length.
const FIXED: usize = 20;
/// salt, segment, first batch, cluster, member, last entry.
const NUMBERS: usize = 48;

/// Zeros are written in pieces of this size.
const FILL_BYTES: usize = 1 << 20;

/// Segments to come, under preparation or ready. There are two, so that the segments which a purge lets go of serve again for
/// as long as the log goes on: one alone is often ready when the next file comes free.
pub(super) const SPARES: [&str; 2] = ["spare.wal", "spare-2.wal"];
/// A segment that begins without a spare file, until it has its header.
pub(super) const NEW: &str = "new.wal";

/// What stands at the front of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) salt: u64,
    pub(super) segment: u64,
    pub(super) first_batch: u64,
    pub(super) identity: LogOwner,
    /// Index of the last entry before this segment; zero for none.
    pub(super) last_entry: u64,
    pub(super) carried: Carried,
}

/// Why a header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// All zeros, or damaged.
    Invalid,
    /// Written by a newer cairn.
    Newer(u32),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        for number in [
            self.salt,
            self.segment,
            self.first_batch,
            self.identity.cluster,
            self.identity.member,
            self.last_entry,
        ] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        let mut carried = BatchWriter::default();
        carried.clear();
        self.carried.write(&mut carried);
        body.extend_from_slice(carried.seal(self.salt, self.first_batch));
        let length = u32::try_from(body.len()).expect("a header is small");
        let mut bytes = Vec::with_capacity(FIXED + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        assert!(bytes.len() as u64 <= HEADER_BYTES, "votes and marks are a few bytes each");
        bytes.resize(usize::try_from(HEADER_BYTES).expect("4096 fits"), 0);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        Self::try_decode(bytes).unwrap_or(Err(BadHeader::Invalid))
    }

    fn try_decode(bytes: &[u8]) -> Option<Result<Self, BadHeader>> {
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (version, crc, length) = (number(8)?, number(12)?, number(16)?);
        if version > VERSION {
            return Some(Err(BadHeader::Newer(version)));
        }
        let body = bytes.get(FIXED..FIXED + usize::try_from(length).ok()?)?;
        if crc32c::crc32c(body) != crc {
            return None;
        }
        let field = |place: usize| frame::u64_at(body, place * 8);
        let salt = field(0)?;
        let batch = body.get(NUMBERS..)?;
        frame::check(batch, salt)?;
        let mut carried = Carried::default();
        for record in frame::records(batch) {
            carried.note(&record?.0);
        }
        let identity = LogOwner { cluster: field(3)?, member: field(4)? };
        let (segment, first_batch, last_entry) = (field(1)?, field(2)?, field(5)?);
        Some(Ok(Self { salt, segment, first_batch, identity, last_entry, carried }))
    }
}

/// `0000000000000001.wal`
pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:016x}.wal")
}

/// The number in a segment's file name; `None` for other files.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Makes the spare file `name`, full of zeros and safe on disk, at least `bytes` long. One that is long enough stays as it is.
/// Beside a log in use it is made slowly, and given up when `in_background` becomes true; the next attempt begins it again.
pub(super) fn prepare_spare(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    bytes: u64,
    in_background: Option<&AtomicBool>,
) -> io::Result<()> {
    let file = files.open(&dir.join(name), true)?;
    if file.length()? >= bytes {
        // It may have been another segment until now; before it is written to, it must have lost its old name for good.
        return files.sync_dir(dir);
    }
    if let Err(error) = fill(&*file, bytes, in_background) {
        // Where there is no room for a spare, the segment in use may need what there is.
        let _ = file.set_length(0);
        return Err(error);
    }
    files.sync_dir(dir)
}

fn fill(file: &dyn File, bytes: u64, in_background: Option<&AtomicBool>) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut at = 0;
    while at < bytes {
        if in_background.is_some_and(|stopped| stopped.load(Ordering::Relaxed)) {
            // One that is too short to be taken for whole.
            return file.set_length(0);
        }
        let piece = zeros.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        file.write_at(at, &zeros[..piece])?;
        if in_background.is_some() {
            // In pieces, so that the log's own syncs never find much to wait for.
            file.start_writing(at, piece as u64, WRITING_PAUSE);
        }
        at += piece as u64;
    }
    file.sync()
}

/// Turns the spare file `name` into the segment of `header`.
pub(super) fn begin_with_spare(
    files: &dyn Files,
    dir: &Path,
    name: &str,
    header: &Header,
) -> io::Result<(PathBuf, Box<dyn File>)> {
    let spare = dir.join(name);
    let file = files.open(&spare, false)?;
    let path = begin(files, dir, &spare, &*file, header)?;
    Ok((path, file))
}

/// Makes a segment that takes its room on the disk as it is written: slower to write, but there at once.
pub(super) fn begin_without_spare(
    files: &dyn Files,
    dir: &Path,
    header: &Header,
    bytes: u64,
) -> io::Result<(PathBuf, Box<dyn File>)> {
    let new = dir.join(NEW);
    let file = files.open(&new, true)?;
    // What a crash has left in it goes.
    file.set_length(0)?;
    file.set_length(bytes)?;
    let path = begin(files, dir, &new, &*file, header)?;
    Ok((path, file))
}

/// Header written and synced, file renamed into place, directory synced: at each step the log is what it was, or has one more
/// segment.
fn begin(
    files: &dyn Files,
    dir: &Path,
    from: &Path,
    file: &dyn File,
    header: &Header,
) -> io::Result<PathBuf> {
    let path = dir.join(file_name(header.segment));
    file.write_at(0, &header.encode())?;
    file.sync()?;
    files.rename(from, &path)?;
    files.sync_dir(dir)?;
    Ok(path)
}

/// The smallest segment that a batch of `batch` bytes fits in.
pub(super) fn bytes_for(batch: usize, usual: u64) -> u64 {
    usual.max(HEADER_BYTES + batch as u64 + FRAME_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::wal::Mark;

    #[test]
    fn a_header_is_read_back_and_a_damaged_one_is_not() {
        let carried = Carried {
            vote: Some(b"v".to_vec()),
            committed: None,
            purged: Some(Mark { index: 7, data: b"m".to_vec() }),
        };
        let identity = LogOwner { cluster: 1, member: 2 };
        let header =
            Header { salt: 9, segment: 3, first_batch: 4, identity, last_entry: 8, carried };
        let mut bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        bytes[30] ^= 1;
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Invalid));
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes), Err(BadHeader::Newer(2)));
        assert_eq!(Header::decode(&[0; 4096]), Err(BadHeader::Invalid));
    }

    #[test]
    fn only_segments_have_numbers() {
        assert_eq!(number_of(&file_name(255)), Some(255));
        for name in [SPARES[0], SPARES[1], NEW, "1.wal", "00000000000000ff", "00000000000000fg.wal"]
        {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
