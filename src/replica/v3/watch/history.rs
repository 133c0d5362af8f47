//! The changes of the past, one revision after the other.

use crate::mvcc::{Mvcc, Revision};
use crate::replica::v3::watch::notice::Revised;

/// What watchers ask for is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compacted;

/// The changes from revision `from` on, of at most `most` revisions.
///
/// # Errors
/// When `from` is older than what is kept.
pub(super) fn since(mvcc: &Mvcc, from: Revision, most: usize) -> Result<Vec<Revised>, Compacted> {
    let mut revisions = Vec::<Revised>::new();
    for change in mvcc.changes_since(from).map_err(|_| Compacted)? {
        let revision = change.kv.modified;
        let count = revisions.len();
        match revisions.last_mut().filter(|last| last.revision == revision) {
            Some(last) => last.changes.push(change),
            None if count == most => break,
            None => revisions.push(Revised { revision, changes: vec![change] }),
        }
    }
    Ok(revisions)
}
