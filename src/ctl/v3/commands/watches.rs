//! `watch`: from the command line, or line by line.
//!
//! Owns: what is done with each event. Never knows: how none is lost.

use std::io::BufRead as _;
use std::process::Stdio;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::ctl::failure::Failure;
use crate::ctl::parse::Said;
use crate::ctl::print::{self, note};
use crate::ctl::table::V3;
use crate::ctl::v3::commands::keys;
use crate::ctl::v3::commands::watching::{Watching, progress_question};
use crate::ctl::v3::commands::{Job, Signals, execute, wrong};
use crate::ctl::v3::format::{Format, Printer, event_fields, head, kind};
use crate::ctl::v3::{code, error, go, parse, words};
use crate::rpc::json::write_go;
use crate::rpc::status::COMPACTED;
use crate::rpc::{Event, WatchCreateRequest, WatchRequest, WatchResponse};

/// Lines of input that wait until the watch before has been opened.
const LINES: usize = 1;
/// Watches that were opened since the loop last looked; one more is not asked for its progress.
const OPENED: usize = 64;
/// Where questions for progress go; one for each watch that is open.
type Progress = Vec<mpsc::Sender<WatchRequest>>;

/// What one watch is about, and what is run for its events.
#[derive(Clone, Debug)]
struct Plan {
    request: WatchCreateRequest,
    program: Vec<String>,
}

/// The environment, as far as it says what to watch.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Plan {
    /// From options and arguments; key and end may stand in the environment instead.
    fn new(
        said: &Said,
        arguments: &[String],
        before_dashes: Option<usize>,
        interactive: bool,
    ) -> Result<Self, String> {
        const NUMBER: &str = "bad number of arguments";
        let (before, program) = arguments.split_at(before_dashes.unwrap_or(arguments.len()));
        let key = variable("ETCDCTL_WATCH_KEY").filter(|_| !interactive);
        let end = variable("ETCDCTL_WATCH_RANGE_END").filter(|_| !interactive);
        if before_dashes.is_some() && program.is_empty() {
            return Err(format!("{NUMBER} (found separator --, but no commands)"));
        }
        let (key, end) = match (before, key) {
            ([], Some(key)) => (key, end),
            ([_, ..], Some(_)) => {
                return Err(format!("{NUMBER} (found conflicting environment key)"));
            }
            ([], None) => return Err(NUMBER.to_owned()),
            ([key, rest @ ..], None) => (key.clone(), rest.first().cloned()),
        };
        let prefix = said.is_on("prefix");
        let (key, range_end) = match end {
            Some(_) if prefix => {
                return Err("`range_end` and `--prefix` are mutually exclusive".to_owned());
            }
            Some(end) => (key.into(), end.into()),
            None if prefix => keys::prefix(&key),
            None => (key.into(), bytes::Bytes::new()),
        };
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision: said.number("rev"),
            prev_kv: said.is_on("prev-kv"),
            ..WatchCreateRequest::default()
        };
        Ok(Self { request, program: program.to_vec() })
    }
}

pub(super) async fn run(job: &Job<'_>) -> Result<u8, Failure> {
    let mut signals = Signals::new();
    let work = async {
        match job.said.is_on("interactive") {
            true => interactive(job).await,
            false => from_line(job).await,
        }
    };
    tokio::select! {
        done = work => done.map(|()| 0),
        code = signals.next() => Ok(code),
    }
}

async fn from_line(job: &Job<'_>) -> Result<(), Failure> {
    let plan = Plan::new(job.said, job.arguments, job.before_dashes, false);
    let plan = plan.map_err(|why| wrong(&why))?;
    let (client, printer) = job.client().await?;
    let mut watching = Watching::new(plan.request);
    follow(&client, &printer, &mut watching, &plan.program, |_| {}).await?;
    Err(error(code::INTERRUPTED, "watch is canceled by the server"))
}

/// Prints what a watcher sees until the server ends it.
async fn follow(
    client: &Client,
    printer: &Printer,
    watching: &mut Watching,
    program: &[String],
    mut opened: impl FnMut(mpsc::Sender<WatchRequest>),
) -> Result<(), Failure> {
    let mut known = None;
    loop {
        let next = watching.next(client).await;
        if let Some(progress) = watching.progress()
            && !known.as_ref().is_some_and(|known: &mpsc::Sender<_>| known.same_channel(&progress))
        {
            opened(progress.clone());
            known = Some(progress);
        }
        let answer = match next {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(()),
            Err(status) => {
                note(&format!("watch was canceled ({})", words(&status)));
                return Ok(());
            }
        };
        if answer.canceled {
            let why = match answer.compact_revision {
                0 => answer.cancel_reason.clone(),
                _ => COMPACTED.text.into_owned(),
            };
            note(&format!("watch was canceled ({why})"));
        } else if answer.events.is_empty() {
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            print::out(&format!("progress notify: {revision}\n"))?;
        }
        print_answer(printer, &answer)?;
        if !program.is_empty() {
            for event in &answer.events {
                run_for(program, &answer, event).await?;
            }
        }
    }
}

