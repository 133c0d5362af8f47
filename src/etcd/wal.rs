//! A segment of etcd's write-ahead log: frames, each a record with its place in a chain of checksums.
//!
//! Owns: the bytes of a segment, and the question whether the end of one was cut off by a crash. Never knows: files, what an entry
//! asks.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | little-endian: the length of the record in the lower 56 bits; if the top bit is set, the length of the padding in the three bits above them |
//! | | the record: its kind, the checksum so far, its data |
//! | | padding up to a multiple of eight (since 3.0) |
//!
//! The checksum is the CRC-32C of the data of all records so far, across segments. It covers no length and no kind, so these are
//! checked against each other: what a record says of its own length, and what padding follows from that.

use crate::etcd::proto::{Fields, Message, Value};

/// Where a disk may tear a write.
const SECTOR_BYTES: usize = 512;

/// The length of a frame.
const HEAD_BYTES: usize = 8;

/// Padding makes frames a multiple of this.
const ALIGNED_BYTES: usize = 8;

/// No version of etcd writes a longer record, so a length beyond it is a damaged one.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// The bits of a frame's first number that are the length.
const LENGTH_BITS: u32 = 56;

/// In its top byte: there is padding.
const PADDED: u8 = 0x80;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whose log it is.
    Metadata,
    /// An entry.
    Entry,
    /// What the member promised and knows.
    State,
    /// The chain of checksums goes on from here: the first record of a segment.
    Crc,
    /// A snapshot was written.
    Snapshot,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Metadata, Self::Entry, Self::State, Self::Crc, Self::Snapshot];

    fn of(number: u64) -> Option<Self> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        Self::ALL.get(place).copied()
    }

    const fn number(self) -> u64 {
        self as u64 + 1
    }
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it holds.
    pub data: &'a [u8],
    /// Where that begins in the segment.
    pub at: usize,
}

/// A frame that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where it begins.
    pub offset: usize,
    /// What is wrong with it.
    pub what: String,
    /// A crash may have left it like this, and nothing stands behind it: a write that was never acknowledged.
    pub torn: bool,
}

/// What follows the last frame of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing, or zeros: room that was made in advance.
    Room,
    /// So many bytes that are not all zero. They were never counted as written.
    Bytes(usize),
}

/// Reads the records of a segment, one after the other.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Of all records so far; `None` before the first segment that is read.
    crc: Option<u32>,
}

/// A record, not checked.
struct Raw<'a> {
    kind: u64,
    crc: u32,
    data: &'a [u8],
    /// Where the data begins, from the record's first byte on.
    data_at: usize,
    /// Bytes that the whole record should have; `data` is shorter where they end before.
    length: usize,
}

impl<'a> Segment<'a> {
    /// Begins to read a segment; `crc` is the checksum at the end of the one before.
    pub fn new(bytes: &'a [u8], crc: Option<u32>) -> Self {
        Self { bytes, at: 0, crc }
    }

    /// Where the next frame begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The checksum so far.
    pub fn crc(&self) -> Option<u32> {
        self.crc
    }

    /// What stands behind the last frame, once [`Segment::next_record`] has returned `None`.
    pub fn rest(&self) -> Rest {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().rposition(|byte| *byte != 0);
        end.map_or(Rest::Room, |last| Rest::Bytes(last + 1))
    }

