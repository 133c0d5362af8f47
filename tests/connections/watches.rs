//! Watches end with their clients.

use std::time::Duration;

use super::support::http::{self, Request};
use super::{End, Member, end, soon};

const POLL: &str = "GET /v2/keys/z?wait=true HTTP/1.1\r\nHost: x\r\n\r\n";
const STREAM: &str = "GET /v2/keys/z?wait=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n";

/// What clients send behind a watch: HTTP reads no further there, so the end of the client hid behind it for ever.
fn surplus() -> [Vec<u8>; 5] {
    [
        Vec::new(),
        b"G".to_vec(),
        b"GET /version HTTP/1.1\r\nHo".to_vec(),
        b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        // More than HTTP takes into its buffer, less than the system takes into its own.
        vec![b'x'; 40_000],
    ]
}

#[test]
fn a_watch_ends_with_its_client_whatever_that_has_sent() {
    let member = Member::start(&[]);
    for watch in [POLL, STREAM] {
        for surplus in surplus() {
            for how in [End::HalfClosed, End::Closed, End::Reset] {
                for together in [true, false] {
                    let mut client = member.connect();
                    let mut bytes = watch.as_bytes().to_vec();
                    if together {
                        bytes.extend_from_slice(&surplus);
                    }
                    client.send_raw(&bytes).expect("bytes can be sent");
                    client.read_head("GET", soon()).expect("headers come at once");
                    if !together {
                        client.send_raw(&surplus).expect("bytes can be sent");
                    }
                    let story = format!("{} bytes behind {watch:?}, {how:?}", surplus.len());
                    member.wait_for_watchers(1, &story);
                    let _open = end(client, how);
                    member.wait_for_watchers(0, &story);
                }
            }
        }
    }
}

/// A reader that takes nothing, so that not even the end of the answer can be sent.
#[test]
fn a_watch_ends_with_a_client_that_does_not_read() {
    let member = Member::start(&[]);
    for how in [End::HalfClosed, End::Closed, End::Reset] {
        let mut client = member.connect();
        client.send_raw(STREAM.as_bytes()).expect("bytes can be sent");
        member.wait_for_watchers(1, "it watches");
        let value = "x".repeat(1 << 20);
        for _ in 0..12 {
            assert!(member.put("/z", &value).status() < 300);
        }
        let _open = end(client, how);
        member.wait_for_watchers(0, &format!("{how:?}"));
    }
}

#[test]
fn a_half_closed_watch_ends_properly_and_what_was_sent_behind_it_is_answered() {
    let member = Member::start(&[]);
    let version = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    for watch in [POLL, STREAM] {
        for behind in [&b""[..], version] {
            let mut client = member.connect();
            client.send_raw(&[watch.as_bytes(), behind].concat()).expect("bytes can be sent");
            let client = end(client, End::HalfClosed);
            let mut client = client.expect("it listens");
            // As in etcd: an answer without an event.
            let reply = client.read_reply("GET", soon()).expect("a proper end");
            assert_eq!((reply.status(), reply.text().as_str()), (200, ""), "{watch:?}");
            if !behind.is_empty() {
                let reply = client.read_reply("GET", soon()).expect("an answer");
                assert!(reply.text().contains("etcdserver"), "{}", reply.text());
            }
            assert_eq!(client.read_to_close(soon()).expect("it is closed"), b"");
        }
    }
}

/// What is in the history already is an answer, also to a client that says nothing more.
#[test]
fn a_half_closed_client_gets_the_event_that_is_there() {
    let member = Member::start(&[]);
    let reply = member.put("/z", "there");
    let index = reply.index().expect("it has an index");
    let poll = format!("GET /v2/keys/z?wait=true&waitIndex={index} HTTP/1.1\r\nHost: x\r\n\r\n");
    for _ in 0..50 {
        let mut client = member.connect();
        client.send_raw(poll.as_bytes()).expect("bytes can be sent");
        let mut client = end(client, End::HalfClosed).expect("it listens");
        let reply = client.read_reply("GET", soon()).expect("an answer");
        assert!(reply.text().contains("there"), "{}", reply.text());
    }
}

#[test]
fn a_client_that_is_gone_gives_its_place_to_the_next() {
    let member = Member::start(&["--max-connections=2"]);
    for _ in 0..3 {
        for how in [End::Closed, End::Reset] {
            let watches = [POLL, STREAM].map(|watch| {
                let mut client = member.connect();
                client.send_raw(format!("{watch}G").as_bytes()).expect("bytes can be sent");
                client.read_head("GET", soon()).expect("headers come at once");
                client
            });
            let version = Request::get("/version");
            let full = http::ask_within(member.addr(), &version, Duration::from_millis(300));
            assert!(full.is_err(), "the house is full");
            for watch in watches {
                end(watch, how);
            }
            let reply = http::ask(member.addr(), &version).expect("its turn has come");
            assert_eq!(reply.status(), 200);
        }
    }
}
