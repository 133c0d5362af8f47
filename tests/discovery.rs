//! `--discovery` and `/new`: founders that find each other in a directory of keys, at a real etcd and at cairn.
//!
//! Most founders here are calls of the library, which need no process. Without etcd only cairn is asked, and only with
//! `CAIRN_SKIP_ETCD=1`.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use cairn::config::TlsFlags;
use cairn::discovery::{self, DiscoveryError, Founders, Own, RetryPolicy};
use cairn::disk::{
    DataDir, LogDir, LogOwner, PrepareSpare, RealFiles, Wal, WalError, WalObserver, WalOptions,
};
use cairn::model::Discovery;
use cairn::replica::identity;
use cairn::tls::{Tls, Trust};
use serde_json::Value;
use support::http::{self, Client, Reply, Request};
use support::process::Process;
use support::server::{Flavor, Server, etcd_is_there};

/// Whom founders can be sent to.
/// TLS without files of its own.
fn no_files() -> Arc<Tls> {
    Arc::new(
        Tls::load(TlsFlags::default(), Trust::ConfiguredOrPublic, &[]).expect("no file is named"),
    )
}

fn flavors() -> Vec<Flavor> {
    if env::var_os("CAIRN_SKIP_ETCD").is_some_and(|v| v == "1") {
        eprintln!("skipped: no real etcd as discovery service (CAIRN_SKIP_ETCD=1)");
        return vec![Flavor::Subject];
    }
    assert!(etcd_is_there(), "no etcd: set ETCD_BIN, or CAIRN_SKIP_ETCD=1");
    vec![Flavor::Etcd, Flavor::Subject]
}

fn ask(server: &Server, method: &str, target: &str) -> Reply {
    http::ask(server.addr(), &Request::new(method, target)).expect("an answer")
}

/// A directory for `size` founders, made by hand.
fn directory(server: &Server, name: &str, size: &str) -> String {
    let target = format!("/v2/keys/disc/{name}/_config/size?value={size}");
    assert_eq!(ask(server, "PUT", &target).status(), 201);
    format!("http://{}/v2/keys/disc/{name}", server.addr())
}

/// Keys and values in a directory.
fn entries(url: &str) -> Vec<(String, String)> {
    let (address, path) =
        url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL");
    let address: SocketAddr = address.parse().expect("an address");
    let reply = http::ask(address, &Request::get(&format!("/{path}?sorted=true")));
    let body: Value = serde_json::from_str(&reply.expect("an answer").text()).expect("JSON");
    let text = |node: &Value, field: &str| node[field].as_str().unwrap_or_default().to_owned();
    let nodes = body["node"]["nodes"].as_array().cloned().unwrap_or_default();
    let name = |key: String| key.rsplit('/').next().unwrap_or_default().to_owned();
    nodes.iter().map(|node| (name(text(node, "key")), text(node, "value"))).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + http::PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Quick, so that no test waits for a pause.
const QUICK: RetryPolicy =
    RetryPolicy { first_pause: Duration::from_millis(1), doublings_max: 4, tries_max: u32::MAX };

/// A member's way through discovery, from the flag to the list.
fn found_with(
    url: &str,
    proxy: Option<&str>,
    name: &str,
    peer: &str,
    patience: RetryPolicy,
) -> Result<Founders, DiscoveryError> {
    let discovery =
        Discovery::Registry { url: url.to_owned(), proxy: proxy.map(ToOwned::to_owned) };
    let own = Own { name, peer_urls: &[peer.to_owned()], id_of: identity::founding_member };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(discovery::found(&discovery, &own, patience, no_files()))
}

fn found(url: &str, name: &str, peer: &str) -> Result<Founders, DiscoveryError> {
    found_with(url, None, name, peer, QUICK)
}

/// The text for the operator, if there is one.
fn refusal(outcome: Result<Founders, DiscoveryError>) -> String {
    outcome.expect_err("it is refused").to_string()
}

fn peer(number: usize) -> String {
    format!("http://10.0.0.{number}:2380")
}

#[test]
fn founders_find_each_other_at_the_same_time() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        let url = directory(&server, "five", "5");
        let lists: Vec<Founders> = thread::scope(|scope| {
            let founders: Vec<_> = (1..=5)
                .map(|n| (format!("n{n}"), peer(n), &url))
                .map(|(name, peer, url)| scope.spawn(move || found(url, &name, &peer)))
                .collect();
            founders
                .into_iter()
                .map(|founder| founder.join().expect("no panic").expect("a list"))
                .collect()
        });
        let first = &lists[0];
        assert!(lists.iter().all(|list| list == first), "{lists:?}");
        assert!(!first.registered_before);
        let mut members = first.members.clone();
        members.sort();
        let wanted = (1..=5).map(|n| (format!("n{n}"), vec![peer(n)]));
        assert_eq!(members, wanted.collect::<Vec<_>>());
        assert_eq!(entries(&url).len(), 5);
    }
}

