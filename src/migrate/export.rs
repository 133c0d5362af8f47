//! `cairn export`: a data directory of etcd from a backup file, or from the directory of a stopped member: the way back.
//!
//! Holds: what is there is never overwritten; the snapshot, which makes the directory one of etcd, is named last.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::archive::ArchiveReader;
use crate::backup::Ended;
use crate::backup::flags::{Asked, Said, Table, read, row};
use crate::backup::source::{self, READ_BYTES};
use crate::disk::{DataDir, RealFiles};
use crate::etcd::buckets;
use crate::etcd::entry::{Metadata, Place};
use crate::etcd::written::Written;
use crate::model::{ClusterId, MemberId};
use crate::store::MemberRecord;

const EXPORT: Table = Table {
    usage: "cairn export [flags] FILE or DIR --data-dir ETCD_DATA_DIR",
    about: "Writes a data directory from which etcd 3.4 starts with --enable-v2 --force-new-cluster: keys, indexes, the last thousand \
            events, lifetimes, users; of version 3 keys with all revisions, leases, users. FILE is a file of `cairn backup`, DIR the directory of a stopped member.",
    argument: "FILE or DIR",
    flags: &[
        row(&["data-dir"], "DIR", "", "", "where to; must be missing or empty"),
        row(&["format"], "FORMAT", FORMAT, "", "how it is written; there is one"),
    ],
    more: "Ends with 0 when all is written, with 1 when not, with 2 for a wrong flag. Values and names that are not UTF-8 cannot stand in a \
           snapshot of etcd; their bytes are replaced, as etcd does, and counted.",
};

const FORMAT: &str = "etcd-backup";

/// Values and hashed passwords are in it.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;

/// Does what a command line asks for.
pub fn run(words: Vec<String>, variables: Vec<(String, String)>) -> Ended {
    let said = match read(&EXPORT, words, variables) {
        Ok(Asked::Do(said)) => said,
        Ok(Asked::Help(text)) => return Ended::well(text),
        Err(complaint) => return Ended::badly(complaint, 2),
    };
    if said.text("data-dir").is_empty() {
        return Ended::badly(said.wrong("--data-dir is missing: name the new directory"), 2);
    }
    if said.text("format") != FORMAT {
        let what = format!("--format {:?} is not known: write {FORMAT}", said.text("format"));
        return Ended::badly(said.wrong(&what), 2);
    }
    match export(&said) {
        Ok(text) => Ended::well(text),
        Err(complaint) => Ended::badly(complaint, 1),
    }
}

fn export(said: &Said) -> Result<String, String> {
    let (from, dir) = (Path::new(&said.argument), PathBuf::from(said.text("data-dir")));
    DataDir::check_free(&RealFiles, &dir).map_err(|error| error.to_string())?;
    let (cluster, member) = owner(from)?;
    let saved = source::read(from)?;
    let record = match saved.store.members().get(member) {
        Some(record) => record.clone(),
        None => MemberRecord::default(),
    };
    let place = Place { index: saved.position.index.0, term: saved.position.term.0.max(1) };
    let owner = Metadata { node: member.0, cluster: cluster.0 };
    let written = Written { store: &saved.store, place, owner, record: &record };
    let replaced = not_text(&written);
    put(&dir, &written).map_err(|(path, error)| {
        format!(
            "cannot write {}: {error}. {} is not finished: empty it before the next attempt",
            path.display(),
            dir.display()
        )
    })?;
    let note = match replaced {
        0 => String::new(),
        count => format!(". Bytes of {count} values or names that are not UTF-8 were replaced"),
    };
    let name = if record.name.is_empty() { "NAME" } else { &record.name };
    Ok(format!(
        "exported {} (entry {} of the log) to {}{note}. Start it with etcd 3.4: `etcd --enable-v2 \
         --force-new-cluster --name {name} --data-dir {}` and its URLs; without --force-new-cluster from the second start on. Others join with \
         empty directories\n",
        source::contents(&saved.store),
        place.index,
        dir.display(),
        dir.display(),
    ))
}

/// Whose state it is.
fn owner(from: &Path) -> Result<(ClusterId, MemberId), String> {
    if from.is_dir() {
        let identity = source::identity(from)?;
        return Ok((identity.cluster, identity.member));
    }
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", from.display());
    let file = File::open(from).map_err(|error| fail(&error))?;
    let reader = ArchiveReader::new(BufReader::with_capacity(READ_BYTES, file));
    let reader = reader.map_err(|error| fail(&error))?;
    Ok((reader.head().cluster, reader.head().member))
}

/// How many nodes have a name or a value that is no text.
fn not_text(written: &Written<'_>) -> u64 {
    let mut count = 0;
    let root = written.store.get(&crate::model::KeyPath::root()).outcome;
    let mut left: Vec<_> = root.into_iter().collect();
    while let Some(node) = left.pop() {
        let Some(dir) = node.as_dir() else { continue };
        for (name, child) in dir.children() {
            let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
            let value = child.value().is_none_or(is_text);
            count += u64::from(!is_text(name) || !value);
            left.push(child);
        }
    }
    count
}

/// Writes the files; where it fails, with which.
fn put(dir: &Path, written: &Written<'_>) -> Result<(), (PathBuf, io::Error)> {
    let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
    for folder in [&wal, &snap] {
        let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(folder);
        made.map_err(|error| (folder.clone(), error))?;
    }
    let segment = wal.join(written.segment_name());
    write(&segment, &[&written.segment()])?;
    write_version_three(&snap.join("db"), written)?;
    let snapshot = snap.join(written.snapshot_name());
    // Until it is whole it has a name that etcd does not read.
    let aside = snap.join("tmp.export");
    let parts = written.snapshot();
    write(&aside, &parts.each_ref().map(Vec::as_slice))?;
    fs::rename(&aside, &snapshot).map_err(|error| (snapshot.clone(), error))?;
    for folder in [&wal, &snap, &dir.join("member"), &dir.to_owned()] {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| (folder.clone(), error))?;
    }
    Ok(())
}

/// The store of version 3, which etcd needs also where nothing is in it.
fn write_version_three(path: &Path, written: &Written<'_>) -> Result<(), (PathBuf, io::Error)> {
    let file = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(path);
    let written = file.and_then(|file| {
        let out = BufWriter::with_capacity(READ_BYTES, file);
        let out = buckets::write(written.store.mvcc(), written.place.index, out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    written.map_err(|error| (path.to_owned(), error))
}

fn write(path: &Path, parts: &[&[u8]]) -> Result<(), (PathBuf, io::Error)> {
    let written = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(path);
    let written = written.and_then(|mut file| {
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()
    });
    written.map_err(|error| (path.to_owned(), error))
}
