//! `lease`.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::client::KeepAlive;
use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::commands::{Job, no_number, wrong};
use crate::ctl::v3::format::{Format, Printer, head, head_members};
use crate::ctl::v3::{code, error, words};
use crate::rpc::status::{DEADLINE_EXCEEDED, LEASE_NOT_FOUND};
use crate::rpc::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};

/// Between two tries to reach a member that renews.
const PAUSE: Duration = Duration::from_millis(500);

/// A lease's number, written with letters.
fn id_of(word: &str) -> Result<i64, Failure> {
    i64::from_str_radix(word, 16).map_err(|_| {
        wrong(&format!("bad lease ID arg ({}), expecting ID in Hex", no_number("Int", word)))
    })
}

/// As `%016x` has it, a minus sign before negative ones.
pub(in crate::ctl::v3) fn shown(id: i64) -> String {
    match id < 0 {
        true => format!("-{:015x}", id.unsigned_abs()),
        false => format!("{id:016x}"),
    }
}

/// What has a form of its own in JSON and is but its head in protobuf: that is how etcd's tool prints what its client makes of
/// these answers.
fn own_form(
    printer: &Printer,
    header: Option<&ResponseHeader>,
    simple: &str,
    json: &str,
    fields: &str,
) -> Result<(), Failure> {
    match printer.format {
        Format::Simple => print::out(simple),
        Format::Json => print::out(&format!("{{{}{json}}}\n", head_members(header))),
        Format::Fields => {
            let mut text = String::new();
            head(&mut text, header);
            print::out(&(text + fields))
        }
        Format::Protobuf => printer.protobuf(&header.cloned().unwrap_or_default()),
        Format::Table => Err(printer.format.unsupported()),
    }
}

pub(super) async fn grant(job: &Job<'_>) -> Result<(), Failure> {
    let word = job.argument("lease grant command needs TTL argument")?;
    let ttl = word.parse().map_err(|_| wrong(&format!("bad TTL ({})", no_number("Int", word))))?;
    let (client, printer) = job.client().await?;
    let asked = client.ask(&LeaseGrantRequest { ttl, id: 0 }, job.terms()).await;
    let answer = asked.map_err(|status| {
        error(code::ERROR, format!("failed to grant lease ({})", words(&status)))
    })?;
    let LeaseGrantResponse { id, ttl, error, .. } = &answer;
    own_form(
        &printer,
        answer.header.as_ref(),
        &format!("lease {} granted with TTL({ttl}s)\n", shown(*id)),
        &format!("\"ID\":{id},\"TTL\":{ttl},\"Error\":{}", json!(error)),
        &format!("\"ID\" : {id}\n\"TTL\" : {ttl}\n"),
    )
}

pub(super) async fn revoke(job: &Job<'_>) -> Result<(), Failure> {
    let word = job.argument("lease revoke command needs 1 argument")?;
    let id = id_of(word)?;
    let (client, printer) = job.client().await?;
    let asked = client.ask(&LeaseRevokeRequest { id }, job.terms()).await;
    let answer = asked.map_err(|status| {
        error(code::ERROR, format!("failed to revoke lease ({})", words(&status)))
    })?;
    let simple = format!("lease {} revoked\n", shown(id));
    printer.plain(&answer, answer.header.as_ref(), &simple)
}

pub(super) async fn time_to_live(job: &Job<'_>) -> Result<(), Failure> {
    let id = id_of(job.argument("lease timetolive command needs lease ID as argument")?)?;
    let (client, printer) = job.client().await?;
    let keys = job.said.is_on("keys");
    let asked = client.ask(&LeaseTimeToLiveRequest { id, keys }, job.terms()).await;
    let answer = asked.map_err(|status| error(code::BAD_CONNECTION, words(&status)))?;
    let LeaseTimeToLiveResponse { id, ttl, granted_ttl, keys: found, .. } = &answer;
    let mut simple = match (*granted_ttl, *ttl) {
        (0, -1) => format!("lease {} already expired", shown(*id)),
        _ => format!("lease {} granted with TTL({granted_ttl}s), remaining({ttl}s)", shown(*id)),
    };
    if keys && !(*granted_ttl == 0 && *ttl == -1) {
        let texts: Vec<_> = found.iter().map(|key| String::from_utf8_lossy(key)).collect();
        let _ = write!(simple, ", attached keys([{}])", texts.join(" "));
    }
    let list = match found.is_empty() {
        true => "null".to_owned(),
        false => format!("[{}]", found.iter().map(|key| base64(key)).collect::<Vec<_>>().join(",")),
    };
    let mut fields = format!("\"ID\" : {id}\n\"TTL\" : {ttl}\n\"GrantedTTL\" : {granted_ttl}\n");
    for key in found {
        let _ = writeln!(fields, "\"Key\" : {}", crate::ctl::v3::go::quoted(key));
    }
    own_form(
        &printer,
        answer.header.as_ref(),
        &(simple + "\n"),
        &format!("\"id\":{id},\"ttl\":{ttl},\"granted-ttl\":{granted_ttl},\"keys\":{list}"),
        &fields,
    )
}