    /// The next record; `None` behind the last.
    ///
    /// # Errors
    /// When the frame is not what was written. Reading cannot go on then.
    pub fn next_record(&mut self) -> Result<Option<Record<'a>>, Broken> {
        let rest = &self.bytes[self.at..];
        let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() else {
            return match rest.iter().all(|byte| *byte == 0) {
                true => Ok(None),
                false => Err(self.broken("the file ends inside of a length".to_owned(), true)),
            };
        };
        let word = u64::from_le_bytes(*head);
        if word == 0 {
            // A length that was lost would hide all that follows.
            if let Some(raw) = raw(body).filter(|raw| raw.length <= body.len())
                && let Some(kind) = Kind::of(raw.kind)
                && self.sum(kind, &raw) == raw.crc
            {
                let what = "its length is zero, and a record with the right checksum follows";
                return Err(self.broken(what.to_owned(), false));
            }
            return Ok(None);
        }
        let length = word & ((1 << LENGTH_BITS) - 1);
        let flags = head[HEAD_BYTES - 1];
        let padding = usize::from(flags & !PADDED);
        if length > RECORD_BYTES_MAX {
            return Err(self.broken(format!("its length of {length} bytes cannot be"), false));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let wanted = match flags & PADDED {
            0 => 0,
            _ => length.next_multiple_of(ALIGNED_BYTES) - length,
        };
        if padding != wanted {
            return Err(self.broken("length and padding contradict each other".to_owned(), false));
        }
        let record = body.get(..length);
        let raw = raw(record.unwrap_or(body));
        // A length that was changed would hide what follows. Of a record that is cut off before its data the length is not known.
        let unknown = |raw: &Raw<'_>| record.is_none() && raw.length == body.len();
        if raw.as_ref().is_some_and(|raw| raw.length != length && !unknown(raw)) {
            return Err(self.broken("record and frame have different lengths".to_owned(), false));
        }
        let Some(framed) = body.get(..length + padding) else {
            return Err(self.broken("the file ends inside of it".to_owned(), true));
        };
        let torn =
            self.has_a_lost_sector(framed) && !self.goes_on_behind(framed.len(), raw.as_ref());
        let Some(raw) = raw else {
            return Err(self.broken("it is no record".to_owned(), torn));
        };
        let Some(kind) = Kind::of(raw.kind) else {
            return Err(self.broken(format!("a record of the unknown kind {}", raw.kind), torn));
        };
        let crc = self.sum(kind, &raw);
        if crc != raw.crc {
            let what = format!("checksum {:08x}, and its bytes have {crc:08x}", raw.crc);
            return Err(self.broken(what, torn));
        }
        let at = self.at + HEAD_BYTES + raw.data_at;
        self.crc = Some(crc);
        self.at += HEAD_BYTES + framed.len();
        Ok(Some(Record { kind, data: raw.data, at }))
    }

    /// The checksum that the chain has with this record. Any is right where the first segment begins.
    fn sum(&self, kind: Kind, raw: &Raw<'_>) -> u32 {
        match (kind, self.crc) {
            (Kind::Crc, None) => raw.crc,
            (Kind::Crc, Some(crc)) => crc,
            (_, crc) => crc32c::crc32c_append(crc.unwrap_or(0), raw.data),
        }
    }

    fn broken(&self, what: String, torn: bool) -> Broken {
        Broken { offset: self.at, what, torn }
    }

    /// Is a part of the frame all zero that a disk writes at once?
    fn has_a_lost_sector(&self, framed: &[u8]) -> bool {
        let start = self.at + HEAD_BYTES;
        let first = (SECTOR_BYTES - start % SECTOR_BYTES).min(framed.len());
        let (first, rest) = framed.split_at(first);
        std::iter::once(first)
            .chain(rest.chunks(SECTOR_BYTES))
            .any(|sector| !sector.is_empty() && sector.iter().all(|byte| *byte == 0))
    }

    /// Does a frame stand behind this one that goes on from its checksum, or looks like one if that is not known?
    fn goes_on_behind(&self, framed: usize, broken: Option<&Raw<'_>>) -> bool {
        let behind = self.bytes.get(self.at + HEAD_BYTES + framed..).unwrap_or_default();
        let Some((head, body)) = behind.split_first_chunk::<HEAD_BYTES>() else { return false };
        if *head == [0; HEAD_BYTES] {
            return false;
        }
        let Some(next) = raw(body).filter(|raw| raw.length <= body.len()) else { return false };
        let crc = broken.map(|raw| crc32c::crc32c_append(raw.crc, next.data));
        Kind::of(next.kind).is_some() && crc.is_none_or(|crc| crc == next.crc)
    }
}

