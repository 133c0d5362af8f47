//! One of the two servers: asked until it answers.
//!
//! Owns: which endpoint is next, how long to wait, whether it is still the same cluster, what time it is there. Never knows: what is
//! copied.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use chrono::DateTime;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::backup::flags::Said;
use crate::backup::who::{TlsFiles, authorization, client, endpoints};
use crate::base::lock;
use crate::discovery::{HttpClient, Limits};
use crate::mirror::shown::{Shown, Which};
use crate::mirror::wire::{Event, Refusal, Request, code, read};

/// A listing of all keys may be long, but memory has an end.
const ANSWER_BYTES_MAX: usize = 2 << 30;
/// For a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Until an answer begins: a write without a leader takes seven seconds, a listing of a million keys longer.
const HEAD_MAX: Duration = Duration::from_secs(60);
/// From there to its end.
const BODY_MAX: Duration = Duration::from_secs(600);
/// A watch is begun again after so long, in case that the server has gone without a word.
const WATCH_MAX: Duration = Duration::from_secs(1800);
/// Between two rounds through all endpoints: at first, and at most.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Connections that wait for their next request.
const CONNECTIONS_KEPT: usize = 40;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It makes no sense to go on.
    Fatal(String),
    /// It was to end while a server did not answer; the text says why not.
    Ended(String),
}

/// What a server says to a request about keys.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It is done; and where the store was.
    Done(Event, u64),
    /// It is not.
    Refused(Refusal),
}

/// What a watch comes to.
#[derive(Debug)]
pub(crate) enum Watched {
    Event(Event),
    /// Events are missing.
    Cleared,
}

/// A server.
pub(crate) struct Side {
    pub(crate) which: Which,
    http: HttpClient,
    endpoints: Vec<String>,
    /// The one that answered last.
    pinned: AtomicUsize,
    authorization: Option<HeaderValue>,
    cluster: OnceLock<String>,
    /// Milliseconds since 1970 there, and when they were told.
    time: Mutex<Option<(i64, Instant)>>,
    pub(crate) shown: Arc<Shown>,
    stop: CancellationToken,
}

impl Side {
    /// The one that flags name.
    ///
    /// # Errors
    /// When they are wrong, or no password can be read.
    pub(crate) fn new(
        which: Which,
        said: &Said,
        shown: Arc<Shown>,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let [urls, user, cert, key, trusted_ca] = match which {
            Which::Source => {
                ["from", "from-username", "from-cert-file", "from-key-file", "from-ca-file"]
            }
            Which::Target => ["to", "to-username", "to-cert-file", "to-key-file", "to-ca-file"],
        };
        let endpoints = endpoints(said.text(urls));
        let files = TlsFiles::of(|name| match name {
            "cert-file" => said.text(cert),
            "key-file" => said.text(key),
            _ => said.text(trusted_ca),
        });
        let limits =
            Limits { connect: CONNECT_MAX, body_bytes_max: ANSWER_BYTES_MAX, ..Limits::default() };
        let http = client(limits, files, &endpoints)?.keeping(CONNECTIONS_KEPT);
        let prompt = format!("Password of {} at the {}: ", said.text(user), which.name());
        let authorization = authorization(said.text(user), &prompt)?;
        Ok(Self {
            which,
            http,
            endpoints,
            pinned: AtomicUsize::new(0),
            authorization,
            cluster: OnceLock::new(),
            time: Mutex::default(),
            shown,
            stop,
        })
    }

    fn fatal(&self, why: &str) -> Trouble {
        Trouble::Fatal(format!("the {}: {why}", self.which.name()))
    }

    /// The id of its cluster, which is known when it has answered.
    pub(crate) fn cluster(&self) -> &str {
        self.cluster.get().map_or("", String::as_str)
    }

    /// Seconds that a node of this server has left, rounded up; a second at least.
    pub(crate) fn remaining_s(&self, ends_ms: i64) -> u64 {
        let left_ms = self.remaining_ms(ends_ms);
        u64::try_from(left_ms.saturating_add(999) / 1000).unwrap_or(0).max(1)
    }

    /// Milliseconds that a node of this server has left, by its own clock. That tells whole seconds, so up to one is too much, and
    /// less the more often it was asked.
    pub(crate) fn remaining_ms(&self, ends_ms: i64) -> i64 {
        let Some((then, told)) = *lock(&self.time) else { return 0 };
        ends_ms.saturating_sub(then.saturating_add(milliseconds(told.elapsed())))
    }

