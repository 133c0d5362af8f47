//! The way out to peers: TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::transport::{Dial, Stream};

/// A peer that is gone without a word is noticed within a few of these.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Bytes that are not acknowledged for so long end the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Opens TCP connections to `http://host:port`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial<'a>(&'a self, url: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = connect(authority(url)?).await?;
            Ok(Box::new(stream) as Stream)
        })
    }
}

/// `host:port` of a peer URL.
///
/// # Errors
/// For schemes that this version does not speak.
pub(super) fn authority(url: &str) -> io::Result<&str> {
    let unsupported = || {
        let text = format!("{url} is no http:// URL, and TLS comes with a later version");
        io::Error::new(io::ErrorKind::Unsupported, text)
    };
    url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).ok_or_else(unsupported)
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
