//! A proxy instead of a member: where the members are, and the listeners.
//!
//! The peer URLs that are asked for the list of members come from the flags at first; once members are known, theirs are kept in
//! `DATA-DIR/proxy/cluster`, in etcd's form, and a later start begins with those.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{Config, ProxyFlags, TlsFlags};
use crate::discovery::{self, RetryPolicy};
use crate::disk::{DataDir, RealFiles};
use crate::model::codes;
use crate::proxy::{Proxy, Settings};
use crate::server::crowd::Crowd;
use crate::server::listen::{self, Face, Limits, Site};
use crate::server::listeners::Listeners;
use crate::server::service::{self, Manager};
use crate::server::sides::Sides;
use crate::server::telemetry::LogHandle;
use crate::server::{BootstrapError, DRAIN_MAX, Reread, ServerError, descriptors, peer_http};
use crate::tls::{self, Tls, Trust};

/// While no member is known the list is read again after so long.
const FIRST_REFRESH: Duration = Duration::from_secs(1);

/// What is kept between starts.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Kept {
    #[serde(rename = "PeerURLs")]
    peer_urls: Vec<String>,
}

/// Where it is kept.
struct State {
    /// None where the directory holds something else: then nothing is kept.
    file: Option<PathBuf>,
}

impl State {
    /// # Errors
    /// When the directory belongs to a member.
    fn open(data_dir: &Path) -> Result<Self, ServerError> {
        let has_member = data_dir.join("member").exists() || DataDir::has_member(data_dir);
        if has_member {
            let dir = data_dir.display();
            return Err(ServerError::Failed(format!(
                "{dir} holds the data of a member, and --proxy is given: leave --proxy out to run that member, or choose another \
                 --data-dir for the proxy"
            )));
        }
        let dir = data_dir.join("proxy");
        crate::disk::Files::create_dir(&RealFiles, &dir).map_err(|error| {
            let dir = dir.display();
            ServerError::Failed(format!("cannot access data directory: create {dir}: {error}"))
        })?;
        Ok(Self { file: Some(dir.join("cluster")) })
    }

    fn read(&self) -> Option<Vec<String>> {
        let file = self.file.as_ref()?;
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(target: "proxy", code = codes::LIST_UNKEPT, "cannot read {}: {error}; the flags are used", file.display());
                return None;
            }
        };
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if !kept.peer_urls.is_empty() => {
                info!(target: "proxy", "using peer urls {:?} from cluster file {:?}", kept.peer_urls, file.display());
                Some(kept.peer_urls)
            }
            Ok(_) => None,
            Err(error) => {
                warn!(
                    target: "proxy",
                    code = codes::LIST_UNKEPT,
                    "{} is damaged ({error}): the flags are used, and it is written anew",
                    file.display()
                );
                None
            }
        }
    }

    /// The old list or the new one survives a crash.
    fn write(&self, peer_urls: &[String]) {
        let Some(file) = &self.file else { return };
        let kept = Kept { peer_urls: peer_urls.to_vec() };
        let text = serde_json::to_vec(&kept).unwrap_or_default();
        let aside = file.with_extension("bak");
        let written = fs::write(&aside, text)
            .and_then(|()| fs::File::open(&aside)?.sync_all())
            .and_then(|()| fs::rename(&aside, file));
        if let Err(error) = written {
            warn!(target: "proxy", code = codes::LIST_UNKEPT, "cannot write {}: {error}; a later start uses the flags", file.display());
        }
    }
}

/// What a proxy is started with.
pub(super) struct Means {
    pub(super) listeners: Listeners,
    pub(super) sides: Sides,
    pub(super) log: LogHandle,
    pub(super) manager: Manager,
    pub(super) reread: mpsc::Receiver<Reread>,
}

/// Runs a proxy until `stop` is cancelled.
///
/// # Errors
/// When a certificate or the data directory cannot be used; the texts name the fix.
pub(super) async fn run(
    config: &Config,
    flags: ProxyFlags,
    means: Means,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let Means { listeners, sides, log, manager, reread } = means;
    info!(target: "proxy", "this proxy supports v2 API only!");
    let state = if config.proxy.is_some() {
        State::open(&config.data_dir)?
    } else {
        // One that wanted to be a member begins with its data directory again.
        State { file: None }
    };
    let kept = state.read();
    let peer_urls = match kept {
        Some(urls) => urls,
        None => tokio::select! {
            urls = told(config) => urls?,
            () = stop.cancelled() => return Ok(()),
        },
    };
    let towards_members = towards_members(config, &sides)?;
    let mut followed = sides.all();
    if !followed.iter().any(|side| Arc::ptr_eq(side, &towards_members)) {
        followed.push(Arc::clone(&towards_members));
    }
    let proxy = Proxy::new(settings(config, flags), towards_members);
    let chores = CancellationToken::new();
    let left_out = log.clone().tell_what_was_left_out();
    tokio::spawn(chores.clone().run_until_cancelled_owned(left_out));
    let followed = tls::watch(followed, reread);
    tokio::spawn(chores.clone().run_until_cancelled_owned(followed));
    let list = List { state, peer_urls, tls: Arc::clone(&sides.peers), proxy: Arc::clone(&proxy) };
    let refresh = list.follow(flags.refresh_interval);
    tokio::spawn(chores.clone().run_until_cancelled_owned(refresh));
    tokio::spawn(chores.clone().run_until_cancelled_owned(service::keep_alive(manager.clone())));
    serve(config, listeners, &proxy, &manager, stop).await;
    chores.cancel();
    Ok(())
}

