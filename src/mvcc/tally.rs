//! What commands did, in numbers, counted as etcd counts.

use crate::mvcc::request::{Applied, OpReply, Reply, TxnReply};

/// How much a command did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys that were put.
    pub puts: u64,
    /// Bytes of these keys and values.
    pub put_bytes: u64,
    /// Deletions that were asked for; of a lease that ends, keys.
    pub deletes: u64,
    /// Ranges that were read.
    pub ranges: u64,
    /// One, if all that was more than one thing.
    pub txns: u64,
}

impl Applied {
    /// How much it did.
    pub fn tally(&self) -> Tally {
        let mut tally = match &self.reply {
            Ok(Reply::Put { .. }) => Tally { puts: 1, ..Tally::default() },
            Ok(Reply::DeleteRange { .. }) => Tally { deletes: 1, ..Tally::default() },
            Ok(Reply::Txn(txn)) => txn.tally(),
            Ok(Reply::LeaseRevoke) => {
                Tally { deletes: self.changes.len() as u64, ..Tally::default() }.together()
            }
            Ok(
                Reply::Compact
                | Reply::LeaseGrant { .. }
                | Reply::LeaseCheckpoint
                | Reply::LeaseKeepAlive
                | Reply::Alarm(_)
                | Reply::Auth(_),
            )
            | Err(_) => Tally::default(),
        };
        let puts = self.changes.iter().map(|change| &change.kv).filter(|kv| !kv.is_deletion());
        tally.put_bytes = puts.map(|kv| (kv.key.len() + kv.value.len()) as u64).sum();
        tally
    }
}

impl TxnReply {
    /// How much it did, apart from the bytes.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.add_to(&mut tally);
        tally.together()
    }

    fn add_to(&self, tally: &mut Tally) {
        for reply in &self.replies {
            match reply {
                OpReply::Range { .. } => tally.ranges += 1,
                OpReply::Put { .. } => tally.puts += 1,
                OpReply::DeleteRange { .. } => tally.deletes += 1,
                OpReply::Txn(inside) => inside.add_to(tally),
            }
        }
    }
}

impl Tally {
    fn together(self) -> Self {
        let txns = u64::from(self.puts + self.deletes + self.ranges > 1);
        Self { txns, ..self }
    }
}
