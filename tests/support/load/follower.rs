//! A watcher that goes on: over events, over members, over failures.
//!
//! Owns: where it watches and what it got, as it came. Never knows: what it should have got. After each event it asks for
//! the next index; after a failure for the same one again.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::targets::{Stop, Targets};
use super::wire::Success;
use super::{Api, gateway};
use crate::support::history::{Event, Watcher};
use crate::support::http::{Connection, Request};

/// A connection over which nothing came for so long is given up: its member may be frozen or cut off.
const QUIET_MAX: Duration = Duration::from_secs(2);
/// Pause before the next try after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// More events than these are not kept.
const EVENTS_MAX: usize = 2_000_000;

/// How it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    LongPoll,
    Stream,
}

/// Where it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// At this member first, after each failure at the next one.
    Anywhere(usize),
    /// At this member only.
    Only(usize),
}

/// What it watches.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    pub(crate) api: Api,
    pub(crate) name: String,
    /// The directory, recursively.
    pub(crate) prefix: String,
    pub(crate) from: u64,
    pub(crate) style: Style,
    pub(crate) home: Home,
}

/// A watcher at work.
pub(crate) struct Follower {
    follow: Follow,
    targets: Targets,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: Stop,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// Why it cannot go on.
    lost: Option<String>,
    /// The connection, so that the task that stops it can cut it.
    stream: Option<TcpStream>,
    /// The last failure, for a caller that waits in vain.
    trouble: String,
}

impl Follower {
    pub(crate) fn start(targets: &Targets, follow: Follow) -> Self {
        let shared = Arc::new(Shared::default());
        let member = match follow.home {
            Home::Anywhere(member) | Home::Only(member) => member,
        };
        let watch = Watch {
            next: follow.from,
            follow: follow.clone(),
            targets: targets.clone(),
            member,
            shared: Arc::clone(&shared),
        };
        let thread = Some(thread::spawn(move || watch.run()));
        Self { follow, targets: targets.clone(), shared, thread }
    }

    /// Waits until it has an event of `until` or later and ends it. Later ones are left out.
    ///
    /// A watcher at a member that is no more is not waited for.
    ///
    /// # Errors
    /// When it was told that the history is gone, or does not come so far within `limit`.
    pub(crate) fn finish(mut self, until: u64, limit: Duration) -> Result<Watcher, String> {
        let gone =
            matches!(self.follow.home, Home::Only(member) if self.targets.get(member).is_none());
        let there = |state: &State| state.events.iter().any(|event| event.index >= until);
        let mut reached = gone;
        if !gone {
            let state = self.shared.lock();
            let wait = |state: &mut State| !there(state) && state.lost.is_none();
            let waited = self.shared.changed.wait_timeout_while(state, limit, wait);
            reached = there(&waited.expect("a watcher does not panic").0);
        }
        self.end();
        let mut state = self.shared.lock();
        let Follow { name, prefix, from, .. } = self.follow.clone();
        if let Some(why) = &state.lost {
            return Err(format!("watcher {name:?}: {why}"));
        }
        if !reached {
            let last = state.events.last().map_or(0, |event| event.index);
            let trouble = &state.trouble;
            return Err(format!(
                "watcher {name:?} is at {last}, not at {until}; last: {trouble:?}"
            ));
        }
        let mut events = std::mem::take(&mut state.events);
        events.retain(|event| event.index <= until);
        Ok(Watcher { name, from, until: if gone { 0 } else { until }, prefix, events })
    }

