//! Messages of peers and entries of a log that a fuzzer makes up.

use std::fmt::Debug;

use crate::fuzz::Target;
use crate::model::DecodeError;
use crate::raft::net::messages::{self, Propose, SnapshotBegin};
use crate::raft::storage::encoding;

pub(crate) const TARGETS: &[Target] =
    &[Target { name: "message", read: read_message }, Target { name: "entry", read: read_entry }];

/// What was read and is written again is read as the same.
fn again<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(value) = decode(bytes) {
        let written = encode(&value);
        let back = decode(&written).expect("what is written here is read");
        assert_eq!(encode(&back), written);
    }
}

/// As [`again`], for what can be shown.
fn shown_again<T: Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(value) = decode(bytes) {
        let back = decode(&encode(&value)).expect("what is written here is read");
        assert_eq!(format!("{back:?}"), format!("{value:?}"));
    }
}

/// The first byte chooses the message.
fn read_message(input: &[u8]) {
    let Some((kind, payload)) = input.split_first() else { return };
    match kind % 14 {
        0 => shown_again(payload, messages::decode_append, |(append, reading)| {
            messages::encode_append(append, None, *reading)
        }),
        1 => shown_again(payload, messages::decode_appended, |(appended, now)| {
            messages::encode_appended(appended, *now)
        }),
        2 => shown_again(payload, messages::decode_vote_request, messages::encode_vote_request),
        3 => shown_again(payload, messages::decode_vote_answer, messages::encode_vote_answer),
        4 => shown_again(payload, messages::decode_transfer, messages::encode_transfer),
        5 => again(payload, SnapshotBegin::decode, SnapshotBegin::encode),
        6 => shown_again(payload, messages::decode_resume, |after| {
            messages::encode_resume(after.as_ref())
        }),
        7 => again(payload, Propose::decode, Propose::encode),
        8 => shown_again(payload, messages::decode_refused, |(ticket, leader)| {
            messages::encode_refused(*ticket, *leader)
        }),
        9 => shown_again(payload, messages::decode_fence, |(term, last)| {
            messages::encode_fence(*term, *last)
        }),
        10 => shown_again(payload, messages::decode_read, |(round, at)| {
            messages::encode_read(*round, *at)
        }),
        11 => shown_again(payload, messages::decode_progress, |(round, progress)| {
            messages::encode_progress(*round, progress)
        }),
        12 => shown_again(payload, messages::decode_question, |(round, words)| {
            messages::encode_question(*round, words)
        }),
        _ => shown_again(payload, messages::decode_one_vote, messages::encode_one_vote),
    }
}

/// The first byte chooses what the log or the checkpoint holds.
fn read_entry(input: &[u8]) {
    let Some((kind, stored)) = input.split_first() else { return };
    match kind % 4 {
        0 => shown_again(stored, |bytes| encoding::decode_entry(7, bytes), encoding::encode_entry),
        1 => shown_again(stored, encoding::decode_vote, encoding::encode_vote),
        2 => shown_again(stored, encoding::decode_log_id, encoding::encode_log_id),
        _ => shown_again(
            stored,
            encoding::decode_stored_membership,
            encoding::encode_stored_membership,
        ),
    }
}
