//! Streams of calls over gRPC, when their member stops.

use std::time::{Duration, Instant};

use cairn::client::{Client, Endpoint, Settings, Terms};
use cairn::rpc::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LockRequest, RangeRequest, WatchCreateRequest,
    WatchRequest, WatchRequestUnion, status,
};
use futures_util::{StreamExt as _, stream};

use crate::client::PATIENCE;
use crate::support::server::{Flavor, Server};

/// A stop that waits for clients to end by themselves takes three seconds.
const NOT_HELD_UP: Duration = Duration::from_millis(2500);

fn client(server: &Server) -> Client {
    Client::new(Settings {
        endpoints: vec![Endpoint::parse(&server.addr().to_string(), false).expect("an address")],
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
