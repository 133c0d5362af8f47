//! Why a log cannot be opened or used any further.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::disk::advice::Advice;
use crate::disk::wal::LogOwner;

/// Why a log cannot be opened or used any further.
#[derive(Debug, Error)]
pub enum WalError {
    /// The system refused.
    #[error("{action} {path}: {source}{}", Advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was once safe is damaged.
    #[error(
        "the write-ahead log is damaged: {path} at offset {offset}: {what}. This member must not go on with it. If the \
         other members are well, remove this one from the cluster, empty its data directory and add it again; otherwise \
         restore a backup"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log of another member.
    #[error(
        "{path} belongs to member {:x} of cluster {:x}, but this is member {:x} of cluster {:x}: use another --data-dir, \
         or the --name, --initial-cluster and --initial-cluster-token that this one was made with",
        found.member, found.cluster, expected.member, expected.cluster
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: LogOwner,
        /// Whose it should be.
        expected: LogOwner,
    },
    /// Written by a newer version.
    #[error(
        "{path} has format {version}, which a newer version of cairn wrote: start that version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

impl WalError {
    /// The kind that an [`io::Error`] for it has.
    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::Corrupt { .. } | Self::Foreign { .. } | Self::Newer { .. } => {
                io::ErrorKind::InvalidData
            }
        }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, what: &str) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what: what.to_owned() }
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Makes errors of one action with one file.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> WalError + use<> {
    let path = path.to_owned();
    move |source| WalError::Io { action, path: path.clone(), source }
}
