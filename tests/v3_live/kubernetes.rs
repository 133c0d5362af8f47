//! What the API server of Kubernetes asks of its store, by many at once: objects that are written if nobody else has, lists in
//! pages at one revision, watches from there on with what was before, keys on leases, and compactions that several agree on.
//!
//! `KUBERNETES_OBJECTS=50000 KUBERNETES_NODES=1000` makes it as large as such a cluster is.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn::client::{Client, Endpoint, Settings, Terms};
use cairn::rpc::{
    Code, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Event,
    EventType, KeyValue, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, Request,
    RequestOp, Response, Status, TargetUnion, TxnRequest, TxnResponse, WatchCreateRequest,
    WatchRequest, WatchRequestUnion, WatchResponse,
};
use futures_util::StreamExt as _;

use crate::client::PATIENCE;
use crate::support::server::{Flavor, Server};

const PREFIX: &str = "/registry/";
const END: &str = "/registry0";
/// Those who have one key to agree on what is compacted next.
const COMPACTED: &str = "compact_rev_key";
const PAGE: i64 = 500;
const IS_COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// API servers, each of which lists everything and watches from there.
const SERVERS: usize = 3;
/// Controllers that all write one object.
const CONTROLLERS: usize = 8;
const ROUNDS: u64 = 10;
/// Objects on one lease, which end by themselves.
const EVENTS: usize = 50;

fn size(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |size| size.parse().expect("a number"))
}

fn client(server: &Server) -> Arc<Client> {
    let endpoint = Endpoint::parse(&server.addr().to_string(), false).expect("an endpoint");
    Arc::new(Client::new(Settings {
        endpoints: vec![endpoint],
        tls: None,
        certified_name: None,
        user: None,
        dial: PATIENCE,
        keep_alive: (PATIENCE, PATIENCE),
    }))
}

fn within() -> Terms {
    Terms::within(PATIENCE)
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A write that is made if the key still has this revision; 0 for one that is not there.
fn guarded(key: &str, revision: i64, write: Request) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    };
    let read = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
    TxnRequest {
        compare: vec![compare],
        success: vec![op(write)],
        failure: vec![op(Request::Range(read))],
    }
}

fn put(key: &str, value: String, lease: i64) -> Request {
    Request::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        lease,
        ..Default::default()
    })
}

/// The revision of the write, or what stands there instead.
fn outcome(answer: TxnResponse) -> Result<i64, Option<KeyValue>> {
    let revision = answer.header.expect("a header").revision;
    if answer.succeeded {
        return Ok(revision);
    }
    match answer.responses.into_iter().next().and_then(|answer| answer.response) {
        Some(Response::Range(read)) => Err(read.kvs.into_iter().next()),
        other => panic!("no read: {other:?}"),
    }
}

/// Everything, in pages at one revision, and which that was. A list that a compaction has overtaken is begun anew.
async fn list(client: &Client) -> (BTreeMap<Bytes, KeyValue>, i64) {
    loop {
        match try_list(client).await {
            Ok(listed) => return listed,
            Err(status) => assert_eq!(status.to_string(), IS_COMPACTED),
        }
    }
}

async fn try_list(client: &Client) -> Result<(BTreeMap<Bytes, KeyValue>, i64), Status> {
    let mut request = RangeRequest {
        key: PREFIX.into(),
        range_end: END.into(),
        limit: PAGE,
        ..Default::default()
    };
    let (mut all, mut count) = (BTreeMap::new(), None);
    loop {
        let page: RangeResponse = client.ask(&request, within()).await?;
        if request.revision == 0 {
            request.revision = page.header.expect("a header").revision;
        }
        // Of what is left, as the pages before are not in the range any more.
        let here = page.count + i64::try_from(all.len()).expect("few");
        assert_eq!(*count.get_or_insert(here), here, "the list changed while it was read");
        assert!(page.kvs.iter().all(|kv| kv.mod_revision <= request.revision));
        let last = page.kvs.last().map(|kv| kv.key.clone());
        all.extend(page.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
        match last.filter(|_| page.more) {
            Some(last) => request.key = [last.as_ref(), b"\0"].concat().into(),
            None => return Ok((all, request.revision)),
        }
    }
}

/// What an API server remembers, as its watch tells it.
struct Cache {
    objects: BTreeMap<Bytes, KeyValue>,
    /// The last revision that is known to be in it.
    revision: i64,
    events: u64,
}

impl Cache {
    /// Each event must follow exactly on what is known of its key.
    fn take(&mut self, event: Event) {
        let kind = event.kind();
        let kv = event.kv.expect("a key");
        assert!(kv.mod_revision >= self.revision, "an event of the past: {kv:?}");
        self.revision = kv.mod_revision;
        self.events += 1;
        let known = self.objects.get(&kv.key);
        assert_eq!(event.prev_kv.as_ref(), known, "an event before {kv:?} is missing");
        match kind {
            EventType::Put => {
                assert_eq!(kv.version, known.map_or(1, |known| known.version + 1), "{kv:?}");
                self.objects.insert(kv.key.clone(), kv);
            }
            EventType::Delete => assert!(self.objects.remove(&kv.key).is_some(), "{kv:?}"),
        }
    }
}

/// Lists, watches from there, and follows until everything up to `end` is known; that is 0 as long as it is not known.
async fn api_server(client: Arc<Client>, end: Arc<AtomicU64>) -> Cache {
    let (objects, revision) = list(&client).await;
    let create = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: END.into(),
        start_revision: revision + 1,
        progress_notify: true,
        prev_kv: true,
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) };
    let requests = move || {
        let request = futures_util::stream::iter([request.clone()]);
        request.chain(futures_util::stream::pending())
    };
    let mut answers = client.stream(requests, Terms::default()).await.expect("a watch");
    let mut cache = Cache { objects, revision, events: 0 };
    loop {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
        let answer: WatchResponse =
            answer.expect("an answer in time").expect("no error").expect("the stream goes on");
        // A compaction comes long after what it forgets: whoever lists and then watches is quicker.
        assert!(!answer.canceled, "{answer:?}");
        let revision = answer.header.map_or(0, |header| header.revision);
        let tells_progress = answer.events.is_empty() && !answer.created;
        answer.events.into_iter().for_each(|event| cache.take(event));
        if tells_progress {
            assert!(revision >= cache.revision, "progress goes back");
            cache.revision = revision;
        }
        let end = end.load(Ordering::SeqCst);
        if end > 0 && cache.revision >= i64::try_from(end).expect("a revision") {
            return cache;
        }
    }
}

