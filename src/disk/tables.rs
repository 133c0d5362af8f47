//! The checkpoint: three tables in one redb file, changed in one transaction at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};
use thiserror::Error;

use crate::base::lock;
use crate::disk::advice::Advice;
use crate::disk::files::{File, Files};
use crate::disk::overlay::Overlay;

const NODES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("nodes");
const EVENTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("events");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// Written-out bytes after which the system is asked to start writing. Unpaced, a commit makes the log's syncs wait.
const PACE_BYTES: u64 = 1 << 20;

/// Memory for pages: checkpoints write much and read nothing, so more would be wasted.
const CACHE_BYTES: usize = 16 << 20;

/// What went wrong with the checkpoint.
#[derive(Debug, Error)]
#[error("{action} {path}: {source}{}", self.advice())]
pub struct TablesError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: Box<redb::Error>,
}

impl TablesError {
    fn advice(&self) -> String {
        if let redb::Error::Io(error) = &*self.source {
            let advice = Advice(error).to_string();
            if !advice.is_empty() {
                return advice;
            }
        }
        ". If the disk is well, the file is damaged: remove this member from the cluster, empty its data directory and add it \
         again, or restore a backup"
            .to_owned()
    }
}

/// A change could not be added to a transaction. [`Tables::commit`] says of which file.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct CommitError(#[from] redb::StorageError);

/// What tells of every commit: redb's header, with which a commit begins to count.
const HEAD_BYTES: usize = 4096;

/// The open checkpoint.
pub struct Tables {
    database: Database,
    path: PathBuf,
}

/// One transaction under way.
pub struct Commit<'a> {
    nodes: redb::Table<'a, &'static [u8], &'static [u8]>,
    events: redb::Table<'a, u64, &'static [u8]>,
    meta: redb::Table<'a, &'static str, &'static [u8]>,
}

impl Tables {
    /// Opens the file, or makes one. A crash half-way through the making leaves nothing that the next start trips over.
    ///
    /// # Errors
    /// When it cannot be opened or is damaged.
    pub fn open(files: &dyn Files, path: &Path) -> Result<Self, TablesError> {
        if files.exists(path) {
            return Self::open_file(files, path, path);
        }
        let fail = |source| error("make the checkpoint", path, redb::Error::Io(source));
        let new = path.with_extension("new");
        if files.exists(&new) {
            files.remove(&new).map_err(fail)?;
        }
        let tables = Self::open_file(files, &new, path)?;
        // So that readers find the tables also before anything was written.
        tables.commit(|_| Ok(()))?;
        files.rename(&new, path).map_err(fail)?;
        if let Some(dir) = path.parent() {
            files.sync_dir(dir).map_err(fail)?;
        }
        Ok(tables)
    }

