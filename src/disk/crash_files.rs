//! A file system in memory that fails, loses power and stands still at will. For tests and simulations.
//!
//! Writes, syncs, creations, renames and removals are numbered steps. At a chosen step the power goes, or an error is
//! returned. What would have survived is then a choice: whatever was synced certainly, whatever was not only by luck, in
//! sectors of 512 bytes. File lengths travel with the writes; creations, renames and removals become durable with a sync of
//! their directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::{SplitMix, lock, wait};
use crate::disk::files::{File, Files};

/// What disks write at once or not at all.
const SECTOR: usize = 512;

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this step and all later ones do nothing and fail.
    PowerLoss,
    /// This step and all later writes or syncs fail with the given error, until [`CrashFiles::heal`].
    Error(io::ErrorKind),
}

/// What survives of the writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Everything, as when only the process died.
    Everything,
    /// The first so many of them, the last of these torn in half.
    Prefix(usize),
    /// Each sector by the toss of a coin; so do creations, renames and removals.
    Random(u64),
}

/// The file system. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub struct CrashFiles(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Syncs may go on.
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    step: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    failing: Option<io::ErrorKind>,
    /// Syncs that may pass before the disk stands still; `None` when it never does.
    syncs_left: Option<u64>,
    next_file: u64,
    /// Contents by file, whatever their names are.
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl CrashFiles {
    /// An empty one that never fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a fault. Steps count from 1.
    pub fn fail_at(&self, step: u64, fault: Fault) {
        self.lock().fault = Some((step, fault));
    }

    /// Ends a planned or present error, as when space returns. Lost power stays lost.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.fault = None;
        state.failing = None;
    }

    /// Lets so many syncs of files pass; then the disk stands still, and the caller of a sync waits. `None` lets it go on.
    pub fn stand_still_after(&self, syncs: Option<u64>) {
        self.lock().syncs_left = syncs;
        self.0.released.notify_all();
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.lock().step
    }

    /// Did the power go?
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// What a restart finds.
    pub fn after_crash(&self, survival: Survival) -> Self {
        let state = self.lock();
        let mut coin = Coin(SplitMix::new(match survival {
            Survival::Random(seed) => seed,
            Survival::Nothing | Survival::Everything | Survival::Prefix(_) => 0,
        }));
        let names = match survival {
            Survival::Everything => state.names.clone(),
            Survival::Random(_) if coin.toss() => state.names.clone(),
            Survival::Random(_) | Survival::Nothing | Survival::Prefix(_) => {
                state.durable_names.clone()
            }
        };
        let mut left = match survival {
            Survival::Prefix(count) => count,
            Survival::Nothing | Survival::Everything | Survival::Random(_) => 0,
        };
        let mut contents = BTreeMap::new();
        for (file, content) in &state.contents {
            let bytes = match survival {
                Survival::Nothing => content.durable.clone(),
                Survival::Everything => content.now.clone(),
                Survival::Prefix(_) => {
                    let mut bytes = content.durable.clone();
                    for (place, pending) in content.pending.iter().enumerate() {
                        if left == 0 {
                            break;
                        }
                        left -= 1;
                        let torn = left == 0 || place + 1 == content.pending.len();
                        pending.apply(&mut bytes, |sector, count| !torn || sector * 2 < count);
                    }
                    bytes
                }
                Survival::Random(_) => {
                    let mut bytes = content.durable.clone();
                    for pending in &content.pending {
                        pending.apply(&mut bytes, |_, _| coin.toss());
                    }
                    bytes
                }
            };
            let content = Content { now: bytes.clone(), durable: bytes, pending: Vec::new() };
            contents.insert(*file, content);
        }
        let next_file = state.next_file;
        let state =
            State { next_file, contents, durable_names: names.clone(), names, ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(state), released: Condvar::new() }))
    }

    /// Flips one bit of a file, durably.
    ///
    /// # Panics
    /// When there is no such file or byte.
    pub fn flip(&self, path: &Path, offset: usize) {
        let mut state = self.lock();
        let file = state.names[path];
        let content = state.contents.get_mut(&file).expect("a name has contents");
        content.now[offset] ^= 0x10;
        content.durable = content.now.clone();
    }

    /// Bytes of a file, synced or not.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.names.get(path)?;
        Some(state.contents[file].now.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl Pending {
    /// Applies the sectors that `survives` says, given the place of a sector and how many there are.
    fn apply(&self, bytes: &mut Vec<u8>, mut survives: impl FnMut(usize, usize) -> bool) {
        match self {
            Self::Length(length) => {
                if survives(0, 1) {
                    bytes.resize(*length, 0);
                }
            }
            Self::Write { offset, bytes: written } => {
                let end = offset + written.len();
                let (first, last) = (offset / SECTOR, end.div_ceil(SECTOR));
                for sector in first..last {
                    if !survives(sector - first, last - first) {
                        continue;
                    }
                    let from = (sector * SECTOR).max(*offset);
                    let to = ((sector + 1) * SECTOR).min(end);
                    if bytes.len() < to {
                        bytes.resize(to, 0);
                    }
                    bytes[from..to].copy_from_slice(&written[from - offset..to - offset]);
                }
            }
        }
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.alive()?;
        self.step += 1;
        if let Some((step, fault)) = self.fault
            && self.step >= step
        {
            match fault {
                Fault::PowerLoss => self.dead = true,
                Fault::Error(kind) => self.failing = Some(kind),
            }
        }
        self.alive()?;
        match self.failing {
            Some(kind) => Err(io::Error::new(kind, "injected")),
            None => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }
}

impl Files for CrashFiles {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        // Directories themselves are taken to be there; what counts is the names in them.
        self.lock().alive()
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.alive()?;
        let file = match state.names.get(path) {
            Some(file) => *file,
            None if create => {
                state.step()?;
                state.next_file += 1;
                let file = state.next_file;
                state.contents.insert(file, Content::default());
                state.names.insert(path.to_owned(), file);
                file
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(CrashFile { files: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.lock().names.contains_key(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let state = &mut *state;
        state.durable_names.retain(|path, _| path.parent() != Some(dir));
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        state.durable_names.extend(inside.map(|(path, file)| (path.clone(), *file)));
        Ok(())
    }
}

#[derive(Debug)]
struct CrashFile {
    files: CrashFiles,
    file: u64,
}

impl CrashFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        act(&mut self.files.lock(), self.file)
    }
}

fn content(state: &mut State, file: u64) -> &mut Content {
    state.contents.entry(file).or_default()
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("files in memory are small")
}

impl File for CrashFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|state, file| {
            state.alive()?;
            let (from, to) = (place(offset), place(offset) + buffer.len());
            let bytes = content(state, file).now.get(from..to);
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, file| {
            state.step()?;
            let content = content(state, file);
            let pending = Pending::Write { offset: place(offset), bytes: bytes.to_vec() };
            pending.apply(&mut content.now, |_, _| true);
            content.pending.push(pending);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.files.lock();
        while state.syncs_left == Some(0) {
            state = wait(&self.files.0.released, state);
        }
        state.syncs_left = state.syncs_left.map(|left| left - 1);
        state.step()?;
        let content = content(&mut state, self.file);
        content.pending.clear();
        content.durable = content.now.clone();
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|state, file| {
            state.alive()?;
            Ok(content(state, file).now.len() as u64)
        })
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.with(|state, file| {
            state.step()?;
            let content = content(state, file);
            content.now.resize(place(length), 0);
            content.pending.push(Pending::Length(place(length)));
            Ok(())
        })
    }

    fn start_writing(&self, _offset: u64, _length: u64, _pause: Duration) {}
}

/// Tosses that come out the same for the same seed.
#[derive(Debug)]
struct Coin(SplitMix);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0.next() & 1 == 1
    }
}