/// Reads a record as far as it goes: its length follows from itself.
fn raw(bytes: &[u8]) -> Option<Raw<'_>> {
    const KIND: u64 = 1;
    const CRC: u64 = 2;
    const DATA: u64 = 3;
    let mut fields = Fields::of(bytes);
    let (KIND, Value::Varint(kind)) = fields.next_field().ok()?? else { return None };
    let (CRC, Value::Varint(crc)) = fields.next_field().ok()?? else { return None };
    let crc = u32::try_from(crc).ok()?;
    let without = fields.position();
    // Read by hand: the length counts also where the data is cut off.
    let length = match fields.number() {
        Ok(key) if key == (DATA << 3 | 2) => fields.number().ok()?,
        // There is no data, and what follows is padding, or the next frame.
        Ok(_) | Err(_) => {
            return Some(Raw { kind, crc, data: &[], data_at: without, length: without });
        }
    };
    let data_at = fields.position();
    let length = usize::try_from(length).ok()?.checked_add(data_at)?;
    let data = bytes.get(data_at..length.min(bytes.len())).unwrap_or_default();
    Some(Raw { kind, crc, data, data_at, length })
}

/// Writes a segment: for an export, and for tests.
#[derive(Clone, Debug)]
pub struct SegmentWriter {
    bytes: Vec<u8>,
    crc: u32,
    padded: bool,
}

impl SegmentWriter {
    /// Begins a segment that goes on from `crc`. Frames are `padded` as from 3.0 on, or not, as before.
    pub fn new(crc: u32, padded: bool) -> Self {
        let mut writer = Self { bytes: Vec::new(), crc, padded };
        writer.push(Kind::Crc, &[]);
        writer
    }

