//! Where a founder finds the other founders when they are not listed.

use std::net::SocketAddr;

/// The place where the founders of a cluster find each other. Without one, `--initial-cluster` lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// `--discovery`: a directory in another cluster, in which each founder registers.
    Registry {
        /// The directory, as the operator wrote it: this very text is the token of the new cluster.
        url: String,
        /// `host:port` of an HTTP proxy on the way there.
        proxy: Option<String>,
    },
    /// `--discovery-srv`: SRV records of a DNS domain.
    Srv {
        /// The domain.
        domain: String,
        /// What the service's name ends in, without its dash; empty for nothing.
        suffix: String,
        /// The name server to ask; `None` for those of the system.
        name_server: Option<SocketAddr>,
    },
}
