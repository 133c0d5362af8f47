//! A small HTTP/1.1 client that sends exactly what it is told and shows exactly what came.
//!
//! Owns: sockets, framing of bodies, deadlines. Never knows: what the requests mean. It is blocking
//! on purpose: a test reads from top to bottom. Redirects are not followed, nothing is sent twice.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take in a test that says nothing else; far above etcd's own 7 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long an open request is read at most; no test lasts so long.
const OPEN_MAX: Duration = Duration::from_secs(300);
const HEAD_MAX: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The bytes between method and version, sent as they are.
    pub(crate) target: Vec<u8>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: &str, target: impl Into<Vec<u8>>) -> Self {
        Self { method: method.to_owned(), target: target.into(), headers: Vec::new(), body: None }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// A body as a browser's form would send it; `body` is already escaped.
    pub(crate) fn form(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", "application/x-www-form-urlencoded").body(body)
    }

    fn names(&self, header: &str) -> bool {
        self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(header))
    }

    /// Everything up to the blank line; adds only `Host` and `Content-Length`.
    pub(crate) fn head(&self, addr: SocketAddr) -> Vec<u8> {
        let mut out = self.method.clone().into_bytes();
        out.push(b' ');
        out.extend_from_slice(&self.target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut line = |name: &str, value: &str| {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        };
        if !self.names("host") {
            line("Host", &addr.to_string());
        }
        self.headers.iter().for_each(|(name, value)| line(name, value));
        if let (Some(body), false) = (&self.body, self.names("content-length")) {
            line("Content-Length", &body.len().to_string());
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |bytes: &[u8]| -> String {
            String::from_utf8_lossy(bytes).chars().take(200).collect::<String>()
        };
        write!(f, "{} {}", self.method, cut(&self.target))?;
        for (name, value) in &self.headers {
            // The usual type of a form is left out: it is on nearly every line.
            if value != "application/x-www-form-urlencoded" {
                write!(f, " [{name}: {}]", cut(value.as_bytes()))?;
            }
        }
        self.body.as_deref().map_or(Ok(()), |body| write!(f, "  {}", cut(body)))
    }
}

/// Status line and headers, names spelt as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The values of a header, joined by `, `; its name in any case.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn parse(text: &[u8]) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let text = String::from_utf8_lossy(text);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let mut words = first.splitn(3, ' ');
        if !words.next().is_some_and(|w| w.starts_with("HTTP/1.")) {
            return Err(bad(&format!("not a status line: {first:?}")));
        }
        let status = words.next().and_then(|w| w.parse().ok());
        let status = status.ok_or_else(|| bad(&format!("no status: {first:?}")))?;
        let reason = words.next().unwrap_or_default().to_owned();
        let headers = lines
            .map(|line| {
                let (name, value) =
                    line.split_once(':').ok_or_else(|| bad(&format!("bad header: {line:?}")))?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { status, reason, headers })
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.head.get(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn index(&self) -> Option<u64> {
        self.get("X-Etcd-Index")?.parse().ok()
    }
}

/// What is still to be read of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    /// Bytes left of this chunk.
    Chunked(u64),
    ToClose,
    Done,
}

/// One TCP connection with what was read ahead.
pub(crate) struct Connection {
    stream: TcpStream,
    addr: SocketAddr,
    ahead: Vec<u8>,
    framing: Framing,
    reusable: bool,
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Self> {
        Self::open_within(addr, PATIENCE)
    }

    pub(crate) fn open_within(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, limit)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, addr, ahead: Vec::new(), framing: Framing::Done, reusable: true })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request. A server may answer and close before it has read a body: then that is no error.
    pub(crate) fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut head = request.head(self.addr);
        let body = request.body.as_deref().unwrap_or_default();
        if body.len() <= 65_536 {
            head.extend_from_slice(body);
            return self.send_raw(&head);
        }
        self.send_raw(&head)?;
        match self.send_raw(body) {
            Err(e) if is_cut(&e) => Ok(()),
            sent => sent,
        }
    }

    /// Reads more; false at the end of the stream.
    fn fill(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no (more) answer in time"));
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 65_536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.ahead.extend_from_slice(&buffer[..count]);
                    return Ok(true);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no (more) answer in time",
                    ));
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn fill_or_cut(&mut self, deadline: Instant) -> io::Result<()> {
        match self.fill(deadline)? {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
        }
    }

    /// Reads until `end` and returns what came before it.
    fn until(&mut self, end: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            let from = seen;
            if let Some(at) = self.ahead[from..].windows(end.len()).position(|w| w == end) {
                let line = self.ahead[..from + at].to_vec();
                self.ahead.drain(..from + at + end.len());
                return Ok(line);
            }
            seen = self.ahead.len().saturating_sub(end.len() - 1);
            if seen > HEAD_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "endless header"));
            }
            self.fill_or_cut(deadline)?;
        }
    }

    /// Reads status and headers of the next answer; interim answers (100) are passed over.
    pub(crate) fn read_head(&mut self, method: &str, deadline: Instant) -> io::Result<Head> {
        loop {
            let head = Head::parse(&self.until(b"\r\n\r\n", deadline)?)?;
            if head.status == 100 {
                continue;
            }
            let chunked = head.get("Transfer-Encoding").is_some_and(|v| v == "chunked");
            let length = head.get("Content-Length").and_then(|v| v.parse().ok());
            self.framing = match length {
                _ if method == "HEAD" || matches!(head.status, 204 | 304) => Framing::Done,
                _ if chunked => Framing::Chunked(0),
                Some(0) => Framing::Done,
                Some(length) => Framing::Length(length),
                None => Framing::ToClose,
            };
            let close =
                head.get("Connection").is_some_and(|v| v.to_ascii_lowercase().contains("close"));
            self.reusable = !close && self.framing != Framing::ToClose;
            return Ok(head);
        }
    }

    /// The next piece of the body as it comes; `None` at its proper end.
    pub(crate) fn read_piece(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Done => return Ok(None),
            Framing::ToClose => {
                if self.ahead.is_empty() && !self.fill(deadline)? {
                    self.framing = Framing::Done;
                    return Ok(None);
                }
                return Ok(Some(std::mem::take(&mut self.ahead)));
            }
            Framing::Chunked(0) => {
                let line = self.until(b"\r\n", deadline)?;
                let size = std::str::from_utf8(&line).ok();
                let size = size.and_then(|t| u64::from_str_radix(t.trim(), 16).ok());
                let size = size.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("bad chunk size {line:?}"))
                })?;
                if size == 0 {
                    while !self.until(b"\r\n", deadline)?.is_empty() {}
                    self.framing = Framing::Done;
                    return Ok(None);
                }
                self.framing = Framing::Chunked(size);
            }
            Framing::Chunked(_) | Framing::Length(_) => {}
        }
        let (Framing::Chunked(left) | Framing::Length(left)) = self.framing else {
            return Ok(None);
        };
        if self.ahead.is_empty() {
            self.fill_or_cut(deadline)?;
        }
        let count = self.ahead.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece: Vec<u8> = self.ahead.drain(..count).collect();
        let left = left - count as u64;
        self.framing = match self.framing {
            Framing::Length(_) if left == 0 => Framing::Done,
            Framing::Length(_) => Framing::Length(left),
            Framing::Chunked(_) | Framing::ToClose | Framing::Done => Framing::Chunked(left),
        };
        if self.framing == Framing::Chunked(0) {
            self.until(b"\r\n", deadline)?;
        }
        Ok(Some(piece))
    }

    /// Reads exactly these bytes.
    ///
    /// # Panics
    /// When others come.
    pub(crate) fn expect_raw(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while self.ahead.len() < bytes.len() {
            self.fill_or_cut(deadline)?;
        }
        let seen: Vec<u8> = self.ahead.drain(..bytes.len()).collect();
        assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(bytes));
        Ok(())
    }

    pub(crate) fn read_reply(&mut self, method: &str, deadline: Instant) -> io::Result<Reply> {
        let head = self.read_head(method, deadline)?;
        let mut body = Vec::new();
        while let Some(piece) = self.read_piece(deadline)? {
            body.extend_from_slice(&piece);
        }
        Ok(Reply { head, body })
    }

    /// Whether it takes another request, now that the last answer was read.
    pub(crate) fn is_reusable(&self) -> bool {
        self.reusable && self.framing == Framing::Done
    }

    /// Waits until the server closes; what it still sent is returned. A reset counts as closing.
    pub(crate) fn read_to_close(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        loop {
            match self.fill(deadline) {
                Ok(true) => {}
                Ok(false) => return Ok(std::mem::take(&mut self.ahead)),
                Err(e) if is_cut(&e) => return Ok(std::mem::take(&mut self.ahead)),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether the peer cut the connection.
pub(crate) fn is_cut(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&e.kind())
}

/// One request on a connection of its own.
pub(crate) fn ask(addr: SocketAddr, request: &Request) -> io::Result<Reply> {
    ask_within(addr, request, PATIENCE)
}

pub(crate) fn ask_within(
    addr: SocketAddr,
    request: &Request,
    limit: Duration,
) -> io::Result<Reply> {
    let deadline = Instant::now() + limit;
    let mut connection = Connection::open_within(addr, limit)?;
    connection.send(request)?;
    connection.read_reply(&request.method, deadline)
}

/// Asks over one kept-alive connection for as long as the server keeps it.
pub(crate) struct Client {
    addr: SocketAddr,
    connection: Option<Connection>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, connection: None }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.addr)?,
        };
        connection.send(request)?;
        let reply = connection.read_reply(&request.method, Instant::now() + PATIENCE)?;
        if connection.reusable {
            self.connection = Some(connection);
        }
        Ok(reply)
    }
}

