//! `endpoint`: how members are.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::time::Instant;

use crate::client::{Client, Endpoint};
use crate::ctl::failure::Failure;
use crate::ctl::print::{self, note};
use crate::ctl::v3::commands::{Job, complain};
use crate::ctl::v3::format::{Format, Printer, head};
use crate::ctl::v3::{code, error, go, refused, tables, words};
use crate::rpc::json::write_go;
use crate::rpc::status::{AUTH_FAILED, PERMISSION_DENIED};
use crate::rpc::{
    HashKvRequest, HashKvResponse, MemberListRequest, RangeRequest, StatusRequest, StatusResponse,
};

/// Those that were named, or with `--cluster` those that the members publish.
pub(super) async fn asked(job: &Job<'_>, client: &Client) -> Result<Vec<Endpoint>, Failure> {
    if !job.said.is_on("cluster") {
        return Ok(client.endpoints().to_vec());
    }
    let answer = client.ask(&MemberListRequest::default(), job.terms()).await;
    let answer = answer.map_err(|status| match status == AUTH_FAILED {
        true => refused(&status),
        false => error(
            code::ERROR,
            format!("failed to fetch endpoints from etcd cluster member list: {}", words(&status)),
        ),
    })?;
    let urls = answer.members.iter().flat_map(|member| &member.client_urls);
    urls.map(|url| job.settings.published(url)).collect()
}

/// An endpoint, whether it is well, and how long that took.
struct Health {
    endpoint: String,
    took: Duration,
    error: Option<String>,
}

pub(super) async fn health(job: &Job<'_>) -> Result<(), Failure> {
    let (client, printer) = job.client().await?;
    let endpoints = asked(job, &client).await?;
    let ask = |endpoint: Endpoint| {
        let client = &client;
        async move {
            let begun = Instant::now();
            let name = endpoint.written.clone();
            let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
            let asked = client.only(endpoint).ask(&request, job.terms()).await;
            // Who may not read it has been refused by a majority.
            let error = match asked {
                Ok(_) => None,
                Err(status) if status == PERMISSION_DENIED => None,
                Err(status) => Some(words(&status)),
            };
            Health { endpoint: name, took: begun.elapsed(), error }
        }
    };
    // In the order in which they answer, as etcd's tool has them.
    let all: Vec<Health> =
        endpoints.into_iter().map(ask).collect::<FuturesUnordered<_>>().collect().await;
    print_health(&printer, &all)?;
    match all.iter().all(|health| health.error.is_none()) {
        true => Ok(()),
        false => Err(error(code::ERROR, "unhealthy cluster")),
    }
}

fn print_health(printer: &Printer, all: &[Health]) -> Result<(), Failure> {
    match printer.format {
        Format::Simple => {
            for Health { endpoint, took, error } in all {
                let took = go::duration(*took);
                match error {
                    None => note(&format!(
                        "{endpoint} is healthy: successfully committed proposal: took = {took}"
                    )),
                    Some(why) => {
                        note(&format!("{endpoint} is unhealthy: failed to commit proposal: {why}"))
                    }
                }
            }
            Ok(())
        }
        Format::Json => {
            let object = |health: &Health| {
                let error = health.error.as_ref().map(|why| format!(",\"error\":{}", json!(why)));
                format!(
                    "{{\"endpoint\":{},\"health\":{},\"took\":{}{}}}",
                    json!(health.endpoint),
                    health.error.is_none(),
                    json!(go::duration(health.took)),
                    error.unwrap_or_default()
                )
            };
            let all: Vec<_> = all.iter().map(object).collect();
            print::out(&format!("[{}]\n", all.join(",")))
        }
        Format::Fields => {
            let mut text = String::new();
            for Health { endpoint, took, error } in all {
                let _ = write!(
                    text,
                    "\"Endpoint\" : {}\n\"Health\" : {}\n\"Took\" : {}\n\"Error\" : {}\n\n",
                    go::quoted(endpoint.as_bytes()),
                    error.is_none(),
                    go::duration(*took),
                    error.as_deref().unwrap_or_default()
                );
            }
            print::out(&text)
        }
        Format::Table => {
            let row = |health: &Health| {
                let well = health.error.is_none().to_string();
                let error = health.error.clone().unwrap_or_default();
                vec![health.endpoint.clone(), well, go::duration(health.took), error]
            };
            let rows: Vec<_> = all.iter().map(row).collect();
            print::out(&tables::draw(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], &rows))
        }
        Format::Protobuf => Err(printer.format.unsupported()),
    }
}

