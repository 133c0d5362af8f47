//! Where the safe entries are, and what they must be when they are read again.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::files::File;
use crate::disk::wal::error::{WalError, io_error};

/// Bytes between two entries that are read along rather than left out with a read of their own: heads of batches and votes.
const READ_GAP_MAX: u64 = 4096;

/// An open segment.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
}

/// An entry's payload on the disk.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) segment: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) length: u32,
    /// Of the payload, from when it was written or from the batch that recovery has checked.
    pub(super) crc: u32,
}

impl Place {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// Is it worth to read both at once?
    fn is_just_before(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.segment, &next.segment)
            && next.offset.checked_sub(self.end()).is_some_and(|gap| gap <= READ_GAP_MAX)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.segment, &other.segment) && self.offset == other.offset
    }
}

/// Where the safe entries are.
#[derive(Default)]
pub(super) struct EntryIndex {
    /// Index of the first place.
    first: u64,
    places: VecDeque<Place>,
}

impl EntryIndex {
    pub(super) fn push(&mut self, index: u64, place: Place) {
        if self.places.is_empty() {
            self.first = index;
        }
        self.places.push_back(place);
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        let keep = (index + 1).saturating_sub(self.first);
        self.places.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    pub(super) fn purge(&mut self, upto: u64) {
        while self.first <= upto && self.places.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// The indexes of all entries.
    pub(super) fn range(&self) -> Range<u64> {
        if self.places.is_empty() {
            0..0
        } else {
            self.first..self.first + self.places.len() as u64
        }
    }

    fn get(&self, index: u64) -> Option<&Place> {
        self.places.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Entries from `from` up to but not including `to`: at least one if there is one, then as many as fit `bytes_max`.
    pub(super) fn places(&self, from: u64, to: u64, bytes_max: usize) -> Vec<(u64, Place)> {
        let mut bytes = 0;
        let mut places = Vec::new();
        for at in from.max(self.first)..to {
            let Some(place) = self.get(at) else { break };
            bytes += place.length as usize;
            if bytes > bytes_max && !places.is_empty() {
                break;
            }
            places.push((at, place.clone()));
        }
        places
    }

    /// Bytes of the entries from `from` on.
    pub(super) fn bytes_from(&self, from: u64) -> u64 {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.places.iter().skip(skip).map(|place| u64::from(place.length)).sum()
    }

    /// The lowest index from which on the entries up to but not including `end` are at most `entries_max` and take at most
    /// `bytes_max`; `end` when not even the last of them fits.
    pub(super) fn start_of_last(&self, end: u64, entries_max: u64, bytes_max: u64) -> u64 {
        let mut bytes = 0;
        let mut start = end;
        while start > self.first && end - start < entries_max {
            let Some(place) = self.get(start - 1) else { break };
            bytes += u64::from(place.length);
            if bytes > bytes_max {
                break;
            }
            start -= 1;
        }
        start
    }

    /// Is it still where it was?
    pub(super) fn is_at(&self, index: u64, place: &Place) -> bool {
        self.get(index).is_some_and(|now| now.is(place))
    }
}

/// An entry that is not what was written.
pub(super) struct Damaged {
    pub(super) index: u64,
    pub(super) place: Place,
}

impl Damaged {
    pub(super) fn error(&self) -> WalError {
        let what = format!("entry {} is not what was written", self.index);
        WalError::corrupt(&self.place.segment.path, self.place.offset, &what)
    }
}

/// What was read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) entries: Vec<(u64, Bytes)>,
    /// The entry that comes next, if it is damaged.
    pub(super) damaged: Option<Damaged>,
}

/// Reads the entries at `places`, as far as they are what was written.
pub(super) fn read(places: &[(u64, Place)]) -> Result<Read, WalError> {
    let mut read = Read::default();
    for run in places.chunk_by(|(_, one), (_, next)| one.is_just_before(next)) {
        let ((_, first), (_, last)) = (&run[0], &run[run.len() - 1]);
        let fail = io_error("read", &first.segment.path);
        let in_memory = |length: u64| usize::try_from(length).map_err(std::io::Error::other);
        // No more than was asked for and the gaps, or one entry.
        let mut bytes = vec![0; in_memory(last.end() - first.offset).map_err(&fail)?];
        first.segment.file.read_at(first.offset, &mut bytes).map_err(&fail)?;
        let bytes = Bytes::from(bytes);
        for (index, place) in run {
            let start = in_memory(place.offset - first.offset).map_err(&fail)?;
            let payload = bytes.slice(start..start + place.length as usize);
            if crc32c::crc32c(&payload) != place.crc {
                read.damaged = Some(Damaged { index: *index, place: place.clone() });
                return Ok(read);
            }
            read.entries.push((*index, payload));
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{CrashFiles, Files};
    use std::path::Path;

    fn index(lengths: &[u32]) -> EntryIndex {
        let path = Path::new("/wal/1.wal").to_owned();
        let file = CrashFiles::new().open(&path, true).unwrap();
        let segment = Arc::new(SegmentFile { number: 1, path, file });
        let mut index = EntryIndex::default();
        for (at, length) in (5..).zip(lengths) {
            let segment = Arc::clone(&segment);
            index.push(at, Place { segment, offset: at * 100, length: *length, crc: 0 });
        }
        index
    }

    #[test]
    fn the_last_entries_are_found_by_bytes_and_by_number() {
        let index = index(&[10, 20, 30, 40]);
        assert_eq!(index.range(), 5..9);
        assert_eq!(
            [0, 5, 7, 8, 9, 99].map(|from| index.bytes_from(from)),
            [100, 100, 70, 40, 0, 0]
        );
        assert_eq!(index.start_of_last(9, u64::MAX, 1000), 5, "all fit");
        assert_eq!(index.start_of_last(9, u64::MAX, 90), 6);
        assert_eq!(index.start_of_last(9, u64::MAX, 69), 8);
        assert_eq!(index.start_of_last(9, u64::MAX, 39), 9, "not even the last one fits");
        assert_eq!(index.start_of_last(9, 2, 1000), 7);
        assert_eq!(index.start_of_last(8, u64::MAX, 50), 6, "counted from an earlier end");
        assert_eq!(index.start_of_last(20, u64::MAX, 50), 20, "nothing is there");
        assert_eq!(EntryIndex::default().start_of_last(20, 5, 50), 20);
    }
}
