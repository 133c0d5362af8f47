//! A backup file, read from its first byte to its last.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::archive::{
    ArchiveError, BLOCK, END, End, FRAME_BYTES, FRAME_BYTES_MAX, HEAD, Head, MAGIC, VERSION,
    VERSION_WITHOUT_REVISIONS, crc_of,
};
use crate::store::{HistoryLimits, Loader, RecordCounts, Store};

/// Reads a backup file. What it has returned is only known to be right when it has come to the end.
pub struct ArchiveReader<R> {
    input: R,
    version: u32,
    head: Head,
    offset: u64,
    sum: Sha256,
    counts: RecordCounts,
    blocks: u64,
    done: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads up to the first record.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn new(mut input: R) -> Result<Self, ArchiveError> {
        let (mut start, mut offset) = ([0; MAGIC.len() + 4], 0);
        fill(&mut input, &mut start, &mut offset, "the first bytes").map_err(|error| {
            // What is shorter than that may be anything.
            let begins = MAGIC.starts_with(&start[..offset.min(8) as usize]);
            if begins && offset > 0 { error } else { ArchiveError::NoBackup }
        })?;
        let (magic, version) = start.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(ArchiveError::NoBackup);
        }
        let version = u32::from_le_bytes(version.try_into().expect("four bytes are left"));
        if !(VERSION_WITHOUT_REVISIONS..=VERSION).contains(&version) {
            return Err(ArchiveError::OtherVersion(version));
        }
        let mut sum = Sha256::new();
        sum.update(start);
        let frame = frame(&mut input, &mut offset)?;
        if frame.kind != HEAD {
            return Err(frame.damaged("it is not what a backup is of".to_owned()));
        }
        let head = Head::decode(&frame.payload, version)
            .map_err(|error| frame.damaged(error.to_string()))?;
        frame.add_to(&mut sum);
        let counts = RecordCounts::default();
        Ok(Self { input, version, head, offset, sum, counts, blocks: 0, done: false })
    }

    /// What the backup is of.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Records so far.
    pub fn counts(&self) -> RecordCounts {
        self.counts
    }

    /// Bytes so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next block of records; `None` once the whole file was found to be what was written.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn next_block(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        if self.done {
            return Ok(None);
        }
        let frame = frame(&mut self.input, &mut self.offset)?;
        match frame.kind {
            BLOCK => {
                let counted = self.counts.add(&frame.payload);
                counted.map_err(|error| frame.damaged(error.to_string()))?;
                self.blocks += 1;
                frame.add_to(&mut self.sum);
                Ok(Some(frame.payload))
            }
            END => {
                self.check_end(&frame)?;
                self.done = true;
                Ok(None)
            }
            kind => Err(frame.damaged(format!("a frame of the unknown kind {kind}"))),
        }
    }

    fn check_end(&mut self, frame: &Frame) -> Result<(), ArchiveError> {
        let end = End::decode(&frame.payload, self.version)
            .map_err(|error| frame.damaged(error.to_string()))?;
        let found = End {
            counts: self.counts,
            blocks: self.blocks,
            sum: self.sum.clone().finalize().into(),
        };
        if end.sum != found.sum {
            return Err(frame.damaged("the SHA-256 is that of other bytes".to_owned()));
        }
        if end != found || self.counts != self.head.counts {
            return Err(frame.damaged("the records are not as many as were written".to_owned()));
        }
        let mut more = [0];
        match read_some(&mut self.input, &mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ArchiveError::Damaged {
                offset: self.offset,
                what: "bytes follow the end of the backup".to_owned(),
            }),
            Err(source) => Err(ArchiveError::Io { offset: self.offset, source }),
        }
    }

    /// Reads to the end and checks everything but the contents of records.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn check(&mut self) -> Result<(), ArchiveError> {
        while self.next_block()?.is_some() {}
        Ok(())
    }

    /// Reads to the end, and puts the store together.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn into_store(mut self) -> Result<(Head, Store), ArchiveError> {
        let at = |offset: u64| {
            move |error: crate::model::DecodeError| ArchiveError::Damaged {
                offset,
                what: format!("{error}; the checksums are right, so it was written like this"),
            }
        };
        let mut loader =
            Loader::new(HistoryLimits::NONE, &self.head.header).map_err(at(self.offset))?;
        loop {
            let offset = self.offset;
            let Some(block) = self.next_block()? else { break };
            loader.block(&block).map_err(at(offset))?;
        }
        let store = loader.finish().map_err(at(self.offset))?;
        if store.index() != self.head.index {
            let what = "the store has another index than the head says".to_owned();
            return Err(ArchiveError::Damaged { offset: 0, what });
        }
        Ok((self.head, store))
    }
}

struct Frame {
    offset: u64,
    kind: u8,
    head: [u8; FRAME_BYTES],
    payload: Vec<u8>,
}

impl Frame {
    fn damaged(&self, what: String) -> ArchiveError {
        ArchiveError::Damaged { offset: self.offset, what }
    }

    fn add_to(&self, sum: &mut Sha256) {
        sum.update(self.head);
        sum.update(&self.payload);
    }
}

