//! What can be refused without a look at the state: before anything goes into the log.

use std::collections::BTreeSet;

use crate::mvcc::key::KeyRange;
use crate::mvcc::request::{Compare, DeleteRange, Op, Put, RangeQuery, Refusal, Txn};

/// The longest life of a lease in seconds, as in etcd.
const TTL_S_MAX: i64 = 9_000_000_000;

/// How large a [`Txn`] may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnLimits {
    /// The most compares, and requests in each branch. What is inside of one counts against what is left.
    pub ops_max: usize,
}

/// Is it a range that can be read?
///
/// # Errors
/// [`Refusal::KeyEmpty`].
pub fn check_range(query: &RangeQuery) -> Result<(), Refusal> {
    check_key(query.range.start())
}

/// Is it a put that can be done?
///
/// # Errors
/// [`Refusal::KeyEmpty`], [`Refusal::ValueProvided`] and [`Refusal::LeaseProvided`].
pub fn check_put(put: &Put) -> Result<(), Refusal> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if put.ignore_lease && !put.lease.is_none() {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Is it a range that can be deleted?
///
/// # Errors
/// [`Refusal::KeyEmpty`].
pub fn check_delete(delete: &DeleteRange) -> Result<(), Refusal> {
    check_key(delete.range.start())
}

/// Is it a life that a lease can have?
///
/// # Errors
/// [`Refusal::TtlTooLarge`].
pub fn check_lease_grant(ttl_s: i64) -> Result<(), Refusal> {
    if ttl_s > TTL_S_MAX { Err(Refusal::TtlTooLarge) } else { Ok(()) }
}

/// Is it a transaction that can be done: not too large, each part well formed, no key written twice?
///
/// # Errors
/// [`Refusal::TooManyOps`], [`Refusal::DuplicateKey`], and as the other checks.
pub fn check_txn(txn: &Txn, limits: TxnLimits) -> Result<(), Refusal> {
    check_parts(txn, limits.ops_max)?;
    for branch in [&txn.success, &txn.failure] {
        writes(branch)?;
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::KeyEmpty) } else { Ok(()) }
}

fn check_parts(txn: &Txn, ops_max: usize) -> Result<(), Refusal> {
    let ops = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    let left = ops_max.checked_sub(ops).ok_or(Refusal::TooManyOps)?;
    for Compare { range, .. } in &txn.compares {
        check_key(range.start())?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(query) => check_range(query)?,
            Op::Put(put) => check_put(put)?,
            Op::DeleteRange(delete) => check_delete(delete)?,
            Op::Txn(txn) => check_parts(txn, left)?,
        }
    }
    Ok(())
}

/// What a branch may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Writes<'a> {
    /// Adds puts, none of which may be there or deleted.
    fn add_puts(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Refusal> {
        for key in keys {
            let is_deleted = self.deletes.iter().any(|range| range.contains(key));
            if is_deleted || !self.puts.insert(key) {
                return Err(Refusal::DuplicateKey);
            }
        }
        Ok(())
    }
}

/// What a branch and all in it may write; no key twice, but by the two branches of one inside. As in etcd, two kinds of
/// deletions do not count, and delete in the same revision what was put before: those without an end, and those inside of a
/// transaction behind the one that puts.
fn writes(branch: &[Op]) -> Result<Writes<'_>, Refusal> {
    let mut all = Writes::default();
    for op in branch {
        if let Op::DeleteRange(delete) = op
            && !matches!(delete.range, KeyRange::From(_))
        {
            all.deletes.push(&delete.range);
        }
    }
    for op in branch {
        let Op::Txn(txn) = op else { continue };
        let (success, failure) = (writes(&txn.success)?, writes(&txn.failure)?);
        // Only one of the two is done.
        all.add_puts(success.puts.union(&failure.puts).copied())?;
        all.deletes.extend(success.deletes.iter().chain(&failure.deletes));
    }
    let puts = branch.iter().filter_map(|op| match op {
        Op::Put(put) => Some(&*put.key),
        Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_) => None,
    });
    all.add_puts(puts)?;
    Ok(all)
}
