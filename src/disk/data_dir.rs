//! The directory that everything is in: whose it is, which format it has, who uses it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::disk::data_dir_error::{DataDirError, UNFINISHED};
use crate::disk::files::Files;
use crate::disk::log_dir;
use crate::disk::read_only::ReadOnlyFiles;
use crate::model::codes;

const STAMP: &str = "cairn-format";
const STAMP_NEW: &str = "cairn-format.new";
pub(super) const LOCK: &str = "lock";
const MEMBER: &str = "member.json";
const MEMBER_NEW: &str = "member.json.new";
pub(super) const WAL: &str = "wal";
const CHECKPOINT: &str = "checkpoint.redb";

/// First line of the stamp, before the number of the format.
const STAMP_PREFIX: &str = "cairn data directory, format ";
/// Format 2 holds times in nanoseconds; format 1, never released, held milliseconds.
const FORMAT: u32 = 2;

/// A data directory that is ours alone while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Closing it lets the next process in.
    _lock: fs::File,
    /// It was made when it was taken.
    is_new: bool,
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
        check_finished(path, &names)?;
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
        Ok(Self { path: path.to_owned(), _lock: lock, is_new: !is_there })
    }

    /// Could a restore put data there? Changes nothing.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn check_free(files: &dyn Files, path: &Path) -> Result<(), DataDirError> {
        if !is_there(path)? {
            return Ok(());
        }
        let names = files.list(path).map_err(|source| DataDirError::Io {
            action: "list",
            path: path.to_owned(),
            source,
        })?;
        check_finished(path, &names)?;
        let data = names.iter().find(|name| !is_of_a_begun_start(name) && !is_no_data(name));
        match data {
            Some(name) => Err(DataDirError::NotEmpty(path.to_owned(), name.clone())),
            None => Ok(()),
        }
    }

    /// Takes a directory that is missing or empty, to put another member's data into it. Until [`DataDir::finish`] was called no
    /// one else can use it, whatever happens in between.
    ///
    /// # Errors
    /// See [`DataDirError`]. A refused directory is left as it was.
    pub fn begin_restore(files: &dyn Files, path: &Path) -> Result<Self, DataDirError> {
        let fail = |action| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        Self::check_free(files, path)?;
        let was_there = is_there(path)?;
        files.create_dir(path).map_err(fail("create"))?;
        let lock = lock(&path.join(LOCK))?;
        let marked = files.open(&path.join(UNFINISHED), true).and_then(|file| {
            file.sync()?;
            files.sync_dir(path)
        });
        marked.map_err(fail("begin to restore into"))?;
        Ok(Self { path: path.to_owned(), _lock: lock, is_new: !was_there })
    }

    /// Leaves a directory that [`DataDir::begin_restore`] began as it was before, as long as nothing else was put into it.
    pub fn give_up(self, files: &dyn Files) {
        // Where that fails, the directory is one that was not finished, and is refused as such.
        let removed = files
            .remove(&self.path.join(LOCK))
            .and_then(|()| files.remove(&self.path.join(UNFINISHED)));
        if self.is_new && removed.is_ok() {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// What [`DataDir::begin_restore`] began is complete and durable: from now on a member can use it.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn finish(self, files: &dyn Files) -> Result<(), DataDirError> {
        let path = &self.path;
        let finished = write_stamp(files, path).and_then(|()| {
            files.remove(&path.join(UNFINISHED))?;
            files.sync_dir(path)?;
            // The directory itself may be new.
            path.parent().filter(|parent| parent.is_dir()).map_or(Ok(()), |p| files.sync_dir(p))
        });
        let path = path.clone();
        finished.map_err(|source| DataDirError::Io { action: "finish", path, source })
    }

    /// Looks at a directory that another process may be using, and changes nothing: what [`DataDir::write_member`] wrote last.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn peek(path: &Path) -> Result<Vec<u8>, DataDirError> {
        let files = &ReadOnlyFiles;
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { action, path, source }
        };
        if !is_there(path)? {
            return Err(DataDirError::NoMember(path.to_owned()));
        }
        let names = files.list(path).map_err(fail("list", path))?;
        check_finished(path, &names)?;
        match check_names(path, &names) {
            Err(DataDirError::Foreign(path, _)) => return Err(DataDirError::NoMember(path)),
            checked => checked?,
        }
        if !names.iter().any(|name| name == STAMP) || !names.iter().any(|name| name == MEMBER) {
            return Err(DataDirError::NoMember(path.to_owned()));
        }
        check_stamp(files, path)?;
        let member = path.join(MEMBER);
        read_whole(files, &member).map_err(fail("read", &member))
    }

    /// Keeps members out of a directory while it is looked at, and changes nothing.
    ///
    /// # Errors
    /// [`DataDirError::InUse`] when a member has it.
    pub fn hold_still(path: &Path) -> Result<HeldStill, DataDirError> {
        let lock = path.join(LOCK);
        let fail = |source| DataDirError::Io { action: "lock", path: lock.clone(), source };
        let file = match fs::File::open(&lock) {
            Ok(file) => file,
            // A copy of a directory need not have it, and no member was started with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HeldStill(None)),
            Err(source) => return Err(fail(source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(HeldStill(Some(file))),
            Err(fs::TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    /// Where the log of the member with this directory is: in there, or where the directory says that it is.
    pub fn wal_of(path: &Path) -> PathBuf {
        let kept = log_dir::read_place(&ReadOnlyFiles, path).ok().flatten();
        kept.unwrap_or_else(|| path.join(WAL))
    }

    /// Where the checkpoint of the member with this directory is.
    pub fn checkpoint_of(path: &Path) -> PathBuf {
        path.join(CHECKPOINT)
    }

    /// Whether a member could use the directory: as [`DataDir::open`], without taking, making or changing anything.
    ///
    /// # Errors
    /// As there, but for what belongs to the lock.
    pub fn look(files: &dyn Files, path: &Path) -> Result<(), DataDirError> {
        if !is_there(path)? {
            return Ok(());
        }
        let listed = files.list(path);
        let names = listed.map_err(|source| DataDirError::Io {
            action: "list",
            path: path.to_owned(),
            source,
        })?;
        check_names(path, &names)?;
        if names.iter().any(|name| name == STAMP) {
            check_access(files, path)?;
            check_stamp(files, path)?;
            warn_of_others(path);
        }
        Ok(())
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

    /// Where the log is when it is in the directory.
    pub fn wal(&self) -> PathBuf {
        self.path.join(WAL)
    }

    /// Where the checkpoint is.
    pub fn checkpoint(&self) -> PathBuf {
        Self::checkpoint_of(&self.path)
    }
}

/// A directory that no member can take while this lives.
#[derive(Debug)]
pub struct HeldStill(#[expect(dead_code, reason = "closing it lets members in")] Option<fs::File>);

/// Is there a directory?
pub(super) fn is_there(path: &Path) -> Result<bool, DataDirError> {
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
pub(super) fn is_no_data(name: &str) -> bool {
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

/// What a start leaves that was cut off before the stamp was there.
fn is_of_a_begun_start(name: &str) -> bool {
    matches!(name, LOCK | STAMP_NEW)
}

fn check_finished(path: &Path, names: &[String]) -> Result<(), DataDirError> {
    let unfinished = names.iter().any(|name| name == UNFINISHED);
    if unfinished { Err(DataDirError::Unfinished(path.to_owned())) } else { Ok(()) }
}

fn check_names(path: &Path, names: &[String]) -> Result<(), DataDirError> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(STAMP) {
        return Ok(());
    }
    if has("member") {
        return Err(DataDirError::Etcd(path.to_owned(), "member"));
    }
    if has("proxy") {
        return Err(DataDirError::Proxy(path.to_owned()));
    }
    let foreign = names.iter().find(|name| !is_of_a_begun_start(name) && !is_no_data(name));
    match foreign {
        Some(name) => Err(DataDirError::Foreign(path.to_owned(), name.clone())),
        None => Ok(()),
    }
}

pub(super) fn lock(path: &Path) -> Result<fs::File, DataDirError> {
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

pub(super) fn read_whole(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, false)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).map_err(io::Error::other)?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Write, sync, rename, sync of the directory: a reader of `name` finds the old bytes or the new ones.
pub(super) fn replace(
    files: &dyn Files,
    dir: &Path,
    new: &str,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
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
    fn a_restore_that_was_cut_off_is_used_by_no_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::begin_restore(&RealFiles, dir.path()).unwrap());
        for refusal in [
            open(dir.path()).unwrap_err(),
            DataDir::begin_restore(&RealFiles, dir.path()).unwrap_err(),
            DataDir::peek(dir.path()).unwrap_err(),
        ] {
            assert!(matches!(refusal, DataDirError::Unfinished(_)), "{refusal}");
        }
        let dir = tempfile::tempdir().unwrap();
        let begun = DataDir::begin_restore(&RealFiles, dir.path()).unwrap();
        begun.write_member(&RealFiles, b"{}").unwrap();
        begun.finish(&RealFiles).unwrap();
        assert_eq!(DataDir::peek(dir.path()).unwrap(), b"{}");
        drop(open(dir.path()).unwrap());
        let refusal = DataDir::begin_restore(&RealFiles, dir.path()).unwrap_err();
        assert!(matches!(refusal, DataDirError::NotEmpty(..)), "{refusal}");
    }

    #[test]
    fn who_looks_keeps_members_out_and_is_kept_out_by_them() {
        let dir = tempfile::tempdir().unwrap();
        let member = open(dir.path()).unwrap();
        assert!(matches!(DataDir::hold_still(dir.path()), Err(DataDirError::InUse(_))));
        drop(member);
        let held = DataDir::hold_still(dir.path()).unwrap();
        let _both_look = DataDir::hold_still(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::InUse(_))));
        drop(held);
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
