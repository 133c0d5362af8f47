//! `member`.

use std::fmt::Write as _;

use http::Uri;

use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::commands::{Job, hex_u64, wrong};
use crate::ctl::v3::format::{Format, head};
use crate::ctl::v3::{code, error, go, tables};
use crate::rpc::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, Message, ResponseHeader,
};

/// The number of a member, the only argument.
fn id(job: &Job<'_>) -> Result<u64, Failure> {
    let word = job.argument("member ID is not provided")?;
    hex_u64(word).map_err(|why| wrong(&format!("bad member ID arg ({why}), expecting ID in Hex")))
}

/// Where peers reach a member.
fn peer_urls(job: &Job<'_>) -> Result<Vec<String>, Failure> {
    let text = job.said.text("peer-urls").unwrap_or_default();
    if text.is_empty() {
        return Err(wrong("member peer urls not provided"));
    }
    let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
    for url in &urls {
        let fail = |why: &str| error(code::ERROR, format!("{why}: {url}"));
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "http" | "https" | "unix" | "unixs") {
            return Err(fail("URL scheme must be http, https, unix, or unixs"));
        }
        let uri: Uri =
            url.parse().map_err(|_| fail("URL address does not have the form \"host:port\""))?;
        if uri.port().is_none() {
            return Err(fail("URL address does not have the form \"host:port\""));
        }
        if !matches!(uri.path(), "" | "/") || url.ends_with('/') {
            return Err(fail("URL must not contain a path"));
        }
    }
    Ok(urls)
}

fn number_of_cluster(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

/// What was done to a member; the formats that show fields have none for it.
fn changed<M: Message>(
    job: &Job<'_>,
    answer: &M,
    header: Option<&ResponseHeader>,
    id: u64,
    what: &str,
) -> Result<(), Failure> {
    let cluster = number_of_cluster(header);
    let simple = format!("Member {id:16x} {what} cluster {cluster:16x}\n");
    job.printer()?.answer(answer, simple.as_bytes(), |_| false)
}

pub(super) async fn add(job: &Job<'_>) -> Result<(), Failure> {
    let name = match job.arguments {
        [] => return Err(wrong("member name not provided")),
        [name] => name,
        _ => return Err(wrong("too many arguments")),
    };
    let peer_urls = peer_urls(job)?;
    let (client, printer) = job.client().await?;
    let request =
        MemberAddRequest { peer_urls: peer_urls.clone(), is_learner: job.said.is_on("learner") };
    let answer = job.ask(&client, &request).await?;
    let id = answer.member.as_ref().map_or(0, |member| member.id);
    changed(job, &answer, answer.header.as_ref(), id, "added to")?;
    if printer.format != Format::Simple {
        return Ok(());
    }
    let named = |member: &Member| {
        let name = if member.id == id { name } else { &member.name };
        member.peer_urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>()
    };
    let founders: Vec<_> = answer.members.iter().flat_map(named).collect();
    print::out(&format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        go::quoted(name.as_bytes()),
        go::quoted(founders.join(",").as_bytes()),
        go::quoted(peer_urls.join(",").as_bytes()),
    ))
}

pub(super) async fn remove(job: &Job<'_>) -> Result<(), Failure> {
    let id = id(job)?;
    let (client, _) = job.client().await?;
    let answer = job.ask(&client, &MemberRemoveRequest { id }).await?;
    changed(job, &answer, answer.header.as_ref(), id, "removed from")
}

pub(super) async fn update(job: &Job<'_>) -> Result<(), Failure> {
    let id = id(job)?;
    let peer_urls = peer_urls(job)?;
    let (client, _) = job.client().await?;
    let answer = job.ask(&client, &MemberUpdateRequest { id, peer_urls }).await?;
    changed(job, &answer, answer.header.as_ref(), id, "updated in")
}

pub(super) async fn promote(job: &Job<'_>) -> Result<(), Failure> {
    let id = id(job)?;
    let (client, _) = job.client().await?;
    let answer = job.ask(&client, &MemberPromoteRequest { id }).await?;
    changed(job, &answer, answer.header.as_ref(), id, "promoted in")
}

pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &MemberListRequest::default()).await?;
    let rows: Vec<_> = answer.members.iter().map(row).collect();
    if printer.format == Format::Table {
        let heads = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
        return print::out(&tables::draw(&heads, &rows));
    }
    let simple: String = rows.iter().map(|row| format!("{}\n", row.join(", "))).collect();
    printer.answer(&answer, simple.as_bytes(), |text| {
        fields(text, &answer);
        true
    })
}

fn row(member: &Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_urls.join(","),
        member.client_urls.join(","),
        member.is_learner.to_string(),
    ]
}

fn fields(text: &mut String, answer: &MemberListResponse) {
    head(text, answer.header.as_ref());
    for member in &answer.members {
        let _ = writeln!(text, "\"ID\" : {}", member.id);
        let _ = writeln!(text, "\"Name\" : {}", go::quoted(member.name.as_bytes()));
        for url in &member.peer_urls {
            let _ = writeln!(text, "\"PeerURL\" : {}", go::quoted(url.as_bytes()));
        }
        for url in &member.client_urls {
            let _ = writeln!(text, "\"ClientURL\" : {}", go::quoted(url.as_bytes()));
        }
        let _ = writeln!(text, "\"IsLearner\" : {}\n", member.is_learner);
    }
}
