//! The log's thread: owns files and order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tracing::warn;

use crate::disk::files::Files;
use crate::disk::wal::frame::{BatchWriter, Carried, Record};
use crate::disk::wal::segment::{self, HEADER_BYTES, Header};
use crate::disk::wal::{
    Done, LogOwner, Place, Request, SegmentFile, Shared, WalError, WalObserver, lock,
};

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
    files: Arc<dyn Files>,
    dir: PathBuf,
    identity: LogOwner,
    tail: Tail,
    observer: Arc<dyn WalObserver>,
    batch: BatchWriter,
    /// A mark that waits for the next batch.
    committed: Option<Vec<u8>>,
    spare: Option<JoinHandle<()>>,
}

/// What a batch changes in the index of entries once it is safe.
enum IndexChange {
    Push { index: u64, start: usize, length: usize },
    TruncateAfter(u64),
    Purge(u64),
}

impl Thread {
    pub(super) fn new(
        shared: Arc<Shared>,
        files: Arc<dyn Files>,
        dir: PathBuf,
        identity: LogOwner,
        tail: Tail,
        observer: Arc<dyn WalObserver>,
    ) -> Self {
        let batch = BatchWriter::default();
        Self { shared, files, dir, identity, tail, observer, batch, committed: None, spare: None }
    }

    pub(super) fn run(mut self) {
        // The first spare is made while nobody waits.
        self.prepare_ahead();
        while let Some(requests) = self.next_requests() {
            if !self.serve(requests) {
                break;
            }
        }
        self.await_spare();
    }

    /// Writes what waits, on the thread of whoever calls.
    pub(super) fn write_what_waits(&mut self) {
        loop {
            let requests = lock(&self.shared.queue).take();
            if requests.is_empty() || !self.serve(requests) {
                return;
            }
        }
    }

    /// Makes requests safe and calls back; `false` when the log has failed.
    fn serve(&mut self, requests: Vec<Request>) -> bool {
        let result = self.commit(&requests);
        if let Err(error) = &result {
            self.fail(error);
        }
        let kind = result.as_ref().err().map(kind_of);
        for request in requests {
            let result = kind.map_or(Ok(()), |kind| {
                Err(io::Error::new(kind, "the write-ahead log could not be written"))
            });
            answer(request, result);
        }
        if kind.is_some() {
            self.refuse_the_rest();
        }
        kind.is_none()
    }

    /// Makes the next spare on a thread of its own: preparing 64 MiB takes longer than anybody wants to wait.
    fn prepare_ahead(&mut self) {
        if !self.shared.options.prepare_ahead {
            return;
        }
        let (files, dir) = (Arc::clone(&self.files), self.dir.clone());
        let shared = Arc::clone(&self.shared);
        let make = move || {
            let bytes = shared.options.segment_bytes;
            if let Err(error) = segment::prepare_spare(&*files, &dir, bytes, &shared.closing) {
                // Not fatal: the segment in use goes on, and making the next one fails loudly if it comes to that.
                warn!(target: "wal", "cannot prepare the next segment of the log: {error}");
            }
        };
        self.spare = std::thread::Builder::new().name("wal-spare".to_owned()).spawn(make).ok();
    }

    /// Nobody else may write to the spare once it is used.
    fn await_spare(&mut self) {
        if let Some(spare) = self.spare.take() {
            // It panics only on a bug, and says so itself.
            let _ = spare.join();
        }
    }

