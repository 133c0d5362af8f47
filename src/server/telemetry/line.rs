//! One line of the log: etcd's two forms.
//!
//! Holds: a line is one line and of bounded length, whatever strangers wrote into its text.

use std::fmt::{self, Write};

use chrono::{DateTime, Utc};
use tracing::Level;
use tracing::field::{Field, Visit};

use crate::config::LogFormat;
use crate::model::{WallTime, beginning};

/// Longer texts are cut. What clients write is cut where it enters a text, long before.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// What is said, before it has a form.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    /// The package, in etcd's words.
    pub(super) target: &'static str,
    /// On one line, and not too long.
    pub(super) text: String,
    /// Its section in `docs/messages.md`, if it has one.
    pub(super) code: Option<String>,
}

/// A line with its end.
pub(super) fn format(format: LogFormat, now: WallTime, line: &Line) -> String {
    let Line { level, target, text, code } = line;
    let level = *level;
    let (seconds, nanos) = now.parts();
    let seconds = i64::try_from(seconds).unwrap_or_default();
    let now = DateTime::<Utc>::from_timestamp(seconds, nanos).unwrap_or_default();
    match format {
        LogFormat::Capnslog => {
            let now = now.format("%Y-%m-%d %H:%M:%S%.6f");
            let code = code.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default();
            format!("{now} {} | {target}: {text}{code}\n", letter(level))
        }
        LogFormat::Zap => {
            let mut line = serde_json::json!({
                "level": level.as_str().to_ascii_lowercase(),
                "ts": now.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
                "caller": target,
                "msg": text,
            });
            if let Some(code) = code {
                line["code"] = code.as_str().into();
            }
            format!("{line}\n")
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
pub(super) struct Text {
    text: String,
    code: Option<String>,
}

impl Text {
    pub(super) fn of(event: &tracing::Event<'_>) -> Self {
        let mut text = Self::default();
        event.record(&mut text);
        text
    }

    pub(super) fn line(self, level: Level, target: &'static str) -> Line {
        Line { level, target, text: tidy(self.text), code: self.code }
    }
}

/// On one line, and not too long.
fn tidy(mut text: String) -> String {
    if let Some(beginning) = beginning(&text, TEXT_BYTES_MAX) {
        text = format!("{beginning}... ({} bytes)", text.len());
    }
    if !text.contains(is_unprintable) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_unprintable(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    escaped
}

/// What ends a line, moves a cursor or turns writing around in a terminal or an editor.
fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.text, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => self.code = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, code: Option<&str>) -> Line {
        let (text, code) = (text.to_owned(), code.map(str::to_owned));
        Line { level: Level::WARN, target: "wal", text, code }
    }

    #[test]
    fn no_text_makes_a_second_line() {
        assert_eq!(
            tidy("a\nb\r\x1b[2Jc\u{2028}d\u{202e}e".to_owned()),
            "a\\nb\\r\\u{1b}[2Jc\\u{2028}d\\u{202e}e"
        );
        assert_eq!(tidy("grüße \"x\" \\".to_owned()), "grüße \"x\" \\");
        let line = format(LogFormat::Zap, WallTime(0), &said("\"", Some("C301")));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains(r#""code":"C301""#), "{line}");
        assert!(line.contains(r#""msg":"\"""#), "{line}");
    }

    #[test]
    fn a_text_has_an_end() {
        let long = tidy("ü".repeat(TEXT_BYTES_MAX));
        assert!(long.len() < TEXT_BYTES_MAX + 30 && long.ends_with("... (16384 bytes)"), "{long}");
    }

    #[test]
    fn lines_look_like_etcds() {
        let at = WallTime(1_790_000_000_123_456_789);
        let line = format(LogFormat::Capnslog, at, &said("text", None));
        assert_eq!(line, "2026-09-21 14:13:20.123456 W | wal: text\n");
        let line = format(LogFormat::Capnslog, at, &said("text", Some("C301")));
        assert_eq!(line, "2026-09-21 14:13:20.123456 W | wal: text [C301]\n");
    }
}
