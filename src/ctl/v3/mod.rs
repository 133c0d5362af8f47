//! `etcdctl` for the version 3 API: `ETCDCTL_API=3`.
//!
//! Owns: commands, their options, how answers look, exit codes, all as those of etcd's tool in release 3.4, which scripts depend
//! on. Never knows: the server; it asks any that speaks the API, through [`client`](crate::client).

mod commands;
mod format;
mod go;
mod parse;
mod settings;
mod tables;

use crate::client::Terms;
use crate::ctl::failure::{Failure, Said as What};
use crate::ctl::parse::Topic;
use crate::ctl::print::{self, note};
use crate::ctl::table::{self, V3};
use crate::ctl::{help, later};
use crate::rpc::status as texts;
use crate::rpc::{RangeRequest, Status};
use commands::keys;
use parse::{Asked, Misuse};
use settings::Settings;

/// Codes that the tool ends with for this version.
pub(in crate::ctl) mod code {
    /// Most errors.
    pub(in crate::ctl) const ERROR: u8 = 1;
    /// No connection, or not as this user.
    pub(in crate::ctl) const BAD_CONNECTION: u8 = 2;
    /// What was read cannot be understood.
    pub(in crate::ctl) const INVALID_INPUT: u8 = 3;
    /// There is no such format, order or size.
    pub(in crate::ctl) const BAD_FEATURE: u8 = 4;
    /// The server has ended it.
    pub(in crate::ctl) const INTERRUPTED: u8 = 5;
    /// Wrong arguments.
    pub(in crate::ctl) const BAD_ARGUMENTS: u8 = 128;
}

/// How a command failed, with the word that etcd's tool puts before it.
pub(in crate::ctl) fn error(code: u8, why: impl std::fmt::Display) -> Failure {
    Failure { code, said: Some(What::Line(format!("Error: {why}"))) }
}

/// What a server, or the way there, says to a question, in the words of etcd's client.
pub(in crate::ctl) fn words(status: &Status) -> String {
    let known = texts::ALL.iter().any(|known| known.text == status.text)
        || status.text.starts_with("etcdserver: ");
    if known { status.text.clone().into_owned() } else { status.nested() }
}

/// A question got no good answer.
pub(in crate::ctl) fn refused(status: &Status) -> Failure {
    let of_the_user = *status == texts::AUTH_FAILED;
    error(if of_the_user { code::BAD_CONNECTION } else { code::ERROR }, words(status))
}

/// Does what a command line says; returns the exit code.
pub(in crate::ctl) async fn run(
    program: &str,
    line: &[String],
    variables: &[(String, String)],
) -> u8 {
    let help = |topic| print::out(&help::text(program, &V3, topic));
    let done = match parse::line(line) {
        Ok(Asked::Do(line)) => match Settings::new(&line.said, variables) {
            Ok(settings) => Box::pin(commands::run(program, &line, &settings)).await,
            Err(failure) => Err(failure),
        },
        Ok(Asked::Help(topic)) => help(topic).map(|()| 0),
        Ok(Asked::NoTopic(word)) => {
            note(&format!("Unknown help topic [`{word}`]"));
            help(Topic::Tool).map(|()| 0)
        }
        Err(Misuse::Flag { why, topic }) => help(topic).and_then(|()| {
            // Twice: by who reads options, and by who ends.
            note(&format!("Error: {why}\n"));
            Err(error(code::ERROR, why))
        }),
        Err(Misuse::NoCommand(word)) => Err(no_command(program, &word)),
    };
    super::ended(done, false)
}

fn no_command(program: &str, word: &str) -> Failure {
    let meant = parse::meant(word);
    let mut why = format!("unknown command {word:?} for \"etcdctl\"");
    if !meant.is_empty() {
        why.push_str("\n\nDid you mean this?\n");
        meant.iter().for_each(|name| why.push_str(&format!("\t{name}\n")));
    }
    if table::V2.command(word).is_some() && V3.command(word).is_none() {
        note(&later::of_version_2(word));
    }
    note(&format!("Error: {why}\nRun '{program} --help' for usage."));
    error(code::ERROR, why)
}

/// Keys that begin so, for a shell that completes them.
pub(in crate::ctl) async fn keys_below(
    before: &[String],
    begin: &str,
    variables: &[(String, String)],
) -> Option<Vec<String>> {
    let Ok(Asked::Do(line)) = parse::line(before) else { return None };
    let settings = Settings::new(&line.said, variables).ok()?;
    if settings.asks_for_a_password() {
        // While a shell completes a word, no password can be typed.
        return None;
    }
    let client = settings.client().await.ok()?;
    let (key, range_end) = keys::prefix(begin);
    let request = RangeRequest {
        key,
        range_end,
        keys_only: true,
        limit: KEYS_SHOWN_MAX,
        ..Default::default()
    };
    let terms = Terms::within(settings.command_timeout());
    let found = client.ask(&request, terms).await.ok()?;
    let text = |kv: crate::rpc::KeyValue| String::from_utf8(kv.key.to_vec()).ok();
    Some(found.kvs.into_iter().filter_map(text).collect())
}

/// No shell shows more of them well.
const KEYS_SHOWN_MAX: i64 = 1000;
