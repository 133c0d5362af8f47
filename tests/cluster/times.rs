//! How long clients wait when a leader goes. These run alone, with the usual heartbeats and elections.

mod laggard;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::alone;
use super::support::cluster::{Cluster, Options};
use super::support::http::{self, Client, Open, Request};

/// Writes before and after whatever happens, by each client.
const WARM: usize = 50;
/// How often each thing is done: once may be luck.
const ROUNDS: usize = 3;

/// A client that writes without a pause to one member, until that fails; then to the next one.
struct Writer {
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Written>,
}

/// What became of its writes.
#[derive(Default)]
struct Written {
    /// Writes that had to be sent again.
    retried: usize,
    /// Writes that failed at a second member as well.
    failed: Vec<String>,
    /// The longest time between two acknowledgements.
    gap: Duration,
}

impl Writer {
    fn start(name: usize, members: Vec<SocketAddr>) -> Self {
        let acknowledged = Arc::<AtomicUsize>::default();
        let stop = Arc::<AtomicBool>::default();
        let (count, stopped) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (mut written, mut at) = (Written::default(), name % members.len());
            let mut client = Client::new(members[at]);
            let mut last = Instant::now();
            for n in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(first) = put(&mut client, name, n) {
                    written.retried += 1;
                    at = (at + 1) % members.len();
                    client = Client::new(members[at]);
                    if let Err(second) = put(&mut client, name, n) {
                        written.failed.push(format!("write {n}: {first}, then {second}"));
                        continue;
                    }
                }
                written.gap = written.gap.max(last.elapsed());
                last = Instant::now();
                count.fetch_add(1, Ordering::Relaxed);
            }
            written.gap = written.gap.max(last.elapsed());
            written
        });
        Self { acknowledged, stop, thread }
    }

    /// Waits until so many more writes are acknowledged.
    fn more(&self, cluster: &mut Cluster, count: usize) {
        let until = self.acknowledged.load(Ordering::Relaxed) + count;
        cluster.wait_until("writes go on", |_| self.acknowledged.load(Ordering::Relaxed) >= until);
    }

    fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a writer does not panic")
    }
}

fn put(client: &mut Client, name: usize, n: u32) -> Result<(), String> {
    let request = Request::new("PUT", format!("/v2/keys/writer-{name}?value={n}"));
    let reply = client.ask(&request).map_err(|error| error.to_string())?;
    match reply.status() {
        200 | 201 => Ok(()),
        status => Err(format!("{status} {}", reply.text())),
    }
}

/// Lets one client write at each member of `at` while `event` happens, and looks at the longest silence that any of them saw.
fn silence(cluster: &mut Cluster, at: &[usize], event: impl FnOnce(&mut Cluster)) -> Vec<Written> {
    let members: Vec<_> = at.iter().map(|member| cluster.member(*member).addr()).collect();
    let writers: Vec<_> = (0..at.len()).map(|n| Writer::start(n, members.clone())).collect();
    writers.iter().for_each(|writer| writer.more(cluster, WARM));
    event(cluster);
    writers.iter().for_each(|writer| writer.more(cluster, WARM));
    writers.into_iter().map(Writer::stop).collect()
}

/// Does something several times: no client waits longer than `max`, and no write fails at a second member as well.
fn rounds(what: &str, max: Duration, mut round: impl FnMut() -> Vec<Written>) {
    for n in 0..ROUNDS {
        let written = round();
        let gaps: Vec<_> = written.iter().map(|written| written.gap).collect();
        let retried: usize = written.iter().map(|written| written.retried).sum();
        let failed: Vec<_> = written.iter().flat_map(|written| &written.failed).collect();
        eprintln!("{what} {n}: longest gap of each client {gaps:?}, {retried} writes sent again");
        assert!(failed.is_empty(), "{what} {n}: {failed:#?}");
        assert!(gaps.iter().all(|gap| *gap <= max), "{what} {n}: {gaps:?} must not exceed {max:?}");
    }
}

#[test]
fn writes_go_on_within_two_seconds_of_a_kill() {
    let _alone = alone();
    let mut cluster = Cluster::start(Options::members(3));
    rounds("kill", Duration::from_secs(2), || {
        let leader = cluster.await_leader();
        let survivors: Vec<_> = (0..3).filter(|member| *member != leader).collect();
        let written = silence(&mut cluster, &survivors, |cluster| cluster.kill(leader));
        cluster.start_member(leader);
        cluster.await_healthy();
        written
    });
}

#[test]
fn a_stop_of_the_leader_is_hardly_seen() {
    let _alone = alone();
    let mut cluster = Cluster::start(Options::members(3));
    rounds("stop", Duration::from_millis(300), || {
        let leader = cluster.await_leader();
        let others: Vec<_> = (0..3).filter(|member| *member != leader).collect();
        let written = silence(&mut cluster, &others, |cluster| cluster.stop(leader));
        cluster.start_member(leader);
        cluster.await_healthy();
        written
    });
}

#[test]
fn a_rolling_restart_is_not_seen_by_a_client_with_one_retry() {
    let _alone = alone();
    let mut cluster = Cluster::start(Options::members(3));
    rounds("rolling restart", Duration::from_millis(300), || {
        let written = silence(&mut cluster, &[0, 1, 2], |cluster| {
            for member in 0..3 {
                cluster.stop(member);
                cluster.start_member(member);
            }
        });
        let retried = written.iter().filter(|written| written.retried > 0).count();
        assert_eq!(retried, 3, "every client loses the member that it writes to");
        cluster.await_healthy();
        written
    });
}

#[test]
fn a_long_poll_survives_a_change_of_leader() {
    let _alone = alone();
    let mut cluster = Cluster::start(Options::members(3));
    let watch = |cluster: &Cluster, member: usize| {
        let request = Request::get("/v2/keys/poll?wait=true");
        let open = Open::send(cluster.member(member).addr(), &request).expect("it accepts");
        assert!(open.wait(http::PATIENCE, |progress| progress.head.is_some()), "headers at once");
        open
    };
    type Change = fn(&mut Cluster, usize);
    for change in [Cluster::kill as Change, Cluster::stop as Change] {
        let leader = cluster.await_leader();
        let others: Vec<_> = (0..3).filter(|member| *member != leader).collect();
        let polls: Vec<_> = others.iter().map(|member| watch(&cluster, *member)).collect();
        change(&mut cluster, leader);
        let next = cluster.await_leader();
        assert_ne!(next, leader);
        let put = Request::new("PUT", "/v2/keys/poll?value=from-the-next-leader");
        let reply = http::ask(cluster.member(next).addr(), &put).expect("an answer");
        let index = reply.index().expect("a write has an index");
        for poll in polls {
            assert!(poll.wait(http::PATIENCE, |progress| progress.ended), "the event comes");
            let progress = poll.progress();
            let body = String::from_utf8_lossy(&progress.body);
            let expected = format!("\"modifiedIndex\":{index},");
            assert!(body.contains(&expected) && progress.error.is_none(), "{body} {progress:?}");
        }
        cluster.start_member(leader);
        cluster.await_healthy();
    }
}

#[test]
fn writes_go_on_within_two_seconds_of_a_pause() {
    let _alone = alone();
    let mut cluster = Cluster::start(Options::members(3));
    rounds("pause", Duration::from_secs(2), || {
        let leader = cluster.await_leader();
        let others: Vec<_> = (0..3).filter(|member| *member != leader).collect();
        let written = silence(&mut cluster, &others, |cluster| cluster.pause(leader));
        cluster.go_on(leader);
        cluster.await_healthy();
        written
    });
}
