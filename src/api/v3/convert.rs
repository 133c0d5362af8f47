//! Messages to and from what the store knows.

use bytes::Bytes;

use crate::api::context::Context;
use crate::model::Value;
use crate::mvcc::{self, KeyRange, LeaseId, OpReply, RangeQuery, Revision};
use crate::rpc::{self, Code, Request, ResponseHeader, Status, TargetUnion, status};

/// The header of an answer that was true at this revision.
pub(super) fn header(api: &Context, at: Revision) -> ResponseHeader {
    let member = api.replica.member();
    ResponseHeader {
        cluster_id: member.cluster.0,
        member_id: member.id.0,
        revision: revision(at),
        raft_term: api.replica.status().leadership.term.0,
    }
}

/// The header of an answer inside of a transaction.
fn inner_header(at: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: revision(at), ..ResponseHeader::default() })
}

pub(super) fn revision(at: Revision) -> i64 {
    signed(at.0)
}

/// What is not above zero is none.
pub(super) fn revision_of(asked: i64) -> Revision {
    Revision(unsigned(asked))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Never a slice of what the connection has read, which it would pin whole.
fn value(bytes: &Bytes) -> Value {
    Value::from(&bytes[..])
}

fn bytes(value: &Value) -> Bytes {
    Bytes::copy_from_slice(value)
}

/// The keys that a message means.
pub(super) fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::new(value(key), value(range_end))
}

pub(super) fn key_value(kv: &mvcc::KeyValue) -> rpc::KeyValue {
    rpc::KeyValue {
        key: bytes(&kv.key),
        create_revision: revision(kv.created),
        mod_revision: revision(kv.modified),
        version: signed(kv.version),
        value: bytes(&kv.value),
        lease: kv.lease.0,
    }
}

/// What a read asks for. As in etcd, an order that nobody knows is none.
pub(super) fn range(request: &rpc::RangeRequest) -> RangeQuery {
    let order = match rpc::SortOrder::try_from(request.sort_order) {
        Ok(rpc::SortOrder::Ascend) => mvcc::Order::Ascend,
        Ok(rpc::SortOrder::Descend) => mvcc::Order::Descend,
        Ok(rpc::SortOrder::None) | Err(_) => mvcc::Order::None,
    };
    let target = match rpc::SortTarget::try_from(request.sort_target) {
        Ok(rpc::SortTarget::Version) => mvcc::SortTarget::Version,
        Ok(rpc::SortTarget::Create) => mvcc::SortTarget::Created,
        Ok(rpc::SortTarget::Mod) => mvcc::SortTarget::Modified,
        Ok(rpc::SortTarget::Value) => mvcc::SortTarget::Value,
        Ok(rpc::SortTarget::Key) | Err(_) => mvcc::SortTarget::Key,
    };
    RangeQuery {
        range: key_range(&request.key, &request.range_end),
        limit: unsigned(request.limit),
        revision: revision_of(request.revision),
        order,
        target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        modified_min: request.min_mod_revision,
        modified_max: request.max_mod_revision,
        created_min: request.min_create_revision,
        created_max: request.max_create_revision,
    }
}

/// What a read found.
pub(super) fn range_response(
    header: Option<ResponseHeader>,
    query: &RangeQuery,
    reply: &mvcc::RangeReply,
) -> rpc::RangeResponse {
    let shown = |kv: &std::sync::Arc<mvcc::KeyValue>| match query.keys_only {
        true => rpc::KeyValue { value: Bytes::new(), ..key_value(kv) },
        false => key_value(kv),
    };
    rpc::RangeResponse {
        header,
        kvs: reply.kvs.iter().map(shown).collect(),
        more: reply.more,
        count: signed(reply.count),
    }
}

