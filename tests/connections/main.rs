//! Connections: when they end, how long they wait for their clients, what they take, and who always gets in.

#[path = "../support/mod.rs"]
mod support;

mod costs;
mod frames;
mod http2;
mod keep_alive;
mod limits;
mod smuggling;
mod time_limits;
mod watches;
mod ways;

use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::http::{self, Connection, Reply, Request};
use support::port::Port;
use support::server::{Flavor, Server};

/// A member with a listener for metrics, which tells what happens on the others.
struct Member {
    server: Server,
    metrics: Port,
}

impl Member {
    fn start(flags: &[&str]) -> Self {
        let metrics = Port::reserve().expect("the system has free ports");
        let listener = format!("--listen-metrics-urls={}", metrics.url());
        let flags: Vec<_> = flags.iter().copied().chain([listener.as_str()]).collect();
        Self { server: Server::start_with(Flavor::Subject, &flags), metrics }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    fn connect(&self) -> Connection {
        Connection::open(self.addr()).expect("the member accepts")
    }

    fn put(&self, key: &str, value: &str) -> Reply {
        let put = Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"));
        http::ask(self.addr(), &put).expect("an answer")
    }

    fn watchers(&self) -> u64 {
        let page = http::ask(self.metrics.addr(), &Request::get("/metrics")).expect("an answer");
        let page = page.text();
        let line = page.lines().find_map(|line| line.strip_prefix("etcd_store_watchers "));
        line.expect("it is counted").parse().expect("a number")
    }

    fn wait_for_watchers(&self, count: u64, why: &str) {
        wait_until(why, || self.watchers() == count);
    }
}

fn soon() -> Instant {
    Instant::now() + http::PATIENCE
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = soon();
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How a client ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It closes its sending half and goes on to listen.
    HalfClosed,
    /// Its program ends.
    Closed,
    /// Its program ends with bytes unread, or its system says that there is no such connection.
    Reset,
}

/// Ends a client; what is returned keeps a half-closed one open.
fn end(connection: Connection, how: End) -> Option<Connection> {
    match how {
        End::HalfClosed => {
            connection.stream().shutdown(Shutdown::Write).expect("it was open");
            Some(connection)
        }
        End::Closed => None,
        End::Reset => {
            let socket = SockRef::from(connection.stream());
            socket.set_linger(Some(Duration::ZERO)).expect("a socket has this option");
            None
        }
    }
}
