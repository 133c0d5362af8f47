//! The directory that everything is in: whose it is, which format it has, who uses it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing::warn;

use crate::disk::advice::Advice;
use crate::disk::files::Files;
use crate::model::codes;

const STAMP: &str = "cairn-format";
const STAMP_NEW: &str = "cairn-format.new";
const LOCK: &str = "lock";
const MEMBER: &str = "member.json";
const MEMBER_NEW: &str = "member.json.new";
const WAL: &str = "wal";
const CHECKPOINT: &str = "checkpoint.redb";

/// First line of the stamp, before the number of the format.
const STAMP_PREFIX: &str = "cairn data directory, format ";
/// Format 2 holds times in nanoseconds; format 1, never released, held milliseconds.
const FORMAT: u32 = 2;

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
        "{0} is a data directory of etcd (it holds '{1}'): cairn does not read it and has not changed it. Choose another \
         --data-dir for cairn"
    )]
    Etcd(PathBuf, &'static str),
    /// A member has written its identity there.
    #[error(
        "{0} is not empty and not cairn's (it holds '{1}'): choose an empty or missing directory as --data-dir"
    )]
    Foreign(PathBuf, String),
    /// Another version of cairn wrote it, in a format that this one does not read.
    #[error(
        "{0} has the stamp '{1}', which this version does not know: start the version of cairn that wrote it"
    )]
    OtherFormat(PathBuf, String),
}

/// A data directory that is ours alone while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Closing it lets the next process in.
    _lock: fs::File,
}

impl DataDir {
    /// Takes the directory; makes it when it is missing. The rights of one that is there are the operator's and stay as they
    /// are; that others can get in is worth a line in the log.
    ///
    /// # Errors
    /// See [`DataDirError`]. A refused directory is left as it was.
    pub fn open(files: &dyn Files, path: &Path) -> Result<Self, DataDirError> {
        let fail = |action| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        let is_there = is_there(path)?;
        let names = if is_there { files.list(path).map_err(fail("list"))? } else { Vec::new() };
        check_names(path, &names)?;
        files.create_dir(path).map_err(fail("create"))?;
        let lock = lock(&path.join(LOCK))?;
        if names.iter().any(|name| name == STAMP) {
            check_access(files, path)?;
            check_stamp(files, path)?;
        } else {
            write_stamp(files, path).map_err(fail("write the stamp of"))?;
        }
        if is_there {
            warn_of_others(path);
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Whether a member has written its identity into the directory; without taking the directory.
    pub fn has_member(path: &Path) -> bool {
        path.join(MEMBER).is_file()
    }

    /// What [`DataDir::write_member`] wrote last; `None` in a new directory.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn read_member(&self, files: &dyn Files) -> Result<Option<Vec<u8>>, DataDirError> {
        let path = self.path.join(MEMBER);
        if !files.exists(&path) {
            return Ok(None);
        }
        let read = read_whole(files, &path);
        read.map(Some).map_err(|source| DataDirError::Io { action: "read", path, source })
    }

    /// Keeps what the owner wants to find before log and checkpoint: who it is. All of it or nothing survives a crash.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn write_member(&self, files: &dyn Files, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(MEMBER);
        let written = replace(files, &self.path, MEMBER_NEW, MEMBER, bytes);
        written.map_err(|source| DataDirError::Io { action: "write", path, source })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    pub fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// Where the checkpoint is.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }
}

/// Is there a directory?
fn is_there(path: &Path) -> Result<bool, DataDirError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(DataDirError::NoDirectory(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(DataDirError::LeadsNowhere(path.to_owned())),
            Err(_) => Ok(false),
        },
        Err(source) => Err(DataDirError::Io { action: "look at", path: path.to_owned(), source }),
    }
}

/// Files are made for this user alone, whatever the directory is. Its rights are not changed: a mounted volume may belong to a
/// group on purpose, and only its owner can change them.
fn warn_of_others(path: &Path) {
    let Ok(found) = fs::metadata(path) else { return };
    let mode = found.permissions().mode() & 0o7777;
    let can = match (mode & 0o022, mode & 0o055) {
        (0, 0) => return,
        (0, _) => "see which files are in it",
        _ => "remove and replace files in it",
    };
    let path = path.display();
    warn!(
        target: "etcdmain",
        code = codes::DATA_DIRECTORY_MODE,
        "the data directory {path} has the mode {mode:04o}: others can {can}, though not read them. Unless that is wanted, \
         `chmod 700 {path}`"
    );
}

/// Names that are in a directory though no member has put data there: what file systems keep at their root, and what begins
/// with a dot, as snapshots of a network disk and files of a shell do.
fn is_no_data(name: &str) -> bool {
    const OF_FILE_SYSTEMS: &[&str] =
        &["lost+found", "aquota.user", "aquota.group", "quota.user", "quota.group"];
    name.starts_with('.') || OF_FILE_SYSTEMS.contains(&name)
}

/// Before anything else says less clearly that it may not open its file.
fn check_access(files: &dyn Files, path: &Path) -> Result<(), DataDirError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { action: "open", path, source }
    };
    let wal = path.join(WAL);
    let mut paths = vec![path.join(STAMP), path.join(MEMBER), path.join(CHECKPOINT)];
    if files.exists(&wal) {
        let segments = files.list(&wal).map_err(fail(&wal))?;
        paths.extend(segments.iter().filter(|name| !is_no_data(name)).map(|name| wal.join(name)));
    }
    for path in paths.iter().filter(|path| files.exists(path)) {
        files.open(path, false).map_err(fail(path))?;
    }
    Ok(())
}

