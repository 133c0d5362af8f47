//! A client of the v3 API over gRPC: for `etcdctl`, for tests, for whoever puts load on servers.
//!
//! Owns: which endpoint is asked, the connection, the token, what is asked again. Never knows: what is asked, and what comes of it.
//!
//! Endpoints are tried in turn until one takes a connection, and that one is kept as long as it answers. As in etcd's client, a
//! read is asked again for as long as there is time when no server answers it; a write is asked again only when it certainly has
//! not been sent. A token that is not taken any more is replaced once.

mod calls;
mod channel;
mod endpoint;
mod keep_alive;

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use http::Uri;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic_prost::ProstCodec;

pub use calls::{Call, StreamCall};
pub use channel::Answers;
pub use endpoint::Endpoint;
pub use keep_alive::KeepAlive;

use crate::rpc::status::{AUTH_DISABLED, AUTH_OLD_REVISION, DEADLINE_EXCEEDED, INVALID_TOKEN};
use crate::rpc::{AuthenticateRequest, Code, Status};
use crate::tls::Tls;
use channel::Channel;

/// Between two rounds through the endpoints.
const PAUSE: Duration = Duration::from_millis(25);

/// Whom to ask, and how.
#[derive(Clone)]
pub struct Settings {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// For endpoints that speak TLS.
    pub tls: Option<Arc<Tls>>,
    /// The name that certificates have to be for, where it is not that of the endpoint.
    pub certified_name: Option<String>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// For one connection.
    pub dial: Duration,
    /// How long nothing may come before the server is asked whether it is there, and how long it may take to say so.
    pub keep_alive: (Duration, Duration),
}

/// Asks; any number of questions at once go over one connection.
pub struct Client {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The endpoint that is asked, and the connection to it if there is one.
    at: usize,
    channel: Option<Channel>,
    /// How many connections there have been.
    generation: u64,
    token: Option<MetadataValue<Ascii>>,
    /// Nobody needs a token, or there is one.
    authenticated: bool,
    /// Why the last endpoint that was tried took no connection.
    unreachable: Option<String>,
}

/// How a question is to be asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// By when there must be an answer.
    pub deadline: Option<Instant>,
    /// A member that has no leader is not to answer.
    pub leader: bool,
}

impl Terms {
    /// An answer within this time.
    pub fn within(limit: Duration) -> Self {
        Self { deadline: Some(Instant::now() + limit), leader: false }
    }
}

/// Why a question got no answer.
struct Unanswered {
    status: Status,
    /// No server has seen it.
    unsent: bool,
}

impl Client {
    /// For these endpoints; nothing is connected yet.
    ///
    /// # Panics
    /// Without an endpoint.
    pub fn new(settings: Settings) -> Self {
        assert!(!settings.endpoints.is_empty(), "a client has someone to ask");
        Self { settings, state: Mutex::default() }
    }

