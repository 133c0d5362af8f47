//! Who a member is: ids of members and clusters, computed as etcd computes them (operators and tests know the numbers), and
//! what a member keeps of them in its data directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::model::{ClusterId, MemberId, WallTime};

/// A founder's id: from its peer URLs and the cluster's token.
pub fn founding_member(peer_urls: &[String], token: &str) -> MemberId {
    MemberId(of_urls(peer_urls, token))
}

/// The id of a member that joins at run time: from its peer URLs and the second it was added.
pub fn added_member(peer_urls: &[String], at: WallTime) -> MemberId {
    MemberId(of_urls(peer_urls, &at.parts().0.to_string()))
}

/// A cluster's id: from its founders'.
pub fn cluster(founders: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<_> = founders.into_iter().collect();
    ids.sort();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.0.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

fn of_urls(peer_urls: &[String], salt: &str) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut hash = Sha1::new();
    hash.update(urls.concat());
    hash.update(salt);
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let first = digest[..8].try_into().expect("a SHA-1 digest has twenty bytes");
    u64::from_be_bytes(first)
}

/// Who this member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub member: MemberId,
    /// The members that found the cluster together; none when it was there before this member.
    pub founders: Vec<(MemberId, Vec<String>)>,
    /// Where members were reached when that was last known.
    pub peers: Vec<(MemberId, Vec<String>)>,
    /// It was found in the data directory. Not kept there.
    pub restarted: bool,
}

/// [`MemberIdentity`] as it is kept. Fields are only ever appended.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    cluster: String,
    member: String,
    founders: BTreeMap<String, Vec<String>>,
    peers: BTreeMap<String, Vec<String>>,
}

impl MemberIdentity {
    /// As it is kept in `member.json`.
    pub fn encode(&self) -> Vec<u8> {
        let by_id = |members: &[(MemberId, Vec<String>)]| {
            members.iter().map(|(id, urls)| (id.to_string(), urls.clone())).collect()
        };
        let kept = Kept {
            cluster: self.cluster.to_string(),
            member: self.member.to_string(),
            founders: by_id(&self.founders),
            peers: by_id(&self.peers),
        };
        let mut bytes = serde_json::to_vec_pretty(&kept).expect("texts and maps of texts are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// The counterpart of [`MemberIdentity::encode`].
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let kept: Kept = serde_json::from_slice(bytes)?;
        let id = |text: &str| {
            let no_id = || serde::de::Error::custom(format!("{text:?} is no id"));
            MemberId::parse(text).ok_or_else(no_id)
        };
        let members = |by_id: BTreeMap<String, Vec<String>>| {
            let member = |(text, urls): (String, _)| id(&text).map(|id| (id, urls));
            by_id.into_iter().map(member).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            cluster: ClusterId(id(&kept.cluster)?.0),
            member: id(&kept.member)?,
            founders: members(kept.founders)?,
            peers: members(kept.peers)?,
            restarted: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_flags_give_etcds_default_ids() {
        let urls = ["http://localhost:2380".to_owned()];
        let member = founding_member(&urls, "etcd-cluster");
        assert_eq!(member.to_string(), "8e9e05c52164694d");
        assert_eq!(cluster([member]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn who_a_member_is_is_read_back() {
        let identity = MemberIdentity {
            cluster: ClusterId(u64::MAX),
            member: MemberId(0xabc),
            founders: vec![(MemberId(1), vec!["http://a:1".into()])],
            peers: vec![(MemberId(1), vec!["http://a:1".into(), "http://b:1".into()])],
            restarted: true,
        };
        assert_eq!(MemberIdentity::decode(&identity.encode()).unwrap(), identity);
        assert!(MemberIdentity::decode(b"{}").is_err());
        assert!(MemberIdentity::decode(&identity.encode()[..40]).is_err());
    }
}
