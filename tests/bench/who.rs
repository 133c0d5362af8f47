//! Who asks: names and passwords, certificates.

use crate::pki::{Pki, Wanted};
use crate::support::http::{self, Request};
use crate::support::process::Process;
use crate::support::server::{Flavor, Server};
use crate::{assert_adds_up, measure, number, run};

#[test]
fn who_does_not_say_its_name_is_refused_and_that_is_counted() {
    let server = Server::start_with(Flavor::Subject, &["--auth-closed-guest"]);
    let change = |path: &str, body: &str| {
        let request = Request::new("PUT", format!("/v2/auth/{path}")).body(body);
        let reply = http::ask(server.addr(), &request).expect("an answer");
        assert!(matches!(reply.status(), 200 | 201), "{path}: {}", reply.text());
    };
    change("users/root", r#"{"user":"root","password":"secret"}"#);
    change("enable", "");
    let ask = |words: &str| {
        let words = format!("{words} --connections 2 --keys 5");
        measure(&format!("{words} --endpoints http://{}", server.addr()))
    };
    for load in ["get", "watch-one", "cas"] {
        let (report, code) = ask(&format!("{load} --requests 40 --user root:secret"));
        assert_eq!(code, 0, "{report}");
        assert_adds_up(&report);
    }
    for user in ["--user root:wrong", ""] {
        let (report, code) = ask(&format!("get --no-fill --requests 4 {user}"));
        assert_eq!((code, number(&report, "/answers/401")), (1, 4), "{report}");
        assert_adds_up(&report);
    }
}

#[test]
fn certificates_are_shown_and_checked() {
    let mut pki = Pki::new();
    pki.sign("server", &Wanted::SERVER);
    pki.sign("alice", &Wanted::ALICE);
    let any = "https://127.0.0.1:0";
    let urls = ["--listen-client-urls", any, "--advertise-client-urls", "https://127.0.0.1:1"];
    let (cert, key, ca) = (pki.word("server.pem"), pki.word("server.key"), pki.word("ca.pem"));
    let own = ["--cert-file", &cert, "--key-file", &key];
    let demands = ["--client-cert-auth", "--trusted-ca-file", &ca];
    let mut member = Process::cairn(&[&urls[..], &own, &demands].concat());
    member.line("ready to serve client requests");
    let line = member.line("serving client requests on ");
    let url = format!("https://{}", line.rsplit(' ').next().expect("an address"));

    let shown = format!("--cert {} --key {}", pki.word("alice.pem"), pki.word("alice.key"));
    for load in ["put", "get", "watch-one", "listing --keys 3000"] {
        let words = format!("{load} --requests 20 --connections 3 --endpoints {url}");
        let (report, code) = measure(&format!("{words} --cacert {ca} {shown}"));
        assert_eq!(code, 0, "{report}");
        assert_adds_up(&report);
        assert_eq!(number(&report, "/requests/good"), 20, "{report}");
    }
    // Nobody whom the system trusts has signed the server's.
    let output = run(&format!("put --requests 1 --endpoints {url} {shown}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot connect to https://"), "{text}");
    // In TLS 1.3 a server refuses a client only after the client thinks that all is well.
    let output = run(&format!("put --requests 5 --endpoints {url} --cacert {ca}"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
