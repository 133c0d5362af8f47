//! The log's thread: owns the segments in use and the order of what is written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::base::{lock, system_random, wait, wait_for};
use crate::disk::wal::error::{WalError, io_error};
use crate::disk::wal::frame::{BatchWriter, Carried, Record};
use crate::disk::wal::index::{Place, SegmentFile};
use crate::disk::wal::queue::{Request, WokenBy, Work};
use crate::disk::wal::segment::{self, HEADER_BYTES, Header};
use crate::disk::wal::spares::Spares;
use crate::disk::wal::{LogOwner, Shared};

/// Memory that a huge batch took is given back above this.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

/// Where the log ends.
pub(super) struct Tail {
    /// All segments in use, oldest first; the last is written to.
    pub(super) segments: Vec<Segment>,
    pub(super) salt: u64,
    /// Where the next batch goes.
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) next_batch: u64,
    /// Index of the last entry; zero for none.
    pub(super) last_entry: u64,
    pub(super) carried: Carried,
}

/// A segment in use.
pub(super) struct Segment {
    pub(super) file: Arc<SegmentFile>,
    /// Index of the last entry in it or before it.
    pub(super) last_entry: u64,
}

pub(super) struct Thread {
    shared: Arc<Shared>,
    identity: LogOwner,
    tail: Tail,
    batch: BatchWriter,
    spares: Spares,
}

/// What a batch changes in the index of entries once it is safe.
enum IndexChange {
    Push { index: u64, start: usize, length: usize, crc: u32 },
    TruncateAfter(u64),
    Purge(u64),
}

impl Thread {
    pub(super) fn new(shared: Arc<Shared>, identity: LogOwner, tail: Tail, spares: Spares) -> Self {
        Self { shared, identity, tail, batch: BatchWriter::default(), spares }
    }

    pub(super) fn run(mut self) {
        while let Some(work) = self.next_work() {
            if !self.serve(work) {
                break;
            }
        }
        self.close();
    }

    /// Writes what waits, on the calling thread.
    pub(super) fn write_what_waits(&mut self) {
        loop {
            let work = lock(&self.shared.queue).take(self.shared.options.batch_bytes_max);
            if work.is_empty() || !self.serve(work) {
                return;
            }
        }
    }

    /// Ends the log, with the last mark in it.
    pub(super) fn close(&mut self) {
        let mut queue = lock(&self.shared.queue);
        let mark = queue.mark.take().filter(|_| queue.failed.is_none());
        drop(queue);
        if mark.is_some() {
            self.serve(Work { requests: Vec::new(), mark });
        }
        self.refuse_the_rest();
        self.spares.stop();
    }

    /// Makes requests and mark safe and calls back; `false` when the log has failed.
    fn serve(&mut self, work: Work) -> bool {
        self.shared.pulse.serving.store(true, Ordering::Relaxed);
        let goes_on = self.serve_batch(work);
        self.shared.pulse.batches.fetch_add(1, Ordering::Relaxed);
        self.shared.pulse.serving.store(false, Ordering::Relaxed);
        goes_on
    }

    fn serve_batch(&mut self, Work { requests, mark }: Work) -> bool {
        let result = self.commit(&requests, mark.as_deref());
        if let Err(error) = &result {
            self.shared.fail(error);
        }
        let kind = result.as_ref().err().map(WalError::kind);
        for request in requests {
            request.answer(kind.map_or(Ok(()), |kind| {
                Err(io::Error::new(kind, "the write-ahead log could not be written"))
            }));
        }
        if kind.is_some() {
            self.refuse_the_rest();
        }
        kind.is_none()
    }

