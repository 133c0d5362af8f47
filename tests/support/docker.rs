//! A Docker engine, and what a test has made there.
//!
//! Owns: the name of a run, and the end of everything that carries it. Never knows: what is in the images.

use std::process::{Command, Output};
use std::{env, thread};

use super::time::since_1970;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

pub(crate) fn docker(args: &[&str]) -> Output {
    output(Command::new("docker").args(args))
}

/// What a command of Docker prints.
///
/// # Panics
/// When it fails.
pub(crate) fn said(args: &[&str]) -> String {
    let output = docker(args);
    assert!(output.status.success(), "docker {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Everything made at the engine carries this run's own name, and goes with it.
pub(crate) struct Engine {
    pub(crate) name: String,
}

impl Engine {
    /// `None` where there is none and that was said.
    pub(crate) fn start() -> Option<Self> {
        if env::var_os("CAIRN_SKIP_DOCKER").is_some_and(|v| v == "1") {
            eprintln!("skipped: no Docker engine (CAIRN_SKIP_DOCKER=1)");
            return None;
        }
        let there = Command::new("docker").arg("info").output();
        let there = there.is_ok_and(|output| output.status.success());
        assert!(there, "no Docker engine answers: start one, or set CAIRN_SKIP_DOCKER=1");
        let now = since_1970().as_millis();
        Some(Self { name: format!("cairn-test-{}-{now}", std::process::id()) })
    }

    pub(crate) fn label(&self) -> String {
        format!("cairn.test={}", self.name)
    }
}

impl Drop for Engine {
    /// Removes what this run has made, and only that; also after a panic, so nothing here may panic.
    fn drop(&mut self) {
        let listed = |list: &[&str], label: &str| {
            let filter = format!("label={label}");
            let listed = Command::new("docker").args(list).args(["--filter", &filter]).output();
            let listed = listed.map(|output| text(&output.stdout)).unwrap_or_default();
            let mut ids: Vec<_> = listed.lines().map(str::to_owned).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        let remove = |list: &[&str], remove: &[&str], label: &str| {
            let ids = listed(list, label);
            if !ids.is_empty() {
                let _ = Command::new("docker").args(remove).args(ids).output();
            }
        };
        for label in [self.label(), format!("com.docker.compose.project={}", self.name)] {
            if thread::panicking() {
                for id in listed(&["ps", "-aq"], &label) {
                    let logs = Command::new("docker").args(["logs", "--tail=50", &id]).output();
                    let logs = logs.map(|output| text(&output.stderr)).unwrap_or_default();
                    eprintln!("--- log of container {id}\n{logs}\n---");
                }
            }
            remove(&["ps", "-aq"], &["rm", "-f", "-v"], &label);
            remove(&["network", "ls", "-q"], &["network", "rm"], &label);
            remove(&["volume", "ls", "-q"], &["volume", "rm"], &label);
            // An image goes after those that were made from it: the last of a stage takes the unnamed ones before it along.
            remove(&["images", "-aq"], &["rmi", "-f"], &label);
            remove(&["images", "-aq"], &["rmi", "-f"], &label);
        }
    }
}