/// Writes an object until it is as it should be; returns how many others were quicker.
async fn update(client: &Client, key: &str, change: impl Fn(&str) -> String) -> u64 {
    let mut conflicts = 0;
    let read = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
    let answer = client.ask(&read, within()).await.expect("a read");
    let mut known = answer.kvs.into_iter().next();
    loop {
        let (revision, value) = known.as_ref().map_or((0, ""), |kv| {
            (kv.mod_revision, std::str::from_utf8(&kv.value).expect("a text"))
        });
        let txn = guarded(key, revision, put(key, change(value), 0));
        match outcome(client.ask(&txn, within()).await.expect("a transaction")) {
            Ok(_) => return conflicts,
            Err(other) => (known, conflicts) = (other, conflicts + 1),
        }
    }
}

/// As each API server does: whoever writes the key first compacts up to what was there the last time.
async fn compactor(
    client: Arc<Client>,
    pause: Duration,
    compacted: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) {
    let (mut version, mut revision) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        let key = Bytes::from_static(COMPACTED.as_bytes());
        let compare = Compare {
            target: CompareTarget::Version.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::Version(version)),
            ..Compare::default()
        };
        let read = RangeRequest { key, ..Default::default() };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![op(put(COMPACTED, revision.to_string(), 0))],
            failure: vec![op(Request::Range(read))],
        };
        let answer = client.ask(&txn, within()).await.expect("a transaction");
        let now = answer.header.as_ref().expect("a header").revision;
        match outcome(answer) {
            Ok(_) if revision > 0 => {
                let compaction = CompactionRequest { revision, physical: false };
                match client.ask(&compaction, within()).await {
                    Ok(_) => _ = compacted.fetch_max(revision, Ordering::SeqCst),
                    Err(status) => assert_eq!(status.code, Code::OutOfRange, "{status}"),
                }
                version += 1;
            }
            Ok(_) => version += 1,
            Err(other) => version = other.expect("the key is there").version,
        }
        revision = now;
        tokio::time::sleep(pause).await;
    }
}

/// The objects of one writer: made, changed, some of them removed.
async fn objects_of(client: Arc<Client>, writer: usize, count: usize) -> u64 {
    let mut writes = 0;
    for number in 0..count {
        let key = format!("{PREFIX}pods/ns-{writer}/pod-{number}");
        let create = guarded(&key, 0, put(&key, format!("pod {number}"), 0));
        let made = outcome(client.ask(&create, within()).await.expect("a transaction"));
        let mut revision = made.expect("nobody else makes it");
        writes += 1;
        if number % 3 == 0 {
            let change = guarded(&key, revision, put(&key, format!("pod {number} runs"), 0));
            let changed = outcome(client.ask(&change, within()).await.expect("a transaction"));
            revision = changed.expect("nobody else changes it");
            writes += 1;
        }
        if number % 10 == 0 {
            let removal = DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
            let remove = guarded(&key, revision, Request::DeleteRange(removal));
            let removed = outcome(client.ask(&remove, within()).await.expect("a transaction"));
            removed.expect("nobody else removes it");
            writes += 1;
        }
    }
    writes
}

