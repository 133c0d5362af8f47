//! A log of etcd as a whole: which entries count, and where their bytes are.
//!
//! Owns: the order of segments' records, entries that were replaced, holes. Never knows: files; what entries carry.
//! Entries stay where they are: of each only its place is kept, so that a log of any length takes little memory.

use thiserror::Error;

use crate::etcd::entry::{Entry, EntryError, EntryKind, HardState, Metadata, Place};
use crate::etcd::wal::{Broken, Kind, Record, Rest, Segment};

/// Where the data of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAt {
    /// Index and term.
    pub place: Place,
    /// What it is.
    pub kind: EntryKind,
    /// In which of the segments that were read, counted from zero.
    pub segment: usize,
    /// At which byte of it the data begins.
    pub offset: usize,
    /// How many bytes it has.
    pub length: usize,
}

/// How a segment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last record.
    Whole,
    /// Behind the room that was made in advance stand so many bytes that were never counted as written.
    Leftovers(usize),
    /// With a frame that a crash has cut off.
    Torn(Broken),
}

/// Why a log cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// A frame is not what was written.
    #[error("the frame at offset {offset} is damaged: {what}")]
    Damaged {
        /// Where in the segment.
        offset: usize,
        /// What is wrong.
        what: String,
    },
    /// A record is right as it was written and cannot be understood.
    #[error("the record at offset {offset}: {source}")]
    Record {
        /// Where in the segment.
        offset: usize,
        /// Why.
        source: EntryError,
    },
    /// A segment of another member's log.
    #[error(
        "it is of member {:x} of cluster {:x}, and the segments before it are of member {:x} of cluster {:x}",
        found.node, found.cluster, expected.node, expected.cluster
    )]
    Foreign {
        /// Whose log it was so far.
        expected: Metadata,
        /// Whose this segment is.
        found: Metadata,
    },
    /// Terms never go back.
    #[error("entry {} at offset {offset} has term {}, and the entry before it has term {before}", place.index, place.term)]
    Term {
        /// Where in the segment.
        offset: usize,
        /// The entry.
        place: Place,
        /// The term before.
        before: u64,
    },
}

/// Entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last one before it.
    pub before: u64,
    /// The first one behind it.
    pub behind: u64,
}

/// What a log comes to.
#[derive(Clone, Debug, Default)]
pub struct Log {
    metadata: Option<Metadata>,
    state: HardState,
    snapshots: Vec<Place>,
    /// By index; not all that come between the first and the last need be there.
    entries: Vec<EntryAt>,
    segments: usize,
    crc: Option<u32>,
    /// Of the last entry that was read.
    term: u64,
    replaced: u64,
}

impl Log {
    /// Reads the next segment; of the `last` one the end may have been cut off.
    ///
    /// # Errors
    /// See [`LogError`]. What came before the damage stays.
    pub fn segment(&mut self, bytes: &[u8], last: bool) -> Result<End, LogError> {
        let mut segment = Segment::new(bytes, self.crc);
        let number = self.segments;
        self.segments += 1;
        loop {
            match segment.next_record() {
                Ok(Some(record)) => {
                    self.record(number, &record)?;
                    self.crc = segment.crc();
                }
                Ok(None) => {
                    return Ok(match segment.rest() {
                        Rest::Room => End::Whole,
                        Rest::Bytes(count) => End::Leftovers(count),
                    });
                }
                Err(broken) if last && broken.torn => return Ok(End::Torn(broken)),
                Err(Broken { offset, what, .. }) => return Err(LogError::Damaged { offset, what }),
            }
        }
    }

