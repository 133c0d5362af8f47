//! The sockets that a server listens on: made, or taken over from a service manager, before anything else is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{info, warn};

use crate::config::{Address, Config, ListenUrl};
use crate::model::codes;
use crate::server::ServerError;
use crate::server::listen::Face;
use crate::server::service::{Handed, HandedSockets};
use crate::server::sides::Sides;
use crate::server::socket::Socket;
use crate::tls::Tls;

/// Addresses that are taken before anything else is done: a clash must change nothing.
pub(super) struct Listeners {
    pub(super) all: Vec<(Socket, Face, Option<Arc<Tls>>)>,
}

impl Listeners {
    /// Those of a member.
    ///
    /// # Errors
    /// [`ServerError::Listen`] and [`ServerError::Handed`].
    pub(super) fn bind(
        config: &Config,
        sides: &Sides,
        handed: HandedSockets,
    ) -> Result<Self, ServerError> {
        Self::bind_all(config, sides, handed, &config.peer_listeners)
    }

    /// Those of a proxy, which has no peers.
    ///
    /// # Errors
    /// As [`Listeners::bind`].
    pub(super) fn bind_of_proxy(
        config: &Config,
        sides: &Sides,
        handed: HandedSockets,
    ) -> Result<Self, ServerError> {
        Self::bind_all(config, sides, handed, &[])
    }

    /// Those of a member that becomes a proxy.
    pub(super) fn without_peers(mut self) -> Self {
        self.all.retain(|(_, face, _)| *face != Face::Peers);
        self
    }

    fn bind_all(
        config: &Config,
        sides: &Sides,
        handed: HandedSockets,
        peers: &[ListenUrl],
    ) -> Result<Self, ServerError> {
        let mut all = Vec::new();
        let flags: [(&[ListenUrl], Face, &'static str); 3] = [
            (peers, Face::Peers, "--listen-peer-urls"),
            (&config.client_listeners, Face::Clients, "--listen-client-urls"),
            (&config.metrics_listeners, Face::Metrics, "--listen-metrics-urls"),
        ];
        let mut handed = assign(handed, flags.map(|(listeners, face, _)| (listeners, face)))?;
        for (listeners, face, flag) in flags {
            for listener in listeners {
                let address = &listener.address;
                let socket = match handed.remove(listener) {
                    Some(handed) => Socket::take_over(handed),
                    None => Socket::bind(address),
                };
                let socket = socket.map_err(|source| ServerError::Listen {
                    network: match address {
                        Address::Tcp(_) => "tcp",
                        Address::Unix(_) => "unix",
                    },
                    address: address.clone(),
                    flag,
                    source,
                })?;
                let tls = listener.tls.then_some(match face {
                    Face::Peers => &sides.peers,
                    Face::Clients | Face::Metrics => &sides.clients,
                });
                announce(
                    face,
                    &socket.address().unwrap_or_else(|_| address.clone()),
                    tls.is_some(),
                );
                all.push((socket, face, tls.cloned()));
            }
        }
        Ok(Self { all })
    }
}

/// Which of the sockets that were handed over is for which URL. By address first, whatever the flag: a name counts only for what
/// is left.
fn assign(
    mut handed: HandedSockets,
    flags: [(&[ListenUrl], Face); 3],
) -> Result<BTreeMap<ListenUrl, Handed>, ServerError> {
    let mut assigned = BTreeMap::new();
    for (listeners, face) in flags {
        for listener in listeners {
            if let Some(socket) = handed.take_at(&listener.address, face.socket_name()) {
                assigned.insert(listener.clone(), socket);
            }
        }
    }
    for (listeners, face) in flags {
        let mut left = listeners.iter().filter(|listener| !assigned.contains_key(*listener));
        if let (Some(listener), None) = (left.next(), left.next())
            && let Some(socket) = handed.take_called(face.socket_name())
        {
            assigned.insert(listener.clone(), socket);
        }
    }
    handed.none_left()?;
    Ok(assigned)
}

fn announce(face: Face, address: &Address, secure: bool) {
    match face {
        Face::Peers => info!(target: "embed", "listening for peers on {address}"),
        Face::Metrics => info!(target: "embed", "listening for metrics on {address}"),
        Face::Clients if secure => info!(target: "embed", "serving client requests on {address}"),
        Face::Clients if !address.is_remote() => {
            info!(target: "embed", "serving insecure client requests on {address}");
        }
        Face::Clients => warn!(
            target: "embed",
            code = codes::INSECURE_CLIENTS,
            "serving insecure client requests on {address}, this is strongly discouraged! Every host that reaches this address \
             can read and change everything"
        ),
    }
}
