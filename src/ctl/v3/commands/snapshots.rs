//! `snapshot`.
//!
//! Owns: the file with the sum behind it. Never knows: what is in it, beyond asking those who do.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::stream;
use sha2::{Digest, Sha256};

use crate::archive::ArchiveReader;
use crate::backup::{self, Task};
use crate::client::Terms;
use crate::ctl::failure::Failure;
use crate::ctl::print;
use crate::ctl::v3::commands::{Job, wrong};
use crate::ctl::v3::format::Format;
use crate::ctl::v3::{code, error, go, tables, words};
use crate::etcd::bolt::{self, BoltError, Summary};
use crate::rpc::SnapshotRequest;
use crate::rpc::status::AUTH_FAILED;

/// The sum at the end of a file, behind a whole number of blocks.
const SUM_BYTES: usize = 32;
const BLOCK_BYTES: u64 = 512;

/// What went wrong with a file, in the words of the system.
fn of_file(what: &str, path: &Path, why: &io::Error) -> Failure {
    let why = why.to_string();
    let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
    error(code::ERROR, format!("{what} {}: {why}", path.display()))
}

pub(super) async fn save(job: &Job<'_>) -> Result<(), Failure> {
    let path = Path::new(job.argument("snapshot save expects one argument")?);
    let (client, _) = job.client().await?;
    let interrupted = |why: String| error(code::INTERRUPTED, why);
    if let [_, _, ..] = client.endpoints() {
        let named: Vec<_> = client.endpoints().iter().map(|at| at.written.as_str()).collect();
        return Err(interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            named.join(" ")
        )));
    }
    let part = PathBuf::from(format!("{}.part", path.display()));
    let saved = fetch(&client, &part).await;
    let renamed = match saved {
        Ok(()) => std::fs::rename(&part, path).map_err(|why| why.to_string()),
        Err(why) => Err(why),
    };
    if let Err(why) = renamed {
        let _ = std::fs::remove_file(&part);
        let of_the_user = why == AUTH_FAILED.text;
        return Err(error(if of_the_user { code::BAD_CONNECTION } else { code::INTERRUPTED }, why));
    }
    print::out(&format!("Snapshot saved at {}\n", path.display()))
}

/// Writes what the member sends, and looks whether it is whole.
async fn fetch(client: &crate::client::Client, part: &Path) -> Result<(), String> {
    let question = || Box::pin(stream::once(async { SnapshotRequest {} }));
    let answers = client.stream(question, Terms::default()).await;
    let mut answers = answers.map_err(|status| words(&status))?;
    let mut file = private(part).map_err(|why| why.to_string())?;
    let (mut sum, mut last, mut bytes) = (Sha256::new(), Vec::new(), 0_u64);
    while let Some(answer) = answers.next().await.map_err(|status| words(&status))? {
        // The sum is of all but itself, and nobody says which piece is the last.
        file.write_all(&answer.blob).map_err(|why| why.to_string())?;
        bytes += u64::try_from(answer.blob.len()).expect("a length fits 64 bits");
        last.extend_from_slice(&answer.blob);
        let all_but_sum = last.len().saturating_sub(SUM_BYTES);
        sum.update(&last[..all_but_sum]);
        last.drain(..all_but_sum);
    }
    file.sync_all().map_err(|why| why.to_string())?;
    if bytes % BLOCK_BYTES != SUM_BYTES as u64 {
        return Err(format!("sha256 checksum not found [bytes: {bytes}]"));
    }
    match sum.finalize()[..] == last[..] {
        true => Ok(()),
        false => Err("the snapshot is not what its check sum says: try again".to_owned()),
    }
}

/// A new file for its owner alone: all keys are in it. What an attempt before has left behind goes.
fn private(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        Ok(()) | Err(_) => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Reads from a place in a file; less where it ends.
fn at(file: &mut File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn status(job: &Job<'_>) -> Result<(), Failure> {
    let path = Path::new(job.argument("snapshot status requires exactly one argument")?);
    let printer = job.printer()?;
    let mut file = File::open(path).map_err(|why| of_file("stat", path, &why))?;
    let summary = bolt::summary(|offset, length| at(&mut file, offset, length));
    let summary = match summary {
        Ok(summary) => summary,
        Err(BoltError::NoBolt) => of_cairn(&mut file)
            .map_err(|why| error(code::ERROR, format!("{}: {why}", path.display())))?,
        Err(why @ (BoltError::Page(_) | BoltError::Io(_))) => return Err(error(code::ERROR, why)),
    };
    let (hash, revision, keys) = (summary.hash, summary.revision, summary.keys);
    let row =
        vec![format!("{hash:x}"), revision.to_string(), keys.to_string(), go::size(summary.bytes)];
    match printer.format {
        Format::Simple => print::out(&format!("{}\n", row.join(", "))),
        Format::Table => {
            print::out(&tables::draw(&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], &[row]))
        }
        Format::Json => print::out(&format!(
            "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{keys},\"totalSize\":{}}}\n",
            summary.bytes
        )),
        Format::Fields => print::out(&format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {}\n",
            summary.bytes
        )),
        Format::Protobuf => Err(printer.format.unsupported()),
    }
}

