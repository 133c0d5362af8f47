//! TLS as operators and clients see it: real members, certificates of our own authority, curl.

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod cluster;
mod made;
mod mirror;
mod pki;
mod refused;
mod rotation;
mod users;

use std::process::{Command, Output};

use pki::{Pki, Wanted};
use support::process::Process;

/// A member with TLS on its client port, and what it needs.
struct Secure {
    pki: Pki,
    member: Process,
    url: String,
}

/// Flags that demand certificates from clients.
const DEMANDING: [&str; 3] = ["--client-cert-auth", "--trusted-ca-file", "ca.pem"];

impl Secure {
    /// Starts a member with the certificate `server` and more flags; names that end with `.pem` or `.key` are the PKI's.
    fn start(mut pki: Pki, flags: &[&str]) -> Self {
        if !pki.path("server.pem").exists() {
            pki.sign("server", &Wanted::SERVER);
        }
        let own = ["--cert-file", "server.pem", "--key-file", "server.key"];
        let words: Vec<_> = own.iter().chain(flags).map(|word| file(&pki, word)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let any = "https://127.0.0.1:0";
        let urls = ["--listen-client-urls", any, "--advertise-client-urls", "https://127.0.0.1:1"];
        let mut member = Process::cairn(&[&urls[..], &words].concat());
        member.line("ready to serve client requests");
        let url = format!("https://{}", address_behind(&mut member, SERVING));
        Self { pki, member, url }
    }

    /// What curl makes of a path, with the certificate of that name, if one is given.
    fn ask(&self, path: &str, certificate: Option<&str>, more: &[&str]) -> Output {
        let mut words = vec!["--cacert".to_owned(), self.pki.word("ca.pem")];
        if let Some(name) = certificate {
            let files = [format!("{name}.pem"), format!("{name}.key")];
            words.extend(["--cert".to_owned(), self.pki.word(&files[0])]);
            words.extend(["--key".to_owned(), self.pki.word(&files[1])]);
        }
        words.extend(more.iter().map(|&word| word.to_owned()));
        words.push(format!("{}{path}", self.url));
        curl(&words)
    }

    /// The body of an answer that comes.
    fn told(&self, path: &str, certificate: Option<&str>, more: &[&str]) -> String {
        let output = self.ask(path, certificate, more);
        assert!(output.status.success(), "{output:?}\n{}", self.member.log());
        String::from_utf8(output.stdout).expect("text")
    }
}

const SERVING: &str = "serving client requests on ";

/// The address that stands behind these words in the log.
fn address_behind(member: &mut Process, words: &str) -> String {
    member.line(words).rsplit(' ').next().expect("an address").to_owned()
}

fn file(pki: &Pki, word: &str) -> String {
    let ours = (word.ends_with(".pem") || word.ends_with(".key")) && !word.starts_with('/');
    if ours { pki.word(word) } else { word.to_owned() }
}

fn curl(words: &[String]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
    command.args(words).output().expect("curl is there")
}

const VERSION: &str = "{\"etcdserver\":\"3.4.37\",\"etcdcluster\":\"3.4.0\"}";

#[test]
fn both_versions_and_all_kinds_of_keys_are_spoken() {
    for (algorithm, years) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, (2020, 2120)),
        (&rcgen::PKCS_ECDSA_P384_SHA384, (2020, 2120)),
        (&rcgen::PKCS_ED25519, (2020, 2120)),
    ] {
        let mut pki = Pki::new();
        pki.sign("server", &Wanted { algorithm, years, ..Wanted::SERVER });
        let secure = Secure::start(pki, &[]);
        for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            assert_eq!(secure.told("/version", None, version), VERSION);
        }
    }
}

