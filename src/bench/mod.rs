//! `cairn bench`: load on any server of etcd's v2 API, or of its v3 API, and what came of it.
//!
//! Owns: the course of a run. Never knows: the inside of a server; all it does goes over HTTP or gRPC.
//!
//! | file | what it is |
//! |---|---|
//! | `flags`, `plan` | what is asked for, in words and as values |
//! | `request`, `asks` | the bytes of requests, and which comes next |
//! | `pace` | when it is sent |
//! | `crew`, `line`, `answer` | threads, connections, answers |
//! | `asking`, `watching` | what a connection does: ask, or wait for events |
//! | `grpc` | the same of version 3 |
//! | `tally`, `usage`, `report` | what came of it |
//!
//! It shares its processors with the servers that it measures, so it does as little as can be: requests are made once, answers
//! are skipped and not parsed, a connection never changes threads.

mod answer;
mod asking;
mod asks;
mod crew;
mod failure;
mod flags;
mod grpc;
mod line;
mod pace;
mod plan;
mod report;
mod request;
mod tally;
mod usage;
mod watching;

use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::lock;
use asks::{Asks, Choice};
use crew::{Crew, Hand};
use flags::Asked;
use grpc::Caller;
use line::Servers;
use pace::Pace;
use plan::{Load, Plan};
use report::{Measured, ServerMeasured, WatchMeasured};
use request::Common;
use tally::Tally;
use usage::Usage;
use watching::{Fanout, Watcher, Writer, Written};

/// Requests that are under way when the run is interrupted get so long.
const GRACE: Duration = Duration::from_secs(1);
/// Connections that fill the key space, at most: more only wait for one another.
const FILLING_MAX: usize = 64;
/// How often the line about the progress is written anew on a terminal, and otherwise.
const PROGRESS: Duration = Duration::from_secs(1);
const PROGRESS_QUIET: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// For standard output.
    pub text: String,
    /// For standard error; empty when there is nothing wrong.
    pub complaint: String,
    /// Exit code: 0 when something was answered as it should be, 1 when nothing was, 2 for a wrong flag.
    pub code: u8,
}

impl Ended {
    fn badly(complaint: String, code: u8) -> Self {
        Self { text: String::new(), complaint, code }
    }
}

/// Does what `arguments` ask for, or ends earlier when `interrupt` does; then with what was measured so far.
pub async fn run(arguments: Vec<String>, interrupt: impl Future<Output = ()>) -> Ended {
    let plan = match flags::read(arguments) {
        Ok(Asked::Run(plan)) => *plan,
        Ok(Asked::Help(text)) => return Ended { text, complaint: String::new(), code: 0 },
        Err(complaint) => return Ended::badly(complaint, 2),
    };
    let mut interrupt = std::pin::pin!(interrupt);
    let run = match Run::prepare(plan, interrupt.as_mut()).await {
        Ok(run) => run,
        Err(complaint) => return Ended::badly(complaint, 1),
    };
    let measured = match run.plan.load.watches() {
        true => run.watch(interrupt.as_mut()).await,
        false => run.ask(interrupt.as_mut()).await,
    };
    let measured = match measured {
        Ok(measured) => measured,
        Err(complaint) => return Ended::badly(complaint, 1),
    };
    let swept = if run.plan.clean && !measured.interrupted { run.sweep().await } else { Ok(()) };
    let watched =
        measured.watch.as_ref().is_some_and(|watch| watch.waiting > 0 || watch.events > 0);
    let good = measured.tally.good > 0 || (run.plan.load.only_watches() && watched);
    let code = if good && swept.is_ok() { 0 } else { 1 };
    let text = report::show(&run.plan, &measured);
    Ended { text, complaint: swept.err().unwrap_or_default(), code }
}

type Interrupt<'a, F> = Pin<&'a mut F>;

/// A run whose keys are there.
struct Run {
    plan: Plan,
    servers: Arc<Servers>,
    /// For a load of version 3.
    caller: Option<Caller>,
}

