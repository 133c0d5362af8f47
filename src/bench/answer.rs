//! Reads answers from a connection, with as little work as that can be done: this program shares its processors with the server
//! that it measures.
//!
//! Owns: where a head and a body end. Never knows: what was asked, time.

use std::mem::MaybeUninit;

use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::bench::failure::{Failure, Kind};

/// What a connection begins with: most answers fit, and fifty thousand watchers have one each.
const BUFFER_BYTES: usize = 2 << 10;
/// Where it ends to grow; a head must fit.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that are kept where a load wants to see it; no load needs more.
const KEPT_BYTES_MAX: usize = 4 << 20;
const HEADERS_MAX: usize = 64;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
    UntilClosed,
}

/// The head of an answer, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// `X-Etcd-Index`; 0 where there is none.
    pub(super) etcd_index: u64,
    /// No other request may be sent behind it.
    pub(super) closes: bool,
    length: Length,
}

/// What has been read and not used yet.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    body: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], from: 0, to: 0, body: Vec::new() }
    }

    /// The body of the last answer that was to be kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.body
    }

    /// Reads the head of an answer.
    pub(super) async fn head<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Head, Failure> {
        loop {
            if self.from < self.to {
                let (head, bytes) = parse(&self.buffer[self.from..self.to])?;
                if let Some(head) = head {
                    self.from += bytes;
                    if head.status >= 200 {
                        return Ok(head);
                    }
                    // An interim answer; the real one follows.
                    continue;
                }
            }
            self.fill(stream).await?;
        }
    }

    /// Reads the body behind `head` and, with `keep`, keeps it.
    pub(super) async fn body<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        head: &Head,
        keep: bool,
    ) -> Result<(), Failure> {
        self.body.clear();
        match head.length {
            Length::Bytes(bytes) => self.pass(stream, bytes, keep).await,
            Length::Chunked => {
                while self.chunk(stream, keep).await? {}
                Ok(())
            }
            Length::UntilClosed => loop {
                self.take(u64::MAX, keep)?;
                match self.fill(stream).await {
                    Ok(()) => {}
                    Err(failure) if failure.kind == Kind::Closed => return Ok(()),
                    Err(failure) => return Err(failure),
                }
            },
        }
    }

    /// Reads a chunk; `false` when it was the end.
    async fn chunk<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        keep: bool,
    ) -> Result<bool, Failure> {
        let bytes = loop {
            match httparse::parse_chunk_size(&self.buffer[self.from..self.to]) {
                Ok(Status::Complete((line, bytes))) => {
                    self.from += line;
                    break bytes;
                }
                Ok(Status::Partial) => self.fill(stream).await?,
                Err(_) => {
                    return Err(Failure::new(Kind::Broken, "the size of a chunk is no number"));
                }
            }
        };
        if bytes > 0 {
            self.pass(stream, bytes, keep).await?;
            self.line(stream).await?;
            return Ok(true);
        }
        // Trailers end with an empty line.
        while self.line(stream).await? > 0 {}
        Ok(false)
    }

    /// Reads to the end of a line; how many bytes it has without that end.
    async fn line<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<usize, Failure> {
        loop {
            let seen = &self.buffer[self.from..self.to];
            if let Some(end) = memchr::memchr(b'\n', seen) {
                let bytes = seen[..end].strip_suffix(b"\r").unwrap_or(&seen[..end]).len();
                self.from += end + 1;
                return Ok(bytes);
            }
            self.fill(stream).await?;
        }
    }

    /// Reads so many bytes.
    async fn pass<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        bytes: u64,
        keep: bool,
    ) -> Result<(), Failure> {
        let mut left = bytes;
        loop {
            left -= self.take(left, keep)?;
            if left == 0 {
                return Ok(());
            }
            self.fill(stream).await?;
        }
    }

    /// Uses up to so many bytes of those that are there; returns how many.
    fn take(&mut self, bytes_max: u64, keep: bool) -> Result<u64, Failure> {
        let there = self.to - self.from;
        let taken = usize::try_from(bytes_max).map_or(there, |bytes| bytes.min(there));
        if keep {
            if self.body.len() + taken > KEPT_BYTES_MAX {
                return Err(Failure::new(Kind::Broken, "an answer is larger than any event"));
            }
            self.body.extend_from_slice(&self.buffer[self.from..self.from + taken]);
        }
        self.from += taken;
        Ok(taken as u64)
    }

    /// Reads what there is behind what is there already.
    async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<(), Failure> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if self.to == self.buffer.len() {
            if self.from > 0 {
                self.buffer.copy_within(self.from..self.to, 0);
                (self.from, self.to) = (0, self.to - self.from);
            } else if self.buffer.len() < BUFFER_BYTES_MAX {
                self.buffer.resize(self.buffer.len() * 2, 0);
            } else {
                return Err(Failure::new(Kind::Broken, "the head of an answer does not end"));
            }
        }
        let read = stream.read(&mut self.buffer[self.to..]).await;
        let bytes = read.map_err(|error| Failure::io(&error))?;
        if bytes == 0 {
            return Err(Failure::closed());
        }
        self.to += bytes;
        // More may be on its way than fits: large bodies are read in larger pieces.
        if self.to == self.buffer.len() && self.to < BUFFER_BYTES_MAX {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        Ok(())
    }
}

