//! Puts a member together: starts it bottom-up, runs it, drains it top-down.

mod clock;
mod connection;
mod founding;
mod listen;
mod observe;
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
use crate::discovery::DiscoveryError;
use crate::disk::{DataDir, DataDirError, RealFiles, WalError, WalOptions};
use crate::model::{ClusterId, Discovery, MemberId};
use crate::raft::{self, Raft, StartError};
use crate::replica::{self, Facts, Hub, Replica};
use crate::store::HistoryLimits;

pub use clock::SystemClock;
use connection::Patience;
use listen::{Face, Limits};

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
    /// Where clients connect.
    pub client_listeners: Vec<SocketAddr>,
    /// Where peers connect.
    pub peer_listeners: Vec<SocketAddr>,
    /// Where `/metrics` and `/health` are served besides.
    pub metrics_listeners: Vec<SocketAddr>,
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
    /// The log, before consensus has opened it.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The other founders.
    #[error("{0}")]
    Discovery(#[from] Box<DiscoveryError>),
    /// They are too many.
    #[error(
        "not supported yet: the discovered cluster has {0} members: this version runs clusters of one member; start it with a \
         directory of `/new?size=1`, or without --discovery and --discovery-srv"
    )]
    ManyFounders(usize),
    /// The list of founders leaves this member out.
    #[error(
        "couldn't find local name \"{0}\" in the initial cluster configuration: name this member in --initial-cluster, or \
         start it with a --name that is there"
    )]
    NotAFounder(String),
    /// Consensus or the disk failed while the member ran.
    #[error("this member stops: {0}")]
    Failed(String),
}

/// Runs a member until `stop` is cancelled or it fails.
///
/// # Errors
/// See [`ServerError`]; the texts name the fix.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), ServerError> {
    info!(target: "etcdmain", "etcd Version: {ETCD_VERSION} (cairn {})", env!("CARGO_PKG_VERSION"));
    let data_dir = DataDir::open(&RealFiles, &options.data_dir)?;
    let listeners = Listeners::bind(&options)?;
    // It may have to wait for others, for as long as they take.
    let identified = tokio::select! {
        identified = founding::identify(&options, &data_dir) => identified?,
        () = stop.cancelled() => return Ok(()),
    };
    let (member, cluster) = (identified.member, identified.cluster);
    let metrics = Metrics::new();
    let hub = Hub::new(options.watchers_max);
    let raft = start_raft(&options, &data_dir, member, cluster, &metrics, &hub).await?;
    let founders = tokio::select! {
        founders = founding::found(&raft, identified.founders, &options) => founders?,
        () = stop.cancelled() => {
            raft.shutdown().await;
            return Ok(());
        }
    };
    let replica = Replica::new(
        raft.clone(),
        hub,
        Arc::new(SystemClock),
        replica::Options {
            member,
            cluster,
            name: options.name.clone(),
            election: options.election,
        },
    );
    metrics.observe_member(replica.clone());
    tokio::spawn(replica.clone().follow_leader());
    tokio::spawn(replica.clone().tick());
    let facts = Facts {
        founders,
        client_urls: options.advertise_client_urls.clone(),
        cluster_version: CLUSTER_VERSION.to_owned(),
    };
    let result = serve(options, listeners, &raft, replica, metrics, &facts, stop).await;
    raft.shutdown().await;
    result
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
    for (listener, face) in listeners.all {
        let (api, limits) = (Arc::clone(&api), limits.clone());
        let accept =
            listen::serve(listener, face, api, limits, connections.clone(), acceptors.clone());
        connections.spawn(accept);
    }
    let result = tokio::select! {
        failure = raft.failed() => Err(ServerError::Failed(failure)),
        result = live(&replica, facts, &options.data_dir) => result,
        () = stop.cancelled() => Ok(()),
    };
    if let Err(failure) = &result {
        error!(target: "etcdserver", "{failure}");
    }
    acceptors.cancel();
    replica.hub().close();
    connections.close();
    if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        warn!(target: "etcdmain", "some clients did not finish in time and are cut off");
    }
    result
}

/// Introduces the member, and then lives for ever.
async fn live(
    replica: &Replica,
    facts: &Facts,
    data_dir: &std::path::Path,
) -> Result<(), ServerError> {
    if let Err(why) = replica.introduce(facts).await {
        return Err(ServerError::Failed(why.to_string()));
    }
    let options = replica.options();
    info!(
        target: "etcdserver",
        "published {{Name:{} ClientURLs:[{}]}} to cluster {}",
        options.name,
        facts.client_urls.join(" "),
        options.cluster,
    );
    info!(
        target: "etcdserver",
        "set the initial cluster version to {}",
        CLUSTER_VERSION.trim_end_matches(".0"),
    );
    info!(target: "embed", "ready to serve client requests (data in {})", data_dir.display());
    // Where systemd started it, it hears that the member is ready; elsewhere nobody does.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    std::future::pending().await
}

async fn start_raft(
    options: &Options,
    data_dir: &DataDir,
    member: MemberId,
    cluster: ClusterId,
    metrics: &Arc<Metrics>,
    hub: &Arc<Hub>,
) -> Result<Raft, ServerError> {
    let commits = Arc::clone(metrics);
    let raft = raft::Options {
        member,
        cluster,
        heartbeat: options.heartbeat,
        election: options.election,
        history: options.history,
        checkpoint_wal_bytes: options.checkpoint_wal_bytes,
        files: Arc::new(RealFiles),
        wal_dir: data_dir.wal(),
        wal: WalOptions { sync: options.sync, ..WalOptions::default() },
        checkpoint: data_dir.checkpoint(),
        wal_observer: Arc::new(observe::Disk::new(Arc::clone(metrics))),
        checkpoint_observer: Box::new(move |took| commits.checkpoint_committed(took)),
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
