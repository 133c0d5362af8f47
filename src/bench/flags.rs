//! The flags of a run, in one table: name, value, default, meaning.
//!
//! Owns: how a command line becomes a plan, and the help. Never knows: what a load does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use crate::bench::plan::{Load, Output, Plan};
use crate::config::TlsFlags;
use crate::model::Url;

struct Flag {
    name: &'static str,
    /// What its value looks like; empty for a switch, which has none.
    value: &'static str,
    default: &'static str,
    help: &'static str,
}

const fn row(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, value, default, help }
}

const FLAGS: &[Flag] = &[
    row(
        "endpoints",
        "URL,...",
        "http://127.0.0.1:2379",
        "servers; connections are spread over them",
    ),
    row("connections", "N", "64", "connections; of a watch, how many wait"),
    row(
        "threads",
        "N",
        "",
        "threads of this program; one for two processors if not given, as servers here need some too",
    ),
    row("duration", "TIME", "10s", "how long; without an end if only --requests is given"),
    row("requests", "N", "", "how many requests; of a watch, how many PUTs"),
    row("warmup", "TIME", "0s", "first so long without counting"),
    row(
        "rate",
        "N",
        "",
        "requests a second at fixed times, each measured from the time it was due",
    ),
    row("timeout", "TIME", "10s", "how long an answer may take"),
    row("value-size", "BYTES", "256", "size of a value"),
    row("keys", "N", "", "how many keys; 1000, or 1 where the load says so"),
    row("sequential", "", "", "keys one after the other instead of at random"),
    row("reads", "PERCENT", "90", "of mixed, how many requests are reads"),
    row("ttl", "SECONDS", "5", "of ttl, how long a key lives"),
    row("prefix", "PATH", "/bench", "directory of all keys"),
    row("no-fill", "", "", "the keys are there: write none before the run"),
    row("clean", "", "", "remove the directory after the run; otherwise its keys stay"),
    row("seed", "N", "1", "which random keys"),
    row("user", "NAME:PASSWORD", "", "who asks"),
    row(
        "cacert",
        "FILE",
        "",
        "who signs the servers' certificates; the system's list if not given",
    ),
    row("cert", "FILE", "", "certificate to show"),
    row("key", "FILE", "", "its key"),
    row(
        "pid",
        "PID,...",
        "",
        "the servers' processes on this machine: measure their CPU and memory",
    ),
    row("output", "text|json", "text", "how the results are written"),
];

/// More connections than anybody has descriptors for.
const CONNECTIONS_MAX: u64 = 1 << 20;
/// More threads than any machine of today runs well.
const THREADS_MAX: u64 = 1024;
/// Larger values than any server takes.
const VALUE_BYTES_MAX: u64 = 1 << 30;
/// Numbers in keys have ten digits.
const KEYS_MAX: u64 = 9_999_999_999;
/// Longer than anybody waits; sums of a few stay within what clocks can tell.
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    Run(Box<Plan>),
    Help(String),
}

/// The help.
fn help() -> String {
    let mut text = "Usage: cairn bench LOAD [flags]\nPuts load on any server of etcd's v2 API, or with v3- of its v3 API, and says what came of it.\n\nLoads:\n".to_owned();
    // Writing to a string does not fail.
    for (_, name, what) in Load::ALL {
        let _ = writeln!(text, "  {name:<21} {what}");
    }
    text.push_str("\nFlags:\n");
    for Flag { name, value, default, help } in FLAGS {
        let flag = format!("--{name} {value}");
        let default = if default.is_empty() { String::new() } else { format!(" ({default})") };
        let _ = writeln!(text, "  {flag:<21} {help}{default}");
    }
    text.push_str(
        "\nTimes are 500ms, 10s or 2m. Ends with 0, with 1 when no request was answered as it should be, with 2 for a wrong flag. Ctrl-C \
         ends the run and shows what was measured.\n",
    );
    text
}

/// Reads a command line behind the program's name.
///
/// # Errors
/// What is wrong, with the fix.
pub(super) fn read(words: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut words = words.into_iter();
    let (mut said, mut load) = (Said::default(), None);
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            let named = Load::named(&word);
            if load.is_some() || named.is_none() {
                return Err(wrong(&format!("{word:?} is no load")));
            }
            load = named;
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if matches!(name, "help" | "h") {
            return Ok(Asked::Help(help()));
        }
        let known = FLAGS.iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| wrong(&format!("{word:?} is no flag")))?;
        let value = match (known.value, value) {
            ("", None) => String::new(),
            ("", Some(_)) => return Err(wrong(&format!("--{name} takes no value"))),
            (shape, value) => value
                .or_else(|| words.next())
                .ok_or_else(|| wrong(&format!("--{name} needs a value: {shape}")))?,
        };
        said.0.insert(known.name, value);
    }
    let load = load.ok_or_else(|| wrong("there is no load"))?;
    said.plan(load).map(|plan| Asked::Run(Box::new(plan)))
}

