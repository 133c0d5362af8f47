//! Golden scripts of the flags: `tests/scripts/config/<sentence_as_name>`.
//!
//! A script is cases with an empty line between them; a case is what is said, a line `---`, and what it comes to.
//! `UPDATE=1 cargo test --test config` rewrites what stands below the lines.
//!
//! ```text
//! args WORD..            words of the command line, split at blanks
//! arg TEXT               one word, blanks and all
//! env NAME=VALUE         a variable
//! file PATH              a file; the following lines, each behind two blanks, are what it holds
//! member PATH            a data directory that holds a member
//! ---
//! run                    a member would run; below, what differs from a member that was told nothing, and the log
//! print                  exit 0; below, the first lines on standard output
//! exit N                 below, what stands on standard error
//! ```

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use cairn::config::flags::{self, Kind, Status};
use cairn::config::{self, Config, Level, Outcome, print};

const SCRIPTS: &str = "tests/scripts/config";

#[derive(Default)]
struct Case {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    files: Vec<(String, String)>,
    /// Data directories that hold a member.
    members: Vec<String>,
}

impl Case {
    fn parse(text: &str) -> Self {
        let mut case = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(contents) = line.strip_prefix("  ") {
                let (_, file) = case.files.last_mut().expect("a file before its lines");
                file.push_str(contents);
                file.push('\n');
                continue;
            }
            match line.split_once(' ').unwrap_or((line, "")) {
                ("args", words) => case.arguments.extend(words.split(' ').map(str::to_owned)),
                ("arg", word) => case.arguments.push(word.to_owned()),
                ("env", pair) => {
                    let (name, value) = pair.split_once('=').expect("NAME=VALUE");
                    case.variables.push((name.to_owned(), value.to_owned()));
                }
                ("file", path) => case.files.push((path.to_owned(), String::new())),
                ("member", path) => case.members.push(path.to_owned()),
                _ => panic!("what is {line:?}?"),
            }
        }
        case
    }

    fn load(self) -> Outcome {
        let (files, members) = (self.files, self.members);
        let is_member = |path: &Path| members.iter().any(|member| Path::new(member) == path);
        config::load(self.arguments, self.variables, |path| read(files, path), is_member)
    }

    fn settings(self) -> Result<Vec<print::Setting>, config::Failure> {
        let (files, members) = (self.files, self.members);
        let is_member = |path: &Path| members.iter().any(|member| Path::new(member) == path);
        config::settings(self.arguments, self.variables, |path| read(files, path), is_member)
    }
}

