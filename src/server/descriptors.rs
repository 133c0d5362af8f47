//! File descriptors: as many as the system gives this process, and who may have them.
//!
//! A member that cannot open the next file of its log ends, and one that cannot call its peers loses its place in the cluster. So
//! clients get what is left when all that is set aside, and those beyond wait in the backlog.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set aside for what the member itself opens: segments of the log and the spare files, the checkpoint, a snapshot, the
/// outputs of the log, listeners, what the runtime waits with, connections to peers and questions to name servers.
const OWN: u64 = 96;

/// Set aside for connections that peers open. Clusters have a handful of members that open a few each; but strangers come to that
/// port as well.
const PEERS_MAX: u64 = 1024;
/// The part of the limit that peers get where it is low.
const PEERS_PART: u64 = 8;

/// Set aside for programs that scrape metrics and look at the health.
const METRICS_MAX: u64 = 256;
/// The part of the limit that these get where it is low.
const METRICS_PART: u64 = 32;

/// Who may have how many descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections of clients at a time.
    pub(super) clients: usize,
    /// Connections that peers opened at a time.
    pub(super) peers: usize,
    /// Connections to the metrics listeners at a time.
    pub(super) metrics: usize,
}

/// Raises the limit as far as this process may, and returns it.
pub(super) fn raise_limit() -> Option<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where even that is refused, what is there must do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    limit()
}

/// How many descriptors this process may have; `None` for as many as it wants.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Shares `limit` out. Clients get one descriptor at least: then the limit is too low for anything, and the first file that
/// cannot be opened says so.
pub(super) fn share(limit: Option<u64>) -> Shares {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let Some(limit) = limit else {
        return Shares {
            clients: usize::MAX,
            peers: count(PEERS_MAX),
            metrics: count(METRICS_MAX),
        };
    };
    let peers = (limit / PEERS_PART).clamp(1, PEERS_MAX);
    let metrics = (limit / METRICS_PART).clamp(1, METRICS_MAX);
    let clients = limit.saturating_sub(OWN + peers + metrics).max(1);
    Shares { clients: count(clients), peers: count(peers), metrics: count(metrics) }
}

/// What an operator should know who allows more connections than there are descriptors for.
pub(super) fn warning(limit: Option<u64>, wanted: usize) -> Option<String> {
    let (limit, shares) = (limit?, share(limit));
    (wanted > shares.clients).then(|| {
        format!(
            "this process may open {limit} files, so only {} clients can be connected at a time, not the {wanted} of \
             --max-connections: {} descriptors are set aside for peers, {} for metrics and {OWN} for the disk and the member itself. Raise the \
             limit (`ulimit -Hn`, LimitNOFILE= in systemd, --ulimit nofile= in Docker), or lower --max-connections",
            shares.clients, shares.peers, shares.metrics,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left() {
        assert_eq!(share(Some(256)), Shares { clients: 120, peers: 32, metrics: 8 });
        assert_eq!(
            share(Some(1 << 20)),
            Shares { clients: (1 << 20) - 96 - 1024 - 256, peers: 1024, metrics: 256 }
        );
        assert_eq!(share(Some(10)), Shares { clients: 1, peers: 1, metrics: 1 });
        assert_eq!(share(None), Shares { clients: usize::MAX, peers: 1024, metrics: 256 });
    }

    #[test]
    fn only_more_connections_than_descriptors_are_warned_of() {
        assert_eq!(warning(Some(256), 120), None);
        assert_eq!(warning(None, 1 << 32), None);
        let text = warning(Some(256), 121).expect("one too many");
        assert!(text.contains("only 120 clients") && text.contains("--max-connections"), "{text}");
    }
}
