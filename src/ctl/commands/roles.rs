//! `role`.
//!
//! Owns: what it prints. Never knows: which keys a pattern is for.

use std::fmt::Write as _;

use http::Method;
use serde::Deserialize;

use crate::ctl::commands::Job;
use crate::ctl::commands::users::{ask, client, print_names, read};
use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::wire::{Permissions, ReadWrite, Request, Role, clean, path};

const NO_NAME: &str = "Please provide a role name";

fn target(role: &str) -> String {
    format!("/v2/auth/roles/{}", path(role))
}

/// `role list`
pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Roles {
        #[serde(default)]
        roles: Option<Vec<Role>>,
    }
    job.no_arguments()?;
    let client = &mut client(job).await?;
    let roles: Roles = read(ask(client, &Request::get("/v2/auth/roles")).await?)?;
    let row = |role: &Role| {
        let ReadWrite { read, write } = &role.permissions.kv;
        (role.role.clone(), format!("read {}; write {}", read.join(","), write.join(",")))
    };
    let rows: Vec<_> = roles.roles.iter().flatten().map(row).collect();
    print_names(job, "role", &rows, "KEYS")
}

/// `role get`
pub(super) async fn get(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    let role: Role = read(ask(client, &Request::get(target(name))).await?)?;
    let mut text = format!("Role: {}\nKV Read:\n", role.role);
    let patterns = |text: &mut String, patterns: &[String]| {
        patterns.iter().for_each(|pattern| {
            let _ = writeln!(text, "\t{pattern}");
        });
    };
    patterns(&mut text, &role.permissions.kv.read);
    text.push_str("KV Write:\n");
    patterns(&mut text, &role.permissions.kv.write);
    print::out(&text)
}

/// `role add`
pub(super) async fn add(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    if ask(client, &Request::get(target(name))).await.is_ok() {
        return Err(Failure::line(format!("Role {name} already exists")));
    }
    let role = Role { role: name.to_owned(), ..Role::default() };
    ask(client, &Request::new(Method::PUT, target(name)).with_json(&role)).await?;
    print::out(&format!("Role {name} created\n"))
}

/// `role remove`
pub(super) async fn remove(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    ask(client, &Request::new(Method::DELETE, target(name))).await?;
    print::out(&format!("Role {name} removed\n"))
}

/// `role grant` and `role revoke`
pub(super) async fn grant(job: &Job<'_>, grant: bool) -> Result<(), Failure> {
    let pattern = job.said.text("path").unwrap_or_default();
    if pattern.is_empty() {
        return Err(Failure::line("No path specified; please use `--path`"));
    }
    if clean(pattern) != pattern {
        return Err(Failure::line(format!(
            "Not canonical path; please use `--path={}`",
            clean(pattern)
        )));
    }
    let patterns = || vec![pattern.to_owned()];
    let rights = ["read", "write", "readwrite"].map(|right| job.said.is_on(right));
    let kv = match rights {
        [true, false, false] => ReadWrite { read: patterns(), write: Vec::new() },
        [false, true, false] => ReadWrite { read: Vec::new(), write: patterns() },
        [false, false, true] => ReadWrite { read: patterns(), write: patterns() },
        _ => {
            return Err(Failure::line(
                "Please specify exactly one of --read, --write or --readwrite",
            ));
        }
    };
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    let before: Role = read(ask(client, &Request::get(target(name))).await?)?;
    let change = Some(Permissions { kv });
    let mut role = Role { role: name.to_owned(), ..Role::default() };
    if grant {
        role.grant = change
    } else {
        role.revoke = change
    }
    let request = Request::new(Method::PUT, target(name)).with_json(&role);
    let after: Role = read(ask(client, &request).await?)?;
    if after == before {
        let word = if grant { "granted" } else { "revoked" };
        print::out(&format!("Role unchanged; already {word}"))?;
    }
    print::out(&format!("Role {name} updated\n"))
}
