//! The write-ahead log: one thread, one sync for a group of writes. The format is described on this floor's front page.
//!
//! | file | what is in it |
//! |---|---|
//! | `queue` | what waits for the log's thread |
//! | `thread` | the log's thread: batches, syncs, segments |
//! | `spares` | segments to come and segments that are let go of, in the background |
//! | `index` | where each entry is, and its checksum |
//! | `recover` | what is in the log after a restart |
//! | `inspect` | what is in a log that is not ours to change |
//! | `segment`, `frame` | the bytes of a file, of a batch and of a record |

mod error;
mod frame;
mod index;
mod inspect;
mod queue;
mod recover;
mod segment;
mod spares;
mod thread;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use crate::base::lock;
use crate::disk::IoMode;
use crate::disk::files::Files;

pub use error::WalError;
use error::io_error;
#[cfg(any(test, fuzzing))]
pub(super) use frame::read_batch;
use index::EntryIndex;
pub use inspect::{Inspected, damage, inspect};
use queue::{Queue, Request, WokenBy};

/// Is this the name of a segment that holds entries?
pub(super) fn is_segment(name: &str) -> bool {
    segment::number_of(name).is_some()
}

/// Is this the name of a file that the log makes?
pub(super) fn is_file_of_log(name: &str) -> bool {
    is_segment(name) || name == segment::NEW || segment::SPARES.contains(&name)
}

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

/// When a spare file is filled with zeros, if no segment that was let go of serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrepareSpare {
    /// While a segment is in use, on a thread of its own.
    #[default]
    Background,
    /// When a segment begins, on the log's thread: steps come in the same order each time, which tests want.
    AtOnce,
    /// Never: a segment grows as it is written, as when the one before was full sooner than a spare file was ready.
    Never,
}

/// How the log is kept.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// Usual size of a segment.
    pub segment_bytes: u64,
    /// Bytes that are written and synced at once, unless one entry alone is larger.
    pub batch_bytes_max: usize,
    /// Really sync. Without it a crash of the machine loses what was acknowledged.
    pub sync: bool,
    /// When the next segment is prepared.
    pub prepare: PrepareSpare,
    /// Who waits for the disk: a thread of the log's own, or the calling thread.
    pub io: IoMode,
    /// A mark of [`Wal::save_committed`] that waits for company waits no longer than this while nothing else comes. Only with
    /// a thread of the log's own.
    pub mark_after: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            batch_bytes_max: 4 << 20,
            sync: true,
            prepare: PrepareSpare::Background,
            io: IoMode::Threaded,
            mark_after: Duration::from_millis(200),
        }
    }
}

/// Is told how the disk does. Called on the log's own thread, so it must be quick.
pub trait WalObserver: Send + Sync {
    /// A batch is about to be written and synced.
    fn begun(&self) {}
    /// What was begun is done with; it is not called when the log has failed meanwhile.
    fn ended(&self) {}
    /// A batch of so many bytes was written; it may not be safe yet.
    fn written(&self, bytes: usize);
    /// What was written is safe; the sync took so long. So is a new segment, its header, its name and the directory: that took so
    /// long together.
    fn synced(&self, took: Duration);
    /// The log has failed for good. Called once, also by the reader that finds damage.
    fn failed(&self, error: &WalError);
}

/// Called once what it belongs to is safe, or never will be. Calls come in the order of the requests.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What was found in the log.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last vote.
    pub vote: Option<Vec<u8>>,
    /// The last mark of [`Wal::save_committed`] that happened to reach the disk.
    pub committed: Option<Vec<u8>>,
    /// What was purged.
    pub purged: Option<Mark>,
    /// The indexes of the entries behind the purged ones, without a gap. They are read with [`Wal::read`].
    pub entries: Range<u64>,
    /// Bytes of a batch that was being written when the power went; no caller was told that these bytes are safe.
    pub torn_bytes: u64,
}

/// What the log's thread is about at a moment. Two of them tell whether the thread stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPulse {
    /// Batches served since the start, failed ones included.
    pub batches: u64,
    /// There is work: a batch is being served, or requests wait.
    pub busy: bool,
    /// The thread is inside a call to the disk, for as long as the disk takes.
    pub on_disk: bool,
}

/// [`LogPulse`] as the log's thread keeps it up to date.
#[derive(Default)]
struct PulseCounters {
    batches: AtomicU64,
    serving: AtomicBool,
    on_disk: AtomicBool,
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
    index: Mutex<EntryIndex>,
    /// No further segment will be needed.
    closing: AtomicBool,
    pulse: PulseCounters,
    options: WalOptions,
    observer: Arc<dyn WalObserver>,
}

