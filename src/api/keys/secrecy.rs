//! No answer holds a key or a value that its asker may not read: random states, users, roles and requests, answered by the code
//! that serves them, and looked through for secrets.
//!
//! What may be read is said here once more, in the plainest words, by the text of keys and patterns. The same cases must find
//! mistakes in the decision: each of [`MISTAKES`] is caught, or the test is worth nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Method;

use super::listing::Listing;
use super::parse::{KeysRequest, Parsed, Raw, parse};
use super::render::{self, When};
use super::shown;
use crate::base::SplitMix;
use crate::model::{
    KeyPath, LogPosition, LogTime, PathLimits, Refusal, StillClock, StoreIndex, WallOffset,
};
use crate::raft::{Observer, View};
use crate::replica::Hub;
use crate::store::{
    Access, Applied, Asker, AuthCommand, Command, GUEST, HistoryLimits, Identity, Intent,
    PasswordHash, Permissions, ROOT, Store, Write,
};

use std::sync::Arc;

const SEED: u64 = 20_240_229;
/// Requests that the decision itself must stand.
const CASES: usize = 40_000;
/// Requests within which a mistake must be found.
const CASES_OF_A_MISTAKE: usize = 40_000;
/// Requests to one state.
const REQUESTS: usize = 20;

/// The two questions that answers depend on.
struct Decision {
    name: &'static str,
    allows: fn(&Store, &Asker, &Access) -> bool,
    shows: fn(&Store, &Asker, &KeyPath) -> bool,
}

const DECISION: Decision =
    Decision { name: "the decision", allows: Store::allows, shows: Store::shows };

const MISTAKES: &[Decision] = &[
    Decision {
        name: "a right for one key is one for the subtree",
        allows: |store, asker, access| {
            store.allows(asker, &Access { recursive: false, ..access.clone() })
        },
        ..DECISION
    },
    Decision {
        name: "a right to write is one to read",
        allows: |store, asker, access| {
            store.allows(asker, access)
                || store.allows(asker, &Access { intent: Intent::WriteBelow, ..access.clone() })
        },
        ..DECISION
    },
    Decision {
        name: "a file may be named with a slash",
        allows: |store, asker, access| store.auth().allows_as_written(asker, access),
        ..DECISION
    },
    Decision {
        name: "users inherit from guests",
        allows: |store, asker, access| {
            store.allows(asker, access) || store.allows(&Asker::Guest, access)
        },
        ..DECISION
    },
    Decision {
        name: "guests may do everything",
        allows: |store, asker, access| *asker == Asker::Guest || store.allows(asker, access),
        ..DECISION
    },
    Decision {
        name: "an old password is as good as the new one",
        allows: |store, asker, access| store.allows(&without_password(asker), access),
        ..DECISION
    },
    Decision {
        name: "what may be read of a directory may be read of what is in it",
        allows: |store, asker, access| {
            let above = access.path.split_last().map(|(dir, _)| dir);
            store.allows(asker, access)
                || above.is_some_and(|path| store.allows(asker, &Access { path, ..access.clone() }))
        },
        ..DECISION
    },
    Decision {
        name: "a pattern for what is below matches the directory",
        allows: |store, asker, access| {
            let with_slash = Access { slash: true, ..access.clone() };
            store.allows(asker, access) || store.auth().allows_as_written(asker, &with_slash)
        },
        ..DECISION
    },
    Decision {
        name: "the root may be listed by all",
        allows: |store, asker, access| access.path.is_root() || store.allows(asker, access),
        ..DECISION
    },
    Decision { name: "everybody sees what stood there before", shows: |_, _, _| true, ..DECISION },
    Decision {
        name: "a right to write shows what stood there before",
        shows: |store, asker, path| {
            let intent = Intent::Write;
            let access = Access { intent, ..Access::to_see(path.clone()) };
            store.shows(asker, path) || store.allows(asker, &access)
        },
        ..DECISION
    },
    Decision {
        name: "guests see what stood there before",
        shows: |store, asker, path| *asker == Asker::Guest || store.shows(asker, path),
        ..DECISION
    },
];

fn without_password(asker: &Asker) -> Asker {
    match asker {
        Asker::Guest => Asker::Guest,
        Asker::User(identity) => {
            Asker::User(Arc::new(Identity { password: None, ..Identity::clone(identity) }))
        }
    }
}

/// A state, and what is known of it.
struct World {
    random: SplitMix,
    store: Store,
    /// Which key each value was written to. No two writes have the same.
    values: BTreeMap<String, String>,
    /// What each asker may read: patterns.
    askers: Vec<(Asker, Vec<String>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let store = Store::new(HistoryLimits { events_max: 1000, bytes_max: 1 << 20 });
        let random = SplitMix::new(seed);
        let mut this = Self { random, store, values: BTreeMap::new(), askers: Vec::new() };
        for _ in 0..12 {
            let path = KeyPath::from(this.key().as_str());
            let value = this.value(&path);
            let write = Write { value, dir: this.chance(10), ttl: None, refresh: false };
            this.store.apply(LogTime(1), &Command::Set { path, write });
            if this.chance(10) {
                let path = KeyPath::from(this.key().as_str());
                let command = Command::Delete { path, dir: true, recursive: true };
                this.store.apply(LogTime(1), &command);
            }
        }
        this.users();
        this
    }

