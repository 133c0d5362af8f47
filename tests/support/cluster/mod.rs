//! Clusters of real members that can be killed, paused, cut off, wiped, added and removed.
//!
//! Owns: processes, their folders, disks, logs and addresses, and the network between them. Never knows: what clients do with
//! the cluster meanwhile; addresses never change, so clients need no more than those.

mod member;
mod membership;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::process::Signal;
use tempfile::TempDir;

pub(crate) use member::Member;

use super::disk::{SmallDisk, is_root};
use super::load::targets::Targets;
use super::network::Network;
use super::port::Port;
use super::server::Flavor;

/// How long a cluster may take to be what is awaited; a loaded machine needs seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// What SIGTERM promises is five seconds; a loaded machine gets more.
const STOP_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// On a host of its own each member may have the usual ports.
const PORTS: [u16; 2] = [2379, 2380];
/// A start on loopback fails when another process takes a port meanwhile.
const STARTS_MAX: usize = 5;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) members: usize,
    /// Flags of every member.
    pub(crate) args: Vec<String>,
    /// Each member's data is on a disk of so many megabytes, where root can mount one.
    pub(crate) disk_megabytes: Option<u32>,
    /// All on loopback, even where root could do better: there is no network then that could be cut.
    pub(crate) loopback: bool,
    /// Leave logs and data behind when the test fails.
    pub(crate) keep: bool,
}

impl Options {
    pub(crate) fn members(members: usize) -> Self {
        let loopback = env::var_os("CAIRN_TEST_LOOPBACK").is_some_and(|v| v == "1");
        Self { members, args: Vec::new(), disk_megabytes: None, loopback, keep: false }
    }
}

/// Where members are.
enum Place {
    Hosts(Network),
    Loopback,
}

/// Members and what is between them; everything is gone when it is dropped.
pub(crate) struct Cluster {
    // Dropped in this order: the network outlives the processes in it.
    members: Vec<Member>,
    place: Place,
    options: Options,
    program: PathBuf,
    token: String,
    /// The members as clients know them.
    targets: Targets,
    made: usize,
    dir: Option<TempDir>,
    /// How members ended that were not killed.
    ends: Vec<String>,
}

impl Cluster {
    /// Starts all members and waits until they are a cluster.
    pub(crate) fn start(options: Options) -> Self {
        for _ in 1..STARTS_MAX {
            let mut cluster = Self::prepare(&options);
            (0..options.members).for_each(|member| cluster.spawn(member));
            if cluster.all_serve() {
                cluster.await_healthy();
                return cluster;
            }
        }
        panic!("ports were taken {STARTS_MAX} times");
    }

    fn prepare(options: &Options) -> Self {
        let place = match options.loopback {
            true => Place::Loopback,
            false => Network::make().map_or_else(
                |why| {
                    eprintln!("skipped: members on hosts of their own: {why}");
                    Place::Loopback
                },
                Place::Hosts,
            ),
        };
        let dir = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let token = dir.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        let mut this = Self {
            members: Vec::new(),
            place,
            options: options.clone(),
            program: Flavor::Subject.program(),
            token,
            targets: Targets::from(Vec::new()),
            made: 0,
            dir: Some(dir),
            ends: Vec::new(),
        };
        (0..options.members).for_each(|_| this.prepare_member());
        let targets: Vec<_> = this.members.iter().map(Member::addr).collect();
        this.targets = targets.into();
        let founders = this.listed();
        for member in &mut this.members {
            member.cluster.clone_from(&founders);
        }
        this
    }

    fn prepare_member(&mut self) {
        let name = format!("m{}", self.made);
        self.made += 1;
        let folder = self.folder().join(&name);
        fs::create_dir(&folder).expect("a folder can be made");
        let (host, addresses, ports) = match &mut self.place {
            Place::Hosts(network) => {
                let host = network.add_host();
                let address = network.address(host);
                (host, PORTS.map(|port| SocketAddr::from((address, port))), None)
            }
            Place::Loopback => {
                let ports = [(); 2].map(|()| Port::reserve().expect("the system has free ports"));
                let address = Port::addr;
                (self.made, ports.each_ref().map(address), Some(ports))
            }
        };
        let disk = self.options.disk_megabytes.filter(|_| is_root()).map(SmallDisk::mount);
        self.members.push(Member {
            name,
            host,
            client: addresses[0],
            peer: addresses[1],
            _ports: ports,
            folder,
            disk,
            child: None,
            paused: false,
            cluster: String::new(),
            state: "new",
        });
    }

    /// All members as `--initial-cluster` names them.
    fn listed(&self) -> String {
        let listed = self.members.iter().map(|m| format!("{}={}", m.name, m.peer_url()));
        listed.collect::<Vec<_>>().join(",")
    }

