//! A session with the real `etcdctl`, which speaks version 2 of the API.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::{env, io};

use super::support::server::{Flavor, Server};

/// Runs `etcdctl` with these words and this input. Returns whether it was content, and all that it said.
fn etcdctl(addr: SocketAddr, words: &str, input: &str) -> (bool, String) {
    let mut child = Command::new("etcdctl")
        .env("ETCDCTL_API", "2")
        .arg("--endpoints")
        .arg(format!("http://{addr}"))
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), said + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn etcdctl_makes_users_and_roles_and_asks_with_them() {
    if env::var_os("CAIRN_SKIP_ETCD").is_some_and(|v| v == "1") {
        io::stderr()
            .write_all(b"skipped: no etcdctl (CAIRN_SKIP_ETCD=1)\n")
            .expect("stderr takes it");
        return;
    }
    let server = Server::start(Flavor::Subject);
    let run = |words: &str, input: &str, fine: bool, says: &str| {
        let (was_fine, said) = etcdctl(server.addr(), words, input);
        assert_eq!(was_fine, fine, "{words}: {said}");
        assert!(said.contains(says), "{words}: {said}");
    };
    run("auth enable", "", false, "No root user available");
    run("user add root:rootpw", "", true, "User root created");
    run("user add bob:bobpw", "", true, "User bob created");
    run("auth enable", "", true, "Authentication Enabled");
    run("set /open 1", "", true, "1");
    run("user list", "", false, "Insufficient credentials");
    run("-u root:rootpw role add app", "", true, "Role app created");
    run("-u root:rootpw role add app", "", false, "Role app already exists");
    run("-u root:rootpw role grant app --path /app/* --readwrite", "", true, "Role app updated");
    run("-u root:rootpw user grant bob --roles app", "", true, "User bob updated");
    run("-u root:rootpw role revoke guest --path /* --readwrite", "", true, "Role guest updated");
    run("get /open", "", false, "110: The request requires user authentication");
    run("-u bob:bobpw set /app/a secret", "", true, "secret");
    run("-u bob:bobpw get /app/a", "", true, "secret");
    run("-u bob:bobpw set /other 1", "", false, "110: ");
    run("-u bob:wrong get /app/a", "", false, "110: ");
    run("-u root:rootpw get /open", "", true, "1");
    run("-u root:rootpw user list", "", true, "bob\nroot");
    run("-u root:rootpw user get bob", "", true, "Roles:  app");
    run("-u root:rootpw role get app", "", true, "/app/*");
    run("-u root:rootpw role list", "", true, "app\nguest\nroot");
    run("-u root:rootpw user revoke bob --roles app", "", true, "User bob updated");
    run("-u bob:bobpw get /app/a", "", false, "110: ");
    run("-u root:rootpw user remove bob", "", true, "User bob removed");
    run("-u root:rootpw role remove app", "", true, "Role app removed");
    run("-u root:rootpw user remove root", "", false, "Cannot delete root user");
    run("-u root:rootpw auth disable", "", true, "Authentication Disabled");
    run("get /open", "", true, "1");
}
