//! First words of peers that a fuzzer makes up.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncReadExt as _;

use crate::fuzz::{Target, pieces};
use crate::transport::frame::{Frame, FrameReader, FrameWriter};
use crate::transport::hello::{self, HELLO_BYTES_MAX, Hello};
use crate::transport::traffic::PeerTraffic;

pub(crate) const TARGETS: &[Target] =
    &[Target { name: "hello", read: read_hello }, Target { name: "frames", read: read_frames }];

/// An introduction that was understood is understood again when it is written as this build writes it. So are answers.
fn read_hello(input: &[u8]) {
    let Some((kind, payload)) = input.split_first() else { return };
    let frame = Frame { kind: *kind, payload: payload.to_vec().into() };
    if let Ok(hello) = Hello::decode(&frame) {
        let written = Frame { kind: hello::HELLO, payload: hello.encode().into() };
        assert_eq!(Hello::decode(&written), Ok(hello));
    }
    if let Ok(answer) = hello::read_answer(&frame) {
        let payload = hello::encode_answer(&answer).into();
        assert_eq!(hello::read_answer(&Frame { kind: hello::ANSWER, payload }), Ok(answer));
    }
}

/// The first two bytes cut the others into pieces. Frames are the same in pieces as in one, and are written as they were read.
fn read_frames(input: &[u8]) {
    let (sizes, bytes) = input.split_at(input.len().min(2));
    let whole = frames_of(&[bytes]);
    assert_eq!(frames_of(&pieces(bytes, sizes)), whole);
    let mut written = Vec::new();
    let mut out = FrameWriter::new(&mut written, Arc::new(PeerTraffic::default()));
    for frame in &whole {
        out.put(frame.kind, &frame.payload).expect("it is no longer than it was");
    }
    let sent = pin!(out.flush()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(sent, Poll::Ready(Ok(()))), "memory takes all of it");
    assert_eq!(written, bytes[..written.len()]);
}

/// The frames of a stream that comes in `pieces`, up to the first bytes that are none.
fn frames_of(pieces: &[&[u8]]) -> Vec<Frame> {
    let empty: Box<dyn tokio::io::AsyncRead + Unpin> = Box::new(tokio::io::empty());
    let stream = pieces
        .iter()
        .rev()
        .fold(empty, |behind, piece| Box::new(std::io::Cursor::new(piece.to_vec()).chain(behind)));
    let mut reader = FrameReader::new(stream, Arc::new(PeerTraffic::default()));
    reader.limit(HELLO_BYTES_MAX);
    let mut frames = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Ok(Some(frame))) = reader.poll_next(&mut cx) {
        frames.push(frame);
    }
    frames
}
