//! The real `etcdctl` where it calls one chosen member. Its library says a URL where the authority should stand there, which it
//! does in no other call.

use std::env;
use std::process::{Command, Output};

use cairn::model::ETCD_VERSION;
use serde_json::Value;

use crate::client::await_until;
use crate::support::cluster::{Cluster, Options};

/// A cluster and the tool, which is told of all members as `http://HOST:PORT`.
struct Asked {
    cluster: Cluster,
    endpoints: Vec<String>,
}

impl Asked {
    /// `None` where there is no tool and that was said.
    fn start() -> Option<Self> {
        if env::var_os("CAIRN_SKIP_ETCD").is_some_and(|v| v == "1") {
            eprintln!("skipped: the real etcdctl (CAIRN_SKIP_ETCD=1)");
            return None;
        }
        let cluster = Cluster::start(Options::members(3));
        let urls = cluster.members().iter().map(|member| format!("http://{}", member.addr()));
        Some(Self { endpoints: urls.collect(), cluster })
    }

    fn run(&self, endpoints: &[String], words: &[&str]) -> Output {
        let mut command = Command::new("etcdctl");
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(&variable);
            }
        }
        command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]).args(words);
        command.output().expect("etcdctl can be started: install it, or set CAIRN_SKIP_ETCD=1")
    }

    /// What it prints.
    fn said_by(&self, endpoints: &[String], words: &[&str]) -> String {
        let output = self.run(endpoints, words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it writes text")
    }

    fn said(&self, words: &[&str]) -> String {
        self.said_by(&self.endpoints, words)
    }

    /// What it prints of each member as JSON, by its endpoint.
    fn statuses(&self, endpoints: &[String], words: &[&str], kind: &str) -> Vec<(String, Value)> {
        let said = self.said_by(endpoints, &[words, &["-w", "json"]].concat());
        let all: Vec<Value> = serde_json::from_str(&said).expect("JSON");
        let of = |mut one: Value| {
            (one["Endpoint"].as_str().expect("an endpoint").to_owned(), one[kind].take())
        };
        let mut all: Vec<_> = all.into_iter().map(of).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// The ids of the members and of the one that leads, as each of them says it.
    fn ids(&self) -> (Vec<u64>, u64) {
        let statuses = self.statuses(&self.endpoints, &["endpoint", "status"], "Status");
        let number = |value: &Value| value.as_u64().expect("a number");
        let leader = number(&statuses[0].1["leader"]);
        assert!(statuses.iter().all(|(_, status)| number(&status["leader"]) == leader));
        let ids = statuses.iter().map(|(_, status)| number(&status["header"]["member_id"]));
        (ids.collect(), leader)
    }
}

/// The cells of a table, without its head.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_real_tool_asks_each_member_how_it_is() {
    let Some(asked) = Asked::start() else { return };
    let mut endpoints = asked.endpoints.clone();
    endpoints.sort();

    let table = asked.said(&["endpoint", "status", "-w", "table"]);
    let rows = cells(&table);
    let mut named: Vec<_> = rows.iter().map(|row| row[0]).collect();
    named.sort_unstable();
    assert_eq!(named, endpoints, "{table}");
    let leads = rows.iter().filter(|row| row[4] == "true").count();
    assert_eq!(leads, 1, "{table}");
    assert!(rows.iter().all(|row| row[2] == ETCD_VERSION && row[5] == "false"), "{table}");

    // Told of one member it finds the others, here by an address without a scheme.
    let one = [asked.cluster.member(0).addr().to_string()];
    let all = asked.statuses(&one, &["endpoint", "status", "--cluster"], "Status");
    assert_eq!(all.iter().map(|(endpoint, _)| endpoint.clone()).collect::<Vec<_>>(), endpoints);
    let (ids, _) = asked.ids();
    assert!(all.iter().zip(&ids).all(|((_, status), id)| status["header"]["member_id"] == *id));

    asked.said(&["put", "a", "1"]);
    asked.said(&["get", "a"]);
    // Followers hear of the write a little later.
    await_until("all have the same keys", || {
        let sums = asked.statuses(&asked.endpoints, &["endpoint", "hashkv"], "HashKV");
        let sums: Vec<_> = sums.iter().map(|(_, sum)| &sum["hash"]).collect();
        assert!(sums.len() == 3 && sums[0].is_u64(), "{sums:?}");
        sums.iter().all(|sum| *sum == sums[0])
    });
    let health = asked.said(&["endpoint", "health", "--cluster", "-w", "json"]);
    assert_eq!(health.matches("\"health\":true").count(), 3, "{health}");
}

#[test]
fn the_real_tool_moves_the_leadership() {
    let Some(asked) = Asked::start() else { return };
    let (ids, _) = asked.ids();
    for _ in 0..2 {
        let (_, leader) = asked.ids();
        let next = *ids.iter().find(|id| **id != leader).expect("there are three");
        let said = asked.said(&["move-leader", &format!("{next:x}")]);
        assert_eq!(said, format!("Leadership transferred from {leader:x} to {next:x}\n"));
        await_until("all follow it", || {
            let statuses = asked.statuses(&asked.endpoints, &["endpoint", "status"], "Status");
            statuses.iter().all(|(_, status)| status["leader"] == next)
        });
    }
    // Only the leader can be asked for that.
    let (_, leader) = asked.ids();
    let other = ids.iter().position(|id| *id != leader).expect("there are three");
    let mut sorted = asked.endpoints.clone();
    sorted.sort();
    let output = asked.run(&[sorted[other].clone()], &["move-leader", &format!("{leader:x}")]);
    assert_eq!(output.status.code(), Some(128), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no leader endpoint given at"), "{text}");
}