impl Shared {
    /// The log can no longer be trusted.
    fn fail(&self, error: &WalError) {
        let first = lock(&self.queue).failed.replace(error.kind()).is_none();
        if first {
            self.observer.failed(error);
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
        let found = recover::recover(&*files, dir, identity, options)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            index: Mutex::new(found.index),
            closing: AtomicBool::new(false),
            pulse: PulseCounters::default(),
            options,
            observer,
        });
        let spares = spares::Spares::start(Arc::clone(&shared), files, dir.to_owned())?;
        let writer = thread::Thread::new(Arc::clone(&shared), identity, found.tail, spares);
        let writer = match options.io {
            IoMode::Inline => Writer::Caller(Box::new(Mutex::new(writer))),
            IoMode::Threaded => {
                let thread = std::thread::Builder::new()
                    .name("wal".to_owned())
                    .spawn(move || writer.run())
                    .map_err(io_error("start the thread of", dir))?;
                Writer::Thread(Mutex::new(Some(thread)))
            }
        };
        Ok((Self { shared, writer: Arc::new(writer) }, found.recovered))
    }

    /// Appends entries; their indexes follow the last one without a gap.
    pub fn append(&self, entries: Vec<(u64, Bytes)>, done: Done) {
        let mut rest = entries;
        // No batch is much longer than it may be, whatever comes at once. After a crash between two of them the first ones are
        // there, as if the others had never been appended.
        while let Some(count) = self.count_of_first_batch(&rest) {
            let later = rest.split_off(count);
            self.request(Request::Append { entries: rest, done: Box::new(|_| {}) });
            rest = later;
        }
        self.request(Request::Append { entries: rest, done });
    }

    /// How many entries fit a batch, if not all do.
    fn count_of_first_batch(&self, entries: &[(u64, Bytes)]) -> Option<usize> {
        let mut bytes = 0;
        let first_too_many = entries.iter().position(|(_, payload)| {
            bytes += queue::weight(payload);
            bytes > self.shared.options.batch_bytes_max
        });
        first_too_many.map(|count| count.max(1)).filter(|count| *count < entries.len())
    }

    /// Notes a vote.
    pub fn save_vote(&self, vote: Vec<u8>, done: Done) {
        self.request(Request::Vote { vote, done });
    }

    /// Notes how far is committed, which is no further than what was appended. It goes out with whatever comes next, or alone when
    /// nothing comes for a while or the log is closed; so the last one may be lost in a crash.
    pub fn save_committed(&self, mark: Vec<u8>) {
        let mut queue = lock(&self.shared.queue);
        if queue.refusal().is_some() {
            return;
        }
        queue.mark = Some(mark);
        if queue.woken_by == WokenBy::Anything {
            queue.woken_by = WokenBy::Nothing;
            drop(queue);
            self.shared.work.notify_one();
        }
    }

    /// Drops the entries behind `index`.
    pub fn truncate_after(&self, index: u64, done: Done) {
        self.request(Request::TruncateAfter { index, done });
    }

    /// Drops the entries up to a mark and, once that is safe, lets go of segments.
    pub fn purge(&self, upto: Mark, done: Done) {
        self.request(Request::Purge { upto, done });
    }

    /// Safe entries from `from` up to but not including `to`: at least one if there is one, then as many as fit `bytes_max`.
    ///
    /// # Errors
    /// When the disk cannot be read, or an entry is not what was written. The log has failed then.
    pub fn read(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, WalError> {
        let places = lock(&self.shared.index).places(from, to, bytes_max);
        let read = index::read(&places).and_then(|read| match read.damaged {
            // It may have been purged meanwhile, and its segment may be in use for something else.
            Some(damaged) if lock(&self.shared.index).is_at(damaged.index, &damaged.place) => {
                Err(damaged.error())
            }
            Some(_) | None => Ok(read.entries),
        });
        read.inspect_err(|error| self.shared.fail(error))
    }

    /// How many entries are safe and not purged; where each of them is takes memory.
    pub fn entries(&self) -> u64 {
        let range = lock(&self.shared.index).range();
        range.end - range.start
    }

    /// Bytes of the safe entries from `from` on.
    pub fn bytes_from(&self, from: u64) -> u64 {
        lock(&self.shared.index).bytes_from(from)
    }

    /// The lowest index from which on the safe entries up to but not including `end` are at most `entries_max` and take at most
    /// `bytes_max`; `end` when not even the last of them fits.
    pub fn start_of_last(&self, end: u64, entries_max: u64, bytes_max: u64) -> u64 {
        let index = lock(&self.shared.index);
        index.start_of_last(end.min(index.range().end), entries_max, bytes_max)
    }

    /// What the log's thread is about. Waits for no disk.
    pub fn pulse(&self) -> LogPulse {
        let counters = &self.shared.pulse;
        let waiting = !lock(&self.shared.queue).requests.is_empty();
        LogPulse {
            batches: counters.batches.load(Ordering::Relaxed),
            busy: waiting || counters.serving.load(Ordering::Relaxed),
            on_disk: counters.on_disk.load(Ordering::Relaxed),
        }
    }

    /// Finishes what is queued and ends the thread.
    pub fn shutdown(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        lock(&self.shared.queue).stopping = true;
        self.shared.work.notify_one();
        match &*self.writer {
            Writer::Thread(thread) => {
                if let Some(thread) = lock(thread).take() {
                    // It panics only on a bug, and says so itself.
                    let _ = thread.join();
                }
            }
            Writer::Caller(writer) => lock(writer).close(),
        }
    }

    /// Never waits for the disk, unless the caller is who writes.
    fn request(&self, request: Request) {
        let mut queue = lock(&self.shared.queue);
        if let Some(refusal) = queue.refusal() {
            drop(queue);
            request.answer(Err(refusal));
            return;
        }
        queue.requests.push_back(request);
        let wakes = std::mem::take(&mut queue.woken_by) != WokenBy::Nothing;
        drop(queue);
        match &*self.writer {
            Writer::Thread(_) if wakes => self.shared.work.notify_one(),
            Writer::Thread(_) => {}
            Writer::Caller(writer) => lock(writer).write_what_waits(),
        }
    }
}
