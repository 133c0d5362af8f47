//! The checkpoint: a redb file, changed in one transaction at a time.
//!
//! Nodes stand in runs (`tables/runs.rs`): a commit of what changed adds one and touches none of those that are there, so that it
//! costs what changed and not a page for each node; a commit of everything puts one run in place of all. Events stand in chunks
//! as well, by the number of their first.

mod paced;
mod revisions;
mod runs;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    AccessGuard, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, TableError,
};
use thiserror::Error;

use crate::disk::advice::Advice;
use crate::disk::batch_times::BatchTimes;
use crate::disk::files::Files;
use crate::disk::overlay::Overlay;
use crate::model::{DecodeError, Reader, Writer, walk_order};
use paced::PacedFile;
use revisions::NewRevisions;
use runs::{CHUNK_BYTES, Chunks, MergeError, Packer, Run};

/// Chunks of nodes, by the number of the run and their place in it.
const RUNS: TableDefinition<'static, (u64, u32), &[u8]> = TableDefinition::new("runs");
/// Directories below which nothing is left of older runs, by the number of the run.
const EMPTIED: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("emptied");
/// Chunks of events, by the number of the first.
const HISTORY: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("history");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// Before there were runs, each node was a row ...
const NODE_ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("nodes");
/// ... and each event. Both are read, and go with the first commit of everything.
const EVENT_ROWS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("events");

/// In [`META`]: the bytes of each run, oldest first. The last one's number is the largest in [`RUNS`].
const RUNS_BYTES: &str = "runs-bytes";

/// With so many runs, the next commit is one of everything: a start reads all of them at once, a chunk of each at a time.
const RUNS_MAX: usize = 64;

/// So much of the first run's bytes may be in those behind it: a start reads them as well.
const LATER_RUNS_PART: u64 = 2;

/// Memory for pages, unless told otherwise: what a commit writes is many times as much, and is read once more at its end whatever
/// fits in here.
const CACHE_BYTES: usize = 4 << 20;

/// What went wrong with the checkpoint.
#[derive(Debug, Error)]
#[error("{action} {path}: {source}{}", self.advice())]
pub struct TablesError {
    action: String,
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
pub struct CommitError(#[from] StorageError);

/// What tells of every commit: redb's header, with which a commit begins to count.
const HEAD_BYTES: usize = 4096;

/// The open checkpoint.
pub struct Tables {
    database: Database,
    path: PathBuf,
}

/// What a commit writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nodes and events that are new, beside those that are there.
    Changes,
    /// All nodes, and events that are new.
    Nodes,
    /// All nodes and all events, in place of those that are there. Revisions stay unless they are dropped.
    Everything,
}

/// One transaction under way.
pub struct Commit<'a> {
    runs: redb::Table<'a, (u64, u32), &'static [u8]>,
    emptied: redb::Table<'a, u64, &'static [u8]>,
    history: redb::Table<'a, u64, &'static [u8]>,
    meta: redb::Table<'a, &'static str, &'static [u8]>,
    transaction: &'a redb::WriteTransaction,
    run: NewRun,
    events: NewEvents,
    revisions: NewRevisions<'a>,
}

/// The run that a commit adds.
#[derive(Default)]
struct NewRun {
    number: u64,
    chunks: u32,
    bytes: u64,
    packer: Packer,
    last_key: Vec<u8>,
    emptied: Vec<Vec<u8>>,
}

/// Events that have no chunk yet.
#[derive(Default)]
struct NewEvents {
    first: u64,
    next: u64,
    records: Writer,
}

impl Tables {
    /// Opens the file, or makes one. A crash half-way through the making leaves nothing that the next start trips over.
    ///
    /// # Errors
    /// When it cannot be opened or is damaged.
    pub fn open(files: &dyn Files, path: &Path) -> Result<Self, TablesError> {
        Self::open_with(files, path, CACHE_BYTES, Arc::default())
    }

