//! A mirror and a copy from one server with TLS to another, each with an authority of its own.

use std::process::{Command, Output};

use crate::DEMANDING;
use crate::pki::Pki;
use crate::users::with_users;

#[test]
fn a_mirror_shows_and_demands_certificates_on_both_sides() {
    let source = with_users(&DEMANDING);
    // With the same peer URLs and token it would have the same id.
    let target = crate::Secure::start(Pki::new(), &["--initial-cluster-token", "another"]);
    let put = ["-XPUT", "-d", "value=1", "-u", "alice:p"];
    source.told("/v2/keys/a/x", Some("alice"), &put);
    let mirror = |more: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(["mirror", "--once", "--verify", "--prefix", "/a"]);
        command.args(["--from", &source.url, "--to", &target.url]).args(more);
        command.output().expect("it can be started")
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let (own, other) = (source.pki.word("ca.pem"), target.pki.word("ca.pem"));
    let (cert, key) = (source.pki.word("alice.pem"), source.pki.word("alice.key"));
    let shown = ["--from-cert-file", &cert, "--from-key-file", &key];
    let trusted = ["--from-ca-file", &own, "--to-ca-file", &other];
    let done = mirror(&[&shown[..], &trusted].concat());
    assert!(done.status.success(), "{done:?}");
    let there = target.told("/v2/keys/a/x", None, &[]);
    assert!(there.contains("\"value\":\"1\""), "{there}");
    // Each side has its own authority, and one demands a certificate.
    let swapped = ["--from-ca-file", &other, "--to-ca-file", &own];
    let refused = mirror(&[&shown[..], &swapped].concat());
    assert!(
        refused.status.code() == Some(1) && said(&refused).contains("the source"),
        "{refused:?}"
    );
    let nobody = mirror(&trusted);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[test]
fn a_copy_into_version_3_shows_and_demands_certificates_on_both_sides() {
    let source = with_users(&DEMANDING);
    let target = crate::Secure::start(Pki::new(), &[]);
    let put = ["-XPUT", "-d", "value=1", "-u", "alice:p"];
    source.told("/v2/keys/a/x", Some("alice"), &put);
    let copy = |more: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(["copy", "v2-to-v3", "--verify", "--prefix", "/a", "--from", &source.url]);
        command.args(more).output().expect("it can be started")
    };
    let is_good = |output: &Output| {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("verified: 1 keys"), "{output:?}");
    };
    let (own, other) = (source.pki.word("ca.pem"), target.pki.word("ca.pem"));
    let (cert, key) = (source.pki.word("alice.pem"), source.pki.word("alice.key"));
    let shown = ["--from-cert-file", &cert, "--from-key-file", &key, "--from-ca-file", &own];
    let to = ["--to", &target.url];
    is_good(&copy(&[&shown[..], &to, &["--to-ca-file", &other]].concat()));
    let swapped = copy(&[&shown[..], &to, &["--to-ca-file", &own]].concat());
    let said = String::from_utf8_lossy(&swapped.stderr);
    assert!(swapped.status.code() == Some(1) && said.contains("the target"), "{swapped:?}");
    // The source is its own target, and what is shown there is shown to both.
    is_good(&copy(&shown));
}
