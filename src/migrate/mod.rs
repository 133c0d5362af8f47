//! `cairn migrate`: a data directory of cairn from one of etcd. And `cairn export`: one of etcd from one of cairn.
//!
//! Owns: the command, and which member of which cluster goes on with the data. Never knows: formats of etcd (`etcd`), what a
//! member's directory looks like (`backup`, `raft::saved`, `disk`).
//! Holds: nothing of the source is changed; what is there is never overwritten; indexes, ids and hashes go on as they are.
//!
//! | file | what it is |
//! |---|---|
//! | `flags` | flags and help |
//! | `layout` | what is where in etcd's directory, and whether etcd runs |
//! | `source` | what the directory comes to, and the answer to each way in which it can be broken |
//! | `version_three` | the same of what is of version 3 |
//! | `report` | what was found and taken |
//! | `progress` | a bar on a terminal |
//! | `export` | `cairn export`: the way back |

mod export;
mod flags;
mod layout;
mod progress;
mod report;
mod source;
mod version_three;

use std::path::{Path, PathBuf};

pub use export::run as export;

use crate::backup::Ended;
use crate::backup::flags::{Asked, Said, read};
use crate::backup::restore;
use crate::config::Config;
use crate::disk::{DataDir, RealFiles};
use crate::etcd::entry::Metadata;
use crate::model::{ClusterId, LogIndex, LogPosition, MemberId, Term};
use crate::raft::saved::Saved;
use crate::replica::identity::{self, MemberIdentity};
use crate::store::MemberRecord;

use progress::Progress;
use report::Report;
use source::{Found, Wanted};

/// From this version on etcd serves no version 2.
const WITHOUT_VERSION_TWO: (u64, u64) = (3, 6);

/// What a member is called that is given no name.
const DEFAULT_NAME: &str = "default";

/// Does what a command line asks for.
pub fn run(words: Vec<String>, variables: Vec<(String, String)>) -> Ended {
    let said = match read(&flags::MIGRATE, words, variables) {
        Ok(Asked::Do(said)) => said,
        Ok(Asked::Help(text)) => return Ended::well(text),
        Err(complaint) => return Ended::badly(complaint, 2),
    };
    for (flag, what) in [("from", "etcd's data directory"), ("data-dir", "the new directory")] {
        // A dry run writes nothing.
        if said.text(flag).is_empty() && !(flag == "data-dir" && said.is_on("dry-run")) {
            return Ended::badly(said.wrong(&format!("--{flag} is missing: name {what}")), 2);
        }
    }
    match migrate(&said) {
        Ok(text) => Ended::well(text),
        Err(complaint) => Ended::badly(complaint, 1),
    }
}

fn migrate(said: &Said) -> Result<String, String> {
    let path =
        |flag: &str| Some(said.text(flag)).filter(|text| !text.is_empty()).map(PathBuf::from);
    let from = path("from").unwrap_or_default();
    let dir = path("data-dir");
    if let Some(dir) = &dir {
        // Before much is read for nothing.
        DataDir::check_free(&RealFiles, dir).map_err(|error| error.to_string())?;
        refuse_inside(&from, dir)?;
    }
    // Wrong flags are told before much is read.
    cluster_flags(said, None)?;
    let layout = layout::look(&from, path("from-wal-dir").as_deref())?;
    let mut progress = Progress::new(!said.is_on("json"));
    let wanted = Wanted {
        salvage: said.is_on("salvage"),
        committed_only: said.is_on("committed-only"),
        without_v3: said.is_on("without-v3"),
    };
    let found = source::read(&layout, wanted, &mut progress)?;
    let new = New::of(said, &found)?;
    refuse_without_keys(&from, &found, &new.saved)?;
    let mut report = Report::of(from.display().to_string(), &found, &new.saved.store);
    drop(found);
    if new.is_another {
        report.note(format!(
            "the source does not say which cluster it was: cluster {} and member {} are new",
            new.identity.cluster, new.identity.member
        ));
    }
    let written = match dir.filter(|_| !said.is_on("dry-run")) {
        Some(dir) => {
            progress.begin("writing", 0);
            let put = restore::put(&dir, path("wal-dir").as_deref(), &new.identity, &new.saved);
            progress.end();
            put?;
            report.data_dir = Some(dir.display().to_string());
            new.next_steps(&dir)
        }
        None => "nothing was written (--dry-run)\n".to_owned(),
    };
    Ok(match said.is_on("json") {
        true => report.json(),
        false => format!("{}{written}", report.text()),
    })
}

/// The source must stay as it is, so nothing is put into it.
fn refuse_inside(from: &Path, dir: &Path) -> Result<(), String> {
    if real(dir).starts_with(real(from)) {
        return Err(format!(
            "{} is inside of etcd's directory, which is not changed: name another --data-dir",
            dir.display()
        ));
    }
    Ok(())
}

/// Where a path leads, links followed as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| {
        let real = std::fs::canonicalize(above).ok()?;
        Some(real.join(path.strip_prefix(above).ok()?))
    });
    there.unwrap_or(path)
}