    /// Waits for work and takes a batch of it; a mark alone when that has waited long enough. `None` when the log is closed and
    /// nothing is left, or when it has failed.
    fn next_work(&self) -> Option<Work> {
        let options = &self.shared.options;
        let mut queue = lock(&self.shared.queue);
        // Nothing has come for the time that a mark waits.
        let mut is_quiet = false;
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if !queue.requests.is_empty() {
                return Some(queue.take(options.batch_bytes_max));
            }
            if queue.stopping {
                return None;
            }
            if is_quiet && queue.mark.is_none() {
                queue.woken_by = WokenBy::Anything;
                queue = wait(&self.shared.work, queue);
                continue;
            }
            queue.woken_by = WokenBy::Requests;
            let over;
            (queue, over) = wait_for(&self.shared.work, queue, options.mark_after);
            queue.woken_by = WokenBy::Nothing;
            if over && queue.requests.is_empty() && !queue.stopping {
                let mark = queue.mark.take();
                if mark.is_some() {
                    return Some(Work { requests: Vec::new(), mark });
                }
                is_quiet = true;
            }
        }
    }

    /// Makes everything in `requests`, and the mark, safe with one write and one sync.
    fn commit(&mut self, requests: &[Request], mark: Option<&[u8]>) -> Result<(), WalError> {
        let mut changes = Vec::with_capacity(requests.len());
        let mut last_entry = self.tail.last_entry;
        let mut carried = self.tail.carried.clone();
        self.batch.clear();
        for request in requests {
            match request {
                Request::Append { entries, .. } => {
                    for (index, payload) in entries {
                        assert!(
                            last_entry == 0 || *index == last_entry + 1,
                            "entries follow one another"
                        );
                        let start = self.batch.push(&Record::Entry { index: *index, payload });
                        let (length, crc) = (payload.len(), crc32c::crc32c(payload));
                        changes.push(IndexChange::Push { index: *index, start, length, crc });
                        last_entry = *index;
                    }
                }
                Request::Vote { vote, .. } => self.note(&mut carried, &Record::Vote(vote)),
                Request::TruncateAfter { index, .. } => {
                    self.batch.push(&Record::TruncateAfter(*index));
                    changes.push(IndexChange::TruncateAfter(*index));
                    last_entry = last_entry.min(*index);
                }
                Request::Purge { upto, .. } => {
                    let record = Record::Purged { index: upto.index, data: &upto.data };
                    self.note(&mut carried, &record);
                    changes.push(IndexChange::Purge(upto.index));
                    last_entry = last_entry.max(upto.index);
                }
            }
        }
        if let Some(mark) = mark {
            self.note(&mut carried, &Record::Committed(mark));
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.shared.pulse.on_disk.store(true, Ordering::Relaxed);
        let written = self.write();
        self.shared.pulse.on_disk.store(false, Ordering::Relaxed);
        let start = written?;
        self.tail.last_entry = last_entry;
        self.tail.carried = carried;
        self.apply(start, &changes);
        if changes.iter().any(|change| matches!(change, IndexChange::Purge(_))) {
            self.let_go();
        }
        Ok(())
    }

    fn note(&mut self, carried: &mut Carried, record: &Record<'_>) {
        self.batch.push(record);
        carried.note(record);
    }

    /// Writes the batch behind the last one; returns where it starts.
    fn write(&mut self) -> Result<u64, WalError> {
        self.shared.observer.begun();
        let start = self.write_and_sync()?;
        self.shared.observer.ended();
        Ok(start)
    }

    fn write_and_sync(&mut self) -> Result<u64, WalError> {
        if self.tail.offset + self.batch.length() as u64 > self.tail.length {
            self.roll()?;
        }
        let start = self.tail.offset;
        let current = self.current();
        let bytes = self.batch.seal(self.tail.salt, self.tail.next_batch);
        // Made when there is one: it takes a path of its own.
        let fail = |action, error| io_error(action, &current.path)(error);
        current.file.write_at(start, bytes).map_err(|error| fail("write to", error))?;
        self.shared.observer.written(bytes.len());
        if self.shared.options.sync {
            let begun = Instant::now();
            current.file.sync().map_err(|error| fail("sync", error))?;
            self.shared.observer.synced(begun.elapsed());
        }
        self.tail.offset += bytes.len() as u64;
        self.tail.next_batch += 1;
        self.batch.shrink(BUFFER_BYTES_KEPT);
        Ok(start)
    }

    fn current(&self) -> Arc<SegmentFile> {
        let last = self.tail.segments.last().expect("there is always a segment to write to");
        Arc::clone(&last.file)
    }

    /// Goes on in a new segment. Waits for its header to be safe, never for one to be filled with zeros.
    fn roll(&mut self) -> Result<(), WalError> {
        let current = self.current();
        let number = current.number + 1;
        if let Some(last) = self.tail.segments.last_mut() {
            last.last_entry = self.tail.last_entry;
        }
        let header = Header {
            salt: salt(),
            segment: number,
            first_batch: self.tail.next_batch,
            identity: self.identity,
            last_entry: self.tail.last_entry,
            carried: self.tail.carried.clone(),
        };
        let bytes = segment::bytes_for(self.batch.length(), self.shared.options.segment_bytes);
        let fail = io_error("begin the segment behind", &current.path);
        let begun = Instant::now();
        let (path, file) = self.spares.begin(&header, bytes).map_err(&fail)?;
        // Its syncs are waited for like a batch's, and a disk that is slow with them is as slow for clients.
        self.shared.observer.synced(begun.elapsed());
        self.tail.length = file.length().map_err(&fail)?;
        let file = Arc::new(SegmentFile { number, path, file });
        self.tail.segments.push(Segment { file, last_entry: self.tail.last_entry });
        self.tail.salt = header.salt;
        self.tail.offset = HEADER_BYTES;
        Ok(())
    }

    fn apply(&self, start: u64, changes: &[IndexChange]) {
        let segment = self.current();
        let mut index = lock(&self.shared.index);
        for change in changes {
            match change {
                IndexChange::Push { index: at, start: inside, length, crc } => {
                    let length = u32::try_from(*length).expect("the batch took it");
                    let (segment, offset) = (Arc::clone(&segment), start + *inside as u64);
                    index.push(*at, Place { segment, offset, length, crc: *crc });
                }
                IndexChange::TruncateAfter(at) => index.truncate_after(*at),
                IndexChange::Purge(upto) => index.purge(*upto),
            }
        }
    }

    /// Lets go of the oldest segments that hold nothing above the purged mark; the purge itself is safe by now, and no caller
    /// finds their entries in the index any more.
    fn let_go(&mut self) {
        let upto = self.tail.carried.purged.as_ref().map_or(0, |mark| mark.index);
        let in_use = self.tail.segments.len() - 1;
        let segments = self.tail.segments[..in_use].iter();
        let done = segments.take_while(|segment| segment.last_entry <= upto).count();
        if done > 0 {
            let gone = self.tail.segments.drain(..done);
            self.spares.let_go(gone.map(|segment| segment.file.path.clone()));
        }
    }

    fn refuse_the_rest(&self) {
        let mut queue = lock(&self.shared.queue);
        let rest = std::mem::take(&mut queue.requests);
        let kind = queue.failed.unwrap_or(io::ErrorKind::Other);
        drop(queue);
        for request in rest {
            request.answer(Err(io::Error::new(kind, "the write-ahead log has failed")));
        }
    }
}

/// A number that tells this use of a file from all earlier ones. Odd, so that it never looks like the zeros of a new file.
pub(super) fn salt() -> u64 {
    system_random() | 1
}
