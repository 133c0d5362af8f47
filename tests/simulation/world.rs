//! The world that members live in.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cairn::base::SplitMix;
use cairn::disk::{CrashFiles, IoMode, PrepareSpare, WalError, WalObserver, WalOptions};
use cairn::model::{Clock, ClusterId, MemberId, Random, WallTime};
use cairn::raft::{self, Meter, Raft};
use cairn::replica::{self, Facts, Hub, Replica};
use cairn::store::HistoryLimits;
use cairn::transport::{self, AddressBook, Dial, PREFACE, Stream, Transport};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

const CLUSTER: ClusterId = ClusterId(0xc);
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION: Duration = Duration::from_secs(1);
/// The longest that bytes are on their way.
const LATENCY_MAX_MS: u64 = 3;
/// The longest that bytes of a connection that broke may still be on their way to the other end.
const AFTERLIFE_MAX_MS: u64 = 3_000;
/// Where the lane stands in the first words of a connection, and the number of the lane of questions.
const LANE: (usize, u8) = (19, 5);
/// What the leader says at the beginning of such a connection: that it lets the follower in, and that the fence stands.
const ANSWERS_BYTES: u64 = 24;
/// Twice the bytes of the first words, roughly.
const FIRST_LIFE: u64 = 120;
/// What the follower says until the connection breaks all the same: its first words, the fence and some writes.
const QUESTIONS_BYTES: u64 = 400;
/// Whatever is waited for comes within this time, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// Random numbers that come out the same for the same seed.
struct Dice(Mutex<SplitMix>);

impl Random for Dice {
    fn next(&self) -> u64 {
        self.0.lock().expect("nothing panics with it").next()
    }
}

/// A member's clocks: its wall clock shows some day in 2026, and may be set; its monotonic clock starts anywhere.
struct VirtualClock {
    begun: Instant,
    up: Duration,
    /// How far the wall clock is wrong, in seconds.
    wrong_s: Arc<AtomicI64>,
}

impl Clock for VirtualClock {
    fn wall(&self) -> WallTime {
        let right = Duration::from_secs(1_790_000_000) + self.begun.elapsed();
        let wrong = Duration::from_secs(self.wrong_s.load(Relaxed).unsigned_abs());
        let behind = self.wrong_s.load(Relaxed) < 0;
        WallTime::since_1970(if behind { right.saturating_sub(wrong) } else { right + wrong })
    }

    fn monotonic(&self) -> Duration {
        self.up + self.begun.elapsed()
    }
}

struct Quiet;

impl Meter for Quiet {}

impl WalObserver for Quiet {
    fn written(&self, _bytes: usize) {}
    fn synced(&self, _took: Duration) {}
    fn failed(&self, error: &WalError) {
        panic!("{error}");
    }
}

/// Who can reach whom, and who listens.
struct Network {
    dice: Arc<Dice>,
    state: Mutex<NetworkState>,
}

#[derive(Default)]
struct NetworkState {
    listening: BTreeMap<MemberId, Raft>,
    cut_off: BTreeSet<MemberId>,
    /// After how many bytes the next connection with questions breaks; each lives a byte longer than the one before.
    breaking: Option<u64>,
    /// Readers whose bytes are held up by a cut.
    held_up: Vec<Waker>,
    /// How often each member was stopped: what was on its way then is lost.
    stopped: BTreeMap<MemberId, u32>,
}

impl Network {
    fn connected(&self, pair: [MemberId; 2]) -> bool {
        let state = self.state.lock().expect("nothing panics with it");
        pair.iter().all(|member| !state.cut_off.contains(member))
    }

    fn stops(&self, pair: [MemberId; 2]) -> [u32; 2] {
        let state = self.state.lock().expect("nothing panics with it");
        pair.map(|member| state.stopped.get(&member).copied().unwrap_or_default())
    }

    fn latency(&self) -> Duration {
        Duration::from_micros(self.dice.next() % (LATENCY_MAX_MS * 1000))
    }
}

fn url(member: MemberId) -> String {
    format!("http://m{}:2380", member.0)
}

/// One member's way into the network.
struct Way {
    network: Arc<Network>,
    from: MemberId,
}

