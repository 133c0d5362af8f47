//! `etcdctl backup`: a member's directory made from another's, which may be running.

use std::path::{Path, PathBuf};

use crate::backup::{restore, source};
use crate::base::system_random;
use crate::disk::{DataDir, RealFiles};
use crate::model::{ClusterId, MemberId};
use crate::raft::saved::Saved;
use crate::replica::identity::MemberIdentity;

/// Where etcd's tool says that the member of a backup is reached, when nothing else is known.
const UNKNOWN_URL: &str = "http://localhost:2380";

/// What is backed up, and where to.
#[derive(Clone, Debug)]
pub struct DirectoryBackup {
    /// The member's data directory.
    pub data_dir: PathBuf,
    /// Its log, if that is elsewhere.
    pub wal_dir: Option<PathBuf>,
    /// A directory that is missing or empty.
    pub backup_dir: PathBuf,
}

/// Makes the backup; returns what was done, in a line. It is the directory of a cluster of one, with ids of its own, that holds all
/// that is in the log and the checkpoint. Nothing of the member's is changed.
///
/// # Errors
/// Why it cannot be, with the fix.
pub fn copy(backup: &DirectoryBackup) -> Result<String, String> {
    let DirectoryBackup { data_dir, wal_dir, backup_dir } = backup;
    let wal_dir = wal_dir.clone().unwrap_or_else(|| DataDir::wal_of(data_dir));
    // Before anything is made.
    source::identity(data_dir)?;
    let begun =
        DataDir::begin_restore(&RealFiles, backup_dir).map_err(|error| error.to_string())?;
    let scratch = backup_dir.join("checkpoint.copy");
    let (from, saved) = match source::running(data_dir, &wal_dir, &scratch) {
        Ok(found) => found,
        Err(error) => {
            begun.give_up(&RealFiles);
            return Err(error);
        }
    };
    let urls = match saved.store.members().get(from.member) {
        Some(record) if !record.peer_urls.is_empty() => record.peer_urls.clone(),
        Some(_) | None => vec![UNKNOWN_URL.to_owned()],
    };
    let (cluster, member) = (ClusterId(system_random()), MemberId(system_random()));
    let store = saved.store.with_members([(member, &urls[..])]);
    let saved = Saved { store, position: saved.position };
    let identity = MemberIdentity {
        cluster,
        member,
        founders: Vec::new(),
        peers: vec![(member, urls)],
        restarted: false,
    };
    restore::fill(begun, None, &identity, &saved)?;
    Ok(line(&saved, &identity, &from, backup_dir))
}

fn line(saved: &Saved, to: &MemberIdentity, from: &MemberIdentity, dir: &Path) -> String {
    format!(
        "backup of member {} of cluster {} at index {} (entry {} of the log): {} keys and directories in {}. Start it with \
         --force-new-cluster; it is member {} of the new cluster {}",
        from.member,
        from.cluster,
        saved.store.index().0,
        saved.position.index.0,
        saved.store.nodes_count(),
        dir.display(),
        to.member,
        to.cluster,
    )
}
