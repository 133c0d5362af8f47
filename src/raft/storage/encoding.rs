//! Entries, votes, log ids and memberships as bytes: our own forms, so that a bump of openraft never changes data.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;

use crate::model::{DecodeError, LogTime, MemberId, Reader, Stamp, WallOffset, Writer};
use crate::raft::adapter::types::{
    Entry, LogId, Membership, Origin, Proposal, StoredMembership, Types, Vote,
};
use crate::store::Command;

const VERSION: u8 = 1;

const BLANK: u8 = 0;
/// A proposal from before there were offsets: its stamp was a date.
const NORMAL_WITHOUT_OFFSET: u8 = 1;
const MEMBERSHIP: u8 = 2;
const NORMAL: u8 = 3;

/// A log entry without its index, which the log keeps beside it.
pub(in crate::raft) fn encode_entry(entry: &Entry) -> Vec<u8> {
    /// Version, kind, term, stamp and origin.
    const HEAD: usize = 48;
    let command = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.command.encoded_bytes(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    let mut out = Writer::with_capacity(HEAD + command);
    out.u8(VERSION).varint(entry.log_id.leader_id.term);
    match &entry.payload {
        EntryPayload::Blank => {
            out.u8(BLANK);
        }
        EntryPayload::Normal(Proposal { stamp, origin, command }) => {
            out.u8(NORMAL).varint(stamp.at.0).signed(stamp.offset.0);
            out.u64(origin.member.0).u64(origin.ticket);
            command.encode(&mut out);
        }
        EntryPayload::Membership(membership) => {
            out.u8(MEMBERSHIP);
            write_membership(&mut out, membership);
        }
    }
    out.finish()
}

/// The counterpart of [`encode_entry`].
pub(in crate::raft) fn decode_entry(index: u64, bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut input = Reader::new(bytes);
    version(&mut input, "entry version")?;
    let log_id = log_id(input.varint("term")?, index);
    let payload = match input.u8("entry kind")? {
        BLANK => EntryPayload::Blank,
        kind @ (NORMAL | NORMAL_WITHOUT_OFFSET) => {
            let at = LogTime(input.varint("stamp")?);
            let offset = if kind == NORMAL { input.signed("wall offset")? } else { 0 };
            let stamp = Stamp { at, offset: WallOffset(offset) };
            let member = MemberId(input.u64("origin")?);
            let origin = Origin { member, ticket: input.u64("ticket")? };
            EntryPayload::Normal(Proposal { stamp, origin, command: Command::decode(&mut input)? })
        }
        MEMBERSHIP => EntryPayload::Membership(read_membership(&mut input)?),
        kind => return Err(DecodeError::Unknown { what: "entry kind", found: kind.into() }),
    };
    input.end("entry")?;
    Ok(Entry { log_id, payload })
}

/// A vote.
pub(in crate::raft) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(VERSION).varint(vote.leader_id.term).u64(vote.leader_id.voted_for);
    out.u8(u8::from(vote.committed));
    out.finish()
}

/// The counterpart of [`encode_vote`].
pub(in crate::raft) fn decode_vote(bytes: &[u8]) -> Result<Vote, DecodeError> {
    let mut input = Reader::new(bytes);
    version(&mut input, "vote version")?;
    let (term, member) = (input.varint("term")?, input.u64("member")?);
    let committed = input.u8("committed")? != 0;
    input.end("vote")?;
    Ok(if committed { Vote::new_committed(term, member) } else { Vote::new(term, member) })
}

/// A log id.
pub(in crate::raft) fn encode_log_id(log_id: &LogId) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(VERSION).varint(log_id.leader_id.term).varint(log_id.index);
    out.finish()
}

/// The counterpart of [`encode_log_id`].
pub(in crate::raft) fn decode_log_id(bytes: &[u8]) -> Result<LogId, DecodeError> {
    let mut input = Reader::new(bytes);
    version(&mut input, "log id version")?;
    let id = log_id(input.varint("term")?, input.varint("index")?);
    input.end("log id")?;
    Ok(id)
}

/// A membership and where it stands in the log.
pub(in crate::raft) fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(VERSION);
    let at = stored.log_id().as_ref().map(encode_log_id).unwrap_or_default();
    out.bytes(&at);
    write_membership(&mut out, stored.membership());
    out.finish()
}