impl Dial for Way {
    fn dial<'a>(&'a self, to: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        let (network, from) = (Arc::clone(&self.network), self.from);
        Box::pin(async move {
            tokio::time::sleep(network.latency()).await;
            let there = {
                let state = network.state.lock().expect("nothing panics with it");
                let found = state.listening.iter().find(|(member, _)| url(**member) == to);
                found.map(|(member, raft)| (*member, raft.clone()))
            };
            let (member, raft) = there.ok_or(io::ErrorKind::ConnectionRefused)?;
            if !network.connected([from, member]) {
                // As with real networks: no answer comes at all.
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let pair = [from, member];
            let wire = Arc::new(Mutex::new(Wire::default()));
            let end = |stream, dialled| {
                let (network, wire) = (Arc::clone(&network), Arc::clone(&wire));
                let stops = network.stops(pair);
                Pipe { stream, pair, stops, dialled, network, wire, late: false, on_the_way: None }
            };
            let (ours, mut theirs) = (end(ours, true), end(theirs, false));
            tokio::spawn(async move {
                let mut preface = [0; PREFACE.len()];
                if theirs.read_exact(&mut preface).await.is_ok() && preface == *PREFACE {
                    raft.serve_peer(Box::new(theirs)).await;
                }
            });
            Ok(Box::new(ours) as Stream)
        })
    }
}

/// What both ends of a connection share.
#[derive(Default)]
struct Wire {
    /// The first bytes from the one who dialled, up to the lane.
    head: Vec<u8>,
    /// Bytes until it breaks: from the one who dialled, and from the other.
    life: Option<[u64; 2]>,
    broken: bool,
    /// The one who dialled, waiting to read.
    reader: Option<Waker>,
}

impl Wire {
    fn note_head(&mut self, bytes: &[u8], network: &Network) {
        let (place, questions) = LANE;
        if self.head.len() > place {
            return;
        }
        self.head.extend_from_slice(&bytes[..bytes.len().min(place + 1 - self.head.len())]);
        let mut state = network.state.lock().expect("nothing panics with it");
        if self.head.get(place) == Some(&questions)
            && let Some(life) = &mut state.breaking
        {
            // By turns in one direction and in the other, where little is said.
            let bytes = *life / 2;
            let outward = life.is_multiple_of(2);
            self.life = Some(if outward {
                [bytes, u64::MAX]
            } else {
                [QUESTIONS_BYTES, bytes % ANSWERS_BYTES]
            });
            *life += 1;
        }
    }