fn check_names(path: &Path, names: &[String]) -> Result<(), DataDirError> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(STAMP) {
        return Ok(());
    }
    for etcds in ["member", "proxy"] {
        if has(etcds) {
            return Err(DataDirError::Etcd(path.to_owned(), etcds));
        }
    }
    // What a start leaves that was cut off before the stamp was there.
    let ours = |name: &str| matches!(name, LOCK | STAMP_NEW);
    let foreign = names.iter().find(|name| !ours(name) && !is_no_data(name));
    match foreign {
        Some(name) => Err(DataDirError::Foreign(path.to_owned(), name.clone())),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<fs::File, DataDirError> {
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |source| DataDirError::Io { action: "lock", path: path.to_owned(), source };
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(DataDirError::InUse(path.parent().unwrap_or(path).to_owned()))
        }
        Err(fs::TryLockError::Error(source)) => Err(fail(source)),
    }
}

fn check_stamp(files: &dyn Files, path: &Path) -> Result<(), DataDirError> {
    let stamp = path.join(STAMP);
    let bytes = read_whole(files, &stamp).map_err(|source| DataDirError::Io {
        action: "read",
        path: stamp.clone(),
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    let format = text.strip_prefix(STAMP_PREFIX).and_then(|number| number.parse::<u32>().ok());
    if format == Some(FORMAT) { Ok(()) } else { Err(DataDirError::OtherFormat(stamp, text)) }
}

fn write_stamp(files: &dyn Files, path: &Path) -> io::Result<()> {
    let stamp = format!("{STAMP_PREFIX}{FORMAT}\n");
    replace(files, path, STAMP_NEW, STAMP, stamp.as_bytes())
}

fn read_whole(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, false)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Write, sync, rename, sync of the directory: a reader of `name` finds the old bytes or the new ones.
fn replace(files: &dyn Files, dir: &Path, new: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = dir.join(new);
    let file = files.open(&aside, true)?;
    file.set_length(0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    files.rename(&aside, &dir.join(name))?;
    files.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::files::RealFiles;

    fn open(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(&RealFiles, path)
    }

    #[test]
    fn a_new_directory_is_private_stamped_and_opens_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a.cairn");
        drop(open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(fs::read_to_string(path.join(STAMP)).unwrap().starts_with(STAMP_PREFIX));
        drop(open(&path).unwrap());
    }

    #[test]
    fn two_processes_cannot_use_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::InUse(_))));
    }

    #[test]
    fn a_start_cut_off_before_the_stamp_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        fs::write(dir.path().join(STAMP_NEW), "cairn da").unwrap();
        drop(open(dir.path()).unwrap());
        check_stamp(&RealFiles, dir.path()).unwrap();
    }

    #[test]
    fn an_etcd_directory_is_named_as_such_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("member/wal")).unwrap();
        let refusal = open(dir.path()).unwrap_err();
        assert!(matches!(refusal, DataDirError::Etcd(_, "member")));
        assert!(refusal.to_string().contains("data directory of etcd"));
        assert_eq!(RealFiles.list(dir.path()).unwrap(), ["member"]);
    }

    #[test]
    fn a_foreign_directory_is_refused_with_what_was_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("photo.jpg"), "").unwrap();
        let refusal = open(dir.path()).unwrap_err();
        assert!(refusal.to_string().contains("photo.jpg"), "{refusal}");
    }

    /// A disk that is mounted there, a home directory, a directory that is kept in git.
    #[test]
    fn files_that_are_no_data_are_no_reason_to_refuse() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lost+found", ".snapshot", ".git"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in [".gitkeep", ".bashrc", "aquota.user"] {
            fs::write(dir.path().join(name), "theirs").unwrap();
        }
        drop(open(dir.path()).unwrap());
        drop(open(dir.path()).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join(".bashrc")).unwrap(), "theirs");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("lost"), "").unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::Foreign(..))));
    }

    #[test]
    fn the_rights_of_a_directory_that_was_there_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        drop(open(dir.path()).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(dir.path()), 0o2775);
        assert_eq!(mode(&dir.path().join(STAMP)), 0o600);
    }

    #[test]
    fn links_lead_to_a_directory_or_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (link, place) = (dir.path().join("link"), dir.path().join("place"));
        std::os::unix::fs::symlink(&place, &link).unwrap();
        let refusal = open(&link).unwrap_err();
        assert!(matches!(refusal, DataDirError::LeadsNowhere(_)), "{refusal}");
        fs::create_dir(&place).unwrap();
        drop(open(&link).unwrap());
        drop(open(&dir.path().join("link/")).unwrap());
        assert!(place.join(STAMP).is_file());
        fs::write(dir.path().join("file"), "").unwrap();
        let refusal = open(&dir.path().join("file")).unwrap_err();
        assert!(refusal.to_string().contains("is no directory"), "{refusal}");
        let refusal = open(&dir.path().join("file/below")).unwrap_err();
        assert!(refusal.to_string().contains("Not a directory"), "{refusal}");
    }

    #[test]
    fn another_format_is_refused_older_or_newer() {
        for format in [FORMAT - 1, FORMAT + 1] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(STAMP), format!("{STAMP_PREFIX}{format}\n")).unwrap();
            assert!(matches!(open(dir.path()), Err(DataDirError::OtherFormat(..))), "{format}");
        }
    }
}
