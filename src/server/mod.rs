//! Puts a member together: starts it bottom-up, runs it, drains it top-down.

mod authority;
mod bootstrap;
mod clock;
mod connection;
mod crowd;
mod descriptors;
mod dial;
mod exchange;
mod fast_path;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod guard;
mod handshake;
mod http2;
mod keep_alive;
mod listen;
mod listeners;
mod observe;
mod peer_http;
mod proxy;
mod random;
mod request_line;
mod serve;
mod service;
mod sides;
mod signals;
mod socket;
mod space;
pub mod telemetry;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::api::{self, Api, Cors, Jwt, Metrics};
use crate::config::{self, Address, Config, TlsFlags, TokenFlags};
use crate::disk::{DataDir, DataDirError, LogDir, RealFiles, Reserve, WalOptions};
use crate::model::{CLUSTER_VERSION, ETCD_VERSION, LogIndex, PathLimits, codes};
use crate::raft::{self, Raft, StartError};
use crate::replica::identity::MemberIdentity;
use crate::replica::{Facts, Hub, LocalMember, Replica};
use crate::store::HistoryLimits;
use crate::tls::{self, Signing, TlsError};
use crate::transport::{self, AddressBook, FRAME_BYTES_MAX, Transport};

#[cfg(test)]
pub(crate) mod costs {
    //! What of this floor is counted.
    pub(crate) use crate::server::fast_path::costs::WORK;
    pub(crate) use crate::server::request_line::costs::CASES;
}

pub use bootstrap::BootstrapError;
pub use clock::SystemClock;
use crowd::Crowd;
pub use dial::PeerDial;
use listen::{Face, Limits, Site};
use listeners::Listeners;
pub use random::SystemRandom;
pub use service::{HandedError, HandedSockets, Manager, Service};
use sides::Sides;
pub use signals::{LogLevels, Reread, Signals};
use telemetry::LogHandle;

/// An entry of the log holds what one request said, and travels in one frame with some bytes of our own.
const _: () = assert!(
    config::REQUEST_BYTES_MAX + (1 << 20) <= FRAME_BYTES_MAX as u64,
    "an entry must fit into a frame"
);

