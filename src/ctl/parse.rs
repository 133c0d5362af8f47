//! Words → what was said: which command, its options, its arguments.
//!
//! Owns: how options are written. Never knows: what commands do, the environment.
//!
//! One dash or two, `--name value` or `--name=value`. Options may stand behind arguments, and `--` ends them. A word with a dash
//! that names no option is an argument if one came before it, so that `set /key -5` does what it says; where the command takes no
//! further argument it is taken for a mistyped option.

use std::collections::BTreeMap;

use crate::ctl::later;
use crate::ctl::table::{self, ALWAYS, Command, Flag, GLOBALS, GROUPS, Group, HELP, Kind};
use crate::ctl::values::{duration, number, switch};

/// Values of options, by the first name of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Said {
    pub(super) fn add(&mut self, flag: &'static Flag, value: String) {
        self.values.entry(flag.names[0]).or_default().push(value);
    }

    /// The last value that was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(|all| all.last()).map(String::as_str)
    }

    /// All that were given.
    pub(super) fn texts(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Is this switch on?
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.text(name).and_then(switch).unwrap_or(false)
    }

    /// A number; 0 when none was given.
    pub(super) fn number(&self, name: &str) -> i64 {
        self.text(name).and_then(number).unwrap_or(0)
    }
}

/// A command line, understood.
#[derive(Debug)]
pub(super) struct Line {
    /// What is to be done.
    pub(super) command: &'static Command,
    /// Options, those of the tool itself too.
    pub(super) said: Said,
    /// What is not an option. A lone `--` is among them only for `exec-watch`, which needs to know where it stood.
    pub(super) arguments: Vec<String>,
}

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To do something.
    Do(Line),
    /// The version.
    Version,
    /// The help of the tool, of a group or of a command.
    Help(Topic),
}

/// What help is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Topic {
    /// All of it.
    Tool,
    /// A group of commands.
    Group(&'static Group),
    /// A command.
    Command(&'static Command),
}

/// Why a command line cannot be understood.
#[derive(Debug)]
pub(super) enum Misuse {
    /// An option is unknown or has a wrong value; the help about this goes with it.
    Flag {
        /// What is wrong.
        why: String,
        /// What was being read.
        topic: Topic,
    },
    /// There is no such command.
    NoCommand(String),
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// See [`Misuse`].
pub(super) fn line(words: &[String]) -> Result<Asked, Misuse> {
    let mut said = Said::default();
    let rest = options(words, &[GLOBALS, ALWAYS], &mut said)
        .map_err(|why| Misuse::Flag { why, topic: Topic::Tool })?;
    if said.is_on("help") {
        return Ok(Asked::Help(Topic::Tool));
    }
    if said.is_on("version") {
        return Ok(Asked::Version);
    }
    let Some((word, rest)) = rest.split_first() else { return Ok(Asked::Help(Topic::Tool)) };
    if is_help(word) {
        return topic(rest).map(Asked::Help);
    }
    if let Some(group) = GROUPS.iter().find(|group| group.name == word) {
        return in_group(group, rest, said);
    }
    let command = table::command_of(word).filter(|_| !word.contains(' '));
    behind_command(command.ok_or_else(|| Misuse::NoCommand(word.clone()))?, rest, said)
}

fn in_group(group: &'static Group, words: &[String], mut said: Said) -> Result<Asked, Misuse> {
    let rest = options(words, &[GLOBALS, ALWAYS], &mut said)
        .map_err(|why| Misuse::Flag { why, topic: Topic::Group(group) })?;
    let Some((word, rest)) = rest.split_first().filter(|_| !said.is_on("help")) else {
        return Ok(Asked::Help(Topic::Group(group)));
    };
    let command = |word: &String| table::command_of(&format!("{} {word}", group.name));
    if is_help(word) {
        return Ok(Asked::Help(match rest.first() {
            None => Topic::Group(group),
            Some(word) => {
                Topic::Command(command(word).ok_or_else(|| Misuse::NoCommand(word.clone()))?)
            }
        }));
    }
    behind_command(command(word).ok_or_else(|| Misuse::NoCommand(word.clone()))?, rest, said)
}

fn is_help(word: &str) -> bool {
    matches!(word, "help" | "h")
}

/// What the words behind `help` are about.
fn topic(words: &[String]) -> Result<Topic, Misuse> {
    let Some(word) = words.first() else { return Ok(Topic::Tool) };
    let both = words.get(1).and_then(|second| table::command_of(&format!("{word} {second}")));
    if let Some(command) = both.or_else(|| table::command_of(word)) {
        return Ok(Topic::Command(command));
    }
    let group = GROUPS.iter().find(|group| group.name == word);
    group.map(Topic::Group).ok_or_else(|| Misuse::NoCommand(word.clone()))
}

/// Options before the first argument; returns what follows them.
fn options<'a>(
    words: &'a [String],
    flags: &[&'static [Flag]],
    said: &mut Said,
) -> Result<&'a [String], String> {
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        if word == "--" {
            return Ok(after);
        }
        if !is_option(word) {
            break;
        }
        rest = option(word, after, flags, said)?;
    }
    Ok(rest)
}

