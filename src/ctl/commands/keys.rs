//! Commands that read and write single keys.
//!
//! Owns: which option becomes which condition, what is printed. Never knows: how members are asked.

use std::io::Read as _;

use crate::ctl::client::Client;
use crate::ctl::commands::Job;
use crate::ctl::failure::{CtlError, Failure, code};
use crate::ctl::keys::{self, Reading, Removal, Writing};
use crate::ctl::print::{self, Format, note};
use crate::ctl::wire::{Event, Request};

async fn done(client: &mut Client, request: &Request) -> Result<Event, Failure> {
    let event = client.within_total(async |client| keys::ask(client, request).await).await;
    event.map_err(|error| Failure::keys(code::SERVER, error))
}

/// The value: an argument, or all of standard input.
fn value(job: &Job<'_>) -> Result<String, Failure> {
    if let Some(value) = job.arguments.get(1) {
        return Ok(value.clone());
    }
    let mut value = String::new();
    match std::io::stdin().read_to_string(&mut value) {
        Ok(length) if length > 0 => Ok(value),
        Ok(_) => Err(Failure::missing("value required")),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(Failure::missing(
            "the value on standard input is no UTF-8, and values are text: encode it, as with base64",
        )),
        Err(_) => Err(Failure::missing("value required")),
    }
}

/// `get`
pub(super) async fn get(job: &Job<'_>, client: &mut Client) -> Result<(), Failure> {
    let key = job.key()?;
    let (sorted, quorum) = (job.said.is_on("sort"), job.said.is_on("quorum"));
    let event = done(client, &keys::get(key, Reading { sorted, quorum, recursive: false })).await?;
    if event.node.dir {
        return Err(Failure::line(format!("{}: is a directory", event.node.key)));
    }
    print::event(&event, &job.settings.format)
}

/// `ls`
pub(super) async fn list(job: &Job<'_>, client: &mut Client) -> Result<(), Failure> {
    let key = job.arguments.first().map_or("/", String::as_str);
    let reading = Reading {
        recursive: job.said.is_on("recursive"),
        sorted: job.said.is_on("sort"),
        quorum: job.said.is_on("quorum"),
    };
    let event = done(client, &keys::get(key, reading)).await?;
    match &job.settings.format {
        Format::Simple => print::out(&print::listing(&event.node, job.said.is_on("p"))),
        Format::Table => {
            let mut nodes = Vec::new();
            if !event.node.dir {
                nodes.push(&event.node);
            }
            print::walk(&event.node, &mut |node| nodes.push(node));
            print::out(&print::nodes_table(&nodes))
        }
        format @ (Format::Extended | Format::Json | Format::Unknown(_)) => {
            print::event(&event, format)
        }
    }
}

/// `set`, `update`, `mk`: `exists` is what has to be true of the key before.
pub(super) async fn write(
    job: &Job<'_>,
    client: &mut Client,
    exists: Option<bool>,
) -> Result<(), Failure> {
    let key = job.key()?;
    let value = value(job)?;
    let ttl = job.said.number("ttl");
    let request = match job.said.is_on("in-order") {
        true => keys::post(key, &value, ttl),
        false => {
            let previous_value = job.said.text("swap-with-value").unwrap_or_default();
            // A negative index compares with none, as in etcd's tool.
            let previous_index = job.said.number("swap-with-index").cast_unsigned();
            let writing = Writing { dir: false, ttl, exists, previous_value, previous_index };
            keys::put(key, &value, &writing)
        }
    };
    print::event(&done(client, &request).await?, &job.settings.format)
}

/// `mkdir`, `setdir`, `updatedir`
pub(super) async fn write_dir(
    job: &Job<'_>,
    client: &mut Client,
    exists: Option<bool>,
) -> Result<(), Failure> {
    let ttl = job.said.number("ttl");
    let writing = Writing { dir: true, ttl, exists, ..Writing::default() };
    let event = done(client, &keys::put(job.key()?, "", &writing)).await?;
    if job.settings.format == Format::Simple {
        return Ok(());
    }
    print::event(&event, &job.settings.format)
}

/// `rm`, `rmdir`
pub(super) async fn remove(
    job: &Job<'_>,
    client: &mut Client,
    only_dir: bool,
) -> Result<(), Failure> {
    let key = job.key()?;
    let removal = Removal {
        dir: only_dir || job.said.is_on("dir"),
        recursive: job.said.is_on("recursive"),
        previous_value: job.said.text("with-value").unwrap_or_default(),
        previous_index: job.said.number("with-index").cast_unsigned(),
    };
    let event = done(client, &keys::delete(key, &removal)).await?;
    let format = &job.settings.format;
    // Of a directory there is no value to print.
    if *format == Format::Simple && event.node.dir {
        return Ok(());
    }
    print::event(&event, format)
}

/// `wipe`: what is directly in the directory goes, one after the other, each with everything below.
pub(super) async fn wipe(job: &Job<'_>, client: &mut Client) -> Result<(), Failure> {
    let key = job.key()?;
    let reading = Reading { quorum: true, sorted: true, recursive: false };
    let event = done(client, &keys::get(key, reading)).await?;
    if !event.node.dir {
        return Err(Failure::line(format!("{key}: is no directory; remove it with rm")));
    }
    let below: Vec<_> = event.node.nodes.into_iter().flatten().collect();
    if !job.said.is_on("yes") {
        let count = below.len();
        return Err(Failure::line(format!(
            "this would remove {count} keys and directories in {key}, with everything below; say --yes to do it"
        )));
    }
    let mut removed = 0u64;
    for node in below {
        let removal = Removal { recursive: node.dir, dir: node.dir, ..Removal::default() };
        match client
            .within_total(async |client| {
                keys::ask(client, &keys::delete(&node.key, &removal)).await
            })
            .await
        {
            Ok(_) => removed += 1,
            // It went by itself.
            Err(CtlError::Key(refusal)) if refusal.code == KEY_NOT_FOUND => {}
            Err(error) => {
                note(&format!("removed {removed} of {key}, then {} was not", node.key));
                return Err(Failure::keys(code::SERVER, error));
            }
        }
    }
    print::out(&format!("removed {removed} keys and directories in {key}\n"))
}

const KEY_NOT_FOUND: u32 = 100;
