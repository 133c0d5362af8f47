//! Connections between members that break while all members are well: a proxy or a firewall in between was restarted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{Node, json, leader, list};
use crate::support::http::{Client, Request};

/// Where a connection between members says what it is for, and the number for questions to the leader.
const LANE: (usize, u8) = (19, 5);

const WRITERS: usize = 4;
const BREAKS: usize = 60;
const PAUSE: Duration = Duration::from_millis(40);

/// What stands in front of a member's peer port. It goes on until the test ends.
struct Proxy {
    addr: SocketAddr,
    /// Both ends of each connection with questions.
    questions: Arc<Mutex<Vec<[TcpStream; 2]>>>,
    broken: AtomicUsize,
}

impl Proxy {
    fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has free ports");
        let addr = listener.local_addr().expect("it is bound");
        let questions = Arc::<Mutex<Vec<[TcpStream; 2]>>>::default();
        let known = Arc::clone(&questions);
        thread::spawn(move || {
            for inside in listener.incoming().flatten() {
                let known = Arc::clone(&known);
                thread::spawn(move || Self::carry(inside, target, &known));
            }
        });
        Self { addr, questions, broken: AtomicUsize::new(0) }
    }

    fn carry(
        mut from: TcpStream,
        target: SocketAddr,
        questions: &Mutex<Vec<[TcpStream; 2]>>,
    ) -> Option<()> {
        let mut to = TcpStream::connect(target).ok()?;
        for stream in [&from, &to] {
            stream.set_nodelay(true).ok()?;
        }
        let (place, number) = LANE;
        let mut head = vec![0; place + 1];
        from.read_exact(&mut head).ok()?;
        if head[place] == number {
            let ends = [from.try_clone().ok()?, to.try_clone().ok()?];
            questions.lock().expect("nothing panics with it").push(ends);
        }
        to.write_all(&head).ok()?;
        let (mut back_from, mut back_to) = (to.try_clone().ok()?, from.try_clone().ok()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut back_from, &mut back_to);
            let _ = back_to.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Both).ok()
    }

    fn break_questions(&self) {
        for ends in self.questions.lock().expect("nothing panics with it").drain(..) {
            let cut = ends.iter().filter(|end| end.shutdown(Shutdown::Both).is_ok()).count();
            self.broken.fetch_add(cut / 2, Ordering::Relaxed);
        }
    }
}

/// Posts one value after the other; returns how many, and the longest that one of them took.
fn post(to: SocketAddr, writer: usize, stop: &AtomicBool) -> (usize, Duration) {
    let mut client = Client::new(to);
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let form = format!("value={writer}-{count}");
        let begun = Instant::now();
        let reply =
            client.ask(&Request::new("POST", "/v2/keys/queue").form(form)).expect("an answer");
        assert_eq!(reply.status(), 201, "write {count} of writer {writer}: {}", reply.text());
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    (count, slowest)
}

/// A follower's connection to its leader broke while the leader stayed leader: the writes that were under way on it waited for
/// their deadline, and then their outcome was unknown.
#[test]
fn a_broken_connection_to_a_leader_that_stays_costs_its_writers_no_error_and_no_second() {
    let mut nodes = ["n1", "n2", "n3"].map(Node::named);
    let proxies = nodes.each_ref().map(|node| Proxy::before(node.peer_addr()));
    for (node, proxy) in nodes.iter_mut().zip(&proxies) {
        node.advertise_peer(format!("http://{}", proxy.addr));
    }
    let founders = list(&nodes.each_ref());
    for node in &mut nodes {
        // With the usual times: here the leader must not lose the lead because the machine is busy.
        let times = ["--heartbeat-interval=100", "--election-timeout=1000"];
        node.launch(&[], &[&["--initial-cluster", &founders], &times[..]].concat());
    }
    nodes.iter_mut().for_each(Node::wait_until_ready);
    let led = leader(&nodes);
    let term = |node: &Node| node.get("/v2/keys/").get("X-Raft-Term").expect("a term");
    let term_before = term(&nodes[led]);

    let stop = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let to = nodes[(led + 1 + writer % 2) % 3].addr();
                let stop = &stop;
                scope.spawn(move || post(to, writer, stop))
            })
            .collect();
        for _ in 0..BREAKS {
            thread::sleep(PAUSE);
            proxies.iter().for_each(Proxy::break_questions);
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("no error")).collect::<Vec<_>>()
    });

    let broken: usize = proxies.iter().map(|proxy| proxy.broken.load(Ordering::Relaxed)).sum();
    assert!(broken > BREAKS / 2, "only {broken} connections broke");
    assert_eq!(term(&nodes[led]), term_before, "another leader");
    let slowest = done.iter().map(|(_, slowest)| *slowest).max().expect("writers");
    let written: usize = done.iter().map(|(count, _)| count).sum();
    eprintln!(
        "{written} writes over {broken} connections that broke; the slowest took {slowest:?}"
    );
    assert!(slowest < Duration::from_millis(800), "the slowest write took {slowest:?}");

    // Each write made a node, so one that happened twice would be there twice.
    let listing = json(&nodes[led].get("/v2/keys/queue?quorum=true"));
    let mut found = BTreeMap::<&str, usize>::new();
    for node in listing["node"]["nodes"].as_array().into_iter().flatten() {
        *found.entry(node["value"].as_str().expect("a value")).or_default() += 1;
    }
    let expected = done.iter().enumerate().flat_map(|(writer, (count, _))| {
        (0..*count).map(move |number| format!("{writer}-{number}"))
    });
    for value in expected {
        assert_eq!(found.remove(value.as_str()), Some(1), "{value}");
    }
    assert!(found.is_empty(), "no client wrote {found:?}");
}
