//! A connection to a server, after its handshake.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::tls::verify;

/// What is sent and read, in TLS.
///
/// Since TLS 1.3 a server looks at the certificate of its client only after the client's part of the handshake is over: a refusal
/// comes when the answer is read. So errors that come then are explained as those of the handshake are.
pub struct ClientStream<S> {
    stream: TlsStream<S>,
    host: String,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: TlsStream<S>, host: &str) -> Self {
        Self { stream, host: host.to_owned() }
    }
}

/// The result with its error explained.
fn explained<T>(result: Poll<io::Result<T>>, host: &str) -> Poll<io::Result<T>> {
    result.map_err(|error| verify::explained(error, host))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        explained(read, &self.host)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        explained(written, &self.host)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        explained(written, &self.host)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        explained(flushed, &self.host)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
