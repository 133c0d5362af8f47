//! Where lines go: standard error, standard output, files that can be opened again, the journal of systemd.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};
use tracing::Level;

use crate::base::lock;
use crate::config::{LogFormat, LogOutput};
use crate::model::{LogPosition, MemberId, WallTime, codes};
use crate::server::telemetry::journal::{self, Entry, Journal};
use crate::server::telemetry::line::{self, Line};

/// Packages of the operating system put `docs/messages.md` there.
const MESSAGES: &str = "file:///usr/share/doc/cairn/messages.md";

/// All outputs at once.
pub(super) struct Sink {
    format: LogFormat,
    outputs: Vec<Opened>,
}

enum Opened {
    Stderr,
    Stdout,
    File { path: String, file: Mutex<File> },
    Journal(Journal),
}

impl Sink {
    /// Opens the files, and connects with the journal.
    ///
    /// # Errors
    /// When a file cannot be opened, or the journal cannot be reached and was asked for by name.
    pub(super) fn open(format: LogFormat, outputs: &[LogOutput]) -> io::Result<Self> {
        let opened = outputs.iter().map(|output| {
            Ok(match output {
                LogOutput::Default => by_default(),
                LogOutput::Stderr => Opened::Stderr,
                LogOutput::Stdout => Opened::Stdout,
                LogOutput::Journal => Opened::Journal(Journal::connect(lost).map_err(|error| {
                    let text = format!(
                        "the journal cannot be reached: {error}; leave systemd/journal out where there is no systemd"
                    );
                    io::Error::new(error.kind(), text)
                })?),
                LogOutput::File(path) => {
                    Opened::File { path: path.clone(), file: Mutex::new(append_to(path)?) }
                }
            })
        });
        let mut outputs = opened.collect::<io::Result<Vec<_>>>()?;
        if outputs.is_empty() {
            outputs.push(by_default());
        }
        Ok(Self { format, outputs })
    }

    /// Writes a line everywhere. A log that cannot be written is no reason to stop.
    pub(super) fn write(
        &self,
        now: WallTime,
        line: &Line,
        member: Option<(MemberId, LogPosition)>,
    ) {
        let mut text = None;
        for output in &self.outputs {
            if let Opened::Journal(journal) = output {
                journal.send(entry(line, member));
                continue;
            }
            let text = text.get_or_insert_with(|| line::format(self.format, now, line)).as_bytes();
            let _ = match output {
                Opened::Stderr => io::stderr().write_all(text),
                Opened::Stdout => io::stdout().write_all(text),
                Opened::File { file, .. } => lock(file).write_all(text),
                Opened::Journal(_) => Ok(()),
            };
        }
    }

    fn journals(&self) -> impl Iterator<Item = &Journal> {
        self.outputs.iter().filter_map(|output| match output {
            Opened::Journal(journal) => Some(journal),
            Opened::Stderr | Opened::Stdout | Opened::File { .. } => None,
        })
    }

    /// Lines that the journal did not take.
    pub(super) fn lost(&self) -> u64 {
        self.journals().map(Journal::lost).sum()
    }

    /// Waits a moment until everything has been taken.
    pub(super) fn flush(&self) {
        self.journals().for_each(Journal::flush);
    }

    /// Opens the files anew: they were moved aside, most likely. One that cannot be opened stays as it is.
    ///
    /// # Errors
    /// Path and reason of each that cannot be opened.
    pub(super) fn reopen(&self) -> Result<(), Vec<(String, io::Error)>> {
        let mut failed = Vec::new();
        for output in &self.outputs {
            let Opened::File { path, file } = output else { continue };
            match append_to(path) {
                Ok(new) => *lock(file) = new,
                Err(error) => failed.push((path.clone(), error)),
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }
}

/// Where standard error goes to the journal, lines go there as entries with fields; if that cannot be, as lines.
fn by_default() -> Opened {
    let journal = journal::takes_standard_error().then(|| Journal::connect(lost).ok()).flatten();
    journal.map_or(Opened::Stderr, Opened::Journal)
}

/// A line as the journal has it.
fn entry(line: &Line, member: Option<(MemberId, LogPosition)>) -> Entry {
    let Line { level, target, text, code } = line;
    let mut entry = Entry::default()
        .field("MESSAGE", text)
        .field("PRIORITY", priority(*level))
        .field("SYSLOG_IDENTIFIER", "cairn")
        .field("PACKAGE", target);
    if let Some((member, LogPosition { term, index })) = member {
        entry = entry.field("MEMBER", &member.to_string());
        entry = entry.field("TERM", &term.0.to_string()).field("INDEX", &index.0.to_string());
    }
    if let Some(code) = code {
        entry = entry.field("CODE", code).field("MESSAGE_ID", &message_id(code));
        entry = entry.field("DOCUMENTATION", &format!("{MESSAGES}#{}", code.to_ascii_lowercase()));
    }
    entry
}

/// The journal stood still, and does no longer.
fn lost(count: u64) -> Entry {
    let text = format!("{count} lines of the log are lost: the journal stood still");
    let code = Some(codes::LINES_LOST.to_owned());
    entry(&Line { level: Level::WARN, target: "pkg/osutil", text, code }, None)
}

/// As in syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// 128 bits that are the same for a code on every machine: catalogues and filters go by them.
fn message_id(code: &str) -> String {
    let digest = Sha256::digest(format!("cairn {code}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn append_to(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_aside_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let sink = Sink::open(LogFormat::Capnslog, &[LogOutput::File(path("log"))]).unwrap();
        let write = |text: &str| {
            let text = text.to_owned();
            let line = Line { level: Level::INFO, target: "wal", text, code: None };
            sink.write(WallTime(0), &line, None);
        };
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        write("one");
        std::fs::rename(path("log"), path("log.1")).unwrap();
        write("two");
        sink.reopen().unwrap();
        write("three");
        let start = "1970-01-01 00:00:00.000000 I | wal:";
        assert_eq!(read("log.1"), format!("{start} one\n{start} two\n"));
        assert_eq!(read("log"), format!("{start} three\n"));
        std::fs::remove_file(path("log")).unwrap();
        std::fs::create_dir(path("log")).unwrap();
        assert_eq!(sink.reopen().unwrap_err()[0].0, path("log"), "a directory is there now");
    }
}