fn read(files: Vec<(String, String)>, path: &str) -> io::Result<String> {
    let found = files.into_iter().find(|(name, _)| name == path);
    found.map(|(_, contents)| contents).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// No data directory holds a member.
fn nobody(_: &Path) -> bool {
    false
}

/// Field by field; a new field must be named here.
fn fields(config: &Config) -> Vec<(&'static str, String)> {
    macro_rules! show {
        ($($field:ident),* $(,)?) => {{
            let Config { $($field),* } = config;
            vec![$((stringify!($field), format!("{:?}", $field))),*]
        }};
    }
    show![
        name,
        data_dir,
        wal_dir,
        initial_cluster,
        discovery,
        initial_cluster_token,
        join,
        force_new_cluster,
        proxy,
        proxy_when_full,
        client_listeners,
        peer_listeners,
        metrics_listeners,
        client_tls,
        peer_tls,
        advertise_peer_urls,
        advertise_client_urls,
        heartbeat,
        election,
        strict_reconfig_check,
        cors,
        hosts,
        log_format,
        log_outputs,
        log_level,
        log_package_levels,
        from_file,
        metrics_extensive,
        pprof,
        sync,
        history_events,
        history_bytes,
        checkpoint_wal_bytes,
        checkpoint_cache_bytes,
        quota_bytes,
        reserve_bytes,
        body_bytes_max,
        inflight_bytes_max,
        header_bytes_max,
        headers_max,
        header_timeout,
        idle_timeout,
        connections_max,
        connections_per_ip_max,
        streams_max,
        ping_interval,
        ping_timeout,
        txn_ops_max,
        request_bytes_max,
        watchers_max,
        watch_progress_interval,
        tokens,
        token_ttl_s,
        bcrypt_cost,
        gateway,
        retention,
        past_bytes_max,
        key_bytes_max,
        auth_closed_guest,
        key_depth_max,
    ]
}

fn load(words: &[&str]) -> Outcome {
    config::load(
        words.iter().map(|word| (*word).to_owned()),
        [],
        |_| unreachable!("no file"),
        nobody,
    )
}

fn told_nothing() -> Config {
    match load(&[]) {
        Outcome::Run(config, _) => *config,
        other @ (Outcome::Print(_) | Outcome::Fail(_)) => panic!("{other:?}"),
    }
}

/// What a case comes to. `all` shows the fields that have their defaults too.
fn show(outcome: Outcome, all: bool) -> String {
    let mut out = String::new();
    let mut say = |line: &str| writeln!(out, "{line}").expect("strings take all");
    match outcome {
        Outcome::Run(config, notices) => {
            say("run");
            for ((name, value), (_, default)) in fields(&config).iter().zip(fields(&told_nothing()))
            {
                if all || *value != default {
                    say(&format!("  {name}: {value}"));
                }
            }
            for notice in notices {
                let level = match notice.level {
                    Level::Info => "info",
                    Level::Warning => "warning",
                };
                say(&format!("  log {level}: {}", notice.text));
            }
        }
        Outcome::Print(text) => {
            say("print");
            text.lines().take(2).for_each(|line| say(&format!("  {line}")));
        }
        Outcome::Fail(failure) => {
            say(&format!("exit {}", failure.code));
            failure.text.lines().for_each(|line| say(&format!("  {line}")));
        }
    }
    out.lines()
        .filter(|line| !line.trim().is_empty())
        .fold(String::new(), |text, line| text + line + "\n")
}

/// The script with its answers as they are now.
fn play(script: &str) -> String {
    let cases = script.split("\n\n").filter(|case| !case.trim().is_empty());
    let played = cases.map(|case| {
        let said = format!("{}\n", case.trim_matches('\n'));
        // The line alone: `---` is also a word that a command line can hold.
        let said = said.split_once("\n---\n").map_or(said.trim_end_matches('\n'), |(said, _)| said);
        format!("{said}\n---\n{}", show(Case::parse(said).load(), said.contains("# all")))
    });
    played.collect::<Vec<_>>().join("\n")
}

/// `cairn config print` of a configuration, given to a member as its file, is that configuration.
#[test]
fn what_is_printed_is_what_would_run() {
    let mut seen = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPTS)).expect("scripts")
    {
        let script = fs::read_to_string(entry.expect("an entry").path()).expect("a script");
        for case in script.split("\n\n").filter(|case| !case.trim().is_empty()) {
            let said = case.split("\n---\n").next().expect("what is said").trim_matches('\n');
            let Outcome::Run(config, _) = Case::parse(said).load() else { continue };
            let members = Case::parse(said).members;
            let printed = print::yaml(&Case::parse(said).settings().expect("settings"));
            let printed_again = printed.clone();
            let is_member = |path: &Path| members.iter().any(|member| Path::new(member) == path);
            let words = ["--config-file=printed".to_owned()];
            let again = config::load(words, [], |_| Ok(printed_again), is_member);
            let Outcome::Run(mut again, _) = again else { panic!("{said}\n{printed}\n{again:?}") };
            again.from_file = config.from_file;
            assert_eq!(fields(&again), fields(&config), "{said}\n{printed}");
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} of the scripts run a member");
}

