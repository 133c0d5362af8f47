//! Which headers are passed on.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers that mean something only between two neighbours.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes out what is not for those behind the neighbour: also what `Connection` names.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// What a member is sent of a client's headers; `from` is the client's address, if it has one. The body is sent whole, so its
/// length is said anew, and nothing has to be expected.
pub(super) fn to_member(headers: &HeaderMap, from: Option<IpAddr>) -> HeaderMap {
    let mut sent = headers.clone();
    drop_hop_by_hop(&mut sent);
    sent.remove(CONTENT_LENGTH);
    sent.remove(EXPECT);
    if let Some(from) = from {
        let before = sent.get_all(X_FORWARDED_FOR).iter();
        let mut hops: Vec<_> =
            before.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        hops.push(from.to_string());
        if let Ok(value) = HeaderValue::from_str(&hops.join(", ")) {
            sent.insert(X_FORWARDED_FOR, value);
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_neighbour_keeps_what_is_for_it_alone() {
        let mut all = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-too"),
            ("x-mine", "1"),
            ("x-too", "2"),
            ("te", "trailers"),
            ("keep-alive", "5"),
            ("x-etcd-index", "7"),
            ("x-etcd-index", "8"),
        ]);
        drop_hop_by_hop(&mut all);
        assert_eq!(all, headers(&[("x-etcd-index", "7"), ("x-etcd-index", "8")]));
    }

    #[test]
    fn a_member_hears_who_asked_first() {
        let from = Some("10.0.0.9".parse().unwrap());
        let sent = to_member(&headers(&[("host", "a"), ("content-length", "3")]), from);
        assert_eq!(sent, headers(&[("host", "a"), ("x-forwarded-for", "10.0.0.9")]));
        let sent = to_member(&headers(&[("x-forwarded-for", "1.2.3.4")]), from);
        assert_eq!(sent, headers(&[("x-forwarded-for", "1.2.3.4, 10.0.0.9")]));
        assert_eq!(to_member(&headers(&[("expect", "100-continue")]), None), headers(&[]));
    }
}
