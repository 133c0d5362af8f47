//! Command line → [`Raw`]: what was said, not yet what is true. Here is also what a value of each kind looks like.

use std::collections::BTreeMap;

use crate::config::flags::{self, FORGOTTEN, Flag, Kind};
use crate::config::{Failure, Level, Notice};
use crate::model::Url;

/// What was said, by flag.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    said: BTreeMap<&'static str, (String, Source)>,
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// On the command line.
    Flag,
    /// In this variable of the environment.
    Variable(String),
    /// In this file of `--config-file`.
    File(String),
}

impl Raw {
    /// A flag's value; its default when nothing was said.
    pub(super) fn get(&self, name: &str) -> &str {
        self.said(name).unwrap_or_else(|| flags::find(name).map_or("", |flag| flag.default))
    }

    /// A flag's value if one was given.
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        self.said.get(name).map(|(value, _)| value.as_str())
    }

    /// Where a flag's value was said, if one was given.
    pub(super) fn source(&self, name: &str) -> Option<&Source> {
        self.said.get(name).map(|(_, source)| source)
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        parse_bool(self.get(name)).unwrap_or(false)
    }

    pub(super) fn set(&mut self, flag: &'static Flag, value: String, source: Source) {
        self.said.insert(flag.name, (value, source));
    }
}

/// As Go reads it.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// As Go reads it with base 0: prefixes, octal behind a leading zero, `_` between digits; no sign.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix, prefixed) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16, true),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8, true),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2, true),
        [b'0', _, ..] => (&text[1..], 8, true),
        _ => (text, 10, false),
    };
    let digits = if prefixed { digits.strip_prefix('_').unwrap_or(digits) } else { digits };
    let lonely = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if lonely || digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// Whether both texts mean the same to a flag of this kind.
pub(super) fn same(kind: Kind, one: &str, other: &str) -> bool {
    match kind {
        Kind::Bool => parse_bool(one) == parse_bool(other),
        Kind::Number => parse_number(one) == parse_number(other),
        Kind::Text | Kind::Urls | Kind::Origins | Kind::List | Kind::Choice(_) => one == other,
    }
}

/// Why `value` cannot be a value of `flag`, and what can be one.
pub(super) fn misfit(flag: &Flag, value: &str) -> Option<String> {
    let urls =
        || Url::parse_list(value).err().map(|error| format!("{error} (write http://HOST:PORT)"));
    match flag.kind {
        Kind::Text | Kind::List => None,
        Kind::Bool if parse_bool(value).is_some() => None,
        Kind::Bool => Some("parse error: write true or false".to_owned()),
        Kind::Number if parse_number(value).is_some() => None,
        Kind::Number => Some("parse error: write a whole number".to_owned()),
        Kind::Urls if value.is_empty() => None,
        Kind::Urls => urls(),
        Kind::Origins if value.is_empty() || value == "*" => None,
        Kind::Origins => urls(),
        Kind::Choice(words) if words.contains(&value) => None,
        Kind::Choice(words) => Some(format!("invalid value: write one of {}", words.join(", "))),
    }
}

/// What the command line wants beyond its flags.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A member.
    Run,
    /// The help, whatever else was to come.
    Help,
}

/// A word that is no flag, or a flag that is used wrongly.
fn misuse(text: &str) -> Failure {
    Failure::new(2, format!("{text}\nSee 'cairn --help'."))
}

/// Reads the command line, without the program's name. As in Go the first word that is no flag ends the flags; etcd
/// takes no such words.
pub(super) fn arguments(
    arguments: impl IntoIterator<Item = String>,
    raw: &mut Raw,
    notices: &mut Vec<Notice>,
) -> Result<Asked, Failure> {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let stray = match argument.as_str() {
            "--" => match arguments.next() {
                Some(word) => Some(word),
                None => return Ok(Asked::Run),
            },
            word if word == "-" || !word.starts_with('-') => Some(word.to_owned()),
            _ => None,
        };
        if let Some(word) = stray {
            return Err(Failure::verifying(format!("'{word}' is not a valid flag")));
        }
        let body = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        let body = body.expect("the word starts with a dash");
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(misuse(&format!("bad flag syntax: {argument}")));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if FORGOTTEN.contains(&name) {
            notices.push(forgotten(name));
            continue;
        }
        if matches!(name, "h" | "help") {
            return Ok(Asked::Help);
        }
        let Some(flag) = flags::find(name) else {
            return Err(misuse(&format!("flag provided but not defined: -{name}")));
        };
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => arguments
                .next()
                .ok_or_else(|| misuse(&format!("flag needs an argument: -{name}")))?,
        };
        if let Some(why) = misfit(flag, &value) {
            let what = if flag.kind == Kind::Bool {
                format!("invalid boolean value \"{value}\" for -{name}: {why}")
            } else {
                format!("invalid value \"{value}\" for flag -{name}: {why}")
            };
            return Err(misuse(&what));
        }
        raw.set(flag, value, Source::Flag);
    }
    Ok(Asked::Run)
}

/// What is said of a flag that etcd had before 2.0.
pub(super) fn forgotten(name: &str) -> Notice {
    let text = format!("flag \"-{name}\" is no longer supported - ignoring.");
    Notice { level: Level::Warning, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<(Raw, Vec<Notice>), Failure> {
        let (mut raw, mut notices) = (Raw::default(), Vec::new());
        arguments(words.iter().map(|word| (*word).to_owned()), &mut raw, &mut notices)?;
        Ok((raw, notices))
    }

    #[test]
    fn all_four_spellings_say_the_same() {
        for words in [&["-name=a"][..], &["--name=a"], &["-name", "a"], &["--name", "a"]] {
            assert_eq!(parse(words).unwrap().0.said("name"), Some("a"));
        }
    }

    #[test]
    fn a_value_may_look_like_a_flag_or_hold_an_equals_sign() {
        assert_eq!(parse(&["--name", "-x"]).unwrap().0.said("name"), Some("-x"));
        let (raw, _) = parse(&["--initial-cluster=a=http://b:1"]).unwrap();
        assert_eq!(raw.said("initial-cluster"), Some("a=http://b:1"));
    }

    #[test]
    fn the_last_of_two_wins_and_an_empty_value_was_said() {
        let (raw, _) = parse(&["--name=a", "--name=b", "--data-dir="]).unwrap();
        assert_eq!((raw.said("name"), raw.said("data-dir")), (Some("b"), Some("")));
    }

    #[test]
    fn help_ends_the_reading_but_not_what_was_wrong_before() {
        let ask = |words: [&str; 2]| {
            arguments(words.map(str::to_owned), &mut Raw::default(), &mut Vec::new())
        };
        assert_eq!(ask(["--help", "--nope"]), Ok(Asked::Help));
        assert_eq!(ask(["-h", "--nope"]), Ok(Asked::Help));
        assert_eq!(ask(["--nope", "--help"]).unwrap_err().code, 2);
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("0x64", Some(100)),
            ("0X6_4", Some(100)),
            ("0b11", Some(3)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("+5", None),
            ("-5", None),
            ("0x+5", None),
            ("", None),
            ("0x", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("08", None),
            ("5s", None),
            (" 5", None),
            ("٣", None),
        ] {
            assert_eq!(parse_number(text), number, "{text:?}");
        }
    }

    #[test]
    fn booleans_are_read_as_go_reads_them() {
        for yes in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(parse_bool(yes), Some(true));
        }
        for no in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(parse_bool(no), Some(false));
        }
        for neither in ["", "yes", "on", "tRUE", "2"] {
            assert_eq!(parse_bool(neither), None);
        }
    }
}
