//! `role`.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::ctl::failure::Failure;
use crate::ctl::v3::commands::{Job, keys, wrong};
use crate::ctl::v3::format::{Printer, head};
use crate::ctl::v3::go;
use crate::rpc::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest,
    Permission, PermissionType,
};

/// The end that stands for no end.
const OPEN: &[u8] = &[0];

pub(super) async fn add(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument("role add command requires role name as its argument")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthRoleAddRequest { name: name.to_owned() }).await?;
    printer.plain(&answer, answer.header.as_ref(), &format!("Role {name} created\n"))
}

pub(super) async fn delete(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument("role delete command requires role name as its argument")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthRoleDeleteRequest { role: name.to_owned() }).await?;
    printer.plain(&answer, answer.header.as_ref(), &format!("Role {name} deleted\n"))
}

pub(super) async fn get(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument("role get command requires role name as its argument")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthRoleGetRequest { role: name.to_owned() }).await?;
    print(&printer, name, &answer)
}

/// What a role may do.
pub(super) fn print(
    printer: &Printer,
    name: &str,
    answer: &AuthRoleGetResponse,
) -> Result<(), Failure> {
    let mut simple = format!("Role {name}\n").into_bytes();
    for (what, kind) in [("Read", PermissionType::Read), ("Write", PermissionType::Write)] {
        simple.extend_from_slice(format!("KV {what}:\n").as_bytes());
        let may = |permission: &&Permission| {
            permission.perm_type == kind as i32
                || permission.perm_type == PermissionType::ReadWrite as i32
        };
        answer.perm.iter().filter(may).for_each(|permission| line(&mut simple, permission));
    }
    printer.answer(answer, &simple, |text| {
        head(text, answer.header.as_ref());
        for permission in &answer.perm {
            let _ = write!(
                text,
                "\"PermType\" :  {}\n\"Key\" : {}\n\"RangeEnd\" : {}\n",
                kind_name(permission.perm_type),
                go::quoted(&permission.key),
                go::quoted(&permission.range_end)
            );
        }
        true
    })
}

fn line(text: &mut Vec<u8>, permission: &Permission) {
    let (key, end) = (&permission.key[..], &permission.range_end[..]);
    text.push(b'\t');
    match end {
        [] => text.extend_from_slice(key),
        OPEN => text.extend_from_slice(&[b"[", key, b", <open ended>"].concat()),
        end => text.extend_from_slice(&[b"[", key, b", ", end, b")"].concat()),
    }
    if !end.is_empty() && !key.is_empty() && keys::behind_prefix(key) == end {
        text.extend_from_slice(&[b" (prefix ", key, b")"].concat());
    }
    text.push(b'\n');
}

fn kind_name(number: i32) -> &'static str {
    match number {
        1 => "WRITE",
        2 => "READWRITE",
        _ => "READ",
    }
}

pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("role list command requires no arguments")?;
    let (client, printer) = job.client().await?;
    let answer = job.ask(&client, &AuthRoleListRequest {}).await?;
    let simple: String = answer.roles.iter().map(|role| format!("{role}\n")).collect();
    printer.answer(&answer, simple.as_bytes(), |text| {
        head(text, answer.header.as_ref());
        text.push_str("\"Roles\" :");
        answer
            .roles
            .iter()
            .for_each(|role| text.push_str(&format!(" {}", go::quoted(role.as_bytes()))));
        text.push('\n');
        true
    })
}

/// Key and end of a permission: the first of these words, and perhaps the second.
fn range_of(job: &Job<'_>, words: &[String]) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (job.said.is_on("prefix"), job.said.is_on("from-key"));
    if prefix && from_key {
        return Err(wrong("--from-key and --prefix flags are mutually exclusive"));
    }
    let key = Bytes::copy_from_slice(words[0].as_bytes());
    match words.get(1) {
        Some(_) if prefix => Err(wrong("unexpected endkey argument with --prefix flag")),
        Some(_) if from_key => Err(wrong("unexpected endkey argument with --from-key flag")),
        Some(end) => Ok((key, Bytes::copy_from_slice(end.as_bytes()))),
        None if prefix => Ok(keys::prefix(&words[0])),
        None if from_key && key.is_empty() => Ok((OPEN.into(), OPEN.into())),
        None if from_key => Ok((key, OPEN.into())),
        None => Ok((key, Bytes::new())),
    }
}

pub(super) async fn grant(job: &Job<'_>) -> Result<(), Failure> {
    let [name, kind, range @ ..] = job.arguments else { return Err(wrong(GRANT)) };
    if range.is_empty() {
        return Err(wrong(GRANT));
    }
    let perm_type = match kind.to_uppercase().as_str() {
        "READ" => PermissionType::Read,
        "WRITE" => PermissionType::Write,
        "READWRITE" => PermissionType::ReadWrite,
        _ => return Err(wrong(&format!("invalid permission type: {kind}"))),
    };
    let (key, range_end) = range_of(job, range)?;
    let (client, printer) = job.client().await?;
    let perm = Some(Permission { perm_type: perm_type as i32, key, range_end });
    let request = AuthRoleGrantPermissionRequest { name: name.clone(), perm };
    let answer = job.ask(&client, &request).await?;
    printer.plain(&answer, answer.header.as_ref(), &format!("Role {name} updated\n"))
}

const GRANT: &str =
    "role grant command requires role name, permission type, and key [endkey] as its argument";
const REVOKE: &str =
    "role revoke-permission command requires role name and key [endkey] as its argument";

pub(super) async fn revoke(job: &Job<'_>) -> Result<(), Failure> {
    let [name, range @ ..] = job.arguments else { return Err(wrong(REVOKE)) };
    let Some(written) = range.first() else { return Err(wrong(REVOKE)) };
    let (key, range_end) = range_of(job, range)?;
    let (client, printer) = job.client().await?;
    let end = range_end.clone();
    let request = AuthRoleRevokePermissionRequest { role: name.clone(), key, range_end };
    let answer = job.ask(&client, &request).await?;
    let what = match &end[..] {
        [] => format!("key {written}"),
        OPEN => format!("range [{written}, <open ended>"),
        end => format!("range [{written}, {})", String::from_utf8_lossy(end)),
    };
    let simple = format!("Permission of {what} is revoked from role {name}\n");
    printer.plain(&answer, answer.header.as_ref(), &simple)
}
