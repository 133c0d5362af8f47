//! Every flag that works does something that can be seen from outside.
//!
//! A member is started with each of them set to another value than its default, writes, reads, and is looked at. A row of the
//! table of flags that works and has no case here fails the test. Some flags need other machines than a member: their cases
//! name the test that has them.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cairn::config::flags::{self, Status};
use support::cluster::{Cluster, Options};
use support::http::{self, Client, Connection, Open, Request};
use support::port::Port;
use support::process::Process;
use support::server::{Flavor, Server};

const READY: &str = "ready to serve client requests";
/// Cases at a time: each is mostly waiting for a member.
const AT_ONCE: usize = 4;
/// Something must not happen: it is given so long.
const NEVER: Duration = Duration::from_millis(500);

enum Case {
    /// Checked here.
    Here(fn()),
    /// Checked by this test, as `binary::module::sentence`.
    Elsewhere(&'static str),
}

use Case::{Elsewhere, Here};

const CASES: &[(&str, Case)] = &[
    ("name", Here(name)),
    ("data-dir", Here(data_dir)),
    ("wal-dir", Elsewhere("data_dir::a_log_of_its_own_place_is_found_and_never_begun_anew")),
    ("heartbeat-interval", Here(heartbeat_interval_and_election_timeout)),
    ("election-timeout", Here(|| {})), // with the one above: they must fit
    ("listen-peer-urls", Here(listen_peer_urls)),
    ("listen-client-urls", Here(listen_client_urls)),
    ("listen-client-http-urls", Here(listen_client_http_urls)),
    ("initial-advertise-peer-urls", Here(initial_advertise_peer_urls)),
    ("initial-cluster", Here(initial_cluster)),
    ("initial-cluster-state", Elsewhere("bootstrap::members::members_come_and_go")),
    ("initial-cluster-token", Here(initial_cluster_token)),
    ("advertise-client-urls", Here(advertise_client_urls)),
    ("discovery", Elsewhere("discovery::a_member_starts_by_discovery_and_needs_it_only_once")),
    (
        "discovery-fallback",
        Elsewhere("proxy::main::a_member_too_many_is_a_proxy_where_it_is_told_to"),
    ),
    ("discovery-proxy", Here(discovery_proxy)),
    ("discovery-srv", Elsewhere("discovery_srv::a_member_starts_by_the_dns_alone")),
    ("discovery-srv-name", Elsewhere("discovery_srv::a_member_starts_by_the_dns_alone")),
    ("discovery-dns", Elsewhere("discovery_srv::a_member_starts_by_the_dns_alone")),
    ("strict-reconfig-check", Here(strict_reconfig_check)),
    (
        "auto-compaction-retention",
        Elsewhere("v3_live::lease::what_is_older_than_said_is_compacted_by_itself"),
    ),
    (
        "auto-compaction-mode",
        Elsewhere("v3_live::lease::what_is_older_than_said_is_compacted_by_itself"),
    ),
    (
        "auth-token-ttl",
        Elsewhere("v3_live::tokens::a_token_lives_so_long_after_its_last_use_as_said"),
    ),
    ("auth-token", Elsewhere("v3_live::signed::a_signed_token_says_who_its_bearer_is")),
    ("bcrypt-cost", Elsewhere("v3_live::signed::the_cost_of_a_password_is_what_is_said")),
    ("enable-grpc-gateway", Elsewhere("v3_live::signed::the_gateway_can_be_left_out")),
    (
        "experimental-watch-progress-notify-interval",
        Elsewhere("v3_live::watch::quiet_watchers_hear_that_there_is_nothing"),
    ),
    (
        "force-new-cluster",
        Elsewhere("bootstrap::survivor::a_survivor_goes_on_alone_and_grows_again"),
    ),
    ("proxy", Elsewhere("proxy::main::a_read_only_proxy_passes_reads_alone")),
    ("proxy-failure-wait", Elsewhere("proxy::main::limits_of_time_and_size_have_an_answer")),
    ("proxy-refresh-interval", Elsewhere("proxy::main::members_come_and_go_behind_a_proxy")),
    ("proxy-dial-timeout", Elsewhere("proxy::main::limits_of_time_and_size_have_an_answer")),
    ("proxy-write-timeout", Elsewhere("proxy::main::limits_of_time_and_size_have_an_answer")),
    ("proxy-read-timeout", Elsewhere("proxy::main::limits_of_time_and_size_have_an_answer")),
    ("cert-file", Elsewhere("tls::main::both_versions_and_all_kinds_of_keys_are_spoken")),
    ("key-file", Elsewhere("tls::main::both_versions_and_all_kinds_of_keys_are_spoken")),
    (
        "client-cert-auth",
        Elsewhere("tls::main::the_health_check_speaks_tls_by_the_members_own_flags"),
    ),
    ("trusted-ca-file", Elsewhere("tls::refused::an_authority_alone_demands_certificates_too")),
    ("ca-file", Elsewhere("tls::refused::an_authority_alone_demands_certificates_too")),
    (
        "client-crl-file",
        Elsewhere(
            "tls::refused::only_certificates_of_the_authority_that_hold_and_are_not_revoked_come_in",
        ),
    ),
    ("client-cert-allowed-hostname", Elsewhere("tls::refused::a_host_name_can_be_demanded")),
    ("auto-tls", Elsewhere("tls::made::a_member_makes_a_certificate_for_itself_and_keeps_it")),
    ("peer-auto-tls", Elsewhere("tls::made::a_member_makes_a_certificate_for_itself_and_keeps_it")),
    (
        "peer-cert-file",
        Elsewhere("tls::cluster::members_show_certificates_to_each_other_and_strangers_stay_out"),
    ),
    (
        "peer-key-file",
        Elsewhere("tls::cluster::members_show_certificates_to_each_other_and_strangers_stay_out"),
    ),
    (
        "peer-client-cert-auth",
        Elsewhere("tls::cluster::members_show_certificates_to_each_other_and_strangers_stay_out"),
    ),
    (
        "peer-trusted-ca-file",
        Elsewhere("tls::cluster::members_show_certificates_to_each_other_and_strangers_stay_out"),
    ),
    (
        "peer-cert-allowed-cn",
        Elsewhere("tls::cluster::members_show_certificates_to_each_other_and_strangers_stay_out"),
    ),
    ("peer-ca-file", Elsewhere("tls::cluster::peers_can_be_revoked_and_must_have_the_right_name")),
    ("peer-crl-file", Elsewhere("tls::cluster::peers_can_be_revoked_and_must_have_the_right_name")),
    (
        "peer-cert-allowed-hostname",
        Elsewhere("tls::cluster::peers_can_be_revoked_and_must_have_the_right_name"),
    ),
    ("cipher-suites", Elsewhere("tls::refused::versions_and_suites_can_be_chosen")),
    ("tls-min-version", Elsewhere("tls::refused::versions_and_suites_can_be_chosen")),
    ("tls-max-version", Elsewhere("tls::refused::versions_and_suites_can_be_chosen")),
    ("cors", Here(cors)),
    ("host-whitelist", Here(host_whitelist)),
    ("logger", Here(logger)),
    ("log-outputs", Here(|| log_goes_to_a_file("--log-outputs"))),
    ("log-output", Here(|| log_goes_to_a_file("--log-output"))),
    ("log-level", Here(log_level)),
    (
        "log-package-levels",
        Elsewhere("journal::a_package_can_be_silenced_and_unknown_ones_are_named"),
    ),
    ("debug", Here(debug)),
    ("enable-pprof", Here(enable_pprof)),
    ("metrics", Here(metrics)),
    ("listen-metrics-urls", Here(listen_metrics_urls)),
    ("unsafe-no-fsync", Here(unsafe_no_fsync)),
    ("history-events", Here(|| history_ends("--history-events=2"))),
    ("history-bytes", Here(|| history_ends("--history-bytes=600"))),
    (
        "auto-compaction-bytes",
        Elsewhere("v3_live::lease::superseded_values_take_no_more_memory_than_said"),
    ),
    ("checkpoint-wal-bytes", Here(checkpoint_wal_bytes)),
    ("checkpoint-cache-bytes", Here(checkpoint_cache_bytes)),
    (
        "quota-backend-bytes",
        Elsewhere("space::a_write_of_version_3_beyond_the_quota_raises_an_alarm_that_stays"),
    ),
    ("quota-bytes", Elsewhere("space::at_the_quota_only_writes_go_on_that_need_no_room")),
    (
        "reserve-bytes",
        Elsewhere("space::a_full_disk_refuses_what_needs_room_and_a_restart_finds_it_so"),
    ),
    ("max-body-bytes", Here(max_body_bytes)),
    (
        "max-inflight-bytes",
        Elsewhere("budget::bodies_under_way_have_a_budget_and_an_answer_and_small_writes_go_on"),
    ),
    ("max-header-bytes", Here(max_header_bytes)),
    ("max-headers", Here(max_headers)),
    ("max-request-bytes", Here(max_request_bytes)),
    ("max-txn-ops", Here(max_txn_ops)),
    ("max-concurrent-streams", Here(max_concurrent_streams)),
    ("grpc-keepalive-interval", Here(grpc_keepalive)),
    ("grpc-keepalive-timeout", Here(grpc_keepalive)),
    ("header-timeout", Here(header_timeout)),
    ("idle-timeout", Here(idle_timeout)),
    ("max-connections", Here(max_connections)),
    ("max-connections-per-ip", Here(max_connections_per_ip)),
    ("auth-closed-guest", Here(auth_closed_guest)),
    ("max-watchers", Here(max_watchers)),
    ("max-key-bytes", Here(max_key_bytes)),
    ("max-key-depth", Here(max_key_depth)),
    ("config-file", Here(config_file)),
    ("version", Here(|| says("--version", "etcd Version"))),
    ("help", Here(|| says("--help", "--data-dir"))),
];

fn working() -> BTreeSet<&'static str> {
    flags::all().filter(|flag| flag.status == Status::Works).map(|flag| flag.name).collect()
}