/// After this a stop no longer waits for clients.
const DRAIN_MAX: Duration = Duration::from_secs(3);

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
    #[error(
        "listen {network} {address}: {source}; stop the program that has it, or choose another {flag}"
    )]
    Listen {
        /// `tcp` or `unix`.
        network: &'static str,
        /// The address.
        address: Address,
        /// The flag that names it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate, a key or an authority.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Sockets of a service manager.
    #[error(transparent)]
    Handed(#[from] HandedError),
    /// Who this member is cannot be told.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Consensus or the disk failed while the member ran.
    #[error("this member stops: {0}")]
    Failed(String),
}

/// Runs a member until `stop` is cancelled, it fails, or it is removed from its cluster. `log` is what it logs to; `service` is what
/// started it; `reread` asks for another look at certificates and keys, and is answered once that look is over.
///
/// # Errors
/// See [`ServerError`]; the texts name the fix.
pub async fn run(
    config: Config,
    log: LogHandle,
    service: Service,
    stop: CancellationToken,
    reread: mpsc::Receiver<Reread>,
) -> Result<(), ServerError> {
    let Service { manager, sockets } = service;
    tokio::spawn(manager.clone().keep_starting());
    info!(target: "etcdmain", "etcd Version: {ETCD_VERSION} (cairn {})", env!("CARGO_PKG_VERSION"));
    let descriptors = descriptors::raise_limit();
    if let Some(text) = descriptors::warning(descriptors, config.connections_max) {
        warn!(target: "etcdmain", code = codes::OPEN_FILES, "{text}");
    }
    if let Some(flags) = config.proxy {
        let sides = Sides::load(&config)?;
        let listeners = Listeners::bind_of_proxy(&config, &sides, sockets)?;
        let means = proxy::Means { listeners, sides, log, manager, reread };
        return proxy::run(&config, flags, means, stop).await;
    }
    let jwt = jwt(&config.tokens)?;
    let data_dir = Arc::new(DataDir::open(&RealFiles, &config.data_dir)?);
    let log_dir = LogDir::open(&RealFiles, &data_dir, config.wal_dir.as_deref())?;
    let sides = Sides::load(&config)?;
    let listeners = Listeners::bind(&config, &sides, sockets)?;
    manager.starting("looking for the other members").await;
    let identity = tokio::select! {
        identity = bootstrap::identify(&config, &data_dir, &sides.peers) => identity,
        () = stop.cancelled() => {
            manager.stopping("stopped before it knew its cluster").await;
            return Ok(());
        }
    };
    let identity = match (identity, config.proxy_when_full) {
        (Err(error), Some(flags)) if error.is_full() => {
            info!(target: "etcdmain", "{error}");
            info!(target: "etcdmain", "falling back to proxy");
            drop((log_dir, data_dir));
            let listeners = listeners.without_peers();
            let means = proxy::Means { listeners, sides, log, manager, reread };
            return proxy::run(&config, flags, means, stop).await;
        }
        (identity, _) => identity?,
    };
    manager.starting("reading the checkpoint and the log").await;
    let metrics = Metrics::new(config.metrics_extensive);
    let hub = Hub::new(config.watchers_max, Arc::new(SystemClock));
    let raft = start_raft(&config, &data_dir, &log_dir, &identity, &metrics, &hub, &sides).await?;
    manager.starting("waiting for a leader and for a vote").await;
    let founders: Vec<_> = identity.founders.iter().map(|(id, _)| *id).collect();
    if !founders.is_empty() && !raft.is_initialized().await.unwrap_or(true) {
        raft.initialize(&founders).await?;
    }
    let replica = Replica::new(
        raft.clone(),
        hub,
        Arc::new(SystemClock),
        LocalMember {
            id: identity.member,
            cluster: identity.cluster,
            name: config.name.clone(),
            election: config.election,
            quota_bytes: config.quota_bytes,
        },
    );
    log.follow(identity.member, raft.positions());
    metrics.observe_member(replica.clone(), observe::surroundings(&data_dir, &sides, &log));
    // What it showed before a restart, it shows again; one that starts for the first time lets its clients wait.
    let restarted = identity.restarted && raft.held_at_start() > LogIndex(0);
    let facts = Facts {
        founders: identity.founders.clone(),
        client_urls: config.advertise_client_urls.clone(),
        cluster_version: CLUSTER_VERSION.to_owned(),
        alone: config.force_new_cluster,
    };
    let chores = CancellationToken::new();
    let left_out = log.clone().tell_what_was_left_out();
    tokio::spawn(chores.clone().run_until_cancelled_owned(left_out));
    start_chores(&replica, config.heartbeat, &chores);
    let compacted = replica.clone().compact(config.retention, config.past_bytes_max);
    tokio::spawn(chores.clone().run_until_cancelled_owned(compacted));
    let space = space::watch(replica.clone(), reserves(&config, &data_dir, &log_dir));
    tokio::spawn(chores.clone().run_until_cancelled_owned(space));
    let followed = tls::watch(sides.all(), reread);
    tokio::spawn(chores.clone().run_until_cancelled_owned(followed));
    let watched = service::watch(manager.clone(), raft.clone());
    tokio::spawn(chores.clone().run_until_cancelled_owned(watched));
    let shown = service::show_role(manager.clone(), replica.clone());
    tokio::spawn(chores.clone().run_until_cancelled_owned(shown));
    if restarted {
        let regain = replica.clone().show_when_regained();
        tokio::spawn(chores.clone().run_until_cancelled_owned(regain));
    }
    let keep = keep_addresses(replica.clone(), identity, Arc::clone(&data_dir));
    tokio::spawn(chores.clone().run_until_cancelled_owned(keep));
    let api = Api::new(
        replica.clone(),
        Arc::clone(&metrics),
        api_settings(&config, &data_dir, jwt, log.clone()),
    );
    let clients = CancellationToken::new();
    if restarted {
        clients.cancel();
    }
    let starting = Starting { facts, clients, manager, metrics };
    let result = serve(config, listeners, &raft, replica, api, &starting, stop).await;
    chores.cancel();
    raft.shutdown().await;
    result
}

/// Whether a member could start with this: directories, certificates and keys are looked at, and nothing is made, taken or changed.
/// What is worth a line in a member's log is logged.
///
/// # Errors
/// As [`run`] would end with.
pub fn check(config: &Config) -> Result<(), ServerError> {
    jwt(&config.tokens)?;
    DataDir::look(&RealFiles, &config.data_dir)?;
    LogDir::look(&RealFiles, &config.data_dir, config.wal_dir.as_deref())?;
    let mut config = config.clone();
    for flags in [&mut config.client_tls, &mut config.peer_tls] {
        // Its certificate would be made at the start.
        if flags.auto.is_some() {
            *flags = TlsFlags { side: flags.side, ..TlsFlags::default() };
        }
    }
    Sides::load(&config)?;
    Ok(())
}

fn start_chores(replica: &Replica, heartbeat: Duration, stop: &CancellationToken) {
    let pulse = replica.clone().watch_pulse(heartbeat);
    tokio::spawn(stop.clone().run_until_cancelled_owned(pulse));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().follow_leader()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().follow_members()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().explain_search()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().tick()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().watch_clocks()));
    let handed_out = Arc::clone(replica.hub().v3()).hand_out();
    tokio::spawn(stop.clone().run_until_cancelled_owned(handed_out));
    tokio::spawn(stop.clone().run_until_cancelled_owned(replica.clone().end_leases()));
}

