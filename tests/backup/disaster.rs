//! Three members, two of them lost for good: both ways on, as docs/operations/backup.md tells them.

use crate::node::{Node, agree, found, list};
use crate::program::{backup, fill, fine, index, refused, restore, restore_alone, seen, text, url};

/// Adds two members to the one that goes on, as an operator does.
fn grow(first: &Node, second: &mut Node, third: &mut Node) {
    first.add(&second.peer_url());
    let both = list(&[first, second]);
    second.serve(&["--initial-cluster", &both, "--initial-cluster-state=existing"]);
    first.add(&third.peer_url());
    let three = list(&[first, second, third]);
    third.serve(&["--initial-cluster", &three, "--initial-cluster-state=existing"]);
    agree(&[first, second, third], &[first.name, second.name, third.name]);
}

#[test]
fn the_survivor_goes_on_in_place() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut nodes = found(["a", "b", "c"]);
    fill(&nodes[0]);
    let taken = nodes[0].put("/last", "acknowledged");
    nodes[1].kill();
    nodes[2].kill();
    let survivor = &mut nodes[0];
    // First what it has is put aside. There is no majority that could be asked.
    let (file, at) = (dir.path().join("before"), url(survivor));
    refused(&["backup", "--endpoint", &at, text(&file)], 1, &["--local"]);
    fine(&["backup", "--endpoint", &at, "--local", text(&file)]);
    fine(&["verify", text(&file)]);
    let before = seen(survivor);
    survivor.kill();

    survivor.serve(&["--force-new-cluster"]);
    assert_eq!(seen(survivor), before);
    assert!(survivor.put("/last", "alone") > taken);
    survivor.kill();
    survivor.serve(&[]);
    let (mut d, mut e) = (Node::named("d"), Node::named("e"));
    grow(&nodes[0], &mut d, &mut e);
    assert_eq!(e.value("/last").as_deref(), Some("alone"));
    nodes[0].kill();
    d.put("/last", "three again");

    // Without the survivor there would still be the file.
    let mut last = Node::named("last");
    restore_alone(&last, &file, &[]);
    last.serve(&[]);
    assert_eq!(last.value("/last").as_deref(), Some("acknowledged"));
}

#[test]
fn a_new_cluster_goes_on_from_the_last_backup() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("nightly");
    let mut nodes = found(["a", "b", "c"]);
    fill(&nodes[0]);
    backup(&nodes[1], &file);
    let (before, at) = (seen(&nodes[1]), index(&nodes[1]));
    let lost = nodes[0].put("/lost", "written after the backup");
    nodes.iter_mut().for_each(Node::kill);
    nodes[1].lose_data();
    nodes[2].lose_data();
    fine(&["verify", text(&file)]);

    // One member first, then it grows.
    let mut first = Node::named("x");
    restore_alone(&first, &file, &["--bump-index", "1000"]);
    first.serve(&[]);
    assert_eq!(seen(&first), before);
    assert_eq!(first.value("/lost"), None);
    let (mut y, mut z) = (Node::named("y"), Node::named("z"));
    grow(&first, &mut y, &mut z);
    assert!(z.put("/new", "1") > lost, "no index comes a second time");
    first.kill();
    y.put("/new", "2");

    // Or all three at once, on the old machines, under the old names and addresses.
    let founders = list(&nodes.each_ref());
    nodes[0].lose_data();
    for node in &nodes {
        restore(node, &file, &founders, &["--bump-index", "1000"]);
    }
    nodes.iter_mut().for_each(|node| node.launch(&[], &[]));
    nodes.iter_mut().for_each(Node::wait_until_ready);
    agree(&nodes.each_ref(), &["a", "b", "c"]);
    assert!(nodes.iter().all(|node| seen(node) == before));
    assert!(nodes[2].put("/new", "1") > at + 1000);
}
