//! More clients than file descriptors.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::member::{PATIENCE, free_port, local, port, start};
use crate::support::http::{self, Client, Request};

/// More than the hard limit below.
const IDLE: usize = 300;
/// Two segments of the log and some more, 64 MiB each.
const WRITES: usize = 16;
const WRITE_BYTES: usize = 9 << 20;

/// The limit was never raised and nothing was kept back: idle clients took all descriptors, the next segment of the log could not
/// be opened, and that ended the member.
#[test]
fn clients_leave_descriptors_for_the_disk_and_the_peers() {
    let args =
        ["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1"]
            .into_iter()
            .chain(["--listen-peer-urls=http://127.0.0.1:0", "--data-dir=data"]);
    let args: Vec<_> = args.map(str::to_owned).collect();
    let mut member = start("ulimit -Sn 100; ulimit -Hn 256;", &args);
    member.line("ready to serve client requests");
    let warning = member.line("--max-connections");
    assert!(warning.contains("may open 256 files, so only 120 clients"), "{warning}");
    let address = local(port(&mut member, "serving insecure client requests on "));
    let peers = local(port(&mut member, "listening for peers on "));
    let mut client = Client::new(address);
    let get = Request::get("/v2/keys/");
    assert_eq!(client.ask(&get).expect("an answer").status(), 200);
    let idle: Vec<_> = (0..IDLE).map(|_| idle(address)).collect();
    for n in 0..WRITES {
        let body = [b"value=".to_vec(), vec![b'x'; WRITE_BYTES]].concat();
        let put = Request::new("PUT", format!("/v2/keys/{}", n % 2)).form(body);
        assert!(client.ask(&put).expect("an answer").status() < 300);
    }
    // A peer that calls, and one that is called: a new member is.
    assert_eq!(http::ask(peers, &Request::get("/members")).expect("an answer").status(), 200);
    let called = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).expect("a free port");
    let url = format!("http://{}", called.local_addr().expect("it is bound"));
    let add = Request::new("POST", "/v2/members").header("Content-Type", "application/json");
    let add = add.body(format!("{{\"peerURLs\":[\"{url}\"]}}"));
    assert_eq!(client.ask(&add).expect("an answer").status(), 201);
    called.set_nonblocking(true).expect("it can be asked");
    let deadline = Instant::now() + PATIENCE;
    while called.accept().is_err() {
        assert!(Instant::now() < deadline, "the new member is not called:\n{}", member.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(member.is_alive());
    drop(idle);
    // Those that waited were never refused: now there is room for more.
    assert_eq!(http::ask(address, &get).expect("an answer").status(), 200);
}

fn idle(address: SocketAddr) -> TcpStream {
    let limit = Duration::from_secs(20);
    TcpStream::connect_timeout(&address, limit).expect("the system takes it for the member")
}
