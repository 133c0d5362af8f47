//! Memory that was freed goes back to the system, though nothing else happens.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// The allocator keeps what was freed for a second, in case that it is wanted again. What it has kept for longer it gives back when a
/// thread wants whole pages, or ends.
const KEPT_FOR: Duration = Duration::from_millis(1500);

static FREED: AtomicU64 = AtomicU64::new(0);
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Much was freed a moment ago. A member that has nothing to do after that would hold on to it until it has: so a thread waits as long
/// as the allocator does, and ends. There is one at a time.
pub fn give_back_soon() {
    FREED.fetch_add(1, Ordering::Relaxed);
    if AWAITED.swap(true, Ordering::Relaxed) {
        return;
    }
    let thread = thread::Builder::new().name("give-back".to_owned()).spawn(|| {
        loop {
            let before = FREED.load(Ordering::Relaxed);
            thread::sleep(KEPT_FOR);
            if FREED.load(Ordering::Relaxed) == before {
                break;
            }
        }
        AWAITED.store(false, Ordering::Relaxed);
        // The allocator takes no notice of the end of a thread that never had anything of it.
        black_box(Box::new(0_u8));
    });
    if thread.is_err() {
        AWAITED.store(false, Ordering::Relaxed);
    }
}