#[test]
fn every_flag_that_works_has_a_case_and_no_other_has() {
    let cases: BTreeSet<_> = CASES.iter().map(|(flag, _)| *flag).collect();
    assert_eq!(cases, working());
    assert_eq!(cases.len(), CASES.len(), "a flag has two cases");
}

#[test]
fn cases_that_are_elsewhere_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (flag, case) in CASES {
        let Elsewhere(test) = case else { continue };
        let words: Vec<_> = test.split("::").collect();
        let (path, function) = (&words[..words.len() - 1], words[words.len() - 1]);
        let text = fs::read_to_string(root.join(path.join("/")).with_extension("rs"));
        let text = text.unwrap_or_else(|error| panic!("{flag}: {test}: {error}"));
        assert!(text.contains(&format!("fn {function}()")), "{flag}: no test is called {test}");
        let said = format!("--{flag}");
        assert!(text.contains(&said), "{test} says nothing of {said}");
    }
}

#[test]
fn every_flag_that_works_has_an_effect() {
    let next = AtomicUsize::new(0);
    let wrong: Vec<_> = thread::scope(|scope| {
        let worker = || {
            let mut wrong = Vec::new();
            while let Some((flag, case)) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Here(check) = case else { continue };
                if std::panic::catch_unwind(check).is_err() {
                    wrong.push(*flag);
                }
            }
            wrong
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("panics are caught")).collect()
    });
    assert!(wrong.is_empty(), "{wrong:?}: see above");
}

