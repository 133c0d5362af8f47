//! `cairn verify`: reads all of a backup file or of a stopped member's directory, and says what is in it and what is wrong.
//!
//! Owns: which parts are looked at, and how the findings are told. Never knows: what a damaged part looks like; who reads it says so.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use chrono::{DateTime, SecondsFormat};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::archive::{ArchiveError, ArchiveReader, Head};
use crate::backup::Ended;
use crate::backup::flags::Said;
use crate::backup::source::{self, READ_BYTES};
use crate::disk::{DataDir, DataDirError, WalError, wal};
use crate::model::WallTime;
use crate::raft::saved::{self, SavedError, SavedMember};

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    path: String,
    kind: &'static str,
    well: bool,
    /// In the order in which they are told.
    #[serde(serialize_with = "as_object")]
    facts: Vec<(&'static str, Value)>,
    problems: Vec<Problem>,
}

fn as_object<S: Serializer>(facts: &[(&'static str, Value)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Problem {
    file: String,
    /// Where in the file, if that is known.
    offset: Option<u64>,
    what: String,
    fix: &'static str,
}

const FIX_FILE: &str = "restore another backup, or copy this one again from where it is whole";
const FIX_DIRECTORY: &str = "if the other members are well, remove this one with `etcdctl member remove`, empty the directory and add \
                             it again; otherwise `cairn restore` the last backup into an empty directory. Keep this one until \
                             then";
const FIX_USE: &str = "name the directory of a member of cairn that is stopped, or a file of `cairn backup`; a running member is backed \
                       up with `cairn backup`, and that file can be verified";

pub(super) fn run(said: &Said) -> Ended {
    let path = Path::new(&said.argument);
    let mut report = Report { path: said.argument.clone(), ..Report::default() };
    match path.is_dir() {
        true => directory(path, &mut report),
        false => file(path, &mut report),
    }
    report.well = report.problems.is_empty();
    let text = match said.is_on("json") {
        true => serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n",
        false => report.text(),
    };
    Ended { text, complaint: String::new(), code: u8::from(!report.well) }
}

impl Report {
    fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    fn problem(&mut self, file: &Path, offset: Option<u64>, what: String, fix: &'static str) {
        self.problems.push(Problem { file: file.display().to_string(), offset, what, fix });
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.path, self.kind);
        // Writing to a string does not fail.
        for (name, value) in &self.facts {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = name.replace('_', " ");
            let _ = writeln!(text, "  {name:<22} {value}");
        }
        for Problem { file, offset, what, fix } in &self.problems {
            let at = offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default();
            let _ = writeln!(text, "PROBLEM in {file}{at}: {what}\n  What can be done: {fix}");
        }
        text.push_str(if self.well { "all is well\n" } else { "not well\n" });
        text
    }
}

fn file(path: &Path, report: &mut Report) {
    report.kind = "backup file";
    let opened = File::open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => return report.problem(path, None, error.to_string(), FIX_USE),
    };
    if let Ok(found) = file.metadata() {
        report.fact("bytes", found.len());
    }
    let reader = match ArchiveReader::new(BufReader::with_capacity(READ_BYTES, file)) {
        Ok(reader) => reader,
        Err(error) => return damaged_file(path, &error, report),
    };
    facts_of_head(reader.head(), report);
    match reader.into_store() {
        Ok((_, store)) => report.fact("digest", format!("{:08x}", store.digest())),
        Err(error) => damaged_file(path, &error, report),
    }
}

fn damaged_file(path: &Path, error: &ArchiveError, report: &mut Report) {
    let fix = match error {
        ArchiveError::NoBackup | ArchiveError::OtherVersion(_) => FIX_USE,
        ArchiveError::Cut { .. } | ArchiveError::Damaged { .. } | ArchiveError::Io { .. } => {
            FIX_FILE
        }
    };
    report.problem(path, Some(error.offset()), error.to_string(), fix);
}

fn facts_of_head(head: &Head, report: &mut Report) {
    report.fact("cluster", head.cluster.to_string());
    report.fact("member", head.member.to_string());
    report.fact("made", date(head.at));
    report.fact("made_by", format!("cairn {}", head.program));
    report.fact("index", head.index.0);
    report.fact("log_index", head.position.index.0);
    report.fact("term", head.position.term.0);
    report.fact("nodes", head.counts.nodes);
    report.fact("events", head.counts.events);
}

