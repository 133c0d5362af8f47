//! Backups: `cairn backup`, `cairn restore`, `cairn verify`, and what `etcdctl backup` does.
//!
//! Owns: the ways from a cluster to a file and from a file to a cluster. Never knows: the bytes of the file (`archive`), what a
//! member's directory looks like (`raft::saved`, `disk`).
//!
//! | file | what it is |
//! |---|---|
//! | `flags` | flags and help of the three programs |
//! | `online` | `cairn backup`: asks a member over its client port |
//! | `who` | whom programs ask, and as whom |
//! | `file` | a file that takes its name when it is whole |
//! | `source` | what a backup file, or a member's directory, comes to |
//! | `restore` | `cairn restore`: a new member's directory |
//! | `directory` | `etcdctl backup`: a copy of a member's directory, also while the member runs |
//! | `verify` | `cairn verify`: reads everything, and says what is wrong |

mod directory;
mod file;
pub(crate) mod flags;
mod online;
pub(crate) mod restore;
pub(crate) mod source;
mod verify;
pub(crate) mod who;

use flags::Asked;

pub use directory::{DirectoryBackup, copy};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Ask a cluster for a backup.
    Backup,
    /// Make a member's directory of one.
    Restore,
    /// Look whether one is whole.
    Verify,
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// For standard output.
    pub text: String,
    /// For standard error; empty when there is nothing to say.
    pub complaint: String,
    /// Exit code: 0 when all is well, else 1; 2 for a wrong flag.
    pub code: u8,
}

impl Ended {
    pub(crate) fn well(text: String) -> Self {
        Self { text, ..Self::default() }
    }

    pub(crate) fn badly(complaint: String, code: u8) -> Self {
        Self { complaint, code, ..Self::default() }
    }
}

/// Does what a command line asks for.
pub async fn run(task: Task, words: Vec<String>, variables: Vec<(String, String)>) -> Ended {
    let said = match flags::read(flags::table(task), words, variables) {
        Ok(Asked::Do(said)) => said,
        Ok(Asked::Help(text)) => return Ended::well(text),
        Err(complaint) => return Ended::badly(complaint, 2),
    };
    let done = match task {
        Task::Backup => online::run(&said).await,
        Task::Restore => restore::run(&said),
        Task::Verify => return verify::run(&said),
    };
    match done {
        Ok(ended) => ended,
        Err(complaint) => Ended::badly(complaint, 1),
    }
}
