//! Revisions: records that never change, in chunks by the place of the first.
//!
//! A commit adds chunks behind those that are there. Records that nobody needs any more stay until all are written anew.

use redb::{ReadableDatabase, ReadableTable, Table, TableDefinition, TableError};

use crate::disk::tables::runs::CHUNK_BYTES;
use crate::disk::tables::{Commit, CommitError, Tables, TablesError, damaged, storage, table};
use crate::model::{DecodeError, Reader, Writer};

/// Chunks of revisions, by the place of the first. There while there are any.
const REVISIONS: TableDefinition<'static, (u64, u32), &[u8]> = TableDefinition::new("revisions");

/// Among the records beside nodes and events: how many records are in [`REVISIONS`].
const REVISIONS_COUNT: &str = "revisions-count";

/// Revisions that have no chunk yet. The table is opened when one is put.
#[derive(Default)]
pub(super) struct NewRevisions<'a> {
    table: Option<Table<'a, (u64, u32), &'static [u8]>>,
    first: (u64, u32),
    records: Writer,
    count: u64,
}

impl Tables {
    /// Calls `visit` with every revision's record, in the order of their places.
    ///
    /// # Errors
    /// When the disk fails; what `visit` returns otherwise.
    pub fn revisions<E: From<TablesError>>(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |source| self.error("read", source);
        let reading = self.database.begin_read().map_err(|source| fail(source.into()))?;
        let Some(chunks) = table(reading.open_table(REVISIONS)).map_err(fail)? else {
            return Ok(());
        };
        for chunk in chunks.iter().map_err(|source| fail(source.into()))? {
            let (_, chunk) = chunk.map_err(|source| fail(source.into()))?;
            let mut records = Reader::new(chunk.value());
            while !records.is_empty() {
                let record = records.bytes("revision");
                visit(record.map_err(|source| fail(damaged(&source)))?)?;
            }
        }
        Ok(())
    }

    /// How many records of revisions there are, those included that nobody needs any more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn revisions_count(&self) -> Result<u64, TablesError> {
        let count = self.meta(REVISIONS_COUNT)?.unwrap_or_default();
        let count = decode_count(&count);
        count.map_err(|source| self.error("read", damaged(&source)))
    }
}

impl Commit<'_> {
    /// Puts a revision's record. They come in the order of their places, behind all that are there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_revision(&mut self, place: (u64, u32), record: &[u8]) -> Result<(), CommitError> {
        let new = &mut self.revisions;
        if new.records.length() > 0 && new.records.length() + record.len() > CHUNK_BYTES {
            self.put_revisions()?;
        }
        let new = &mut self.revisions;
        if new.records.length() == 0 {
            new.first = place;
        }
        new.records.bytes(record);
        new.count += 1;
        Ok(())
    }

    fn put_revisions(&mut self) -> Result<(), CommitError> {
        let new = &mut self.revisions;
        let chunk = std::mem::take(&mut new.records).finish();
        if chunk.is_empty() {
            return Ok(());
        }
        if new.table.is_none() {
            let opened = self.transaction.open_table(REVISIONS);
            new.table = Some(opened.map_err(|source| storage_of(&source))?);
        }
        if let Some(table) = &mut new.table {
            table.insert(new.first, &chunk[..])?;
        }
        Ok(())
    }

    /// Removes all revisions that were there before this commit. Before any is put.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_revisions(&mut self) -> Result<(), CommitError> {
        let dropped = self.transaction.delete_table(REVISIONS);
        dropped.map_err(|source| storage_of(&source))?;
        self.meta.remove(REVISIONS_COUNT)?;
        Ok(())
    }

    /// Writes what is not in a chunk yet.
    pub(super) fn finish_revisions(&mut self) -> Result<(), CommitError> {
        self.put_revisions()?;
        if self.revisions.count > 0 {
            let before = self.meta.get(REVISIONS_COUNT)?.map(|count| decode_count(count.value()));
            let before = before.transpose().map_err(|source| storage(&source))?.unwrap_or(0);
            let mut count = Writer::default();
            count.varint(before + self.revisions.count);
            self.meta.insert(REVISIONS_COUNT, &count.finish()[..])?;
        }
        Ok(())
    }
}

fn storage_of(source: &TableError) -> redb::StorageError {
    redb::StorageError::Corrupted(source.to_string())
}

fn decode_count(bytes: &[u8]) -> Result<u64, DecodeError> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let mut input = Reader::new(bytes);
    let count = input.varint("count of revisions")?;
    input.end("count of revisions")?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Extent, RealFiles};

    fn records(tables: &Tables) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let visited = tables.revisions(|record| {
            found.push(record.to_vec());
            Ok::<_, TablesError>(())
        });
        visited.unwrap();
        found
    }

    #[test]
    fn revisions_are_added_behind_those_that_are_there_until_all_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(&RealFiles, &dir.path().join("checkpoint")).unwrap();
        assert_eq!((records(&tables).len(), tables.revisions_count().unwrap()), (0, 0));
        let record = |number: u64| vec![7; usize::try_from(number).unwrap() * 1000 % 90_000];
        let put = |numbers: std::ops::Range<u64>| {
            move |commit: &mut Commit<'_>| {
                for number in numbers.clone() {
                    commit.put_revision(
                        (number / 3, u32::try_from(number % 3).unwrap()),
                        &record(number),
                    )?;
                }
                Ok(())
            }
        };
        tables.commit(Extent::Changes, put(0..100)).unwrap();
        tables.commit(Extent::Nodes, put(100..101)).unwrap();
        tables.commit(Extent::Changes, put(101..130)).unwrap();
        assert_eq!(records(&tables), (0..130).map(record).collect::<Vec<_>>());
        assert_eq!(tables.revisions_count().unwrap(), 130);
        let anew = |commit: &mut Commit<'_>| {
            commit.drop_revisions()?;
            put(50..60)(commit)
        };
        tables.commit(Extent::Changes, anew).unwrap();
        assert_eq!(records(&tables), (50..60).map(record).collect::<Vec<_>>());
        assert_eq!(tables.revisions_count().unwrap(), 10);
        tables.commit(Extent::Everything, |_| Ok(())).unwrap();
        assert_eq!(tables.revisions_count().unwrap(), 10);
        tables.commit(Extent::Everything, |commit| commit.drop_revisions()).unwrap();
        assert_eq!((records(&tables).len(), tables.revisions_count().unwrap()), (0, 0));
    }
}
