//! Who and what is refused, and what is said about it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::pki::{Pki, Wanted};
use crate::support::process::Process;
use crate::{DEMANDING, Secure, VERSION, file};

#[test]
fn only_certificates_of_the_authority_that_hold_and_are_not_revoked_come_in() {
    let mut pki = Pki::new();
    pki.sign("alice", &Wanted::ALICE);
    let mallory = pki.sign("mallory", &Wanted { common_name: "mallory", ..Wanted::ALICE });
    pki.sign("old", &Wanted { years: (2019, 2020), ..Wanted::ALICE });
    pki.revoke(&[mallory]);
    let mut other = Pki::new();
    other.sign("stranger", &Wanted::ALICE);
    for name in ["stranger.pem", "stranger.key"] {
        std::fs::copy(other.path(name), pki.path(name)).expect("a copy");
    }
    let flags = [&DEMANDING[..], &["--client-crl-file", "crl.pem"]].concat();
    let mut secure = Secure::start(pki, &flags);
    for (certificate, why) in [
        (None, "peer sent no certificates"),
        (Some("stranger"), "UnknownIssuer"),
        (Some("old"), "certificate expired"),
        (Some("mallory"), "Revoked"),
    ] {
        for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            let output = secure.ask("/version", certificate, version);
            assert!(!output.status.success(), "{certificate:?}: {output:?}");
            assert!(output.stdout.is_empty(), "{certificate:?}: {output:?}");
        }
        let line = secure.member.line(why);
        assert!(line.contains("rejected connection from 127.0.0.1"), "{line}");
    }
    assert_eq!(secure.told("/version", Some("alice"), &[]), VERSION);
    // A list that grows counts from the next connection on.
    secure.pki.revoke(&[mallory, 1]);
    secure.member.line("TLS files are read again");
    assert!(!secure.ask("/version", Some("alice"), &[]).status.success());
}

#[test]
fn an_authority_alone_demands_certificates_too() {
    for flag in ["--trusted-ca-file", "--ca-file"] {
        let mut pki = Pki::new();
        pki.sign("alice", &Wanted::ALICE);
        let secure = Secure::start(pki, &[flag, "ca.pem"]);
        assert!(!secure.ask("/version", None, &[]).status.success());
        assert_eq!(secure.told("/version", Some("alice"), &[]), VERSION);
    }
}

#[test]
fn a_host_name_can_be_demanded() {
    let mut pki = Pki::new();
    pki.sign("alice", &Wanted::ALICE);
    pki.sign("bob", &Wanted { names: &["bob.example"], ..Wanted::ALICE });
    let name = ["--client-cert-allowed-hostname", "alice.example"];
    let mut secure = Secure::start(pki, &[&DEMANDING[..], &name].concat());
    assert_eq!(secure.told("/version", Some("alice"), &[]), VERSION);
    assert!(!secure.ask("/version", Some("bob"), &[]).status.success());
    secure.member.line("the only host name that is allowed here");
}

#[test]
fn versions_and_suites_can_be_chosen() {
    let secure = Secure::start(Pki::new(), &["--tls-min-version", "TLS1.3"]);
    assert!(!secure.ask("/version", None, &["--tls-max", "1.2"]).status.success());
    assert_eq!(secure.told("/version", None, &[]), VERSION);
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let suites = ["--cipher-suites", suite, "--tls-max-version", "TLS1.2"];
    let secure = Secure::start(Pki::new(), &suites);
    let with = |suite| ["--tls-max", "1.2", "--ciphers", suite];
    assert_eq!(secure.told("/version", None, &with("ECDHE-ECDSA-AES256-GCM-SHA384")), VERSION);
    let other = secure.ask("/version", None, &with("ECDHE-ECDSA-AES128-GCM-SHA256"));
    assert!(!other.status.success(), "{other:?}");
}

#[test]
fn plain_http_is_told_of_tls_and_tls_where_there_is_none_is_logged() {
    let secure = Secure::start(Pki::new(), &[]);
    let address = secure.url.trim_start_matches("https://").to_owned();
    let mut plain = TcpStream::connect(&address).expect("it listens");
    plain.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    plain.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n").expect("it takes it");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an answer and an end");
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP"), "{answer}");

    let mut member = Process::cairn(&[]);
    let line = member.line("serving insecure client requests on ");
    let address = line.rsplit(' ').next().expect("an address");
    let url = format!("https://{address}/version");
    let output = crate::curl(&["--insecure".to_owned(), url]);
    assert!(!output.status.success(), "{output:?}");
    member.line("it speaks TLS, and this listener's URL is http://");
}

/// Opens connections that begin a handshake and say no more.
fn stall(address: &str, count: usize) -> Vec<TcpStream> {
    let begin = |_| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(&[22, 3, 1, 2, 0, 1]).expect("it takes it");
        stream
    };
    (0..count).map(begin).collect()
}

