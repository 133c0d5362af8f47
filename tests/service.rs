//! Members under a service manager, which is a test: what it hears from them, and the sockets that it hands over.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::disk::{Strace, strace_is_there};
use support::http::{self, Request};
use support::port::Port;
use support::process::Process;

const PATIENCE: Duration = Duration::from_secs(30);

/// A member must say twice in this time that it is alive.
const WATCHDOG: Duration = Duration::from_secs(2);

/// How long a sync of the disk takes while that stands still: several times what a watchdog waits.
const STILL: Duration = Duration::from_secs(8);

const ANY: &str = "http://127.0.0.1:0";

fn program() -> String {
    std::env::var("CAIRN_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_cairn").to_owned())
}

/// Who is told. The name is new for each test of each run.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(test: &str) -> Self {
        let name = format!("cairn-{test}-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Self { socket, name }
    }

    fn start(&self, flags: &[&str]) -> Process {
        let words = [
            format!("NOTIFY_SOCKET=@{}", self.name),
            format!("WATCHDOG_USEC={}", WATCHDOG.as_micros()),
            program(),
        ];
        let listen = [
            ["--listen-client-urls", ANY],
            ["--advertise-client-urls", ANY],
            ["--data-dir", "data"],
        ];
        let words = words.into_iter().chain(listen.concat().into_iter().map(str::to_owned));
        let words: Vec<_> = words.chain(flags.iter().map(|&flag| flag.to_owned())).collect();
        Process::start("env", &words)
    }

    /// The next message, if one comes in time.
    fn within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).expect("a time-out");
        let mut bytes = [0; 1024];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    /// All messages up to the first with these words, which is the last of them.
    fn until(&self, words: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {words:?}, but {heard:?}");
            heard.extend(self.within(left));
            if heard.last().is_some_and(|message| message.contains(words)) {
                return heard;
            }
        }
    }
}

fn count(heard: &[String], words: &str) -> usize {
    heard.iter().filter(|message| message.contains(words)).count()
}

#[test]
fn a_service_manager_hears_of_start_reload_and_stop() {
    let manager = Manager::new("phases");
    let mut member = manager.start(&["--name=n1", "--listen-peer-urls", ANY]);
    let start = manager.until("READY=1");
    assert!(start.iter().any(|message| message.starts_with("EXTEND_TIMEOUT_USEC=")), "{start:?}");
    assert!(count(&start, "STATUS=reading the checkpoint and the log\n") == 1, "{start:?}");
    let ready = start.last().expect("it has just come");
    assert!(ready.starts_with("READY=1\nSTATUS=member n1 ("), "{ready}");
    assert!(ready.ends_with(" leads in term 1\n"), "{ready}");
    for _ in 0..2 {
        member.signal(Signal::HUP);
        let reload = manager.until("RELOADING=1");
        let reload = reload.last().expect("it has just come");
        let usec = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim_end);
        assert!(usec.is_some_and(|usec| usec.parse::<u64>().is_ok()), "{reload}");
        let reloaded = manager.until("READY=1");
        assert_eq!(reloaded.last().map(String::as_str), Some("READY=1\n"));
    }
    member.line("flags and variables stay as they were at the start");
    member.terminate();
    let stop = manager.until("STOPPING=1");
    assert_eq!(stop.last().map(|message| message.lines().count()), Some(2), "{stop:?}");
    assert!(member.end().success());
}

/// Two founders of three are not there: it takes as long as it takes, and no reload may say that it is over.
#[test]
fn a_member_that_waits_for_others_asks_for_time() {
    let manager = Manager::new("waiting");
    let ports = [(); 3].map(|()| Port::reserve().expect("the system has free ports"));
    let [a, b, c] = ports.each_ref().map(Port::url);
    let founders = format!("a={a},b={b},c={c}");
    let flags = ["--name=a", "--listen-peer-urls", &a, "--initial-advertise-peer-urls", &a];
    let mut member = manager.start(&[&flags[..], &["--initial-cluster", &founders]].concat());
    let mut heard = manager.until("STATUS=waiting for a leader");
    member.signal(Signal::HUP);
    member.line("received hangup signal");
    while count(&heard, "EXTEND_TIMEOUT_USEC=60000000\n") < 3 {
        heard.extend(manager.until("EXTEND_TIMEOUT_USEC="));
    }
    assert_eq!(count(&heard, "READY=1"), 0, "{heard:?}");
    assert_eq!(count(&heard, "WATCHDOG=1"), 0, "{heard:?}");
    member.terminate();
    manager.until("STOPPING=1");
    assert!(member.end().success());
}

#[test]
fn a_member_that_hangs_does_not_say_that_it_is_alive() {
    let manager = Manager::new("watchdog");
    let mut member = manager.start(&["--listen-peer-urls", ANY]);
    manager.until("READY=1");
    for _ in 0..3 {
        let begun = Instant::now();
        manager.until("WATCHDOG=1");
        assert!(begun.elapsed() < WATCHDOG, "it came after {:?}", begun.elapsed());
    }
    member.signal(Signal::STOP);
    // What was under way comes through; then nothing does.
    let mut silent = false;
    for _ in 0..3 {
        silent = silent || manager.within(WATCHDOG).is_none();
    }
    assert!(silent, "a process that is stopped says that it is alive");
    member.signal(Signal::CONT);
    manager.until("WATCHDOG=1");
    member.terminate();
    assert!(member.end().success());
}

