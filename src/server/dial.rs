//! The way out to peers: TCP, with or without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::tls::Tls;
use crate::transport::{Dial, Stream};

/// A peer that is gone without a word is noticed within a few of these.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Bytes that are not acknowledged for so long end the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Opens connections to `http://host:port` and, in TLS, to `https://host:port`.
pub struct PeerDial {
    tls: Arc<Tls>,
}

impl PeerDial {
    /// `tls` is what this member shows and demands where a URL asks for TLS.
    pub fn new(tls: Arc<Tls>) -> Self {
        Self { tls }
    }
}

impl Dial for PeerDial {
    fn dial<'a>(&'a self, url: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let authority = authority(url)?;
            let stream = connect(authority).await?;
            if !url.starts_with(SECURE) {
                return Ok(Box::new(stream) as Stream);
            }
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            Ok(Box::new(self.tls.connect(host, stream).await?) as Stream)
        })
    }
}

/// How URLs begin that ask for TLS.
const SECURE: &str = "https://";

/// `host:port` of a peer URL.
///
/// # Errors
/// For schemes that are not spoken between members.
pub(super) fn authority(url: &str) -> io::Result<&str> {
    let unsupported = || {
        let text = format!("{url} is neither a http:// nor a https:// URL");
        io::Error::new(io::ErrorKind::Unsupported, text)
    };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix(SECURE));
    rest.map(|rest| rest.trim_end_matches('/')).ok_or_else(unsupported)
}

/// All addresses that some URLs lead to, in order.
pub(super) async fn addresses(urls: &[String]) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for url in urls {
        let found = tokio::net::lookup_host(authority(url)?).await;
        addresses.extend(found.map_err(|error| {
            io::Error::new(error.kind(), format!("{url} has no address: {error}"))
        })?);
    }
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Tries the addresses of a name in turn.
pub(super) async fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host(authority).await? {
        match connect_to(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(stream)
}