fn wrong(text: &str) -> String {
    format!("{text}\nSee 'cairn bench --help'.")
}

/// Values by flag.
#[derive(Default)]
struct Said(BTreeMap<&'static str, String>);

impl Said {
    fn plan(&self, load: Load) -> Result<Plan, String> {
        let requests = self.number("requests", 1..=u64::MAX)?;
        let endless = requests.is_some() && !self.0.contains_key("duration");
        let duration = if endless { None } else { self.time("duration")? };
        let small = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok());
        let connections = small(self.number("connections", 1..=CONNECTIONS_MAX)?).unwrap_or(1);
        let processors =
            || std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2));
        let threads = small(self.number("threads", 1..=THREADS_MAX)?).unwrap_or_else(processors);
        let keys = self.number("keys", 1..=KEYS_MAX)?.unwrap_or(load.usual_keys());
        Ok(Plan {
            load,
            endpoints: self.endpoints()?,
            connections,
            threads: threads.min(connections),
            duration,
            requests,
            warmup: self.time("warmup")?.unwrap_or_default(),
            rate: self.number("rate", 1..=u64::MAX)?.and_then(NonZeroU64::new),
            timeout: self.time("timeout")?.unwrap_or(TIME_MAX),
            value_bytes: small(self.number("value-size", 0..=VALUE_BYTES_MAX)?).unwrap_or_default(),
            keys,
            sequential: self.0.contains_key("sequential"),
            reads_percent: self.number("reads", 0..=100)?.unwrap_or_default(),
            ttl_s: self.number("ttl", 1..=1 << 31)?.unwrap_or(1),
            prefix: self.prefix()?,
            fill: load.needs_keys() && !self.0.contains_key("no-fill"),
            clean: self.0.contains_key("clean"),
            seed: self.number("seed", 0..=u64::MAX)?.unwrap_or_default(),
            user: self.user()?,
            tls: self.tls()?,
            pids: self.pids()?,
            output: match self.text("output") {
                "text" => Output::Text,
                "json" => Output::Json,
                other => return Err(misfit("output", other, "text or json")),
            },
        })
    }

    /// What was said, else the default.
    fn text(&self, name: &str) -> &str {
        let default =
            || FLAGS.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default);
        self.0.get(name).map_or_else(default, String::as_str)
    }

    fn number(
        &self,
        name: &str,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, String> {
        let text = self.text(name);
        if text.is_empty() && !self.0.contains_key(name) {
            return Ok(None);
        }
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        let range = || format!("a whole number from {} to {}", allowed.start(), allowed.end());
        number.map(Some).ok_or_else(|| misfit(name, text, &range()))
    }

    /// Zero is no time.
    fn time(&self, name: &str) -> Result<Option<Duration>, String> {
        let text = self.text(name);
        let fail = || misfit(name, text, "a time such as 500ms, 10s or 2m, at most a year");
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let number: u64 = digits.parse().map_err(|_| fail())?;
        let ms = match &text[digits.len()..] {
            "ms" => Some(number),
            "s" | "" => number.checked_mul(1000),
            "m" => number.checked_mul(60_000),
            _ => None,
        };
        let time = ms.map(Duration::from_millis).filter(|time| *time <= TIME_MAX);
        let time = time.ok_or_else(fail)?;
        if time.is_zero() && name != "warmup" {
            return Err(fail());
        }
        Ok(Some(time))
    }

    fn endpoints(&self) -> Result<Vec<Url>, String> {
        let text = self.text("endpoints");
        let bare = text.split(',').map(|url| url.trim_end_matches('/')).collect::<Vec<_>>();
        let fail = |why: &str| misfit("endpoints", text, &format!("http://HOST:PORT ({why})"));
        let urls = Url::parse_list(&bare.join(",")).map_err(|error| fail(&error.to_string()))?;
        match urls.iter().all(|url| matches!(url.scheme(), "http" | "https")) {
            true if urls.iter().all(|url| !url.host().is_empty()) => Ok(urls),
            true => Err(fail("a host is missing")),
            false => Err(fail("only http and https are spoken")),
        }
    }

    fn prefix(&self) -> Result<String, String> {
        let text = self.text("prefix").trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
        match text.strip_prefix('/') {
            Some(name) if !name.is_empty() && text.bytes().all(plain) => Ok(text.to_owned()),
            Some(_) | None => {
                Err(misfit("prefix", text, "a path of letters, digits, '-' and '_', as /bench"))
            }
        }
    }

    fn user(&self) -> Result<Option<String>, String> {
        match self.text("user") {
            "" => Ok(None),
            text if text.contains(':') => Ok(Some(text.to_owned())),
            // Not shown: it may be a password.
            _ => Err(wrong("--user needs NAME:PASSWORD")),
        }
    }

    fn tls(&self) -> Result<TlsFlags, String> {
        let path = |name| Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
        let (cert, key) = (path("cert"), path("key"));
        if cert.is_some() != key.is_some() {
            return Err(wrong("--cert and --key need each other"));
        }
        Ok(TlsFlags { cert, key, trusted_ca: path("cacert"), ..TlsFlags::default() })
    }

    fn pids(&self) -> Result<Vec<u32>, String> {
        let text = self.text("pid");
        let words = text.split(',').filter(|word| !word.is_empty());
        let pids = words.map(|word| word.parse().map_err(|_| misfit("pid", word, "a process id")));
        pids.collect()
    }
}

