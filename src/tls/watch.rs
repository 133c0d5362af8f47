//! Reads files again when they have changed.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info};

use crate::model::codes;
use crate::tls::Tls;
use crate::tls::certificate::{Ends, Left};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is said that a certificate has expired or soon will.
const TELL_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What was last said of the end of a side's certificate.
struct Told {
    ends: Option<Arc<Ends>>,
    left: Left,
    at: Instant,
}

impl Told {
    fn now(side: &Tls) -> Self {
        let ends = side.ends();
        let left = ends.as_ref().map_or(Left::Long, |ends| ends.left(UnixTime::now()));
        Self { ends, left, at: Instant::now() }
    }

    fn tell(&self) {
        if let Some(ends) = &self.ends {
            ends.tell(self.left);
        }
    }

    /// Says it again when something is new, and each day.
    fn look(&mut self, side: &Tls) {
        let now = Self::now(side);
        let certificate = |told: &Self| told.ends.as_ref().map(Arc::as_ptr);
        let same = certificate(&now) == certificate(self) && now.left == self.left;
        if !same || self.at.elapsed() > TELL_EVERY {
            now.tell();
            *self = now;
        }
    }
}

/// Follows the files of `sides` for as long as there are any, and the end of what is in them; what comes in `now` (SIGHUP) asks for
/// a look at once, and is answered when that is over.
pub async fn watch(mut sides: Vec<Arc<Tls>>, mut now: mpsc::Receiver<oneshot::Sender<()>>) {
    sides.retain(|side| side.files().next().is_some());
    let mut told: Vec<_> = sides.iter().map(|side| Told::now(side)).collect();
    told.iter().for_each(Told::tell);
    while !sides.is_empty() {
        // Either is a reason to look. An end of those who ask leaves the other one.
        let asked = match tokio::time::timeout(LOOK_EVERY, now.recv()).await {
            Ok(Some(asked)) => Some(asked),
            Ok(None) => {
                tokio::time::sleep(LOOK_EVERY).await;
                None
            }
            Err(_) => None,
        };
        for (side, told) in sides.iter().zip(&mut told) {
            // It reads files, which may hang.
            let looked = Arc::clone(side);
            if tokio::task::spawn_blocking(move || look(&looked)).await.is_err() {
                return;
            }
            told.look(side);
        }
        if let Some(asked) = asked {
            // Who no longer waits has given up on it.
            let _ = asked.send(());
        }
    }
}

/// Reads the files of a side again if they have changed, and says so.
fn look(side: &Tls) {
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
            error!(target: "embed", code = codes::TLS_FILES, "TLS files have changed and cannot be used, the ones before stay in use: {error}");
        }
    }
}
