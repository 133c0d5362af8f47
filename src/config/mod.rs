//! What a member is told: command line, variables, file.
//!
//! Two steps: `Raw` is what was said, [`Config`] is what is true; only [`Config`] leaves this module.
//!
//! A file says everything or nothing: with `--config-file` (or its variable) all other flags and variables are not even
//! looked at. Without it a flag wins over `CAIRN_NAME`, that over `ETCD_NAME`, that over the default.
//!
//! Never knows: the real environment, the file system, the network. It is given pairs and a function that reads; no
//! host name is resolved, and no address of this machine is guessed: a member that listens on 0.0.0.0 is told what to advertise.

mod cluster;
mod discovery;
mod duration;
mod file;
pub mod flags;
mod help;
mod listen;
mod log;
mod parse;
pub mod print;
mod tls;
mod tokens;
mod validate;
mod variables;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Retention;

pub use listen::{Address, ListenUrl};
use parse::{Asked, Raw};
pub use tls::{Side, TlsFlags, TlsVersion};
pub use tokens::{JwtFlags, JwtMethod, TokenFlags};
use variables::Variables;

use crate::model::{Discovery, ETCD_VERSION, Url};

/// What a request can hold, however the limits are set.
pub const REQUEST_BYTES_MAX: u64 = validate::REQUEST_BYTES_MAX;

/// Everything that a member is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the member is called.
    pub name: String,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Where its log is, when that is not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// The founding members and their peer URLs, by name; this one is among them. With `discovery` it stands alone.
    /// Empty when the data directory holds a member: the list was for its first start.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// Where the other founders are found, if they are not listed.
    pub discovery: Option<Discovery>,
    /// Part of the ids; with `--discovery`, its URL.
    pub initial_cluster_token: String,
    /// The cluster is there already, and this member joins it.
    pub join: bool,
    /// Go on alone with the data of a member whose cluster lost its majority.
    pub force_new_cluster: bool,
    /// Be a proxy instead of a member.
    pub proxy: Option<ProxyFlags>,
    /// What to be when the discovered cluster is full; an error when there is nothing.
    pub proxy_when_full: Option<ProxyFlags>,
    /// Where clients connect.
    pub client_listeners: Vec<ListenUrl>,
    /// Where peers connect.
    pub peer_listeners: Vec<ListenUrl>,
    /// Where `/metrics`, `/health`, `/livez` and `/readyz` are served besides.
    pub metrics_listeners: Vec<ListenUrl>,
    /// TLS towards clients, and on the metrics listeners.
    pub client_tls: TlsFlags,
    /// TLS among members.
    pub peer_tls: TlsFlags,
    /// Where peers are told to connect.
    pub advertise_peer_urls: Vec<String>,
    /// Where clients are told to connect.
    pub advertise_client_urls: Vec<String>,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Patience of followers; at least five heartbeats.
    pub election: Duration,
    /// Refuse membership changes that would endanger the majority.
    pub strict_reconfig_check: bool,
    /// Origins that browsers may ask from; `None` for all.
    pub cors: Option<Vec<String>>,
    /// Host names that requests may name; `None` for all.
    pub hosts: Option<Vec<String>>,
    /// Form of the log's lines.
    pub log_format: LogFormat,
    /// Where they go.
    pub log_outputs: Vec<LogOutput>,
    /// Which of them.
    pub log_level: LogLevel,
    /// The same for single packages; `*` is all of them, and the last word counts.
    pub log_package_levels: Vec<(String, LogLevel)>,
    /// All this comes from a configuration file, which can be read again.
    pub from_file: bool,
    /// More histograms in `/metrics`.
    pub metrics_extensive: bool,
    /// Serve `/debug/pprof/`.
    pub pprof: bool,
    /// Really sync the log.
    pub sync: bool,
    /// Events kept for `waitIndex`.
    pub history_events: usize,
    /// Bytes of them.
    pub history_bytes: usize,
    /// Log bytes between two checkpoints.
    pub checkpoint_wal_bytes: u64,
    /// Bytes of the checkpoint's file in memory, at most.
    pub checkpoint_cache_bytes: usize,
    /// What the key space may weigh, in bytes.
    pub quota_bytes: u64,
    /// Bytes of the file that holds space on the disk; zero for none.
    pub reserve_bytes: u64,
    /// Bytes of a form.
    pub body_bytes_max: usize,
    /// Bytes of requests under way.
    pub inflight_bytes_max: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Between two requests on a connection.
    pub idle_timeout: Duration,
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections of clients from one address at a time; zero for no limit.
    pub connections_per_ip_max: usize,
    /// Requests beside each other on a connection that speaks HTTP/2.
    pub streams_max: u32,
    /// Such a connection on which nothing comes for so long is asked whether it is there; `None` for never.
    pub ping_interval: Option<Duration>,
    /// And has so long to answer.
    pub ping_timeout: Duration,
    /// Operations in a version 3 transaction.
    pub txn_ops_max: usize,
    /// Bytes of a version 3 request.
    pub request_bytes_max: usize,
    /// Waiting watches at a time; as many of version 2 as of version 3.
    pub watchers_max: usize,
    /// Watches of version 3 that wish so hear after so long that there is nothing to tell.
    pub watch_progress_interval: Duration,
    /// What tokens of version 3 are.
    pub tokens: TokenFlags,
    /// How many seconds a simple token of version 3 lives after its last use.
    pub token_ttl_s: u64,
    /// How much work the hash of a new password is, as bcrypt counts it.
    pub bcrypt_cost: u32,
    /// Serve version 3 as JSON too.
    pub gateway: bool,
    /// How much of the past of version 3 keys is kept.
    pub retention: Retention,
    /// Bytes of superseded values of version 3 keys that are kept; `None` for all.
    pub past_bytes_max: Option<u64>,
    /// Guests have no rights when authentication is enabled here for the first time.
    pub auth_closed_guest: bool,
    /// Bytes of a key.
    pub key_bytes_max: usize,
    /// Components of a key.
    pub key_depth_max: usize,
}