    /// The same, with at most `cache_bytes` of pages in memory; what is written gives way to the log whose batches take these times.
    ///
    /// # Errors
    /// As [`Tables::open`].
    pub fn open_with(
        files: &dyn Files,
        path: &Path,
        cache_bytes: usize,
        log: Arc<BatchTimes>,
    ) -> Result<Self, TablesError> {
        if files.exists(path) {
            return Self::open_file(files, path, path, cache_bytes, log);
        }
        let fail = |source| error("make the checkpoint", path, redb::Error::Io(source));
        let new = path.with_extension("new");
        if files.exists(&new) {
            files.remove(&new).map_err(fail)?;
        }
        let tables = Self::open_file(files, &new, path, cache_bytes, log)?;
        // So that readers find the tables also before anything was written.
        tables.commit(Extent::Changes, |_| Ok(()))?;
        files.rename(&new, path).map_err(fail)?;
        if let Some(dir) = path.parent() {
            files.sync_dir(dir).map_err(fail)?;
        }
        Ok(tables)
    }

    fn open_file(
        files: &dyn Files,
        file: &Path,
        path: &Path,
        cache_bytes: usize,
        log: Arc<BatchTimes>,
    ) -> Result<Self, TablesError> {
        let fail = |source| error("open the checkpoint", path, source);
        let file = files.open(file, true).map_err(|source| fail(redb::Error::Io(source)))?;
        let backend = PacedFile::new(Arc::from(file), log);
        let database = Database::builder()
            .set_cache_size(cache_bytes)
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
        let backend = PacedFile::new(Arc::new(file), Arc::default());
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(|source| fail(source.into()))?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// Bytes of pages that are in memory now.
    pub fn cached_bytes(&self) -> usize {
        self.database.cache_stats().used_bytes()
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

    /// Makes what `fill` writes durable, all or nothing; `extent` says in the place of what.
    ///
    /// # Errors
    /// When the disk fails; then nothing changed.
    pub fn commit(
        &self,
        extent: Extent,
        fill: impl FnOnce(&mut Commit<'_>) -> Result<(), CommitError>,
    ) -> Result<(), TablesError> {
        self.try_commit(extent, fill).map_err(|source| self.error("write", source))
    }

    fn try_commit(
        &self,
        extent: Extent,
        fill: impl FnOnce(&mut Commit<'_>) -> Result<(), CommitError>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // A restart after a crash need not read the whole file.
        transaction.set_quick_repair(true);
        let number = transaction.open_table(RUNS)?.last()?.map_or(0, |(run, _)| run.value().0 + 1);
        if extent != Extent::Changes {
            transaction.delete_table(RUNS)?;
            transaction.delete_table(EMPTIED)?;
            transaction.open_table(META)?.remove(RUNS_BYTES)?;
        }
        if extent == Extent::Everything {
            transaction.delete_table(HISTORY)?;
            transaction.delete_table(NODE_ROWS)?;
            transaction.delete_table(EVENT_ROWS)?;
        }
        {
            let mut commit = Commit {
                runs: transaction.open_table(RUNS)?,
                emptied: transaction.open_table(EMPTIED)?,
                history: transaction.open_table(HISTORY)?,
                meta: transaction.open_table(META)?,
                transaction: &transaction,
                revisions: NewRevisions::default(),
                run: NewRun { number, ..NewRun::default() },
                events: NewEvents::default(),
            };
            let filled = fill(&mut commit).and_then(|()| commit.finish());
            filled.map_err(|CommitError(source)| source)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// What the next commit should write, if it can choose: everything while the file has no run, and so while it stands in rows; all
    /// nodes when the runs behind the first have become many or large.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn wants(&self) -> Result<Extent, TablesError> {
        let runs = self.meta(RUNS_BYTES)?.unwrap_or_default();
        let runs = decode_sizes(&runs).map_err(|source| self.error("read", damaged(&source)))?;
        let Some((first, later)) = runs.split_first() else { return Ok(Extent::Everything) };
        let is_time =
            runs.len() >= RUNS_MAX || later.iter().sum::<u64>() >= first / LATER_RUNS_PART;
        Ok(if is_time { Extent::Nodes } else { Extent::Changes })
    }

    /// Calls `visit` with every node, each behind its directory: in the order of a walk, or in bytewise order of the keys when the
    /// nodes still stand in rows.
    ///
    /// # Errors
    /// When the disk fails; what `visit` returns otherwise.
    pub fn nodes<E: From<TablesError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| self.error("read", source);
        let reading = self.database.begin_read().map_err(|source| fail(source.into()))?;
        if let Some(rows) = table(reading.open_table(NODE_ROWS)).map_err(fail)? {
            for row in rows.iter().map_err(|source| fail(source.into()))? {
                let (key, value) = row.map_err(|source| fail(source.into()))?;
                visit(key.value(), value.value())?;
            }
            return Ok(());
        }
        let runs = open_runs(&reading).map_err(fail)?;
        let merged = runs::merge(runs, |key, node| visit(key, node).map_err(Stopped::Visit));
        merged.map_err(|stopped| match stopped {
            Stopped::Visit(error) => error,
            Stopped::Merge(MergeError::Read(source)) => fail(source.into()).into(),
            Stopped::Merge(MergeError::Decode(source)) => fail(damaged(&source)).into(),
        })
    }

    /// Calls `visit` with every event whose number is at least `from`, in the order of the numbers.
    ///
    /// # Errors
    /// When the disk fails; what `visit` returns otherwise.
    pub fn events<E: From<TablesError>>(
        &self,
        from: u64,
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| self.error("read", source);
        let reading = self.database.begin_read().map_err(|source| fail(source.into()))?;
        if let Some(rows) = table(reading.open_table(EVENT_ROWS)).map_err(fail)? {
            for row in rows.range(from..).map_err(|source| fail(source.into()))? {
                let (number, value) = row.map_err(|source| fail(source.into()))?;
                visit(number.value(), value.value())?;
            }
            return Ok(());
        }
        let Some(chunks) = table(reading.open_table(HISTORY)).map_err(fail)? else { return Ok(()) };
        for chunk in chunks.iter().map_err(|source| fail(source.into()))? {
            let (first, chunk) = chunk.map_err(|source| fail(source.into()))?;
            let each = runs::each_event(first.value(), chunk.value(), |number, record| {
                if number < from { Ok(()) } else { visit(number, record).map_err(Stopped::Visit) }
            });
            each.map_err(|stopped| match stopped {
                Stopped::Visit(error) => error,
                Stopped::Merge(source) => fail(damaged(&source)).into(),
            })?;
        }
        Ok(())
    }

    fn error(&self, action: &str, source: redb::Error) -> TablesError {
        error(&format!("{action} the checkpoint"), &self.path, source)
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
        read().map_err(|source| self.error("read", source))
    }
}

impl Commit<'_> {
    /// Puts a node. Nodes that are put or removed come in the order of a walk through the tree, each once.
    ///
    /// # Errors
    /// When the disk fails, or the node is not in order.
    pub fn put_node(&mut self, key: &[u8], value: &[u8]) -> Result<(), CommitError> {
        self.node(key, Some(value))
    }

    /// Removes a node, but none below it.
    ///
    /// # Errors
    /// When the disk fails, or the node is not in order.
    pub fn drop_node(&mut self, key: &[u8]) -> Result<(), CommitError> {
        self.node(key, None)
    }

    fn node(&mut self, key: &[u8], node: Option<&[u8]>) -> Result<(), CommitError> {
        let run = &mut self.run;
        if !run.last_key.is_empty() && walk_order(&run.last_key, key).is_ge() {
            return Err(StorageError::Corrupted("nodes were given out of order".to_owned()).into());
        }
        run.last_key.clear();
        run.last_key.extend_from_slice(key);
        if run.packer.is_full_for(key, node) {
            self.put_chunk()?;
        }
        self.run.packer.push(key, node);
        Ok(())
    }

    fn put_chunk(&mut self) -> Result<(), CommitError> {
        let Some(chunk) = self.run.packer.take() else { return Ok(()) };
        self.runs.insert((self.run.number, self.run.chunks), &chunk[..])?;
        self.run.bytes += chunk.len() as u64;
        self.run.chunks += 1;
        Ok(())
    }

    /// Removes the nodes below `dir` that were there before this commit.
    pub fn drop_nodes_below(&mut self, dir: &[u8]) {
        self.run.emptied.push(dir.to_vec());
    }

    /// Puts an event. They come in the order of their numbers.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_event(&mut self, number: u64, value: &[u8]) -> Result<(), CommitError> {
        let events = &mut self.events;
        let is_full = events.records.length() + value.len() > CHUNK_BYTES;
        if events.records.length() > 0 && (is_full || number != events.next) {
            self.put_events()?;
        }
        let events = &mut self.events;
        if events.records.length() == 0 {
            events.first = number;
        }
        events.records.bytes(value);
        events.next = number + 1;
        Ok(())
    }

    fn put_events(&mut self) -> Result<(), CommitError> {
        let chunk = std::mem::take(&mut self.events.records).finish();
        if !chunk.is_empty() {
            self.history.insert(self.events.first, &chunk[..])?;
        }
        Ok(())
    }

    /// Removes events below `number`; some that stand in one chunk with later ones stay.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_events_below(&mut self, number: u64) -> Result<(), CommitError> {
        self.put_events()?;
        // The last of them may reach beyond the number. One after the other: a chunk is read to find its key, and is not read again if
        // it is removed at once.
        loop {
            let mut oldest = self.history.range(..=number)?;
            let (Some(first), Some(_)) = (oldest.next(), oldest.next()) else { return Ok(()) };
            let first = first?.0.value();
            drop(oldest);
            self.history.remove(first)?;
        }
    }

    /// Puts a record beside nodes and events.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_meta(&mut self, name: &str, value: &[u8]) -> Result<(), CommitError> {
        self.meta.insert(name, value)?;
        Ok(())
    }

