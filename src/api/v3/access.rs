//! Who calls, and may they.
//!
//! Users, roles and tokens of version 3 are its own. A client shows a token, or its certificate names it. What it may do with keys is
//! decided by the state: of a write, where it is applied.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::api::context::Context;
use crate::api::v3::call::Call;
use crate::api::v3::jwt::Jwt;
use crate::api::v3::refused;
use crate::base::{lock, system_random};
use crate::model::LogTime;
use crate::mvcc::{Asker, AuthRequest, Command, Intent, KeyRange, Request, Token};
use crate::rpc::{Status, status};

const TOKEN_LETTERS: usize = 16;

/// Who makes this call. A token that this member does not know may be so new that only another one has it: that is waited for.
///
/// # Errors
/// [`status::INVALID_TOKEN`] when it shows a token that nobody knows, also where nobody has to show one.
pub(super) async fn asker(api: &Arc<Context>, call: &Call) -> Result<Asker, Status> {
    if let Some(shown) = &call.token {
        let shown = shown.to_str().map_err(|_| status::INVALID_TOKEN)?;
        if let Some(jwt) = &api.settings.jwt {
            return signed(api, jwt, shown).await;
        }
        if let Some(asker) = bearer(api, shown) {
            return Ok(asker);
        }
        api.replica.read_barrier().await.map_err(refused::unavailable)?;
        return bearer(api, shown).ok_or(status::INVALID_TOKEN);
    }
    Ok(match &call.certificate {
        Some(name) => {
            let revision = api.replica.view().store.mvcc().auth().revision();
            Asker::User { name: name.0.to_string(), revision }
        }
        None => Asker::Nobody,
    })
}

/// Whose signed token this is. It may say more of users and roles than this member knows: that is waited for, so that no member
/// refuses what the one that gave the token allows.
async fn signed(api: &Context, jwt: &Jwt, shown: &str) -> Result<Asker, Status> {
    let bearer = jwt.bearer(shown, api.replica.wall());
    let (name, revision) = bearer.ok_or(status::INVALID_TOKEN)?;
    if revision > api.replica.view().store.mvcc().auth().revision() {
        api.replica.read_barrier().await.map_err(refused::unavailable)?;
    }
    Ok(Asker::User { name, revision })
}

/// Whose token this is, by what this member knows.
fn bearer(api: &Arc<Context>, shown: &str) -> Option<Asker> {
    let view = api.replica.view();
    let (auth, now) = (view.store.mvcc().auth(), api.replica.now());
    let token = auth.token(shown, now)?;
    keep(api, shown, token, now);
    Some(Asker::User { name: token.user.to_string(), revision: auth.revision() })
}

/// May the caller do this with these keys, by what this member knows?
///
/// # Errors
/// As [`mvcc::Auth::check`](crate::mvcc::Auth::check).
pub(super) fn check(
    api: &Context,
    asker: &Asker,
    intent: Intent,
    range: &KeyRange,
) -> Result<(), Status> {
    let view = api.replica.view();
    view.store.mvcc().auth().check(asker, intent, range).map_err(refused::mvcc)
}

/// Who makes this call, if they may do everything with version 3.
///
/// # Errors
/// [`status::PERMISSION_DENIED`], and as [`asker`].
pub(super) async fn administrator(api: &Arc<Context>, call: &Call) -> Result<Asker, Status> {
    let asker = asker(api, call).await?;
    api.replica.view().store.mvcc().auth().check_admin(&asker).map_err(refused::mvcc)?;
    Ok(asker)
}

/// Who makes this call, if they may manage the cluster. Where only users of version 2 count, nobody can show here that they may:
/// what they protect must not be open on another way.
///
/// # Errors
/// As [`administrator`].
pub(super) async fn manager(api: &Arc<Context>, call: &Call) -> Result<Asker, Status> {
    let asker = administrator(api, call).await?;
    let view = api.replica.view();
    if view.store.auth().enabled() && !view.store.mvcc().auth().enabled() {
        return Err(status::PERMISSION_DENIED);
    }
    Ok(asker)
}

/// A token that nobody can guess, of etcd's form: letters, and how far the log is.
pub(super) fn new_token(api: &Context) -> String {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl";
    let mut token = String::with_capacity(TOKEN_LETTERS + 8);
    let mut random = 0;
    for place in 0..TOKEN_LETTERS {
        // Six bits each; ten of them are in a number.
        if place % 10 == 0 {
            random = system_random();
        }
        token.push(char::from(LETTERS[(random & 63) as usize]));
        random >>= 6;
    }
    format!("{token}.{}", api.replica.status().applied.0)
}

/// Tokens whose use is on its way through the log.
#[derive(Debug, Default)]
pub(in crate::api) struct Kept(Mutex<BTreeSet<String>>);

/// A token that is used lives on. That is said when half of its life is over, so that most calls need no place in the log.
fn keep(api: &Arc<Context>, shown: &str, token: &Token, now: LogTime) {
    let half = Duration::from_secs(token.ttl_s) / 2;
    let left = Duration::from_nanos(token.expires.0.saturating_sub(now.0));
    if left > half || !lock(&api.kept_tokens.0).insert(shown.to_owned()) {
        return;
    }
    let (api, token) = (Arc::clone(api), shown.to_owned());
    tokio::spawn(async move {
        let request = AuthRequest::KeepTokens { tokens: vec![token.clone()] };
        let command = Command::internal(Request::Auth(request));
        // If it fails, the next use says it again.
        let _ = api.replica.write(crate::store::Command::Mvcc(command)).await;
        lock(&api.kept_tokens.0).remove(&token);
    });
}
