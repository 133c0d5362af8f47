//! TLS among members.

use std::thread;
use std::time::{Duration, Instant};

use crate::pki::{Pki, Wanted};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::{DEMANDING, Secure, address_behind, curl};

/// So long a cluster has to find a leader, or to become quiet again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three places for members.
struct Places {
    pki: Pki,
    clients: [Port; 3],
    peers: [Port; 3],
}

impl Places {
    fn new(mut pki: Pki) -> Self {
        pki.sign("peer", &Wanted { common_name: "peer", ..Wanted::SERVER });
        let ports = || [(); 3].map(|()| Port::reserve().expect("a port"));
        Self { pki, clients: ports(), peers: ports() }
    }

    fn peer_url(&self, member: usize, scheme: &str) -> String {
        format!("{scheme}://{}", self.peers[member].addr())
    }

    /// Starts a member whose peer URL has this scheme; `all` are the schemes of the founders.
    fn start(&self, member: usize, scheme: &str, flags: &[&str]) -> Process {
        let (client, own) = (self.clients[member].url(), self.peer_url(member, scheme));
        let founders: Vec<_> =
            (0..3).map(|n| format!("m{n}={}", self.peer_url(n, scheme))).collect();
        let (name, founders) = (format!("m{member}"), founders.join(","));
        let data = self.pki.word(&name);
        let words = [
            "--name",
            &name,
            "--data-dir",
            &data,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &own,
            "--initial-advertise-peer-urls",
            &own,
            "--initial-cluster",
            &founders,
        ];
        let flags: Vec<_> = flags.iter().map(|word| crate::file(&self.pki, word)).collect();
        let flags = flags.iter().map(String::as_str);
        Process::cairn(&words.into_iter().chain(flags).collect::<Vec<_>>())
    }

    fn url(&self, member: usize, path: &str) -> String {
        format!("{}{path}", self.clients[member].url())
    }

