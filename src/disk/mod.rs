#![doc = include_str!("DESIGN.md")]

mod advice;
mod crash_files;
mod data_dir;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod overlay;
mod read_only;
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

pub use crash_files::{CrashFiles, Fault, Survival};
pub use data_dir::{DataDir, DataDirError, HeldStill};
pub use files::{File, Files, RealFiles};
pub use read_only::ReadOnlyFiles;
pub use tables::{Commit, CommitError, Tables, TablesError};
pub use wal::{
    Done, Inspected, LogOwner, Mark, PrepareSpare, Recovered, Wal, WalError, WalObserver,
    WalOptions,
};
