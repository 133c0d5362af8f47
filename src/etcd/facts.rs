//! What etcd keeps in hidden keys: members in `/0`, users and roles in `/2`.
//!
//! Owns: the names of those keys and the JSON in them. Never knows: when they change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{KeyPath, MemberId};
use crate::store::{Auth, MemberRecord, Members, Node, PasswordHash, Permissions, Store};

/// Where members are.
const MEMBERS: &str = "/0/members";
/// Where the ids of those are that left.
const REMOVED: &str = "/0/removed_members";
/// The cluster's version.
pub(super) const VERSION: &str = "/0/version";
/// Users and roles, and whether they count.
const AUTH: &str = "/2";

const RAFT_ATTRIBUTES: &[u8] = b"raftAttributes";
const ATTRIBUTES: &[u8] = b"attributes";

/// Where a member's peers reach it, and whether it has no vote yet.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct RaftAttributes {
    #[serde(rename = "peerURLs", default)]
    pub(super) peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub(super) learner: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a member is called, and where clients reach it.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Attributes {
    #[serde(default)]
    pub(super) name: String,
    #[serde(rename = "clientURLs", default)]
    pub(super) client_urls: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct UserRecord {
    #[serde(default)]
    password: String,
    #[serde(default)]
    roles: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct RoleRecord {
    #[serde(default)]
    permissions: PermissionsRecord,
}

#[derive(Debug, Default, Deserialize)]
struct PermissionsRecord {
    #[serde(default)]
    kv: ReadWrite,
}

#[derive(Debug, Default, Deserialize)]
struct ReadWrite {
    #[serde(default)]
    read: Option<Vec<String>>,
    #[serde(default)]
    write: Option<Vec<String>>,
}

/// Where the record of a member is.
pub(super) fn member(id: MemberId) -> KeyPath {
    KeyPath::from(MEMBERS).child(id.to_string().as_bytes())
}

/// Where its peer URLs are.
pub(super) fn raft_attributes(id: MemberId) -> KeyPath {
    member(id).child(RAFT_ATTRIBUTES)
}

/// Where its name is.
pub(super) fn attributes(id: MemberId) -> KeyPath {
    member(id).child(ATTRIBUTES)
}

/// Where it is noted that a member left.
pub(super) fn removed(id: MemberId) -> KeyPath {
    KeyPath::from(REMOVED).child(id.to_string().as_bytes())
}

/// The member whose name and client URLs are at this path.
pub(super) fn member_of_attributes(path: &KeyPath) -> Option<MemberId> {
    let rest = KeyPath::from(MEMBERS).below(path)?.to_vec();
    let id = rest.strip_prefix(b"/")?.strip_suffix(ATTRIBUTES)?.strip_suffix(b"/")?;
    MemberId::parse(std::str::from_utf8(id).ok()?)
}

/// A member as the hidden keys have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdMember {
    /// Its id.
    pub id: MemberId,
    /// Name and URLs; the name is empty until it has started.
    pub record: MemberRecord,
    /// It has no vote.
    pub learner: bool,
}

/// What the hidden keys say.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The members.
    pub members: Vec<EtcdMember>,
    /// Those that left for good.
    pub removed: Vec<MemberId>,
    /// The cluster's version, `3.4.0`; `None` before 2.1.
    pub version: Option<String>,
    /// Users, roles and the flag.
    pub auth: Auth,
}

impl Facts {
    /// Reads the hidden keys.
    ///
    /// # Errors
    /// Which of them cannot be read.
    pub fn of(hidden: &Store) -> Result<Self, String> {
        let mut facts = Self {
            members: members(hidden)?,
            removed: Vec::new(),
            version: value(hidden, &KeyPath::from(VERSION))
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
            auth: auth(hidden)?,
        };
        for (name, _) in children(hidden, &KeyPath::from(REMOVED)) {
            facts.removed.push(id_of(&KeyPath::from(REMOVED), name)?);
        }
        Ok(facts)
    }

    /// As cairn keeps them, in a cluster of `present` members.
    pub fn members_of(&self, present: Vec<(MemberId, MemberRecord)>) -> Members {
        Members::of(present, self.removed.iter().copied(), self.version.clone())
    }
}

