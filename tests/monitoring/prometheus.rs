//! A real Prometheus.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http::{self, Request};
use crate::support::port::Port;

const PATIENCE: Duration = Duration::from_secs(60);

/// Where a program of Debian's package is; `None` when the tests are told to do without.
///
/// # Panics
/// When it is missing and nobody said so.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    if env::var_os("CAIRN_SKIP_PROMETHEUS").is_some_and(|v| v == "1") {
        eprintln!("skipped: no Prometheus (CAIRN_SKIP_PROMETHEUS=1)");
        return None;
    }
    let unpacked = root().join("target/prometheus/usr/bin").join(name);
    let program = if unpacked.exists() { unpacked } else { name.into() };
    let there = Command::new(&program).arg("--version").output().is_ok();
    assert!(
        there,
        "no {name} (Debian: prometheus): run scripts/test.sh, or set CAIRN_SKIP_PROMETHEUS=1"
    );
    Some(program)
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Scrapes members each second; ends when dropped.
pub(crate) struct Prometheus {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
}

impl Prometheus {
    /// Scrapes `members` as the job `job`, and evaluates our rules.
    pub(crate) fn start(program: &Path, job: &str, members: &[SocketAddr]) -> Self {
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let targets: Vec<_> = members.iter().map(|addr| format!("'{addr}'")).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs: [{{ job_name: '{job}', static_configs: [{{ targets: [{}] }}] }}]\n",
            root().join("monitoring/rules.yml").display(),
            targets.join(", "),
        );
        fs::write(dir.path().join("prometheus.yml"), config).expect("the folder is ours");
        let port = Port::reserve().expect("the system has free ports");
        let addr = port.addr();
        drop(port);
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(program)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={addr}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let this = Self { child: child.expect("it can be started"), addr, dir };
        let deadline = Instant::now() + PATIENCE;
        while !http::ask(addr, &Request::get("/-/ready")).is_ok_and(|reply| reply.status() == 200) {
            assert!(Instant::now() < deadline, "{}", this.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        this
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The result of an instant query.
    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = Request::get(&format!("/api/v1/query?query={encoded}"));
        let reply = http::ask(self.addr, &request).expect("an answer");
        let answer: Value = serde_json::from_str(&reply.text()).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }

    /// What it has learned of its rules.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let reply = http::ask(self.addr, &Request::get("/api/v1/rules")).expect("an answer");
        let answer: Value = serde_json::from_str(&reply.text()).expect("JSON");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
