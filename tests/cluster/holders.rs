//! Clients of version 3 that hold something for a while: a lock by turns, keys for as long as their leases live.
//!
//! Owns: who holds the lock now, and until when a lease must live. Never knows: what is broken meanwhile. All calls are made
//! until they are answered, at one member after the other.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::http::ask_within;
use super::support::load::targets::{Stop, Targets};
use super::support::version_three::{base64, number, post};

/// A member that says nothing for so long is left.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// What is not over by then is never over.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);

/// Clients that want the lock.
const TURN_TAKERS: usize = 3;
/// How long one keeps it.
const TURN: Duration = Duration::from_millis(5);
/// The lease of such a client outlives every fault, so that nobody loses the lock while it is held.
const LOCK_TTL_S: u64 = 600;
const LOCK: &str = "turns";

/// Clients with a key on a lease.
const LESSEES: usize = 2;
const LEASE_TTL_S: u64 = 3;
/// So often a lease is kept alive before its client lets it die.
const KEEP_ALIVES: usize = 8;
/// The end of a lease that is kept alive so slowly is recorded each time.
const KEEP_ALIVE_PAUSES: [Duration; LESSEES] =
    [Duration::from_millis(400), Duration::from_millis(1700)];

/// What they came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// How often somebody had the lock.
    pub(crate) turns: usize,
    /// How often a lease was kept alive.
    pub(crate) kept: usize,
}

/// Clients at work.
pub(crate) struct Holders {
    stop: Stop,
    threads: Vec<JoinHandle<Result<Held, String>>>,
}

impl Holders {
    pub(crate) fn start(targets: &Targets) -> Self {
        let (stop, holder) = (Stop::default(), Arc::new(Mutex::new(None)));
        let client = |number: usize| Client {
            number,
            member: number,
            targets: targets.clone(),
            stop: stop.clone(),
        };
        let takers = (0..TURN_TAKERS).map(|number| {
            let (client, holder) = (client(number), Arc::clone(&holder));
            thread::spawn(move || client.take_turns(&holder))
        });
        let lessees = (TURN_TAKERS..TURN_TAKERS + LESSEES).map(|number| {
            let client = client(number);
            let pause = KEEP_ALIVE_PAUSES[number - TURN_TAKERS];
            thread::spawn(move || client.live_on_leases(pause))
        });
        let threads = takers.chain(lessees).collect();
        Self { stop, threads }
    }

    /// Lets all of them end; nothing of theirs is left in the store. The members must answer again.
    ///
    /// # Errors
    /// What must not be: two had the lock, a lease died too early or never.
    pub(crate) fn finish(self) -> Result<Held, String> {
        self.stop.stop();
        let mut all = Held::default();
        for thread in self.threads {
            let held = thread.join().expect("a client does not panic")?;
            all.turns += held.turns;
            all.kept += held.kept;
        }
        Ok(all)
    }
}

struct Client {
    number: usize,
    member: usize,
    targets: Targets,
    stop: Stop,
}

impl Client {
    /// One try at one member; the next one is at another if there is no answer.
    fn call(&mut self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = post(path, body);
        let reply = self
            .targets
            .get(self.member)
            .and_then(|addr| ask_within(addr, &request, ANSWER_MAX).ok());
        let answer = reply
            .and_then(|reply| Some((reply.status(), serde_json::from_slice(&reply.body).ok()?)));
        if !matches!(answer, Some((200 | 400 | 404, _))) {
            self.member = self.targets.after(self.member);
        }
        answer
    }

