//! Each load against a member and against a real etcd: the server has counted the same.

use std::time::Instant;

use serde_json::Value;

use crate::support::http::{self, Request};
use crate::support::node::wait_until;
use crate::support::server::{Flavor, Server, etcd_is_there, subject_is_etcd};
use crate::{amount, assert_adds_up, bench, measure, number, report};

/// What a server has counted, by the names of its statistics.
fn statistics(server: &Server) -> Value {
    let reply = http::ask(server.addr(), &Request::get("/v2/stats/store")).expect("an answer");
    serde_json::from_slice(&reply.body).expect("JSON")
}

fn servers() -> Vec<Server> {
    let mut flavors = vec![Flavor::Subject];
    if etcd_is_there() && !subject_is_etcd() {
        flavors.push(Flavor::Etcd);
    }
    flavors.into_iter().map(Server::start).collect()
}

/// Runs a load; the report, and by how much the sum of these statistics has grown.
fn counted(server: &Server, words: &str, names: &[&str]) -> (Value, u64) {
    let sum = |all: &Value| names.iter().filter_map(|name| all[*name].as_u64()).sum::<u64>();
    let before = sum(&statistics(server));
    let endpoint = format!("--endpoints http://{} --pid {}", server.addr(), server.pid());
    let (report, code) = measure(&format!("{words} {endpoint}"));
    assert_eq!(code, 0, "{words}: {report}");
    assert_adds_up(&report);
    assert_eq!(number(&report, "/requests/failed"), 0, "{report}");
    assert!(number(&report, "/server/resident_bytes") > 0, "{report}");
    (report, sum(&statistics(server)) - before)
}

#[test]
fn what_was_asked_is_what_the_server_has_counted() {
    for server in servers() {
        for (words, filled, names) in [
            ("put --requests 300 --keys 20", 0, &["setsSuccess"][..]),
            ("put --requests 300 --keys 300 --sequential", 0, &["setsSuccess"]),
            ("get --requests 300 --keys 20", 20, &["getsSuccess", "setsSuccess"]),
            ("qget --requests 300 --keys 20", 20, &["getsSuccess", "setsSuccess"]),
            ("qget --requests 300 --keys 20 --no-fill", 0, &["getsSuccess", "setsSuccess"]),
            ("mixed --requests 300 --keys 20", 20, &["getsSuccess", "setsSuccess"]),
            ("create-in-order --requests 300", 0, &["createSuccess"]),
            ("cas --requests 300", 0, &["compareAndSwapSuccess", "compareAndSwapFail"]),
            ("ttl --requests 300 --keys 30", 0, &["setsSuccess", "compareAndSwapSuccess"]),
            ("listing --requests 30 --keys 2000", 0, &["getsSuccess"]),
            ("put --requests 100 --rate 2000 --value-size 100000", 0, &["setsSuccess"]),
        ] {
            let (report, grown) = counted(&server, &format!("{words} --connections 5"), names);
            let good = number(&report, "/requests/good");
            assert_eq!(number(&report, "/requests/sent"), good, "{words}: {report}");
            assert_eq!(grown, good + filled, "{words}: {report}");
            assert_eq!(number(&report, "/latency_ms/count"), good, "{words}: {report}");
        }
    }
}

