//! The program under test, run to its end.
//!
//! Owns: how it is called, and with which variables. Never knows: what its words mean.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a run of a program came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

/// The program, with no variables of the developer's own.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("ETCD") || text.starts_with("CAIRN_") {
            command.env_remove(&variable);
        }
    }
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs `cairn` with these words to its end.
pub(crate) fn run(words: &[&str]) -> Said {
    let output = command(words).output().expect("the program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
}

/// Runs it, and it must do what it is told; returns what it says.
pub(crate) fn fine(words: &[&str]) -> String {
    let said = run(words);
    assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
    said.out
}

/// Runs it, and it must refuse with this code and these words.
pub(crate) fn refused(words: &[&str], code: i32, expected: &[&str]) {
    let said = run(words);
    assert_eq!(said.code, Some(code), "{words:?}: {said:?}");
    for expected in expected {
        assert!(said.err.contains(expected), "{words:?}: no {expected:?} in {said:?}");
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