/// The head that `bytes` begin with and how long it is; `None` when it is not all there.
fn parse(bytes: &[u8]) -> Result<(Option<Head>, usize), Failure> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut answer, bytes, &mut headers);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok((None, 0)),
        Err(error) => return Err(Failure::new(Kind::Broken, error.to_string())),
    };
    let status = answer.code.unwrap_or_default();
    let mut head = Head {
        status,
        etcd_index: 0,
        closes: answer.version == Some(0),
        length: Length::UntilClosed,
    };
    for header in answer.headers.iter() {
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let bytes = number(header.value);
                let bytes = bytes.ok_or_else(|| Failure::new(Kind::Broken, "a Content-Length"))?;
                head.length = Length::Bytes(bytes);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                head.length = Length::Chunked;
            }
            12 if header.name.eq_ignore_ascii_case("x-etcd-index") => {
                head.etcd_index = number(header.value).unwrap_or_default();
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                head.closes |= header.value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }
    if status == 204 || status == 304 || status < 200 {
        head.length = Length::Bytes(0);
    }
    head.closes |= head.length == Length::UntilClosed;
    Ok((Some(head), length))
}

/// Digits and nothing else.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Reads `wire`, which comes `piece` bytes at a time and then ends, as answers.
    async fn read(wire: &[u8], piece: usize) -> (Vec<(Head, Vec<u8>)>, Failure) {
        let (mut stream, mut server) = tokio::io::duplex(piece);
        let wire = wire.to_vec();
        tokio::spawn(async move {
            for piece in wire.chunks(piece) {
                server.write_all(piece).await.unwrap();
            }
        });
        let (mut reader, mut answers) = (Reader::new(), Vec::new());
        loop {
            let head = match reader.head(&mut stream).await {
                Ok(head) => head,
                Err(failure) => return (answers, failure),
            };
            match reader.body(&mut stream, &head, true).await {
                Ok(()) => answers.push((head, reader.kept().to_vec())),
                Err(failure) => return (answers, failure),
            }
        }
    }

    const WIRE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Etcd-Index: 7\r\ncontent-length: 2\r\n\r\nab\
        HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n\
        HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest";

    #[tokio::test]
    async fn answers_are_read_however_they_are_cut() {
        for piece in 1..WIRE.len() {
            let (answers, failure) = read(WIRE, piece).await;
            let shown: Vec<_> = answers
                .iter()
                .map(|(head, body)| (head.status, head.etcd_index, head.closes, body.as_slice()))
                .collect();
            assert_eq!(
                shown,
                [
                    (200, 7, false, &b"ab"[..]),
                    (404, 0, false, b"abcd"),
                    (204, 0, true, b""),
                    (200, 0, true, b"rest"),
                ],
                "{piece}"
            );
            assert_eq!(failure.kind, Kind::Closed);
        }
    }

    #[tokio::test]
    async fn bodies_of_any_size_are_read_whole() {
        for bytes in [BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES_MAX + 1] {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
            let wire = [head.as_bytes(), &vec![b'x'; bytes], head.as_bytes(), &vec![b'y'; bytes]];
            let (answers, _) = read(&wire.concat(), 100_000).await;
            let read: Vec<_> = answers.iter().map(|(_, body)| (body[0], body.len())).collect();
            assert_eq!(read, [(b'x', bytes), (b'y', bytes)]);
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_failure() {
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &vec![b'a'; 70_000]].concat();
        for (wire, kind) in [
            (&b"SSH-2.0-x\r\n"[..], Kind::Broken),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Kind::Broken),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Kind::Broken),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Kind::Closed),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Kind::Closed),
            (b"HTTP/1.1 200", Kind::Closed),
            (&endless, Kind::Broken),
        ] {
            let (answers, failure) = read(wire, 1000).await;
            assert_eq!((answers.len(), failure.kind), (0, kind), "{failure:?}");
        }
    }
}
