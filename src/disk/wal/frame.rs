//! Batches and records as bytes.

use crate::disk::wal::Mark;

/// salt, sequence, length, crc32c.
pub(super) const FRAME_BYTES: usize = 24;
const RECORD_HEAD: usize = 5;

/// One thing that the log remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Entry { index: u64, payload: &'a [u8] },
    Vote(&'a [u8]),
    Committed(&'a [u8]),
    TruncateAfter(u64),
    Purged { index: u64, data: &'a [u8] },
}

/// A batch that is being put together in a buffer which is used again and again.
#[derive(Debug, Default)]
pub(super) struct BatchWriter {
    bytes: Vec<u8>,
}

/// Longer than any payload: callers bound theirs far below.
const TOO_LONG: &str = "records are shorter than 4 GiB";

impl BatchWriter {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(FRAME_BYTES, 0);
    }

    /// Appends a record; returns where an entry's payload starts, counted from the start of the batch.
    pub(super) fn push(&mut self, record: &Record<'_>) -> usize {
        let (tag, number, payload): (u8, Option<u64>, &[u8]) = match record {
            Record::Entry { index, payload } => (1, Some(*index), payload),
            Record::Vote(payload) => (2, None, payload),
            Record::Committed(payload) => (3, None, payload),
            Record::TruncateAfter(index) => (4, Some(*index), &[]),
            Record::Purged { index, data } => (5, Some(*index), data),
        };
        let length = payload.len() + if number.is_some() { 8 } else { 0 };
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&u32::try_from(length).expect(TOO_LONG).to_le_bytes());
        if let Some(number) = number {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        start
    }

    /// Whole batch, framed.
    pub(super) fn seal(&mut self, salt: u64, sequence: u64) -> &[u8] {
        let length = u32::try_from(self.bytes.len() - FRAME_BYTES).expect(TOO_LONG);
        self.bytes[..8].copy_from_slice(&salt.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        self.bytes[16..20].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&self.bytes);
        self.bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() <= FRAME_BYTES
    }

    /// Gives back memory that one huge batch took.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        self.bytes.shrink_to(bytes_max);
    }
}

/// Of a framed batch, leaving out the checksum itself.
fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&batch[..20]), &batch[FRAME_BYTES..])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// How long the batch at the front of `bytes` says it is, with its frame; `None` if there is no frame of this salt.
pub(super) fn length(bytes: &[u8], salt: u64) -> Option<u64> {
    if u64_at(bytes, 0)? != salt {
        return None;
    }
    Some(FRAME_BYTES as u64 + u64::from(u32_at(bytes, 16)?))
}

/// The number of the batch at the front of `bytes`.
pub(super) fn sequence(bytes: &[u8]) -> Option<u64> {
    u64_at(bytes, 8)
}

/// The batch at the front of `bytes` if it is whole: its sequence and its length with the frame.
pub(super) fn check(bytes: &[u8], salt: u64) -> Option<(u64, usize)> {
    if u64_at(bytes, 0)? != salt {
        return None;
    }
    let sequence = u64_at(bytes, 8)?;
    let length = FRAME_BYTES + usize::try_from(u32_at(bytes, 16)?).ok()?;
    let batch = bytes.get(..length)?;
    (u32_at(bytes, 20)? == checksum(batch)).then_some((sequence, length))
}

/// The records of a batch that [`check`] found whole, each with where its payload starts within the batch.
///
/// `None` stands for a record that this build does not know.
pub(super) fn records(batch: &[u8]) -> impl Iterator<Item = Option<(Record<'_>, usize)>> {
    let mut at = FRAME_BYTES;
    std::iter::from_fn(move || {
        if at >= batch.len() {
            return None;
        }
        let parsed = record(batch, at);
        at = match parsed {
            Some((_, end)) => end,
            None => batch.len(),
        };
        Some(parsed.map(|(record, end)| {
            let payload = match &record {
                Record::Entry { payload, .. } => payload.len(),
                Record::Vote(_)
                | Record::Committed(_)
                | Record::TruncateAfter(_)
                | Record::Purged { .. } => 0,
            };
            (record, end - payload)
        }))
    })
}