    /// Writes what is not in a chunk yet.
    fn finish(&mut self) -> Result<(), CommitError> {
        self.put_events()?;
        self.put_chunk()?;
        self.finish_revisions()?;
        let run = &mut self.run;
        if run.chunks == 0 && run.emptied.is_empty() {
            return Ok(());
        }
        if run.chunks == 0 {
            // A run has a chunk: its number is found by that.
            self.runs.insert((run.number, 0), &[][..])?;
        }
        if !run.emptied.is_empty() {
            run.emptied.sort_unstable_by(|one, other| walk_order(one, other));
            self.emptied.insert(run.number, &runs::encode_emptied(&run.emptied)[..])?;
        }
        let mut sizes = Writer::default();
        if let Some(before) = self.meta.get(RUNS_BYTES)? {
            for size in decode_sizes(before.value()).map_err(|source| storage(&source))? {
                sizes.varint(size);
            }
        }
        sizes.varint(run.bytes);
        self.meta.insert(RUNS_BYTES, &sizes.finish()[..])?;
        Ok(())
    }
}

/// Why the nodes or the events were not all read.
enum Stopped<E, M> {
    Visit(E),
    Merge(M),
}

impl<E, S> From<MergeError<S>> for Stopped<E, MergeError<S>> {
    fn from(error: MergeError<S>) -> Self {
        Self::Merge(error)
    }
}