    /// Calls until one of these statuses comes; for what may be done twice.
    fn insist(&mut self, path: &str, body: &Value, statuses: &[u16]) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.call(path, body);
            match answer {
                Some((status, answer)) if statuses.contains(&status) => return Ok(answer),
                other if Instant::now() > deadline => {
                    return Err(format!("client {}: {path} {body}: {other:?}", self.number));
                }
                _ => thread::sleep(PAUSE),
            }
        }
    }

    /// A lease; one that was granted without an answer dies by itself.
    fn grant(&mut self, ttl_s: u64) -> Result<i64, String> {
        let granted = self.insist("lease/grant", &json!({"TTL": ttl_s.to_string()}), &[200])?;
        Some(number(&granted["ID"]))
            .filter(|id| *id != 0)
            .ok_or_else(|| format!("no lease: {granted}"))
    }

    fn revoke(&mut self, lease: i64) -> Result<(), String> {
        let body = json!({"ID": lease.to_string()});
        self.insist("lease/revoke", &body, &[200, 404]).map(|_| ())
    }

    fn take_turns(mut self, holder: &Mutex<Option<usize>>) -> Result<Held, String> {
        let mut held = Held::default();
        while !self.stop.pause(PAUSE) {
            let lease = self.grant(LOCK_TTL_S)?;
            let body = json!({"name": base64(LOCK), "lease": lease.to_string()});
            if let Some((200, _)) = self.call("lock/lock", &body) {
                let mine = self.number;
                let before = holder.lock().expect("nobody panics").replace(mine);
                if let Some(other) = before {
                    return Err(format!("clients {mine} and {other} have the lock at once"));
                }
                thread::sleep(TURN);
                *holder.lock().expect("nobody panics") = None;
                held.turns += 1;
            }
            // Also where the client does not know whether it had the lock.
            self.revoke(lease)?;
        }
        Ok(held)
    }

    fn live_on_leases(mut self, pause: Duration) -> Result<Held, String> {
        let mut held = Held::default();
        let key = base64(format!("lessees/{}", self.number));
        while !self.stop.pause(PAUSE) {
            let mut alive = Instant::now() + Duration::from_secs(LEASE_TTL_S);
            let lease = self.grant(LEASE_TTL_S)?;
            let put = json!({"key": key, "value": key, "lease": lease.to_string()});
            let mut is_put = false;
            for _ in 0..KEEP_ALIVES {
                if !is_put {
                    is_put = matches!(self.call("kv/put", &put), Some((200, _)));
                } else if let Some((200, found)) = self.call("kv/range", &json!({"key": key}))
                    && found["kvs"].as_array().is_none_or(Vec::is_empty)
                    && Instant::now() < alive
                {
                    return Err(format!(
                        "the key on lease {lease:x} is gone {:?} before its lease may end",
                        alive - Instant::now()
                    ));
                }
                let asked = Instant::now();
                let again = self.call("lease/keepalive", &json!({"ID": lease.to_string()}));
                if let Some((200, answer)) = again {
                    match number(&answer["result"]["TTL"]) {
                        1.. => {
                            held.kept += 1;
                            alive = asked + Duration::from_secs(LEASE_TTL_S);
                        }
                        _ if asked.elapsed() < ANSWER_MAX && Instant::now() < alive => {
                            return Err(format!("lease {lease:x} ended too early: {answer}"));
                        }
                        _ => break,
                    }
                }
                if self.stop.pause(pause) {
                    break;
                }
            }
            match self.stop.is_set() {
                true => self.revoke(lease)?,
                false => self.await_death(&key, lease)?,
            }
        }
        Ok(held)
    }

    /// Nobody keeps the lease alive any more: it ends by itself, and its key with it.
    fn await_death(&mut self, key: &str, lease: i64) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let life = json!({"ID": lease.to_string(), "keys": true});
        loop {
            let left = self.insist("lease/timetolive", &life, &[200])?;
            if number(&left["TTL"]) == -1 {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("lease {lease:x} does not end: {left}"));
            }
            thread::sleep(PAUSE);
        }
        let found = self.insist("kv/range", &json!({"key": key}), &[200])?;
        match found["kvs"].as_array().is_none_or(Vec::is_empty) {
            true => Ok(()),
            false => Err(format!("lease {lease:x} is gone, its key is not: {found}")),
        }
    }
}
