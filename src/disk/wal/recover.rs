//! What is in the log after a restart, however it ended.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::files::{File, Files};
use crate::disk::wal::frame::{self, FRAME_BYTES, Record};
use crate::disk::wal::segment::{self, BadHeader, HEADER_BYTES, Header};
use crate::disk::wal::thread::{Segment, Tail, io_error, salt};
use crate::disk::wal::{EntryIndex, LogOwner, Place, Recovered, SegmentFile, WalError, WalOptions};

/// Segments are read in pieces of this size.
const PIECE_BYTES: usize = 1 << 18;

/// A log, ready to go on.
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) index: EntryIndex,
    pub(super) tail: Tail,
}

pub(super) fn recover(
    files: Arc<dyn Files>,
    dir: &Path,
    identity: LogOwner,
    options: WalOptions,
) -> Result<Found, WalError> {
    let fail = io_error("open the write-ahead log in", dir);
    files.create_dir(dir).map_err(&fail)?;
    let names = files.list(dir).map_err(&fail)?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return begin(&*files, dir, identity, options);
    }
    let mut scan = Scan::default();
    for number in numbers {
        scan.segment(&*files, dir, number, identity)?;
    }
    // A rename that the last process made may not be durable yet; what is written from now on relies on it.
    files.sync_dir(dir).map_err(&fail)?;
    scan.finish()
}

/// A new log.
fn begin(
    files: &dyn Files,
    dir: &Path,
    identity: LogOwner,
    options: WalOptions,
) -> Result<Found, WalError> {
    let fail = io_error("begin the write-ahead log in", dir);
    let header = Header {
        salt: salt(),
        segment: 1,
        first_batch: 1,
        identity,
        last_entry: 0,
        carried: frame::Carried::default(),
    };
    let (path, file) = segment::begin(files, dir, &header, options.segment_bytes).map_err(&fail)?;
    let length = file.length().map_err(&fail)?;
    let file = Arc::new(SegmentFile { number: 1, path, file });
    let tail = Tail {
        segments: vec![Segment { file, last_entry: 0 }],
        salt: header.salt,
        offset: HEADER_BYTES,
        length,
        next_batch: 1,
        last_entry: 0,
        carried: header.carried,
    };
    Ok(Found { recovered: Recovered::default(), index: EntryIndex::default(), tail })
}

/// Reads segments in order.
#[derive(Default)]
struct Scan {
    segments: Vec<Segment>,
    salt: u64,
    offset: u64,
    length: u64,
    next_batch: u64,
    last_entry: u64,
    carried: frame::Carried,
    /// Index of the first of `entries`.
    first: u64,
    entries: Vec<(Bytes, Place)>,
    /// The last segment as it was read.
    bytes: Vec<u8>,
    /// Where the last batch in it begins; its end if there is none.
    last_batch: usize,
}

impl Scan {
    fn segment(
        &mut self,
        files: &dyn Files,
        dir: &Path,
        number: u64,
        identity: LogOwner,
    ) -> Result<(), WalError> {
        let path = dir.join(segment::file_name(number));
        let fail = io_error("read", &path);
        let file = files.open(&path, false).map_err(&fail)?;
        let bytes = read_all(&*file).map_err(&fail)?;
        let header = match Header::decode(&bytes) {
            Ok(header) => header,
            Err(BadHeader::Newer(version)) => return Err(WalError::Newer { path, version }),
            Err(BadHeader::Invalid) => return Err(corrupt(&path, 0, "the header is invalid")),
        };
        if header.identity != identity {
            let (found, expected) = (header.identity, identity);
            return Err(WalError::Foreign { path, found, expected });
        }
        self.follow(&header, number, &path)?;
        self.salt = header.salt;
        self.length = file.length().map_err(&fail)?;
        let file = Arc::new(SegmentFile { number, path, file });
        self.batches(&file, &bytes)?;
        self.segments.push(Segment { file, last_entry: self.last_entry });
        self.bytes = bytes;
        Ok(())
    }

    /// Checks that a segment goes on where the one before ended.
    fn follow(&mut self, header: &Header, number: u64, path: &Path) -> Result<(), WalError> {
        let Some(last) = self.segments.last() else {
            self.next_batch = header.first_batch;
            self.last_entry = header.last_entry;
            self.carried = header.carried.clone();
            return Ok(());
        };
        if header.segment != number || number != last.file.number + 1 {
            return Err(corrupt(path, 0, "the segment before it is missing"));
        }
        if header.first_batch != self.next_batch {
            // The segment before ends too early, and this one proves that there was more.
            let what = format!(
                "batch {} is damaged, and the log goes on behind it with batch {}",
                self.next_batch, header.first_batch
            );
            return Err(corrupt(&last.file.path, self.offset, &what));
        }
        self.carried = header.carried.clone();
        Ok(())
    }

    fn batches(&mut self, segment: &Arc<SegmentFile>, bytes: &[u8]) -> Result<(), WalError> {
        let mut at = usize::try_from(HEADER_BYTES).expect("4096 fits");
        self.last_batch = at;
        while let Some(rest) = bytes.get(at..) {
            let Some((sequence, length)) = frame::check(rest, self.salt) else { break };
            if sequence != self.next_batch {
                break;
            }
            for record in frame::records(&rest[..length]) {
                let Some((record, start)) = record else {
                    return Err(corrupt(&segment.path, at as u64, "a record is of no known kind"));
                };
                let place =
                    Place { segment: Arc::clone(segment), offset: (at + start) as u64, length: 0 };
                self.record(&record, place)
                    .map_err(|what| corrupt(&segment.path, at as u64, what))?;
            }
            self.next_batch += 1;
            self.last_batch = at;
            at += length;
        }
        self.offset = at as u64;
        match later_batch(bytes, at, self.salt, self.next_batch) {
            None => Ok(()),
            Some((offset, sequence)) => {
                let what = format!(
                    "batch {} is damaged, and batch {sequence} stands behind it at offset {offset}",
                    self.next_batch
                );
                Err(corrupt(&segment.path, at as u64, &what))
            }
        }
    }

