//! Ports that stay ours between two starts of a server.
//!
//! Owns: the reservation. Never knows: who listens there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port that no other process gets while this lives.
///
/// The socket is bound but never listens. With `SO_REUSEADDR` on both sides the server may bind and
/// listen beside it, while the system hands the port to no other process, also between two starts.
pub(crate) struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    pub(crate) fn reserve() -> io::Result<Self> {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        held.set_reuse_address(true)?;
        held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let number = held.local_addr()?.as_socket_ipv4().map_or(0, |addr| addr.port());
        Ok(Self { number, _held: held })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.number)
    }
}
