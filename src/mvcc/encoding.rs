//! Commands as bytes. Tags and fields are only ever appended.

use crate::model::{DecodeError, LogTime, MemberId, Reader, Value, Writer};
use crate::mvcc::auth::{Asker, AuthRequest, AuthRevision};
use crate::mvcc::key::{KeyRange, LeaseId, Revision};
use crate::mvcc::request::{
    Alarm, AlarmKind, AlarmRequest, Command, Compare, CompareTarget, DeleteRange, Op, Order, Put,
    RangeQuery, Relation, Request, SortTarget, Txn,
};

const VERSION: u8 = 1;

/// Transactions inside of one another: more than any limit on requests lets through.
const DEPTH_MAX: u32 = 256;

impl Command {
    /// The stored form.
    pub fn encode(&self, out: &mut Writer) {
        out.u8(VERSION);
        match &self.asker {
            Asker::Internal => {
                out.u8(0);
            }
            Asker::Nobody => {
                out.u8(1);
            }
            Asker::User { name, revision } => {
                out.u8(2).bytes(name.as_bytes()).varint(revision.0);
            }
        }
        match &self.request {
            Request::Put(put) => encode_put(out.u8(1), put),
            Request::DeleteRange(delete) => encode_delete(out.u8(2), delete),
            Request::Txn(txn) => encode_txn(out.u8(3), txn),
            Request::Compact(revision) => {
                out.u8(4).varint(revision.0);
            }
            Request::LeaseGrant { id, ttl_s } => {
                out.u8(5).signed(id.0).signed(*ttl_s);
            }
            Request::LeaseRevoke(id) => {
                out.u8(6).signed(id.0);
            }
            Request::Alarm(AlarmRequest::Activate(alarm)) => {
                out.u8(7).u64(alarm.member.0).u8(kind_tag(alarm.kind));
            }
            Request::Alarm(AlarmRequest::Deactivate { member, kind }) => {
                // No member has the id zero.
                out.u8(8).u64(member.map_or(0, |member| member.0));
                out.u8(kind.map_or(0, kind_tag));
            }
            Request::Auth(request) => request.encode(out.u8(9)),
            Request::LeaseCheckpoint(ends) => {
                out.u8(10).varint(ends.len() as u64);
                for (id, end) in ends {
                    out.signed(id.0).varint(end.0);
                }
            }
            Request::LeaseKeepAlive { id, end } => {
                out.u8(11).signed(id.0).varint(end.0);
            }
        }
    }

    /// About as many bytes as [`Command::encode`] writes.
    pub fn encoded_bytes(&self) -> usize {
        const HEAD: usize = 48;
        const LEASE_END: usize = 18;
        HEAD + match &self.request {
            Request::Put(put) => put.key.len() + put.value.len(),
            Request::Txn(txn) => txn_bytes(txn),
            Request::DeleteRange(delete) => {
                delete.range.start().len() + delete.range.range_end().len()
            }
            Request::LeaseCheckpoint(ends) => ends.len() * LEASE_END,
            Request::Compact(_)
            | Request::LeaseGrant { .. }
            | Request::LeaseRevoke(_)
            | Request::LeaseKeepAlive { .. }
            | Request::Alarm(_)
            | Request::Auth(_) => 0,
        }
    }

    /// The counterpart of [`Command::encode`].
    ///
    /// # Errors
    /// When the bytes end early, are malformed, or were written by a newer version.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.u8("version of a v3 command")?;
        if version != VERSION {
            return Err(unknown("version of a v3 command", version));
        }
        let asker = match input.u8("asker")? {
            0 => Asker::Internal,
            1 => Asker::Nobody,
            2 => Asker::User {
                name: input.text("user")?,
                revision: AuthRevision(input.varint("revision of users")?),
            },
            found => return Err(unknown("asker", found)),
        };
        let request = match input.u8("kind of a v3 request")? {
            1 => Request::Put(decode_put(input)?),
            2 => Request::DeleteRange(decode_delete(input)?),
            3 => Request::Txn(decode_txn(input, 0)?),
            4 => Request::Compact(Revision(input.varint("revision")?)),
            5 => Request::LeaseGrant {
                id: LeaseId(input.signed("lease")?),
                ttl_s: input.signed("life of a lease")?,
            },
            6 => Request::LeaseRevoke(LeaseId(input.signed("lease")?)),
            7 => {
                let member = MemberId(input.u64("member")?);
                let kind = decode_kind(input.u8("kind of an alarm")?)?
                    .ok_or(DecodeError::Malformed("kind of an alarm"))?;
                Request::Alarm(AlarmRequest::Activate(Alarm { member, kind }))
            }
            8 => {
                let member = Some(input.u64("member")?).filter(|member| *member != 0).map(MemberId);
                let kind = decode_kind(input.u8("kind of an alarm")?)?;
                Request::Alarm(AlarmRequest::Deactivate { member, kind })
            }
            9 => Request::Auth(AuthRequest::decode(input)?),
            10 => {
                let mut ends = Vec::new();
                for _ in 0..input.varint("count of leases")? {
                    let id = LeaseId(input.signed("lease")?);
                    ends.push((id, LogTime(input.varint("end of a lease")?)));
                }
                Request::LeaseCheckpoint(ends)
            }
            11 => Request::LeaseKeepAlive {
                id: LeaseId(input.signed("lease")?),
                end: LogTime(input.varint("end of a lease")?),
            },
            found => return Err(unknown("kind of a v3 request", found)),
        };
        Ok(Self { asker, request })
    }
}

