//! `put`, `get`, `del`, `compaction`; inside of transactions too.
//!
//! Owns: how options become a question. Never knows: how answers look.

use std::io::Read as _;

use bytes::Bytes;

use crate::ctl::failure::Failure;
use crate::ctl::parse::Said;
use crate::ctl::print;
use crate::ctl::v3::commands::{Job, no_number, wrong};
use crate::ctl::v3::format::Format;
use crate::ctl::v3::{code, error};
use crate::rpc::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, SortOrder, SortTarget,
};

/// The key that comes first, and the end that stands for no end.
const ZERO: &[u8] = &[0];

/// Key and end of the range of all keys that begin so.
pub(in crate::ctl) fn prefix(key: &str) -> (Bytes, Bytes) {
    match key.is_empty() {
        true => (Bytes::from_static(ZERO), Bytes::from_static(ZERO)),
        false => (Bytes::copy_from_slice(key.as_bytes()), behind_prefix(key.as_bytes())),
    }
}

/// The first key that does not begin so.
pub(in crate::ctl) fn behind_prefix(key: &[u8]) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(ZERO)
}

fn from_key(key: &str) -> (Bytes, Bytes) {
    let key = if key.is_empty() {
        Bytes::from_static(ZERO)
    } else {
        Bytes::copy_from_slice(key.as_bytes())
    };
    (key, Bytes::from_static(ZERO))
}

/// Key and end, as the arguments and options say.
fn range_of(said: &Said, arguments: &[String], command: &str) -> Result<(Bytes, Bytes), Failure> {
    let (key, end) = match arguments {
        [key] => (key, None),
        [key, end] => (key, Some(end)),
        _ => {
            return Err(wrong(&format!(
                "{command} command needs one argument as key and an optional argument as range_end"
            )));
        }
    };
    let (by_prefix, from) = (said.is_on("prefix"), said.is_on("from-key"));
    if by_prefix && from {
        return Err(wrong(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    match end {
        Some(_) if by_prefix || from => Err(wrong(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        )),
        Some(end) => {
            Ok((Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(end.as_bytes())))
        }
        None if by_prefix => Ok(prefix(key)),
        None if from => Ok(from_key(key)),
        None => Ok((Bytes::copy_from_slice(key.as_bytes()), Bytes::new())),
    }
}

/// The question of `get`.
pub(in crate::ctl::v3) fn get_request(
    said: &Said,
    arguments: &[String],
) -> Result<RangeRequest, Failure> {
    // The order of the checks is that of etcd's tool; so is it that a third argument means nothing.
    let arguments = &arguments[..arguments.len().min(2)];
    if arguments.is_empty() {
        range_of(said, arguments, "get")?;
    }
    if said.is_on("prefix") && said.is_on("from-key") {
        range_of(said, arguments, "get")?;
    }
    let serializable = match said.text("consistency").unwrap_or("l") {
        "l" => false,
        "s" => true,
        other => {
            return Err(error(code::BAD_FEATURE, format!("unknown consistency flag {other:?}")));
        }
    };
    let (key, range_end) = range_of(said, arguments, "get")?;
    let order = match said.text("order").unwrap_or_default().to_uppercase().as_str() {
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        "" => SortOrder::None,
        _ => {
            let order = said.text("order").unwrap_or_default();
            return Err(error(code::BAD_FEATURE, format!("bad sort order {order}")));
        }
    };
    let target = match said.text("sort-by").unwrap_or_default().to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "KEY" | "" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => {
            let target = said.text("sort-by").unwrap_or_default();
            return Err(error(code::BAD_FEATURE, format!("bad sort target {target}")));
        }
    };
    // That is how they come anyway.
    let as_it_is = (target, order) == (SortTarget::Key, SortOrder::Ascend);
    let order = if as_it_is { SortOrder::None } else { order };
    Ok(RangeRequest {
        key,
        range_end,
        limit: said.number("limit"),
        revision: said.number("rev"),
        sort_order: order as i32,
        sort_target: target as i32,
        serializable,
        keys_only: said.is_on("keys-only"),
        ..RangeRequest::default()
    })
}

pub(super) async fn get(job: &Job<'_>) -> Result<(), Failure> {
    let request = get_request(job.said, job.arguments)?;
    let (client, mut printer) = job.client().await?;
    let answer = job.ask(&client, &request).await?;
    if job.said.is_on("print-value-only") {
        if printer.format != Format::Simple {
            return Err(wrong("print-value-only is only for `--write-out=simple`"));
        }
        printer.values_only = true;
    }
    printer.range(&answer)
}

/// The question of `put`; the value from standard input where it may come from there.
pub(in crate::ctl::v3) fn put_request(
    said: &Said,
    arguments: &[String],
    stdin: bool,
) -> Result<PutRequest, Failure> {
    const NEEDED: &str = "put command needs 1 argument and input from stdin or 2 arguments";
    let Some(key) = arguments.first() else { return Err(wrong(NEEDED)) };
    let ignore_value = said.is_on("ignore-value");
    if ignore_value && arguments.len() > 1 {
        return Err(wrong("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match arguments.get(1) {
        _ if ignore_value => Bytes::new(),
        Some(value) => Bytes::copy_from_slice(value.as_bytes()),
        None => {
            let mut value = Vec::new();
            if stdin {
                let read = std::io::stdin().lock().read_to_end(&mut value);
                read.map_err(|_| wrong(NEEDED))?;
            }
            if value.is_empty() {
                return Err(wrong(NEEDED));
            }
            value.into()
        }
    };
    let lease = said.text("lease").unwrap_or("0");
    let lease = i64::from_str_radix(lease, 16).map_err(|_| {
        wrong(&format!("bad lease ID ({}), expecting ID in Hex", no_number("Int", lease)))
    })?;
    Ok(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value,
        lease,
        prev_kv: said.is_on("prev-kv"),
        ignore_value,
        ignore_lease: said.is_on("ignore-lease"),
    })
}

pub(super) async fn put(job: &Job<'_>) -> Result<(), Failure> {
    let request = put_request(job.said, job.arguments, true)?;
    let (client, printer) = job.client().await?;
    printer.put(&job.ask(&client, &request).await?)
}

/// The question of `del`.
pub(in crate::ctl::v3) fn delete_request(
    said: &Said,
    arguments: &[String],
) -> Result<DeleteRangeRequest, Failure> {
    let (key, range_end) = range_of(said, arguments, "del")?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: said.is_on("prev-kv") })
}

pub(super) async fn delete(job: &Job<'_>) -> Result<(), Failure> {
    let request = delete_request(job.said, job.arguments)?;
    let (client, printer) = job.client().await?;
    printer.delete(&job.ask(&client, &request).await?)
}

pub(super) async fn compact(job: &Job<'_>) -> Result<(), Failure> {
    let word = job.argument("compaction command needs 1 argument")?;
    let revision = word.parse().map_err(|_| error(code::ERROR, no_number("Int", word)))?;
    let (client, _) = job.client().await?;
    let request = CompactionRequest { revision, physical: job.said.is_on("physical") };
    job.ask(&client, &request).await?;
    print::out(&format!("compacted revision {revision}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_another_begins() {
        assert_eq!(behind_prefix(b"a"), "b");
        assert_eq!(behind_prefix(b"a\xff"), "b");
        assert_eq!(behind_prefix(b"\xff\xff"), ZERO);
        assert_eq!(prefix(""), (Bytes::from_static(ZERO), Bytes::from_static(ZERO)));
    }
}
