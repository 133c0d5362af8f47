#![doc = include_str!("DESIGN.md")]

mod advice;
mod batch_times;
mod crash_files;
mod data_dir;
mod data_dir_error;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod log_dir;
mod overlay;
mod read_only;
mod reserve;
mod tables;
pub mod wal;

/// Where calls wait for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// On threads of their own, so that no other work waits with them.
    #[default]
    Threaded,
    /// On the calling thread: in a simulated world there is only one, and its disks do not wait.
    Inline,
}

pub use batch_times::BatchTimes;
pub use crash_files::{CrashFiles, Fault, Survival};
pub use data_dir::{DataDir, HeldStill};
pub use data_dir_error::DataDirError;
pub use files::{File, Files, RealFiles, WRITING_PAUSE};
pub use log_dir::LogDir;
pub use read_only::ReadOnlyFiles;
pub use reserve::{Reserve, free_bytes};
pub use tables::{Commit, CommitError, Extent, Tables, TablesError};
pub use wal::{
    Done, Inspected, LogOwner, LogPulse, Mark, PrepareSpare, Recovered, Wal, WalError, WalObserver,
    WalOptions,
};
