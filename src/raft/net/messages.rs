//! What members say to each other, as bytes: our own forms, so that a bump of openraft never changes the wire.
//!
//! Each lane has its own few messages. Fields are only ever appended; what a newer member appends is passed over.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::model::{
    DecodeError, KeyPath, LogIndex, LogTime, MemberId, Reader, StoreIndex, Term, WallTime, Writer,
};
use crate::mvcc;
use crate::raft::Progress;
use crate::raft::adapter::types::{Entry, LogId, SnapshotMeta, StoredMembership, Types, Vote};
use crate::raft::clock::Reading;
use crate::raft::storage::encoding::{self, decode_entry, encode_entry};
use crate::store::{Command, Position};
use crate::transport::Frame;

/// Lanes of heartbeats and of the log: requests and answers, in the same order.
pub(in crate::raft) mod append {
    pub(in crate::raft) const REQUEST: u8 = 10;
    pub(in crate::raft) const ANSWER: u8 = 11;
}

/// Lane of votes: one request, one answer.
pub(in crate::raft) mod vote {
    pub(in crate::raft) const VOTE: u8 = 20;
    pub(in crate::raft) const PRE_VOTE: u8 = 21;
    pub(in crate::raft) const VOTED: u8 = 22;
    pub(in crate::raft) const TRANSFER: u8 = 23;
    pub(in crate::raft) const TRANSFERRED: u8 = 24;
}

/// Lane of snapshots.
pub(in crate::raft) mod snapshot {
    pub(in crate::raft) const BEGIN: u8 = 30;
    pub(in crate::raft) const RESUME: u8 = 31;
    pub(in crate::raft) const BLOCK: u8 = 32;
    pub(in crate::raft) const END: u8 = 33;
    pub(in crate::raft) const INSTALLED: u8 = 34;
    pub(in crate::raft) const FAILED: u8 = 35;
    /// The beginning of a message whose other frames follow; the last one has its kind. From version 2 on.
    pub(in crate::raft) const PART: u8 = 36;
}

/// Lane of questions to the leader.
pub(in crate::raft) mod ask {
    pub(in crate::raft) const PROPOSE: u8 = 40;
    pub(in crate::raft) const REFUSED: u8 = 41;
    pub(in crate::raft) const READ: u8 = 42;
    pub(in crate::raft) const READ_AT: u8 = 43;
    pub(in crate::raft) const READ_REFUSED: u8 = 44;
    pub(in crate::raft) const PROGRESS: u8 = 45;
    pub(in crate::raft) const PROGRESS_IS: u8 = 46;
    pub(in crate::raft) const PROGRESS_REFUSED: u8 = 47;
    /// From version 2 on, as are the two answers to it.
    pub(in crate::raft) const FENCE: u8 = 48;
    pub(in crate::raft) const FENCED: u8 = 49;
    pub(in crate::raft) const FENCE_REFUSED: u8 = 50;
    /// From version 3 on, as are the two answers to it.
    pub(in crate::raft) const QUESTION: u8 = 51;
    pub(in crate::raft) const ANSWER: u8 = 52;
    pub(in crate::raft) const NO_ANSWER: u8 = 53;
}

/// What became of an append, in openraft's words.
pub(in crate::raft) type Appended = Result<Option<LogId>, StreamAppendError<Types>>;

/// Entries for a follower, and what the leader's clocks show, if it knows. `encoded` are the entries' stored forms, where they
/// are still at hand.
pub(in crate::raft) fn encode_append(
    request: &AppendEntriesRequest<Types>,
    encoded: Option<&[Bytes]>,
    reading: Option<Reading>,
) -> Vec<u8> {
    let mut out = Writer::with_capacity(256);
    write_vote(&mut out, &request.vote);
    write_log_id(&mut out, request.prev_log_id.as_ref());
    write_log_id(&mut out, request.leader_commit.as_ref());
    out.varint(request.entries.len() as u64);
    if let Some(first) = request.entries.first() {
        out.varint(first.log_id.index);
    }
    match encoded {
        Some(encoded) => encoded.iter().for_each(|entry| {
            out.bytes(entry);
        }),
        None => request.entries.iter().for_each(|entry| {
            out.bytes(&encode_entry(entry));
        }),
    }
    if let Some(reading) = reading {
        out.varint(reading.at.0).varint(reading.wall.0);
    }
    out.finish()
}

