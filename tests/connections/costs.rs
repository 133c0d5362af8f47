//! What those cost who want to do harm: processor time and memory of the member for each of them, as a table in the test's output.
//!
//! The bounds are wide: this is a build for tests on a machine that does other things too. `docs/security.md` has the figures of a
//! release build and how they are made.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::support::http::{self, Client, Request};
use super::support::process::Process;
use super::support::usage;

/// One way to do harm.
struct Edge {
    what: &'static str,
    /// What the member is told.
    flag: &'static str,
    /// So many do it, one after the other, and all stay connected until the last has begun.
    count: usize,
    begin: fn(&Addresses) -> Option<TcpStream>,
    /// What each may cost.
    cpu_max: Duration,
    resident_bytes_max: u64,
}

/// Where the member listens.
struct Addresses {
    plain: SocketAddr,
    secure: SocketAddr,
}

const KIB: u64 = 1 << 10;
const MS: Duration = Duration::from_millis(1);

const EDGES: &[Edge] = &[
    Edge {
        what: "an idle connection",
        flag: "--header-timeout=60000",
        count: 1000,
        begin: |at| open(at.plain, b""),
        cpu_max: MS,
        resident_bytes_max: 40 * KIB,
    },
    Edge {
        what: "a head that never ends",
        flag: "--header-timeout=60000",
        count: 1000,
        begin: |at| open(at.plain, b"GET /v2/keys/ HTTP/1.1\r\nHost: a\r\nX-A: b"),
        cpu_max: MS,
        resident_bytes_max: 60 * KIB,
    },
    Edge {
        what: "a body that never comes",
        flag: "--header-timeout=60000",
        count: 1000,
        begin: |at| {
            open(
                at.plain,
                b"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                  Content-Length: 1000000\r\n\r\nvalue=",
            )
        },
        cpu_max: MS,
        resident_bytes_max: 60 * KIB,
    },
    Edge {
        what: "a reader that takes nothing of 1 MB",
        flag: "--header-timeout=60000",
        count: 100,
        begin: |at| open(at.plain, b"GET /v2/keys/large HTTP/1.1\r\nHost: a\r\n\r\n"),
        cpu_max: Duration::from_millis(50),
        // The answer is made once for each reader; the socket takes a part.
        resident_bytes_max: 2200 * KIB,
    },
    Edge {
        what: "a connection beyond those of its address",
        flag: "--max-connections-per-ip=2",
        count: 1000,
        begin: |at| closed(at.plain, b""),
        cpu_max: MS,
        resident_bytes_max: 4 * KIB,
    },
    Edge {
        what: "a handshake that never ends",
        flag: "--header-timeout=60000",
        count: 500,
        begin: |at| open(at.secure, &[22, 3, 1, 2, 0, 1]),
        cpu_max: MS,
        resident_bytes_max: 60 * KIB,
    },
    Edge {
        what: "a handshake that is none",
        flag: "--header-timeout=60000",
        count: 500,
        begin: |at| closed(at.secure, b"\x16\x03\x01\x00\x05hello"),
        cpu_max: Duration::from_millis(3),
        resident_bytes_max: 8 * KIB,
    },
    Edge {
        what: "plain HTTP where TLS is spoken",
        flag: "--header-timeout=60000",
        count: 500,
        begin: |at| closed(at.secure, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        cpu_max: Duration::from_millis(3),
        resident_bytes_max: 8 * KIB,
    },
    Edge {
        what: "a write that a page of another site makes",
        flag: "--cors=http://good.example:80",
        count: 500,
        begin: |at| {
            closed(
                at.plain,
                b"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nOrigin: http://evil.example\r\nConnection: close\r\n\
                  Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=1",
            )
        },
        cpu_max: Duration::from_millis(3),
        resident_bytes_max: 8 * KIB,
    },
    Edge {
        what: "a name that is not on the list of hosts",
        flag: "--host-whitelist=127.0.0.1",
        count: 500,
        begin: |at| {
            closed(
                at.plain,
                b"GET /v2/keys/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
            )
        },
        cpu_max: Duration::from_millis(3),
        resident_bytes_max: 8 * KIB,
    },
    Edge {
        what: "a request with two lengths",
        flag: "--header-timeout=60000",
        count: 500,
        begin: |at| {
            closed(
                at.plain,
                b"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            )
        },
        cpu_max: Duration::from_millis(3),
        resident_bytes_max: 8 * KIB,
    },
];

fn open(addr: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(addr).expect("the member accepts");
    stream.write_all(bytes).expect("bytes can be sent");
    Some(stream)
}

/// Waits for the end, which the member makes.
fn closed(addr: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = open(addr, b"")?;
    stream.set_read_timeout(Some(http::PATIENCE)).expect("a time limit");
    // It may have been closed before.
    let _ = stream.write_all(bytes);
    let end = stream.read_to_end(&mut Vec::new());
    assert!(end.as_ref().map_or_else(http::is_cut, |_| true), "it is not closed: {end:?}");
    None
}

/// Processor time and resident bytes of a process.
fn look(pid: u32) -> (Duration, u64) {
    (usage::processor_time(pid), usage::resident_bytes(pid))
}

#[test]
fn who_wants_to_do_harm_pays_more_than_the_member() {
    let mut wrong = Vec::new();
    eprintln!("{:>10} {:>10}  each", "us of CPU", "bytes");
    for edge in EDGES {
        let (cpu, bytes) = cost(edge);
        eprintln!("{:>10} {bytes:>10}  {}", cpu.as_micros(), edge.what);
        if cpu > edge.cpu_max || bytes > edge.resident_bytes_max {
            wrong.push(edge.what);
        }
    }
    assert!(wrong.is_empty(), "cost more than they may: {wrong:?}");
}

/// The allocator gave the memory of removed keys back to the system only with the next thousands of writes.
#[test]
fn what_a_large_removal_has_freed_is_given_back_though_nobody_asks_for_anything() {
    const KEYS: usize = 12_000;
    const VALUE_BYTES: usize = 10_000;
    // The log keeps the entries that were written last, and the allocator pages that are shared with them.
    const FREED_BYTES_MIN: u64 = (KEYS * VALUE_BYTES) as u64 / 2;
    // The history keeps values as well, and would keep them after the removal.
    let mut member =
        Process::cairn(&["--listen-client-urls=http://127.0.0.1:0", "--history-events=10"]);
    let line = member.line("serving insecure client requests on ");
    let addr = line.rsplit(' ').next().expect("an address").parse().expect("an address");
    member.line("ready to serve client requests");
    let mut client = Client::new(addr);
    let mut ask = |request: Request| {
        let reply = client.ask(&request).expect("an answer");
        assert!(matches!(reply.status(), 200 | 201), "{}", reply.text());
    };
    let value = "x".repeat(VALUE_BYTES);
    let mut put = |key: &str| {
        ask(Request::new("PUT", format!("/v2/keys/{key}")).form(format!("value={value}")));
    };
    (0..KEYS).for_each(|n| put(&format!("large/{n}")));
    let full = usage::resident_bytes(member.pid());
    ask(Request::new("DELETE", "/v2/keys/large?recursive=true"));
    let deadline = Instant::now() + http::PATIENCE;
    loop {
        let now = usage::resident_bytes(member.pid());
        if now < full - FREED_BYTES_MIN {
            break;
        }
        assert!(Instant::now() < deadline, "{full} bytes with the keys, {now} without");
        thread::sleep(Duration::from_millis(50));
    }
}

/// What each of an edge's clients costs a member of its own.
fn cost(edge: &Edge) -> (Duration, u64) {
    let urls = "--listen-client-urls=http://127.0.0.1:0,https://127.0.0.1:0";
    let mut member = Process::cairn(&[urls, "--auto-tls", edge.flag]);
    let mut address = |words: &str| {
        let line = member.line(words);
        let address = line.rsplit(' ').next().expect("an address");
        address.parse::<SocketAddr>().expect("an address")
    };
    let plain = address("serving insecure client requests on ");
    let at = Addresses { plain, secure: address("serving client requests on ") };
    member.line("ready to serve client requests");
    // Its connection stays: where addresses have a limit, one more fits.
    let mut client = Client::new(at.plain);
    let large =
        Request::new("PUT", "/v2/keys/large").form(format!("value={}", "x".repeat(1_000_000)));
    assert_eq!(client.ask(&large).expect("an answer").status(), 201);
    let held = if edge.flag.contains("per-ip") { open(at.plain, b"") } else { None };
    // What is done once in a program is not counted.
    let mut clients: Vec<_> = (0..10).filter_map(|_| (edge.begin)(&at)).collect();
    client.ask(&Request::get("/version")).expect("an answer");
    let before = look(member.pid());
    clients.extend((0..edge.count).filter_map(|_| (edge.begin)(&at)));
    // Those that came before are served when this is answered, or soon after.
    for _ in 0..20 {
        assert_eq!(client.ask(&Request::get("/version")).expect("an answer").status(), 200);
    }
    let after = look(member.pid());
    assert!(member.is_alive());
    drop((clients, held));
    let count = u32::try_from(edge.count).expect("it is small");
    ((after.0 - before.0) / count, after.1.saturating_sub(before.1) / u64::from(count))
}
