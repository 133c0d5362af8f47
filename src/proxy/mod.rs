//! A server without data: it passes requests on to the members of a cluster (`--proxy`).
//!
//! Owns: which member is asked next, what of a message is passed on. Never knows: listeners, flags, what requests mean.
//!
//! As in etcd 2 and 3.4, but for this: a write is sent to a second member only when no byte of it has reached the first, so none
//! is done twice; an answer that breaks off breaks off for the client too; and a client that hangs up takes its request to the
//! member with it.

mod endpoints;
mod forward;
mod headers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tracing::{debug, warn};

use crate::api::{Body, ClientAddress, Intake, ProxyMetrics, Unread};
use crate::model::{Unavailable, codes};
use crate::tls::Tls;

use endpoints::Endpoints;
use forward::{Failure, Members};

/// The path under which a proxy says whom it asks.
const OWN_PATH: &str = "/v2/config/local/proxy";
/// Methods that keys have at a member, in the order in which it names them.
const METHODS: &str = "HEAD,GET,PUT,POST,DELETE";

/// How a proxy works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only reads are passed on.
    pub readonly: bool,
    /// A member that failed is asked last for so long.
    pub failure_wait: Duration,
    /// For a connection to a member.
    pub dial_timeout: Duration,
    /// For a request to be sent.
    pub write_timeout: Duration,
    /// From there to the head of the answer, and between two pieces of its body; `None` for no limit, which watches need.
    pub read_timeout: Option<Duration>,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are under way.
    pub inflight_bytes_max: usize,
}

/// A proxy at work.
pub struct Proxy {
    settings: Settings,
    endpoints: Endpoints,
    members: Members,
    intake: Intake,
    metrics: ProxyMetrics,
}

impl Proxy {
    /// One that knows no members yet. `tls` is what it shows and demands where members are reached by https.
    pub fn new(settings: Settings, tls: Arc<Tls>) -> Arc<Self> {
        let members = Members::new(&settings, tls);
        Arc::new(Self {
            endpoints: Endpoints::new(settings.failure_wait),
            members,
            intake: Intake::new(settings.body_bytes_max, settings.inflight_bytes_max),
            metrics: ProxyMetrics::new(),
            settings,
        })
    }

    /// Clients are served at these URLs from now on. Those that are known already keep what is known of them.
    pub fn set_client_urls(&self, urls: &[String]) {
        self.endpoints.set(urls);
    }

    /// Where requests go, in the order in which they would be tried.
    pub fn client_urls(&self) -> Vec<String> {
        self.endpoints.urls()
    }

    /// What is counted.
    pub fn metrics(&self) -> &ProxyMetrics {
        &self.metrics
    }

    /// Answers a request of a client.
    pub async fn serve_client<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match request.uri().path() {
            "/metrics" => return self.serve_metrics(request).await,
            OWN_PATH => return self.say_endpoints(request.method()),
            _ => {}
        }
        let (method, begun) = (request.method().clone(), Instant::now());
        self.metrics.received(method.as_str());
        match self.pass_on(request).await {
            Ok(response) => {
                let code = response.status();
                self.metrics.handled(method.as_str(), code.as_str(), begun.elapsed());
                response
            }
            Err(dropped) => {
                self.metrics.dropped(method.as_str(), dropped.label());
                dropped.response()
            }
        }
    }

    /// Answers a request on a listener for metrics.
    pub async fn serve_metrics<B>(&self, request: Request<B>) -> Response<Body> {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        let mut response = Response::new(Body::whole(self.metrics.page(self.intake.used())));
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        response
    }

    fn say_endpoints(&self, method: &Method) -> Response<Body> {
        if method != Method::GET {
            return not_allowed("GET");
        }
        let urls = serde_json::json!({ "endpoints": self.client_urls() });
        plain(StatusCode::OK, &format!("{urls}\n"))
    }

    async fn pass_on<B>(&self, request: Request<B>) -> Result<Response<Body>, Dropped>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.settings.readonly && request.method() != Method::GET {
            return Err(Dropped::ReadOnly);
        }
        if request.method() == Method::CONNECT {
            return Err(Dropped::Tunnel);
        }
        let (head, body) = request.into_parts();
        // Whole, so that it can be sent again, and so that no slow client keeps a member busy.
        let read = self.intake.read(body, &head.headers).await;
        let (body, _held) = read.map_err(|unread| match unread {
            Unread::TooLarge => Dropped::TooLarge(self.intake.bytes_max()),
            Unread::Overloaded(why) => Dropped::Overloaded(why),
            Unread::CutOff => Dropped::CutOff,
        })?;
        let from = head.extensions.get::<ClientAddress>().map(|address| address.0);
        let sent = headers::to_member(&head.headers, from);
        let endpoints = self.endpoints.in_turn();
        if endpoints.is_empty() {
            return Err(Dropped::NoEndpoints);
        }
        let repeatable = matches!(head.method, Method::GET | Method::HEAD);
        let root = PathAndQuery::from_static("/");
        let target = head.uri.path_and_query().unwrap_or(&root);
        for endpoint in &endpoints {
            match self.members.ask(endpoint.url(), &head.method, target, &sent, &body).await {
                Ok(answer) => return Ok(self.answer(&head.method, target.as_str(), answer)),
                Err(failure) => {
                    warn!(target: "proxy", code = codes::MEMBER_UNANSWERED, "failed to direct request to {}: {failure}", endpoint.url());
                    endpoint.fail();
                    if !repeatable && matches!(failure, Failure::Sent(_)) {
                        return Err(Dropped::Unknown);
                    }
                }
            }
        }
        Err(Dropped::AllFailed(endpoints.len()))
    }

    fn answer(
        &self,
        method: &Method,
        target: &str,
        answer: Response<hyper::body::Incoming>,
    ) -> Response<Body> {
        let (mut head, body) = answer.into_parts();
        headers::drop_hop_by_hop(&mut head.headers);
        debug!(target: "proxy", "{method} {target}: {}", head.status);
        let watches = *method == Method::GET && waits(target);
        let body = forward::limited(body, self.settings.read_timeout);
        let mut response = Response::new(Body::passed_on(body, watches));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }
}