#[test]
fn the_scripts_come_to_what_they_say() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut paths: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPTS))
        .expect("the directory of the scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {SCRIPTS}");
    let mut wrong = Vec::new();
    for path in paths {
        let script = fs::read_to_string(&path).expect("a script");
        let played = play(&script);
        if update {
            fs::write(&path, &played).expect("a script to write");
        } else if played != script {
            let lines = script.lines().zip(played.lines());
            let first =
                lines.filter(|(said, is)| said != is).map(|(said, is)| format!("- {said}\n+ {is}"));
            let first = first.take(1).collect::<String>();
            wrong.push(format!("{}:\n{first}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE=1 rewrites them", wrong.join("\n"));
}

/// The flags of etcd 3.4, by section; `spec/config.md` section 2 and the help of 3.4.23.
const OF_ETCD: &str = "
    name data-dir wal-dir snapshot-count heartbeat-interval election-timeout initial-election-tick-advance
    listen-peer-urls listen-client-urls listen-client-http-urls max-snapshots max-wals quota-backend-bytes
    backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes max-concurrent-streams
    grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout

    initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token advertise-client-urls
    discovery discovery-fallback discovery-proxy discovery-srv discovery-srv-name strict-reconfig-check pre-vote
    enable-v2 auto-compaction-retention auto-compaction-mode

    proxy proxy-failure-wait proxy-refresh-interval proxy-dial-timeout proxy-write-timeout proxy-read-timeout

    cert-file key-file client-cert-auth trusted-ca-file client-crl-file peer-crl-file client-cert-allowed-hostname
    auto-tls peer-auto-tls peer-cert-file peer-key-file peer-client-cert-auth peer-trusted-ca-file
    peer-cert-allowed-cn peer-cert-allowed-hostname cipher-suites tls-min-version tls-max-version cors host-whitelist
    auth-token bcrypt-cost auth-token-ttl

    logger log-outputs log-output log-level debug log-package-levels enable-pprof metrics listen-metrics-urls
    force-new-cluster unsafe-no-fsync enable-grpc-gateway next-cluster-version-compatible config-file version

    experimental-initial-corrupt-check experimental-corrupt-check-time experimental-enable-v2v3
    experimental-backend-bbolt-freelist-type experimental-enable-lease-checkpoint
    experimental-compaction-batch-limit experimental-peer-skip-client-san-verification
    experimental-watch-progress-notify-interval experimental-warning-apply-duration";

#[test]
fn every_flag_of_etcd_is_in_the_table() {
    let missing: Vec<_> =
        OF_ETCD.split_whitespace().filter(|name| flags::find(name).is_none()).collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn no_two_flags_share_a_name_or_a_variable() {
    let mut names: Vec<_> = flags::all().map(flags::Flag::variable).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_default_is_a_value_of_its_flag() {
    for flag in flags::all().filter(|flag| flag.name != "help") {
        // What is switched on by itself ends otherwise; what is empty was not filled in.
        if matches!(flag.name, "version" | "initial-cluster") {
            continue;
        }
        let word = format!("--{}={}", flag.name, flag.default);
        let advertise = "--advertise-client-urls=http://localhost:2379";
        let outcome = load(&[&word, advertise]);
        assert!(matches!(outcome, Outcome::Run(..)), "{word}: {outcome:?}");
    }
}

/// A value that `flag` can have and that is not its default.
fn other_value(flag: &flags::Flag) -> String {
    match flag.kind {
        Kind::Bool => (flag.default != "true").to_string(),
        Kind::Number => "77".to_owned(),
        Kind::Urls | Kind::Origins => "http://127.0.0.1:77".to_owned(),
        Kind::Text | Kind::List => "x".to_owned(),
        Kind::Choice(words) => {
            (*words.iter().find(|word| **word != flag.default).expect("a choice of two")).to_owned()
        }
    }
}

#[test]
fn what_has_no_effect_says_so_in_the_log() {
    for flag in flags::all() {
        let Status::Ignored(why) = flag.status else { continue };
        let outcome = load(&[&format!("--{}={}", flag.name, other_value(flag))]);
        let Outcome::Run(_, notices) = outcome else { panic!("{}: {outcome:?}", flag.name) };
        let text = format!("--{} has no effect: {why}", flag.name);
        assert!(notices.iter().any(|notice| notice.text == text), "{}", flag.name);
    }
}

#[test]
fn the_help_names_every_flag_its_default_and_its_standing() {
    let Outcome::Print(help) = load(&["--help"]) else { panic!("no help") };
    for flag in flags::all() {
        assert!(help.contains(&format!("  --{} ", flag.name)), "{}", flag.name);
        assert!(help.contains(flag.help) && help.contains(flag.default), "{}", flag.name);
        match flag.status {
            Status::Works => {}
            Status::Ignored(why) => assert!(help.contains(&format!("Has no effect: {why}."))),
        }
    }
}

#[test]
fn no_number_is_so_large_that_a_member_falls_over() {
    for flag in flags::all() {
        if flag.kind == Kind::Number && flag.status == Status::Works {
            let word = format!("--{}={}", flag.name, u64::MAX);
            let outcome = load(&[&word]);
            assert!(matches!(outcome, Outcome::Fail(_)), "{word}: {outcome:?}");
        }
    }
}
