//! TLS on both sides of a proxy, with certificates that openssl made, seen by curl and etcdctl.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::authority::{Authority, replace};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::proxy::{OWN, Proxy};
use crate::support::server::Flavor;
use crate::{PATIENCE, wait_until};

const HTTPS: &str = "https://127.0.0.1:0";

/// A member that demands certificates of clients and of peers.
struct Member {
    process: Process,
    peer: String,
    _client: Port,
}

impl Member {
    /// With the certificate `member` of this authority, which vouches for all others too.
    fn start(authority: &Authority) -> Self {
        Self::start_with(authority, &[])
    }

    fn start_with(authority: &Authority, more: &[&str]) -> Self {
        let [cert, key] = ["member.pem", "member.key"].map(|file| authority.word(file));
        let (ca, any) = (authority.word("ca.pem"), format!("default={HTTPS}"));
        // Proxies ask where the member says that it is.
        let (port, url) = port("https");
        let urls = ["--listen-client-urls", &url, "--advertise-client-urls", &url];
        let of_peers = ["--listen-peer-urls", HTTPS, "--initial-advertise-peer-urls", HTTPS];
        let own = ["--cert-file", &cert, "--key-file", &key, "--client-cert-auth"];
        let own_of_peers = ["--peer-cert-file", &cert, "--peer-key-file", &key];
        let trust = ["--trusted-ca-file", &ca, "--peer-trusted-ca-file", &ca];
        let founds = ["--initial-cluster", &any, "--peer-client-cert-auth"];
        let words = [&urls[..], &of_peers, &own, &own_of_peers, &trust, &founds, more].concat();
        let mut process = Process::cairn(&words);
        process.line("ready to serve client requests");
        let peer = address_behind(&mut process, "listening for peers on ");
        Self { process, peer, _client: port }
    }

    fn list(&self) -> String {
        format!("--initial-cluster=default=https://{}", self.peer)
    }
}

/// A port for a client URL, and the URL.
fn port(scheme: &str) -> (Port, String) {
    let port = Port::reserve().expect("a free port");
    let url = format!("{scheme}://{}", port.addr());
    (port, url)
}

/// The address that stands behind these words in a log.
fn address_behind(process: &mut Process, words: &str) -> String {
    process.line(words).rsplit(' ').next().expect("an address").to_owned()
}

/// What a proxy shows to clients and members, and whom it trusts: names of files of an authority.
fn flags(authority: &Authority, side: &str, name: &str, trusts: Option<&str>) -> Vec<String> {
    let [cert, key] = ["pem", "key"].map(|end| authority.word(&format!("{name}.{end}")));
    let mut flags = vec![format!("--{side}cert-file={cert}"), format!("--{side}key-file={key}")];
    flags.extend(trusts.map(|ca| format!("--{side}trusted-ca-file={ca}")));
    flags
}

/// Starts a proxy that serves at `listen`, and waits until it listens.
fn start(listen: &str, words: &[Vec<String>]) -> Proxy {
    let words: Vec<_> = words.iter().flatten().map(String::as_str).collect();
    let all = ["--proxy=on", "--listen-client-urls", listen, "--proxy-refresh-interval=500"];
    Proxy::of(Process::cairn(&[&all[..], &words].concat()))
}

/// Someone who asks with curl.
struct Curl {
    base: String,
    words: Vec<String>,
}

impl Curl {
    /// At a proxy, trusting this authority.
    fn at(proxy: &Proxy, scheme: &str, authority: &Authority) -> Self {
        let words = vec!["--cacert".to_owned(), authority.word("ca.pem")];
        Self { base: format!("{scheme}://{}", proxy.addr), words }
    }

    /// The same with a certificate of `authority`.
    fn with(mut self, authority: &Authority, name: &str) -> Self {
        let [cert, key] = ["pem", "key"].map(|end| authority.word(&format!("{name}.{end}")));
        self.words.extend(["--cert".to_owned(), cert, "--key".to_owned(), key]);
        self
    }

    fn command(&self, path: &str, more: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
        command.args(&self.words).args(more).arg(format!("{}{path}", self.base));
        command
    }