/// The counterpart of [`encode_stored_membership`].
pub(in crate::raft) fn decode_stored_membership(
    bytes: &[u8],
) -> Result<StoredMembership, DecodeError> {
    let mut input = Reader::new(bytes);
    version(&mut input, "membership version")?;
    let at = input.bytes("membership log id")?;
    let at = if at.is_empty() { None } else { Some(decode_log_id(at)?) };
    let membership = read_membership(&mut input)?;
    input.end("membership")?;
    Ok(StoredMembership::new(at, membership))
}

pub(in crate::raft) fn log_id(term: u64, index: u64) -> LogId {
    type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;
    LogId::new(LeaderId::new(term, 0).to_committed(), index)
}

fn version(input: &mut Reader<'_>, what: &'static str) -> Result<(), DecodeError> {
    match input.u8(what)? {
        VERSION => Ok(()),
        found => Err(DecodeError::Unknown { what, found: found.into() }),
    }
}

pub(in crate::raft) fn write_membership(out: &mut Writer, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.varint(configs.len() as u64);
    for voters in configs {
        out.varint(voters.len() as u64);
        for voter in voters {
            out.u64(*voter);
        }
    }
    let learners: Vec<_> = membership.learner_ids().collect();
    out.varint(learners.len() as u64);
    for learner in learners {
        out.u64(learner);
    }
}

pub(in crate::raft) fn read_membership(input: &mut Reader<'_>) -> Result<Membership, DecodeError> {
    let mut configs = Vec::new();
    let mut nodes = BTreeMap::new();
    for _ in 0..input.varint("config count")? {
        let mut voters = BTreeSet::new();
        for _ in 0..input.varint("voter count")? {
            voters.insert(input.u64("voter")?);
        }
        nodes.extend(voters.iter().map(|voter| (*voter, ())));
        configs.push(voters);
    }
    for _ in 0..input.varint("learner count")? {
        nodes.insert(input.u64("learner")?, ());
    }
    Membership::new(configs, nodes).map_err(|_| DecodeError::Malformed("membership"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyPath;
    use proptest::prelude::*;

    fn entry(payload: EntryPayload<Proposal, u64, ()>) -> Entry {
        Entry { log_id: log_id(300, 7), payload }
    }

    #[test]
    fn entries_of_every_kind_are_read_back() {
        let path = KeyPath::from("/a");
        let command = Command::Delete { path, dir: true, recursive: false };
        let stamp = Stamp { at: LogTime(1_790_000_000_000), offset: WallOffset(-5) };
        let origin = Origin { member: MemberId(u64::MAX), ticket: 7 };
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let membership =
            Membership::new(voters, BTreeMap::from([(1, ()), (2, ()), (3, ()), (9, ())]));
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal { stamp, origin, command }),
            EntryPayload::Membership(membership.unwrap()),
        ] {
            let entry = entry(payload);
            assert_eq!(decode_entry(7, &encode_entry(&entry)), Ok(entry));
        }
    }

    #[test]
    fn an_entry_from_before_there_were_offsets_is_read() {
        // Term 300, stamp 300, origin 1/2, delete of /a.
        let mut bytes =
            vec![1, 0xac, 2, 1, 0xac, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&[1, 6, 2, b'/', b'a', 0]);
        let entry = decode_entry(7, &bytes).expect("it is well formed");
        let EntryPayload::Normal(proposal) = entry.payload else { panic!("it is a proposal") };
        assert_eq!(proposal.stamp, Stamp::from(LogTime(300)));
    }

    #[test]
    fn the_stored_forms_are_fixed() {
        assert_eq!(encode_entry(&entry(EntryPayload::Blank)), [1, 0xac, 2, 0]);
        assert_eq!(encode_log_id(&log_id(3, 4)), [1, 3, 4]);
        assert_eq!(encode_vote(&Vote::new_committed(2, 5)), [1, 2, 5, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn votes_and_memberships_are_read_back() {
        for vote in [Vote::new(2, u64::MAX), Vote::new_committed(2, 5)] {
            assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }
        let membership = Membership::new(vec![BTreeSet::from([4])], BTreeMap::from([(4, ())]));
        for at in [None, Some(log_id(1, 2))] {
            let stored = StoredMembership::new(at, membership.clone().unwrap());
            assert_eq!(decode_stored_membership(&encode_stored_membership(&stored)), Ok(stored));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode_entry(0, &bytes);
            let _ = decode_vote(&bytes);
            let _ = decode_log_id(&bytes);
            let _ = decode_stored_membership(&bytes);
        }
    }
}