/// One for each directory that the member writes to. Without any, no disk is looked at.
fn reserves(config: &Config, data_dir: &DataDir, log_dir: &LogDir) -> Vec<Reserve> {
    let dirs = [Some(data_dir.path()), log_dir.is_apart().then(|| log_dir.path())];
    let dirs = dirs.into_iter().flatten().filter(|_| config.reserve_bytes > 0);
    dirs.map(|dir| Reserve::new(dir, config.reserve_bytes)).collect()
}

/// Keeps where the others are reached, for the next start: what the log says of it comes only after the others are reached.
async fn keep_addresses(replica: Replica, mut identity: MemberIdentity, data_dir: Arc<DataDir>) {
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
            let written =
                tokio::task::spawn_blocking(move || bootstrap::keep(&kept, &data_dir)).await;
            if let Ok(Err(error)) = written {
                warn!(target: "etcdserver", code = codes::ADDRESSES_NOT_KEPT, "{error}; a restart may not find the other members");
            }
        }
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// What is still to be done when the listeners are there.
struct Starting {
    /// What the cluster must know of this member.
    facts: Facts,
    /// Clients are answered once this is cancelled. As in etcd they connect before that, and wait.
    clients: CancellationToken,
    /// Is told when all is done, and when it is over.
    manager: Manager,
    metrics: Arc<Metrics>,
}

/// Why a member ends.
enum End {
    Stopped,
    Removed,
    Failed(ServerError),
}

impl End {
    /// For the service manager.
    fn why(&self) -> &'static str {
        match self {
            Self::Stopped => "handing over and finishing requests",
            Self::Removed => "removed from its cluster: its data directory is of no more use",
            Self::Failed(_) => "failed: the log says why",
        }
    }
}