/// One member on ports that the system chose, which has written and read.
struct Member {
    process: Process,
    addr: SocketAddr,
}

impl Member {
    fn told(args: &[&str]) -> Self {
        let mut process = Process::cairn(args);
        process.line(READY);
        let addr = address_behind(&mut process, "client requests on ");
        let this = Self { process, addr };
        this.writes_and_reads();
        this
    }

    fn writes_and_reads(&self) {
        let put = self.put("/check", "written");
        assert_eq!(put.status(), 201, "{}", put.text());
        let got = self.get("/v2/keys/check?quorum=true");
        assert!(got.status() == 200 && got.text().contains("written"), "{}", got.text());
    }

    fn ask(&self, request: &Request) -> http::Reply {
        http::ask(self.addr, request).expect("an answer")
    }

    fn get(&self, target: &str) -> http::Reply {
        self.ask(&Request::get(target))
    }

    fn put(&self, key: &str, value: &str) -> http::Reply {
        self.ask(&put(key, value))
    }
}

fn put(key: &str, value: &str) -> Request {
    Request::new("PUT", format!("/v2/keys{key}")).form(format!("value={value}"))
}

fn address_behind(process: &mut Process, words: &str) -> SocketAddr {
    let line = process.line(words);
    let (_, rest) = line.split_once(words).expect("it was waited for");
    let text: String =
        rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    text.trim_end_matches(':').parse().unwrap_or_else(|_| panic!("no address: {line}"))
}

