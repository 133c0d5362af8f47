//! What every handler holds.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Semaphore;

use crate::api::access::Passwords;
use crate::api::backup::BACKUPS_MAX;
use crate::api::cors::Cors;
use crate::api::error;
use crate::api::metrics::Metrics;
use crate::api::v3::{Jwt, KeptTokens, Methods};
use crate::model::PathLimits;
use crate::replica::Replica;

/// What the API is told when it is made.
pub struct Settings {
    /// Bytes of a form.
    pub body_bytes_max: usize,
    /// Bytes of a request of version 3.
    pub request_bytes_max: usize,
    /// Watches of version 3 that wish so hear after so long that there is nothing to tell.
    pub watch_progress_interval: Duration,
    /// Tokens of version 3 are signed; `None` for those that are kept.
    pub jwt: Option<Jwt>,
    /// How many seconds a token that is kept lives after its last use.
    pub token_ttl_s: u64,
    /// How much work the hash of a new password of version 3 is, as bcrypt counts it.
    pub bcrypt_cost: u32,
    /// Serve version 3 as JSON too.
    pub gateway: bool,
    /// Operations in a transaction of version 3.
    pub txn_ops_max: usize,
    /// Size of a key.
    pub path: PathLimits,
    /// Who may ask from a browser.
    pub cors: Cors,
    /// Host names that plain-HTTP requests may name; `None` for any.
    pub hosts: Option<Vec<String>>,
    /// All clients have shown a certificate.
    pub certificates: bool,
    /// Refuse membership changes that would endanger the majority.
    pub strict_reconfig: bool,
    /// Guests get no rights when authentication is enabled for the first time.
    pub closed_guest: bool,
    /// Serve `/debug/pprof/`.
    pub pprof: bool,
    /// Size of the checkpoint's file.
    pub checkpoint_bytes: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    /// Changes the level of the log; `false` when it does not know the level.
    pub set_log_level: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The member that is served, and how.
pub(super) struct Context {
    pub(super) replica: Replica,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cluster_header: HeaderValue,
    pub(super) settings: Settings,
    /// Large listings are rendered by so many threads at a time.
    pub(super) renderers: Arc<Semaphore>,
    /// So many backups are sent at a time.
    pub(super) backups: Arc<Semaphore>,
    pub(super) passwords: Arc<Passwords>,
    /// The calls of version 3.
    pub(super) methods: Methods,
    /// Tokens whose use is on its way through the log.
    pub(super) kept_tokens: KeptTokens,
    /// The member stops, and takes no new connections.
    pub(super) draining: AtomicBool,
}

impl Context {
    pub(super) fn new(replica: Replica, metrics: Arc<Metrics>, settings: Settings) -> Arc<Self> {
        let cluster_header = error::cluster_header(replica.member().cluster);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let renderers = Arc::new(Semaphore::new(processors));
        let backups = Arc::new(Semaphore::new(BACKUPS_MAX));
        let passwords = Passwords::new();
        let methods = Methods::new(&metrics);
        Arc::new(Self {
            replica,
            metrics,
            cluster_header,
            settings,
            renderers,
            backups,
            passwords,
            methods,
            kept_tokens: KeptTokens::default(),
            draining: AtomicBool::new(false),
        })
    }
}
