//! Asks the members: one after the other until one answers.
//!
//! Owns: which endpoint is next, credentials, the time for one answer. Never knows: what is asked.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use crate::base::{SplitMix, system_random};
use crate::config::TlsFlags;
use crate::ctl::failure::{Attempt, CtlError, Failure, code};
use crate::ctl::print::note;
use crate::ctl::settings::Settings;
use crate::ctl::wire::{Members, Message, Request};
use crate::discovery::{Begun, HttpClient, HttpError, Limits};
use crate::tls::{Tls, Trust};

/// A listing of all keys may be long, but this tool's memory has an end.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// How often an answer may lead elsewhere.
const REDIRECTS_MAX: usize = 10;
/// For a connection, where the command has longer.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// No header is longer than what a server takes.
const BODY_SHOWN_MAX: usize = 1 << 16;

/// An answer.
pub(super) struct Answer {
    /// Its status; none from 500 on.
    pub(super) status: StatusCode,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body, if that was waited for.
    pub(super) body: Bytes,
    /// Its body, if that is yet to come.
    pub(super) coming: Option<Begun>,
}

impl Answer {
    /// What it says, as JSON.
    ///
    /// # Errors
    /// When it is another JSON than what was meant, or none.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CtlError> {
        serde_json::from_slice(&self.body).map_err(|error| CtlError::Plain(error.to_string()))
    }

    /// The refusal of a command that administers.
    pub(super) fn refusal(&self) -> CtlError {
        match self.read::<Message>() {
            Ok(message) if !message.message.is_empty() => CtlError::Plain(message.message),
            Ok(_) | Err(_) => unexpected(self.status),
        }
    }
}

/// A status that the API does not have.
pub(super) fn unexpected(status: StatusCode) -> CtlError {
    CtlError::Plain(format!("unexpected status code {}", status.as_u16()))
}

/// The endpoints of a cluster. A clone asks on its own.
#[derive(Clone)]
pub(super) struct Client {
    http: HttpClient,
    endpoints: Vec<String>,
    /// The one that answered last.
    pinned: usize,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    total_timeout: Duration,
    debug: bool,
}

impl Client {
    /// For the endpoints that were named.
    ///
    /// # Errors
    /// When certificates, password or DNS cannot be read.
    pub(super) async fn unsynced(settings: &Settings) -> Result<Self, Failure> {
        let endpoints = shuffled(settings.endpoints().await?);
        let connect = match settings.total_timeout {
            Duration::ZERO => CONNECT_MAX,
            total => total.min(CONNECT_MAX),
        };
        let limits = Limits { connect, body_bytes_max: ANSWER_BYTES_MAX, ..Limits::default() };
        let (cert, key, trusted_ca) = settings.files();
        let files = [&cert, &key, &trusted_ca].iter().any(|file| file.is_some());
        let mut http = HttpClient::new().with_limits(limits);
        // Without TLS there is no need for the system's authorities either.
        if files || endpoints.iter().any(|url| url.starts_with("https://")) {
            let flags = TlsFlags { cert, key, trusted_ca, ..TlsFlags::default() };
            let tls = Tls::load(flags, Trust::Configured, &[]);
            http = http.with_tls(Arc::new(tls.map_err(|error| Failure::line(error.to_string()))?));
        }
        if let Some(name) = settings.certified_name() {
            http = http.with_certified_name(name);
        }
        let authorization = settings.credentials()?.map(|(name, password)| {
            let both = STANDARD.encode(format!("{name}:{password}"));
            let mut header =
                HeaderValue::try_from(format!("Basic {both}")).expect("base64 is ASCII");
            header.set_sensitive(true);
            header
        });
        Ok(Self {
            http,
            endpoints,
            pinned: 0,
            authorization,
            timeout: settings.timeout,
            total_timeout: settings.total_timeout,
            debug: settings.debug,
        })
    }

    /// For the endpoints that the members publish, unless that is not wanted.
    ///
    /// # Errors
    /// As [`Client::unsynced`]; and when no member can be reached, or none publishes an endpoint.
    pub(super) async fn new(settings: &Settings) -> Result<Self, Failure> {
        let mut client = Self::unsynced(settings).await?;
        if !settings.no_sync {
            client.sync().await?;
        }
        client.show_endpoints();
        Ok(client)
    }