    fn record(&mut self, record: &Record<'_>, place: Place) -> Result<(), &'static str> {
        self.carried.note(record);
        match record {
            Record::Entry { index, payload } => {
                if self.last_entry != 0 && *index != self.last_entry + 1 {
                    return Err("an entry does not follow the one before it");
                }
                if self.entries.is_empty() {
                    self.first = *index;
                }
                let length = u32::try_from(payload.len()).map_err(|_| "an entry is too long")?;
                self.entries.push((Bytes::copy_from_slice(payload), Place { length, ..place }));
                self.last_entry = *index;
            }
            Record::TruncateAfter(index) => {
                let keep = (index + 1).saturating_sub(self.first);
                self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                self.last_entry = self.last_entry.min(*index);
            }
            Record::Purged { index, .. } => {
                let gone = (index + 1).saturating_sub(self.first);
                let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.entries.len());
                self.entries.drain(..gone);
                self.first = self.first.max(index + 1);
                self.last_entry = self.last_entry.max(*index);
            }
            Record::Vote(_) | Record::Committed(_) => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Found, WalError> {
        self.drop_purged();
        let last = self.segments.last().expect("there was at least one segment");
        let torn = self.cut_tail(&last.file)?;
        let carried = self.carried;
        let mut index = EntryIndex::default();
        let mut entries = Vec::with_capacity(self.entries.len());
        for (at, (payload, place)) in (self.first..).zip(self.entries) {
            entries.push((at, payload));
            index.push(at, place);
        }
        let recovered = Recovered {
            vote: carried.vote.clone(),
            committed: carried.committed.clone(),
            purged: carried.purged.clone(),
            entries,
            torn_bytes: torn,
        };
        let tail = Tail {
            segments: self.segments,
            salt: self.salt,
            offset: self.offset,
            length: self.length,
            next_batch: self.next_batch,
            last_entry: self.last_entry,
            carried,
        };
        Ok(Found { recovered, index, tail })
    }

    /// A purge that only the header of a later segment tells of.
    fn drop_purged(&mut self) {
        let Some(mark) = &self.carried.purged else { return };
        let gone = (mark.index + 1).saturating_sub(self.first);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.drain(..gone);
        self.first = self.first.max(mark.index + 1);
        self.last_entry = self.last_entry.max(mark.index);
    }

    /// Overwrites what was being written when the log ended, and makes everything that was found durable: the last batch may
    /// have been in the page cache only.
    fn cut_tail(&self, last: &SegmentFile) -> Result<u64, WalError> {
        let fail = io_error("cut the torn tail of", &last.path);
        let start = usize::try_from(self.offset).expect("the segment was read into memory");
        let rest = &self.bytes[start.min(self.bytes.len())..];
        let torn = rest.iter().rposition(|byte| *byte != 0).map_or(0, |end| end + 1);
        // In a recycled file the rest is full of old batches, which have another salt and are left alone. Only the first
        // frame can be of this log's use of the file.
        let ours = frame::u64_at(rest, 0).is_some_and(|salt| salt == self.salt)
            || rest.get(..FRAME_BYTES).is_none();
        let torn = if ours { torn } else { torn.min(FRAME_BYTES) };
        if torn > 0 {
            last.file.write_at(self.offset, &vec![0; torn]).map_err(&fail)?;
        }
        // After a failed sync the system keeps what it could not write, and takes it for written: only what is written
        // again is synced again. All batches but the last were safe before the next was begun.
        let batch = &self.bytes[self.last_batch.min(start)..start];
        if !batch.is_empty() {
            last.file.write_at(self.last_batch as u64, batch).map_err(&fail)?;
        }
        last.file.sync().map_err(&fail)?;
        Ok(torn as u64)
    }
}

/// The first whole batch behind `at` that comes after the expected one.
fn later_batch(bytes: &[u8], at: usize, salt: u64, expected: u64) -> Option<(usize, u64)> {
    let wanted = salt.to_le_bytes();
    let rest = bytes.get(at..)?;
    let mut from = 0;
    while let Some(found) = find(&rest[from..], wanted) {
        let place = from + found;
        if let Some((sequence, _)) = frame::check(&rest[place..], salt)
            && sequence > expected
        {
            return Some((at + place, sequence));
        }
        from = place + 1;
    }
    None
}

/// Where `wanted` stands; most of a segment is zeros, which are passed over quickly.
fn find(bytes: &[u8], wanted: [u8; 8]) -> Option<usize> {
    let mut from = 0;
    while let Some(place) = bytes[from..].iter().position(|byte| *byte == wanted[0]) {
        let at = from + place;
        if bytes.get(at..at + 8)? == wanted {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// All bytes of a file but the zeros it ends with: most of the last segment is not written yet.
fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    for from in (0..length).step_by(PIECE_BYTES) {
        let piece = &mut piece[..PIECE_BYTES.min(length - from)];
        file.read_at(from as u64, piece)?;
        if piece.iter().any(|byte| *byte != 0) {
            bytes.resize(from, 0);
            bytes.extend_from_slice(piece);
        }
    }
    Ok(bytes)
}

fn corrupt(path: &Path, offset: u64, what: &str) -> WalError {
    WalError::Corrupt { path: PathBuf::from(path), offset, what: what.to_owned() }
}
