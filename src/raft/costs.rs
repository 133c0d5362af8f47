//! Entries as bytes, for the test that counts what they cost.

use std::hint::black_box;
use std::sync::LazyLock;

use openraft::EntryPayload;

use crate::costs::Work;
use crate::model::{LogTime, MemberId};
use crate::raft::adapter::types::{Entry, Origin, Proposal};
use crate::raft::storage::encoding;
use crate::store;

pub(crate) const WORK: &[Work] = &[
    Work { name: "encode an entry of the log", work: || drop(encoding::encode_entry(&ENTRY)) },
    Work {
        name: "decode an entry of the log",
        work: || assert!(encoding::decode_entry(7, black_box(&ENCODED)).is_ok()),
    },
];

static ENTRY: LazyLock<Entry> = LazyLock::new(|| {
    let origin = Origin { member: MemberId(3), ticket: 4 };
    let command = store::costs::set(1);
    let proposal = Proposal { stamp: LogTime(5).into(), origin, command };
    Entry { log_id: encoding::log_id(2, 7), payload: EntryPayload::Normal(proposal) }
});

static ENCODED: LazyLock<Vec<u8>> = LazyLock::new(|| encoding::encode_entry(&ENTRY));
