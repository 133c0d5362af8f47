//! A majority is lost for good, and one survivor goes on alone with everything it had.

use crate::node::{Node, agree, found, json, leader, list, wait_until};
use crate::support::http::{self, Request};

#[test]
fn a_survivor_goes_on_alone_and_grows_again() {
    let mut nodes = found(["n1", "n2", "n3"]);
    let led = leader(&nodes);
    for n in 0..50 {
        nodes[led].put(&format!("/kept/{n}"), &n.to_string());
    }
    let survivor = (led + 1) % 3;
    let cluster = |node: &Node| node.get("/v2/members").get("X-Etcd-Cluster-Id").expect("an id");
    let cluster_before = cluster(&nodes[survivor]);

    // What a majority has it hears of a moment later.
    wait_until("the survivor has all", || nodes[survivor].value("/kept/49").is_some());

    // The majority is gone: reads go on, writes are told that their outcome is open, health says no.
    nodes[led].kill();
    nodes[(led + 2) % 3].kill();
    let request = Request::new("PUT", "/v2/keys/lost").form("value=1");
    let reply = nodes[survivor].ask(&request);
    assert_eq!(reply.status(), 500, "{}", reply.text());
    assert_eq!(json(&reply)["errorCode"], 300);
    assert_eq!(nodes[survivor].value("/kept/49").as_deref(), Some("49"));
    assert_eq!(nodes[survivor].get("/health").status(), 503);
    let before = nodes[survivor].get("/v2/keys/kept").index().expect("an index");

    // Not while another member of the cluster lives: there would be two of it.
    nodes[survivor].kill();
    nodes[led].launch(&[], &[]);
    let (peer, question) = (nodes[led].peer_addr(), Request::get("/members"));
    let answers = || http::ask(peer, &question).is_ok_and(|reply| reply.status() == 200);
    wait_until("an answer to peers", answers);
    let said = nodes[survivor].refusal(&["--force-new-cluster"]);
    let url = nodes[led].peer_url();
    assert!(said.contains("still answers at") && said.contains(&url), "{said}");
    nodes[led].kill();

    nodes[survivor].serve(&["--force-new-cluster"]);
    let alone = nodes[survivor].members();
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert_eq!(cluster(&nodes[survivor]), cluster_before);
    for n in 0..50 {
        let value = nodes[survivor].value(&format!("/kept/{n}"));
        assert_eq!(value, Some(n.to_string()));
    }
    let index = nodes[survivor].put("/after", "1");
    assert!(index > before, "{index} after {before}");

    // Without the flag it stays what it is; then it grows.
    nodes[survivor].kill();
    nodes[survivor].serve(&[]);
    assert_eq!(nodes[survivor].members(), alone);
    let (mut second, mut third) = (Node::named("second"), Node::named("third"));
    let first = &nodes[survivor];
    first.add(&second.peer_url());
    let both = list(&[first, &second]);
    second.serve(&["--initial-cluster", &both, "--initial-cluster-state=existing"]);
    first.add(&third.peer_url());
    let three = list(&[first, &second, &third]);
    third.serve(&["--initial-cluster", &three, "--initial-cluster-state=existing"]);
    agree(&[first, &second, &third], &[first.name, "second", "third"]);
    assert_eq!(third.value("/kept/7").as_deref(), Some("7"));
    assert!(third.put("/after", "2") > index);
    // Three again: one may go.
    nodes[survivor].kill();
    second.put("/after", "3");
}