#[test]
fn a_member_too_many_is_told_which_members_were_first() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        let url = directory(&server, "one", "1");
        let first = found(&url, "first", &peer(1)).expect("a cluster of one");
        assert_eq!(first.members, [("first".to_owned(), vec![peer(1)])]);
        let text = refusal(found(&url, "late", &peer(2)));
        assert!(text.starts_with("discovery: cluster is full: 1 other members"), "{text}");
        assert!(text.contains("(first)"), "{text}");
        assert_eq!(entries(&url).len(), 1, "a refused member leaves no trace");
    }
}

#[test]
fn a_directory_that_is_none_is_named_with_the_fix() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        let at = |path: &str| found(&format!("http://{}{path}", server.addr()), "a", &peer(1));
        let text = refusal(at("/v2/keys/disc/none"));
        assert!(text.starts_with("discovery: size key not found: "), "{text}");
        assert!(text.contains("/new?size=3"), "{text}");
        for size in ["abc", "0", "-1", "65", "", "1.5"] {
            let url = directory(&server, &format!("bad{size}"), size);
            let text = refusal(found(&url, "a", &peer(1)));
            assert!(text.starts_with("discovery: size key is bad: "), "{text}");
            assert!(text.contains(&format!("{size:?}")), "{text}");
        }
        assert_eq!(ask(&server, "PUT", "/v2/keys/file?value=1").status(), 201);
        for path in ["/v2/keys/file", "/nothing", "/version", "/v2/stats/self"] {
            let text = refusal(at(path));
            assert!(text.starts_with("discovery: bad discovery endpoint: http://"), "{text}");
        }
        // Slashes that lead nowhere are no reason to fail, though the URL stays the token as it is.
        directory(&server, "clean", "1");
        assert!(at("//v2/keys/disc//clean/").is_ok());
    }
}

#[test]
fn two_members_cannot_have_one_name_or_one_place() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        let url = directory(&server, "names", "2");
        let texts = thread::scope(|scope| {
            let [one, other] = [1, 2].map(|n| {
                let url = &url;
                scope.spawn(move || refusal(found(url, "same", &peer(n))))
            });
            [one, other].map(|founder| founder.join().expect("no panic"))
        });
        for text in texts {
            assert!(text.starts_with("discovery: found duplicate name: \"same\""), "{text}");
        }
        let url = directory(&server, "ids", "1");
        found(&url, "a", &peer(1)).expect("a cluster of one");
        let text = refusal(found(&url, "b", &peer(1)));
        assert!(text.starts_with("discovery: found duplicate id: "), "{text}");
        assert!(text.contains("a=http://10.0.0.1:2380"), "{text}");
    }
}

#[test]
fn members_that_spell_the_url_differently_are_told() {
    let server = Server::start(Flavor::Subject);
    let url = directory(&server, "spelt", "2");
    let texts = thread::scope(|scope| {
        let plain = scope.spawn(|| refusal(found(&url, "a", &peer(1))));
        let slash = scope.spawn(|| refusal(found(&format!("{url}/"), "b", &peer(2))));
        [plain, slash].map(|founder| founder.join().expect("no panic"))
    });
    for text in texts {
        assert!(text.contains("write the URL in exactly the same way on all members"), "{text}");
    }
}