/// How far an open request has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) head: Option<Head>,
    pub(crate) body: Vec<u8>,
    /// Nothing more will come.
    pub(crate) ended: bool,
    /// Why it ended, when that was not the proper end of the body.
    pub(crate) error: Option<String>,
}

impl Progress {
    pub(crate) fn lines(&self) -> usize {
        self.body.iter().filter(|&&b| b == b'\n').count()
    }

    pub(crate) fn reply(&self) -> Option<Reply> {
        Some(Reply { head: self.head.clone()?, body: self.body.clone() })
    }
}

/// A request that stays open while the test goes on: a long poll or a stream.
pub(crate) struct Open {
    shared: Arc<(Mutex<Progress>, Condvar)>,
    stream: TcpStream,
}

impl Open {
    pub(crate) fn send(addr: SocketAddr, request: &Request) -> io::Result<Self> {
        let mut connection = Connection::open(addr)?;
        connection.send(request)?;
        let stream = connection.stream().try_clone()?;
        let shared = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
        let (method, told) = (request.method.clone(), Arc::clone(&shared));
        thread::spawn(move || {
            let result = Self::read(&mut connection, &method, &told);
            let mut progress = lock(&told.0);
            progress.ended = true;
            progress.error = result.err().map(|e| e.to_string());
            told.1.notify_all();
        });
        Ok(Self { shared, stream })
    }

    fn read(
        connection: &mut Connection,
        method: &str,
        told: &(Mutex<Progress>, Condvar),
    ) -> io::Result<()> {
        let deadline = Instant::now() + OPEN_MAX;
        let head = connection.read_head(method, deadline)?;
        lock(&told.0).head = Some(head);
        told.1.notify_all();
        while let Some(piece) = connection.read_piece(deadline)? {
            lock(&told.0).body.extend_from_slice(&piece);
            told.1.notify_all();
        }
        Ok(())
    }

    /// Waits until `done` holds; false when it does not within `limit`.
    pub(crate) fn wait(&self, limit: Duration, mut done: impl FnMut(&Progress) -> bool) -> bool {
        let guard = lock(&self.shared.0);
        let (guard, _) = self
            .shared
            .1
            .wait_timeout_while(guard, limit, |progress| !done(progress))
            .expect("a reader does not panic");
        done(&guard)
    }

    pub(crate) fn progress(&self) -> Progress {
        lock(&self.shared.0).clone()
    }

    /// Drops the connection, as a client that gives up does.
    pub(crate) fn close(&self) {
        // Already closed by the server is fine too.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().expect("a reader does not panic")
}
