//! Looks at the disks of a member again and again, and says when one is nearly full.

use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};

use crate::disk::{Reserve, free_bytes};
use crate::model::codes;
use crate::replica::{Replica, Shortage};

/// Pause between two looks. A disk that takes 200 MB a second loses 50 MB meanwhile, less than is reserved.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Follows the disks of `reserves` and the quota of the key space, for as long as the member runs.
pub(super) async fn watch(replica: Replica, mut reserves: Vec<Reserve>) {
    let mut known = None;
    let mut was_raised = false;
    let mut complained = false;
    loop {
        let looked = tokio::task::spawn_blocking(move || {
            let looks: Vec<_> = reserves.iter_mut().map(Reserve::look).collect();
            (reserves, looks)
        });
        // It ends early only with the runtime.
        let Ok((returned, looks)) = looked.await else { return };
        reserves = returned;
        let mut full = false;
        for (reserve, look) in reserves.iter().zip(looks) {
            match look {
                Ok(is_short) => full |= is_short,
                Err(error) if !complained => {
                    complained = true;
                    let dir = reserve.dir().display();
                    warn!(target: "etcdserver", code = codes::DISK_UNSEEN, "cannot look at the disk of {dir} or reserve space on it: {error}");
                }
                Err(_) => {}
            }
        }
        replica.space().set_disk_full(full);
        let now = replica.shortage();
        if now != known {
            say(&replica, &reserves, known, now);
            known = now;
        }
        let is_raised = replica.has_space_alarm();
        if is_raised != was_raised {
            say_alarm(is_raised);
            was_raised = is_raised;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn say(replica: &Replica, reserves: &[Reserve], before: Option<Shortage>, now: Option<Shortage>) {
    let quota = replica.space().quota_bytes();
    let bytes = replica.view().store.bytes();
    match (before, now) {
        (_, Some(Shortage::Quota)) => warn!(
            target: "etcdserver",
            code = codes::NO_ROOM,
            "alarm NOSPACE: the key space weighs {bytes} bytes, and --quota-bytes allows {quota}. Writes that need room are \
             refused until keys are deleted; or raise --quota-bytes on all members"
        ),
        (_, Some(Shortage::Disk)) => {
            let left: Vec<_> = reserves.iter().map(|reserve| left_on(reserve.dir())).collect();
            warn!(
                target: "etcdserver",
                code = codes::NO_ROOM,
                "alarm NOSPACE: the disk is nearly full ({}). Writes of this member's clients that need room are refused until \
                 there is space again: remove files there, or enlarge the disk",
                left.join("; ")
            );
        }
        (Some(_), None) => {
            info!(target: "etcdserver", "alarm NOSPACE is over: there is room again");
        }
        (None, None) => {}
    }
}

/// The alarm of version 3 is in the state, and so the same on all members.
fn say_alarm(is_raised: bool) {
    if is_raised {
        warn!(
            target: "etcdserver",
            code = codes::NO_ROOM,
            "alarm NOSPACE of version 3 is raised: its writes that need room are refused by all members until it is cleared. \
             Delete keys, compact the history, or raise --quota-bytes; then `ETCDCTL_API=3 etcdctl alarm disarm`"
        );
    } else {
        info!(target: "etcdserver", "alarm NOSPACE of version 3 is cleared");
    }
}

fn left_on(dir: &Path) -> String {
    match free_bytes(dir) {
        Ok(bytes) => format!("{} MiB left at {}", bytes >> 20, dir.display()),
        Err(error) => format!("{}: {error}", dir.display()),
    }
}
