//! `/new`: a directory for the founders of another cluster, as the public discovery service made them.
//!
//! What it makes are plain keys, hidden from listings: `/_etcd/registry/TOKEN/_config/size`. All else of the protocol is
//! `/v2/keys`.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::api::access::{self, Denied};
use crate::api::body::Body;
use crate::api::context::Context;
use crate::api::error;
use crate::model::{KeyPath, Value};
use crate::store::{Access, Applied, Command, Intent, Write};

/// What the public service took for "no size given".
const SIZE_DEFAULT: u32 = 3;
/// More voters than a cluster should have.
const SIZE_MAX: u32 = 64;
/// As unlikely to be guessed as a key of a cipher.
const TOKEN_BYTES: usize = 16;

pub(super) async fn new(State(api): State<Arc<Context>>, request: Request) -> Response<Body> {
    // The public service wanted PUT first and then took GET as well. HEAD must make nothing.
    if !matches!(*request.method(), Method::GET | Method::PUT) {
        return error::method_not_allowed("GET,PUT");
    }
    let bad = |text: &str| error::message(StatusCode::BAD_REQUEST, text);
    let Some(size) = size(request.uri().query().unwrap_or_default()) else {
        return bad(&format!(
            "size must be a number of members from 1 to {SIZE_MAX}: ask for /new?size={SIZE_DEFAULT}"
        ));
    };
    let Some(host) = host(&request) else {
        return bad(
            "the Host header must name this member as the founders will reach it: HOST:PORT",
        );
    };
    let Some(token) = token() else {
        return error::message(StatusCode::SERVICE_UNAVAILABLE, "the system has no random numbers");
    };
    let path = KeyPath::from(format!("/_etcd/registry/{token}/_config/size").as_str());
    let value = Value::from(size.to_string().as_bytes());
    let write = Write { value, dir: false, ttl: None, refresh: false };
    let intent = Intent::Write;
    let access = Access { path: path.clone(), slash: false, recursive: false, intent };
    let (head, _) = request.into_parts();
    let admitted = match api.replica.until_decided().await {
        Ok(()) => access::admitted(&api, &head, &access).await,
        Err(why) => Err(Denied::Unavailable(why)),
    };
    if let Err(denied) = admitted {
        return error::denied_management(denied);
    }
    let answer = match api.replica.write(Command::Create { path, write }).await {
        Ok(answer) => answer,
        Err(why) => return error::unavailable(why),
    };
    if let Applied::Refused(refusal) = &answer.applied {
        return error::refused(refusal, answer.index);
    }
    let url = format!("http://{host}/v2/keys/_etcd/registry/{token}");
    let mut response = Response::new(Body::whole(url));
    response.headers_mut().insert(CONTENT_TYPE, error::TEXT);
    // Each answer is for one cluster.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The first `size` counts, as everywhere.
pub(super) fn size(query: &str) -> Option<u32> {
    let given = query.split('&').find_map(|pair| match pair.split_once('=') {
        Some(("size", size)) => Some(size),
        None if pair == "size" => Some(""),
        Some(_) | None => None,
    });
    let Some(given) = given else { return Some(SIZE_DEFAULT) };
    let digits = given.bytes().all(|byte| byte.is_ascii_digit());
    given.parse().ok().filter(|size| digits && (1..=SIZE_MAX).contains(size))
}

/// What the client calls this member; it stands in a URL that others will use.
fn host(request: &Request) -> Option<Authority> {
    let host: Authority = request.headers().get(HOST)?.to_str().ok()?.parse().ok()?;
    // The library takes more than a host with a port.
    let port = host.as_str() == host.host() || host.port_u16().is_some();
    (port && !host.as_str().contains('@') && !host.host().is_empty()).then_some(host)
}

fn token() -> Option<String> {
    let mut bytes = [0; TOKEN_BYTES];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    if filled < TOKEN_BYTES {
        return None;
    }
    Some(bytes.iter().fold(String::new(), |mut token, byte| {
        // Writing to a String does not fail.
        let _ = write!(token, "{byte:02x}");
        token
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_members() {
        for (query, wanted) in [
            ("", Some(3)),
            ("other=7", Some(3)),
            ("size=1", Some(1)),
            ("size=5&size=7", Some(5)),
            ("a=b&size=64", Some(64)),
            ("size=007", Some(7)),
            ("size=65", None),
            ("size=0", None),
            ("size=", None),
            ("size", None),
            ("size=+3", None),
            ("size=three", None),
            ("size=99999999999999999999", None),
        ] {
            assert_eq!(size(query), wanted, "{query:?}");
        }
    }

    #[test]
    fn a_host_is_what_can_stand_in_a_url() {
        let named = |name: &str| {
            let request = Request::builder().header(HOST, name).body(axum::body::Body::empty());
            host(&request.unwrap()).map(|host| host.to_string())
        };
        for name in ["127.0.0.1:2379", "[::1]:2379", "d.example", "localhost:80"] {
            assert_eq!(named(name).as_deref(), Some(name));
        }
        for name in ["", "a b", "u@h", "h/p", "h:x", "<h>"] {
            assert_eq!(named(name), None, "{name:?}");
        }
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        assert_ne!(one, other);
    }
}
