//! Entries of version 3: what they do to its key space.
//!
//! Version 3 begins with what was read from its own file, which has come as far as some entry: those behind it count, wherever the
//! snapshot of version 2 is.

use crate::etcd::entry::{Asked, EntryKind, Wrapped};
use crate::etcd::passwords::Hashing;
use crate::etcd::replay::{Replay, ReplayError};
use crate::etcd::requests::{Given, Meant};
use crate::etcd::rights;
use crate::mvcc::{self, AuthRequest, Mvcc};
use crate::store::{Applied, Command};

/// What entries of version 3 were, behind those that its file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoneThree {
    /// Changes that went through.
    pub changes: u64,
    /// Requests that were refused, as they were then.
    pub refused: u64,
}

/// Version 3 so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Three {
    /// Entries up to this one are in it.
    behind: u64,
    hashing: Hashing,
    done: DoneThree,
}

impl Replay {
    /// Takes version 3 along: it begins with `mvcc`, in which the entries up to `behind` are.
    pub fn take_version_three(&mut self, mvcc: Mvcc, behind: u64, hashing: Hashing) {
        self.keys.set_mvcc(mvcc);
        self.three = Some(Three { behind, hashing, done: DoneThree::default() });
    }

    /// Applies only what the entry at `index` does to version 3: version 2 has it already.
    ///
    /// # Errors
    /// See [`ReplayError`]; nothing has changed then.
    pub fn entry_of_version_three(
        &mut self,
        index: u64,
        kind: EntryKind,
        data: &[u8],
    ) -> Result<(), ReplayError> {
        if kind == EntryKind::Normal
            && let Asked::VersionThree(wrapped) = Asked::decode(data)?
        {
            self.version_three(index, &wrapped)?;
        }
        Ok(())
    }

    pub(super) fn version_three(
        &mut self,
        index: u64,
        wrapped: &Wrapped<'_>,
    ) -> Result<(), ReplayError> {
        let Some(three) = self.three.filter(|three| index > three.behind) else { return Ok(()) };
        let (asker, meant) = (wrapped.asker()?, wrapped.meant()?);
        let request = match meant {
            Meant::Nothing => return Ok(()),
            Meant::Change(request) => request,
            Meant::Password { user, is_new, given } => {
                let known = self.keys.mvcc().auth().user(&user);
                let password = match given {
                    // Who has no password gets none.
                    _ if known.is_some_and(|known| known.password.is_none()) => None,
                    Given::None => None,
                    Given::Hash(hash) => Some(hash),
                    Given::Text(text) => Some(three.hashing.hash(index, &user, &text)),
                };
                mvcc::Request::Auth(match is_new {
                    true => AuthRequest::UserAdd { name: user, password },
                    false => AuthRequest::UserChangePassword { name: user, password },
                })
            }
        };
        let is_taken = self.is_taken(&asker, request);
        if let Some(three) = self.three.as_mut() {
            match is_taken {
                true => three.done.changes += 1,
                false => three.done.refused += 1,
            }
        }
        Ok(())
    }

    /// Applies a request of version 3, if etcd lets the asker do it; says whether it went through.
    fn is_taken(&mut self, asker: &mvcc::Asker, request: mvcc::Request) -> bool {
        let is_too_long = if let mvcc::Request::LeaseGrant { ttl_s, .. } = &request {
            mvcc::check_lease_grant(*ttl_s).is_err()
        } else {
            false
        };
        if is_too_long || rights::check(self.keys.mvcc(), asker, &request).is_err() {
            return false;
        }
        let command = Command::Mvcc(mvcc::Command::internal(request));
        let applied = self.keys.replay(self.latest, &command, None);
        let Applied::Mvcc(applied) = applied else {
            unreachable!("a change of version 3 came to {applied:?}")
        };
        applied.reply.is_ok()
    }

    /// What entries of version 3 were; `None` while it is left out.
    pub fn done_three(&self) -> Option<DoneThree> {
        self.three.map(|three| three.done)
    }