    /// Does it answer at all? Asked once, so that a wrong URL is told and not waited for.
    pub(crate) async fn reach(&self, request: &Request) -> Result<Answer, Trouble> {
        match self.round(request).await {
            Ok(answer) => Ok(answer),
            Err(Round::Away(why)) => Err(self.fatal(&why)),
            Err(Round::Trouble(trouble)) => Err(trouble),
        }
    }

    /// Asks until there is an answer.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, Trouble> {
        self.until(async || self.round(request).await).await
    }

    /// Waits for the first change from an index on.
    pub(crate) async fn watch(&self, key: &str, from: u64) -> Result<Watched, Trouble> {
        self.until(async || self.watch_once(key, from).await).await
    }

    /// Where its store is, as a majority has it.
    pub(crate) async fn index(&self, key: &str) -> Result<u64, Trouble> {
        Ok(match self.ask(&Request::get(key, false)).await? {
            Answer::Done(_, index) => index,
            Answer::Refused(refusal) => refusal.index,
        })
    }

    async fn until<T>(&self, ask: impl AsyncFn() -> Result<T, Round>) -> Result<T, Trouble> {
        until(self.which, &self.shown, &self.stop, ask).await
    }

    /// Asks one endpoint after the other, first the one that answered last.
    async fn round(&self, request: &Request) -> Result<Answer, Round> {
        self.each(async |endpoint| self.one(endpoint, request).await).await
    }

    async fn each<T>(&self, ask: impl AsyncFn(&str) -> Result<T, Round>) -> Result<T, Round> {
        let (count, pinned) = (self.endpoints.len(), self.pinned.load(Ordering::Relaxed));
        let mut failures = Vec::new();
        for at in (pinned..pinned + count).map(|at| at % count) {
            match ask(&self.endpoints[at]).await {
                Err(Round::Away(why)) => failures.push(why),
                Ok(answer) => {
                    self.pinned.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Round::Trouble(trouble)) => return Err(Round::Trouble(trouble)),
            }
        }
        Err(Round::Away(failures.join("; ")))
    }

    async fn one(&self, endpoint: &str, request: &Request) -> Result<Answer, Round> {
        let begun = self.begin(endpoint, request).await?;
        let (status, index) = (begun.status, index(&begun.headers));
        let body = match tokio::time::timeout(BODY_MAX, begun.body()).await {
            Ok(body) => body.map_err(|error| Round::Away(error.to_string()))?,
            Err(_) => return Err(Round::Away(format!("{endpoint}: its answer has no end"))),
        };
        self.read(endpoint, status, index, &body)
    }

    async fn begin(
        &self,
        endpoint: &str,
        request: &Request,
    ) -> Result<crate::discovery::Begun, Round> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if request.method == Method::PUT {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form);
        }
        let url = format!("{endpoint}{}", request.target);
        let asked = self.http.begin(request.method.clone(), &url, headers, request.body.clone());
        let begun = match tokio::time::timeout(HEAD_MAX, asked).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) if error.is_passing() => return Err(Round::Away(error.to_string())),
            Ok(Err(error)) => return Err(Round::Trouble(self.fatal(&error.to_string()))),
            Err(_) => {
                return Err(Round::Away(format!("{endpoint} does not answer within {HEAD_MAX:?}")));
            }
        };
        let text = |name: &str| begun.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(cluster) = text("x-etcd-cluster-id") {
            let known = self.cluster.get_or_init(|| cluster.to_owned());
            if known != cluster {
                let why =
                    format!("{endpoint} is of cluster {cluster}, and not of {known} any more");
                return Err(Round::Trouble(self.fatal(&why)));
            }
        }
        let date = text(DATE.as_str()).and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        if let Some(date) = date {
            self.tells(date.timestamp_millis());
        }
        Ok(begun)
    }

    /// It is this time there, in whole seconds, which are cut off. What was told before is kept as long as it agrees: of several
    /// answers the one that came closest to the beginning of its second says most.
    fn tells(&self, date_ms: i64) {
        let mut time = lock(&self.time);
        let known = time.map(|(then, told)| then.saturating_add(milliseconds(told.elapsed())));
        if !known.is_some_and(|now| (date_ms..date_ms.saturating_add(1000)).contains(&now)) {
            *time = Some((date_ms, Instant::now()));
        }
    }

    /// What a whole answer says.
    fn read(
        &self,
        endpoint: &str,
        status: StatusCode,
        index: u64,
        body: &[u8],
    ) -> Result<Answer, Round> {
        let text = || String::from_utf8_lossy(&body[..body.len().min(200)]).trim_end().to_owned();
        if status.is_success() {
            let event = read(body).ok_or_else(|| {
                let why =
                    format!("{endpoint} does not answer as a server of version 2: {}", text());
                Round::Trouble(self.fatal(&why))
            })?;
            return Ok(Answer::Done(event, index));
        }
        if status.is_server_error() {
            return Err(Round::Away(format!("{endpoint} says {}: {}", status.as_u16(), text())));
        }
        match read::<Refusal>(body) {
            Some(refusal) if refusal.code == code::UNAUTHORIZED => {
                let flag =
                    if self.which == Which::Source { "--from-username" } else { "--to-username" };
                let why = format!(
                    "{endpoint} refuses: {}; name a user with the rights with {flag}",
                    text()
                );
                Err(Round::Trouble(self.fatal(&why)))
            }
            Some(refusal) => Ok(Answer::Refused(refusal)),
            None => {
                let why = format!(
                    "{endpoint} says {} and no word of version 2 (etcd serves it with --enable-v2): {}",
                    status.as_u16(),
                    text()
                );
                Err(Round::Trouble(self.fatal(&why)))
            }
        }
    }

    async fn watch_once(&self, key: &str, from: u64) -> Result<Watched, Round> {
        let request = &Request::wait(key, from);
        self.each(async |endpoint| {
            loop {
                let begun = self.begin(endpoint, request).await?;
                self.shown.answers(self.which);
                let (status, index) = (begun.status, index(&begun.headers));
                if status.is_success() {
                    self.shown.source_index.raise(index);
                    // A member that lags behind comes to it; a store that was put back never does.
                    if index + 1 < from && self.went_back(key, from).await? {
                        return Ok(Watched::Cleared);
                    }
                }
                let body = match tokio::time::timeout(WATCH_MAX, begun.body()).await {
                    Ok(body) => body.map_err(|error| Round::Away(error.to_string()))?,
                    Err(_) => continue,
                };
                if status.is_success() && body.is_empty() {
                    // A server may end a watch at any time; then it is to be asked again.
                    tokio::time::sleep(WAIT_MIN).await;
                    continue;
                }
                return match self.read(endpoint, status, index, &body)? {
                    Answer::Done(event, _) => Ok(Watched::Event(event)),
                    Answer::Refused(refusal) if refusal.code == code::CLEARED => {
                        Ok(Watched::Cleared)
                    }
                    Answer::Refused(refusal) => {
                        let why = format!("{endpoint} refuses a watch: {}", refusal.message);
                        Err(Round::Trouble(self.fatal(&why)))
                    }
                };
            }
        })
        .await
    }

    async fn went_back(&self, key: &str, from: u64) -> Result<bool, Round> {
        Ok(match self.round(&Request::get(key, false)).await? {
            Answer::Done(_, index) => index + 1 < from,
            Answer::Refused(refusal) => refusal.index + 1 < from,
        })
    }
}

/// Asks again and again, at longer and longer intervals, until there is an answer or `stop` ends.
pub(crate) async fn until<T>(
    which: Which,
    shown: &Shown,
    stop: &CancellationToken,
    ask: impl AsyncFn() -> Result<T, Round>,
) -> Result<T, Trouble> {
    let mut wait = WAIT_MIN;
    loop {
        let why = match ask().await {
            Ok(answer) => {
                shown.answers(which);
                return Ok(answer);
            }
            Err(Round::Trouble(trouble)) => return Err(trouble),
            Err(Round::Away(why)) => why,
        };
        shown.fails(which, &why);
        tokio::select! {
            () = stop.cancelled() => {
                return Err(Trouble::Ended(format!("the {} does not answer: {why}", which.name())));
            }
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT_MAX),
        }
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What a round through the endpoints comes to.
pub(crate) enum Round {
    /// None answers.
    Away(String),
    /// One says what ends the run.
    Trouble(Trouble),
}

/// Where the store was (`X-Etcd-Index`).
fn index(headers: &HeaderMap) -> u64 {
    let text = headers.get("x-etcd-index").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
