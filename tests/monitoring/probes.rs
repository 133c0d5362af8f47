//! `/livez` and `/readyz`: on client URLs and on those for metrics, with a majority and without.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::cluster::{Cluster, Options};
use crate::support::disk::is_root;
use crate::support::http::{self, Reply, Request};
use crate::support::process::Process;

fn ask(addr: SocketAddr, target: &str) -> Reply {
    http::ask(addr, &Request::get(target)).expect("an answer")
}

fn address_behind(member: &mut Process, words: &str) -> SocketAddr {
    let line = member.line(words);
    line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address")
}

#[test]
fn a_member_that_is_well_says_so_on_each_listener_without_a_password() {
    let mut member = Process::cairn(&["--listen-metrics-urls", "http://127.0.0.1:0"]);
    member.line("ready to serve client requests");
    let client = address_behind(&mut member, "serving insecure client requests on ");
    let metrics = address_behind(&mut member, "listening for metrics on ");
    let user = Request::new("PUT", "/v2/auth/users/root")
        .header("Content-Type", "application/json")
        .body("{\"user\":\"root\",\"password\":\"p\"}");
    assert_eq!(http::ask(client, &user).expect("an answer").status(), 201);
    let enable = Request::new("PUT", "/v2/auth/enable");
    assert_eq!(http::ask(client, &enable).expect("an answer").status(), 200);
    for addr in [client, metrics] {
        for path in ["/livez", "/readyz"] {
            let reply = ask(addr, path);
            assert_eq!((reply.status(), &*reply.text()), (200, "ok\n"), "{path}");
            let head = http::ask(addr, &Request::new("HEAD", path)).expect("an answer");
            assert_eq!((head.status(), &*head.text()), (200, ""), "{path}");
            let put = http::ask(addr, &Request::new("PUT", path)).expect("an answer");
            assert_eq!((put.status(), put.get("allow").as_deref()), (405, Some("GET, HEAD")));
        }
        let lines = "[+]ping ok\n[+]log ok\n[+]leader ok\n[+]applied ok\n[+]draining ok\n";
        assert_eq!(ask(addr, "/readyz?verbose").text(), format!("{lines}readyz check passed\n"));
        let text = ask(addr, "/livez?exclude=log&exclude=nothing&verbose=true").text();
        let lines =
            "[+]ping ok\n[+]log excluded: ok\n[ ]nothing is no check and cannot be excluded\n";
        assert_eq!(text, format!("{lines}livez check passed\n"));
    }
}

#[test]
fn without_a_majority_a_member_lives_and_is_not_ready() {
    let mut cluster = Cluster::start(Options { loopback: true, ..Options::members(3) });
    cluster.kill(1);
    cluster.kill(2);
    let addr = cluster.member(0).addr();
    cluster.wait_until("it misses its leader", |_| ask(addr, "/readyz").status() == 503);
    let text = ask(addr, "/readyz").text();
    assert!(text.contains("[-]leader failed: no leader is known\n[+]applied ok\n"), "{text}");
    assert!(text.ends_with("readyz check failed\n"), "{text}");
    assert_eq!(ask(addr, "/livez").text(), "ok\n");
    assert_eq!(ask(addr, "/readyz?exclude=leader").text(), "ok\n");
    cluster.start_member(1);
    cluster.wait_until("it is ready again", |_| ask(addr, "/readyz").status() == 200);
}

/// A disk that stands still: the log's sync does not come back.
#[test]
fn a_log_that_stands_still_is_seen() {
    let strace = Command::new("strace").arg("-V").output().is_ok_and(|said| said.status.success());
    if !is_root() || !strace {
        eprintln!("skipped: strace must hold up a member's syncs");
        return;
    }
    let mut member = Process::cairn(&[]);
    member.line("ready to serve client requests");
    let addr = address_behind(&mut member, "serving insecure client requests on ");
    // Each sync takes a minute from now on.
    let mut strace = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"])
        .args(["-e", "inject=fdatasync,fsync:delay_enter=60000000"])
        .args(["-p", &member.pid().to_string()])
        .spawn()
        .expect("strace can be started");
    let deadline = std::time::Instant::now() + Duration::from_secs(40);
    let put = Request::new("PUT", "/v2/keys/a").form("value=1");
    loop {
        // Those that come before strace has taken hold are answered.
        let _ = http::ask_within(addr, &put, Duration::from_millis(500));
        let reply = ask(addr, "/readyz");
        if reply.status() == 503 {
            let text = reply.text();
            assert!(text.contains("[-]log failed: a write has been under way for "), "{text}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", reply.text());
    }
    assert_eq!(ask(addr, "/livez").status(), 200, "a restart would need the same disk");
    strace.kill().expect("it runs");
    strace.wait().expect("it ends");
}
