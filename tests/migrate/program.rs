//! The program under test, and directories to run it on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::node::Node;
pub(crate) use crate::support::program::text;
use crate::support::program::{self, Said};

/// Runs `cairn migrate` with these words.
pub(crate) fn run(words: &[&str]) -> Said {
    program::run(&[&["migrate"], words].concat())
}

/// Runs it, and it must do what it is told; returns what it says.
pub(crate) fn fine(words: &[&str]) -> String {
    let said = run(words);
    assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
    said.out
}

/// What a dry run finds.
pub(crate) fn found(source: &Path, more: &[&str]) -> Value {
    let out = fine(&[&["--from", text(source), "--dry-run", "--json"], more].concat());
    serde_json::from_str(&out).expect("JSON")
}

/// A dry run must refuse with these words, and leave everything as it was.
pub(crate) fn refused(source: &Path, more: &[&str], expected: &[&str]) -> String {
    let before = files(source);
    let said = run(&[&["--from", text(source), "--dry-run"], more].concat());
    assert_eq!(said.code, Some(1), "{said:?}");
    for expected in expected {
        assert!(said.err.contains(expected), "no {expected:?} in {said:?}");
    }
    assert_eq!(files(source), before);
    said.err
}

/// Makes the directory of `node`, alone, under its own name and peer URL.
pub(crate) fn migrate(node: &Node, source: &Path, more: &[&str]) -> Value {
    let before = files(source);
    let (dir, peer) = (node.data_dir(), node.peer_url());
    let words = ["--from", text(source), "--data-dir", text(&dir), "--json", "--name", node.name];
    let out = fine(&[&words[..], &["--initial-advertise-peer-urls", &peer], more].concat());
    assert_eq!(files(source), before, "the source stays as it was");
    serde_json::from_str(&out).expect("JSON")
}

/// Names, lengths and times of all files: what a write would change.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
    let (mut found, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let about = entry.metadata().expect("it is there");
            if about.is_dir() {
                left.push(entry.path());
            }
            found.push((entry.path(), about.len(), about.modified().ok()));
        }
    }
    found.sort();
    found
}

/// A recorded directory, and what its server answered.
pub(crate) struct Recorded {
    _dir: TempDir,
    pub(crate) source: PathBuf,
    pub(crate) answers: Value,
}

impl Recorded {
    pub(crate) fn of(name: &'static str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd-data");
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let packed = fixtures.join(name).with_extension("tar.gz");
        let unpacked =
            Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(dir.path()).status();
        assert!(unpacked.expect("tar is there").success());
        let source = fs::read_dir(dir.path()).expect("a folder").flatten().next();
        let source = source.expect("one directory").path();
        let answers = fs::read(fixtures.join(name).with_extension("json")).expect("answers");
        let answers = serde_json::from_slice(&answers).expect("JSON");
        Self { _dir: dir, source, answers }
    }

    /// A file below `member`, the first or last by name of those with this ending.
    pub(crate) fn file(&self, folder: &str, ending: &str, last: bool) -> PathBuf {
        let names = fs::read_dir(self.source.join("member").join(folder)).expect("a folder");
        let mut paths: Vec<_> = names.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| text(path).ends_with(ending));
        paths.sort();
        let found = if last { paths.last() } else { paths.first() };
        found.unwrap_or_else(|| panic!("no {ending} in {folder}")).clone()
    }
}
