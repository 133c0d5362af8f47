//! How a mirror or a copy is doing: a line on a terminal, a page for Prometheus.
//!
//! Owns: the counters and their names. Never knows: what is counted.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::base::lock;

/// How often the line is written anew.
pub(crate) const REFRESH: Duration = Duration::from_millis(500);
/// For one question about metrics.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Of its head; nothing of it matters but the first line.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Keys that are named one by one; of more there is only the number.
const NAMED_MAX: u64 = 20;

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Source,
    Target,
}

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// A number that only grows, unless it is set.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, to: u64) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is known of the run.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// What stands before each line.
    program: &'static str,
    /// Where the source was when it was last heard of.
    pub(crate) source_index: Count,
    /// Up to where the target has everything.
    pub(crate) applied_index: Count,
    pub(crate) events: Count,
    pub(crate) writes: Count,
    /// Lifetimes that were made longer, as the source had done.
    pub(crate) renewals: Count,
    pub(crate) listings: Count,
    pub(crate) keys: Count,
    pub(crate) lifetimes: Count,
    /// Keys that clients of the target have written.
    pub(crate) taken_over: Count,
    /// Values or keys that were no text: version 2 replaces their bytes.
    pub(crate) replaced: Count,
    source_away: AtomicBool,
    target_away: AtomicBool,
    /// When the change was read that is being made now.
    since: Mutex<Option<Instant>>,
    doing: Mutex<String>,
    line: AtomicBool,
}

impl Shown {
    /// For the program of this name.
    pub(crate) fn of(program: &'static str) -> Self {
        Self { program, ..Self::default() }
    }

    fn away(&self, side: Which) -> &AtomicBool {
        match side {
            Which::Source => &self.source_away,
            Which::Target => &self.target_away,
        }
    }

    /// A server answers.
    pub(crate) fn answers(&self, side: Which) {
        if self.away(side).swap(false, Ordering::Relaxed) {
            self.say(&format!("the {} answers again", side.name()));
        }
    }

    /// A server does not answer, and is asked again until it does.
    pub(crate) fn fails(&self, side: Which, why: &str) {
        if !self.away(side).swap(true, Ordering::Relaxed) {
            self.say(&format!("the {} does not answer and is asked again: {why}", side.name()));
        }
    }

    /// A change is being made that was read then; `None` when there is nothing to do.
    pub(crate) fn working_on(&self, since: Option<Instant>) {
        *lock(&self.since) = since;
    }

    /// How old the change is that is being made.
    pub(crate) fn lag(&self) -> Duration {
        lock(&self.since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Something that takes a while has begun.
    pub(crate) fn doing(&self, what: &str) {
        what.clone_into(&mut lock(&self.doing));
        self.say(what);
    }

    /// A key is another's.
    pub(crate) fn taken(&self, path: &str) {
        self.taken_over.add(1);
        match self.taken_over.get() {
            count if count < NAMED_MAX => {
                self.say(&format!(
                    "{path} was written by a client of the target, and is left to it"
                ));
            }
            NAMED_MAX => {
                self.say("further keys that clients of the target have written are only counted")
            }
            _ => {}
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        let clear = if self.line.swap(false, Ordering::Relaxed) { "\r\x1b[K" } else { "" };
        // A closed standard error is no reason to fail.
        let _ = writeln!(io::stderr(), "{clear}{}: {text}", self.program);
    }

    /// Writes the line anew, on a terminal.
    pub(crate) fn show(&self) {
        if io::stderr().is_terminal() {
            self.line.store(true, Ordering::Relaxed);
            let _ = write!(io::stderr(), "\r{}\x1b[K", self.line());
        }
    }

    /// Leaves a clean line.
    pub(crate) fn show_no_more(&self) {
        if self.line.swap(false, Ordering::Relaxed) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&self) -> String {
        let mut text = format!(
            "{}: {}: index {} of {}, {:.1} s behind; {} keys, {} with a lifetime; {} events, {} writes",
            self.program,
            lock(&self.doing),
            self.applied_index.get(),
            self.source_index.get().max(self.applied_index.get()),
            self.lag().as_secs_f64(),
            self.keys.get(),
            self.lifetimes.get(),
            self.events.get(),
            self.writes.get(),
        );
        if self.taken_over.get() > 0 {
            let _ = write!(text, "; {} taken over", self.taken_over.get());
        }
        text
    }

    /// What Prometheus reads.
    pub(crate) fn page(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, String)]| {
            let _ = writeln!(
                text,
                "# HELP cairn_mirror_{name} {help}\n# TYPE cairn_mirror_{name} {kind}"
            );
            for (labels, value) in values {
                let _ = writeln!(text, "cairn_mirror_{name}{labels} {value}");
            }
        };
        let count = |count: &Count| vec![("", count.get().to_string())];
        let up = |side| u8::from(!self.away(side).load(Ordering::Relaxed)).to_string();
        let sides =
            [("{side=\"source\"}", up(Which::Source)), ("{side=\"target\"}", up(Which::Target))];
        metric("up", "gauge", "1 while the server answers.", &sides);
        let lag = [("", format!("{:.3}", self.lag().as_secs_f64()))];
        metric(
            "lag_seconds",
            "gauge",
            "Age of the change that is being made; 0 when nothing waits.",
            &lag,
        );
        let help = "X-Etcd-Index of the source, when it was last heard of.";
        metric("source_index", "gauge", help, &count(&self.source_index));
        let help = "The source's index up to which all its changes are in the target.";
        metric("applied_index", "gauge", help, &count(&self.applied_index));
        metric("keys", "gauge", "Keys and directories that the mirror keeps.", &count(&self.keys));
        metric("lifetimes", "gauge", "Those with a lifetime.", &count(&self.lifetimes));
        let help = "Keys that clients of the target have written, and that are left to them.";
        metric("taken_over_total", "counter", help, &count(&self.taken_over));
        metric("events_total", "counter", "Changes of the source.", &count(&self.events));
        metric("writes_total", "counter", "Writes to the target.", &count(&self.writes));
        let help = "Lifetimes that were renewed as in the source.";
        metric("renewals_total", "counter", help, &count(&self.renewals));
        let help = "Times that all keys were listed and compared.";
        metric("listings_total", "counter", help, &count(&self.listings));
        text
    }

    /// Answers questions about metrics, one after the other, for ever.
    pub(crate) async fn serve(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Who asks and does not listen has no answer.
                    let _ = tokio::time::timeout(ANSWER_MAX, self.answer(stream)).await;
                }
                Err(_) => tokio::time::sleep(REFRESH).await,
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let known = head.starts_with(b"GET /metrics ");
        let (status, page) = match known {
            true => ("200 OK", self.page()),
            false => ("404 Not Found", "ask for /metrics\n".to_owned()),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}
