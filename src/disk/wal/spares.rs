//! Segments to come and segments that are let go of, off the log's thread: both take longer than a write may wait.
//!
//! Owns: the spare files while no segment is being made of them, and the files of segments that are no longer needed. Never
//! knows: entries, batches. A file that is let go of becomes a spare one while one of the two is missing, else it is removed; a
//! new file is filled with zeros only when both are missing.
//!
//! Holds: segments go away oldest first, each safely before the next, so that what a crash leaves is one run of numbers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tracing::warn;

use crate::base::{lock, wait};
use crate::disk::IoMode;
use crate::disk::files::{File, Files};
use crate::disk::wal::error::{WalError, io_error};
use crate::disk::wal::segment::{self, Header, SPARES};
use crate::disk::wal::{PrepareSpare, Shared as Log};
use crate::model::codes;

/// Who may touch a spare file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    /// The background: there is none, or it is being made.
    Missing,
    /// Neither thread: it is ready, and stays as it is.
    Ready,
    /// The log's thread: it is becoming a segment.
    Taken,
}

struct State {
    /// Of each name in [`SPARES`].
    spares: [Spare; SPARES.len()],
    /// A spare one should be made if none is ready.
    wanted: bool,
    /// Segments to let go of, oldest first. As many as there are files at most.
    let_go: Vec<PathBuf>,
    /// Something failed; it is tried again when the log wants something else.
    paused: bool,
    stopping: bool,
}

impl State {
    /// What is to be done next; `None` for nothing.
    fn next(&mut self) -> Option<Job> {
        if self.paused {
            return None;
        }
        if !self.let_go.is_empty() {
            return Some(Job::LetGo(std::mem::take(&mut self.let_go)));
        }
        let make =
            std::mem::take(&mut self.wanted) && self.spares == [Spare::Missing; SPARES.len()];
        make.then_some(Job::Prepare)
    }

    fn first(&self, wanted: Spare) -> Option<usize> {
        self.spares.iter().position(|spare| *spare == wanted)
    }
}

enum Job {
    LetGo(Vec<PathBuf>),
    Prepare,
}

struct Shared {
    log: Arc<Log>,
    files: Arc<dyn Files>,
    dir: PathBuf,
    state: Mutex<State>,
    work: Condvar,
}

/// The log's handle.
pub(super) struct Spares {
    shared: Arc<Shared>,
    /// None where everything is done on the log's own thread.
    thread: Option<JoinHandle<()>>,
}

