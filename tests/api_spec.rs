//! `api-spec/` says what the code does.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use cairn::model::{KeyPath, Refusal, StoreIndex};
use cairn::rpc::status;
use serde_json::Value;
use support::http::{self, Open, Request};
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
    wanted.extend(
        status::ALL.iter().map(|status| {
            format!("{},{},{}", status.code.number(), status.text, status.code.http())
        }),
    );
    let table = read("errors.csv");
    let rows: Vec<_> = table.lines().skip(1).map(cells).collect();
    assert!(rows.iter().all(|cells| cells.len() == 4 && !cells[3].is_empty()));
    let found: BTreeSet<String> = rows.iter().map(|cells| cells[..3].join(",")).collect();
    assert_eq!(found, wanted);
    assert_eq!(rows.len(), found.len(), "no row stands twice");
}

/// The cells of a line of the table; quotes may stand around one, and two of them for one in it.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is one");
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            letter => cell.push(letter),
        }
    }
    cells
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
    for (path, operations) in paths.iter().filter(|(path, _)| !path.starts_with("/v3/")) {
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

/// What stands between the braces behind a line that begins so, as it is indented in the sources.
fn blocks<'a>(text: &'a str, begins: &str) -> Vec<(&'a str, &'a str)> {
    let mut blocks = Vec::new();
    let mut lines = text.split_inclusive('\n').scan(0, |at, line| {
        *at += line.len();
        Some((*at, line.trim_end()))
    });
    while let Some((begin, line)) = lines.next() {
        let Some(rest) = line.strip_prefix(begins) else { continue };
        if let Some(name) = rest.strip_suffix(" {}") {
            blocks.push((name, ""));
        }
        let Some(name) = rest.strip_suffix(" {") else { continue };
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let mut inside = begin;
        for (at, line) in lines.by_ref() {
            if line == end {
                break;
            }
            inside = at;
        }
        blocks.push((name, &text[begin..inside]));
    }
    blocks
}

/// Fields of messages and of what they may be one of, by name, as the sources declare them.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rpc");
    let text: String = fs::read_dir(folder)
        .expect("it is there")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "rs"))
        .map(|entry| fs::read_to_string(entry.path()).expect("sources are text"))
        .collect();
    let fields = |inside: &str, mark: char| -> Vec<(String, String)> {
        let lines = inside.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let fields = lines.filter_map(|line| {
            let (name, rest) = line.strip_suffix(';')?.split_once(mark)?;
            let kind = rest.split('=').next().unwrap_or_default().trim().to_owned();
            let last = rest.rsplit(' ').next().unwrap_or_default();
            // The numbers of alternatives stand in quotes too.
            let shown = last.strip_prefix('"').and_then(|last| last.strip_suffix('"'));
            let shown = shown.filter(|shown| !shown.starts_with(|c: char| c.is_ascii_digit()));
            Some((shown.unwrap_or(name.trim()).to_owned(), kind))
        });
        fields.collect()
    };
    let inside = |kind: &str| -> Vec<(String, String)> {
        let begins = format!("\n{kind}! {{\n");
        let bodies = text.split(&begins).skip(1).filter_map(|rest| rest.split("\n}\n").next());
        let blocks = bodies.flat_map(|body| blocks(body, "    "));
        blocks.map(|(name, inside)| (name.to_owned(), inside.to_owned())).collect()
    };
    let alternatives: BTreeMap<_, _> = inside("oneofs").into_iter().collect();
    let mut all = BTreeMap::new();
    for (name, body) in inside("messages") {
        let mut shown = BTreeSet::new();
        for (field, kind) in fields(&body, ':') {
            match kind.strip_prefix("(oneof ").and_then(|rest| rest.strip_suffix(')')) {
                Some(of) => {
                    shown.extend(fields(&alternatives[of], ':').into_iter().map(|(name, _)| name));
                }
                None => drop(shown.insert(field)),
            }
        }
        all.insert(name, shown);
    }
    all
}

#[test]
fn the_schemas_of_version_3_are_the_messages_of_the_code() {
    let (document, declared) = (document(), declared());
    assert!(declared.len() > 90, "the sources are read: {}", declared.len());
    let schemas = document["components"]["schemas"].as_object().expect("there are schemas");
    let mut count = 0;
    for (name, schema) in schemas {
        let Some(name) = name.strip_prefix("v3.") else { continue };
        let fixed = ["Number", "Bytes", "Error", "StreamError"].contains(&name);
        if fixed || schema.get("enum").is_some() {
            continue;
        }
        let properties = schema["properties"].as_object();
        let written: BTreeSet<_> =
            properties.into_iter().flatten().map(|(name, _)| name.clone()).collect();
        assert_eq!(declared.get(name), Some(&written), "{name}");
        count += 1;
    }
    assert!(count > 80, "{count}");
}