fn unknown(what: &'static str, found: u8) -> DecodeError {
    DecodeError::Unknown { what, found: found.into() }
}

pub(super) fn kind_tag(kind: AlarmKind) -> u8 {
    match kind {
        AlarmKind::NoSpace => 1,
        AlarmKind::Corrupt => 2,
    }
}

pub(super) fn decode_kind(tag: u8) -> Result<Option<AlarmKind>, DecodeError> {
    Ok(match tag {
        0 => None,
        1 => Some(AlarmKind::NoSpace),
        2 => Some(AlarmKind::Corrupt),
        found => return Err(unknown("kind of an alarm", found)),
    })
}

/// An interval of keys.
pub(super) fn encode_range(out: &mut Writer, range: &KeyRange) {
    out.bytes(range.start()).bytes(range.range_end());
}

/// The counterpart of [`encode_range`].
pub(super) fn decode_range(input: &mut Reader<'_>) -> Result<KeyRange, DecodeError> {
    let key = Value::from(input.bytes("key")?);
    Ok(KeyRange::new(key, Value::from(input.bytes("end of a range")?)))
}

const PREV_KV: u8 = 1;
const IGNORE_VALUE: u8 = 2;
const IGNORE_LEASE: u8 = 4;

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

fn encode_put(out: &mut Writer, put: &Put) {
    let flags = flag(put.prev_kv, PREV_KV)
        | flag(put.ignore_value, IGNORE_VALUE)
        | flag(put.ignore_lease, IGNORE_LEASE);
    out.u8(flags).signed(put.lease.0).bytes(&put.key).bytes(&put.value);
}

fn decode_put(input: &mut Reader<'_>) -> Result<Put, DecodeError> {
    let flags = input.u8("flags of a put")?;
    let lease = LeaseId(input.signed("lease")?);
    Ok(Put {
        key: input.bytes("key")?.into(),
        value: input.bytes("value")?.into(),
        lease,
        prev_kv: flags & PREV_KV != 0,
        ignore_value: flags & IGNORE_VALUE != 0,
        ignore_lease: flags & IGNORE_LEASE != 0,
    })
}

fn encode_delete(out: &mut Writer, delete: &DeleteRange) {
    out.u8(flag(delete.prev_kv, PREV_KV));
    encode_range(out, &delete.range);
}

fn decode_delete(input: &mut Reader<'_>) -> Result<DeleteRange, DecodeError> {
    let flags = input.u8("flags of a deletion")?;
    Ok(DeleteRange { range: decode_range(input)?, prev_kv: flags & PREV_KV != 0 })
}

const SERIALIZABLE: u8 = 1;
const KEYS_ONLY: u8 = 2;
const COUNT_ONLY: u8 = 4;

fn encode_query(out: &mut Writer, query: &RangeQuery) {
    let flags = flag(query.serializable, SERIALIZABLE)
        | flag(query.keys_only, KEYS_ONLY)
        | flag(query.count_only, COUNT_ONLY);
    encode_range(out.u8(flags), &query.range);
    out.varint(query.limit).varint(query.revision.0);
    out.u8(match query.order {
        Order::None => 0,
        Order::Ascend => 1,
        Order::Descend => 2,
    });
    out.u8(match query.target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Created => 2,
        SortTarget::Modified => 3,
        SortTarget::Value => 4,
    });
    out.signed(query.modified_min).signed(query.modified_max);
    out.signed(query.created_min).signed(query.created_max);
}

