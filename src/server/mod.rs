//! Puts a member together: starts it bottom-up, runs it, drains it top-down.

mod bootstrap;
mod clock;
mod connection;
mod dial;
mod listen;
mod observe;
mod peer_http;
mod random;
pub mod telemetry;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::api::{self, Api, CLUSTER_VERSION, ETCD_VERSION, Metrics};
use crate::disk::{DataDir, DataDirError, RealFiles, WalOptions};
use crate::model::Discovery;
use crate::raft::{self, Raft, StartError};
use crate::replica::{self, Facts, Hub, Replica};
use crate::store::HistoryLimits;
use crate::transport::{self, AddressBook, Transport};

pub use bootstrap::BootstrapError;
use bootstrap::Identity;
pub use clock::SystemClock;
use connection::Patience;
pub use dial::TcpDial;
use listen::{Face, Limits};
pub use random::SystemRandom;

/// After this a stop no longer waits for clients.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// What a member is told when it starts.
pub struct Options {
    /// Its name.
    pub name: String,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// The founders of its cluster, itself among them, with their peer URLs. With `discovery` it stands alone.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// Where the other founders are found, if nobody has listed them.
    pub discovery: Option<Discovery>,
    /// Part of the ids.
    pub initial_cluster_token: String,
    /// The cluster is there already, and this member joins it.
    pub join: bool,
    /// Go on alone with the data of a member whose cluster lost its majority.
    pub force_new_cluster: bool,
    /// Where clients connect.
    pub client_listeners: Vec<SocketAddr>,
    /// Where peers connect.
    pub peer_listeners: Vec<SocketAddr>,
    /// Where `/metrics` and `/health` are served besides.
    pub metrics_listeners: Vec<SocketAddr>,
    /// Where peers are told to connect.
    pub advertise_peer_urls: Vec<String>,
    /// Where clients are told to connect.
    pub advertise_client_urls: Vec<String>,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Patience of followers.
    pub election: Duration,
    /// How much history is kept.
    pub history: HistoryLimits,
    /// Log bytes between two checkpoints.
    pub checkpoint_wal_bytes: u64,
    /// Really sync the log.
    pub sync: bool,
    /// Connections of all listeners together.
    pub connections_max: usize,
    /// Live watches.
    pub watchers_max: usize,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// Bytes of a request's head.
    pub header_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// What the API is told.
    pub api: api::Options,
}

/// Why a member does not run, or no longer.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Log, checkpoint or consensus.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An address cannot be taken.
    #[error("listen tcp {address}: {source}; stop whoever has it, or choose another {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that names it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Who this member is cannot be told.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Consensus or the disk failed while the member ran.
    #[error("this member stops: {0}")]
    Failed(String),
}

/// Runs a member until `stop` is cancelled, it fails, or it is removed from its cluster.
///
/// # Errors
/// See [`ServerError`]; the texts name the fix.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ServerError> {
    info!(target: "etcdmain", "etcd Version: {ETCD_VERSION} (cairn {})", env!("CARGO_PKG_VERSION"));
    let data_dir = Arc::new(DataDir::open(&RealFiles, &options.data_dir)?);
    let listeners = Listeners::bind(&options)?;
    let identity = tokio::select! {
        identity = bootstrap::identify(&options, &data_dir) => identity?,
        () = stop.cancelled() => return Ok(()),
    };
    let metrics = Metrics::new();
    let hub = Hub::new(options.watchers_max);
    let raft = start_raft(&options, &data_dir, &identity, &metrics, &hub).await?;
    let founders: Vec<_> = identity.founders.iter().map(|(id, _)| *id).collect();
    if !founders.is_empty() && !raft.is_initialized().await.unwrap_or(true) {
        raft.initialize(&founders).await?;
    }
    let replica = Replica::new(
        raft.clone(),
        hub,
        Arc::new(SystemClock),
        replica::Options {
            member: identity.member,
            cluster: identity.cluster,
            name: options.name.clone(),
            election: options.election,
        },
    );
    metrics.observe_member(replica.clone());
    let facts = Facts {
        founders: identity.founders.clone(),
        client_urls: options.advertise_client_urls.clone(),
        cluster_version: CLUSTER_VERSION.to_owned(),
        alone: options.force_new_cluster,
    };
    let chores = CancellationToken::new();
    start_chores(&replica, options.heartbeat, &chores);
    let keep = keep_addresses(replica.clone(), identity, Arc::clone(&data_dir));
    tokio::spawn(chores.clone().run_until_cancelled_owned(keep));
    let result = serve(options, listeners, &raft, replica, metrics, &facts, stop).await;
    chores.cancel();
    raft.shutdown().await;
    result
}

