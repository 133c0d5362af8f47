//! What must not be done is refused in words, and nothing changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::program::{alone, backup, fill, fine, refused, run, text, url};
use crate::support::http::Request;

/// All files below a directory, with their bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let bytes = fs::read(&path).expect("a file");
                    found.insert(path.display().to_string(), bytes);
                }
            }
        }
    }
    found
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("backup");
    let mut node = alone("n", &[]);
    node.put("/a", "1");
    backup(&node, &file);
    let (bytes, at) = (fs::read(&file).expect("it is there"), url(&node));
    refused(&["backup", "--endpoint", &at, text(&file)], 1, &["is there already", "--force"]);
    assert_eq!(fs::read(&file).expect("it is there"), bytes);
    node.put("/a", "2");
    fine(&["backup", "--endpoint", &at, "--force", text(&file)]);
    assert_ne!(fs::read(&file).expect("it is there"), bytes);
    refused(&["backup", "--endpoint", &at, text(dir.path())], 1, &["is a directory"]);

    // A directory with anything in it: a member's, a stranger's.
    node.kill();
    let data = node.data_dir();
    let before = contents(&data);
    refused(&["restore", text(&file), "--data-dir", text(&data)], 1, &["is not empty"]);
    assert_eq!(contents(&data), before);
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).expect("a folder");
    fs::write(photos.join("photo.jpg"), "x").expect("a file");
    refused(&["restore", text(&file), "--data-dir", text(&photos)], 1, &["photo.jpg"]);
    let copy = ["etcdctl", "backup", "--data-dir", text(&data), "--backup-dir", text(&photos)];
    refused(&copy, 1, &["photo.jpg"]);
    assert_eq!(contents(&photos).len(), 1);
    // An empty one is fine, also with what a file system keeps at its root.
    let empty = dir.path().join("empty");
    fs::create_dir_all(empty.join("lost+found")).expect("a folder");
    fine(&["restore", text(&file), "--data-dir", text(&empty)]);
}

#[test]
fn wrong_flags_and_sources_change_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, to) = (dir.path().join("backup"), dir.path().join("to"));
    let node = alone("n", &[]);
    node.put("/a", "1");
    backup(&node, &file);
    let (file, to) = (text(&file), text(&to));
    let restore = ["restore", file, "--data-dir", to];
    for (more, words) in [
        (&["--bump-index", "-5"][..], "write a whole number"),
        (&["--bump-index", "18446744073709551615"], "no index so high"),
        (&["--initial-cluster", "a=http://127.0.0.1:1"], "couldn't find local name"),
        (&["--initial-cluster", "default=ftp://127.0.0.1:1"], "ftp"),
        (&["--initial-advertise-peer-urls", "127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        refused(&[&restore[..], more].concat(), 1, &[words]);
    }
    refused(&["restore", "--data-dir", to], 2, &["name a FILE"]);
    refused(&["restore", file], 1, &["--data-dir is missing"]);
    refused(&["restore", "/nowhere", "--data-dir", to], 1, &["/nowhere"]);
    refused(&["restore", text(dir.path()), "--data-dir", to], 1, &["holds no data of a member"]);
    refused(&["restore", "Cargo.toml", "--data-dir", to], 1, &["no backup file of cairn"]);
    refused(&["backup", "--endpoint", "http://127.0.0.1:1", "x"], 1, &["cannot connect"]);
    assert!(!Path::new("x").exists() && !Path::new("x.tmp").exists());
    refused(&["etcdctl", "backup", "--data-dir", to, "--backup-dir", to], 1, &["holds no data"]);
    refused(&["etcdctl", "backup", "--data-dir", to], 1, &["--backup-dir is missing"]);
    assert!(!Path::new(to).exists());
}

#[test]
fn a_backup_takes_the_role_of_root() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = alone("n", &[]);
    fill(&node);
    assert_eq!(node.ask(&Request::new("PUT", "/v2/auth/enable")).status(), 200);
    let (file, at) = (dir.path().join("backup"), url(&node));
    let ask = ["backup", "--endpoint", &at];
    for user in [&[][..], &["--username", "alice:a"], &["--username", "root:wrong"]] {
        refused(&[&ask[..], user, &[text(&file)]].concat(), 1, &["it takes root's role"]);
        assert!(!file.exists());
    }
    for method in ["PUT", "POST", "DELETE", "HEAD"] {
        assert_eq!(node.ask(&Request::new(method, "/cairn/backup")).status(), 405, "{method}");
    }
    fine(&[&ask[..], &["--username", "root:secret", text(&file)]].concat());
    // As a timer does it: the secret stands in no command line.
    let second = dir.path().join("second");
    let mut command = crate::program::command(&["backup", text(&second)]);
    command.env("ETCDCTL_ENDPOINTS", &at).env("ETCDCTL_USERNAME", "root:secret");
    assert!(command.status().expect("it can be started").success());
    assert!(run(&["verify", text(&second)]).out.contains("all is well"));
    let reply = node.get("/cairn/backup?x=1");
    assert_eq!(reply.status(), 400, "{}", reply.text());
}
