//! Version 3 of a data directory: its own file, and the entries of the log behind that.
//!
//! Owns: which file has it, and the answer to each way in which file and log do not go together. Never knows: formats (`etcd`).
//! Holds: version 3 is taken whole, or the directory is refused; it is left out only where that was said.
//!
//! etcd writes its file some time after it has applied an entry, and the file says which entry was the last: behind that one, the log
//! counts. Where there is no file, the log counts alone if it goes back to its first entry.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::etcd::bolt::BoltError;
use crate::etcd::buckets::{self, BucketError, Stored};
use crate::etcd::entry::{Asked, EntryKind, Place};
use crate::etcd::log::{EntryAt, Log};
use crate::etcd::passwords::Hashing;
use crate::etcd::replay::{LeaseChange, LeasesInLog, Replay};
use crate::migrate::layout::unreadable;
use crate::migrate::source::{OTHER_WAYS, Reader, is_backup};
use crate::mvcc::{AlarmKind, LeaseId, Mvcc};

/// How to go on without it.
const WITHOUT: &str = "--without-v3 takes what is of version 2 alone";

/// What became of version 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VersionThree {
    /// The last entry that was in its file; zero when there was none, or entries have other numbers.
    pub(super) entry: u64,
    /// So many keys are left out.
    pub(super) left_out: u64,
    /// So many leases were in the file before the entries that granted them.
    pub(super) leases_early: usize,
}

/// Where version 3 begins.
struct Start {
    mvcc: Mvcc,
    /// Entries up to this one are in it.
    behind: u64,
    /// Leases that were in the file and are not in it: they were granted behind that entry.
    leases_early: usize,
}

