//! What etcd keeps in the buckets of its version 3 store.
//!
//! Owns: names of buckets, keys and values in them, to read and (`write`) to write. Never knows: pages (`bolt`), what came later
//! (`replay`).
//!
//! | bucket | keys | values |
//! |---|---|---|
//! | `key` | a revision; then `t` where it deleted the key | the key as that revision left it: 1 key, 2 created, 3 modified, 4 version, 5 value, 6 lease; of a deletion the key alone |
//! | `meta` | `consistent_index` | the last entry of the log that is in the store |
//! | | `finishedCompactRev`, `scheduledCompactRev` | a revision: what was superseded up to there is gone, or goes |
//! | | `term`, `confState` (3.5), `storageVersion` (3.6) | of no meaning here |
//! | `lease` | its id | 1 id, 2 life in seconds, 3 what was left of it at the last checkpoint of leases |
//! | `auth` | `authEnabled` | one byte, 1 while users count |
//! | | `authRevision` | of the last change of users and roles |
//! | `authUsers` | a name | 1 name, 2 bcrypt of the password, 3 roles, 4 { 1 it has no password } |
//! | `authRoles` | a name | 1 name, 2 { 1 kind (0 read, 1 write, 2 both), 2 key, 3 end of the range } |
//! | `alarm` | 1 member, 2 kind (1 space, 2 damage) | nothing |
//! | `members`, `members_removed`, `cluster` | | what the hidden keys of version 2 say as well |
//!
//! A revision is its number, `_`, and the place in it from zero; numbers in keys and in `meta` and `auth` have 64 bits, the highest
//! first. Values are protocol buffers, whose fields the numbers above are.

mod write;

use std::io;

use thiserror::Error;

use crate::etcd::bolt::{Bolt, BoltError};
use crate::etcd::entry::{EntryError, fields, read_text, set, unknown};
use crate::etcd::proto::Value;
use crate::model::{MemberId, PasswordHash, Value as Bytes};
use crate::mvcc::{
    Alarm, AlarmKind, Auth, AuthRevision, Import, Inconsistent, Kept, KeyRange, KeyValue, LeaseId,
    Mvcc, Permission, PermissionKind, Revision, User,
};

pub use write::write;

/// A revision in bytes, and one that deleted something.
const REVISION_BYTES: usize = 17;
const DELETED: u8 = b't';

/// Buckets that say what is known from elsewhere.
const KNOWN: [&[u8]; 3] = [b"cluster", b"members", b"members_removed"];

/// Why there is no key space in a file.
#[derive(Debug, Error)]
pub enum BucketError {
    /// It cannot be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// What stands at a key cannot be understood.
    #[error("bucket {bucket}, key {key}: {why}")]
    Record {
        /// In which bucket.
        bucket: String,
        /// At which key.
        key: String,
        /// Why.
        why: String,
    },
    /// The records contradict each other.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
}

/// A store that was read.
#[derive(Debug)]
pub struct Stored {
    /// The key space.
    pub mvcc: Mvcc,
    /// The last entry of the log that is in it.
    pub consistent_index: u64,
    /// Keys that hung on leases that are not there.
    pub freed: u64,
    /// Leases of which less than their life was left at a checkpoint.
    pub shortened: u64,
    /// Buckets that no known version has.
    pub unknown: Vec<String>,
}

/// Reads the store in the file that `read` reads, from an offset and as many bytes as are asked for.
///
/// # Errors
/// See [`BucketError`].
pub fn load(read: impl FnMut(u64, usize) -> io::Result<Vec<u8>>) -> Result<Stored, BucketError> {
    let mut bolt = Bolt::open(read)?;
    let mut found = Found::default();
    for bucket in bolt.buckets()? {
        if KNOWN.contains(&&bucket.name[..]) {
            continue;
        }
        let Some(take) = taker(&bucket.name) else {
            found.unknown.push(String::from_utf8_lossy(&bucket.name).into_owned());
            continue;
        };
        bolt.each(&bucket, &mut |key, value| {
            take(&mut found, key, value).map_err(|why| BucketError::Record {
                bucket: String::from_utf8_lossy(&bucket.name).into_owned(),
                key: key.escape_ascii().to_string(),
                why: why.to_string(),
            })
        })?;
    }
    found.finish()
}

