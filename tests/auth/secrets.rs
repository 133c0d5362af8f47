//! Passwords are nowhere but in the requests: not in the log, however much is logged, and not in the data directory.

use std::fs;
use std::path::Path;

use super::support::http::Request;
use super::support::server::{Flavor, Server};
use super::{BOB, ROOT, User, ask, change, encoded, set_up};

#[test]
fn no_password_gets_into_a_log_or_a_file() {
    let mut server = Server::start(Flavor::Subject);
    let addr = server.addr();
    let level = Request::new("PUT", "/config/local/log").body(r#"{"Level":"DEBUG"}"#);
    assert_eq!(ask(addr, &level).status(), 204);
    set_up(addr);
    let wrong = User { password: "wrong-PaSsWoRd-1234", ..BOB };
    assert_eq!(BOB.put_key(addr, "/app/a", "value=1").status(), 201);
    assert_eq!(wrong.get(addr, "/v2/keys/app/a").status(), 401);
    assert_eq!(User { name: "nobody", ..wrong }.get(addr, "/v2/keys/app/a").status(), 401);
    assert_eq!(
        User { name: "in-the-wrong-PaSsWoRd-field", ..wrong }.get(addr, "/v2/auth/users").status(),
        401
    );
    // Everything that makes the log say something about a request.
    let odd = ROOT.signs(Request::new("PUT", "/v2/keys/a").header("Content-Type", "text/plain"));
    assert_eq!(ask(addr, &odd.body(format!("password={}", ROOT.password))).status(), 201);
    for body in [
        format!(r#"{{"user":"x","password":"{}","password""#, ROOT.password),
        format!(r#"{{"user":"y","password":"{}"}}"#, ROOT.password),
    ] {
        let put = ROOT.signs(Request::new("PUT", "/v2/auth/users/x")).body(body);
        assert_eq!(ask(addr, &put).status(), 400);
    }
    let put = format!(r#"{{"user":"bob","password":"{}"}}"#, BOB.password);
    change(addr, "PUT", "users/bob", &put);
    server.kill();
    server.restart();
    assert_eq!(BOB.get(server.addr(), "/v2/keys/app/a").status(), 200);

    let log = fs::read_to_string(server.log_path()).expect("it has a log");
    assert!(log.contains("wrong password for user bob"), "{log}");
    let signed = [ROOT, BOB, wrong].map(User::encoded);
    let prefix = &encoded("root:")[..6];
    let secrets = ["PaSsWoRd", "$2a$", &signed[0], &signed[1], &signed[2], prefix];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert_eq!(found_in(&server.data_dir(), b"PaSsWoRd"), Vec::<String>::new());
    assert!(!found_in(&server.data_dir(), b"$2a$10$").is_empty(), "this is how users are kept");
}

/// The files below `folder` that hold these bytes.
fn found_in(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(found_in(&path, bytes));
        } else if fs::read(&path)
            .is_ok_and(|file| file.windows(bytes.len()).any(|part| part == bytes))
        {
            found.push(path.display().to_string());
        }
    }
    found
}