/// What is waited for: a founder that is dropped while it waits, as a member that is stopped.
fn register_and_stop(url: &str, name: &str, peer: &str) {
    let discovery = Discovery::Registry { url: url.to_owned(), proxy: None };
    let own = Own { name, peer_urls: &[peer.to_owned()], id_of: identity::founding_member };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let wait = async {
            let value = format!("{name}={peer}");
            loop {
                let url = url.to_owned();
                let entries = tokio::task::spawn_blocking(move || entries(&url)).await;
                if entries.expect("no panic").iter().any(|(_, found)| *found == value) {
                    return;
                }
            }
        };
        tokio::select! {
            outcome = discovery::found(&discovery, &own, QUICK, no_files()) => panic!("it did not wait: {outcome:?}"),
            () = wait => {}
        }
    });
}

#[test]
fn a_member_that_was_stopped_half_way_goes_on() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        let url = directory(&server, "again", "2");
        register_and_stop(&url, "a", &peer(1));
        let [a, b] = thread::scope(|scope| {
            let founders = [(1, "a"), (2, "b")].map(|(n, name)| {
                let url = &url;
                scope.spawn(move || found(url, name, &peer(n)).expect("a list"))
            });
            founders.map(|founder| founder.join().expect("no panic"))
        });
        assert_eq!(a.members, b.members);
        assert_eq!(a.members[0].0, "a", "its place is that of its first start");
        assert!(a.registered_before && !b.registered_before);
        assert_eq!(found(&url, "b", &peer(2)).expect("a list").members, a.members);
    }
}

#[test]
fn a_service_that_is_away_is_waited_for() {
    for flavor in flavors() {
        let mut server = Server::start(flavor);
        let url = directory(&server, "away", "2");
        server.kill();
        let thrice = RetryPolicy { tries_max: 3, ..QUICK };
        let text = refusal(found_with(&url, None, "a", &peer(1), thrice));
        assert!(text.starts_with("discovery: too many retries: 3 in a row failed"), "{text}");
        thread::scope(|scope| {
            let a = scope.spawn(|| found(&url, "a", &peer(1)));
            server.restart();
            wait_until("the registration", || entries(&url).len() == 1);
            // And once more, while a founder waits for the other.
            server.kill();
            server.restart();
            let b = found(&url, "b", &peer(2)).expect("a list");
            assert_eq!(a.join().expect("no panic").expect("a list").members, b.members);
        });
    }
}

/// Passes connections on to `to`, and tells the first line of each.
fn proxy(to: SocketAddr) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (lines_tx, lines_rx) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let lines_tx = lines_tx.clone();
            thread::spawn(move || pass_on(client?, to, &lines_tx));
        }
    });
    (address, lines_rx)
}

fn pass_on(mut client: TcpStream, to: SocketAddr, lines: &mpsc::Sender<String>) -> io::Result<()> {
    let mut server = TcpStream::connect(to)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || io::copy(&mut from_server, &mut to_client));
    let mut first = [0; 4096];
    let count = io::Read::read(&mut client, &mut first)?;
    let head = String::from_utf8_lossy(&first[..count]).into_owned();
    // That no reader is left is fine.
    let _ = lines.send(head.lines().next().unwrap_or_default().to_owned());
    io::Write::write_all(&mut server, &first[..count])?;
    io::copy(&mut client, &mut server).map(drop)
}

#[test]
fn a_proxy_leads_to_a_host_that_this_machine_does_not_know() {
    for flavor in flavors() {
        let server = Server::start(flavor);
        directory(&server, "far", "1");
        let (proxy, lines) = proxy(server.addr());
        let url = "http://far.invalid:2379/v2/keys/disc/far";
        let list = found_with(url, Some(&proxy.to_string()), "a", &peer(1), QUICK);
        assert_eq!(list.expect("a cluster of one").members.len(), 1);
        let line = lines.recv().expect("the proxy was asked");
        assert!(
            line.starts_with("GET http://far.invalid:2379/v2/keys/disc/far/_config/size"),
            "{line}"
        );
    }
}

/// What `/new` answers.
fn new_directory(server: &Server, size: usize) -> String {
    let reply = ask(server, "GET", &format!("/new?size={size}"));
    assert_eq!(reply.status(), 200, "{}", reply.text());
    reply.text()
}