    /// The endpoints.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.settings.endpoints
    }

    /// Why no endpoint takes a connection, if none does: a deadline alone says nothing of that.
    pub async fn unreachable(&self) -> Option<String> {
        self.state.lock().await.unreachable.clone()
    }

    /// What endpoints are spoken to with that speak TLS.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.settings.tls.clone()
    }

    /// Asks for one answer.
    ///
    /// # Errors
    /// What the server says; [`DEADLINE_EXCEEDED`] when the time is over.
    pub async fn ask<C: Call>(&self, request: &C, terms: Terms) -> Result<C::Answer, Status> {
        // What waits here waits with many others: a question is made apart from it.
        let asked = Box::pin(self.ask_until_answered(request, terms));
        match terms.deadline {
            None => asked.await,
            Some(deadline) => match timeout_at(deadline, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(DEADLINE_EXCEEDED),
            },
        }
    }

    async fn ask_until_answered<C: Call>(
        &self,
        request: &C,
        terms: Terms,
    ) -> Result<C::Answer, Status> {
        let mut renewed = false;
        loop {
            let (channel, token, generation) = self.channel().await?;
            let asked = ask_once(channel, token, request, terms).await;
            let Err(Unanswered { status, unsent }) = asked else {
                return asked.map_err(|unanswered| unanswered.status);
            };
            if is_of_token(&status) && !renewed && self.renew().await {
                renewed = true;
                continue;
            }
            if unsent || status.code == Code::Unavailable {
                self.leave(generation).await;
            }
            if !(unsent || (C::READS && status.code == Code::Unavailable)) {
                return Err(status);
            }
            sleep(PAUSE).await;
        }
    }

    /// Opens a stream in both directions; `requests` makes what is asked on it, once more when a token has to be replaced.
    ///
    /// # Errors
    /// As [`Client::ask`]; what breaks the stream later is among its answers.
    pub async fn stream<C: StreamCall, S: Stream<Item = C> + Send + 'static>(
        &self,
        requests: impl FnMut() -> S,
        terms: Terms,
    ) -> Result<Answers<C::Answer>, Status> {
        let opened = Box::pin(self.stream_until_opened(requests, terms));
        match terms.deadline {
            None => opened.await,
            Some(deadline) => match timeout_at(deadline, opened).await {
                Ok(opened) => opened,
                Err(_) => Err(DEADLINE_EXCEEDED),
            },
        }
    }

    async fn stream_until_opened<C: StreamCall, S: Stream<Item = C> + Send + 'static>(
        &self,
        mut requests: impl FnMut() -> S,
        terms: Terms,
    ) -> Result<Answers<C::Answer>, Status> {
        let mut renewed = false;
        loop {
            let (channel, token, generation) = self.channel().await?;
            let mut grpc = ready(channel).await.map_err(|unanswered| unanswered.status)?;
            let request = carrying(requests(), token, terms, false);
            let path = path(C::PATH);
            let answered =
                grpc.streaming(request, path, ProstCodec::<C, C::Answer>::default()).await;
            let status = match answered {
                Ok(answers) => return Ok(Answers::new(answers.into_inner())),
                Err(status) => channel::status(&status),
            };
            if is_of_token(&status) && !renewed && self.renew().await {
                renewed = true;
                continue;
            }
            if status.code == Code::Unavailable {
                self.leave(generation).await;
            }
            return Err(status);
        }
    }

    /// The next question gets a new token. Whether there is a user to get one for.
    pub async fn renew(&self) -> bool {
        let has_user = self.settings.user.is_some();
        if has_user {
            self.state.lock().await.authenticated = false;
        }
        has_user
    }

    /// A connection to an endpoint that takes one, however long that lasts, and the token for it.
    async fn channel(&self) -> Result<(Channel, Option<MetadataValue<Ascii>>, u64), Status> {
        let mut state = self.state.lock().await;
        loop {
            let count = self.settings.endpoints.len();
            for _ in 0..count {
                if state.channel.as_ref().is_some_and(|channel| !channel.is_closed()) {
                    break;
                }
                let endpoint = &self.settings.endpoints[state.at % count];
                match channel::connect(endpoint, &self.settings).await {
                    Ok(channel) => {
                        state.channel = Some(channel);
                        state.generation += 1;
                        state.unreachable = None;
                    }
                    Err(status) => {
                        let why = format!("no connection to {}: {status}", endpoint.written);
                        state.unreachable = Some(why);
                        state.channel = None;
                        state.at = (state.at + 1) % count;
                    }
                }
            }
            let Some(channel) = state.channel.clone() else {
                sleep(PAUSE).await;
                continue;
            };
            if state.authenticated {
                return Ok((channel, state.token.clone(), state.generation));
            }
            match self.token(channel.clone()).await {
                Ok(token) => {
                    state.token = token;
                    state.authenticated = true;
                    return Ok((channel, state.token.clone(), state.generation));
                }
                Err(Unanswered { status, unsent })
                    if unsent || status.code == Code::Unavailable =>
                {
                    state.channel = None;
                    state.at = (state.at + 1) % count;
                    sleep(PAUSE).await;
                }
                Err(unanswered) => return Err(unanswered.status),
            }
        }
    }

    async fn token(&self, channel: Channel) -> Result<Option<MetadataValue<Ascii>>, Unanswered> {
        let Some((name, password)) = &self.settings.user else { return Ok(None) };
        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
        match ask_once(channel, None, &request, Terms::default()).await {
            Ok(answer) => Ok(answer.token.parse().ok()),
            Err(unanswered) if unanswered.status == AUTH_DISABLED => Ok(None),
            Err(unanswered) => Err(unanswered),
        }
    }

    /// The next question goes to the next endpoint, unless another question has gone there meanwhile.
    async fn leave(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if state.generation == generation {
            state.channel = None;
            state.at = (state.at + 1) % self.settings.endpoints.len();
        }
    }

    /// A connection to nobody but this endpoint, with the same terms.
    pub fn only(&self, endpoint: Endpoint) -> Self {
        Self::new(Settings { endpoints: vec![endpoint], ..self.settings.clone() })
    }
}

/// Does the server not take the token any more?
fn is_of_token(status: &Status) -> bool {
    *status == INVALID_TOKEN || *status == AUTH_OLD_REVISION
}

fn path(path: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(path)
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Unanswered> {
    let origin: Uri = channel.origin().clone();
    let mut grpc = Grpc::with_origin(channel, origin)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    match grpc.ready().await {
        Ok(()) => Ok(grpc),
        Err(status) => Err(Unanswered { status: channel::status(&status), unsent: true }),
    }
}

async fn ask_once<C: Call>(
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    request: &C,
    terms: Terms,
) -> Result<C::Answer, Unanswered> {
    let mut grpc = ready(channel).await?;
    let request = carrying(request.clone(), token, terms, true);
    let codec = ProstCodec::<C, C::Answer>::default();
    match grpc.unary(request, path(C::PATH), codec).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(Unanswered {
            unsent: channel::is_unsent(&status),
            status: channel::status(&status),
        }),
    }
}

/// A request with what goes along in its head.
fn carrying<T>(
    request: T,
    token: Option<MetadataValue<Ascii>>,
    terms: Terms,
    timed: bool,
) -> tonic::Request<T> {
    let mut request = tonic::Request::new(request);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token);
    }
    if terms.leader {
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    }
    if let Some(deadline) = terms.deadline.filter(|_| timed) {
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    }
    request
}
