//! The way into the parser for the test that counts what reading costs.

use http::Method;

use crate::api::keys::parse::{Raw, parse};
use crate::model::PathLimits;

/// The content type of forms.
pub(crate) const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Reads a request; whether it is one.
pub(crate) fn form(method: &Method, content_type: &[u8], query: &[u8], body: &[u8]) -> bool {
    let limits = PathLimits { bytes_max: 100, depth_max: 10 };
    let content_type = Some(content_type);
    parse(&Raw { method, path: b"/a", query, content_type, body, limits }).is_ok()
}
