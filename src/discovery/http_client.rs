//! A small HTTP/1 client: one request on one connection, everything with an end.
//!
//! Owns: time-outs, sizes, the way through a proxy. Never knows: what is asked, and whom. It neither follows redirects nor
//! sends anything twice; who asks decides that. TLS comes in behind `dial`: an exchange takes any stream. An answer can be taken
//! whole, or its head first and its body when that comes ([`HttpClient::begin`]). A connection serves one request, unless some
//! are to be kept ([`HttpClient::keeping`]).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, InvalidUri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::discovery::http_error::HttpError;
use crate::discovery::target::{self, Target};
use crate::tls::Tls;

/// Ports of URLs that name none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// A server that is gone is noticed within a minute or so, also while an answer is waited for.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// Where an answer's head ends at the latest.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How much time and memory a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection, with each of a host's addresses.
    pub connect: Duration,
    /// From there to the whole answer; of a long poll, to its head.
    pub answer: Duration,
    /// From the head of a long poll to its body.
    pub poll: Duration,
    /// Bytes of a body.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    /// A member needs up to 7 s for a write while it has no leader, so an answer gets more; a long poll is asked again after
    /// five minutes, in case the server has gone without closing the connection.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            poll: Duration::from_secs(300),
            body_bytes_max: 1 << 20,
        }
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status, whatever it is: no status is an error here.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl HttpError {
    /// Is it worth asking again?
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::Tls { .. } => true,
            Self::Url { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// What a request brings along.
struct Sent {
    content_type: &'static str,
    body: String,
}

/// A connection, which ends when this goes.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

/// Connections that wait for their next request, each with where it leads.
struct Kept {
    waiting: Mutex<Vec<(String, Connection)>>,
    max: usize,
}

impl Kept {
    fn take(&self, place: &str) -> Option<Connection> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(_, connection)| !connection.sender.is_closed());
        let at = waiting.iter().rposition(|(leads, _)| leads == place)?;
        Some(waiting.swap_remove(at).1)
    }

    fn put(&self, place: String, connection: Connection) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < self.max {
            waiting.push((place, connection));
        }
    }
}

/// An answer whose head is there and whose body is yet to come. Its connection ends with it, unless it is kept.
pub struct Begun {
    /// Its status, whatever it is.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    exchange: Exchange,
    connection: Connection,
}

impl Begun {
    /// The next bytes of the body, as they come; `None` behind the last. Of a body that is taken like this the size is not limited.
    ///
    /// # Errors
    /// [`HttpError::Broken`], also when it ends before it is whole; [`HttpError::TimedOut`] when nothing comes for so long.
    pub async fn chunk(&mut self, limit: Duration) -> Result<Option<Bytes>, HttpError> {
        loop {
            match self.exchange.within(limit, self.body.frame()).await? {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.exchange.broken(&error)),
                // Trailers are no bytes of the body.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                },
            }
        }
    }

    /// The body, whole, however long it takes to come.
    ///
    /// # Errors
    /// [`HttpError::Broken`] or [`HttpError::TooLarge`].
    pub async fn body(self) -> Result<Bytes, HttpError> {
        let bytes_max = self.exchange.limits.body_bytes_max;
        match Limited::new(self.body, bytes_max).collect().await {
            Ok(body) => {
                if let Some(kept) = &self.exchange.kept {
                    kept.put(self.exchange.place, self.connection);
                }
                Ok(body.to_bytes())
            }
            Err(error) if error.is::<LengthLimitError>() => {
                Err(HttpError::TooLarge { address: self.exchange.address, bytes_max })
            }
            Err(error) => Err(self.exchange.broken(&*error)),
        }
    }
}

/// Asks over HTTP. Cheap to make and to clone; keeps no connection unless it is told to, and then its clones share them.
#[derive(Clone, Default)]
pub struct HttpClient {
    kept: Option<Arc<Kept>>,
    proxy: Option<Authority>,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    /// Whom certificates have to be for, if not for the host of the URL.
    certified: Option<String>,
}

impl HttpClient {
    /// One that takes the straight way, with the usual limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same with what is to be shown and demanded where a URL asks for TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same, but certificates have to be for this name, whatever host is asked.
    #[must_use]
    pub fn with_certified_name(self, name: String) -> Self {
        Self { certified: Some(name), ..self }
    }

    /// The same with so many connections that wait for their next request, for who asks much.
    #[must_use]
    pub fn keeping(self, max: usize) -> Self {
        Self { kept: Some(Arc::new(Kept { waiting: Mutex::default(), max })), ..self }
    }

    /// The same through an HTTP proxy, given as `host:port`.
    ///
    /// # Errors
    /// [`HttpError::Url`] when it is none.
    pub fn through(self, proxy: &str) -> Result<Self, HttpError> {
        let fail = |why: String| HttpError::Url { url: proxy.to_owned(), why };
        let authority = proxy.parse().map_err(|error: InvalidUri| fail(error.to_string()))?;
        target::check(&authority).map_err(|why| fail(why.to_owned()))?;
        Ok(Self { proxy: Some(authority), ..self })
    }

