//! Users, roles and tokens, and who may do what.

use proptest::prelude::*;

use super::{put, reloaded};
use crate::model::{PasswordHash, Reader, Writer};
use crate::mvcc::*;

const ROOT_ASKS: fn(&Mvcc) -> Asker = |mvcc| user("root", mvcc);

fn user(name: &str, mvcc: &Mvcc) -> Asker {
    Asker::User { name: name.to_owned(), revision: mvcc.auth().revision() }
}

fn change(mvcc: &mut Mvcc, request: AuthRequest) -> Result<AuthReply, Refusal> {
    let asker = ROOT_ASKS(mvcc);
    let reply = mvcc.apply(LogTime(1), &Command { asker, request: Request::Auth(request) }).reply;
    reply.map(|reply| {
        let Reply::Auth(reply) = reply else { panic!("{reply:?}") };
        reply
    })
}

fn ask(mvcc: &mut Mvcc, asker: Asker, request: Request) -> Result<Reply, Refusal> {
    mvcc.apply(LogTime(1), &Command { asker, request }).reply
}

fn add_user(name: &str) -> AuthRequest {
    AuthRequest::UserAdd { name: name.to_owned(), password: Some(PasswordHash::new("h")) }
}

fn grant_role(user: &str, role: &str) -> AuthRequest {
    AuthRequest::UserGrantRole { user: user.to_owned(), role: role.to_owned() }
}

fn range(from: &str, to: &str) -> KeyRange {
    KeyRange::new(from.as_bytes().into(), to.as_bytes().into())
}

fn grant(role: &str, kind: PermissionKind, from: &str, to: &str) -> AuthRequest {
    let permission = Permission { kind, range: range(from, to) };
    AuthRequest::RoleGrantPermission { role: role.to_owned(), permission }
}

/// Root, and `u` with the role `r`.
fn enabled() -> Mvcc {
    let mut mvcc = Mvcc::default();
    for request in [
        add_user("root"),
        grant_role("root", "root"),
        add_user("u"),
        AuthRequest::RoleAdd { name: "r".to_owned() },
        grant_role("u", "r"),
        AuthRequest::Enable,
    ] {
        assert_eq!(change(&mut mvcc, request), Ok(AuthReply::Done));
    }
    mvcc
}

#[test]
fn enabling_needs_root_with_its_role_and_both_stay() {
    let mut mvcc = Mvcc::default();
    assert_eq!(change(&mut mvcc, AuthRequest::Enable), Err(Refusal::RootUserMissing));
    change(&mut mvcc, add_user("root")).unwrap();
    assert_eq!(change(&mut mvcc, AuthRequest::Enable), Err(Refusal::RootRoleMissing));
    change(&mut mvcc, grant_role("root", "root")).unwrap();
    change(&mut mvcc, AuthRequest::Enable).unwrap();
    let revision = mvcc.auth().revision();
    assert_eq!(change(&mut mvcc, AuthRequest::Enable), Ok(AuthReply::Done));
    assert_eq!(mvcc.auth().revision(), revision, "again is nothing");
    let invalid = Err(Refusal::InvalidAuthManagement);
    let delete = AuthRequest::UserDelete { name: "root".to_owned() };
    assert_eq!(change(&mut mvcc, delete), invalid);
    let (user, role) = ("root".to_owned(), "root".to_owned());
    assert_eq!(change(&mut mvcc, AuthRequest::UserRevokeRole { user, role }), invalid);
    assert_eq!(change(&mut mvcc, AuthRequest::RoleDelete { name: "root".to_owned() }), invalid);
    assert_eq!(mvcc.revision(), Revision::FIRST, "users take no revision of the keys");
}

#[test]
fn names_that_are_missing_taken_or_unknown_are_refused() {
    let mut mvcc = enabled();
    let name = |name: &str| name.to_owned();
    for (request, refusal) in [
        (add_user(""), Refusal::UserEmpty),
        (add_user("u"), Refusal::UserExists),
        (AuthRequest::UserDelete { name: name("x") }, Refusal::UserNotFound),
        (grant_role("x", "r"), Refusal::UserNotFound),
        (grant_role("u", "x"), Refusal::RoleNotFound),
        (AuthRequest::UserRevokeRole { user: name("u"), role: name("x") }, Refusal::RoleNotGranted),
        (AuthRequest::RoleAdd { name: name("") }, Refusal::RoleEmpty),
        (AuthRequest::RoleAdd { name: name("r") }, Refusal::RoleExists),
        (AuthRequest::RoleDelete { name: name("x") }, Refusal::RoleNotFound),
        (grant("x", PermissionKind::Read, "a", ""), Refusal::RoleNotFound),
        (
            AuthRequest::RoleRevokePermission { role: name("r"), range: range("a", "") },
            Refusal::PermissionNotGranted,
        ),
    ] {
        let before = mvcc.auth().revision();
        assert_eq!(change(&mut mvcc, request.clone()), Err(refusal), "{request:?}");
        assert_eq!(mvcc.auth().revision(), before);
    }
    // A role takes its permissions and its users' grants along.
    change(&mut mvcc, AuthRequest::RoleDelete { name: name("r") }).unwrap();
    assert!(mvcc.auth().user("u").unwrap().roles.is_empty());
}