    /// Says whom it asks, where requests are shown.
    pub(super) fn show_endpoints(&self) {
        if self.debug {
            note(&format!("Cluster-Endpoints: {}", self.endpoints.join(", ")));
        }
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        if self.debug {
            note(&format!("start to sync cluster using endpoints({})", self.endpoints.join(",")));
        }
        match self.within_total(Self::members).await {
            Ok(members) => {
                let mut urls: Vec<_> =
                    members.members.into_iter().flat_map(|member| member.client_urls).collect();
                if urls.is_empty() {
                    note(&format!(
                        "etcd cluster has no published client endpoints.\nTry '--no-sync' if you want to access non-published client endpoints({}).",
                        self.endpoints.join(",")
                    ));
                    let error = CtlError::Plain("client: no endpoints available".to_owned());
                    return Err(Failure::keys(code::SERVER, error));
                }
                let mut known = self.endpoints.clone();
                known.sort();
                urls.sort();
                if known != urls {
                    self.endpoints = shuffled(urls);
                    self.pinned = 0;
                }
            }
            Err(error) if error.is_no_connection() => {
                return Err(Failure::keys(code::NO_CONNECTION, error));
            }
            // An endpoint that cannot list the members may still serve the command itself.
            Err(_) => {}
        }
        if self.debug {
            note(&format!("got endpoints({}) after sync", self.endpoints.join(",")));
        }
        Ok(())
    }

    /// The members.
    ///
    /// # Errors
    /// See [`CtlError`].
    pub(super) async fn members(&mut self) -> Result<Members, CtlError> {
        let answer = self.ask(&Request::get("/v2/members")).await?;
        if answer.status != StatusCode::OK {
            return Err(unexpected(answer.status));
        }
        answer.read()
    }

    /// Asks within the time for a whole command.
    ///
    /// # Errors
    /// [`CtlError::Deadline`] when that is over.
    pub(super) async fn within_total<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut Self) -> Result<T, CtlError>,
    ) -> Result<T, CtlError> {
        let limit = self.total_timeout;
        match tokio::time::timeout(limit, ask(self)).await {
            Ok(result) => result,
            Err(_) => Err(CtlError::Deadline),
        }
    }

    /// Asks one endpoint after the other, first the one that answered last.
    ///
    /// # Errors
    /// See [`CtlError`]. An answer that refuses is none, except for those from 500 on.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Answer, CtlError> {
        let count = self.endpoints.len();
        let mut attempts = Vec::new();
        for at in (self.pinned..self.pinned + count).map(|at| at % count) {
            match self.ask_one(&self.endpoints[at], request).await {
                Ok(answer) => {
                    self.pinned = at;
                    return Ok(answer);
                }
                // What was not sent at all can be sent to the next.
                Err((attempt, sent))
                    if request.one_shot && (sent || attempts.len() + 1 == count) =>
                {
                    self.pinned = (at + 1) % count;
                    return Err(CtlError::One(attempt));
                }
                Err((attempt, _)) => attempts.push(attempt),
            }
        }
        Err(CtlError::Cluster(attempts))
    }

    /// Why there is no answer, and whether the server may have got the question all the same.
    async fn ask_one(&self, endpoint: &str, request: &Request) -> Result<Answer, (Attempt, bool)> {
        let fail = |text: String| (Attempt { text, no_connection: false }, true);
        let answer = self.follow(endpoint, request).await?;
        match answer.status {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => {
                Err(fail(format!("client: etcd member {endpoint} has no leader")))
            }
            status if status.is_server_error() => {
                let reason = status.canonical_reason().unwrap_or_default();
                Err(fail(format!("client: etcd member {endpoint} returns server error [{reason}]")))
            }
            _ => Ok(answer),
        }
    }

    /// Goes where answers lead.
    async fn follow(&self, endpoint: &str, request: &Request) -> Result<Answer, (Attempt, bool)> {
        let fail = |text: &str| (Attempt { text: text.to_owned(), no_connection: false }, true);
        let mut url = format!("{}{}", endpoint.trim_end_matches('/'), request.target);
        for _ in 0..=REDIRECTS_MAX {
            if self.debug {
                note(&curl(&url, request));
            }
            let answer = self.exchange(endpoint, &url, request).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            location.ok_or_else(|| fail("location header not set"))?.clone_into(&mut url);
        }
        Err(fail("client: too many redirects"))
    }

    async fn exchange(
        &self,
        endpoint: &str,
        url: &str,
        request: &Request,
    ) -> Result<Answer, (Attempt, bool)> {
        let mut headers = HeaderMap::new();
        let mut body = Bytes::new();
        if let Some((kind, text)) = &request.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            body = text.clone().into();
        }
        // A server that only a redirect has named does not learn the password.
        let known = self.endpoints.iter().any(|known| is_at(url, known));
        if let Some(authorization) = self.authorization.as_ref().filter(|_| known) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let begin = pin!(self.http.begin(request.method.clone(), url, headers, body));
        let begun = match self.timeout {
            limit if request.waits || limit.is_zero() => begin.await,
            limit => match tokio::time::timeout(limit, begin).await {
                Ok(begun) => begun,
                Err(_) => {
                    let text = format!("client: endpoint {endpoint} exceeded header timeout");
                    return Err((Attempt { text, no_connection: false }, true));
                }
            },
        };
        let begun = begun.map_err(|error| attempt(&error))?;
        let (status, headers) = (begun.status, begun.headers.clone());
        if request.waits && status.is_success() {
            return Ok(Answer { status, headers, body: Bytes::new(), coming: Some(begun) });
        }
        let body = begun.body().await.map_err(|error| attempt(&error))?;
        Ok(Answer { status, headers, body, coming: None })
    }

    /// Reads from any URL, for the time of one answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn read_url(&self, url: &str) -> Result<Answer, Attempt> {
        let request = Request::get("");
        self.exchange(url, url, &request).await.map_err(|(attempt, _)| attempt)
    }
}

