//! Large listings: they go out in blocks, as their readers take them.

mod support;

use std::time::{Duration, Instant};

use support::http::{self, Client, Connection, Request};
use support::server::{Flavor, Server};
use support::usage::resident_bytes;

const KEYS: usize = 3000;
const VALUE_BYTES: usize = 5000;

/// Each listing was rendered into one buffer, on any number of threads: a hundred readers of all keys took a hundred times their
/// size.
#[test]
fn many_readers_of_all_keys_take_little_memory_and_hold_up_no_write() {
    const READERS: usize = 100;
    const MORE_BYTES_MAX: u64 = 96 << 20;
    let server = Server::start(Flavor::Subject);
    let mut client = Client::new(server.addr());
    let value = "x".repeat(VALUE_BYTES);
    for n in 0..KEYS {
        let target = format!("/v2/keys/large/{}/{n:06}", n % 7);
        let put = Request::new("PUT", target).form(format!("value={value}"));
        assert_eq!(client.ask(&put).expect("an answer").status(), 201);
    }
    let deadline = || Instant::now() + http::PATIENCE;
    let list = Request::get("/v2/keys/?recursive=true");
    let whole = client.ask(&list).expect("an answer").text();
    assert_eq!(whole.matches(&value).count(), KEYS);
    let before = resident_bytes(server.pid());
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut reader = Connection::open(server.addr()).expect("the server accepts");
            reader.send(&list).expect("bytes can be sent");
            reader
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for (n, reader) in readers.iter_mut().enumerate() {
        assert_eq!(reader.read_head("GET", deadline()).expect("it begins").status, 200);
        let begun = Instant::now();
        let put = Request::new("PUT", "/v2/keys/other").form(format!("value={n}"));
        assert!(client.ask(&put).expect("an answer").status() < 300);
        slowest = slowest.max(begun.elapsed());
    }
    let more = resident_bytes(server.pid()).saturating_sub(before);
    assert!(more < MORE_BYTES_MAX, "{READERS} readers of {} bytes took {more}", whole.len());
    assert!(slowest < Duration::from_secs(1), "a write took {slowest:?}");
    // Whatever is written meanwhile, each gets the state of its beginning.
    for mut reader in readers.into_iter().take(5) {
        let mut body = Vec::new();
        while let Some(piece) = reader.read_piece(deadline()).expect("it goes on") {
            body.extend(piece);
        }
        let body = String::from_utf8(body).expect("it is text");
        assert_eq!(body.matches(&value).count(), KEYS);
        assert!(body.ends_with("}\n") && body.len() < whole.len() + 200, "{} bytes", body.len());
    }
}