    /// Reads.
    ///
    /// # Errors
    /// See [`HttpError`]; an answer with any status is none.
    pub async fn get(&self, url: &str) -> Result<Response, HttpError> {
        self.ask(Method::GET, url, None, self.limits.answer).await
    }

    /// Reads what may take long to come: the answer begins at once, its body ends when something has happened.
    ///
    /// # Errors
    /// As [`HttpClient::get`]; [`HttpError::TimedOut`] also when nothing has happened for [`Limits::poll`].
    pub async fn long_poll(&self, url: &str) -> Result<Response, HttpError> {
        self.ask(Method::GET, url, None, self.limits.poll).await
    }

    /// Writes a form, as a browser would send it.
    ///
    /// # Errors
    /// As [`HttpClient::get`]. Whether the write was done is then not known.
    pub async fn put_form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Response, HttpError> {
        let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs =
            fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
        let form = pairs.collect::<Vec<_>>().join("&");
        let sent = Sent { content_type: "application/x-www-form-urlencoded", body: form };
        self.ask(Method::PUT, url, Some(sent), self.limits.answer).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`HttpClient::put_form`].
    pub async fn post_json(&self, url: &str, body: String) -> Result<Response, HttpError> {
        let sent = Sent { content_type: "application/json", body };
        self.ask(Method::POST, url, Some(sent), self.limits.answer).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        sent: Option<Sent>,
        body_limit: Duration,
    ) -> Result<Response, HttpError> {
        let mut headers = HeaderMap::new();
        if let Some(sent) = &sent {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(sent.content_type));
        }
        let body = sent.map(|sent| sent.body).unwrap_or_default();
        let begun = self.start(method, url, headers, body.into(), Some(self.limits.answer)).await?;
        let exchange = begun.exchange.clone();
        let (status, headers) = (begun.status, begun.headers.clone());
        let body = exchange.within(body_limit, begun.body()).await??;
        Ok(Response { status, headers, body })
    }

    /// Sends anything, and returns as soon as the head of the answer is there. Only connecting has a limit of time in here.
    ///
    /// # Errors
    /// As [`HttpClient::put_form`].
    pub async fn begin(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Begun, HttpError> {
        self.start(method, url, headers, body, None).await
    }

    async fn start(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        head_limit: Option<Duration>,
    ) -> Result<Begun, HttpError> {
        let target = Target::parse(url)?;
        let request = self.request(method, &target, headers, body);
        let address = self.proxy.as_ref().unwrap_or(&target.authority);
        let place = format!("{} {address}", target.tls);
        let (address_text, limits, kept) = (address.to_string(), self.limits, self.kept.clone());
        let exchange = Exchange { address: address_text, place, limits, kept };
        let waiting = self.kept.as_ref().and_then(|kept| kept.take(&exchange.place));
        let request = match waiting {
            Some(connection) => match exchange.clone().again(connection, request, head_limit).await
            {
                Err(Unsent(request)) => request,
                Ok(begun) => return begun,
            },
            None => request,
        };
        if !target.tls {
            let stream = self.dial(address, HTTP_PORT).await?;
            return exchange.run(stream, request, head_limit).await;
        }
        let fail = |why: String| HttpError::Tls { address: address.to_string(), why };
        if self.proxy.is_some() {
            return Err(fail(
                "a proxy is not asked for tunnels; use a http:// URL, or no proxy".to_owned(),
            ));
        }
        let tls = self
            .tls
            .as_ref()
            .ok_or_else(|| fail("there are no certificates to check it with".to_owned()))?;
        let stream = self.dial(address, HTTPS_PORT).await?;
        let name = self.certified.as_deref().unwrap_or(address.host());
        let secured = exchange.within(self.limits.connect, tls.connect(name, stream)).await?;
        let stream = secured.map_err(|error| fail(error.to_string()))?;
        exchange.run(stream, request, head_limit).await
    }

    /// A proxy is told the whole URL, a server only the path.
    fn request(
        &self,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = match self.proxy {
            Some(_) => target.whole.clone(),
            None => target.path.clone(),
        };
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(target.authority.as_str());
        let host = host.expect("an authority is made of visible ASCII");
        request.headers_mut().insert(HOST, host);
        request
    }

    /// The first of the host's addresses that takes a connection.
    async fn dial(&self, to: &Authority, usual_port: u16) -> Result<TcpStream, HttpError> {
        let fail = |source| HttpError::Connect { address: to.to_string(), source };
        let host = to.host().trim_start_matches('[').trim_end_matches(']');
        let port = to.port_u16().unwrap_or(usual_port);
        let limit = self.limits.connect;
        let addresses =
            match tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await {
                Ok(addresses) => addresses.map_err(fail)?,
                Err(_) => return Err(HttpError::TimedOut { address: to.to_string(), limit }),
            };
        let mut failure = io::Error::other("the host has no address");
        for address in addresses {
            match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream).map_err(fail)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(fail(failure))
    }
}

