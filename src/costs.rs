//! What reading costs: twice the bytes may take twice the steps, and no more. And what a fixed amount of work costs: no more than
//! it did.
//!
//! Steps are instructions, counted by valgrind's callgrind: they are the same on every run and on every machine, however busy it
//! is. A test runs itself once more under callgrind, which writes down what each call of a function `..._counted` took.
//!
//! Never knows: what is read or done. Each floor lists its own cases.

mod work;

use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::{self, Outcome};
use crate::model::{KeyPath, PathLimits};
use crate::store::Members;
use crate::{api, discovery, server};

pub(crate) use work::Work;

/// One way to read, and input that makes it hard.
pub(crate) struct Case {
    /// What is read.
    pub(crate) name: &'static str,
    /// Input of about so many bytes.
    pub(crate) input: fn(usize) -> Vec<u8>,
    /// Reads it. What comes of it does not matter.
    pub(crate) read: fn(&[u8]),
}

/// Set for the run under callgrind.
const COUNTED: &str = "CAIRN_COSTS_COUNTED";
/// Bytes of the smallest input; the others have twice and four times as many.
const BYTES: usize = 2_000;
/// How much more the second doubling may add than the first: 2 when costs are linear, 4 when they are quadratic.
const GROWTH_MAX: f64 = 3.0;

/// What must not be: all slashes counted once for each component, as the cleaning of paths once did. That this is noticed shows
/// that the counting works.
const QUADRATIC: Case = Case {
    name: "slashes, counted again and again",
    input: |bytes| b"/.a".repeat(bytes / 6),
    read: |input| {
        let slashes = || std::hint::black_box(input).iter().filter(|byte| **byte == b'/').count();
        let mut places = input.split(|byte| *byte == b'/').enumerate();
        assert!(places.all(|(place, _)| slashes() >= place));
    },
};

const CASES: &[Case] = &[
    Case {
        name: "a key with many components",
        input: |bytes| b"//a".repeat(bytes / 3),
        read: |input| {
            let path = KeyPath::clean(input);
            let limits = PathLimits { bytes_max: usize::MAX, depth_max: usize::MAX };
            assert!(path.exceeds(limits).is_none() && path.names().count() == path.depth());
        },
    },
    Case {
        name: "founders in a flag",
        input: |bytes| list(bytes, |n| format!("n{n}=http://10.0.{}.{}:1", n / 256, n % 256)),
        read: |input| {
            let advertised = "--initial-advertise-peer-urls=http://10.0.0.1:1";
            run(&["--name=n1", advertised, "--initial-cluster"], input);
        },
    },
    Case {
        name: "URLs of one member in two flags",
        input: |bytes| list(bytes, |n| format!("default=http://127.0.0.1:{}", n + 1)),
        read: |input| {
            let advertised = text(input).replace("default=", "");
            let advertise = format!("--initial-advertise-peer-urls={advertised}");
            run(&[&advertise, "--initial-cluster"], input);
        },
    },
    Case {
        name: "addresses to listen on",
        input: |bytes| list(bytes, |n| format!("http://127.0.0.1:{}", n + 1)),
        read: |input| run(&["--listen-metrics-urls"], input),
    },
    Case {
        name: "a configuration file",
        input: |bytes| {
            let hosts = list(bytes, |n| format!("host{n}"));
            [b"host-whitelist: [", &hosts[..], b"]\n"].concat()
        },
        read: |input| {
            let contents = text(input);
            let arguments = ["--config-file=f".to_owned()];
            let outcome = config::load(arguments, [], |_| Ok(contents), |_| false);
            assert!(matches!(outcome, Outcome::Run(..)));
        },
    },
    Case {
        name: "the URLs of a new member, compared with those of the others",
        input: |bytes| list(bytes, |n| format!("http://a:{n}")),
        read: |input| {
            let urls: Vec<_> = text(input).split(',').map(str::to_owned).collect();
            let mut members = Members::default();
            members.add_for_test(&urls);
            let others: Vec<_> = urls.iter().map(|url| url.replace('a', "b")).collect();
            assert!(!members.has_url(&others, None));
        },
    },
];

/// `a,b,c`, about so many bytes of it.
pub(crate) fn list(bytes: usize, item: impl Fn(usize) -> String) -> Vec<u8> {
    let mut list = item(0);
    for n in 1.. {
        if list.len() >= bytes {
            break;
        }
        list = list + "," + &item(n);
    }
    list.into_bytes()
}

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// Reads a command line whose last value is `input`.
fn run(arguments: &[&str], input: &[u8]) {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).chain([text(input)]);
    let outcome = config::load(arguments, [], |_| unreachable!("there is no file"), |_| false);
    assert!(matches!(outcome, Outcome::Run(..)), "{outcome:?}");
}

/// callgrind knows it by this name, and counts from 0 when it is called.
#[inline(never)]
fn begin_count() {
    std::hint::black_box(());
}

/// callgrind knows it by this name, and writes down what was counted whenever it returns.
#[inline(never)]
fn read_counted(read: fn(&[u8]), input: &[u8]) {
    read(std::hint::black_box(input));
    // Not a tail call: the function would be left before `read` is.
    std::hint::black_box(());
}

fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(api::costs::CASES).chain(discovery::costs::CASES).chain(server::costs::CASES)
}

fn inputs(case: &Case) -> [Vec<u8>; 3] {
    [1, 2, 4].map(|times| (case.input)(times * BYTES))
}

/// The instructions of each call that the test of this name makes, in order; `None` where there is no valgrind.
fn count(name: &str) -> Option<Vec<f64>> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no valgrind to count instructions with");
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    Some(count_in(dir.path(), name))
}

fn count_in(dir: &Path, name: &str) -> Vec<f64> {
    let test = std::env::current_exe().expect("a test knows its own program");
    let ended = Command::new("valgrind")
        .args(["--tool=callgrind", "--zero-before=*begin_count*", "--dump-after=*_counted*"])
        .arg(format!("--callgrind-out-file={}/calls", dir.display()))
        .arg(test)
        .args(["--exact", name, "--nocapture"])
        .env(COUNTED, "1")
        .stdout(Stdio::null())
        .output()
        .expect("valgrind was found");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let call = |number: usize| {
        let text = std::fs::read_to_string(dir.join(format!("calls.{number}"))).ok()?;
        let summary = text.lines().find_map(|line| line.strip_prefix("summary: "))?;
        summary.trim().parse().ok()
    };
    (1..).map_while(call).collect()
}

#[test]
fn twice_the_bytes_take_twice_the_steps() {
    if std::env::var_os(COUNTED).is_some() {
        // The first call of all also counts what is done once in a program.
        begin_count();
        read_counted(QUADRATIC.read, b"/.a");
        for case in [&QUADRATIC].into_iter().chain(cases()) {
            for input in inputs(case) {
                begin_count();
                read_counted(case.read, &input);
            }
        }
        return;
    }
    let Some(counts) = count("costs::twice_the_bytes_take_twice_the_steps") else { return };
    let counts = &counts[1..];
    assert_eq!(counts.len(), 3 * (1 + cases().count()), "callgrind did not count every call");
    let mut wrong = Vec::new();
    for (case, counts) in [&QUADRATIC].into_iter().chain(cases()).zip(counts.chunks_exact(3)) {
        let growth = (counts[2] - counts[1]) / (counts[1] - counts[0]);
        eprintln!("{growth:.2} {counts:?} {}", case.name);
        if growth > GROWTH_MAX {
            wrong.push(case.name);
        }
    }
    assert_eq!(wrong, [QUADRATIC.name], "what costs more than its bytes");
}
