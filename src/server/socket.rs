//! Sockets that listen: a port for both families of addresses, or a file.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::config::Address;
use crate::server::service::Handed;

/// Connections that the system accepts for us while we are busy. It takes fewer when `net.core.somaxconn` says so.
const BACKLOG: i32 = 65_535;

/// A socket that listens. A socket in a file takes the file with it, if it made the file.
pub(super) struct Socket(Kind);

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    /// Its file is the service manager's.
    HandedUnix(UnixListener),
}

impl Socket {
    /// Takes an address.
    ///
    /// # Errors
    /// When it is taken already, or not of this machine.
    pub(super) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => bind_port(*address).map(Kind::Tcp).map(Self),
            Address::Unix(name) => {
                let path = PathBuf::from(name);
                remove_left_over(&path)?;
                Ok(Self(Kind::Unix(UnixListener::bind(&path)?, path)))
            }
        }
    }

    /// Goes on with one that was handed over.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn take_over(handed: Handed) -> io::Result<Self> {
        match handed {
            Handed::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Kind::Tcp).map(Self)
            }
            Handed::Unix(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Kind::HandedUnix).map(Self)
            }
        }
    }

    /// What the system made of it: a port where 0 was asked for, `[::]` for both families.
    pub(super) fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Kind::Unix(_, path) => Ok(Address::Unix(path.display().to_string())),
            Kind::HandedUnix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new("@"));
                Ok(Address::Unix(path.display().to_string()))
            }
        }
    }

    /// The next connection, and the address of its client. One through a file is a stream of bytes like all others: only what
    /// concerns TCP itself fails on it, and it has no address.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((stream, Some(from.ip().to_canonical())))
            }
            Kind::Unix(listener, _) | Kind::HandedUnix(listener) => {
                let stream = listener.accept().await?.0.into_std()?;
                let stream = std::net::TcpStream::from(OwnedFd::from(stream));
                Ok((TcpStream::from_std(stream)?, None))
            }
        }
    }

    /// Do its connections know TCP's options?
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self.0, Kind::Tcp(_))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.0 {
            // It may be gone already; the next start removes what is left over.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Each of the two unspecified addresses means both, as in Go and so in etcd.
fn bind_port(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        match listen(both, false) {
            Err(error) if address.is_ipv4() && lacks_ipv6(&error) => {}
            result => return result,
        }
    }
    listen(address, true)
}

/// Is this what a system without IPv6 says to an IPv6 address?
fn lacks_ipv6(error: &io::Error) -> bool {
    let lacking = [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT, Errno::ADDRNOTAVAIL];
    lacking.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn listen(address: SocketAddr, only_its_family: bool) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_its_family)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A process that was killed leaves the file of its socket behind.
fn remove_left_over(path: &Path) -> io::Result<()> {
    let is_socket = path.symlink_metadata().is_ok_and(|there| there.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_system_without_ipv6_says_is_known_from_other_errors() {
        for (errno, lacking) in [
            (Errno::AFNOSUPPORT, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::ADDRINUSE, false),
            (Errno::ACCESS, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(lacks_ipv6(&error), lacking, "{error}");
        }
    }
}
