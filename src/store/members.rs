//! Who belongs to the cluster: names, URLs, version.
//!
//! Who votes is Raft's business and is not here.

use std::collections::BTreeSet;

use imbl::{OrdMap, OrdSet};

use crate::model::{DecodeError, MemberId, Reader, Writer};
use crate::store::command::{decode_texts, encode_texts};

/// What the cluster knows of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    /// Empty until the member has started.
    pub name: String,
    /// Where its peers reach it, in text order.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started.
    pub client_urls: Vec<String>,
}

/// Which members there are and were, as a number: it grows by one whenever a member joins or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MembersRevision(pub u64);

/// The members, past and present, and the cluster's version.
#[derive(Clone, Debug, Default)]
pub struct Members {
    present: OrdMap<MemberId, MemberRecord>,
    removed: OrdSet<MemberId>,
    version: Option<String>,
}

impl Members {
    /// These members, those that left for good, and the cluster's version: what another server knew.
    pub fn of(
        present: impl IntoIterator<Item = (MemberId, MemberRecord)>,
        removed: impl IntoIterator<Item = MemberId>,
        version: Option<String>,
    ) -> Self {
        let sort = |(id, record): (MemberId, MemberRecord)| {
            let peer_urls = sorted(&record.peer_urls);
            (id, MemberRecord { peer_urls, ..record })
        };
        let version = version.filter(|version| !version.is_empty());
        let present: OrdMap<_, _> = present.into_iter().map(sort).collect();
        // An id cannot be both.
        let removed = removed.into_iter().filter(|id| !present.contains_key(id)).collect();
        Self { present, removed, version }
    }

    /// The ids of those that left for good.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// The members in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (MemberId, &MemberRecord)> {
        self.present.iter().map(|(id, record)| (*id, record))
    }

    /// One member.
    pub fn get(&self, id: MemberId) -> Option<&MemberRecord> {
        self.present.get(&id)
    }

    /// Did this member leave for good?
    pub fn was_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// Which members there are and were. Every member that joined is present or was removed, and an id joins and leaves at
    /// most once, so the number follows from the two sets and needs no stored form of its own.
    pub fn revision(&self) -> MembersRevision {
        let (present, removed) = (self.present.len() as u64, self.removed.len() as u64);
        MembersRevision(present + 2 * removed)
    }

    /// Wire: `etcdcluster`; `None` until it is agreed.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Is a member other than `except` reached at one of these URLs?
    pub fn has_url(&self, peer_urls: &[String], except: Option<MemberId>) -> bool {
        let asked: BTreeSet<&String> = peer_urls.iter().collect();
        let at = |record: &MemberRecord| record.peer_urls.iter().any(|url| asked.contains(url));
        self.iter().any(|(id, record)| Some(id) != except && at(record))
    }

    /// Are these the very same records? `false` does not say that they differ.
    pub fn same(&self, other: &Self) -> bool {
        self.present.ptr_eq(&other.present)
            && self.removed.ptr_eq(&other.removed)
            && self.version == other.version
    }

    /// A member is here from now on. One that is here already or left for good is not added, nor one at another member's
    /// URL. `false` when nothing changed; so say the others.
    pub(super) fn add(&mut self, id: MemberId, peer_urls: &[String]) -> bool {
        let known = self.present.contains_key(&id) || self.removed.contains(&id);
        if known || self.has_url(peer_urls, Some(id)) {
            return false;
        }
        let record = MemberRecord { peer_urls: sorted(peer_urls), ..MemberRecord::default() };
        self.present.insert(id, record);
        true
    }

    /// A member moved; only a known one can, and not to the URL of another.
    pub(super) fn update(&mut self, id: MemberId, peer_urls: &[String]) -> bool {
        if self.has_url(peer_urls, Some(id)) {
            return false;
        }
        let Some(record) = self.present.get_mut(&id) else { return false };
        record.peer_urls = sorted(peer_urls);
        true
    }

    pub(super) fn publish(&mut self, id: MemberId, name: &str, client_urls: &[String]) -> bool {
        let Some(record) = self.present.get_mut(&id) else { return false };
        if record.name == name && record.client_urls == client_urls {
            return false;
        }
        record.name = name.to_owned();
        record.client_urls = client_urls.to_vec();
        true
    }

    pub(super) fn remove(&mut self, id: MemberId) -> bool {
        let was_here = self.present.remove(&id).is_some();
        if was_here {
            self.removed.insert(id);
        }
        was_here
    }

    pub(super) fn set_version(&mut self, version: &str) -> bool {
        let changed = self.version() != Some(version);
        self.version = Some(version.to_owned());
        changed
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(self.present.len() as u64);
        for (id, record) in &self.present {
            out.u64(id.0).bytes(record.name.as_bytes());
            encode_texts(out, &record.peer_urls);
            encode_texts(out, &record.client_urls);
        }
        out.varint(self.removed.len() as u64);
        for id in &self.removed {
            out.u64(id.0);
        }
        out.bytes(self.version.as_deref().unwrap_or_default().as_bytes());
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut members = Self::default();
        for _ in 0..input.varint("member count")? {
            let id = MemberId(input.u64("member id")?);
            let name = input.text("member name")?;
            let peer_urls = decode_texts(input)?;
            let client_urls = decode_texts(input)?;
            members.present.insert(id, MemberRecord { name, peer_urls, client_urls });
        }
        for _ in 0..input.varint("removed count")? {
            members.removed.insert(MemberId(input.u64("member id")?));
        }
        let version = input.text("cluster version")?;
        members.version = (!version.is_empty()).then_some(version);
        Ok(members)
    }
}

#[cfg(test)]
impl Members {
    /// Adds a member at these URLs.
    pub(crate) fn add_for_test(&mut self, peer_urls: &[String]) {
        self.add(MemberId(1), peer_urls);
    }
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}
