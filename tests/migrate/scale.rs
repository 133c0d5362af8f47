//! A large snapshot and a large store of version 3: how long they take, and how much memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cairn::etcd::bolt::BoltWriter;
use cairn::etcd::proto::Message;
use cairn::etcd::wal::{Kind, SegmentWriter};

use crate::program::text;

/// Keys of the snapshot; `MIGRATE_KEYS=1000000` makes one of 500 MB.
const KEYS: u64 = 50_000;

/// Bytes of a key with its value and what JSON needs around it.
const KEY_BYTES: usize = 500;

/// The most that a program takes for itself, whatever it reads.
const BASE_BYTES: u64 = 96 << 20;

/// Time for each key, on a busy machine and without optimisation.
const KEY_TIME: Duration = Duration::from_micros(200);

fn keys() -> u64 {
    std::env::var("MIGRATE_KEYS").map_or(KEYS, |text| text.parse().expect("a number"))
}

/// The head of a field of bytes.
fn head(number: u64, length: u64) -> Vec<u8> {
    let mut out = vec![(number << 3 | 2).to_le_bytes()[0]];
    let mut length = length;
    while length >= 0x80 {
        out.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    out.push(length.to_le_bytes()[0]);
    out
}

/// A directory with one large snapshot, and a log behind it; returns the bytes of the snapshot.
fn make(dir: &Path, keys: u64) -> u64 {
    const NODE: &str = r#""ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":"#;
    let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
    fs::create_dir_all(&wal).expect("a folder");
    fs::create_dir_all(&snap).expect("a folder");
    let member = r#""1":{"Path":"/0/members/1","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}"#;
    let mut json = format!(
        r#"{{"Root":{{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,{NODE}{{"0":{{"Path":"/0",{NODE}{{"members":{{"Path":"/0/members",{NODE}{{{member}}}}}}}}},"1":{{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,{NODE}{{"#
    )
    .into_bytes();
    let in_a_dir = 1000;
    for dir in 0..keys / in_a_dir {
        let comma = if dir == 0 { "" } else { "," };
        let _ = write!(
            json,
            r#"{comma}"d{dir:06}":{{"Path":"/1/d{dir:06}","CreatedIndex":2,"ModifiedIndex":2,{NODE}{{"#
        );
        for key in 0..in_a_dir {
            let comma = if key == 0 { "" } else { "," };
            let index = 3 + dir * in_a_dir + key;
            let value = format!("{index:0350}");
            let _ = write!(
                json,
                r#"{comma}"key-{key:06}":{{"Path":"/1/d{dir:06}/key-{key:06}","CreatedIndex":{index},"ModifiedIndex":{index},"ExpireTime":"0001-01-01T00:00:00Z","Value":"{value}","Children":null}}"#
            );
        }
        json.extend_from_slice(b"}}");
    }
    let last = 3 + keys;
    let _ = write!(
        json,
        r#"}}}}}}}},"WatcherHub":{{}},"CurrentIndex":{last},"Stats":{{}},"CurrentVersion":2}}"#
    );
    let conf = Message::default().varint(1, 1).finish();
    let place = Message::default().bytes(1, &conf).varint(2, 100).varint(3, 2).finish();
    let mut before = head(1, json.len() as u64);
    let behind = [head(2, place.len() as u64), place].concat();
    let crc =
        [&before[..], &json, &behind].iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    let inner = (before.len() + json.len() + behind.len()) as u64;
    let mut file = Message::default().varint(1, crc.into()).finish();
    file.extend(head(2, inner));
    file.append(&mut before);
    let path = snap.join("0000000000000002-0000000000000064.snap");
    let mut out = BufWriter::new(File::create(&path).expect("a file"));
    for part in [&file, &json, &behind] {
        out.write_all(part).expect("it can be written");
    }
    out.flush().expect("it can be written");
    let mut writer = SegmentWriter::new(0, true);
    writer.push(Kind::Metadata, &Message::default().varint(1, 1).varint(2, 2).finish());
    writer.push(Kind::Snapshot, &Message::default().varint(1, 100).varint(2, 2).finish());
    for index in 101..1101 {
        let key = format!("/1/d000000/key-{:06}", index % 1000);
        let put =
            Message::default().bytes(2, b"PUT").bytes(3, key.as_bytes()).bytes(4, b"new").finish();
        writer.push(
            Kind::Entry,
            &Message::default().varint(2, 2).varint(3, index).bytes(4, &put).finish(),
        );
    }
    fs::write(wal.join("0000000000000000-0000000000000065.wal"), writer.finish()).expect("a file");
    fs::metadata(path).expect("a file").len()
}

/// What a migration said, how long it took, and how many bytes of memory.
fn measure(source: &Path, target: &Path) -> (serde_json::Value, Duration, u64) {
    let began = Instant::now();
    let words = ["migrate", "--from", text(source), "--data-dir", text(target), "--json"];
    let mut command = crate::support::program::command(&words);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
    // What it held at most is known as long as it runs.
    let mut most = 0;
    while child.try_wait().expect("a child can be asked").is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) << 10);
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = began.elapsed();
    let output = child.wait_with_output().expect("it has ended");
    (serde_json::from_slice(&output.stdout).expect("JSON"), took, most)
}

