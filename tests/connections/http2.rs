//! HTTP/2: how it is recognised, what its limits are, and what harm a client can do with it.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::frames::{self, CANCEL, DATA, Frame, GOAWAY, Http2, PREFACE, RST_STREAM, frame};
use crate::support::http::PATIENCE;
use crate::support::usage::{processor_time, resident_bytes};
use crate::{Member, wait_until};

const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A range of the key `a`.
const KEY: &[u8] = &[0x0a, 1, b'a'];

/// A watcher of the key `a`.
const CREATE: &[u8] = &[0x0a, 3, 0x0a, 1, b'a'];

/// A stop that waits for nobody is over by then; one that waits takes three seconds.
const NOT_HELD_UP: Duration = Duration::from_millis(2500);

fn assert_serves(member: &Member) {
    let mut client = Http2::open(member.addr());
    let stream = client.get("/health");
    let body = client.body(stream, PATIENCE);
    assert_eq!(String::from_utf8_lossy(&body), r#"{"health":"true"}"#);
}

fn is_goaway(frame: &Frame) -> bool {
    frame.kind == GOAWAY
}

#[test]
fn the_preface_may_come_in_pieces_and_with_requests_behind_it() {
    let member = Member::start(&[]);
    for piece in [1, 7, 1000] {
        let mut client = Http2::open(member.addr());
        let list = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/health"),
            (":authority", "member"),
        ];
        let (stream, head) = client.head(frames::END_STREAM, &list);
        let mut slow = TcpStream::connect(member.addr()).expect("the member accepts");
        slow.set_nodelay(true).expect("a socket has this option");
        let bytes = [PREFACE, &frame(frames::SETTINGS, 0, 0, &[]), &head].concat();
        for piece in bytes.chunks(piece) {
            slow.write_all(piece).expect("the member reads");
            thread::yield_now();
        }
        client.stream = slow;
        let body = client.body(stream, PATIENCE);
        assert_eq!(String::from_utf8_lossy(&body), r#"{"health":"true"}"#, "{piece}");
    }
}

#[test]
fn a_preface_that_does_not_go_on_is_waited_for_as_long_as_a_head() {
    let member = Member::start(&["--header-timeout=300"]);
    let mut client = Http2::open(member.addr());
    let mut slow = TcpStream::connect(member.addr()).expect("the member accepts");
    slow.write_all(&PREFACE[..20]).expect("the member reads");
    client.stream = slow;
    let begun = Instant::now();
    while client.next(PATIENCE).is_some() {}
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[test]
fn more_streams_than_said_are_refused_and_the_others_are_served() {
    let member = Member::start(&["--max-concurrent-streams=5"]);
    let mut client = Http2::open(member.addr());
    let streams: Vec<_> = (0..8).map(|_| client.call(WATCH)).collect();
    for stream in &streams[..5] {
        client.message(*stream, CREATE, 0);
    }
    let (mut created, mut refused) = (Vec::new(), Vec::new());
    client.read_until(PATIENCE, |frame| {
        match frame.kind {
            DATA => created.push(frame.stream),
            RST_STREAM => {
                assert_eq!(frame.code(), frames::REFUSED_STREAM);
                refused.push(frame.stream);
            }
            _ => {}
        }
        created.len() + refused.len() == 8
    });
    created.sort_unstable();
    assert_eq!((&created[..], &refused[..]), (&streams[..5], &streams[5..]));
    // A place that is free again is given to the next.
    client.send(&frame(RST_STREAM, 0, streams[0], &CANCEL.to_be_bytes())).expect("it reads");
    let next = client.call(RANGE);
    client.message(next, KEY, frames::END_STREAM);
    assert!(!client.body(next, PATIENCE).is_empty());
}

/// A stream that is opened and reset costs its client as much as the member; a member that begins with each would be the one that pays.
#[test]
fn a_client_that_opens_and_resets_streams_is_sent_away() {
    let member = Member::start(&[]);
    assert_serves(&member);
    let before = resident_bytes(member.server.pid());
    let mut client = Http2::open(member.addr());
    let mut sent = 0;
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let list = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", RANGE),
                (":authority", "member"),
                ("content-type", "application/grpc"),
            ];
            let (stream, head) = client.head(0, &list);
            bytes.extend(head);
            bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        if client.send(&bytes).is_err() {
            break;
        }
        sent += 100;
    }
    let (frames, _) = client.read_until(PATIENCE, is_goaway);
    let code = frames.last().filter(|frame| is_goaway(frame)).map(Frame::code);
    // One whose socket was reset has no time to read why.
    assert!(matches!(code, Some(frames::ENHANCE_YOUR_CALM) | None), "{code:?} after {sent}");
    assert_serves(&member);
    let grown = resident_bytes(member.server.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes after {sent} streams");
}

/// Pings, settings and empty frames are answered or skipped; a client that does not read its answers fills nothing but its own socket.
#[test]
fn floods_of_small_frames_take_no_memory() {
    let member = Member::start(&[]);
    assert_serves(&member);
    let before = resident_bytes(member.server.pid());
    for small in [
        frame(frames::PING, 0, 0, &[7; 8]),
        frame(frames::SETTINGS, 0, 0, &[]),
        frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(2, 0, 1, &[0, 0, 0, 0, 1]),
        frame(99, 0, 0, &[0; 8]),
    ] {
        let mut client = Http2::open(member.addr());
        client.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a time");
        let bytes = small.repeat(10_000);
        // It ends when the member takes no more, or has ended the connection.
        for _ in 0..100 {
            if client.send(&bytes).is_err() {
                break;
            }
        }
        let grown = resident_bytes(member.server.pid()).saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes after frames of kind {}", small[3]);
    }
    assert_serves(&member);
}

#[test]
fn a_head_without_an_end_is_cut() {
    let member = Member::start(&[]);
    assert_serves(&member);
    let (before, cpu) = (resident_bytes(member.server.pid()), processor_time(member.server.pid()));
    let mut client = Http2::open(member.addr());
    client.stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a time");
    let first = frames::fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/health")]);
    client.send(&frame(frames::HEADERS, frames::END_STREAM, 1, &first)).expect("it reads");
    let more = frames::fields(&[("x-filler", &"y".repeat(8000))]);
    let more = frame(frames::CONTINUATION, 0, 1, &more);
    let sent = (0..20_000).take_while(|_| client.send(&more).is_ok()).count();
    assert!(sent < 20_000, "160 MB of one head were read");
    let grown = resident_bytes(member.server.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    let took = processor_time(member.server.pid()) - cpu;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_serves(&member);
}

/// A message says that it is 4 GB long, or is longer than what is allowed: it is refused before it is there.
#[test]
fn a_message_that_is_too_long_is_refused_before_it_is_there() {
    let member = Member::start(&[]);
    let before = resident_bytes(member.server.pid());
    for length in [u32::MAX, 1 << 30, 40 << 20] {
        let mut client = Http2::open(member.addr());
        let stream = client.call(RANGE);
        let head = [&[0][..], &length.to_be_bytes(), &[0x0a; 100]].concat();
        client.send(&frame(DATA, 0, stream, &head)).expect("it reads");
        let is_end = |frame: &Frame| frame.stream == stream && frame.ends_stream();
        let (frames, ended) = client.read_until(PATIENCE, is_end);
        assert!(ended && !frames.iter().any(|frame| frame.kind == DATA), "{frames:?}");
    }
    let grown = resident_bytes(member.server.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
}

#[test]
fn a_client_that_takes_nothing_of_a_long_answer_is_cut_and_holds_little() {
    let member = Member::start(&["--idle-timeout=500", "--header-timeout=500"]);
    for key in 0..64 {
        assert!(matches!(
            member.put(&format!("/d/{key}"), &"v".repeat(100_000)).status(),
            200 | 201
        ));
    }
    let before = resident_bytes(member.server.pid());
    let clients: Vec<_> = (0..20)
        .map(|_| {
            // No window: not one byte of a body may be sent.
            let mut client = Http2::open_with(member.addr(), &[(4, 0)]);
            client.get("/v2/keys/d?recursive=true");
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    let grown = resident_bytes(member.server.pid()).saturating_sub(before);
    assert!(grown < 300 << 20, "{grown} bytes of twenty answers of 6.4 MB");
    drop(clients);
    assert_serves(&member);
}

#[test]
fn an_idle_connection_is_told_to_leave_and_one_with_a_watcher_is_not() {
    let member = Member::start(&["--idle-timeout=300"]);
    let mut idle = Http2::open(member.addr());
    let begun = Instant::now();
    let (_, told) = idle.read_until(PATIENCE, is_goaway);
    assert!(told, "it is told");
    idle.read_until(PATIENCE, |_| false);
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());

    let mut busy = Http2::open(member.addr());
    let stream = busy.call(WATCH);
    busy.message(stream, CREATE, 0);
    busy.read_until(PATIENCE, |frame| frame.kind == DATA);
    thread::sleep(Duration::from_secs(1));
    let range = busy.call(RANGE);
    busy.message(range, KEY, frames::END_STREAM);
    assert!(!busy.body(range, PATIENCE).is_empty(), "the connection is still there");
}

/// The machine of a client is gone without a word: nothing answers the pings.
#[test]
fn a_client_that_does_not_answer_pings_is_given_up() {
    let flags = ["--grpc-keepalive-interval=200ms", "--grpc-keepalive-timeout=300ms"];
    let member = Member::start(&flags);
    let mut alive = Http2::open(member.addr());
    let stream = alive.call(WATCH);
    alive.message(stream, CREATE, 0);
    let mut pings = 0;
    let (_, there) = alive.read_until(PATIENCE, |frame| {
        pings += u32::from(frame.kind == frames::PING);
        pings == 4
    });
    assert!(there, "who answers is still there after {pings} pings");
    let mut silent = Http2::open(member.addr());
    let stream = silent.call(WATCH);
    silent.message(stream, CREATE, 0);
    // It reads, but answers no ping.
    let begun = Instant::now();
    while silent.next(PATIENCE).is_some() {
        assert!(begun.elapsed() < PATIENCE, "it is never given up");
    }
}

/// Load balancers keep such a stream open to each server.
#[test]
fn who_asks_whether_the_member_serves_is_told_and_may_stay() {
    const UNKNOWN: &[u8] = b"\x0a\x04nope";
    let member = Member::start(&[]);
    let mut client = Http2::open(member.addr());
    let check = client.call("/grpc.health.v1.Health/Check");
    client.message(check, &[], frames::END_STREAM);
    assert_eq!(client.body(check, PATIENCE), b"\0\0\0\0\x02\x08\x01", "it serves");
    let check = client.call("/grpc.health.v1.Health/Check");
    client.message(check, UNKNOWN, frames::END_STREAM);
    assert!(client.body(check, PATIENCE).is_empty(), "there is no such service");
    let mut watches = Vec::new();
    for (service, status) in [(&[][..], 1), (UNKNOWN, 3)] {
        let watch = client.call("/grpc.health.v1.Health/Watch");
        watches.push(watch);
        client.message(watch, service, frames::END_STREAM);
        let (frames, _) = client.read_until(PATIENCE, |frame| frame.kind == DATA);
        let told = frames.last().expect("it is told");
        assert_eq!((told.stream, &told.payload[..]), (watch, &[0, 0, 0, 0, 2, 8, status][..]));
        assert!(!told.ends_stream());
    }
    // The streams are still open when everything that came before them has been answered.
    let range = client.call(RANGE);
    client.message(range, KEY, frames::END_STREAM);
    let (frames, _) =
        client.read_until(PATIENCE, |frame| frame.stream == range && frame.ends_stream());
    assert!(frames.iter().all(|frame| frame.stream == range || !frame.ends_stream()), "{frames:?}");
    // A stop ends them.
    let (begun, Member { mut server, .. }) = (Instant::now(), member);
    let stopped = thread::spawn(move || server.terminate(PATIENCE));
    let (frames, _) = client.read_until(PATIENCE, |frame| {
        watches.retain(|watch| frame.stream != *watch || !frame.ends_stream());
        watches.is_empty()
    });
    assert!(watches.is_empty(), "{frames:?}");
    drop(client);
    assert!(stopped.join().expect("it is awaited").success());
    assert!(begun.elapsed() < NOT_HELD_UP, "{:?}", begun.elapsed());
}

#[test]
fn watchers_end_with_their_connection_and_with_their_stream() {
    let member = Member::start(&[]);
    let watchers = |count: u64| {
        wait_until("watchers", || {
            let page = crate::http::ask(member.metrics.addr(), &crate::Request::get("/metrics"));
            let page = page.expect("an answer").text();
            let name = "etcd_debugging_mvcc_watcher_total ";
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.expect("it is counted").parse::<u64>().expect("a number") == count
        });
    };
    let mut client = Http2::open(member.addr());
    let streams: Vec<_> = (0..10).map(|_| client.call(WATCH)).collect();
    for stream in &streams {
        client.message(*stream, CREATE, 0);
    }
    watchers(10);
    for stream in &streams[..4] {
        client.send(&frame(RST_STREAM, 0, *stream, &CANCEL.to_be_bytes())).expect("it reads");
    }
    watchers(6);
    drop(client);
    watchers(0);
}
