//! Sockets that a service manager has opened and hands over, and which listen URL each belongs to.
//!
//! A socket belongs to the listen URL with its address; the URL says whether TLS is spoken there. A socket with another address
//! belongs to the only URL left of the flag that its name says: `client`, `peer` or `metrics` (`FileDescriptorName=`). One that
//! belongs nowhere is refused: clients would connect to it and wait for ever.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use socket2::SockRef;
use thiserror::Error;

use crate::config::Address;

/// The first descriptor behind standard input, output and error.
const FIRST: usize = 3;

/// Why sockets that were handed over cannot be used.
#[derive(Debug, Error)]
pub enum HandedError {
    /// It is something else.
    #[error(
        "descriptor {descriptor} ({name:?}) that the service manager hands over is no stream socket that listens: {why}. A .socket \
         unit for this member has ListenStream= and Accept=no, and nothing else that listens"
    )]
    NotListening {
        /// Its number.
        descriptor: usize,
        /// Its name.
        name: String,
        /// What it is, or what the system says.
        why: String,
    },
    /// No flag says what to serve there.
    #[error(
        "the service manager hands over a socket at {address} ({name:?}), and no listen URL belongs to it: name {address} in \
         --listen-client-urls, --listen-peer-urls or --listen-metrics-urls, set FileDescriptorName= of the .socket unit to client, \
         peer or metrics where the flag has one URL, or take the socket out of the unit"
    )]
    BelongsNowhere {
        /// Where it listens.
        address: Address,
        /// Its name.
        name: String,
    },
}

/// A socket that was handed over.
#[derive(Debug)]
pub(in crate::server) enum Handed {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Debug)]
struct Named {
    name: String,
    address: Address,
    socket: Handed,
}

/// The sockets that were handed over and have found no URL yet.
#[derive(Debug, Default)]
pub struct HandedSockets(Vec<Named>);

impl HandedSockets {
    /// Takes those of `LISTEN_FDS`, when `LISTEN_PID` is this process.
    pub(super) fn of_environment() -> Result<Self, HandedError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..handed.len() {
            // Without a name it is called as systemd calls it.
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            let socket = take(&mut handed, place).and_then(|socket| {
                let address = socket.address()?;
                Ok((socket, address))
            });
            match socket {
                Ok((socket, address)) => sockets.push(Named { name, address, socket }),
                Err(why) => {
                    let (descriptor, why) = (FIRST + place, why.to_string());
                    return Err(HandedError::NotListening { descriptor, name, why });
                }
            }
        }
        Ok(Self(sockets))
    }

    /// The one at this address, for a flag whose sockets are called `name`.
    pub(in crate::server) fn take_at(&mut self, address: &Address, name: &str) -> Option<Handed> {
        let others = NAMES.into_iter().filter(|other| *other != name);
        let is_of_another = |named: &Named| others.clone().any(|other| other == named.name);
        let place = self
            .0
            .iter()
            .position(|named| is_same(&named.address, address) && !is_of_another(named))?;
        Some(self.0.remove(place).socket)
    }

    /// The only one left that is called `name`, wherever it is.
    pub(in crate::server) fn take_called(&mut self, name: &str) -> Option<Handed> {
        let mut called = (0..self.0.len()).filter(|place| self.0[*place].name == name);
        let (place, next) = (called.next()?, called.next());
        next.is_none().then(|| self.0.remove(place).socket)
    }

    /// Each must have found its URL.
    ///
    /// # Errors
    /// [`HandedError::BelongsNowhere`] for the first that has not.
    pub(in crate::server) fn none_left(self) -> Result<(), HandedError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some(Named { name, address, .. }) => Err(HandedError::BelongsNowhere { address, name }),
        }
    }
}

/// What sockets are called that are for clients, peers, and metrics.
const NAMES: [&str; 3] = ["client", "peer", "metrics"];

impl Handed {
    /// # Errors
    /// When it does not listen, or has no address.
    fn address(&self) -> io::Result<Address> {
        let listens = match self {
            Self::Tcp(socket) => SockRef::from(socket).is_listener()?,
            Self::Unix(socket) => SockRef::from(socket).is_listener()?,
        };
        if !listens {
            return Err(io::Error::other("it is a connection (Accept=yes)"));
        }
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Self::Unix(socket) => {
                let address = socket.local_addr()?;
                let path = address.as_pathname().map(|path| path.display().to_string());
                // One in the abstract name space is found by its name only.
                Ok(Address::Unix(path.unwrap_or_else(|| "@".to_owned())))
            }
        }
    }
}

fn take(handed: &mut ListenFd, place: usize) -> io::Result<Handed> {
    let not_unix = match handed.take_unix_listener(place) {
        Ok(Some(socket)) => return Ok(Handed::Unix(socket)),
        Ok(None) => io::ErrorKind::NotFound.into(),
        Err(error) => error,
    };
    handed.take_tcp_listener(place)?.map(Handed::Tcp).ok_or(not_unix)
}

/// Either way to write all addresses of this machine means both, as where this member listens by itself.
fn is_same(handed: &Address, said: &Address) -> bool {
    match (handed, said) {
        (Address::Tcp(handed), Address::Tcp(said)) => {
            let both = handed.ip().is_unspecified() && said.ip().is_unspecified();
            handed == said || (both && handed.port() == said.port())
        }
        (Address::Unix(handed), Address::Unix(said)) => {
            std::path::absolute(said).is_ok_and(|said| said == Path::new(handed))
        }
        (Address::Tcp(_), Address::Unix(_)) | (Address::Unix(_), Address::Tcp(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(sockets: &[(&str, &str)]) -> HandedSockets {
        let sockets = sockets.iter().map(|(name, address)| Named {
            name: (*name).to_owned(),
            address: Address::Tcp(address.parse().unwrap()),
            socket: Handed::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()),
        });
        HandedSockets(sockets.collect())
    }

    fn at(address: &str) -> Address {
        Address::Tcp(address.parse().unwrap())
    }

    #[test]
    fn a_socket_belongs_to_the_url_with_its_address() {
        let mut sockets = handed(&[("a.socket", "[::]:2379"), ("a.socket", "127.0.0.1:2380")]);
        assert!(sockets.take_at(&at("127.0.0.1:2379"), "client").is_none());
        assert!(sockets.take_at(&at("0.0.0.0:2379"), "client").is_some(), "[::] is both families");
        assert!(sockets.take_at(&at("127.0.0.1:2380"), "peer").is_some());
        sockets.none_left().unwrap();
    }

    #[test]
    fn a_name_finds_the_only_socket_and_forbids_another_flag() {
        let mut sockets = handed(&[("peer", "10.0.0.1:7000"), ("client", "10.0.0.1:2379")]);
        assert!(sockets.take_at(&at("10.0.0.1:7000"), "client").is_none(), "it is for peers");
        assert!(sockets.take_called("peer").is_some());
        assert!(sockets.take_called("peer").is_none());
        let refusal = sockets.none_left().unwrap_err().to_string();
        assert!(refusal.contains("at 10.0.0.1:2379 (\"client\")"), "{refusal}");
        let mut sockets = handed(&[("client", "10.0.0.1:1"), ("client", "10.0.0.1:2")]);
        assert!(sockets.take_called("client").is_none(), "which of the two is not said");
    }
}