impl Run {
    async fn prepare(
        plan: Plan,
        interrupt: Interrupt<'_, impl Future<Output = ()>>,
    ) -> Result<Self, String> {
        usage::allow(plan.connections)?;
        usage::of(&plan.pids)?;
        let servers = Arc::new(Servers::of(&plan).await?);
        let caller = match plan.load.speaks_v3() {
            true => Some(Caller::of(&plan, servers.tls()).await?),
            false => None,
        };
        let run = Self { plan, servers, caller };
        if run.plan.fill {
            tokio::select! {
                filled = run.fill() => filled?,
                () = interrupt => return Err("interrupted before the keys were there".to_owned()),
            }
        }
        Ok(run)
    }

    fn common(&self, number: usize) -> Common {
        Common::new(self.servers.host(number), self.plan.user.as_deref(), &self.plan.prefix)
    }

    /// Opens the connections of `plan`; each asks in its way.
    async fn askers(
        &self,
        plan: &Plan,
        asks: impl Fn(&Plan, &Common, usize) -> Box<dyn Asks> + Send + Sync + 'static,
    ) -> Result<Crew, String> {
        let (servers, shared) = (Arc::clone(&self.servers), plan.clone());
        Crew::hire(plan, &self.servers, move |hand: Hand| {
            let host = servers.host(hand.number);
            let common = Common::new(host, shared.user.as_deref(), &shared.prefix);
            let asks = asks(&shared, &common, hand.number);
            asking::work(hand, asks, shared.load)
        })
        .await
    }

    /// Writes each of the keys that the load needs.
    async fn fill(&self) -> Result<(), String> {
        let connections = FILLING_MAX.min(usize::try_from(self.plan.keys).unwrap_or(FILLING_MAX));
        let plan = Plan {
            connections,
            threads: self.plan.threads.min(connections),
            duration: None,
            requests: Some(self.plan.keys),
            warmup: Duration::ZERO,
            rate: None,
            ..self.plan.clone()
        };
        let next = Arc::new(AtomicU64::new(0));
        let mut crew = match &self.caller {
            Some(caller) => {
                let plan = Plan { load: Load::PutV3, sequential: true, ..plan.clone() };
                callers(&plan, &self.servers, caller, next).await?
            }
            None => {
                let asks =
                    move |plan: &Plan, common: &Common, _| asks::filling(plan, common, &next);
                self.askers(&plan, asks).await?
            }
        };
        crew.begin(&Arc::new(Pace::new(&plan, Instant::now())));
        crew.done().await?;
        let tally = crew.tally();
        match tally.troubles() {
            0 => Ok(()),
            count => Err(format!(
                "{count} of {} keys could not be written before the run; first: {}",
                tally.sent,
                tally.first_trouble.unwrap_or_default()
            )),
        }
    }

    /// A load that asks.
    async fn ask(
        &self,
        interrupt: Interrupt<'_, impl Future<Output = ()>>,
    ) -> Result<Measured, String> {
        let next = Arc::new(AtomicU64::new(0));
        let mut interrupt = interrupt;
        let hire = async {
            if let Some(caller) = &self.caller {
                return callers(&self.plan, &self.servers, caller, next).await;
            }
            let asks =
                move |plan: &Plan, common: &Common, number| asks::of(plan, common, number, &next);
            self.askers(&self.plan, asks).await
        };
        let mut crew = tokio::select! {
            hired = hire => hired?,
            () = interrupt.as_mut() => return Err("interrupted before the start".to_owned()),
        };
        let pace = Arc::new(Pace::new(&self.plan, Instant::now()));
        let mut meter = Meter::new(&self.plan, pace.begin())?;
        crew.begin(&pace);
        let tallies = crew.tallies.clone();
        let counts = || sum(&tallies, |tally| (tally.answers(), tally.troubles()));
        let interrupted = until(crew.done(), &pace, &mut meter, counts, interrupt).await?;
        let tally = crew.tally();
        let end = tally.last.filter(|_| !interrupted).unwrap_or_else(Instant::now);
        let (server, own_processor) = meter.end()?;
        Ok(Measured {
            elapsed: end.saturating_duration_since(pace.begin()),
            unsent: pace.due_by(Instant::now()).saturating_sub(tally.sent),
            tally,
            watch: None,
            server,
            own_processor,
            interrupted,
        })
    }

