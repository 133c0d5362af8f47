//! Space on a disk: how much is left, and a file that holds some of it for the log.
//!
//! A log that cannot be written ends its member, and a member that has ended cannot be told to delete anything. So a file
//! holds space that other files would take, and gives way while there is still room to go on.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Name of the file.
pub(super) const RESERVE: &str = "reserve";

/// The file is written in pieces of this size where the file system cannot be asked for space.
const PIECE_BYTES: usize = 1 << 20;

/// After the file gave way it is made again only when so many times its size is free: with less, it would come and go.
const MAKE_AGAIN_FACTOR: u64 = 3;

/// The file that holds space on the disk of one directory.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    bytes: u64,
    /// The file is there at its full size.
    is_held: bool,
    /// The disk had too little left when it was looked at last.
    is_short: bool,
}

impl Reserve {
    /// For a directory that is there. Nothing is made before the first [`Reserve::look`].
    pub fn new(dir: &Path, bytes: u64) -> Self {
        Self { dir: dir.to_owned(), bytes, is_held: false, is_short: false }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the disk has less left than the size of the file, which gives way then; it is made, or made again, when there is
    /// room. Blocks.
    ///
    /// # Errors
    /// When the disk cannot be asked, or the file can be neither made nor removed for another reason than a full disk.
    pub fn look(&mut self) -> io::Result<bool> {
        let free = free_bytes(&self.dir)?;
        if self.is_held {
            self.is_short = free < self.bytes;
            if self.is_short {
                self.give_way()?;
            }
            return Ok(self.is_short);
        }
        let needed = self.bytes.saturating_mul(if self.is_short { MAKE_AGAIN_FACTOR } else { 2 });
        if free < needed {
            self.is_short = true;
            // What a member left that ended before it had given way, or while it made the file.
            self.give_way()?;
            return Ok(true);
        }
        match self.hold() {
            Ok(()) => (self.is_held, self.is_short) = (true, false),
            Err(error) if is_full(&error) => {
                self.is_short = true;
                self.give_way()?;
            }
            Err(error) => return Err(error),
        }
        Ok(self.is_short)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE)
    }

    fn hold(&self) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(self.path())?;
        if file.metadata()?.len() > self.bytes {
            file.set_len(self.bytes)?;
        }
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&file, self.bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn give_way(&mut self) -> io::Result<()> {
        self.is_held = false;
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn fill(mut file: &fs::File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE_BYTES as u64);
        file.write_all(&zeros[..usize::try_from(piece).unwrap_or(PIECE_BYTES)])?;
        left -= piece;
    }
    file.sync_all()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What a user without privileges may still write to the disk of a directory.
///
/// # Errors
/// What the system says.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_takes_the_space_that_it_says_and_is_kept() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        for bytes in [3 << 20, 1 << 20, 2 << 20] {
            let mut reserve = Reserve::new(dir.path(), bytes);
            assert!(!reserve.look().unwrap());
            let file = fs::metadata(dir.path().join(RESERVE)).unwrap();
            assert_eq!(file.len(), bytes);
            assert!(file.blocks() * 512 >= bytes, "{} blocks", file.blocks());
            assert!(!reserve.look().unwrap());
        }
    }

    #[test]
    fn a_disk_that_has_not_so_much_is_short_and_nothing_is_left_on_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(RESERVE), "a part").unwrap();
        let mut reserve = Reserve::new(dir.path(), 1 << 50);
        assert!(reserve.look().unwrap());
        assert!(reserve.look().unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_space_cannot_be_asked_for_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fill(&fs::File::create(&path).unwrap(), (5 << 20) + 7).unwrap();
        assert_eq!(fs::metadata(path).unwrap().len(), (5 << 20) + 7);
    }
}
