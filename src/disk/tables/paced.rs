//! A file as redb wants it, whose writing gives way to the log's.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::StorageBackend;

use crate::base::lock;
use crate::disk::batch_times::BatchTimes;
use crate::disk::files::File;

/// Written-out bytes after which the system is asked to start writing. Unpaced, a commit makes the log's syncs wait.
const PACE_BYTES: u64 = 1 << 20;

/// The longest pause after that. On a device where the log waits even longer, a checkpoint shall end all the same.
const PAUSE_MAX: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct PacedFile {
    file: Arc<dyn File>,
    /// Of the log beside it. A pause is as long as the log's longest batch meanwhile: short on a quick device, longer and longer on
    /// one whose queue grows, and none while nothing is written to the log.
    log: Arc<BatchTimes>,
    dirty: Mutex<Dirty>,
}

impl PacedFile {
    pub(super) fn new(file: Arc<dyn File>, log: Arc<BatchTimes>) -> Self {
        Self { file, log, dirty: Mutex::default() }
    }
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
            let pause = self.log.take_longest().min(PAUSE_MAX);
            self.file.start_writing(offset, length, pause);
        }
        Ok(())
    }
}