/// Serves until told to stop, and drains.
async fn serve(
    config: Config,
    listeners: Listeners,
    raft: &Raft,
    replica: Replica,
    api: Arc<Api>,
    starting: &Starting,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let shares = descriptors::share(descriptors::limit());
    let clients = config.connections_max.min(shares.clients).min(Semaphore::MAX_PERMITS);
    // However many clients there are, peers and programs that look after the member get in.
    let listeners_of = [Face::Clients, Face::Peers, Face::Metrics].map(|face| {
        let most = match face {
            Face::Clients => clients,
            Face::Peers => shares.peers,
            Face::Metrics => shares.metrics,
        };
        (Arc::new(Semaphore::new(most)), starting.metrics.connections(face.name(), most))
    });
    let (crowd, uncounted) = (Crowd::new(config.connections_per_ip_max), Crowd::new(0));
    let limits = Limits::of(&config);
    let (connections, acceptors) = (TaskTracker::new(), CancellationToken::new());
    // Peers come in until the last client has its answer: that may wait for an entry from the next leader.
    let peer_acceptors = CancellationToken::new();
    for (listener, face, tls) in listeners.all {
        let of_peers = face == Face::Peers;
        let stop = if of_peers { peer_acceptors.clone() } else { acceptors.clone() };
        let listener = listen::Listener {
            face,
            site: Site::Member(Arc::clone(&api)),
            raft: Some(raft.clone()),
            limits,
            permits: Arc::clone(&listeners_of[face as usize].0),
            meter: Arc::clone(&listeners_of[face as usize].1),
            crowd: Arc::clone(if face == Face::Clients { &crowd } else { &uncounted }),
            connections: connections.clone(),
            stop,
            socket: listener,
            tls,
        };
        if of_peers {
            tokio::spawn(listener.serve());
            continue;
        }
        let begin = if face == Face::Clients { Some(starting.clients.clone()) } else { None };
        connections.spawn(async move {
            let stop = listener.stop.clone();
            if let Some(clients) = begin {
                stop.run_until_cancelled(clients.cancelled()).await;
            }
            listener.serve().await;
        });
    }
    let end = tokio::select! {
        failure = raft.failed() => End::Failed(ServerError::Failed(failure)),
        result = live(&replica, starting, &config.data_dir) => match result {
            Ok(never) => match never {},
            Err(error) => End::Failed(error),
        },
        () = raft.removed() => End::Removed,
        () = stop.cancelled() => End::Stopped,
    };
    starting.manager.stopping(end.why()).await;
    api.drain();
    match &end {
        End::Failed(failure) => {
            error!(target: "etcdserver", code = codes::MEMBER_FAILED, "{failure}")
        }
        // A leader hands over while it still answers all clients.
        End::Stopped => raft.hand_over().await,
        End::Removed => {
            error!(target: "etcdserver", code = codes::REMOVED, "the member has been permanently removed from the cluster");
            error!(
                target: "etcdserver",
                code = codes::REMOVED,
                "the data-dir used by this member must be removed. To let it join again, empty {}, add it with `etcdctl \
                 member add` and start it with --initial-cluster-state=existing",
                config.data_dir.display(),
            );
            replica.leave().await;
        }
    }
    acceptors.cancel();
    replica.hub().close();
    connections.close();
    if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        warn!(target: "etcdmain", code = codes::CLIENTS_CUT_OFF, "some clients did not finish in time and are cut off");
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
    starting: &Starting,
    data_dir: &std::path::Path,
) -> Result<std::convert::Infallible, ServerError> {
    let facts = &starting.facts;
    let introduced = async {
        replica.introduce(facts).await?;
        replica.catch_up().await
    };
    introduced.await.map_err(|why| ServerError::Failed(why.to_string()))?;
    replica.show();
    replica.until_voting().await;
    starting.clients.cancel();
    if facts.alone {
        warn!(target: "etcdserver", code = codes::ALONE, "this member goes on alone: leave --force-new-cluster out from now on");
    }
    let member = replica.member();
    info!(
        target: "etcdserver",
        "published {{Name:{} ClientURLs:[{}]}} to cluster {}",
        member.name,
        facts.client_urls.join(" "),
        member.cluster,
    );
    info!(target: "embed", "ready to serve client requests (data in {})", data_dir.display());
    let leadership = *replica.raft().leadership().borrow();
    starting.manager.ready(&service::status_line(replica, leadership)).await;
    // Not before: a member that goes on alone must first have said so.
    replica.clone().reconcile().await;
    std::future::pending().await
}

