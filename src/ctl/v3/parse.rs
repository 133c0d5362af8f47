//! Words → what was said, as the tool for version 3 reads them.
//!
//! Owns: how options are written there. Never knows: what commands do.
//!
//! Two dashes before a name, one before a letter; letters can stand together. Options may stand behind arguments, `--` ends them,
//! and where it stood is kept: what follows may be a program.

use crate::ctl::parse::{Said, Topic};
use crate::ctl::table::{self, Command, Flag, Group, Kind, V3};
use crate::ctl::values::{duration, number, switch};

/// A command line, understood.
#[derive(Debug)]
pub(in crate::ctl) struct Line {
    /// What is to be done.
    pub(in crate::ctl) command: &'static Command,
    /// Options, those of the tool itself too.
    pub(in crate::ctl) said: Said,
    /// What is not an option.
    pub(in crate::ctl) arguments: Vec<String>,
    /// How many of them stood before `--`, if there was one.
    pub(in crate::ctl) before_dashes: Option<usize>,
}

/// What a command line asks for.
#[derive(Debug)]
pub(in crate::ctl) enum Asked {
    /// To do something.
    Do(Line),
    /// The help.
    Help(Topic),
    /// The help, about a word that nothing is known of.
    NoTopic(String),
}

/// Why a command line cannot be understood.
#[derive(Debug)]
pub(in crate::ctl) enum Misuse {
    /// An option is unknown or has a wrong value; the help about this goes with it.
    Flag { why: String, topic: Topic },
    /// There is no such command.
    NoCommand(String),
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// See [`Misuse`].
pub(in crate::ctl) fn line(words: &[String]) -> Result<Asked, Misuse> {
    let Some(first) = first_argument(words, None) else { return tool_alone(words) };
    let mut rest = words.to_vec();
    let word = rest.remove(first);
    if word == "help" {
        return Ok(about(
            &rest.into_iter().filter(|word| !word.starts_with('-')).collect::<Vec<_>>(),
        ));
    }
    if let Some(group) = V3.groups.iter().find(|group| group.name == word) {
        return in_group(group, rest);
    }
    let command = V3.command(&word).filter(|_| !word.contains(' '));
    behind(command.ok_or(Misuse::NoCommand(word))?, &rest)
}

fn in_group(group: &'static Group, words: Vec<String>) -> Result<Asked, Misuse> {
    let mut rest = words;
    let inner = first_argument(&rest, Some(group)).and_then(|place| {
        V3.command(&format!("{} {}", group.name, rest[place])).map(|command| (place, command))
    });
    match inner {
        Some((place, command)) => {
            rest.remove(place);
            behind(command, &rest)
        }
        None => {
            let topic = Topic::Group(group);
            read(&rest, &[V3.globals, V3.help], &mut Said::default())
                .map_err(|why| Misuse::Flag { why, topic })?;
            Ok(Asked::Help(topic))
        }
    }
}

fn tool_alone(words: &[String]) -> Result<Asked, Misuse> {
    let topic = Topic::Tool;
    read(words, &[V3.globals, V3.help], &mut Said::default())
        .map_err(|why| Misuse::Flag { why, topic })?;
    Ok(Asked::Help(topic))
}

/// What the words behind `help` are about.
fn about(words: &[String]) -> Asked {
    let Some(word) = words.first() else { return Asked::Help(Topic::Tool) };
    let both = words.get(1).and_then(|second| V3.command(&format!("{word} {second}")));
    if let Some(command) = both.or_else(|| V3.command(word)) {
        return Asked::Help(Topic::Command(command));
    }
    match V3.groups.iter().find(|group| group.name == word) {
        Some(group) => Asked::Help(Topic::Group(group)),
        None => Asked::NoTopic(word.clone()),
    }
}

/// Where the first word stands that is neither an option nor the value of one. Of an option that is not known it cannot be told
/// whether it takes a value; like etcd's tool, this takes it that it does.
fn first_argument(words: &[String], group: Option<&Group>) -> Option<usize> {
    // An option of a group's commands may stand before the command too.
    let inner = |name: &str| {
        let commands = group.into_iter().flat_map(|group| V3.commands_of(group.name));
        commands.map(|(_, command)| command.flags).find_map(|flags| table::flag_of(flags, name))
    };
    let mut place = 0;
    while let Some(word) = words.get(place) {
        place += match word.strip_prefix("--") {
            Some("") => return None,
            Some(name) if !name.contains('=') => {
                let known = table::flag_of(V3.globals, name);
                let known = known.or(table::flag_of(V3.help, name)).or_else(|| inner(name));
                1 + usize::from(known.is_none_or(|flag| flag.kind != Kind::Switch))
            }
            Some(_) => 1,
            None if word.len() > 1 && word.starts_with('-') => {
                let flag = word.get(1..2).and_then(|name| table::flag_of(V3.globals, name));
                1 + usize::from(
                    word.len() == 2 && flag.is_some_and(|flag| flag.kind != Kind::Switch),
                )
            }
            None => return Some(place),
        };
    }
    None
}

fn behind(command: &'static Command, words: &[String]) -> Result<Asked, Misuse> {
    let topic = Topic::Command(command);
    let mut said = Said::default();
    let flags = [command.flags, V3.globals, V3.help];
    let (arguments, before_dashes) =
        read(words, &flags, &mut said).map_err(|why| Misuse::Flag { why, topic })?;
    if said.is_on("help") {
        return Ok(Asked::Help(topic));
    }
    Ok(Asked::Do(Line { command, said, arguments, before_dashes }))
}

/// Options and arguments of a command that stands inside of another's input, as in a transaction.
///
/// # Errors
/// What is wrong.
pub(in crate::ctl) fn inner(
    command: &'static Command,
    words: &[String],
) -> Result<(Said, Vec<String>, Option<usize>), String> {
    let mut said = Said::default();
    let (arguments, before_dashes) = read(words, &[command.flags], &mut said)?;
    Ok((said, arguments, before_dashes))
}

/// Takes the options out; returns the arguments, and how many stood before `--`.
fn read(
    words: &[String],
    flags: &[&'static [Flag]],
    said: &mut Said,
) -> Result<(Vec<String>, Option<usize>), String> {
    let (mut arguments, mut rest) = (Vec::new(), words);
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        if word == "--" {
            let before = arguments.len();
            arguments.extend_from_slice(rest);
            return Ok((arguments, Some(before)));
        }
        if let Some(body) = word.strip_prefix("--") {
            rest = long(body, after, flags, said)?;
        } else if word.len() > 1 && word.starts_with('-') {
            rest = short(&word[1..], after, flags, said)?;
        } else {
            arguments.push(word.clone());
        }
    }
    Ok((arguments, None))
}

fn find(flags: &[&'static [Flag]], name: &str) -> Option<&'static Flag> {
    flags.iter().find_map(|flags| table::flag_of(flags, name))
}

fn long<'a>(
    body: &str,
    after: &'a [String],
    flags: &[&'static [Flag]],
    said: &mut Said,
) -> Result<&'a [String], String> {
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: --{body}"));
    }
    let Some(flag) = find(flags, name).filter(|_| name.len() > 1) else {
        return Err(format!("unknown flag: --{name}"));
    };
    let (value, rest) = match (value, flag.kind, after.split_first()) {
        (Some(value), _, _) => (value.to_owned(), after),
        (None, Kind::Switch, _) => ("true".to_owned(), after),
        (None, _, Some((value, rest))) => (value.clone(), rest),
        (None, _, None) => return Err(format!("flag needs an argument: --{name}")),
    };
    set(flag, value, said)?;
    Ok(rest)
}

/// Letters behind one dash: switches, the last perhaps with a value, which may stand right behind it.
fn short<'a>(
    body: &str,
    after: &'a [String],
    flags: &[&'static [Flag]],
    said: &mut Said,
) -> Result<&'a [String], String> {
    for (place, letter) in body.char_indices() {
        let name = letter.to_string();
        let Some(flag) = find(flags, &name) else {
            return Err(format!("unknown shorthand flag: {letter:?} in -{}", &body[place..]));
        };
        let behind = &body[place + letter.len_utf8()..];
        if let Some(value) = behind.strip_prefix('=') {
            set(flag, value.to_owned(), said)?;
            return Ok(after);
        }
        if flag.kind == Kind::Switch {
            set(flag, "true".to_owned(), said)?;
            continue;
        }
        if !behind.is_empty() {
            set(flag, behind.to_owned(), said)?;
            return Ok(after);
        }
        let Some((value, rest)) = after.split_first() else {
            return Err(format!("flag needs an argument: {letter:?} in -{}", &body[place..]));
        };
        set(flag, value.clone(), said)?;
        return Ok(rest);
    }
    Ok(after)
}