    /// A load that waits for events.
    async fn watch(
        &self,
        interrupt: Interrupt<'_, impl Future<Output = ()>>,
    ) -> Result<Measured, String> {
        let plan = &self.plan;
        let fanout = Arc::new(Fanout::new(plan));
        let before = usage::of(&plan.pids)?;
        let mut interrupt = interrupt;
        let crew = tokio::select! {
            ready = self.watchers(&fanout) => ready?,
            () = interrupt.as_mut() => return Err("interrupted before all watchers waited".to_owned()),
        };
        let waiting = usage::of(&plan.pids)?;
        let pace = Pace::new(plan, Instant::now());
        let writer = Writer {
            servers: Arc::clone(&self.servers),
            caller: self.caller.clone(),
            fanout: Arc::clone(&fanout),
            common: self.common(0),
            plan: plan.clone(),
        };
        let written = Mutex::new(Written::new());
        let tallies = crew.tallies.clone();
        let counts = || (fanout.events(), sum(&tallies, |tally| (0, tally.troubles())).1);
        let mut meter = Meter::new(plan, pace.begin())?;
        let work = async {
            if !plan.load.only_watches() {
                return writer.work(&pace, &written).await;
            }
            let seen = async {
                match plan.requests {
                    Some(puts) => fanout.all_have_seen(puts).await,
                    None => std::future::pending().await,
                }
            };
            match plan.duration {
                // That it is over before all have come is no error: the report says how many are missing.
                Some(duration) => drop(tokio::time::timeout(duration, seen).await),
                None => seen.await,
            }
            Ok(())
        };
        let interrupted = until(work, &pace, &mut meter, counts, interrupt).await?;
        let end = Instant::now();
        let (server, own_processor) = meter.end()?;
        let mut written = lock(&written).clone();
        if let Some(lasts) = fanout.lasts() {
            written.after_sending = lasts;
            written.expected = fanout.expected(plan.requests.unwrap_or_default());
        }
        let watchers = crew.tally();
        let mut tally = written.tally.clone();
        let latencies = watchers.latencies.clone();
        tally.add(&Tally { latencies: tally::Durations::new(), ..watchers });
        let watch = WatchMeasured {
            waiting: fanout.waiting(),
            events: fanout.events(),
            latencies,
            bytes_taken: (!plan.pids.is_empty()).then(|| grown(before, waiting)),
            written,
        };
        Ok(Measured {
            elapsed: end.saturating_duration_since(pace.begin()),
            unsent: pace.due_by(end).saturating_sub(watch.written.tally.sent),
            tally,
            watch: Some(watch),
            server,
            own_processor,
            interrupted,
        })
    }

    /// Watchers that all wait.
    async fn watchers(&self, fanout: &Arc<Fanout>) -> Result<Crew, String> {
        let (servers, plan, shared) =
            (Arc::clone(&self.servers), self.plan.clone(), Arc::clone(fanout));
        let work = move |hand: Hand| {
            let host = servers.host(hand.number);
            let common = Common::new(host, plan.user.as_deref(), &plan.prefix);
            Watcher { common, load: plan.load, fanout: Arc::clone(&shared) }.work(hand)
        };
        let crew = match &self.caller {
            Some(caller) => {
                let (caller, shared) = (caller.clone(), Arc::clone(fanout));
                let streams = grpc::streams(&self.plan);
                let threads = self.plan.threads.min(streams);
                let plan = Plan { connections: streams, threads, ..self.plan.clone() };
                let work = move |hand: Hand| caller.clone().watch(hand, Arc::clone(&shared));
                Crew::hire(&plan, &self.servers, work).await?
            }
            None => Crew::hire(&self.plan, &self.servers, work).await?,
        };
        crew.begin(&Arc::new(Pace::new(&self.plan, Instant::now())));
        if fanout.all_wait(self.plan.timeout).await {
            return Ok(crew);
        }
        let tally = crew.tally();
        Err(format!(
            "only {} of {} watchers wait after {:?}; first trouble: {}",
            fanout.waiting(),
            self.plan.connections,
            self.plan.timeout,
            tally.first_trouble.unwrap_or_else(|| "none".to_owned())
        ))
    }

    /// Removes all keys.
    async fn sweep(&self) -> Result<(), String> {
        if let Some(caller) = &self.caller {
            return caller.sweep().await;
        }
        let request = self.common(0).single("DELETE", "", "?recursive=true&dir=true");
        let swept =
            async { self.servers.connect(0).await?.ask(Instant::now(), &request, false).await };
        match swept.await {
            Ok(head) if head.status == 200 || head.status == 404 => Ok(()),
            Ok(head) => Err(format!("the keys stay: status {} for their removal", head.status)),
            Err(failure) => Err(format!("the keys stay: {}", failure.why)),
        }
    }
}

