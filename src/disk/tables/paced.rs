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
    /// Where it is, each with its end. Nothing else may be sent on its way: the system drops from its memory what is on the disk
    /// already, and a commit reads what it has written once more, for the checksums of its pages.
    extents: Vec<(u64, u64)>,
}

impl Dirty {
    /// Notes a write; when there is enough, returns where it all is, in order.
    fn note(&mut self, offset: u64, length: u64) -> Vec<(u64, u64)> {
        self.extents.push((offset, offset + length));
        self.bytes += length;
        if self.bytes < PACE_BYTES {
            return Vec::new();
        }
        self.bytes = 0;
        let mut extents = std::mem::take(&mut self.extents);
        extents.sort_unstable();
        extents.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        extents
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
        *lock(&self.dirty) = Dirty::default();
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)?;
        let enough = lock(&self.dirty).note(offset, data.len() as u64);
        let last = enough.len();
        for ((from, to), number) in enough.into_iter().zip(1..) {
            let is_last = number == last;
            let pause =
                if is_last { self.log.take_longest().min(PAUSE_MAX) } else { Duration::ZERO };
            self.file.start_writing(from, to - from, pause);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was asked to start to write, and the pauses.
    #[derive(Debug, Default)]
    struct Asked(Mutex<Vec<(u64, u64, bool)>>);

    impl File for Asked {
        fn read_at(&self, _offset: u64, _out: &mut [u8]) -> io::Result<()> {
            Ok(())
        }
        fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn length(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn set_length(&self, _length: u64) -> io::Result<()> {
            Ok(())
        }
        fn start_writing(&self, offset: u64, length: u64, pause: Duration) {
            lock(&self.0).push((offset, length, pause > Duration::ZERO));
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_was_written_is_sent_on_its_way_and_nothing_else() {
        let (asked, log) = (Arc::new(Asked::default()), Arc::new(BatchTimes::default()));
        let file = PacedFile::new(Arc::<Asked>::clone(&asked), Arc::clone(&log));
        let half = vec![7; 1 << 19];
        let write = |offset| file.write(offset, &half[..half.len() / 2]).unwrap();
        log.begun();
        // Two pieces that touch, far from two others that do not, in no order.
        for offset in [900 * MIB + MIB / 4, 0, 900 * MIB, MIB] {
            assert_eq!(*lock(&asked.0), [], "not before there is enough");
            write(offset);
        }
        let quarter = MIB / 4;
        let expected = [(0, quarter, false), (MIB, quarter, false), (900 * MIB, 2 * quarter, true)];
        assert_eq!(std::mem::take(&mut *lock(&asked.0)), expected);
        // A sync has sent the rest.
        write(0);
        file.sync_data().unwrap();
        for place in 0..3 {
            write(place * MIB);
        }
        assert_eq!(*lock(&asked.0), []);
        // No batch of the log is under way or was, so there is no pause.
        log.ended();
        log.take_longest();
        file.write(9 * MIB, &half).unwrap();
        assert!(lock(&asked.0).iter().all(|(_, _, pauses)| !pauses));
        assert_eq!(lock(&asked.0).len(), 4);
    }
}