    fn users(&mut self) {
        self.user(ROOT, &[]);
        self.auth(AuthCommand::Enable);
        let guest = self.permissions();
        self.auth(AuthCommand::DeleteRole { name: GUEST.into() });
        let name = GUEST.to_owned();
        self.auth(AuthCommand::CreateRole { name, permissions: guest.clone() });
        self.askers.push((Asker::Guest, guest.read.unwrap_or_default()));
        for user in ["u", "v"] {
            let roles = [format!("{user}1"), format!("{user}2"), "missing".to_owned()];
            let mut patterns = Vec::new();
            for role in &roles[..2] {
                let permissions = self.permissions();
                patterns.extend(permissions.read.clone().unwrap_or_default());
                self.auth(AuthCommand::CreateRole { name: role.clone(), permissions });
            }
            self.user(user, &roles);
            let password = self.store.auth().user(user).map(|user| user.password_set);
            let asker = Asker::User(Arc::new(Identity { name: user.into(), password }));
            // Some have another password by now.
            if self.chance(10) {
                self.user(user, &[]);
                patterns.clear();
            }
            self.askers.push((asker, patterns));
        }
    }

    fn user(&mut self, name: &str, roles: &[String]) {
        let password = Some(PasswordHash::new("hash"));
        let roles = (!roles.is_empty()).then(|| roles.to_vec());
        self.auth(AuthCommand::PutUser { name: name.to_owned(), password, roles });
    }

    fn auth(&mut self, command: AuthCommand) {
        let applied = self.store.apply(LogTime(1), &Command::Auth(command));
        assert!(matches!(applied, Applied::AuthChanged(_)), "{applied:?}");
    }

    fn below(&mut self, count: u64) -> u64 {
        self.random.next() % count
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A key of up to three components out of few names, so that requests and rights meet.
    fn key(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth)
            .map(|_| ["/a", "/b", "/ab", "/_h"][usize::try_from(self.below(4)).unwrap()])
            .collect()
    }

    fn value(&mut self, path: &KeyPath) -> Arc<[u8]> {
        let value = format!("V{}V", self.values.len());
        self.values.insert(value.clone(), path.to_string());
        value.into_bytes().into()
    }

    fn permissions(&mut self) -> Permissions {
        let mut list = || {
            let count = self.below(3);
            (0..count).map(|_| self.pattern()).collect()
        };
        let (read, write) = (Some(list()), Some(list()));
        Permissions { read, write }
    }

    fn pattern(&mut self) -> String {
        let key = self.key();
        match self.below(8) {
            0..=2 => key,
            3 => format!("{key}*"),
            4 | 5 => format!("{key}/*"),
            6 => format!("{key}/"),
            _ => ["", "/", "a*", "/a*b"][usize::try_from(self.below(4)).unwrap()].to_owned(),
        }
    }

    /// A request: method, key as it is written, query.
    fn request(&mut self) -> (Method, String, String) {
        let mut key = if self.chance(8) { String::new() } else { self.key() };
        if self.chance(30) {
            key.push('/');
        }
        let method = [Method::GET, Method::GET, Method::PUT, Method::POST, Method::DELETE];
        let method = method[usize::try_from(self.below(5)).unwrap()].clone();
        let mut query = Vec::new();
        if self.chance(30) {
            query.push("recursive=true".to_owned());
        }
        if method == Method::GET {
            if self.chance(40) {
                query.push("wait=true&stream=true&waitIndex=1".to_owned());
            }
            return (method, key, query.join("&"));
        }
        if self.chance(20) {
            query.push("dir=true".to_owned());
        }
        if self.chance(20) {
            query.push("prevValue=guess".to_owned());
        }
        if self.chance(20) {
            query.push(format!("prevIndex={}", 1 + self.below(12)));
        }
        if self.chance(20) {
            query.push(format!("prevExist={}", self.chance(50)));
        }
        if self.chance(20) {
            query.push("refresh=true&ttl=5".to_owned());
        } else {
            query.push(format!("value={GIVEN}"));
        }
        (method, key, query.join("&"))
    }
}

/// What clients write; it is no secret.
const GIVEN: &str = "given";

