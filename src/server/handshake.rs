//! The beginning of a connection in TLS, and of one that should be and is not.

use std::io;
use std::net::IpAddr;

use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tracing::warn;

use crate::api::Handshake;
use crate::model::codes;
use crate::server::connection::RawSocket;
use crate::server::serve::Terms;
use crate::tls::{self, ServerStream, Tls};

/// What came of it.
pub(super) enum Accepted {
    /// Both ends agree.
    Secure(Box<ServerStream<RawSocket>>),
    /// The client does not speak TLS, and was told.
    Plain,
    /// The client is gone, took too long, or does not agree.
    Failed,
}

impl Accepted {
    /// As it is counted.
    pub(super) fn how(&self) -> Handshake {
        match self {
            Self::Secure(_) => Handshake::Done,
            Self::Plain => Handshake::Plain,
            Self::Failed => Handshake::Failed,
        }
    }
}

/// Does the handshake, within the time for a head of a request.
pub(super) async fn accept(
    tls: &Tls,
    stream: RawSocket,
    socket: &OwnedWriteHalf,
    terms: &Terms,
) -> Accepted {
    let (from, limit) = (terms.from, terms.limits.timeouts.head);
    let http2 = terms.site.speaks_http2(terms.face);
    let begun = async {
        let socket: &TcpStream = socket.as_ref();
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match first[0] == tls::FIRST_BYTE {
            true => {
                let secure = tls.accept(stream, http2).await;
                secure.map(|stream| Accepted::Secure(Box::new(stream)))
            }
            false => {
                // It is short enough for a socket that has sent nothing yet.
                let _ = socket.try_write(NOT_TLS);
                Ok(Accepted::Plain)
            }
        }
    };
    match tokio::time::timeout(limit, begun).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Accepted::Failed,
        Ok(Err(error)) => {
            warn!(target: "embed", code = codes::HANDSHAKE_FAILED, "rejected connection from {}: {error}", shown(from));
            Accepted::Failed
        }
        Err(_) => {
            warn!(target: "embed", code = codes::HANDSHAKE_FAILED, "rejected connection from {}: no TLS handshake within {limit:?}", shown(from));
            Accepted::Failed
        }
    }
}

/// As Go words it.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A client spoke TLS where none is spoken.
pub(super) fn tell_of_tls_without(from: Option<IpAddr>) {
    warn!(
        target: "embed",
        code = codes::TLS_TO_PLAIN,
        "rejected connection from {}: it speaks TLS, and this listener's URL is http://: the client must use http://, or this \
         member listen on a https:// URL",
        shown(from),
    );
}

/// The host alone: each connection has its own port, and equal lines are counted instead of written.
pub(super) fn shown(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "a socket in a file".to_owned(), |from| from.to_string())
}