#[test]
fn new_makes_a_hidden_directory_and_says_where() {
    let server = Server::start(Flavor::Subject);
    let base = format!("http://{}/v2/keys/_etcd/registry/", server.addr());
    let mut tokens = Vec::new();
    for (method, target, size) in
        [("GET", "/new", "3"), ("GET", "/new?size=5", "5"), ("PUT", "/new?size=1", "1")]
    {
        let reply = ask(&server, method, target);
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.get("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.get("Cache-Control").as_deref(), Some("no-store"));
        let token = reply.text().strip_prefix(&base).expect("a URL of this member").to_owned();
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        let key = ask(&server, "GET", &format!("/v2/keys/_etcd/registry/{token}/_config/size"));
        assert!(key.text().contains(&format!("\"value\":\"{size}\"")), "{}", key.text());
        assert!(!tokens.contains(&token));
        tokens.push(token);
    }
    assert!(!ask(&server, "GET", "/v2/keys/?recursive=true").text().contains("_etcd"));
    let named = Request::get("/new?size=1").header("Host", "kv.example:80");
    let named = http::ask(server.addr(), &named).expect("an answer").text();
    assert!(named.starts_with("http://kv.example:80/v2/keys/_etcd/registry/"), "{named}");
}

#[test]
fn new_refuses_what_it_cannot_make() {
    let server = Server::start(Flavor::Subject);
    for size in ["0", "65", "-1", "x", "", "3.5"] {
        let reply = ask(&server, "GET", &format!("/new?size={size}"));
        assert_eq!(reply.status(), 400, "{size}");
        assert!(reply.text().contains("from 1 to 64"), "{}", reply.text());
    }
    let host = Request::get("/new").header("Host", "u@h");
    assert_eq!(http::ask(server.addr(), &host).expect("an answer").status(), 400);
    for method in ["HEAD", "POST", "DELETE"] {
        let reply = ask(&server, method, "/new?size=3");
        assert_eq!((reply.status(), reply.get("Allow").as_deref()), (405, Some("GET,PUT")));
    }
    let registry = ask(&server, "GET", "/v2/keys/_etcd");
    assert_eq!(registry.status(), 404, "nothing was made: {}", registry.text());
}

fn cluster_id(server: &Server) -> String {
    ask(server, "GET", "/v2/members").get("X-Etcd-Cluster-Id").expect("a cluster has an id")
}

/// The proof that cairn is a discovery service: those who wrote the protocol use it.
#[test]
fn three_real_etcds_find_each_other_at_cairn() {
    if flavors() == [Flavor::Subject] {
        return;
    }
    let service = Server::start(Flavor::Subject);
    let url = new_directory(&service, 3);
    let flag = format!("--discovery={url}");
    let members: Vec<Server> = thread::scope(|scope| {
        let starts: Vec<_> = (1..=3)
            .map(|n| (format!("--name=e{n}"), &flag))
            .map(|(name, flag)| {
                scope.spawn(move || Server::start_with(Flavor::Etcd, &[&name, flag]))
            })
            .collect();
        starts.into_iter().map(|start| start.join().expect("it starts")).collect()
    });
    let put = Request::new("PUT", "/v2/keys/a").form("value=1");
    assert_eq!(http::ask(members[0].addr(), &put).expect("an answer").status(), 201);
    assert!(ask(&members[2], "GET", "/v2/keys/a?quorum=true").text().contains("\"value\":\"1\""));

    // A founder of ours that comes back as one of them sees the cluster as they do: names, URLs, ids.
    let (key, value) = entries(&url).remove(0);
    let (name, peer) = value.split_once('=').expect("name=url");
    let list = found(&url, name, peer).expect("the whole list");
    assert!(list.registered_before);
    let ids: Vec<_> =
        list.members.iter().map(|(_, urls)| identity::founding_member(urls, &url)).collect();
    assert!(ids.iter().any(|id| id.to_string() == key));
    assert_eq!(identity::cluster(ids.iter().copied()).to_string(), cluster_id(&members[0]));
    let shown = ask(&members[1], "GET", "/v2/members").text();
    for ((name, urls), id) in list.members.iter().zip(&ids) {
        let member =
            format!("{{\"id\":\"{id}\",\"name\":\"{name}\",\"peerURLs\":[\"{}\"]", urls[0]);
        assert!(shown.contains(&member), "{member} in {shown}");
    }
    let text = refusal(found(&url, "late", "http://10.0.0.9:2380"));
    assert!(text.starts_with("discovery: cluster is full: 3 "), "{text}");
}

#[test]
fn a_member_starts_by_discovery_and_needs_it_only_once() {
    for flavor in flavors() {
        let mut service = Server::start(flavor);
        let url = match flavor {
            Flavor::Etcd => directory(&service, "cairn", "1"),
            Flavor::Subject => new_directory(&service, 1),
        };
        let flag = format!("--discovery={url}");
        let mut member = Server::start_with(Flavor::Subject, &[&flag]);
        let peer = format!("http://{}", member.peer_addr());
        let id = identity::founding_member(&[peer], &url);
        assert_eq!(cluster_id(&member), identity::cluster([id]).to_string());
        assert_eq!(entries(&url)[0].0, id.to_string());
        let mut client = Client::new(member.addr());
        let put = Request::new("PUT", "/v2/keys/a").form("value=1");
        assert_eq!(client.ask(&put).expect("an answer").status(), 201);
        let before = cluster_id(&member);

        service.kill();
        member.kill();
        member.restart();
        assert_eq!(cluster_id(&member), before);
        assert_eq!(ask(&member, "GET", "/v2/keys/a").status(), 200);
        let log = std::fs::read_to_string(member.log_path()).expect("a log");
        let words = "discovery token ignored since a cluster has already been initialized";
        assert!(log.contains(words), "{log}");
    }
}

/// A log without readers.
struct Deaf;

impl WalObserver for Deaf {
    fn written(&self, _: usize) {}
    fn synced(&self, _: Duration) {}
    fn failed(&self, _: &WalError) {}
}

/// A start that was cut off when the log was made and nothing stood in it.
#[test]
fn a_member_that_died_before_its_first_entry_asks_again() {
    let service = Server::start(Flavor::Subject);
    let url = new_directory(&service, 1);
    found(&url, "a", &peer(1)).expect("a cluster of one");
    let id = identity::founding_member(&[peer(1)], &url);
    let cluster = identity::cluster([id]);
    let data = tempfile::tempdir().expect("a folder");
    let dir = DataDir::open(&RealFiles, data.path()).expect("a data directory");
    let log = LogDir::open(&RealFiles, &dir, None).expect("the place of the log");
    let owner = LogOwner { cluster: cluster.0, member: id.0 };
    let options = WalOptions { prepare: PrepareSpare::Never, ..WalOptions::default() };
    let files = Arc::new(RealFiles);
    let (wal, _) = Wal::open(files, log.path(), owner, options, Arc::new(Deaf)).expect("a log");
    wal.shutdown();
    drop((wal, log, dir));

    let data = data.path().to_str().expect("a path in UTF-8");
    let own = format!("--initial-advertise-peer-urls={}", peer(1));
    let mut member = Process::cairn(&["--name=a", "--discovery", &url, &own, "--data-dir", data]);
    member.line("found self");
    member.line(&format!("to cluster {cluster}"));
    member.line("ready to serve client requests");
}

#[test]
fn a_member_that_waits_for_others_can_be_stopped() {
    let service = Server::start(Flavor::Subject);
    let url = new_directory(&service, 2);
    let peer = "http://127.0.0.1:2380";
    let mut member = Process::cairn(&["--discovery", &url, "--initial-advertise-peer-urls", peer]);
    member.line("found 1 peer(s), waiting for 1 more");
    member.terminate();
    assert!(member.end().success());
    assert_eq!(entries(&url).len(), 1);
}

#[test]
fn a_member_that_is_refused_says_why_and_exits() {
    let service = Server::start(Flavor::Subject);
    let url = new_directory(&service, 1);
    found(&url, "first", &peer(1)).expect("a cluster of one");
    let mut member = Process::cairn(&["--discovery", &url, "--name", "late"]);
    let line = member.line("discovery: cluster is full");
    assert!(line.contains("(first)"), "{line}");
    assert_eq!(member.end().code(), Some(1));
}
