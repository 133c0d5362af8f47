//! Watches that are open on both sides.

use std::thread;
use std::time::Instant;

use crate::escape::escaped;
use crate::pair::Side;
use crate::program::{POLL, Program, SETTLE_MAX, Watch};
use crate::support::http::{Open, Request};
use crate::support::server::subject_is_etcd;

const OPEN_MAX: usize = 6;

impl Program {
    pub(super) fn open(&mut self) -> Result<(), String> {
        if self.watches.len() >= OPEN_MAX {
            return self.join();
        }
        let now = self.pair.events.index;
        let from = match self.rng.below(10) {
            0..=4 => 0,
            5 => now + 1 + self.rng.below(4),
            6 => 1 + self.rng.below(now.max(1)),
            _ => now.saturating_sub(self.rng.below(30)).max(1),
        };
        self.open_from(from)
    }

    pub(super) fn open_from(&mut self, from: u64) -> Result<(), String> {
        let key = self.watched_key();
        let (recursive, stream) = (self.rng.chance(50), self.rng.chance(40));
        let now = self.pair.events.index;
        let mut target = format!("/v2/keys{key}?wait=true");
        for (on, text) in [(recursive, "&recursive=true"), (stream, "&stream=true")] {
            if on {
                target.push_str(text);
            }
        }
        if from > 0 {
            target.push_str(&format!("&waitIndex={from}"));
        }
        let request = Request::get(&escaped(&target));
        self.lines.push(format!("open {request}"));
        let send =
            |side: &Side| Open::send(side.server.addr(), &request).map_err(|e| e.to_string());
        let (theirs, ours) = (send(&self.pair.etcd)?, send(&self.pair.subject)?);
        for open in [&theirs, &ours] {
            if !open.wait(SETTLE_MAX, |p| p.head.is_some() || p.ended) {
                return Err("no headers of a watch".to_owned());
            }
        }
        let past = from > 0 && from <= now;
        self.watchers_differ |= past && !subject_is_etcd();
        let key = if key == "/" { key } else { key.trim_end_matches('/').to_owned() };
        let line = request.to_string();
        let from = if from == 0 { now + 1 } else { from };
        let watch = Watch { line, key, recursive, stream, past, from, theirs, ours };
        self.tally.count(if past { "watch past" } else { "watch live" });
        if let Some(head) = watch.theirs.progress().head.filter(|head| head.status != 200) {
            self.tally.count(&format!("watch {}", head.status));
        }
        self.settle(&watch)?;
        self.watches.push(watch);
        Ok(())
    }

    /// Waits until both sides have delivered the same.
    pub(super) fn settle(&mut self, watch: &Watch) -> Result<(), String> {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let (theirs, ours) = (watch.theirs.progress(), watch.ours.progress());
            match self.pair.compare_events(watch, &theirs, &ours) {
                Ok(None) => return Ok(()),
                Ok(Some(number)) => {
                    self.tally.count(&format!("improvement {number}"));
                    return Ok(());
                }
                Err(_) if Instant::now() < deadline => thread::sleep(POLL),
                Err(why) => return Err(format!("{}: {why}", watch.line)),
            }
        }
    }

    pub(super) fn settle_all(&mut self) -> Result<(), String> {
        self.lines.push("join all".to_owned());
        for watch in std::mem::take(&mut self.watches) {
            self.settle(&watch)?;
            let events = watch.theirs.progress().lines();
            self.tally.count(if events > 0 { "watch with events" } else { "watch without" });
        }
        Ok(())
    }

    pub(super) fn join(&mut self) -> Result<(), String> {
        if self.watches.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.watches.len() as u64);
        let watch = self.watches.swap_remove(usize::try_from(at).unwrap_or(0));
        self.lines.push(format!("join {}", watch.line));
        self.settle(&watch)?;
        let progress = watch.theirs.progress();
        self.tally.count(if progress.lines() > 0 { "watch with events" } else { "watch without" });
        if !progress.ended {
            self.watches.push(watch);
        }
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), String> {
        let open = |watch: &Watch| !watch.theirs.progress().ended;
        let Some(at) = self.watches.iter().position(open) else { return self.join() };
        let watch = self.watches.swap_remove(at);
        self.lines.push(format!("close {}", watch.line));
        self.settle(&watch)
    }
}