impl Reader<'_> {
    /// Has `replay`, which begins behind `place`, take version 3 along.
    ///
    /// # Errors
    /// Why it cannot be taken, with the fix.
    pub(super) fn version_three(
        &mut self,
        replay: &mut Replay,
        log: &Log,
        place: Place,
    ) -> Result<VersionThree, String> {
        if self.wanted.without_v3 {
            let left_out = self.left_out(place);
            return Ok(VersionThree { left_out, ..VersionThree::default() });
        }
        let is_of_three = replay.facts().ok().and_then(|facts| facts.version);
        let is_of_three = is_of_three.is_some_and(|version| version.starts_with('3'));
        let start = match self.stored(place)? {
            Some(Ok(stored)) => Some(self.begin(stored, log, place)?),
            Some(Err(what)) => self.rebuilt_from_log(&what, log)?,
            None => {
                let what = format!("{} is missing", self.layout.snap_dir.join("db").display());
                match self.changes(log)? {
                    0 if !is_of_three || log.is_whole() => None,
                    0 => {
                        self.notes.push(format!(
                            "{what}: if there was anything of version 3, it is not in this directory"
                        ));
                        None
                    }
                    _ => self.rebuilt_from_log(&what, log)?,
                }
            }
        };
        let Some(Start { mvcc, behind, leases_early }) = start else {
            return Ok(VersionThree::default());
        };
        let cluster = log.metadata().unwrap_or_default().cluster;
        replay.take_version_three(mvcc, behind, Hashing::of(cluster));
        self.catch_up(replay, log.between(behind, place.index.max(behind)))?;
        let is_backup = log.metadata().is_some_and(is_backup);
        let entry = if is_backup { 0 } else { behind };
        Ok(VersionThree { entry, left_out: 0, leases_early })
    }

    /// What is in its file; damage is told inside. A member that got a snapshot from another one and fell before it took the file
    /// that came with it has both.
    ///
    /// # Errors
    /// When a file cannot be read at all.
    fn stored(&mut self, place: Place) -> Result<Option<Result<Stored, String>>, String> {
        let received = self.layout.received.iter().find(|(index, _)| *index == place.index);
        let received = received.map(|(_, path)| path.clone());
        let own = self.layout.db.clone().map(|path| self.load(&path)).transpose()?;
        let is_behind = match &own {
            Some(Ok(stored)) => stored.consistent_index < place.index,
            Some(Err(_)) | None => true,
        };
        match received.filter(|_| is_behind) {
            Some(path) => {
                self.notes.push(format!(
                    "{} came with the newest snapshot and is read in place of db, as etcd would do",
                    path.display()
                ));
                Ok(Some(self.load(&path)?))
            }
            None => Ok(own),
        }
    }

    fn load(&mut self, path: &PathBuf) -> Result<Result<Stored, String>, String> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let bytes = file.metadata().map_or(0, |found| found.len());
        self.progress.begin("reading version 3", bytes);
        let progress = &mut *self.progress;
        let loaded = buckets::load(|offset, length| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            progress.advance(length as u64);
            Ok(bytes)
        });
        match loaded {
            Err(BucketError::Bolt(BoltError::Io(error)))
                if error.kind() != std::io::ErrorKind::UnexpectedEof =>
            {
                Err(unreadable(path, &error))
            }
            loaded => Ok(loaded.map_err(|error| of_file(path, &error))),
        }
    }

    /// Begins with what is in the file.
    fn begin(&mut self, stored: Stored, log: &Log, place: Place) -> Result<Start, String> {
        let Stored { mvcc, consistent_index: behind, freed, shortened, unknown } = stored;
        let snap_dir = self.layout.snap_dir.display().to_string();
        let end = log.ends().map_or(0, |(_, last)| last.index).max(place.index);
        // Entries of a backup have other numbers than they had.
        let is_backup = log.metadata().is_some_and(is_backup);
        if behind > end && !is_backup {
            self.damaged(format!(
                "{snap_dir}/db has come as far as entry {behind}, and the log in {} ends with entry {end}: the end of the log is \
                 missing, or they are of different moments",
                self.layout.wal_dir.display()
            ))?;
        }
        if is_backup && !mvcc.is_untouched() {
            self.notes.push(
                "what is of version 3 in this backup may lack the last writes before it was made: `etcdctl backup` gives the entries of \
                 the log other numbers, and its db keeps the old ones"
                    .to_owned(),
            );
        }
        let reached = match log.behind(behind) {
            Ok(entries) => entries.last().map_or(behind, |last| last.place.index),
            Err(hole) => hole.before,
        };
        if reached < place.index {
            if mvcc.is_untouched() {
                return Ok(Start { mvcc, behind: place.index, leases_early: 0 });
            }
            return Err(format!(
                "{snap_dir}/db has come as far as entry {behind} and the snapshot as far as entry {}, and the entries between them are \
                 not in the log: they are of different moments. Copy the whole data directory again, or take the directory of another \
                 member; {WITHOUT}",
                place.index
            ));
        }
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            self.notes.push(format!(
                "{snap_dir}/db has buckets of another version of etcd, which are not read: {names}"
            ));
        }
        if freed > 0 {
            self.notes.push(format!(
                "{freed} keys of version 3 hang on leases that etcd does not have any more: here they hang on none, and stay"
            ));
        }
        if shortened > 0 {
            self.notes.push(format!(
                "{shortened} leases had less than their whole life left at etcd's last checkpoint of leases: they begin with all of it"
            ));
        }
        for kind in mvcc.alarm_kinds() {
            let name = match kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            self.notes.push(format!(
                "the alarm {name} is raised and stays: `etcdctl alarm disarm` (ETCDCTL_API=3) clears it once its cause is gone"
            ));
        }
        let early = match is_backup {
            true => Vec::new(),
            false => self.early_leases(&mvcc, log, behind)?,
        };
        Ok(Start { mvcc: mvcc.without_leases(&early), behind, leases_early: early.len() })
    }

    /// Leases that are in the file though they were granted behind the entry that the file has come as far as. Where the log does
    /// not go back far enough to tell, a lease counts as one of before, as when etcd starts.
    fn early_leases(
        &mut self,
        mvcc: &Mvcc,
        log: &Log,
        behind: u64,
    ) -> Result<Vec<LeaseId>, String> {
        // What keys hang on was there with them.
        let is_bare =
            |id: LeaseId| mvcc.lease(id).is_some_and(|lease| lease.keys().next().is_none());
        let mut granted = BTreeSet::new();
        if mvcc.leases_count() > 0 {
            self.each(log.between(behind, u64::MAX), |entry, data| {
                // An entry that is not understood is told when it is replayed.
                if let Ok(Some(LeaseChange::Granted(id))) = LeaseChange::of(entry.kind, data)
                    && is_bare(id)
                {
                    granted.insert(id);
                }
                ControlFlow::Continue(())
            })?;
        }
        if granted.is_empty() {
            return Ok(Vec::new());
        }
        let mut leases = LeasesInLog::new(granted);
        self.each(log.between(0, behind), |entry, data| {
            leases.entry(entry.place.index, entry.kind, data);
            ControlFlow::Continue(())
        })?;
        Ok(leases.absent_behind(behind))
    }

    /// How many entries of the log are of version 3.
    fn changes(&mut self, log: &Log) -> Result<u64, String> {
        let mut changes = 0;
        self.each(log.between(0, u64::MAX), |entry, data| {
            let is_of_three = entry.kind == EntryKind::Normal
                && matches!(Asked::decode(data), Ok(Asked::VersionThree(_)));
            changes += u64::from(is_of_three);
            ControlFlow::Continue(())
        })?;
        Ok(changes)
    }

    /// There is no file, or none that can be read: a log with all entries says the same.
    fn rebuilt_from_log(&mut self, what: &str, log: &Log) -> Result<Option<Start>, String> {
        if !log.is_whole() {
            return Err(format!(
                "{what}: that is where etcd keeps what is of version 3, and the log does not go back to its first entry. {OTHER_WAYS}, \
                 of version 2; {WITHOUT}"
            ));
        }
        self.notes.push(format!(
            "{what}; the log goes back to its first entry, and what is of version 3 is made of that"
        ));
        Ok(Some(Start { mvcc: Mvcc::default(), behind: 0, leases_early: 0 }))
    }

    /// Entries that version 2 has in its snapshot.
    fn catch_up(&mut self, replay: &mut Replay, entries: &[EntryAt]) -> Result<(), String> {
        let mut failed = None;
        self.each(entries, |entry, data| {
            match replay.entry_of_version_three(entry.place.index, entry.kind, data) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some((*entry, error));
                    ControlFlow::Break(())
                }
            }
        })?;
        match failed {
            Some((entry, error)) => Err(format!("{}. {WITHOUT}", self.of_entry(&entry, &error))),
            None => Ok(()),
        }
    }

    /// It was said that it is not wanted; returns how many keys there are.
    fn left_out(&mut self, place: Place) -> u64 {
        match self.stored(place) {
            Ok(None) => 0,
            Ok(Some(Ok(stored))) if stored.mvcc.is_untouched() => 0,
            Ok(Some(Ok(stored))) => {
                let (keys, leases) = (stored.mvcc.keys_count(), stored.mvcc.leases().count());
                self.notes.push(format!(
                    "{keys} keys and {leases} leases of version 3 are left out (--without-v3)"
                ));
                keys
            }
            Ok(Some(Err(what))) | Err(what) => {
                self.notes.push(format!("{what}; what is of version 3 is left out (--without-v3)"));
                0
            }
        }
    }
}

fn of_file(path: &Path, error: &BucketError) -> String {
    match error {
        BucketError::Bolt(BoltError::Io(_)) => format!("{} is cut off", path.display()),
        BucketError::Bolt(_) | BucketError::Record { .. } | BucketError::Inconsistent(_) => {
            format!("{} is damaged: {error}", path.display())
        }
    }
}