    /// How many of these bytes get through. The connection breaks behind the last one.
    fn carry(&mut self, bytes: usize, dialled: bool) -> usize {
        let Some([outward, inward]) = &mut self.life else { return bytes };
        let left = if dialled { outward } else { inward };
        let carried = bytes.min(usize::try_from(*left).expect("64 bits"));
        *left -= carried as u64;
        if *left == 0 {
            self.broken = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        carried
    }
}

/// One end of a connection. Bytes take their time, and while the network is cut they do not arrive.
///
/// When it breaks, the one who dialled hears of it at once. The other end does not: it goes on reading what was sent before, and
/// only some time later.
struct Pipe {
    stream: DuplexStream,
    pair: [MemberId; 2],
    /// How often they had been stopped when the connection was made.
    stops: [u32; 2],
    dialled: bool,
    network: Arc<Network>,
    wire: Arc<Mutex<Wire>>,
    /// It broke, and what was sent before arrives late.
    late: bool,
    on_the_way: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    fn wire(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.wire.lock().expect("nothing panics with it")
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let broken = this.wire().broken;
        if broken && this.dialled {
            let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
            let reset = || Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            return if read.is_ready() { read } else { reset() };
        }
        this.wire().reader = this.dialled.then(|| cx.waker().clone());
        if broken && !this.late {
            this.late = true;
            let late = Duration::from_millis(this.network.dice.next() % AFTERLIFE_MAX_MS);
            this.on_the_way = Some(Box::pin(tokio::time::sleep(late)));
        }
        let latency = || Box::pin(tokio::time::sleep(this.network.latency()));
        let sleep = this.on_the_way.get_or_insert_with(latency);
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if this.network.stops(this.pair) != this.stops {
            return Poll::Ready(Ok(()));
        }
        if !this.network.connected(this.pair) {
            let mut state = this.network.state.lock().expect("nothing panics with it");
            state.held_up.push(cx.waker().clone());
            return Poll::Pending;
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_ready() {
            this.on_the_way = None;
        }
        read
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let carried = {
            let mut wire = this.wire.lock().expect("nothing panics with it");
            if wire.broken {
                // The other end may write for long before it hears of it.
                let gone = Err(io::ErrorKind::BrokenPipe.into());
                return Poll::Ready(if this.dialled { gone } else { Ok(bytes.len()) });
            }
            if this.dialled {
                wire.note_head(bytes, &this.network);
            }
            wire.carry(bytes.len(), this.dialled)
        };
        // There is always room: pipes are longer than anything that is sent here at once.
        let written = Pin::new(&mut this.stream).poll_write(cx, &bytes[..carried]);
        if carried == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What is left of a member that is stopped.
#[derive(Clone, Default)]
struct Machine {
    files: CrashFiles,
    wrong_s: Arc<AtomicI64>,
    chores: CancellationToken,
}

/// A world; clones are the same one.
#[derive(Clone)]
pub(crate) struct World {
    dice: Arc<Dice>,
    network: Arc<Network>,
    members: Rc<RefCell<BTreeMap<MemberId, Replica>>>,
    machines: Rc<RefCell<BTreeMap<MemberId, Machine>>>,
    begun: Rc<Cell<Instant>>,
}

impl World {
    /// Lives a life in a world of its own, and lets its members go afterwards.
    pub(crate) fn run<T>(seed: u64, life: impl AsyncFnOnce(World) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let dice = Arc::new(Dice(Mutex::new(SplitMix::new(seed))));
        raft::seed_elections(Arc::clone(&dice) as Arc<dyn Random>);
        runtime.block_on(async {
            let network = Network { dice: Arc::clone(&dice), state: Mutex::default() };
            let world = World {
                dice,
                network: Arc::new(network),
                members: Rc::default(),
                machines: Rc::default(),
                begun: Rc::new(Cell::new(Instant::now())),
            };
            let result = life(world.clone()).await;
            let members: Vec<_> = world.members.borrow().values().cloned().collect();
            for member in members {
                member.raft().shutdown().await;
            }
            world.network.state.lock().expect("nothing panics with it").listening.clear();
            result
        })
    }

    /// A number below `below`.
    pub(crate) fn random(&self, below: u64) -> u64 {
        self.dice.next() % below
    }

    /// Virtual time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.get().elapsed()
    }

    /// Sets a member's wall clock: so many seconds ahead of the right time, or behind it.
    pub(crate) fn set_wall(&self, member: u64, wrong_s: i64) {
        let mut machines = self.machines.borrow_mut();
        machines.entry(MemberId(member)).or_default().wrong_s.store(wrong_s, Relaxed);
    }

    /// The right time.
    pub(crate) fn right_time(&self) -> WallTime {
        VirtualClock { begun: self.begun.get(), up: Duration::ZERO, wrong_s: Arc::default() }.wall()
    }

    /// Stops a member. Its files stay as they are.
    pub(crate) async fn stop(&self, member: u64) {
        let member = MemberId(member);
        let replica = self.members.borrow_mut().remove(&member).expect("it runs");
        {
            let mut state = self.network.state.lock().expect("nothing panics with it");
            state.listening.remove(&member);
            *state.stopped.entry(member).or_default() += 1;
            state.held_up.drain(..).for_each(Waker::wake);
        }
        let machine = self.machines.borrow()[&member].clone();
        machine.chores.cancel();
        self.machines.borrow_mut().entry(member).or_default().chores = CancellationToken::new();
        replica.raft().shutdown().await;
    }

    /// Starts a founder, for the first time or again.
    pub(crate) async fn start(&self, member: MemberId, founders: &[u64]) {
        let machine = self.machines.borrow_mut().entry(member).or_default().clone();
        let founders: Vec<_> = founders.iter().copied().map(MemberId).collect();
        let peers: Vec<_> = founders.iter().map(|id| (*id, vec![url(*id)])).collect();
        let identity = transport::LocalPeer {
            cluster: CLUSTER,
            member,
            name: format!("m{}", member.0),
            peer_urls: vec![url(member)],
        };
        let way = Way { network: Arc::clone(&self.network), from: member };
        let book = Arc::new(AddressBook::new(peers.clone()));
        let transport = Transport::new(identity, Arc::new(way), ELECTION / 2, book);
        let wrong_s = Arc::clone(&machine.wrong_s);
        let up = Duration::from_secs(self.random(1_000_000));
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock { begun: self.begun.get(), up, wrong_s });
        let options = raft::RaftOptions {
            member,
            cluster: CLUSTER,
            alone: false,
            heartbeat: HEARTBEAT,
            election: ELECTION,
            history: HistoryLimits { events_max: 100_000, bytes_max: 64 << 20 },
            // A checkpoint every few hundred writes.
            checkpoint_wal_bytes: 32 << 10,
            checkpoint_cache_bytes: 1 << 20,
            files: Arc::new(machine.files.clone()),
            wal_dir: Path::new("/data/wal").to_owned(),
            wal: WalOptions {
                segment_bytes: 64 << 10,
                prepare: PrepareSpare::AtOnce,
                io: IoMode::Inline,
                ..WalOptions::default()
            },
            checkpoint: Path::new("/data/checkpoint.redb").to_owned(),
            transport: Arc::new(transport),
            inflight_bytes_max: 1 << 30,
            clock: Arc::clone(&clock),
            random: Arc::clone(&self.dice) as Arc<dyn Random>,
            wal_observer: Arc::new(Quiet),
            meter: Arc::new(Quiet),
        };
        let hub = Hub::new(1000, Arc::clone(&clock));
        let observer = Arc::clone(&hub) as Arc<dyn raft::Observer>;
        let raft = Box::pin(Raft::start(options, observer)).await.expect("it starts");
        if !raft.is_initialized().await.expect("it runs") {
            raft.initialize(&founders).await.expect("it founds its cluster");
        }
        {
            let mut state = self.network.state.lock().expect("nothing panics with it");
            state.listening.insert(member, raft.clone());
        }
        let name = format!("m{}", member.0);
        let options = replica::LocalMember {
            id: member,
            cluster: CLUSTER,
            name: name.clone(),
            election: ELECTION,
            quota_bytes: u64::MAX,
        };
        let replica = Replica::new(raft, hub, clock, options);
        let chores = machine.chores;
        tokio::spawn(chores.clone().run_until_cancelled_owned(replica.clone().follow_leader()));
        tokio::spawn(chores.clone().run_until_cancelled_owned(replica.clone().tick()));
        tokio::spawn(chores.clone().run_until_cancelled_owned(replica.clone().watch_clocks()));
        tokio::spawn(chores.clone().run_until_cancelled_owned(replica.clone().reconcile()));
        let facts = Facts {
            founders: peers,
            client_urls: vec![format!("http://{name}:2379")],
            cluster_version: "3.4.0".to_owned(),
            alone: false,
        };
        let introduced = replica.clone();
        tokio::spawn(
            chores.run_until_cancelled_owned(async move { introduced.introduce(&facts).await }),
        );
        self.members.borrow_mut().insert(member, replica);
    }

    /// A member.
    pub(crate) fn replica(&self, member: u64) -> Replica {
        self.members.borrow()[&MemberId(member)].clone()
    }

    /// Waits until all of `members` agree on a leader among them that knows all of their facts.
    pub(crate) async fn leader(&self, members: &[u64]) -> u64 {
        self.until(|| {
            let leader = self.replica(members[0]).status().leadership.leader?;
            let agreed = members.iter().all(|member| {
                let replica = self.replica(*member);
                replica.status().leadership.leader == Some(leader)
                    && replica.view().store.index().0 >= 7
            });
            (agreed && members.contains(&leader.0)).then_some(leader.0)
        })
        .await
    }

    /// Waits until all of `members` hold the same.
    pub(crate) async fn converge(&self, members: &[u64]) {
        self.until(|| {
            let digests: BTreeSet<_> = members
                .iter()
                .map(|member| {
                    let view = self.replica(*member).view();
                    (view.position, view.store.digest())
                })
                .collect();
            (digests.len() == 1).then_some(())
        })
        .await;
    }

    async fn until<T>(&self, mut found: impl FnMut() -> Option<T>) -> T {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(Instant::now() < give_up, "it does not come to that");
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// No other member reaches `member` any more, nor the other way round.
    pub(crate) fn cut_off(&self, member: u64) {
        let mut state = self.network.state.lock().expect("nothing panics with it");
        state.cut_off.insert(MemberId(member));
    }

    /// Connections with questions that are made from now on break: the first one with the last of its first words, each further
    /// one a byte later, and by turns on their way back.
    pub(crate) fn break_questions(&self) {
        self.network.state.lock().expect("nothing panics with it").breaking = Some(FIRST_LIFE);
    }

    /// How many connections with questions broke, or will.
    pub(crate) fn broken_questions(&self) -> u64 {
        self.network.state.lock().expect("nothing panics with it").breaking.unwrap_or_default()
    }

    /// They live as long as others again.
    pub(crate) fn keep_questions(&self) {
        self.network.state.lock().expect("nothing panics with it").breaking = None;
    }

    /// All members reach each other again.
    pub(crate) fn heal(&self) {
        let mut state = self.network.state.lock().expect("nothing panics with it");
        state.cut_off.clear();
        for waker in state.held_up.drain(..) {
            waker.wake();
        }
    }
}