fn decode_query(input: &mut Reader<'_>) -> Result<RangeQuery, DecodeError> {
    let flags = input.u8("flags of a range")?;
    let range = decode_range(input)?;
    let limit = input.varint("limit")?;
    let revision = Revision(input.varint("revision")?);
    let order = match input.u8("order")? {
        0 => Order::None,
        1 => Order::Ascend,
        2 => Order::Descend,
        found => return Err(unknown("order", found)),
    };
    let target = match input.u8("sort target")? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Created,
        3 => SortTarget::Modified,
        4 => SortTarget::Value,
        found => return Err(unknown("sort target", found)),
    };
    Ok(RangeQuery {
        range,
        limit,
        revision,
        order,
        target,
        serializable: flags & SERIALIZABLE != 0,
        keys_only: flags & KEYS_ONLY != 0,
        count_only: flags & COUNT_ONLY != 0,
        modified_min: input.signed("least revision")?,
        modified_max: input.signed("greatest revision")?,
        created_min: input.signed("least revision")?,
        created_max: input.signed("greatest revision")?,
    })
}

fn encode_compare(out: &mut Writer, compare: &Compare) {
    encode_range(out, &compare.range);
    out.u8(match compare.relation {
        Relation::Equal => 0,
        Relation::Greater => 1,
        Relation::Less => 2,
        Relation::NotEqual => 3,
    });
    match &compare.target {
        CompareTarget::Version(given) => out.u8(0).signed(*given),
        CompareTarget::Created(given) => out.u8(1).signed(*given),
        CompareTarget::Modified(given) => out.u8(2).signed(*given),
        CompareTarget::Value(given) => out.u8(3).bytes(given),
        CompareTarget::Lease(given) => out.u8(4).signed(*given),
    };
}

fn decode_compare(input: &mut Reader<'_>) -> Result<Compare, DecodeError> {
    let range = decode_range(input)?;
    let relation = match input.u8("relation")? {
        0 => Relation::Equal,
        1 => Relation::Greater,
        2 => Relation::Less,
        3 => Relation::NotEqual,
        found => return Err(unknown("relation", found)),
    };
    let target = match input.u8("target of a compare")? {
        0 => CompareTarget::Version(input.signed("version")?),
        1 => CompareTarget::Created(input.signed("revision")?),
        2 => CompareTarget::Modified(input.signed("revision")?),
        3 => CompareTarget::Value(input.bytes("value")?.into()),
        4 => CompareTarget::Lease(input.signed("lease")?),
        found => return Err(unknown("target of a compare", found)),
    };
    Ok(Compare { range, relation, target })
}

fn encode_txn(out: &mut Writer, txn: &Txn) {
    out.varint(txn.compares.len() as u64);
    for compare in &txn.compares {
        encode_compare(out, compare);
    }
    for branch in [&txn.success, &txn.failure] {
        out.varint(branch.len() as u64);
        for op in branch {
            match op {
                Op::Range(query) => encode_query(out.u8(1), query),
                Op::Put(put) => encode_put(out.u8(2), put),
                Op::DeleteRange(delete) => encode_delete(out.u8(3), delete),
                Op::Txn(txn) => encode_txn(out.u8(4), txn),
            }
        }
    }
}

fn decode_txn(input: &mut Reader<'_>, depth: u32) -> Result<Txn, DecodeError> {
    if depth > DEPTH_MAX {
        return Err(DecodeError::Malformed("depth of a transaction"));
    }
    let mut compares = Vec::new();
    for _ in 0..input.varint("count of compares")? {
        compares.push(decode_compare(input)?);
    }
    let mut branch = || {
        let mut ops = Vec::new();
        for _ in 0..input.varint("count of requests")? {
            ops.push(match input.u8("kind of a request")? {
                1 => Op::Range(decode_query(input)?),
                2 => Op::Put(decode_put(input)?),
                3 => Op::DeleteRange(decode_delete(input)?),
                4 => Op::Txn(decode_txn(input, depth + 1)?),
                found => return Err(unknown("kind of a request", found)),
            });
        }
        Ok(ops)
    };
    let (success, failure) = (branch()?, branch()?);
    Ok(Txn { compares, success, failure })
}

fn txn_bytes(txn: &Txn) -> usize {
    const PART: usize = 32;
    let of = |op: &Op| {
        PART + match op {
            Op::Range(query) => query.range.start().len() + query.range.range_end().len(),
            Op::Put(put) => put.key.len() + put.value.len(),
            Op::DeleteRange(delete) => delete.range.start().len() + delete.range.range_end().len(),
            Op::Txn(txn) => txn_bytes(txn),
        }
    };
    let compares = txn.compares.len() * 2 * PART;
    compares + txn.success.iter().chain(&txn.failure).map(of).sum::<usize>()
}