/// How many puts version 3 has seen, but for the first revision.
fn revision(server: &Server) -> u64 {
    let request = Request::new("POST", "/v3/kv/range").body(r#"{"key":"AA=="}"#);
    let reply = http::ask(server.addr(), &request).expect("an answer");
    let body: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let revision = body["header"]["revision"].as_str().expect("a revision");
    revision.parse().expect("a number")
}

#[test]
fn what_was_asked_over_grpc_is_what_the_server_has_done() {
    for server in servers() {
        for (words, per_request, filled) in [
            ("v3-put --requests 300 --keys 20", 1, 0),
            ("v3-put --requests 300 --rate 2000 --sequential", 1, 0),
            ("v3-range --requests 300 --keys 20", 0, 20),
            ("v3-range-serializable --requests 300 --keys 20", 0, 20),
            ("v3-txn --requests 300 --keys 20", 1, 20),
            ("v3-keepalive --requests 300", 0, 0),
        ] {
            let before = revision(&server);
            let (report, _) = counted(&server, &format!("{words} --connections 5"), &[]);
            let good = number(&report, "/requests/good");
            assert_eq!((good, number(&report, "/answers/200")), (300, 300), "{words}: {report}");
            let grown = revision(&server) - before;
            assert_eq!(grown, per_request * good + filled, "{words}: {report}");
        }
        counted(&server, "v3-put --requests 20 --clean", &[]);
        let body = r#"{"key":"AA==","range_end":"AA==","count_only":true}"#;
        let request = Request::new("POST", "/v3/kv/range").body(body);
        let text = http::ask(server.addr(), &request).expect("an answer").text();
        assert!(!text.contains("count"), "all keys are removed: {text}");
    }
}

#[test]
fn every_watcher_of_version_3_gets_every_event() {
    for server in servers() {
        for (words, events) in [
            ("v3-watch-one --requests 20 --connections 250", 20 * 250),
            ("v3-watch-many --requests 300 --connections 250", 300),
            ("v3-watch-one --requests 100 --rate 5000 --connections 50", 100 * 50),
        ] {
            let before = revision(&server);
            let (report, _) = counted(&server, words, &[]);
            let watch = |name: &str| number(&report, &format!("/watch/{name}"));
            assert_eq!((watch("events"), watch("missed")), (events, 0), "{words}: {report}");
            assert_eq!(watch("event_ms/count"), events, "{words}: {report}");
            let sent = number(&report, "/requests/sent");
            assert_eq!(revision(&server) - before, sent, "{words}: {report}");
        }
    }
}

#[test]
fn swaps_are_won_and_lost() {
    for server in servers() {
        let (report, _) = counted(&server, "cas --requests 2000 --connections 8", &[]);
        let won = number(&report, "/answers/200");
        assert!(won > 0 && number(&report, "/answers/412") > 0, "{report}");
    }
}

/// The load is the one that keeps keys alive, so none may be lost; a key of one second is refreshed every 50 ms here.
#[test]
fn short_leases_are_kept() {
    for server in servers() {
        let words = "ttl --ttl 1 --keys 10 --connections 5 --rate 200 --duration 2s";
        let (report, _) = counted(&server, words, &[]);
        assert_eq!(number(&report, "/answers/201"), 10, "{report}");
        assert!(report.pointer("/answers/404").is_none(), "{report}");
    }
}

#[test]
fn every_watcher_gets_every_event() {
    for server in servers() {
        for (words, events) in [
            ("watch-one --requests 20", 20 * 50),
            ("watch-many --requests 120", 120),
            ("watch-recursive --requests 20 --keys 7", 20 * 50),
            // Faster than watchers can ask again: they get what they missed from the history.
            ("watch-one --requests 100 --rate 5000", 100 * 50),
        ] {
            let words = format!("{words} --connections 50");
            let (report, puts) = counted(&server, &words, &["setsSuccess"]);
            let watch = |name: &str| number(&report, &format!("/watch/{name}"));
            assert_eq!((watch("events"), watch("missed")), (events, 0), "{words}: {report}");
            assert_eq!(watch("event_ms/count"), events, "{words}: {report}");
            assert_eq!(number(&report, "/requests/sent"), puts, "{words}: {report}");
        }
    }
}

/// How many watchers wait, as a server's metrics say.
fn waiting(server: &Server) -> u64 {
    let reply = http::ask(server.addr(), &Request::get("/metrics")).expect("an answer");
    let text = reply.text();
    let value = text.lines().find_map(|line| line.strip_prefix("etcd_debugging_store_watchers "));
    value.expect("the metric").parse().expect("a number")
}

#[test]
fn watchers_see_the_puts_of_another_program() {
    for server in servers() {
        let endpoint = format!("--endpoints http://{} --output json", server.addr());
        let words = format!("watch-along --requests 3 --connections 50 {endpoint}");
        let along = bench(&words).spawn().expect("the program can be started");
        wait_until("all watchers wait", || waiting(&server) == 50);
        let begun = Instant::now();
        let (one, code) = measure(&format!("watch-one --requests 3 --connections 1 {endpoint}"));
        assert_eq!(code, 0, "{one}");
        let (report, code) = report(&along.wait_with_output().expect("its end"));
        let took_ms = begun.elapsed().as_secs_f64() * 1e3;
        assert_eq!(code, 0, "{report}");
        let watch = |name: &str| number(&report, &format!("/watch/{name}"));
        assert_eq!((watch("events"), watch("missed")), (150, 0), "{report}");
        assert_eq!(watch("last_event_after_sending_ms/count"), 3, "{report}");
        // The stamps of one program mean something to the other.
        let last_ms = amount(&report, "/watch/last_event_after_sending_ms/max");
        assert!(last_ms > 0.0 && last_ms < took_ms, "{last_ms} of {took_ms}: {report}");
        assert_eq!(number(&report, "/requests/sent"), 0, "{report}");
    }
}

#[test]
fn watchers_of_another_programs_puts_need_not_see_any() {
    for server in servers() {
        let words = "watch-along --requests 3 --connections 5 --duration 200ms";
        let (report, changed) = counted(&server, words, &["setsSuccess", "getsSuccess"]);
        let watch = |name: &str| number(&report, &format!("/watch/{name}"));
        assert_eq!((watch("waiting"), watch("missed"), changed), (5, 15, 0), "{report}");
    }
}

#[test]
fn idle_watchers_wait_and_nothing_else() {
    for server in servers() {
        let words = "idle-watchers --connections 50 --duration 200ms";
        let (report, changed) = counted(&server, words, &["setsSuccess", "getsSuccess"]);
        assert_eq!((number(&report, "/watch/waiting"), changed), (50, 0), "{report}");
    }
}

#[test]
fn what_a_run_leaves_behind_can_be_removed() {
    for server in servers() {
        let there = |path: &str| {
            http::ask(server.addr(), &Request::get(path)).expect("an answer").status() == 200
        };
        counted(&server, "put --requests 20 --prefix /a/b", &[]);
        assert!(there("/v2/keys/a/b/keys"));
        counted(&server, "put --requests 20 --prefix /a/b --clean", &[]);
        assert!(there("/v2/keys/a") && !there("/v2/keys/a/b"));
    }
}

/// Keys that are counted once only if the warm-up leaves no trace in the results.
#[test]
fn the_warm_up_is_not_counted() {
    let server = Server::start(Flavor::Subject);
    let words = "put --warmup 300ms --requests 50 --connections 2";
    let (report, puts) = counted(&server, words, &["setsSuccess"]);
    assert_eq!(number(&report, "/requests/sent"), 50, "{report}");
    assert!(puts > 50, "the warm-up sent nothing: {report}");
}