fn name() {
    let member = Member::told(&["--name=elsewhere"]);
    assert!(member.get("/v2/members").text().contains(r#""name":"elsewhere""#));
}

fn data_dir() {
    let member = Member::told(&["--data-dir=other"]);
    assert!(member.process.folder().join("other/member.json").is_file());
}

/// Three members that beat rarely and are patient: a follower hears few heartbeats, and the leader's death is noticed late.
fn heartbeat_interval_and_election_timeout() {
    let mut options = Options { loopback: true, ..Options::members(3) };
    options.args = vec!["--heartbeat-interval=400".into(), "--election-timeout=4000".into()];
    let mut cluster = Cluster::start(options);
    let leader = cluster.await_leader();
    let beats = |cluster: &Cluster| {
        let text =
            cluster.member(leader).try_ask(&Request::get("/metrics")).expect("an answer").text();
        number_behind(&text, "etcd_network_peer_round_trip_time_seconds_count{")
    };
    let (before, begun) = (beats(&cluster), Instant::now());
    cluster.wait_until("a few heartbeats", |cluster| beats(cluster) >= before + 5.0);
    // With the default of 100 ms it would be half a second.
    assert!(begun.elapsed() > Duration::from_millis(1200), "{:?}", begun.elapsed());
    cluster.kill(leader);
    let killed = Instant::now();
    cluster.await_leader();
    // With the default of a second it would be 1.5 s at most.
    assert!(killed.elapsed() > Duration::from_secs(3), "{:?}", killed.elapsed());
}

fn listen_peer_urls() {
    let port = Port::reserve().expect("the system has free ports");
    let mut member =
        Member::told(&["--listen-peer-urls", &format!("http://127.0.0.1:0,{}", port.url())]);
    let reply = http::ask(port.addr(), &Request::get("/members")).expect("peers are answered");
    assert_eq!(reply.status(), 200);
    member.process.line(&format!("listening for peers on {}", port.addr()));
}

fn listen_client_urls() {
    let port = Port::reserve().expect("the system has free ports");
    let urls = format!("http://127.0.0.1:0,{}", port.url());
    let _member = Member::told(&["--listen-client-urls", &urls]);
    assert_eq!(http::ask(port.addr(), &Request::get("/version")).expect("an answer").status(), 200);
}

fn listen_client_http_urls() {
    let port = Port::reserve().expect("the system has free ports");
    let _member = Member::told(&["--listen-client-http-urls", &port.url()]);
    assert_eq!(http::ask(port.addr(), &Request::get("/version")).expect("an answer").status(), 200);
}

fn initial_advertise_peer_urls() {
    let member = Member::told(&["--initial-advertise-peer-urls=http://127.0.0.1:7001"]);
    assert!(member.get("/v2/members").text().contains(r#""peerURLs":["http://127.0.0.1:7001"]"#));
}

fn initial_cluster() {
    let urls = "http://127.0.0.1:7001,http://127.0.0.1:7002";
    let list = "default=http://127.0.0.1:7001,default=http://127.0.0.1:7002";
    let flags = ["--initial-advertise-peer-urls", urls, "--initial-cluster", list];
    let members = Member::told(&flags).get("/v2/members").text();
    assert!(members.contains("7001") && members.contains("7002"), "{members}");
    // A founder waits for the others.
    let two = "default=http://127.0.0.1:7001,other=http://127.0.0.1:7002";
    let mut waiting = Process::cairn(&[
        "--initial-advertise-peer-urls=http://127.0.0.1:7001",
        "--initial-cluster",
        two,
    ]);
    waiting.line("listening for peers");
    thread::sleep(NEVER);
    assert!(waiting.is_alive() && !waiting.log().contains(READY), "{}", waiting.log());
}

fn initial_cluster_token() {
    let id = |args: &[&str]| {
        Member::told(args)
            .get("/version")
            .get("X-Etcd-Cluster-Id")
            .or_else(|| Member::told(args).get("/v2/keys/").get("X-Etcd-Cluster-Id"))
    };
    assert_ne!(id(&["--initial-cluster-token=other"]), id(&[]));
}

fn advertise_client_urls() {
    let member = Member::told(&["--advertise-client-urls=http://client.example:2379"]);
    let members = member.get("/v2/members").text();
    assert!(members.contains(r#""clientURLs":["http://client.example:2379"]"#), "{members}");
}

/// Only `exit`, its default, is there so far.
/// A host that cannot be looked up is asked through the proxy.
fn discovery_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("the system has free ports");
    let addr = proxy.local_addr().expect("it is bound");
    let _member = Process::cairn(&[
        "--discovery=http://kv.invalid:2379/v2/keys/founders",
        &format!("--discovery-proxy=http://{addr}"),
    ]);
    let (mut asked, _) = proxy.accept().expect("the proxy is asked");
    let mut line = [0; 50];
    asked.read_exact(&mut line).expect("a request");
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.starts_with("GET http://kv.invalid:2379/v2/keys/founders"), "{line}");
}

fn strict_reconfig_check() {
    let add = |member: &Member, port: u16| {
        let body = format!(r#"{{"peerURLs":["http://127.0.0.1:{port}"]}}"#);
        let request =
            Request::new("POST", "/v2/members").header("Content-Type", "application/json");
        member.ask(&request.body(body)).status()
    };
    let member = Member::told(&["--strict-reconfig-check=false"]);
    assert_eq!((add(&member, 7001), add(&member, 7002)), (201, 201));
    let strict = Member::told(&[]);
    assert_eq!(add(&strict, 7001), 201);
    assert!(add(&strict, 7002) >= 400, "of three members two would not be started");
}

fn cors() {
    let member = Member::told(&["--cors=http://good.example:8080"]);
    let allowed = |origin: &str| {
        let request = Request::get("/v2/keys/check").header("Origin", origin);
        member.ask(&request).get("Access-Control-Allow-Origin")
    };
    let good = "http://good.example:8080";
    assert_eq!(allowed(good).as_deref(), Some(good));
    assert_eq!(allowed("http://bad.example:8080"), None);
}

fn host_whitelist() {
    let member = Member::told(&["--host-whitelist=127.0.0.1,good.example"]);
    let status = |host: &str| member.ask(&Request::get("/version").header("Host", host)).status();
    assert_eq!((status("good.example"), status("bad.example")), (200, 421));
}

fn logger() {
    let member = Member::told(&["--logger=zap"]);
    let log = member.process.log();
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

fn log_goes_to_a_file(flag: &str) {
    let port = Port::reserve().expect("the system has free ports");
    let process =
        Process::cairn(&["--listen-client-urls", &port.url(), &format!("{flag}=its.log")]);
    wait_until("it serves", || serves(port.addr()));
    // A moment after its clients come in it says that it is ready.
    let path = process.folder().join("its.log");
    wait_until("the file says so", || {
        fs::read_to_string(&path).is_ok_and(|log| log.contains(READY))
    });
    assert!(!process.log().contains(READY), "{}", process.log());
}

fn log_level() {
    let server = Server::start_with(Flavor::Subject, &["--log-level=error"]);
    let log = fs::read_to_string(server.log_path()).expect("a log");
    assert!(!log.contains(" I | ") && !log.contains(" W | "), "{log}");
}

/// What openraft says is shown at this level only, in release builds too.
fn debug() {
    let mut member = Member::told(&["--debug=true"]);
    member.process.line("openraft");
    assert!(!Member::told(&[]).process.log().contains("openraft"));
}

fn enable_pprof() {
    let status = |args: &[&str]| Member::told(args).get("/debug/pprof/cmdline").status();
    assert_eq!((status(&["--enable-pprof=true"]), status(&[])), (200, 404));
}

fn metrics() {
    let histograms = |args: &[&str]| {
        let page = Member::told(args).get("/metrics").text();
        page.contains("# TYPE cairn_apply_duration_seconds histogram")
    };
    assert!(histograms(&["--metrics=extensive"]) && !histograms(&["--metrics=basic"]));
}

fn listen_metrics_urls() {
    let mut member = Member::told(&["--listen-metrics-urls=http://127.0.0.1:0"]);
    let addr = address_behind(&mut member.process, "listening for metrics on ");
    let reply = http::ask(addr, &Request::get("/metrics")).expect("an answer");
    assert!(reply.text().contains("etcd_server_has_leader 1"));
    assert_eq!(http::ask(addr, &Request::get("/v2/keys/")).expect("an answer").status(), 404);
}

/// A member that did not sync counted no bytes, never wrote a checkpoint, and its log grew for ever.
fn unsafe_no_fsync() {
    let flags = ["--unsafe-no-fsync=true", "--checkpoint-wal-bytes=1048576"];
    let mut member = Member::told(&flags);
    let metric = |name: &str| number_behind(&member.get("/metrics").text(), name);
    assert!(metric("etcd_disk_wal_write_bytes_total ") > 100.0, "bytes are counted");
    let synced = metric("etcd_disk_wal_fsync_duration_seconds_count ");
    writes_two_megabytes(&member);
    assert!(synced < 0.5, "it does not sync");
    member.process.line("saved snapshot");
}

fn checkpoint_wal_bytes() {
    let mut member = Member::told(&["--checkpoint-wal-bytes=1048576"]);
    assert!(!member.process.log().contains("start to snapshot"));
    writes_two_megabytes(&member);
    member.process.line("saved snapshot");
}

/// A checkpoint of more than a megabyte leaves so much of itself in memory.
fn checkpoint_cache_bytes() {
    let kept = |flag: &str| {
        let mut member = Member::told(&["--checkpoint-wal-bytes=1048576", flag]);
        writes_two_megabytes(&member);
        member.process.line("saved snapshot");
        let vars = member.get("/debug/vars");
        let vars: serde_json::Value = serde_json::from_str(&vars.text()).expect("JSON");
        vars["cairn.memory"]["checkpoint_cache_bytes"].as_f64().expect("a number")
    };
    let limit = f64::from(1 << 20);
    let small = kept("--checkpoint-cache-bytes=1048576");
    // redb goes above by a page or two.
    assert!(small > 0.0 && small < 1.1 * limit, "{small}");
    let large = kept("--checkpoint-cache-bytes=33554432");
    assert!(large > 1.1 * limit, "{large}");
}

/// The number at the end of the line of `metrics` that begins with `name`.
fn number_behind(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(name)).expect("it is there");
    line.rsplit(' ').next().unwrap_or_default().parse().expect("a number")
}

fn writes_two_megabytes(member: &Member) {
    let value = "x".repeat(200_000);
    for _ in 0..10 {
        assert!(member.put("/large", &value).status() < 300);
    }
}

fn history_ends(flag: &str) {
    let member = Member::told(&[flag]);
    for n in 0..8 {
        assert!(member.put(&format!("/n/{n}"), "some value").status() < 300);
    }
    let waited = member.get("/v2/keys/check?wait=true&waitIndex=1");
    assert!(waited.status() == 400 && waited.text().contains("401"), "{}", waited.text());
}

fn max_body_bytes() {
    let member = Member::told(&["--max-body-bytes=1000"]);
    assert_eq!(member.put("/small", &"x".repeat(900)).status(), 201);
    assert_eq!(member.put("/large", &"x".repeat(1100)).status(), 413);
}

fn max_header_bytes() {
    let member = Member::told(&["--max-header-bytes=8192"]);
    let ask = |bytes: usize| {
        let request = Request::get("/version").header("X-Padding", &"x".repeat(bytes));
        member.ask(&request).status()
    };
    assert_eq!((ask(4000), ask(20_000)), (200, 431));
}

fn max_headers() {
    let member = Member::told(&["--max-headers=8"]);
    let ask = |count: usize| {
        let headers =
            (0..count).fold(Request::get("/version"), |r, n| r.header(&format!("X-{n}"), "x"));
        member.ask(&headers).status()
    };
    assert_eq!((ask(4), ask(20)), (200, 431));
}

fn max_request_bytes() {
    let member = Member::told(&["--max-request-bytes=1000"]);
    let put = |bytes: usize| {
        // "eHh4" is "xxx".
        let body = format!(r#"{{"key":"a2V5","value":"{}"}}"#, "eHh4".repeat(bytes / 3));
        member.ask(&Request::new("POST", "/v3/kv/put").body(body))
    };
    assert_eq!(put(600).status(), 200);
    let refused = put(1500);
    assert_eq!(refused.status(), 400);
    assert!(refused.text().contains("etcdserver: request is too large"), "{}", refused.text());
}

fn max_txn_ops() {
    let member = Member::told(&["--max-txn-ops=2"]);
    let txn = |count: usize| {
        let ops = vec![r#"{"request_range":{"key":"a2V5"}}"#; count].join(",");
        let body = format!(r#"{{"success":[{ops}]}}"#);
        member.ask(&Request::new("POST", "/v3/kv/txn").body(body))
    };
    assert_eq!(txn(2).status(), 200);
    let refused = txn(3);
    assert_eq!(refused.status(), 400);
    let text = "etcdserver: too many operations in txn request";
    assert!(refused.text().contains(text), "{}", refused.text());
}

/// How a client of HTTP/2 begins: the preface, and settings that say nothing.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn max_concurrent_streams() {
    let member = Member::told(&["--max-concurrent-streams=7"]);
    let mut stream = std::net::TcpStream::connect(member.addr).expect("it accepts");
    stream.set_read_timeout(Some(http::PATIENCE)).expect("a socket");
    std::io::Write::write_all(&mut stream, HTTP2).expect("it takes bytes");
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("its settings come first");
    assert_eq!((head[0], head[1], head[3]), (0, 0, 4), "{head:?}");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).expect("the rest of them");
    // Number 3, as 32 bits.
    let wanted = [0, 3, 0, 0, 0, 7];
    assert!(settings.chunks(6).any(|setting| setting == wanted), "{settings:?}");
}

fn grpc_keepalive() {
    let args = ["--grpc-keepalive-interval=300ms", "--grpc-keepalive-timeout=300ms"];
    let member = Member::told(&args);
    // It never answers. The defaults are two hours and 20 s.
    let took = closes_after(member.addr, HTTP2);
    assert!((Duration::from_millis(500)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

/// How long a connection stays open on which this was sent.
fn closes_after(addr: SocketAddr, sent: &[u8]) -> Duration {
    let mut connection = Connection::open(addr).expect("it accepts");
    connection.send_raw(sent).expect("it takes bytes");
    let begun = Instant::now();
    connection.read_to_close(begun + http::PATIENCE).expect("it closes");
    begun.elapsed()
}

fn header_timeout() {
    let member = Member::told(&["--header-timeout=300"]);
    let took = closes_after(member.addr, b"GET /version HTTP/1.1\r\nHost: x\r\n");
    // The default is 10 s.
    assert!((Duration::from_millis(250)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

fn idle_timeout() {
    let member = Member::told(&["--idle-timeout=300"]);
    let took = closes_after(member.addr, b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    // The default is two minutes.
    assert!((Duration::from_millis(250)..Duration::from_secs(10)).contains(&took), "{took:?}");
}

fn max_connections() {
    let member = Member::told(&["--max-connections=2"]);
    let version = Request::get("/version");
    let mut clients = [Client::new(member.addr), Client::new(member.addr)];
    let first = Instant::now();
    // Connections of before may still be on their way out.
    for client in &mut clients {
        assert_eq!(client.ask(&version).expect("an answer").status(), 200, "{:?}", first.elapsed());
    }
    assert!(http::ask_within(member.addr, &version, NEVER).is_err(), "the third one waits");
    drop(clients);
    assert_eq!(http::ask(member.addr, &version).expect("its turn has come").status(), 200);
}

fn auth_closed_guest() {
    let member = Member::told(&["--auth-closed-guest"]);
    let key = Request::get("/v2/keys/check");
    let enable = Request::new("PUT", "/v2/auth/enable");
    let guest = Request::get("/v2/auth/roles/guest");
    // Without root nothing is enabled, and no role is made.
    assert!(member.ask(&enable).status() >= 400);
    assert_eq!(member.ask(&guest).status(), 404);
    let root = Request::new("PUT", "/v2/auth/users/root")
        .body(r#"{"user":"root","password":"p"}"#)
        .header("Content-Type", "application/json");
    assert_eq!(member.ask(&root).status(), 201);
    assert_eq!(member.ask(&enable).status(), 200);
    assert_eq!(member.ask(&key).status(), 401, "a guest");
    let signed = |request: &Request| request.clone().header("Authorization", "Basic cm9vdDpw");
    assert_eq!(member.ask(&signed(&key)).status(), 200, "root");
    let role = member.ask(&signed(&guest)).text();
    assert!(role.contains(r#""kv":{"read":null,"write":null}"#), "{role}");
    assert!(!member.process.log().contains("guests may still read"), "{}", member.process.log());
}

fn max_connections_per_ip() {
    let mut member = Member::told(&["--max-connections-per-ip=2"]);
    let version = Request::get("/version");
    let mut clients = [Client::new(member.addr), Client::new(member.addr)];
    // Connections of before may still be on their way out, and count until then.
    wait_until("two come in", || {
        let mut asked = clients.iter_mut().map(|client| client.ask(&version));
        asked.all(|reply| reply.is_ok_and(|reply| reply.status() == 200))
    });
    let closed = http::ask(member.addr, &version);
    assert!(closed.is_err_and(|error| http::is_cut(&error)), "the third one is closed at once");
    member.process.line("that address has as many as --max-connections-per-ip allows");
    drop(clients);
    wait_until("places become free", || {
        http::ask(member.addr, &version).is_ok_and(|reply| reply.status() == 200)
    });
}

fn max_watchers() {
    let member = Member::told(&["--max-watchers=1"]);
    let wait = Request::get("/v2/keys/check?wait=true");
    let first = Open::send(member.addr, &wait).expect("it accepts");
    assert!(first.wait(http::PATIENCE, |progress| progress.head.is_some()), "headers at once");
    assert_eq!(member.ask(&wait).status(), 503);
}

fn max_key_bytes() {
    let member = Member::told(&["--max-key-bytes=20"]);
    assert_eq!(member.put("/short", "x").status(), 201);
    assert!((400..500).contains(&member.put(&format!("/{}", "x".repeat(30)), "x").status()));
}

fn max_key_depth() {
    let member = Member::told(&["--max-key-depth=3"]);
    assert_eq!(member.put("/a/b/c", "x").status(), 201);
    assert!((400..500).contains(&member.put("/a/b/c/d", "x").status()));
}

fn config_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, data) = (folder.path().join("cairn.yaml"), folder.path().join("data"));
    let any = "http://127.0.0.1:0";
    let text = format!(
        "name: from-a-file\ndata-dir: {}\nlisten-client-urls: {any}\nadvertise-client-urls: {any}\nlisten-peer-urls: {any}\n",
        data.display()
    );
    fs::write(&file, text).expect("a file can be written");
    let member = Member::told(&["--config-file", &file.display().to_string()]);
    assert!(member.get("/v2/members").text().contains(r#""name":"from-a-file""#));
    assert!(data.join("member.json").is_file());
}

fn says(flag: &str, words: &str) {
    let mut process =
        Process::start(&Flavor::Subject.program().display().to_string(), &[flag.to_owned()]);
    assert!(process.end().success());
    assert!(process.log().contains(words), "{}", process.log());
}

fn serves(addr: SocketAddr) -> bool {
    let asked = http::ask_within(addr, &Request::get("/version"), Duration::from_secs(1));
    asked.is_ok_and(|reply| reply.status() == 200)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < http::PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
