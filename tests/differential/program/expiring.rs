//! Keys that expire.

use std::time::{Duration, Instant};
use std::{io, thread};

use crate::difference::same_events;
use crate::pair::Side;
use crate::program::{POLL, Program, SETTLE_MAX};
use crate::support::http::{Open, Reply, Request};

impl Program {
    /// Keys and directories that expire one after the other while several watches look on.
    pub(crate) fn run_expiring(&mut self) -> Result<(), String> {
        let watch = |target: &str| Request::get(&format!("/v2/keys{target}"));
        let watches: Vec<(Request, Open, Open)> = [
            "/x?wait=true&recursive=true&stream=true",
            "/x/d?wait=true",
            "/x/d/below?wait=true",
            "/x/k3?wait=true",
            "/x/_h?wait=true&stream=true",
            "/x/stays?wait=true",
        ]
        .into_iter()
        .map(|target| {
            let request = watch(target);
            let send = |side: &Side| {
                let open = Open::send(side.server.addr(), &request).map_err(|e| e.to_string())?;
                open.wait(SETTLE_MAX, |p| p.head.is_some());
                Ok::<_, String>(open)
            };
            let (theirs, ours) = (send(&self.pair.etcd)?, send(&self.pair.subject)?);
            Ok((request, theirs, ours))
        })
        .collect::<Result<_, String>>()?;
        let put = |key: &str, form: &str| {
            Request::new("PUT", format!("/v2/keys/x/{key}")).form(form.to_owned())
        };
        // First all that lasts, so that nothing expires before everything is there.
        self.ask(&put("stays", "value=1&ttl=5000"))?;
        self.ask(&put("d", "dir=true&ttl=5000"))?;
        self.ask(&put("d/below", "value=1"))?;
        self.ask(&put("d/_hidden/f", "value=1"))?;
        let mut keys = vec!["d".to_owned(), "_h".to_owned()];
        keys.extend((0..8).map(|n| format!("k{n}")));
        for n in (1..keys.len()).rev() {
            let other = usize::try_from(self.rng.below(n as u64 + 1)).unwrap_or(0);
            keys.swap(n, other);
        }
        for key in &keys {
            let form = if key == "d" { "prevExist=true&dir=true&ttl=2" } else { "value=1&ttl=2" };
            self.ask(&put(key, form))?;
        }
        // One is saved, one lives on under a new deadline.
        self.ask(&put("k0", "value=saved"))?;
        self.ask(&put("k1", "refresh=true&ttl=3&prevExist=true"))?;
        keys.retain(|key| key != "k0");
        let deadline = Instant::now() + Duration::from_secs(10);
        for key in &keys {
            let request = Request::get(&format!("/v2/keys/x/{key}"));
            self.lines.push(format!("await the end of {key}"));
            loop {
                let (theirs, ours) = self.pair.ask(&request);
                let gone = |reply: &io::Result<Reply>| {
                    reply.as_ref().is_ok_and(|reply| reply.status() == 404)
                };
                if gone(&theirs) && gone(&ours) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{key} does not expire: etcd {theirs:?}, we {ours:?}"));
                }
                thread::sleep(POLL);
            }
        }
        self.ask(&Request::get("/v2/keys/?recursive=true&sorted=true"))?;
        self.ask(&put("k3", "value=again"))?;
        self.ask(&put("_h", "value=again"))?;
        for (request, theirs, ours) in &watches {
            self.lines.push(format!("join {request}"));
            let settled = Instant::now() + SETTLE_MAX;
            while let Err(why) = same_events(&theirs.progress(), &ours.progress()) {
                if Instant::now() > settled {
                    return Err(format!("{request}: {why}"));
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }
}