/// What the records say.
#[derive(Debug, Default)]
struct Found {
    import: Import,
    /// Of the last change.
    last: u64,
    consistent_index: u64,
    compacted: Option<u64>,
    leases: Vec<(LeaseId, i64)>,
    shortened: u64,
    alarms: Vec<Alarm>,
    enabled: bool,
    auth_revision: AuthRevision,
    users: Vec<(String, User)>,
    roles: Vec<(String, Vec<Permission>)>,
    unknown: Vec<String>,
}

/// Why a record cannot be taken.
#[derive(Debug, Error)]
enum Wrong {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
    #[error("it is no {0}")]
    No(&'static str),
}

type Take = fn(&mut Found, &[u8], &[u8]) -> Result<(), Wrong>;

fn taker(bucket: &[u8]) -> Option<Take> {
    Some(match bucket {
        b"key" => Found::change,
        b"meta" => Found::meta,
        b"lease" => Found::lease,
        b"auth" => Found::auth,
        b"authUsers" => Found::user,
        b"authRoles" => Found::role,
        b"alarm" => Found::alarm,
        _ => return None,
    })
}

/// Eight bytes, the highest first.
fn number(bytes: &[u8]) -> Result<u64, Wrong> {
    let number = bytes.try_into().map(u64::from_be_bytes);
    number.map_err(|_| Wrong::No("number of 64 bits"))
}

/// A revision and the place in it.
fn revision(bytes: &[u8]) -> Result<(u64, u32), Wrong> {
    const WRONG: Wrong = Wrong::No("revision");
    let (main, rest) = bytes.split_at_checked(8).ok_or(WRONG)?;
    let sub = rest.strip_prefix(b"_").ok_or(WRONG)?;
    let (main, sub) = (number(main)?, u32::try_from(number(sub)?).map_err(|_| WRONG)?);
    // etcd counts in signed numbers.
    if i64::try_from(main).is_err() { Err(WRONG) } else { Ok((main, sub)) }
}

/// A name that is a text.
fn name(bytes: &[u8]) -> Result<String, Wrong> {
    String::from_utf8(bytes.to_vec()).map_err(|_| EntryError::NoText("a name").into())
}

impl Found {
    fn change(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        let (place, mark) = key.split_at_checked(REVISION_BYTES).ok_or(Wrong::No("revision"))?;
        let is_deletion = match mark {
            [] => false,
            [DELETED] => true,
            _ => return Err(Wrong::No("revision")),
        };
        let (main, sub) = revision(place)?;
        let kv = key_value(value, (main, sub))?;
        // A deletion has nothing but its key: `Import` looks at the rest.
        let is_right = if is_deletion { kv.modified.0 == 0 } else { kv.modified.0 == main };
        if !is_right || is_deletion != kv.is_deletion() {
            return Err(Inconsistent::Change((main, sub)).into());
        }
        self.import.change(KeyValue { modified: Revision(main), ..kv })?;
        // They come in order.
        self.last = main;
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        match key {
            b"consistent_index" => self.consistent_index = number(value)?,
            b"finishedCompactRev" | b"scheduledCompactRev" => {
                let (main, _) = revision(value)?;
                self.compacted = self.compacted.max(Some(main));
            }
            _ => {}
        }
        Ok(())
    }

    fn lease(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        let (mut id, mut ttl_s, mut left_s) = (0, 0, 0);
        fields("a lease", value, |number, value| match (number, value) {
            (1, Value::Varint(found)) => set(&mut id, found),
            (2, Value::Varint(found)) => set(&mut ttl_s, found.cast_signed()),
            (3, Value::Varint(found)) => set(&mut left_s, found.cast_signed()),
            _ => false,
        })?;
        if number(key)? != id {
            return Err(Wrong::No("lease of this id"));
        }
        self.shortened += u64::from(left_s > 0 && left_s < ttl_s);
        self.leases.push((LeaseId(id.cast_signed()), ttl_s));
        Ok(())
    }

    fn auth(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        match key {
            b"authEnabled" => self.enabled = value == [1],
            // Before there was one it is missing or zero.
            b"authRevision" => {
                self.auth_revision = self.auth_revision.max(AuthRevision(number(value)?));
            }
            _ => {}
        }
        Ok(())
    }

