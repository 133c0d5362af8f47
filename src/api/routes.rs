//! The route table, nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use tower::ServiceExt;
use tower_http::timeout::TimeoutLayer;

use crate::api::body::Body;
use crate::api::context::{Context, Settings};
use crate::api::cors;
use crate::api::keys::{Answer, Asked, Plain};
use crate::api::metrics::Metrics;
use crate::api::{
    backup, debug, discovery, error, health, keys, members, path, probes, security, stats, v3,
};
use crate::replica::Replica;

/// Longer than consensus ever takes to say no.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(120);

/// Everything that a member serves over HTTP.
pub struct Api {
    context: Arc<Context>,
    client_routes: Router,
    peer_routes: Router,
    metrics_routes: Router,
}

impl Api {
    /// Puts the API of one member together.
    pub fn new(replica: Replica, metrics: Arc<Metrics>, settings: Settings) -> Arc<Self> {
        let context = Context::new(replica, metrics, settings);
        // The reader of a body says how much of it; a body that is not read takes no memory.
        let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ROUTE_TIMEOUT);
        let client_routes = Router::new()
            .route("/v2/members", any(members::serve))
            .route("/v2/members/", any(members::serve))
            .route("/v2/members/{*rest}", any(members::serve))
            .route("/v2/machines", any(members::machines))
            .route("/v2/stats/self", any(stats::of_self))
            .route("/v2/stats/leader", any(stats::of_leader))
            .route("/v2/stats/store", any(stats::of_store))
            .route("/v2/auth/{*rest}", any(security::serve))
            .route("/version", any(health::version))
            .route("/health", any(health::health))
            .route("/livez", any(probes::livez))
            .route("/readyz", any(probes::readyz))
            .route("/metrics", any(health::metrics))
            .route("/debug/vars", any(debug::vars))
            .route("/debug/pprof/", any(debug::pprof))
            .route("/debug/pprof/{*rest}", any(debug::pprof))
            .route("/config/local/log", any(debug::log_level))
            .route("/cairn/backup", any(backup::serve))
            .route("/new", any(discovery::new))
            .fallback(async || error::not_found())
            .layer(timeout)
            .with_state(Arc::clone(&context));
        let peer_routes = Router::new()
            .route("/members", any(members::for_peers))
            .route("/members/{lost}/replace", any(members::replace))
            .route("/version", any(health::version))
            .fallback(async || error::not_found())
            .layer(timeout)
            .with_state(Arc::clone(&context));
        let metrics_routes = Router::new()
            .route("/metrics", any(health::metrics))
            .route("/health", any(health::health))
            .route("/livez", any(probes::livez))
            .route("/readyz", any(probes::readyz))
            .fallback(async || error::not_found())
            .layer(timeout)
            .with_state(Arc::clone(&context));
        Arc::new(Self { context, client_routes, peer_routes, metrics_routes })
    }

    /// The member stops: from now on `/readyz` says so.
    pub fn drain(&self) {
        self.context.draining.store(true, Ordering::Relaxed);
    }

    /// Answers a request that came in on a client URL.
    pub async fn serve_client<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(response) = refuse_malformed(&request).or_else(|| self.refuse_host(&request)) {
            return response;
        }
        let origin = self.context.settings.cors.allowed(request.headers());
        if request.method() == Method::OPTIONS {
            let mut response = Response::new(Body::whole(Bytes::new()));
            if request.uri().path() != "*" {
                cors::allow(response.headers_mut(), origin);
            }
            return response;
        }
        if let Some(response) = self.refuse_other_sites(&request) {
            return response;
        }
        // A handle of the same bytes: the request goes on to whoever answers it.
        let uri = request.uri().clone();
        let mut response = match path::percent_decode(uri.path().as_bytes()) {
            Ok(decoded) => self.dispatch(&decoded, request).await,
            Err(_) => return bad_request("400 Bad Request"),
        };
        cors::allow(response.headers_mut(), origin);
        response
    }

    /// Reads a request that came in on a client URL, if it is one of the key space that [`Api::answer_keys`] can answer; all others are
    /// for [`Api::serve_client`].
    pub fn read_keys(&self, plain: &Plain<'_>) -> Option<Asked> {
        let is_known = self.context.settings.hosts.is_none();
        let is_well = plain.host.iter().copied().all(may_stand_in_host);
        if is_known && is_well { Asked::read(&self.context, plain) } else { None }
    }

    /// Answers what [`Api::read_keys`] has read: as [`Api::serve_client`] would, but for the headers of [`Api::common_headers`], which
    /// a success is without.
    pub async fn answer_keys(&self, asked: Asked) -> Answer {
        let mut answer = asked.answer(&self.context).await;
        if let Answer::Other(response) = &mut answer {
            self.add_common_headers(response.headers_mut());
        }
        answer
    }

    /// What stands behind the other headers of every answer of the key space to a request without `Origin`.
    pub fn common_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.add_common_headers(&mut headers);
        headers
    }

    fn add_common_headers(&self, headers: &mut HeaderMap) {
        headers.insert(error::X_ETCD_CLUSTER_ID, self.context.cluster_header.clone());
        cors::allow(headers, self.context.settings.cors.allowed(&HeaderMap::new()));
    }

    /// Answers a call of gRPC.
    pub async fn serve_call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        v3::serve_call(&self.context, request).await
    }

    /// Where nothing else says who asks, pages of other sites must not write through their visitors' browsers.
    fn refuse_other_sites<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let Context { settings, replica, .. } = &*self.context;
        if !settings.cors.forbids(request.method(), request.headers()) || settings.certificates {
            return None;
        }
        if replica.view().store.auth().enabled() {
            return None;
        }
        let text = "the Origin of this request is not in --cors: a page of another site may not write here";
        Some(error::message(StatusCode::FORBIDDEN, text))
    }

    async fn dispatch<B>(&self, path: &[u8], request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(location) = path::redirect(path) {
            return redirect(&location, &request);
        }
        if let Some(key) = keys::below(path) {
            return keys::serve(&self.context, key, request).await;
        }
        if self.context.settings.gateway
            && let Some(path) = v3::gateway_path(path)
        {
            return v3::serve_gateway(&self.context, path, request).await;
        }
        route(&self.client_routes, request).await
    }

    /// Answers a request that came in on a peer URL and is not cairn's own peer protocol.
    pub async fn serve_peer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match refuse_malformed(&request) {
            Some(response) => response,
            None => route(&self.peer_routes, request).await,
        }
    }

    /// Answers a request that came in on a metrics URL.
    pub async fn serve_metrics<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match refuse_malformed(&request) {
            Some(response) => response,
            None => route(&self.metrics_routes, request).await,
        }
    }

    /// `--host-whitelist` demands a known host.
    fn refuse_host<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let allowed = self.context.settings.hosts.as_ref()?;
        let host = request.headers().get(HOST);
        let host = String::from_utf8_lossy(host.map(HeaderValue::as_bytes).unwrap_or_default());
        let name = without_port(&host);
        if allowed.iter().any(|allowed| allowed == name) {
            return None;
        }
        Some(error::text(StatusCode::MISDIRECTED_REQUEST, &foreign_host(name)))
    }
}

