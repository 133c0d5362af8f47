//! `cairn restore`: a data directory for a member of a new cluster that goes on from a backup.
//!
//! Holds: members that are restored from the same state with the same flags form one cluster, and no other members take part in it;
//! what is there is never overwritten; a directory that was not finished is used by no member.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::backup::Ended;
use crate::backup::flags::Said;
use crate::backup::source;
use crate::config::{self, Config, Outcome};
use crate::disk::{DataDir, Files, LogDir, LogOwner, RealFiles};
use crate::model::MemberId;
use crate::raft::saved::{self, Saved};
use crate::replica::identity::{self, MemberIdentity};

pub(super) fn run(said: &Said) -> Result<Ended, String> {
    let dir = said.text("data-dir");
    if dir.is_empty() {
        return Err(said.wrong("--data-dir is missing: name the new member's directory"));
    }
    let dir = PathBuf::from(dir);
    let bump = said.number("bump-index")?;
    let config = cluster_flags(said)?;
    // Before a large file is read for nothing.
    DataDir::check_free(&RealFiles, &dir).map_err(|error| error.to_string())?;
    let saved = source::read(Path::new(&said.argument))?;
    let (from, contents) = (saved.store.index(), source::contents(&saved.store));
    let (founders, member) = founders(&config, &saved, bump);
    let cluster = identity::cluster(founders.iter().map(|(id, _)| *id));
    let store = saved.store.with_members(founders.iter().map(|(id, urls)| (*id, &urls[..])));
    let store = store.bumped(bump).ok_or_else(|| {
        format!(
            "--bump-index {bump}: there is no index so high; the index of the backup is {}",
            from.0
        )
    })?;
    let saved = Saved { store, position: saved.position };
    let identity =
        MemberIdentity { cluster, member, founders: Vec::new(), peers: founders, restarted: false };
    put(&dir, None, &identity, &saved)?;
    let others = match identity.peers.len() {
        1 => String::new(),
        count => format!(
            "; restore the other {} members in the same way before they are started",
            count - 1
        ),
    };
    Ok(Ended::well(format!(
        "restored member {member} ({}) of the new cluster {cluster}: {contents}, the next change takes \
         {}{others}. Start it with its listening flags, --name {} and --data-dir {}; --initial-... flags are not looked at. Keys \
         whose time ran out since the backup go at once\n",
        config.name,
        saved.store.index().0 + 1,
        config.name,
        dir.display(),
    )))
}

/// Name, members and token, checked as a member would check them.
fn cluster_flags(said: &Said) -> Result<Config, String> {
    config_of(CLUSTER_FLAGS.iter().map(|flag| (*flag, said.text(flag).to_owned())))
}

/// The flags that say which cluster it becomes.
pub(crate) const CLUSTER_FLAGS: [&str; 5] =
    ["name", "initial-cluster", "initial-advertise-peer-urls", "initial-cluster-token", "data-dir"];

