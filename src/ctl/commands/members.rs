//! `member list`, `add`, `remove` and `update`.
//!
//! Owns: what they print. Never knows: how members join.

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::ctl::client::{Client, unexpected};
use crate::ctl::commands::{Job, administer};
use crate::ctl::failure::{CtlError, Failure};
use crate::ctl::print::{self, Format, note};
use crate::ctl::wire::{Member, Request, path};

const PEER_SCHEMES: [&str; 4] = ["http", "https", "unix", "unixs"];

/// As etcd's tool says it before it asks.
fn check_peer_url(url: &str) -> Result<(), Failure> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match PEER_SCHEMES.contains(&scheme) {
        true => Ok(()),
        false => {
            Err(Failure::line(format!("URL scheme must be http, https, unix, or unixs: {url}")))
        }
    }
}

async fn leader(client: &mut Client) -> Result<Member, CtlError> {
    let answer = client.ask(&Request::get("/v2/members/leader")).await?;
    if answer.status != StatusCode::OK {
        return Err(unexpected(answer.status));
    }
    answer.read()
}

/// `member list`
pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments()?;
    let client = &mut Client::new(job.settings).await?;
    let members = administer(client, Client::members).await?.members;
    let leader = administer(client, leader).await.map_err(|failure| {
        let why = failure.text(false).unwrap_or_default();
        Failure::line(format!("Failed to get leader:  {}", why.strip_suffix('\n').unwrap_or(&why)))
    })?;
    print::out(&match job.settings.list_format {
        Some(Format::Json) => as_json(&members, &leader),
        Some(Format::Table) => as_table(&members, &leader),
        _ => members.iter().map(|member| line(member, &leader)).collect(),
    })
}

fn line(member: &Member, leader: &Member) -> String {
    let Member { id, name, .. } = member;
    let (peers, clients) = (member.peer_urls.join(","), member.client_urls.join(","));
    match name.is_empty() {
        true => format!("{id}[unstarted]: peerURLs={peers}\n"),
        false => {
            let leads = *id == leader.id;
            format!("{id}: name={name} peerURLs={peers} clientURLs={clients} isLeader={leads}\n")
        }
    }
}

fn as_json(members: &[Member], leader: &Member) -> String {
    /// In the order in which the server has the fields.
    #[derive(Serialize)]
    struct Listed<'a> {
        #[serde(flatten)]
        member: &'a Member,
        #[serde(rename = "isLeader")]
        leads: bool,
    }
    #[derive(Serialize)]
    struct List<'a> {
        members: Vec<Listed<'a>>,
    }
    let one = |member| Listed { member, leads: member.id == leader.id };
    let list = List { members: members.iter().map(one).collect() };
    format!("{}\n", print::go_json(&list))
}

fn as_table(members: &[Member], leader: &Member) -> String {
    let row = |member: &Member| {
        let status = if member.name.is_empty() { "unstarted" } else { "started" };
        let leads = member.id == leader.id;
        let (peers, clients) = (member.peer_urls.join(","), member.client_urls.join(","));
        vec![
            member.id.clone(),
            status.to_owned(),
            member.name.clone(),
            peers,
            clients,
            leads.to_string(),
        ]
    };
    let heads = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEADER"];
    print::table(&heads, &members.iter().map(row).collect::<Vec<_>>())
}

/// `member add`
pub(super) async fn add(job: &Job<'_>) -> Result<(), Failure> {
    let [name, url] = job.arguments else {
        return Err(Failure::line("Provide a name and a single member peerURL"));
    };
    let client = &mut Client::new(job.settings).await?;
    check_peer_url(url)?;
    let request =
        Request::new(Method::POST, "/v2/members").with_json(&json!({ "peerURLs": [url] }));
    let added: Member = administer(client, async |client| {
        let answer = client.ask(&request).await?;
        match answer.status {
            StatusCode::CREATED => answer.read(),
            _ => Err(answer.refusal()),
        }
    })
    .await?;
    print::out(&format!("Added member named {name} with ID {} to cluster\n", added.id))?;
    let members = administer(client, Client::members).await?.members;
    let urls = members.iter().flat_map(|member| {
        let called = if member.id == added.id { name } else { &member.name };
        member.peer_urls.iter().map(move |url| format!("{called}={url}"))
    });
    let founders = urls.collect::<Vec<_>>().join(",");
    print::out(&format!(
        "\nETCD_NAME={name:?}\nETCD_INITIAL_CLUSTER={founders:?}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
    ))
}

/// `member remove`
pub(super) async fn remove(job: &Job<'_>) -> Result<(), Failure> {
    let id = job.argument("Provide a single member ID")?;
    let client = &mut Client::new(job.settings).await?;
    let members = administer(client, Client::members).await.map_err(|failure| {
        let why = failure.text(false).unwrap_or_default();
        Failure::line(format!("Error while verifying ID against known members: {}", why.trim_end()))
    })?;
    for member in members.members.iter().filter(|member| member.name == id) {
        note(&format!(
            "Found a member named {}; if this is correct, please use its ID, eg:\n\tetcdctl member remove {}",
            member.name, member.id
        ));
    }
    if !members.members.iter().any(|member| member.id == id) {
        return Err(Failure::line(format!(
            "Couldn't find a member in the cluster with an ID of {id}."
        )));
    }
    let request = Request::new(Method::DELETE, format!("/v2/members/{}", path(id)));
    let removed = administer(client, async |client| {
        let answer = client.ask(&request).await?;
        match answer.status {
            // Another try of this command may have been faster.
            StatusCode::NO_CONTENT | StatusCode::GONE => Ok(()),
            _ => Err(answer.refusal()),
        }
    });
    removed.await.map_err(|failure| {
        let why = failure.text(false).unwrap_or_default();
        Failure::line(format!("Received an error trying to remove member {id}: {}", why.trim_end()))
    })?;
    print::out(&format!("Removed member {id} from cluster\n"))
}

/// `member update`
pub(super) async fn update(job: &Job<'_>) -> Result<(), Failure> {
    let [id, urls] = job.arguments else {
        return Err(Failure::line(
            "Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)",
        ));
    };
    let client = &mut Client::new(job.settings).await?;
    let urls: Vec<_> = urls.split(',').collect();
    urls.iter().try_for_each(|url| check_peer_url(url))?;
    let request = Request::new(Method::PUT, format!("/v2/members/{}", path(id)));
    let request = request.with_json(&json!({ "peerURLs": urls }));
    administer(client, async |client| {
        let answer = client.ask(&request).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(answer.refusal()),
        }
    })
    .await?;
    print::out(&format!("Updated member with ID {id} in cluster\n"))
}
