//! The write-ahead log: one thread, one sync for a group of writes. The format is described on this floor's front page.

mod frame;
mod recover;
mod segment;
mod thread;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::disk::IoMode;
use crate::disk::files::{File, Files};

/// Whose log it is. A log of another member or cluster is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOwner {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub member: u64,
}

/// What the log was purged up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last purged index.
    pub index: u64,
    /// Whatever the caller wants to find beside it.
    pub data: Vec<u8>,
}

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// Usual size of a segment.
    pub segment_bytes: u64,
    /// Bytes that may wait for the disk; beyond that callers wait too.
    pub queue_bytes_max: usize,
    /// Really sync. Without it a crash of the machine loses what was acknowledged.
    pub sync: bool,
    /// Prepare the next segment in the background. Without it steps come in the same order each time, which tests want.
    pub prepare_ahead: bool,
    /// Who waits for the disk: a thread of the log's own, or whoever calls.
    pub io: IoMode,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            queue_bytes_max: 4 << 20,
            sync: true,
            prepare_ahead: true,
            io: IoMode::Threaded,
        }
    }
}

/// Is told how the disk does. Called on the log's own thread, so it must be quick.
pub trait WalObserver: Send + Sync {
    /// A batch of so many bytes is safe; the sync took so long.
    fn synced(&self, took: Duration, bytes: usize);
    /// The log has failed for good.
    fn failed(&self, error: &WalError);
}

/// Called once what it belongs to is safe, or never will be. Calls come in the order of the requests.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Why a log cannot be opened or used any further.
#[derive(Debug, Error)]
pub enum WalError {
    /// The system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was once safe is damaged.
    #[error(
        "the write-ahead log is damaged: {path} at offset {offset}: {what}. This member must not start with it. If the \
         other members are well, remove this one from the cluster, empty its data directory and add it again; otherwise \
         restore a backup"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log of somebody else.
    #[error(
        "{path} belongs to member {:x} of cluster {:x}, but this is member {:x} of cluster {:x}: use another --data-dir, \
         or the --name, --initial-cluster and --initial-cluster-token that this one was made with",
        found.member, found.cluster, expected.member, expected.cluster
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: LogOwner,
        /// Whose it should be.
        expected: LogOwner,
    },
    /// Written by a newer version.
    #[error(
        "{path} has format {version}, which a newer version of cairn wrote: start that version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// What was found in the log.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last vote.
    pub vote: Option<Vec<u8>>,
    /// The last mark of [`Wal::save_committed`] that happened to reach the disk.
    pub committed: Option<Vec<u8>>,
    /// What was purged.
    pub purged: Option<Mark>,
    /// Entries behind the purged ones, in order, without a gap.
    pub entries: Vec<(u64, Bytes)>,
    /// Bytes of a batch that was being written when the power went; nobody was told it was safe.
    pub torn_bytes: u64,
}

/// The log. Clones are handles of the same one.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

/// Who writes.
enum Writer {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Caller(Box<Mutex<thread::Thread>>),
}

/// What callers and the log's thread share.
struct Shared {
    queue: Mutex<Queue>,
    /// Work has come.
    work: Condvar,
    /// There is room again.
    room: Condvar,
    index: Mutex<EntryIndex>,
    /// Nobody will need another segment.
    closing: AtomicBool,
    options: WalOptions,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    bytes: usize,
    stopping: bool,
    failed: Option<io::ErrorKind>,
}

impl Queue {
    fn take(&mut self) -> Vec<Request> {
        self.bytes = 0;
        std::mem::take(&mut self.requests).into()
    }
}

enum Request {
    Append { entries: Vec<(u64, Bytes)>, done: Done },
    Vote { vote: Vec<u8>, done: Done },
    Committed(Vec<u8>),
    TruncateAfter { index: u64, done: Done },
    Purge { upto: Mark, done: Done },
}

impl Request {
    /// What it takes in a queue.
    fn weight(&self) -> usize {
        match self {
            Self::Append { entries, .. } => {
                entries.iter().map(|(_, payload)| payload.len() + 64).sum()
            }
            Self::Vote { vote: payload, .. } | Self::Committed(payload) => payload.len() + 64,
            Self::TruncateAfter { .. } | Self::Purge { .. } => 64,
        }
    }
}

/// Where the safe entries are.
#[derive(Default)]
struct EntryIndex {
    /// Index of the first place.
    first: u64,
    places: VecDeque<Place>,
}

/// Bytes between two entries that are read along rather than left out with a read of their own: heads of batches and votes.
const READ_GAP_MAX: u64 = 4096;

#[derive(Clone)]
struct Place {
    segment: Arc<SegmentFile>,
    offset: u64,
    length: u32,
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
}

/// An open segment.
#[derive(Debug)]
struct SegmentFile {
    number: u64,
    path: PathBuf,
    file: Box<dyn File>,
}

impl EntryIndex {
    fn push(&mut self, index: u64, place: Place) {
        if self.places.is_empty() {
            self.first = index;
        }
        self.places.push_back(place);
    }

