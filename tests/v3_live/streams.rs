//! Streams of calls over gRPC: when they end, and in what pieces answers come.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cairn::client::{Client, Endpoint, Settings, Terms};
use cairn::rpc::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LockRequest, PutRequest,
    RangeRequest, WatchCreateRequest, WatchRequest, WatchRequestUnion, status,
};
use futures_util::{StreamExt as _, stream};

use crate::client::PATIENCE;
use crate::support::cluster::{Cluster, Options};
use crate::support::server::{Flavor, Server};

/// A stop that waits for clients to end by themselves takes three seconds.
const NOT_HELD_UP: Duration = Duration::from_millis(2500);

fn client(server: &Server) -> Client {
    client_of(server.addr())
}

fn client_of(addr: SocketAddr) -> Client {
    Client::new(Settings {
        endpoints: vec![Endpoint::parse(&addr.to_string(), false).expect("an address")],
        tls: None,
        certified_name: None,
        user: None,
        dial: PATIENCE,
        keep_alive: (Duration::ZERO, PATIENCE),
    })
}

#[test]
fn a_lease_that_is_gone_ends_no_stream_of_keep_alives() {
    let server = Server::start_with(Flavor::Subject, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = client(&server);
        let granted = client.ask(&LeaseGrantRequest { ttl: 60, id: 7 }, Terms::default()).await;
        assert_eq!(granted.expect("it is new").id, 7);
        let asks = || {
            let ids = stream::iter([7, 99, 7, 99]).map(|id| LeaseKeepAliveRequest { id });
            // Its client has more to say, but not now.
            Box::pin(ids.chain(stream::pending()))
        };
        let mut answers = client.stream(asks, Terms::default()).await.expect("it is opened");
        for wanted in [(7, 60), (99, 0), (7, 60), (99, 0)] {
            let answer = answers.next().await.expect("no error").expect("no end");
            assert_eq!((answer.id, answer.ttl), wanted);
        }
    });
}

#[test]
fn open_streams_hold_no_stop_up_and_are_told_of_it() {
    let mut server = Server::start_with(Flavor::Subject, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = client(&server);
        let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
        let watch = || {
            let request_union = Some(WatchRequestUnion::Create(create.clone()));
            let create = stream::iter([WatchRequest { request_union }]);
            Box::pin(create.chain(stream::pending()))
        };
        let mut watch = client.stream(watch, Terms::default()).await.expect("it is opened");
        assert!(watch.next().await.expect("no error").expect("no end").created);
        let keep = || {
            let keep = stream::iter([LeaseKeepAliveRequest { id: 7 }]);
            Box::pin(keep.chain(stream::pending()))
        };
        let mut kept = client.stream(keep, Terms::default()).await.expect("it is opened");
        assert_eq!(kept.next().await.expect("no error").expect("no end").ttl, 0);
        // A call that waits for another client.
        let lock = LockRequest { name: "l".into(), lease: 0 };
        client.ask(&lock, Terms::within(PATIENCE)).await.expect("it is free");
        let waits = client.ask(&lock, Terms::default());
        let stops = async {
            let queue = RangeRequest {
                key: "l/".into(),
                range_end: "l0".into(),
                count_only: true,
                ..RangeRequest::default()
            };
            let deadline = Instant::now() + PATIENCE;
            while client.ask(&queue, Terms::within(PATIENCE)).await.expect("an answer").count < 2 {
                assert!(Instant::now() < deadline, "nobody waits");
            }
            let begun = Instant::now();
            let stopping = tokio::task::spawn_blocking(move || server.terminate(PATIENCE));
            assert_eq!(watch.next().await.expect_err("the member stops"), status::STOPPED);
            assert_eq!(kept.next().await.expect_err("the member stops"), status::STOPPED);
            assert!(stopping.await.expect("it is awaited").success());
            assert!(begun.elapsed() < NOT_HELD_UP, "{:?}", begun.elapsed());
        };
        let (waited, ()) = tokio::join!(waits, stops);
        assert_eq!(waited.expect_err("the member stops"), status::STOPPED);
    });
}

/// A stream of one watcher, whose client has no more to say.
fn watching(
    create: WatchCreateRequest,
) -> impl FnMut() -> std::pin::Pin<Box<dyn futures_util::Stream<Item = WatchRequest> + Send>> {
    move || {
        let request_union = Some(WatchRequestUnion::Create(create.clone()));
        Box::pin(stream::iter([WatchRequest { request_union }]).chain(stream::pending()))
    }
}

