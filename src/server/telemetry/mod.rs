//! The log: etcd's two formats, so that what reads etcd's log reads ours; the journal of systemd, with fields; bounded, whatever
//! strangers do.

mod journal;
mod levels;
mod limit;
mod line;
mod sink;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, filter, reload};

use crate::api::LogLines;
use crate::base::lock;
use crate::config::{LogFormat, LogLevel, LogOutput};
use crate::model::{Clock, LogPosition, MemberId, codes};
use crate::server::clock::SystemClock;
use crate::server::telemetry::levels::{Levels, PACKAGES};
use crate::server::telemetry::limit::{LeftOut, Limiter, PERIOD, Verdict};
use crate::server::telemetry::line::{Line, Text};
use crate::server::telemetry::sink::Sink;

/// What is logged, how and where to.
pub struct LogOptions<'a> {
    /// Form of the lines.
    pub format: LogFormat,
    /// Where they go.
    pub outputs: &'a [LogOutput],
    /// Which of them.
    pub level: LogLevel,
    /// The same for single packages.
    pub package_levels: &'a [(String, LogLevel)],
}

/// The running log: its level and its files can be changed while the member runs.
#[derive(Clone)]
pub struct LogHandle {
    filter: Arc<reload::Handle<filter::Targets, Registry>>,
    log: Arc<Log>,
}

/// Starts logging.
///
/// # Errors
/// When a file cannot be opened, or the journal cannot be reached and was asked for by name.
pub fn start(options: &LogOptions<'_>) -> io::Result<LogHandle> {
    let levels = Levels::new(options.level, options.package_levels);
    let (filter, handle) = reload::Layer::new(levels.targets());
    let sink = Sink::open(options.format, options.outputs)?;
    let (limiter, merged, member) = (Mutex::default(), AtomicU64::new(0), OnceLock::new());
    let log = Arc::new(Log { sink, limiter, merged, member });
    let subscriber = tracing_subscriber::registry().with(filter).with(Lines(Arc::clone(&log)));
    // A second start in one process, as in tests, keeps the first one's log.
    let _ = subscriber.try_init();
    for name in levels.unknown() {
        warn!(
            target: "pkg/flags",
            code = codes::UNKNOWN_PACKAGE,
            "--log-package-levels: no package is called {name:?}; there are {}",
            PACKAGES.join(", "),
        );
    }
    Ok(LogHandle { filter: Arc::new(handle), log })
}

impl LogHandle {
    /// Takes etcd's words in any case, their first letters, or digits; `false` when it is none of them. As in etcd the level counts
    /// for all packages from now on.
    pub fn set(&self, text: &str) -> bool {
        LogLevel::named(text).is_some_and(|level| self.reload(level, &[]))
    }

    /// Writes the lines of these levels and above from now on.
    pub fn set_levels(&self, level: LogLevel, package_levels: &[(String, LogLevel)]) {
        // It fails only when nothing is logged any more.
        let _ = self.reload(level, package_levels);
    }

    fn reload(&self, level: LogLevel, package_levels: &[(String, LogLevel)]) -> bool {
        self.filter.reload(Levels::new(level, package_levels).targets()).is_ok()
    }

    /// Opens the log's files anew.
    ///
    /// # Errors
    /// Path and reason of each that cannot be opened; that one stays as it is.
    pub fn reopen(&self) -> Result<(), Vec<(String, io::Error)>> {
        self.log.sink.reopen()
    }

    /// From now on entries in the journal say which member they are of, and how far that is. `position` is asked by whoever logs, so it
    /// must be quick and take no lock.
    pub fn follow(
        &self,
        member: MemberId,
        position: impl Fn() -> LogPosition + Send + Sync + 'static,
    ) {
        // A second member in one process, as in tests, logs as the first one.
        let _ = self.log.member.set((member, Box::new(position)));
    }

    /// Says now and then how many repeated lines were left out; for as long as the member runs.
    pub async fn tell_what_was_left_out(self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.log.tell_ended(false);
        }
    }

    /// What became of lines that are not in the log as they were.
    pub fn lines(&self) -> LogLines {
        LogLines { merged: self.log.merged.load(Relaxed), dropped: self.log.sink.lost() }
    }

    /// Says what is left to say, and waits a moment until it has been taken.
    pub fn finish(&self) {
        self.log.tell_ended(true);
        self.log.sink.flush();
    }
}

type Follow = Box<dyn Fn() -> LogPosition + Send + Sync>;

struct Log {
    sink: Sink,
    limiter: Mutex<Limiter<Line>>,
    /// Lines that were counted instead of written.
    merged: AtomicU64,
    /// Whose log it is, and where that member is.
    member: OnceLock<(MemberId, Follow)>,
}

impl Log {
    fn write(&self, line: &Line) {
        let member = self.member.get().map(|(member, position)| (*member, position()));
        self.sink.write(SystemClock.wall(), line, member);
    }

    fn tell_ended(&self, all: bool) {
        let now = SystemClock.monotonic();
        let ended = { lock(&self.limiter).ended(now, all) };
        ended.into_iter().for_each(|left_out| self.tell(left_out));
    }

    fn tell(&self, left_out: LeftOut<Line>) {
        let LeftOut { count, example: mut line } = left_out;
        if count > 1 {
            line.text += &format!(" (and {} more like it)", with_commas(count - 1));
        }
        self.write(&line);
    }
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes one line for each event, unless its place in the code has had its say.
struct Lines(Arc<Log>);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let (level, target) = (*metadata.level(), metadata.target());
        let line = || Text::of(event).line(level, target);
        // Who debugs wants to see everything.
        if level > Level::INFO {
            self.0.write(&line());
            return;
        }
        // Metadata is static: one for each place in the code that logs.
        let place = std::ptr::from_ref(metadata).addr();
        let now = SystemClock.monotonic();
        let (verdict, ended) = { lock(&self.0.limiter).judge(place, now, line) };
        if let Some(left_out) = ended {
            self.0.tell(left_out);
        }
        match verdict {
            Verdict::Write => self.0.write(&line()),
            Verdict::Count => {
                self.0.merged.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (4211, "4,211"), (1_000_000, "1,000,000")] {
            assert_eq!(with_commas(number), text);
        }
    }
}