impl<E> From<DecodeError> for Stopped<E, DecodeError> {
    fn from(error: DecodeError) -> Self {
        Self::Merge(error)
    }
}

/// The chunks of one run.
struct StoredChunks(redb::Range<'static, (u64, u32), &'static [u8]>);

impl Chunks for StoredChunks {
    type Error = StorageError;

    fn next(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let chunk = self.0.next().transpose()?;
        Ok(chunk.map(|(_, chunk): (_, AccessGuard<'_, &[u8]>)| chunk.value().to_vec()))
    }
}

/// All runs, oldest first.
fn open_runs(reading: &ReadTransaction) -> Result<Vec<Run<StoredChunks>>, redb::Error> {
    let (Some(chunks), Some(emptied)) =
        (table(reading.open_table(RUNS))?, table(reading.open_table(EMPTIED))?)
    else {
        return Ok(Vec::new());
    };
    let (mut found, mut number) = (Vec::new(), 0);
    while let Some(first) = chunks.range((number, 0)..)?.next() {
        let run = first?.0.value().0;
        let dirs = emptied.get(run)?.map(|dirs| runs::decode_emptied(dirs.value()));
        let dirs = dirs.transpose().map_err(|source| damaged(&source))?.unwrap_or_default();
        found.push(Run::new(StoredChunks(chunks.range((run, 0)..=(run, u32::MAX))?), dirs));
        number = run + 1;
    }
    Ok(found)
}

/// A table that may not be there.
fn table<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn decode_sizes(bytes: &[u8]) -> Result<Vec<u64>, DecodeError> {
    let (mut input, mut sizes) = (Reader::new(bytes), Vec::new());
    while !input.is_empty() {
        sizes.push(input.varint("bytes of a run")?);
    }
    Ok(sizes)
}

fn storage(source: &DecodeError) -> StorageError {
    StorageError::Corrupted(source.to_string())
}

fn damaged(source: &DecodeError) -> redb::Error {
    storage(source).into()
}

fn error(action: &str, path: &Path, source: redb::Error) -> TablesError {
    TablesError { action: action.to_owned(), path: path.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::disk::RealFiles;

    fn open(dir: &tempfile::TempDir) -> Tables {
        Tables::open(&RealFiles, &dir.path().join("checkpoint.redb")).unwrap()
    }

    fn nodes(tables: &Tables) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let visit = |key: &[u8], node: &[u8]| {
            assert_eq!(found.insert(key.to_vec(), node.to_vec()), None, "each node once");
            Ok::<_, TablesError>(())
        };
        tables.nodes(visit).unwrap();
        found
    }

    fn events(tables: &Tables, from: u64) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        let visit = |number, record: &[u8]| {
            found.push((number, record.len()));
            Ok::<_, TablesError>(())
        };
        tables.events(from, visit).unwrap();
        found
    }

    #[test]
    fn a_commit_of_changes_adds_a_run_until_one_of_everything_is_due() {
        let dir = tempfile::tempdir().unwrap();
        let mut tables = open(&dir);
        assert_eq!(tables.wants().unwrap(), Extent::Everything, "there is no first run");
        let mut model = BTreeMap::new();
        let keys: Vec<_> = (0..400).map(|n| format!("/{n:03}").into_bytes()).collect();
        let fill = |commit: &mut Commit<'_>| {
            keys.iter().try_for_each(|key| commit.put_node(key, &[7; 1000]))
        };
        tables.commit(Extent::Everything, fill).unwrap();
        model.extend(keys.iter().map(|key| (key.clone(), vec![7; 1000])));
        let mut runs = 1;
        while tables.wants().unwrap() == Extent::Changes {
            let keys: Vec<_> = keys.iter().skip(runs).step_by(9).cloned().collect();
            let change = |commit: &mut Commit<'_>| {
                keys.iter().try_for_each(|key| match key.ends_with(b"7") {
                    true => commit.drop_node(key),
                    false => commit.put_node(key, &vec![8; 999 + runs]),
                })
            };
            tables.commit(Extent::Changes, change).unwrap();
            for key in keys {
                match key.ends_with(b"7") {
                    true => model.remove(&key),
                    false => model.insert(key, vec![8; 999 + runs]),
                };
            }
            runs += 1;
            drop(tables);
            tables = open(&dir);
            assert_eq!(nodes(&tables), model, "{runs} runs");
        }
        assert_eq!(runs, 6, "the later ones hold half as much as the first");
        let all = model.clone();
        tables
            .commit(Extent::Nodes, |commit| {
                all.iter().try_for_each(|(key, node)| commit.put_node(key, node))
            })
            .unwrap();
        assert_eq!(tables.wants().unwrap(), Extent::Changes);
        assert_eq!(nodes(&tables), model);
    }

