//! What a founder writes into the directory, and whether what all have written makes a cluster.
//!
//! Never knows: the network.

use std::collections::BTreeSet;

use crate::discovery::{DiscoveryError, Own};
use crate::model::MemberId;

/// One registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Under which key: the founder's id in hex, if it keeps to the protocol.
    pub(super) key: String,
    /// `name=url,name=url`
    pub(super) value: String,
    /// When: earlier founders come first.
    pub(super) created: u64,
}

/// A founder: its name and its peer URLs in order.
pub(super) type Founder = (String, Vec<String>);

/// How a founder writes itself down: `name=url,name=url`, in order.
pub(super) fn written(own: &Own<'_>) -> String {
    let mut pairs: Vec<_> = own.peer_urls.iter().map(|url| format!("{}={url}", own.name)).collect();
    pairs.sort();
    pairs.join(",")
}

/// Reads what [`written`] wrote, in any order; `None` when it is something else, or speaks of two members.
pub(super) fn read(value: &str) -> Option<Founder> {
    let mut founder: Option<Founder> = None;
    for pair in value.split(',') {
        let (name, url) = pair.split_once('=').filter(|(name, _)| !name.is_empty())?;
        if !is_peer_url(url) {
            return None;
        }
        let (known, urls) = founder.get_or_insert_with(|| (name.to_owned(), Vec::new()));
        if known != name {
            return None;
        }
        urls.push(url.to_owned());
    }
    founder.as_mut()?.1.sort();
    founder
}

/// A scheme, a host and a port, and nothing else.
fn is_peer_url(url: &str) -> bool {
    let Some((scheme, address)) = url.split_once("://") else { return false };
    let known = matches!(scheme, "http" | "https" | "unix" | "unixs");
    let plain = !address.contains(|letter: char| {
        matches!(letter, '/' | '?' | '#' | '@') || letter.is_whitespace() || letter.is_control()
    });
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    known && plain && has_port
}

/// The cluster that these entries make; `url` is their directory, and the cluster's token.
///
/// # Errors
/// When they make none, or one that this member would see with other eyes than its founders.
pub(super) fn cluster(
    url: &str,
    entries: &[Entry],
    id_of: fn(&[String], &str) -> MemberId,
) -> Result<Vec<Founder>, DiscoveryError> {
    let (mut founders, mut names, mut places) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let (name, urls) = read(&entry.value).ok_or_else(|| DiscoveryError::InvalidUrl {
            url: url.to_owned(),
            key: entry.key.clone(),
            value: entry.value.clone(),
        })?;
        if !names.insert(name.clone()) {
            return Err(DiscoveryError::DuplicateName { url: url.to_owned(), name });
        }
        for peer_url in &urls {
            let (url, peer_url) = (url.to_owned(), peer_url.clone());
            if !places.insert(peer_url.clone()) {
                return Err(DiscoveryError::DuplicateUrl { url, peer_url });
            }
            if !peer_url.starts_with("http://") && !peer_url.starts_with("https://") {
                let place = format!("{url}/{}", entry.key);
                return Err(DiscoveryError::NotSupported { place, peer_url });
            }
        }
        let id = id_of(&urls, url);
        if MemberId::parse(&entry.key) != Some(id) {
            let (url, found) = (url.to_owned(), entry.key.clone());
            return Err(DiscoveryError::ForeignId { name, url, found, id });
        }
        founders.push((name, urls));
    }
    Ok(founders)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: &str = "http://d:1/t";

    /// As good as any: what matters is that all agree.
    fn id_of(urls: &[String], token: &str) -> MemberId {
        MemberId(urls.concat().len() as u64 * 1000 + token.len() as u64)
    }

    fn entry(value: &str) -> Entry {
        let urls = read(value).map(|(_, urls)| urls).unwrap_or_default();
        Entry { key: id_of(&urls, DIRECTORY).to_string(), value: value.to_owned(), created: 1 }
    }

    fn refusal(entries: &[Entry]) -> String {
        cluster(DIRECTORY, entries, id_of).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_founder_is_read_as_it_was_written() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let own = Own { name: "n", peer_urls: &urls, id_of };
        assert_eq!(written(&own), "n=http://a:1,n=http://b:1");
        let read = read("n=http://b:1,n=http://a:1").unwrap();
        assert_eq!(read, ("n".to_owned(), vec!["http://a:1".to_owned(), "http://b:1".to_owned()]));
    }

    #[test]
    fn what_is_no_founder_is_not_taken_for_one() {
        for value in [
            "",
            "n",
            "=http://a:1",
            "n=a:1",
            "n=ftp://a:1",
            "n=http://a",
            "n=http://:1",
            "n=http://a:1/",
            "n=http://u@a:1",
            "n=http://a:1,m=http://b:1",
            "n=http://a:1,",
        ] {
            assert_eq!(read(value), None, "{value:?}");
            assert!(refusal(&[entry(value)]).starts_with("discovery: invalid URL: "));
        }
    }

    #[test]
    fn entries_make_a_cluster_in_their_order() {
        let entries = [entry("b=http://b:1"), entry("a=http://aa:1")];
        let founders = cluster(DIRECTORY, &entries, id_of).unwrap();
        assert_eq!(founders.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn names_and_urls_stand_once() {
        let twice = refusal(&[entry("n=http://a:1"), entry("n=http://bb:1")]);
        assert!(twice.starts_with("discovery: found duplicate name: \"n\""), "{twice}");
        let twice = refusal(&[entry("n=http://a:1"), entry("m=http://a:1,m=http://b:1")]);
        assert!(twice.starts_with("discovery cluster has duplicate url: http://a:1"), "{twice}");
    }

    #[test]
    fn a_founder_that_spells_the_url_differently_is_noticed() {
        let mut other = entry("n=http://a:1");
        other.key = id_of(&["http://a:1".to_owned()], "http://d:1/t/").to_string();
        let text = refusal(&[other]);
        assert!(text.contains("in exactly the same way"), "{text}");
    }

    #[test]
    fn a_founder_with_tls_has_to_wait() {
        assert!(refusal(&[entry("n=unix://a:1")]).starts_with("not supported: "));
    }
}
