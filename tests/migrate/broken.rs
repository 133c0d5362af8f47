//! Sources that are broken, incomplete or something else: a clear answer each, and nothing is changed.

use std::fs;
use std::path::{Path, PathBuf};

use cairn::etcd::entry::Entry;
use cairn::etcd::proto::Message;
use cairn::etcd::wal::{Kind, Segment, SegmentWriter};

use crate::node::Node;
use crate::program::{Recorded, found, refused, run, text};
use crate::support::rng::{Rng, seed_from_env};

/// The bytes of a segment without the room behind its last record.
fn used(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("a segment");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

fn flip(path: &Path, at: usize) {
    let mut bytes = used(path);
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("it can be written");
}

fn index(source: &Path, more: &[&str]) -> u64 {
    found(source, more)["facts"]["index"].as_u64().expect("an index")
}

#[test]
fn a_tail_that_a_crash_cut_off_is_left_out_and_told() {
    let recorded = Recorded::of("basic");
    let segment = recorded.file("wal", ".wal", true);
    let whole = used(&segment);
    let mut indexes = Vec::new();
    for cut in (1..2500).step_by(37) {
        fs::write(&segment, &whole[..whole.len() - cut]).expect("it can be written");
        let said = found(&recorded.source, &[]);
        let index = said["facts"]["index"].as_u64().expect("an index");
        assert!(indexes.last().is_none_or(|last| index <= *last), "{cut}: {said}");
        indexes.push(index);
        // A cut between two records leaves nothing to be told of.
        let notes = said["notes"].to_string();
        assert!(notes == "[]" || notes.contains("was cut off by a crash"), "{cut}: {notes}");
    }
    assert!(indexes.last().is_some_and(|last| *last < 46), "{indexes:?}");
}

#[test]
fn damage_in_the_middle_is_refused_with_its_place_or_salvaged_up_to_there() {
    let recorded = Recorded::of("basic");
    let segment = recorded.file("wal", ".wal", true);
    let middle = used(&segment).len() / 2;
    flip(&segment, middle);
    let said = refused(&recorded.source, &[], &["at offset", text(&segment), "--salvage"]);
    let offset = said.split("at offset ").nth(1).and_then(|rest| rest.split(' ').next());
    let offset: usize = offset.and_then(|offset| offset.parse().ok()).expect("a number");
    assert!((middle.saturating_sub(400)..=middle).contains(&offset), "{offset} for {middle}");
    let salvaged = found(&recorded.source, &["--salvage"]);
    assert!(
        (5..46).contains(&salvaged["facts"]["index"].as_u64().expect("an index")),
        "{salvaged}"
    );
    assert!(salvaged["notes"].to_string().contains("what comes behind is lost"), "{salvaged}");
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let seed = seed_from_env("MIGRATE_SEED");
    let mut rng = Rng::new(seed);
    let recorded = Recorded::of("basic");
    let segment = recorded.file("wal", ".wal", true);
    let whole = used(&segment);
    let right = found(&recorded.source, &[])["facts"]["digest"].clone();
    for _ in 0..40 {
        let at = usize::try_from(rng.below(whole.len() as u64)).expect("it is short");
        let mut bytes = whole.clone();
        bytes[at] ^= 1_u8 << rng.below(8);
        bytes.resize(bytes.len() + 4096, 0);
        fs::write(&segment, bytes).expect("it can be written");
        let said = run(&["--from", text(&recorded.source), "--dry-run", "--json"]);
        match said.code {
            Some(1) => assert!(said.err.contains(text(&recorded.source)), "{at}: {said:?}"),
            _ => assert!(said.out.contains(&format!("\"digest\": {right}")), "{at}: {said:?}"),
        }
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_where_the_log_goes_back_further() {
    let recorded = Recorded::of("snapshots");
    let newest = recorded.file("snap", ".snap", true);
    flip(&newest, 500);
    let said = found(&recorded.source, &[]);
    assert_eq!(said["facts"]["index"], 251, "{said}");
    let notes = said["notes"].to_string();
    assert!(
        notes.contains("is damaged and is not used") && notes.contains(text(&newest)),
        "{notes}"
    );
}

#[test]
fn damage_before_the_newest_snapshot_is_not_needed() {
    let recorded = Recorded::of("snapshots");
    let whole = fs::read(recorded.file("wal", ".wal", true)).expect("a segment");
    // The same log in two segments; the newest snapshot is of entry 246.
    const CUT: u64 = 240;
    let mut reader = Segment::new(&whole, None);
    let mut writers = vec![SegmentWriter::new(0, true)];
    let mut head = Vec::new();
    while let Some(record) = reader.next_record().expect("it is whole") {
        let cut = record.kind == Kind::Entry
            && Entry::decode(record.data).is_ok_and(|entry| entry.place.index == CUT);
        if cut {
            let crc = writers[0].crc();
            let mut writer = SegmentWriter::new(crc, true);
            writer.push(Kind::Metadata, &head);
            writers.push(writer);
        }
        if record.kind == Kind::Metadata {
            head = record.data.to_vec();
        }
        if record.kind != Kind::Crc {
            writers.last_mut().expect("one").push(record.kind, record.data);
        }
    }
    let wal = recorded.source.join("member/wal");
    let names = [format!("{:016x}-{:016x}.wal", 0, 0), format!("{:016x}-{CUT:016x}.wal", 1)];
    for (name, writer) in names.iter().zip(writers) {
        fs::write(wal.join(name), writer.finish()).expect("it can be written");
    }
    assert_eq!(index(&recorded.source, &[]), 251);
    flip(&wal.join(&names[0]), 5000);
    let said = found(&recorded.source, &[]);
    assert_eq!(said["facts"]["index"], 251, "{said}");
    assert!(said["notes"].to_string().contains("before the newest snapshot"), "{said}");
    fs::remove_file(wal.join(&names[0])).expect("it can be removed");
    assert_eq!(index(&recorded.source, &[]), 251);
    flip(&wal.join(&names[1]), 1000);
    refused(&recorded.source, &[], &["at offset", &names[1]]);
}

#[test]
fn missing_parts_are_named() {
    let recorded = Recorded::of("segments");
    let segments: Vec<PathBuf> = {
        let names = fs::read_dir(recorded.source.join("member/wal")).expect("a folder").flatten();
        let mut paths: Vec<_> = names.map(|entry| entry.path()).collect();
        paths.retain(|path| text(path).ends_with(".wal"));
        paths.sort();
        paths
    };
    let aside = recorded.source.join("aside");
    fs::rename(&segments[1], &aside).expect("it can be moved");
    refused(&recorded.source, &[], &["has a gap", "are missing"]);
    assert!(index(&recorded.source, &["--salvage"]) < 198);
    fs::rename(&aside, &segments[1]).expect("it can be moved back");
    fs::remove_file(&segments[0]).expect("it can be removed");
    refused(&recorded.source, &[], &["the log begins with entry", "no snapshot"]);
    refused(&recorded.source, &["--salvage"], &["no snapshot"]);
}

#[test]
fn parts_of_different_directories_are_noticed() {
    let (snapshots, basic, segments) =
        (Recorded::of("snapshots"), Recorded::of("basic"), Recorded::of("segments"));
    let wal = basic.source.join("member/wal");
    let other = ["--from-wal-dir", text(&wal)];
    refused(&snapshots.source, &other, &["is newer than the log", "--from-wal-dir"]);
    let wal = segments.source.join("member/wal");
    let killed = Recorded::of("killed");
    refused(&killed.source, &["--from-wal-dir", text(&wal)], &["of different clusters"]);
    // A segment of another log among the others.
    let foreign = basic.file("wal", ".wal", true);
    fs::copy(&foreign, segments.source.join("member/wal/0000000000000003-0000000000000100.wal"))
        .expect("a copy");
    refused(&segments.source, &[], &["0000000000000003-0000000000000100.wal", "offset 0"]);
}

#[test]
fn files_that_do_not_belong_there_are_told() {
    let recorded = Recorded::of("basic");
    for name in [
        "wal/notes.txt",
        "snap/0000000000000001-0000000000000001.snap.broken",
        "wal/1.tmp",
        "snap/tmp77",
    ] {
        fs::write(recorded.source.join("member").join(name), b"x").expect("it can be written");
    }
    let said = found(&recorded.source, &[]);
    let notes = said["notes"].to_string();
    assert!(
        notes.contains("notes.txt is no file of etcd") && notes.contains("set aside by etcd"),
        "{notes}"
    );
    assert!(!notes.contains("1.tmp") && !notes.contains("tmp77"), "{notes}");
    assert_eq!(said["facts"]["index"], 46);
}

/// A directory with a log of one segment.
pub(crate) fn made(node: u64, entries: &[(u64, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let wal = dir.path().join("member/wal");
    fs::create_dir_all(&wal).expect("it can be made");
    fs::create_dir_all(dir.path().join("member/snap")).expect("it can be made");
    let mut writer = SegmentWriter::new(0, true);
    writer.push(Kind::Metadata, &Message::default().varint(1, node).varint(2, 1 << 40).finish());
    for (place, (kind, data)) in entries.iter().enumerate() {
        let entry = Message::default().varint(1, *kind).varint(2, 1).varint(3, place as u64 + 1);
        writer.push(Kind::Entry, &entry.bytes(4, data).finish());
    }
    fs::write(wal.join("0000000000000000-0000000000000000.wal"), writer.finish())
        .expect("it can be written");
    dir
}

pub(crate) fn change(kind: u64, node: u64) -> (u64, Vec<u8>) {
    let json = format!(r#"{{"id":{node},"peerURLs":["http://127.0.0.1:{node}"],"name":""}}"#);
    (1, Message::default().varint(2, kind).varint(3, node).bytes(4, json.as_bytes()).finish())
}

#[test]
fn a_directory_of_3_6_without_version_2_is_told_as_such() {
    let version = Message::default().bytes(1, b"3.6.0").finish();
    let version = (0, Message::default().bytes(1300, &version).finish());
    let dir = made(7, &[change(0, 7), version]);
    refused(dir.path(), &[], &["holds no keys (etcd 3.6.0)", "From 3.6 on"]);
}

#[test]
fn a_member_that_was_removed_is_refused() {
    let key = Message::default().bytes(2, b"PUT").bytes(3, b"/1/a").bytes(4, b"v").finish();
    let dir = made(7, &[change(0, 7), change(0, 8), (0, key.clone()), change(1, 7)]);
    refused(dir.path(), &[], &["was removed from the cluster"]);
    assert_eq!(index(dir.path(), &["--salvage"]), 5);
    let dir = made(9, &[change(0, 7), (0, key)]);
    refused(dir.path(), &[], &["is the log of member 9", "the members in it are 7"]);
}

#[test]
fn an_entry_that_no_version_writes_is_refused_with_its_place() {
    let key = |path: &[u8]| {
        (0, Message::default().bytes(2, b"PUT").bytes(3, path).bytes(4, b"v").finish())
    };
    let dir = made(7, &[change(0, 7), key(b"/1/a"), key(b"/9/b"), key(b"/1/c")]);
    refused(dir.path(), &[], &["entry 3 at offset", "in none of etcd's trees"]);
    assert_eq!(index(dir.path(), &["--salvage"]), 2);
}

#[test]
fn flags_and_targets_are_checked_before_anything_is_read() {
    let recorded = Recorded::of("basic");
    let from = text(&recorded.source);
    for (words, code, expected) in [
        (&[][..], 2, "--from is missing"),
        (&["--from", from], 2, "--data-dir is missing"),
        (&["--from", from, "x"], 2, "belongs to no flag"),
        (&["--from", "/nowhere/at/all", "--dry-run"], 1, "is not there"),
        (
            &["--from", from, "--dry-run", "--name", "a", "--initial-cluster", "b=http://x:1"],
            1,
            "initial-cluster",
        ),
    ] {
        let said = run(words);
        assert_eq!(said.code, Some(code), "{words:?}: {said:?}");
        assert!(said.err.contains(expected), "{words:?}: {said:?}");
    }
    let inside = recorded.source.join("new");
    let link = recorded.source.with_extension("link");
    std::os::unix::fs::symlink(&recorded.source, &link).expect("a link");
    for dir in [inside.clone(), link.join("new"), link.join("new/deep")] {
        let said = run(&["--from", from, "--data-dir", text(&dir)]);
        assert!(said.err.contains("is inside of etcd's directory") && !inside.exists(), "{said:?}");
    }
    let help = run(&["--help"]);
    assert!(help.code == Some(0) && help.out.contains("--salvage"), "{help:?}");
}

#[test]
fn a_member_that_is_started_on_etcds_directory_says_how_to_take_it_over() {
    let recorded = Recorded::of("basic");
    let mut node = Node::named("m1");
    fs::rename(&recorded.source, node.data_dir()).expect("it can be moved");
    let said = node.refusal(&[]);
    let line = format!("cairn migrate --from {} --data-dir DIR", text(&node.data_dir()));
    assert!(said.contains(&line), "{said}");
}
