//! What is in the log after a restart, however it ended.
//!
//! Segments are read once, forward, a batch at a time: of the entries only their places and checksums are kept. So a restart
//! takes no more memory for a long log than for a short one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::files::{File, Files};
use crate::disk::wal::error::{WalError, io_error};
use crate::disk::wal::frame::{self, FRAME_BYTES, Record};
use crate::disk::wal::index::{EntryIndex, Place, SegmentFile};
use crate::disk::wal::inspect::Inspected;
use crate::disk::wal::segment::{self, BadHeader, HEADER_BYTES, Header};
use crate::disk::wal::thread::{Segment, Tail, salt};
use crate::disk::wal::{LogOwner, Recovered, WalOptions};

/// Segments are read in pieces of this size, unless a batch is longer.
const PIECE_BYTES: usize = 1 << 18;

/// A log, ready to go on.
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) index: EntryIndex,
    pub(super) tail: Tail,
}

pub(super) fn recover(
    files: &dyn Files,
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
        return begin(files, dir, identity, options);
    }
    let mut scan = Scan::default();
    for number in numbers {
        scan.segment(files, dir, number, Some(identity))?;
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
    // A new member waits for it, and no write does yet. A full disk is better noticed now.
    let [name, _] = segment::SPARES;
    segment::prepare_spare(files, dir, name, options.segment_bytes, None).map_err(&fail)?;
    let (path, file) = segment::begin_with_spare(files, dir, name, &header).map_err(&fail)?;
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
pub(super) struct Scan {
    owner: Option<LogOwner>,
    first_batch: u64,
    segments: Vec<Segment>,
    salt: u64,
    offset: u64,
    length: u64,
    next_batch: u64,
    last_entry: u64,
    carried: frame::Carried,
    index: EntryIndex,
    /// Where the last batch of the last segment begins; its end if there is none.
    last_batch: u64,
}

impl Scan {
    /// Reads the next segment. An owner that is given must be the segment's.
    pub(super) fn segment(
        &mut self,
        files: &dyn Files,
        dir: &Path,
        number: u64,
        owner: Option<LogOwner>,
    ) -> Result<(), WalError> {
        let path = dir.join(segment::file_name(number));
        let fail = io_error("read", &path);
        let file = files.open(&path, false).map_err(&fail)?;
        self.length = file.length().map_err(&fail)?;
        let header = Window::new(&*file, self.length).up_to(0, HEADER_BYTES).map(Header::decode);
        let header = match header.map_err(&fail)? {
            Ok(header) => header,
            Err(BadHeader::Newer(version)) => return Err(WalError::Newer { path, version }),
            Err(BadHeader::Invalid) => {
                return Err(WalError::corrupt(&path, 0, "the header is invalid"));
            }
        };
        if let Some(expected) = owner.or(self.owner)
            && header.identity != expected
        {
            return Err(WalError::Foreign { path, found: header.identity, expected });
        }
        self.owner = Some(header.identity);
        self.follow(&header, number, &path)?;
        self.salt = header.salt;
        let file = Arc::new(SegmentFile { number, path, file });
        self.batches(&file)?;
        self.segments.push(Segment { file, last_entry: self.last_entry });
        Ok(())
    }

    /// Checks that a segment goes on where the one before ended.
    fn follow(&mut self, header: &Header, number: u64, path: &Path) -> Result<(), WalError> {
        let Some(last) = self.segments.last() else {
            self.next_batch = header.first_batch;
            self.first_batch = header.first_batch;
            self.last_entry = header.last_entry;
            self.carried = header.carried.clone();
            return Ok(());
        };
        if header.segment != number || number != last.file.number + 1 {
            return Err(WalError::corrupt(path, 0, "the segment before it is missing"));
        }
        if header.first_batch != self.next_batch {
            // The segment before ends too early, and this one proves that there was more.
            let what = format!(
                "batch {} is damaged, and the log goes on behind it with batch {}",
                self.next_batch, header.first_batch
            );
            return Err(WalError::corrupt(&last.file.path, self.offset, &what));
        }
        self.carried = header.carried.clone();
        Ok(())
    }

    fn batches(&mut self, segment: &Arc<SegmentFile>) -> Result<(), WalError> {
        let fail = io_error("read", &segment.path);
        let mut window = Window::new(&*segment.file, self.length);
        let mut at = HEADER_BYTES;
        self.last_batch = at;
        while let Some(batch) = window.batch(at, self.salt).map_err(&fail)? {
            if frame::sequence(batch) != Some(self.next_batch) {
                break;
            }
            for record in frame::records(batch) {
                let Some((record, start)) = record else {
                    let what = "a record is of no known kind";
                    return Err(WalError::corrupt(&segment.path, at, what));
                };
                self.record(&record, segment, at + start as u64)
                    .map_err(|what| WalError::corrupt(&segment.path, at, what))?;
            }
            self.next_batch += 1;
            self.last_batch = at;
            at += batch.len() as u64;
        }
        self.offset = at;
        let later = later_batch(&*segment.file, self.length, at, self.salt, self.next_batch);
        match later.map_err(&fail)? {
            None => Ok(()),
            Some((offset, sequence)) => {
                let what = format!(
                    "batch {} is damaged, and batch {sequence} stands behind it at offset {offset}",
                    self.next_batch
                );
                Err(WalError::corrupt(&segment.path, at, &what))
            }
        }
    }

    /// `offset` is where the payload of an entry starts.
    fn record(
        &mut self,
        record: &Record<'_>,
        segment: &Arc<SegmentFile>,
        offset: u64,
    ) -> Result<(), &'static str> {
        self.carried.note(record);
        match record {
            Record::Entry { index, payload } => {
                if self.last_entry != 0 && *index != self.last_entry + 1 {
                    return Err("an entry does not follow the one before it");
                }
                let length = u32::try_from(payload.len()).map_err(|_| "an entry is too long")?;
                let (segment, crc) = (Arc::clone(segment), crc32c::crc32c(payload));
                self.index.push(*index, Place { segment, offset, length, crc });
                self.last_entry = *index;
            }
            Record::TruncateAfter(index) => {
                self.index.truncate_after(*index);
                self.last_entry = self.last_entry.min(*index);
            }
            Record::Purged { index, .. } => {
                self.index.purge(*index);
                self.last_entry = self.last_entry.max(*index);
            }
            Record::Vote(_) | Record::Committed(_) => {}
        }
        Ok(())
    }

    /// It may be that only the header of a later segment tells of a purge.
    fn purge_what_was_carried(&mut self) {
        if let Some(mark) = &self.carried.purged {
            self.index.purge(mark.index);
            self.last_entry = self.last_entry.max(mark.index);
        }
    }

    /// What was found, as it is: nothing is cut off.
    pub(super) fn found(mut self) -> io::Result<Inspected> {
        self.purge_what_was_carried();
        let torn_bytes = match self.segments.last() {
            Some(last) => {
                Window::new(&*last.file.file, self.length).torn(self.offset, self.salt)?
            }
            None => 0,
        };
        let length = |segment: &Segment| Ok((segment.file.number, segment.file.file.length()?));
        let segments = self.segments.iter().map(length).collect::<io::Result<_>>()?;
        let recovered = Recovered {
            vote: self.carried.vote,
            committed: self.carried.committed,
            purged: self.carried.purged,
            entries: self.index.range(),
            torn_bytes,
        };
        let batches = self.next_batch - self.first_batch;
        Ok(Inspected { owner: self.owner, recovered, batches, segments, index: self.index })
    }

    fn finish(mut self) -> Result<Found, WalError> {
        self.purge_what_was_carried();
        let last = self.segments.last().expect("there was at least one segment");
        let fail = io_error("cut the torn tail of", &last.file.path);
        let torn_bytes = self.cut_tail(&*last.file.file).map_err(fail)?;
        let carried = self.carried;
        let recovered = Recovered {
            vote: carried.vote.clone(),
            committed: carried.committed.clone(),
            purged: carried.purged.clone(),
            entries: self.index.range(),
            torn_bytes,
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
        Ok(Found { recovered, index: self.index, tail })
    }

    /// Overwrites what was being written when the log ended, and makes everything that was found durable: the last batch may
    /// have been in the page cache only.
    fn cut_tail(&self, last: &dyn File) -> io::Result<u64> {
        let mut window = Window::new(last, self.length);
        let torn = window.torn(self.offset, self.salt)?;
        let zeros = vec![0; PIECE_BYTES];
        let mut at = self.offset;
        while at < self.offset + torn {
            let piece =
                PIECE_BYTES.min(usize::try_from(self.offset + torn - at).unwrap_or(usize::MAX));
            last.write_at(at, &zeros[..piece])?;
            at += piece as u64;
        }
        // After a failed sync the system keeps what it could not write, and takes it for written: only what is written
        // again is synced again. All batches but the last were safe before the next was begun.
        let batch = window.up_to(self.last_batch, self.offset - self.last_batch)?;
        if !batch.is_empty() {
            last.write_at(self.last_batch, batch)?;
        }
        last.sync()?;
        Ok(torn)
    }
}

/// The first whole batch behind `at` that comes after the expected one.
fn later_batch(
    file: &dyn File,
    length: u64,
    at: u64,
    salt: u64,
    expected: u64,
) -> io::Result<Option<(u64, u64)>> {
    let wanted = salt.to_le_bytes();
    let (mut window, mut candidates) = (Window::new(file, length), Window::new(file, length));
    let mut from = at;
    while from < length {
        let bytes = window.up_to(from, PIECE_BYTES as u64)?;
        let mut place = 0;
        while let Some(found) = find(&bytes[place..], wanted) {
            let offset = from + (place + found) as u64;
            let batch = candidates.batch(offset, salt)?;
            if let Some(sequence) = batch.and_then(frame::sequence)
                && sequence > expected
            {
                return Ok(Some((offset, sequence)));
            }
            place += found + 1;
        }
        // It may begin in one piece and end in the next.
        from += bytes.len().saturating_sub(wanted.len() - 1).max(1) as u64;
    }
    Ok(None)
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

/// A file that is read forward: the piece of it that was read last.
struct Window<'a> {
    file: &'a dyn File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, length: u64) -> Self {
        Self { file, length, start: 0, bytes: Vec::new() }
    }

    /// The bytes from `offset` on: `count` of them, or as many as there are.
    fn up_to(&mut self, offset: u64, count: u64) -> io::Result<&[u8]> {
        let count = count.min(self.length.saturating_sub(offset));
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + count > held.end {
            let piece = count.max(PIECE_BYTES as u64).min(self.length.saturating_sub(offset));
            self.bytes.resize(in_memory(piece)?, 0);
            self.start = offset;
            self.file.read_at(offset, &mut self.bytes)?;
        }
        let from = in_memory(offset - self.start)?;
        Ok(&self.bytes[from..from + in_memory(count)?])
    }

    /// The batch at `offset` with its frame, if it is whole.
    fn batch(&mut self, offset: u64, salt: u64) -> io::Result<Option<&[u8]>> {
        let length = frame::length(self.up_to(offset, FRAME_BYTES as u64)?, salt);
        let rest = self.length.saturating_sub(offset);
        let Some(length) = length.filter(|length| *length <= rest) else { return Ok(None) };
        let bytes = self.up_to(offset, length)?;
        Ok(frame::check(bytes, salt).map(|(_, length)| &bytes[..length]))
    }

    /// Bytes from `offset` on, where the last batch ends, that were being written when the log ended.
    fn torn(&mut self, offset: u64, salt: u64) -> io::Result<u64> {
        let torn = self.end_of_data(offset)? - offset;
        // In a recycled file the rest is full of old batches, which have another salt and are left alone. Only the first
        // frame can be of this log's use of the file.
        let rest = self.up_to(offset, FRAME_BYTES as u64)?;
        let ours = rest.len() < FRAME_BYTES || frame::u64_at(rest, 0) == Some(salt);
        Ok(if ours { torn } else { torn.min(FRAME_BYTES as u64) })
    }

    /// Where the last byte behind `from` that is not zero ends; `from` if there is none.
    fn end_of_data(&mut self, from: u64) -> io::Result<u64> {
        let (mut at, mut end) = (from, from);
        while at < self.length {
            let bytes = self.up_to(at, PIECE_BYTES as u64)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += bytes.len() as u64;
        }
        Ok(end)
    }
}

fn in_memory(length: u64) -> io::Result<usize> {
    usize::try_from(length).map_err(io::Error::other)
}
