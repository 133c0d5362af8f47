//! A real DNS server, `dnsmasq`, on a port of loopback.
//!
//! Owns: its process and port. Never knows: what its records are for.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use super::process::Process;

/// How often a port is chosen that another process takes before the server does.
const STARTS_MAX: usize = 5;

/// A DNS server.
pub(crate) struct Dns {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl Dns {
    /// One that has these records, as options of `dnsmasq`. `None` where there is none and that was said.
    pub(crate) fn start(records: &[&str]) -> Option<Self> {
        if env::var_os("CAIRN_SKIP_DNS").is_some_and(|v| v == "1") {
            eprintln!("skipped: no DNS server (CAIRN_SKIP_DNS=1)");
            return None;
        }
        let mut version = Command::new("dnsmasq");
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        let there = version.status().is_ok_and(|status| status.success());
        assert!(there, "no dnsmasq (Debian: dnsmasq-base): install it, or set CAIRN_SKIP_DNS=1");
        (0..STARTS_MAX)
            .find_map(|_| Self::try_start(records))
            .or_else(|| panic!("no port for dnsmasq"))
    }

    fn try_start(records: &[&str]) -> Option<Self> {
        let address = free_address();
        let mut args = vec![
            "--keep-in-foreground".to_owned(),
            "--conf-file=/dev/null".to_owned(),
            "--pid-file=".to_owned(),
            "--no-resolv".to_owned(),
            "--no-hosts".to_owned(),
            "--local=/test/".to_owned(),
            "--bind-interfaces".to_owned(),
            "--listen-address=127.0.0.1".to_owned(),
            "--log-facility=-".to_owned(),
            format!("--port={}", address.port()),
        ];
        // Who is root stays so: there may be no other user.
        if rustix::process::getuid().is_root() {
            args.push("--user=root".to_owned());
        }
        args.extend(records.iter().map(|&record| record.to_owned()));
        let mut process = Process::start("dnsmasq", &args);
        process.wait_for("started, version").map(|_| Self { _process: process, address })
    }
}

/// Free for both protocols at this moment.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = tcp.local_addr().expect("an address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
