//! What was found and taken, as a table or as JSON.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::migrate::source::Found;
use crate::mvcc::Revision;
use crate::store::{Node, Store};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    from: String,
    /// Where it was written; `None` for a dry run.
    pub(super) data_dir: Option<String>,
    /// In the order in which they are told.
    #[serde(serialize_with = "as_object")]
    facts: Vec<(&'static str, Value)>,
    /// What the operator has to know.
    notes: Vec<String>,
}

fn as_object<S: Serializer>(facts: &[(&'static str, Value)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

/// Nodes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    pub(super) files: u64,
    pub(super) directories: u64,
    /// Of both, those that die.
    pub(super) with_deadline: u64,
}

impl Nodes {
    /// Counts them.
    pub(super) fn of(store: &Store) -> Self {
        let mut nodes = Self::default();
        let root = store.get(&crate::model::KeyPath::root()).outcome;
        let mut left: Vec<&Node> = root.into_iter().collect();
        while let Some(node) = left.pop() {
            let Some(dir) = node.as_dir() else { continue };
            for (_, child) in dir.children() {
                nodes.with_deadline += u64::from(child.expires.is_some());
                if child.is_dir() {
                    nodes.directories += 1;
                    left.push(child);
                } else {
                    nodes.files += 1;
                }
            }
        }
        nodes
    }
}

impl Report {
    /// What is told of a source; `store` is what it came to.
    pub(super) fn of(from: String, found: &Found, store: &Store) -> Self {
        let mut report = Self { from, notes: found.notes.clone(), ..Self::default() };
        report.source(found);
        report.entries(found);
        report.state(found, store);
        report.version_three(found, store);
        report
    }

    fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn source(&mut self, found: &Found) {
        self.fact("etcd_version", found.facts.version.as_deref().unwrap_or("before 2.1"));
        if let Some(member) = found.member {
            self.fact("cluster", format!("{:x}", member.cluster));
            self.fact("member", format!("{:x}", member.node));
        }
        let members = found.facts.members.iter().map(|member| {
            let name = match member.record.name.as_str() {
                "" => member.id.to_string(),
                name => name.to_owned(),
            };
            Value::from(if member.learner { format!("{name} (learner)") } else { name })
        });
        self.fact("members", members.collect::<Vec<_>>());
        match &found.snapshot {
            Some((file, place)) => {
                self.fact("snapshot", file.as_str());
                self.fact("snapshot_entry", place.index);
            }
            None => self.fact("snapshot", Value::Null),
        }
        if let Some((first, last)) = found.log {
            self.fact("log_first_entry", first.index);
            self.fact("log_last_entry", last.index);
        }
    }

    fn entries(&mut self, found: &Found) {
        let done = found.replay.done();
        self.fact("entries_replayed", done.entries());
        self.fact("changes", done.changes);
        self.fact("refused_as_before", done.refused);
        self.fact("keys_expired", done.expired);
        self.fact("changes_of_the_cluster", done.facts);
        self.fact("committed_known", found.commit);
        self.fact("entries_beyond_it", found.beyond_commit);
        let voters = found.facts.members.iter().filter(|member| !member.learner).count();
        if found.beyond_commit > 0 && voters > 1 && found.member.is_some() {
            self.note(format!(
                "{} entries behind {} are taken that this member did not know to be committed: acknowledged writes may be among them, and \
                 so may be writes that got no answer. --committed-only leaves them out; the directory with the highest raft term, then \
                 the highest raft index, has all acknowledged writes",
                found.beyond_commit, found.commit
            ));
        }
    }

    fn state(&mut self, found: &Found, store: &Store) {
        let nodes = Nodes::of(store);
        self.fact("index", store.index().0);
        self.fact("raft_index", found.last.index);
        // Of the last entry, as elections compare it: a member that was cut off may have counted its own term up.
        self.fact("raft_term", found.last.term);
        self.fact("keys", nodes.files);
        self.fact("directories", nodes.directories);
        self.fact("with_ttl", nodes.with_deadline);
        let history = store.history();
        self.fact("wait_index_from", history.oldest().0);
        self.fact("events", history.len());
        let auth = store.auth();
        self.fact("authentication", if auth.enabled() { "on" } else { "off" });
        self.fact("users", auth.users().count());
        // Root's is always there and is not kept.
        self.fact("roles", auth.roles().len() - usize::from(!auth.prepared()));
        let replaced = found.replay.replaced();
        self.fact("replaced_bytes_in", replaced.count);
        if replaced.count > 0 {
            self.note(format!(
                "{} keys hold the letter U+FFFD: where bytes were no UTF-8, etcd put it there for good when it wrote its snapshot. The \
                 first are {}",
                replaced.count,
                replaced.keys.join(", ")
            ));
        }
        self.fact("digest", format!("{:08x}", store.digest()));
    }

    fn version_three(&mut self, found: &Found, store: &Store) {
        self.fact("version_3_entries", found.replay.done().version_three);
        let Some(done) = found.replay.done_three() else { return };
        let mvcc = store.mvcc();
        let auth = mvcc.auth();
        self.fact("version_3_file_up_to_entry", found.version_three.entry);
        self.fact("version_3_leases_early", found.version_three.leases_early);
        self.fact("version_3_changes_behind", done.changes);
        self.fact("version_3_refused_as_before", done.refused);
        self.fact("version_3_revision", mvcc.revision().0);
        self.fact("version_3_compacted", mvcc.compacted().map(|compacted| compacted.0));
        self.fact("version_3_keys", mvcc.keys_count());
        self.fact("version_3_versions", mvcc.versions_count());
        self.fact("version_3_leases", mvcc.leases().count());
        self.fact("version_3_authentication", if auth.enabled() { "on" } else { "off" });
        self.fact("version_3_users", auth.users().count());
        self.fact("version_3_roles", auth.roles().count());
        // As `etcdctl endpoint hashkv` shows it.
        let hash = mvcc.hash(Revision(0));
        self.fact("version_3_hash", hash.ok().map(|(hash, _)| hash));
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: data directory of etcd\n", self.from);
        // Writing to a string does not fail.
        for (name, value) in &self.facts {
            let value = match value {
                Value::Array(items) => {
                    let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                    items.join(", ")
                }
                Value::Null => "none".to_owned(),
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
            };
            let name = name.replace('_', " ");
            let _ = writeln!(text, "  {name:<24} {value}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "NOTE: {note}");
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers are JSON") + "\n"
    }
}
