//! The buckets of a key space, for an etcd that goes on from it.

use std::io::{self, Seek, Write};

use crate::etcd::bolt::BoltWriter;
use crate::etcd::proto::Message;
use crate::mvcc::{AlarmKind, Mvcc, Permission, PermissionKind, User};

/// Writes the file of a key space that has come as far as entry `index` of the log, as etcd 3.4 has it; returns where to.
///
/// # Errors
/// When it cannot be written.
pub fn write<W: Write + Seek>(mvcc: &Mvcc, index: u64, out: W) -> io::Result<W> {
    let mut writer = BoltWriter::new(out)?;
    let mut alarms: Vec<_> = mvcc
        .alarms()
        .map(|alarm| {
            let kind = match alarm.kind {
                AlarmKind::NoSpace => 1,
                AlarmKind::Corrupt => 2,
            };
            Message::default().varint(1, alarm.member.0).varint(2, kind).finish()
        })
        .collect();
    alarms.sort();
    writer.bucket(b"alarm", alarms.iter().map(|alarm| (&alarm[..], &b""[..])))?;
    let auth = mvcc.auth();
    let (enabled, revision) = ([u8::from(auth.enabled())], auth.revision().0.to_be_bytes());
    let entries: [(&[u8], &[u8]); 2] = [(b"authEnabled", &enabled), (b"authRevision", &revision)];
    writer.bucket(b"auth", entries)?;
    writer.bucket(
        b"authRoles",
        auth.roles().map(|(name, held)| (name.as_bytes(), role(name, held))),
    )?;
    writer
        .bucket(b"authUsers", auth.users().map(|(name, who)| (name.as_bytes(), user(name, who))))?;
    writer.bucket(b"key", mvcc.stored())?;
    let mut leases: Vec<_> = mvcc
        .leases()
        .map(|(id, lease)| {
            let id = id.0.cast_unsigned();
            let ttl_s = lease.ttl_s().cast_unsigned();
            (id.to_be_bytes(), Message::default().varint(1, id).varint(2, ttl_s).finish())
        })
        .collect();
    // Bytes of negative ones come last.
    leases.sort();
    writer.bucket(b"lease", leases)?;
    let mut meta = vec![(&b"consistent_index"[..], index.to_be_bytes().to_vec())];
    if let Some(compacted) = mvcc.compacted() {
        let revision = [&compacted.0.to_be_bytes()[..], b"_", &[0; 8]].concat();
        meta.push((b"finishedCompactRev", revision.clone()));
        meta.push((b"scheduledCompactRev", revision));
    }
    writer.bucket(b"meta", meta)?;
    writer.finish()
}

fn user(name: &str, user: &User) -> Vec<u8> {
    let mut message = Message::default().bytes(1, name.as_bytes());
    let options = match &user.password {
        Some(hash) => {
            message = message.bytes(2, hash.as_str().as_bytes());
            Message::default()
        }
        None => Message::default().varint(1, 1),
    };
    for role in &user.roles {
        message = message.bytes(3, role.as_bytes());
    }
    message.bytes(4, &options.finish()).finish()
}

fn role(name: &str, held: &[Permission]) -> Vec<u8> {
    let mut message = Message::default().bytes(1, name.as_bytes());
    for Permission { kind, range } in held {
        let kind = match kind {
            PermissionKind::Read => 0,
            PermissionKind::Write => 1,
            PermissionKind::ReadWrite => 2,
        };
        let permission = Message::default().varint(1, kind).bytes(2, range.start());
        message = message.bytes(2, &permission.bytes(3, range.range_end()).finish());
    }
    message.finish()
}
