//! The DNS, as far as a founder needs it; no other file names the resolver.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};

/// How long `--discovery-dns` has for an answer, and how often it is asked again; the system says so for its own servers.
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRIES: usize = 2;

/// Where an SRV record leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// Without the dot at its end.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A way to ask name servers.
pub(super) struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// One that asks this server, or those of the system.
    ///
    /// # Errors
    /// When the system's configuration cannot be used.
    pub(super) fn new(name_server: Option<SocketAddr>) -> Result<Self, String> {
        let builder = match name_server {
            Some(address) => {
                let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
                (udp.port, tcp.port) = (address.port(), address.port());
                let server = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
                let config = ResolverConfig::from_name_servers(vec![server]);
                let provider = TokioRuntimeProvider::default();
                let mut builder = TokioResolver::builder_with_config(config, provider);
                builder.options_mut().timeout = TIMEOUT;
                builder.options_mut().attempts = RETRIES;
                builder
            }
            None => TokioResolver::builder_tokio().map_err(|error| {
                format!("the system's resolver (/etc/resolv.conf) cannot be used: {error}")
            })?,
        };
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver })
    }

    /// Where the records of `service`, as `_name._tcp.domain`, lead, in the order of the alphabet: priorities and weights say
    /// nothing about members. Nowhere when there are none.
    ///
    /// # Errors
    /// When no name server answers.
    pub(super) async fn targets(&self, service: &str) -> Result<BTreeSet<Target>, String> {
        let name = absolute(service)?;
        let lookup = match self.resolver.srv_lookup(name).await {
            Ok(lookup) => lookup,
            Err(error) if error.is_no_records_found() => return Ok(BTreeSet::new()),
            Err(error) => return Err(error.to_string()),
        };
        let target = |data: &RData| {
            let RData::SRV(srv) = data else { return None };
            let host = srv.target.to_ascii().trim_end_matches('.').to_owned();
            // A lone dot says that there is no such service.
            (!host.is_empty()).then_some(Target { host, port: srv.port })
        };
        Ok(lookup.answers().iter().filter_map(|record| target(&record.data)).collect())
    }

    /// The addresses of a host; none when it has none.
    ///
    /// # Errors
    /// When no name server answers.
    pub(super) async fn addresses(&self, host: &str) -> Result<BTreeSet<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(BTreeSet::from([address]));
        }
        match self.resolver.lookup_ip(host).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Ok(BTreeSet::new()),
            Err(error) => Err(format!("{host}: {error}")),
        }
    }
}

/// A name that no search list makes longer.
fn absolute(name: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(name).map_err(|error| format!("{name:?}: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}