    #[test]
    fn many_small_runs_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let tables = open(&dir);
        tables
            .commit(Extent::Everything, |commit| commit.put_node(b"/large", &[7; 100_000]))
            .unwrap();
        let mut runs = 1;
        while tables.wants().unwrap() == Extent::Changes {
            tables.commit(Extent::Changes, |commit| commit.put_node(b"/small", &[7])).unwrap();
            runs += 1;
        }
        assert_eq!(runs, RUNS_MAX);
        assert_eq!(nodes(&tables).len(), 2);
    }

    #[test]
    fn what_was_below_an_emptied_directory_is_gone_and_what_came_since_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let tables = open(&dir);
        let put = |keys: &'static [&str]| {
            move |commit: &mut Commit<'_>| {
                keys.iter().try_for_each(|key| commit.put_node(key.as_bytes(), b"v"))
            }
        };
        tables
            .commit(Extent::Everything, put(&["/a", "/a/x", "/a/x/y", "/a-", "/b", "/b/x", "/c"]))
            .unwrap();
        let empty = |commit: &mut Commit<'_>| {
            commit.drop_nodes_below(b"/b");
            commit.drop_nodes_below(b"/a");
            put(&["/a/z"])(commit)
        };
        tables.commit(Extent::Changes, empty).unwrap();
        let found: Vec<_> = nodes(&tables).into_keys().collect();
        assert_eq!(found, ["/a", "/a-", "/a/z", "/b", "/c"].map(|key| key.as_bytes().to_vec()));
        // A run with no node of its own.
        tables
            .commit(Extent::Changes, |commit| {
                commit.drop_nodes_below(b"/a");
                Ok(())
            })
            .unwrap();
        let found: Vec<_> = nodes(&tables).into_keys().collect();
        assert_eq!(found, ["/a", "/a-", "/b", "/c"].map(|key| key.as_bytes().to_vec()));
    }

    #[test]
    fn nodes_out_of_order_are_refused_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tables = open(&dir);
        tables.commit(Extent::Everything, |commit| commit.put_node(b"/a", b"v")).unwrap();
        for second in [&b"/b"[..], b"/b-", b"/a"] {
            let twice = |commit: &mut Commit<'_>| {
                commit.put_node(b"/b/x", b"v")?;
                match second {
                    b"/b-" => commit.drop_node(b"/b"),
                    second => commit.drop_node(second),
                }
            };
            assert!(
                tables
                    .commit(Extent::Changes, twice)
                    .unwrap_err()
                    .to_string()
                    .contains("out of order")
            );
        }
        assert_eq!(nodes(&tables).len(), 1);
    }

    #[test]
    fn events_are_read_from_any_on_and_go_a_chunk_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let tables = open(&dir);
        let put = |numbers: std::ops::Range<u64>| {
            move |commit: &mut Commit<'_>| {
                numbers.clone().try_for_each(|number| {
                    commit.put_event(number, &vec![7; usize::try_from(number % 5).unwrap() * 1000])
                })
            }
        };
        tables.commit(Extent::Changes, put(1..101)).unwrap();
        tables.commit(Extent::Changes, put(101..103)).unwrap();
        let length = |number: u64| (number, usize::try_from(number % 5).unwrap() * 1000);
        for from in [0, 1, 50, 100, 101, 102, 103] {
            let expected: Vec<_> = (from.max(1)..103).map(length).collect();
            assert_eq!(events(&tables, from), expected, "from {from}");
        }
        tables.commit(Extent::Changes, |commit| commit.drop_events_below(101)).unwrap();
        assert_eq!(events(&tables, 0), [length(101), length(102)]);
        tables.commit(Extent::Nodes, |commit| commit.put_node(b"/a", b"v")).unwrap();
        assert_eq!(events(&tables, 0), [length(101), length(102)], "all nodes, and these events");
        tables
            .commit(Extent::Changes, |commit| {
                put(103..104)(commit)?;
                commit.drop_events_below(102)
            })
            .unwrap();
        assert_eq!(events(&tables, 102), [length(102), length(103)]);
        tables.commit(Extent::Changes, |commit| commit.drop_events_below(1000)).unwrap();
        assert_eq!(events(&tables, 1000), []);
    }

    #[test]
    fn rows_of_before_there_were_runs_are_read_and_go_with_the_first_commit_of_everything() {
        let dir = tempfile::tempdir().unwrap();
        let tables = open(&dir);
        let transaction = tables.database.begin_write().unwrap();
        {
            let mut rows = transaction.open_table(NODE_ROWS).unwrap();
            // Bytewise order, in which `/a-` comes between.
            for key in ["/a", "/a-", "/a/b"] {
                rows.insert(key.as_bytes(), &b"v"[..]).unwrap();
            }
            transaction.open_table(EVENT_ROWS).unwrap().insert(3, &b"event"[..]).unwrap();
        }
        transaction.commit().unwrap();
        assert_eq!(tables.wants().unwrap(), Extent::Everything);
        assert_eq!(
            (nodes(&tables).len(), events(&tables, 0), events(&tables, 4)),
            (3, vec![(3, 5)], vec![])
        );
        tables.commit(Extent::Everything, |commit| commit.put_node(b"/new", b"v")).unwrap();
        assert_eq!((nodes(&tables).len(), events(&tables, 0)), (1, vec![]));
    }
}