fn behind_command(
    command: &'static Command,
    words: &[String],
    mut said: Said,
) -> Result<Asked, Misuse> {
    // The version is asked for before a command; behind it, `-v` is a value that someone sets.
    let flags = [command.flags, GLOBALS, HELP];
    let fail = |why| Misuse::Flag { why, topic: Topic::Command(command) };
    let keeps_dashes = command.arguments_max().is_none();
    let (mut arguments, mut rest) = (Vec::<String>::new(), words);
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        if word == "--" {
            if keeps_dashes && !arguments.is_empty() {
                arguments.push(word.clone());
            }
            arguments.extend_from_slice(rest);
            break;
        }
        let known = is_option(word) && flags.iter().any(|flags| find(flags, word).is_some());
        let full = command.arguments_max().is_some_and(|max| arguments.len() >= max);
        match is_option(word) && (known || arguments.is_empty() || full) {
            true => rest = option(word, after, &flags, &mut said).map_err(fail)?,
            false => arguments.push(word.clone()),
        }
    }
    if said.is_on("help") {
        return Ok(Asked::Help(Topic::Command(command)));
    }
    Ok(Asked::Do(Line { command, said, arguments }))
}

/// A dash alone is none: it is often a file.
fn is_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// The name in a word such as `--name=value`, and the value in it.
fn parts(word: &str) -> (&str, Option<&str>) {
    let body = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).unwrap_or(word);
    match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    }
}

