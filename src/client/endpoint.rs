//! Where a server is asked.

use http::Uri;
use http::uri::Authority;
use thiserror::Error;

/// The port where none is named.
const PORT: u16 = 2379;

/// Where a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was written; so it is named to people.
    pub written: String,
    pub(in crate::client) host: String,
    pub(in crate::client) port: u16,
    /// TLS is spoken there.
    pub(in crate::client) tls: bool,
}

/// It names no server.
#[derive(Debug, Error)]
#[error("{0:?} names no server: write HOST:PORT, http://HOST:PORT or https://HOST:PORT")]
pub struct NoEndpoint(String);

impl Endpoint {
    /// Reads what was written. An address alone speaks TLS if `secure`.
    ///
    /// # Errors
    /// When it names no server.
    pub fn parse(written: &str, secure: bool) -> Result<Self, NoEndpoint> {
        let fail = || NoEndpoint(written.to_owned());
        let (tls, address) = match written.trim().split_once("://") {
            Some(("http", address)) => (false, address),
            Some(("https", address)) => (true, address),
            Some(_) => return Err(fail()),
            None => (secure, written.trim()),
        };
        let authority: Authority = address.trim_end_matches('/').parse().map_err(|_| fail())?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(fail());
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| fail())?,
            None if authority.as_str() == host => PORT,
            None => return Err(fail()),
        };
        Ok(Self { written: written.trim().to_owned(), host: host.to_owned(), port, tls })
    }

    /// A page that it serves over HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin().to_string().trim_end_matches('/'))
    }

    /// Is TLS spoken there?
    pub fn speaks_tls(&self) -> bool {
        self.tls
    }

    /// The name or address without the brackets of IPv6.
    pub(in crate::client) fn name(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// What requests are made out to.
    pub(in crate::client) fn origin(&self) -> Uri {
        let scheme = if self.tls { "https" } else { "http" };
        let uri = format!("{scheme}://{}:{}", self.host, self.port);
        uri.parse().expect("it was taken from an authority")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_says_how_it_is_spoken_to() {
        let of = |text, secure| {
            let endpoint = Endpoint::parse(text, secure).unwrap();
            endpoint.origin().to_string()
        };
        assert_eq!(of("127.0.0.1:2379", false), "http://127.0.0.1:2379/");
        assert_eq!(of("127.0.0.1:2379", true), "https://127.0.0.1:2379/");
        assert_eq!(of(" http://a:1/", true), "http://a:1/");
        assert_eq!(of("https://[::1]:1", false), "https://[::1]:1/");
        assert_eq!(of("a", false), "http://a:2379/");
        for text in ["", "ftp://a:1", "a:b", "http://", "u@a:1", "a:99999"] {
            assert!(Endpoint::parse(text, false).is_err(), "{text}");
        }
    }
}
