//! What can happen to a cluster, each thing with how it is done and undone.
//!
//! Owns: the list of faults, whom they strike, how long they last. Never knows: clients, checks.
//!
//! [`Fault::inject`] does the harm and returns an [`Injury`], which lasts until it is healed. Faults that are a procedure, such
//! as a rolling restart, are over when `inject` returns.

use std::time::Duration;

use super::cluster::{Cluster, PATIENCE};
use super::disk::{Strace, strace_is_there};
use super::http::{self, Request};
use super::rng::Rng;

/// Room for two segments of the log and a checkpoint.
pub(crate) const DISK_MEGABYTES: u32 = 300;
/// A value that soon finds a full disk.
const BALLAST_BYTES: usize = 200_000;
/// So many of them are more than any disk of this size takes.
const BALLAST_MAX: usize = 2000;
/// As a disk takes that is busy with something else.
const SLOW_MICROSECONDS: u32 = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// `kill -9` of the leader, or of another member.
    KillOne,
    KillLeader,
    KillMajority,
    KillAll,
    /// SIGSTOP of the leader for longer than an election takes, or not.
    PauseLeader,
    /// Some that are no majority are cut from the rest; the leader is not among them.
    CutMinority,
    /// The leader is cut from a majority.
    CutLeader,
    /// The leader is cut from all others, clients included.
    CutOffLeader,
    /// The leader hears no follower; they hear it.
    DeafLeader,
    /// No follower hears the leader; it hears them.
    MuteLeader,
    /// Each member hears its two neighbours only; of three members two are cut from each other.
    Ring,
    FillDisk,
    /// A sync of the disk fails.
    FailSync,
    /// Each sync of the leader's disk takes long.
    SlowSync,
    /// A member loses its data; it is removed and added again.
    Replace,
    /// A member loses its data, and joins again by itself.
    LoseData,
    /// One more member joins, gets a vote and leaves again.
    AddAndRemove,
    /// SIGTERM and a start, one after the other.
    RollingRestart,
    /// SIGTERM of the leader.
    StopLeader,
}

/// How those who are down come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ComesBack {
    #[default]
    AsItWas,
    Replaced,
    Empty,
}

/// What is broken until it is healed.
#[derive(Default)]
pub(crate) struct Injury {
    /// Members that are down.
    down: Vec<usize>,
    paused: Vec<usize>,
    cut: bool,
    comes_back: ComesBack,
    filled: Option<usize>,
    slowed: Option<Strace>,
}

impl Fault {
    pub(crate) const ALL: [Self; 19] = [
        Self::KillOne,
        Self::KillLeader,
        Self::KillMajority,
        Self::KillAll,
        Self::PauseLeader,
        Self::CutMinority,
        Self::CutLeader,
        Self::CutOffLeader,
        Self::DeafLeader,
        Self::MuteLeader,
        Self::Ring,
        Self::FillDisk,
        Self::FailSync,
        Self::SlowSync,
        Self::Replace,
        Self::LoseData,
        Self::AddAndRemove,
        Self::RollingRestart,
        Self::StopLeader,
    ];

    /// Those that may strike while another one lasts.
    pub(crate) const SECOND: [Self; 12] = [
        Self::KillOne,
        Self::KillLeader,
        Self::KillMajority,
        Self::KillAll,
        Self::PauseLeader,
        Self::CutMinority,
        Self::CutLeader,
        Self::CutOffLeader,
        Self::DeafLeader,
        Self::MuteLeader,
        Self::Ring,
        Self::StopLeader,
    ];

