//! Threads that hold the connections, each with a runtime of its own: a connection's work never changes threads.
//!
//! Owns: starting them, their tallies, their end. Never knows: what the connections do.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::base::lock;
use crate::bench::answer::Head;
use crate::bench::failure::Failure;
use crate::bench::line::{Line, Servers};
use crate::bench::pace::{Pace, Timer};
use crate::bench::plan::Plan;
use crate::bench::tally::Tally;

/// Connections that one thread opens at a time: fewer than any server's backlog.
const OPENING_MAX: usize = 32;
/// Before a server that takes no connection is asked for one again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// What one connection works with.
pub(super) struct Hand {
    pub(super) number: usize,
    servers: Arc<Servers>,
    /// `None` after a failure, until the next request.
    line: Option<Line>,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) pace: Arc<Pace>,
    timer: Arc<Timer>,
}

impl Hand {
    /// The next turn of this connection.
    pub(super) async fn turn(&self) -> Option<crate::bench::pace::Turn> {
        self.pace.next(&self.timer).await
    }

    /// The connection; a new one if there is none.
    pub(super) async fn line(&mut self) -> Result<&mut Line, Failure> {
        if self.line.is_none() {
            match self.servers.connect(self.number).await {
                Ok(line) => self.line = Some(line),
                Err(failure) => {
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                    return Err(failure);
                }
            }
        }
        Ok(self.line.as_mut().expect("there is one now"))
    }

    /// Sends a request and reads the answer; with `keep`, [`Hand::kept`] has its body.
    pub(super) async fn ask(
        &mut self,
        begun: Instant,
        request: &[u8],
        keep: bool,
    ) -> Result<Head, Failure> {
        let answer = self.line().await?.ask(begun, request, keep).await;
        if answer.is_err() || answer.as_ref().is_ok_and(|head| head.closes && !keep) {
            self.line = None;
        }
        answer
    }

    /// The body of the last answer that was to be kept.
    pub(super) fn kept(&self) -> &[u8] {
        self.line.as_ref().map(Line::kept).unwrap_or_default()
    }

    /// The connection is not used again.
    pub(super) fn hang_up(&mut self) {
        self.line = None;
    }
}

/// Threads at work.
pub(super) struct Crew {
    threads: Vec<JoinHandle<()>>,
    pub(super) tallies: Vec<Arc<Mutex<Tally>>>,
    start: watch::Sender<Option<Arc<Pace>>>,
    /// One for each thread: first that its connections are there, or that they are not; then that its work is done.
    news: mpsc::Receiver<Result<(), String>>,
    abandon: CancellationToken,
}

impl Crew {
    /// Opens the connections of a plan; each will do `work`.
    ///
    /// # Errors
    /// When a connection cannot be opened, in words.
    pub(super) async fn hire<W, F>(
        plan: &Plan,
        servers: &Arc<Servers>,
        work: W,
    ) -> Result<Self, String>
    where
        W: Fn(Hand) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (start, started) = watch::channel(None);
        // Each thread has two pieces of news.
        let (news_tx, news) = mpsc::channel(2 * plan.threads);
        let work = Arc::new(work);
        let mut crew = Self {
            threads: Vec::new(),
            tallies: Vec::new(),
            start,
            news,
            abandon: CancellationToken::new(),
        };
        for thread in 0..plan.threads {
            let tally = Arc::new(Mutex::new(Tally::new()));
            crew.tallies.push(Arc::clone(&tally));
            let share = Share {
                numbers: (thread..plan.connections).step_by(plan.threads).collect(),
                servers: Arc::clone(servers),
                tally,
                opens: !plan.load.speaks_v3(),
                started: started.clone(),
                news: news_tx.clone(),
            };
            let (work, abandon) = (Arc::clone(&work), crew.abandon.clone());
            let run = move || {
                let news = share.news.clone();
                if let Err(error) = share.run(&*work, &abandon) {
                    // If the receiver is gone, the run has ended already.
                    let _ = news.try_send(Err(format!("cannot start a thread's runtime: {error}")));
                }
            };
            let spawned = thread::Builder::new().name(format!("bench-{thread}")).spawn(run);
            crew.threads.push(spawned.map_err(|error| format!("cannot start a thread: {error}"))?);
        }
        drop(news_tx);
        crew.all_say_so().await?;
        Ok(crew)
    }

    /// Lets all connections begin.
    pub(super) fn begin(&self, pace: &Arc<Pace>) {
        self.start.send_replace(Some(Arc::clone(pace)));
    }

    /// Waits until all connections have done their work.
    pub(super) async fn done(&mut self) -> Result<(), String> {
        self.all_say_so().await
    }

    async fn all_say_so(&mut self) -> Result<(), String> {
        for _ in 0..self.threads.len() {
            match self.news.recv().await {
                Some(news) => news?,
                None => return Err("a thread ended before its work was done".to_owned()),
            }
        }
        Ok(())
    }

    /// What all have counted so far.
    pub(super) fn tally(&self) -> Tally {
        let mut sum = Tally::new();
        for tally in &self.tallies {
            sum.add(&lock(tally));
        }
        sum
    }
}