/// Another start would need the same disk, and a process in a call to it cannot be killed.
#[test]
fn a_disk_that_stands_still_costs_no_member_its_life() {
    if !strace_is_there() {
        eprintln!("skipped: strace, as root, is what makes a disk stand still here");
        return;
    }
    let manager = Manager::new("disk");
    let mut member = manager.start(&["--listen-peer-urls", ANY]);
    manager.until("READY=1");
    let address = address(&mut member);
    let inject = format!("inject=fdatasync:delay_enter={}", STILL.as_micros());
    let strace = Strace::attach(member.pid(), &inject);
    let begun = Instant::now();
    let written = thread::spawn(move || {
        let request = Request::new("PUT", "/v2/keys/a").form("value=1".to_owned());
        http::ask_within(address, &request, PATIENCE).map(|reply| (reply.status(), begun.elapsed()))
    });
    let mut last = Instant::now();
    while begun.elapsed() < STILL {
        manager.until("WATCHDOG=1");
        assert!(last.elapsed() < WATCHDOG, "it would have been killed after {:?}", begun.elapsed());
        last = Instant::now();
    }
    member.line("the disk of the log has not answered for ");
    drop(strace);
    let (_, took) = written.join().expect("it ends").expect("an answer");
    assert!(took >= STILL / 2, "the disk did not stand still: the write took {took:?}");
}

fn address(member: &mut Process) -> SocketAddr {
    let line = member.line("serving insecure client requests on ");
    line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address")
}

/// Starts a member with two sockets as its descriptors 3 and 4.
fn with_sockets(sockets: [OwnedFd; 2], names: &str, flags: &[&str]) -> Process {
    let script = format!(
        "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES={names}; export LISTEN_FDS LISTEN_PID LISTEN_FDNAMES; \
         exec \"$0\" \"$@\" 3<&0 4<&1 0</dev/null 1>&2"
    );
    let words = ["-c".to_owned(), script, program(), "--data-dir=data".to_owned()].into_iter();
    let words: Vec<_> = words.chain(flags.iter().map(|&flag| flag.to_owned())).collect();
    let [input, output] = sockets;
    Process::start_with_sockets("sh", &words, Some(input), Some(output))
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the system has free ports");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

#[test]
fn sockets_that_are_handed_over_are_served_by_their_address() {
    let ((clients, client), (peers, peer)) = (listener(), listener());
    // A client that came before the member waits for it.
    let early =
        thread::spawn(move || http::ask_within(client, &Request::get("/v2/keys/"), PATIENCE));
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let flags = [
        ["--listen-client-urls", &client],
        ["--advertise-client-urls", &client],
        ["--listen-peer-urls", &peer],
    ];
    // The member cannot take the addresses itself: this process has them.
    let handed = [clients.try_clone().expect("a handle").into(), peers.into()];
    let mut member = with_sockets(handed, "cairn.socket:cairn.socket", &flags.concat());
    member.line("ready to serve client requests");
    let reply = early.join().expect("it ends").expect("an answer");
    assert_eq!(reply.status(), 200, "{}", reply.text());
    member.terminate();
    assert!(member.end().success());
    // The manager keeps its own: connections wait there for the next start.
    let address = clients.local_addr().expect("it listens");
    assert!(std::net::TcpStream::connect(address).is_ok(), "the socket lives on");
}

#[test]
fn a_socket_in_a_file_finds_its_flag_by_name_and_outlives_the_member() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("clients");
    let clients = UnixListener::bind(&path).expect("a socket");
    let (peers, peer) = listener();
    let peer = format!("http://{peer}");
    let flags = [
        ["--listen-client-urls", "unix://localhost:0"],
        ["--advertise-client-urls", "http://127.0.0.1:1"],
        ["--listen-peer-urls", &peer],
    ];
    let mut member = with_sockets([peers.into(), clients.into()], "peer:client", &flags.concat());
    member.line("ready to serve client requests");
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    member.terminate();
    assert!(member.end().success());
    assert!(path.exists(), "the file is the manager's");
    assert!(!member.folder().join("localhost:0").exists(), "it made one of its own");
}

#[test]
fn sockets_that_belong_nowhere_or_do_not_listen_are_named() {
    let ((first, first_at), (second, _)) = (listener(), listener());
    let client = format!("http://{first_at}");
    let flags = ["--listen-client-urls", &client, "--advertise-client-urls", &client];
    let flags = [&flags[..], &["--listen-peer-urls", ANY]].concat();
    let mut member = with_sockets([first.into(), second.into()], "client:other", &flags);
    let line = member.line("and no listen URL belongs to it");
    assert!(line.contains("(\"other\")") && line.contains("--listen-client-urls"), "{line}");
    assert_eq!(member.end().code(), Some(1));
    assert!(!member.folder().join("data/member.json").exists(), "a clash must change nothing");
    let (waiting, other) = (listener().0, UnixDatagram::unbound().expect("a socket"));
    let mut member = with_sockets([waiting.into(), other.into()], "a:b", &flags);
    let line = member.line("is no stream socket that listens");
    assert!(line.contains("descriptor 4 (\"b\")"), "{line}");
    assert_eq!(member.end().code(), Some(1));
}
