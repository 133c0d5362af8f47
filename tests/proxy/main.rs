//! `--proxy`: a server without data in front of a cluster, seen from its clients.

#[path = "../support/mod.rs"]
mod support;

mod authority;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use support::cluster::{Cluster, Options};
use support::http::{self, Client, Connection, Open, Reply, Request};
use support::process::Process;
use support::proxy::{OWN, Proxy, put};
use support::server::{Flavor, Server, etcd_is_there};

const PATIENCE: Duration = Duration::from_secs(20);

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn flavors() -> Vec<Flavor> {
    let etcd = Some(Flavor::Etcd).filter(|_| etcd_is_there());
    [Flavor::Subject].into_iter().chain(etcd).collect()
}

fn watchers(addr: SocketAddr) -> String {
    let page = http::ask(addr, &Request::get("/metrics")).expect("an answer").text();
    let line = page.lines().find_map(|line| line.strip_prefix("etcd_debugging_store_watchers "));
    line.expect("it is counted").to_owned()
}

/// The same request to the member and through the proxy: but for the date the answers are one.
fn assert_same(direct: &Reply, passed: &Reply) {
    assert_eq!((passed.status(), passed.text()), (direct.status(), direct.text()));
    for name in ["X-Etcd-Index", "X-Etcd-Cluster-Id", "Content-Type", "Access-Control-Allow-Origin"]
    {
        assert_eq!(passed.get(name), direct.get(name), "{name}");
    }
}

#[test]
fn requests_and_answers_pass_as_they_are() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        let proxy = Proxy::start(&[server.peer_addr()], &[], 1);
        assert_eq!(proxy.put("/a", "value=1").status(), 201);
        let large = "x".repeat(3 << 20);
        assert_eq!(proxy.put("/large", &format!("value={large}")).status(), 201);
        for target in [
            "/v2/keys/a",
            "/v2/keys/a?quorum=true",
            "/v2/keys/?recursive=true&sorted=true",
            "/v2/keys/none",
            "/v2/keys/large",
            "/v2/members",
            "/v2/machines",
            "/version",
            "/nothing",
            "/v2/keys/a?ttl=%zz",
        ] {
            let request = Request::get(target).header("Origin", "http://example.com");
            let direct = http::ask(server.addr(), &request).expect("an answer");
            assert_same(&direct, &proxy.ask(&request));
        }
        let index =
            http::ask(server.addr(), &Request::get("/v2/keys/")).expect("an answer").index();
        let head = Request::new("HEAD", "/v2/keys/a");
        assert_same(&http::ask(server.addr(), &head).expect("an answer"), &proxy.ask(&head));
        let delete = proxy.ask(&Request::new("DELETE", "/v2/keys/large"));
        assert_eq!((delete.status(), delete.index()), (200, index.map(|index| index + 1)));
        let post = Request::new("POST", "/v2/keys/queue").form("value=x");
        assert_eq!(proxy.ask(&post).status(), 201);
        let page = proxy.get("/metrics").text();
        for line in [
            r#"etcd_proxy_requests_total{method="PUT"} 2"#,
            r#"etcd_proxy_handled_total{code="201",method="PUT"} 2"#,
            r#"etcd_proxy_handled_total{code="404",method="GET"}"#,
            "etcd_proxy_handling_duration_seconds_bucket",
        ] {
            assert!(page.contains(line), "no {line} in\n{page}");
        }
        assert_eq!(proxy.ask(&Request::new("PUT", OWN)).status(), 405);
    }
}