#[test]
fn keys_come_in_three_wrappings() {
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).output().expect("openssl is there");
        assert!(output.status.success(), "{output:?}");
    };
    let mut pki = Pki::new();
    pki.sign("server", &Wanted::SERVER);
    let (pkcs8, sec1) = (pki.word("server.key"), pki.word("sec1.key"));
    openssl(&["ec", "-in", &pkcs8, "-out", &sec1]);
    let text = std::fs::read_to_string(&sec1).expect("a key");
    assert!(text.contains("BEGIN EC PRIVATE KEY"), "{text}");
    // Made by openssl alone, as most are: RSA, PKCS#1, self-signed.
    let (rsa, cert, pkcs1) = (pki.word("rsa.key"), pki.word("rsa.pem"), pki.word("pkcs1.key"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        &rsa,
        "-out",
        &cert,
        "-days",
        "2",
        "-subj",
        "/CN=rsa",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]);
    openssl(&["rsa", "-in", &rsa, "-traditional", "-out", &pkcs1]);
    let text = std::fs::read_to_string(&pkcs1).expect("a key");
    assert!(text.contains("BEGIN RSA PRIVATE KEY"), "{text}");
    let secure = Secure::start(pki, &["--key-file", "sec1.key"]);
    assert_eq!(secure.told("/version", None, &[]), VERSION);
    for key in ["rsa.key", "pkcs1.key"] {
        let pki = Pki::new();
        for name in ["rsa.key", "rsa.pem", "pkcs1.key"] {
            std::fs::copy(secure.pki.path(name), pki.path(name)).expect("a copy");
        }
        let secure = Secure::start(pki, &["--cert-file", "rsa.pem", "--key-file", key]);
        let shown = secure.told("/version", None, &["--cacert", &secure.pki.word("rsa.pem")]);
        assert_eq!(shown, VERSION);
    }
}

#[test]
fn plain_and_secure_listeners_stand_side_by_side() {
    let metrics = ["--listen-metrics-urls", "https://127.0.0.1:0"];
    let mut secure = Secure::start(Pki::new(), &metrics);
    let address = address_behind(&mut secure.member, "listening for metrics on ");
    secure.url = format!("https://{address}");
    assert_eq!(secure.told("/health", None, &[]), "{\"health\":\"true\"}");
}

/// Prometheus shows a certificate as every client must; the numbers say how it went.
#[test]
fn metrics_come_over_tls_to_those_with_a_certificate() {
    let mut pki = Pki::new();
    pki.sign("alice", &Wanted::ALICE);
    let metrics = ["--listen-metrics-urls", "https://127.0.0.1:0"];
    let mut secure = Secure::start(pki, &[&DEMANDING[..], &metrics].concat());
    let clients = secure.url.clone();
    let address = address_behind(&mut secure.member, "listening for metrics on ");
    let metrics = format!("https://{address}");
    for url in [clients, metrics] {
        secure.url = url;
        assert!(!secure.ask("/metrics", None, &[]).status.success(), "without a certificate");
        let page = secure.told("/metrics", Some("alice"), &[]);
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name)).expect("it is there");
            line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("a number")
        };
        let ends = value("cairn_tls_certificate_expiry_timestamp_seconds{side=\"client\"} ");
        // The end of the year 2119, to within a day.
        assert!((ends - 4_733_510_400.0).abs() < 90_000.0, "{ends}");
        assert_eq!(secure.told("/readyz", Some("alice"), &[]), "ok\n");
    }
    let page = secure.told("/metrics", Some("alice"), &[]);
    for listener in ["clients", "metrics"] {
        for result in ["ok", "failed"] {
            let name = format!(
                "cairn_tls_handshakes_total{{listener=\"{listener}\",result=\"{result}\"}} "
            );
            let line = page.lines().find(|line| line.starts_with(&name)).expect("it is there");
            assert!(!line.ends_with(" 0"), "{line}");
        }
    }
}

