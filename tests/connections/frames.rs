//! HTTP/2 by hand: frames as they stand on the wire, so that a client can do what no library lets it.
//!
//! Owns: writing and reading frames (RFC 9113). Never knows: what they are good for. Heads are written without compression and
//! never read: what is in a body, and how a stream ends, is enough.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub(crate) const CANCEL: u32 = 8;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The code of RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4).expect("it has a code");
        u32::from_be_bytes(code.try_into().expect("four bytes"))
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields of a head, each with its name and value in full.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                block.push(u8::try_from(length).expect("below 127"));
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push(u8::try_from(length % 128).expect("below 128") | 128);
                    length /= 128;
                }
                block.push(u8::try_from(length).expect("below 128"));
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A connection that has begun.
pub(crate) struct Http2 {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
    next: u32,
}

impl Http2 {
    /// Preface and settings are sent; what the server answers is still to be read.
    pub(crate) fn open(addr: SocketAddr) -> Self {
        Self::open_with(addr, &[])
    }

    /// The same with settings: a number and a value each.
    pub(crate) fn open_with(addr: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(addr).expect("the member accepts");
        stream.set_nodelay(true).expect("a socket has this option");
        let mut connection = Self { stream, read: Vec::new(), next: 1 };
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat();
        connection.send(&begin).expect("the member reads");
        connection
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The number of the next stream, and the frame that opens it.
    pub(crate) fn head(&mut self, flags: u8, list: &[(&str, &str)]) -> (u32, Vec<u8>) {
        let stream = self.next;
        self.next += 2;
        (stream, frame(HEADERS, flags | END_HEADERS, stream, &fields(list)))
    }

    /// Asks for a page.
    pub(crate) fn get(&mut self, path: &str) -> u32 {
        let list =
            [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "member")];
        let (stream, head) = self.head(END_STREAM, &list);
        self.send(&head).expect("the member reads");
        stream
    }

    /// Opens a call, whose messages are still to be sent.
    pub(crate) fn call(&mut self, path: &str) -> u32 {
        let list = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "member"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let (stream, head) = self.head(0, &list);
        self.send(&head).expect("the member reads");
        stream
    }

    /// Sends a message of a call.
    pub(crate) fn message(&mut self, stream: u32, message: &[u8], flags: u8) {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let payload = [&[0], &length[..], message].concat();
        self.send(&frame(DATA, flags, stream, &payload)).expect("the member reads");
    }

    /// The next frame, or `None` at the end of the connection.
    ///
    /// # Panics
    /// When nothing comes within `limit`.
    pub(crate) fn next(&mut self, limit: Duration) -> Option<Frame> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing within {limit:?}");
            self.stream.set_read_timeout(Some(left)).expect("a time");
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.read.extend(&bytes[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // A member that ends a connection with bytes unread resets it.
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.read.get(..9)?.try_into().expect("nine bytes");
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).ok()?;
        let payload = self.read.get(9..9 + length)?.to_vec();
        self.read.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until `last` says so; settings and pings are answered. All that came, or `None` in the place of the last one if the
    /// connection ended before.
    pub(crate) fn read_until(
        &mut self,
        limit: Duration,
        mut last: impl FnMut(&Frame) -> bool,
    ) -> (Vec<Frame>, bool) {
        let mut frames = Vec::new();
        loop {
            let Some(frame) = self.next(limit) else { return (frames, false) };
            if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                let payload = if frame.kind == PING { &frame.payload[..] } else { &[] };
                // The member may have closed its side behind what is still to be read.
                let _ = self.send(&self::frame(frame.kind, ACK, 0, payload));
            }
            let is_last = last(&frame);
            frames.push(frame);
            if is_last {
                return (frames, true);
            }
        }
    }

    /// The body of the answer on this stream.
    pub(crate) fn body(&mut self, stream: u32, limit: Duration) -> Vec<u8> {
        let is_end = |frame: &Frame| {
            frame.stream == stream && (frame.ends_stream() || frame.kind == RST_STREAM)
        };
        let (frames, ended) = self.read_until(limit, is_end);
        assert!(ended, "the connection ended: {frames:?}");
        let data = frames.iter().filter(|frame| frame.stream == stream && frame.kind == DATA);
        data.flat_map(|frame| frame.payload.clone()).collect()
    }
}
