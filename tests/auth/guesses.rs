//! Guessing costs the one who guesses, and no one else.

use std::thread;
use std::time::{Duration, Instant};

use super::support::http::{Client, Request};
use super::support::server::{Flavor, Server};
use super::{BOB, User, ask, encoded, set_up};

#[test]
fn who_guesses_waits_and_who_is_known_does_not() {
    const GUESSES: usize = 6;
    let server = Server::start(Flavor::Subject);
    set_up(server.addr());
    assert_eq!(BOB.put_key(server.addr(), "/app/a", "value=1").status(), 201);
    let wrong = User { password: "wrong", ..BOB };
    let begun = Instant::now();
    thread::scope(|scope| {
        let guessing = scope.spawn(|| {
            for _ in 0..GUESSES {
                assert_eq!(wrong.get(server.addr(), "/v2/keys/app/a").status(), 401);
            }
            begun.elapsed()
        });
        let mut client = Client::new(server.addr());
        let get = BOB.signs(Request::get("/v2/keys/app/a"));
        let mut answered = 0;
        while !guessing.is_finished() {
            assert_eq!(client.ask(&get).expect("an answer").status(), 200);
            answered += 1;
        }
        let took = guessing.join().expect("it ends");
        // 100 ms, 200 ms, 400 ms, ... between them.
        assert!(took > Duration::from_millis(3000), "{GUESSES} guesses took {took:?}");
        assert!(answered > 1000, "{answered}");
    });
}

#[test]
fn more_passwords_than_a_member_can_compare_are_refused_with_a_reason() {
    const CLIENTS: usize = 200;
    let server = Server::start(Flavor::Subject);
    set_up(server.addr());
    let addr = server.addr();
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                scope.spawn(move || {
                    let header = format!("Basic {}", encoded(&format!("u{n}:p")));
                    ask(addr, &Request::get("/v2/keys/app/a").header("Authorization", &header))
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("it ends")).collect()
    });
    let of = |status: u16| answers.iter().filter(|reply| reply.status() == status).count();
    assert_eq!(of(401) + of(503), CLIENTS);
    let refused = answers.iter().find(|reply| reply.status() == 503).expect("some are refused");
    assert!(refused.text().contains("too many passwords are being checked"), "{}", refused.text());
    assert!(of(401) >= 64, "{}", of(401));
}