/// How a proxy works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyFlags {
    /// Only reads are passed on.
    pub readonly: bool,
    /// A member that failed is left alone for so long.
    pub failure_wait: Duration,
    /// Between two readings of the list of members.
    pub refresh_interval: Duration,
    /// For a connection to a member.
    pub dial_timeout: Duration,
    /// For a request to be sent.
    pub write_timeout: Duration,
    /// For an answer, and between two pieces of it; `None` for no limit.
    pub read_timeout: Option<Duration>,
}

/// Form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// etcd's lines.
    Capnslog,
    /// etcd's JSON.
    Zap,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// The journal where that takes standard error, else standard error.
    Default,
    /// The journal of systemd.
    Journal,
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(String),
}

/// Which lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happens.
    Info,
    /// And how; not in release builds.
    Debug,
}

/// A line for the log, once there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How grave it is.
    pub level: Level,
    /// The line.
    pub text: String,
}

/// How grave a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the record.
    Info,
    /// The operator should look at it.
    Warning,
}

/// What the words of the operator come to.
#[derive(Debug)]
pub enum Outcome {
    /// Run a member, and log these lines first.
    Run(Box<Config>, Vec<Notice>),
    /// Print this and exit with 0.
    Print(String),
    /// Print this on standard error and exit with the code.
    Fail(Failure),
}

/// Why a member does not even start.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// 2 for words that are no flags or values, 1 for everything else, as in etcd.
    pub code: u8,
    /// What is wrong and what to do.
    pub text: String,
}

impl Failure {
    fn new(code: u8, text: String) -> Self {
        Self { code, text }
    }

    fn verifying(why: String) -> Self {
        Self::new(1, format!("error verifying flags, {why}. See 'cairn --help'."))
    }

    /// The one place that knows what members do not speak with each other.
    fn not_spoken(flag: &str, url: &Url) -> Self {
        Self::verifying(format!(
            "not supported: --{flag}: {url}: other members cannot reach a socket in a file of this machine; use a http:// or \
             https:// URL"
        ))
    }
}

/// Reads everything. `read` fetches the file of `--config-file`; `is_member` tells whether a data directory holds a member:
/// then what is said of the beginning is not looked at.
pub fn load(
    arguments: impl IntoIterator<Item = String>,
    variables: impl IntoIterator<Item = (String, String)>,
    read: impl FnOnce(&str) -> io::Result<String>,
    is_member: impl FnOnce(&Path) -> bool,
) -> Outcome {
    match understand(arguments, variables, read, is_member) {
        Ok(Understood::Print(text)) => Outcome::Print(text),
        Ok(Understood::Run { config, notices, .. }) => Outcome::Run(config, notices),
        Err(failure) => Outcome::Fail(failure),
    }
}

/// Reads everything as [`load`] does, and says with what each flag would run.
///
/// # Errors
/// As [`Outcome::Fail`]; also where the words ask for the help or the version.
pub fn settings(
    arguments: impl IntoIterator<Item = String>,
    variables: impl IntoIterator<Item = (String, String)>,
    read: impl FnOnce(&str) -> io::Result<String>,
    is_member: impl FnOnce(&Path) -> bool,
) -> Result<Vec<print::Setting>, Failure> {
    match understand(arguments, variables, read, is_member)? {
        Understood::Print(_) => {
            Err(Failure::new(2, "--help and --version are no settings: leave them out".to_owned()))
        }
        Understood::Run { config, raw, .. } => Ok(print::settings(&raw, &config)),
    }
}

/// What the words of the operator come to, with the words.
enum Understood {
    Print(String),
    Run { config: Box<Config>, raw: Raw, notices: Vec<Notice> },
}

fn understand(
    arguments: impl IntoIterator<Item = String>,
    variables: impl IntoIterator<Item = (String, String)>,
    read: impl FnOnce(&str) -> io::Result<String>,
    is_member: impl FnOnce(&Path) -> bool,
) -> Result<Understood, Failure> {
    let (mut raw, mut notices) = (Raw::default(), Vec::new());
    if let Asked::Help = parse::arguments(arguments, &mut raw, &mut notices)? {
        return Ok(Understood::Print(help::text()));
    }
    if raw.bool("version") {
        return Ok(Understood::Print(version()));
    }
    let variables = Variables::new(variables);
    let path = raw.said("config-file").map(str::to_owned).or_else(|| variables.config_file());
    let path = path.filter(|path| !path.is_empty());
    let from_file = path.is_some();
    if let Some(path) = path {
        let text = format!(
            "Loading server configuration from \"{path}\". Other configuration command line flags and environment \
             variables will be ignored if provided."
        );
        notices.push(Notice { level: Level::Info, text });
        let contents = read(&path).map_err(|error| file::failure(&path, &error.to_string()))?;
        raw = file::parse(&path, &contents)?;
    } else {
        variables.apply(&mut raw, &mut notices)?;
    }
    let mut config = validate::validate(&raw, is_member, &mut notices)?;
    config.from_file = from_file;
    Ok(Understood::Run { config: Box::new(config), raw, notices })
}

/// URLs as they are kept and compared.
fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// Tools read the first line.
fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\ncairn Version: {}\nGo OS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH },
    )
}