    fn user(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        let (mut password, mut roles, mut none, mut texts) = (&[][..], Vec::new(), false, Ok(()));
        fields("a user", value, |number, value| match (number, value) {
            (1, Value::Bytes(_)) => true,
            (2, Value::Bytes(hash)) => set(&mut password, hash),
            (3, Value::Bytes(role)) => {
                roles.push(String::new());
                let to = roles.last_mut().expect("one was pushed");
                read_text("a role", role, to, &mut texts)
            }
            (4, Value::Bytes(options)) => match has_no_password(options) {
                Ok(found) => set(&mut none, found),
                Err(why) => set(&mut texts, Err(why)),
            },
            _ => false,
        })?;
        texts?;
        let password = match password {
            [] => None,
            _ if none => return Err(Wrong::No("user without a password")),
            hash => Some(PasswordHash::new(&name(hash)?)),
        };
        self.users.push((name(key)?, User { password, roles }));
        Ok(())
    }

    fn role(&mut self, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        let (mut permissions, mut outcome) = (Vec::new(), Ok(()));
        fields("a role", value, |number, value| match (number, value) {
            (1, Value::Bytes(_)) => true,
            (2, Value::Bytes(bytes)) => match permission(bytes) {
                Ok(permission) => {
                    permissions.push(permission);
                    true
                }
                Err(why) => set(&mut outcome, Err(why)),
            },
            _ => false,
        })?;
        outcome?;
        self.roles.push((name(key)?, permissions));
        Ok(())
    }

    fn alarm(&mut self, key: &[u8], _: &[u8]) -> Result<(), Wrong> {
        let (mut member, mut kind) = (0, 0);
        fields("an alarm", key, |number, value| match (number, value) {
            (1, Value::Varint(found)) => set(&mut member, found),
            (2, Value::Varint(found)) => set(&mut kind, found),
            _ => false,
        })?;
        if let Some(kind) = alarm_kind(kind)? {
            self.alarms.push(Alarm { member: MemberId(member), kind });
        }
        Ok(())
    }