fn directory(path: &Path, report: &mut Report) {
    report.kind = "data directory";
    if let Err(error) = DataDir::peek(path) {
        let fix = match &error {
            DataDirError::Io { .. } | DataDirError::OtherFormat(..) => FIX_DIRECTORY,
            DataDirError::NoDirectory(_)
            | DataDirError::LeadsNowhere(_)
            | DataDirError::InUse(_)
            | DataDirError::Etcd(..)
            | DataDirError::Proxy(_)
            | DataDirError::LogElsewhere(..)
            | DataDirError::LogMissing(..)
            | DataDirError::TwoLogs(..)
            | DataDirError::ForeignLog(..)
            | DataDirError::LogWithoutData(..)
            | DataDirError::Foreign(..)
            | DataDirError::Unfinished(_)
            | DataDirError::NotEmpty(..)
            | DataDirError::NoMember(_) => FIX_USE,
        };
        return report.problem(path, None, error.to_string(), fix);
    }
    let _held = match DataDir::hold_still(path) {
        Ok(held) => held,
        Err(error) => return report.problem(path, None, error.to_string(), FIX_USE),
    };
    let identity = match source::identity(path) {
        Ok(identity) => identity,
        Err(error) => {
            return report.problem(&path.join("member.json"), None, error, FIX_DIRECTORY);
        }
    };
    report.fact("cluster", identity.cluster.to_string());
    report.fact("member", identity.member.to_string());
    let (checkpoint, wal_dir) = (DataDir::checkpoint_of(path), DataDir::wal_of(path));
    let owner = source::owner(&identity);
    let found = saved::read(&checkpoint, &wal_dir, owner)
        .and_then(|found| saved::decode_all(&found.log, &wal_dir).map(|()| found));
    let error = match found {
        Ok(found) => return facts_of_member(&found, report),
        Err(error) => error,
    };
    let in_the_log = matches!(error, SavedError::Wal(_));
    if !in_the_log {
        let place = match &error {
            SavedError::Tables(_) | SavedError::Checkpoint(..) => &checkpoint,
            SavedError::Wal(_)
            | SavedError::Entry { .. }
            | SavedError::NoLog(_)
            | SavedError::Gap { .. } => &wal_dir,
            SavedError::Empty(_) | SavedError::Io { .. } | SavedError::Restless { .. } => path,
        };
        report.problem(place, None, error.to_string(), FIX_DIRECTORY);
    }
    // Segment by segment: the first is not the only one that may be damaged.
    let damage = wal::damage(&wal_dir, Some(owner)).unwrap_or_else(|error| vec![error]);
    for error in &damage {
        damaged_log(error, report);
    }
    if in_the_log && damage.is_empty() {
        // An entry that changed after its batch was read.
        report.problem(&wal_dir, None, error.to_string(), FIX_DIRECTORY);
    }
}

fn damaged_log(error: &WalError, report: &mut Report) {
    let (path, offset) = match error {
        WalError::Corrupt { path, offset, .. } => (path, Some(*offset)),
        WalError::Io { path, .. }
        | WalError::Foreign { path, .. }
        | WalError::Newer { path, .. } => (path, None),
    };
    report.problem(path, offset, error.to_string(), FIX_DIRECTORY);
}

fn facts_of_member(found: &SavedMember, report: &mut Report) {
    let SavedMember { saved, checkpoint, checkpoint_nodes, log } = found;
    report.fact("index", saved.store.index().0);
    report.fact("log_index", saved.position.index.0);
    report.fact("term", saved.position.term.0);
    report.fact("nodes", saved.store.nodes_count());
    report.fact("events", saved.store.history().len());
    report.fact("checkpoint_log_index", checkpoint.0);
    report.fact("checkpoint_nodes", *checkpoint_nodes);
    let entries = &log.recovered.entries;
    report.fact("log_segments", log.segments.len());
    report.fact("log_bytes", log.segments.iter().map(|(_, bytes)| bytes).sum::<u64>());
    report.fact("log_batches", log.batches);
    report.fact("log_entries", entries.end - entries.start);
    if log.recovered.torn_bytes > 0 {
        // Of these no client was told that they are safe, and the next start cuts them.
        report.fact("unfinished_bytes", log.recovered.torn_bytes);
    }
    report.fact("digest", format!("{:08x}", saved.store.digest()));
}

fn date(at: WallTime) -> String {
    let (seconds, nanos) = at.parts();
    let date =
        i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, nanos));
    date.map_or_else(|| at.to_string(), |date| date.to_rfc3339_opts(SecondsFormat::Secs, true))
}