/// Is this URL below this endpoint?
fn is_at(url: &str, endpoint: &str) -> bool {
    let rest = url.strip_prefix(endpoint.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A request as a curl command, so that an operator can repeat it.
fn curl(url: &str, request: &Request) -> String {
    let mut text = format!("cURL Command: curl -X {} {url}", request.method);
    if let Some((_, body)) = &request.body {
        let shown = if body.len() > BODY_SHOWN_MAX { "..." } else { body };
        text.push_str(&format!(" -d {shown:?}"));
    }
    text
}

/// In the words of Go's library, by which logs are searched; and whether something was sent.
pub(super) fn attempt(error: &HttpError) -> (Attempt, bool) {
    let no_connection = |text: String| (Attempt { text, no_connection: true }, false);
    match error {
        HttpError::Connect { address, source } => match source.raw_os_error() {
            Some(_) => {
                let text = source.to_string();
                let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
                no_connection(format!("dial tcp {address}: connect: {text}"))
            }
            None if source.kind() == std::io::ErrorKind::TimedOut => {
                no_connection(format!("dial tcp {address}: i/o timeout"))
            }
            None => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
                no_connection(format!("dial tcp: lookup {host}: {source}"))
            }
        },
        HttpError::TimedOut { address, .. } => {
            no_connection(format!("dial tcp {address}: i/o timeout"))
        }
        HttpError::Tls { .. } | HttpError::Url { .. } => {
            (Attempt { text: error.to_string(), no_connection: false }, false)
        }
        HttpError::Broken { .. } | HttpError::TooLarge { .. } => {
            (Attempt { text: error.to_string(), no_connection: false }, true)
        }
    }
}

/// In another order each time, so that not all clients ask the same member.
fn shuffled(mut endpoints: Vec<String>) -> Vec<String> {
    let mut numbers = SplitMix::new(system_random());
    for last in (1..endpoints.len()).rev() {
        let bound = u64::try_from(last).expect("a length fits 64 bits") + 1;
        let other = usize::try_from(numbers.next() % bound).expect("it is below a length");
        endpoints.swap(last, other);
    }
    endpoints
}
