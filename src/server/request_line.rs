//! Request lines as clients send them, and words for requests that are none.
//!
//! etcd takes every byte above a blank but DEL in a request line; the HTTP library refuses some of them, and drops `#` with all
//! that follows. So these are escaped before the library sees them. That must never happen inside a body or a header, so
//! [`Framing`] follows the bytes of a connection from head to body to the next head; where it could read them differently
//! from the library, it gives up, and nothing is escaped on that connection any more.
//!
//! To a request that it cannot read the library answers with an empty body, without asking the service. [`RequestLines`] finds
//! such an answer on its way out and gives it the body that etcd gives it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use memchr::{memchr, memchr2, memchr3};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a header line that are looked at: enough for the names and values that tell how long a body is.
const LINE_BYTES_MAX: usize = 64;

/// More than the library writes to a request that it cannot read.
const BARE_ANSWER_BYTES_MAX: usize = 256;

/// A stream on which request lines are escaped and no answer of the HTTP library itself is empty.
pub(super) struct RequestLines<S> {
    stream: S,
    framing: Framing,
    /// What was read and escaped, and found no room. At most three times what one read brings.
    unread: Bytes,
    /// The rest of the answer in place of an empty one.
    unwritten: Bytes,
}

impl<S> RequestLines<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, framing: Framing::default(), unread: Bytes::new(), unwritten: Bytes::new() }
    }
}

/// Where in the requests of a connection its next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before a request; empty lines may stand here.
    #[default]
    Between,
    Method,
    Target,
    /// Behind the target, up to the end of the line.
    Version,
    Header,
    /// So many bytes of a body are left.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk and of the line end behind it are left.
    Chunk(u64),
    Trailer,
    /// Not known any more.
    Lost,
}

/// How long the body behind a head is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    None,
    Bytes(u64),
    Chunked,
}

/// Follows the requests of a connection, byte by byte.
#[derive(Debug, Default)]
struct Framing {
    place: Place,
    body: Length,
    /// The beginning of the present line, and whether there was more of it.
    line: Vec<u8>,
    cut: bool,
}