fn record(batch: &[u8], at: usize) -> Option<(Record<'_>, usize)> {
    let length = usize::try_from(u32_at(batch, at + 1)?).ok()?;
    let start = at + RECORD_HEAD;
    let end = start.checked_add(length)?;
    let payload = batch.get(start..end)?;
    let record = match batch.get(at)? {
        1 => Record::Entry { index: u64_at(payload, 0)?, payload: payload.get(8..)? },
        2 => Record::Vote(payload),
        3 => Record::Committed(payload),
        4 => Record::TruncateAfter(u64_at(payload, 0)?),
        5 => Record::Purged { index: u64_at(payload, 0)?, data: payload.get(8..)? },
        _ => return None,
    };
    Some((record, end))
}

/// For the fuzzer: records behind a frame that was found whole, written again as they were read.
#[cfg(any(test, fuzzing))]
pub(in crate::disk) fn read_batch(input: &[u8]) {
    let batch = [&[0; FRAME_BYTES], input].concat();
    let mut written = BatchWriter::default();
    written.clear();
    let mut carried = Carried::default();
    for (record, start) in records(&batch).map_while(|record| record) {
        if let Record::Entry { payload, .. } = &record {
            assert_eq!(&batch[start..start + payload.len()], *payload);
        }
        carried.note(&record);
        written.push(&record);
    }
    let (salt, sequence) = (7, 9);
    let sealed = written.seal(salt, sequence);
    // A record of fixed length may have had more behind it, which is not kept.
    assert!(sealed.len() <= batch.len());
    assert_eq!(check(sealed, salt), Some((sequence, sealed.len())));
    let mut again = Carried::default();
    records(sealed).for_each(|record| again.note(&record.expect("just written").0));
    assert_eq!(again, carried);
}

/// What a segment's header repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) vote: Option<Vec<u8>>,
    pub(super) committed: Option<Vec<u8>>,
    pub(super) purged: Option<Mark>,
}

impl Carried {
    pub(super) fn note(&mut self, record: &Record<'_>) {
        match record {
            Record::Vote(vote) => self.vote = Some(vote.to_vec()),
            Record::Committed(mark) => self.committed = Some(mark.to_vec()),
            Record::Purged { index, data } => {
                self.purged = Some(Mark { index: *index, data: data.to_vec() });
            }
            Record::Entry { .. } | Record::TruncateAfter(_) => {}
        }
    }

    pub(super) fn write(&self, batch: &mut BatchWriter) {
        if let Some(vote) = &self.vote {
            batch.push(&Record::Vote(vote));
        }
        if let Some(mark) = &self.committed {
            batch.push(&Record::Committed(mark));
        }
        if let Some(Mark { index, data }) = &self.purged {
            batch.push(&Record::Purged { index: *index, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_sealed_is_read_back(payload in any::<Vec<u8>>(), index: u64, salt: u64, sequence: u64) {
            let written = [
                Record::Entry { index, payload: &payload },
                Record::Vote(&payload),
                Record::TruncateAfter(index),
                Record::Purged { index, data: &payload },
                Record::Committed(&payload),
            ];
            let mut batch = BatchWriter::default();
            batch.clear();
            let start = batch.push(&written[0]);
            written[1..].iter().for_each(|record| { batch.push(record); });
            let bytes = batch.seal(salt, sequence).to_vec();
            prop_assert_eq!(check(&bytes, salt), Some((sequence, bytes.len())));
            let read: Vec<_> = records(&bytes).map(Option::unwrap).collect();
            prop_assert_eq!(read[0].1, start);
            prop_assert_eq!(read.into_iter().map(|(record, _)| record).collect::<Vec<_>>(), written);
        }

        #[test]
        fn one_flipped_bit_makes_a_batch_invalid(payload in any::<Vec<u8>>(), at: prop::sample::Index) {
            let mut batch = BatchWriter::default();
            batch.clear();
            batch.push(&Record::Vote(&payload));
            let mut bytes = batch.seal(1, 2).to_vec();
            let place = at.index(bytes.len());
            bytes[place] ^= 1;
            prop_assert_eq!(check(&bytes, 1), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), salt: u64) {
            check(&bytes, salt);
            records(&bytes).for_each(drop);
        }
    }
}