async fn start_raft(
    config: &Config,
    data_dir: &DataDir,
    log_dir: &LogDir,
    identity: &MemberIdentity,
    metrics: &Arc<Metrics>,
    hub: &Arc<Hub>,
    sides: &Sides,
) -> Result<Raft, ServerError> {
    let transport = Transport::new(
        transport::LocalPeer {
            cluster: identity.cluster,
            member: identity.member,
            name: config.name.clone(),
            peer_urls: config.advertise_peer_urls.clone(),
        },
        Arc::new(PeerDial::new(Arc::clone(&sides.peers))),
        // A peer that is not there must not hold up an election, nor a write that could go to the next leader.
        config.election / 2,
        Arc::new(AddressBook::new(identity.peers.clone())),
    );
    let raft = raft::RaftOptions {
        member: identity.member,
        cluster: identity.cluster,
        alone: config.force_new_cluster,
        heartbeat: config.heartbeat,
        election: config.election,
        history: HistoryLimits {
            events_max: config.history_events,
            bytes_max: config.history_bytes,
        },
        checkpoint_wal_bytes: config.checkpoint_wal_bytes,
        checkpoint_cache_bytes: config.checkpoint_cache_bytes,
        files: Arc::new(RealFiles),
        wal_dir: log_dir.path().to_owned(),
        wal: WalOptions { sync: config.sync, ..WalOptions::default() },
        checkpoint: data_dir.checkpoint(),
        transport: Arc::new(transport),
        inflight_bytes_max: config.inflight_bytes_max,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        wal_observer: Arc::new(observe::Disk::new(Arc::clone(metrics))),
        meter: Arc::clone(metrics) as Arc<dyn raft::Meter>,
    };
    let raft = Raft::start(raft, Arc::clone(hub) as Arc<dyn raft::Observer>).await?;
    log_dir.begun(&RealFiles, data_dir)?;
    Ok(raft)
}

/// The keys for signed tokens, if tokens are signed.
fn jwt(flags: &TokenFlags) -> Result<Option<Jwt>, TlsError> {
    let TokenFlags::Jwt(flags) = flags else { return Ok(None) };
    let signs = Arc::new(Signing::load(flags)?);
    let checks = Arc::clone(&signs);
    Ok(Some(Jwt {
        method: flags.method.name(),
        ttl: flags.ttl,
        sign: Box::new(move |text| signs.sign(text)),
        is_signed: Box::new(move |text, signature| checks.is_signed(text, signature)),
    }))
}

fn api_settings(
    config: &Config,
    data_dir: &DataDir,
    jwt: Option<Jwt>,
    log: LogHandle,
) -> api::Settings {
    let checkpoint = data_dir.checkpoint();
    api::Settings {
        jwt,
        bcrypt_cost: config.bcrypt_cost,
        gateway: config.gateway,
        body_bytes_max: config.body_bytes_max,
        request_bytes_max: config.request_bytes_max,
        watch_progress_interval: config.watch_progress_interval,
        token_ttl_s: config.token_ttl_s,
        txn_ops_max: config.txn_ops_max,
        path: PathLimits { bytes_max: config.key_bytes_max, depth_max: config.key_depth_max },
        cors: config.cors.clone().map_or(Cors::Any, Cors::Only),
        hosts: config.hosts.clone(),
        certificates: config.client_tls.demands_certificate
            && config.client_listeners.iter().all(|listener| listener.tls),
        strict_reconfig: config.strict_reconfig_check,
        closed_guest: config.auth_closed_guest,
        pprof: config.pprof,
        checkpoint_bytes: Box::new(move || observe::bytes(&checkpoint)),
        set_log_level: Box::new(move |text| log.set(text)),
    }
}
