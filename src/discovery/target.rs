//! What an HTTP request is sent to.

use http::Uri;
use http::uri::{Authority, InvalidUri, Scheme};

use crate::discovery::http_error::HttpError;

/// A URL, taken apart.
pub(super) struct Target {
    /// As a proxy is told.
    pub(super) whole: Uri,
    /// As its server is told, with the query.
    pub(super) path: Uri,
    pub(super) authority: Authority,
    /// TLS is to be spoken.
    pub(super) tls: bool,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, HttpError> {
        let fail = |why: &str| HttpError::Url { url: url.to_owned(), why: why.to_owned() };
        let whole: Uri = url.parse().map_err(|error: InvalidUri| fail(&error.to_string()))?;
        let tls = match whole.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) | None => return Err(fail("its scheme is neither http nor https")),
        };
        let authority = whole.authority().cloned().ok_or_else(|| fail("it has no host"))?;
        check(&authority).map_err(fail)?;
        let path = whole.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        Ok(Self { whole, path, authority, tls })
    }
}

/// A host, perhaps with a port, and nothing else; the library takes more.
pub(super) fn check(authority: &Authority) -> Result<(), &'static str> {
    let host = authority.host();
    if authority.as_str().contains('@') {
        return Err("user names in URLs are not supported yet");
    }
    if host.is_empty() {
        return Err("it has no host");
    }
    if authority.as_str() != host && authority.port_u16().is_none() {
        return Err("its port is no number up to 65535");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> HttpError {
        Target::parse(url).err().expect("it is refused")
    }

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("http://[::1]:2379/v2/keys/a?wait=true").unwrap();
        assert_eq!(target.authority.host(), "[::1]");
        assert_eq!(target.path, "/v2/keys/a?wait=true");
        assert_eq!(Target::parse("http://a").unwrap().path, "/");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_the_reason() {
        assert!(Target::parse("https://a/b").unwrap().tls);
        for url in [
            "",
            "a",
            "/a",
            "a:1",
            "ftp://a/b",
            "http://",
            "http://u:p@a/",
            "http://a b/",
            "http://a:x/",
            "http://a:65536/",
            "http://a:/",
        ] {
            assert!(error(url).to_string().contains("write http://HOST:PORT/PATH"), "{url}");
            assert!(!error(url).is_passing());
        }
    }
}
