//! Both families of addresses, sockets in files, and listeners that are in each other's way.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::member::{PATIENCE, free_port, has_ipv6, port, start, takes_connections};
use crate::support::process::Process;

fn member(client: &str, peer: &str, metrics: &str) -> Process {
    let args = ["--listen-client-urls", client, "--advertise-client-urls", "http://127.0.0.1:1"]
        .into_iter()
        .chain(["--listen-peer-urls", peer, "--listen-metrics-urls", metrics, "--data-dir", "data"])
        .chain(["--initial-advertise-peer-urls", "http://127.0.0.1:1"])
        .map(str::to_owned);
    start("", &args.collect::<Vec<_>>())
}

/// `http://[::]:P` was refused over IPv4 and `http://0.0.0.0:P` over IPv6; etcd takes both on both.
#[test]
fn each_unspecified_address_means_both_families() {
    for any in ["0.0.0.0", "[::]"] {
        if any == "[::]" && !has_ipv6() {
            eprintln!("skipped: there is no IPv6 on this machine");
            continue;
        }
        let url = format!("http://{any}:0");
        let mut member = member(&url, &url, &url);
        for words in ["listening for peers on ", "listening for metrics on ", "serving insecure"] {
            let port = port(&mut member, words);
            let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
            if has_ipv6() {
                ips.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
            }
            for ip in ips {
                takes_connections(ip, port).unwrap_or_else(|error| {
                    panic!("{url} does not take connections to {ip}: {error}")
                });
            }
        }
    }
}

/// Each first attempt fails as it does where the system has no IPv6.
#[test]
fn without_ipv6_the_unspecified_address_is_that_of_ipv4() {
    let can =
        Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no strace, or it may not trace here");
        return;
    }
    let inject = "exec strace -D -f -o strace -e trace=socket -e inject=socket:error=EAFNOSUPPORT:when=1..3+2 \"$0\" \"$@\";";
    let args =
        ["--listen-client-urls=http://0.0.0.0:0", "--advertise-client-urls=http://127.0.0.1:1"]
            .into_iter()
            .chain(["--listen-peer-urls=http://0.0.0.0:0", "--data-dir=data"]);
    let mut member = start(inject, &args.map(str::to_owned).collect::<Vec<_>>());
    for words in ["listening for peers on 0.0.0.0:", "serving insecure client requests on 0.0.0.0:"]
    {
        let port = port(&mut member, words);
        takes_connections(Ipv4Addr::LOCALHOST.into(), port).expect("IPv4 is there");
    }
}

#[test]
fn a_listener_in_the_way_of_another_is_named_with_its_flag() {
    let (one, other) = (free_port(), free_port());
    for (client, peer, metrics, both) in [
        ("http://[::]:ONE", "http://127.0.0.1:OTHER", "http://0.0.0.0:ONE", ["client", "metrics"]),
        ("http://0.0.0.0:ONE", "http://127.0.0.1:ONE", "", ["peer", "client"]),
        ("http://127.0.0.1:ONE", "http://127.0.0.1:ONE", "", ["peer", "client"]),
        ("http://0.0.0.0:ONE,http://[::]:ONE", "http://127.0.0.1:OTHER", "", ["client", "client"]),
        ("unix://a:1", "http://127.0.0.1:OTHER", "unix://a:1", ["client", "metrics"]),
    ] {
        let urls = [client, peer, metrics]
            .map(|url| url.replace("ONE", &one.to_string()).replace("OTHER", &other.to_string()));
        let mut member = member(&urls[0], &urls[1], &urls[2]);
        assert!(!member.end().success());
        let log = member.log();
        for flag in both {
            assert!(log.contains(&format!("--listen-{flag}-urls=")), "{client}: {log}");
        }
        assert!(log.contains("leave one of them out"), "{client}: {log}");
    }
}

fn ask(folder: &Path, name: &str, target: &str) -> String {
    let mut stream =
        UnixStream::connect(folder.join(name)).expect("the socket is in the working directory");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("bytes can be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// etcd makes a socket in a file called `host:port`, and takes what a killed process left there.
#[test]
fn a_socket_in_a_file_is_served_for_each_kind_of_listener() {
    let mut member = member("unix://localhost:1", "unix://peers:2", "unix://metrics:3");
    member.line("ready to serve client requests");
    assert!(member.log().contains("serving insecure client requests on localhost:1"));
    for (name, target, words) in [
        ("localhost:1", "/v2/keys/", "\"action\":\"get\""),
        ("peers:2", "/members", "peerURLs"),
        ("metrics:3", "/health", "\"health\":\"true\""),
    ] {
        let answer = ask(member.folder(), name, target);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(words), "{name}: {answer}");
    }
    member.terminate();
    assert!(member.end().success());
    assert!(!member.folder().join("localhost:1").exists(), "a clean stop leaves no socket");
}

#[test]
fn a_socket_that_a_killed_process_left_behind_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    // Closed, but not removed.
    drop(UnixListener::bind(folder.path().join("a:1")).expect("a socket can be made"));
    let args = ["--listen-client-urls=unix://a:1", "--advertise-client-urls=http://127.0.0.1:1"]
        .into_iter()
        .chain(["--listen-peer-urls=http://127.0.0.1:0"]);
    let args: Vec<_> = args.map(str::to_owned).collect();
    let mut member = start(&format!("cd {};", folder.path().display()), &args);
    member.line("ready to serve client requests");
    assert!(ask(folder.path(), "a:1", "/version").starts_with("HTTP/1.1 200"));
}