/// What a member would make of these flags; empty ones are left out.
///
/// # Errors
/// What is wrong with them, as a member would say it.
pub(crate) fn config_of(
    flags: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Config, String> {
    let said = flags.into_iter().filter(|(_, value)| !value.is_empty());
    let words: Vec<_> = said.map(|(flag, value)| format!("--{flag}={value}")).collect();
    let no_file = |_: &str| Err(io::ErrorKind::NotFound.into());
    match config::load(words, Vec::new(), no_file, |_| false) {
        Outcome::Run(config, _) => Ok(*config),
        Outcome::Fail(failure) => Err(failure.text),
        Outcome::Print(text) => Err(text),
    }
}

/// The members of the new cluster with their ids, and which of them this one is.
///
/// The ids follow from what the members begin with, too: two that were restored from different states, or with different indexes,
/// would take the same log for the same thing. And they are never those of the cluster that was backed up, whose members may come
/// back.
pub(crate) fn founders(
    config: &Config,
    saved: &Saved,
    bump: u64,
) -> (Vec<(MemberId, Vec<String>)>, MemberId) {
    let mut sum = Sha256::new();
    for number in [
        saved.position.term.0,
        saved.position.index.0,
        saved.store.index().0,
        u64::from(saved.store.digest()),
        bump,
    ] {
        sum.update(number.to_le_bytes());
    }
    let sum = sum.finalize();
    let salt =
        sum.iter().fold(format!("{} restored ", config.initial_cluster_token), |mut salt, byte| {
            salt.push_str(&format!("{byte:02x}"));
            salt
        });
    let mut own = MemberId::default();
    let mut founders = Vec::new();
    for (name, peer_urls) in &config.initial_cluster {
        let id = identity::founding_member(peer_urls, &salt);
        if *name == config.name {
            own = id;
        }
        founders.push((id, peer_urls.clone()));
    }
    (founders, own)
}

/// Makes the directory of a member that goes on from `saved`, with its log in it or at `wal_dir`; its peers are the voters.
///
/// # Errors
/// Why it cannot be. What was begun then is refused by members, with the fix.
pub(crate) fn put(
    dir: &Path,
    wal_dir: Option<&Path>,
    identity: &MemberIdentity,
    saved: &Saved,
) -> Result<(), String> {
    let begun = DataDir::begin_restore(&RealFiles, dir).map_err(|error| error.to_string())?;
    fill(begun, wal_dir, identity, saved)
}

/// [`put`] into a directory that was begun.
///
/// # Errors
/// As there.
pub(super) fn fill(
    begun: DataDir,
    wal_dir: Option<&Path>,
    identity: &MemberIdentity,
    saved: &Saved,
) -> Result<(), String> {
    let log = match LogDir::open(&RealFiles, &begun, wal_dir) {
        Ok(log) => log,
        Err(error) => {
            begun.give_up(&RealFiles);
            return Err(error.to_string());
        }
    };
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let owner = LogOwner { cluster: identity.cluster.0, member: identity.member.0 };
    let voters: Vec<_> = identity.peers.iter().map(|(id, _)| *id).collect();
    let path = begun.path().to_owned();
    let written = saved::write(&files, (&begun.checkpoint(), log.path()), owner, saved, &voters)
        .map_err(|error| error.to_string())
        .and_then(|()| log.begun(&*files, &begun).map_err(|error| error.to_string()))
        .and_then(|()| {
            begun.write_member(&*files, &identity.encode()).map_err(|error| error.to_string())
        })
        .and_then(|()| begun.finish(&*files).map_err(|error| error.to_string()));
    written.map_err(|error| {
        format!("{error}. {} is not finished: empty it before the next attempt", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Task;
    use crate::backup::flags::{self, Asked};
    use crate::model::{KeyPath, LogIndex, LogPosition, LogTime, Term};
    use crate::store::{Command, HistoryLimits, Store, Write};

    fn config(words: &str) -> Config {
        let words = format!("file --data-dir d {words}");
        let words = words.split_whitespace().map(str::to_owned).collect();
        let Ok(Asked::Do(said)) = flags::read(flags::table(Task::Restore), words, Vec::new())
        else {
            panic!("it is read")
        };
        cluster_flags(&said).unwrap()
    }

    fn saved(value: u8) -> Saved {
        let mut store = Store::new(HistoryLimits::NONE);
        let write = Write { value: vec![value].into(), dir: false, ttl: None, refresh: false };
        store.apply(LogTime(1), &Command::Set { path: KeyPath::from("/a"), write });
        Saved { store, position: LogPosition { term: Term(2), index: LogIndex(5) } }
    }

    #[test]
    fn members_of_one_state_and_the_same_flags_are_one_cluster() {
        let list = "--initial-cluster a=http://1.0.0.1:1,b=http://1.0.0.2:1";
        let a = config(&format!("{list} --name a --initial-advertise-peer-urls http://1.0.0.1:1"));
        let b = config(&format!("{list} --name b --initial-advertise-peer-urls http://1.0.0.2:1"));
        let (all_of_a, own_a) = founders(&a, &saved(1), 0);
        let (all_of_b, own_b) = founders(&b, &saved(1), 0);
        assert_eq!(all_of_a, all_of_b);
        assert_ne!(own_a, own_b);
        assert_eq!(all_of_a.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [own_a, own_b]);
        // Anything else makes another cluster; the one that was backed up is always another.
        let other_token = config(&format!(
            "{list} --name a --initial-advertise-peer-urls http://1.0.0.1:1 --initial-cluster-token x"
        ));
        let others = [
            founders(&a, &saved(2), 0).1,
            founders(&a, &saved(1), 7).1,
            founders(&other_token, &saved(1), 0).1,
            identity::founding_member(&["http://1.0.0.1:1".to_owned()], "etcd-cluster"),
        ];
        assert!(!others.contains(&own_a));
    }
}