/// Opens the connections of `plan` that ask over gRPC.
async fn callers(
    plan: &Plan,
    servers: &Arc<Servers>,
    caller: &Caller,
    next: Arc<AtomicU64>,
) -> Result<Crew, String> {
    let (caller, shared) = (caller.clone(), plan.clone());
    let work = move |hand: Hand| {
        let choice = Choice::of(&shared, hand.number, &next);
        caller.clone().ask(hand, shared.load, choice)
    };
    Crew::hire(plan, servers, work).await
}

/// By how many bytes the servers have grown.
fn grown(before: Usage, after: Usage) -> i64 {
    let bytes = |usage: Usage| i64::try_from(usage.resident_bytes).unwrap_or(i64::MAX);
    bytes(after) - bytes(before)
}

fn sum(tallies: &[Arc<Mutex<Tally>>], count: impl Fn(&Tally) -> (u64, u64)) -> (u64, u64) {
    let counts = tallies.iter().map(|tally| count(&lock(tally)));
    counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Waits for `work`, and shows how it comes along. An interrupt ends it early, and then this says `true`.
async fn until(
    work: impl Future<Output = Result<(), String>>,
    pace: &Pace,
    meter: &mut Meter<'_>,
    counts: impl Fn() -> (u64, u64),
    mut interrupt: Interrupt<'_, impl Future<Output = ()>>,
) -> Result<bool, String> {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        let warm = tokio::time::sleep_until(pace.begin().into());
        tokio::select! {
            done = work.as_mut() => return done.map(|()| false),
            () = interrupt.as_mut() => break,
            () = warm, if !meter.warm => meter.begin()?,
            _ = ticks.tick() => meter.progress(&counts),
        }
    }
    pace.stop();
    // Work that takes longer is cut off, and what it had under way is counted as such.
    let _ = tokio::time::timeout(GRACE, work).await;
    Ok(true)
}

/// Measures processes from the end of the warm-up on, and shows the progress.
struct Meter<'a> {
    plan: &'a Plan,
    from: Instant,
    /// What the servers and this program had taken at the beginning.
    before: (Usage, Usage),
    /// The warm-up is over.
    warm: bool,
    shown: Option<Instant>,
    terminal: bool,
    seen: u64,
}

impl<'a> Meter<'a> {
    /// Without a warm-up, `from` is now.
    fn new(plan: &'a Plan, from: Instant) -> Result<Self, String> {
        let before = (usage::of(&plan.pids)?, usage::own());
        let (warm, terminal) = (plan.warmup.is_zero(), io::stderr().is_terminal());
        Ok(Self { plan, from, before, warm, shown: None, terminal, seen: 0 })
    }

    fn begin(&mut self) -> Result<(), String> {
        self.before = (usage::of(&self.plan.pids)?, usage::own());
        self.warm = true;
        Ok(())
    }

    /// What the servers and this program took.
    fn end(&self) -> Result<(Option<ServerMeasured>, Duration), String> {
        if self.terminal && self.shown.is_some() {
            // The line is left for what follows.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let (before, own) = self.before;
        let after = usage::of(&self.plan.pids)?;
        let server = (!self.plan.pids.is_empty()).then_some(ServerMeasured { before, after });
        Ok((server, usage::own().processor.saturating_sub(own.processor)))
    }

    fn progress(&mut self, counts: impl Fn() -> (u64, u64)) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.from);
        let pause = if self.terminal { PROGRESS } else { PROGRESS_QUIET };
        let since = now.saturating_duration_since(self.shown.unwrap_or(self.from));
        if since < pause.mul_f64(0.9) {
            return;
        }
        let (done, troubles) = counts();
        let fresh = done.saturating_sub(self.seen);
        (self.seen, self.shown) = (done, Some(now));
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let rate = fresh as f64 / since.as_secs_f64();
        let end = if self.terminal { "\x1b[K\r" } else { "\n" };
        let line = format!(
            "{:.0} s: {done}, {rate:.0} a second, {troubles} failed{end}",
            elapsed.as_secs_f64()
        );
        // A closed standard error is no reason to end the run.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