fn set(flag: &'static Flag, value: String, said: &mut Said) -> Result<(), String> {
    let why = match flag.kind {
        Kind::Switch if switch(&value).is_none() => {
            Some(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))
        }
        Kind::Number if number(&value).is_none() => {
            Some(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
        }
        Kind::Duration if duration(&value).is_none() => Some(not_a_duration(&value)),
        Kind::Switch
        | Kind::Number
        | Kind::Duration
        | Kind::Text
        | Kind::Texts
        | Kind::File
        | Kind::Choice(_) => None,
    };
    if let Some(why) = why {
        let name = match flag.names {
            [long, letter] => format!("-{letter}, --{long}"),
            names => format!("--{}", names[0]),
        };
        return Err(format!("invalid argument {value:?} for \"{name}\" flag: {why}"));
    }
    said.add(flag, value);
    Ok(())
}

fn not_a_duration(value: &str) -> String {
    let unit =
        !value.is_empty() && value.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    let what = if unit { "missing unit in" } else { "invalid" };
    format!("time: {what} duration {value:?}")
}

/// Commands and groups that a mistyped word may have meant.
pub(in crate::ctl) fn meant(word: &str) -> Vec<&'static str> {
    // The manual page is our own.
    let single = V3.commands_of("").map(|(name, _)| name).filter(|name| *name != "man");
    let mut known: Vec<_> = single.chain(V3.groups.iter().map(|group| group.name)).collect();
    known.sort_unstable();
    let word = word.to_lowercase();
    known.retain(|name| distance(&word, name) <= DISTANCE_MAX || name.starts_with(&word));
    known
}

