//! Who may ask from a browser.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method};

/// `--cors`.
#[derive(Clone, Debug)]
pub enum Cors {
    /// Every origin, said with and without `Origin`.
    Any,
    /// These, compared literally. Others hear nothing.
    Only(Vec<String>),
}

impl Cors {
    /// The origin to allow for a request with these headers.
    pub(super) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Only(origins) => {
                let origin = request.get(ORIGIN)?;
                origins.iter().any(|allowed| allowed == origin).then(|| origin.clone())
            }
        }
    }
}

impl Cors {
    /// Does a page of a site that may not ask here want to change something? A browser sends such a request with what its user can
    /// reach, and only keeps the answer from the page.
    pub(super) fn forbids(&self, method: &Method, request: &HeaderMap) -> bool {
        let Self::Only(origins) = self else { return false };
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let Some(origin) = request.get(ORIGIN).filter(|_| !reads) else { return false };
        if origins.iter().any(|allowed| allowed == origin) {
            return false;
        }
        // A page that this member itself could have served.
        let host = request.get(HOST).map(HeaderValue::as_bytes);
        let authority = origin.as_bytes().splitn(3, |byte| *byte == b'/').nth(2);
        authority.is_none() || authority != host
    }
}

/// Adds the three headers for an allowed origin.
pub(super) fn allow(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_of_other_sites_are_forbidden() {
        let cors = Cors::Only(vec!["http://a:1".to_owned()]);
        for (method, origin, wanted) in [
            (Method::PUT, Some("http://b:1"), true),
            (Method::POST, Some("null"), true),
            (Method::DELETE, Some("http://b"), true),
            (Method::PUT, Some("http://a:1"), false),
            (Method::PUT, Some("http://here:2379"), false),
            (Method::PUT, Some("http://here:2380"), true),
            (Method::PUT, None, false),
            (Method::GET, Some("http://b:1"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("here:2379"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(cors.forbids(&method, &headers), wanted, "{method} {origin:?}");
            assert!(!Cors::Any.forbids(&method, &headers));
        }
    }
}