    /// Where logs and, unless on small disks, data are.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.as_ref().expect("it is kept until the end").path()
    }

    /// Ends all members and leaves logs and data behind, for people to look at.
    pub(crate) fn keep(&mut self) -> PathBuf {
        for member in &mut self.members {
            // It may have ended.
            let _ = member.kill();
            if let Some(disk) = &member.disk {
                let copied =
                    Command::new("cp").arg("-r").arg(disk.path()).arg(&member.folder).status();
                copied.expect("files can be copied");
            }
        }
        self.dir.take().expect("it is kept until the end").keep()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, member: usize) -> &Member {
        &self.members[member]
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where clients reach the members: those that were there at first by their number, and others while they are there.
    pub(crate) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Members that ended by themselves, as they were told or for want of a disk.
    pub(crate) fn ends(&self) -> &[String] {
        &self.ends
    }

    // The network between the members.

    /// Whether members can be cut from each other: not on loopback.
    pub(crate) fn can_cut(&self) -> bool {
        matches!(self.place, Place::Hosts(_))
    }

    fn network(&mut self) -> &mut Network {
        match &mut self.place {
            Place::Hosts(network) => network,
            Place::Loopback => panic!("there is nothing to cut on loopback"),
        }
    }

    /// What `from` sends to `to` is lost; clients still reach both.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        let (from, to) = (self.members[from].host, self.members[to].host);
        self.network().cut(from, to);
    }

    pub(crate) fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// A member is cut from all others, clients included.
    pub(crate) fn cut_off(&mut self, member: usize) {
        let host = self.members[member].host;
        self.network().cut_off(host);
    }

    /// Every link is whole again.
    pub(crate) fn heal(&mut self) {
        self.network().heal();
    }

    // Processes.

    /// Starts a member's process without waiting for it.
    pub(crate) fn spawn(&mut self, member: usize) {
        let member = &mut self.members[member];
        let command = match &self.place {
            Place::Hosts(network) => network.command(member.host, &self.program),
            Place::Loopback => Command::new(&self.program),
        };
        member.spawn(command, &self.token, &self.options.args);
    }

    /// Whether all serve; false when a port was taken on loopback.
    fn all_serve(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        for member in 0..self.len() {
            while !self.members[member].serves() {
                if self.exited(member).is_some() {
                    let log = self.members[member].log().to_lowercase();
                    assert!(log.contains("address already in use"), "it ended:\n{log}");
                    return false;
                }
                assert!(Instant::now() < deadline, "{} does not start", self.members[member].name);
                thread::sleep(POLL);
            }
        }
        true
    }

    fn exited(&mut self, member: usize) -> Option<ExitStatus> {
        let member = &mut self.members[member];
        let status = member.exited()?;
        self.ends.push(format!("{} ended: {status}", member.name));
        Some(status)
    }

    /// Starts a member and waits until it answers.
    ///
    /// # Panics
    /// When it ends or takes too long.
    pub(crate) fn start_member(&mut self, member: usize) {
        self.spawn(member);
        self.await_serving(member);
    }

    pub(crate) fn await_serving(&mut self, member: usize) {
        let name = self.members[member].name.clone();
        self.wait_until(&format!("{name} serves"), |cluster| cluster.members[member].serves());
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].kill().expect("a child can be killed and awaited");
    }

    /// SIGSTOP: it neither runs nor ends, and its connections stay open.
    pub(crate) fn pause(&mut self, member: usize) {
        self.members[member].signal(Signal::STOP);
        self.members[member].paused = true;
    }

    /// Ends a pause, if it was not killed meanwhile.
    pub(crate) fn go_on(&mut self, member: usize) {
        if std::mem::take(&mut self.members[member].paused) {
            self.members[member].signal(Signal::CONT);
        }
    }

    /// SIGTERM, and waits for the end, which must be a clean one.
    pub(crate) fn stop(&mut self, member: usize) {
        self.members[member].signal(Signal::TERM);
        let status = self.await_end(member, STOP_MAX);
        assert!(status.success(), "{}: SIGTERM ends with {status}", self.members[member].name);
    }

    /// Waits until a member has ended by itself.
    pub(crate) fn await_end(&mut self, member: usize, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited(member) {
                return status;
            }
            let name = &self.members[member].name;
            assert!(Instant::now() < deadline, "{name} goes on after {limit:?}");
            thread::sleep(POLL);
        }
    }

    // What all members come to.

    /// Waits for a condition of the whole.
    ///
    /// # Panics
    /// When it takes too long or a member ends meanwhile; the ends of all logs are shown then.
    pub(crate) fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.assert_alive();
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            thread::sleep(POLL);
        }
    }

    /// Every member that was started and neither killed nor stopped must still run.
    pub(crate) fn assert_alive(&mut self) {
        for member in 0..self.len() {
            if let Some(status) = self.exited(member) {
                panic!("{} ended by itself: {status}", self.members[member].name);
            }
        }
    }

    /// A member that leads, by its own account and that of every member that is asked.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| member.is_able() && member.leads())
    }

    pub(crate) fn await_leader(&mut self) -> usize {
        let mut leader = None;
        self.wait_until("a member leads", |cluster| {
            leader = cluster.leader();
            leader.is_some()
        });
        leader.expect("it was awaited")
    }

    /// Waits until all members run, name the same leader and hold the same.
    pub(crate) fn await_healthy(&mut self) {
        self.wait_until("all members follow one leader and hold the same", |cluster| {
            let running = || cluster.members.iter().filter(|member| member.runs());
            let leaders: BTreeSet<_> = running().map(Member::leader).collect();
            let one_leader = leaders.len() == 1 && !leaders.contains(&None);
            one_leader && {
                let states: BTreeSet<_> = running().map(Member::holds).collect();
                states.len() == 1 && !states.contains(&None)
            }
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.ends.iter().for_each(|end| eprintln!("{end}"));
            self.members.iter().for_each(|member| eprintln!("{}", member.log_tail()));
            if self.options.keep {
                eprintln!("--- kept: {}", self.keep().display());
            }
        }
    }
}
