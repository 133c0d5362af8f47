//! Requests for keys that a fuzzer makes up.

use http::Method;

use crate::api::keys::parse::{KeysRequest, Raw, parse};
use crate::model::{KeyPath, PathLimits, Reader, Writer};
use crate::store::Command;

const METHODS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD];

/// Method, path, query, content type and body, on a line each; the body may have more lines.
///
/// A path that was cleaned is clean, and a write says the same when it comes out of the log.
pub(in crate::api) fn read_request(input: &[u8]) {
    let mut lines = input.splitn(5, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (name, path, query, content_type, body) = (line(), line(), line(), line(), line());
    let method = METHODS.iter().find(|method| method.as_str().as_bytes() == name);
    let method = method.unwrap_or(&Method::PUT);
    let content_type = Some(content_type).filter(|text| !text.is_empty());
    let limits = PathLimits { bytes_max: 4096, depth_max: 100 };
    let clean = KeyPath::clean(path);
    assert_eq!(KeyPath::clean(clean.as_bytes()), clean);
    let Ok(parsed) = parse(&Raw { method, path, query, content_type, body, limits }) else {
        return;
    };
    assert_eq!(parsed.access.path, clean);
    assert!(clean.as_bytes().len() <= limits.bytes_max && clean.depth() <= limits.depth_max);
    if let KeysRequest::Write { command, .. } = parsed.request {
        let mut out = Writer::default();
        command.encode(&mut out);
        let bytes = out.finish();
        let mut stored = Reader::new(&bytes);
        assert_eq!(Command::decode(&mut stored), Ok(command));
        assert!(stored.is_empty(), "left over");
    }
}