#[test]
fn a_handshake_that_stalls_holds_up_no_other_and_ends() {
    let mut secure = Secure::start(Pki::new(), &["--header-timeout=1500"]);
    let address = secure.url.trim_start_matches("https://").to_owned();
    let mut stalled = stall(&address, 200);
    assert_eq!(secure.told("/version", None, &[]), VERSION);
    secure.member.line("no TLS handshake within 1.5s");
    for stream in &mut stalled {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        // The end, or a reset: anything but silence.
        let ended = stream.read(&mut [0; 64]);
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    // Garbage in a record, and a record that is too long.
    for garbage in [&[22, 3, 1, 0, 4, 9, 9, 9, 9][..], &[22, 3, 1, 0xff, 0xff, 1, 2, 3]] {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.write_all(garbage).expect("it takes it");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 64, "{rest:?}");
    }
    assert_eq!(secure.told("/version", None, &[]), VERSION);
}

#[test]
fn what_is_wrong_with_files_is_said_with_the_file_and_the_fix() {
    let mut pki = Pki::new();
    pki.sign("server", &Wanted::SERVER);
    pki.sign("other", &Wanted::SERVER);
    pki.sign("old", &Wanted { years: (2019, 2020), ..Wanted::SERVER });
    pki.sign("future", &Wanted { years: (2110, 2120), ..Wanted::SERVER });
    pki.sign_without_extensions("v1");
    pki.write("garbage.pem", "no certificate");
    pki.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let refused = |flags: &[&str], texts: &[&str]| {
        let any = "https://127.0.0.1:0";
        let words: Vec<_> = flags.iter().map(|word| file(&pki, word)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let urls = ["--listen-client-urls", any, "--advertise-client-urls", "https://127.0.0.1:1"];
        let mut member = Process::cairn(&[&urls[..], &words].concat());
        assert_eq!(member.end().code(), Some(1), "{}", member.log());
        for text in texts {
            assert!(member.log().contains(text), "{text}:\n{}", member.log());
        }
    };
    let with = |cert, key| ["--cert-file", cert, "--key-file", key];
    refused(&with("none.pem", "server.key"), &["none.pem: No such file", "--cert-file must name"]);
    refused(&with("garbage.pem", "server.key"), &["garbage.pem: there is no certificate in it"]);
    refused(&with("server.pem", "ca.pem"), &["ca.pem: ", "--key-file must name"]);
    refused(&with("server.pem", "locked.key"), &["the key is encrypted", "without a password"]);
    refused(&with("server.pem", "other.key"), &["other.key does not fit", "server.pem"]);
    refused(&with("old.pem", "old.key"), &["old.pem has expired at 2020-01-01"]);
    refused(&with("future.pem", "future.key"), &["future.pem is not valid before 2110-01-01"]);
    refused(&with("v1.pem", "v1.key"), &["X.509 certificate of version 1", "-extfile FILE"]);
    let and = |more: &[&'static str]| [&with("server.pem", "server.key")[..], more].concat();
    refused(&and(&["--trusted-ca-file", "garbage.pem"]), &["--trusted-ca-file must name"]);
    let crl = ["--trusted-ca-file", "ca.pem", "--client-crl-file", "garbage.pem"];
    refused(&and(&crl), &["there is no revocation list in it", "--client-crl-file must name"]);
    refused(&and(&["--cipher-suites", "TLS_NOPE"]), &["\"TLS_NOPE\"", "TLS_AES_128_GCM_SHA256"]);
}

/// A handshake costs the member much more than the client; one behind another, on one connection, is what renegotiation allowed.
#[test]
fn a_connection_has_one_handshake() {
    let mut secure = Secure::start(Pki::new(), &[]);
    let address = secure.url.trim_start_matches("https://").to_owned();
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed by scripts/test.sh");
    let mut words = client.stdin.take().expect("a pipe");
    // The client reads this as an order to shake hands again.
    words.write_all(b"R\n").expect("it reads");
    let output = client.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation") || said.contains("unexpected message"), "{said}");
    drop(words);
    assert_eq!(secure.told("/version", None, &[]), VERSION);
    assert!(secure.member.is_alive());
}

#[test]
fn certificates_of_version_1_are_refused_in_words() {
    let mut pki = Pki::new();
    pki.sign("server", &Wanted::SERVER);
    pki.sign_without_extensions("alice");
    let mut secure = Secure::start(pki, &DEMANDING);
    assert!(!secure.ask("/version", Some("alice"), &[]).status.success());
    let line = secure.member.line("it is an X.509 certificate of version 1");
    assert!(line.contains("rejected connection from 127.0.0.1"), "{line}");
}

#[test]
fn the_end_of_a_certificate_is_told_before_and_when_it_comes() {
    let mut pki = Pki::new();
    pki.sign_for("server", &Wanted::SERVER, Duration::from_secs(4));
    let mut secure = Secure::start(pki, &[]);
    secure.member.line("server.pem expires at ");
    let line = secure.member.line("server.pem has expired at ");
    assert!(line.contains("put a new one there"), "{line}");
}

#[test]
fn what_is_odd_about_files_is_warned_of() {
    let mut pki = Pki::new();
    pki.sign("server", &Wanted { names: &["elsewhere.example"], ..Wanted::SERVER });
    let path = pki.path("server.key");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(path, open).expect("a mode");
    let mut secure = Secure::start(pki, &[]);
    let line = secure.member.line("is not for 127.0.0.1, which this member is reached under");
    assert!(line.contains("subject alternative names"), "{line}");
    let line = secure.member.line("can be read or written by every user of this machine");
    assert!(line.contains("chmod 600"), "{line}");
}
