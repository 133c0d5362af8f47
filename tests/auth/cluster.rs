//! Users on every member, after every kind of restart.

use super::support::cluster::{Cluster, Options};
use super::support::http::{Client, Request};
use super::support::server::{Flavor, Server};
use super::{BOB, ROOT, ask, change, set_up};

/// Small, so that the log is cut while a member is away.
const CHECKPOINT: &str = "--checkpoint-wal-bytes=1048576";

#[test]
fn users_survive_kill_9_and_a_restart_from_a_checkpoint() {
    let mut server = Server::start_with(Flavor::Subject, &[CHECKPOINT]);
    set_up(server.addr());
    let users = ROOT.get(server.addr(), "/v2/auth/users").text();
    assert!(users.contains(r#"{"user":"bob","roles":[{"role":"app""#), "{users}");
    server.kill();
    server.restart();
    assert_eq!(ROOT.get(server.addr(), "/v2/auth/users").text(), users);
    assert_eq!(ask(server.addr(), &Request::get("/v2/keys/app/a")).status(), 401);
    // Beyond several checkpoints: the users are in them and no longer in the log.
    let mut client = Client::new(server.addr());
    let value = "x".repeat(100_000);
    for n in 0..80 {
        let put = Request::new("PUT", format!("/v2/keys/app/{}", n % 3));
        let put = BOB.signs(put).form(format!("value={value}"));
        assert!(client.ask(&put).expect("an answer").status() < 300);
    }
    drop(client);
    server.kill();
    server.restart();
    assert_eq!(ROOT.get(server.addr(), "/v2/auth/users").text(), users);
    assert_eq!(BOB.get(server.addr(), "/v2/keys/app/1").status(), 200);
    assert_eq!(BOB.get(server.addr(), "/v2/keys/other").status(), 401);
}

/// Up to where a member has cut its log. The last line may be half written.
fn compacted(log: &str) -> u64 {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().rev();
    let mut indexes = lines.filter_map(|line| line.split("compacted raft log at ").nth(1));
    indexes.next().map_or(0, |index| index.parse().expect("a number"))
}

/// More entries than there are when the follower goes away.
const FAR_AHEAD: u64 = 200;

#[test]
fn three_members_agree_and_one_that_was_away_gets_users_by_snapshot() {
    let mut options = Options::members(3);
    options.args.push(CHECKPOINT.to_owned());
    let mut cluster = Cluster::start(options);
    let addr = |cluster: &Cluster, member: usize| cluster.member(member).addr();
    set_up(addr(&cluster, 0));
    let users = ROOT.get(addr(&cluster, 0), "/v2/auth/users").text();
    for member in 0..3 {
        cluster.wait_until("the last change everywhere", |cluster| {
            ask(addr(cluster, member), &Request::get("/v2/keys/app/a")).status() == 401
        });
        assert_eq!(ROOT.get(addr(&cluster, member), "/v2/auth/users").text(), users);
        // The right password is known to this member from now on.
        assert_eq!(BOB.get(addr(&cluster, member), "/v2/keys/app/").status(), 404);
    }

    // A change at one member counts at the others as soon as they have applied it.
    change(addr(&cluster, 0), "PUT", "users/bob", r#"{"user":"bob","password":"other"}"#);
    for member in 0..3 {
        cluster.wait_until("the old password is refused everywhere", |cluster| {
            BOB.get(addr(cluster, member), "/v2/keys/app/").status() == 401
        });
    }
    let back = format!(r#"{{"user":"bob","password":"{}"}}"#, BOB.password);
    change(addr(&cluster, 0), "PUT", "users/bob", &back);

    let leader = cluster.await_leader();
    let (away, asked) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(away);
    change(addr(&cluster, asked), "PUT", "users/late", r#"{"user":"late","password":"p"}"#);
    let mut client = Client::new(addr(&cluster, leader));
    let value = "x".repeat(100_000);
    // What is kept of the log behind a checkpoint, in bytes, and more.
    for n in 0..1_500 {
        let put = Request::new("PUT", format!("/v2/keys/app/{}?noValueOnSuccess=true", n % 3));
        let put = ROOT.signs(put).form(format!("value={value}"));
        assert!(client.ask(&put).expect("an answer").status() < 300);
    }
    cluster.wait_until("the log is cut far ahead", |cluster| {
        compacted(&cluster.member(leader).log()) > FAR_AHEAD
    });
    cluster.spawn(away);
    let users = ROOT.get(addr(&cluster, leader), "/v2/auth/users").text();
    assert!(users.contains("late"), "{users}");
    cluster.wait_until("the users are there", |cluster| {
        let reply = cluster.member(away).try_ask(&ROOT.signs(Request::get("/v2/auth/users")));
        reply.is_some_and(|reply| reply.text() == users)
    });
    let log = cluster.member(away).log();
    assert!(log.contains("receiving all of snapshot"), "it caught up from the log");
    assert_eq!(BOB.get(addr(&cluster, away), "/v2/keys/app/1").status(), 200);
    assert_eq!(BOB.get(addr(&cluster, away), "/v2/keys/other").status(), 401);
}