#[test]
fn the_paths_of_version_3_are_those_that_are_served() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/v3/dispatch.rs");
    let source = fs::read_to_string(source).expect("it is there");
    let table = source.split("\nfn table()").nth(1).and_then(|rest| rest.split("\n}\n").next());
    let words = table.expect("there is a table").split('"').skip(1).step_by(2);
    let mut served: BTreeSet<_> = words
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect();
    // A service, which has no path.
    assert!(served.remove("grpc.health.v1.Health"));
    served.retain(|word| !word.contains('.'));
    let document = document();
    let paths = document["paths"].as_object().expect("there are paths");
    let written: BTreeSet<_> =
        paths.keys().filter_map(|path| path.strip_prefix("/v3/")).map(str::to_owned).collect();
    assert_eq!(written, served);
    let server = Server::start(Flavor::Subject);
    for path in &written {
        for prefix in ["v3", "v3beta", "v3alpha"] {
            let reply = http::ask(server.addr(), &Request::get(&format!("/{prefix}/{path}")));
            assert_eq!(reply.expect("an answer").status(), 405, "{prefix}/{path} takes POST alone");
        }
    }
}

/// What of a value a schema does not say, if anything.
fn unsaid(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let schema = match schema["$ref"].as_str() {
        Some(at) => document.pointer(at.trim_start_matches('#')).expect("it leads somewhere"),
        None => schema,
    };
    let wrong = || Some(format!("{value} is not {schema}"));
    if let Some(names) = schema["enum"].as_array() {
        return if names.contains(value) { None } else { wrong() };
    }
    match (&schema["type"], value) {
        (Value::String(kind), Value::Object(fields)) if kind == "object" => {
            fields.iter().find_map(|(name, value)| match schema["properties"].get(name) {
                Some(schema) => unsaid(document, schema, value),
                None => Some(format!("{name} in {value}")),
            })
        }
        (Value::String(kind), Value::Array(items)) if kind == "array" => {
            items.iter().find_map(|item| unsaid(document, &schema["items"], item))
        }
        (Value::String(kind), Value::String(text)) if kind == "string" => {
            match schema["contentEncoding"].is_string() {
                true => base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .err()
                    .map(|why| why.to_string()),
                false => None,
            }
        }
        (Value::String(kind), Value::Bool(_)) if kind == "boolean" => None,
        (Value::String(kind), Value::Number(_)) if kind == "integer" => None,
        // Of 64 bits: answers have them in quotes.
        (Value::Array(_), Value::String(digits)) if digits.parse::<i128>().is_ok() => None,
        _ => wrong(),
    }
}

/// Each call is made with the example of the document.
#[test]
fn the_gateway_answers_as_the_document_says() {
    let server = Server::start(Flavor::Subject);
    let document = document();
    let paths = document["paths"].as_object().expect("there are paths");
    let (mut done, mut refused) = (0, 0);
    for (path, operations) in paths.iter().filter(|(path, _)| path.starts_with("/v3/")) {
        let operation = &operations["post"];
        let asked = &operation["requestBody"]["content"]["application/json"];
        let wrong = unsaid(&document, &asked["schema"], &asked["example"]);
        assert_eq!(wrong, None, "the example of {path}");
        let request = Request::new("POST", path.as_bytes()).body(asked["example"].to_string());
        let open = Open::send(server.addr(), &request).expect("the server accepts");
        let answers = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let streams = answers.get("properties").is_some();
        let answered =
            |progress: &http::Progress| progress.ended || streams && progress.lines() > 0;
        assert!(open.wait(http::PATIENCE, answered), "{path} is answered");
        let reply = open.progress().reply().expect("an answer");
        let text = reply.text();
        let first: Value =
            serde_json::from_str(text.lines().next().expect("a body")).expect("JSON");
        let schema = match reply.status() {
            200 => answers.clone(),
            status => {
                let range = format!("{}XX", status / 100);
                let at = operation["responses"][&range]["$ref"].as_str().expect("a response");
                let response = document.pointer(at.trim_start_matches('#')).expect("it is there");
                response["content"]["application/json"]["schema"].clone()
            }
        };
        assert_eq!(unsaid(&document, &schema, &first), None, "{path}: {text}");
        *if reply.status() == 200 { &mut done } else { &mut refused } += 1;
        open.close();
    }
    assert!(done > 30 && refused > 5, "{done} were done, {refused} refused");
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