/// Everything that a client gets for its request.
fn answer(store: &Store, decision: &Decision, asker: &Asker, parsed: Parsed) -> Vec<u8> {
    let Parsed { request, access } = parsed;
    if !(decision.allows)(store, asker, &access) {
        return render::refusal(&Refusal::NotAllowed, StoreIndex(0)).to_vec();
    }
    let mut store = store.clone();
    let view =
        |store: &Store| Arc::new(View { store: store.clone(), position: LogPosition::default() });
    match request {
        KeysRequest::Get { listed, .. } => {
            let node = match store.get(&access.path).outcome {
                Ok(node) => node,
                Err(refusal) => return render::refusal(&refusal, store.index()).to_vec(),
            };
            let (when, view) = (When { now: LogTime(2), offset: WallOffset(0) }, view(&store));
            let recursive = listed.recursive;
            let (first, mut rest) = Listing::begin(&view, node, access.path, recursive, when, 100);
            let mut body = first.to_vec();
            while let Some(listing) = rest.as_mut().filter(|listing| !listing.is_done()) {
                body.extend_from_slice(&listing.next_block(100));
            }
            body
        }
        KeysRequest::Watch { from, stream } => {
            let hub = Hub::new(10, Arc::new(StillClock));
            hub.replaced(&view(&store));
            // Whether it may watch was decided above; what it is told is looked at here.
            let root = Identity { name: ROOT.into(), password: None };
            let root = Asker::User(Arc::new(root));
            let reply = hub.watch(&view(&store), access.clone(), root, from, stream);
            let mut watch = reply.expect("there is room").outcome.expect("all events are there");
            let mut body = Vec::new();
            while let Some(Some(notice)) = watch.next().now_or_never() {
                let itself = access.slash && notice.event.path == access.path;
                let shows = !itself || (decision.shows)(&store, asker, &access.path);
                body.extend_from_slice(&shown::told(shows, &notice));
            }
            body
        }
        KeysRequest::Write { command, terse } => {
            let applied = store.apply(LogTime(3), &command);
            let shows = |path: &KeyPath| (decision.shows)(&store, asker, path);
            let body: Bytes = match &applied {
                Applied::Changed(event) => shown::written(shows(&event.path), event, terse),
                Applied::Refused(refusal) => {
                    let refusal = shown::refused(shows(&access.path), refusal);
                    render::refusal(&refusal, store.index())
                }
                Applied::Expired(_)
                | Applied::Recorded
                | Applied::Known
                | Applied::Outdated
                | Applied::AuthChanged(_)
                | Applied::AuthRefused(_)
                | Applied::Mvcc(_) => panic!("{applied:?}"),
            };
            body.to_vec()
        }
    }
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => !pattern.is_empty() && pattern == key,
    }
}

/// The first thing in `body` that the asker may not read.
fn leak(
    world: &World,
    patterns: &[String],
    asked: &str,
    lists: bool,
    body: &str,
) -> Option<String> {
    let may_read = |key: &str| patterns.iter().any(|pattern| matches(pattern, key));
    let path = asked.trim_end_matches('/');
    // A right for a directory is one for its listing: what is directly in it.
    let listed = |key: &str| {
        let dir = key.rsplit_once('/').map_or("", |(dir, _)| dir);
        lists && dir == path && may_read(asked)
    };
    for part in body.split('V').skip(1).step_by(2) {
        let value = format!("V{part}V");
        let key = world.values.get(&value)?;
        if !may_read(key) && !listed(key) {
            return Some(format!("the value of {key}"));
        }
    }
    for part in body.split("\"key\":\"").skip(1) {
        let key = part.split('"').next().unwrap_or_default();
        let named = key == path || path.starts_with(&format!("{key}/"));
        let made = key.rsplit_once('/').is_some_and(|(dir, name)| dir == path && name.len() == 20);
        if !named && !made && !may_read(key) && !listed(key) {
            return Some(format!("the key {key}"));
        }
    }
    None
}

/// Looks for a leak in so many answers.
fn search(decision: &Decision, cases: usize) -> Option<String> {
    let limits = PathLimits { bytes_max: 1000, depth_max: 100 };
    for number in 0..cases / REQUESTS {
        let mut world = World::new(SEED + number as u64);
        for _ in 0..REQUESTS {
            let (method, key, query) = world.request();
            let (path, content_type, body) = (key.as_bytes(), None, &b""[..]);
            let query_bytes = query.as_bytes();
            let raw = Raw { method: &method, path, query: query_bytes, content_type, body, limits };
            let parsed = parse(&raw).unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"));
            let recursive = parsed.access.recursive;
            let lists = matches!(parsed.request, KeysRequest::Get { .. }) && !recursive;
            let which = usize::try_from(world.below(3)).unwrap();
            let (asker, patterns) = world.askers[which].clone();
            let body = answer(&world.store, decision, &asker, parsed);
            let body = String::from_utf8(body).expect("these keys and values are text");
            if let Some(found) = leak(&world, &patterns, &key, lists, &body) {
                return Some(format!(
                    "{}: {found} in the answer to {method} {key}?{query} of {asker:?}, who may read {patterns:?}: {body} \
                     (seed {SEED} + {number})",
                    decision.name
                ));
            }
        }
    }
    None
}

#[test]
fn no_answer_holds_what_its_asker_may_not_read() {
    if let Some(found) = search(&DECISION, CASES) {
        panic!("{found}");
    }
}

#[test]
fn each_mistake_in_the_decision_is_found() {
    for mistake in MISTAKES {
        let found = search(mistake, CASES_OF_A_MISTAKE);
        assert!(found.is_some(), "nothing leaks when {}", mistake.name);
    }
}
