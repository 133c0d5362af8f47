//! Certificates that members make for themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::pki::{Pki, Wanted};
use crate::support::process::Process;
use crate::{SERVING, VERSION, address_behind, curl};

/// A member that makes its certificates in this data directory.
fn start(pki: &Pki) -> Process {
    let any = "https://127.0.0.1:0";
    let urls =
        ["--listen-client-urls", any, "--advertise-client-urls", any, "--listen-peer-urls", any];
    let founders = "default=https://127.0.0.1:0";
    let peers = ["--initial-advertise-peer-urls", any, "--initial-cluster", founders];
    let data = pki.word("data");
    let made = ["--auto-tls", "--peer-auto-tls", "--data-dir", &data];
    let mut member = Process::cairn(&[&urls[..], &peers, &made].concat());
    member.line("ready to serve client requests");
    member
}

/// Its certificate is the one that it shows.
fn assert_serves(pki: &Pki, member: &mut Process) {
    let url = format!("https://{}/version", address_behind(member, SERVING));
    let output = curl(&["--cacert".to_owned(), pki.word("data/fixtures/client/cert.pem"), url]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), VERSION, "{output:?}");
}

#[test]
fn a_member_makes_a_certificate_for_itself_and_keeps_it() {
    let pki = Pki::new();
    let mut member = start(&pki);
    for side in ["client", "peer"] {
        let mode = |name: &str| {
            let path = pki.path(&format!("data/fixtures/{side}/{name}"));
            fs::metadata(path).expect("a file").permissions().mode() & 0o777
        };
        assert_eq!((mode("cert.pem"), mode("key.pem")), (0o644, 0o600), "{side}");
    }
    assert_serves(&pki, &mut member);
    let made = || fs::read(pki.path("data/fixtures/client/cert.pem")).expect("a file");
    let first = made();
    member.terminate();
    member.end();
    let mut member = start(&pki);
    assert_serves(&pki, &mut member);
    assert_eq!(made(), first);
}

/// After a year, or a crash of the machine at the wrong moment, it must start all the same.
#[test]
fn what_cannot_be_used_any_more_is_made_anew() {
    let mut pki = Pki::new();
    pki.sign("old", &Wanted { years: (2019, 2020), ..Wanted::SERVER });
    let mut member = start(&pki);
    member.terminate();
    member.end();
    let put = |from: &str, to: &str| {
        let text = fs::read_to_string(pki.path(from)).unwrap_or_default();
        pki.write(&format!("data/fixtures/client/{to}"), &text);
    };
    let damages: [&dyn Fn(); 4] = [
        &|| (put("old.pem", "cert.pem"), put("old.key", "key.pem")).0,
        &|| put("old.key", "key.pem"),
        &|| put("nothing", "cert.pem"),
        &|| fs::remove_file(pki.path("data/fixtures/client/key.pem")).expect("it was there"),
    ];
    for damage in damages {
        damage();
        let mut member = start(&pki);
        member.line("made a certificate for 127.0.0.1 in ");
        assert_serves(&pki, &mut member);
        member.terminate();
        member.end();
    }
}
