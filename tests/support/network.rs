//! A private network of hosts, each in a network namespace of its own, whose links can be cut one way at a time.
//!
//! Owns: namespaces, the bridge between them, the interface on this side by which the test reaches all hosts. Never knows:
//! what runs on the hosts.
//!
//! The bridge lives in a namespace too, so that no firewall of the machine sees what the hosts say to each other. A cut gives
//! the sender a wrong hardware address for the receiver: packets leave and no host takes them, as on a cable that is out.
//! That needs nothing but `ip`, works one way, and holds for open connections at once.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Who listens to none of us.
const NO_HOST: &str = "02:00:00:00:00:00";
/// Subnets to choose from: 198.18.0.0/15, which is set apart for tests of networks.
const SUBNETS: u32 = 512;
/// This side's number in the subnet.
const TEST: u8 = 254;
/// Names begin with this and the number of the process, so that what a killed run left can be told.
const PREFIX: &str = "cairn-test-";

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Hosts, and this process beside them; all gone when dropped.
pub(crate) struct Network {
    name: String,
    interface: String,
    subnet: u32,
    hosts: usize,
    /// `(namespace or this side, address)` that have a wrong hardware address.
    cuts: Vec<(Place, Ipv4Addr)>,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Test,
    Host(usize),
}

impl Network {
    /// A network without hosts.
    ///
    /// # Errors
    /// When this process may not make one, or has no `ip`.
    pub(crate) fn make() -> Result<Self, String> {
        remove_leftovers();
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let interface = format!("ct{pid:x}x{number:x}");
        let name = format!("{PREFIX}{pid}-{number}");
        // From here on it is taken down, however this ends.
        let mut this = Self { name, interface, subnet: 0, hosts: 0, cuts: Vec::new() };
        let hub = this.hub();
        ip(&format!("netns add {hub}"))?;
        ip_in(&hub, "link add hub type bridge\nlink set dev hub up")?;
        let up = &this.interface;
        ip(&format!("link add {up} type veth peer name test netns {hub}\nlink set dev {up} up"))?;
        ip_in(&hub, "link set dev test master hub up")?;
        this.subnet = this.take_subnet(pid.wrapping_mul(7).wrapping_add(number))?;
        Ok(this)
    }

    /// A subnet that this machine does not have; the route is what takes it.
    fn take_subnet(&self, first: u32) -> Result<u32, String> {
        let mut last = String::new();
        for subnet in (0..SUBNETS).map(|n| (first + n) % SUBNETS) {
            let (own, net) = (address(subnet, TEST), address(subnet, 0));
            let interface = &self.interface;
            ip(&format!("address add {own}/24 dev {interface} noprefixroute"))?;
            match ip(&format!("route add {net}/24 dev {interface} src {own}")) {
                Ok(()) => return Ok(subnet),
                Err(error) => last = error,
            }
            ip(&format!("address del {own}/24 dev {interface}"))?;
        }
        Err(last)
    }

    /// Adds a host; they are numbered from 0.
    ///
    /// # Panics
    /// When the system refuses what it allowed before.
    pub(crate) fn add_host(&mut self) -> usize {
        let host = self.hosts;
        self.hosts += 1;
        let (hub, name) = (self.hub(), self.host(host));
        let address = self.address(host);
        let made = ip(&format!("netns add {name}"))
            .and_then(|()| ip_in(&hub, &format!("link add h{host} type veth peer name up netns {name}\nlink set dev h{host} master hub up")))
            .and_then(|()| ip_in(&name, &format!("link set dev lo up\nlink set dev up up\naddress add {address}/24 dev up")));
        made.expect("a host can be added");
        host
    }

    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        address(self.subnet, u8::try_from(host + 1).expect("there are few hosts"))
    }

    /// `program` as it would be started on a host. The process is the program itself, with no shell around it.
    pub(crate) fn command(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.host(host))).arg(program);
        command
    }

    /// What `from` sends to `to` is lost from now on.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        let to = self.address(to);
        self.misdirect(Place::Host(from), to);
    }

    /// No other host reaches `host` any more, clients included, and it reaches none.
    pub(crate) fn cut_off(&mut self, host: usize) {
        for other in (0..self.hosts).filter(|other| *other != host) {
            self.cut(host, other);
            self.cut(other, host);
        }
        let (own, this_side) = (self.address(host), address(self.subnet, TEST));
        self.misdirect(Place::Host(host), this_side);
        self.misdirect(Place::Test, own);
    }

    /// Undoes every cut.
    pub(crate) fn heal(&mut self) {
        for (place, to) in std::mem::take(&mut self.cuts) {
            self.ip_at(place, "del", to, "").expect("a cut can be healed");
        }
    }

    fn misdirect(&mut self, from: Place, to: Ipv4Addr) {
        if !self.cuts.contains(&(from, to)) {
            let wrong = format!("lladdr {NO_HOST} nud permanent");
            self.ip_at(from, "replace", to, &wrong).expect("a link can be cut");
            self.cuts.push((from, to));
        }
    }

    fn ip_at(&self, place: Place, verb: &str, to: Ipv4Addr, more: &str) -> Result<(), String> {
        match place {
            Place::Test => ip(&format!("neighbour {verb} {to} dev {} {more}", self.interface)),
            Place::Host(host) => {
                ip_in(&self.host(host), &format!("neighbour {verb} {to} dev up {more}"))
            }
        }
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn host(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was never made cannot be removed, and that is fine.
        let _ = ip(&format!("link del {}", self.interface));
        for name in (0..self.hosts).map(|host| self.host(host)).chain([self.hub()]) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn address(subnet: u32, host: u8) -> Ipv4Addr {
    Ipv4Addr::from((198 << 24) + (18 << 16) + (subnet << 8) + u32::from(host))
}

/// Runs commands of `ip`, one a line, up to the first that fails.
fn ip(commands: &str) -> Result<(), String> {
    batch(&[], commands)
}

fn ip_in(namespace: &str, commands: &str) -> Result<(), String> {
    batch(&["-netns", namespace], commands)
}

fn batch(options: &[&str], commands: &str) -> Result<(), String> {
    let fail = |error| format!("ip (Debian: iproute2): {error}");
    let mut command = Command::new("ip");
    command.args(options).args(["-batch", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(fail)?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let written = stdin.write_all(format!("{commands}\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(fail)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return written.map_err(fail);
    }
    Err(format!("ip {}: {}", options.join(" "), said.lines().next().unwrap_or_default()))
}

/// Takes down what runs left that were killed before they could.
fn remove_leftovers() {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let Ok(listed) = listed else { return };
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}