/// The counterpart of [`encode_append`].
pub(in crate::raft) fn decode_append(
    payload: &[u8],
) -> Result<(AppendEntriesRequest<Types>, Option<Reading>), DecodeError> {
    let mut input = Reader::new(payload);
    let vote = read_vote(&mut input)?;
    let prev_log_id = read_log_id(&mut input)?;
    let leader_commit = read_log_id(&mut input)?;
    let count = input.varint("entry count")?;
    let mut entries = Vec::<Entry>::new();
    if count > 0 {
        let first = input.varint("first index")?;
        for place in 0..count {
            let index = first.checked_add(place).ok_or(DecodeError::Malformed("first index"))?;
            entries.push(decode_entry(index, input.bytes("entry")?)?);
        }
    }
    let reading = match input.is_empty() {
        true => None,
        false => {
            let at = LogTime(input.varint("leader's log time")?);
            Some(Reading { at, wall: WallTime(input.varint("leader's wall clock")?) })
        }
    };
    Ok((AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }, reading))
}

const MATCHED: u8 = 0;
const CONFLICT: u8 = 1;
const HIGHER_VOTE: u8 = 2;

/// What became of an append, and what time it is in the log, if the follower knows.
pub(in crate::raft) fn encode_appended(appended: &Appended, now: Option<LogTime>) -> Vec<u8> {
    let mut out = Writer::default();
    match appended {
        Ok(log_id) => {
            out.u8(MATCHED);
            write_log_id(&mut out, log_id.as_ref());
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            out.u8(CONFLICT);
            write_log_id(&mut out, Some(log_id));
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.u8(HIGHER_VOTE);
            write_vote(&mut out, vote);
        }
    }
    if let Some(now) = now {
        out.varint(now.0);
    }
    out.finish()
}

/// The counterpart of [`encode_appended`].
pub(in crate::raft) fn decode_appended(
    payload: &[u8],
) -> Result<(Appended, Option<LogTime>), DecodeError> {
    let mut input = Reader::new(payload);
    let appended = match input.u8("append result")? {
        MATCHED => Ok(read_log_id(&mut input)?),
        CONFLICT => {
            let log_id = read_log_id(&mut input)?;
            Err(StreamAppendError::Conflict(log_id.ok_or(DecodeError::Malformed("conflict"))?))
        }
        HIGHER_VOTE => Err(StreamAppendError::HigherVote(read_vote(&mut input)?)),
        found => return Err(DecodeError::Unknown { what: "append result", found: found.into() }),
    };
    let now = if input.is_empty() { None } else { Some(LogTime(input.varint("log time")?)) };
    Ok((appended, now))
}

/// A candidate asks for a vote, or whether it would get one.
pub(in crate::raft) fn encode_vote_request(request: &VoteRequest<Types>) -> Vec<u8> {
    let mut out = Writer::default();
    write_vote(&mut out, &request.vote);
    write_log_id(&mut out, request.last_log_id.as_ref());
    out.u8(u8::from(request.leadership_transfer));
    out.finish()
}

/// The counterpart of [`encode_vote_request`].
pub(in crate::raft) fn decode_vote_request(
    payload: &[u8],
) -> Result<VoteRequest<Types>, DecodeError> {
    let mut input = Reader::new(payload);
    let vote = read_vote(&mut input)?;
    let last_log_id = read_log_id(&mut input)?;
    let leadership_transfer = input.u8("leadership transfer")? != 0;
    Ok(VoteRequest { leadership_transfer, ..VoteRequest::new(vote, last_log_id) })
}

