//! Files that are looked at and never changed: another process may own them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::disk::files::{File, Files};

/// The real file system, for reading only: what would change something is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyFiles;

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "these files are only read")
}

impl Files for ReadOnlyFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// A missing file is an error, also with `create`.
    fn open(&self, path: &Path, _create: bool) -> io::Result<Box<dyn File>> {
        Ok(Box::new(ReadOnlyFile(fs::File::open(path)?)))
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        crate::disk::files::RealFiles.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct ReadOnlyFile(fs::File);

impl File for ReadOnlyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(refused())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_length(&self, _length: u64) -> io::Result<()> {
        Err(refused())
    }

    fn start_writing(&self, _offset: u64, _length: u64, _pause: Duration) {}
}
