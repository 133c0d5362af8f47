//! `api-spec/` says what the code does.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use cairn::model::{KeyPath, Refusal, StoreIndex};
use serde_json::Value;
use support::http::{self, Request};
use support::port::Port;
use support::proxy::{OWN, Proxy};
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

/// Who serves a path, in the words of the document.
const SERVERS: [&str; 3] = ["A member's URL.", "The peer URL.", "A proxy's URL."];

#[test]
fn everything_in_the_openapi_document_is_served() {
    let server = Server::start_with(Flavor::Subject, &["--enable-pprof"]);
    let proxy = Proxy::start(&[server.peer_addr()], &[], 1);
    let addresses = [server.addr(), server.peer_addr(), proxy.addr];
    let document = document();
    let paths = document["paths"].as_object().expect("there are paths");
    assert!(paths.len() > 10);
    let mut passed_on = 0;
    for (path, operations) in paths {
        let target = path.replace("{key}", "no-such-key").replace("{id}", "1234");
        let target = target.replace("{user}", "nobody").replace("{role}", "root");
        let named = operations["servers"].as_array().map(|servers| {
            let place =
                |server: &Value| SERVERS.iter().position(|known| server["description"] == *known);
            let places = servers.iter().map(place);
            places.collect::<Option<Vec<_>>>().unwrap_or_else(|| panic!("{path}: {servers:?}"))
        });
        // What is not said to be otherwise is a member's, and a proxy passes it on.
        let asked = named.clone().unwrap_or(vec![0, 2]);
        passed_on += usize::from(named.is_none());
        for (method, operation) in operations.as_object().expect("paths have operations") {
            if method == "parameters" || method == "servers" {
                continue;
            }
            for place in &asked {
                let request = Request::new(&method.to_uppercase(), target.as_bytes());
                let reply = http::ask(addresses[*place], &request).expect("an answer");
                let status = reply.status().to_string();
                let known = operation["responses"].get(&status).is_some();
                let who = SERVERS[*place];
                assert!(known, "{who} {method} {target} answers {status}: {}", reply.text());
                let text = reply.text();
                assert_ne!(text, "404 page not found\n", "{who} {method} {target} is not served");
            }
        }
    }
    assert!(passed_on > 10, "most paths are passed on");
}

/// What the document says of a proxy alone.
#[test]
fn a_proxy_answers_its_own_paths_as_the_document_says() {
    let server = Server::start(Flavor::Subject);
    let proxy = Proxy::start(&[server.peer_addr()], &[], 1);
    let document = document();
    let own = &document["paths"][OWN];
    let example = &own["get"]["responses"]["200"]["content"]["text/plain"]["example"];
    let keys = |text: &str| {
        let json: Value = serde_json::from_str(text).expect("it is JSON");
        json.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    let reply = proxy.get(OWN);
    assert_eq!(reply.get("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(keys(&reply.text()), keys(example.as_str().expect("an example")));
    assert_eq!(reply.text(), format!("{{\"endpoints\":[\"http://{}\"]}}\n", server.addr()));
    let direct = http::ask(server.addr(), &Request::get(OWN)).expect("an answer");
    assert_eq!(direct.status(), 404, "a member has no such path");
    for method in ["PUT", "POST", "DELETE"] {
        assert_eq!(proxy.ask(&Request::new(method, OWN)).status(), 405);
    }
    proxy.get("/v2/keys/");
    let page = |addr| http::ask(addr, &Request::get("/metrics")).expect("an answer").text();
    let (of_member, of_proxy) = (page(server.addr()), page(proxy.addr));
    for (name, at_proxy) in [("etcd_proxy_requests_total", true), ("etcd_server_has_leader", false)]
    {
        assert_eq!(of_proxy.contains(name), at_proxy, "{name}");
        assert_eq!(of_member.contains(name), !at_proxy, "{name}");
    }
    // The statuses that the document's introduction names.
    let told = document["info"]["description"].as_str().expect("text");
    let readonly = Proxy::start(&[server.peer_addr()], &["--proxy=readonly"], 1);
    let small = Proxy::start(&[server.peer_addr()], &["--max-body-bytes=10"], 1);
    let nobody = Port::reserve().expect("a free port");
    let alone = Proxy::begin(&[nobody.addr()], &[]);
    for (status, reply) in [
        (501, readonly.put("/a", "value=1")),
        (413, small.put("/a", "value=12345678")),
        (503, alone.get("/v2/keys/")),
    ] {
        assert_eq!(reply.status(), status, "{}", reply.text());
        assert!(told.contains(&status.to_string()), "{status}");
    }
    drop(server);
    assert_eq!(proxy.get("/v2/keys/").status(), 502);
    assert!(told.contains("502 when no member answered"));
}