#[test]
fn permissions_of_several_roles_cover_a_range_together() {
    let mut mvcc = enabled();
    change(&mut mvcc, AuthRequest::RoleAdd { name: "s".to_owned() }).unwrap();
    change(&mut mvcc, grant_role("u", "s")).unwrap();
    change(&mut mvcc, grant("r", PermissionKind::Read, "a", "c")).unwrap();
    change(&mut mvcc, grant("s", PermissionKind::ReadWrite, "c", "e")).unwrap();
    change(&mut mvcc, grant("s", PermissionKind::Read, "k", "")).unwrap();
    change(&mut mvcc, grant("s", PermissionKind::Write, "x", "\0")).unwrap();
    let asker = user("u", &mvcc);
    for (intent, from, to, allowed) in [
        (Intent::Read, "b", "d", true),
        (Intent::Read, "a", "e", true),
        (Intent::Read, "a", "e\0", false),
        (Intent::Read, "A", "b", false),
        (Intent::Write, "b", "d", false),
        (Intent::Write, "c", "e", true),
        (Intent::Write, "d", "", true),
        (Intent::Write, "e", "", false),
        (Intent::Read, "k", "", true),
        (Intent::Read, "k", "k\0", true),
        (Intent::Read, "k", "l", false),
        (Intent::Write, "y", "\0", true),
        (Intent::Write, "w", "\0", false),
        (Intent::Read, "y", "", false),
        (Intent::Read, "a", "\0", false),
    ] {
        let found = mvcc.auth().check(&asker, intent, &range(from, to));
        let expected = if allowed { Ok(()) } else { Err(Refusal::PermissionDenied) };
        assert_eq!(found, expected, "{intent:?} {from} {to}");
    }
    // The same keys again: in place of what was permitted before.
    change(&mut mvcc, grant("s", PermissionKind::Read, "c", "e")).unwrap();
    let asker = user("u", &mvcc);
    let denied = mvcc.auth().check(&asker, Intent::Write, &range("c", ""));
    assert_eq!(denied, Err(Refusal::PermissionDenied));
}

#[test]
fn writes_are_checked_when_they_are_applied() {
    let mut mvcc = enabled();
    change(&mut mvcc, grant("r", PermissionKind::Write, "a", "c")).unwrap();
    let u = user("u", &mvcc);
    let denied = Err(Refusal::PermissionDenied);
    let done = Ok(Reply::Put { prev: None });
    assert_eq!(ask(&mut mvcc, u.clone(), Request::Put(put("a", "1"))), done);
    assert_eq!(ask(&mut mvcc, u.clone(), Request::Put(put("c", "1"))), denied);
    let shown = Put { prev_kv: true, ..put("a", "1") };
    assert_eq!(ask(&mut mvcc, u.clone(), Request::Put(shown)), denied, "that is a read");
    assert_eq!(ask(&mut mvcc, Asker::Nobody, Request::Put(put("a", "1"))), Err(Refusal::UserEmpty));
    assert_eq!(ask(&mut mvcc, Asker::Internal, Request::Put(put("c", "1"))), done);
    // Both branches count, and what is inside.
    let inside = Op::Txn(Txn { failure: vec![Op::Put(put("c", "2"))], ..Txn::default() });
    let txn = Txn { failure: vec![inside], ..Txn::default() };
    assert_eq!(ask(&mut mvcc, u.clone(), Request::Txn(txn)), denied);
    // A lease on which another one's key hangs is not for this user.
    let lease = LeaseId(5);
    ask(&mut mvcc, u.clone(), Request::LeaseGrant { id: lease, ttl_s: 9 }).unwrap();
    ask(&mut mvcc, u.clone(), Request::Put(Put { lease, ..put("a", "2") })).unwrap();
    let root = ROOT_ASKS(&mvcc);
    ask(&mut mvcc, root, Request::Put(Put { lease, ..put("z", "2") })).unwrap();
    let hang = Put { lease, ..put("b", "2") };
    assert_eq!(ask(&mut mvcc, u.clone(), Request::Put(hang)), denied);
    assert_eq!(ask(&mut mvcc, u.clone(), Request::LeaseRevoke(lease)), denied);
    assert_eq!(ask(&mut mvcc, u.clone(), Request::Auth(AuthRequest::Disable)), denied);
    // Whatever was concluded from users before they changed is looked at anew.
    change(&mut mvcc, add_user("v")).unwrap();
    assert_eq!(ask(&mut mvcc, u, Request::Put(put("a", "1"))), Err(Refusal::AuthOldRevision));
}

