//! What a data directory of etcd comes to: the newest snapshot that counts, and the entries behind it.
//!
//! Owns: which files are read and in which order, and the answer to each way in which they can be broken. Never knows: formats
//! (`etcd`), what becomes of the state.
//! A file is read once as a whole, or twice; only one of them is in memory at a time.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use crate::etcd::entry::{Asked, EntryKind, HardState, Metadata, Method, Place};
use crate::etcd::log::{End, EntryAt, Hole, Log};
use crate::etcd::replay::{Facts, Replay};
use crate::etcd::snapshot::Envelope;
use crate::migrate::layout::{Layout, unreadable};
use crate::migrate::progress::Progress;
use crate::migrate::version_three::VersionThree;
use crate::model::{LogTime, MemberId};
use crate::store::HistoryLimits;

/// Events that are kept: as many as a member keeps if it is not told otherwise, and more bytes, for etcd keeps a thousand of any size.
/// A member that starts drops what is beyond its own `--history-bytes`.
const HISTORY: HistoryLimits = HistoryLimits { events_max: 100_000, bytes_max: 256 << 20 };

/// Ids of a backup are made one right after the other; those of members and clusters are hashes.
const NEAR: u64 = 1 << 16;

/// Is it the log of an `etcdctl backup`?
pub(super) fn is_backup(metadata: Metadata) -> bool {
    metadata.node.abs_diff(metadata.cluster) <= NEAR
}

/// How to go on when a directory is damaged.
pub(super) const OTHER_WAYS: &str = "Take the directory of another member, or a backup; --salvage takes what comes before the damage";

/// What is wanted of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Take what comes before damage.
    pub(super) salvage: bool,
    /// Stop at the entry that the member knew to be committed.
    pub(super) committed_only: bool,
    /// Leave version 3 where it is.
    pub(super) without_v3: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Found {
    /// The state.
    pub(super) replay: Replay,
    /// Members, users and roles.
    pub(super) facts: Facts,
    /// Whose directory it is; of a backup, or without a log, nobody's.
    pub(super) member: Option<Metadata>,
    /// The last hard state.
    pub(super) state: HardState,
    /// The last entry that is known to be committed.
    pub(super) commit: u64,
    /// The snapshot that was used.
    pub(super) snapshot: Option<(String, Place)>,
    /// The entries of the log, also those that were not used.
    pub(super) log: Option<(Place, Place)>,
    /// The last entry that counts.
    pub(super) last: Place,
    /// Entries behind the one that the member knew to be committed, which count all the same.
    pub(super) beyond_commit: u64,
    /// What became of version 3.
    pub(super) version_three: VersionThree,
    /// What the operator has to know.
    pub(super) notes: Vec<String>,
}

/// Reads a directory.
///
/// # Errors
/// Why there is no state in it, with the fix.
pub(super) fn read(
    layout: &Layout,
    wanted: Wanted,
    progress: &mut Progress,
) -> Result<Found, String> {
    let mut reader = Reader { layout, wanted, progress, first_segment: 0, notes: Vec::new() };
    let found = reader.read();
    reader.progress.end();
    found
}

/// Reads one directory.
pub(super) struct Reader<'a> {
    pub(super) layout: &'a Layout,
    pub(super) wanted: Wanted,
    pub(super) progress: &'a mut Progress,
    /// Which of the segments is the first that is read.
    first_segment: usize,
    pub(super) notes: Vec<String>,
}

