//! Members come and go at run time.

use crate::node::{Node, agree, found, json, leader, list, wait_until};
use crate::support::http::{self, Request};

/// The only member reads without a round (ADR 35), which must end before another one can acknowledge a write.
#[test]
fn no_quorum_read_is_stale_while_one_member_becomes_two_and_one_again() {
    let [n1] = found(["n1"]);
    let mut n2 = Node::named("n2");
    let holds = |node: &Node, index: u64| {
        let read = json(&node.get("/v2/keys/key?quorum=true"));
        assert_eq!(read["node"]["modifiedIndex"].as_u64(), Some(index), "{}: {read}", node.name);
    };
    let write_there_read_here = |there: &Node, here: &Node| {
        for round in 0..200 {
            let index = there.put("/key", &round.to_string());
            holds(here, index);
        }
    };
    write_there_read_here(&n1, &n1);
    let id = n1.add(&n2.peer_url());
    n2.serve(&["--initial-cluster", &list(&[&n1, &n2]), "--initial-cluster-state=existing"]);
    // From its first write on, which may come before it has a vote.
    write_there_read_here(&n2, &n1);
    write_there_read_here(&n1, &n2);
    agree(&[&n1, &n2], &["n1", "n2"]);
    n1.remove(&id);
    n2.farewell();
    write_there_read_here(&n1, &n1);
}

#[test]
fn members_come_and_go() {
    let [n1] = found(["n1"]);
    let (mut n2, mut n3) = (Node::named("n2"), Node::named("n3"));
    n1.put("/early", "1");
    // One after the other without a pause: the peer of the first may not even have started.
    n1.add(&n2.peer_url());
    n2.serve(&["--initial-cluster", &list(&[&n1, &n2]), "--initial-cluster-state=existing"]);
    n2.add(&n3.peer_url());
    n3.serve(&["--initial-cluster", &list(&[&n1, &n2, &n3]), "--initial-cluster-state=existing"]);
    agree(&[&n1, &n2, &n3], &["n1", "n2", "n3"]);
    assert_eq!(n3.value("/early").as_deref(), Some("1"), "it has what was written before it came");
    let index = n3.put("/late", "2");
    wait_until("a write by the last one that came", || n1.value("/late").as_deref() == Some("2"));

    // The leader goes: it hands over, says so, and ends.
    let mut nodes = [n1, n2, n3];
    let led = leader(&nodes);
    let id = nodes[led].members().into_iter().find(|member| member.name == nodes[led].name);
    nodes[(led + 1) % 3].remove(&id.expect("it is a member").id);
    let said = nodes[led].farewell();
    assert!(said.contains("the member has been permanently removed from the cluster"), "{said}");
    assert!(said.contains("the data-dir used by this member must be removed"), "{said}");

    // Started again it knows that it has left.
    nodes[led].launch(&[], &[]);
    let said = nodes[led].farewell();
    assert!(said.contains("the member has been permanently removed from the cluster"), "{said}");

    let [one, other] = [(led + 1) % 3, (led + 2) % 3];
    assert_eq!(nodes[one].members().len(), 2);
    assert!(nodes[other].put("/late", "3") > index);

    // A removed member has no vote when that is answered: the last one goes on at once.
    let members = nodes[one].members();
    let leaves = members.iter().find(|member| member.name == nodes[other].name);
    nodes[one].remove(&leaves.expect("it is a member").id);
    nodes[other].kill();
    nodes[one].put("/late", "4");
    assert_eq!(nodes[one].members().len(), 1);
}

#[test]
fn a_member_that_lost_its_data_joins_under_a_new_id() {
    let mut nodes = found(["n1", "n2", "n3"]);
    let lost = (leader(&nodes) + 1) % 3;
    let id = |nodes: &[Node; 3]| {
        let members = nodes[(lost + 1) % 3].members();
        members.into_iter().find(|member| member.name == nodes[lost].name).expect("a member").id
    };
    let before = id(&nodes);
    nodes[lost].put("/kept", "1");
    nodes[lost].kill();
    nodes[lost].lose_data();
    let all = list(&nodes.iter().collect::<Vec<_>>());
    nodes[lost].serve(&["--initial-cluster", &all, "--initial-cluster-state=existing"]);
    let [n1, n2, n3] = &nodes;
    agree(&[n1, n2, n3], &["n1", "n2", "n3"]);
    assert_ne!(id(&nodes), before);
    assert_eq!(nodes[lost].value("/kept").as_deref(), Some("1"));
    nodes[lost].put("/kept", "2");
}

