//! Where the write-ahead log is: in the data directory, or in a directory of its own (`--wal-dir`).
//!
//! A log that is left behind is the loss of what was acknowledged: a member that began a new one could vote twice in a term.
//! So the data directory keeps the place of a log that is elsewhere, and a start that would not find the log there is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::data_dir::{self, DataDir};
use crate::disk::data_dir_error::DataDirError;
use crate::disk::files::Files;
use crate::disk::{reserve, wal};

/// File in the data directory with the place of a log that is elsewhere.
const PLACE: &str = "wal-dir";
const PLACE_NEW: &str = "wal-dir.new";

/// The directory of a member's log, ours alone while this lives.
#[derive(Debug)]
pub struct LogDir {
    path: PathBuf,
    /// What the data directory says of a log that is elsewhere.
    kept: Option<PathBuf>,
    /// The directory is not in the data directory.
    apart: bool,
    /// Closing it lets the next process in. Inside the data directory the lock of that one counts.
    _lock: Option<fs::File>,
}

impl LogDir {
    /// Finds the log of the member whose data is in `data`; `asked` is what `--wal-dir` says. A directory apart is made when it
    /// is missing.
    ///
    /// # Errors
    /// [`DataDirError::LogElsewhere`] and [`DataDirError::LogMissing`] when the log is not where it is asked for,
    /// [`DataDirError::TwoLogs`] when there is one in both places, [`DataDirError::LogWithoutData`] when it is another member's, and those of [`DataDir::open`] for a directory apart.
    /// Nothing is changed then.
    pub fn open(
        files: &dyn Files,
        data: &DataDir,
        asked: Option<&Path>,
    ) -> Result<Self, DataDirError> {
        let found = find(files, data.path(), asked)?;
        let lock = if found.apart {
            let fail = |source| DataDirError::Io {
                action: "create the directory of the log",
                path: found.path.clone(),
                source,
            };
            files.create_dir(&found.path).map_err(fail)?;
            Some(data_dir::lock(&found.path.join(data_dir::LOCK))?)
        } else {
            None
        };
        // A link or a relative name may lead elsewhere at the next start.
        let path = if found.apart { absolute(&found.path) } else { found.path };
        Ok(Self { path, kept: found.kept, apart: found.apart, _lock: lock })
    }

    /// As [`LogDir::open`], without taking or making anything.
    ///
    /// # Errors
    /// As there, but for what belongs to the lock.
    pub fn look(files: &dyn Files, data: &Path, asked: Option<&Path>) -> Result<(), DataDirError> {
        find(files, data, asked).map(drop)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is the directory not in the data directory? It may be on another disk then.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    /// Notes where the log is, now that there is one. To be called before anything in the log counts.
    ///
    /// # Errors
    /// [`DataDirError::Io`].
    pub fn begun(&self, files: &dyn Files, data: &DataDir) -> Result<(), DataDirError> {
        let place = data.path().join(PLACE);
        let fail = |source| DataDirError::Io { action: "write", path: place.clone(), source };
        match (&self.kept, self.apart) {
            (Some(kept), true) if *kept == self.path => Ok(()),
            (_, true) => {
                use std::os::unix::ffi::OsStrExt as _;
                let bytes = self.path.as_os_str().as_bytes();
                data_dir::replace(files, data.path(), PLACE_NEW, PLACE, bytes).map_err(fail)
            }
            (Some(_), false) => {
                files.remove(&place).map_err(fail)?;
                files.sync_dir(data.path()).map_err(fail)
            }
            (None, false) => Ok(()),
        }
    }
}

struct Found {
    path: PathBuf,
    kept: Option<PathBuf>,
    apart: bool,
}

fn find(files: &dyn Files, data: &Path, asked: Option<&Path>) -> Result<Found, DataDirError> {
    let inside = data.join(data_dir::WAL);
    let kept = read_place(files, data)?;
    let asked = asked.filter(|asked| absolute(asked) != absolute(&inside));
    let path = asked.map_or_else(|| inside.clone(), Path::to_owned);
    let apart = asked.is_some();
    let names = list(files, &path)?;
    if apart {
        refuse_foreign(&path, &names)?;
    }
    let here = holds_log(&names);
    // The ids of members of one do not tell them apart.
    if apart && here && kept.is_none() && !DataDir::has_member(data) {
        return Err(DataDirError::LogWithoutData(path, data.to_owned()));
    }
    let mut others = vec![inside];
    others.extend(kept.clone());
    others.retain(|other| absolute(other) != absolute(&path));
    for other in others {
        let there = holds_log(&list(files, &other)?);
        match (here, there) {
            (true, true) => return Err(DataDirError::TwoLogs(path, other)),
            (false, true) => return Err(DataDirError::LogElsewhere(other, path)),
            (_, false) => {}
        }
    }
    match &kept {
        Some(kept) if !here => Err(DataDirError::LogMissing(kept.clone(), data.to_owned())),
        Some(_) | None => Ok(Found { path, kept, apart }),
    }
}

/// The place of a log that is elsewhere, as a data directory keeps it.
pub(super) fn read_place(files: &dyn Files, data: &Path) -> Result<Option<PathBuf>, DataDirError> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = data.join(PLACE);
    if !files.exists(&path) {
        return Ok(None);
    }
    match data_dir::read_whole(files, &path) {
        Ok(bytes) => Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))),
        Err(source) => Err(DataDirError::Io { action: "read", path, source }),
    }
}

