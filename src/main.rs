//! The `cairn` binary.

use std::process::ExitCode;
use std::time::Duration;

use cairn::api::{self, Cors};
use cairn::model::PathLimits;
use cairn::server::{self, Options, telemetry};
use cairn::store::HistoryLimits;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args = std::collections::BTreeMap::new();
    let mut it = std::env::args().skip(1).peekable();
    while let Some(a) = it.next() {
        let a = a.trim_start_matches('-').to_owned();
        match a.split_once('=') {
            Some((k, v)) => {
                args.insert(k.to_owned(), v.to_owned());
            }
            None => {
                let v = it.next().unwrap_or_default();
                args.insert(a, v);
            }
        }
    }
    let get = |k: &str, d: &str| args.get(k).cloned().unwrap_or_else(|| d.to_owned());
    let name = get("name", "default");
    let peer = get("initial-advertise-peer-urls", "http://localhost:2380");
    let addr = |u: String| {
        u.trim_start_matches("http://").replace("localhost", "127.0.0.1").parse().expect("address")
    };
    let level = telemetry::start(
        telemetry::Format::Capnslog,
        &[telemetry::Output::Stderr],
        telemetry::level_of("info").expect("level"),
    )
    .expect("log");
    let options = Options {
        data_dir: get("data-dir", &format!("{name}.cairn")).into(),
        initial_cluster: vec![(name.clone(), vec![peer])],
        name,
        initial_cluster_token: get("initial-cluster-token", "etcd-cluster"),
        client_listeners: vec![addr(get("listen-client-urls", "http://127.0.0.1:2379"))],
        peer_listeners: vec![addr(get("listen-peer-urls", "http://127.0.0.1:2380"))],
        metrics_listeners: vec![],
        advertise_client_urls: vec![get("advertise-client-urls", "http://localhost:2379")],
        heartbeat: Duration::from_millis(get("heartbeat-interval", "100").parse().expect("n")),
        election: Duration::from_millis(get("election-timeout", "1000").parse().expect("n")),
        history: HistoryLimits {
            events_max: get("history-events", "100000").parse().expect("n"),
            bytes_max: 64 << 20,
        },
        checkpoint_wal_bytes: 96 << 20,
        sync: true,
        connections_max: 100_000,
        watchers_max: 100_000,
        header_timeout: Duration::from_millis(get("header-timeout", "10000").parse().expect("n")),
        idle_timeout: Duration::from_secs(120),
        header_bytes_max: 64 << 10,
        headers_max: 100,
        api: api::Options {
            body_bytes_max: 10 << 20,
            path: PathLimits { bytes_max: 16384, depth_max: 1000 },
            cors: match get("cors", "*").as_str() {
                "*" => Cors::Any,
                l => Cors::Only(l.split(',').map(str::to_owned).collect()),
            },
            hosts: args
                .get("host-whitelist")
                .filter(|h| *h != "*")
                .map(|h| h.split(',').map(str::to_owned).collect()),
            strict_reconfig: true,
            pprof: args.contains_key("enable-pprof"),
            set_log_level: Box::new(move |l| level.set(l)),
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(8 << 20)
        .build()
        .expect("runtime");
    let stop = CancellationToken::new();
    let s2 = stop.clone();
    let result = runtime.block_on(async move {
        tokio::spawn(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let mut t = signal(SignalKind::terminate()).expect("signal");
            let mut i = signal(SignalKind::interrupt()).expect("signal");
            tokio::select! { _ = t.recv() => {}, _ = i.recv() => {} }
            tracing::info!(target: "pkg/osutil", "received terminated signal, shutting down...");
            s2.cancel();
        });
        server::run(options, stop).await
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cairn: {e}");
            ExitCode::FAILURE
        }
    }
}