/// A state to begin with.
struct Start {
    replay: Replay,
    place: Place,
    file: Option<String>,
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

impl Reader<'_> {
    fn read(&mut self) -> Result<Found, String> {
        let log = self.log()?;
        let start = self.start(&log)?;
        let Start { mut replay, place, file } = start;
        let version_three = self.version_three(&mut replay, &log, place)?;
        let state = log.state();
        // What is in the version 3 store was committed, also where the log does not say so yet.
        let commit = state.commit.max(place.index).max(version_three.entry);
        let entries = self.entries(&log, place, commit)?;
        let last = self.replay(&mut replay, entries, place)?;
        let end = log.ends().map_or(0, |(_, last)| last.index).max(place.index);
        if state.commit > end {
            self.damaged(format!(
                "the log in {} ends with entry {end}, and this member knew entries up to {} to be committed: the end of its log is \
                 missing",
                self.layout.wal_dir.display(),
                state.commit
            ))?;
        }
        let facts = replay.facts().map_err(|error| {
            format!(
                "{}: {error}. Take the directory of another member",
                self.layout.snap_dir.display()
            )
        })?;
        let member = self.member(&log, &facts)?;
        for path in &self.layout.set_aside {
            self.notes.push(format!("{} was set aside by etcd and is not read", path.display()));
        }
        for path in &self.layout.foreign {
            self.notes.push(format!("{} is no file of etcd and is not read", path.display()));
        }
        Ok(Found {
            replay,
            facts,
            member,
            commit,
            state,
            snapshot: file.map(|file| (file, place)),
            log: log.ends(),
            last,
            beyond_commit: last.index.saturating_sub(commit),
            version_three,
            notes: std::mem::take(&mut self.notes),
        })
    }

    /// Damage: an error, or with `--salvage` a note.
    pub(super) fn damaged(&mut self, what: String) -> Result<(), String> {
        if !self.wanted.salvage {
            return Err(format!("{what}. {OTHER_WAYS}"));
        }
        self.notes.push(format!("{what}; what comes behind is lost"));
        Ok(())
    }

    /// All segments, one after the other. Damage in those before the newest snapshot does not count: etcd would not read them.
    fn log(&mut self) -> Result<Log, String> {
        let Layout { segments, wal_dir, .. } = self.layout;
        let mut log = Log::default();
        if segments.is_empty() {
            self.damaged(format!(
                "{} holds no log (no *.wal): if etcd kept it elsewhere (--wal-dir), name that with --from-wal-dir",
                wal_dir.display()
            ))?;
            return Ok(log);
        }
        self.progress.begin("reading the log", segments.iter().map(|segment| segment.bytes).sum());
        let mut at = 0;
        while at < segments.len() {
            let Err(damage) = self.segment(&mut log, at)? else {
                at += 1;
                continue;
            };
            let needed = self.first_needed();
            if needed <= at {
                self.damaged(damage)?;
                break;
            }
            self.notes
                .push(format!("{damage}; that is before the newest snapshot, and not needed"));
            (log, at, self.first_segment) = (Log::default(), needed, needed);
        }
        Ok(log)
    }

    /// The last segment that may hold the entry behind the newest snapshot, which is where etcd begins to read.
    fn first_needed(&self) -> usize {
        let Layout { segments, snapshots, .. } = self.layout;
        let newest = snapshots.iter().map(|snapshot| snapshot.index).max().unwrap_or(0);
        segments.iter().rposition(|segment| segment.first <= newest).unwrap_or(0)
    }