/// A directory without anything that is taken is most often the wrong one.
fn refuse_without_keys(from: &Path, found: &Found, saved: &Saved) -> Result<(), String> {
    if saved.store.nodes_count() > 0 || !saved.store.mvcc().is_untouched() {
        return Ok(());
    }
    let version = found.facts.version.as_deref().unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let version_of = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (from, left_out) = (from.display(), found.version_three.left_out);
    if left_out > 0 {
        return Err(format!(
            "{from} holds no data of version 2 (etcd {version}), and {left_out} keys of version 3, which --without-v3 leaves out: there is \
             nothing to take"
        ));
    }
    if version_of < WITHOUT_VERSION_TWO {
        return Ok(());
    }
    Err(format!(
        "{from} holds no keys (etcd {version}): there is nothing to take. From 3.6 on etcd has no version 2; if its data was there before \
         the upgrade, name the directory of then, or a backup of it"
    ))
}

/// The member and its cluster as the flags say it, or else as it was in etcd.
fn cluster_flags(said: &Said, was: Option<&MemberRecord>) -> Result<Config, String> {
    let said_or = |flag: &str, was: Option<String>| match said.text(flag) {
        "" => was.unwrap_or_default(),
        text => text.to_owned(),
    };
    let name = said_or("name", was.map(|was| was.name.clone()));
    let urls = said_or("initial-advertise-peer-urls", was.map(|was| was.peer_urls.join(",")));
    // A cluster of one, under this name and at these URLs.
    let alone = || {
        let name = if name.is_empty() { DEFAULT_NAME } else { &name };
        let urls = urls.split(',').filter(|url| !url.is_empty());
        urls.map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    let flags = restore::CLUSTER_FLAGS.map(|flag| {
        let value = match flag {
            "name" => name.clone(),
            "initial-advertise-peer-urls" => urls.clone(),
            "initial-cluster" => said_or(flag, Some(alone())),
            _ => said.text(flag).to_owned(),
        };
        (flag, value)
    });
    restore::config_of(flags)
}

/// The member that goes on.
struct New {
    identity: MemberIdentity,
    saved: Saved,
    name: String,
    /// The source does not say which member of which cluster it was.
    is_another: bool,
}

impl New {
    fn of(said: &Said, found: &Found) -> Result<Self, String> {
        let was = found.member.and_then(|metadata| {
            let id = MemberId(metadata.node);
            found.facts.members.iter().find(|member| member.id == id).map(|member| &member.record)
        });
        let config = cluster_flags(said, was)?;
        let (store, counters) = found.replay.clone().finish();
        let position = LogPosition {
            term: Term(found.last.term.max(found.state.term)),
            index: LogIndex(found.last.index),
        };
        let saved = Saved { store, position };
        let (founders, own) = restore::founders(&config, &saved, 0);
        let alone = founders.len() == 1;
        let (cluster, member, peers) = match found.member {
            // It is the same member, of the same cluster, alone.
            Some(Metadata { node, cluster }) if alone => {
                let peers = founders.into_iter().map(|(_, urls)| (MemberId(node), urls)).collect();
                (ClusterId(cluster), MemberId(node), peers)
            }
            Some(Metadata { cluster, .. }) => (ClusterId(cluster), own, founders),
            None => {
                let cluster = identity::cluster(founders.iter().map(|(id, _)| *id));
                (cluster, own, founders)
            }
        };
        let record = |(id, urls): &(MemberId, Vec<String>)| {
            let mut record = MemberRecord { peer_urls: urls.clone(), ..MemberRecord::default() };
            // Of several, each must begin with the same facts.
            if let Some(was) = was.filter(|was| alone && was.name == config.name) {
                (record.name, record.client_urls) = (was.name.clone(), was.client_urls.clone());
            }
            (*id, record)
        };
        let members = found.facts.members_of(peers.iter().map(record).collect());
        let store = saved.store.with_facts(members, found.facts.auth.clone(), counters);
        let identity =
            MemberIdentity { cluster, member, founders: Vec::new(), peers, restarted: false };
        let is_another = found.member.is_none();
        Ok(Self { identity, saved: Saved { store, position }, name: config.name, is_another })
    }

    /// What the operator does next.
    fn next_steps(&self, dir: &Path) -> String {
        let Self { identity: MemberIdentity { cluster, member, peers, .. }, saved, name, .. } =
            self;
        let (index, dir) = (saved.store.index().0, dir.display());
        let others = match peers.len() {
            1 => "Other members join with empty directories: `etcdctl member add`, then --initial-cluster-state=existing".to_owned(),
            count => format!("Make the other {} members in the same way before they are started", count - 1),
        };
        format!(
            "taken over: member {member} ({name}) of cluster {cluster} in {dir}, index {index}. Start it with its listening flags, --name \
             {name} and --data-dir {dir}; --initial-... flags are not looked at. {others}. etcd's directory is as it was: keep it as \
             the way back\n"
        )
    }
}
