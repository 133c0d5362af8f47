//! The v3 key space ⇄ records: what checkpoints, snapshots and backups hold.
//!
//! A record is one change: a key as one revision left it. Records never change; those that a compaction made dispensable may be
//! among them, and are dropped when they are read.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use imbl::OrdMap;

use crate::model::{DecodeError, LogTime, MemberId, Reader, Value, Writer};
use crate::mvcc::auth::Auth;
use crate::mvcc::encoding::{decode_kind, kind_tag};
use crate::mvcc::key::{KeyValue, LeaseId, Revision};
use crate::mvcc::lease::{Deadline, Lease};
use crate::mvcc::request::Alarm;
use crate::mvcc::{Mvcc, Place, Superseded};

/// Nothing is recorded of the ends of leases.
const VERSION: u8 = 1;
/// Behind the life of each lease stands what was recorded of its end.
const VERSION_DEADLINES: u8 = 2;

const LIFTED: u8 = 0;
const RECORDED: u8 = 1;

const PUT: u8 = 0;
const DELETION: u8 = 1;

/// A place among the records of a key space that does not change meanwhile. First come those that are older than the log, by key;
/// then the log's, by revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the newest version of this key.
    Live(Value),
    /// At this older version of this key.
    Past(Value, Revision, u32),
    /// At this change.
    Log(Revision, u32),
}

impl Position {
    /// Appends it.
    pub(crate) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Live(key) => out.u8(0).bytes(key),
            Self::Past(key, revision, sub) => {
                out.u8(1).bytes(key).varint(revision.0).varint((*sub).into())
            }
            Self::Log(revision, sub) => out.u8(2).varint(revision.0).varint((*sub).into()),
        };
    }

    /// The counterpart of [`Position::encode`].
    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = input.u8("kind of a place")?;
        Ok(match kind {
            0 => Self::Live(input.bytes("key")?.into()),
            1 => {
                let key = input.bytes("key")?.into();
                let (revision, sub) = decode_place(input)?;
                Self::Past(key, revision, sub)
            }
            2 => {
                let (revision, sub) = decode_place(input)?;
                Self::Log(revision, sub)
            }
            found => {
                return Err(DecodeError::Unknown { what: "kind of a place", found: found.into() });
            }
        })
    }
}

fn decode_place(input: &mut Reader<'_>) -> Result<(Revision, u32), DecodeError> {
    let revision = Revision(input.varint("revision")?);
    let sub = u32::try_from(input.varint("place in a revision")?);
    Ok((revision, sub.map_err(|_| DecodeError::Malformed("place in a revision"))?))
}

impl Mvcc {
    /// Everything that is no record: small, and written whole each time. While no end of a lease is recorded, builds that know
    /// nothing of recorded ends can read it.
    pub(crate) fn encode_header(&self, out: &mut Writer) {
        let deadlines = self.leases.iter().any(|(_, lease)| lease.deadline() != Deadline::UNKNOWN);
        out.u8(if deadlines { VERSION_DEADLINES } else { VERSION }).varint(self.revision.0);
        out.varint(self.compacted.map_or(0, |compacted| compacted.0 + 1));
        out.varint(self.leases.len() as u64);
        for (id, lease) in &self.leases {
            out.signed(id.0).signed(lease.ttl_s());
            if deadlines {
                encode_deadline(out, lease.deadline());
            }
        }
        out.varint(self.alarms.len() as u64);
        for alarm in &self.alarms {
            out.u64(alarm.member.0).u8(kind_tag(alarm.kind));
        }
        self.auth.encode(out);
    }

    /// Where the log begins.
    fn log_start(&self) -> (Revision, u32) {
        self.log.front().map_or((self.revision.next(), 0), |first| first.place())
    }

    /// Calls `visit` with the records behind `after`, or with all, until it breaks. Walks no others.
    pub(crate) fn records_after(
        &self,
        after: Option<&Position>,
        visit: &mut impl FnMut(Position, Vec<u8>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let start = self.log_start();
        let live_from: Option<Bound<&[u8]>> = match after {
            None => Some(Bound::Unbounded),
            Some(Position::Live(key)) => Some(Bound::Excluded(key)),
            Some(Position::Past(..) | Position::Log(..)) => None,
        };
        if let Some(from) = live_from {
            for (key, kv) in self.live.range::<_, [u8]>((from, Bound::Unbounded)) {
                if kv.place() < start {
                    visit(Position::Live(key.clone()), encode_record(kv))?;
                }
            }
        }
        let past_from = match after {
            None | Some(Position::Live(_)) => {
                Some(Place { key: &[], revision: Revision(0), sub: 0 })
            }
            Some(Position::Past(key, revision, sub)) => {
                Some(Place { key, revision: *revision, sub: *sub })
            }
            Some(Position::Log(..)) => None,
        };
        if let Some(from) = past_from {
            let behind = (Bound::Excluded(&from), Bound::Unbounded);
            for Superseded(kv) in self.past.range::<_, Place<'_>>(behind) {
                if kv.place() < start {
                    let position = Position::Past(kv.key.clone(), kv.modified, kv.sub);
                    visit(position, encode_record(kv))?;
                }
            }
        }
        let log_from = match after {
            Some(Position::Log(revision, sub)) => match sub.checked_add(1) {
                Some(next) => (*revision, next),
                None => (Revision(revision.0.saturating_add(1)), 0),
            },
            None | Some(Position::Live(_) | Position::Past(..)) => (Revision(0), 0),
        };
        let first = self.log.binary_search_by(|kv| kv.place().cmp(&log_from));
        for kv in self.log.focus().narrow(first.unwrap_or_else(|first| first)..) {
            visit(Position::Log(kv.modified, kv.sub), encode_record(kv))?;
        }
        ControlFlow::Continue(())
    }