#[test]
fn a_token_lives_as_long_as_it_is_used_and_its_user_stays_the_same() {
    const S: u64 = 1_000_000_000;
    let mut mvcc = enabled();
    let authenticate = |mvcc: &mut Mvcc, at, name: &str, token: &str| {
        let revision = mvcc.auth().revision();
        let (name, token) = (name.to_owned(), token.to_owned());
        let request = AuthRequest::Authenticate { name, token, revision, ttl_s: 300 };
        mvcc.apply(LogTime(at), &Command::internal(Request::Auth(request))).reply
    };
    let keep = |mvcc: &mut Mvcc, at, token: &str| {
        let tokens = vec![token.to_owned(), "unknown".to_owned()];
        let request = Request::Auth(AuthRequest::KeepTokens { tokens });
        mvcc.apply(LogTime(at), &Command::internal(request)).reply.unwrap();
    };
    let known = |mvcc: &Mvcc, at, token: &str| {
        mvcc.auth().token(token, LogTime(at)).map(|token| token.user.to_string())
    };
    assert_eq!(authenticate(&mut mvcc, 0, "x", "t"), Err(Refusal::AuthFailed));
    authenticate(&mut mvcc, 0, "u", "t").unwrap();
    authenticate(&mut mvcc, 0, "u", "idle").unwrap();
    assert_eq!(known(&mvcc, 299 * S, "t").as_deref(), Some("u"));
    assert_eq!(known(&mvcc, 300 * S, "t"), None);
    keep(&mut mvcc, 200 * S, "t");
    assert_eq!(known(&mvcc, 499 * S, "t").as_deref(), Some("u"));
    assert_eq!(known(&reloaded(&mvcc), 499 * S, "t").as_deref(), Some("u"));
    keep(&mut mvcc, 499 * S, "t");
    keep(&mut mvcc, 499 * S, "idle");
    assert_eq!(known(&mvcc, 499 * S, "idle"), None, "it was too late for this one");
    let name = "u".to_owned();
    change(&mut mvcc, AuthRequest::UserChangePassword { name, password: None }).unwrap();
    assert_eq!(known(&mvcc, 500 * S, "t"), None);
    authenticate(&mut mvcc, 500 * S, "u", "t2").unwrap();
    change(&mut mvcc, AuthRequest::Disable).unwrap();
    assert_eq!(known(&mvcc, 500 * S, "t2"), None);
    assert_eq!(authenticate(&mut mvcc, 500 * S, "u", "t3"), Err(Refusal::AuthDisabled));
}

fn auth_requests() -> impl Strategy<Value = AuthRequest> {
    let names = || prop_oneof![Just("root"), Just("u"), Just("v"), Just("")].prop_map(String::from);
    let passwords = prop::option::of(Just(PasswordHash::new("h")));
    let kinds = prop_oneof![
        Just(PermissionKind::Read),
        Just(PermissionKind::Write),
        Just(PermissionKind::ReadWrite),
    ];
    let ranges = ("[abc]", prop_oneof![Just("".to_owned()), Just("\0".to_owned()), "[abc]"]);
    (0u8..13, names(), names(), passwords, kinds, ranges).prop_map(
        |(which, name, other, password, kind, (from, to))| {
            let range = range(&from, &to);
            match which {
                0 => AuthRequest::Enable,
                1 => AuthRequest::Disable,
                2 => AuthRequest::UserAdd { name, password },
                3 => AuthRequest::UserDelete { name },
                4 => AuthRequest::UserChangePassword { name, password },
                5 => AuthRequest::UserGrantRole { user: name, role: other },
                6 => AuthRequest::UserRevokeRole { user: name, role: other },
                7 => AuthRequest::RoleAdd { name },
                8 => AuthRequest::RoleDelete { name },
                9 => AuthRequest::RoleGrantPermission {
                    role: name,
                    permission: Permission { kind, range },
                },
                10 => AuthRequest::RoleRevokePermission { role: name, range },
                11 => AuthRequest::Authenticate {
                    name,
                    token: other,
                    revision: AuthRevision(9),
                    ttl_s: 5,
                },
                _ => AuthRequest::KeepTokens { tokens: vec![name] },
            }
        },
    )
}

proptest! {
    #[test]
    fn users_survive_a_restart(requests in prop::collection::vec(auth_requests(), 0..30)) {
        let mut mvcc = Mvcc::default();
        for request in requests {
            let mut out = Writer::default();
            let command = Command::internal(Request::Auth(request));
            command.encode(&mut out);
            prop_assert_eq!(&Command::decode(&mut Reader::new(&out.finish())).unwrap(), &command);
            let before = mvcc.auth().revision();
            let applied = mvcc.apply(LogTime(1), &command);
            prop_assert!(applied.reply.is_ok() || mvcc.auth().revision() == before);
            prop_assert!(!mvcc.auth().enabled() || mvcc.auth().user("root").is_some());
        }
        prop_assert_eq!(reloaded(&mvcc).digest(0), mvcc.digest(0));
    }
}
