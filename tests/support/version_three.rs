//! Words of version 3's JSON gateway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::http::Request;

/// Keys and values as they are sent.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A key or a value that is a text; what is left out is empty. `None` if it is neither.
pub(crate) fn text(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str().unwrap_or_default()).ok()?).ok()
}

/// A number of 64 bits; what is left out is zero.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_str().map_or(0, |text| text.parse().expect("a number"))
}

/// A call.
pub(crate) fn post(path: &str, body: &Value) -> Request {
    Request::new("POST", format!("/v3/{path}")).body(body.to_string())
}
