//! How long followers take: measured from outside by making one of them late.

use crate::page::Page;
use crate::support::cluster::{Cluster, Options};
use crate::support::http::{self, Request};

fn latency(cluster: &Cluster, leader: usize, follower: &str) -> Option<f64> {
    let page = Page::of(cluster.member(leader).addr());
    page.value("cairn_member_latency_seconds", &format!("To=\"{follower}\""))
}

fn id(cluster: &Cluster, member: usize) -> String {
    let page = Page::of(cluster.member(member).addr());
    let (labels, _) = &page.families["etcd_server_id"].samples[0];
    labels.split('"').nth(1).expect("an id").to_owned()
}

#[test]
fn a_follower_that_stands_still_is_ever_later_and_caught_up_when_it_goes_on() {
    let mut cluster = Cluster::start(Options { loopback: true, ..Options::members(3) });
    let leader = cluster.await_leader();
    let paused = (leader + 1) % 3;
    let name = id(&cluster, paused);
    let other = id(&cluster, (leader + 2) % 3);
    let lag = |cluster: &Cluster, follower: &str| {
        let page = Page::of(cluster.member(leader).addr());
        page.value("cairn_member_lag_entries", &format!("To=\"{follower}\""))
    };
    cluster.wait_until("all have all", |cluster| {
        lag(cluster, &name) == Some(0.0) && latency(cluster, leader, &name).is_some()
    });
    let begun = std::time::Instant::now();
    cluster.pause(paused);
    let put = Request::new("PUT", "/v2/keys/a").form("value=1");
    assert_eq!(http::ask(cluster.member(leader).addr(), &put).expect("an answer").status(), 201);
    cluster.wait_until("it is two seconds late", |cluster| {
        latency(cluster, leader, &name).is_some_and(|late| late > 2.0)
    });
    let late = latency(&cluster, leader, &name).expect("it is known");
    assert!(late < begun.elapsed().as_secs_f64() + 1.0, "{late}");
    assert!(lag(&cluster, &name).is_some_and(|entries| entries >= 1.0));
    assert!(latency(&cluster, leader, &other).is_some_and(|late| late < 2.0), "the other is not");
    // A follower knows nothing of it.
    let page = Page::of(cluster.member((leader + 2) % 3).addr());
    assert!(page.value("cairn_member_latency_seconds", &format!("To=\"{name}\"")).is_none());
    cluster.go_on(paused);
    cluster.wait_until("it has all", |cluster| lag(cluster, &name) == Some(0.0));
    // What it shows now is how long that entry took.
    let took = latency(&cluster, leader, &name).expect("it is known");
    assert!(took > 2.0 && took < begun.elapsed().as_secs_f64() + 1.0, "{took}");
    cluster.wait_until("the next is quick again", |cluster| {
        http::ask(cluster.member(leader).addr(), &put).expect("an answer");
        latency(cluster, leader, &name).is_some_and(|late| late < 1.0)
    });
}
