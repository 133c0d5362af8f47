//! A whole member, and bytes on its sockets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{self, LogFormat, LogLevel, Outcome};
use crate::fuzz::{Target, pieces};
use crate::server::{self, Service, telemetry};
use crate::transport::PREFACE;

pub(super) const TARGETS: &[Target] = &[
    Target { name: "client_port", read: |input| send(member().plain, input) },
    Target { name: "tls_port", read: |input| send(member().tls, input) },
    Target { name: "peer_port", read: send_to_peer },
];

/// How long an answer may take before the connection is left: a watch gives none.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long the member may take to answer that it lives.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the member of this process listens.
struct Member {
    plain: SocketAddr,
    tls: SocketAddr,
    peer: SocketAddr,
}

/// The member of this process; started when it is first asked for, and ended with it.
fn member() -> &'static Member {
    static MEMBER: OnceLock<Member> = OnceLock::new();
    MEMBER.get_or_init(start)
}

fn start() -> Member {
    // All are held at once, so that they differ.
    let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    let [plain, tls, peer] = held.map(|held| held.local_addr().expect("its address"));
    let dir = data_dir();
    let arguments = [
        format!("--data-dir={}", dir.display()),
        "--unsafe-no-fsync".to_owned(),
        "--auto-tls".to_owned(),
        format!("--listen-client-urls=http://{plain},https://{tls}"),
        format!("--advertise-client-urls=http://{plain}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
    ];
    let outcome = config::load(arguments, [], |_| unreachable!("there is no file"), |_| false);
    let Outcome::Run(config, _) = outcome else { panic!("{outcome:?}") };
    let log = telemetry::start(&telemetry::LogOptions {
        format: LogFormat::Capnslog,
        outputs: &[],
        level: LogLevel::Error,
        package_levels: &[],
    })
    .expect("a log");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let stop = CancellationToken::new();
        let ended = runtime.expect("a runtime").block_on(async {
            // A program with `main` ignores it from the start; the fuzzer's has none of ours.
            let _broken_pipes = signal(SignalKind::pipe()).expect("a handler");
            Box::pin(server::run(*config, log, Service::default(), stop, mpsc::channel(1).1)).await
        });
        panic!("the member ended: {ended:?}");
    });
    let is_alive = || {
        thread::sleep(PATIENCE);
        is_alive(plain)
    };
    assert!((0..500).any(|_| is_alive()), "the member does not answer");
    Member { plain, tls, peer }
}

fn data_dir() -> PathBuf {
    std::env::temp_dir().join(format!("cairn-fuzz-{}", std::process::id()))
}

/// What the member of this process leaves behind.
#[cfg(test)]
pub(super) fn remove_data_dir() {
    let _ = std::fs::remove_dir_all(data_dir());
}

fn is_alive(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ALIVE_TIMEOUT))?;
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer.starts_with(b"HTTP/1.1 200 OK"))
    };
    ask().unwrap_or(false)
}

/// The first byte says how: in how many pieces, and whether the client then closes its half. The member answers the next client.
fn send(address: SocketAddr, input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.set_nodelay(true).expect("small packets");
    let cut = if how & 1 == 0 { vec![bytes] } else { pieces(bytes, &[*how]) };
    for piece in cut {
        // It may have been closed already.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    if how & 2 == 0 {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let _ = stream.read_to_end(&mut Vec::new());
    drop(stream);
    assert!(is_alive(member().plain), "the member does not answer");
}

/// As [`send`]; the second byte says whether it begins like a member.
fn send_to_peer(input: &[u8]) {
    let (head, bytes) = input.split_at(input.len().min(2));
    let preface = if head.get(1).is_some_and(|byte| byte & 1 == 1) { &PREFACE[..] } else { &[] };
    send(member().peer, &[&head[..head.len().min(1)], preface, bytes].concat());
}