/// A voter answers.
pub(in crate::raft) fn encode_vote_answer(answer: &VoteResponse<Types>) -> Vec<u8> {
    let mut out = Writer::default();
    write_vote(&mut out, &answer.vote);
    out.u8(u8::from(answer.vote_granted));
    write_log_id(&mut out, answer.last_log_id.as_ref());
    out.finish()
}

/// The counterpart of [`encode_vote_answer`].
pub(in crate::raft) fn decode_vote_answer(
    payload: &[u8],
) -> Result<VoteResponse<Types>, DecodeError> {
    let mut input = Reader::new(payload);
    let vote = read_vote(&mut input)?;
    let granted = input.u8("vote granted")? != 0;
    Ok(VoteResponse::new(vote, read_log_id(&mut input)?, granted))
}

/// The leader asks a member to take over.
pub(in crate::raft) fn encode_transfer(request: &TransferLeaderRequest<Types>) -> Vec<u8> {
    let mut out = Writer::default();
    write_vote(&mut out, request.from_leader());
    out.u64(*request.to_node_id());
    write_log_id(&mut out, request.last_log_id());
    out.finish()
}

/// The counterpart of [`encode_transfer`].
pub(in crate::raft) fn decode_transfer(
    payload: &[u8],
) -> Result<TransferLeaderRequest<Types>, DecodeError> {
    let mut input = Reader::new(payload);
    let from = read_vote(&mut input)?;
    let to = input.u64("successor")?;
    Ok(TransferLeaderRequest::new(from, to, read_log_id(&mut input)?))
}

/// A snapshot is about to come: whose, of which entry, and what stands beside nodes and events.
pub(in crate::raft) struct SnapshotBegin {
    pub(in crate::raft) vote: Vote,
    pub(in crate::raft) meta: SnapshotMeta,
    pub(in crate::raft) header: Vec<u8>,
}

impl SnapshotBegin {
    pub(in crate::raft) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        write_vote(&mut out, &self.vote);
        write_log_id(&mut out, self.meta.last_log_id.as_ref());
        out.bytes(&encoding::encode_stored_membership(&self.meta.last_membership));
        out.bytes(&self.header);
        out.finish()
    }

    pub(in crate::raft) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(payload);
        let vote = read_vote(&mut input)?;
        let last_log_id = read_log_id(&mut input)?;
        let last_membership: StoredMembership =
            encoding::decode_stored_membership(input.bytes("membership")?)?;
        let header = input.bytes("header")?.to_vec();
        Ok(Self { vote, meta: SnapshotMeta { last_log_id, last_membership }, header })
    }
}

const FROM_THE_START: u8 = 0;
const AFTER_NODE: u8 = 1;
const AFTER_EVENT: u8 = 2;
const AFTER_REVISION: u8 = 3;

/// How much of the announced snapshot is here already.
pub(in crate::raft) fn encode_resume(after: Option<&Position>) -> Vec<u8> {
    let mut out = Writer::default();
    match after {
        None => {
            out.u8(FROM_THE_START);
        }
        Some(Position::Node(path)) => {
            out.u8(AFTER_NODE).bytes(path.as_bytes());
        }
        Some(Position::Event(index)) => {
            out.u8(AFTER_EVENT).u64(index.0);
        }
        Some(Position::Revision(position)) => position.encode(out.u8(AFTER_REVISION)),
    }
    out.finish()
}

/// The counterpart of [`encode_resume`].
pub(in crate::raft) fn decode_resume(payload: &[u8]) -> Result<Option<Position>, DecodeError> {
    let mut input = Reader::new(payload);
    Ok(match input.u8("resume")? {
        FROM_THE_START => None,
        AFTER_NODE => Some(Position::Node(KeyPath::clean(input.bytes("key")?))),
        AFTER_EVENT => Some(Position::Event(StoreIndex(input.u64("event index")?))),
        AFTER_REVISION => Some(Position::Revision(mvcc::Position::decode(&mut input)?)),
        found => return Err(DecodeError::Unknown { what: "resume", found: found.into() }),
    })
}

