//! What is said about the log: its form, where it goes, what is in it.

use crate::config::parse::Raw;
use crate::config::{Failure, LogFormat, LogLevel, LogOutput};

pub(super) fn format(raw: &Raw) -> Result<LogFormat, Failure> {
    match raw.get("logger") {
        "capnslog" => Ok(LogFormat::Capnslog),
        "zap" => Ok(LogFormat::Zap),
        other => Err(Failure::verifying(format!(
            "unknown logger option {other:?}: --logger takes capnslog or zap"
        ))),
    }
}

pub(super) fn outputs(raw: &Raw) -> Vec<LogOutput> {
    let said = raw.said("log-outputs").or_else(|| raw.said("log-output")).unwrap_or("default");
    let one = |output: &str| match output.trim() {
        "" | "default" => LogOutput::Default,
        "stderr" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "systemd/journal" => LogOutput::Journal,
        path => LogOutput::File(path.to_owned()),
    };
    said.split(',').map(one).collect()
}

pub(super) fn level(raw: &Raw) -> Result<LogLevel, Failure> {
    if raw.bool("debug") {
        return Ok(LogLevel::Debug);
    }
    match raw.get("log-level") {
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" => Ok(LogLevel::Warn),
        "error" | "dpanic" | "panic" | "fatal" => Ok(LogLevel::Error),
        other => Err(Failure::verifying(format!(
            "unknown log level {other:?}: --log-level takes error, warn, info or debug"
        ))),
    }
}

/// `etcdserver=WARN,raft=DEBUG`; `*` is all packages. The last word on a package counts.
pub(super) fn package_levels(raw: &Raw) -> Result<Vec<(String, LogLevel)>, Failure> {
    let items = raw.get("log-package-levels").split(',').map(str::trim);
    let parse = |item: &str| {
        let (package, level) = item.split_once('=')?;
        let (package, level) = (package.trim(), LogLevel::named(level.trim())?);
        (!package.is_empty()).then(|| (package.to_owned(), level))
    };
    let wrong = |item: &str| {
        Failure::verifying(format!(
            "invalid value {item:?} for --log-package-levels: write PACKAGE=LEVEL,PACKAGE=LEVEL, where LEVEL is ERROR, WARNING, \
             INFO or DEBUG, and * is every package"
        ))
    };
    items
        .filter(|item| !item.is_empty())
        .map(|item| parse(item).ok_or_else(|| wrong(item)))
        .collect()
}

impl LogLevel {
    /// The level that etcd calls so, in any case: its words, their first letters, or digits.
    pub fn named(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "CRITICAL" | "C" | "ERROR" | "E" | "0" => Self::Error,
            "WARNING" | "WARN" | "W" | "1" => Self::Warn,
            "NOTICE" | "N" | "2" | "INFO" | "I" | "3" => Self::Info,
            "DEBUG" | "D" | "4" | "TRACE" | "T" | "5" => Self::Debug,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names_letters_and_digits() {
        for text in ["WARNING", "warning", "W", "w", "1", "warn"] {
            assert_eq!(LogLevel::named(text), Some(LogLevel::Warn), "{text}");
        }
        assert_eq!(LogLevel::named(""), None);
        assert_eq!(LogLevel::named("nonsense"), None);
    }
}