#[test]
fn a_client_that_wants_a_leader_is_told_when_there_is_none() {
    let mut cluster = Cluster::start(Options::members(3));
    let leader = cluster.await_leader();
    let left = (leader + 1) % 3;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = client_of(cluster.member(left).addr());
        let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
        let wants = Terms { leader: true, ..Terms::default() };
        let mut cut = client.stream(watching(create.clone()), wants).await.expect("it is opened");
        let mut stays =
            client.stream(watching(create), Terms::default()).await.expect("it is opened");
        for watch in [&mut cut, &mut stays] {
            assert!(watch.next().await.expect("no error").expect("no end").created);
        }
        for gone in (0..3).filter(|member| *member != left) {
            cluster.kill(gone);
        }
        let ended = tokio::time::timeout(PATIENCE, cut.next()).await.expect("in time");
        assert_eq!(ended.expect_err("there is no leader"), status::NO_LEADER);
        let range = RangeRequest { key: "a".into(), serializable: true, ..RangeRequest::default() };
        // A read that no server answers is asked again for as long as there is time.
        let soon = Terms::within(Duration::from_secs(1));
        let refused = client.ask(&range, Terms { leader: true, ..soon }).await;
        assert!(refused.is_err(), "{refused:?}");
        client.ask(&range, Terms::within(PATIENCE)).await.expect("this member alone can answer");
        // The other watcher waits for a leader to come back, and misses nothing.
        let told = async { stays.next().await.expect("no error").expect("no end") };
        for gone in (0..3).filter(|member| *member != left) {
            cluster.start_member(gone);
        }
        cluster.await_leader();
        let put = PutRequest { key: "a".into(), value: "v".into(), ..PutRequest::default() };
        let put = async { client.ask(&put, Terms::within(PATIENCE)).await.expect("a leader") };
        let (told, put) = tokio::join!(tokio::time::timeout(PATIENCE, told), put);
        let kv = told.expect("in time").events[0].kv.clone().expect("a key");
        assert_eq!(kv.mod_revision, put.header.expect("a head").revision);
    });
}

/// The events of one revision are larger than a message may be: a watcher that takes pieces gets them in several.
#[test]
fn a_large_answer_comes_in_pieces_to_who_takes_them() {
    const KEYS: usize = 40;
    let server = Server::start_with(Flavor::Subject, &["--max-request-bytes=20000"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = client(&server);
        for key in 0..KEYS {
            let (key, value) = (format!("a{key:02}").into(), vec![b'v'; 19_000].into());
            let put = PutRequest { key, value, ..PutRequest::default() };
            client.ask(&put, Terms::within(PATIENCE)).await.expect("an answer");
        }
        let create = |fragment| WatchCreateRequest {
            key: "a".into(),
            range_end: "b".into(),
            prev_kv: true,
            fragment,
            ..WatchCreateRequest::default()
        };
        let mut pieces =
            client.stream(watching(create(true)), Terms::default()).await.expect("it is opened");
        let mut whole =
            client.stream(watching(create(false)), Terms::default()).await.expect("it is opened");
        for watch in [&mut pieces, &mut whole] {
            assert!(watch.next().await.expect("no error").expect("no end").created);
        }
        let delete = DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: false };
        let deleted = client.ask(&delete, Terms::within(PATIENCE)).await.expect("an answer");
        let revision = deleted.header.expect("a head").revision;
        let answer = whole.next().await.expect("no error").expect("no end");
        assert_eq!((answer.events.len(), answer.fragment), (KEYS, false));
        let (mut keys, mut count) = (Vec::new(), 0);
        loop {
            let answer = pieces.next().await.expect("no error").expect("no end");
            assert!(!answer.events.is_empty());
            count += 1;
            for event in answer.events {
                let kv = event.kv.expect("a key");
                assert_eq!(kv.mod_revision, revision);
                assert_eq!(event.prev_kv.expect("what was there").value.len(), 19_000);
                keys.push(kv.key);
            }
            if !answer.fragment {
                break;
            }
        }
        assert!(count > 1, "it came in one");
        let wanted: Vec<_> = (0..KEYS).map(|key| format!("a{key:02}")).collect();
        assert_eq!(keys, wanted);
    });
}
