//! The log of another process, or of a member that is stopped: read, and never changed.
//!
//! A member that runs may write meanwhile. Then the last batch may look torn, or a segment may go while it is read: who needs
//! certainty reads again.

use std::path::Path;

use bytes::Bytes;

use crate::disk::files::Files;
use crate::disk::read_only::ReadOnlyFiles;
use crate::disk::wal::error::{WalError, io_error};
use crate::disk::wal::index::{self, EntryIndex};
use crate::disk::wal::recover::Scan;
use crate::disk::wal::segment;
use crate::disk::wal::{LogOwner, Recovered};

/// A log as it was found.
pub struct Inspected {
    /// Whose it is; none when there is no segment.
    pub owner: Option<LogOwner>,
    /// What is in it. Nothing was cut off: [`Recovered::torn_bytes`] would be.
    pub recovered: Recovered,
    /// Whole batches.
    pub batches: u64,
    /// The segments by number, with their bytes.
    pub segments: Vec<(u64, u64)>,
    pub(super) index: EntryIndex,
}

impl Inspected {
    /// Entries from `from` on: at least one if there is one, then as many as fit `bytes_max`.
    ///
    /// # Errors
    /// When the disk cannot be read, or an entry is not what was written.
    pub fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, WalError> {
        let places = self.index.places(from, self.recovered.entries.end, bytes_max);
        let read = index::read(&places)?;
        match read.damaged {
            Some(damaged) => Err(damaged.error()),
            None => Ok(read.entries),
        }
    }
}

/// Reads the log in `dir`; an owner that is given must be the log's.
///
/// # Errors
/// See [`WalError`].
pub fn inspect(dir: &Path, owner: Option<LogOwner>) -> Result<Inspected, WalError> {
    let mut scan = Scan::default();
    for number in numbers(dir)? {
        scan.segment(&ReadOnlyFiles, dir, number, owner)?;
    }
    scan.found().map_err(io_error("read", dir))
}

/// What is damaged in the log in `dir`, segment by segment: behind a damaged one, the next is looked at for itself.
///
/// # Errors
/// When there is no such directory.
pub fn damage(dir: &Path, owner: Option<LogOwner>) -> Result<Vec<WalError>, WalError> {
    let (mut scan, mut damage) = (Scan::default(), Vec::new());
    for number in numbers(dir)? {
        if let Err(error) = scan.segment(&ReadOnlyFiles, dir, number, owner) {
            damage.push(error);
            scan = Scan::default();
        }
    }
    Ok(damage)
}

fn numbers(dir: &Path) -> Result<Vec<u64>, WalError> {
    let names = ReadOnlyFiles.list(dir).map_err(io_error("list", dir))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment::number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