/// HTTP/1.1 demands one host. Bodies come plain or in chunks, and in no other way that two programs on the path could read
/// differently.
fn refuse_malformed<B>(request: &Request<B>) -> Option<Response<Body>> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let needs_host = request.version() == Version::HTTP_11 && *request.method() != Method::CONNECT;
    match (hosts.next(), hosts.next()) {
        (None, _) if needs_host => {
            return Some(bad_request("400 Bad Request: missing required Host header"));
        }
        (Some(_), Some(_)) => return Some(bad_request("400 Bad Request: too many Host headers")),
        (Some(host), None) if !host.as_bytes().iter().copied().all(may_stand_in_host) => {
            return Some(bad_request("400 Bad Request: malformed Host header"));
        }
        (Some(_) | None, _) => {}
    }
    let encoding = request.headers().get(TRANSFER_ENCODING)?;
    let odd = !encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    odd.then(|| bad_request("400 Bad Request"))
}

/// As Go sees it, which looks at each byte alone.
fn may_stand_in_host(byte: u8) -> bool {
    matches!(
        byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'$'..=b'.' | b':' | b';' | b'=' | b'[' | b']' | b'_' | b'~'
    )
}

async fn route<B>(routes: &Router, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let request = request.map(|body| axum::body::Body::new(UnsyncBoxBody::new(body)));
    let response = routes.clone().oneshot(request).await;
    response.unwrap_or_else(|never| match never {}).map(Body::routed)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name.trim_matches(['[', ']']),
        _ => host.trim_matches(['[', ']']),
    }
}

/// As long as etcd's text, which the corpus measures.
fn foreign_host(name: &str) -> String {
    format!(
        "The Host header of this request says \"{name}\", and this member answers only to the names in its\n\
         --host-whitelist. The list guards against web pages that make a name of their own point to this\n\
         address, and then read or write all keys here (DNS rebinding, CVE-2018-5702).\n\
         \n\
         Ask under a name from the list, add this one to it or start the member without --host-whitelist."
    )
}

/// What an HTTP layer says to a request that is none.
fn bad_request(words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(words));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, error::TEXT);
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn redirect<B>(location: &str, request: &Request<B>) -> Response<Body> {
    let location = match request.uri().query() {
        Some(query) => format!("{location}?{query}"),
        None => location.to_owned(),
    };
    let to_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let body = if to_read {
        let shown = location.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let shown = shown.replace('"', "&#34;").replace('\'', "&#39;");
        format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n")
    } else {
        String::new()
    };
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    if to_read {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_bytes_stand_in_hosts_and_no_others() {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte);
        for byte in 0..=u8::MAX {
            assert_eq!(may_stand_in_host(byte), allowed(byte), "{byte:#x}");
        }
    }
}
