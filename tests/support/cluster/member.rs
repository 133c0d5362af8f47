//! One member: its process, which may run or not, its folder, disk and log.
//!
//! Owns: the process and what it is started with; what it says of itself. Never knows: the other members, the network.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, io};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::super::disk::SmallDisk;
use super::super::http::{self, Reply, Request};
use super::super::port::Port;

/// A member that does not answer in this time is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(2);
const LOG_TAIL: usize = 4000;

pub(crate) struct Member {
    pub(crate) name: String,
    /// Its number in the network.
    pub(super) host: usize,
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Ports on loopback, held for this member.
    pub(super) _ports: Option<[Port; 2]>,
    pub(super) folder: PathBuf,
    pub(super) disk: Option<SmallDisk>,
    pub(super) child: Option<Child>,
    pub(super) paused: bool,
    /// `--initial-cluster` and its state: what the member is told when it starts for the first time.
    pub(super) cluster: String,
    pub(super) state: &'static str,
}

impl Member {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.client
    }

    /// Whether it was started, and neither killed nor stopped.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it can do anything at all.
    pub(crate) fn is_able(&self) -> bool {
        self.runs() && !self.paused
    }

    /// Whether its process goes on; one that ended by itself is noticed here before it is awaited.
    pub(crate) fn is_alive(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the member runs").id()
    }

    pub(crate) fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let mut from = log.len().saturating_sub(LOG_TAIL);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        format!("--- end of {}\n{}", self.log_path().display(), &log[from..])
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(super) fn peer_url(&self) -> String {
        format!("http://{}", self.peer)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.as_path(), SmallDisk::path).join("data")
    }

    // Its process.

    /// Starts it; `command` is the program where the member lives.
    pub(super) fn spawn(&mut self, mut command: Command, token: &str, args: &[String]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        // What the developer's shell says about etcd must not reach the members.
        for (variable, _) in env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("ETCD_") || text.starts_with("CAIRN_") {
                command.env_remove(&variable);
            }
        }
        let (client, peer) = (format!("http://{}", self.client), self.peer_url());
        command
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster, "--initial-cluster-token", token])
            .args(["--initial-cluster-state", self.state])
            // A small disk is there to be filled to its last byte.
            .args(self.disk.as_ref().map(|_| "--reserve-bytes=0"))
            .args(args)
            .current_dir(&self.folder);
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("a log can be opened");
        let errors = log.try_clone().expect("a second handle of the log");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.expect("the program can be started"));
    }

    /// How it ended, if it has ended by itself.
    pub(super) fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be asked")?;
        self.child = None;
        Some(status)
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.paused = false;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    pub(super) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the member runs");
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    // What it says.

    /// `None` when there is no answer soon.
    pub(crate) fn try_ask(&self, request: &Request) -> Option<Reply> {
        http::ask_within(self.client, request, ANSWER_MAX).ok()
    }

    fn try_json(&self, target: &str) -> Option<Value> {
        serde_json::from_str(&self.try_ask(&Request::get(target))?.text()).ok()
    }

    /// Whether it holds all that was acknowledged before. A member that starts again answers some requests before that.
    pub(super) fn serves(&self) -> bool {
        let reply = self.try_ask(&Request::get("/v2/keys/?quorum=true"));
        reply.is_some_and(|reply| reply.status() == 200)
    }

    /// Whether it leads, by its own account.
    pub(crate) fn leads(&self) -> bool {
        self.try_json("/v2/stats/self").is_some_and(|body| body["state"] == "StateLeader")
    }

    /// The name of the leader, by this member's account.
    pub(super) fn leader(&self) -> Option<String> {
        self.try_json("/v2/members/leader")?["name"].as_str().map(str::to_owned)
    }

    /// The id of the member at a URL, by this member's account.
    pub(super) fn id_at(&self, peer_url: &str) -> Option<String> {
        let body = self.try_json("/v2/members")?;
        let at_url = |listed: &&Value| {
            listed["peerURLs"].as_array().is_some_and(|urls| urls.iter().any(|url| url == peer_url))
        };
        body["members"].as_array()?.iter().find(at_url)?["id"].as_str().map(str::to_owned)
    }

    /// What this member itself holds: its index and every key.
    pub(super) fn holds(&self) -> Option<(u64, String)> {
        let reply = self.try_ask(&Request::get("/v2/keys/?recursive=true&sorted=true"))?;
        Some((reply.index()?, without_ttl(&reply.text())))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.kill();
    }
}

/// How long a key still lives differs between two answers; when it dies does not.
fn without_ttl(body: &str) -> String {
    let mut pieces = body.split("\"ttl\":");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push_str(piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-'));
    }
    out
}
