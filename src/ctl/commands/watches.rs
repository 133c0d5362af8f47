//! `watch` and `exec-watch`.
//!
//! Owns: what is done with each event. Never knows: how none is lost.

use std::process::Stdio;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::ctl::client::Client;
use crate::ctl::commands::Job;
use crate::ctl::failure::{Failure, code};
use crate::ctl::print::{self, note};
use crate::ctl::watch::Watch;
use crate::ctl::wire::Event;

/// Programs that run at once; further events wait with the members until one has ended.
const PROGRAMS_MAX: usize = 64;

/// `watch`
pub(super) async fn watch(job: &Job<'_>, client: &mut Client) -> Result<(), Failure> {
    let (forever, recursive) = (job.said.is_on("forever"), job.said.is_on("recursive"));
    let mut watch = Watch::new(job.key()?, recursive, after(job), forever);
    loop {
        let event = next(&mut watch, client).await?;
        if event.node.dir {
            continue;
        }
        // What was asked for by this tool's own option is JSON alone.
        if recursive && job.settings.list_format.is_none() {
            print::out(&format!("[{}] {}\n", event.action, event.node.key))?;
        }
        print::event(&event, &job.settings.format)?;
        if !forever {
            return Ok(());
        }
    }
}

fn after(job: &Job<'_>) -> u64 {
    job.said.number("after-index").cast_unsigned()
}

async fn next(watch: &mut Watch, client: &mut Client) -> Result<Event, Failure> {
    watch.next(client).await.map_err(|error| Failure::keys(code::SERVER, error))
}

/// The key and the program with its arguments.
fn key_and_program(arguments: &[String]) -> Option<(&str, &[String])> {
    let (key, program) = match arguments.iter().skip(1).position(|word| word == "--") {
        Some(_) => match arguments {
            [key, dashes, program @ ..] if dashes == "--" => (key, program),
            // Options of the program came before the dashes; there is no telling what they belong to.
            _ => return None,
        },
        None => arguments.split_last()?,
    };
    (!program.is_empty()).then_some((key.as_str(), program))
}

/// `exec-watch`
pub(super) async fn exec_watch(job: &Job<'_>, client: &mut Client) -> Result<(), Failure> {
    let Some((key, program)) = key_and_program(job.arguments) else {
        return Err(Failure::missing("key and command to exec required"));
    };
    let mut watch = Watch::new(key, job.said.is_on("recursive"), after(job), true);
    let places = Arc::new(Semaphore::new(PROGRAMS_MAX));
    loop {
        let event = next(&mut watch, client).await?;
        if event.node.dir {
            note(&format!("Ignored dir {} change", event.node.key));
            continue;
        }
        if places.available_permits() == 0 {
            note(&format!(
                "exec-watch: {PROGRAMS_MAX} programs are running; waiting for one to end"
            ));
        }
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
        let mut command = std::process::Command::new(&program[0]);
        command.args(&program[1..]).stdin(Stdio::null());
        command
            .env("ETCD_WATCH_ACTION", &event.action)
            .env("ETCD_WATCH_MODIFIED_INDEX", event.node.modified_index.to_string())
            .env("ETCD_WATCH_KEY", &event.node.key)
            .env("ETCD_WATCH_VALUE", without_zeros(&event.node.value));
        let mut child = command
            .spawn()
            .map_err(|error| Failure::line(format!("exec: {:?}: {error}", program[0])))?;
        // A thread for each: what runs programs with the runtime would need one more signal and more of the library.
        tokio::task::spawn_blocking(move || {
            let _ = child.wait();
            drop(place);
        });
    }
}

/// No variable of the environment can hold a zero byte; with one the program could not be run at all.
fn without_zeros(value: &str) -> String {
    if value.contains('\0') {
        note("exec-watch: the value has zero bytes, which no variable can hold; they are left out");
    }
    value.replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_first_before_dashes_and_last_without() {
        let parts = |text: &str| {
            let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
            key_and_program(&words).map(|(key, program)| format!("{key}: {}", program.join(" ")))
        };
        assert_eq!(parts("/k -- sh -c x -- y"), Some("/k: sh -c x -- y".to_owned()));
        assert_eq!(parts("echo a /k"), Some("/k: echo a".to_owned()));
        for text in ["", "/k", "/k --", "/k sh -- x"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