fn is_fast(keys: u64, took: Duration) {
    let limit = KEY_TIME * u32::try_from(keys).expect("a number of keys") + Duration::from_secs(10);
    assert!(took < limit, "{took:?}");
}

#[test]
fn a_large_snapshot_takes_less_than_three_times_its_size_and_little_time() {
    let (dir, keys) = (tempfile::tempdir().expect("a folder"), keys());
    let source = dir.path().join("etcd");
    let bytes = make(&source, keys);
    assert!(bytes > keys * KEY_BYTES as u64, "{bytes} bytes");
    let (said, took, most) = measure(&source, &dir.path().join("cairn"));
    eprintln!(
        "{keys} keys, {} MB: {took:.1?}, {} MB of memory",
        bytes / 1_000_000,
        most / 1_000_000
    );
    assert_eq!(said["facts"]["keys"].as_u64(), Some(keys), "{said}");
    assert_eq!(said["facts"]["index"].as_u64(), Some(3 + keys + 1000), "{said}");
    assert!(most < 3 * bytes + BASE_BYTES, "{most} bytes of memory for {bytes}");
    is_fast(keys, took);
}

/// A store of version 3 in which each key was written twice; returns its bytes.
fn make_three(path: &Path, keys: u64) -> u64 {
    let place = |revision: u64| [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let entries = (0..2 * keys).map(|at| {
        let (key, version, revision) = (at % keys, at / keys + 1, at + 2);
        let kv = Message::default().bytes(1, format!("/registry/some/{key:09}").as_bytes());
        let kv = kv.varint(2, key + 2).varint(3, revision).varint(4, version);
        (place(revision), kv.bytes(5, format!("{at:0350}").as_bytes()).finish())
    });
    let mut writer = BoltWriter::new(File::create(path).expect("a file")).expect("room");
    writer.bucket(b"key", entries).expect("room");
    writer.bucket(b"meta", [(b"consistent_index", 1101_u64.to_be_bytes())]).expect("room");
    writer.finish().expect("room");
    fs::metadata(path).expect("a file").len()
}

#[test]
fn a_large_store_of_version_3_takes_memory_for_what_is_in_it() {
    let (dir, keys) = (tempfile::tempdir().expect("a folder"), keys());
    let source = dir.path().join("etcd");
    let snapshot = make(&source, 1000);
    let bytes = make_three(&source.join("member/snap/db"), keys);
    let (said, took, most) = measure(&source, &dir.path().join("cairn"));
    eprintln!(
        "{keys} keys of version 3, {} MB: {took:.1?}, {} MB of memory",
        bytes / 1_000_000,
        most / 1_000_000
    );
    assert_eq!(said["facts"]["version_3_keys"].as_u64(), Some(keys), "{said}");
    assert_eq!(said["facts"]["version_3_versions"].as_u64(), Some(2 * keys), "{said}");
    let limit = 3 * bytes + 3 * snapshot + BASE_BYTES;
    assert!(most < limit, "{most} bytes of memory for {bytes}");
    is_fast(2 * keys, took);
}
