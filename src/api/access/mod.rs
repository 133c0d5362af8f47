//! Who asks, and may they.
//!
//! Owns: what a client shows of itself (a header, the name in its certificate) and whether that is true. What it may then do is
//! decided by the store's one decision, on the state that the answer comes from. Never knows: what is done with the permission.
//! Holds: while the feature is off nothing of a request is looked at; a password is compared away from the threads that serve.
//!
//! | file | what is in it |
//! |---|---|
//! | `basic.rs` | the `Authorization` header |
//! | `passwords.rs` | comparing and hashing passwords: how many at once, which ones are known to be right |
//! | `failures.rs` | the pause behind wrong passwords, by user and address |

mod basic;
mod failures;
mod passwords;

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;

use crate::api::context::Context;
use crate::model::Unavailable;
use crate::raft::View;
use crate::store::{Access, Asker, Identity};

pub(super) use passwords::Passwords;

/// The common name in the verified certificate of a connection's client: an extension of its requests. It is there only where
/// `--client-cert-auth` gives it a meaning.
#[derive(Clone, Debug)]
pub struct ClientName(pub Arc<str>);

/// Where a request comes from: an extension of it. Without one, wrong passwords of all clients are counted together.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// What a request shows of who asks, if it shows anything.
pub(super) trait Credentials: Send + Sync {
    /// The head with them; `None` of a request without.
    fn head(&self) -> Option<&Parts>;
}

impl Credentials for Parts {
    fn head(&self) -> Option<&Parts> {
        Some(self)
    }
}

/// A request without credentials, whose head need not be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anonymous;

impl Credentials for Anonymous {
    fn head(&self) -> Option<&Parts> {
        None
    }
}

/// Why a request goes no further.
#[derive(Debug)]
pub(super) enum Denied {
    /// It has no right to what it wants, or is not who it says it is. A client is not told which.
    Insufficient,
    /// It is not known.
    Unavailable(Unavailable),
}

/// Finds out who asks. Everybody is a guest while the feature is off, and so is who shows no credentials.
///
/// Returns the state in which that was found; it may be newer than the request.
pub(super) async fn asker(
    api: &Context,
    credentials: &impl Credentials,
) -> Result<(Arc<View>, Asker), Denied> {
    let view = api.replica.view();
    let auth = view.store.auth();
    api.replica.reads().count_auth_lookup(auth.prepared());
    let Some(head) = credentials.head().filter(|_| auth.enabled()) else {
        return Ok((view, Asker::Guest));
    };
    // As in etcd, a header that is there is all that counts: what is wrong in it cannot be made good by a certificate or by
    // what guests may do.
    let Some(header) = basic::header(&head.headers) else {
        let asker = named(&view, head).map_or(Asker::Guest, Asker::User);
        return Ok((view, asker));
    };
    if let Some(identity) = api.passwords.known(auth, header) {
        return Ok((view, Asker::User(identity)));
    }
    let address = head.extensions.get::<ClientAddress>().map(|address| address.0);
    let check = api.passwords.check(auth, header, address).ok_or(Denied::Insufficient)?;
    drop(view);
    // Boxed: few requests come here, and all would have to hold the room for it.
    let shown = Box::pin(check).await.map_err(Denied::Unavailable)?;
    let identity = shown.ok_or(Denied::Insufficient)?;
    Ok((api.replica.view(), Asker::User(identity)))
}

/// The user that the client's certificate names, if there is one.
fn named(view: &View, head: &Parts) -> Option<Arc<Identity>> {
    let ClientName(name) = head.extensions.get::<ClientName>()?;
    view.store.auth().user(name)?;
    Some(Arc::new(Identity { name: (&**name).into(), password: None }))
}

/// For the test that counts what reading costs: whether this is a name with a password.
#[cfg(test)]
pub(super) fn is_signed(header: &[u8]) -> bool {
    basic::read(header).is_some()
}

/// For the fuzzer: a name and a password that were read are those that clients would write so.
#[cfg(any(test, fuzzing))]
pub(super) fn read_header(header: &[u8]) {
    if let Some(claim) = basic::read(header) {
        let again = basic::read(&basic::header_of(&claim)).expect("what is written so is read");
        assert!(claim.user == again.user && claim.password == again.password);
    }
}

/// Who asks, if they may do this; and the state in which that is so.
pub(super) async fn admitted(
    api: &Context,
    credentials: &impl Credentials,
    access: &Access,
) -> Result<(Arc<View>, Asker), Denied> {
    let (view, asker) = asker(api, credentials).await?;
    if view.store.allows(&asker, access) { Ok((view, asker)) } else { Err(Denied::Insufficient) }
}

/// May this client change users, roles and members? Waits for a member that has just started and does not know it yet.
pub(super) async fn manages(api: &Context, head: &Parts) -> Result<(), Denied> {
    api.replica.until_decided().await.map_err(Denied::Unavailable)?;
    let (view, asker) = asker(api, head).await?;
    if view.store.auth().allows_management(&asker) { Ok(()) } else { Err(Denied::Insufficient) }
}
