//! URLs of members: a scheme, a host and a port, and nothing else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use thiserror::Error;

/// `http://host:port`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    port: u16,
}

/// What is wrong with a URL; the texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// No scheme, or none that we know.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// No host or no port.
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    /// Something behind the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let scheme_error = || UrlError::Scheme(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(scheme_error)?;
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https" | "unix" | "unixs") {
            return Err(scheme_error());
        }
        let (address, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let address_error = || UrlError::Address(text.to_owned());
        let (host, port) = address.rsplit_once(':').ok_or_else(address_error)?;
        let port = port.parse().map_err(|_| address_error())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plain = host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        let host = match bracketed {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
            None if plain => host,
            Some(_) | None => return Err(address_error()),
        };
        if !path.is_empty() {
            return Err(UrlError::Path(text.to_owned()));
        }
        // As Go writes it: the text is a part of the ids.
        Ok(Self { text: format!("{scheme}://{rest}"), scheme, host: host.to_owned(), port })
    }

    /// Reads a comma-separated list with at least one.
    ///
    /// # Errors
    /// The first thing that is wrong with any of them.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        text.split(',').map(Self::parse).collect()
    }

    /// A name or an address without brackets; may be empty, which no flag takes.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where it leads, as far as that can be told without asking for names: equal for URLs that lead to the same place.
    pub fn place(&self) -> (&str, Result<IpAddr, String>, u16) {
        let host = match self.address() {
            Some(address) => Ok(address.ip()),
            None => Err(self.host.to_ascii_lowercase()),
        };
        (&self.scheme, host, self.port)
    }

    /// `http` and so on.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The address; `None` when the host is a name other than `localhost`.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = if self.host == "localhost" {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.host.parse::<IpAddr>().ok()?.to_canonical()
        };
        Some(SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for text in
            ["http://localhost:1", "http://10.0.0.1:2380", "https://[::1]:2379", "http://a-b.c_d:1"]
        {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Url::parse("http://localhost:80").unwrap().address().unwrap().to_string(),
            "127.0.0.1:80"
        );
        assert_eq!(Url::parse("http://foo.example:80").unwrap().address(), None);
        assert_eq!(Url::parse("HTTP://A:80").unwrap().to_string(), "http://A:80");
    }

    #[test]
    fn the_same_place_may_be_written_in_several_ways() {
        let same =
            |one, other| Url::parse(one).unwrap().place() == Url::parse(other).unwrap().place();
        assert!(same("http://localhost:1", "http://127.0.0.1:1"));
        assert!(same("HTTP://A.example:1", "http://a.EXAMPLE:1"));
        assert!(same("http://[::1]:1", "http://[0:0::1]:1"));
        assert!(!same("http://a:1", "http://a:2"));
        assert!(!same("http://a:1", "https://a:1"));
        assert!(!same("http://a:1", "http://b:1"));
        assert!(!same("http://localhost:1", "http://a:1"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_url() {
        for (text, error) in [
            ("127.0.0.1:2380", "URL scheme must be http, https, unix, or unixs: 127.0.0.1:2380"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a b:1", "URL address does not have the form \"host:port\": http://a b:1"),
            ("http://a:70000", "URL address does not have the form \"host:port\": http://a:70000"),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err().to_string(), error);
        }
    }
}