fn misfit(name: &str, text: &str, wanted: &str) -> String {
    wrong(&format!("--{name} {text:?}: write {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn plan(text: &str) -> Plan {
        match read(words(text)) {
            Ok(Asked::Run(plan)) => *plan,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_load_alone_is_a_plan() {
        let plan = plan("get");
        assert_eq!((plan.load, plan.connections, plan.keys), (Load::Get, 64, 1000));
        assert_eq!(plan.duration, Some(Duration::from_secs(10)));
        assert_eq!((plan.requests, plan.rate, plan.warmup), (None, None, Duration::ZERO));
        assert_eq!((plan.prefix.as_str(), plan.fill, plan.output), ("/bench", true, Output::Text));
    }

    #[test]
    fn flags_are_written_in_any_way_and_place() {
        let plan =
            plan("--keys=5 put -connections 2 --rate 100 --requests 7 --sequential --threads 9");
        assert_eq!((plan.load, plan.keys, plan.connections), (Load::Put, 5, 2));
        assert_eq!((plan.rate, plan.requests), (NonZeroU64::new(100), Some(7)));
        // A number of requests alone has no end in time; threads without a connection have nothing to do.
        assert_eq!((plan.duration, plan.threads, plan.fill), (None, 2, false));
    }

    #[test]
    fn both_ends_can_be_given() {
        let plan = plan("cas --requests 7 --duration 2m --endpoints http://a:1/,https://[::1]:2");
        assert_eq!((plan.duration, plan.requests), (Some(Duration::from_secs(120)), Some(7)));
        assert_eq!((plan.keys, plan.endpoints.len()), (1, 2));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_fix() {
        for (text, said) in [
            ("", "there is no load"),
            ("puts", "\"puts\" is no load"),
            ("put get", "\"get\" is no load"),
            ("put --kyes 1", "\"--kyes\" is no flag"),
            ("put --keys", "--keys needs a value: N"),
            ("put --keys 0", "a whole number from 1 "),
            ("put --keys 1.5", "a whole number from 1 "),
            ("put --clean=yes", "--clean takes no value"),
            ("put --duration 5h", "a time such as 500ms"),
            ("put --duration 0s", "a time such as 500ms"),
            ("put --duration 99999999999999999m", "at most a year"),
            ("put --duration é", "a time such as 500ms"),
            ("put --endpoints 127.0.0.1:1", "write http://HOST:PORT"),
            ("put --endpoints unix://a:1", "only http and https"),
            ("put --endpoints http://:1", "a host is missing"),
            ("put --prefix bench", "a path of letters"),
            ("put --prefix /", "a path of letters"),
            ("put --prefix /a%20b", "a path of letters"),
            ("put --user secret", "--user needs NAME:PASSWORD"),
            ("put --cert a.pem", "need each other"),
            ("put --pid 1,x", "a process id"),
            ("put --output yaml", "text or json"),
            ("mixed --reads 101", "from 0 to 100"),
        ] {
            let error = read(words(text)).expect_err(text);
            assert!(error.contains(said) && error.contains("--help"), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_help_has_a_line_for_each_load_and_flag() {
        let Ok(Asked::Help(text)) = read(words("put --help")) else { panic!("no help") };
        for (_, name, _) in Load::ALL {
            assert!(text.contains(&format!("\n  {name} ")), "{name}");
        }
        for flag in FLAGS {
            assert!(text.contains(&format!("\n  --{} ", flag.name)), "{}", flag.name);
        }
    }
}