#[test]
fn a_member_moves_to_other_urls() {
    let [n1, mut n2, n3] = found(["n1", "n2", "n3"]);
    let member = n1.members().into_iter().find(|member| member.name == "n2").expect("a member");
    n2.kill();
    let mut moved = Node::named("n2");
    let request = Request::new("PUT", format!("/v2/members/{}", member.id));
    let request = request.header("Content-Type", "application/json");
    let body = format!(r#"{{"peerURLs":["{}"]}}"#, moved.peer_url());
    let reply = n3.ask(&request.body(body));
    assert_eq!(reply.status(), 204, "{}", reply.text());
    std::fs::rename(n2.data_dir(), moved.data_dir()).expect("its data moves with it");
    let index = n1.put("/while/away", "1");
    moved.serve(&[]);
    agree(&[&n1, &moved, &n3], &["n1", "n2", "n3"]);
    let now = moved.members().into_iter().find(|member| member.name == "n2").expect("a member");
    assert_eq!((now.id, now.peer_urls), (member.id, vec![moved.peer_url()]));
    assert_eq!(moved.value("/while/away").as_deref(), Some("1"));
    assert!(moved.put("/back", "1") > index);
}

/// A member that came back at another address was not found by the others until an operator updated its URL; where addresses are
/// given out by DHCP or a container runtime, that is every restart.
#[test]
fn a_member_that_starts_at_another_peer_url_is_found_there_without_an_update() {
    let mut nodes = found(["n1", "n2", "n3"]);
    let led = leader(&nodes);
    let moves = (led + 1) % 3;
    let id = |node: &Node, name: &str| {
        node.members().into_iter().find(|member| member.name == name).expect("a member")
    };
    let before = id(&nodes[led], nodes[moves].name);
    nodes[moves].kill();
    let mut moved = Node::named(nodes[moves].name);
    std::fs::rename(nodes[moves].data_dir(), moved.data_dir()).expect("its data moves with it");
    let index = nodes[led].put("/while/away", "1");
    moved.serve(&[]);
    assert_eq!(moved.value("/while/away").as_deref(), Some("1"));
    assert!(moved.put("/back", "1") > index);
    assert_eq!(
        id(&moved, &before.name),
        before,
        "what is recorded stays until an operator changes it"
    );

    // It counts: with it alone beside the leader there is a majority, and it may lead as well.
    nodes[(led + 2) % 3].kill();
    nodes[led].put("/with/it", "1");
    wait_until("the write at the member that moved", || moved.value("/with/it").is_some());
    let last = (led + 2) % 3;
    nodes[last].serve(&[]);
    nodes[led].kill();
    moved.put("/without/the/old/leader", "1");
    nodes[last].put("/without/the/old/leader", "2");
}

/// Two removals that were checked at the same time at two members both passed. Of four members one was down, so two were left,
/// and one of them was the one that was down.
#[test]
fn of_two_removals_at_once_only_one_passes_when_both_would_cost_the_majority() {
    let mut nodes = found(["n1", "n2", "n3", "n4"]);
    let led = leader(&nodes);
    let [one, other, down] = [1, 2, 3].map(|step| (led + step) % 4);
    let members = nodes[led].members();
    let [first, second, gone] = [one, other, down].map(|place| {
        let name = nodes[place].name;
        members.iter().find(|member| member.name == name).expect("a member").id.clone()
    });
    nodes[down].kill();
    // A member counts as lost when it has not answered for an election (300 ms). Nothing shows that from outside without
    // changing the members, so here time itself is waited for.
    std::thread::sleep(std::time::Duration::from_secs(2));
    // A member that removes itself may end before it answers.
    let remove = |asked: usize, id: &str| {
        let request = Request::new("DELETE", format!("/v2/members/{id}"));
        http::ask(nodes[asked].addr(), &request).map_or(500, |reply| reply.status())
    };
    let (one_status, other_status) = std::thread::scope(|scope| {
        let first = scope.spawn(|| remove(led, &first));
        let second = scope.spawn(|| remove(one, &second));
        (first.join().expect("an answer"), second.join().expect("an answer"))
    });
    assert!(
        matches!((one_status, other_status), (204, 500) | (500, 204)),
        "{one_status} {other_status}"
    );
    nodes[led].put("/still", "1");
    assert_eq!(nodes[led].members().len(), 3);
    // The one that is down may go: then all that are left run.
    assert_eq!(remove(led, &gone), 204);
}
