//! Alerts and the dashboard, against a real Prometheus that scrapes three members.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::prometheus::{Prometheus, program, root};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{self, Client, Request};

/// Queries that have a result only when something fails or where TLS is spoken; and the metrics they ask for.
const EMPTY_WHILE_WELL: &[&str] = &["cairn_tls_certificate_expiry_timestamp_seconds"];

const PATIENCE: Duration = Duration::from_secs(60);

fn dashboard() -> Value {
    let text = fs::read_to_string(root().join("monitoring/dashboard.json")).expect("it is there");
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

/// Title of the panel and query.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let all = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| {
            (title.clone(), target["expr"].as_str().expect("a query").to_owned())
        })
    });
    all.collect()
}

/// As Grafana fills them in.
fn filled_in(query: &str) -> String {
    query.replace("$__rate_interval", "5s").replace("$job", "cairn")
}

/// Names of metrics in a query: words that go on with a selector.
fn metrics_of(query: &str) -> BTreeSet<String> {
    let ends = query.match_indices('{').map(|(at, _)| &query[..at]);
    let names = ends.map(|before| {
        let start = before.rfind(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        before[start.map_or(0, |at| at + 1)..].to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// Requests of all kinds, again and again: a rate needs two scrapes with something in between.
fn put_load(cluster: &Cluster) {
    for member in cluster.members() {
        let mut client = Client::new(member.addr());
        for request in [
            Request::new("PUT", "/v2/keys/a").form("value=1"),
            Request::get("/v2/keys/a"),
            Request::get("/v2/keys/a?quorum=true"),
            Request::get("/v2/keys/missing"),
            Request::get("/v2/keys/a?wait=true&waitIndex=1"),
        ] {
            client.ask(&request).expect("an answer");
        }
    }
}

#[test]
fn rules_are_valid_and_their_tests_pass() {
    let Some(promtool) = program("promtool") else { return };
    for words in [
        &["check", "rules", "monitoring/rules.yml"][..],
        &["test", "rules", "monitoring/rules_test.yml"],
    ] {
        let output = Command::new(&promtool).args(words).current_dir(root()).output();
        let output = output.expect("it can be started");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

/// Each alert has a test that makes it fire, and a row in the documentation.
#[test]
fn no_alert_is_without_a_test_and_a_word_on_what_to_do() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("it is there");
    let (rules, tests, document) = (
        read("monitoring/rules.yml"),
        read("monitoring/rules_test.yml"),
        read("docs/monitoring.md"),
    );
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in &alerts {
        let fires = tests.split("      - ").any(|test| {
            test.starts_with(&format!("alertname: {alert}\n")) && test.contains("exp_alerts:")
        });
        let silent = tests.contains(&format!("- {{ alertname: {alert}, eval_time:"));
        assert!(fires && silent, "{alert} has no test that it fires, or none that it is silent");
        assert!(
            document.contains(&format!("| `{alert}` |")),
            "{alert} is not in docs/monitoring.md"
        );
    }
    let rows = document.lines().filter(|line| line.starts_with("| `Cairn")).count();
    assert_eq!(rows, alerts.len(), "a row of an alert that is gone");
}

#[test]
fn every_query_of_dashboard_and_rules_finds_what_it_asks_for() {
    let Some(program) = program("prometheus") else { return };
    let mut cluster = Cluster::start(Options { loopback: true, ..Options::members(3) });
    cluster.await_leader();
    let members: Vec<_> = cluster.members().iter().map(|member| member.addr()).collect();
    let prometheus = Prometheus::start(&program, "cairn", &members);
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() > 40, "the dashboard is read");
    let deadline = Instant::now() + PATIENCE;
    let mut waiting = queries.clone();
    while !waiting.is_empty() {
        put_load(&cluster);
        waiting.retain(|(_, query)| {
            let well = EMPTY_WHILE_WELL.iter().any(|metric| query.contains(metric));
            prometheus.query(&filled_in(query)).is_empty() && !well
        });
        assert!(Instant::now() < deadline, "without a result: {waiting:#?}");
        thread::sleep(Duration::from_millis(100));
    }
    // A selector of a metric that is not there has no result and no error.
    let known = prometheus.query("group by (__name__) ({job=\"cairn\"})");
    let known: BTreeSet<_> =
        known.iter().filter_map(|series| series["metric"]["__name__"].as_str()).collect();
    let pages: Vec<_> = members
        .iter()
        .map(|addr| http::ask(*addr, &Request::get("/metrics")).expect("an answer").text())
        .collect();
    let is_there = |metric: &str| {
        known.contains(metric)
            || pages.iter().any(|page| page.contains(&format!("# TYPE {metric} ")))
    };
    let rules = prometheus.rules();
    assert!(rules.len() > 10, "the rules are read");
    let of_rules = rules.iter().map(|rule| rule["query"].as_str().expect("a query").to_owned());
    let of_panels = queries.into_iter().map(|(_, query)| query);
    for metric in of_rules.chain(of_panels).flat_map(|query| metrics_of(&query)) {
        let elsewhere = EMPTY_WHILE_WELL.contains(&metric.as_str());
        assert!(elsewhere || is_there(&metric), "no member has {metric}");
    }
    // Nothing is wrong with these members, and no rule says so.
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        // On a slow machine some may be about to.
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}