    /// Reads one of the segments. Damage is told inside.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn segment(&mut self, log: &mut Log, at: usize) -> Result<Result<(), String>, String> {
        let Layout { segments, wal_dir, .. } = self.layout;
        let segment = &segments[at];
        if let Some(before) = at.checked_sub(1).map(|at| &segments[at])
            && log.segments() > 0
            && segment.number != before.number + 1
        {
            return Ok(Err(format!(
                "the log in {} has a gap: {} follows {}, and the segments between them are missing",
                wal_dir.display(),
                name_of(&segment.path),
                name_of(&before.path)
            )));
        }
        let bytes = read_file(&segment.path)?;
        let path = segment.path.display();
        match log.segment(&bytes, at + 1 == segments.len()) {
            Ok(End::Whole) => {}
            Ok(End::Leftovers(count)) => self.notes.push(format!(
                "{path}: {count} bytes behind the end of the log were never counted as written, and are not read"
            )),
            Ok(End::Torn(broken)) => self.notes.push(format!(
                "{path}: the last record, at offset {}, was cut off by a crash ({}) before anyone was told of it; it is left out, as etcd \
                 does",
                broken.offset, broken.what
            )),
            Err(error) => return Ok(Err(format!("{path}: {error}"))),
        }
        self.progress.advance(segment.bytes);
        Ok(Ok(()))
    }

    /// The newest snapshot that goes with the log; the empty store, when the log has everything.
    fn start(&mut self, log: &Log) -> Result<Start, String> {
        let last = log.ends().map_or(0, |(_, last)| last.index);
        let first = log.ends().map(|(first, _)| first.index);
        let mut readable = 0;
        for file in &self.layout.snapshots {
            let path = file.path.display();
            self.progress.begin("reading the snapshot", file.bytes);
            let bytes = read_file(&file.path)?;
            let opened = Envelope::open(&bytes);
            let envelope = match opened {
                Ok(envelope) if envelope.place.index == file.index => envelope,
                Ok(envelope) => {
                    let found = envelope.place.index;
                    self.notes.push(format!("{path} is of entry {found}, which is not what its name says, and is not used"));
                    continue;
                }
                Err(error) => {
                    self.notes.push(format!("{path} is damaged and is not used: {error}"));
                    continue;
                }
            };
            let place = envelope.place;
            readable += 1;
            let known = log.names_snapshot(place)
                || log.term_of(place.index) == Some(place.term)
                || first == Some(place.index + 1);
            if !known && place.index > last {
                self.damaged(format!(
                    "{path} is newer than the log in {}: it holds entries up to {}, and the log ends with entry {last} and does not \
                     know of it. Log and snapshot are of different moments, or of different members: name the log that belongs to it \
                     with --from-wal-dir, or copy the directory again while etcd is stopped",
                    self.layout.wal_dir.display(),
                    place.index
                ))?;
            } else if !known && log.term_of(place.index).is_some() {
                self.notes.push(format!("{path} is of another log and is not used"));
                continue;
            }
            let replay =
                Replay::of(envelope.json, HISTORY).map_err(|error| format!("{path}: {error}"))?;
            self.progress.advance(file.bytes);
            return Ok(Start { replay, place, file: Some(name_of(&file.path)) });
        }
        let snap_dir = self.layout.snap_dir.display();
        match first {
            Some(1) => {
                let (replay, place) = (Replay::new(HISTORY), Place::default());
                Ok(Start { replay, place, file: None })
            }
            Some(first) if readable == 0 => Err(format!(
                "the log begins with entry {first}, and {snap_dir} holds no snapshot that can be read with the entries before: copy \
                 the whole data directory again, with its snapshots, or take the directory of another member"
            )),
            Some(first) => Err(format!(
                "the log begins with entry {first}, and no snapshot in {snap_dir} goes with it: they are of different members or \
                 moments. Copy the whole data directory again, or take the directory of another member"
            )),
            None => Err(format!(
                "{} and {snap_dir} hold no entries and no snapshot: this member was never part of a cluster. Take the directory of \
                 another one",
                self.layout.wal_dir.display()
            )),
        }
    }

    /// The entries behind the state to begin with that count.
    fn entries<'a>(
        &mut self,
        log: &'a Log,
        start: Place,
        commit: u64,
    ) -> Result<&'a [EntryAt], String> {
        let entries = match log.behind(start.index) {
            Ok(entries) => entries,
            Err(Hole { before, behind }) => {
                self.damaged(format!(
                    "entries {} to {} are missing in the log in {}: the snapshot holds those up to {}, and the log goes on with {behind}",
                    before + 1,
                    behind - 1,
                    self.layout.wal_dir.display(),
                    start.index
                ))?;
                log.between(start.index, before)
            }
        };
        if !self.wanted.committed_only {
            return Ok(entries);
        }
        let count = entries.partition_point(|entry| entry.place.index <= commit);
        if count < entries.len() {
            let left = entries.len() - count;
            self.notes.push(format!(
                "{left} entries behind {commit}, the last that this member knew to be committed, are left out (--committed-only)"
            ));
        }
        Ok(&entries[..count])
    }

    /// Applies them; returns the last that counts.
    fn replay(
        &mut self,
        replay: &mut Replay,
        entries: &[EntryAt],
        start: Place,
    ) -> Result<Place, String> {
        // How long keys that are written before the first SYNC live is told by the time of that.
        self.each(entries, |entry, data| {
            let sync = match (entry.kind, Asked::decode(data)) {
                (EntryKind::Normal, Ok(Asked::Request(request))) => {
                    Some(request).filter(|request| request.method == Method::Sync)
                }
                _ => None,
            };
            match sync {
                Some(request) => {
                    replay.not_before(LogTime(u64::try_from(request.time).unwrap_or(0)));
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            }
        })?;
        let bytes: usize = entries.iter().map(|entry| entry.length).sum();
        self.progress.begin("replaying the log", bytes as u64);
        let (mut last, mut failed) = (start, None);
        self.each(entries, |entry, data| {
            match replay.entry(entry.place.index, entry.kind, data) {
                Ok(()) => {
                    last = entry.place;
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some((*entry, error));
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some((entry, error)) = failed {
            let what = self.of_entry(&entry, &error);
            self.damaged(what)?;
        }
        Ok(last)
    }

    /// What is wrong with an entry.
    pub(super) fn of_entry(&self, entry: &EntryAt, error: &dyn std::fmt::Display) -> String {
        let EntryAt { place, segment, offset, .. } = entry;
        let path = self.layout.segments[self.first_segment + segment].path.display();
        format!("{path}: entry {} at offset {offset}: {error}", place.index)
    }

    /// Calls `visit` with each entry and what it carries.
    pub(super) fn each(
        &mut self,
        entries: &[EntryAt],
        mut visit: impl FnMut(&EntryAt, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), String> {
        for entries in entries.chunk_by(|one, other| one.segment == other.segment) {
            let path = &self.layout.segments[self.first_segment + entries[0].segment].path;
            let bytes = read_file(path)?;
            for entry in entries {
                let data = bytes.get(entry.offset..entry.offset + entry.length);
                let data = data.ok_or_else(|| {
                    format!("{} changed while it was read: stop what writes to it", path.display())
                })?;
                if visit(entry, data).is_break() {
                    return Ok(());
                }
                self.progress.advance(entry.length as u64);
            }
        }
        Ok(())
    }

    /// Whose directory it is; `None` when it is a backup's.
    fn member(&mut self, log: &Log, facts: &Facts) -> Result<Option<Metadata>, String> {
        let Some(metadata) = log.metadata() else { return Ok(None) };
        let id = MemberId(metadata.node);
        if facts.members.iter().any(|member| member.id == id) {
            return Ok(Some(metadata));
        }
        let wal_dir = self.layout.wal_dir.display();
        if facts.removed.contains(&id) {
            self.damaged(format!(
                "{wal_dir} is the log of member {id}, which was removed from the cluster: it lacks what came after that. Take the \
                 directory of a member that was in the cluster to the end"
            ))?;
            return Ok(None);
        }
        if is_backup(metadata) {
            self.notes.push(
                "this is a directory of `etcdctl backup`: members and, of changes of members after its snapshot, indexes are not in it, \
                 so the index may be lower than the server's was; what was of version 3 is in it if it was made with --with-v3"
                    .to_owned(),
            );
            return Ok(None);
        }
        let members: Vec<_> = facts.members.iter().map(|member| member.id.to_string()).collect();
        self.damaged(format!(
            "{wal_dir} is the log of member {id}, and the members in it are {}: log and snapshots are of different clusters, or this \
             member had not learnt yet that it is one. Name the log that belongs to the snapshots with --from-wal-dir, or take the \
             directory of one of these members",
            members.join(", ")
        ))?;
        Ok(None)
    }
}
