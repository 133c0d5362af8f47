//! TLS of the two sides of a member, as its flags say it.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;

use crate::config::{Config, ListenUrl, Side, TlsFlags};
use crate::model::Url;
use crate::tls::{Tls, TlsError, Trust};

/// TLS towards clients and among members.
pub(super) struct Sides {
    pub(super) clients: Arc<Tls>,
    pub(super) peers: Arc<Tls>,
}

impl Sides {
    /// Reads certificates and keys, or makes those that are to be made.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(super) fn load(config: &Config) -> Result<Self, TlsError> {
        let load = |flags: &TlsFlags, listeners: &[ListenUrl], urls: &[String]| {
            let secure: Vec<_> = listeners.iter().filter(|listener| listener.tls).collect();
            if !secure.is_empty() {
                announce_files(flags);
            }
            let mut hosts = if secure.is_empty() { Vec::new() } else { hosts(urls) };
            if flags.auto.is_some() {
                hosts.extend(secure.iter().filter_map(|listener| listener.host()));
            }
            hosts.sort();
            hosts.dedup();
            Tls::load(flags.clone(), Trust::Configured, &hosts).map(Arc::new)
        };
        Ok(Self {
            clients: load(
                &config.client_tls,
                &config.client_listeners,
                &config.advertise_client_urls,
            )?,
            peers: load(&config.peer_tls, &config.peer_listeners, &config.advertise_peer_urls)?,
        })
    }

    pub(super) fn all(&self) -> Vec<Arc<Tls>> {
        vec![Arc::clone(&self.clients), Arc::clone(&self.peers)]
    }
}

/// The hosts of URLs.
fn hosts(urls: &[String]) -> Vec<String> {
    let host = |url: &String| Url::parse(url).ok().map(|url| url.host().to_owned());
    urls.iter().filter_map(host).collect()
}

/// As etcd says it.
fn announce_files(flags: &TlsFlags) {
    let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default().display().to_string();
    let side = match flags.side {
        Side::Clients => "ClientTLS",
        Side::Peers => "peerTLS",
    };
    info!(
        target: "embed",
        "{side}: cert = {}, key = {}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
        path(&flags.cert),
        path(&flags.key),
        path(&flags.trusted_ca),
        flags.demands_certificate,
        path(&flags.crl),
    );
}
