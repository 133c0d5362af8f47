//! The log: etcd's two formats, so that what reads etcd's log reads ours; bounded, whatever strangers do.

mod limit;
mod line;
mod sink;

use std::io;
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, filter, reload};

use crate::base::lock;
use crate::config::{LogFormat, LogLevel, LogOutput};
use crate::model::Clock;
use crate::raft;
use crate::server::clock::SystemClock;
use crate::server::telemetry::limit::{LeftOut, Limiter, PERIOD, Verdict};
use crate::server::telemetry::line::Text;
use crate::server::telemetry::sink::Sink;

/// The running log: its level and its files can be changed while the member runs.
#[derive(Clone)]
pub struct LogHandle {
    filter: Arc<reload::Handle<filter::Targets, Registry>>,
    log: Arc<Log>,
}

/// Starts logging.
///
/// # Errors
/// When a file cannot be opened.
pub fn start(format: LogFormat, outputs: &[LogOutput], level: LogLevel) -> io::Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(targets(filter_of(level)));
    let sink = Sink::open(outputs)?;
    let log = Arc::new(Log { format, sink, limiter: Mutex::default() });
    let subscriber = tracing_subscriber::registry().with(filter).with(Lines(Arc::clone(&log)));
    // A second start in one process, as in tests, keeps the first one's log.
    let _ = subscriber.try_init();
    Ok(LogHandle { filter: Arc::new(handle), log })
}

/// Ours at `level`; libraries only when something is wrong. At debug level consensus says more.
fn targets(level: LevelFilter) -> filter::Targets {
    let consensus =
        if level >= LevelFilter::DEBUG { LevelFilter::INFO } else { LevelFilter::ERROR.min(level) };
    let mut targets = filter::Targets::new()
        .with_default(level)
        .with_target("hyper", LevelFilter::WARN.min(level));
    for (target, worthwhile) in raft::LOG_TARGETS {
        let level = if worthwhile { consensus } else { LevelFilter::OFF };
        targets = targets.with_target(target, level);
    }
    targets
}

impl LogHandle {
    /// Takes etcd's words in any case, their first letters, or digits; `false` when it is none of them.
    pub fn set(&self, text: &str) -> bool {
        level_of(text).is_some_and(|level| self.filter.reload(targets(level)).is_ok())
    }

    /// Writes the lines of this level and above from now on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when nothing is logged any more.
        let _ = self.filter.reload(targets(filter_of(level)));
    }

    /// Opens the log's files anew.
    ///
    /// # Errors
    /// Path and reason of each that cannot be opened; that one stays as it is.
    pub fn reopen(&self) -> Result<(), Vec<(String, io::Error)>> {
        self.log.sink.reopen()
    }

    /// Says now and then how many repeated lines were left out; for as long as the member runs.
    pub async fn tell_what_was_left_out(self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.log.tell_ended(false);
        }
    }

    /// Says it for the last time.
    pub fn finish(&self) {
        self.log.tell_ended(true);
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// The level that etcd calls so.
fn level_of(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_uppercase().as_str() {
        "CRITICAL" | "C" | "ERROR" | "E" | "0" => LevelFilter::ERROR,
        "WARNING" | "WARN" | "W" | "1" => LevelFilter::WARN,
        "NOTICE" | "N" | "2" | "INFO" | "I" | "3" => LevelFilter::INFO,
        "DEBUG" | "D" | "4" => LevelFilter::DEBUG,
        "TRACE" | "T" | "5" => LevelFilter::TRACE,
        _ => return None,
    })
}

struct Log {
    format: LogFormat,
    sink: Sink,
    limiter: Mutex<Limiter<Line>>,
}

/// A line that was left out.
struct Line {
    level: Level,
    target: &'static str,
    text: String,
}

impl Log {
    fn write(&self, level: Level, target: &str, text: &str) {
        self.sink.write(&line::line(self.format, SystemClock.wall(), level, target, text));
    }

    fn tell_ended(&self, all: bool) {
        let now = SystemClock.monotonic();
        let ended = { lock(&self.limiter).ended(now, all) };
        ended.iter().for_each(|left_out| self.tell(left_out));
    }

    fn tell(&self, left_out: &LeftOut<Line>) {
        let LeftOut { count, example: Line { level, target, text } } = left_out;
        let text = match count {
            1 => text.clone(),
            count => format!("{text} (and {} more like it)", with_commas(count - 1)),
        };
        self.write(*level, target, &text);
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
        let text = || Text::of(event).tidy();
        // Who debugs wants to see everything.
        if level > Level::INFO {
            self.0.write(level, target, &text());
            return;
        }
        // Metadata is static: one for each place in the code that logs.
        let place = std::ptr::from_ref(metadata).addr();
        let now = SystemClock.monotonic();
        let (verdict, ended) =
            { lock(&self.0.limiter).judge(place, now, || Line { level, target, text: text() }) };
        if let Some(left_out) = ended {
            self.0.tell(&left_out);
        }
        if verdict == Verdict::Write {
            self.0.write(level, target, &text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names_letters_and_digits() {
        for text in ["WARNING", "warning", "W", "w", "1", "warn"] {
            assert_eq!(level_of(text), Some(LevelFilter::WARN), "{text}");
        }
        assert_eq!(level_of(""), None);
        assert_eq!(level_of("nonsense"), None);
    }

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (4211, "4,211"), (1_000_000, "1,000,000")] {
            assert_eq!(with_commas(number), text);
        }
    }
}
