//! How long connections wait for their clients.

use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::support::http::{self, Connection, Request};
use super::{Member, soon, wait_until};

const VALUE_BYTES: usize = 1 << 20;
const VALUES: usize = 8;

/// A member whose listing is more than all buffers on the way take.
fn large(flags: &[&str]) -> Member {
    let member = Member::start(flags);
    let idle = open_sockets(&member);
    let value = "x".repeat(VALUE_BYTES);
    for n in 0..VALUES {
        assert_eq!(member.put(&format!("/large/{n}"), &value).status(), 201);
    }
    // The tests count connections; none of these is among them.
    wait_until("what wrote is gone", || open_sockets(&member) <= idle);
    member
}

/// A connection whose system takes few bytes ahead of its program.
fn narrow(member: &Member) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a socket has this option");
    socket.connect(&member.addr().into()).expect("the member accepts");
    socket.set_read_timeout(Some(http::PATIENCE)).expect("a socket has this option");
    socket.into()
}

fn is_closed_within(connection: &mut Connection, limit: Duration) -> bool {
    connection.read_to_close(Instant::now() + limit).is_ok()
}

/// A connection that had a watch was waited for without an end, whatever its client did behind that.
#[test]
fn behind_a_watch_the_time_limits_hold_again() {
    let member = Member::start(&["--idle-timeout=1000", "--header-timeout=500"]);
    for behind in [
        &b""[..],
        b"GET /version HT",
        b"PUT /v2/keys/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\nval",
    ] {
        let mut client = member.connect();
        client.send(&Request::get("/v2/keys/a?wait=true")).expect("bytes can be sent");
        client.read_head("GET", soon()).expect("headers come at once");
        member.wait_for_watchers(1, "it watches");
        member.put("/a", "event");
        while client.read_piece(soon()).expect("an event and a proper end").is_some() {}
        client.send_raw(behind).expect("bytes can be sent");
        assert!(is_closed_within(&mut client, http::PATIENCE), "behind it: {behind:?}");
    }
}

/// A watch itself, and a watch behind a watch, wait for as long as their client wants.
#[test]
fn a_watch_has_no_time_limit() {
    let member = Member::start(&["--idle-timeout=200", "--header-timeout=200"]);
    let mut client = member.connect();
    for n in 0..2 {
        client.send(&Request::get("/v2/keys/a?wait=true")).expect("bytes can be sent");
        client.read_head("GET", soon()).expect("headers come at once");
        // Three times the limits: no event comes, and nothing else may.
        let silent = client.read_piece(Instant::now() + Duration::from_millis(600));
        assert!(silent.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
        member.put("/a", &n.to_string());
        while client.read_piece(soon()).expect("an event and a proper end").is_some() {}
    }
}

#[test]
fn the_time_for_a_head_is_right_also_behind_a_long_pause() {
    let member = Member::start(&["--idle-timeout=60000", "--header-timeout=300"]);
    let mut client = member.connect();
    client.send(&Request::get("/version")).expect("bytes can be sent");
    client.read_reply("GET", soon()).expect("an answer");
    // Longer than a head may take: the clock has fired, and waits for the end of the pause.
    thread::sleep(Duration::from_millis(500));
    client.send_raw(b"GET /version HT").expect("bytes can be sent");
    assert!(is_closed_within(&mut client, Duration::from_secs(10)), "a head that stalls");
}

#[test]
fn a_slow_reader_that_moves_is_not_cut() {
    use std::io::{Read as _, Write as _};
    let member = large(&["--idle-timeout=1000"]);
    for target in ["/v2/keys/large?recursive=true", "/v2/keys/large/0"] {
        let mut reader = narrow(&member);
        write!(reader, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("bytes can be sent");
        let (begun, mut bytes, mut all) = (Instant::now(), vec![0; 128 << 10], 0);
        let mut last = Vec::new();
        loop {
            // Slow for three times the limit, then as fast as can be.
            if begun.elapsed() < Duration::from_secs(3) {
                thread::sleep(Duration::from_millis(200));
            }
            let read = reader.read(&mut bytes).expect("it goes on");
            if read == 0 {
                break;
            }
            all += read;
            last = bytes[..read].to_vec();
        }
        assert!(begun.elapsed() > Duration::from_secs(2), "it was slow");
        assert!(all > VALUE_BYTES, "{target}: {all} bytes");
        assert!(last.ends_with(b"0\r\n\r\n"), "{target}: a proper end after {all} bytes");
    }
}

#[test]
fn a_reader_that_takes_nothing_is_cut() {
    use std::io::{Read as _, Write as _};
    let member = large(&["--idle-timeout=500"]);
    for target in ["/v2/keys/large?recursive=true", "/v2/keys/large"] {
        let mut reader = narrow(&member);
        write!(reader, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").expect("bytes can be sent");
        // The answer has begun, so the connection was accepted.
        assert_eq!(reader.peek(&mut [0]).expect("an answer"), 1);
        let sockets = || open_sockets(&member);
        let before = sockets();
        wait_until(&format!("{target} is cut"), || sockets() < before);
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = reader.read_to_end(&mut rest);
        assert!(rest.len() < VALUES * VALUE_BYTES, "{target}: {} bytes", rest.len());
    }
}

#[test]
fn a_stream_whose_reader_takes_nothing_is_cut() {
    use std::io::Write as _;
    let member = large(&["--idle-timeout=500"]);
    let mut reader = narrow(&member);
    write!(
        reader,
        "GET /v2/keys/large?wait=true&stream=true&recursive=true HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .expect("bytes can be sent");
    member.wait_for_watchers(1, "it watches");
    let value = "x".repeat(VALUE_BYTES);
    for n in 0..VALUES {
        member.put(&format!("/large/{n}"), &value);
    }
    member.wait_for_watchers(0, "it is cut");
}

fn open_sockets(member: &Member) -> usize {
    let folder = format!("/proc/{}/fd", member.server.pid());
    let files = std::fs::read_dir(folder).expect("it runs").flatten();
    files
        .filter(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        })
        .count()
}
