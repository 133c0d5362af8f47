//! A file that takes its name when it is whole and on the disk; until then it has another one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::disk::{self, Files as _, RealFiles, WRITING_PAUSE};

/// What a file that is not whole has behind its name.
const UNFINISHED: &str = ".tmp";

/// After so many bytes the disk is asked to begin writing: a sync of everything at the end would hold up the log of a member that has
/// its data on the same disk.
const PACE_BYTES: u64 = 1 << 20;

/// Values and hashed passwords are in it.
const PRIVATE: u32 = 0o600;

/// A file that is being written. When it goes before it was finished, nothing is left of it.
#[derive(Debug)]
pub(super) struct NewFile {
    file: File,
    /// The same file, for pacing.
    paced: Box<dyn disk::File>,
    written: u64,
    begun: u64,
    aside: PathBuf,
    path: PathBuf,
    force: bool,
    finished: bool,
}

impl NewFile {
    /// Begins a file that will be at `path`; one that is there is only replaced by `force`.
    ///
    /// # Errors
    /// Why it cannot be, with the fix.
    pub(super) fn begin(path: &Path, force: bool) -> Result<Self, String> {
        refuse_what_is_there(path, force)?;
        let mut aside = path.as_os_str().to_owned();
        aside.push(UNFINISHED);
        let aside = PathBuf::from(aside);
        let mut options = File::options();
        let opened = options.write(true).create(true).truncate(false).mode(PRIVATE).open(&aside);
        let file = opened.map_err(|error| format!("cannot write {}: {error}", aside.display()))?;
        // Two at once would be one file of both.
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(format!(
                    "{} is being written by another process: wait for it, or name another file",
                    aside.display()
                ));
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(format!("cannot lock {}: {error}", aside.display()));
            }
        }
        // Between the look and the lock the other one may have finished: then this is its file, under its name.
        let place = |found: &fs::Metadata| (found.dev(), found.ino());
        let here = file.metadata().ok().map(|found| place(&found));
        if here != fs::metadata(&aside).ok().map(|found| place(&found)) {
            return Err(format!("{} was just written by another process", path.display()));
        }
        let path = path.to_owned();
        let paced = RealFiles.open(&aside, false);
        let paced = paced.map_err(|error| format!("cannot write {}: {error}", aside.display()))?;
        let new = Self { file, paced, written: 0, begun: 0, aside, path, force, finished: false };
        // What an earlier attempt left that was killed.
        new.file.set_len(0).map_err(|error| new.failed(&error))?;
        Ok(new)
    }

    /// Makes it durable and gives it its name.
    ///
    /// # Errors
    /// Why that cannot be; there is no file then.
    pub(super) fn finish(mut self) -> Result<(), String> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        refuse_what_is_there(&self.path, self.force)?;
        fs::rename(&self.aside, &self.path).map_err(|error| self.failed(&error))?;
        self.finished = true;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| format!("cannot sync {}: {error}", dir.display()))
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("cannot write {}: {error}", self.aside.display())
    }
}

fn refuse_what_is_there(path: &Path, force: bool) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot look at {}: {error}", path.display())),
        Ok(found) if found.is_dir() => {
            Err(format!("{} is a directory: name a file in it", path.display()))
        }
        Ok(_) if force => Ok(()),
        Ok(_) => Err(format!(
            "{} is there already and stays as it is: name another file, or replace it with --force",
            path.display()
        )),
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written - self.begun >= PACE_BYTES {
            self.paced.start_writing(self.begun, self.written - self.begun, WRITING_PAUSE);
            self.begun = self.written;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            // It may be gone already; nothing else can be done about it.
            let _ = fs::remove_file(&self.aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        drop(NewFile::begin(&path, false).unwrap());
        assert!(names(dir.path()).is_empty());
        let mut new = NewFile::begin(&path, false).unwrap();
        new.write_all(b"one").unwrap();
        assert!(NewFile::begin(&path, false).unwrap_err().contains("another process"));
        assert_eq!(names(dir.path()), ["b.tmp"]);
        new.finish().unwrap();
        assert_eq!(names(dir.path()), ["b"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
    }

    #[test]
    fn what_is_there_is_replaced_only_when_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        // It came while the backup was being written.
        let new = NewFile::begin(&path, false).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(new.finish().unwrap_err().contains("--force"));
        assert!(NewFile::begin(&path, false).unwrap_err().contains("--force"));
        assert_eq!(fs::read(&path).unwrap(), b"other");
        fs::write(dir.path().join("b.tmp"), "what a killed attempt left, which is longer").unwrap();
        let mut new = NewFile::begin(&path, true).unwrap();
        new.write_all(b"new").unwrap();
        new.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(NewFile::begin(dir.path(), true).unwrap_err().contains("is a directory"));
    }
}
