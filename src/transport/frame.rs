//! A stream cut into frames: length, checksum, kind, payload.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::transport::traffic::PeerTraffic;

/// The largest payload. A message to a follower holds about a megabyte of entries, or one entry however large; requests are
/// limited so that any entry fits (`server` checks the largest limits that can be set). Snapshots, whose records have no such
/// limit, travel in parts.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Length of the payload (4), checksum of kind and payload (4), kind (1).
const HEADER_BYTES: usize = 9;

/// Room that a reader asks for at a time.
const READ_BYTES: usize = 64 << 10;

/// A buffer that grew for one large frame is given back above this.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is; the numbers belong to the protocol of the lane.
    pub kind: u8,
    /// Its contents.
    pub payload: Bytes,
}

/// Takes frames off a stream.
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    bytes_max: usize,
    peer: Arc<PeerTraffic>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, peer: Arc<PeerTraffic>) -> Self {
        Self { stream, buffer: BytesMut::new(), bytes_max: FRAME_BYTES_MAX, peer }
    }

    /// Refuses larger payloads from here on.
    pub(super) fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn count_for(&mut self, peer: Arc<PeerTraffic>) {
        self.peer = peer;
    }

    /// The next frame, `None` when the other end closed in between two. Loses nothing when it is dropped half-way.
    ///
    /// # Errors
    /// When the stream breaks, ends inside a frame, or holds what is no frame.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`FrameReader::next`].
    ///
    /// # Errors
    /// As [`FrameReader::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.buffer.capacity() > BUFFER_BYTES_KEPT && self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(READ_BYTES);
            let count = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer))?;
            self.peer.count_received(count);
            if count == 0 {
                return Poll::Ready(if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
            }
        }
    }

    /// A frame that is there already.
    fn buffered(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.bytes_max {
            let text = if header.starts_with(b"HTTP") {
                "the other end speaks HTTP: is it a member of etcd, or a client URL?".to_owned()
            } else {
                format!("a frame of {length} bytes, where {} are the most", self.bytes_max)
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            self.buffer.reserve(HEADER_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        let checksum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let kind = header[8];
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        if checksum != checksum_of(kind, &payload) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame changed on its way"));
        }
        Ok(Some(Frame { kind, payload }))
    }
}

/// Puts frames onto a stream, many with one write.
pub struct FrameWriter<W> {
    stream: W,
    buffer: Vec<u8>,
    /// How much of the buffer is sent.
    sent: usize,
    peer: Arc<PeerTraffic>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W, peer: Arc<PeerTraffic>) -> Self {
        Self { stream, buffer: Vec::new(), sent: 0, peer }
    }

    pub(super) fn count_for(&mut self, peer: Arc<PeerTraffic>) {
        self.peer = peer;
    }

    /// Bytes that are no frame.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Adds a frame to what the next [`FrameWriter::flush`] sends.
    ///
    /// # Errors
    /// When there is more than [`FRAME_BYTES_MAX`] in it. Then nothing was added.
    pub fn put(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if payload.len() > FRAME_BYTES_MAX {
            let text = format!("a message of {length} bytes, where {FRAME_BYTES_MAX} are the most");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&checksum_of(kind, payload).to_le_bytes());
        self.buffer.push(kind);
        self.buffer.extend_from_slice(payload);
        Ok(())
    }

    /// Sends all frames. Loses nothing when it is dropped half-way: the next one goes on.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// As [`FrameWriter::flush`].
    ///
    /// # Errors
    /// As [`FrameWriter::flush`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.buffer.len() {
            let rest = &self.buffer[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(self.failed(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.sent += count,
                Err(error) => return Poll::Ready(Err(self.failed(error))),
            }
        }
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
            return Poll::Ready(Err(self.failed(error)));
        }
        self.peer.count_sent(self.buffer.len());
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Is anything put that was not sent yet?
    pub fn is_waiting(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn failed(&self, error: io::Error) -> io::Error {
        self.peer.count_sent_failure();
        error
    }
}

fn checksum_of(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)
}