/// A follower hands a write to its leader.
pub(in crate::raft) struct Propose {
    pub(in crate::raft) ticket: u64,
    /// Only the leader of this term may take it.
    pub(in crate::raft) term: Term,
    pub(in crate::raft) command: Command,
}

impl Propose {
    pub(in crate::raft) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        out.u64(self.ticket).varint(self.term.0);
        self.command.encode(&mut out);
        out.finish()
    }

    pub(in crate::raft) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(payload);
        let (ticket, term) = (input.u64("ticket")?, Term(input.varint("term")?));
        Ok(Self { ticket, term, command: Command::decode(&mut input)? })
    }
}

/// A write was not taken; `leader` is who leads, as far as the one who was asked knows.
pub(in crate::raft) fn encode_refused(ticket: u64, leader: Option<MemberId>) -> Vec<u8> {
    let mut out = Writer::default();
    out.u64(ticket).u64(leader.map_or(0, |leader| leader.0));
    out.finish()
}

/// The counterpart of [`encode_refused`].
pub(in crate::raft) fn decode_refused(
    payload: &[u8],
) -> Result<(u64, Option<MemberId>), DecodeError> {
    let mut input = Reader::new(payload);
    let ticket = input.u64("ticket")?;
    let leader = input.u64("leader")?;
    Ok((ticket, (leader != 0).then_some(MemberId(leader))))
}

/// A follower gives up its earlier connections, and asks the leader of `term` how far its log is without them; and, with the
/// last entry, the leader's answer.
pub(in crate::raft) fn encode_fence(term: Term, last: LogIndex) -> Vec<u8> {
    let mut out = Writer::default();
    out.varint(term.0).varint(last.0);
    out.finish()
}

/// The counterpart of [`encode_fence`].
pub(in crate::raft) fn decode_fence(payload: &[u8]) -> Result<(Term, LogIndex), DecodeError> {
    let mut input = Reader::new(payload);
    Ok((Term(input.varint("term")?), LogIndex(input.varint("last entry")?)))
}

/// A round of reads, and, in the leader's answer, the entry that must be applied first.
pub(in crate::raft) fn encode_read(round: u64, at: LogIndex) -> Vec<u8> {
    let mut out = Writer::default();
    out.varint(round).varint(at.0);
    out.finish()
}

/// The counterpart of [`encode_read`].
pub(in crate::raft) fn decode_read(payload: &[u8]) -> Result<(u64, LogIndex), DecodeError> {
    let mut input = Reader::new(payload);
    Ok((input.varint("round")?, LogIndex(input.varint("read index")?)))
}

