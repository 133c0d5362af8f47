//! `etcdctl`: the command line tool, for the version 2 API and, in `v3`, for version 3.
//!
//! Owns: commands, their options, how answers look, exit codes, all as those of etcd's tool, which scripts depend on. Never knows:
//! the server; it asks any that speaks the API, and has its own picture of what answers look like.
#![doc = include_str!("DESIGN.md")]

mod client;
mod commands;
mod completion;
mod failure;
mod help;
mod keys;
mod later;
mod man;
mod parse;
mod print;
mod scheme;
mod settings;
mod table;
mod terminal;
mod v3;
mod values;
mod watch;
mod wire;

use std::future::pending;

use crate::model::ETCD_VERSION;
use failure::{Failure, code};
use parse::{Asked, Line, Misuse, Topic};
use print::{Format, note};
use settings::Settings;
use table::{Action, OnKeys, V2};
use tokio::signal::unix::{SignalKind, signal};

/// As a shell counts a program that SIGTERM has ended.
const TERMINATED: u8 = 143;

/// Does what a command line says; `program` is the name the tool was called under, `words` what follows it. Returns the exit code.
pub async fn run(program: &str, words: &[String], variables: &[(String, String)]) -> u8 {
    if let [question, rest @ ..] = words
        && question == completion::QUESTION
    {
        return ended(print::out(&completion::answer(rest, variables).await).map(|()| 0), false);
    }
    let api = variables.iter().find(|(name, _)| name == table::API_VARIABLE);
    match api.map(|(_, value)| value.as_str()) {
        None | Some("" | "2") => {}
        Some("3") => return v3::run(program, words, variables).await,
        Some(other) => {
            note(&format!("unsupported API version {other}"));
            return code::BAD_ARGUMENTS;
        }
    }
    match parse::line(words) {
        Ok(Asked::Do(line)) => {
            let settings = Settings::new(&line.said, variables);
            let done = until_interrupted(program, &line, &settings).await;
            let asked = if let Err(failure) = &done { failure.error().cloned() } else { None };
            let code = ended(done, settings.json_errors);
            if let Some(error) = asked {
                scheme::hint(&settings.named_endpoints(), &error).await;
            }
            code
        }
        Ok(Asked::Help(topic)) => {
            ended(print::out(&help::text(program, &V2, topic)).map(|()| 0), false)
        }
        Ok(Asked::Version) => {
            let own = env!("CARGO_PKG_VERSION");
            let text =
                format!("etcdctl version: {ETCD_VERSION}\nAPI version: 2\ncairn version: {own}\n");
            ended(print::out(&text).map(|()| 0), false)
        }
        Err(misuse) => misused(program, misuse),
    }
}

fn misused(program: &str, misuse: Misuse) -> u8 {
    match misuse {
        Misuse::NoCommand(word) => {
            note(&format!("No help topic for '{word}'"));
            if let Some(hint) = later::command(&word) {
                note(&hint);
            }
            code::NO_COMMAND
        }
        Misuse::Flag { why, topic } => {
            let dot = if matches!(topic, Topic::Tool) { "." } else { ":" };
            let text = format!("Incorrect Usage{dot} {why}\n\n{}", help::text(program, &V2, topic));
            let shown = print::out(&text);
            note(&why);
            ended(shown.map(|()| code::BAD_ARGUMENTS), false)
        }
    }
}

/// Says how it failed, if it did.
fn ended(result: Result<u8, Failure>, json: bool) -> u8 {
    match result {
        Ok(code) => code,
        Err(failure) => {
            if let Some(text) = failure.text(json) {
                note(text.strip_suffix('\n').unwrap_or(&text));
            }
            failure.code
        }
    }
}

/// Commands that go on until someone ends them do so without an error.
async fn until_interrupted(program: &str, line: &Line, settings: &Settings) -> Result<u8, Failure> {
    if let Some(Format::Unknown(name)) = &settings.list_format {
        return Err(Failure::line(format!("--write-out {name:?}: choose table or json")));
    }
    let action = line.command.action;
    let watches = [OnKeys::Watch, OnKeys::ExecWatch].map(Action::Keys).contains(&action);
    let endless = watches || (action == Action::ClusterHealth && line.said.is_on("forever"));
    let work = Box::pin(commands::run(program, line, settings));
    if !endless {
        return work.await;
    }
    tokio::select! {
        done = work => done,
        () = signalled(SignalKind::interrupt()) => Ok(0),
        // The first process of a container gets it only if it asks for it.
        () = signalled(SignalKind::terminate()) => Ok(TERMINATED),
    }
}

async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => pending().await,
    }
}