    /// Version 3 so far.
    pub fn mvcc(&self) -> &Mvcc {
        self.keys.mvcc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::proto::Message;
    use crate::store::HistoryLimits;

    const LIMITS: HistoryLimits = HistoryLimits { events_max: 100, bytes_max: 1 << 20 };

    /// An entry of version 3 of this user, whose token is of this revision of users.
    fn three(number: u64, body: Message, (user, revision): (&str, u64)) -> Vec<u8> {
        let header = Message::default().varint(1, 9).bytes(2, user.as_bytes());
        let header = header.varint(3, revision).finish();
        Message::default().bytes(number, &body.finish()).bytes(100, &header).finish()
    }

    const NOBODY: (&str, u64) = ("", 0);
    const PUT: u64 = 4;
    const TXN: u64 = 6;

    fn put_three(key: &str) -> Message {
        Message::default().bytes(1, key.as_bytes()).bytes(2, b"v")
    }

    fn begin() -> Replay {
        let mut replay = Replay::new(LIMITS);
        replay.take_version_three(Mvcc::default(), 10, Hashing::for_tests());
        replay
    }

    /// Applies such an entry; says whether it went through.
    fn goes(replay: &mut Replay, number: u64, body: Message, asker: (&str, u64)) -> bool {
        let before = replay.done_three().unwrap();
        let data = three(number, body, asker);
        replay.entry(11, EntryKind::Normal, &data).expect("it is understood");
        let done = replay.done_three().unwrap();
        assert_eq!(done.changes + done.refused, before.changes + before.refused + 1);
        done.changes > before.changes
    }

    #[test]
    fn version_three_goes_on_behind_the_entry_that_its_file_has() {
        let mut replay = begin();
        let data = three(PUT, put_three("a"), NOBODY);
        for index in [9, 10, 11, 12] {
            replay.entry(index, EntryKind::Normal, &data).unwrap();
        }
        assert_eq!((replay.mvcc().revision().0, replay.index().0), (3, 0));
        assert_eq!((replay.done().version_three, replay.done_three().unwrap().changes), (4, 2));
        // What version 2 has already counts for version 3 alone.
        replay.entry_of_version_three(13, EntryKind::Normal, &data).unwrap();
        let two = Message::default().bytes(2, b"PUT").bytes(3, b"/1/a").bytes(4, b"v").finish();
        replay.entry_of_version_three(14, EntryKind::Normal, &two).unwrap();
        assert_eq!((replay.mvcc().revision().0, replay.index().0), (4, 0));
        let mut without = Replay::new(LIMITS);
        without.entry(11, EntryKind::Normal, &data).unwrap();
        assert!(without.mvcc().is_untouched() && without.done_three().is_none());
    }

    #[test]
    fn what_was_refused_is_refused_again() {
        let mut replay = begin();
        let lease = |id: u64, ttl: u64| Message::default().varint(1, ttl).varint(2, id);
        let on_lease = |key: &str, id| put_three(key).varint(3, id);
        assert!(!goes(&mut replay, PUT, on_lease("a", 5), NOBODY), "there is no lease");
        assert!(goes(&mut replay, 8, lease(5, 1), NOBODY));
        assert!(!goes(&mut replay, 8, lease(5, 9), NOBODY), "it is there");
        assert!(!goes(&mut replay, 8, lease(6, 9_000_000_001), NOBODY), "it is too long");
        assert_eq!(replay.mvcc().lease(mvcc::LeaseId(5)).unwrap().ttl_s(), 2, "the shortest");
        assert!(goes(&mut replay, PUT, on_lease("a", 5), NOBODY));
        let ignore = put_three("b").varint(5, 1);
        assert!(!goes(&mut replay, PUT, ignore, NOBODY), "there is no such key");
        assert!(!goes(&mut replay, 7, Message::default().varint(1, 3), NOBODY), "the future");
        assert!(goes(&mut replay, 7, Message::default().varint(1, 2), NOBODY));
        assert!(!goes(&mut replay, 7, Message::default().varint(1, 2), NOBODY), "it is done");
        let op = |body: Message| Message::default().bytes(2, &body.finish()).finish();
        let txn = |ops: &[Vec<u8>]| ops.iter().fold(Message::default(), |txn, op| txn.bytes(2, op));
        let both = txn(&[op(put_three("x")), op(on_lease("y", 77))]);
        assert!(!goes(&mut replay, TXN, both, NOBODY), "one part is enough");
        assert!(goes(&mut replay, TXN, txn(&[op(put_three("x")), op(put_three("y"))]), NOBODY));
        assert!(goes(&mut replay, 9, Message::default().varint(1, 5), NOBODY));
        assert!(!goes(&mut replay, 9, Message::default().varint(1, 5), NOBODY), "it is gone");
        let alarm = Message::default().varint(1, 1).varint(2, 3).varint(3, 1);
        assert!(goes(&mut replay, 10, alarm, NOBODY));
        assert!(!goes(&mut replay, PUT, put_three("z"), NOBODY), "there is no room");
        assert_eq!((replay.mvcc().revision().0, replay.mvcc().keys_count()), (4, 2));
        let (store, _) = replay.finish();
        store.check();
    }

    #[test]
    fn reads_and_tokens_and_what_is_left_of_leases_change_nothing() {
        let mut replay = begin();
        for number in [3, 11, 1012, 1013, 1102, 1106, 1107, 1202, 1302, 9900] {
            let data = three(number, Message::default(), NOBODY);
            replay.entry(11, EntryKind::Normal, &data).unwrap();
        }
        assert_eq!(replay.done_three(), Some(DoneThree::default()));
        assert!(replay.mvcc().is_untouched());
        for (number, body) in [(1205, vec![]), (4, vec![]), (4, vec![0x3a, 0]), (6, vec![0x12, 0])]
        {
            let data = Message::default().bytes(number, &body).finish();
            assert!(replay.entry(11, EntryKind::Normal, &data).is_err(), "{number} {body:?}");
        }
    }

    /// Users root and alice, who may read and write /a, and users count.
    fn with_users() -> Replay {
        let mut replay = begin();
        let text = |text: &str| Message::default().bytes(1, text.as_bytes());
        let two = |one: &str, other: &str| text(one).bytes(2, other.as_bytes());
        let range = Message::default().varint(1, 2).bytes(2, b"/a").bytes(3, b"/b").finish();
        for (number, body) in [
            (1100, two("root", "pw")),
            (1100, two("alice", "al")),
            (1104, two("root", "root")),
            (1200, text("app")),
            (1203, text("app").bytes(2, &range)),
            (1104, two("alice", "app")),
            (1000, Message::default()),
        ] {
            assert!(goes(&mut replay, number, body, NOBODY), "{number}");
        }
        replay
    }

    #[test]
    fn rights_are_asked_for_as_etcd_asks() {
        let mut replay = with_users();
        let now = replay.mvcc().auth().revision().0;
        let (alice, root) = (("alice", now), ("root", now));
        assert!(goes(&mut replay, PUT, put_three("/a/x"), alice));
        for (key, asker) in
            [("/c", alice), ("/a/x", NOBODY), ("/a/x", ("bob", now)), ("/a/x", ("alice", now - 1))]
        {
            assert!(!goes(&mut replay, PUT, put_three(key), asker), "{key} {asker:?}");
        }
        // Who puts on a lease could delete what hangs on it.
        let lease = Message::default().varint(1, 600).varint(2, 5);
        assert!(goes(&mut replay, 8, lease, NOBODY));
        assert!(goes(&mut replay, PUT, put_three("/c").varint(3, 5), root));
        assert!(!goes(&mut replay, PUT, put_three("/a/y").varint(3, 5), alice));
        assert!(!goes(&mut replay, 9, Message::default().varint(1, 5), alice));
        // In a transaction nobody asks for that, nor for what is inside of one in it.
        let op = |field, body: Message| Message::default().bytes(field, &body.finish()).finish();
        let txn = |op: &[u8]| Message::default().bytes(2, op);
        assert!(goes(&mut replay, TXN, txn(&op(2, put_three("/a/y").varint(3, 5))), alice));
        assert!(!goes(&mut replay, TXN, txn(&op(2, put_three("/c"))), alice));
        let inside = txn(&op(2, put_three("/c")));
        assert!(goes(&mut replay, TXN, txn(&op(4, inside)), alice));
        assert!(goes(&mut replay, 7, Message::default().varint(1, 2), NOBODY));
        // The role root is enough for users, whatever has changed since.
        let name = |name: &str| Message::default().bytes(1, name.as_bytes());
        assert!(!goes(&mut replay, 1200, name("r"), alice));
        assert!(!goes(&mut replay, 1200, name("r"), NOBODY));
        assert!(goes(&mut replay, 1200, name("r"), ("root", 1)));
        assert!(goes(&mut replay, 1011, Message::default(), ("root", 1)));
        assert!(goes(&mut replay, PUT, put_three("/c"), NOBODY), "nobody is asked any more");
    }

    #[test]
    fn passwords_in_the_log_are_hashed_once_and_for_all() {
        let password =
            |replay: &Replay, name: &str| replay.mvcc().auth().user(name).unwrap().password.clone();
        let (one, other) = (with_users(), with_users());
        assert_eq!(password(&one, "alice"), password(&other, "alice"));
        let hash = password(&one, "alice").unwrap();
        assert!(hash.as_str().starts_with("$2a$"), "{}", hash.as_str());
        let mut replay = one;
        let root = ("root", replay.mvcc().auth().revision().0);
        let user = |name: &str| Message::default().bytes(1, name.as_bytes());
        let none = Message::default().varint(1, 1).finish();
        assert!(goes(&mut replay, 1100, user("cert").bytes(3, &none), root));
        assert_eq!(password(&replay, "cert"), None);
        // From 3.5 on the log has the hash.
        assert!(goes(&mut replay, 1100, user("new").bytes(4, b"JDJhJDEwJGg="), root));
        assert_eq!(password(&replay, "new").unwrap().as_str(), "$2a$10$h");
        assert!(goes(&mut replay, 1103, user("alice").bytes(3, b"JDJhJDEwJGg="), root));
        assert_eq!(password(&replay, "alice").unwrap().as_str(), "$2a$10$h");
        assert!(goes(&mut replay, 1103, user("cert").bytes(2, b"x"), root), "it stays without");
        assert_eq!(password(&replay, "cert"), None);
        assert!(!goes(&mut replay, 1103, user("bob").bytes(2, b"x"), root), "nobody");
    }
}