/// The names in a directory; none when it is missing.
fn list(files: &dyn Files, path: &Path) -> Result<Vec<String>, DataDirError> {
    if !data_dir::is_there(path)? {
        return Ok(Vec::new());
    }
    files.list(path).map_err(|source| DataDirError::Io {
        action: "list",
        path: path.to_owned(),
        source,
    })
}

fn holds_log(names: &[String]) -> bool {
    names.iter().any(|name| wal::is_segment(name))
}

/// Files of others would be at risk in here, and a data directory of another member is in use by that one.
fn refuse_foreign(path: &Path, names: &[String]) -> Result<(), DataDirError> {
    let ours = |name: &String| {
        wal::is_file_of_log(name)
            || name == data_dir::LOCK
            || name == reserve::RESERVE
            || data_dir::is_no_data(name)
    };
    match names.iter().find(|name| !ours(name)) {
        Some(name) => Err(DataDirError::ForeignLog(path.to_owned(), name.clone())),
        None => Ok(()),
    }
}

/// Links are followed as far as the path exists.
fn absolute(path: &Path) -> PathBuf {
    let whole = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    whole.unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::files::RealFiles;

    const SEGMENT: &str = "0000000000000001.wal";

    struct Places {
        _parent: tempfile::TempDir,
        data: PathBuf,
        apart: PathBuf,
        third: PathBuf,
    }

    fn places() -> Places {
        let parent = tempfile::tempdir().unwrap();
        let join = |name: &str| parent.path().join(name);
        let (data, apart, third) = (join("data"), join("apart"), join("third"));
        Places { _parent: parent, data, apart, third }
    }

    /// One start of a member that writes to its log if it gets that far.
    fn start(places: &Places, asked: Option<&Path>) -> Result<(), DataDirError> {
        let data = DataDir::open(&RealFiles, &places.data).unwrap();
        let log = LogDir::open(&RealFiles, &data, asked)?;
        fs::create_dir_all(log.path()).unwrap();
        fs::write(data.path().join("member.json"), "").unwrap();
        fs::write(log.path().join(SEGMENT), "").unwrap();
        log.begun(&RealFiles, &data)
    }

    #[test]
    fn a_log_apart_is_found_again_and_missed_where_it_is_not() {
        let p = places();
        start(&p, Some(&p.apart)).unwrap();
        start(&p, Some(&p.apart)).unwrap();
        assert!(!p.data.join("wal").exists());
        for other in [None, Some(p.third.as_path())] {
            let refusal = start(&p, other).unwrap_err();
            assert!(matches!(refusal, DataDirError::LogElsewhere(..)), "{refusal}");
        }
        assert!(!p.data.join("wal").exists() && !p.third.exists(), "a refusal made something");
        fs::remove_file(p.apart.join(SEGMENT)).unwrap();
        for asked in [None, Some(p.apart.as_path()), Some(p.third.as_path())] {
            let refusal = start(&p, asked).unwrap_err();
            assert!(matches!(refusal, DataDirError::LogMissing(..)), "{refusal}");
        }
    }

    #[test]
    fn a_log_that_was_moved_is_taken_where_it_is() {
        let p = places();
        start(&p, None).unwrap();
        assert!(matches!(start(&p, Some(&p.apart)), Err(DataDirError::LogElsewhere(..))));
        fs::rename(p.data.join("wal"), &p.apart).unwrap();
        start(&p, Some(&p.apart)).unwrap();
        fs::rename(&p.apart, &p.third).unwrap();
        start(&p, Some(&p.third)).unwrap();
        fs::create_dir(p.data.join("wal")).unwrap();
        fs::rename(p.third.join(SEGMENT), p.data.join("wal").join(SEGMENT)).unwrap();
        start(&p, None).unwrap();
        assert!(!p.data.join(PLACE).exists());
    }

    #[test]
    fn of_two_logs_neither_is_taken() {
        let p = places();
        start(&p, None).unwrap();
        fs::create_dir(&p.apart).unwrap();
        fs::write(p.apart.join(SEGMENT), "").unwrap();
        assert!(matches!(start(&p, Some(&p.apart)), Err(DataDirError::TwoLogs(..))));
    }

    #[test]
    fn a_directory_with_other_files_or_another_member_is_refused() {
        let p = places();
        fs::create_dir(&p.apart).unwrap();
        fs::write(p.apart.join("photo.jpg"), "").unwrap();
        let refusal = start(&p, Some(&p.apart)).unwrap_err();
        assert!(refusal.to_string().contains("photo.jpg"), "{refusal}");
        let refusal = start(&p, Some(&p.data)).unwrap_err();
        assert!(matches!(refusal, DataDirError::ForeignLog(..)), "{refusal}");
        fs::create_dir(&p.third).unwrap();
        fs::write(p.third.join(SEGMENT), "").unwrap();
        let refusal = start(&p, Some(&p.third)).unwrap_err();
        assert!(matches!(refusal, DataDirError::LogWithoutData(..)), "{refusal}");
        fs::remove_file(p.third.join(SEGMENT)).unwrap();
        let held = data_dir::lock(&p.third.join(data_dir::LOCK)).unwrap();
        assert!(matches!(start(&p, Some(&p.third)), Err(DataDirError::InUse(_))));
        drop(held);
        start(&p, Some(&p.third)).unwrap();
    }

    #[test]
    fn the_place_inside_may_be_named() {
        let p = places();
        start(&p, Some(&p.data.join("wal"))).unwrap();
        start(&p, None).unwrap();
        assert!(!p.data.join(PLACE).exists());
    }
}
