//! Who may do what in etcd's version 3, when it is applied.
//!
//! Owns: where etcd asks otherwise than a member here does. Never knows: how rights cover keys (`mvcc`).
//! Holds: what etcd has answered stands. An entry counts here if it counted there, because each that counts takes a revision, and all
//! revisions behind it follow.
//!
//! | request | etcd 3.4 | a member here |
//! |---|---|---|
//! | users and roles | the role root, however old the revision of the token | a revision that is not old |
//! | compaction | nothing | a known user |
//! | transaction inside of one | nothing | as the outer one |
//! | put in a transaction | the right to write the key | also to read it for `prev_kv`, and to write what hangs on the lease |
//!
//! Source: observed on etcd 3.4.23.

use crate::mvcc::{
    Asker, Auth, DeleteRange, Intent, KeyRange, LeaseId, Mvcc, Op, Put, Refusal, Request, Txn,
};

/// May the asker do this?
///
/// # Errors
/// Why etcd refuses it.
pub(super) fn check(mvcc: &Mvcc, asker: &Asker, request: &Request) -> Result<(), Refusal> {
    let auth = mvcc.auth();
    match request {
        Request::Put(put) => {
            let key = KeyRange::Single(put.key.clone());
            auth.check(asker, Intent::Write, &key)?;
            check_lease(mvcc, asker, put.lease)?;
            if put.prev_kv { auth.check(asker, Intent::Read, &key) } else { Ok(()) }
        }
        Request::DeleteRange(delete) => check_delete(auth, asker, delete),
        Request::Txn(txn) => check_txn(auth, asker, txn),
        Request::LeaseRevoke(id) => check_lease(mvcc, asker, *id),
        Request::Auth(_) => auth.check_admin(&now(auth, asker)),
        // The last two are no entries of etcd's.
        Request::Compact(_)
        | Request::LeaseGrant { .. }
        | Request::Alarm(_)
        | Request::LeaseCheckpoint(_)
        | Request::LeaseKeepAlive { .. } => Ok(()),
    }
}

/// The asker, as if its token were of now.
fn now(auth: &Auth, asker: &Asker) -> Asker {
    match asker {
        Asker::User { name, .. } => Asker::User { name: name.clone(), revision: auth.revision() },
        Asker::Internal | Asker::Nobody => asker.clone(),
    }
}

/// Who puts on a lease or ends it may make all of its keys go.
fn check_lease(mvcc: &Mvcc, asker: &Asker, id: LeaseId) -> Result<(), Refusal> {
    let auth = mvcc.auth();
    let Some(lease) = mvcc.lease(id) else { return Ok(()) };
    if auth.check_admin(&now(auth, asker)).is_ok() {
        return Ok(());
    }
    let mut keys = lease.keys();
    keys.try_for_each(|key| auth.check(asker, Intent::Write, &KeyRange::Single(key.clone())))
}

fn check_delete(auth: &Auth, asker: &Asker, delete: &DeleteRange) -> Result<(), Refusal> {
    auth.check(asker, Intent::Write, &delete.range)?;
    if delete.prev_kv { auth.check(asker, Intent::Read, &delete.range) } else { Ok(()) }
}

fn check_txn(auth: &Auth, asker: &Asker, txn: &Txn) -> Result<(), Refusal> {
    for compare in &txn.compares {
        auth.check(asker, Intent::Read, &compare.range)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(query) => auth.check(asker, Intent::Read, &query.range)?,
            Op::Put(Put { key, .. }) => {
                auth.check(asker, Intent::Write, &KeyRange::Single(key.clone()))?;
            }
            Op::DeleteRange(delete) => check_delete(auth, asker, delete)?,
            Op::Txn(_) => {}
        }
    }
    Ok(())
}