/// Sends at once what is written, and notices a server that is gone without a word.
///
/// # Errors
/// What the system says.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// One request on its way.
#[derive(Clone)]
struct Exchange {
    address: String,
    /// The address, and whether TLS is spoken there.
    place: String,
    limits: Limits,
    kept: Option<Arc<Kept>>,
}

/// A request of which the other side has got nothing.
struct Unsent(Request<Full<Bytes>>);

impl Exchange {
    /// Asks over a connection that has served before; its server may have closed it meanwhile.
    async fn again(
        self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        head_limit: Option<Duration>,
    ) -> Result<Result<Begun, HttpError>, Unsent> {
        if connection.sender.ready().await.is_err() {
            return Err(Unsent(request));
        }
        let answer = connection.sender.try_send_request(request);
        let answer = match head_limit {
            Some(limit) => match self.within(limit, answer).await {
                Ok(answer) => answer,
                Err(late) => return Ok(Err(late)),
            },
            None => answer.await,
        };
        match answer {
            Ok(answer) => Ok(Ok(self.begun(answer, connection))),
            Err(mut failed) => match failed.take_message() {
                Some(request) => Err(Unsent(request)),
                None => Ok(Err(self.broken(failed.error()))),
            },
        }
    }

    fn begun(self, answer: http::Response<Incoming>, connection: Connection) -> Begun {
        let (head, body) = answer.into_parts();
        Begun { status: head.status, headers: head.headers, body, exchange: self, connection }
    }

    async fn run<S>(
        self,
        stream: S,
        request: Request<Full<Bytes>>,
        head_limit: Option<Duration>,
    ) -> Result<Begun, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connect = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (mut sender, connection) = connect.map_err(|error| self.broken(&error))?;
        // It ends with the answer, also when that is dropped half-way.
        let driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let answer = sender.send_request(request);
        let answer = match head_limit {
            Some(limit) => self.within(limit, answer).await?,
            None => answer.await,
        };
        let answer = answer.map_err(|error| self.broken(&error))?;
        Ok(self.begun(answer, Connection { sender, _driver: driver }))
    }

    async fn within<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        let late = |_| HttpError::TimedOut { address: self.address.clone(), limit };
        tokio::time::timeout(limit, future).await.map_err(late)
    }

    /// hyper says what happened, and its source why.
    fn broken(&self, error: &dyn std::error::Error) -> HttpError {
        let why = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        HttpError::Broken { address: self.address.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_proxy_is_told_the_whole_url_and_a_server_the_path() {
        let target = Target::parse("http://a:1/b").unwrap();
        let straight =
            HttpClient::new().request(Method::GET, &target, HeaderMap::new(), Bytes::new());
        let through = HttpClient::new().through("p:2").unwrap();
        let through = through.request(Method::GET, &target, HeaderMap::new(), Bytes::new());
        assert_eq!(
            (straight.uri().to_string(), &straight.headers()[HOST]),
            ("/b".to_owned(), &HeaderValue::from_static("a:1"))
        );
        assert_eq!(
            (through.uri().to_string(), &through.headers()[HOST]),
            ("http://a:1/b".to_owned(), &HeaderValue::from_static("a:1"))
        );
    }

    /// A server that reads one request and says `answer`, then nothing more; without a word it stays open.
    async fn server(answer: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
        });
        url
    }

    fn hasty() -> HttpClient {
        let moment = Duration::from_millis(50);
        let limits =
            Limits { answer: moment, poll: moment, body_bytes_max: 10, ..Limits::default() };
        HttpClient::new().with_limits(limits)
    }

    #[tokio::test]
    async fn an_answer_is_whole_or_none() {
        let url = server("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX-A: b\r\n\r\nno").await;
        let response = hasty().get(&url).await.unwrap();
        assert_eq!((response.status, &response.body[..]), (StatusCode::NOT_FOUND, &b"no"[..]));
        assert_eq!(response.headers["x-a"], "b");
        for (answer, passing, text) in [
            ("", true, "no answer from"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nn", true, "no answer from"),
            ("SSH-2.0-x\r\n", true, "is broken"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890",
                false,
                "more than 10 bytes",
            ),
        ] {
            let error = hasty().get(&server(answer).await).await.unwrap_err();
            assert_eq!(error.is_passing(), passing, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_long_poll_that_brings_nothing_ends() {
        let url = server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let error = hasty().long_poll(&url).await.unwrap_err();
        assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_worth_another_try() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let error = hasty().get(&url).await.unwrap_err();
        assert!(
            error.is_passing() && error.to_string().starts_with("cannot connect to "),
            "{error}"
        );
    }
}