pub(super) fn put(request: &rpc::PutRequest) -> mvcc::Put {
    mvcc::Put {
        key: value(&request.key),
        value: value(&request.value),
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

pub(super) fn delete(request: &rpc::DeleteRangeRequest) -> mvcc::DeleteRange {
    mvcc::DeleteRange {
        range: key_range(&request.key, &request.range_end),
        prev_kv: request.prev_kv,
    }
}

/// A transaction.
///
/// # Errors
/// When a part of it asks for nothing, or for something that nobody knows.
pub(super) fn txn(request: &rpc::TxnRequest) -> Result<mvcc::Txn, Status> {
    Ok(mvcc::Txn {
        compares: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(&request.success)?,
        failure: ops(&request.failure)?,
    })
}

fn ops(ops: &[rpc::RequestOp]) -> Result<Vec<mvcc::Op>, Status> {
    ops.iter().map(op).collect()
}

fn op(op: &rpc::RequestOp) -> Result<mvcc::Op, Status> {
    Ok(match &op.request {
        Some(Request::Range(request)) => mvcc::Op::Range(range(request)),
        Some(Request::Put(request)) => mvcc::Op::Put(put(request)),
        Some(Request::DeleteRange(request)) => mvcc::Op::DeleteRange(delete(request)),
        Some(Request::Txn(request)) => mvcc::Op::Txn(txn(request)?),
        None => return Err(status::KEY_NOT_FOUND),
    })
}

/// The target says what is compared; what is given for another one counts as zero.
fn compare(compare: &rpc::Compare) -> Result<mvcc::Compare, Status> {
    let unknown = |what: &str, number: i32| {
        Status::with(Code::InvalidArgument, format!("etcdserver: no compare has {what} {number}"))
    };
    let relation = match rpc::CompareResult::try_from(compare.result) {
        Ok(rpc::CompareResult::Equal) => mvcc::Relation::Equal,
        Ok(rpc::CompareResult::Greater) => mvcc::Relation::Greater,
        Ok(rpc::CompareResult::Less) => mvcc::Relation::Less,
        Ok(rpc::CompareResult::NotEqual) => mvcc::Relation::NotEqual,
        Err(_) => return Err(unknown("result", compare.result)),
    };
    let given = compare.target_union.as_ref();
    let number = |given: Option<i64>| given.unwrap_or_default();
    let target = match rpc::CompareTarget::try_from(compare.target) {
        Ok(rpc::CompareTarget::Version) => mvcc::CompareTarget::Version(number(match given {
            Some(TargetUnion::Version(given)) => Some(*given),
            _ => None,
        })),
        Ok(rpc::CompareTarget::Create) => mvcc::CompareTarget::Created(number(match given {
            Some(TargetUnion::CreateRevision(given)) => Some(*given),
            _ => None,
        })),
        Ok(rpc::CompareTarget::Mod) => mvcc::CompareTarget::Modified(number(match given {
            Some(TargetUnion::ModRevision(given)) => Some(*given),
            _ => None,
        })),
        Ok(rpc::CompareTarget::Value) => mvcc::CompareTarget::Value(match given {
            Some(TargetUnion::Value(given)) => value(given),
            _ => Value::from(&b""[..]),
        }),
        Ok(rpc::CompareTarget::Lease) => mvcc::CompareTarget::Lease(number(match given {
            Some(TargetUnion::Lease(given)) => Some(*given),
            _ => None,
        })),
        Err(_) => return Err(unknown("target", compare.target)),
    };
    Ok(mvcc::Compare { range: key_range(&compare.key, &compare.range_end), relation, target })
}

/// What came of a transaction. The headers inside say only the revision.
pub(super) fn txn_response(
    header: Option<ResponseHeader>,
    txn: &mvcc::Txn,
    reply: &mvcc::TxnReply,
) -> rpc::TxnResponse {
    let branch = if reply.succeeded { &txn.success } else { &txn.failure };
    let responses = branch.iter().zip(&reply.replies).map(|(op, reply)| {
        let response = op_response(op, reply);
        rpc::ResponseOp { response: Some(response) }
    });
    rpc::TxnResponse { header, succeeded: reply.succeeded, responses: responses.collect() }
}

fn op_response(op: &mvcc::Op, reply: &OpReply) -> rpc::Response {
    match (op, reply) {
        (mvcc::Op::Range(query), OpReply::Range { revision, reply }) => {
            rpc::Response::Range(range_response(inner_header(*revision), query, reply))
        }
        (mvcc::Op::Put(_), OpReply::Put { revision, prev }) => {
            rpc::Response::Put(put_response(inner_header(*revision), prev.as_deref()))
        }
        (mvcc::Op::DeleteRange(_), OpReply::DeleteRange { revision, deleted, prev_kvs }) => {
            let header = inner_header(*revision);
            rpc::Response::DeleteRange(delete_response(header, *deleted, prev_kvs))
        }
        (mvcc::Op::Txn(txn), OpReply::Txn(reply)) => {
            rpc::Response::Txn(txn_response(Some(ResponseHeader::default()), txn, reply))
        }
        (op, reply) => unreachable!("{op:?} came to {reply:?}"),
    }
}

pub(super) fn put_response(
    header: Option<ResponseHeader>,
    prev: Option<&mvcc::KeyValue>,
) -> rpc::PutResponse {
    rpc::PutResponse { header, prev_kv: prev.map(key_value) }
}

pub(super) fn delete_response(
    header: Option<ResponseHeader>,
    deleted: u64,
    prev_kvs: &[std::sync::Arc<mvcc::KeyValue>],
) -> rpc::DeleteRangeResponse {
    let prev_kvs = prev_kvs.iter().map(|kv| key_value(kv)).collect();
    rpc::DeleteRangeResponse { header, deleted: signed(deleted), prev_kvs }
}
