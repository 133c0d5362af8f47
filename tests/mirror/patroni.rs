//! A Patroni cluster with PostgreSQL in it, moved to cairn and back without a failover: `scripts/patroni.sh`.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::support::server::Flavor;

/// What the script ends with when it lacks something, after it has said what.
const LACKING: i32 = 77;

#[test]
fn patroni_is_moved_both_ways_and_nothing_is_lost() {
    let variable = "CAIRN_SKIP_PATRONI";
    if env::var_os(variable).is_some_and(|value| value == "1") {
        eprintln!("skipped: no Patroni with PostgreSQL ({variable}=1)");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/patroni.sh");
    let run =
        Command::new(script).arg(Flavor::Subject.program()).output().expect("the script starts");
    let said = String::from_utf8_lossy(&run.stdout);
    assert_ne!(run.status.code(), Some(LACKING), "{said}\ninstall it, or set {variable}=1");
    assert!(
        run.status.success(),
        "{}\n{said}\n{}",
        run.status,
        String::from_utf8_lossy(&run.stderr)
    );
    println!("{said}");
}
