//! `txn`: several reads and writes as one, read line by line.
//!
//! Owns: how comparisons are written. Never knows: what they come to.

use std::io::BufRead;

use bytes::Bytes;

use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::table::V3;
use crate::ctl::v3::commands::{Job, keys, wrong};
use crate::ctl::v3::{code, error, go, parse};
use crate::ctl::{help, print::note};
use crate::rpc::{
    Compare, CompareResult, CompareTarget, Request, RequestOp, TargetUnion, TxnRequest,
};

pub(super) async fn run(job: &Job<'_>) -> Result<(), Failure> {
    job.no_arguments("txn command does not accept argument")?;
    let say = |text: &str| match job.said.is_on("interactive") {
        true => print::out(text),
        false => Ok(()),
    };
    let request = {
        let mut input = std::io::stdin().lock();
        say("compares:\n")?;
        let compare = block(&mut input, comparison)?;
        say("success requests (get, put, del):\n")?;
        let success = block(&mut input, operation)?;
        say("failure requests (get, put, del):\n")?;
        let failure = block(&mut input, operation)?;
        TxnRequest { compare, success, failure }
    };
    let (client, printer) = job.client().await?;
    printer.txn(&job.ask(&client, &request).await?)
}

fn invalid(why: String) -> Failure {
    error(code::INVALID_INPUT, why)
}

/// Lines up to an empty one.
fn block<T>(
    input: &mut impl BufRead,
    read: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    loop {
        let mut line = String::new();
        let length = input.read_line(&mut line);
        length.map_err(|why| invalid(why.to_string()))?;
        // A last line without an end is taken for one that was cut off, as in etcd's tool.
        let Some(line) = line.strip_suffix('\n') else { return Err(invalid("EOF".to_owned())) };
        let line = line.trim();
        if line.is_empty() {
            return Ok(all);
        }
        all.push(read(line)?);
    }
}

/// `mod("key") > "0"`
fn comparison(line: &str) -> Result<Compare, Failure> {
    let malformed = |why: &str| invalid(format!("malformed comparison: {line}{why}"));
    let (target, rest) = line.split_once('(').ok_or_else(|| malformed(""))?;
    let (mut key, mut operator, mut value) = (Vec::new(), "", None);
    if let Some((read, rest)) = go::unquoted(rest) {
        key = read;
        if let Some(rest) = rest.strip_prefix(')') {
            let rest = rest.trim_start();
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            operator = &rest[..end];
            value = go::unquoted(rest[end..].trim_start()).map(|(value, _)| value);
        }
    }
    let Some(value) = value else {
        return Err(malformed(&format!("; got {target}({}) {operator} \"\"", go::quoted(&key))));
    };
    let text = String::from_utf8_lossy(&value);
    let number = |radix| {
        i64::from_str_radix(&text, radix)
            .map_err(|_| invalid(format!("invalid txn compare request: {line}")))
    };
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => return Err(malformed(&format!(" (unknown target {other})"))),
    };
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => return Err(malformed(&format!(" (unknown operator {other})"))),
    };
    Ok(Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        target_union: Some(union),
        range_end: Bytes::new(),
    })
}

/// `put key value`, as on the command line.
fn operation(line: &str) -> Result<RequestOp, Failure> {
    let words = go::words(line).map_err(invalid)?;
    let [name, rest @ ..] = words.as_slice() else { return Err(wrong("empty request")) };
    if rest.is_empty() {
        return Err(invalid(format!("invalid txn compare request: {line}")));
    }
    let command = V3.command(name).filter(|_| matches!(name.as_str(), "put" | "get" | "del"));
    let Some(command) = command else {
        return Err(invalid(format!("invalid txn request: {line}")));
    };
    let (said, arguments, _) = parse::inner(command, rest).map_err(|_| {
        note(&format!("Usage:\n   {}", help::usage("", command).trim_start()));
        invalid(format!("invalid txn request: {line}"))
    })?;
    let request = match name.as_str() {
        "put" => Request::Put(keys::put_request(&said, &arguments, false)?),
        "get" => Request::Range(keys::get_request(&said, &arguments)?),
        _ => Request::DeleteRange(keys::delete_request(&said, &arguments)?),
    };
    Ok(RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(failure: &Failure) -> String {
        failure.text(false).unwrap_or_default().trim_end().to_owned()
    }

    #[test]
    fn comparisons_are_read() {
        let read = comparison("mod(\"a b\") != \"5\"").unwrap();
        assert_eq!((read.result, read.target), (3, 2));
        assert_eq!(read.key, "a b");
        assert_eq!(read.target_union, Some(TargetUnion::ModRevision(5)));
        let read = comparison("lease(\"a\") = \"1f\"").unwrap();
        assert_eq!(read.target_union, Some(TargetUnion::Lease(31)));
        for (line, expected) in [
            ("foo", "Error: malformed comparison: foo"),
            ("mod(a) > 1", "Error: malformed comparison: mod(a) > 1; got mod(\"\")  \"\""),
            ("mod(\"a\") = \"x\"", "Error: invalid txn compare request: mod(\"a\") = \"x\""),
        ] {
            assert_eq!(why(&comparison(line).unwrap_err()), expected);
        }
    }
}
