//! Leases in place of lifetimes: one for each key, as each key of version 2 has its own.
//!
//! Owns: their ids, by which a later run knows what an earlier one wrote. Never knows: keys.
//! Holds: only leases with such an id are ever revoked.

use futures_util::{StreamExt as _, stream};

use crate::base::system_random;
use crate::copy::target::{Change, Target, What};
use crate::mirror::side::Trouble;
use crate::rpc::status::LEASE_EXISTS;
use crate::rpc::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};

/// Questions about leases that are under way at a time.
const ABREAST: usize = 32;
/// What ids of these leases begin with, in the upper 24 bits: the others are random, and no id is negative.
const MARK: i64 = 0x0c_a1_52;
const RANDOM_BITS: u32 = 40;
/// The longest that a server grants.
const TTL_MAX_S: i64 = 9_000_000_000;
/// What a lease that is kept up has more than its key, in seconds: it is looked at once more when the key ends in the source.
const GRACE_S: u64 = 1;
/// How far apart a lifetime and the lease of an earlier run may be, in seconds.
pub(super) const APART_S: i64 = 3;

/// Is it one that a copy was granted?
pub(super) fn is_marked(lease: i64) -> bool {
    lease >> RANDOM_BITS == MARK
}

fn fresh_id() -> i64 {
    let random = system_random() >> (u64::BITS - RANDOM_BITS);
    (MARK << RANDOM_BITS) | i64::try_from(random).expect("it has 40 bits")
}

/// Seconds for a key that ends then.
pub(super) fn seconds(target: &Target, ends_ms: i64) -> i64 {
    let seconds = match target.kept_up {
        true => i64::try_from(target.source.remaining_s(ends_ms) + GRACE_S).unwrap_or(TTL_MAX_S),
        // What is left is known a little too long, so what is cut off brings it nearer.
        false => target.source.remaining_ms(ends_ms) / 1000,
    };
    seconds.clamp(1, TTL_MAX_S)
}

/// A lease for each change that needs one, 0 for the others.
pub(super) async fn grant(target: &Target, changes: &[Change]) -> Result<Vec<i64>, Trouble> {
    let needed = changes.iter().map(|change| {
        change.ends_ms.filter(|_| change.what != What::Remove).map(|ends_ms| (target, ends_ms))
    });
    let grants = stream::iter(needed.collect::<Vec<_>>()).map(async |needed| match needed {
        Some((target, ends_ms)) => grant_one(target, ends_ms).await,
        None => Ok(0),
    });
    let granted: Vec<_> = grants.buffered(ABREAST).collect().await;
    granted.into_iter().collect()
}

async fn grant_one(target: &Target, ends_ms: i64) -> Result<i64, Trouble> {
    loop {
        let request = LeaseGrantRequest { ttl: seconds(target, ends_ms), id: fresh_id() };
        let asked = target.ask(&request).await?;
        match asked.answer {
            Ok(_) => return Ok(request.id),
            // The first answer was lost; or another lease has the id, and the next has another.
            Err(status) if status == LEASE_EXISTS && asked.unsure => return Ok(request.id),
            Err(status) if status == LEASE_EXISTS => {}
            Err(status) => return Err(target.refused("a lease", &status)),
        }
    }
}

/// Leases that no key is on any more; others than the copy's are left alone.
pub(super) async fn revoke(target: &Target, leases: Vec<i64>) -> Result<(), Trouble> {
    let marked = leases.into_iter().filter(|lease| is_marked(*lease)).map(|lease| (target, lease));
    let mut revoked = stream::iter(marked.collect::<Vec<_>>())
        .map(async |(target, id)| target.ask(&LeaseRevokeRequest { id }).await)
        .buffer_unordered(ABREAST);
    while let Some(asked) = revoked.next().await {
        // One that has ended is as good, and one that is not revoked ends by itself.
        drop(asked?);
    }
    Ok(())
}

/// How many seconds each of these leases has left; nothing for those that have ended.
pub(super) async fn left(target: &Target, leases: Vec<i64>) -> Result<Vec<Option<i64>>, Trouble> {
    let asked = stream::iter(leases.into_iter().map(|id| (target, id)).collect::<Vec<_>>());
    let asked = asked
        .map(async |(target, id)| target.ask(&LeaseTimeToLiveRequest { id, keys: false }).await);
    let asked: Vec<_> = asked.buffered(ABREAST).collect().await;
    let left = asked.into_iter().map(|asked| {
        let answer = asked?.answer.ok();
        Ok(answer.map(|answer| answer.ttl).filter(|ttl| *ttl >= 0))
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_again_and_are_no_others() {
        let (one, other) = (fresh_id(), fresh_id());
        assert!(one > 0 && one != other && is_marked(one) && is_marked(other));
        // What etcd gives: the member in the upper bits, and a clock.
        assert!(!is_marked(0) && !is_marked(0x694d_8c9a_3f1e_8d04) && !is_marked(-1));
    }
}