    /// What is missing here for this fault; `None` when it can be had.
    pub(crate) fn missing(self, cluster: &Cluster) -> Option<&'static str> {
        match self {
            Self::CutMinority
            | Self::CutLeader
            | Self::CutOffLeader
            | Self::DeafLeader
            | Self::MuteLeader
            | Self::Ring => (!cluster.can_cut()).then_some("network namespaces (root, iproute2)"),
            Self::FillDisk => cluster.member(0).disk().is_none().then_some("small disks (root)"),
            Self::FailSync | Self::SlowSync => (!strace_is_there()).then_some("strace, as root"),
            Self::KillOne
            | Self::KillLeader
            | Self::KillMajority
            | Self::KillAll
            | Self::PauseLeader
            | Self::Replace
            | Self::LoseData
            | Self::AddAndRemove
            | Self::RollingRestart
            | Self::StopLeader => None,
        }
    }

    /// Whether no client can write while it lasts.
    pub(crate) fn loses_majority(self) -> bool {
        matches!(self, Self::KillMajority | Self::KillAll)
    }

    /// Does the harm, to whom `rng` chooses, in a cluster that is well.
    pub(crate) fn inject(self, cluster: &mut Cluster, rng: &mut Rng) -> Injury {
        cluster.await_leader();
        let mut injury = Injury::default();
        self.strike(cluster, rng, &mut injury);
        injury
    }

    /// Does harm to a cluster that may be injured already; only those of [`Fault::SECOND`] can do without a majority.
    pub(crate) fn strike(self, cluster: &mut Cluster, rng: &mut Rng, injury: &mut Injury) {
        let all = shuffled(cluster.len(), rng);
        let able: Vec<_> = all.iter().copied().filter(|m| cluster.member(*m).is_able()).collect();
        let Some(&first) = able.first() else { return };
        let leader = cluster.leader().unwrap_or(first);
        let followers: Vec<_> = all.iter().copied().filter(|member| *member != leader).collect();
        let minority = (cluster.len() - 1) / 2;
        match self {
            Self::KillOne => injury.kill(cluster, &[first]),
            Self::KillLeader => injury.kill(cluster, &[leader]),
            Self::KillMajority => injury.kill(cluster, &able[..able.len().min(minority + 1)]),
            Self::KillAll => injury.kill(cluster, &able),
            Self::PauseLeader => {
                cluster.pause(leader);
                injury.paused.push(leader);
            }
            Self::CutMinority => injury.part(cluster, &followers[..minority]),
            Self::CutLeader => {
                let mut side = followers[..minority - 1].to_vec();
                side.push(leader);
                injury.part(cluster, &side);
            }
            Self::CutOffLeader => {
                injury.cut = true;
                cluster.cut_off(leader);
            }
            Self::DeafLeader => injury.cut_one_way(cluster, &followers, &[leader]),
            Self::MuteLeader => injury.cut_one_way(cluster, &[leader], &followers),
            Self::Ring => injury.ring(cluster, &all),
            Self::FillDisk => injury.fill_disk(cluster, all[0], all[1]),
            Self::FailSync => injury.fail_sync(cluster, all[0], all[1]),
            Self::SlowSync => {
                let slow = format!("inject=fdatasync:delay_enter={SLOW_MICROSECONDS}");
                injury.slowed = Some(Strace::attach(cluster.member(leader).pid(), &slow));
            }
            Self::Replace => {
                injury.kill(cluster, &followers[..1]);
                injury.comes_back = ComesBack::Replaced;
            }
            Self::LoseData => {
                injury.kill(cluster, &followers[..1]);
                injury.comes_back = ComesBack::Empty;
            }
            Self::AddAndRemove => add_and_remove(cluster, leader),
            Self::RollingRestart => all.into_iter().for_each(|member| restart(cluster, member)),
            Self::StopLeader => {
                cluster.stop(leader);
                injury.down.push(leader);
            }
        }
    }
}

impl Injury {
    fn kill(&mut self, cluster: &mut Cluster, members: &[usize]) {
        for &member in members {
            cluster.kill(member);
            self.down.push(member);
        }
    }

    /// Cuts `side` from the rest, both ways.
    fn part(&mut self, cluster: &mut Cluster, side: &[usize]) {
        let rest: Vec<_> = (0..cluster.len()).filter(|member| !side.contains(member)).collect();
        self.cut_one_way(cluster, side, &rest);
        self.cut_one_way(cluster, &rest, side);
    }

    fn cut_one_way(&mut self, cluster: &mut Cluster, from: &[usize], to: &[usize]) {
        self.cut = true;
        for &from in from {
            to.iter().for_each(|&to| cluster.cut(from, to));
        }
    }

    fn ring(&mut self, cluster: &mut Cluster, order: &[usize]) {
        self.cut = true;
        let count = order.len();
        for one in 0..count {
            for other in one + 1..count {
                let apart = (other - one).min(count - (other - one));
                // Of three members all are neighbours: then one link is missing.
                if apart > 1 || (count == 3 && (one, other) == (0, 1)) {
                    cluster.cut_both(order[one], order[other]);
                }
            }
        }
    }

