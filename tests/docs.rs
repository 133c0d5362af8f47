//! The commands in the documents do what they say.
//!
//! A page is played as one script of bash, in a network of its own, so that it can use the ports and addresses that readers see, and
//! with `/var/lib` and `/var/backups` of its own. The marks are those of `tests/support/page.rs`. `curl` fails where the answer is an
//! error. A page may use these steps in what its readers do not see: `ready URL..`, `answers URL`, `stop NAME`, `gone NAME`,
//! `member NAME HOST DIR [FLAG..]`, `patience COMMAND`, `refused COMMAND`, and the others in [`STEPS`].

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::page::{Part, parse, parts};
use support::server::Flavor;

/// Steps that pages use. Each waits for what it says, for half a minute.
const STEPS: &str = r#"
set -euo pipefail
patience() { for _ in $(seq 300); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done; echo "never: $*"; return 1; }
ready() { for url in "$@"; do patience cairn health --endpoint "$url"; done; }
answers() { patience curl -fsS "$1"; }
gone() { patience is_gone "${!1}"; wait "${!1}" || true; }
is_gone() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status"; }
stop() { for name in "$@"; do kill -TERM "${!name}"; wait "${!name}"; done; }
# Starts a member at 10.0.0.HOST as its reader would; $NAME is its process.
member() {
  local name=$1 at=10.0.0.$2 dir=$3
  shift 3
  cairn --name "$name" --data-dir "$dir" "$@" \
    --listen-client-urls "http://$at:2379" --advertise-client-urls "http://$at:2379" \
    --listen-peer-urls "http://$at:2380" --initial-advertise-peer-urls "http://$at:2380" >>"$name.log" 2>&1 &
  printf -v "$name" %s $!
}
three=a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380
addresses() { for n in "$@"; do ip address add "10.0.0.$n/32" dev lo; done; }
# Names for addresses: `hosts ADDRESS NAME ..`.
hosts() { printf '127.0.0.1 localhost\n' >hosts; printf '%s %s\n' "$@" >>hosts; mount --bind hosts /etc/hosts; }
refused() { if "$@"; then echo "not refused: $*"; return 1; fi; }
# How many watches the member there has.
watched() { [ "$(curl -fsS "$1/metrics" | sed -n 's/^etcd_debugging_store_watchers //p')" = "$2" ]; }
# Nothing that a page started outlives it.
trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT
ip link set lo up
mount --bind var-lib /var/lib
mount --bind var-backups /var/backups
"#;

/// The script that a page is.
fn script(page: &str) -> String {
    let mut script = STEPS.to_owned();
    for part in parts(page) {
        let _ = match part {
            Part::Hidden(bash) => writeln!(script, "{bash}"),
            Part::Run(text) => writeln!(script, "set -x\n{text}{{ set +x; }} 2>/dev/null"),
            // `exec`, so that the process is the program and no shell around it.
            Part::Background { name, text, single } => {
                let exec = if single { "exec " } else { "" };
                writeln!(script, "( {exec}{text}) > {name}.log 2>&1 &\n{name}=$!")
            }
            Part::Elsewhere { .. } | Part::NotRun(_) => Ok(()),
        };
    }
    script
}

fn play(page: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "skipped: only root can make a network in which the addresses of {page} are free"
        );
        return;
    }
    let folder = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
    let programs = folder.path().join("bin");
    fs::create_dir(&programs).expect("a folder can be made");
    for name in ["cairn", "etcdctl"] {
        let link = programs.join(name);
        std::os::unix::fs::symlink(Flavor::Subject.program(), link).expect("a link can be made");
    }
    // An answer that says no is no success.
    fs::write(folder.path().join(".curlrc"), "fail\n").expect("the folder is ours");
    let place = folder.path().join("place");
    for folder in ["place/var-lib", "place/var-backups"] {
        fs::create_dir_all(place.with_file_name(folder)).expect("a folder can be made");
    }
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
            "--mount",
            "--kill-child",
            "--pid",
            "--fork",
            "--mount-proc",
            "bash",
            "-c",
            &script(page),
        ])
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("CURL_HOME", folder.path())
        .env("PROJECT", env!("CARGO_MANIFEST_DIR"))
        .env("PROGRAMS", &programs)
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

macro_rules! pages {
    ($($test:ident $page:literal;)*) => {
        $(#[test]
        fn $test() {
            play($page);
        })*
        const PLAYED: &[&str] = &[$($page),*];
    };
}