    /// Writes through a member until that works, as clients do in an election.
    fn put(&self, member: usize, key: &str) {
        let begun = Instant::now();
        loop {
            let url = self.url(member, &format!("/v2/keys/{key}"));
            let output = curl(&["-XPUT", "-d", "value=1", &url].map(str::to_owned));
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.starts_with("{\"action\":\"set\"") {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{output:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a member knows of a key.
    fn get(&self, member: usize, key: &str) -> String {
        let url = self.url(member, &format!("/v2/keys/{key}?quorum=true"));
        String::from_utf8_lossy(&curl(&[url]).stdout).into_owned()
    }
}

const FILES: [&str; 7] = [
    "--peer-cert-file",
    "peer.pem",
    "--peer-key-file",
    "peer.key",
    "--peer-client-cert-auth",
    "--peer-trusted-ca-file",
    "ca.pem",
];

#[test]
fn members_show_certificates_to_each_other_and_strangers_stay_out() {
    let mut pki = Pki::new();
    pki.sign("intruder", &Wanted { common_name: "intruder", ..Wanted::SERVER });
    let places = Places::new(pki);
    let flags = [&FILES[..], &["--peer-cert-allowed-cn", "peer"]].concat();
    let mut members: Vec<_> = (0..3).map(|n| places.start(n, "https", &flags)).collect();
    for member in &mut members {
        member.line("ready to serve client requests");
    }
    for n in 0..3 {
        places.put(n, &format!("a{n}"));
    }
    for n in 0..3 {
        assert!(places.get((n + 1) % 3, &format!("a{n}")).contains("\"value\":\"1\""));
    }
    // The HTTP of that port is for members as well.
    let list = format!("{}/members", places.peer_url(0, "https"));
    let ask = |certificate: Option<&str>| {
        let mut words = vec!["--cacert".to_owned(), places.pki.word("ca.pem")];
        if let Some(name) = certificate {
            words.extend(["--cert".to_owned(), places.pki.word(&format!("{name}.pem"))]);
            words.extend(["--key".to_owned(), places.pki.word(&format!("{name}.key"))]);
        }
        words.push(list.clone());
        curl(&words)
    };
    assert!(String::from_utf8_lossy(&ask(Some("peer")).stdout).contains("\"name\":\"m0\""));
    assert!(!ask(None).status.success());
    assert!(!ask(Some("intruder")).status.success());
    members[0]
        .line("the certificate's common name is \"intruder\", and only \"peer\" is allowed here");
    // A member that loses a peer finds it again.
    members.pop();
    let mut back = places.start(2, "https", &flags);
    back.line("ready to serve client requests");
    places.put(2, "b");
}

#[test]
fn a_member_of_another_authority_is_told_why_it_cannot_join() {
    let places = Places::new(Pki::new());
    let mut other = Pki::new();
    other.sign("peer", &Wanted::SERVER);
    let mut members: Vec<_> = (0..2).map(|n| places.start(n, "https", &FILES)).collect();
    for member in &mut members {
        member.line("ready to serve client requests");
    }
    let [cert, key, authority] =
        ["peer.pem", "peer.key", "ca.pem"].map(|name| other.path(name).display().to_string());
    let flags = [
        "--peer-cert-file",
        &cert,
        "--peer-key-file",
        &key,
        "--peer-client-cert-auth",
        "--peer-trusted-ca-file",
        &authority,
    ];
    // Paths of its own: they end like those of the PKI, but are absolute.
    let mut stranger = places.start(2, "https", &flags);
    let line = stranger.line("cannot be reached");
    assert!(line.contains("not in the trusted-ca-file here"), "{line}");
    members[0].line("rejected connection from 127.0.0.1");
    places.put(0, "a");
}

#[test]
fn a_running_cluster_moves_to_tls_member_by_member() {
    let places = Places::new(Pki::new());
    let mut members: Vec<_> = (0..3).map(|n| places.start(n, "http", &[])).collect();
    for member in &mut members {
        member.line("ready to serve client requests");
    }
    places.put(0, "before");
    let restart = |members: &mut Vec<Process>, n: usize, scheme: &str| {
        members[n].terminate();
        members[n].end();
        members[n] = places.start(n, scheme, &FILES);
        members[n].line("ready to serve client requests");
        places.put(n, &format!("{scheme}{n}"));
    };
    // First all learn to speak TLS: the files are ignored for plain listeners, and used to call others.
    for n in 0..3 {
        restart(&mut members, n, "http");
    }
    let id = |n: usize| {
        let list =
            String::from_utf8_lossy(&curl(&[places.url(0, "/v2/members")]).stdout).into_owned();
        let at = list.find(&format!("\"name\":\"m{n}\"")).unwrap_or_else(|| panic!("{list}"));
        let begin = list[..at].rfind("\"id\":\"").expect("an id") + 6;
        list[begin..].split('"').next().expect("an id").to_owned()
    };
    // Then each says that it moves, and moves.
    for n in 0..3 {
        let url = places.url((n + 1) % 3, &format!("/v2/members/{}", id(n)));
        let body = format!("{{\"peerURLs\":[\"{}\"]}}", places.peer_url(n, "https"));
        let words = [
            "-XPUT",
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
            "-w",
            "%{http_code}",
            &url,
        ];
        let output = curl(&words.map(str::to_owned));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "204", "{output:?}");
        restart(&mut members, n, "https");
    }
    for n in 0..3 {
        for key in ["before", "http0", "http1", "http2", "https0", "https1", "https2"] {
            let value = places.get(n, key);
            assert!(value.contains("\"value\":\"1\""), "m{n} {key}: {value}");
        }
    }
    let list = String::from_utf8_lossy(&curl(&[places.url(0, "/v2/members")]).stdout).into_owned();
    assert!(!list.contains(&format!("\"{}\"", places.peer_url(0, "http"))), "{list}");
}

#[test]
fn peers_can_be_revoked_and_must_have_the_right_name() {
    let mut pki = Pki::new();
    let peers = Wanted { names: &["peer.example"], ..Wanted::SERVER };
    let revoked = pki.sign("revoked", &peers);
    pki.sign("good", &peers);
    pki.sign("own", &Wanted::SERVER);
    pki.revoke(&[revoked]);
    let word = |name: &str| pki.word(name);
    let any = "https://127.0.0.1:0";
    let mut member = Process::cairn(&[
        "--listen-peer-urls",
        any,
        "--initial-advertise-peer-urls",
        any,
        "--initial-cluster",
        "default=https://127.0.0.1:0",
        "--peer-cert-file",
        &word("own.pem"),
        "--peer-key-file",
        &word("own.key"),
        "--peer-ca-file",
        &word("ca.pem"),
        "--peer-crl-file",
        &word("crl.pem"),
        "--peer-cert-allowed-hostname",
        "peer.example",
    ]);
    member.line("ready to serve client requests");
    let url = format!("https://{}/members", address_behind(&mut member, "listening for peers on "));
    let ask = |name: &str| {
        let (cert, key) = (word(&format!("{name}.pem")), word(&format!("{name}.key")));
        let words = ["--cacert", &word("ca.pem"), "--cert", &cert, "--key", &key, &url];
        curl(&words.map(str::to_owned)).status.success()
    };
    assert!(ask("good"));
    assert!(!ask("revoked"));
    assert!(!ask("own"));
    member.line("Revoked");
    member.line(
        "the certificate is not for \"peer.example\", the only host name that is allowed here",
    );
}

#[test]
fn a_member_is_added_to_a_cluster_with_tls() {
    let places = Places::new(Pki::new());
    let client = places.clients[0].url();
    let founders = |count: usize| {
        let founder = |n| format!("m{n}={}", places.peer_url(n, "https"));
        (0..count).map(founder).collect::<Vec<_>>().join(",")
    };
    let mut first =
        places.start(0, "https", &[&FILES[..], &["--initial-cluster", &founders(1)]].concat());
    first.line("ready to serve client requests");
    places.put(0, "before");
    let body = format!("{{\"peerURLs\":[\"{}\"]}}", places.peer_url(1, "https"));
    let url = format!("{client}/v2/members");
    let words = ["-H", "Content-Type: application/json", "-d", &body, "-w", "%{http_code}", &url];
    let output = curl(&words.map(str::to_owned));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("201"), "{output:?}");
    let list = founders(2);
    let joins = ["--initial-cluster", &list, "--initial-cluster-state", "existing"];
    let mut second = places.start(1, "https", &[&FILES[..], &joins].concat());
    second.line("ready to serve client requests");
    assert!(places.get(1, "before").contains("\"value\":\"1\""));
}

#[test]
fn founders_find_each_other_in_a_directory_that_demands_certificates() {
    let mut pki = Pki::new();
    pki.sign("alice", &Wanted::ALICE);
    let secure = Secure::start(pki, &DEMANDING);
    let size = "/v2/keys/found/_config/size";
    secure.told(size, Some("alice"), &["-XPUT", "-d", "value=1"]);
    let directory = format!("{}/v2/keys/found", secure.url);
    let word = |name: &str| secure.pki.word(name);
    let start = |files: &[&str]| {
        let found = ["--discovery", directory.as_str()];
        Process::cairn(&[&found[..], files].concat())
    };
    let (cert, key, authority) = (word("alice.pem"), word("alice.key"), word("ca.pem"));
    let pair = ["--peer-cert-file", &cert, "--peer-key-file", &key];
    let mut stranger = start(&pair);
    stranger.line("not in the trusted-ca-file here");
    drop(stranger);
    let mut founder = start(&[&pair[..], &["--peer-trusted-ca-file", &authority]].concat());
    founder.line("ready to serve client requests");
}
