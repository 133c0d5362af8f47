//! What is where in a data directory of etcd, and whether etcd is using it.
//!
//! Owns: names of files and directories, of all versions. Never knows: what is in the files.
//! Holds: nothing is opened for writing, and locks are only asked for, shared, and let go at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

/// The version 3 store.
const DB: &str = "db";

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentFile {
    /// Its place in the log.
    pub(super) number: u64,
    /// The first entry that may be in it.
    pub(super) first: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotFile {
    pub(super) term: u64,
    /// The last entry in it.
    pub(super) index: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// A data directory of etcd.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) wal_dir: PathBuf,
    pub(super) snap_dir: PathBuf,
    /// In the order of the log.
    pub(super) segments: Vec<SegmentFile>,
    /// Newest first.
    pub(super) snapshots: Vec<SnapshotFile>,
    /// The version 3 store.
    pub(super) db: Option<PathBuf>,
    /// Such stores that came from another member, with the last entry in each.
    pub(super) received: Vec<(u64, PathBuf)>,
    /// Files that etcd has set aside as broken.
    pub(super) set_aside: Vec<PathBuf>,
    /// Files that no version of etcd puts there.
    pub(super) foreign: Vec<PathBuf>,
}

/// Looks at a directory.
///
/// # Errors
/// Why it is no data directory of a member that is stopped, with the fix.
pub(super) fn look(from: &Path, from_wal: Option<&Path>) -> Result<Layout, String> {
    let (wal_dir, snap_dir) = directories(from, from_wal)?;
    let mut layout = Layout { wal_dir, snap_dir, ..Layout::default() };
    layout.list_segments()?;
    layout.list_snapshots()?;
    layout.refuse_running()?;
    Ok(layout)
}

fn directories(from: &Path, from_wal: Option<&Path>) -> Result<(PathBuf, PathBuf), String> {
    let shown = from.display();
    let names = names_in(from)?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has("cairn-format") {
        return Err(format!(
            "{shown} is a data directory of cairn, not of etcd: a member can be started on it as it is, and `cairn restore` makes \
             a new cluster of it"
        ));
    }
    let of = |base: &Path| {
        let wal = from_wal.map_or_else(|| base.join("wal"), Path::to_owned);
        (wal, base.join("snap"))
    };
    if has("member") {
        return Ok(of(&from.join("member")));
    }
    // Of 2.0.0; or the inner directory was named.
    if has("snap") || has("wal") {
        return Ok(of(from));
    }
    if has("conf") && has("log") && has("snapshot") {
        return Err(format!(
            "{shown} is a data directory of etcd 0.4, whose format is another one: start etcd 2.3 on a copy of it, which converts it, \
             stop that, and name the copy"
        ));
    }
    if has("proxy") {
        return Err(format!(
            "{shown} is the directory of a proxy of etcd, which holds no data: name the data directory of a member"
        ));
    }
    let nested = names.iter().map(|name| from.join(name)).find(|path| path.join("member").is_dir());
    match (nested, names.first()) {
        (Some(nested), _) => Err(format!(
            "{shown} is no data directory of etcd, but {} in it is: name that",
            nested.display()
        )),
        (None, Some(name)) => Err(format!(
            "{shown} is no data directory of etcd: it has no directory 'member', and holds '{name}'. Name the --data-dir of etcd"
        )),
        (None, None) => Err(format!(
            "{shown} is empty: name the --data-dir of etcd, or its volume is not mounted"
        )),
    }
}

/// The names in a directory, sorted.
fn names_in(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return format!("{} is not there: name the --data-dir of etcd", dir.display());
        }
        unreadable(dir, &error)
    })?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("{} cannot be read: {error}", dir.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Two numbers as etcd writes them into names: sixteen hexadecimal digits each.
fn two_numbers(stem: &str) -> Option<(u64, u64)> {
    const DIGITS: usize = 16;
    let (one, other) = stem.split_once('-')?;
    let number = |text: &str| {
        let right = text.len() == DIGITS && !text.starts_with('+');
        right.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    Some((number(one)?, number(other)?))
}

fn bytes_of(path: &Path) -> Result<u64, String> {
    let found = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(found.len())
}

impl Layout {
    fn list_segments(&mut self) -> Result<(), String> {
        if !self.wal_dir.is_dir() {
            return Ok(());
        }
        for name in names_in(&self.wal_dir)? {
            let path = self.wal_dir.join(&name);
            if name.ends_with(".tmp") {
                // Room for the next segment.
            } else if name.ends_with(".broken") {
                self.set_aside.push(path);
            } else if let Some((number, first)) = name.strip_suffix(".wal").and_then(two_numbers) {
                let bytes = bytes_of(&path)?;
                self.segments.push(SegmentFile { number, first, path, bytes });
            } else {
                self.foreign.push(path);
            }
        }
        self.segments.sort_by_key(|segment| segment.number);
        Ok(())
    }

    fn list_snapshots(&mut self) -> Result<(), String> {
        if !self.snap_dir.is_dir() {
            return Ok(());
        }
        for name in names_in(&self.snap_dir)? {
            let path = self.snap_dir.join(&name);
            if name.ends_with(".broken") {
                self.set_aside.push(path);
            } else if name == DB {
                self.db = Some(path);
            } else if let Some((term, index)) = name.strip_suffix(".snap").and_then(two_numbers) {
                let bytes = bytes_of(&path)?;
                self.snapshots.push(SnapshotFile { term, index, path, bytes });
            } else if let Some(stem) = name.strip_suffix(".snap.db") {
                let index = u64::from_str_radix(stem, 16).ok();
                self.received.extend(index.map(|index| (index, path)));
            } else if !name.starts_with("tmp") && !name.starts_with("db.tmp") {
                self.foreign.push(path);
            }
        }
        self.snapshots.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.term, snapshot.index)));
        Ok(())
    }

    /// A member that runs holds its segments and its version 3 store.
    fn refuse_running(&self) -> Result<(), String> {
        let segments = self.segments.iter().map(|segment| &segment.path);
        for path in segments.chain(&self.db) {
            if is_held(path)? {
                return Err(format!(
                    "etcd is running: it holds {}. Stop it first (systemctl stop etcd, docker stop ...), or make a copy of its data \
                     with `etcdctl backup` and name that",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

/// Does another process hold a lock on a file? etcd 3 locks with `fcntl`, older versions and bbolt with `flock`.
fn is_held(path: &Path) -> Result<bool, String> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    if matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
        return Ok(true);
    }
    // A file system without locks says something else; then no etcd could hold one.
    let asked = fcntl_lock(&file, FlockOperation::NonBlockingLockShared);
    Ok(matches!(asked, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS)))
}

/// A file that cannot be opened or read, with the fix.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> String {
    let fix = if error.kind() == io::ErrorKind::PermissionDenied {
        ". Run this as the user that etcd runs as, or as root"
    } else {
        ""
    };
    format!("{} cannot be read: {error}{fix}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, files: &[&str]) {
        for name in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a name")).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }

    fn refused(root: &Path) -> String {
        look(root, None).unwrap_err()
    }

    #[test]
    fn files_are_told_apart_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        make(
            dir.path(),
            &[
                "member/wal/0000000000000001-00000000000000ff.wal",
                "member/wal/0000000000000000-0000000000000000.wal",
                "member/wal/0.tmp",
                "member/wal/0000000000000000-0000000000000000.wal.broken",
                "member/wal/1-2.wal",
                "member/snap/0000000000000002-0000000000000010.snap",
                "member/snap/0000000000000003-0000000000000009.snap",
                "member/snap/0000000000000002-0000000000000005.snap.broken",
                "member/snap/0000000000000010.snap.db",
                "member/snap/tmp123",
                "member/snap/db",
                "member/snap/notes.txt",
            ],
        );
        let found = look(dir.path(), None).unwrap();
        let numbers: Vec<_> = found.segments.iter().map(|s| (s.number, s.first)).collect();
        assert_eq!(numbers, [(0, 0), (1, 255)]);
        let snapshots: Vec<_> = found.snapshots.iter().map(|s| (s.term, s.index)).collect();
        assert_eq!(snapshots, [(3, 9), (2, 16)]);
        assert!(found.db.is_some());
        let received: Vec<_> = found.received.iter().map(|(index, _)| *index).collect();
        assert_eq!(received, [16]);
        assert_eq!((found.set_aside.len(), found.foreign.len()), (2, 2));
        // The inner directory, as of 2.0.0.
        assert_eq!(look(&dir.path().join("member"), None).unwrap().segments.len(), 2);
        let wal = dir.path().join("member/wal");
        assert_eq!(look(dir.path(), Some(&wal)).unwrap().segments.len(), 2);
    }

    #[test]
    fn what_is_no_data_directory_is_told_with_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        make(&at("ours"), &["cairn-format"]);
        make(&at("old"), &["conf", "log", "snapshot/x"]);
        make(&at("proxy"), &["proxy/cluster"]);
        make(&at("above"), &["m1.etcd/member/wal/0.tmp"]);
        make(&at("other"), &["notes.txt"]);
        fs::create_dir(at("empty")).unwrap();
        for (name, words) in [
            ("ours", "cairn restore"),
            ("old", "etcd 0.4"),
            ("proxy", "proxy of etcd"),
            ("above", "m1.etcd in it is"),
            ("other", "notes.txt"),
            ("empty", "is empty"),
            ("missing", "is not there"),
            ("other/notes.txt", "cannot be read"),
        ] {
            let said = refused(&at(name));
            assert!(said.contains(words), "{name}: {said}");
        }
    }

    #[test]
    fn a_lock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &["member/wal/0000000000000000-0000000000000000.wal"]);
        let held = File::open(dir.path().join("member/wal/0000000000000000-0000000000000000.wal"))
            .unwrap();
        look(dir.path(), None).unwrap();
        held.lock().unwrap();
        assert!(refused(dir.path()).contains("etcd is running"));
    }
}