impl Framing {
    /// Follows `bytes`; returns what they are to be replaced with, if anything in them must be escaped.
    fn follow(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut escaped, mut copied) = (None::<Vec<u8>>, 0);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let taken = match self.place {
                Place::Lost => rest.len(),
                Place::Between => match rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))
                {
                    Some(before) => {
                        (self.place, self.body) = (Place::Method, Length::None);
                        before
                    }
                    None => rest.len(),
                },
                Place::Method => self.take(rest, memchr2(b' ', b'\n', rest)),
                Place::Target => {
                    let length = memchr3(b' ', b'\r', b'\n', rest);
                    if length.is_some() {
                        self.place = Place::Version;
                    }
                    let target = &rest[..length.unwrap_or(rest.len())];
                    if target.iter().any(|byte| must_escape(*byte)) {
                        let out =
                            escaped.get_or_insert_with(|| Vec::with_capacity(2 * bytes.len()));
                        out.extend_from_slice(&bytes[copied..at]);
                        escape(out, target);
                        copied = at + target.len();
                    }
                    target.len()
                }
                Place::Version | Place::Header | Place::ChunkSize | Place::Trailer => {
                    self.take(rest, memchr(b'\n', rest))
                }
                Place::Body(left) => self.skip(left, rest.len(), Place::Body, Place::Between),
                Place::Chunk(left) => self.skip(left, rest.len(), Place::Chunk, Place::ChunkSize),
            };
            at += taken;
        }
        if let Some(out) = &mut escaped {
            out.extend_from_slice(&bytes[copied..]);
        }
        escaped
    }

    /// Passes over bytes of a body.
    fn skip(
        &mut self,
        left: u64,
        there: usize,
        inside: impl Fn(u64) -> Place,
        behind: Place,
    ) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        let left = left - taken as u64;
        self.place = if left == 0 { behind } else { inside(left) };
        taken
    }

    /// Takes bytes up to the end of a word or a line, which is at `end` if it has come, and acts on it when it is whole.
    fn take(&mut self, rest: &[u8], end: Option<usize>) -> usize {
        let part = &rest[..end.unwrap_or(rest.len())];
        let room = LINE_BYTES_MAX - self.line.len();
        let kept = &part[..part.len().min(room)];
        self.cut |= part.len() > room;
        let Some(end) = end else {
            self.line.extend_from_slice(kept);
            return rest.len();
        };
        let cut = std::mem::take(&mut self.cut);
        let ended_with = rest[end];
        if self.line.is_empty() {
            self.place = self.after(kept.strip_suffix(b"\r").unwrap_or(kept), cut, ended_with);
            return end + 1;
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(kept);
        self.place = self.after(line.strip_suffix(b"\r").unwrap_or(&line), cut, ended_with);
        // The next line that comes in pieces uses the same memory.
        line.clear();
        self.line = line;
        end + 1
    }

    fn after(&mut self, line: &[u8], cut: bool, end: u8) -> Place {
        match self.place {
            // What follows a tunnel's head is not HTTP; a method that never ended is none.
            Place::Method if end == b'\n' || line == b"CONNECT" => Place::Lost,
            Place::Method => Place::Target,
            Place::Version => Place::Header,
            Place::Header if line.is_empty() && !cut => match self.body {
                Length::None | Length::Bytes(0) => Place::Between,
                Length::Bytes(length) => Place::Body(length),
                Length::Chunked => Place::ChunkSize,
            },
            Place::Header => self.header(line, cut),
            Place::ChunkSize => match chunk_size(line) {
                Some(0) => Place::Trailer,
                Some(size) => Place::Chunk(size + 2),
                None => Place::Lost,
            },
            Place::Trailer if line.is_empty() && !cut => Place::Between,
            Place::Trailer => Place::Trailer,
            Place::Between | Place::Target | Place::Body(_) | Place::Chunk(_) | Place::Lost => {
                unreachable!("these have no lines")
            }
        }
    }

    /// Where a header leads: on to the next, unless it says something of the body that can be read in two ways.
    fn header(&mut self, line: &[u8], cut: bool) -> Place {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // It belongs to the header before.
            return Place::Lost;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            // The name alone is longer than all those that matter, or this is no header.
            return if cut { Place::Header } else { Place::Lost };
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is = |known: &[u8]| name.trim_ascii().eq_ignore_ascii_case(known);
        let body = if is(b"content-length") {
            digits(value).map(Length::Bytes)
        } else if is(b"transfer-encoding") {
            value.eq_ignore_ascii_case(b"chunked").then_some(Length::Chunked)
        } else if is(b"expect") || is(b"upgrade") {
            // Whether a body follows is decided later.
            None
        } else {
            return Place::Header;
        };
        match body {
            Some(body) if self.body == Length::None && !cut => {
                self.body = body;
                Place::Header
            }
            _ => Place::Lost,
        }
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// The number of bytes in a chunk, which may have extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let ends_well = matches!(line.get(end), None | Some(b';' | b' ' | b'\t'));
    let size = u64::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()?;
    // Room for the line end.
    Some(size).filter(|size| ends_well && *size < u64::MAX - 2)
}

/// What the HTTP library refuses in a path or a query, or cuts off there, and etcd takes.
pub(super) const fn must_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'#' | b'<' | b'>' | b'`' | 0x80..=0xff)
}

fn escape(out: &mut Vec<u8>, target: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in target {
        if must_escape(*byte) {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(&[b'%', digits[0], digits[1]]);
        } else {
            out.push(*byte);
        }
    }
}

