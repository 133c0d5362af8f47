//! Test suites of clients, as their authors publish them, at members of cairn: `scripts/clients.sh`, which says what is left out and why.

mod support;

use std::env;
use std::path::Path;
use std::process::Command;
use std::thread;

use support::server::Flavor;

/// What the script ends with when it lacks something, after it has said what.
const LACKING: i32 = 77;

/// Parts of a suite beside each other, each at members of its own: most of the time they wait.
fn passes(suite: &str, parts: &[&str]) {
    let variable = "CAIRN_SKIP_CLIENTS";
    if env::var_os(variable).is_some_and(|value| value == "1") {
        eprintln!("skipped: {suite} is not installed ({variable}=1)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/clients.sh");
    let run = &|part: &str| {
        let mut command = Command::new(&script);
        command.args([suite, "-k", part]).env("CLIENTS_SERVER", Flavor::Subject.program());
        let run = command.output().expect("it starts");
        let (out, err) =
            (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert_ne!(run.status.code(), Some(LACKING), "{out}\ninstall it, or set {variable}=1");
        assert!(run.status.success(), "{suite}, {part}: {}\n{out}\n{err}", run.status);
        let summary = out.lines().last().unwrap_or_default().to_owned();
        assert!(summary.contains(" passed"), "{suite}, {part}: {out}");
        eprintln!("{suite}, {part}: {summary}");
    };
    thread::scope(|scope| {
        let all: Vec<_> = parts.iter().map(|part| scope.spawn(move || run(part))).collect();
        for part in all {
            part.join().expect("a part of the suite fails");
        }
    });
}

#[test]
fn python_etcd3_passes_its_own_tests() {
    passes(
        "etcd3",
        &["watch", "not watch and (lock or lease)", "not watch and not lock and not lease"],
    );
}

#[test]
fn etcd3gw_passes_its_own_tests() {
    passes("etcd3gw", &["watch", "not watch"]);
}