    fn end(&mut self) {
        self.shared.stop.stop();
        if let Some(stream) = self.shared.lock().stream.take() {
            // Closed by the member already is fine too.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a watcher panicked");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a watcher does not panic")
    }
}

/// The thread of a watcher.
struct Watch {
    follow: Follow,
    targets: Targets,
    member: usize,
    /// The index that it asks for next.
    next: u64,
    shared: Arc<Shared>,
}

/// Why a round of watching ended.
enum End {
    Failed(String),
    Lost(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Watch {
    fn run(mut self) {
        loop {
            let end = match self.targets.get(self.member) {
                Some(addr) => self.watch(addr),
                None => End::Failed("this member is no more".to_owned()),
            };
            let mut state = self.shared.lock();
            state.stream = None;
            match end {
                End::Lost(why) => {
                    state.lost = Some(why);
                    self.shared.changed.notify_all();
                    return;
                }
                End::Failed(why) => state.trouble = format!("member {}: {why}", self.member),
            }
            drop(state);
            if self.shared.stop.pause(PAUSE) {
                return;
            }
            if let Home::Anywhere(_) = self.follow.home {
                self.member = self.targets.after(self.member);
            }
        }
    }

    /// Watches over one connection until that fails.
    fn watch(&mut self, addr: SocketAddr) -> End {
        let mut connection = match self.connect(addr) {
            Ok(connection) => connection,
            Err(error) => return error.into(),
        };
        loop {
            if let Err(end) = self.round(&mut connection) {
                return end;
            }
            if self.shared.stop.is_set() || !connection.is_reusable() {
                return End::Failed("closed".to_owned());
            }
        }
    }

    fn connect(&self, addr: SocketAddr) -> io::Result<Connection> {
        let connection = Connection::open_within(addr, QUIET_MAX)?;
        self.shared.lock().stream = Some(connection.stream().try_clone()?);
        // The signal is set before connections are cut; so either this connection is cut, or it is not used.
        match self.shared.stop.is_set() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(connection),
        }
    }

    /// One request: a long poll brings one event at most, a stream any number.
    fn round(&mut self, connection: &mut Connection) -> Result<(), End> {
        let request = self.request();
        connection.send(&request)?;
        let head = connection.read_head(&request.method, Instant::now() + QUIET_MAX)?;
        let mut line = Vec::new();
        while let Some(piece) = connection.read_piece(Instant::now() + QUIET_MAX)? {
            line.extend_from_slice(&piece);
            while let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                let text: Vec<u8> = line.drain(..=end).collect();
                if head.status != 200 {
                    return Err(refused(head.status, &text));
                }
                self.got(&text)?;
            }
        }
        Ok(())
    }

    fn request(&self) -> Request {
        let (prefix, next) = (&self.follow.prefix, self.next);
        let stream = match (self.follow.api, self.follow.style) {
            (Api::V3, _) => return gateway::watch(prefix, next),
            (Api::V2, Style::Stream) => "&stream=true",
            (Api::V2, Style::LongPoll) => "",
        };
        let target = format!("/v2/keys{prefix}?wait=true&recursive=true{stream}&waitIndex={next}");
        Request::get(&target)
    }

    fn got(&mut self, text: &[u8]) -> Result<(), End> {
        let told = || String::from_utf8_lossy(text).into_owned();
        let events = match self.follow.api {
            Api::V2 => {
                let event: Success = serde_json::from_slice(text)
                    .map_err(|error| End::Lost(format!("no event, {error}: {}", told())))?;
                vec![event.event()]
            }
            // A member that stops or has lost its leader ends the stream with a word.
            Api::V3 if text.starts_with(b"{\"error\"") => return Err(End::Failed(told())),
            Api::V3 => gateway::events(text).map_err(End::Lost)?,
        };
        self.next = events.iter().map(|event| event.index + 1).fold(self.next, u64::max);
        let mut state = self.shared.lock();
        if state.events.len() + events.len() > EVENTS_MAX {
            return Err(End::Lost("more events than are kept".to_owned()));
        }
        state.events.extend(events);
        self.shared.changed.notify_all();
        Ok(())
    }
}

/// A watch that is refused for good: the history is gone, or the request is wrong. Others may work elsewhere or later.
fn refused(status: u16, text: &[u8]) -> End {
    let why = format!("refused with {status}: {}", String::from_utf8_lossy(text).trim_end());
    if status == 400 { End::Lost(why) } else { End::Failed(why) }
}