    fn ask(&self, path: &str, more: &[&str]) -> Output {
        self.command(path, more).output().expect("curl is there")
    }

    /// The body of an answer that comes.
    fn told(&self, path: &str, more: &[&str]) -> String {
        let output = self.ask(path, more);
        assert!(output.status.success(), "{path}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The status of an answer.
    fn status(&self, path: &str, more: &[&str]) -> String {
        self.told(path, &[&["-o", "/dev/null", "-w", "%{http_code}"], more].concat())
    }

    /// Waits until the proxy knows so many members.
    fn wait_for(&self, members: usize) {
        wait_until("the members are known", || {
            self.told(OWN, &[]).matches("https://").count() == members
        });
    }

    /// The common name of the certificate that a new connection is shown.
    fn shown(&self) -> String {
        let said = self.ask("/version", &["--verbose"]).stderr;
        let said = String::from_utf8_lossy(&said).into_owned();
        let line = said.lines().find(|line| line.contains("subject: "));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        line.rsplit("CN=").next().expect("a name").trim().to_owned()
    }
}

/// A watch by curl: its lines as they come. Ended when dropped.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(curl: &Curl, path: &str) -> Self {
        let mut command = curl.command(path, &["--no-buffer", "--verbose"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("curl is there");
        // Few lines come, and the one who reads is the test.
        let (lines_tx, lines) = mpsc::sync_channel(256);
        read(child.stdout.take().expect("it is piped"), lines_tx.clone());
        read(child.stderr.take().expect("it is piped"), lines_tx);
        let watch = Self { child, lines };
        // Behind its head the watch is there.
        watch.line("X-Etcd-Index:");
        watch
    }

    /// Waits for a line with these words.
    fn line(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no line with {words:?}: {error}"));
            if line.contains(words) {
                return line;
            }
        }
    }
}

/// Hands the lines of an output over as they come.
fn read(output: impl Read + Send + 'static, lines_tx: mpsc::SyncSender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines_tx.send(line).is_err() {
                return;
            }
        }
    });
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Clients and members have authorities of their own, as where an operator keeps the two apart.
#[test]
fn both_sides_demand_certificates() {
    let (members, clients) = (Authority::new(), Authority::new());
    members.sign("member");
    members.sign("proxy");
    clients.sign("alice");
    members.sign("mallory");
    let member = Member::start(&members);
    // What the proxy shows and trusts is the same on both sides, as in etcd: so both authorities stand in one file.
    let both = clients.path("both.pem");
    let read =
        |authority: &Authority| fs::read_to_string(authority.path("ca.pem")).expect("a file");
    fs::write(&both, read(&members) + &read(&clients)).expect("the folder is ours");
    let trusts = both.display().to_string();
    let of_clients = flags(&members, "", "proxy", Some(&trusts));
    let of_peers = flags(&members, "peer-", "proxy", Some(&members.word("ca.pem")));
    let more = vec!["--client-cert-auth".to_owned(), member.list()];
    let proxy = start(HTTPS, &[of_clients, of_peers, more]);
    let alice = Curl::at(&proxy, "https", &members).with(&clients, "alice");
    alice.wait_for(1);

    let put = ["-XPUT", "-d", "value=1"];
    assert_eq!(alice.status("/v2/keys/a", &put), "201");
    let watch = Watch::start(&alice, "/v2/keys/a?wait=true&stream=true");
    assert_eq!(alice.status("/v2/keys/a", &["-XPUT", "-d", "value=2"]), "200");
    assert!(watch.line("\"action\"").contains("\"value\":\"2\""));
    assert_eq!(alice.status("/v2/keys/a?prevValue=2", &["-XDELETE"]), "200");
    assert!(watch.line("\"action\"").contains("compareAndDelete"));
    drop(watch);
    let large = clients.path("large");
    fs::write(&large, vec![b'x'; 3 << 20]).expect("the folder is ours");
    let form = format!("value@{}", large.display());
    assert_eq!(alice.status("/v2/keys/large", &["-XPUT", "--data-urlencode", &form]), "201");
    assert!(alice.told("/v2/keys/large?quorum=true", &[]).len() > 3 << 20);
    assert!(alice.told("/metrics", &[]).contains("etcd_proxy_requests_total{method=\"PUT\"} 3"));
    for version in ["1.2", "1.3"] {
        let only = [&format!("--tlsv{version}"), "--tls-max", version];
        assert_eq!(alice.status("/version", &only), "200", "{version}");
    }

    let nobody = Curl::at(&proxy, "https", &members);
    let stranger = Authority::new();
    stranger.sign("eve");
    let eve = Curl::at(&proxy, "https", &members).with(&stranger, "eve");
    for refused in [&nobody, &eve] {
        for path in ["/v2/keys/", OWN, "/metrics", "/version"] {
            let output = refused.ask(path, &[]);
            assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        }
    }
    let plain = Curl::at(&proxy, "http", &members);
    assert_eq!(plain.status("/v2/keys/", &[]), "400");
    let doubts = Curl::at(&proxy, "https", &stranger).with(&clients, "alice");
    assert_eq!(doubts.ask("/version", &[]).status.code(), Some(60), "curl verifies the proxy");
    // The member itself knows nothing of the clients' authority: who comes past the proxy is kept out.
    let direct = alice.told(OWN, &[]);
    let direct = direct.split('"').find(|text| text.starts_with("https://")).expect("a URL");
    let past = |authority, name| {
        let words = Curl::at(&proxy, "https", &members).with(authority, name).words;
        let base = direct.to_owned();
        Curl { base, words }.ask("/v2/keys/", &[]).status.success()
    };
    assert!(!past(&clients, "alice"));
    assert!(past(&members, "mallory"), "the member's own authority vouches for it");
}