impl Spares {
    /// Begins with what is in `dir`.
    pub(super) fn start(
        log: Arc<Log>,
        files: Arc<dyn Files>,
        dir: PathBuf,
    ) -> Result<Self, WalError> {
        let prepare = log.options.prepare;
        let in_background =
            prepare == PrepareSpare::Background && log.options.io == IoMode::Threaded;
        let new = dir.join(segment::NEW);
        if files.exists(&new) {
            // A crash came between its beginning and its name.
            files.remove(&new).map_err(io_error("remove", &new))?;
        }
        let spares = SPARES.map(|name| {
            let ready = is_ready(&*files, &dir.join(name), log.options.segment_bytes);
            if ready { Spare::Ready } else { Spare::Missing }
        });
        let state = State {
            spares,
            // The first one is made before any write can wait for it.
            wanted: in_background,
            let_go: Vec::new(),
            paused: false,
            stopping: false,
        };
        let fail = io_error("start the thread of", &dir);
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { log, files, dir, state, work: Condvar::new() });
        let thread = in_background.then(|| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("wal-spare".to_owned()).spawn(move || shared.run())
        });
        Ok(Self { shared, thread: thread.transpose().map_err(fail)? })
    }

    /// Makes the segment of `header`, at least `bytes` long: of a spare file if one is ready, else of a new file. The next one is
    /// wanted then.
    pub(super) fn begin(
        &self,
        header: &Header,
        bytes: u64,
    ) -> io::Result<(PathBuf, Box<dyn File>)> {
        let (files, dir) = (&*self.shared.files, &self.shared.dir);
        let begun = match self.take(bytes) {
            Some(taken) => {
                let begun = segment::begin_with_spare(files, dir, SPARES[taken], header);
                lock(&self.shared.state).spares[taken] = Spare::Missing;
                begun?
            }
            None => segment::begin_without_spare(files, dir, header, bytes)?,
        };
        if self.shared.log.options.prepare != PrepareSpare::Never {
            self.ask(|state| state.wanted = true);
        }
        Ok(begun)
    }

    /// A spare file that is ready and long enough, by its place in [`SPARES`].
    fn take(&self, bytes: u64) -> Option<usize> {
        if bytes > self.shared.log.options.segment_bytes {
            return None;
        }
        let mut state = lock(&self.shared.state);
        let taken = state.first(Spare::Ready)?;
        state.spares[taken] = Spare::Taken;
        Some(taken)
    }

    /// Lets go of segments, oldest first. The purge that allows it must be safe.
    pub(super) fn let_go(&self, segments: impl IntoIterator<Item = PathBuf>) {
        self.ask(|state| state.let_go.extend(segments));
    }

    fn ask(&self, wish: impl FnOnce(&mut State)) {
        let mut state = lock(&self.shared.state);
        wish(&mut state);
        state.paused = false;
        drop(state);
        match self.thread {
            Some(_) => self.shared.work.notify_one(),
            None => self.shared.work_off(),
        }
    }

    /// Ends the thread; what it has not done is done after the next start.
    pub(super) fn stop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panics only on a bug, and says so itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        while let Some(job) = self.next_job() {
            self.work(job);
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if state.stopping {
                return None;
            }
            if let Some(job) = state.next() {
                return Some(job);
            }
            state = wait(&self.work, state);
        }
    }

    /// Does what is to be done, on the calling thread.
    fn work_off(&self) {
        loop {
            let job = lock(&self.state).next();
            let Some(job) = job else { return };
            self.work(job);
        }
    }

    /// Nothing here is fatal: the segment in use goes on, and making the next one fails loudly if it comes to that.
    fn work(&self, job: Job) {
        match job {
            Job::Prepare => {
                let (bytes, stopped) = (self.log.options.segment_bytes, &self.log.closing);
                let [name, _] = SPARES;
                match segment::prepare_spare(&*self.files, &self.dir, name, bytes, Some(stopped)) {
                    Ok(()) => self.note_spares(),
                    Err(error) => {
                        warn!(target: "wal", code = codes::SEGMENT_UNPREPARED, "cannot prepare the next segment of the log, so it will begin unprepared: {error}");
                    }
                }
            }
            Job::LetGo(mut segments) => {
                while let Some(path) = segments.first() {
                    if let Err(error) = self.let_go_of(path) {
                        warn!(
                            target: "wal",
                            code = codes::SEGMENT_STAYS,
                            "cannot remove {}, which the log no longer needs: {error}; it is tried again",
                            path.display()
                        );
                        self.try_again(segments);
                        return;
                    }
                    segments.remove(0);
                }
            }
        }
    }

    /// The oldest goes first, also before those that came meanwhile.
    fn try_again(&self, segments: Vec<PathBuf>) {
        let mut state = lock(&self.state);
        let later = std::mem::replace(&mut state.let_go, segments);
        state.let_go.extend(later);
        state.paused = true;
    }

    fn let_go_of(&self, path: &Path) -> io::Result<()> {
        // Only this thread makes a spare file ready, so a missing one is still missing below.
        let missing = lock(&self.state).first(Spare::Missing);
        // Not at a second attempt, when only the sync has failed.
        if self.files.exists(path) {
            match missing {
                Some(spare) => self.files.rename(path, &self.dir.join(SPARES[spare]))?,
                None => self.files.remove(path)?,
            }
        }
        self.files.sync_dir(&self.dir)?;
        self.note_spares();
        Ok(())
    }

    /// Which spare files are ready now that the directory is synced; one that was given up half-way is not.
    fn note_spares(&self) {
        for (spare, name) in SPARES.iter().enumerate() {
            let path = self.dir.join(name);
            // The log's thread leaves a missing one alone, so what is found out stays true.
            let missing = lock(&self.state).spares[spare] == Spare::Missing;
            if missing && is_ready(&*self.files, &path, self.log.options.segment_bytes) {
                lock(&self.state).spares[spare] = Spare::Ready;
            }
        }
    }
}

fn is_ready(files: &dyn Files, spare: &Path, bytes: u64) -> bool {
    let length = files.open(spare, false).and_then(|file| file.length());
    length.is_ok_and(|length| length >= bytes)
}