    /// How many records there are.
    pub fn records_count(&self) -> u64 {
        let start = self.log_start();
        let live = self.live.iter().filter(|(_, kv)| kv.place() < start).count();
        let past = self.past.iter().filter(|old| old.0.place() < start).count();
        (live + past + self.log.len()) as u64
    }

    /// Calls `visit` with all records in the order of the changes.
    pub(crate) fn records(&self, visit: &mut impl FnMut((u64, u32), Vec<u8>)) {
        for kv in self.old_versions().iter().chain(&self.log) {
            visit((kv.modified.0, kv.sub), encode_record(kv));
        }
    }

    /// The same, only with changes behind this revision; `deletions` are some of them, in their order, which a compaction may have
    /// taken since.
    pub(crate) fn records_since(
        &self,
        revision: Revision,
        deletions: &[Arc<KeyValue>],
        visit: &mut impl FnMut((u64, u32), Vec<u8>),
    ) {
        let from = (revision.next(), 0);
        // A compaction may have shortened the log meanwhile.
        let old = if self.log_start() > from { self.old_versions() } else { Vec::new() };
        let old = old.iter().filter(|kv| kv.place() >= from);
        let mut kept = old.chain(self.log_from(revision.next())).peekable();
        let mut visit = |kv: &KeyValue| visit((kv.modified.0, kv.sub), encode_record(kv));
        for deletion in deletions {
            while let Some(before) = kept.next_if(|kv| kv.place() < deletion.place()) {
                visit(before);
            }
            kept.next_if(|kv| kv.place() == deletion.place());
            visit(deletion);
        }
        kept.for_each(|kv| visit(kv));
    }

    /// Versions from before the log, in the order of the changes.
    pub(super) fn old_versions(&self) -> Vec<Arc<KeyValue>> {
        let start = self.log_start();
        let live = self.live.iter().map(|(_, kv)| kv);
        let all = live.chain(self.past.iter().map(|old| &old.0));
        let mut old: Vec<_> = all.filter(|kv| kv.place() < start).map(Arc::clone).collect();
        old.sort_unstable_by_key(|kv| kv.place());
        old
    }

    /// A checksum over what is replicated, whatever is still kept of the past.
    pub(crate) fn digest(&self, digest: u32) -> u32 {
        let mut out = Writer::default();
        self.encode_header(&mut out);
        let mut digest = crc32c::crc32c_append(digest, &out.finish());
        for (_, kv) in &self.live {
            digest = crc32c::crc32c_append(digest, &encode_record(kv));
        }
        digest
    }
}

fn encode_deadline(out: &mut Writer, deadline: Deadline) {
    match deadline {
        Deadline::Lifted(end) => out.u8(LIFTED).varint(end.0),
        Deadline::Recorded(end) => out.u8(RECORDED).varint(end.0),
    };
}

fn decode_deadline(input: &mut Reader<'_>) -> Result<Deadline, DecodeError> {
    let kind = input.u8("kind of an end")?;
    let end = LogTime(input.varint("end of a lease")?);
    match kind {
        LIFTED => Ok(Deadline::Lifted(end)),
        RECORDED => Ok(Deadline::Recorded(end)),
        found => Err(DecodeError::Unknown { what: "kind of an end", found: found.into() }),
    }
}

fn encode_record(kv: &KeyValue) -> Vec<u8> {
    let mut out = Writer::with_capacity(32 + kv.key.len() + kv.value.len());
    out.u8(if kv.is_deletion() { DELETION } else { PUT });
    out.varint(kv.modified.0).varint(kv.sub.into()).bytes(&kv.key);
    if !kv.is_deletion() {
        out.varint(kv.created.0).varint(kv.version).signed(kv.lease.0).bytes(&kv.value);
    }
    out.finish()
}

