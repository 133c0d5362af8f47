//! The only door to the file system.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A file system, as far as this floor needs one. All calls block.
pub trait Files: Debug + Send + Sync {
    /// Makes a directory and those above it, for this user alone. One that is there already is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file to read and write. With `create` a missing one is made, for this user alone.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>>;
    /// Gives a file another name; a file that had it is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in bytewise order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Is there a file or directory?
    fn exists(&self, path: &Path) -> bool;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Fills the buffer from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all bytes at `offset`; the file grows as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file, or lets it grow with zeros.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Asks the system to start writing a range out, so that a later sync finds little left to do, and makes the caller pause:
    /// for other writers of the device, the log most of all. Promises nothing.
    fn start_writing(&self, offset: u64, length: u64, pause: Duration);
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Pause after a piece of a large file for those who do not know how the log does: 1 MiB each makes 100 MiB a second.
pub const WRITING_PAUSE: Duration = Duration::from_millis(10);

impl Files for RealFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(create).mode(PRIVATE_FILE);
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn start_writing(&self, offset: u64, length: u64, pause: Duration) {
        // The system writes out what it is told will not be needed; unlike a sync, no caller waits for it, and the journal of the
        // file system, which the log's syncs may have to wait for, is left alone.
        let length = std::num::NonZeroU64::new(length);
        let _ = rustix::fs::fadvise(&self.0, offset, length, rustix::fs::Advice::DontNeed);
        thread::sleep(pause);
    }
}
