//! The founding members: what `--initial-cluster` says, and whether it agrees with what this member says of itself.
//!
//! Never knows: name servers. Peer URLs with names in them are compared at the start of the member.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Failure;
use crate::config::parse::Raw;
use crate::config::texts;
use crate::model::Url;

/// `name=url,name=url`; a name may stand several times, a URL only once.
pub(super) fn initial_cluster(
    raw: &Raw,
    name: &str,
    advertised: &[Url],
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let Some(said) = raw.said("initial-cluster") else {
        return Ok(vec![(name.to_owned(), texts(advertised))]);
    };
    if said.is_empty() {
        // Founding a cluster alone would be wrong for an operator who forgot to fill in a list.
        return Err(Failure::new(
            1,
            "initial cluster unset and no discovery URL found: --initial-cluster is empty; fill it in, or leave it out for \
             a cluster of this member alone"
                .to_owned(),
        ));
    }
    let members = listed(said)?;
    let Some(own) = members.get(name) else {
        return Err(Failure::new(
            1,
            format!(
                "couldn't find local name \"{name}\" in the initial cluster configuration: --initial-cluster names {}; \
                 start this member with one of these as --name, or add {name}=URL to the list",
                members.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
        ));
    };
    same_urls(name, own, advertised)?;
    Ok(members.into_iter().map(|(member, urls)| (member, texts(&urls))).collect())
}

/// The members that a proxy asks who else is there. It is none of them itself.
pub(super) fn of_proxy(
    raw: &Raw,
    name: &str,
    advertised: &[Url],
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    match raw.said("initial-cluster") {
        None | Some("") => initial_cluster(raw, name, advertised),
        Some(said) => {
            Ok(listed(said)?.into_iter().map(|(member, urls)| (member, texts(&urls))).collect())
        }
    }
}

/// The peer URLs of each member.
fn listed(said: &str) -> Result<BTreeMap<String, Vec<Url>>, Failure> {
    let mut members = BTreeMap::<String, Vec<Url>>::new();
    let pairs = said.split(',').map(member_and_url).collect::<Result<Vec<_>, _>>();
    let pairs = pairs?;
    let mut places = BTreeSet::new();
    for (member, url) in &pairs {
        if !places.insert(url.place()) {
            return Err(Failure::new(
                1,
                format!(
                    "initial cluster {said} has duplicate url: {url} stands twice in --initial-cluster; each URL belongs to \
                     one member"
                ),
            ));
        }
        members.entry(member.clone()).or_default().push(url.clone());
    }
    Ok(members)
}

/// One `name=url`.
fn member_and_url(pair: &str) -> Result<(String, Url), Failure> {
    let fail = |why: &str| {
        Failure::verifying(format!(
            "--initial-cluster: {pair:?}: {why} (write name=http://HOST:PORT)"
        ))
    };
    let split = pair.trim().split_once('=').filter(|(member, _)| !member.is_empty());
    let (member, url) = split.ok_or_else(|| fail("no name with a URL"))?;
    let url = Url::parse(url).map_err(|error| fail(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::not_spoken("initial-cluster", &url));
    }
    if url.host().is_empty() {
        return Err(fail(&format!("unexpected empty host ({url})")));
    }
    Ok((member.to_owned(), url))
}

/// What the cluster is told of this member and what it says itself must agree.
fn same_urls(name: &str, listed: &[Url], advertised: &[Url]) -> Result<(), Failure> {
    // A name may lead to one of the addresses; that is found out when there is a network.
    if listed.iter().chain(advertised).any(|url| url.address().is_none()) {
        return Ok(());
    }
    let missing = |urls: &[Url], from: &[Url]| -> Vec<String> {
        let known: BTreeSet<_> = from.iter().map(Url::place).collect();
        urls.iter().filter(|url| !known.contains(&url.place())).map(Url::to_string).collect()
    };
    let flag = texts(advertised).join(",");
    let unknown = missing(listed, advertised);
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        return Err(Failure::new(
            1,
            format!(
                "--initial-cluster has {name}={unknown} but missing from --initial-advertise-peer-urls={flag}: write the \
                 same URLs in both"
            ),
        ));
    }
    let unlisted = missing(advertised, listed);
    if !unlisted.is_empty() {
        let unlisted = unlisted.join(",");
        return Err(Failure::new(
            1,
            format!(
                "--initial-advertise-peer-urls has {unlisted} but missing from --initial-cluster={name}={}: write the same \
                 URLs in both",
                texts(listed).join(",")
            ),
        ));
    }
    Ok(())
}
