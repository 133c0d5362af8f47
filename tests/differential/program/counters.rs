//! The counters of both sides.

use std::collections::BTreeMap;
use std::time::Instant;
use std::{io, thread};

use crate::program::{POLL, Program, SETTLE_MAX};
use crate::support::http::{Reply, Request};

impl Program {
    pub(super) fn read_counters(&mut self) -> Result<[BTreeMap<String, i64>; 2], String> {
        let read = |reply: io::Result<Reply>| {
            let body = reply.map_err(|e| e.to_string())?.body;
            serde_json::from_slice(&body).map_err(|e| format!("/v2/stats/store: {e}"))
        };
        let (theirs, ours) = self.pair.ask(&Request::get("/v2/stats/store"));
        Ok([read(theirs)?, read(ours)?])
    }

    /// Compares by how much the counters have moved.
    pub(super) fn check_counters(&mut self) -> Result<(), String> {
        self.lines.push("GET /v2/stats/store".to_owned());
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let now = self.read_counters()?;
            let moved = |side: usize| -> BTreeMap<&String, i64> {
                let before = |name: &String| self.counters[side].get(name).copied().unwrap_or(0);
                let skip = |name: &str| self.watchers_differ && name == "watchers";
                now[side]
                    .iter()
                    .filter(|(name, _)| !skip(name))
                    .map(|(name, value)| (name, value - before(name)))
                    .collect()
            };
            let (theirs, ours) = (moved(0), moved(1));
            if theirs == ours {
                self.tally.count("counters");
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("counters\n    etcd {theirs:?}\n    we   {ours:?}"));
            }
            thread::sleep(POLL);
        }
    }
}
