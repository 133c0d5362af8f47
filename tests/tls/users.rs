//! The common name in a client's certificate as the user who asks.

use crate::pki::{Pki, Wanted};
use crate::{DEMANDING, Secure};

/// A member with users `root` and `alice`, who may read and write below `/a`; guests may do nothing.
pub(crate) fn with_users(flags: &[&str]) -> Secure {
    let mut pki = Pki::new();
    pki.sign("alice", &Wanted::ALICE);
    pki.sign("bob", &Wanted { common_name: "bob", ..Wanted::ALICE });
    let secure = Secure::start(pki, flags);
    let put = |path: &str, body: &str| {
        let told = secure.told(path, Some("bob"), &["-XPUT", "-d", body, "-u", "root:secret"]);
        assert!(!told.contains("message"), "{path}: {told}");
    };
    put("/v2/auth/users/root", "{\"user\":\"root\",\"password\":\"secret\"}");
    let rights = "{\"kv\":{\"read\":[\"/a*\"],\"write\":[\"/a*\"]}}";
    put("/v2/auth/roles/a", &format!("{{\"role\":\"a\",\"permissions\":{rights}}}"));
    put("/v2/auth/users/alice", "{\"user\":\"alice\",\"password\":\"p\",\"roles\":[\"a\"]}");
    put("/v2/auth/enable", "");
    let all = "{\"kv\":{\"read\":[\"/*\"],\"write\":[\"/*\"]}}";
    put("/v2/auth/roles/guest", &format!("{{\"role\":\"guest\",\"revoke\":{all}}}"));
    secure
}

/// The status of a write to `/a`.
fn status(secure: &Secure, certificate: &str, more: &[&str]) -> String {
    let write = ["-XPUT", "-d", "value=1", "-o", "/dev/null", "-w", "%{http_code}"];
    secure.told("/v2/keys/a", Some(certificate), &[&write[..], more].concat())
}

#[test]
fn the_common_name_says_who_asks_unless_a_header_does() {
    let secure = with_users(&DEMANDING);
    assert_eq!(status(&secure, "alice", &[]), "201");
    assert_eq!(status(&secure, "bob", &[]), "401", "bob is no user, so he is a guest");
    assert_eq!(status(&secure, "bob", &["-u", "alice:p"]), "200");
    assert_eq!(status(&secure, "alice", &["-u", "alice:wrong"]), "401", "the header counts");
    assert_eq!(status(&secure, "alice", &["-H", "Authorization;"]), "200", "an empty one is none");
}

#[test]
fn without_client_cert_auth_the_name_says_nothing() {
    let secure = with_users(&["--trusted-ca-file", "ca.pem"]);
    assert_eq!(status(&secure, "alice", &[]), "401");
    assert_eq!(status(&secure, "alice", &["-u", "alice:p"]), "201");
}

#[test]
fn what_a_client_sends_along_names_nobody() {
    let secure = with_users(&DEMANDING);
    let mut other = Pki::new();
    other.sign("root", &Wanted { common_name: "root", ..Wanted::ALICE });
    let read = |path| std::fs::read_to_string(path).expect("a file");
    let with_more = read(secure.pki.path("bob.pem")) + &read(other.path("root.pem"));
    secure.pki.write("bob.pem", &with_more);
    assert_eq!(status(&secure, "bob", &[]), "401");
    let users =
        secure.told("/v2/auth/users", Some("bob"), &["-o", "/dev/null", "-w", "%{http_code}"]);
    assert_eq!(users, "401");
}