/// Does the answer go on until something happens? One that is taken for a watch ends when its client has closed its sending half,
/// so nothing else may be: where that is not certain, it is no watch.
fn waits(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|field| matches!(field, "wait=true" | "wait=1"))
}

/// Why a request gets no answer of a member.
#[derive(Debug, PartialEq, Eq)]
enum Dropped {
    ReadOnly,
    /// `CONNECT`: there is nothing behind a member that a client could want to reach.
    Tunnel,
    NoEndpoints,
    AllFailed(usize),
    /// It was sent to a member that has not answered.
    Unknown,
    TooLarge(usize),
    Overloaded(Unavailable),
    CutOff,
}

impl Dropped {
    /// The label of etcd's counter.
    fn label(&self) -> &'static str {
        match self {
            Self::ReadOnly => "readonly",
            Self::Tunnel => "tunnel",
            Self::NoEndpoints => "zero_endpoints",
            Self::AllFailed(_) => "all_endpoints_failed",
            Self::Unknown => "unknown_outcome",
            Self::TooLarge(_) => "too_large",
            Self::Overloaded(_) => "overloaded",
            Self::CutOff => "failed_reading_request",
        }
    }

    fn response(&self) -> Response<Body> {
        let (status, text) = match self {
            Self::ReadOnly => (StatusCode::NOT_IMPLEMENTED, None),
            Self::Tunnel => return not_allowed(METHODS),
            Self::NoEndpoints => (
                StatusCode::SERVICE_UNAVAILABLE,
                Some("httpproxy: zero endpoints currently available".to_owned()),
            ),
            Self::AllFailed(count) => (
                StatusCode::BAD_GATEWAY,
                Some(format!("httpproxy: unable to get response from {count} endpoint(s)")),
            ),
            Self::Unknown => (
                StatusCode::BAD_GATEWAY,
                Some(
                    "httpproxy: the member that was asked has not answered; the write may still take effect"
                        .to_owned(),
                ),
            ),
            Self::TooLarge(bytes_max) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                Some(format!("httpproxy: the body is longer than --max-body-bytes ({bytes_max})")),
            ),
            Self::Overloaded(why) => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(format!("httpproxy: {why}")))
            }
            Self::CutOff => (
                StatusCode::BAD_REQUEST,
                Some("httpproxy: the body of the request ended too soon".to_owned()),
            ),
        };
        let body = text.map(|text| serde_json::json!({ "message": text }).to_string());
        let mut response = Response::new(Body::whole(body.clone().unwrap_or_default()));
        *response.status_mut() = status;
        if body.is_some() {
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
        }
        response
    }
}

fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::whole(text.to_owned()));
    *response.status_mut() = status;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    *response.headers_mut() = headers;
    response
}