/// Where in `written` an empty error begins that nothing follows. Those of the API have a content type; a refused expectation (417)
/// is empty in etcd too.
fn bare_error(written: &[u8]) -> Option<usize> {
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let last = written.len().saturating_sub(BARE_ANSWER_BYTES_MAX);
    let begin = written[last..].windows(7).rposition(|bytes| bytes == b"HTTP/1.")? + last;
    let head = std::str::from_utf8(&written[begin..]).ok()?.to_ascii_lowercase();
    let is_error = head.get(9..10) == Some("4") && head.get(9..12) != Some("417");
    let is_empty =
        head.contains("\r\ncontent-length: 0\r\n") && !head.contains("\r\ncontent-type:");
    (is_error && is_empty).then_some(begin)
}

/// The answer in its place, as etcd words it. The body ends with the connection.
fn worded(head: &[u8]) -> Bytes {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let reason = String::from_utf8_lossy(line.get(9..).unwrap_or_default()).into_owned();
    Bytes::from(format!(
        "HTTP/1.1 {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{reason}"
    ))
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestLines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.unread.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            if !matches!(read, Poll::Ready(Ok(()))) {
                return read;
            }
            match self.framing.follow(&buffer.filled()[before..]) {
                Some(escaped) => self.unread = Bytes::from(escaped),
                None => return read,
            }
            buffer.set_filled(before);
        }
        let fits = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(fits));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> RequestLines<S> {
    /// Writes what stands in place of an empty answer.
    fn write_worded(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unwritten) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.unwritten.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestLines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.write_worded(cx))?;
        match bare_error(bytes) {
            Some(0) => {
                self.unwritten = worded(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            Some(begin) => Pin::new(&mut self.stream).poll_write(cx, &bytes[..begin]),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The library's own answer is a head alone, so it is the last piece.
        let last = slices.iter().rfind(|slice| !slice.is_empty());
        if last.is_some_and(|last| bare_error(last).is_some()) {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |first| first));
        }
        std::task::ready!(self.write_worded(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.write_worded(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.write_worded(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(crate) mod costs {
    use super::Framing;
    use crate::costs::Case;

    pub(crate) const CASES: &[Case] = &[
        Case {
            name: "a request line that must be escaped, one byte at a time",
            input: |bytes| [&b"GET /"[..], &b"\"\xff".repeat(bytes / 2)].concat(),
            read: |input| {
                let mut framing = Framing::default();
                for byte in input.chunks(1) {
                    framing.follow(byte);
                }
            },
        },
        Case {
            name: "many headers, some bytes at a time",
            input: |bytes| [&b"GET / HTTP/1.1\r\n"[..], &b"X-Y: z\r\n".repeat(bytes / 8)].concat(),
            read: |input| {
                let mut framing = Framing::default();
                for bytes in input.chunks(5) {
                    framing.follow(bytes);
                }
            },
        },
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What becomes of bytes that come in pieces of `size`.
    fn escaped(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut framing = Framing::default();
        let follow = |piece: &[u8]| framing.follow(piece).unwrap_or_else(|| piece.to_vec());
        bytes.chunks(size).flat_map(follow).collect()
    }

    #[test]
    fn only_the_target_is_escaped_however_it_comes() {
        let raw = b"\r\nPUT /a\"b?x=<\xff>#` HTTP/1.1\r\nHost: \"a\"\r\nContent-Length: 5\r\n\r\n<\"\r\n>\
            GET /\" HTTP/1.1\nX: \"\n\n\
            POST /# HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n5;x=\"\"\r\nG\" / \r\n2\r\n\"#\r\n0\r\nT: \"\r\n\r\n\
            GET /<\xc3\xa4 HTTP/1.1\r\n\r\n";
        let clean = b"\r\nPUT /a%22b?x=%3C%FF%3E%23%60 HTTP/1.1\r\nHost: \"a\"\r\nContent-Length: 5\r\n\r\n<\"\r\n>\
            GET /%22 HTTP/1.1\nX: \"\n\n\
            POST /%23 HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n5;x=\"\"\r\nG\" / \r\n2\r\n\"#\r\n0\r\nT: \"\r\n\r\n\
            GET /%3C%C3%A4 HTTP/1.1\r\n\r\n";
        for size in 1..=raw.len() {
            let text = String::from_utf8_lossy(&escaped(raw, size)).into_owned();
            assert_eq!(text, String::from_utf8_lossy(clean), "in pieces of {size}");
        }
    }

    #[test]
    fn nothing_is_escaped_behind_what_can_be_read_in_two_ways() {
        for header in [
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Content-Length: +3",
            "Content-Length: 3, 3",
            "Content-Length: 00000000000000000000000000000000000000000000000000000000000000000003",
            "Transfer-Encoding: gzip, chunked",
            "X: a\r\n Content-Length: 3",
            "Expect: 100-continue\r\nContent-Length: 3",
            "no header",
        ] {
            let raw = format!("PUT / HTTP/1.1\r\n{header}\r\n\r\nGET /\" HTTP/1.1\r\n\r\n");
            assert_eq!(escaped(raw.as_bytes(), 7), raw.as_bytes(), "{header}");
        }
        let raw = b"CONNECT a:1 HTTP/1.1\r\n\r\nGET /\" HTTP/1.1\r\n\r\n";
        assert_eq!(escaped(raw, 100), raw);
    }

    proptest! {
        #[test]
        fn bytes_without_marks_pass_unchanged(bytes in "[A-Za-z0-9 :;/\r\n]{0,200}", size in 1..9usize) {
            prop_assert_eq!(escaped(bytes.as_bytes(), size), bytes.as_bytes());
        }

        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1..9usize) {
            let line = [&b"GET /"[..], &bytes].concat();
            prop_assert_eq!(escaped(&line, size), escaped(&line, line.len()));
        }
    }

    #[tokio::test]
    async fn a_line_that_finds_no_room_comes_bit_by_bit() {
        use tokio::io::AsyncReadExt as _;
        let raw = [&b"GET /"[..], &b"\"".repeat(100), b" HTTP/1.1\r\n\r\n"].concat();
        let mut lines = RequestLines::new(&raw[..]);
        let (mut read, mut piece) = (Vec::new(), [0; 8]);
        loop {
            let length = lines.read(&mut piece).await.unwrap();
            if length == 0 {
                break;
            }
            read.extend_from_slice(&piece[..length]);
        }
        assert_eq!(read, escaped(&raw, raw.len()));
    }

    #[tokio::test]
    async fn an_empty_error_gets_words_also_behind_another_answer() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let other = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\
            Date: Fri, 27 Nov 2026 22:01:15 GMT\r\n\r\n";
        let worded = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Connection: close\r\n\r\n431 Request Header Fields Too Large";
        for vectored in [false, true] {
            let (near, mut far) = tokio::io::duplex(17);
            let reader = tokio::spawn(async move {
                let mut text = String::new();
                far.read_to_string(&mut text).await.unwrap();
                text
            });
            let mut lines = RequestLines::new(near);
            if vectored {
                let mut slices = [IoSlice::new(other.as_bytes()), IoSlice::new(bare.as_bytes())];
                let mut slices = &mut slices[..];
                while !slices.is_empty() {
                    let written = lines.write_vectored(slices).await.unwrap();
                    IoSlice::advance_slices(&mut slices, written);
                }
            } else {
                lines.write_all(format!("{other}{bare}").as_bytes()).await.unwrap();
            }
            lines.flush().await.unwrap();
            drop(lines);
            assert_eq!(reader.await.unwrap(), format!("{other}{worded}"));
        }
    }

    #[test]
    fn answers_of_the_api_stay_as_they_are() {
        for answer in [
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\n",
            "0\r\n\r\n",
        ] {
            assert_eq!(bare_error(answer.as_bytes()), None, "{answer}");
        }
    }
}