async fn run_for(program: &[String], answer: &WatchResponse, event: &Event) -> Result<(), Failure> {
    let kv = event.kv.clone().unwrap_or_default();
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    let variables = [
        ("ETCD_WATCH_REVISION", revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", go::quoted(kind(event).as_bytes())),
        ("ETCD_WATCH_KEY", go::quoted(&kv.key)),
        ("ETCD_WATCH_VALUE", go::quoted(&kv.value)),
    ];
    // Our own input may be lines that say what to watch next.
    execute(program, &variables, Stdio::null()).await.map_err(|why| {
        note(&format!("command {} error ({why})", go::quoted_list(program)));
        Failure::code(code::ERROR)
    })
}

fn print_answer(printer: &Printer, answer: &WatchResponse) -> Result<(), Failure> {
    match printer.format {
        Format::Simple => {
            let mut text = Vec::new();
            answer.events.iter().for_each(|event| printer.event(&mut text, event));
            print::out_bytes(&text)
        }
        Format::Json => {
            let texts = |bytes: Vec<u8>| String::from_utf8(bytes).expect("JSON is text");
            let events: Vec<_> = answer.events.iter().map(|event| texts(write_go(event))).collect();
            let header = texts(answer.header.as_ref().map(write_go).unwrap_or(b"{}".to_vec()));
            print::out(&format!(
                "{{\"Header\":{header},\"Events\":[{}],\"CompactRevision\":{},\"Canceled\":{},\"Created\":{}}}\n",
                events.join(","),
                json!(answer.compact_revision),
                answer.canceled,
                answer.created
            ))
        }
        Format::Fields => {
            let mut text = String::new();
            head(&mut text, answer.header.as_ref());
            event_fields(&mut text, &answer.events);
            print::out(&text)
        }
        Format::Protobuf => {
            // As etcd's tool makes it anew from what its client hands out.
            printer.protobuf(&WatchResponse { watch_id: 0, ..answer.clone() })
        }
        Format::Table => Err(printer.format.unsupported()),
    }
}

/// One line of `watch -i`.
enum Command {
    Watch(Plan),
    Progress,
}

fn command(line: &str) -> Result<Command, String> {
    let invalid = |why: &str| format!("Invalid command {line} ({why})");
    let words = go::words(line).map_err(|why| invalid(&why))?;
    match words.as_slice() {
        [] => Err(format!("Invalid command: {line} (watch and progress supported)")),
        [word] if word == "progress" => Ok(Command::Progress),
        [word, ..] if word != "watch" => Err(invalid("only support watch")),
        [_] => Err(invalid("command type or key is not provided")),
        [_, rest @ ..] => {
            let watch = V3.command("watch").expect("it is in the table");
            let (said, arguments, before_dashes) =
                parse::inner(watch, rest).map_err(|why| invalid(&why))?;
            let plan = Plan::new(&said, &arguments, before_dashes, true);
            plan.map(Command::Watch).map_err(|why| invalid(&why))
        }
    }
}

async fn interactive(job: &Job<'_>) -> Result<(), Failure> {
    let (client, printer) = job.client().await?;
    let client = std::sync::Arc::new(client);
    let (lines_tx, mut lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        let stdin = std::io::stdin();
        loop {
            let mut line = String::new();
            let read = stdin.lock().read_line(&mut line).map(|length| (length, line));
            let last = !matches!(&read, Ok((length, _)) if *length > 0);
            if lines_tx.blocking_send(read).is_err() || last {
                return;
            }
        }
    });
    let (opened_tx, mut opened) = mpsc::channel(OPENED);
    let (mut watches, mut progress) = (JoinSet::<Result<(), Failure>>::new(), Progress::new());
    loop {
        tokio::select! {
            Some(questions) = opened.recv() => progress.push(questions),
            Some(ended) = watches.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return Err(failure),
                Err(why) => return Err(error(code::ERROR, why)),
            },
            read = lines.recv() => {
                let fail = |why: &str| {
                    error(code::INVALID_INPUT, format!("Error reading watch request line: {why}"))
                };
                let line = match read {
                    Some(Ok((length, line))) if length > 0 => line,
                    Some(Ok(_)) | None => return Err(fail("EOF")),
                    Some(Err(why)) => return Err(fail(&why.to_string())),
                };
                match command(line.trim_end_matches(['\n', '\r'])) {
                    Err(why) => note(&why),
                    Ok(Command::Progress) => {
                        progress.retain(|questions| questions.try_send(progress_question()).is_ok());
                    }
                    Ok(Command::Watch(plan)) => {
                        let (client, opened_tx) = (std::sync::Arc::clone(&client), opened_tx.clone());
                        watches.spawn(async move {
                            let mut watching = Watching::new(plan.request);
                            let opened = |questions| { let _ = opened_tx.try_send(questions); };
                            follow(&client, &printer, &mut watching, &plan.program, opened).await
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_input_are_read() {
        let why = |line| command(line).err().unwrap_or_default();
        assert_eq!(why("foo"), "Invalid command foo (only support watch)");
        assert_eq!(why("watch"), "Invalid command watch (command type or key is not provided)");
        assert_eq!(why(""), "Invalid command:  (watch and progress supported)");
        assert!(matches!(command("progress"), Ok(Command::Progress)));
        let Ok(Command::Watch(plan)) = command("watch \"x y\" --rev 3 --prefix -- sh -c 'a b'")
        else {
            panic!("it is one")
        };
        assert_eq!(plan.request.key, "x y");
        assert_eq!(plan.request.range_end, "x z");
        assert_eq!(plan.request.start_revision, 3);
        assert_eq!(plan.program, ["sh", "-c", "a b"]);
    }
}
