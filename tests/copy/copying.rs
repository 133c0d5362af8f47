//! Runs of the copy, and both key spaces as lists that can be compared.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{base64, call, number, text};
use crate::program::{Mirror, Said, pairs, run, tree, url};
use crate::support::server::{Flavor, Server};

/// A source and a target.
pub(crate) struct Both {
    pub(crate) source: Server,
    /// Nothing when the source is its own target.
    other: Option<Server>,
}

impl Both {
    pub(crate) fn of(from: Flavor, to: Flavor) -> Self {
        Self { source: Server::start(from), other: Some(Server::start(to)) }
    }

    pub(crate) fn alone(flavor: Flavor) -> Self {
        Self { source: Server::start(flavor), other: None }
    }

    /// Every way that is tested: between two, and within one.
    pub(crate) fn each() -> impl Iterator<Item = Self> {
        let pairs = pairs();
        let alone = [Flavor::Subject, Flavor::Etcd].into_iter().take(pairs.len().min(2));
        let alone = alone.collect::<Vec<_>>().into_iter().map(Self::alone);
        pairs.into_iter().map(|(from, to)| Self::of(from, to)).chain(alone)
    }

    pub(crate) fn target(&self) -> &Server {
        self.other.as_ref().unwrap_or(&self.source)
    }

    pub(crate) fn target_mut(&mut self) -> &mut Server {
        self.other.as_mut().unwrap_or(&mut self.source)
    }

    /// The address where version 3 is asked.
    pub(crate) fn v3(&self) -> SocketAddr {
        self.target().addr()
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let mut words = vec!["copy".to_owned(), "v2-to-v3".to_owned()];
        words.extend(["--from".to_owned(), url(&self.source)]);
        if let Some(other) = &self.other {
            words.extend(["--to".to_owned(), url(other)]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    /// Copies once.
    pub(crate) fn run(&self, more: &[&str]) -> Said {
        let words = self.words(more);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Copies once, which must go well; returns what it says as JSON.
    pub(crate) fn copied(&self, more: &[&str]) -> Value {
        let said = self.run(&[more, &["--json"]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// Copies once, which must be refused with these words.
    pub(crate) fn refused(&self, more: &[&str], code: i32, expected: &[&str]) {
        let said = self.run(more);
        assert_eq!(said.code, Some(code), "{said:?}");
        for expected in expected {
            assert!(said.err.contains(expected), "{expected:?}: {said:?}");
        }
    }

    /// A copy that has copied everything and follows.
    pub(crate) fn follow(&self, more: &[&str]) -> Mirror {
        let words = self.words(&[&["--follow"], more].concat());
        let mut copy = Mirror::of(&words.iter().map(String::as_str).collect::<Vec<_>>());
        copy.line("are copied");
        copy
    }

    /// The keys of version 2, with their values, and whether they have a lifetime of their own.
    pub(crate) fn files(&self, scope: &str) -> Vec<(String, String, bool)> {
        let all = tree(&self.source, scope).into_iter();
        all.filter_map(|(key, value, mortal)| Some((key, value?, mortal))).collect()
    }

    /// The keys of version 3.
    pub(crate) fn keys(&self) -> Vec<(String, String, bool)> {
        all(self.v3())
    }
}

/// All keys of version 3, with their values, and whether they are on a lease.
pub(crate) fn all(addr: SocketAddr) -> Vec<(String, String, bool)> {
    let every = json!({"key": base64([0]), "range_end": base64([0])});
    let answer = call(addr, "kv/range", &every);
    let kvs = answer["kvs"].as_array().into_iter().flatten();
    kvs.map(|kv| (text(&kv["key"]), text(&kv["value"]), number(&kv["lease"]) != 0)).collect()
}

/// The value of a key of version 3.
pub(crate) fn there(addr: SocketAddr, key: &str) -> Option<String> {
    crate::client::get(addr, key).map(|kv| text(&kv["value"]))
}

/// The lease of a key, and how many seconds it has left.
pub(crate) fn lease(addr: SocketAddr, key: &str) -> Option<(i64, i64)> {
    let id = number(&crate::client::get(addr, key)?["lease"]);
    if id == 0 {
        return None;
    }
    let left = call(addr, "lease/timetolive", &json!({"ID": id.to_string()}));
    Some((id, number(&left["TTL"])))
}
