//! The commands in the documents do what they say.
//!
//! A page is played as one script of bash, in a network of its own, so that it can use the ports and addresses that readers see:
//!
//! ```text
//! <!-- test -->           the next block is run to its end, and must succeed
//! <!-- test & NAME -->    the next block is started in the background; $NAME is its process
//! <!-- test: BASH -->     a step that readers do not see: `ready URL..`, `answers URL`, `stop NAME`, `gone NAME`, or any other
//! ```

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::server::Flavor;

/// Steps that pages use. Each waits for what it says, for half a minute.
const STEPS: &str = r#"
set -euo pipefail
patience() { for _ in $(seq 300); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done; echo "never: $*"; return 1; }
ready() { for url in "$@"; do patience cairn health --endpoint "$url"; done; }
answers() { patience curl -fsS "$1"; }
gone() { patience is_gone "${!1}"; wait "${!1}" || true; }
is_gone() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status"; }
stop() { kill -TERM "${!1}"; wait "${!1}"; }
# Nothing that a page started outlives it.
trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT
ip link set lo up
"#;

/// The script that a page is.
fn script(page: &str) -> String {
    let mut script = STEPS.to_owned();
    let mut how = None;
    let mut block: Option<String> = None;
    for line in page.lines() {
        if let Some(text) = &mut block {
            if line != "```" {
                let _ = writeln!(text, "{line}");
                continue;
            }
            let text = block.take().unwrap_or_default();
            match how.take() {
                None => {}
                Some("") => {
                    let _ = writeln!(script, "set -x\n{text}{{ set +x; }} 2>/dev/null");
                }
                Some(name) => {
                    // `exec`, so that the process is the program and no shell around it.
                    let _ = writeln!(script, "( exec {text}) > {name}.log 2>&1 &\n{name}=$!");
                }
            }
            continue;
        }
        if line.starts_with("```") {
            block = Some(String::new());
        } else if let Some(rest) = line.strip_prefix("<!-- test") {
            let rest = rest.strip_suffix("-->").expect("a comment on one line").trim();
            match rest.split_at_checked(1) {
                Some((":", bash)) => {
                    let _ = writeln!(script, "{bash}");
                }
                Some(("&", name)) => how = Some(name.trim()),
                _ => how = Some(""),
            }
        }
    }
    assert!(block.is_none(), "a block has no end");
    script
}

fn play(page: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "skipped: only root can make a network in which the addresses of {page} are free"
        );
        return;
    }
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("a page");
    let folder = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
    let programs = folder.path().join("bin");
    fs::create_dir(&programs).expect("a folder can be made");
    for name in ["cairn", "etcdctl"] {
        let link = programs.join(name);
        std::os::unix::fs::symlink(Flavor::Subject.program(), link).expect("a link can be made");
    }
    let place = folder.path().join("place");
    fs::create_dir(&place).expect("a folder can be made");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("unshare");
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("ETCD") || text.starts_with("CAIRN_") {
            command.env_remove(&variable);
        }
    }
    let output = command
        .args([
            "--net",
            "--kill-child",
            "--pid",
            "--fork",
            "--mount-proc",
            "bash",
            "-c",
            &script(&text),
        ])
        .env("PATH", format!("{}:{path}", programs.display()))
        .current_dir(&place)
        .stdin(Stdio::null())
        .output()
        .expect("unshare and bash run");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let mut logs = String::new();
    for entry in fs::read_dir(&place).expect("the folder").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "log") {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(15).collect();
            let _ = writeln!(logs, "--- {}", entry.path().display());
            tail.iter().rev().for_each(|line| {
                let _ = writeln!(logs, "{line}");
            });
        }
    }
    assert!(output.status.success(), "{page} ends with {}:\n{said}\n{logs}", output.status);
}

#[test]
fn the_guide_can_be_followed() {
    play("docs/operations/guide.md");
}

/// A page whose commands are not run proves nothing.
#[test]
fn the_guide_runs_most_of_its_blocks() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/guide.md");
    let page = fs::read_to_string(page).expect("a page");
    let blocks = page.lines().filter(|line| line.starts_with("```sh")).count();
    let run =
        page.lines().filter(|line| *line == "<!-- test -->" || line.starts_with("<!-- test &"));
    assert_eq!(run.count(), blocks, "each block of the guide is run");
}