#[test]
fn watches_pass_and_end_with_their_client() {
    let server = Server::start(Flavor::Subject);
    let proxy = Proxy::start(&[server.peer_addr()], &[], 1);
    let poll = Open::send(proxy.addr, &Request::get("/v2/keys/a?wait=true")).expect("it is asked");
    assert!(poll.wait(PATIENCE, |progress| progress.head.is_some()), "the head comes at once");
    let stream = "/v2/keys/?wait=true&stream=true&recursive=true";
    let stream = Open::send(proxy.addr, &Request::get(stream)).expect("it is asked");
    wait_until("both watch", || watchers(server.addr()) == "2");
    for n in 1..=3 {
        assert!(proxy.put("/a", &format!("value={n}")).status() < 300);
        assert!(stream.wait(PATIENCE, |progress| progress.lines() == n), "event {n} comes alone");
    }
    assert!(poll.wait(PATIENCE, |progress| progress.ended));
    let polled = poll.progress().reply().expect("an answer").text();
    assert!(polled.contains(r#""value":"1""#), "{polled}");
    assert!(!stream.progress().ended);
    wait_until("one watches", || watchers(server.addr()) == "1");
    stream.close();
    wait_until("the member hears that the client is gone", || watchers(server.addr()) == "0");
}

#[test]
fn a_watch_is_cut_and_not_ended_when_its_member_dies() {
    let mut server = Server::start(Flavor::Subject);
    let proxy = Proxy::start(&[server.peer_addr()], &[], 1);
    let target = "/v2/keys/a?wait=true&stream=true";
    let watch = Open::send(proxy.addr, &Request::get(target)).expect("it is asked");
    wait_until("it watches", || watchers(server.addr()) == "1");
    server.kill();
    assert!(watch.wait(PATIENCE, |progress| progress.ended));
    assert!(watch.progress().error.is_some(), "a proper end would say that nothing is missing");
}

#[test]
fn members_come_and_go_behind_a_proxy() {
    let mut cluster = Cluster::start(Options { loopback: true, ..Options::members(3) });
    cluster.await_healthy();
    let members: serde_json::Value = {
        let reply = cluster.member(0).try_ask(&Request::get("/v2/members")).expect("an answer");
        serde_json::from_str(&reply.text()).expect("JSON")
    };
    let peer = members["members"][1]["peerURLs"][0].as_str().expect("a URL");
    let peer = peer.trim_start_matches("http://").parse().expect("an address");
    // One of them leads to all.
    let proxy = Proxy::start(&[peer], &["--proxy-refresh-interval=200"], 3);
    let client = &mut Client::new(proxy.addr);
    let mut written = 0;
    for victim in 0..3 {
        cluster.kill(victim);
        let begun = Instant::now();
        // No answer may be lost in silence: a write is answered, or it is said that it is not known.
        while begun.elapsed() < Duration::from_secs(3) {
            let reply = client.ask(&put(&format!("/k/{written}"), "value=x")).expect("an answer");
            match reply.status() {
                201 => written += 1,
                502 | 500 | 200 => written += 1,
                other => panic!("{other}: {}", reply.text()),
            }
            let read = client.ask(&Request::get("/v2/keys/k?quorum=false")).expect("an answer");
            assert!(matches!(read.status(), 200 | 404 | 500), "{}", read.text());
        }
        cluster.start_member(victim);
        cluster.await_healthy();
    }
    assert!(written > 10, "only {written}");
    for member in 0..3 {
        cluster.kill(member);
    }
    // Those that failed a moment ago are asked too, after all others.
    let text = r#"{"message":"httpproxy: unable to get response from 3 endpoint(s)"}"#;
    wait_until("all are asked", || {
        let reply = client.ask(&Request::get("/v2/keys/k")).expect("an answer");
        assert_eq!(reply.status(), 502, "{}", reply.text());
        reply.text() == text
    });
}

#[test]
fn a_proxy_that_knows_nobody_says_so_and_looks_again() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = port.local_addr().expect("it is bound");
    drop(port);
    let proxy = Proxy::begin(&[nobody], &[]);
    assert_eq!(proxy.get(OWN).text(), "{\"endpoints\":[]}\n");
    let reply = proxy.get("/v2/keys/a");
    let text = r#"{"message":"httpproxy: zero endpoints currently available"}"#;
    assert_eq!((reply.status(), reply.text().as_str()), (503, text));
    assert_eq!(reply.get("Content-Type").as_deref(), Some("application/json"));
    assert!(proxy.get("/metrics").text().contains(r#"proxying_error="zero_endpoints"} 1"#));
}

#[test]
fn a_read_only_proxy_passes_reads_alone() {
    let server = Server::start(Flavor::Subject);
    let peers = [server.peer_addr()];
    let proxy = Proxy::start(&peers, &["--proxy=readonly"], 1);
    for method in ["PUT", "POST", "DELETE", "HEAD", "PATCH"] {
        let reply = proxy.ask(&Request::new(method, "/v2/keys/a").form("value=x"));
        assert_eq!((reply.status(), reply.text().as_str()), (501, ""), "{method}");
    }
    assert_eq!(proxy.get("/v2/keys/").status(), 200);
    assert_eq!(proxy.get("/v2/keys/a").status(), 404);
}

#[test]
fn the_members_are_known_again_without_the_flags() {
    let server = Server::start(Flavor::Subject);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let list = format!("--initial-cluster=a=http://{},b=http://127.0.0.1:1", server.peer_addr());
    let first = Proxy::of(Process::cairn(&["--proxy=on", &list, "--data-dir", &data]));
    let file = Path::new(&data).join("proxy/cluster");
    wait_until("the members are kept", || file.exists());
    drop(first);
    let kept = fs::read_to_string(&file).expect("a file");
    assert_eq!(kept, format!(r#"{{"PeerURLs":["http://{}"]}}"#, server.peer_addr()));
    let again = Proxy::of(Process::cairn(&["--proxy=on", "--data-dir", &data]));
    wait_until("the member is known", || again.get("/v2/keys/").status() == 200);
    drop(again);
    fs::write(&file, "{").expect("it is ours");
    let damaged = Proxy::of(Process::cairn(&["--proxy=on", &list, "--data-dir", &data]));
    wait_until("the flags are used", || damaged.get("/v2/keys/").status() == 200);
    drop(damaged);

    let refused = |args: &[&str], because: &str| {
        let mut process = Process::cairn(args);
        assert!(!process.end().success());
        assert!(process.log().contains(because), "{}", process.log());
    };
    refused(&["--data-dir", &data], "is the data directory of a proxy");
    let member = server.data_dir().display().to_string();
    refused(&["--proxy=on", &list, "--data-dir", &member], "holds the data of a member");
}

#[test]
fn a_member_too_many_is_a_proxy_where_it_is_told_to() {
    let service = Server::start(Flavor::Subject);
    let server = Server::start(Flavor::Subject);
    let ask = |target: &str, form: &str| {
        let request = Request::new("PUT", format!("/v2/keys/d/{target}")).form(form);
        assert_eq!(http::ask(service.addr(), &request).expect("an answer").status(), 201);
    };
    ask("_config/size", "value=1");
    ask("8e9e05c52164694d", &format!("value=first=http://{}", server.peer_addr()));
    let url = format!("http://{}/v2/keys/d", service.addr());
    let own = "--initial-advertise-peer-urls=http://10.0.0.1:2380";
    let flags = ["--name=late", own, "--discovery", &url];
    let mut refused = Process::cairn(&flags);
    assert!(!refused.end().success());
    assert!(refused.log().contains("discovery: cluster is full"), "{}", refused.log());
    let mut args = flags.to_vec();
    args.push("--discovery-fallback=proxy");
    let proxy = Proxy::of(Process::cairn(&args));
    wait_until("it passes requests on", || proxy.put("/a", "value=x").status() < 300);
    assert_eq!(
        http::ask(server.addr(), &Request::get("/v2/keys/a")).expect("an answer").status(),
        200
    );
    // And one that never wanted to be a member.
    let proxy = Proxy::of(Process::cairn(&["--proxy=on", "--discovery", &url]));
    wait_until("it passes requests on", || proxy.get("/v2/keys/a").status() == 200);
}

#[test]
fn limits_of_time_and_size_have_an_answer() {
    // A member that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent_url = format!("http://{}", silent.local_addr().expect("it is bound"));
    let lists = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let list_addr = lists.local_addr().expect("it is bound");
    thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in lists.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let body = format!(
                r#"[{{"id":1,"peerURLs":["http://{list_addr}"],"name":"a","clientURLs":["{silent_url}"]}}]"#
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: 1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    let args = [
        "--proxy-read-timeout=200",
        "--proxy-write-timeout=200",
        "--proxy-dial-timeout=500",
        "--proxy-failure-wait=1",
        "--max-body-bytes=1000",
    ];
    let proxy = Proxy::start(&[list_addr], &args, 1);
    let begun = Instant::now();
    let read = proxy.get("/v2/keys/a");
    assert_eq!(read.status(), 502, "{}", read.text());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let write = proxy.put("/a", "value=x");
    assert_eq!(write.status(), 502);
    assert!(write.text().contains("may still take effect"), "{}", write.text());
    let large = proxy.put("/a", &format!("value={}", "x".repeat(2000)));
    assert_eq!(large.status(), 413, "{}", large.text());
    // A client that sends half a body and hangs up leaves nothing behind.
    let mut half = Connection::open(proxy.addr).expect("it accepts");
    half.send_raw(b"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nvalue=")
        .expect("it is sent");
    drop(half);
    assert_eq!(proxy.get(OWN).status(), 200);
    let mut process = proxy.process;
    process.terminate();
    assert!(process.end().success(), "{}", process.log());
}

/// Clients that send slowly must not add up in the proxy's memory.
#[test]
fn bodies_under_way_have_a_budget_in_a_proxy_too() {
    let server = Server::start(Flavor::Subject);
    let args = ["--max-body-bytes=100000", "--max-inflight-bytes=200000"];
    let proxy = Proxy::start(&[server.peer_addr()], &args, 1);
    let head = b"PUT /v2/keys/a HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 45050\r\n\r\n";
    let mut slow: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Connection::open(proxy.addr).expect("it accepts");
            client.send_raw(head).expect("it is sent");
            client.send_raw(&[b'x'; 45_000]).expect("it is sent");
            client
        })
        .collect();
    let inflight = || -> u64 {
        let page = proxy.get("/metrics").text();
        let line =
            page.lines().find_map(|line| line.strip_prefix("cairn_requests_inflight_bytes "));
        line.expect("it is counted").parse().expect("a number")
    };
    wait_until("all that was sent is held", || inflight() >= 180_000);
    let form = format!("value={}", "x".repeat(20_000));
    let refused = proxy.put("/a", &form);
    assert_eq!(refused.status(), 503, "{}", refused.text());
    assert!(refused.text().contains("--max-inflight-bytes 200000"), "{}", refused.text());
    assert!(proxy.put("/a", "value=1").status() < 300, "a small write still fits");
    for client in &mut slow {
        client.send_raw(&[b'x'; 50]).expect("it is sent");
        let reply = client.read_reply("PUT", Instant::now() + PATIENCE).expect("an answer");
        assert!(reply.status() < 300, "{}", reply.text());
    }
    wait_until("the budget is given back", || inflight() == 0);
    assert!(proxy.put("/a", &form).status() < 300);
}

/// A member that is stopped takes what its socket holds, and no more.
#[test]
fn a_member_that_takes_nothing_holds_up_no_write_for_ever() {
    let mut server = Server::start(Flavor::Subject);
    let args = ["--proxy-write-timeout=500", "--max-body-bytes=33554432"];
    let proxy = Proxy::start(&[server.peer_addr()], &args, 1);
    assert_eq!(proxy.put("/a", "value=1").status(), 201);
    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::STOP).expect("it is ours");
    let large = "x".repeat(31 << 20);
    let begun = Instant::now();
    let reply = http::ask_within(proxy.addr, &put("/a", &format!("value={large}")), PATIENCE);
    let reply = reply.expect("an answer");
    assert_eq!(reply.status(), 502, "{}", reply.text());
    assert!(reply.text().contains("may still take effect"), "{}", reply.text());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    kill_process(pid, Signal::CONT).expect("it is ours");
    server.kill();
}