fn start_chores(replica: &Replica, heartbeat: Duration, stop: &CancellationToken) {
    let pulse = replica.clone().watch_pulse(heartbeat);
    tokio::spawn(stop.clone().run_until_cancelled_owned(pulse));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().follow_leader()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().follow_members()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().tick()));
}

/// Keeps where the others are reached, for the next start: what the log says of it comes only after the others are reached.
async fn keep_addresses(replica: Replica, mut identity: Identity, data_dir: Arc<DataDir>) {
    let mut members = replica.members();
    loop {
        let known: Vec<_> = members
            .borrow_and_update()
            .iter()
            .map(|(id, record)| (id, record.peer_urls.clone()))
            .collect();
        if !known.is_empty() && known != identity.peers {
            identity.peers = known;
            let (kept, data_dir) = (identity.clone(), Arc::clone(&data_dir));
            let written = tokio::task::spawn_blocking(move || kept.keep(&data_dir)).await;
            if let Ok(Err(error)) = written {
                warn!(target: "etcdserver", "{error}; a restart may not find the other members");
            }
        }
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// Why a member ends.
enum End {
    Stopped,
    Removed,
    Failed(ServerError),
}

/// Serves until told to stop, and drains.
async fn serve(
    options: Options,
    listeners: Listeners,
    raft: &Raft,
    replica: Replica,
    metrics: Arc<Metrics>,
    facts: &Facts,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let limits = Limits {
        connections: Arc::new(Semaphore::new(options.connections_max)),
        patience: Patience { head: options.header_timeout, idle: options.idle_timeout },
        header_bytes_max: options.header_bytes_max,
        headers_max: options.headers_max,
    };
    let api = Api::new(replica.clone(), metrics, options.api);
    let (connections, acceptors) = (TaskTracker::new(), CancellationToken::new());
    // Peers come in until the last client has its answer: that may wait for an entry from the next leader.
    let peer_acceptors = CancellationToken::new();
    let ready = CancellationToken::new();
    for (listener, face) in listeners.all {
        let of_peers = face == Face::Peers;
        let stop = if of_peers { peer_acceptors.clone() } else { acceptors.clone() };
        let listener = listen::Listener {
            face,
            api: Arc::clone(&api),
            raft: raft.clone(),
            // However many clients there are, peers find their way in.
            limits: if of_peers { limits.for_peers() } else { limits.clone() },
            connections: connections.clone(),
            stop,
            socket: listener,
        };
        if of_peers {
            tokio::spawn(listener.serve());
            continue;
        }
        // As in etcd, clients connect at once and are answered when the member is ready: what it showed before a restart, it
        // shows again.
        let begin = if face == Face::Clients { Some(ready.clone()) } else { None };
        connections.spawn(async move {
            let stop = listener.stop.clone();
            if let Some(ready) = begin {
                stop.run_until_cancelled(ready.cancelled()).await;
            }
            listener.serve().await;
        });
    }
    let end = tokio::select! {
        failure = raft.failed() => End::Failed(ServerError::Failed(failure)),
        result = live(&replica, facts, &options.data_dir, &ready) => match result {
            Ok(never) => match never {},
            Err(error) => End::Failed(error),
        },
        () = raft.removed() => End::Removed,
        () = stop.cancelled() => End::Stopped,
    };
    match &end {
        End::Failed(failure) => error!(target: "etcdserver", "{failure}"),
        // Whoever leads hands over while it still answers everybody.
        End::Stopped => raft.hand_over().await,
        End::Removed => {
            error!(target: "etcdserver", "the member has been permanently removed from the cluster");
            error!(
                target: "etcdserver",
                "the data-dir used by this member must be removed. To let it join again, empty {}, add it with `etcdctl \
                 member add` and start it with --initial-cluster-state=existing",
                options.data_dir.display(),
            );
            replica.leave().await;
        }
    }
    acceptors.cancel();
    replica.hub().close();
    connections.close();
    if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        warn!(target: "etcdmain", "some clients did not finish in time and are cut off");
    }
    peer_acceptors.cancel();
    match end {
        End::Failed(failure) => Err(failure),
        End::Stopped | End::Removed => Ok(()),
    }
}

/// Introduces the member, says when it is ready, and then lives for ever.
async fn live(
    replica: &Replica,
    facts: &Facts,
    data_dir: &std::path::Path,
    ready: &CancellationToken,
) -> Result<std::convert::Infallible, ServerError> {
    let introduced = async {
        replica.introduce(facts).await?;
        replica.catch_up().await
    };
    introduced.await.map_err(|why| ServerError::Failed(why.to_string()))?;
    replica.until_voting().await;
    ready.cancel();
    if facts.alone {
        warn!(target: "etcdserver", "this member goes on alone: leave --force-new-cluster out from now on");
    }
    let options = replica.options();
    info!(
        target: "etcdserver",
        "published {{Name:{} ClientURLs:[{}]}} to cluster {}",
        options.name,
        facts.client_urls.join(" "),
        options.cluster,
    );
    info!(target: "embed", "ready to serve client requests (data in {})", data_dir.display());
    // Where systemd started it, it hears that the member is ready; elsewhere nobody does.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    // Not before: a member that goes on alone must first have said so.
    replica.clone().reconcile().await;
    std::future::pending().await
}

async fn start_raft(
    options: &Options,
    data_dir: &DataDir,
    identity: &Identity,
    metrics: &Arc<Metrics>,
    hub: &Arc<Hub>,
) -> Result<Raft, ServerError> {
    let transport = Transport::new(
        transport::Identity {
            cluster: identity.cluster,
            member: identity.member,
            name: options.name.clone(),
            peer_urls: options.advertise_peer_urls.clone(),
        },
        Arc::new(TcpDial),
        // A peer that is not there must not hold up an election, nor a write that could go to the next leader.
        options.election / 2,
        Arc::new(AddressBook::new(identity.peers.clone())),
    );
    let (commits, heartbeats) = (Arc::clone(metrics), Arc::clone(metrics));
    let raft = raft::Options {
        member: identity.member,
        cluster: identity.cluster,
        alone: options.force_new_cluster,
        heartbeat: options.heartbeat,
        election: options.election,
        history: options.history,
        checkpoint_wal_bytes: options.checkpoint_wal_bytes,
        files: Arc::new(RealFiles),
        wal_dir: data_dir.wal(),
        wal: WalOptions { sync: options.sync, ..WalOptions::default() },
        checkpoint: data_dir.checkpoint(),
        transport: Arc::new(transport),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        wal_observer: Arc::new(observe::Disk::new(Arc::clone(metrics))),
        checkpoint_observer: Box::new(move |took| commits.checkpoint_committed(took)),
        round_trip_observer: Box::new(move |peer, took| heartbeats.round_trip(peer, took)),
    };
    Ok(Raft::start(raft, Arc::clone(hub) as Arc<dyn raft::Observer>).await?)
}

/// Addresses that are taken before anything else is done: a clash must change nothing.
struct Listeners {
    all: Vec<(TcpListener, Face)>,
}

impl Listeners {
    fn bind(options: &Options) -> Result<Self, ServerError> {
        let mut all = Vec::new();
        for (addresses, face, flag) in [
            (&options.peer_listeners, Face::Peers, "--listen-peer-urls"),
            (&options.client_listeners, Face::Clients, "--listen-client-urls"),
            (&options.metrics_listeners, Face::Metrics, "--listen-metrics-urls"),
        ] {
            for address in addresses {
                let listener = listen::bind(*address).map_err(|source| ServerError::Listen {
                    address: *address,
                    flag,
                    source,
                })?;
                announce(face, listener.local_addr().unwrap_or(*address));
                all.push((listener, face));
            }
        }
        Ok(Self { all })
    }
}

fn announce(face: Face, address: SocketAddr) {
    match face {
        Face::Peers => info!(target: "embed", "listening for peers on {address}"),
        Face::Metrics => info!(target: "embed", "listening for metrics on {address}"),
        Face::Clients if address.ip().is_loopback() => {
            info!(target: "embed", "serving insecure client requests on {address}");
        }
        Face::Clients => warn!(
            target: "embed",
            "serving insecure client requests on {address}, this is strongly discouraged! Anybody who reaches this address \
             can read and change everything"
        ),
    }
}
