//! Reads files again when they have changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info};

use crate::tls::Tls;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the files of `sides` for as long as there are any; `now` (SIGHUP) asks for a look at once.
pub async fn watch(mut sides: Vec<Arc<Tls>>, now: Arc<Notify>) {
    sides.retain(|side| side.files().next().is_some());
    while !sides.is_empty() {
        // Either is a reason to look.
        let _ = tokio::time::timeout(LOOK_EVERY, now.notified()).await;
        for side in &sides {
            let side = Arc::clone(side);
            // It reads files, which may hang.
            let looked = tokio::task::spawn_blocking(move || {
                let files = || {
                    let names = side.files().map(|path| path.display().to_string());
                    names.collect::<Vec<_>>().join(", ")
                };
                match side.reload() {
                    Ok(false) => {}
                    Ok(true) => {
                        info!(target: "embed", "TLS files are read again, new connections use them: {}", files());
                    }
                    Err(error) => {
                        error!(target: "embed", "TLS files have changed and cannot be used, the ones before stay in use: {error}");
                    }
                }
            });
            if looked.await.is_err() {
                return;
            }
        }
    }
}
