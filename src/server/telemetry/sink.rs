//! Where lines go: standard error, standard output, files that can be opened again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Mutex;

use crate::base::lock;
use crate::config::LogOutput;

/// All outputs at once.
pub(super) struct Sink {
    outputs: Vec<Opened>,
}

enum Opened {
    Stderr,
    Stdout,
    File { path: String, file: Mutex<File> },
}

impl Sink {
    /// Opens the files.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(super) fn open(outputs: &[LogOutput]) -> io::Result<Self> {
        let opened = outputs.iter().map(|output| {
            Ok(match output {
                LogOutput::Stderr => Opened::Stderr,
                LogOutput::Stdout => Opened::Stdout,
                LogOutput::File(path) => {
                    Opened::File { path: path.clone(), file: Mutex::new(append_to(path)?) }
                }
            })
        });
        let mut outputs = opened.collect::<io::Result<Vec<_>>>()?;
        if outputs.is_empty() {
            outputs.push(Opened::Stderr);
        }
        Ok(Self { outputs })
    }

    /// Writes a line everywhere. A log that cannot be written is no reason to stop.
    pub(super) fn write(&self, line: &str) {
        for output in &self.outputs {
            let _ = match output {
                Opened::Stderr => io::stderr().write_all(line.as_bytes()),
                Opened::Stdout => io::stdout().write_all(line.as_bytes()),
                Opened::File { file, .. } => lock(file).write_all(line.as_bytes()),
            };
        }
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
        let sink = Sink::open(&[LogOutput::File(path("log"))]).unwrap();
        sink.write("one\n");
        std::fs::rename(path("log"), path("log.1")).unwrap();
        sink.write("two\n");
        sink.reopen().unwrap();
        sink.write("three\n");
        assert_eq!(std::fs::read_to_string(path("log.1")).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path("log")).unwrap(), "three\n");
        std::fs::remove_file(path("log")).unwrap();
        std::fs::create_dir(path("log")).unwrap();
        assert_eq!(sink.reopen().unwrap_err()[0].0, path("log"), "a directory is there now");
    }
}
