//! What a member answers after a restart before it has found its leader.

use std::time::{Duration, Instant};

use crate::node::{Node, found, json, leader, wait_until};
use crate::support::http::{self, Request};

/// Soon enough for an operator who looks at a member that is stuck.
const AT_ONCE: Duration = Duration::from_secs(1);

fn at_once(node: &Node, target: &str) -> http::Reply {
    let reply = http::ask_within(node.addr(), &Request::get(target), AT_ONCE);
    reply.unwrap_or_else(|error| panic!("{target}: {error}"))
}

/// A member that was restarted without the others answered nothing at all: connections were taken and hung, health checks
/// among them, and its log said nothing of what it waited for.
#[test]
fn a_member_without_its_leader_answers_what_it_knows_and_says_why_it_is_stuck() {
    let mut nodes = found(["n1", "n2", "n3"]);
    let led = leader(&nodes);
    nodes[led].put("/shown", "1");
    let members = nodes[led].members();
    let [one, other] = [(led + 1) % 3, (led + 2) % 3];
    nodes[one].kill();
    nodes[other].kill();
    // It enters the leader's log and no other: whether it will ever count, this member cannot know alone.
    let lost = Request::new("PUT", "/v2/keys/shown").form("value=2");
    assert_eq!(nodes[led].ask(&lost).status(), 500);
    nodes[led].kill();

    nodes[led].launch(&[], &[]);
    nodes[led].process().line("serving insecure client requests");
    let member = &nodes[led];
    wait_until("the first answer", || {
        http::ask_within(member.addr(), &Request::get("/version"), AT_ONCE).is_ok()
    });
    let health = at_once(member, "/health");
    assert_eq!((health.status(), health.text().trim()), (503, r#"{"health":"false"}"#));
    assert_eq!(json(&at_once(member, "/version"))["etcdcluster"], "3.4.0");
    assert_eq!(json(&at_once(member, "/v2/stats/self"))["state"], "StateFollower");
    assert!(at_once(member, "/metrics").text().contains("etcd_server_has_leader 0"));
    assert_eq!(at_once(member, "/v2/stats/store").status(), 200);
    assert_eq!(at_once(member, "/v2/members").status(), 200);
    assert_eq!(member.members(), members);
    for target in ["/v2/keys/shown", "/v2/keys/shown?wait=true"] {
        let begun = Instant::now();
        let reply = member.get(target);
        assert!(begun.elapsed() < Duration::from_secs(5), "{target} took {:?}", begun.elapsed());
        assert_eq!(reply.status(), 500, "{target}: {}", reply.text());
        let body = json(&reply);
        let cause = body["cause"].as_str().expect("a cause");
        assert_eq!(body["errorCode"], 300);
        assert!(
            cause.contains("has started again") && cause.contains("etcdctl member update"),
            "{cause}"
        );
    }
    let written = member.ask(&Request::new("PUT", "/v2/keys/shown").form("value=3"));
    assert_eq!(written.status(), 500);
    assert!(written.text().contains("request timed out"), "{}", written.text());

    let said = nodes[led].process().line("this member has not found a leader");
    let id = &members.iter().find(|member| member.name == nodes[led].name).expect("a member").id;
    for words in [
        format!("etcdctl member update {id}"),
        format!("PUT /v2/members/{id}"),
        nodes[one].peer_url(),
    ] {
        assert!(said.contains(&words), "no {words:?} in {said}");
    }
    assert!(!nodes[led].process().log().contains("ready to serve client requests"));

    // With a majority it is ready, and its reads are answered.
    nodes[one].launch(&[], &[]);
    nodes[led].wait_until_ready();
    assert!(nodes[led].value("/shown").is_some());
    assert_eq!(nodes[led].get("/health").status(), 200);
    nodes[one].wait_until_ready();
}

/// What it has shown stands in its own log, and was applied again when it started.
#[test]
fn a_single_member_shows_what_it_has_as_soon_as_it_answers() {
    let [mut n1] = found(["n1"]);
    n1.put("/shown", "1");
    n1.kill();
    n1.launch(&[], &[]);
    n1.process().line("serving insecure client requests");
    let reply = http::ask(n1.addr(), &Request::get("/v2/keys/shown")).expect("an answer");
    assert_eq!(json(&reply)["node"]["value"], "1");
    n1.wait_until_ready();
}

/// Harnesses that were written for etcd wait until its log has a line with `enabled capabilities` and one with `published`; etcd's
/// own count two such lines.
#[test]
fn each_start_has_the_lines_that_harnesses_wait_for() {
    let check = |node: &mut Node| {
        let log = node.process().log();
        let place = |words: &str| {
            let found: Vec<_> =
                log.lines().enumerate().filter(|(_, line)| line.contains(words)).collect();
            assert_eq!(found.len(), 1, "{words}: {found:?}");
            found[0].0
        };
        let enabled = place(" I | etcdserver/api: enabled capabilities for version 3.4");
        assert_eq!(
            place(" I | etcdserver/membership: set the initial cluster version to 3.4") + 1,
            enabled
        );
        place(" I | etcdserver: published {Name:");
        let lines = log.lines().filter(|line| {
            line.contains("enabled capabilities for version") || line.contains("published")
        });
        assert_eq!(lines.count(), 2, "{log}");
    };
    let mut nodes = found(["n1", "n2", "n3"]);
    nodes.iter_mut().for_each(check);
    nodes.iter_mut().for_each(Node::kill);
    nodes.iter_mut().for_each(|node| node.launch(&[], &[]));
    nodes.iter_mut().for_each(Node::wait_until_ready);
    nodes.iter_mut().for_each(check);
    let [mut n1] = found(["n1"]);
    check(&mut n1);
    n1.kill();
    n1.serve(&[]);
    check(&mut n1);
}