#[test]
fn tls_is_spoken_through_a_socket_in_a_file() {
    let mut pki = Pki::new();
    pki.sign("server", &Wanted::SERVER);
    let urls = ["--listen-client-urls=unixs://localhost:1", "--advertise-client-urls=unixs://a:1"];
    let files = [format!("--cert-file={}", pki.word("server.pem"))]
        .into_iter()
        .chain([format!("--key-file={}", pki.word("server.key"))]);
    let words: Vec<_> = urls.iter().map(|&word| word.to_owned()).chain(files).collect();
    let mut member = Process::cairn(&words.iter().map(String::as_str).collect::<Vec<_>>());
    member.line("ready to serve client requests");
    let socket = member.folder().join("localhost:1").display().to_string();
    let asked = ["--unix-socket", &socket, "--cacert", &pki.word("ca.pem")];
    let ask = |url: &str| {
        curl(&asked.iter().chain([&url]).map(|&word| word.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(String::from_utf8_lossy(&ask("https://localhost/version").stdout), VERSION);
    let plain = String::from_utf8_lossy(&ask("http://localhost/version").stdout).into_owned();
    assert!(plain.starts_with("Client sent an HTTP request to an HTTPS server"), "{plain}");
}

#[test]
fn a_watch_is_freed_when_its_client_is_gone_and_gets_its_event_when_it_stays() {
    let secure = Secure::start(Pki::new(), &[]);
    let waiting = || {
        let metrics = secure.told("/metrics", None, &[]);
        let line = metrics.lines().find(|line| line.starts_with("etcd_debugging_store_watchers "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).expect("a number")
    };
    let await_waiting = |count: u32| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while waiting() != count {
            assert!(std::time::Instant::now() < deadline, "{} watchers", waiting());
        }
    };
    let words = |path: &str| {
        vec!["--cacert".to_owned(), secure.pki.word("ca.pem"), format!("{}{path}", secure.url)]
    };
    let mut gone = Command::new("curl");
    let mut gone =
        gone.arg("-s").args(words("/v2/keys/a?wait=true")).spawn().expect("curl is there");
    await_waiting(1);
    gone.kill().expect("it runs");
    gone.wait().expect("it ends");
    await_waiting(0);
    std::thread::scope(|scope| {
        let stays = scope.spawn(|| curl(&words("/v2/keys/a?wait=true")));
        await_waiting(1);
        secure.told("/v2/keys/a", None, &["-XPUT", "-d", "value=1"]);
        let event = stays.join().expect("it does not panic");
        assert!(
            String::from_utf8_lossy(&event.stdout).starts_with("{\"action\":\"set\""),
            "{event:?}"
        );
    });
}

#[test]
fn large_answers_and_bodies_are_whole() {
    let secure = Secure::start(Pki::new(), &[]);
    let value = "x".repeat(5_000_000);
    secure.pki.write("form", &format!("value={value}"));
    let form = format!("@{}", secure.pki.word("form"));
    secure.told("/v2/keys/large", None, &["-XPUT", "--data", &form]);
    let told = secure.told("/v2/keys/large", None, &[]);
    assert!(told.contains(&value), "{} bytes", told.len());
}

#[test]
fn the_health_check_speaks_tls_by_the_members_own_flags() {
    let mut pki = Pki::new();
    // Not for the address that is asked: it is enough that it is the member's own.
    pki.sign("server", &Wanted { names: &["elsewhere.example"], ..Wanted::SERVER });
    let secure = Secure::start(pki, &DEMANDING);
    let variables = [
        ("ETCD_LISTEN_CLIENT_URLS", secure.url.clone()),
        ("ETCD_ADVERTISE_CLIENT_URLS", secure.url.clone()),
        ("ETCD_CERT_FILE", secure.pki.word("server.pem")),
        ("ETCD_KEY_FILE", secure.pki.word("server.key")),
        ("ETCD_CLIENT_CERT_AUTH", "true".to_owned()),
        ("ETCD_TRUSTED_CA_FILE", secure.pki.word("ca.pem")),
    ];
    let mut command = Command::new(support::server::Flavor::Subject.program());
    let output = command.arg("health").envs(variables).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"health\":\"true\"}\n");
}

/// Without flags of its own it trusts whom the system trusts, and speaks all versions.
#[test]
fn the_health_check_asks_another_member_that_the_system_trusts() {
    for version in ["TLS1.2", "TLS1.3"] {
        let versions = ["--tls-min-version", version, "--tls-max-version", version];
        let secure = Secure::start(Pki::new(), &versions);
        let ask = |authorities: String| {
            let mut command = Command::new(support::server::Flavor::Subject.program());
            command.args(["health", "--endpoint", &secure.url]);
            command.env("SSL_CERT_FILE", authorities).output().expect("it runs")
        };
        let output = ask(secure.pki.word("ca.pem"));
        assert!(output.status.success(), "{version}: {output:?}");
        let output = ask(Pki::new().word("ca.pem"));
        assert!(!output.status.success(), "{version}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("not in the trusted-ca-file here"), "{text}");
    }
}