    /// A member has no room any more; it ends when it needs some, and says why.
    fn fill_disk(&mut self, cluster: &mut Cluster, victim: usize, other: usize) {
        cluster.member(victim).disk().expect("it was looked for").fill();
        let addr = cluster.member(other).addr();
        let value = format!("value={}", "x".repeat(BALLAST_BYTES));
        let mut written = 0;
        while cluster.member(victim).is_alive() {
            let request = Request::new("PUT", format!("/v2/keys/ballast/{written}"));
            // Whether it succeeds is not the point.
            let _ = http::ask_within(addr, &request.form(value.clone()), Duration::from_secs(10));
            written += 1;
            assert!(written < BALLAST_MAX, "a full disk is not noticed");
        }
        let status = cluster.await_end(victim, PATIENCE);
        assert!(!status.success(), "a member that cannot write ends with an error");
        let log = cluster.member(victim).log();
        assert!(log.contains("No space left"), "the log says why:\n{log}");
        self.filled = Some(victim);
        self.down.push(victim);
    }

    /// A sync fails; the member ends at once, and says why.
    fn fail_sync(&mut self, cluster: &mut Cluster, victim: usize, other: usize) {
        let pid = cluster.member(victim).pid();
        let strace = Strace::attach(pid, "inject=fdatasync:error=EIO:when=1+");
        // Whatever is written has to be synced everywhere.
        let put = Request::new("PUT", "/v2/keys/ballast/sync?value=x");
        while cluster.member(victim).is_alive() {
            let _ = cluster.member(other).try_ask(&put);
        }
        let status = cluster.await_end(victim, PATIENCE);
        drop(strace);
        assert!(!status.success(), "a member whose disk fails ends with an error");
        let log = cluster.member(victim).log();
        assert!(log.contains("Input/output error"), "the log says why:\n{log}");
        self.down.push(victim);
    }

    /// Undoes it. Who is started answers again afterwards; more than that is to be awaited.
    pub(crate) fn heal(mut self, cluster: &mut Cluster) {
        if self.cut {
            cluster.heal();
        }
        drop(self.slowed.take());
        for member in self.paused.drain(..) {
            cluster.go_on(member);
        }
        if let Some(victim) = self.filled {
            cluster.member(victim).disk().expect("it was filled").free();
        }
        for &member in self.down.iter().filter(|_| self.comes_back != ComesBack::AsItWas) {
            let asked = cluster.await_leader();
            match self.comes_back {
                ComesBack::Replaced => cluster.replace(member, asked),
                ComesBack::Empty | ComesBack::AsItWas => cluster.forget(member),
            }
        }
        self.down.retain(|member| !cluster.member(*member).runs());
        // All at once: a majority serves only once all of it is there.
        self.down.iter().for_each(|&member| cluster.spawn(member));
        self.down.iter().for_each(|&member| cluster.await_serving(member));
        if let Some(victim) = self.filled {
            let request = Request::new("DELETE", "/v2/keys/ballast?recursive=true");
            cluster.wait_until("the ballast is gone", |cluster| {
                let reply = cluster.member(victim).try_ask(&request);
                reply.is_some_and(|reply| matches!(reply.status(), 200 | 404))
            });
        }
    }
}

fn add_and_remove(cluster: &mut Cluster, asked: usize) {
    let added = cluster.add(asked);
    let name = cluster.member(added).name.clone();
    cluster.wait_until(&format!("{name} has a vote"), |cluster| {
        let log =
            cluster.members().iter().any(|m| m.log().contains("has caught up and has a vote"));
        log && cluster.leader().is_some()
    });
    let asked = cluster.await_leader();
    cluster.remove_last(if asked == added { 0 } else { asked });
}

fn restart(cluster: &mut Cluster, member: usize) {
    cluster.stop(member);
    cluster.start_member(member);
}

/// All members in random order.
fn shuffled(count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut left: Vec<_> = (0..count).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let at = rng.below(left.len() as u64);
        order.push(left.swap_remove(usize::try_from(at).expect("below a usize")));
    }
    order
}