    fn truncate_after(&mut self, index: u64) {
        let keep = (index + 1).saturating_sub(self.first);
        self.places.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    fn purge(&mut self, upto: u64) {
        while self.first <= upto && self.places.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Wal {
    /// Opens the log in `dir`, or makes one.
    ///
    /// # Errors
    /// See [`WalError`].
    pub fn open(
        files: Arc<dyn Files>,
        dir: &Path,
        identity: LogOwner,
        options: WalOptions,
        observer: Arc<dyn WalObserver>,
    ) -> Result<(Self, Recovered), WalError> {
        let found = recover::recover(Arc::clone(&files), dir, identity, options)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            index: Mutex::new(found.index),
            closing: AtomicBool::new(false),
            options,
        });
        let writer = thread::Thread::new(
            Arc::clone(&shared),
            files,
            dir.to_owned(),
            identity,
            found.tail,
            observer,
        );
        let writer = match options.io {
            IoMode::Inline => Writer::Caller(Box::new(Mutex::new(writer))),
            IoMode::Threaded => {
                let thread = std::thread::Builder::new()
                    .name("wal".to_owned())
                    .spawn(move || writer.run())
                    .map_err(|source| WalError::Io {
                        action: "start the thread of",
                        path: dir.to_owned(),
                        source,
                    })?;
                Writer::Thread(Mutex::new(Some(thread)))
            }
        };
        Ok((Self { shared, writer: Arc::new(writer) }, found.recovered))
    }

    /// Appends entries; their indexes follow the last one without a gap. Waits only while the queue is full.
    pub fn append(&self, entries: Vec<(u64, Bytes)>, done: Done) {
        self.request(Request::Append { entries, done });
    }

    /// Notes a vote.
    pub fn save_vote(&self, vote: Vec<u8>, done: Done) {
        self.request(Request::Vote { vote, done });
    }

    /// Notes how far is committed. It goes out with whatever comes next and has no sync of its own, so the last one may be
    /// lost in a crash.
    pub fn save_committed(&self, mark: Vec<u8>) {
        self.request(Request::Committed(mark));
    }

    /// Drops the entries behind `index`.
    pub fn truncate_after(&self, index: u64, done: Done) {
        self.request(Request::TruncateAfter { index, done });
    }

    /// Drops the entries up to a mark and, once that is safe, recycles segments.
    pub fn purge(&self, upto: Mark, done: Done) {
        self.request(Request::Purge { upto, done });
    }

    /// Safe entries from `from` up to but not including `to`: at least one if there is one, then as many as fit `bytes_max`.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let places = self.places(from, to, bytes_max);
        let mut entries = Vec::with_capacity(places.len());
        for run in places.chunk_by(|(_, one), (_, next)| one.is_just_before(next)) {
            let ((_, first), (_, last)) = (&run[0], &run[run.len() - 1]);
            // No more than `bytes_max` and the gaps, or one entry.
            let length = usize::try_from(last.end() - first.offset).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            first.segment.file.read_at(first.offset, &mut bytes)?;
            let bytes = Bytes::from(bytes);
            for (index, place) in run {
                let start =
                    usize::try_from(place.offset - first.offset).map_err(io::Error::other)?;
                entries.push((*index, bytes.slice(start..start + place.length as usize)));
            }
        }
        Ok(entries)
    }

    fn places(&self, from: u64, to: u64, bytes_max: usize) -> Vec<(u64, Place)> {
        let index = lock(&self.shared.index);
        let mut bytes = 0;
        let mut places = Vec::new();
        for at in from.max(index.first)..to {
            let place = usize::try_from(at - index.first).ok();
            let Some(place) = place.and_then(|place| index.places.get(place)) else { break };
            bytes += place.length as usize;
            if bytes > bytes_max && !places.is_empty() {
                break;
            }
            places.push((at, place.clone()));
        }
        places
    }

    /// Finishes what is queued and ends the thread.
    pub fn shutdown(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        lock(&self.shared.queue).stopping = true;
        self.shared.work.notify_one();
        if let Writer::Thread(thread) = &*self.writer
            && let Some(thread) = lock(thread).take()
        {
            // It panics only on a bug, and says so itself.
            let _ = thread.join();
        }
    }

    fn request(&self, request: Request) {
        let mut queue = lock(&self.shared.queue);
        while queue.bytes > self.shared.options.queue_bytes_max
            && queue.failed.is_none()
            && !queue.stopping
        {
            queue = self.shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let refusal = match (queue.failed, queue.stopping) {
            (Some(kind), _) => Some(io::Error::new(kind, "the write-ahead log has failed")),
            (None, true) => Some(io::Error::other("the write-ahead log is closed")),
            (None, false) => None,
        };
        if let Some(refusal) = refusal {
            drop(queue);
            thread::answer(request, Err(refusal));
            return;
        }
        queue.bytes += request.weight();
        queue.requests.push_back(request);
        drop(queue);
        match &*self.writer {
            Writer::Thread(_) => self.shared.work.notify_one(),
            Writer::Caller(writer) => lock(writer).write_what_waits(),
        }
    }
}

/// Nothing that holds these locks panics half-way, so a poisoned one still guards sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
