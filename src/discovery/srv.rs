//! `--discovery-srv`: the SRV records of a domain lead to the founders.
//!
//! A record leads to this member when it names one of its advertised peer URLs, or an address that one of them has. The others
//! have no names yet and are numbered; names are no part of the ids, and each member publishes its own later.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::discovery::dns::{Dns, Target};
use crate::discovery::{DiscoveryError, Founders, Own};

/// What members of etcd publish, by the scheme of their peer URLs. A founder may stand in either: a cluster that moves to TLS has
/// both.
const SERVICES: [(&str, &str); 2] = [("https", "etcd-server-ssl"), ("http", "etcd-server")];

/// A host with a port, and the addresses that it has.
#[derive(Clone, Debug)]
struct Place {
    /// As it is shown.
    url: String,
    host: String,
    port: u16,
    addresses: BTreeSet<IpAddr>,
}

impl Place {
    fn is(&self, other: &Self) -> bool {
        let same_host = self.host.eq_ignore_ascii_case(&other.host)
            || !self.addresses.is_disjoint(&other.addresses);
        self.port == other.port && same_host
    }
}

pub(super) async fn found(
    dns: &Dns,
    domain: &str,
    suffix: &str,
    own: &Own<'_>,
) -> Result<Founders, DiscoveryError> {
    let (targets, service) = places(dns, domain, suffix).await?;
    let mut advertised = Vec::new();
    for url in own.peer_urls {
        let (host, port) = host_and_port(url);
        // A host that only the others can find may still stand in a record literally.
        let addresses = dns.addresses(&host).await.unwrap_or_default();
        advertised.push(Place { url: url.clone(), host, port, addresses });
    }
    let members = members(own.name, &service, &targets, &advertised)?;
    for (name, urls) in &members {
        tracing::info!(target: "discovery", "got bootstrap from DNS for {service}: {name}={}", urls.join(","));
    }
    Ok(Founders { members, registered_before: false })
}

/// The peer URLs that the records name.
pub(super) async fn peers(
    dns: &Dns,
    domain: &str,
    suffix: &str,
) -> Result<Vec<String>, DiscoveryError> {
    let (targets, _) = places(dns, domain, suffix).await?;
    Ok(targets.into_iter().map(|place| place.url).collect())
}

/// Where the records lead, and the names of the services that were asked for.
async fn places(
    dns: &Dns,
    domain: &str,
    suffix: &str,
) -> Result<(Vec<Place>, String), DiscoveryError> {
    let (mut targets, mut services) = (Vec::<Place>::new(), Vec::new());
    for (scheme, name) in SERVICES {
        let service = service(name, suffix, domain);
        let fail = |why| DiscoveryError::Dns { service: service.clone(), why };
        for target in dns.targets(&service).await.map_err(fail)? {
            let url = target.url(scheme);
            let addresses = dns.addresses(&target.host).await.map_err(fail)?;
            let place = Place { url, host: target.host, port: target.port, addresses };
            // Only one of the two can be spoken at a port; the records with TLS come first and count.
            if !targets.iter().any(|known| {
                known.url != place.url && known.host == place.host && known.port == place.port
            }) {
                targets.push(place);
            }
        }
        services.push(service);
    }
    let service = services.join(" and ");
    if targets.is_empty() {
        let why = "there are none; publish one for each founder".to_owned();
        return Err(DiscoveryError::Dns { service, why });
    }
    Ok((targets, service))
}

/// `_etcd-server-SUFFIX._tcp.DOMAIN`
pub(super) fn service(name: &str, suffix: &str, domain: &str) -> String {
    let dash = if suffix.is_empty() { "" } else { "-" };
    format!("_{name}{dash}{suffix}._tcp.{domain}")
}

impl Target {
    /// With this scheme.
    pub(super) fn url(&self, scheme: &str) -> String {
        let Self { host, port } = self;
        format!("{scheme}://{host}:{port}")
    }
}

/// Of a URL that has both.
fn host_and_port(url: &str) -> (String, u16) {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap_or_default())
}

