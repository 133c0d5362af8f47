//! What is damaged is noticed, wherever it is, and said with its place.

use std::fs;
use std::path::Path;

use crate::node::Node;
use crate::program::{alone, backup, fill, fine, refused, run, text};
use crate::support::rng::{Rng, seed_from_env};

#[test]
fn a_flipped_bit_anywhere_in_a_file_is_noticed() {
    let seed = seed_from_env("BACKUP_SEED");
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().expect("a folder");
    let (file, changed) = (dir.path().join("backup"), dir.path().join("changed"));
    let to = dir.path().join("to");
    let node = alone("n", &[]);
    fill(&node);
    backup(&node, &file);
    let bytes = fs::read(&file).expect("it is there");
    let length = bytes.len() as u64;
    for round in 0..40 {
        let place = usize::try_from(rng.below(length)).expect("a place");
        let mut other = bytes.clone();
        other[place] ^= 1 << rng.below(8);
        fs::write(&changed, &other).expect("a file");
        let said = run(&["verify", text(&changed)]);
        assert!(said.code == Some(1) && said.out.contains("PROBLEM"), "byte {place}: {said:?}");
        if round % 4 == 0 {
            refused(&["restore", text(&changed), "--data-dir", text(&to)], 1, &["changed"]);
            assert!(!to.exists(), "byte {place}");
        }
    }
    for round in 0..12 {
        let length = match round {
            0 => bytes.len() - 1,
            1 => 0,
            _ => usize::try_from(rng.below(length)).expect("a place"),
        };
        fs::write(&changed, &bytes[..length]).expect("a file");
        let said = run(&["verify", text(&changed)]);
        assert!(said.code == Some(1) && said.out.contains("PROBLEM"), "{length}: {said:?}");
        refused(&["restore", text(&changed), "--data-dir", text(&to)], 1, &["changed"]);
    }
    assert!(!to.exists());
}

/// What `verify` says of a directory with a problem, as JSON.
fn problems(dir: &Path) -> Vec<serde_json::Value> {
    let said = run(&["verify", "--json", text(dir)]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["well"], false);
    report["problems"].as_array().expect("a list").clone()
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[place] ^= 0x10;
    fs::write(path, bytes).expect("it can be written");
}

#[test]
fn a_damaged_directory_is_described_part_by_part() {
    let mut node = alone("n", &[]);
    fill(&node);
    node.kill();
    let dir = node.data_dir();
    let whole = crate::refused::contents(&dir);
    let text_of = fine(&["verify", text(&dir)]);
    assert!(text_of.contains("all is well") && text_of.contains("log entries  "), "{text_of}");
    assert_eq!(crate::refused::contents(&dir), whole, "looking changes nothing");

    let segment = dir.join("wal/0000000000000001.wal");
    // In a batch behind which others stand.
    flip(&segment, 4096 + 40);
    let found = problems(&dir);
    let file = found[0]["file"].as_str().expect("a file");
    assert!(file.ends_with("0000000000000001.wal"), "{found:?}");
    assert_eq!(found[0]["offset"], 4096, "{found:?}");
    assert!(found[0]["fix"].as_str().is_some_and(|fix| fix.contains("member remove")));
    // A copy of it would be of no use, and there is none.
    let copy = tempfile::tempdir().expect("a folder");
    let copy = copy.path().join("copy");
    let words = ["etcdctl", "backup", "--data-dir", text(&dir), "--backup-dir", text(&copy)];
    refused(&words, 1, &["is damaged", "at offset 4096"]);
    assert!(!copy.exists());
    flip(&segment, 4096 + 40);

    // redb's header, and the place of its first pages.
    for place in [0, 64, 4096 + 100] {
        let checkpoint = dir.join("checkpoint.redb");
        flip(&checkpoint, place);
        let said = run(&["verify", text(&dir)]);
        // What redb writes twice it may do without; then nothing is wrong with the data.
        let noticed = said.code == Some(1) && said.out.contains("checkpoint.redb");
        assert!(noticed || said.code == Some(0), "byte {place}: {said:?}");
        assert!(noticed || place != 0, "the first byte names the format");
        flip(&checkpoint, place);
    }

    let member = dir.join("member.json");
    fs::write(&member, "{").expect("it can be written");
    assert!(problems(&dir)[0]["file"].as_str().is_some_and(|file| file.ends_with("member.json")));
    fs::remove_file(&member).expect("it can be removed");
    assert!(problems(&dir)[0]["what"].as_str().is_some_and(|what| what.contains("no data")));
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let node = alone("n", &[]);
    let found = problems(&node.data_dir());
    let what = found[0]["what"].as_str().expect("words");
    assert!(what.contains("in use by another process"), "{what}");
    node.put("/a", "1");
}

#[test]
fn a_log_that_lacks_entries_is_noticed() {
    let mut node = Node::named("n");
    let list = format!("n={}", node.peer_url());
    // A checkpoint with every few writes.
    node.serve(&["--initial-cluster", &list, "--checkpoint-wal-bytes", "1048576"]);
    for number in 0..160 {
        node.put("/large", &"x".repeat(10_000 + number));
    }
    node.kill();
    let dir = node.data_dir();
    fine(&["verify", text(&dir)]);
    fs::remove_file(dir.join("wal/0000000000000001.wal")).expect("it is there");
    let found = problems(&dir);
    assert!(!found.is_empty(), "{found:?}");
}