/// How far the followers are, in answer to a question; the question itself names only the round.
pub(in crate::raft) fn encode_progress(
    round: u64,
    progress: &BTreeMap<MemberId, Progress>,
) -> Vec<u8> {
    let mut out = Writer::default();
    out.varint(round).varint(progress.len() as u64);
    for (id, Progress { matched, silent }) in progress {
        // No lease runs for 500 million years.
        let ms = silent.map_or(0, |silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
        out.u64(id.0).varint(matched.0).u8(u8::from(silent.is_some())).varint(ms);
    }
    out.finish()
}

/// The counterpart of [`encode_progress`].
pub(in crate::raft) fn decode_progress(
    payload: &[u8],
) -> Result<(u64, BTreeMap<MemberId, Progress>), DecodeError> {
    let mut input = Reader::new(payload);
    let round = input.varint("round")?;
    let mut progress = BTreeMap::new();
    for _ in 0..input.varint("follower count")? {
        let id = MemberId(input.u64("follower")?);
        let matched = LogIndex(input.varint("matched index")?);
        let answered = input.u8("answered")? != 0;
        let silent = Duration::from_millis(input.varint("silence")?);
        progress.insert(id, Progress { matched, silent: answered.then_some(silent) });
    }
    Ok((round, progress))
}

/// What the floor above asks the leader, or what it answers, with the round; empty where there is no answer.
pub(in crate::raft) fn encode_question(round: u64, words: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(16 + words.len());
    out.varint(round).bytes(words);
    out.finish()
}

/// The counterpart of [`encode_question`].
pub(in crate::raft) fn decode_question(payload: &[u8]) -> Result<(u64, Vec<u8>), DecodeError> {
    let mut input = Reader::new(payload);
    Ok((input.varint("round")?, input.bytes("question")?.to_vec()))
}

/// A vote as the answer to something.
pub(in crate::raft) fn encode_one_vote(vote: &Vote) -> Vec<u8> {
    let mut out = Writer::default();
    write_vote(&mut out, vote);
    out.finish()
}

/// The counterpart of [`encode_one_vote`].
pub(in crate::raft) fn decode_one_vote(payload: &[u8]) -> Result<Vote, DecodeError> {
    read_vote(&mut Reader::new(payload))
}

/// What a frame should have been, if it is not.
pub(in crate::raft) fn expect(frame: &Frame, kind: u8) -> Result<(), DecodeError> {
    if frame.kind == kind {
        return Ok(());
    }
    Err(DecodeError::Unknown { what: "message", found: frame.kind.into() })
}

fn write_vote(out: &mut Writer, vote: &Vote) {
    out.bytes(&encoding::encode_vote(vote));
}

fn read_vote(input: &mut Reader<'_>) -> Result<Vote, DecodeError> {
    encoding::decode_vote(input.bytes("vote")?)
}

fn write_log_id(out: &mut Writer, log_id: Option<&LogId>) {
    out.bytes(&log_id.map(encoding::encode_log_id).unwrap_or_default());
}

fn read_log_id(input: &mut Reader<'_>) -> Result<Option<LogId>, DecodeError> {
    let bytes = input.bytes("log id")?;
    if bytes.is_empty() { Ok(None) } else { encoding::decode_log_id(bytes).map(Some) }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::adapter::types::{Origin, Proposal};

    fn entry(index: u64) -> Entry {
        let command = Command::Delete { path: KeyPath::from("/a"), dir: false, recursive: false };
        let origin = Origin { member: MemberId(3), ticket: 4 };
        let proposal = Proposal { stamp: LogTime(5).into(), origin, command };
        Entry { log_id: encoding::log_id(2, index), payload: EntryPayload::Normal(proposal) }
    }

    fn request() -> AppendEntriesRequest<Types> {
        AppendEntriesRequest {
            vote: Vote::new_committed(2, 7),
            prev_log_id: Some(encoding::log_id(1, 9)),
            entries: vec![entry(10), entry(11)],
            leader_commit: None,
        }
    }

    #[test]
    fn appends_are_read_back_however_they_were_made() {
        let request = request();
        let encoded: Vec<Bytes> =
            request.entries.iter().map(|entry| encode_entry(entry).into()).collect();
        let reading = Some(Reading { at: LogTime(7), wall: WallTime(u64::MAX) });
        let bytes = encode_append(&request, Some(&encoded), reading);
        assert_eq!(bytes, encode_append(&request, None, reading));
        let back = decode_append(&bytes).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", (&request, reading)));
        let heartbeat = AppendEntriesRequest { entries: Vec::new(), ..request };
        for reading in [None, reading] {
            let back = decode_append(&encode_append(&heartbeat, None, reading)).unwrap();
            assert_eq!(format!("{back:?}"), format!("{:?}", (&heartbeat, reading)));
        }
    }

    #[test]
    fn answers_and_votes_are_read_back() {
        let log_id = encoding::log_id(2, 10);
        for appended in [
            Ok(None),
            Ok(Some(log_id)),
            Err(StreamAppendError::Conflict(log_id)),
            Err(StreamAppendError::HigherVote(Vote::new(3, 1))),
        ] {
            for now in [None, Some(LogTime(300))] {
                let bytes = encode_appended(&appended, now);
                assert_eq!(decode_appended(&bytes), Ok((appended.clone(), now)));
            }
        }
        for leadership_transfer in [false, true] {
            let request = VoteRequest {
                leadership_transfer,
                ..VoteRequest::new(Vote::new(4, 2), Some(log_id))
            };
            assert_eq!(decode_vote_request(&encode_vote_request(&request)), Ok(request));
        }
        let answer = VoteResponse::new(Vote::new(4, 2), None, true);
        assert_eq!(decode_vote_answer(&encode_vote_answer(&answer)), Ok(answer));
        let transfer = TransferLeaderRequest::new(Vote::new_committed(4, 2), 9, Some(log_id));
        assert_eq!(decode_transfer(&encode_transfer(&transfer)), Ok(transfer));
        for after in
            [None, Some(Position::Node(KeyPath::from("/a"))), Some(Position::Event(StoreIndex(7)))]
        {
            assert_eq!(decode_resume(&encode_resume(after.as_ref())), Ok(after));
        }
        assert_eq!(decode_refused(&encode_refused(1, None)), Ok((1, None)));
        assert_eq!(decode_read(&encode_read(8, LogIndex(9))), Ok((8, LogIndex(9))));
        assert_eq!(decode_fence(&encode_fence(Term(8), LogIndex(9))), Ok((Term(8), LogIndex(9))));
        let silent = Some(Duration::from_millis(70));
        let progress = BTreeMap::from([
            (MemberId(1), Progress { matched: LogIndex(5), silent }),
            (MemberId(2), Progress::default()),
        ]);
        assert_eq!(decode_progress(&encode_progress(3, &progress)), Ok((3, progress)));
    }

    /// These bytes are what members of this version say; a later version must go on understanding them.
    #[test]
    fn the_words_are_fixed() {
        let heartbeat = AppendEntriesRequest { entries: Vec::new(), ..request() };
        let vote = [11, 1, 2, 7, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut expected = vote.to_vec();
        expected.extend_from_slice(&[3, 1, 1, 9, 0, 0]);
        assert_eq!(encode_append(&heartbeat, None, None), expected);
        expected.extend_from_slice(&[0xac, 2, 1]);
        let reading = Some(Reading { at: LogTime(300), wall: WallTime(1) });
        assert_eq!(encode_append(&heartbeat, None, reading), expected);
        let appended = Ok(Some(encoding::log_id(2, 10)));
        assert_eq!(encode_appended(&appended, None), [0, 3, 1, 2, 10]);
        assert_eq!(encode_appended(&appended, Some(LogTime(300))), [0, 3, 1, 2, 10, 0xac, 2]);
        assert_eq!(encode_one_vote(&Vote::new_committed(2, 7)), vote);
        assert_eq!(encode_read(300, LogIndex(1)), [0xac, 2, 1]);
        assert_eq!(encode_fence(Term(300), LogIndex(1)), [0xac, 2, 1]);
        assert_eq!(encode_refused(1, Some(MemberId(2)))[..9], [1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(encode_resume(Some(&Position::Node(KeyPath::from("/a")))), [1, 2, b'/', b'a']);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode_append(&bytes);
            let _ = decode_appended(&bytes);
            let _ = decode_vote_request(&bytes);
            let _ = decode_vote_answer(&bytes);
            let _ = decode_transfer(&bytes);
            let _ = SnapshotBegin::decode(&bytes);
            let _ = decode_resume(&bytes);
            let _ = Propose::decode(&bytes);
            let _ = decode_refused(&bytes);
            let _ = decode_read(&bytes);
            let _ = decode_fence(&bytes);
            let _ = decode_progress(&bytes);
        }
    }
}