/// Who is who.
fn members(
    name: &str,
    service: &str,
    targets: &[Place],
    advertised: &[Place],
) -> Result<Vec<(String, Vec<String>)>, DiscoveryError> {
    let urls = |places: &[Place]| {
        places.iter().map(|place| place.url.as_str()).collect::<Vec<_>>().join(",")
    };
    let (own, others): (Vec<_>, Vec<_>) =
        targets.iter().partition(|target| advertised.iter().any(|place| place.is(target)));
    if own.is_empty() {
        return Err(DiscoveryError::NotInRecords {
            name: name.to_owned(),
            service: service.to_owned(),
            targets: urls(targets),
            advertised: urls(advertised),
        });
    }
    if let Some(lost) = advertised.iter().find(|place| !own.iter().any(|target| target.is(place))) {
        return Err(DiscoveryError::NoRecordFor {
            peer_url: lost.url.clone(),
            service: service.to_owned(),
        });
    }
    let own = (name.to_owned(), own.iter().map(|target| target.url.clone()).collect());
    let mut numbers = (0..).map(|number: u32| number.to_string()).filter(|number| number != name);
    let others = others.into_iter().map(|target| {
        (numbers.next().expect("there is always one more"), vec![target.url.clone()])
    });
    Ok(std::iter::once(own).chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, port: u16, addresses: &[&str]) -> Place {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Place { url: format!("http://{host}:{port}"), host: host.to_owned(), port, addresses }
    }

    fn three() -> Vec<Place> {
        vec![
            place("m1.x", 2380, &["10.0.0.1"]),
            place("m2.x", 2380, &["10.0.0.2", "fd00::2"]),
            place("m3.x", 2380, &[]),
        ]
    }

    fn names(name: &str, advertised: &[Place]) -> Vec<(String, String)> {
        let members = members(name, "_s", &three(), advertised).unwrap();
        members.into_iter().map(|(name, urls)| (name, urls.join(","))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn this_member_is_known_by_its_host_or_by_an_address() {
        let expected = pairs(&[
            ("n", "http://m2.x:2380"),
            ("0", "http://m1.x:2380"),
            ("1", "http://m3.x:2380"),
        ]);
        assert_eq!(names("n", &[place("M2.x", 2380, &[])]), expected);
        assert_eq!(names("n", &[place("10.0.0.2", 2380, &["10.0.0.2"])]), expected);
        assert_eq!(names("n", &[place("other", 2380, &["fd00::2"])]), expected);
    }

    #[test]
    fn two_hosts_without_addresses_are_not_the_same() {
        assert_eq!(names("n", &[place("m3.x", 2380, &[])])[0].1, "http://m3.x:2380");
        assert!(members("n", "_s", &three(), &[place("m4.x", 2380, &[])]).is_err());
    }

    #[test]
    fn a_number_that_is_this_members_name_is_left_out() {
        let expected = pairs(&[
            ("0", "http://m1.x:2380"),
            ("1", "http://m2.x:2380"),
            ("2", "http://m3.x:2380"),
        ]);
        assert_eq!(names("0", &[place("m1.x", 2380, &[])]), expected);
    }

    #[test]
    fn several_urls_of_this_member_stay_together() {
        let own = [place("m1.x", 2380, &["10.0.0.1"]), place("m2.x", 2380, &[])];
        assert_eq!(names("n", &own)[0].1, "http://m1.x:2380,http://m2.x:2380");
    }

    #[test]
    fn a_member_that_is_not_in_the_records_is_told_what_is_there() {
        for stranger in [place("m1.x", 2381, &["10.0.0.1"]), place("10.0.0.9", 2380, &["10.0.0.9"])]
        {
            let text = members("n", "_s", &three(), &[stranger]).unwrap_err().to_string();
            assert!(
                text.starts_with("cannot find local etcd member \"n\" in SRV records: "),
                "{text}"
            );
            assert!(text.contains("http://m1.x:2380,http://m2.x:2380,http://m3.x:2380"), "{text}");
        }
        let own = [place("m1.x", 2380, &[]), place("m1.x", 2390, &[])];
        let text = members("n", "_s", &three(), &own).unwrap_err().to_string();
        assert!(text.starts_with("--initial-advertise-peer-urls has http://m1.x:2390, "), "{text}");
    }

    #[test]
    fn the_service_is_named_as_etcds() {
        assert_eq!(service("etcd-server", "", "x"), "_etcd-server._tcp.x");
        assert_eq!(service("etcd-server-ssl", "blue", "x"), "_etcd-server-ssl-blue._tcp.x");
        assert_eq!(host_and_port("http://[::1]:2380"), ("::1".to_owned(), 2380));
    }
}