fn children<'a>(
    hidden: &'a Store,
    path: &KeyPath,
) -> impl Iterator<Item = (&'a [u8], &'a Node)> + use<'a> {
    let dir = hidden.get(path).outcome.ok().and_then(Node::as_dir);
    dir.into_iter().flat_map(|dir| dir.children()).map(|(name, node)| (&**name, node))
}

fn value<'a>(hidden: &'a Store, path: &KeyPath) -> Option<&'a [u8]> {
    hidden.get(path).outcome.ok()?.value()
}

fn id_of(dir: &KeyPath, name: &[u8]) -> Result<MemberId, String> {
    let id = std::str::from_utf8(name).ok().and_then(MemberId::parse);
    id.ok_or_else(|| format!("{:?} is no id of a member", dir.child(name)))
}

fn json<'a, T: Deserialize<'a>>(path: &KeyPath, bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes)
        .map_err(|error| format!("the record {path} cannot be read: {error}"))
}

/// A member without one of its records has what such a record is without anything in it.
fn members(hidden: &Store) -> Result<Vec<EtcdMember>, String> {
    let dir = KeyPath::from(MEMBERS);
    let mut members = Vec::new();
    for (name, _) in children(hidden, &dir) {
        let id = id_of(&dir, name)?;
        let (raft_path, path) = (raft_attributes(id), attributes(id));
        let raft: RaftAttributes = match value(hidden, &raft_path) {
            Some(bytes) => json(&raft_path, bytes)?,
            None => RaftAttributes::default(),
        };
        let own: Attributes = match value(hidden, &path) {
            Some(bytes) => json(&path, bytes)?,
            None => Attributes::default(),
        };
        let record = MemberRecord {
            name: own.name,
            peer_urls: raft.peer_urls.unwrap_or_default(),
            client_urls: own.client_urls.unwrap_or_default(),
        };
        members.push(EtcdMember { id, record, learner: raft.learner });
    }
    Ok(members)
}

fn auth(hidden: &Store) -> Result<Auth, String> {
    let dir = KeyPath::from(AUTH);
    if hidden.get(&dir).outcome.is_err() {
        return Ok(Auth::default());
    }
    let enabled = value(hidden, &dir.child(b"enabled")) == Some(b"true");
    let records = |kind: &[u8]| {
        let dir = dir.child(kind);
        let mut records = BTreeMap::new();
        for (name, node) in children(hidden, &dir) {
            let path = dir.child(name);
            let name = std::str::from_utf8(name).map_err(|_| format!("{path}: no text"))?;
            records.insert(name.to_owned(), (path, node.value().unwrap_or_default()));
        }
        Ok::<_, String>(records)
    };
    let (mut users, mut roles) = (Vec::new(), Vec::new());
    for (name, (path, bytes)) in records(b"users")? {
        let record: UserRecord = json(&path, bytes)?;
        users.push((name, PasswordHash::new(&record.password), record.roles));
    }
    for (name, (path, bytes)) in records(b"roles")? {
        let record: RoleRecord = json(&path, bytes)?;
        let ReadWrite { read, write } = record.permissions.kv;
        roles.push((name, Permissions { read, write }));
    }
    Auth::of(enabled, users, roles).ok_or_else(|| {
        "authentication is on, and there is no user root, who could turn it off: add one, or turn it off, while etcd runs".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_attributes_names_its_member() {
        let id = MemberId(0xabc);
        assert_eq!(member_of_attributes(&attributes(id)), Some(id));
        for path in
            ["/0/members/abc", "/0/members/abc/raftAttributes", "/0/members//attributes", "/1/a"]
        {
            assert_eq!(member_of_attributes(&KeyPath::from(path)), None, "{path}");
        }
    }

    #[test]
    fn records_are_written_as_etcd_writes_them() {
        let mut raft =
            RaftAttributes { peer_urls: Some(vec!["http://a:1".into()]), learner: false };
        assert_eq!(serde_json::to_string(&raft).unwrap(), r#"{"peerURLs":["http://a:1"]}"#);
        raft.learner = true;
        assert_eq!(
            serde_json::to_string(&raft).unwrap(),
            r#"{"peerURLs":["http://a:1"],"isLearner":true}"#
        );
    }
}
