//! [`Raw`] → [`Config`]: each rule names the flag and the fix.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::cluster;
use crate::config::discovery;
use crate::config::duration;
use crate::config::flags::{self, Status};
use crate::config::listen::Listeners;
use crate::config::log;
use crate::config::parse::{Raw, parse_number, same};
use crate::config::tls::{self, Side};
use crate::config::tokens;
use crate::config::{Config, Failure, Level, ListenUrl, Notice, ProxyFlags, texts};
use crate::model::{Retention, Url};

/// Longest election that etcd takes.
const ELECTION_MS_MAX: u64 = 50_000;
/// An entry of the log holds a form and a request's line at the most, and must fit into one message between members.
const BODY_BYTES_MAX: u64 = 32 << 20;
/// As above.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// What a request can hold, however the limits are set.
pub(super) const REQUEST_BYTES_MAX: u64 = BODY_BYTES_MAX + HEADER_BYTES_MAX;
/// hyper wants this much for a head.
const HEADER_BYTES_MIN: u64 = 8192;
/// Deeper trees would need more stack than threads have.
const KEY_DEPTH_MAX: u64 = 1000;
/// How long a token of version 3 lives where nothing is said.
const TOKEN_TTL_S: u64 = 300;
/// A hundred years.
const TOKEN_TTL_S_MAX: u64 = 100 * 365 * 24 * 3600;
/// What bcrypt knows. The largest takes a processor for days.
const BCRYPT_COST_MIN: u64 = 4;
const BCRYPT_COST_MAX: u64 = 31;
/// Of things that each take memory; a member has nowhere near so much.
const COUNT_MAX: u64 = 1 << 32;
/// A batch of the log has a length of 32 bits.
const INFLIGHT_BYTES_MAX: u64 = 1 << 31;
/// Calls beside each other on a connection: each takes memory.
const STREAMS_MAX: u32 = 1 << 16;
/// A transaction is checked and applied as one.
const TXN_OPS_MAX: u64 = 1 << 16;
/// 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
/// A smaller key space would be full at the first value.
const QUOTA_BYTES_MIN: u64 = 1 << 10;
/// A hundred years.
const HOURS_MAX: u64 = 100 * 365 * 24;
/// Notes are taken ten times in it.
const RETENTION_MIN: Duration = Duration::from_secs(1);
/// A week: deadlines are sums of clock and time-out.
const WAIT_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

