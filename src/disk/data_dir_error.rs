//! Why a data directory, or the directory of a log, cannot be used, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::disk::advice::Advice;

/// There while a restore writes the directory; nobody uses it then.
pub(super) const UNFINISHED: &str = "restore.unfinished";

/// Why a directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The system refused.
    #[error("cannot access data directory: {action} {path}: {source}{}", Advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else has its name.
    #[error("{0} is no directory: name a directory as --data-dir, or one that is not there yet")]
    NoDirectory(PathBuf),
    /// A link that leads nowhere.
    #[error(
        "{0} is a link to a place that is not there: make that directory, or mount the disk that holds it"
    )]
    LeadsNowhere(PathBuf),
    /// Another process holds it.
    #[error(
        "{0} is in use by another process: stop that member first, or choose another --data-dir"
    )]
    InUse(PathBuf),
    /// It is etcd's.
    #[error(
        "{0} is a data directory of etcd (it holds '{1}'), and has not been changed. To take its data over, stop etcd, run `cairn \
         migrate --from {0} --data-dir DIR`, and start with that DIR; to begin without it, choose another --data-dir"
    )]
    Etcd(PathBuf, &'static str),
    /// It is a proxy's.
    #[error(
        "{0} is the data directory of a proxy (it holds 'proxy'): start with --proxy=on or --proxy=readonly, or choose another \
         --data-dir for a member"
    )]
    Proxy(PathBuf),
    /// A restore into it was cut off.
    #[error(
        "a restore into {0} was not finished (it holds '{UNFINISHED}'), and what is there is of no use: empty the directory and \
         run `cairn restore` or `cairn migrate` again"
    )]
    Unfinished(PathBuf),
    /// A restore would write over what is there.
    #[error(
        "{0} is not empty (it holds '{1}'), and what is there is not overwritten: name an empty or missing directory, or move \
         this one away first. Nothing was changed"
    )]
    NotEmpty(PathBuf, String),
    /// There is no member's data.
    #[error("{0} holds no data of a member of cairn: name the --data-dir of a member")]
    NoMember(PathBuf),
    /// A member has written its identity there.
    #[error(
        "{0} is not empty and not cairn's (it holds '{1}'): choose an empty or missing directory as --data-dir"
    )]
    Foreign(PathBuf, String),
    /// The log is in the first directory and asked for in the second.
    #[error(
        "the log of this member is in {0}, not in {1}: start it with --wal-dir={0}, or move all files of the log from the one \
         to the other while it is stopped"
    )]
    LogElsewhere(PathBuf, PathBuf),
    /// The log was in the first directory and is gone; the second is the data directory.
    #[error(
        "the log of this member was in {0}, and none is there: mount the disk that holds it, or name with --wal-dir where it was \
         moved to. If it is lost, this member has lost what it acknowledged: remove it from the cluster and add it again with an \
         empty directory instead of {1}"
    )]
    LogMissing(PathBuf, PathBuf),
    /// There is a log in either directory.
    #[error(
        "there is a log in {0} and one in {1}: only one of them is this member's newest. Move the other one away, or start \
         with the --wal-dir that was used last"
    )]
    TwoLogs(PathBuf, PathBuf),
    /// There is a log in the first directory, and the second, the data directory, holds no member.
    #[error(
        "there is a log in {0}, and {1} holds no member: name the --data-dir of the member whose log it is, or an empty --wal-dir \
         for a new one"
    )]
    LogWithoutData(PathBuf, PathBuf),
    /// The directory for the log holds other files.
    #[error(
        "{0} cannot be the directory of the log (it holds '{1}'): name an empty or missing directory as --wal-dir, for this \
         member alone"
    )]
    ForeignLog(PathBuf, String),
    /// Another version of cairn wrote it, in a format that this one does not read.
    #[error(
        "{0} has the stamp '{1}', which this version does not know: start the version of cairn that wrote it"
    )]
    OtherFormat(PathBuf, String),
}