    fn open_file(files: &dyn Files, file: &Path, path: &Path) -> Result<Self, TablesError> {
        let fail = |source| error("open the checkpoint", path, source);
        let file = files.open(file, true).map_err(|source| fail(redb::Error::Io(source)))?;
        let backend = PacedFile { file: Arc::from(file), dirty: Mutex::default() };
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|source| fail(source.into()))?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// Opens a file that is not ours to change, after a look at every page. What redb would write, it keeps in memory.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn examine(path: &Path) -> Result<Self, TablesError> {
        let fail = |source| error("read the checkpoint", path, source);
        let file = Overlay::open(path).map_err(|source| fail(redb::Error::Io(source)))?;
        let backend = PacedFile { file: Arc::new(file), dirty: Mutex::default() };
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|source| fail(source.into()))?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// Copies a checkpoint that a member may be writing to. `false` when a commit came between: the copy is of no use then.
    ///
    /// What a commit counts never changes before the next commit counts, so a copy that begins and ends with the same header
    /// holds all of it.
    ///
    /// # Errors
    /// When the one cannot be read, or the other cannot be written.
    pub fn copy(from: &Path, to: &Path) -> io::Result<bool> {
        let source = std::fs::File::open(from)?;
        let head = || {
            let mut head = vec![0; HEAD_BYTES];
            std::os::unix::fs::FileExt::read_exact_at(&source, &mut head, 0)?;
            io::Result::Ok(head)
        };
        let before = head()?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut copy = std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600).open(to)?;
        io::copy(&mut &source, &mut copy)?;
        Ok(head()? == before)
    }

    /// Makes the changes that `fill` asks for durable, all or none.
    ///
    /// # Errors
    /// When the disk fails; then nothing changed.
    pub fn commit(
        &self,
        fill: impl FnOnce(&mut Commit<'_>) -> Result<(), CommitError>,
    ) -> Result<(), TablesError> {
        self.try_commit(fill).map_err(|source| error("write the checkpoint", &self.path, source))
    }

    fn try_commit(
        &self,
        fill: impl FnOnce(&mut Commit<'_>) -> Result<(), CommitError>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // A restart after a crash need not read the whole file.
        transaction.set_quick_repair(true);
        {
            let nodes = transaction.open_table(NODES)?;
            let events = transaction.open_table(EVENTS)?;
            let meta = transaction.open_table(META)?;
            fill(&mut Commit { nodes, events, meta }).map_err(|CommitError(source)| source)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Calls `visit` with every node, in bytewise order of the keys.
    ///
    /// # Errors
    /// When the disk fails; what `visit` returns otherwise.
    pub fn nodes<E: From<TablesError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| error("read the checkpoint", &self.path, source);
        let table =
            || -> Result<_, redb::Error> { Ok(self.database.begin_read()?.open_table(NODES)?) };
        let table = table().map_err(fail)?;
        for row in table.iter().map_err(|source| fail(source.into()))? {
            let (key, value) = row.map_err(|source| fail(source.into()))?;
            visit(key.value(), value.value())?;
        }
        Ok(())
    }

    /// Calls `visit` with every event, in the order of their numbers.
    ///
    /// # Errors
    /// When the disk fails; what `visit` returns otherwise.
    pub fn events<E: From<TablesError>>(
        &self,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| error("read the checkpoint", &self.path, source);
        let table =
            || -> Result<_, redb::Error> { Ok(self.database.begin_read()?.open_table(EVENTS)?) };
        let table = table().map_err(fail)?;
        for row in table.iter().map_err(|source| fail(source.into()))? {
            let (number, value) = row.map_err(|source| fail(source.into()))?;
            visit(number.value(), value.value())?;
        }
        Ok(())
    }

    /// A record beside nodes and events.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, TablesError> {
        let read = || -> Result<_, redb::Error> {
            let found = self.database.begin_read()?.open_table(META)?.get(name)?;
            Ok(found.map(|value| value.value().to_vec()))
        };
        read().map_err(|source| error("read the checkpoint", &self.path, source))
    }
}

impl Commit<'_> {
    /// Puts a node.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_node(&mut self, key: &[u8], value: &[u8]) -> Result<(), CommitError> {
        self.nodes.insert(key, value)?;
        Ok(())
    }

    /// Removes a node.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_node(&mut self, key: &[u8]) -> Result<(), CommitError> {
        self.nodes.remove(key)?;
        Ok(())
    }

    /// Removes the nodes whose keys begin with `dir` and a slash.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_nodes_below(&mut self, dir: &[u8]) -> Result<(), CommitError> {
        let (first, end) = ([dir, b"/"].concat(), [dir, &[b'/' + 1]].concat());
        Ok(self.nodes.retain_in(&first[..]..&end[..], |_, _| false)?)
    }

    /// Puts an event.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_event(&mut self, number: u64, value: &[u8]) -> Result<(), CommitError> {
        self.events.insert(number, value)?;
        Ok(())
    }

    /// Removes the events below `number`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_events_below(&mut self, number: u64) -> Result<(), CommitError> {
        Ok(self.events.retain_in(..number, |_, _| false)?)
    }

    /// Puts a record beside nodes and events.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_meta(&mut self, name: &str, value: &[u8]) -> Result<(), CommitError> {
        self.meta.insert(name, value)?;
        Ok(())
    }

    /// Removes all nodes and events: another checkpoint takes their place.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn clear(&mut self) -> Result<(), CommitError> {
        self.nodes.retain(|_, _| false)?;
        Ok(self.events.retain(|_, _| false)?)
    }
}

fn error(action: &'static str, path: &Path, source: redb::Error) -> TablesError {
    TablesError { action, path: path.to_owned(), source: Box::new(source) }
}

/// A file as redb wants it. Writing is paced.
#[derive(Debug)]
struct PacedFile {
    file: Arc<dyn File>,
    dirty: Mutex<Dirty>,
}

/// What was written and not yet sent on its way to the disk.
#[derive(Debug, Default)]
struct Dirty {
    bytes: u64,
    from: u64,
    to: u64,
}

impl Dirty {
    /// Notes a write; when there is enough, returns where it all is, as offset and length.
    fn note(&mut self, offset: u64, length: u64) -> Option<(u64, u64)> {
        let end = offset + length;
        (self.from, self.to) =
            if self.bytes == 0 { (offset, end) } else { (self.from.min(offset), self.to.max(end)) };
        self.bytes += length;
        if self.bytes < PACE_BYTES {
            return None;
        }
        self.bytes = 0;
        Some((self.from, self.to - self.from))
    }
}

impl StorageBackend for PacedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.dirty).bytes = 0;
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)?;
        let enough = lock(&self.dirty).note(offset, data.len() as u64);
        if let Some((offset, length)) = enough {
            self.file.start_writing(offset, length);
            std::thread::yield_now();
        }
        Ok(())
    }
}
