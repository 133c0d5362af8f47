//! `api-spec/` says what the code does.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use cairn::model::{KeyPath, Refusal, StoreIndex};
use serde_json::Value;
use support::http::{self, Request};
use support::server::{Flavor, Server};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("api-spec").join(name);
    fs::read_to_string(path).expect("the file is there")
}

/// One of each kind. A new kind stops the build in [`listed`], and then belongs here.
fn refusals() -> Vec<Refusal> {
    let path = KeyPath::from("/a");
    let cause = String::new();
    let index = StoreIndex(1);
    vec![
        Refusal::KeyNotFound { path: path.clone() },
        Refusal::CompareFailed { values: None, indexes: None },
        Refusal::NotAFile { path: Some(path.clone()) },
        Refusal::NotADirectory { path: path.clone() },
        Refusal::KeyExists { path: path.clone() },
        Refusal::RootReadOnly,
        Refusal::DirNotEmpty { path },
        Refusal::NotAllowed,
        Refusal::PrevValueRequired,
        Refusal::TtlNotANumber,
        Refusal::IndexNotANumber { field: "prevIndex" },
        Refusal::InvalidField { cause: cause.clone() },
        Refusal::InvalidForm { cause },
        Refusal::ValueOnRefresh,
        Refusal::TtlRequiredOnRefresh,
        Refusal::HistoryCleared { oldest: index, asked: index },
        Refusal::BodyTooLarge { bytes_max: 1 },
    ]
}

const fn listed(refusal: &Refusal) {
    match refusal {
        Refusal::KeyNotFound { .. }
        | Refusal::CompareFailed { .. }
        | Refusal::NotAFile { .. }
        | Refusal::NotADirectory { .. }
        | Refusal::KeyExists { .. }
        | Refusal::RootReadOnly
        | Refusal::DirNotEmpty { .. }
        | Refusal::NotAllowed
        | Refusal::PrevValueRequired
        | Refusal::TtlNotANumber
        | Refusal::IndexNotANumber { .. }
        | Refusal::InvalidField { .. }
        | Refusal::InvalidForm { .. }
        | Refusal::ValueOnRefresh
        | Refusal::TtlRequiredOnRefresh
        | Refusal::HistoryCleared { .. }
        | Refusal::BodyTooLarge { .. } => {}
    }
}

#[test]
fn the_table_of_errors_is_the_code_s() {
    let row = |refusal: &Refusal| {
        listed(refusal);
        let (code, message, status) = refusal.row();
        format!("{code},{message},{status}")
    };
    let mut wanted: BTreeSet<String> = refusals().iter().map(row).collect();
    for status in [500, 503, 507] {
        wanted.insert(format!("300,Raft Internal Error,{status}"));
    }
    let table = read("errors.csv");
    let first_three = |line: &str| line.splitn(4, ',').take(3).collect::<Vec<_>>().join(",");
    let found: BTreeSet<String> = table.lines().skip(1).map(first_three).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_openapi_document_is_valid() {
    if std::env::var_os("CAIRN_SKIP_OPENAPI").is_some() {
        eprintln!("skipped: no validator for OpenAPI (CAIRN_SKIP_OPENAPI)");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = root.join("target/openapi/bin/openapi-spec-validator");
    let program = if own.exists() { own } else { "openapi-spec-validator".into() };
    let output = Command::new(program).arg(root.join("api-spec/openapi.yaml")).output();
    let output = output.expect("scripts/test.sh installs openapi-spec-validator");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The document as JSON.
fn document() -> Value {
    serde_norway::from_str(&read("openapi.yaml")).expect("the document is YAML")
}

#[test]
fn everything_in_the_openapi_document_is_served() {
    let server = Server::start_with(Flavor::Subject, &["--enable-pprof"]);
    let document = document();
    let paths = document["paths"].as_object().expect("there are paths");
    assert!(paths.len() > 10);
    for (path, operations) in paths {
        let target = path.replace("{key}", "no-such-key").replace("{id}", "1234");
        let target = target.replace("{user}", "nobody").replace("{role}", "root");
        let of_peers = operations["servers"][0]["description"] == "The peer URL.";
        let addr = if of_peers { server.peer_addr() } else { server.addr() };
        for (method, operation) in operations.as_object().expect("paths have operations") {
            if method == "parameters" || method == "servers" {
                continue;
            }
            let request = Request::new(&method.to_uppercase(), target.as_bytes());
            let reply = http::ask(addr, &request).expect("an answer");
            let status = reply.status().to_string();
            let known = operation["responses"].get(&status).is_some();
            assert!(known, "{method} {target} answers {status}: {}", reply.text());
            assert_ne!(reply.text(), "404 page not found\n", "{method} {target} is not served");
        }
    }
}
