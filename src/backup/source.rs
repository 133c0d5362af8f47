//! What a backup file, or a member's directory, comes to: a state.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::archive::ArchiveReader;
use crate::disk::{DataDir, LogOwner};
use crate::raft::saved::{self, Saved};
use crate::replica::identity::MemberIdentity;
use crate::store::Store;

/// Bytes that are read of a file at once.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// The state in a backup file, or in the directory of a member that is stopped; nothing of either is changed.
///
/// # Errors
/// Why there is none, with the file's name.
pub(crate) fn read(path: &Path) -> Result<Saved, String> {
    if path.is_dir() {
        let identity = identity(path)?;
        let _held = DataDir::hold_still(path).map_err(|error| error.to_string())?;
        let (checkpoint, wal_dir) = (DataDir::checkpoint_of(path), DataDir::wal_of(path));
        let found = saved::read(&checkpoint, &wal_dir, owner(&identity));
        return found.map(|found| found.saved).map_err(|error| error.to_string());
    }
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| fail(&error))?;
    let reader = ArchiveReader::new(BufReader::with_capacity(READ_BYTES, file));
    let (head, store) = reader.and_then(ArchiveReader::into_store).map_err(|error| fail(&error))?;
    Ok(Saved { store, position: head.position })
}

/// What is in a store, in words; version 3 only if it was ever used.
pub(crate) fn contents(store: &Store) -> String {
    let mvcc = store.mvcc();
    let three = match mvcc.is_untouched() {
        true => String::new(),
        false => format!(
            " and {} keys of version 3 at revision {}, with {} leases and {} users",
            mvcc.keys_count(),
            mvcc.revision(),
            mvcc.leases().count(),
            mvcc.auth().users().count()
        ),
    };
    format!("{} keys and directories at index {}{three}", store.nodes_count(), store.index().0)
}

/// Whose directory it is, which its member may be using, and the state in it; nothing of it is changed. A copy of its checkpoint is
/// made at `scratch` meanwhile.
///
/// # Errors
/// As [`read`].
pub(super) fn running(
    path: &Path,
    wal_dir: &Path,
    scratch: &Path,
) -> Result<(MemberIdentity, Saved), String> {
    let identity = identity(path)?;
    let found = saved::read_running(path, wal_dir, owner(&identity), scratch);
    found.map(|found| (identity, found.saved)).map_err(|error| error.to_string())
}

/// Whose directory it is.
///
/// # Errors
/// When it is none of ours, or what is in it cannot be read.
pub(crate) fn identity(path: &Path) -> Result<MemberIdentity, String> {
    let bytes = DataDir::peek(path).map_err(|error| error.to_string())?;
    MemberIdentity::decode(&bytes).map_err(|error| {
        let member = path.join("member.json");
        format!(
            "{} cannot be read: {error}; take it from a backup of this member's directory",
            member.display()
        )
    })
}

/// As its log names it.
pub(super) fn owner(identity: &MemberIdentity) -> LogOwner {
    LogOwner { cluster: identity.cluster.0, member: identity.member.0 }
}