impl Drop for Crew {
    /// Work that is not done is given up.
    fn drop(&mut self) {
        self.abandon.cancel();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// One thread's part.
struct Share {
    numbers: Vec<usize>,
    servers: Arc<Servers>,
    tally: Arc<Mutex<Tally>>,
    /// The connections speak HTTP/1; others are opened by those that use them.
    opens: bool,
    started: watch::Receiver<Option<Arc<Pace>>>,
    news: mpsc::Sender<Result<(), String>>,
}

impl Share {
    fn run<W, F>(self, work: &W, abandon: &CancellationToken) -> io::Result<()>
    where
        W: Fn(Hand) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let timer = Arc::new(Timer::new()?);
            tokio::select! {
                () = self.serve(work, timer) => {}
                () = abandon.cancelled() => {}
            }
            io::Result::Ok(())
        })?;
        // A look-up of a name that is still under way is not waited for.
        runtime.shutdown_background();
        Ok(())
    }

    async fn serve<W, F>(mut self, work: &W, timer: Arc<Timer>)
    where
        W: Fn(Hand) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let opened = self.open().await;
        let failed = opened.as_ref().err().cloned();
        // If the receiver is gone, the run has ended, and this task is abandoned soon.
        let _ = self.news.send(failed.map_or(Ok(()), Err)).await;
        let Ok(lines) = opened else { return };
        let Ok(pace) = self.started.wait_for(Option::is_some).await.map(|pace| pace.clone()) else {
            return;
        };
        let Some(pace) = pace else { return };
        let mut tasks = JoinSet::new();
        for (number, line) in lines {
            tasks.spawn(work(Hand {
                number,
                servers: Arc::clone(&self.servers),
                line,
                tally: Arc::clone(&self.tally),
                pace: Arc::clone(&pace),
                timer: Arc::clone(&timer),
            }));
        }
        while tasks.join_next().await.is_some() {}
        let _ = self.news.send(Ok(())).await;
    }

    /// Opens the connections, some at a time.
    async fn open(&self) -> Result<Vec<(usize, Option<Line>)>, String> {
        if !self.opens {
            return Ok(self.numbers.iter().map(|number| (*number, None)).collect());
        }
        let mut opening = JoinSet::new();
        let mut lines = Vec::with_capacity(self.numbers.len());
        for &number in &self.numbers {
            let servers = Arc::clone(&self.servers);
            opening.spawn(async move { (number, servers.connect(number).await) });
            if opening.len() >= OPENING_MAX {
                lines.extend(opened(&mut opening).await?);
            }
        }
        while !opening.is_empty() {
            lines.extend(opened(&mut opening).await?);
        }
        Ok(lines)
    }
}

type Opened = (usize, Result<Line, Failure>);

async fn opened(opening: &mut JoinSet<Opened>) -> Result<Option<(usize, Option<Line>)>, String> {
    match opening.join_next().await {
        Some(Ok((number, Ok(line)))) => Ok(Some((number, Some(line)))),
        Some(Ok((_, Err(failure)))) => Err(failure.why),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(None),
    }
}