/// As etcd: what is shown to clients is shown to members too; without it, what is shown to peers. It is the very same, so that files
/// that change count on both sides at once.
fn towards_members(config: &Config, sides: &Sides) -> Result<Arc<Tls>, ServerError> {
    let known = [(&config.client_tls, &sides.clients), (&config.peer_tls, &sides.peers)];
    let given = known.iter().find(|(flags, _)| flags.cert.is_some() || flags.trusted_ca.is_some());
    let (flags, tls) = given.unwrap_or(&known[0]);
    if flags.auto.is_none() {
        return Ok(Arc::clone(tls));
    }
    // A certificate that this proxy has made for itself says nothing to members, nor does it say whom to trust.
    let flags = TlsFlags { auto: None, ..(*flags).clone() };
    Ok(Arc::new(Tls::load(flags, Trust::Configured, &[])?))
}

fn settings(config: &Config, flags: ProxyFlags) -> Settings {
    Settings {
        readonly: flags.readonly,
        failure_wait: flags.failure_wait,
        dial_timeout: flags.dial_timeout,
        write_timeout: flags.write_timeout,
        read_timeout: flags.read_timeout,
        body_bytes_max: config.body_bytes_max,
        inflight_bytes_max: config.inflight_bytes_max,
    }
}

/// The peer URLs that the flags lead to.
async fn told(config: &Config) -> Result<Vec<String>, ServerError> {
    let Some(discovery) = &config.discovery else {
        return Ok(config.initial_cluster.iter().flat_map(|(_, urls)| urls.clone()).collect());
    };
    let tls = Tls::load(config.peer_tls.clone(), Trust::ConfiguredOrPublic, &[])?;
    let tls = Arc::new(tls);
    loop {
        let found = discovery::peers(discovery, RetryPolicy::default(), Arc::clone(&tls)).await;
        let found = found.map_err(|error| BootstrapError::from(Box::new(error)))?;
        if !found.is_empty() {
            return Ok(found);
        }
        tokio::time::sleep(FIRST_REFRESH).await;
    }
}

/// The list of members, which follows that of the cluster.
struct List {
    state: State,
    peer_urls: Vec<String>,
    tls: Arc<Tls>,
    proxy: Arc<Proxy>,
}

impl List {
    async fn follow(mut self, interval: Duration) {
        info!(target: "proxy", "using peer urls {:?}", self.peer_urls);
        let mut shown = Vec::new();
        loop {
            self.read().await;
            let mut now = self.proxy.client_urls();
            now.sort();
            if now != shown {
                info!(target: "proxy", "endpoints found {now:?}");
                shown.clone_from(&now);
            }
            let pause = if now.is_empty() { FIRST_REFRESH.min(interval) } else { interval };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks the peers one after the other, until one of them knows members that clients can reach.
    async fn read(&mut self) {
        let mut failures = Vec::new();
        for url in &self.peer_urls {
            let there = match peer_http::cluster(url, &self.tls).await {
                Ok(there) => there,
                Err(error) => {
                    failures.push(format!("{url}: {error}"));
                    continue;
                }
            };
            let client_urls: Vec<_> =
                there.members.iter().flat_map(|member| member.client_urls.clone()).collect();
            if client_urls.is_empty() {
                failures.push(format!("{url}: it knows no member with client URLs yet"));
                continue;
            }
            self.proxy.set_client_urls(&client_urls);
            let peer_urls: Vec<_> =
                there.members.iter().flat_map(|member| member.peer_urls.clone()).collect();
            if peer_urls != self.peer_urls {
                self.state.write(&peer_urls);
                self.peer_urls = peer_urls;
            }
            return;
        }
        warn!(
            target: "proxy",
            code = codes::LIST_UNREAD,
            "could not retrieve cluster information from the given urls ({}); trying again",
            failures.join("; ")
        );
    }
}

async fn serve(
    config: &Config,
    listeners: Listeners,
    proxy: &Arc<Proxy>,
    manager: &Manager,
    stop: CancellationToken,
) {
    let shares = descriptors::share(descriptors::limit());
    // A client that waits takes a connection to a member as well.
    let clients = config.connections_max.min(shares.clients / 2).clamp(1, Semaphore::MAX_PERMITS);
    let of_face = |face: Face, most: usize| {
        (Arc::new(Semaphore::new(most)), proxy.metrics().connections(face.name(), most))
    };
    let clients = of_face(Face::Clients, clients);
    let metrics = of_face(Face::Metrics, shares.metrics);
    let (crowd, uncounted) = (Crowd::new(config.connections_per_ip_max), Crowd::new(0));
    let limits = Limits::of(config);
    let (connections, acceptors) = (TaskTracker::new(), CancellationToken::new());
    for (socket, face, tls) in listeners.all {
        let of_clients = face == Face::Clients;
        if of_clients && let Ok(address) = socket.address() {
            let scheme = if tls.is_some() { "https" } else { "http" };
            info!(target: "proxy", "v2 proxy started listening on client requests on \"{scheme}://{address}\"");
        }
        let listener = listen::Listener {
            face,
            site: Site::Proxy(Arc::clone(proxy)),
            raft: None,
            limits,
            permits: Arc::clone(if of_clients { &clients.0 } else { &metrics.0 }),
            meter: Arc::clone(if of_clients { &clients.1 } else { &metrics.1 }),
            crowd: Arc::clone(if of_clients { &crowd } else { &uncounted }),
            connections: connections.clone(),
            stop: acceptors.clone(),
            socket,
            tls,
        };
        connections.spawn(listener.serve());
    }
    manager.ready("proxy").await;
    stop.cancelled().await;
    manager.stopping("told to stop").await;
    acceptors.cancel();
    connections.close();
    // Watches go on until something happens at a member: this is how long they are waited for.
    if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        warn!(target: "etcdmain", code = codes::CLIENTS_CUT_OFF, "some clients did not finish in time and are cut off");
    }
}
