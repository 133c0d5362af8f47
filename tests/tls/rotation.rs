//! Files that change while a member runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::pki::{Pki, Wanted};
use crate::{Secure, VERSION};

/// The common name of the certificate that a new connection is shown.
fn shown(secure: &Secure) -> String {
    let output = secure.ask("/version", None, &["--verbose"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.contains("subject: "));
    line.unwrap_or_else(|| panic!("{text}")).rsplit("CN=").next().expect("a name").trim().to_owned()
}

#[test]
fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let mut secure = Secure::start(Pki::new(), &[]);
    assert_eq!(shown(&secure), "server");
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut next = Pki::new();
    next.sign("server", &Wanted { common_name: "next", ..Wanted::SERVER });
    // Clients trust both authorities before the change, as in any rotation.
    let read = |path| std::fs::read_to_string(path).expect("a file");
    let both = read(secure.pki.path("ca.pem")) + &read(next.path("ca.pem"));
    secure.pki.write("ca.pem", &both);
    let (member, ask) = (&mut secure.member, {
        let url = secure.url.clone();
        let authority = secure.pki.word("ca.pem");
        move |more: &[&str]| {
            let mut words = vec!["--cacert".to_owned(), authority.clone()];
            words.extend(more.iter().map(|&word| word.to_owned()));
            // Several requests on one connection, and a new connection each time.
            words.extend((0..5).map(|_| format!("{url}/version")));
            crate::curl(&words)
        }
    });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let output = ask(&[]);
                    assert!(output.status.success(), "{output:?}");
                    assert_eq!(String::from_utf8_lossy(&output.stdout), VERSION.repeat(5));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The key alone does not fit the old certificate: the pair before stays in use.
        secure.pki.write("server.key", &read(next.path("server.key")));
        member.line("TLS files have changed and cannot be used, the ones before stay in use");
        secure.pki.write("server.pem", &read(next.path("server.pem")));
        member.line("TLS files are read again");
        let before = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) < before + 3 {
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(shown(&secure), "next");
}

#[test]
fn a_broken_file_keeps_the_old_one_in_use_and_sighup_asks_for_a_look() {
    let mut secure = Secure::start(Pki::new(), &[]);
    let good = std::fs::read_to_string(secure.pki.path("server.pem")).expect("a file");
    secure.pki.write("server.pem", "");
    secure.member.signal(Signal::HUP);
    let line = secure.member.line("the ones before stay in use");
    assert!(line.contains("server.pem: there is no certificate in it"), "{line}");
    assert_eq!(secure.told("/version", None, &[]), VERSION);
    secure.pki.write("server.pem", &good);
    secure.member.line("TLS files are read again");
    assert_eq!(secure.told("/version", None, &[]), VERSION);
}