fn decode_record(record: &[u8]) -> Result<KeyValue, DecodeError> {
    let mut input = Reader::new(record);
    let kind = input.u8("kind of a change")?;
    let (modified, sub) = decode_place(&mut input)?;
    let key = Value::from(input.bytes("key")?);
    let mut kv = KeyValue {
        key,
        value: Value::default(),
        created: Revision(0),
        modified,
        version: 0,
        lease: LeaseId::NONE,
        sub,
    };
    match kind {
        DELETION => {}
        PUT => {
            kv.created = Revision(input.varint("created")?);
            kv.version = input.varint("version")?;
            kv.lease = LeaseId(input.signed("lease")?);
            kv.value = Value::from(input.bytes("value")?);
            if kv.version == 0 {
                return Err(DecodeError::Malformed("version"));
            }
        }
        found => {
            return Err(DecodeError::Unknown { what: "kind of a change", found: found.into() });
        }
    }
    input.end("change")?;
    Ok(kv)
}

/// Puts a key space together again.
#[derive(Debug, Default)]
pub struct Loader {
    mvcc: Mvcc,
    records: Vec<Arc<KeyValue>>,
}

impl Loader {
    /// Of a key space without keys, and its changes.
    pub(super) fn of(mvcc: Mvcc, records: Vec<Arc<KeyValue>>) -> Self {
        Self { mvcc, records }
    }

    /// Starts with the header.
    pub(crate) fn new(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.u8("version of the v3 header")?;
        if ![VERSION, VERSION_DEADLINES].contains(&version) {
            let found = version.into();
            return Err(DecodeError::Unknown { what: "version of the v3 header", found });
        }
        let revision = Revision(input.varint("revision")?);
        let compacted = input.varint("compacted revision")?.checked_sub(1).map(Revision);
        if revision < Revision::FIRST
            || revision.0 == u64::MAX
            || compacted.is_some_and(|compacted| compacted > revision)
        {
            return Err(DecodeError::Malformed("revision"));
        }
        let mut mvcc = Mvcc { revision, compacted, ..Mvcc::default() };
        for _ in 0..input.varint("count of leases")? {
            let id = LeaseId(input.signed("lease")?);
            let ttl_s = input.signed("life of a lease")?;
            let deadline = match version {
                VERSION_DEADLINES => decode_deadline(input)?,
                _ => Deadline::UNKNOWN,
            };
            mvcc.leases.insert(id, Lease::with_deadline(ttl_s, deadline));
        }
        for _ in 0..input.varint("count of alarms")? {
            let member = MemberId(input.u64("member")?);
            let kind = decode_kind(input.u8("kind of an alarm")?)?;
            let kind = kind.ok_or(DecodeError::Malformed("kind of an alarm"))?;
            mvcc.alarms.insert(Alarm { member, kind });
        }
        mvcc.auth = Auth::decode(input)?;
        Ok(Self { mvcc, records: Vec::new() })
    }

    /// Adds a record; they come in any order, each once.
    pub(crate) fn record(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        let kv = decode_record(record)?;
        if kv.modified > self.mvcc.revision || kv.key.is_empty() {
            return Err(DecodeError::Malformed("change"));
        }
        self.records.push(Arc::new(kv));
        Ok(())
    }

    /// How many records were added.
    pub fn records_count(&self) -> u64 {
        self.records.len() as u64
    }

    /// The key space.
    pub(crate) fn finish(self) -> Result<Mvcc, DecodeError> {
        let Self { mut mvcc, mut records } = self;
        records.sort_by_key(|kv| kv.place());
        if !records.is_sorted_by(|one, other| one.place() < other.place()) {
            return Err(DecodeError::Malformed("order of changes"));
        }
        let compacted = mvcc.compacted.unwrap_or_default();
        let older = records.partition_point(|kv| kv.modified <= compacted);
        let behind = records.split_off(older);
        let mut live: OrdMap<Value, Arc<KeyValue>> = OrdMap::new();
        let last = records.partition_point(|kv| kv.modified < compacted);
        for kv in &records {
            if kv.is_deletion() {
                live.remove(&kv.key);
            } else {
                live.insert(kv.key.clone(), Arc::clone(kv));
            }
        }
        let survives =
            |kv: &&Arc<KeyValue>| live.get(&kv.key).is_some_and(|it| Arc::ptr_eq(it, kv));
        mvcc.log.extend(records[last..].iter().filter(survives).cloned());
        for kv in behind {
            let before = if kv.is_deletion() {
                mvcc.past.insert(Superseded(Arc::clone(&kv)));
                mvcc.bytes += kv.bytes();
                live.remove(&kv.key)
            } else {
                live.insert(kv.key.clone(), Arc::clone(&kv))
            };
            if let Some(before) = before {
                mvcc.bytes += before.bytes();
                mvcc.past.insert(Superseded(before));
            }
            mvcc.log.push_back(kv);
        }
        mvcc.live_bytes = live.iter().map(|(_, kv)| kv.bytes()).sum();
        mvcc.bytes += mvcc.live_bytes;
        for (_, kv) in live.iter().filter(|(_, kv)| !kv.lease.is_none()) {
            if !mvcc.leases.contains_key(&kv.lease) {
                return Err(DecodeError::Malformed("lease of a key"));
            }
            mvcc.attach(None, Some(kv));
        }
        mvcc.live = live;
        Ok(mvcc)
    }
}