pages! {
    the_guide_can_be_followed "docs/operations/guide.md";
    backups_are_made_and_restored_as_the_page_says "docs/operations/backup.md";
    runbooks_ask_what_members_answer "docs/operations/runbooks.md";
    the_way_from_etcd_can_be_gone "docs/coming-from-etcd.md";
    what_the_readme_shows_works "README.md";
    users_are_made_as_the_page_on_security_says "docs/security.md";
}

/// Pages of which some blocks are not run here, and how many: by another test, and by nobody.
const NOT_HERE: &[(&str, usize, usize)] = &[
    ("README.md", 0, 5),
    ("docs/coming-from-etcd.md", 0, 3),
    ("docs/operations/systemd.md", 4, 2),
    ("docs/operations/backup.md", 2, 0),
];

/// Every document that people read.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec!["README.md".to_owned()];
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("the folder is there").flatten() {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(name);
            } else if name.ends_with(".md") {
                found.push(name);
            }
        }
    }
    found
}

/// A page whose commands are not run proves nothing.
#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    for page in documents() {
        let (mut here, mut elsewhere, mut nowhere) = (0, 0, 0);
        for part in parts(&page) {
            match part {
                Part::Hidden(_) => {}
                Part::Run(_) | Part::Background { .. } => here += 1,
                Part::Elsewhere { test, name, .. } => {
                    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&test);
                    let test = fs::read_to_string(path).expect("the test is there");
                    let asks = format!("block(\"{page}\", FILE, \"{name}\")");
                    assert!(test.contains(&asks), "{page}: no {asks} in it");
                    elsewhere += 1;
                }
                Part::NotRun(why) => {
                    assert!(why.split(' ').count() > 2, "{page}: {why:?} is no reason");
                    nowhere += 1;
                }
            }
        }
        let known = NOT_HERE.iter().find(|(known, ..)| *known == page);
        let known = known.map_or((0, 0), |(_, elsewhere, nowhere)| (*elsewhere, *nowhere));
        assert_eq!((elsewhere, nowhere), known, "{page}: blocks that are not run here");
        assert!(here == 0 || PLAYED.contains(&page.as_str()), "{page} is not played");
    }
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// The targets of links in a text, those to other sites left out.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = documents();
    pages.extend(["api-spec/deviations.md", "src/ctl/DESIGN.md"].map(str::to_owned));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in pages {
        let text = fs::read_to_string(root.join(&page)).expect("a page");
        for link in links(&text) {
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root.join(&page),
                file => root.join(&page).with_file_name(file),
            };
            let found = fs::read_to_string(&target).ok();
            let lines = found.as_deref().unwrap_or_default().lines();
            let mut anchors = lines.filter(|line| line.starts_with('#')).map(anchor);
            let is_there = target.exists() && (heading.is_empty() || anchors.any(|a| a == heading));
            if !is_there {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(count > 30, "links are found: {count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(anchor("### A `b` and, c"), "a-b-and-c");
    assert_eq!(links("[a](b.md#c) and [d](https://e/f)"), ["b.md#c"]);
}

#[test]
fn marks_are_told_apart() {
    let page = "<!-- a remark -->\n```yaml\na: 1\n```\n<!-- test -->\n```sh\na\n```\n\
        <!-- test with a => b; c => d -->\n  ```sh\n  a \\\n    c\n  ```\n<!-- test & one -->\n```sh\na\n```\n\
        <!-- test && two -->\n```sh\na\n```\n<!-- test: a\nb -->\n<!-- tests/x.rs: its -->\n```ini\n[A]\n```\n\
        <!-- no test: it compiles -->\n```sh\na\n```\n";
    let background = |name: &str, single| Part::Background {
        name: name.to_owned(),
        text: "a\n".to_owned(),
        single,
    };
    let wanted = [
        Part::Run("a\n".to_owned()),
        Part::Run("b \\\n  d\n".to_owned()),
        background("one", true),
        background("two", false),
        Part::Hidden("a\nb".to_owned()),
        Part::Elsewhere {
            test: "tests/x.rs".to_owned(),
            name: "its".to_owned(),
            text: "[A]\n".to_owned(),
        },
        Part::NotRun("it compiles".to_owned()),
    ];
    assert_eq!(parse(page, "page"), wanted);
    for wrong in [
        "```sh\na\n```\n",
        "<!-- test -->\n",
        "<!-- test",
        "<!-- test with x => y -->\n```sh\na\n```",
    ] {
        let refused = std::panic::catch_unwind(|| parse(wrong, "page")).is_err();
        assert!(refused, "{wrong:?}");
    }
}