    /// Appends a record.
    pub fn push(&mut self, kind: Kind, data: &[u8]) {
        if kind != Kind::Crc {
            self.crc = crc32c::crc32c_append(self.crc, data);
        }
        let record = Message::default().varint(1, kind.number()).varint(2, self.crc.into());
        // As etcd does: a record without data has no field for it.
        let record = if data.is_empty() { record } else { record.bytes(3, data) }.finish();
        let padding = match self.padded {
            true => record.len().next_multiple_of(ALIGNED_BYTES) - record.len(),
            false => 0,
        };
        let mut word = record.len() as u64;
        if padding > 0 {
            word |= (u64::from(PADDED) | padding as u64) << LENGTH_BITS;
        }
        self.bytes.extend_from_slice(&word.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }

    /// The checksum so far.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The segment.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = Vec<(Kind, Vec<u8>)>;

    fn read(bytes: &[u8], crc: Option<u32>) -> (Read, Result<Rest, Broken>) {
        let mut segment = Segment::new(bytes, crc);
        let mut found = Vec::new();
        loop {
            match segment.next_record() {
                Ok(Some(record)) => {
                    assert_eq!(&bytes[record.at..record.at + record.data.len()], record.data);
                    found.push((record.kind, record.data.to_vec()));
                }
                Ok(None) => return (found, Ok(segment.rest())),
                Err(broken) => return (found, Err(broken)),
            }
        }
    }

    fn written(records: &[Vec<u8>], padded: bool) -> (Vec<u8>, Read, Vec<usize>) {
        let mut writer = SegmentWriter::new(7, padded);
        let mut wanted = vec![(Kind::Crc, Vec::new())];
        let mut starts = vec![0];
        for data in records {
            starts.push(writer.bytes.len());
            writer.push(Kind::Entry, data);
            wanted.push((Kind::Entry, data.clone()));
        }
        (writer.finish(), wanted, starts)
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(1_u8.., 1..700), 1..6)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_with_and_without_padding_and_room(
            records in records(), padded in any::<bool>(), room in 0_usize..2000,
        ) {
            let (mut bytes, wanted, _) = written(&records, padded);
            bytes.resize(bytes.len() + room, 0);
            prop_assert_eq!(read(&bytes, None), (wanted.clone(), Ok(Rest::Room)));
            prop_assert_eq!(read(&bytes, Some(7)).0, wanted);
            prop_assert!(read(&bytes, Some(8)).1.is_err(), "the chain comes from elsewhere");
        }

        #[test]
        fn a_cut_is_torn_or_clean_and_loses_only_what_is_behind(records in records(), padded in any::<bool>(), at in any::<prop::sample::Index>()) {
            let (bytes, wanted, starts) = written(&records, padded);
            let cut = at.index(bytes.len());
            let (found, end) = read(&bytes[..cut], None);
            prop_assert_eq!(&found[..], &wanted[..found.len()]);
            match end {
                // Of a length that begins with zeros.
                Ok(Rest::Room) => prop_assert!(bytes[starts[found.len()]..cut].iter().all(|byte| *byte == 0)),
                Ok(Rest::Bytes(_)) => prop_assert!(false, "bytes are never skipped"),
                Err(broken) => prop_assert!(broken.torn && broken.offset == starts[found.len()], "{:?}", broken),
            }
        }

        /// Of a log that was synced; only the last frame may be taken for one that never was, and only if a sector of it is zero.
        #[test]
        fn a_flipped_bit_is_refused_or_changes_nothing(
            records in records(), padded in any::<bool>(), at in any::<prop::sample::Index>(), bit in 0_u32..8, room in 0_usize..2000,
            first in any::<bool>(),
        ) {
            let (mut bytes, wanted, _) = written(&records, padded);
            let place = at.index(bytes.len());
            bytes.resize(bytes.len() + room, 0);
            bytes[place] ^= 1_u8 << bit;
            let (found, end) = read(&bytes, (!first).then_some(7));
            match end {
                Err(broken) => {
                    prop_assert_eq!(&found[..], &wanted[..found.len()]);
                    prop_assert!(!broken.torn || broken.what.contains("ends inside"), "{:?}", broken);
                }
                // The checksum does not cover the kind; who reads the records notices.
                Ok(_) => {
                    let data = |read: &Read| read.iter().map(|(_, data)| data.clone()).collect::<Vec<_>>();
                    prop_assert_eq!(data(&found), data(&wanted));
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), crc in any::<Option<u32>>()) {
            let _ = read(&bytes, crc);
        }
    }

    #[test]
    fn a_lost_sector_at_the_end_is_torn_and_one_in_the_middle_is_damage() {
        let records = [vec![1; 100], vec![2; 2000], vec![3; 100]];
        let (bytes, _, starts) = written(&records, true);
        let lose = |from: usize, bytes: &mut Vec<u8>| {
            let sector = (from + 600).next_multiple_of(SECTOR_BYTES);
            bytes[sector..sector + SECTOR_BYTES].fill(0);
        };
        let mut middle = bytes.clone();
        lose(starts[2], &mut middle);
        let (found, end) = read(&middle, None);
        let broken = end.unwrap_err();
        assert_eq!((found.len(), broken.offset, broken.torn), (2, starts[2], false), "{broken:?}");
        let mut end = bytes[..starts[3]].to_vec();
        lose(starts[2], &mut end);
        end.resize(end.len() + 5000, 0);
        let (_, end) = read(&end, None);
        assert!(end.unwrap_err().torn);
    }

    /// The first frame of a segment without padding has a length of four bytes: one flipped bit makes that zero.
    #[test]
    fn a_segment_whose_first_length_is_lost_is_damage() {
        for (padded, crc) in [(false, None), (false, Some(7)), (true, None), (true, Some(7))] {
            let (mut bytes, _, _) = written(&[vec![1]], padded);
            bytes[..HEAD_BYTES].fill(0);
            let (found, end) = read(&bytes, crc);
            let broken = end.unwrap_err();
            assert_eq!((found.len(), broken.offset, broken.torn), (0, 0, false), "{broken:?}");
        }
    }

    #[test]
    fn bytes_behind_zeros_are_told() {
        let (mut bytes, wanted, _) = written(&[vec![1; 10]], true);
        let end = bytes.len();
        bytes.resize(end + 100, 0);
        bytes.push(9);
        assert_eq!(read(&bytes, None), (wanted, Ok(Rest::Bytes(101))));
    }
}