pub(super) fn validate(
    raw: &Raw,
    is_member: impl FnOnce(&Path) -> bool,
    notices: &mut Vec<Notice>,
) -> Result<Config, Failure> {
    one_bootstrap(raw)?;
    note_what_is_ignored(raw, notices);
    let (log_format, log_level) = (log::format(raw)?, log::level(raw)?);
    let log_package_levels = log::package_levels(raw)?;
    let peer_listeners = some(listeners(raw, "listen-peer-urls")?, "listen-peer-urls")?;
    let mut client_listeners = some(listeners(raw, "listen-client-urls")?, "listen-client-urls")?;
    let http_listeners = listeners(raw, "listen-client-http-urls")?;
    let metrics_listeners = listeners(raw, "listen-metrics-urls")?;
    let mut all = Listeners::default();
    all.add("listen-peer-urls", &peer_listeners)?;
    all.add("listen-client-urls", &client_listeners)?;
    all.add("listen-client-http-urls", &http_listeners)?;
    all.add("listen-metrics-urls", &metrics_listeners)?;
    client_listeners.extend(http_listeners);
    let advertise_peer_urls = advertised(raw, "initial-advertise-peer-urls")?;
    let client_urls = advertised(raw, "advertise-client-urls")?;
    let (heartbeat, election) = timing(raw)?;
    let (is_proxy, proxy_flags) = (raw.get("proxy") != "off", proxy(raw)?);
    let advertised = raw.said("advertise-client-urls").is_some();
    if raw.said("listen-client-urls").is_some() && !advertised && !is_proxy {
        // The second line stands by itself: etcd logs two.
        let mut failure = Failure::verifying(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .to_owned(),
        );
        failure.text.push_str(
            "\nWhen listening on specific address(es), this etcd process must advertise accessible url(s) to each connected \
             client.",
        );
        return Err(failure);
    }
    warn_of_unreachable(raw, &peer_listeners, &advertise_peer_urls, notices);
    let name = name(raw)?;
    let discovery = discovery::discovery(raw, notices)?;
    let data_dir = match raw.get("data-dir") {
        "" => {
            let data_dir = format!("{name}.cairn");
            let text = format!("no data-dir provided, using default data-dir ./{data_dir}");
            notices.push(Notice { level: Level::Warning, text });
            PathBuf::from(data_dir)
        }
        said => PathBuf::from(said),
    };
    tls::note_old_versions(raw, notices);
    let client_tls = tls::of_side(raw, Side::Clients, &data_dir)?;
    let peer_tls = tls::of_side(raw, Side::Peers, &data_dir)?;
    let clients = [client_listeners.as_slice(), &metrics_listeners].concat();
    tls::fits(&client_tls, &clients, &client_urls, notices)?;
    tls::fits(&peer_tls, &peer_listeners, &advertise_peer_urls, notices)?;
    let initial_cluster = match discovery {
        None if is_proxy => cluster::of_proxy(raw, &name, &advertise_peer_urls)?,
        _ if is_member(&data_dir) => Vec::new(),
        None => cluster::initial_cluster(raw, &name, &advertise_peer_urls)?,
        Some(_) => vec![(name.clone(), texts(&advertise_peer_urls))],
    };
    Ok(Config {
        name,
        data_dir,
        wal_dir: Some(raw.get("wal-dir")).filter(|said| !said.is_empty()).map(PathBuf::from),
        initial_cluster,
        initial_cluster_token: discovery::token(raw, discovery.as_ref()),
        discovery,
        join: raw.get("initial-cluster-state") == "existing",
        proxy: Some(proxy_flags).filter(|_| is_proxy),
        proxy_when_full: Some(proxy_flags).filter(|_| raw.get("discovery-fallback") == "proxy"),
        force_new_cluster: raw.bool("force-new-cluster"),
        client_listeners,
        peer_listeners,
        metrics_listeners,
        advertise_peer_urls: texts(&advertise_peer_urls),
        advertise_client_urls: texts(&client_urls),
        client_tls,
        peer_tls,
        heartbeat,
        election,
        strict_reconfig_check: raw.bool("strict-reconfig-check"),
        cors: list_or_all(raw.get("cors")),
        hosts: list_or_all(raw.get("host-whitelist")),
        log_format,
        log_outputs: log::outputs(raw),
        log_level,
        log_package_levels,
        from_file: false,
        metrics_extensive: raw.get("metrics") == "extensive",
        pprof: raw.bool("enable-pprof"),
        sync: !raw.bool("unsafe-no-fsync"),
        history_events: within(raw, "history-events", 1, COUNT_MAX)?,
        history_bytes: within(raw, "history-bytes", 1, BYTES_MAX)?,
        checkpoint_wal_bytes: within(raw, "checkpoint-wal-bytes", 1 << 20, BYTES_MAX)?,
        checkpoint_cache_bytes: within(raw, "checkpoint-cache-bytes", 1 << 20, BYTES_MAX)?,
        quota_bytes: quota_bytes(raw)?,
        reserve_bytes: within(raw, "reserve-bytes", 0, BYTES_MAX)?,
        body_bytes_max: within(raw, "max-body-bytes", 1, BODY_BYTES_MAX)?,
        inflight_bytes_max: inflight_bytes_max(raw)?,
        header_bytes_max: within(raw, "max-header-bytes", HEADER_BYTES_MIN, HEADER_BYTES_MAX)?,
        headers_max: within(raw, "max-headers", 1, 1 << 16)?,
        header_timeout: Duration::from_millis(within(raw, "header-timeout", 1, WAIT_MS_MAX)?),
        idle_timeout: Duration::from_millis(within(raw, "idle-timeout", 1, WAIT_MS_MAX)?),
        connections_max: within(raw, "max-connections", 1, COUNT_MAX)?,
        connections_per_ip_max: within(raw, "max-connections-per-ip", 0, COUNT_MAX)?,
        streams_max: streams_max(raw)?,
        ping_interval: Some(duration::of(raw, "grpc-keepalive-interval")?)
            .filter(|interval| !interval.is_zero()),
        ping_timeout: duration::of(raw, "grpc-keepalive-timeout")?,
        txn_ops_max: within(raw, "max-txn-ops", 1, TXN_OPS_MAX)?,
        request_bytes_max: within(raw, "max-request-bytes", 1, BODY_BYTES_MAX)?,
        watchers_max: within(raw, "max-watchers", 1, COUNT_MAX)?,
        watch_progress_interval: watch_progress_interval(raw)?,
        tokens: tokens::of(raw)?,
        token_ttl_s: token_ttl_s(raw)?,
        bcrypt_cost: within(raw, "bcrypt-cost", BCRYPT_COST_MIN, BCRYPT_COST_MAX)?,
        gateway: raw.bool("enable-grpc-gateway"),
        retention: retention(raw)?,
        past_bytes_max: Some(within(raw, "auto-compaction-bytes", 0, BYTES_MAX)?)
            .filter(|bytes| *bytes > 0),
        auth_closed_guest: raw.bool("auth-closed-guest"),
        key_bytes_max: within(raw, "max-key-bytes", 1, 1 << 30)?,
        key_depth_max: within(raw, "max-key-depth", 1, KEY_DEPTH_MAX)?,
    })
}