    /// Waits for work and takes all of it; `None` when the log is closed and nothing is left.
    fn next_requests(&self) -> Option<Vec<Request>> {
        let mut queue = lock(&self.shared.queue);
        while queue.requests.is_empty() {
            if queue.stopping {
                return None;
            }
            queue = self.shared.work.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let requests = queue.take();
        drop(queue);
        self.shared.room.notify_all();
        Some(requests)
    }

    /// Makes everything in `requests` safe with one write and one sync.
    fn commit(&mut self, requests: &[Request]) -> Result<(), WalError> {
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
                        changes.push(IndexChange::Push {
                            index: *index,
                            start,
                            length: payload.len(),
                        });
                        last_entry = *index;
                    }
                }
                Request::Vote { vote, .. } => self.note(&mut carried, &Record::Vote(vote)),
                // It waits for a batch that is synced anyway. One that is not would break the rule that each batch is safe
                // before the next is written.
                Request::Committed(mark) => self.committed = Some(mark.clone()),
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
        if self.batch.is_empty() {
            return Ok(());
        }
        if let Some(mark) = self.committed.take() {
            self.note(&mut carried, &Record::Committed(&mark));
        }
        let start = self.write()?;
        self.tail.last_entry = last_entry;
        self.tail.carried = carried;
        self.apply(start, &changes);
        if changes.iter().any(|change| matches!(change, IndexChange::Purge(_))) {
            self.recycle()?;
        }
        Ok(())
    }

    fn note(&mut self, carried: &mut Carried, record: &Record<'_>) {
        self.batch.push(record);
        carried.note(record);
    }

    /// Writes the batch behind the last one; returns where it starts.
    fn write(&mut self) -> Result<u64, WalError> {
        if self.tail.offset + self.batch.length() as u64 > self.tail.length {
            self.roll()?;
        }
        let start = self.tail.offset;
        let current = self.current();
        let bytes = self.batch.seal(self.tail.salt, self.tail.next_batch);
        let fail = |action| {
            let path = current.path.clone();
            move |source| WalError::Io { action, path, source }
        };
        current.file.write_at(start, bytes).map_err(fail("write to"))?;
        if self.shared.options.sync {
            let begun = Instant::now();
            current.file.sync().map_err(fail("sync"))?;
            self.observer.synced(begun.elapsed(), bytes.len());
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

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<(), WalError> {
        self.await_spare();
        let number = self.current().number + 1;
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
        let fail = io_error("begin a segment in", &self.dir);
        let (path, file) =
            segment::begin(&*self.files, &self.dir, &header, bytes).map_err(&fail)?;
        self.tail.length = file.length().map_err(&fail)?;
        let file = Arc::new(SegmentFile { number, path, file });
        self.tail.segments.push(Segment { file, last_entry: self.tail.last_entry });
        self.tail.salt = header.salt;
        self.tail.offset = HEADER_BYTES;
        self.prepare_ahead();
        Ok(())
    }

    fn apply(&self, start: u64, changes: &[IndexChange]) {
        let segment = self.current();
        let mut index = lock(&self.shared.index);
        for change in changes {
            match change {
                IndexChange::Push { index: at, start: inside, length } => {
                    let length = u32::try_from(*length).expect("the batch took it");
                    let offset = start + *inside as u64;
                    index.push(*at, Place { segment: Arc::clone(&segment), offset, length });
                }
                IndexChange::TruncateAfter(at) => index.truncate_after(*at),
                IndexChange::Purge(upto) => index.purge(*upto),
            }
        }
    }

    /// Lets go of the oldest segments that hold nothing above the purged mark; the purge itself is safe by now.
    fn recycle(&mut self) -> Result<(), WalError> {
        let upto = self.tail.carried.purged.as_ref().map_or(0, |mark| mark.index);
        let in_use = self.tail.segments.len() - 1;
        let done = self.tail.segments[..in_use]
            .iter()
            .take_while(|segment| segment.last_entry <= upto)
            .count();
        if done == 0 {
            return Ok(());
        }
        self.await_spare();
        let fail = io_error("recycle segments in", &self.dir);
        let spare = self.dir.join(segment::SPARE);
        for segment in self.tail.segments.drain(..done) {
            let path = &segment.file.path;
            if self.files.exists(&spare) {
                self.files.remove(path).map_err(&fail)?;
            } else {
                self.files.rename(path, &spare).map_err(&fail)?;
            }
        }
        self.files.sync_dir(&self.dir).map_err(&fail)
    }

    fn fail(&self, error: &WalError) {
        lock(&self.shared.queue).failed = Some(kind_of(error));
        self.observer.failed(error);
    }

    fn refuse_the_rest(&self) {
        let mut queue = lock(&self.shared.queue);
        let kind = queue.failed.unwrap_or(io::ErrorKind::Other);
        let rest = std::mem::take(&mut queue.requests);
        drop(queue);
        self.shared.room.notify_all();
        for request in rest {
            answer(request, Err(io::Error::new(kind, "the write-ahead log has failed")));
        }
    }
}

fn kind_of(error: &WalError) -> io::ErrorKind {
    match error {
        WalError::Io { source, .. } => source.kind(),
        WalError::Corrupt { .. } | WalError::Foreign { .. } | WalError::Newer { .. } => {
            io::ErrorKind::InvalidData
        }
    }
}

pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> WalError + use<> {
    let path = path.to_owned();
    move |source| WalError::Io { action, path: path.clone(), source }
}

/// A number that tells this use of a file from all earlier ones.
pub(super) fn salt() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is seeded by the system at random, and differently each time.
    std::collections::hash_map::RandomState::new().build_hasher().finish() | 1
}

/// Calls back whoever made the request.
pub(super) fn answer(request: Request, result: io::Result<()>) {
    let done: Done = match request {
        Request::Append { done, .. }
        | Request::Vote { done, .. }
        | Request::TruncateAfter { done, .. }
        | Request::Purge { done, .. } => done,
        Request::Committed(_) => return,
    };
    done(result);
}
