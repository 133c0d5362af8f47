//! `docs/monitoring.md` says what is exposed, all of it and nothing else; and what etcd exposes is there too, or named with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::page::{Family, Page};
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{self, Request};
use crate::support::process::Process;
use crate::support::server::{Flavor, Server, etcd_is_there};

/// A row of a table of metrics: its type, and its labels where they are said.
struct Row {
    kind: String,
    labels: Option<BTreeSet<String>>,
}

/// Of version 3.
const PUT: &str = r#"{"key": "YQ==", "value": "YQ=="}"#;

#[derive(Default)]
struct Document {
    metrics: BTreeMap<String, Row>,
    /// Names of etcd that are not served; one that ends with `*` stands for all that begin so.
    left_out: Vec<String>,
}

fn document() -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md");
    let text = fs::read_to_string(path).expect("it is there");
    let mut document = Document::default();
    let mut heading = "";
    for line in text.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches(['#', ' ']);
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let quoted = |cell: &str| -> Vec<String> {
            cell.split('`').filter(|name| name.contains('_')).map(str::to_owned).collect()
        };
        match heading {
            "cairn's own metrics" | "etcd's metrics" => {
                let own = heading.starts_with("cairn");
                let labels = own.then(|| {
                    let labels = cells[2].split(['`', ',', ' ']);
                    labels.filter(|label| !label.is_empty()).map(str::to_owned).collect()
                });
                let kind = cells[1].to_owned();
                let name = cells[0].trim_end_matches('`').to_owned();
                let twice = document.metrics.insert(name, Row { kind, labels });
                assert!(twice.is_none(), "twice: {line}");
            }
            "Not served" => document.left_out.extend(quoted(&format!("`{}", cells[0]))),
            _ => {}
        }
    }
    document
}

impl Document {
    fn leaves_out(&self, name: &str) -> bool {
        self.left_out.iter().any(|left_out| match left_out.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == left_out,
        })
    }
}

/// Everything that members can be brought to show: three of them, one with TLS, and requests of all kinds.
fn exposed() -> BTreeMap<String, Family> {
    let args = vec!["--metrics=extensive".to_owned()];
    let mut cluster = Cluster::start(Options { args, loopback: true, ..Options::members(3) });
    let leader = cluster.await_leader();
    let addr = cluster.member(leader).addr();
    for request in [
        Request::new("PUT", "/v2/keys/a").form("value=1"),
        Request::get("/v2/keys/b"),
        Request::get("/v2/keys/a?quorum=true"),
        Request::new("POST", "/v3/kv/put").body(PUT),
    ] {
        http::ask(addr, &request).expect("an answer");
    }
    let mut all = BTreeMap::new();
    // Heartbeats and entries have been answered, and clocks compared, a moment after the start.
    cluster.wait_until("all there is", |cluster| {
        for member in cluster.members() {
            all.extend(Page::of(member.addr()).families);
        }
        ["cairn_member_latency_seconds", "cairn_member_replication_duration_seconds"]
            .iter()
            .chain(&["etcd_network_peer_round_trip_time_seconds"])
            .chain(&["cairn_peer_clock_difference_seconds"])
            .all(|name| all.contains_key(*name))
    });
    let https = "https://127.0.0.1:0";
    let mut secure = Process::cairn(&[
        "--auto-tls",
        "--listen-client-urls",
        https,
        "--advertise-client-urls",
        "https://127.0.0.1:1",
        "--listen-metrics-urls",
        "http://127.0.0.1:0",
    ]);
    secure.line("ready to serve client requests");
    let line = secure.line("listening for metrics on ");
    let addr = line.rsplit(' ').next().expect("an address").parse().expect("an address");
    all.extend(Page::of(addr).families);
    all
}

#[test]
fn what_is_documented_is_exposed_and_the_other_way_round() {
    let (document, exposed) = (document(), exposed());
    assert!(document.metrics.len() > 60, "the tables are read");
    let missing: Vec<_> =
        document.metrics.keys().filter(|name| !exposed.contains_key(*name)).collect();
    assert!(missing.is_empty(), "documented, not exposed: {missing:?}");
    let undocumented: Vec<_> =
        exposed.keys().filter(|name| !document.metrics.contains_key(*name)).collect();
    assert!(undocumented.is_empty(), "exposed, not documented: {undocumented:?}");
    for (name, row) in &document.metrics {
        let family = &exposed[name];
        assert_eq!(row.kind, family.kind, "{name}");
        if let Some(labels) = &row.labels {
            assert_eq!(labels, &family.labels, "{name}");
        }
        assert!(!document.leaves_out(name) || name.contains("_db_total_size_"), "{name}");
    }
}

/// Dashboards and alerts of etcd read ours as etcd's.
#[test]
fn what_etcd_exposes_is_there_with_its_type_labels_and_buckets_or_named_as_left_out() {
    if !etcd_is_there() {
        eprintln!("skipped: no etcd to compare with");
        return;
    }
    let args = ["--metrics=extensive"];
    let pages = [Flavor::Etcd, Flavor::Subject].map(|flavor| {
        let server = Server::start_with(flavor, &args);
        for request in [
            Request::new("PUT", "/v2/keys/a").form("value=1"),
            Request::get("/v2/keys/b"),
            Request::get("/v2/keys/a?quorum=true"),
            Request::new("POST", "/v3/kv/put").body(PUT),
        ] {
            http::ask(server.addr(), &request).expect("an answer");
        }
        Page::of(server.addr())
    });
    let [etcd, ours] = pages;
    let document = document();
    assert!(etcd.families.len() > 90, "all of etcd's are read");
    for (name, family) in &etcd.families {
        let Some(own) = ours.families.get(name) else {
            assert!(document.leaves_out(name), "{name} is neither served nor left out on purpose");
            continue;
        };
        assert_eq!(own.kind, family.kind, "{name}");
        assert_eq!(own.labels, family.labels, "{name}");
        assert_eq!(own.buckets, family.buckets, "{name}");
    }
}
