//! Patroni clusters with PostgreSQL in them, at cairn and on their way to it: `scripts/patroni`.

mod support;

use std::env;
use std::path::Path;
use std::process::Command;

use support::server::Flavor;

/// What a script ends with when it lacks something, after it has said what.
const LACKING: i32 = 77;

fn plays(script: &str) {
    let variable = "CAIRN_SKIP_PATRONI";
    if env::var_os(variable).is_some_and(|value| value == "1") {
        eprintln!("skipped: no Patroni with PostgreSQL ({variable}=1)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/patroni").join(script);
    let run = Command::new(script).arg(Flavor::Subject.program()).output().expect("it starts");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_ne!(run.status.code(), Some(LACKING), "{out}\ninstall it, or set {variable}=1");
    assert!(run.status.success(), "{}\n{out}\n{err}", run.status);
    eprintln!("{out}");
}

#[test]
fn it_is_moved_both_ways_and_nothing_is_lost() {
    plays("move.sh");
}

#[test]
fn it_is_moved_to_version_3_with_its_history_and_nothing_is_lost() {
    plays("to-v3.sh");
}

#[test]
fn it_lives_on_version_3() {
    plays("etcd3.sh");
}
