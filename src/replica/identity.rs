//! Ids of members and clusters, computed as etcd computes them: operators and tests know the numbers.

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
}