fn find(flags: &'static [Flag], word: &str) -> Option<&'static Flag> {
    table::flag_of(flags, parts(word).0)
}

/// Reads one option; returns what follows it and its value.
fn option<'a>(
    word: &str,
    after: &'a [String],
    flags: &[&'static [Flag]],
    said: &mut Said,
) -> Result<&'a [String], String> {
    let (name, value) = parts(word);
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: {word}"));
    }
    let Some(flag) = flags.iter().find_map(|flags| find(flags, word)) else {
        let hint = later::flag(name).map(|hint| format!(" ({hint})")).unwrap_or_default();
        return Err(format!("flag provided but not defined: -{name}{hint}"));
    };
    let (value, rest) = match (value, flag.kind, after.split_first()) {
        (Some(value), _, _) => (value.to_owned(), after),
        (None, Kind::Switch, _) => ("true".to_owned(), after),
        (None, _, Some((value, rest))) => (value.clone(), rest),
        (None, _, None) => return Err(format!("flag needs an argument: -{name}")),
    };
    let fits = match flag.kind {
        Kind::Switch => switch(&value).is_some(),
        Kind::Number => number(&value).is_some(),
        Kind::Duration => duration(&value).is_some(),
        Kind::Text | Kind::Texts | Kind::File | Kind::Choice(_) => true,
    };
    if !fits {
        let what = if flag.kind == Kind::Switch { "boolean value" } else { "value" };
        let of = if flag.kind == Kind::Switch { "for" } else { "for flag" };
        return Err(format!("invalid {what} {value:?} {of} -{name}: parse error"));
    }
    said.add(flag, value);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Asked, Misuse> {
        line(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn understood(text: &str) -> Line {
        match read(text) {
            Ok(Asked::Do(line)) => line,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn why(text: &str) -> String {
        match read(text) {
            Err(Misuse::Flag { why, .. }) => why,
            Err(Misuse::NoCommand(word)) => format!("no {word}"),
            Ok(asked) => panic!("{text}: {asked:?}"),
        }
    }

    #[test]
    fn options_stand_before_and_behind_arguments() {
        for text in [
            "set --ttl 50 /k v",
            "set /k v --ttl 50",
            "set /k --ttl=50 v",
            "set -ttl 50 -- /k v",
            "set /k --ttl 50 -- v",
            "--debug=false -- set /k v -ttl=0x32",
        ] {
            let line = understood(text);
            assert_eq!(line.said.number("ttl"), 50, "{text}");
            assert_eq!(line.arguments, ["/k", "v"], "{text}");
        }
        assert!(understood("ls --recursive --debug").said.is_on("debug"));
        assert_eq!(understood("member list -C http://a:1").said.text("peers"), Some("http://a:1"));
        assert!(understood("ls -r").said.is_on("recursive"));
        assert!(!understood("ls -r=false").said.is_on("recursive"));
    }

    #[test]
    fn values_may_begin_with_a_dash() {
        for text in ["set /k -5", "set -- /k -5", "set /k -- -5", "set --ttl 0 /k -5"] {
            assert_eq!(understood(text).arguments, ["/k", "-5"], "{text}");
        }
        assert_eq!(understood("set /k -v").arguments, ["/k", "-v"]);
        assert_eq!(understood("import -").arguments, ["-"]);
        assert_eq!(
            understood("set /k v --swap-with-value -5").said.text("swap-with-value"),
            Some("-5")
        );
    }

    #[test]
    fn a_mistyped_option_is_no_argument() {
        for (text, expected) in [
            ("ls --foo", "flag provided but not defined: -foo"),
            ("ls --version", "flag provided but not defined: -version"),
            ("rm /k --recusive", "flag provided but not defined: -recusive"),
            ("set /k v -foo=1", "flag provided but not defined: -foo"),
            ("--foo ls", "flag provided but not defined: -foo"),
            (
                "get --prefix /",
                "flag provided but not defined: -prefix (`prefix` is of the version 3 API: set ETCDCTL_API=3 to use that; version 2 has `ls --recursive`)",
            ),
            ("set /k v --ttl x", "invalid value \"x\" for flag -ttl: parse error"),
            ("set /k v --ttl", "flag needs an argument: -ttl"),
            ("ls -r=maybe", "invalid boolean value \"maybe\" for -r: parse error"),
            ("--timeout 5 ls", "invalid value \"5\" for flag -timeout: parse error"),
            ("ls ---r", "bad flag syntax: ---r"),
            ("frob", "no frob"),
            ("member frob", "no frob"),
            ("help frob", "no frob"),
        ] {
            assert_eq!(why(text), expected, "{text}");
        }
    }

    #[test]
    fn exec_watch_keeps_the_dashes_that_follow_the_key() {
        for text in ["exec-watch -r /k -- sh -c x", "exec-watch /k -r -- sh -c x"] {
            let line = understood(text);
            assert!(line.said.is_on("recursive"), "{text}");
            assert_eq!(line.arguments, ["/k", "--", "sh", "-c", "x"], "{text}");
        }
        assert_eq!(understood("exec-watch -- echo /k").arguments, ["echo", "/k"]);
    }

    #[test]
    fn help_is_about_what_was_named() {
        for text in ["", "help", "h", "-h", "--help ls"] {
            assert!(matches!(read(text), Ok(Asked::Help(Topic::Tool))), "{text}");
        }
        for text in ["member", "member -h", "help member", "member help"] {
            assert!(matches!(read(text), Ok(Asked::Help(Topic::Group(_)))), "{text}");
        }
        for text in ["ls -h", "help ls", "member add --help", "help member add", "user help add"] {
            assert!(matches!(read(text), Ok(Asked::Help(Topic::Command(_)))), "{text}");
        }
        assert!(matches!(read("-v"), Ok(Asked::Version)));
    }
}