#[test]
fn etcdctl_goes_through_with_its_certificate() {
    let authority = Authority::new();
    for name in ["member", "proxy", "alice"] {
        authority.sign(name);
    }
    let member = Member::start(&authority);
    let ca = authority.word("ca.pem");
    let both = ["", "peer-"].map(|side| flags(&authority, side, "proxy", Some(&ca)));
    let [of_clients, of_peers] = both;
    let more = vec!["--client-cert-auth".to_owned(), member.list()];
    let proxy = start(HTTPS, &[of_clients, of_peers, more]);
    Curl::at(&proxy, "https", &authority).with(&authority, "alice").wait_for(1);
    let [cert, key] = ["alice.pem", "alice.key"].map(|file| authority.word(file));
    let url = format!("https://{}", proxy.addr);
    let etcdctl = |words: &[&str]| {
        let mut command = Command::new(Flavor::Subject.program());
        command.args(["etcdctl", "--no-sync", "-C", &url, "--ca-file", &ca]);
        command.args(["--cert-file", &cert, "--key-file", &key]).args(words);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    assert_eq!(etcdctl(&["set", "/a", "1"]), "1");
    assert_eq!(etcdctl(&["get", "/a"]), "1");
    assert_eq!(etcdctl(&["ls"]), "/a");
    assert!(etcdctl(&["member", "list"]).contains("isLeader=true"));
    assert!(etcdctl(&["cluster-health"]).ends_with("cluster is healthy"));
}

/// A proxy on each host: programs that know no TLS reach members that demand it.
#[test]
fn clients_may_be_plain_where_members_demand_certificates() {
    let authority = Authority::new();
    authority.sign("member");
    authority.sign("proxy");
    let member = Member::start(&authority);
    let of_peers = flags(&authority, "peer-", "proxy", Some(&authority.word("ca.pem")));
    let proxy = start("http://127.0.0.1:0", &[of_peers, vec![member.list()]]);
    let curl = Curl::at(&proxy, "http", &authority);
    curl.wait_for(1);
    assert_eq!(curl.status("/v2/keys/a", &["-XPUT", "-d", "value=1"]), "201");
    assert!(curl.told("/v2/keys/a", &[]).contains("\"value\":\"1\""));
}

#[test]
fn members_may_be_plain_where_clients_speak_tls() {
    let authority = Authority::new();
    authority.sign("proxy");
    let (_port, url) = port("http");
    let any = "http://127.0.0.1:0";
    let urls = ["--listen-client-urls", &url, "--advertise-client-urls", &url];
    let founders = format!("default={any}");
    let founds = ["--initial-advertise-peer-urls", any, "--initial-cluster", &founders];
    let mut member = Process::cairn(&[urls, founds].concat());
    member.line("ready to serve client requests");
    let peer = address_behind(&mut member, "listening for peers on ");
    let list = vec![format!("--initial-cluster=default=http://{peer}")];
    let proxy = start(HTTPS, &[flags(&authority, "", "proxy", None), list]);
    let curl = Curl::at(&proxy, "https", &authority);
    wait_until("the member is known", || curl.told(OWN, &[]).contains("http://"));
    assert_eq!(curl.status("/v2/keys/a", &["-XPUT", "-d", "value=1"]), "201");
    assert!(curl.told("/v2/keys/a", &[]).contains("\"value\":\"1\""));
}

/// What an operator gets wrong, and what the proxy's log says about it.
#[test]
fn what_does_not_fit_on_the_members_side_is_said_with_its_fix() {
    let (authority, other) = (Authority::new(), Authority::new());
    for name in ["member", "proxy"] {
        authority.sign(name);
    }
    other.sign("proxy");
    let member = Member::start(&authority);
    let of = |side: &str, from: &Authority, trusts: &Authority| {
        flags(from, side, "proxy", Some(&trusts.word("ca.pem")))
    };
    let plain = "http://127.0.0.1:0";
    let zero = r#"{"message":"httpproxy: zero endpoints currently available"}"#;
    let ca_alone = vec![format!("--peer-trusted-ca-file={}", authority.word("ca.pem"))];
    for (words, says) in [
        // The proxy does not know the members' authority.
        (of("peer-", &authority, &other), "that is not in the trusted-ca-file here"),
        // The members do not know the proxy's.
        (
            of("peer-", &other, &authority),
            "refuses the certificate that is shown to it, or misses one",
        ),
        (ca_alone, "refuses the certificate that is shown to it, or misses one"),
    ] {
        let mut proxy = start(plain, &[words, vec![member.list()]]);
        // Whether the refusal comes before the request is given up is the system's choice: it is asked again until it does.
        let line = proxy.process.line(says);
        assert!(line.contains("could not retrieve cluster information"), "{line}");
        let curl = Curl::at(&proxy, "http", &authority);
        assert_eq!(
            (curl.told("/v2/keys/", &[]).as_str(), curl.status("/v2/keys/", &[]).as_str()),
            (zero, "503")
        );
    }
    // Peers are asked with the one pair of files, clients' URLs with the other.
    for (words, says) in [
        (of("", &other, &other), "that is not in the trusted-ca-file here"),
        (of("", &other, &authority), "refuses the certificate that is shown to it, or misses one"),
    ] {
        let words = [words, of("peer-", &authority, &authority)].concat();
        let mut proxy = start(plain, &[words, vec![member.list()]]);
        let curl = Curl::at(&proxy, "http", &authority);
        curl.wait_for(1);
        wait_until("the log says why", || {
            assert_eq!(curl.status("/v2/keys/", &[]), "502");
            proxy.process.log().contains(says)
        });
        let line = proxy.process.line(says);
        assert!(line.contains("failed to direct request to https://"), "{line}");
    }
}

/// A URL with a host for which the member has no certificate.
#[test]
fn a_member_with_a_certificate_for_another_name_is_not_asked() {
    let authority = Authority::new();
    authority.sign_for("member", "DNS:elsewhere.example");
    authority.sign("proxy");
    let member = Member::start(&authority);
    let of_peers = flags(&authority, "peer-", "proxy", Some(&authority.word("ca.pem")));
    let mut proxy = start("http://127.0.0.1:0", &[of_peers, vec![member.list()]]);
    let line = proxy.process.line("could not retrieve cluster information");
    assert!(line.contains("put 127.0.0.1 into the subject alternative names"), "{line}");
}

/// An authority is replaced: the members stop to trust the old one, and the proxy gets a certificate of the new one. Neither is
/// restarted.
#[test]
fn certificates_that_are_replaced_are_used_on_both_sides() {
    let (old, new) = (Authority::new(), Authority::new());
    for name in ["member", "proxy"] {
        old.sign(name);
    }
    new.sign_for("proxy-renewed", "IP:127.0.0.1");
    let clients = old.path("clients-ca.pem");
    fs::copy(old.path("ca.pem"), &clients).expect("a copy");
    let ca = clients.display().to_string();
    let mut member = Member::start_with(&old, &["--trusted-ca-file", &ca]);
    let words = ["", "peer-"].map(|side| flags(&old, side, "proxy", Some(&old.word("ca.pem"))));
    // Clients of the proxy need a certificate as its members do: one file says whom it trusts.
    let [of_clients, of_peers] = words;
    old.sign("alice");
    let mut proxy = start(HTTPS, &[of_clients, of_peers, vec![member.list()]]);
    let both = old.path("both.pem");
    let read =
        |authority: &Authority| fs::read_to_string(authority.path("ca.pem")).expect("a file");
    fs::write(&both, read(&old) + &read(&new)).expect("the folder is ours");
    let mut curl = Curl::at(&proxy, "https", &old).with(&old, "alice");
    curl.words[1] = both.display().to_string();
    curl.wait_for(1);
    assert_eq!(curl.shown(), "proxy");
    assert_eq!(curl.status("/v2/keys/a", &["-XPUT", "-d", "value=1"]), "201");

    replace(&new.path("ca.pem"), &clients);
    member.process.line("TLS files are read again");
    // The connection that is there stays; a watch takes it, so that the next request needs a new one.
    let _watch = Watch::start(&curl, "/v2/keys/a?wait=true");
    assert_eq!(curl.status("/v2/keys/a", &[]), "502", "the old certificate is not taken any more");
    replace(&new.path("proxy-renewed.key"), &old.path("proxy.key"));
    replace(&new.path("proxy-renewed.pem"), &old.path("proxy.pem"));
    proxy.process.line("TLS files are read again");
    wait_until("clients see the new one", || curl.shown() == "proxy-renewed");
    wait_until("so do members", || curl.status("/v2/keys/a", &[]) == "200");
}

/// The list of members is asked for on the way of peers; a read-only proxy needs TLS as well.
#[test]
fn a_read_only_proxy_speaks_tls_too() {
    let authority = Authority::new();
    authority.sign("member");
    authority.sign("proxy");
    let member = Member::start(&authority);
    let ca = authority.word("ca.pem");
    let words = ["", "peer-"].map(|side| flags(&authority, side, "proxy", Some(&ca)));
    let more = vec!["--proxy=readonly".to_owned(), member.list()];
    let [of_clients, of_peers] = words;
    let proxy = start(HTTPS, &[of_clients, of_peers, more]);
    let curl = Curl::at(&proxy, "https", &authority).with(&authority, "proxy");
    curl.wait_for(1);
    assert_eq!(curl.status("/v2/keys/a", &["-XPUT", "-d", "value=1"]), "501");
    assert_eq!(curl.status("/v2/keys/", &[]), "200");
}

/// As `--auto-tls` says nothing of whom to trust, the members' authority has to be named.
#[test]
fn members_are_verified_by_a_proxy_that_made_its_own_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign("member");
    authority.sign("proxy");
    let member = Member::start(&authority);
    let of_peers = flags(&authority, "peer-", "proxy", Some(&authority.word("ca.pem")));
    let own = vec!["--auto-tls".to_owned(), member.list()];
    other.sign("alice");
    let trusts = vec![format!("--trusted-ca-file={}", other.word("ca.pem"))];
    for (more, refused) in [(trusts, true), (Vec::new(), false)] {
        let mut proxy = start(HTTPS, &[of_peers.clone(), own.clone(), more]);
        let mut curl = Curl::at(&proxy, "https", &authority).with(&other, "alice");
        // What it shows to clients vouches for itself.
        let shown = proxy.process.folder().join("data/fixtures/client/cert.pem");
        curl.words[1] = shown.display().to_string();
        curl.wait_for(1);
        assert_eq!(curl.status("/v2/keys/", &[]), if refused { "502" } else { "200" });
        if refused {
            let line = proxy.process.line("failed to direct request to https://");
            assert!(line.contains("that is not in the trusted-ca-file here"), "{line}");
        }
    }
}
