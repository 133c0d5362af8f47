//! What our tool does and the real one does not.

use std::ffi::OsStr;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use cairn::model::ETCD_VERSION;

use crate::support::dns::Dns;
use crate::support::server::{Flavor, Server};
use crate::tool::{Said, Tool, run};

fn fine(server: &Server, words: &[&str]) -> String {
    let said = Tool::Ours.ask(server.addr(), words, "");
    assert_eq!(said.code, Some(0), "{words:?}: {said:?}");
    said.out
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn lists_are_tables_or_json() {
    let server = Server::start(Flavor::Subject);
    let run = |words: &[&str]| fine(&server, words);
    run(&["set", "/b", "two"]);
    run(&["set", "/a/x", "one"]);
    run(&["user", "add", "bob:pw"]);
    let table = run(&["-w", "table", "ls", "-r", "--sort"]);
    let rows: Vec<_> = table.lines().collect();
    assert!(rows[1].starts_with("| KEY  | KIND | VALUE | CREATED | MODIFIED | TTL |"), "{table}");
    assert!(rows[3].starts_with("| /a   | dir  |       |"), "{table}");
    assert!(rows[5].starts_with("| /b   | key  | two   |"), "{table}");
    let members = run(&["member", "list", "-w", "table"]);
    assert!(members.contains("| STATUS  |") && members.contains("| started |"), "{members}");
    let members = run(&["-w", "json", "member", "list"]);
    assert!(members.starts_with("{\"members\":[{\"id\":"), "{members}");
    let members = json(&members);
    assert_eq!(members["members"][0]["isLeader"], true, "{members}");
    assert_eq!(json(&run(&["user", "list", "-w", "json"])), json(r#"{"users":["bob"]}"#));
    assert!(run(&["user", "list", "-w", "table"]).contains("| bob  |"));
    assert!(run(&["role", "list", "-w", "table"]).contains("| root | read /*; write /* |"));
    assert_eq!(json(&run(&["role", "list", "-w", "json"])), json(r#"{"roles":["root"]}"#));
    assert_eq!(json(&run(&["-w", "json", "ls"]))["node"]["dir"], true);
    let said = Tool::Ours.ask(server.addr(), &["-w", "tabel", "ls"], "");
    assert!(said.code == Some(1) && said.err.contains("choose table or json"), "{said:?}");
}

#[test]
fn errors_are_json_where_answers_are() {
    let server = Server::start(Flavor::Subject);
    let err = |words: &[&str]| {
        let said = Tool::Ours.ask(server.addr(), words, "");
        assert_ne!(said.code, Some(0), "{said:?}");
        json(&said.err)
    };
    let refusal = err(&["-o", "json", "get", "/nope"]);
    assert_eq!((&refusal["errorCode"], &refusal["cause"]), (&100.into(), &"/nope".into()));
    assert_eq!(err(&["-o", "json", "get"])["message"], "key required");
    assert_eq!(err(&["-o", "json", "user", "get", "x"])["message"], "auth: User x does not exist.");
    let nobody =
        err(&["-C", "http://127.0.0.1:1", "--endpoints", "http://127.0.0.1:1", "-o", "json", "ls"]);
    assert!(nobody["errors"][0].as_str().is_some_and(|text| text.contains("connection refused")));
}

#[test]
fn arguments_keep_their_order_around_options() {
    let server = Server::start(Flavor::Subject);
    // The real tool takes the last word here for the key.
    assert_eq!(fine(&server, &["set", "/k", "--ttl", "100", "v"]), "v\n");
    assert_eq!(fine(&server, &["get", "/k"]), "v\n");
    assert!(fine(&server, &["ls", "--recursive", "--debug"]).contains("/k\n"));
    let said = Tool::Ours.ask(server.addr(), &["rm", "/k", "--recusive"], "");
    assert!(said.code == Some(1) && said.err.contains("not defined: -recusive"), "{said:?}");
    let roles = ["user", "grant", "u", "--roles", "a,b"];
    fine(&server, &["user", "add", "u:p"]);
    ["a", "b"].iter().for_each(|role| drop(fine(&server, &["role", "add", role])));
    fine(&server, &roles);
    assert_eq!(fine(&server, &["user", "get", "u"]), "User: u\nRoles:   a b\n");
}

#[test]
fn what_is_no_text_is_refused_and_not_changed() {
    let server = Server::start(Flavor::Subject);
    let mut command = Tool::Ours.command();
    command.env("ETCDCTL_ENDPOINTS", format!("http://{}", server.addr()));
    command.args(["set", "/a"]).arg(OsStr::from_bytes(b"\xff"));
    let said = run(command, "");
    assert!(said.code == Some(1) && said.err.contains("no UTF-8"), "{said:?}");
    assert_eq!(fine(&server, &["ls"]), "");
}

#[test]
fn everything_below_a_directory_can_be_wiped() {
    let server = Server::start(Flavor::Subject);
    let run = |words: &[&str]| fine(&server, words);
    for key in ["/a", "/d/e/f", "/d/g", "/z"] {
        run(&["set", key, "v"]);
    }
    let said = Tool::Ours.ask(server.addr(), &["wipe", "/d"], "");
    assert!(said.code == Some(1) && said.err.contains("would remove 2 keys"), "{said:?}");
    assert_eq!(run(&["wipe", "--yes", "/d"]), "removed 2 keys and directories in /d\n");
    assert_eq!(run(&["ls", "-r", "--sort"]), "/a\n/d\n/z\n");
    assert_eq!(run(&["wipe", "--yes", "/"]), "removed 3 keys and directories in /\n");
    assert_eq!(run(&["ls", "-r"]), "");
    run(&["set", "/a", "v"]);
    assert_eq!(Tool::Ours.ask(server.addr(), &["wipe", "--yes", "/a"], "").code, Some(1));
}

#[test]
fn an_exported_document_can_be_imported() {
    let server = Server::start(Flavor::Subject);
    let run = |words: &[&str]| fine(&server, words);
    run(&["set", "/b", "line\nwith \"quotes\" <é>"]);
    run(&["mkdir", "/a/empty"]);
    run(&["mkdir", "/ttl", "--ttl", "1000"]);
    run(&["set", "/ttl/k", "v", "--ttl", "500"]);
    run(&["set", "/_hidden/k", "h"]);
    ["x", "y", "z"].iter().for_each(|value| drop(run(&["mk", "--in-order", "/q", value])));
    let document = run(&["export", "--hidden", "/_hidden"]);
    let other = Server::start(Flavor::Subject);
    let said = Tool::Ours.ask(other.addr(), &["import"], &document);
    assert_eq!(
        (said.code, &*said.out),
        (Some(0), "imported 11 keys and directories\n"),
        "{said:?}"
    );
    assert_eq!(fine(&other, &["get", "/_hidden/k"]), "h\n");
    assert_eq!(fine(&other, &["get", "/b"]), run(&["get", "/b"]));
    assert_eq!(fine(&other, &["ls", "-r", "-p", "--sort"]), run(&["ls", "-r", "-p", "--sort"]));
    let ttl = |words: &[&str]| json(&fine(&other, words))["node"]["ttl"].as_u64().unwrap_or(0);
    assert!((900..=1000).contains(&ttl(&["-o", "json", "ls", "/ttl"])));
    assert!((400..=500).contains(&ttl(&["-o", "json", "get", "/ttl/k"])));
    // A second time, over what is there; and what it is not made for.
    assert_eq!(Tool::Ours.ask(other.addr(), &["import", "-"], &document).code, Some(0));
    let said = Tool::Ours.ask(other.addr(), &["import"], "{}");
    assert!(said.code == Some(1) && said.err.contains("no document of export"), "{said:?}");
}

#[test]
fn a_request_that_was_not_sent_goes_to_the_next_member() {
    let server = Server::start(Flavor::Subject);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoints =
        format!("http://{},http://{}", nobody.local_addr().expect("it has one"), server.addr());
    drop(nobody);
    // Often enough that the one that is away is asked first.
    for number in 0..12 {
        let key = format!("/k{number}");
        let said =
            Tool::Ours.run(&["--endpoints", &endpoints, "--no-sync", "mk", &key, "v"], &[], "");
        assert_eq!((said.code, &*said.out), (Some(0), "v\n"), "{said:?}");
    }
}

#[test]
fn shells_complete_commands_and_keys() {
    let server = Server::start(Flavor::Subject);
    fine(&server, &["set", "/dir/one", "1"]);
    fine(&server, &["set", "/dir/two", "1"]);
    fine(&server, &["set", "/dirt", "1"]);
    let complete = |words: &[&str]| fine(&server, &[&["__complete"], words].concat());
    assert_eq!(complete(&["clus"]), "cluster-health\n");
    assert_eq!(complete(&["get", "/di"]), "/dir/\n/dirt\n");
    assert_eq!(complete(&["--debug=false", "rm", "-r", "/dir/t"]), "/dir/two\n");
    assert_eq!(complete(&["watch", "di"]), "dir/\ndirt\n");
    for shell in ["bash", "zsh", "fish"] {
        let script = fine(&server, &["completion", shell]);
        assert!(script.contains("__complete") && script.contains("cairnctl"), "{script}");
    }
    // In a real bash, with the tool under its name.
    let dir = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cairn"), dir.path().join("etcdctl"))
        .expect("a link");
    let tool = dir.path().join("etcdctl").display().to_string();
    let script = format!(
        "source <({tool} completion bash); COMP_WORDS=({tool} get /dir/o); COMP_CWORD=2; _cairn_ctl 2>/dev/null; echo \"${{COMPREPLY[@]}}\""
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).env("ETCDCTL_ENDPOINTS", format!("http://{}", server.addr()));
    let said = run(bash, "");
    assert_eq!(said.out, "/dir/one\n", "{said:?}");
}

#[test]
fn a_variable_says_for_which_version_of_the_api_it_is() {
    let ask = |words: &[&str], api: &str| Tool::Ours.run(words, &[("ETCDCTL_API", api)], "");
    for (api, expected) in [("", "API version: 2\n"), ("2", "API version: 2\n")] {
        assert!(ask(&["-v"], api).out.contains(expected), "{api:?}");
    }
    let said = ask(&["version"], "3");
    let begin = format!("etcdctl version: {ETCD_VERSION}\nAPI version: 3.4\n");
    assert!(said.out.starts_with(&begin), "{said:?}");
    let said = ask(&["ls"], "3");
    assert_eq!(said.code, Some(1));
    assert!(said.err.starts_with("`ls` is of the version 2 API: set ETCDCTL_API=2"), "{said:?}");
    let said = ask(&["put", "a", "b"], "2");
    assert_eq!(said.code, Some(3));
    assert!(said.err.contains("`put` is of the version 3 API: set ETCDCTL_API=3"), "{said:?}");
    let said = ask(&["ls"], "4");
    assert!(said.code == Some(1) && said.err == "unsupported API version 4\n", "{said:?}");
    for words in [&["--help"][..], &["help", "put"], &["member"], &["role", "get", "-h"], &["man"]]
    {
        let said = ask(words, "3");
        assert!(said.code == Some(0) && said.err.is_empty() && !said.out.is_empty(), "{said:?}");
    }
    assert!(ask(&["--help"], "3").out.contains("ETCDCTL_API=3"));
}

#[test]
fn help_manual_and_version_need_no_member() {
    let ask = |words: &[&str]| -> Said { Tool::Ours.run(words, &[], "") };
    for words in [
        &["--help"][..],
        &["help", "set"],
        &["member"],
        &["role", "grant", "-h"],
        &["man"],
        &["-v"],
    ] {
        let said = ask(words);
        assert!(said.code == Some(0) && said.err.is_empty() && !said.out.is_empty(), "{said:?}");
    }
    let begin = format!("etcdctl version: {ETCD_VERSION}\nAPI version: 2\n");
    assert!(ask(&["-v"]).out.starts_with(&begin));
    assert!(ask(&["man"]).out.starts_with(".TH ETCDCTL 1"));
    let said = ask(&["ls", "--foo"]);
    assert_eq!(said.code, Some(1));
    assert_eq!(said.err, "flag provided but not defined: -foo\n");
    assert!(
        said.out.starts_with("Incorrect Usage: flag provided but not defined: -foo\n\nNAME:\n")
    );
}

#[test]
fn nobody_reading_ends_it_quietly() {
    let server = Server::start(Flavor::Subject);
    for number in 0..2000 {
        let key = format!("/{}{number}", "long".repeat(20));
        let request =
            crate::support::http::Request::new("PUT", format!("/v2/keys{key}")).form("value=v");
        crate::support::http::ask_within(server.addr(), &request, crate::tool::PATIENCE)
            .expect("an answer");
    }
    let mut command = Tool::Ours.command();
    command.args(["ls"]).env("ETCDCTL_ENDPOINTS", format!("http://{}", server.addr()));
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut out = child.stdout.take().expect("it is piped");
    out.read_exact(&mut [0; 10]).expect("it prints");
    drop(out);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0), "{output:?}");
}

#[test]
fn endpoints_are_found_in_the_dns() {
    let server = Server::start(Flavor::Subject);
    let record =
        format!("--srv-host=_etcd-client._tcp.ctl.test,localhost,{}", server.addr().port());
    let Some(dns) = Dns::start(&[&record]) else { return };
    let dns = dns.address.to_string();
    let ask = |words: &[&str], variables: &[(&str, &str)]| {
        Tool::Ours.run(&[&["--discovery-dns", &dns, "--debug"], words].concat(), variables, "")
    };
    let said = ask(&["-D", "ctl.test", "--insecure-discovery", "set", "/a", "1"], &[]);
    assert_eq!((&*said.out, said.code), ("1\n", Some(0)), "{said:?}");
    let variables = [("ETCDCTL_DISCOVERY_SRV", "ctl.test"), ("ETCDCTL_INSECURE_DISCOVERY", "1")];
    let said = ask(&["--no-sync", "get", "/a"], &variables);
    assert!(said.err.contains("Cluster-Endpoints: http://localhost:"), "{said:?}");
    // What is not secured is not taken without being asked for.
    let nobody = ["-D", "ctl.test", "-C", "http://127.0.0.1:1", "get", "/a"];
    let said = ask(&nobody, &[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err.starts_with("ignoring discovered insecure endpoint \"http://localhost:"),
        "{said:?}"
    );
    let said = ask(&["-D", "none.test", "ls"], &[]);
    assert!(said.code == Some(1) && said.err.contains("_etcd-client._tcp.none.test"), "{said:?}");
}

/// As etcd 0.4 wrote it, shortened: a file, one that goes soon, one that is gone, a directory, a hidden one.
const SNAPSHOT: &str = r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"","Children":{
"a":{"Path":"/a","CreatedIndex":2,"ModifiedIndex":2,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"one","Children":null},
"gone":{"Path":"/gone","CreatedIndex":3,"ModifiedIndex":3,"ExpireTime":"2014-05-01T10:00:00.123Z","ACL":"","Value":"g","Children":null},
"d":{"Path":"/d","CreatedIndex":4,"ModifiedIndex":4,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"","Children":{
"b":{"Path":"/d/b","CreatedIndex":4,"ModifiedIndex":4,"ExpireTime":"2114-05-01T10:00:00Z","ACL":"","Value":"two","Children":null}}},
"_h":{"Path":"/_h","CreatedIndex":5,"ModifiedIndex":5,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"","Children":{
"x":{"Path":"/_h/x","CreatedIndex":5,"ModifiedIndex":5,"ExpireTime":"0001-01-01T00:00:00Z","ACL":"","Value":"three","Children":null}}}}},
"WatcherHub":{"EventHistory":{}},"CurrentIndex":5,"Stats":{},"CurrentVersion":2}"#;

#[test]
fn a_snapshot_of_old_can_be_imported() {
    let server = Server::start(Flavor::Subject);
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("snap").display().to_string();
    std::fs::write(&file, SNAPSHOT).expect("it can be written");
    let said = fine(&server, &["import", "--snap", &file, "--hidden", "/_h", "-c", "2"]);
    let expected =
        format!("starting to import snapshot {file} with 2 clients\nfinished importing 4 keys\n");
    assert_eq!(said, expected);
    assert_eq!(fine(&server, &["get", "/a"]), "one\n");
    assert_eq!(fine(&server, &["get", "/_h/x"]), "three\n");
    let ttl = |key| json(&fine(&server, &["-o", "json", "get", key]))["node"]["ttl"].as_u64();
    assert!(ttl("/gone").is_some_and(|ttl| (200..=300).contains(&ttl)));
    assert!(ttl("/d/b").is_some_and(|ttl| ttl > 1 << 30));
    let said = Tool::Ours.ask(server.addr(), &["import", "--snap", "/nowhere"], "");
    assert!(
        said.code == Some(1) && said.err.contains("cannot read snapshot file /nowhere"),
        "{said:?}"
    );
}
