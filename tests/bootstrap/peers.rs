//! What members know of each other, and what they tell strangers.

use crate::node::{Node, found, json, leader, list, wait_until};
use crate::support::http::{self, Request};

#[test]
fn the_leader_knows_its_followers() {
    let mut nodes = found(["n1", "n2", "n3"]);
    let led = leader(&nodes);
    let one = (led + 1) % 3;
    let reply = nodes[one].get("/v2/stats/leader");
    assert_eq!((reply.status(), reply.text()), (403, r#"{"message":"not current leader"}"#.into()));

    let members = nodes[led].members();
    let id = |name: &str| {
        members.iter().find(|member| member.name == name).expect("a member").id.clone()
    };
    let (own, watched) = (id(nodes[led].name), id(nodes[one].name));
    let followers = |node: &Node| {
        let body = json(&node.get("/v2/stats/leader"));
        assert_eq!(body["leader"], own.as_str());
        body["followers"].as_object().expect("followers are an object").clone()
    };
    for n in 0..20 {
        nodes[led].put("/counted", &n.to_string());
    }
    let there = followers(&nodes[led]);
    assert_eq!(there.len(), 2, "{there:?}");
    for (id, follower) in &there {
        assert!(members.iter().any(|member| member.id == *id && *id != own), "{id}");
        let number = |name: &str| follower["latency"][name].as_f64().expect("a number");
        let (least, most) = (number("minimum"), number("maximum"));
        // In milliseconds, from sending until the follower had it on its disk: neither nothing nor seconds.
        assert!(
            0.001 < least && least <= number("average") && number("average") <= most,
            "{follower}"
        );
        assert!(least <= number("current") && number("current") <= most, "{follower}");
        assert!(most < 10_000.0 && number("standardDeviation") <= most, "{follower}");
        assert!(follower["counts"]["success"].as_u64().is_some_and(|n| n > 0), "{follower}");
    }
    let failed =
        |node: &Node| followers(node)[&watched]["counts"]["fail"].as_u64().expect("a count");
    let before = failed(&nodes[led]);
    nodes[one].kill();
    nodes[led].put("/counted", "without one");
    wait_until("a failure that is counted", || failed(&nodes[led]) > before);

    // The members' own view of what went to and fro.
    let sent = json(&nodes[led].get("/v2/stats/self"));
    assert_eq!(sent["leaderInfo"]["leader"], own.as_str());
    assert!(sent["sendAppendRequestCnt"].as_u64().is_some_and(|n| n > 0), "{sent}");
    let received = json(&nodes[(led + 2) % 3].get("/v2/stats/self"));
    assert_eq!(received["state"], "StateFollower");
    assert!(received["recvAppendRequestCnt"].as_u64().is_some_and(|n| n > 0), "{received}");
}

#[test]
fn strangers_are_told_why() {
    let [mut n1, mut n2] = found(["n1", "n2"]);
    let members = n1.members();
    // A member of a cluster with another token, sent to this one by its list: it cannot have founded it.
    let mut stranger = Node::named("n3");
    let all = list(&[&n1, &n2, &stranger]);
    stranger.launch(&[], &["--initial-cluster", &all, "--initial-cluster-token", "another"]);
    let theirs = stranger.process().line("cluster ID mismatch");
    assert!(theirs.contains("--initial-cluster-token"), "{theirs}");
    for node in [&mut n1, &mut n2] {
        let ours = node.process().line("cluster ID mismatch");
        assert!(ours.contains("--initial-cluster-token"), "{ours}");
    }
    stranger.kill();
    assert_eq!(n1.members(), members);

    // What etcd's members would say to each other.
    for target in
        ["/raft", "/raft/stream/message/8e9e05c52164694d", "/raft/probing", "/raft/snapshot"]
    {
        let reply = http::ask(n1.peer_addr(), &Request::get(target)).expect("an answer");
        assert_eq!(reply.status(), 404, "{target}: {}", reply.text());
    }
    n1.put("/still", "here");
}
