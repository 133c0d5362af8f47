//! Where a member listens, and whether its listeners can stand beside each other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::Failure;
use crate::model::Url;

/// Where a member listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A port. An unspecified address takes it for IPv4 and IPv6 alike, however it is written.
    Tcp(SocketAddr),
    /// A socket in the file of this name, which is `host:port`, in the working directory.
    Unix(String),
}

impl Address {
    /// Where a listener with this URL is; `None` when the host is a name other than `localhost`.
    pub(super) fn of(url: &Url) -> Option<Self> {
        if matches!(url.scheme(), "unix" | "unixs") {
            return url.to_string().split_once("://").map(|(_, name)| Self::Unix(name.to_owned()));
        }
        url.address().map(Self::Tcp)
    }

    /// Can clients on other machines come in here?
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    /// As a URL.
    fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(name) => format!("unix://{name}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A URL to listen at: a place, and whether TLS is spoken there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenUrl {
    /// The place.
    pub address: Address,
    /// Its URL begins with `https` or `unixs`.
    pub tls: bool,
}

impl ListenUrl {
    pub(super) fn of(url: &Url) -> Option<Self> {
        Some(Self { address: Address::of(url)?, tls: matches!(url.scheme(), "https" | "unixs") })
    }

    /// The address under which clients of this machine reach it, if it has one.
    pub fn host(&self) -> Option<String> {
        match self.address {
            Address::Tcp(place) if !place.ip().is_unspecified() => Some(place.ip().to_string()),
            Address::Tcp(_) | Address::Unix(_) => None,
        }
    }

    /// As a URL.
    pub fn url(&self) -> String {
        let url = self.address.url();
        if self.tls { url.replacen("://", "s://", 1) } else { url }
    }
}

/// All listeners so far, each with its flag.
#[derive(Default)]
pub(super) struct Listeners<'a> {
    ports: BTreeMap<u16, BTreeMap<IpAddr, (&'a str, &'a ListenUrl)>>,
    files: BTreeMap<&'a str, &'a str>,
}

impl<'a> Listeners<'a> {
    /// Adds those of one flag.
    ///
    /// # Errors
    /// The first that takes what another one has; it would fail later with fewer words.
    pub(super) fn add(&mut self, flag: &'a str, listeners: &'a [ListenUrl]) -> Result<(), Failure> {
        for listener in listeners {
            let address = &listener.address;
            let other = match address {
                Address::Tcp(place) => self.add_port(flag, listener, *place),
                Address::Unix(name) => {
                    self.files.insert(name, flag).map(|flag| (flag, address.url()))
                }
            };
            if let Some((other, url)) = other {
                let both = if url == listener.url() {
                    "are the same"
                } else {
                    "overlap (0.0.0.0 and [::] each take all addresses of this machine, IPv4 and IPv6)"
                };
                return Err(Failure::verifying(format!(
                    "--{other}={url} and --{flag}={} {both}: leave one of them out, or give it another port",
                    listener.url()
                )));
            }
        }
        Ok(())
    }

    fn add_port(
        &mut self,
        flag: &'a str,
        listener: &'a ListenUrl,
        place: SocketAddr,
    ) -> Option<(&'a str, String)> {
        if place.port() == 0 {
            return None;
        }
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let ip = if place.ip().is_unspecified() { any } else { place.ip() };
        let there = self.ports.entry(place.port()).or_default();
        let other =
            if ip == any { there.values().next() } else { there.get(&ip).or(there.get(&any)) };
        let other = other.map(|(flag, listener)| (*flag, listener.url()));
        there.insert(ip, (flag, listener));
        other
    }
}
