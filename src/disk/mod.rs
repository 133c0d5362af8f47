#![doc = include_str!("DESIGN.md")]

mod crash_files;
mod data_dir;
mod files;
mod tables;
pub mod wal;

pub use crash_files::{CrashFiles, Fault, Survival};
pub use data_dir::{DataDir, DataDirError};
pub use files::{File, Files, RealFiles};
pub use tables::{Commit, Tables, TablesError};
pub use wal::{Done, Identity, Mark, Recovered, Wal, WalError, WalObserver, WalOptions};
