//! What an operator can do about what the system says.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Follows an error of the system in a message; shows nothing where nothing general can be said.
pub(super) struct Advice<'a>(pub(super) &'a io::Error);

impl Advice<'_> {
    fn is_one_of(&self, kinds: &[io::ErrorKind]) -> bool {
        kinds.contains(&self.0.kind())
    }
}

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one_of(&[io::ErrorKind::PermissionDenied]) {
            let user = rustix::process::geteuid().as_raw();
            return write!(
                f,
                ": this member runs as user {user}; give it its data directory (`chown -R {user} DIRECTORY`), or run it as the \
                 owner"
            );
        }
        if self.is_one_of(&[io::ErrorKind::ReadOnlyFilesystem]) {
            return f
                .write_str(": mount the file system for writing, or choose another --data-dir");
        }
        if self.is_one_of(&[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]) {
            return f.write_str(
                ": make space there, or choose a --data-dir on a larger disk; the smallest member needs 160 MiB",
            );
        }
        if self.0.raw_os_error() == Some(Errno::IO.raw_os_error()) {
            return f.write_str(
                ": the disk fails; if the other members are well, remove this one from the cluster and add it again with an \
                 empty data directory on another disk",
            );
        }
        Ok(())
    }
}
