//! TLS, client certificates, users, and passwords that are typed.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::pki::{Pki, Wanted};
use crate::support::process::Process;
use crate::support::server::{Flavor, Server};
use crate::tool::{Said, Tool};

/// A member that demands certificates of clients, and where it is.
fn secure(pki: &mut Pki) -> (Process, String) {
    pki.sign("server", &Wanted::SERVER);
    pki.sign("client", &Wanted::ALICE);
    let files = ["server.pem", "server.key", "ca.pem"].map(|name| pki.word(name));
    let any = "https://127.0.0.1:0";
    let flags = [
        "--listen-client-urls",
        any,
        "--advertise-client-urls",
        "https://127.0.0.1:1",
        "--client-cert-auth",
    ];
    let files = ["--cert-file", &files[0], "--key-file", &files[1], "--trusted-ca-file", &files[2]];
    let mut member = Process::cairn(&[&flags[..], &files].concat());
    let line = member.line("serving client requests on ");
    member.line("ready to serve client requests");
    let address = line.rsplit(' ').next().expect("an address").to_owned();
    (member, address)
}

#[test]
fn certificates_are_shown_and_demanded() {
    let mut pki = Pki::new();
    let (_member, address) = secure(&mut pki);
    let url = format!("https://{address}");
    let (ca, cert, key) = (pki.word("ca.pem"), pki.word("client.pem"), pki.word("client.key"));
    let ask = |url: &str, files: &[&str], words: &[&str]| {
        Tool::Ours.run(&[&["-C", url, "--no-sync"], files, words].concat(), &[], "")
    };
    let all = ["--ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
    let said = ask(&url, &all, &["set", "/a", "1"]);
    assert_eq!((&*said.out, said.code), ("1\n", Some(0)), "{said:?}");
    let variables = [
        ("ETCDCTL_CA_FILE", &*ca),
        ("ETCDCTL_CERT_FILE", &cert),
        ("ETCDCTL_KEY_FILE", &key),
        ("ETCDCTL_ENDPOINTS", &url),
    ];
    let said = Tool::Ours.run(&["--no-sync", "get", "/a"], &variables, "");
    assert_eq!((&*said.out, said.code), ("1\n", Some(0)), "{said:?}");
    // Without a certificate, and without the authority.
    for files in [&["--ca-file", &*ca][..], &["--cert-file", &cert, "--key-file", &key]] {
        let said = ask(&url, files, &["get", "/a"]);
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(said.err.starts_with("Error:  client: etcd cluster is unavailable"), "{said:?}");
    }
    let said = ask(&url, &["--ca-file", "/nowhere.pem"], &["get", "/a"]);
    assert!(said.code == Some(1) && said.err.contains("/nowhere.pem"), "{said:?}");
}

#[test]
fn a_wrong_scheme_is_said() {
    let mut pki = Pki::new();
    let (_member, address) = secure(&mut pki);
    for words in [&["get", "/a"][..], &["member", "list"], &["--no-sync", "ls"]] {
        let url = format!("http://{address}");
        let said = Tool::Ours.run(&[&["-C", &url], words].concat(), &[], "");
        assert_ne!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains(&format!("try https://{address}")), "{words:?}: {said:?}");
    }
    let plain = Server::start(Flavor::Subject);
    let url = format!("https://{}", plain.addr());
    let ca = pki.word("ca.pem");
    let said = Tool::Ours.run(&["-C", &url, "--ca-file", &ca, "ls"], &[], "");
    assert_ne!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains(&format!("try http://{}", plain.addr())), "{said:?}");
}

#[test]
fn a_password_is_typed_without_being_shown() {
    let server = Server::start(Flavor::Subject);
    let endpoints = format!("http://{}", server.addr());
    let cairn = env!("CARGO_BIN_EXE_cairn");
    // `script` gives the program a terminal, and shows all that stands on it.
    let typed = |words: &str, prompt: &str, input: &str| {
        let mut command = Command::new("script");
        let program = format!("{cairn} etcdctl {words}");
        command.args(["--quiet", "--return", "--command", &program, "/dev/null"]);
        command.env("ETCDCTL_ENDPOINTS", &endpoints).env_remove("ETCDCTL_API");
        answer(command, prompt, input)
    };
    let said = typed("user add root", "New password: ", "s3cret\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("New password: ") && said.out.contains("User root created"),
        "{said:?}"
    );
    assert!(!said.out.contains("s3cret"), "{said:?}");
    let ask = |words: &[&str], input: &str| Tool::Ours.ask(server.addr(), words, input);
    assert_eq!(ask(&["auth", "enable"], "").code, Some(0));
    let said = ask(&["role", "list"], "");
    // The real tool only knows a number here.
    assert_eq!((&*said.err, said.code), ("Insufficient credentials\n", Some(1)), "{said:?}");
    assert_eq!(ask(&["-u", "root:s3cret", "role", "list"], "").code, Some(0));
    let said = ask(&["-u", "root", "role", "list"], "s3cret\n");
    assert_eq!((&*said.out, said.code), ("Password: \nguest\nroot\n", Some(0)), "{said:?}");
    let said = ask(&["-u", "root", "role", "list"], "");
    assert_eq!((&*said.err, said.code), ("Error reading password: EOF\n", Some(1)), "{said:?}");
    let said: Said = typed("-u root set /a 1", "Password: ", "s3cret\n");
    assert!(said.code == Some(0) && !said.out.contains("s3cret"), "{said:?}");
}

/// Runs a program and answers when it asks: what is typed before would be shown by the terminal.
fn answer(mut command: Command, prompt: &str, input: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
    let (mut out, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(length) = stdout.read(&mut piece)
        && length > 0
    {
        out.extend_from_slice(&piece[..length]);
        let asks = String::from_utf8_lossy(&out).contains(prompt);
        if let Some(mut terminal) = stdin.take_if(|_| asks) {
            terminal.write_all(input.as_bytes()).expect("it reads");
        }
    }
    let (status, out) =
        (child.wait().expect("it ends"), String::from_utf8_lossy(&out).into_owned());
    Said { out, err: String::new(), code: status.code() }
}
