//! What an operator can get wrong at the start of a member: each is refused, with the flag and the way out, and changes
//! nothing.

use crate::node::{Node, agree, found, list};
use crate::support::port::Port;

/// The refusal says all of this, and the member's directory holds no member.
fn assert_says(node: &Node, said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    assert!(!node.data_dir().join("member.json").exists(), "it thinks it is a member:\n{said}");
}

#[test]
fn a_founder_whose_data_is_gone_is_told_that_it_was_bootstrapped() {
    let [mut n1, n2, n3] = found(["n1", "n2", "n3"]);
    let members = n2.members();
    n1.kill();
    n1.lose_data();
    let founders = list(&[&n1, &n2, &n3]);
    let said = n1.refusal(&["--initial-cluster", &founders]);
    let data_dir = n1.data_dir().display().to_string();
    let words = ["has already been bootstrapped", &data_dir, "--initial-cluster-state=existing"];
    assert_says(&n1, &said, &words);
    assert_eq!(n2.members(), members);
}

#[test]
fn a_member_that_was_not_added_is_told_so() {
    let [n1] = found(["n1"]);
    let mut n2 = Node::named("n2");
    let both = list(&[&n1, &n2]);
    let said = n2.refusal(&["--initial-cluster", &both, "--initial-cluster-state=existing"]);
    let known = format!("the cluster has 1 (n1={})", n1.peer_url());
    assert_says(&n2, &said, &["member count is unequal", &known, "etcdctl member add"]);
    assert_eq!(n1.members().len(), 1);
}

#[test]
fn a_list_with_urls_of_no_member_is_refused() {
    let [n1] = found(["n1"]);
    let mut n2 = Node::named("n2");
    let added = Port::reserve().expect("the system has free ports").url();
    n1.add(&added);
    let both = list(&[&n1, &n2]);
    let said = n2.refusal(&["--initial-cluster", &both, "--initial-cluster-state=existing"]);
    let entry = format!("n2={} of --initial-cluster is not in the cluster", n2.peer_url());
    assert_says(&n2, &said, &["unmatched member", &entry, &added, "etcdctl member list"]);
}

#[test]
fn a_name_that_is_not_in_the_list_is_refused() {
    let mut n1 = Node::named("n1");
    for state in ["new", "existing"] {
        let other = format!("other={}", n1.peer_url());
        let said = n1.refusal(&["--initial-cluster", &other, "--initial-cluster-state", state]);
        assert_says(
            &n1,
            &said,
            &["couldn't find local name \"n1\"", "--initial-cluster", "--name"],
        );
    }
}

#[test]
fn urls_that_are_not_the_advertised_ones_are_refused() {
    let mut n1 = Node::named("n1");
    let other = Port::reserve().expect("the system has free ports").url();
    let said = n1.refusal(&["--initial-cluster", &format!("n1={other}")]);
    let listed = format!("--initial-cluster has n1={other} but missing from");
    let advertised = format!("--initial-advertise-peer-urls={}", n1.peer_url());
    assert_says(&n1, &said, &[&listed, &advertised]);
}

#[test]
fn a_joining_member_that_reaches_no_other_is_told_so() {
    let (n1, mut n2) = (Node::named("n1"), Node::named("n2"));
    let both = list(&[&n1, &n2]);
    let said = n2.refusal(&["--initial-cluster", &both, "--initial-cluster-state=existing"]);
    let words = ["cannot fetch cluster info from peer urls", &n1.peer_url(), "--initial-cluster"];
    assert_says(&n2, &said, &words);
}

#[test]
fn there_is_nothing_to_force_without_data() {
    let mut n1 = Node::named("n1");
    let said = n1.refusal(&["--force-new-cluster"]);
    let data_dir = n1.data_dir().display().to_string();
    assert_says(&n1, &said, &["--force-new-cluster", "there is no member in", &data_dir]);
}

#[test]
fn what_the_flags_say_of_the_beginning_counts_only_at_the_beginning() {
    let [mut n1, mut n2] = found(["n1", "n2"]);
    let members = n1.members();
    n1.put("/kept", "1");
    n2.kill();
    n1.kill();
    let nobody = Port::reserve().expect("the system has free ports").url();
    let variable = format!("ETCD_INITIAL_CLUSTER=x={nobody},no list");
    n1.launch(&[&variable, "ETCD_INITIAL_CLUSTER_TOKEN=another"], &[]);
    n2.launch(&[], &["--initial-cluster-state=existing", "--initial-cluster-token=third"]);
    n1.wait_until_ready();
    n2.wait_until_ready();
    agree(&[&n1, &n2], &["n1", "n2"]);
    assert_eq!(n1.members(), members);
    assert_eq!(n2.value("/kept").as_deref(), Some("1"));
}