/// The same of a snapshot or a backup of cairn, which is read to its end. The sum is the one that `endpoint hashkv` says of this state,
/// and every version counts that is kept.
fn of_cairn(file: &mut File) -> Result<Summary, String> {
    let text = |why: io::Error| why.to_string();
    let bytes = file.metadata().map_err(text)?.len();
    // What is no snapshot may be a backup, which has its sums inside.
    let end = archive_end(file, bytes % BLOCK_BYTES != SUM_BYTES as u64)?;
    file.rewind().map_err(text)?;
    let archive = ArchiveReader::new(BufReader::new(Read::by_ref(file).take(end)));
    let (_, store) = archive.and_then(ArchiveReader::into_store).map_err(|why| why.to_string())?;
    let mvcc = store.mvcc();
    let (hash, _) = mvcc.hash(Default::default()).expect("what is there now is not compacted");
    Ok(Summary {
        hash,
        revision: i64::try_from(mvcc.revision().0).unwrap_or(i64::MAX),
        keys: mvcc.versions_count(),
        bytes,
    })
}

pub(super) async fn restore(job: &Job<'_>) -> Result<(), Failure> {
    let path = Path::new(job.argument("snapshot restore requires exactly one argument")?);
    let said = |name: &str| job.said.text(name).filter(|text| !text.is_empty());
    if said("wal-dir").is_some() {
        return Err(wrong(
            "--wal-dir: the log is in the data directory; it can be moved there later (--wal-dir of the member)",
        ));
    }
    let name = said("name").unwrap_or("default");
    let dir = said("data-dir").map_or_else(|| format!("{name}.etcd"), str::to_owned);
    if Path::new(&dir).exists() {
        return Err(error(code::ERROR, format!("data-dir {dir:?} exists")));
    }
    let mut file = File::open(path).map_err(|why| of_file("open", path, &why))?;
    if bolt::summary(|offset, length| at(&mut file, offset, length)).is_ok() {
        return Err(error(
            code::ERROR,
            format!(
                "{} is a snapshot of etcd: restore it with etcd's own etcdctl, then take the directory over with `cairn migrate`",
                path.display()
            ),
        ));
    }
    let plain = plain_backup(&mut file, path, &dir, job.said.is_on("skip-hash-check"));
    let plain = plain.map_err(|why| error(code::ERROR, format!("{}: {why}", path.display())))?;
    let mut words =
        vec![plain.display().to_string(), format!("--data-dir={dir}"), format!("--name={name}")];
    for flag in ["initial-cluster", "initial-advertise-peer-urls", "initial-cluster-token"] {
        words.extend(said(flag).map(|text| format!("--{flag}={text}")));
    }
    let ended = backup::run(Task::Restore, words, Vec::new()).await;
    let _ = std::fs::remove_file(&plain);
    match ended.code {
        0 => print::out(&ended.text),
        _ => Err(error(code::ERROR, ended.complaint.trim_end())),
    }
}

/// Where that ends which `cairn backup` would have written: before what makes it a snapshot, the padding and the sum.
fn archive_end(file: &mut File, unchecked: bool) -> Result<u64, String> {
    let text = |why: io::Error| why.to_string();
    let bytes = file.metadata().map_err(text)?.len();
    let body = match bytes % BLOCK_BYTES == SUM_BYTES as u64 {
        true => bytes - SUM_BYTES as u64,
        false if unchecked => bytes,
        false => return Err("there is no check sum at its end".to_owned()),
    };
    if !unchecked {
        let mut sum = Sha256::new();
        file.rewind().map_err(text)?;
        io::copy(&mut BufReader::new(Read::by_ref(file).take(body)), &mut sum).map_err(text)?;
        let stored = at(file, body, SUM_BYTES).map_err(text)?;
        if sum.finalize()[..] != stored[..] {
            return Err("it is not what its check sum says".to_owned());
        }
    }
    file.rewind().map_err(text)?;
    let reader = BufReader::new(Read::by_ref(file).take(body));
    let mut archive = ArchiveReader::new(reader)
        .map_err(|why| format!("it is neither a snapshot of cairn nor one of etcd: {why}"))?;
    // It reads to the end of what it knows, and complains of the padding behind.
    let whole = archive.check();
    let end = archive.offset();
    drop(archive);
    let rest = usize::try_from(body.saturating_sub(end)).unwrap_or(usize::MAX);
    let padding = match u64::try_from(rest).is_ok_and(|rest| rest < BLOCK_BYTES) {
        true => at(file, end, rest).map_err(text)?,
        false => vec![1],
    };
    if let Err(why) = whole
        && (padding.is_empty() || padding.iter().any(|byte| *byte != 0))
    {
        return Err(why.to_string());
    }
    Ok(end)
}

/// That part in a file of its own.
fn plain_backup(
    file: &mut File,
    path: &Path,
    dir: &str,
    unchecked: bool,
) -> Result<PathBuf, String> {
    let text = |why: io::Error| why.to_string();
    let end = archive_end(file, unchecked)?;
    file.rewind().map_err(text)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = PathBuf::from(format!("{}.{name}.part", dir.trim_end_matches('/')));
    let mut copy = private(&plain).map_err(text)?;
    let copied = io::copy(&mut Read::by_ref(file).take(end), &mut copy).map_err(text);
    copied.and_then(|_| copy.sync_all().map_err(text)).map(|()| plain)
}