fn proxy(raw: &Raw) -> Result<ProxyFlags, Failure> {
    let wait = |flag, least| within(raw, flag, least, WAIT_MS_MAX).map(Duration::from_millis);
    let read_timeout = wait("proxy-read-timeout", 0)?;
    Ok(ProxyFlags {
        readonly: raw.get("proxy") == "readonly",
        failure_wait: wait("proxy-failure-wait", 0)?,
        refresh_interval: wait("proxy-refresh-interval", 1)?,
        dial_timeout: wait("proxy-dial-timeout", 1)?,
        write_timeout: wait("proxy-write-timeout", 1)?,
        read_timeout: Some(read_timeout).filter(|timeout| !timeout.is_zero()),
    })
}

/// One quota for both key spaces, under either name.
fn quota_bytes(raw: &Raw) -> Result<u64, Failure> {
    const OF_ETCD: &str = "quota-backend-bytes";
    let by_etcds_name = raw.said("quota-bytes").is_none() && number(raw, OF_ETCD) > 0;
    let flag = if by_etcds_name { OF_ETCD } else { "quota-bytes" };
    within(raw, flag, QUOTA_BYTES_MIN, BYTES_MAX)
}

/// At least one form of the largest size must fit, however little else is under way.
fn inflight_bytes_max(raw: &Raw) -> Result<usize, Failure> {
    let form: u64 = within(raw, "max-body-bytes", 1, BODY_BYTES_MAX)?;
    within(raw, "max-inflight-bytes", 2 * form, INFLIGHT_BYTES_MAX)
}

/// Zero stands for the default, as in etcd.
fn token_ttl_s(raw: &Raw) -> Result<u64, Failure> {
    Ok(match within(raw, "auth-token-ttl", 0, TOKEN_TTL_S_MAX)? {
        0 => TOKEN_TTL_S,
        said => said,
    })
}

