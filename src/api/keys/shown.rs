//! What an answer may hold of what its client has no right to read.
//!
//! A client that may write a key need not be allowed to read it, and a right for what is below a directory is none for a file in its
//! place. Owns: which of the two forms an answer has, the whole one or the one without values. Never knows:
//! how rights are decided; it is told whether the client may see the values (`shows`).

use std::borrow::Cow;

use bytes::Bytes;

use crate::api::keys::render;
use crate::model::Refusal;
use crate::replica::Notice;
use crate::store::Event;

/// What a writer is told. What stood in the key before is for those who may read it.
pub(super) fn written(shows: bool, event: &Event, terse: bool) -> Bytes {
    if terse && !event.action.removes() {
        render::terse(event.action)
    } else if shows {
        render::event(event)
    } else {
        render::event_unseen(event, true)
    }
}

/// Why a write was refused. The value that is there is for those who may read it.
pub(super) fn refused(shows: bool, refusal: &Refusal) -> Cow<'_, Refusal> {
    if shows { Cow::Borrowed(refusal) } else { refusal.unseen() }
}

/// What a watcher is told, who may see the values in it or not.
pub(super) fn told(shows: bool, notice: &Notice) -> Bytes {
    if shows { notice.body(render::event) } else { render::event_unseen(&notice.event, false) }
}
