//! `--discovery-srv`: founders that a real DNS server names.
//!
//! `dnsmasq` answers on a port of loopback. Without it the tests fail, unless `CAIRN_SKIP_DNS=1`.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use cairn::config::TlsFlags;
use cairn::discovery::{self, DiscoveryError, Own, RetryPolicy};
use cairn::model::Discovery;
use cairn::replica::identity;
use cairn::tls::{Tls, Trust};
use support::dns::{Dns, free_address};
use support::http::{self, Request};
use support::process::Process;

/// A domain with three members at one place each, and some that are not as they should be.
const RECORDS: &[&str] = &[
    "--srv-host=_etcd-server._tcp.three.test,m1.three.test,2380",
    "--srv-host=_etcd-server._tcp.three.test,m2.three.test,2380",
    "--srv-host=_etcd-server._tcp.three.test,m3.three.test,2390",
    "--host-record=m1.three.test,127.0.0.11",
    "--host-record=m2.three.test,127.0.0.12,fd00::12",
    "--host-record=m3.three.test,127.0.0.13",
    "--srv-host=_etcd-server-blue._tcp.three.test,m2.three.test,2380",
    "--srv-host=_etcd-server-ssl._tcp.secret.test,m1.three.test,2380",
    "--srv-host=_etcd-server._tcp.secret.test,m1.three.test,2380",
    "--srv-host=_etcd-server._tcp.lost.test,nowhere.lost.test,2380",
    "--srv-host=_etcd-server._tcp.lost.test,m1.three.test,2380",
    "--srv-host=_etcd-server._tcp.none.test",
];

fn found(
    dns: SocketAddr,
    domain: &str,
    suffix: &str,
    peer_urls: &[&str],
) -> Result<Vec<(String, String)>, DiscoveryError> {
    let discovery = Discovery::Srv {
        domain: domain.to_owned(),
        suffix: suffix.to_owned(),
        name_server: Some(dns),
    };
    let peer_urls: Vec<_> = peer_urls.iter().map(|&url| url.to_owned()).collect();
    let own = Own { name: "n", peer_urls: &peer_urls, id_of: identity::founding_member };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime.expect("a runtime").block_on(discovery::found(
        &discovery,
        &own,
        RetryPolicy::default(),
        Arc::new(
            Tls::load(TlsFlags::default(), Trust::ConfiguredOrPublic, &[])
                .expect("no file is named"),
        ),
    ))?;
    assert!(!found.registered_before);
    Ok(found.members.into_iter().map(|(name, urls)| (name, urls.join(","))).collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect()
}

#[test]
fn the_dns_names_the_founders() {
    let Some(dns) = Dns::start(RECORDS) else { return };
    let at = |peer_urls: &[&str]| found(dns.address, "three.test", "", peer_urls);
    let second = pairs(&[
        ("n", "http://m2.three.test:2380"),
        ("0", "http://m1.three.test:2380"),
        ("1", "http://m3.three.test:2390"),
    ]);
    // By either address, and by name.
    for own in ["http://127.0.0.12:2380", "http://[fd00::12]:2380", "http://M2.three.test:2380"] {
        assert_eq!(at(&[own]).expect("a list"), second, "{own}");
    }
    let both = at(&["http://127.0.0.11:2380", "http://m3.three.test:2390"]).expect("a list");
    assert_eq!(both[0].1, "http://m1.three.test:2380,http://m3.three.test:2390");
    let blue = found(dns.address, "three.test", "blue", &["http://127.0.0.12:2380"]);
    assert_eq!(blue.expect("a list"), pairs(&[("n", "http://m2.three.test:2380")]));
    // A host without an address is a member as well; it may get one later.
    let lost = found(dns.address, "lost.test", "", &["http://127.0.0.11:2380"]).expect("a list");
    assert_eq!(lost[1], ("0".to_owned(), "http://nowhere.lost.test:2380".to_owned()));
}

#[test]
fn records_that_lead_elsewhere_are_named_with_the_fix() {
    let Some(dns) = Dns::start(RECORDS) else { return };
    let refusal = |domain: &str, suffix: &str, peer_urls: &[&str]| {
        found(dns.address, domain, suffix, peer_urls).expect_err("it is refused").to_string()
    };
    let text = refusal("three.test", "", &["http://127.0.0.11:9"]);
    assert!(text.starts_with("cannot find local etcd member \"n\" in SRV records: "), "{text}");
    assert!(text.contains("http://m1.three.test:2380,http://m2.three.test:2380"), "{text}");
    let text = refusal("three.test", "", &["http://127.0.0.11:2380", "http://127.0.0.11:9"]);
    assert!(text.starts_with("--initial-advertise-peer-urls has http://127.0.0.11:9, "), "{text}");
    for (domain, suffix) in [("unknown.test", ""), ("three.test", "green"), ("none.test", "")] {
        let text = refusal(domain, suffix, &["http://127.0.0.11:2380"]);
        let begin = "error setting up initial cluster: error querying DNS SRV records for ";
        assert!(text.starts_with(begin) && text.contains("publish one"), "{text}");
        assert!(text.contains(domain) && text.contains("--discovery-srv"), "{text}");
    }
}

#[test]
fn records_of_members_with_tls_count_and_come_first() {
    let Some(dns) = Dns::start(RECORDS) else { return };
    let found = found(dns.address, "secret.test", "", &["https://127.0.0.11:2380"]);
    assert_eq!(found.expect("a list"), pairs(&[("n", "https://m1.three.test:2380")]));
}

#[test]
fn a_name_server_that_is_away_is_named_as_such() {
    let nobody = free_address();
    let text = found(nobody, "three.test", "", &["http://127.0.0.11:2380"]);
    let text = text.expect_err("it is refused").to_string();
    assert!(text.starts_with("error setting up initial cluster: "), "{text}");
    assert!(text.contains("--discovery-dns"), "{text}");
}

#[test]
fn a_member_starts_by_the_dns_alone() {
    let Some(dns) = Dns::start(RECORDS) else { return };
    let server = dns.address.to_string();
    // No peer connects to a member that is alone, so it may advertise what the records say and listen elsewhere.
    let mut member = Process::cairn(&[
        "--name=only",
        "--discovery-srv=three.test",
        "--discovery-srv-name=blue",
        &format!("--discovery-dns={server}"),
        "--initial-advertise-peer-urls=http://127.0.0.12:2380",
        "--initial-cluster-token=t",
    ]);
    member.line("ready to serve client requests");
    let line = member.line("serving insecure client requests on ");
    let address = line.rsplit(' ').next().and_then(|address| address.parse().ok());
    let reply = http::ask(address.expect("an address"), &Request::get("/v2/members"));
    let reply = reply.expect("an answer");
    let url = "http://m2.three.test:2380".to_owned();
    let id = identity::founding_member(std::slice::from_ref(&url), "t");
    assert!(
        reply.text().contains(&format!("\"id\":\"{id}\",\"name\":\"only\"")),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains(&url), "{}", reply.text());

    let mut stranger = Process::cairn(&[
        "--discovery-srv=unknown.test",
        &format!("--discovery-dns={server}"),
        "--initial-advertise-peer-urls=http://127.0.0.12:2380",
    ]);
    stranger.line("error setting up initial cluster: error querying DNS SRV records");
    assert_eq!(stranger.end().code(), Some(1));
}