    fn finish(self) -> Result<Stored, BucketError> {
        let Self { import, last, compacted, leases, alarms, shortened, .. } = self;
        let auth = Auth::of(self.enabled, self.auth_revision, self.users, self.roles);
        // Where all changes were compacted, the last one is that of the compaction.
        let revision = last.max(compacted.unwrap_or(0)).max(Revision::FIRST.0);
        let kept = Kept {
            revision: Revision(revision),
            compacted: compacted.map(Revision),
            leases,
            alarms,
            auth,
        };
        let (mvcc, freed) = import.finish(kept)?;
        let Self { consistent_index, unknown, .. } = self;
        Ok(Stored { mvcc, consistent_index, freed, shortened, unknown })
    }
}

/// A key as it is stored, at this place.
fn key_value(bytes: &[u8], (main, sub): (u64, u32)) -> Result<KeyValue, Wrong> {
    let (mut key, mut content) = (&[][..], &[][..]);
    let (mut created, mut modified, mut version, mut lease) = (0, 0, 0, 0);
    fields("a key", bytes, |number, value| match (number, value) {
        (1, Value::Bytes(found)) => set(&mut key, found),
        (2, Value::Varint(found)) => set(&mut created, found),
        (3, Value::Varint(found)) => set(&mut modified, found),
        (4, Value::Varint(found)) => set(&mut version, found),
        (5, Value::Bytes(found)) => set(&mut content, found),
        (6, Value::Varint(found)) => set(&mut lease, found.cast_signed()),
        _ => false,
    })?;
    if i64::try_from(version).is_err() {
        return Err(Inconsistent::Change((main, sub)).into());
    }
    Ok(KeyValue {
        key: Bytes::from(key),
        value: Bytes::from(content),
        created: Revision(created),
        modified: Revision(modified),
        version,
        lease: LeaseId(lease),
        sub,
    })
}

/// The options of a user.
pub(super) fn has_no_password(bytes: &[u8]) -> Result<bool, EntryError> {
    let mut found = false;
    fields("options of a user", bytes, |number, value| match (number, value) {
        (1, Value::Varint(flag)) => set(&mut found, flag != 0),
        _ => false,
    })?;
    Ok(found)
}

/// What a role may do.
pub(super) fn permission(bytes: &[u8]) -> Result<Permission, EntryError> {
    let (mut kind, mut key, mut end) = (0, &[][..], &[][..]);
    fields("a permission", bytes, |number, value| match (number, value) {
        (1, Value::Varint(found)) => set(&mut kind, found),
        (2, Value::Bytes(found)) => set(&mut key, found),
        (3, Value::Bytes(found)) => set(&mut end, found),
        _ => false,
    })?;
    let kind = match kind {
        0 => PermissionKind::Read,
        1 => PermissionKind::Write,
        2 => PermissionKind::ReadWrite,
        other => return Err(unknown("the kind of a permission", other)),
    };
    Ok(Permission { kind, range: KeyRange::new(Bytes::from(key), Bytes::from(end)) })
}

/// What an alarm is about; `None` where it is about nothing.
pub(super) fn alarm_kind(kind: u64) -> Result<Option<AlarmKind>, EntryError> {
    Ok(match kind {
        0 => None,
        1 => Some(AlarmKind::NoSpace),
        2 => Some(AlarmKind::Corrupt),
        other => return Err(unknown("the kind of an alarm", other)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::etcd::bolt::BoltWriter;
    use crate::etcd::proto::Message;
    use crate::model::LogTime;
    use crate::mvcc::{Command, DeleteRange, Op, Put, RangeQuery, Request, Txn};

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn read(file: &[u8]) -> Result<Stored, BucketError> {
        load(|offset, length| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
            Ok(file[start..start.saturating_add(length).min(file.len())].to_vec())
        })
    }

    /// A file with these buckets.
    fn file(buckets: &[(&str, Entries)]) -> Vec<u8> {
        let mut writer = BoltWriter::new(Cursor::new(Vec::new())).unwrap();
        for (name, entries) in buckets {
            let entries = entries.iter().map(|(key, value)| (key, value));
            writer.bucket(name.as_bytes(), entries).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn revision_of(main: u64, sub: u64, mark: &[u8]) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), mark].concat()
    }

    fn put(key: &str, created: u64, modified: u64, version: u64) -> Vec<u8> {
        let kv = Message::default().bytes(1, key.as_bytes()).varint(2, created);
        kv.varint(3, modified).varint(4, version).bytes(5, b"v").finish()
    }

    fn deletion(key: &str) -> Vec<u8> {
        Message::default().bytes(1, key.as_bytes()).finish()
    }

    /// What is read of a bucket of keys.
    fn keys(entries: Entries) -> Result<Stored, BucketError> {
        read(&file(&[("key", entries)]))
    }

    fn names(mvcc: &Mvcc, revision: u64) -> Vec<(String, u64)> {
        let query = RangeQuery { revision: Revision(revision), ..RangeQuery::of(KeyRange::all()) };
        let kvs = mvcc.range(&query).unwrap().kvs;
        kvs.iter().map(|kv| (String::from_utf8_lossy(&kv.key).into(), kv.version)).collect()
    }

    #[test]
    fn deletions_and_places_in_a_revision_are_read() {
        let stored = keys(vec![
            (revision_of(2, 0, b""), put("a", 2, 2, 1)),
            (revision_of(3, 0, b""), put("a", 2, 3, 2)),
            (revision_of(3, 1, b""), put("b", 3, 3, 1)),
            (revision_of(3, 2, b"t"), deletion("a")),
            (revision_of(4, 0, b"t"), deletion("b")),
            (revision_of(4, 1, b""), put("a", 4, 4, 1)),
        ])
        .unwrap();
        stored.mvcc.check();
        let named = |name: &str, version| vec![(name.to_owned(), version)];
        assert_eq!(names(&stored.mvcc, 2), named("a", 1));
        assert_eq!(names(&stored.mvcc, 3), named("b", 1));
        assert_eq!(names(&stored.mvcc, 0), named("a", 1));
        assert_eq!((stored.mvcc.revision().0, stored.mvcc.versions_count()), (4, 6));
        assert_eq!((stored.consistent_index, stored.mvcc.compacted()), (0, None));
    }

    #[test]
    fn the_revision_of_a_compaction_counts_where_no_change_is_left() {
        let rev = |main| revision_of(main, 0, b"");
        let meta = |finished: u64, scheduled: u64| {
            vec![
                (b"consistent_index".to_vec(), 77_u64.to_be_bytes().to_vec()),
                (b"finishedCompactRev".to_vec(), rev(finished)),
                (b"scheduledCompactRev".to_vec(), rev(scheduled)),
                (b"term".to_vec(), 2_u64.to_be_bytes().to_vec()),
            ]
        };
        let stored = read(&file(&[("key", vec![]), ("meta", meta(9, 9))])).unwrap();
        assert_eq!((stored.mvcc.revision().0, stored.mvcc.keys_count()), (9, 0));
        assert_eq!((stored.mvcc.compacted(), stored.consistent_index), (Some(Revision(9)), 77));
        // One that had begun counts as well.
        let entries = vec![
            (rev(2), put("a", 2, 2, 1)),
            (rev(3), put("a", 2, 3, 2)),
            (rev(4), put("b", 4, 4, 1)),
        ];
        let stored = read(&file(&[("key", entries), ("meta", meta(2, 3))])).unwrap();
        assert_eq!(stored.mvcc.compacted(), Some(Revision(3)));
        assert_eq!(names(&stored.mvcc, 3), [("a".to_owned(), 2)]);
        let old = RangeQuery { revision: Revision(2), ..RangeQuery::of(KeyRange::all()) };
        assert!(stored.mvcc.range(&old).is_err());
    }

    #[test]
    fn records_that_no_etcd_writes_are_refused_with_their_place() {
        let right = || (revision_of(2, 0, b""), put("a", 2, 2, 1));
        assert!(keys(vec![right()]).is_ok());
        for wrong in [
            (b"x".to_vec(), put("a", 2, 2, 1)),
            (revision_of(2, 0, b"u"), put("a", 2, 2, 1)),
            (revision_of(2, 1 << 32, b""), put("a", 2, 2, 1)),
            (revision_of(1 << 63, 0, b""), put("a", 2, 1 << 63, 1)),
            ([&2_u64.to_be_bytes()[..], b"-", &[0; 8]].concat(), put("a", 2, 2, 1)),
            (revision_of(2, 0, b""), put("a", 2, 3, 1)),
            (revision_of(2, 0, b""), put("a", 3, 2, 1)),
            (revision_of(2, 0, b""), put("a", 2, 2, 0)),
            (revision_of(2, 0, b""), put("", 2, 2, 1)),
            (revision_of(2, 0, b""), put("a", 2, 2, u64::MAX)),
            (revision_of(2, 0, b""), deletion("a")),
            (revision_of(2, 0, b"t"), put("a", 2, 2, 1)),
            (revision_of(2, 0, b""), b"\xff".to_vec()),
            (revision_of(2, 0, b""), [put("a", 2, 2, 1), vec![0x38, 1]].concat()),
        ] {
            let error = keys(vec![wrong]).unwrap_err();
            let BucketError::Record { bucket, .. } = &error else { panic!("{error}") };
            assert_eq!(bucket, "key");
        }
        let id = 5_i64.to_be_bytes().to_vec();
        for (bucket, key, value) in [
            ("lease", id, Message::default().varint(1, 6).varint(2, 9).finish()),
            ("auth", b"authRevision".to_vec(), vec![1]),
            ("meta", b"consistent_index".to_vec(), vec![1]),
            ("authUsers", vec![0xff], Message::default().bytes(1, &[0xff]).finish()),
            ("authRoles", b"r".to_vec(), Message::default().bytes(2, &[8, 7]).finish()),
            ("alarm", Message::default().varint(1, 1).varint(2, 9).finish(), vec![]),
        ] {
            let error = read(&file(&[(bucket, vec![(key, value)])])).unwrap_err().to_string();
            assert!(error.contains(bucket), "{error}");
        }
    }

    #[test]
    fn buckets_of_later_versions_are_told() {
        let file = file(&[
            ("cluster", vec![(b"clusterVersion".to_vec(), b"3.6.0".to_vec())]),
            ("future", vec![(b"a".to_vec(), b"b".to_vec())]),
            (
                "meta",
                vec![
                    (b"confState".to_vec(), br#"{"voters":[1]}"#.to_vec()),
                    (b"consistent_index".to_vec(), 9_u64.to_be_bytes().to_vec()),
                    (b"storageVersion".to_vec(), b"3.6.0".to_vec()),
                ],
            ),
        ]);
        let stored = read(&file).unwrap();
        assert_eq!((stored.consistent_index, stored.unknown), (9, vec!["future".to_owned()]));
        assert!(stored.mvcc.is_untouched());
    }

    #[test]
    fn a_user_and_its_password_and_leases_with_what_is_left_of_them() {
        let lease = |id: i64, ttl: u64, left: u64| {
            let lease = Message::default().varint(1, id.cast_unsigned()).varint(2, ttl);
            (id.to_be_bytes().to_vec(), lease.varint(3, left).finish())
        };
        let user = |name: &str, hash: &[u8], none: bool| {
            let options = Message::default();
            let options = if none { options.varint(1, 1) } else { options }.finish();
            let user = Message::default().bytes(1, name.as_bytes()).bytes(2, hash);
            (
                name.as_bytes().to_vec(),
                user.bytes(3, b"z").bytes(3, b"a").bytes(4, &options).finish(),
            )
        };
        let stored = read(&file(&[
            ("auth", vec![(b"authEnabled".to_vec(), vec![1])]),
            ("authUsers", vec![user("a", b"$2a$x", false), user("b", b"", true)]),
            ("lease", vec![lease(7, 60, 0), lease(8, 60, 9), lease(-5, 10, 0)]),
        ]))
        .unwrap();
        let auth = stored.mvcc.auth();
        let password = |name| auth.user(name).unwrap().password.clone();
        assert_eq!((password("a"), password("b")), (Some(PasswordHash::new("$2a$x")), None));
        assert_eq!(auth.user("a").unwrap().roles, ["a", "z"]);
        assert!(auth.enabled() && auth.revision() == AuthRevision(1));
        let leases: Vec<_> =
            stored.mvcc.leases().map(|(id, lease)| (id.0, lease.ttl_s())).collect();
        assert_eq!((leases, stored.shortened), (vec![(-5, 10), (7, 60), (8, 60)], 1));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut mvcc = Mvcc::default();
        let mut apply = |request| {
            mvcc.apply(LogTime(1), &Command::internal(request)).reply.unwrap();
        };
        use crate::mvcc::AuthRequest::*;
        let text = |text: &str| text.to_owned();
        apply(Request::LeaseGrant { id: LeaseId(-7), ttl_s: 600 });
        for n in 0..500 {
            let key = format!("k{}", n % 90);
            let put = Put::new(key.as_bytes(), n.to_string().as_bytes());
            let lease = LeaseId(if n % 7 == 0 { -7 } else { 0 });
            apply(Request::Put(Put { lease, ..put }));
        }
        let delete = |key: &str| {
            Op::DeleteRange(DeleteRange {
                range: KeyRange::Single(key.as_bytes().into()),
                prev_kv: false,
            })
        };
        let put_op = |key: &str| Op::Put(Put::new(key.as_bytes(), &b""[..]));
        let success = vec![delete("k3"), put_op("new"), delete("k4"), put_op("z")];
        apply(Request::Txn(Txn { success, ..Txn::default() }));
        apply(Request::Compact(Revision(400)));
        apply(Request::Alarm(crate::mvcc::AlarmRequest::Activate(Alarm {
            member: MemberId(9),
            kind: AlarmKind::NoSpace,
        })));
        let permission = Permission {
            kind: PermissionKind::ReadWrite,
            range: KeyRange::new(b"a"[..].into(), b"b"[..].into()),
        };
        for change in [
            UserAdd { name: text("root"), password: Some(PasswordHash::new("$2a$10$hash")) },
            UserAdd { name: text("cert"), password: None },
            RoleAdd { name: text("r") },
            RoleGrantPermission { role: text("r"), permission },
            UserGrantRole { user: text("root"), role: text("root") },
            UserGrantRole { user: text("cert"), role: text("r") },
            Enable,
        ] {
            apply(Request::Auth(change));
        }
        let file = write(&mvcc, 1234, Cursor::new(Vec::new())).unwrap().into_inner();
        let stored = read(&file).unwrap();
        let read = stored.mvcc;
        read.check();
        assert_eq!((stored.consistent_index, stored.freed), (1234, 0));
        assert_eq!(read.hash(Revision(0)), mvcc.hash(Revision(0)));
        assert_eq!((read.revision(), read.compacted()), (mvcc.revision(), mvcc.compacted()));
        for revision in [400, 450, 0] {
            assert_eq!(names(&read, revision), names(&mvcc, revision), "{revision}");
        }
        let leases = |mvcc: &Mvcc| {
            let leases = mvcc
                .leases()
                .map(|(id, lease)| (id, lease.ttl_s(), lease.keys().cloned().collect::<Vec<_>>()));
            leases.collect::<Vec<_>>()
        };
        assert_eq!(leases(&read), leases(&mvcc));
        assert!(read.alarms().eq(mvcc.alarms()));
        let auth = |mvcc: &Mvcc| {
            let auth = mvcc.auth();
            let users: Vec<_> =
                auth.users().map(|(name, user)| (name.to_owned(), user.clone())).collect();
            let roles: Vec<_> =
                auth.roles().map(|(name, held)| (name.to_owned(), held.to_vec())).collect();
            (auth.enabled(), auth.revision(), users, roles)
        };
        assert_eq!(auth(&read), auth(&mvcc));
    }
}