/// Letters that are wrong, missing or too many, for a word to be taken for another.
const DISTANCE_MAX: usize = 2;

/// How many letters have to be changed, added or taken away to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = place + 1;
        for (column, wanted) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
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

    #[test]
    fn options_stand_anywhere() {
        for text in [
            "get a b --limit 5 -w json",
            "--limit=5 get -w=json a b",
            "get -wjson --limit 5 a -- b",
            "--write-out json get a b --limit=0x5",
        ] {
            let line = understood(text);
            assert_eq!(line.said.number("limit"), 5, "{text}");
            assert_eq!(line.said.text("write-out"), Some("json"), "{text}");
            assert_eq!(line.arguments, ["a", "b"], "{text}");
        }
        assert_eq!(understood("watch --rev 2 a -- sh -c x").before_dashes, Some(1));
        assert_eq!(understood("endpoint --cluster health").command.name, "endpoint health");
        assert_eq!(understood("elect -l a").command.name, "elect");
        assert!(understood("elect -l a").said.is_on("listen"));
    }

    #[test]
    fn what_is_wrong_is_said_as_in_etcds_tool() {
        for (text, expected) in [
            ("get --foo", "unknown flag: --foo"),
            ("get -x", "unknown shorthand flag: 'x' in -x"),
            ("put k -v", "unknown shorthand flag: 'v' in -v"),
            (
                "get k --rev x",
                "invalid argument \"x\" for \"--rev\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("get k --limit", "flag needs an argument: --limit"),
            (
                "get a --command-timeout 5",
                "invalid argument \"5\" for \"--command-timeout\" flag: time: missing unit in duration \"5\"",
            ),
            (
                "get a --dial-timeout x",
                "invalid argument \"x\" for \"--dial-timeout\" flag: time: invalid duration \"x\"",
            ),
        ] {
            match read(text) {
                Err(Misuse::Flag { why, .. }) => assert_eq!(why, expected, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(read("foo"), Err(Misuse::NoCommand(word)) if word == "foo"));
        assert!(matches!(read("--foo get a"), Err(Misuse::NoCommand(word)) if word == "a"));
        assert_eq!(meant("a"), ["alarm", "auth"]);
        assert_eq!(meant("gte"), ["get"]);
    }

    #[test]
    fn help_is_about_what_was_named() {
        for text in ["", "help", "-h", "--help", "--endpoints x"] {
            assert!(matches!(read(text), Ok(Asked::Help(Topic::Tool))), "{text}");
        }
        for text in ["endpoint", "endpoint foo", "help member", "member -h"] {
            assert!(matches!(read(text), Ok(Asked::Help(Topic::Group(_)))), "{text}");
        }
        for text in ["get -h", "help get", "help member add", "member add --help"] {
            assert!(matches!(read(text), Ok(Asked::Help(Topic::Command(_)))), "{text}");
        }
        assert!(matches!(read("help foo"), Ok(Asked::NoTopic(_))));
    }
}
