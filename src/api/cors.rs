//! Who may ask from a browser.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN,
};
use http::{HeaderMap, HeaderValue};

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
