//! `sd_notify`'s protocol: datagrams of lines.
//!
//! The crates for it take a path only; containers and newer systemd hand in abstract sockets (`@name`) as well.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::warn;

use crate::base::lock;
use crate::model::codes;
use crate::raft::{Leadership, Role};
use crate::replica::Replica;
use crate::server::clock;

/// A manager that does not take a line in this time goes without.
const TELL_MAX: Duration = Duration::from_secs(1);

/// How often a start that takes long asks for more time, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(60);

/// The service manager that started this process, if there is one and it wants to hear. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Manager(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    address: SocketAddr,
    watchdog: Option<Duration>,
    phase: Mutex<Phase>,
}

/// What may be said: a `READY=1` behind a reload would otherwise end a start that is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

impl Manager {
    /// The one that `NOTIFY_SOCKET` names, with the watchdog of `WATCHDOG_USEC` when that is meant for this process.
    pub(super) fn of_environment() -> Self {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name).ok());
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        let watchdog = watchdog.map(Duration::from_micros);
        Self(address.map(|address| Told::new(address, watchdog)))
    }

    /// The manager ends a process that has not said for this long that it is alive.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|told| told.watchdog)
    }

    /// What a start is about at the moment.
    pub(in crate::server) async fn starting(&self, doing: &str) {
        self.tell_in(Phase::Starting, &format!("STATUS={doing}\n")).await;
    }

    /// Asks for time while the member starts: reading a large log and waiting for other members both take as long as they take.
    pub(in crate::server) async fn keep_starting(self) {
        let more = format!("EXTEND_TIMEOUT_USEC={}\n", EXTEND_BY.as_micros());
        while self.phase() == Some(Phase::Starting) {
            self.tell_in(Phase::Starting, &more).await;
            tokio::time::sleep(EXTEND_EVERY).await;
        }
    }

    /// The member serves.
    pub(in crate::server) async fn ready(&self, status: &str) {
        if self.turn(Phase::Starting, Phase::Serving) {
            self.tell(&format!("READY=1\nSTATUS={status}\n")).await;
        }
    }

    /// How a member that serves does.
    async fn status(&self, status: &str) {
        self.tell_in(Phase::Serving, &format!("STATUS={status}\n")).await;
    }

    /// The member reads its files again, until [`Manager::reloaded`].
    pub(in crate::server) async fn reloading(&self) {
        let now = clock::since_boot().as_micros();
        self.tell_in(Phase::Serving, &format!("RELOADING=1\nMONOTONIC_USEC={now}\n")).await;
    }

    /// It has done so.
    pub(in crate::server) async fn reloaded(&self) {
        self.tell_in(Phase::Serving, "READY=1\n").await;
    }

    /// The member is alive.
    pub(super) async fn alive(&self) {
        self.tell_in(Phase::Serving, "WATCHDOG=1\n").await;
    }

    /// The member ends.
    pub(in crate::server) async fn stopping(&self, why: &str) {
        let from = [Phase::Starting, Phase::Serving];
        if from.into_iter().any(|phase| self.turn(phase, Phase::Stopping)) {
            self.tell(&format!("STOPPING=1\nSTATUS={why}\n")).await;
        }
    }

    fn phase(&self) -> Option<Phase> {
        self.0.as_ref().map(|told| *lock(&told.phase))
    }

    /// Goes from one phase to the next; `false` when it is in another one.
    fn turn(&self, from: Phase, to: Phase) -> bool {
        let Some(told) = &self.0 else { return false };
        let mut phase = lock(&told.phase);
        let turns = *phase == from;
        if turns {
            *phase = to;
        }
        turns
    }

    async fn tell_in(&self, phase: Phase, lines: &str) {
        if self.phase() == Some(phase) {
            self.tell(lines).await;
        }
    }

    async fn tell(&self, lines: &str) {
        let Some(told) = &self.0 else { return };
        let sent = tokio::time::timeout(TELL_MAX, send(&told.address, lines)).await;
        if let Err(error) = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            warn!(
                target: "etcdmain",
                code = codes::MANAGER_DEAF,
                "the service manager does not take {:?} at its NOTIFY_SOCKET, and may end this process: {error}",
                lines.trim_end(),
            );
        }
    }
}

impl Told {
    fn new(address: SocketAddr, watchdog: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { address, watchdog, phase: Mutex::new(Phase::Starting) })
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    }
}

/// A socket for each: a manager that was executed anew listens at another one.
async fn send(address: &SocketAddr, lines: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    socket.set_nonblocking(true)?;
    tokio::net::UnixDatagram::from_std(socket)?.send(lines.as_bytes()).await.map(drop)
}

/// Who this member is and whom it follows, in a line.
pub(in crate::server) fn status_line(replica: &Replica, leadership: Leadership) -> String {
    let member = replica.member();
    let term = leadership.term.0;
    let role = match (leadership.leader, leadership.role) {
        (Some(_), Role::Leader) => format!("leads in term {term}"),
        (Some(leader), Role::Learner) => {
            format!("learns from {leader} in term {term}, no vote yet")
        }
        (Some(leader), Role::Follower | Role::Candidate) => {
            format!("follows {leader} in term {term}")
        }
        (None, _) => format!("knows no leader in term {term}"),
    };
    let line =
        format!("member {} ({}) of cluster {} {role}", member.name, member.id, member.cluster);
    // A name with a line break must not become a line of its own.
    line.replace(char::is_control, " ")
}

/// Tells the manager whom this member follows, whenever that changes.
pub(in crate::server) async fn show_role(manager: Manager, replica: Replica) {
    let mut leadership = replica.raft().leadership();
    while leadership.changed().await.is_ok() {
        let now = *leadership.borrow_and_update();
        manager.status(&status_line(&replica, now)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    fn manager_at(name: &OsStr) -> Manager {
        Manager(Some(Told::new(address(name).unwrap(), None)))
    }

    #[tokio::test]
    async fn a_manager_hears_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listens = UnixDatagram::bind(&path).unwrap();
        manager_at(path.as_os_str()).ready("well").await;
        assert_eq!(heard(&listens), "READY=1\nSTATUS=well\n");
        let name = format!("cairn-test-{}", std::process::id());
        let listens =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager_at(OsStr::new(&format!("@{name}"))).ready("well").await;
        assert_eq!(heard(&listens), "READY=1\nSTATUS=well\n");
        // A manager that is gone is no reason to fail.
        manager_at(OsStr::new("@cairn-test-gone")).ready("well").await;
    }

    #[tokio::test]
    async fn a_reload_neither_ends_a_start_nor_undoes_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listens = UnixDatagram::bind(&path).unwrap();
        let manager = manager_at(path.as_os_str());
        manager.reloading().await;
        manager.reloaded().await;
        manager.alive().await;
        manager.ready("well").await;
        assert_eq!(heard(&listens), "READY=1\nSTATUS=well\n");
        manager.reloading().await;
        let reloading = heard(&listens);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
        manager.reloaded().await;
        assert_eq!(heard(&listens), "READY=1\n");
        manager.stopping("asked to").await;
        manager.reloaded().await;
        manager.ready("well").await;
        manager.stopping("asked again").await;
        assert_eq!(heard(&listens), "STOPPING=1\nSTATUS=asked to\n");
        listens.set_nonblocking(true).unwrap();
        assert!(listens.recv(&mut [0; 64]).is_err(), "nothing comes behind it");
    }
}
