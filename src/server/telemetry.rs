//! The log: etcd's two formats, so that what reads etcd's log reads ours.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, filter, reload};

use crate::model::Clock;
use crate::raft;
use crate::server::clock::SystemClock;

/// `--logger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2006-01-02 15:04:05.000000 I | package: text`
    Capnslog,
    /// One JSON object a line.
    Zap,
}

/// `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Where errors go.
    Stderr,
    /// Where results go.
    Stdout,
    /// Appended to a file.
    File(String),
}

/// Changes the level while the member runs.
#[derive(Clone)]
pub struct LevelHandle(Arc<reload::Handle<filter::Targets, Registry>>);

/// Starts logging.
///
/// # Errors
/// When a file cannot be opened.
pub fn start(format: Format, outputs: &[Output], level: LevelFilter) -> io::Result<LevelHandle> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let writer = writer(outputs)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).event_format(Lines(format));
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    // A second start in one process, as in tests, keeps the first one's log.
    let _ = subscriber.try_init();
    Ok(LevelHandle(Arc::new(handle)))
}

fn writer(outputs: &[Output]) -> io::Result<BoxMakeWriter> {
    use tracing_subscriber::fmt::writer::MakeWriterExt;
    let mut all: Option<BoxMakeWriter> = None;
    for output in outputs {
        let one = match output {
            Output::Stderr => BoxMakeWriter::new(io::stderr),
            Output::Stdout => BoxMakeWriter::new(io::stdout),
            Output::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                BoxMakeWriter::new(Arc::new(file))
            }
        };
        all = Some(match all {
            None => one,
            Some(others) => BoxMakeWriter::new(others.and(one)),
        });
    }
    Ok(all.unwrap_or_else(|| BoxMakeWriter::new(io::stderr)))
}

/// Ours at `level`; libraries only when something is wrong. Whoever debugs hears more of consensus.
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

impl LevelHandle {
    /// Takes etcd's words in any case, their first letters, or digits; `false` when it is none of them.
    pub fn set(&self, text: &str) -> bool {
        let Some(level) = level_of(text) else { return false };
        self.0.reload(targets(level)).is_ok()
    }
}

/// The level that etcd calls so.
pub fn level_of(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_uppercase().as_str() {
        "CRITICAL" | "C" | "ERROR" | "E" | "0" => LevelFilter::ERROR,
        "WARNING" | "WARN" | "W" | "1" => LevelFilter::WARN,
        "NOTICE" | "N" | "2" | "INFO" | "I" | "3" => LevelFilter::INFO,
        "DEBUG" | "D" | "4" => LevelFilter::DEBUG,
        "TRACE" | "T" | "5" => LevelFilter::TRACE,
        _ => return None,
    })
}

/// Writes one line for each event.
struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let (seconds, nanos) = SystemClock.wall().parts();
        let seconds = i64::try_from(seconds).unwrap_or_default();
        let now = DateTime::<Utc>::from_timestamp(seconds, nanos).unwrap_or_default();
        match self.0 {
            Format::Capnslog => writeln!(
                out,
                "{} {} | {}: {}",
                now.format("%Y-%m-%d %H:%M:%S%.6f"),
                letter(*metadata.level()),
                metadata.target(),
                text.0
            ),
            Format::Zap => {
                let line = serde_json::json!({
                    "level": metadata.level().as_str().to_ascii_lowercase(),
                    "ts": now.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
                    "caller": metadata.target(),
                    "msg": text.0,
                });
                writeln!(out, "{line}")
            }
        }
    }
}

fn letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO => 'I',
        Level::DEBUG => 'D',
        Level::TRACE => 'T',
    }
}

/// The message, and what other fields an event has.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "capnslog" => Ok(Self::Capnslog),
            "zap" => Ok(Self::Zap),
            _ => Err(()),
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
}
