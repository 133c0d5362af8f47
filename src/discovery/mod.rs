//! How the founders of a cluster find each other when they are not listed: in a directory of another cluster
//! (`--discovery`), or by the SRV records of a domain (`--discovery-srv`).
//!
//! Owns: the HTTP client with which a member asks others, and the DNS resolver. Never knows: flags, the data directory, how ids
//! are computed (it is handed that), what is done with the list that it finds.

#[cfg(test)]
pub(crate) mod costs;
mod directory;
mod dns;
mod entries;
mod error;
pub mod http_client;
mod http_error;
mod srv;
mod target;
mod v2;

pub use error::DiscoveryError;
pub use http_client::{Begun, HttpClient, Limits, Response, tune};
pub use http_error::HttpError;
pub use v2::RetryPolicy;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{Discovery, MemberId};
use crate::tls::Tls;

/// What a founder says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where its peers reach it.
    pub peer_urls: &'a [String],
    /// A founder's id, from its peer URLs and the token of its cluster.
    pub id_of: fn(&[String], &str) -> MemberId,
}

/// The founders of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founders {
    /// Their names and peer URLs. This member is among them under its own name.
    pub members: Vec<(String, Vec<String>)>,
    /// This member had registered before this start. Most likely it was stopped before the cluster was complete; but if it
    /// has been a member and lost its data, it must not found the cluster again: ask the others first.
    pub registered_before: bool,
}

/// Finds the founders of this member's cluster; returns once they are complete.
///
/// For [`Discovery::Registry`] the token of the cluster is the URL of the directory. It may take for ever: the caller can
/// drop the future at any time and call again. `tls` is for a directory behind a https URL.
///
/// # Errors
/// See [`DiscoveryError`]; the texts name flag and fix.
pub async fn found(
    discovery: &Discovery,
    own: &Own<'_>,
    patience: RetryPolicy,
    tls: Arc<Tls>,
) -> Result<Founders, DiscoveryError> {
    match discovery {
        Discovery::Registry { url, proxy } => {
            v2::found(url, client_of(url, proxy.as_deref(), tls)?, own, patience).await
        }
        Discovery::Srv { domain, suffix, name_server } => {
            let dns = dns::Dns::new(*name_server)
                .map_err(|why| DiscoveryError::Dns { service: format!("{domain:?}"), why })?;
            srv::found(&dns, domain, suffix, own).await
        }
    }
}

/// The peer URLs of a cluster's founders, for one who is none of them; empty when none has registered yet. Registers nothing.
///
/// # Errors
/// See [`DiscoveryError`]; the texts name flag and fix.
pub async fn peers(
    discovery: &Discovery,
    patience: RetryPolicy,
    tls: Arc<Tls>,
) -> Result<Vec<String>, DiscoveryError> {
    match discovery {
        Discovery::Registry { url, proxy } => {
            v2::peers(url, client_of(url, proxy.as_deref(), tls)?, patience).await
        }
        Discovery::Srv { domain, suffix, name_server } => {
            let dns = dns::Dns::new(*name_server)
                .map_err(|why| DiscoveryError::Dns { service: format!("{domain:?}"), why })?;
            srv::peers(&dns, domain, suffix).await
        }
    }
}

fn client_of(url: &str, proxy: Option<&str>, tls: Arc<Tls>) -> Result<HttpClient, DiscoveryError> {
    let client = HttpClient::new().with_tls(tls);
    let Some(proxy) = proxy else { return Ok(client) };
    client.through(proxy).map_err(|error| {
        let why = format!("--discovery-proxy: {error}");
        DiscoveryError::BadEndpoint { url: url.to_owned(), why }
    })
}

/// What members of etcd publish for clients, by the scheme of their URLs.
const CLIENT_SERVICES: [(&str, &str); 2] = [("https", "etcd-client-ssl"), ("http", "etcd-client")];

/// Where clients reach the members of a cluster, by the SRV records of a domain: those with TLS first. `suffix` is what the
/// services' names end with, if anything.
///
/// # Errors
/// [`DiscoveryError::Dns`] when no name server answers, or there are no records.
pub async fn client_urls(
    domain: &str,
    suffix: &str,
    name_server: Option<SocketAddr>,
) -> Result<Vec<String>, DiscoveryError> {
    let dns = dns::Dns::new(name_server)
        .map_err(|why| DiscoveryError::Dns { service: format!("{domain:?}"), why })?;
    let (mut urls, mut services) = (Vec::new(), Vec::new());
    for (scheme, name) in CLIENT_SERVICES {
        let service = srv::service(name, suffix, domain);
        let fail = |why| DiscoveryError::Dns { service: service.clone(), why };
        let targets = dns.targets(&service).await.map_err(fail)?;
        urls.extend(targets.iter().map(|target| target.url(scheme)));
        services.push(service);
    }
    if urls.is_empty() {
        let why = "there are none; publish one for each member".to_owned();
        return Err(DiscoveryError::Dns { service: services.join(" and "), why });
    }
    Ok(urls)
}
