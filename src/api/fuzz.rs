//! Requests that a fuzzer makes up, as far as their bytes are read here.

use crate::api::keys::fuzz::read_request;
use crate::api::{access, json, media_type, members, path, security};
use crate::fuzz::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "request", read: read_request },
    Target { name: "path", read: read_path },
    Target { name: "json_string", read: read_string },
    Target { name: "json_body", read: read_body },
    Target { name: "basic", read: access::read_header },
    Target { name: "media_type", read: read_media_type },
];

/// A path is cleaned once, and the client is not sent round in circles.
fn read_path(input: &[u8]) {
    let Ok(decoded) = path::percent_decode(input) else { return };
    let Some(location) = path::redirect(&decoded) else { return };
    let clean = path::percent_decode(location.as_bytes()).expect("what is escaped here is read");
    assert_eq!(path::redirect(&clean), None, "sent from {location} to another place");
    assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location} as a header");
}

/// A string of an answer is JSON, says the same, and holds nothing that a page of HTML could take for its own.
fn read_string(input: &[u8]) {
    let mut out = Vec::new();
    json::string(&mut out, input);
    let back: String = serde_json::from_slice(&out).expect("JSON");
    match std::str::from_utf8(input) {
        Ok(text) => assert_eq!(back, text),
        Err(_) => assert!(back.contains('\u{fffd}'), "what is no text is replaced"),
    }
    let odd = |letter: char| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(!text.contains(odd) && !text.contains(|letter: char| letter < ' '), "{text}");
}

/// What follows the first JSON value is not looked at.
fn read_body(input: &[u8]) {
    let followed = [input, b" \xff{"].concat();
    if security::is_user(input) {
        assert!(security::is_user(&followed));
    }
    if security::is_role(input) {
        assert!(security::is_role(&followed));
    }
    for url in members::urls_of(input).unwrap_or_default() {
        if let Ok(url) = members::peer_url(&url) {
            assert_eq!(members::peer_url(&url).as_ref(), Ok(&url));
        }
    }
}

/// A type that was read is one, and stays what it is.
fn read_media_type(input: &[u8]) {
    if let Ok(kind) = media_type::parse(input) {
        assert_eq!(media_type::parse(kind.as_bytes()).ok().as_deref(), Some(&*kind));
    }
}
