//! A member on addresses that a test chooses, and questions to it that are sent as they are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::http::Connection;
use crate::support::process::Process;

/// How long an answer may take; a loaded machine needs seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a member with exactly these arguments, under a shell's `ulimit`s if there are any.
pub(crate) fn start(limits: &str, args: &[String]) -> Process {
    let program = std::env::var("CAIRN_TEST_BIN");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned());
    let run = format!("{limits} exec \"$0\" \"$@\"");
    let words = ["-c".to_owned(), run, program].into_iter().chain(args.iter().cloned());
    Process::start("sh", &words.collect::<Vec<_>>())
}

/// The port that a line of the log ends with.
pub(crate) fn port(member: &mut Process, words: &str) -> u16 {
    let line = member.line(words);
    let line = line.split(", this is").next().unwrap_or_default();
    line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the line ends with a port")
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// Is there IPv6 on this machine?
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// Sends bytes on a new connection and reads until the server closes it.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut connection = Connection::open(address).expect("the server accepts");
    // A server that has seen enough may close before it has read all.
    let _ = connection.send_raw(bytes);
    let _ = connection.stream().shutdown(std::net::Shutdown::Write);
    let read = connection.read_to_close(Instant::now() + PATIENCE);
    Answer::of(&read.unwrap_or_default())
}

/// An answer as it came.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// 0 when there was none.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }
}

/// Does somebody take connections there?
pub(crate) fn takes_connections(ip: IpAddr, port: u16) -> io::Result<()> {
    TcpStream::connect_timeout(&(ip, port).into(), PATIENCE).map(drop)
}
