//! What an operator can do about what the system says.

use std::fmt;
use std::io;

/// Follows an error of the system in a message; shows nothing where nothing general can be said.
pub(super) struct Advice(pub(super) io::ErrorKind);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            io::ErrorKind::PermissionDenied => {
                let user = rustix::process::geteuid().as_raw();
                write!(
                    f,
                    ": this member runs as user {user}; give it its data directory (`chown -R {user} DIRECTORY`), or run it as \
                     the owner"
                )
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                f.write_str(": mount the file system for writing, or choose another --data-dir")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => f.write_str(
                ": make space there, or choose a --data-dir on a larger disk; the smallest member needs 160 MiB",
            ),
            _ => Ok(()),
        }
    }
}