    fn record(&mut self, segment: usize, record: &Record<'_>) -> Result<(), LogError> {
        let offset = record.at;
        let fail = |source| LogError::Record { offset, source };
        match record.kind {
            Kind::Crc => {}
            Kind::Metadata => {
                let found = Metadata::decode(record.data).map_err(fail)?;
                let expected = *self.metadata.get_or_insert(found);
                if found != expected {
                    return Err(LogError::Foreign { expected, found });
                }
            }
            Kind::State => self.state = HardState::decode(record.data).map_err(fail)?,
            Kind::Snapshot => self.snapshots.push(Place::decode(record.data).map_err(fail)?),
            Kind::Entry => {
                let entry = Entry::decode(record.data).map_err(fail)?;
                self.entry(segment, record, &entry)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        segment: usize,
        record: &Record<'_>,
        entry: &Entry<'_>,
    ) -> Result<(), LogError> {
        let Entry { kind, place, data } = *entry;
        if place.term < self.term {
            return Err(LogError::Term { offset: record.at, place, before: self.term });
        }
        self.term = place.term;
        // A new leader overwrites what the old one had not committed.
        let keep = self.entries.partition_point(|entry| entry.place.index < place.index);
        self.replaced += (self.entries.len() - keep) as u64;
        self.entries.truncate(keep);
        // The data is the last field of the record, or there is none.
        let offset = record.at + record.data.len() - data.len();
        self.entries.push(EntryAt { place, kind, segment, offset, length: data.len() });
        Ok(())
    }

    /// Whose log it is; `None` when not even that could be read.
    pub fn metadata(&self) -> Option<Metadata> {
        self.metadata
    }

    /// The last hard state.
    pub fn state(&self) -> HardState {
        self.state
    }

    /// How many segments were read.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Entries that were there and were overwritten.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// The first entry that is there, and the last.
    pub fn ends(&self) -> Option<(Place, Place)> {
        Some((self.entries.first()?.place, self.entries.last()?.place))
    }

    /// Does the log know of a snapshot at this entry?
    pub fn names_snapshot(&self, place: Place) -> bool {
        self.snapshots.contains(&place)
    }

    /// The term of an entry that is there.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        let found = self.entries.binary_search_by_key(&index, |entry| entry.place.index);
        found.ok().map(|at| self.entries[at].place.term)
    }

    /// Are all entries there from the first one on?
    pub fn is_whole(&self) -> bool {
        self.entries.first().is_some_and(|first| first.place.index == 1) && self.behind(0).is_ok()
    }

    /// The entries behind `index` up to `last`.
    pub fn between(&self, index: u64, last: u64) -> &[EntryAt] {
        let start = self.entries.partition_point(|entry| entry.place.index <= index);
        let end = self.entries.partition_point(|entry| entry.place.index <= last.max(index));
        &self.entries[start..end]
    }

    /// The entries behind `index`, none of which is missing.
    ///
    /// # Errors
    /// When some are.
    pub fn behind(&self, index: u64) -> Result<&[EntryAt], Hole> {
        let start = self.entries.partition_point(|entry| entry.place.index <= index);
        let entries = &self.entries[start..];
        let mut before = index;
        for entry in entries {
            let behind = entry.place.index;
            if behind != before + 1 {
                return Err(Hole { before, behind });
            }
            before = behind;
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::Message;
    use crate::etcd::wal::SegmentWriter;

    fn entry(index: u64, term: u64) -> Vec<u8> {
        let data = format!("{index}.{term}");
        let message = Message::default().varint(1, 0).varint(2, term).varint(3, index);
        message.bytes(4, data.as_bytes()).finish()
    }

    fn metadata(node: u64) -> Vec<u8> {
        Message::default().varint(1, node).varint(2, 99).finish()
    }

    fn segment(crc: u32, node: u64, entries: &[(u64, u64)]) -> (Vec<u8>, u32) {
        let mut writer = SegmentWriter::new(crc, true);
        writer.push(Kind::Metadata, &metadata(node));
        for (index, term) in entries {
            writer.push(Kind::Entry, &entry(*index, *term));
        }
        let crc = writer.crc();
        (writer.finish(), crc)
    }

    #[test]
    fn a_tail_is_replaced_across_segments_and_bytes_are_found_again() {
        let (one, crc) = segment(0, 5, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
        let (two, _) = segment(crc, 5, &[(3, 2), (4, 2)]);
        let mut log = Log::default();
        assert_eq!(log.segment(&one, false), Ok(End::Whole));
        assert_eq!(log.segment(&two, true), Ok(End::Whole));
        assert_eq!(log.replaced(), 2);
        let place = |index, term| Place { index, term };
        assert_eq!(log.ends(), Some((place(1, 1), place(4, 2))));
        let files = [one, two];
        let data: Vec<_> = log
            .behind(1)
            .unwrap()
            .iter()
            .map(|at| {
                let bytes = &files[at.segment][at.offset..at.offset + at.length];
                String::from_utf8(bytes.to_vec()).unwrap()
            })
            .collect();
        assert_eq!(data, ["2.1", "3.2", "4.2"]);
        assert!(log.behind(4).unwrap().is_empty() && log.behind(9).unwrap().is_empty());
    }

    #[test]
    fn holes_foreign_segments_and_terms_that_go_back_are_told() {
        let (one, crc) = segment(0, 5, &[(4, 1), (7, 1)]);
        let mut log = Log::default();
        log.segment(&one, false).unwrap();
        assert_eq!(log.behind(2).unwrap_err(), Hole { before: 2, behind: 4 });
        assert_eq!(log.behind(3).unwrap_err(), Hole { before: 4, behind: 7 });
        assert_eq!(log.behind(6).unwrap().len(), 1);
        let (two, crc) = segment(crc, 5, &[(8, 1)]);
        log.segment(&two, false).unwrap();
        let (back, _) = segment(crc, 5, &[(9, 0)]);
        let error = log.clone().segment(&back, true).unwrap_err();
        assert!(matches!(error, LogError::Term { before: 1, .. }), "{error}");
        let (other, _) = segment(crc, 6, &[]);
        let error = log.segment(&other, true).unwrap_err().to_string();
        assert!(error.contains("member 6") && error.contains("member 5"), "{error}");
    }
}
