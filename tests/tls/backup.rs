//! A backup over TLS, with a certificate that says who asks.

use std::process::{Command, Output};

use crate::DEMANDING;
use crate::users::with_users;

/// What `cairn backup` says, with the certificate of that name, if one is given.
fn back_up(secure: &crate::Secure, certificate: Option<&str>, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    let file = secure.pki.path("backup");
    command.args(["backup", "--force", "--endpoint", &secure.url]).arg(file);
    command.args(["--ca-file", &secure.pki.word("ca.pem")]);
    if let Some(name) = certificate {
        command.args(["--cert-file", &secure.pki.word(&format!("{name}.pem"))]);
        command.args(["--key-file", &secure.pki.word(&format!("{name}.key"))]);
    }
    command.args(more).env_remove("ETCDCTL_USERNAME").output().expect("it can be started")
}

#[test]
fn a_backup_is_taken_over_tls_by_root_alone() {
    let secure = with_users(&DEMANDING);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let nobody = back_up(&secure, None, &[]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    for more in [&[][..], &["-u", "alice:p"]] {
        let alice = back_up(&secure, Some("alice"), more);
        assert_eq!(alice.status.code(), Some(1), "{alice:?}");
        assert!(said(&alice).contains("it takes root's role"), "{alice:?}");
    }
    assert!(!secure.pki.path("backup").exists());
    let root = back_up(&secure, Some("alice"), &["-u", "root:secret"]);
    assert!(root.status.success(), "{root:?}");
    assert!(secure.pki.path("backup").exists());
    // An authority that did not sign the member's certificate.
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    let other = crate::pki::Pki::new();
    command.args(["backup", "--endpoint", &secure.url, "--ca-file", &other.word("ca.pem"), "x"]);
    let refused = command.output().expect("it can be started");
    assert!(refused.status.code() == Some(1) && said(&refused).contains("no TLS"), "{refused:?}");
}