#[test]
fn no_event_is_missed_and_no_write_is_lost() {
    let server =
        Server::start_with(Flavor::Subject, &["--experimental-watch-progress-notify-interval=1s"]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(a_cluster(&server));
}

async fn a_cluster(server: &Server) {
    let (objects, nodes) = (size("KUBERNETES_OBJECTS", 2_000), size("KUBERNETES_NODES", 40));
    let clients: Vec<_> = (0..4).map(|_| client(server)).collect();
    let at = |number: usize| Arc::clone(&clients[number % clients.len()]);
    let (stop, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();

    // The first half is there when API servers come, the second is made under their eyes.
    let writers = 50;
    let half = |from: usize| {
        let tasks: Vec<_> = (from..from + writers)
            .map(|writer| tokio::spawn(objects_of(at(writer), writer, objects / 2 / writers)))
            .collect();
        async move {
            let mut writes = 0;
            for task in tasks {
                writes += task.await.expect("a writer");
            }
            writes
        }
    };
    half(0).await;
    let filled = begun.elapsed();

    let compacted = Arc::new(AtomicI64::new(0));
    // A list takes less time than this.
    let pause = Duration::from_millis(u64::try_from(250 + objects / 20).expect("soon"));
    for number in 0..2 {
        tokio::spawn(compactor(at(number), pause, Arc::clone(&compacted), Arc::clone(&stop)));
    }
    let second = half(writers);
    let servers: Vec<_> =
        (0..SERVERS).map(|_| tokio::spawn(api_server(client(server), Arc::clone(&end)))).collect();
    let heartbeats: Vec<_> = (0..nodes)
        .map(|node| {
            let client = at(node);
            tokio::spawn(async move {
                let key = format!("{PREFIX}leases/kube-node-lease/node-{node}");
                for round in 0..ROUNDS {
                    assert_eq!(update(&client, &key, |_| format!("renewed {round}")).await, 0);
                }
            })
        })
        .collect();
    let controllers: Vec<_> = (0..CONTROLLERS)
        .map(|number| {
            let client = at(number);
            tokio::spawn(async move {
                let key = format!("{PREFIX}endpoints/default/kubernetes");
                let one_more =
                    |count: &str| (count.parse::<u64>().unwrap_or_default() + 1).to_string();
                let mut conflicts = 0;
                for _ in 0..ROUNDS {
                    conflicts += update(&client, &key, one_more).await;
                }
                conflicts
            })
        })
        .collect();
    let lease = LeaseGrantRequest { ttl: 5, id: 0 };
    let lease = clients[0].ask(&lease, within()).await.expect("a lease").id;
    let events = (0..EVENTS).map(|number| {
        let key = format!("{PREFIX}events/event-{number}");
        let (client, txn) = (at(number), guarded(&key, 0, put(&key, "seen".to_owned(), lease)));
        async move { outcome(client.ask(&txn, within()).await.expect("a transaction")) }
    });
    for made in futures_util::future::join_all(events).await {
        made.expect("nobody else makes it");
    }

    second.await;
    for task in heartbeats {
        task.await.expect("a node");
    }
    let mut conflicts = 0;
    for task in controllers {
        conflicts += task.await.expect("a controller");
    }
    // Events end by themselves.
    let events = RangeRequest {
        key: format!("{PREFIX}events/").into(),
        range_end: format!("{PREFIX}events0").into(),
        count_only: true,
        ..Default::default()
    };
    let deadline = Instant::now() + PATIENCE;
    while clients[0].ask(&events, within()).await.expect("a count").count > 0 {
        assert!(Instant::now() < deadline, "the events stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // One last write, so that whoever knows of it knows everything.
    let key = format!("{PREFIX}last");
    let last = outcome(
        clients[0]
            .ask(&guarded(&key, 0, put(&key, String::new(), 0)), within())
            .await
            .expect("a transaction"),
    );
    let last = last.expect("nobody else makes it");
    end.store(u64::try_from(last).expect("a revision"), Ordering::SeqCst);
    let (expected, revision) = list(&clients[0]).await;
    assert!(revision >= last);
    let mut seen = Vec::new();
    for task in servers {
        let cache = task.await.expect("an API server");
        assert!(cache.objects == expected, "what is remembered is not what is there");
        seen.push(cache.events);
    }
    let deadline = Instant::now() + PATIENCE;
    while compacted.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "nothing is compacted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let compacted = compacted.load(Ordering::SeqCst);

    let count = &expected[format!("{PREFIX}endpoints/default/kubernetes").as_bytes()];
    let sum = u64::try_from(CONTROLLERS).expect("few") * ROUNDS;
    assert_eq!(count.value, sum.to_string(), "a write between a read and a write was lost");
    assert_eq!(count.version, i64::try_from(sum).expect("few"));
    // What was compacted cannot be listed any more, and says so.
    let old = RangeRequest {
        key: PREFIX.into(),
        range_end: END.into(),
        limit: 1,
        revision: compacted - 1,
        ..Default::default()
    };
    let refused = clients[0].ask(&old, within()).await.expect_err("it is compacted");
    assert_eq!(refused.to_string(), IS_COMPACTED);
    eprintln!(
        "{objects} objects, {nodes} nodes: the first half written in {filled:?}, all in {:?}; events seen {seen:?}, conflicts {conflicts}, compacted up to {compacted}, at {revision} when it was listed",
        begun.elapsed()
    );
}