/// Bytes as JSON has them.
fn base64(bytes: &[u8]) -> String {
    use crate::rpc::{UnlockRequest, json::write_go};
    // A message with one field of bytes says it in the words of all others.
    let message = UnlockRequest { key: bytes::Bytes::copy_from_slice(bytes) };
    let object = String::from_utf8(write_go(&message)).expect("JSON is text");
    let value = object.strip_prefix("{\"key\":").and_then(|rest| rest.strip_suffix('}'));
    value.unwrap_or("\"\"").to_owned()
}

pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    let (client, printer) = job.client().await?;
    let asked = client.ask(&LeaseLeasesRequest {}, job.terms()).await;
    let answer = asked.map_err(|status| error(code::BAD_CONNECTION, words(&status)))?;
    let ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
    let mut simple = format!("found {} leases\n", ids.len());
    ids.iter().for_each(|id| simple.push_str(&format!("{}\n", shown(*id))));
    let json: Vec<_> = ids.iter().map(|id| format!("{{\"id\":{id}}}")).collect();
    let fields: String = ids.iter().map(|id| format!("\"ID\" : {id}\n")).collect();
    let json = format!("\"leases\":[{}]", json.join(","));
    own_form(&printer, answer.header.as_ref(), &simple, &json, &fields)
}

pub(super) async fn keep_alive(job: &Job<'_>) -> Result<(), Failure> {
    let id = id_of(job.argument("lease keep-alive command needs lease ID as argument")?)?;
    let (client, printer) = job.client().await?;
    let print = |answer: &LeaseKeepAliveResponse| {
        let (id, ttl) = (answer.id, answer.ttl);
        own_form(
            &printer,
            answer.header.as_ref(),
            &format!("lease {} keepalived with TTL({ttl})\n", shown(id)),
            &format!("\"ID\":{id},\"TTL\":{ttl}"),
            &format!("\"ID\" : {id}\n\"TTL\" : {ttl}\n"),
        )
    };
    if job.said.is_on("once") {
        let limit = job.settings.command_timeout();
        let renewed =
            timeout(limit, async { KeepAlive::open(&client, id).await?.renew().await }).await;
        let renewed = renewed.unwrap_or(Err(DEADLINE_EXCEEDED));
        let answer = renewed.map_err(|status| error(code::BAD_CONNECTION, words(&status)))?;
        return print(&answer);
    }
    let mut stream = None;
    loop {
        let renewed = async {
            if stream.is_none() {
                stream = Some(KeepAlive::open(&client, id).await?);
            }
            stream.as_mut().expect("it was opened").renew().await
        };
        match renewed.await {
            Ok(answer) => {
                print(&answer)?;
                sleep(pause(answer.ttl)).await;
            }
            Err(status) if status == LEASE_NOT_FOUND => break,
            // Another member may renew it, as long as it lives.
            Err(_) => {
                stream = None;
                sleep(PAUSE).await;
            }
        }
    }
    match printer.format {
        Format::Simple => print::out(&format!("lease {} expired or revoked.\n", shown(id))),
        Format::Json | Format::Fields | Format::Table | Format::Protobuf => Ok(()),
    }
}

/// Between two renewals: often enough for two of them to be lost.
pub(super) fn pause(ttl: i64) -> Duration {
    Duration::from_millis(u64::try_from(ttl).unwrap_or(0).saturating_mul(1000) / 3)
        .max(Duration::from_millis(100))
}