pub(super) async fn status(job: &Job<'_>) -> Result<(), Failure> {
    let (client, printer) = job.client().await?;
    let endpoints = asked(job, &client).await?;
    let (mut all, mut failed) = (Vec::new(), false);
    for endpoint in endpoints {
        let name = endpoint.written.clone();
        match client.only(endpoint).ask(&StatusRequest {}, job.terms()).await {
            Ok(answer) => all.push((name, answer)),
            Err(status) if status == AUTH_FAILED => return Err(refused(&status)),
            Err(status) => {
                failed = true;
                complain(&format!(
                    "Failed to get the status of endpoint {name} ({})",
                    words(&status)
                ));
            }
        }
    }
    print_status(&printer, &all)?;
    if failed { Err(Failure::code(code::ERROR)) } else { Ok(()) }
}

fn status_row(endpoint: &str, status: &StatusResponse) -> Vec<String> {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    vec![
        endpoint.to_owned(),
        format!("{id:x}"),
        status.version.clone(),
        go::size(u64::try_from(status.db_size).unwrap_or(0)),
        (status.leader == id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

fn print_status(printer: &Printer, all: &[(String, StatusResponse)]) -> Result<(), Failure> {
    let rows: Vec<_> = all.iter().map(|(endpoint, status)| status_row(endpoint, status)).collect();
    match printer.format {
        Format::Simple => {
            print::out(&rows.iter().map(|row| format!("{}\n", row.join(", "))).collect::<String>())
        }
        Format::Table => {
            let heads = [
                "ENDPOINT",
                "ID",
                "VERSION",
                "DB SIZE",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
            ];
            print::out(&tables::draw(&heads, &rows))
        }
        Format::Json => json_of(all, "Status"),
        Format::Fields => {
            let mut text = String::new();
            for (endpoint, status) in all {
                head(&mut text, status.header.as_ref());
                let _ = write!(
                    text,
                    "\"Version\" : {}\n\"DBSize\" : {}\n\"Leader\" : {}\n\"IsLearner\" : {}\n\"RaftIndex\" : {}\n\
                     \"RaftTerm\" : {}\n\"RaftAppliedIndex\" : {}\n\"Errors\" : {}\n\"Endpoint\" : {}\n\n",
                    go::quoted(status.version.as_bytes()),
                    status.db_size,
                    status.leader,
                    status.is_learner,
                    status.raft_index,
                    status.raft_term,
                    status.raft_applied_index,
                    go::quoted_list(&status.errors),
                    go::quoted(endpoint.as_bytes())
                );
            }
            print::out(&text)
        }
        Format::Protobuf => Err(printer.format.unsupported()),
    }
}

/// A list of endpoints, each with its answer.
fn json_of<M: crate::rpc::Message>(all: &[(String, M)], name: &str) -> Result<(), Failure> {
    let object = |(endpoint, answer): &(String, M)| {
        let answer = String::from_utf8(write_go(answer)).expect("JSON is text");
        format!("{{\"Endpoint\":{},\"{name}\":{answer}}}", json!(endpoint))
    };
    let objects: Vec<_> = all.iter().map(object).collect();
    print::out(&format!("[{}]\n", objects.join(",")))
}

pub(super) async fn hash_kv(job: &Job<'_>) -> Result<(), Failure> {
    let (client, printer) = job.client().await?;
    let endpoints = asked(job, &client).await?;
    let request = HashKvRequest { revision: job.said.number("rev") };
    let (mut all, mut last) = (Vec::<(String, HashKvResponse)>::new(), None);
    for endpoint in endpoints {
        let name = endpoint.written.clone();
        match client.only(endpoint).ask(&request, job.terms()).await {
            Ok(answer) => all.push((name, answer)),
            Err(status) if status == AUTH_FAILED => return Err(refused(&status)),
            Err(status) => {
                let why = words(&status);
                complain(&format!("Failed to get the hash of endpoint {name} ({why})"));
                last = Some(why);
            }
        }
    }
    let row = |(endpoint, answer): &(String, HashKvResponse)| {
        vec![endpoint.clone(), answer.hash.to_string()]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    match printer.format {
        Format::Simple => {
            print::out(
                &rows.iter().map(|row| format!("{}\n", row.join(", "))).collect::<String>(),
            )?;
        }
        Format::Table => print::out(&tables::draw(&["ENDPOINT", "HASH"], &rows))?,
        Format::Json => json_of(&all, "HashKV")?,
        Format::Fields => {
            let mut text = String::new();
            for (endpoint, answer) in &all {
                head(&mut text, answer.header.as_ref());
                let endpoint = go::quoted(endpoint.as_bytes());
                let _ = write!(text, "\"Endpoint\" : {endpoint}\n\"Hash\" : {}\n\n", answer.hash);
            }
            print::out(&text)?;
        }
        Format::Protobuf => return Err(printer.format.unsupported()),
    }
    match last {
        Some(why) => Err(error(code::ERROR, why)),
        None => Ok(()),
    }
}