/// More often it would be nothing but noise.
fn watch_progress_interval(raw: &Raw) -> Result<Duration, Failure> {
    const FLAG: &str = "experimental-watch-progress-notify-interval";
    const LEAST: Duration = Duration::from_millis(100);
    let interval = duration::of(raw, FLAG)?;
    if interval < LEAST {
        return Err(Failure::verifying(format!(
            "--{FLAG} must be 100ms or more (set to {interval:?})"
        )));
    }
    Ok(interval)
}

/// A number of revisions; or a time, where a number alone counts hours.
fn retention(raw: &Raw) -> Result<Retention, Failure> {
    const FLAG: &str = "auto-compaction-retention";
    let said = raw.get(FLAG);
    if let Ok(number) = said.parse::<u64>() {
        return match (number, raw.get("auto-compaction-mode")) {
            (0, _) => Ok(Retention::All),
            (revisions, "revision") => Ok(Retention::Revisions(revisions)),
            (hours, _) if hours <= HOURS_MAX => {
                Ok(Retention::Time(Duration::from_secs(hours * 3600)))
            }
            (hours, _) => Err(Failure::verifying(format!(
                "--{FLAG} {hours} is too long: {HOURS_MAX} hours are the most"
            ))),
        };
    }
    if raw.get("auto-compaction-mode") == "revision" {
        return Err(Failure::verifying(format!(
            "invalid value {said:?} for --{FLAG}: with --auto-compaction-mode=revision write a number of revisions"
        )));
    }
    match duration::of(raw, FLAG)? {
        Duration::ZERO => Ok(Retention::All),
        time if time < RETENTION_MIN => Err(Failure::verifying(format!(
            "--{FLAG} {said} is too short: {RETENTION_MIN:?} is the least"
        ))),
        time => Ok(Retention::Time(time)),
    }
}

/// The default is as many as there are numbers, as in etcd; no client has so many calls.
fn streams_max(raw: &Raw) -> Result<u32, Failure> {
    let said: u64 = within(raw, "max-concurrent-streams", 1, u64::from(u32::MAX))?;
    Ok(u32::try_from(said).unwrap_or(u32::MAX).min(STREAMS_MAX))
}

fn note_what_is_ignored(raw: &Raw, notices: &mut Vec<Notice>) {
    for flag in flags::all() {
        let Status::Ignored(why) = flag.status else { continue };
        if raw.said(flag.name).is_some_and(|said| !same(flag.kind, said, flag.default)) {
            let text = format!("--{} has no effect: {why}", flag.name);
            notices.push(Notice { level: Level::Warning, text });
        }
    }
}

fn one_bootstrap(raw: &Raw) -> Result<(), Failure> {
    let ways = ["initial-cluster", "discovery", "discovery-srv"];
    if ways.iter().filter(|way| raw.said(way).is_some_and(|said| !said.is_empty())).count() > 1 {
        return Err(Failure::verifying(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\" or \
             \"discovery-srv\""
                .to_owned(),
        ));
    }
    Ok(())
}

fn name(raw: &Raw) -> Result<String, Failure> {
    let name = raw.get("name");
    let separator =
        name.chars().find(|letter| matches!(letter, ',' | '=' | '/') || letter.is_control());
    if name.is_empty() || separator.is_some() {
        return Err(Failure::verifying(format!(
            "--name {name:?} cannot be a member's name: use letters, digits, dots, dashes and underscores"
        )));
    }
    Ok(name.to_owned())
}

fn timing(raw: &Raw) -> Result<(Duration, Duration), Failure> {
    let (heartbeat, election) =
        (number(raw, "heartbeat-interval"), number(raw, "election-timeout"));
    for (flag, ms) in [("heartbeat-interval", heartbeat), ("election-timeout", election)] {
        if ms == 0 {
            return Err(Failure::verifying(format!(
                "--{flag} must be >0 (set to 0ms): leave it out for its default"
            )));
        }
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(Failure::verifying(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]: raise the \
             first or lower the second"
        )));
    }
    if election > ELECTION_MS_MAX {
        return Err(Failure::verifying(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms: 1000 is the usual value"
        )));
    }
    Ok((Duration::from_millis(heartbeat), Duration::from_millis(election)))
}