fn frame(input: &mut impl Read, offset: &mut u64) -> Result<Frame, ArchiveError> {
    let start = *offset;
    let mut head = [0; FRAME_BYTES];
    fill(input, &mut head, offset, "the head of a frame")?;
    let word =
        |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("a head has nine bytes"));
    let (kind, length, crc) = (head[0], word(1), word(5));
    if length > FRAME_BYTES_MAX {
        let what = format!("a frame of {length} bytes is longer than any that is written");
        return Err(ArchiveError::Damaged { offset: start, what });
    }
    // Memory is taken as the bytes come, not ahead of them.
    let mut payload = Vec::new();
    let read = input.by_ref().take(length.into()).read_to_end(&mut payload);
    *offset += payload.len() as u64;
    read.map_err(|source| ArchiveError::Io { offset: *offset, source })?;
    if payload.len() as u64 != u64::from(length) {
        return Err(ArchiveError::Cut { offset: *offset, within: "a frame" });
    }
    let frame = Frame { offset: start, kind, head, payload };
    if crc_of(kind, length, &frame.payload) != crc {
        return Err(frame.damaged("the checksum of the frame is that of other bytes".to_owned()));
    }
    Ok(frame)
}

fn fill(
    input: &mut impl Read,
    buffer: &mut [u8],
    offset: &mut u64,
    within: &'static str,
) -> Result<(), ArchiveError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(input, &mut buffer[filled..]) {
            Ok(0) => return Err(ArchiveError::Cut { offset: *offset, within }),
            Ok(count) => {
                filled += count;
                *offset += count as u64;
            }
            Err(source) => return Err(ArchiveError::Io { offset: *offset, source }),
        }
    }
    Ok(())
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archiver;
    use crate::model::{
        ClusterId, KeyPath, LogIndex, LogPosition, LogTime, MemberId, Term, WallTime,
    };
    use crate::mvcc;
    use crate::store::{Command, Write};

    fn store() -> Store {
        let mut store = Store::new(HistoryLimits::NONE);
        for number in 0..400_u32 {
            let write =
                Write { value: vec![7; 2000].into(), dir: false, ttl: None, refresh: false };
            let path = KeyPath::from(format!("/d{}/_{number}", number % 7).as_str());
            store.apply(LogTime(1), &Command::Set { path, write });
        }
        store
    }

    fn file(store: &Store) -> Vec<u8> {
        let position = LogPosition { term: Term(3), index: LogIndex(900) };
        let ids = (ClusterId(1), MemberId(2));
        let mut archiver = Archiver::new(store.clone(), position, ids, WallTime(5));
        std::iter::from_fn(|| archiver.next_block()).flatten().collect()
    }

    fn read(bytes: &[u8]) -> Result<(Head, Store), ArchiveError> {
        ArchiveReader::new(bytes)?.into_store()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for store in [store(), Store::new(HistoryLimits::NONE)] {
            let bytes = file(&store);
            let (head, read) = read(&bytes).unwrap();
            assert_eq!(read.digest(), store.digest());
            assert!(
                read.history()
                    .slots_from(read.history().oldest())
                    .eq(store.history().slots_from(store.history().oldest()))
            );
            assert_eq!((head.position.index, head.at), (LogIndex(900), WallTime(5)));
            assert_eq!(head.counts.nodes, store.nodes_count());
        }
    }

    #[test]
    fn a_key_space_of_version_3_comes_along_and_one_that_was_never_used_leaves_no_trace() {
        let mut store = store();
        assert_eq!(file(&store)[8], 1, "earlier builds read it");
        for number in 0..500_u32 {
            let key = format!("k{}", number % 90);
            let put = mvcc::Request::Put(mvcc::Put::new(key.as_bytes(), &[7; 2000][..]));
            store.apply(LogTime(1), &Command::Mvcc(mvcc::Command::internal(put)));
        }
        let compact = mvcc::Request::Compact(mvcc::Revision(300));
        store.apply(LogTime(1), &Command::Mvcc(mvcc::Command::internal(compact)));
        let bytes = file(&store);
        assert_eq!(bytes[8], 2);
        let (head, read) = read(&bytes).unwrap();
        read.check();
        assert_eq!(head.counts.revisions, store.mvcc().records_count());
        assert_eq!(read.digest(), store.digest());
        let hash = |store: &Store| store.mvcc().hash(mvcc::Revision(0));
        assert_eq!(hash(&read), hash(&store));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = file(&store());
        let mut changed = bytes.clone();
        // All of the first and last bytes, where heads are, and a sample of the records.
        let places =
            (0..300).chain((300..bytes.len()).step_by(4999)).chain(bytes.len() - 100..bytes.len());
        for place in places {
            for bit in [0, 3, 7] {
                changed[place] ^= 1 << bit;
                assert!(read(&changed).is_err(), "bit {bit} of byte {place}");
                changed[place] ^= 1 << bit;
            }
            assert!(read(&bytes[..place]).is_err(), "cut at {place}");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err(), "one more byte");
        read(&changed).unwrap();
    }

    #[test]
    fn other_files_and_later_versions_are_told_apart() {
        let bytes = file(&store());
        for other in [&b""[..], b"x", b"cairnwal\x01\0\0\0", b"PK\x03\x04 something else entirely"]
        {
            assert!(matches!(read(other), Err(ArchiveError::NoBackup)), "{other:?}");
        }
        assert!(matches!(read(&bytes[..5]), Err(ArchiveError::Cut { .. })));
        let mut later = bytes;
        later[8] = 3;
        let error = read(&later).unwrap_err();
        assert!(matches!(error, ArchiveError::OtherVersion(3)), "{error}");
    }
}