fn urls(raw: &Raw, flag: &'static str) -> Result<Vec<Url>, Failure> {
    let text = raw.get(flag);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let urls = Url::parse_list(text).map_err(|error| {
        Failure::verifying(format!("invalid value {text:?} for --{flag}: {error}"))
    })?;
    let spoken = |url: &&Url| match url.scheme() {
        "http" | "https" => true,
        "unix" | "unixs" => flag != "initial-advertise-peer-urls",
        _ => false,
    };
    match urls.iter().find(|url| !spoken(url)) {
        Some(url) => Err(Failure::not_spoken(flag, url)),
        None => Ok(urls),
    }
}

fn some<T>(items: Vec<T>, flag: &str) -> Result<Vec<T>, Failure> {
    if items.is_empty() {
        let text = format!(
            "--{flag} must not be empty: name a URL, or leave the flag out for its default"
        );
        return Err(Failure::verifying(text));
    }
    Ok(items)
}

/// Addresses to listen on; one that stands twice counts once, as in etcd.
fn listeners(raw: &Raw, flag: &'static str) -> Result<Vec<ListenUrl>, Failure> {
    let (mut listeners, mut known) = (Vec::new(), BTreeSet::new());
    for url in urls(raw, flag)? {
        let listener = ListenUrl::of(&url).ok_or_else(|| {
            Failure::verifying(format!(
                "expected IP in URL for binding ({url}): write the address of this machine, 0.0.0.0 or localhost in --{flag}"
            ))
        })?;
        if known.insert(listener.clone()) {
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// URLs that others are told.
fn advertised(raw: &Raw, flag: &'static str) -> Result<Vec<Url>, Failure> {
    let urls = some(urls(raw, flag)?, flag)?;
    match urls.iter().find(|url| url.host().is_empty()) {
        Some(url) => Err(Failure::verifying(format!(
            "--{flag} \"{url}\" must be \"host:port\" (unexpected empty host ({url})): name the host under which others \
             reach this member"
        ))),
        None => Ok(urls),
    }
}

/// etcd would guess an address here. For the cluster of one member it does not matter yet, so it is no error.
fn warn_of_unreachable(
    raw: &Raw,
    listeners: &[ListenUrl],
    advertised: &[Url],
    notices: &mut Vec<Notice>,
) {
    let beyond = listeners.iter().any(|listener| listener.address.is_remote());
    if beyond && raw.said("initial-advertise-peer-urls").is_none() {
        let text = format!(
            "--listen-peer-urls reaches beyond this machine, but {} is advertised: set --initial-advertise-peer-urls",
            texts(advertised).join(",")
        );
        notices.push(Notice { level: Level::Warning, text });
    }
}

/// Only a `*`, or nothing at all, means all: a stray comma must not open the door.
fn list_or_all(text: &str) -> Option<Vec<String>> {
    let items: Vec<_> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
    let all = items.is_empty() || items.iter().any(|item| item == "*");
    if all { None } else { Some(items) }
}

fn number(raw: &Raw, flag: &str) -> u64 {
    parse_number(raw.get(flag)).expect("the parser let only numbers through")
}

/// Numbers have an upper end as well: no operator means more, and sums and tables of that size overflow.
fn within<T: TryFrom<u64>>(raw: &Raw, flag: &str, least: u64, most: u64) -> Result<T, Failure> {
    let value = number(raw, flag);
    if value < least {
        return Err(Failure::verifying(format!(
            "--{flag} must be at least {least} (set to {value})"
        )));
    }
    T::try_from(value.min(most)).ok().filter(|_| value <= most).ok_or_else(|| {
        Failure::verifying(format!("--{flag} must be at most {most} (set to {value})"))
    })
}
