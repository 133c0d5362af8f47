//! What a connection asks next, for each load that asks.
//!
//! Owns: which key, which condition, and what is to be learned from an answer. Never knows: sockets, time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;

use crate::base::SplitMix;
use crate::bench::plan::{Load, Plan};
use crate::bench::request::{self, Common, Template};

/// One connection's way to ask.
pub(super) trait Asks: Send {
    /// The next request.
    fn next(&mut self) -> &[u8];

    /// Whether [`Asks::saw`] needs the bodies of answers.
    fn looks(&self) -> bool {
        false
    }

    /// Is told the answer to the last request.
    fn saw(&mut self, _status: u16, _body: &[u8]) {}
}

/// Where the next key comes from; of numbers in order, all connections share one count.
#[derive(Clone)]
pub(super) enum Choice {
    Random { numbers: SplitMix, keys: u64 },
    InOrder { next: Arc<AtomicU64>, keys: u64 },
}

impl Choice {
    /// That of a connection.
    pub(super) fn of(plan: &Plan, number: usize, next: &Arc<AtomicU64>) -> Self {
        match plan.sequential {
            true => Self::InOrder { next: Arc::clone(next), keys: plan.keys },
            false => Self::Random { numbers: shuffled(plan, number), keys: plan.keys },
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        match self {
            Self::Random { numbers, keys } => numbers.next() % *keys,
            Self::InOrder { next, keys } => next.fetch_add(1, Ordering::Relaxed) % *keys,
        }
    }
}

/// The random numbers of a connection.
fn shuffled(plan: &Plan, number: usize) -> SplitMix {
    let mut numbers = SplitMix::new(plan.seed.wrapping_add((number as u64) << 32));
    SplitMix::new(numbers.next())
}

/// Makes the way in which connection `number` asks. `next` counts keys for those that take them in order.
pub(super) fn of(
    plan: &Plan,
    common: &Common,
    number: usize,
    next: &Arc<AtomicU64>,
) -> Box<dyn Asks> {
    let keys = plan.keys;
    let shuffled = shuffled(plan, number);
    let choice = Choice::of(plan, number, next);
    let form = request::value(plan.value_bytes);
    let one = |request| Box::new(OneOfMany { request, choice: choice.clone() }) as Box<dyn Asks>;
    match plan.load {
        Load::Put => one(common.numbered("PUT", "keys", "", Some(&form))),
        Load::Get => one(common.numbered("GET", "keys", "", None)),
        Load::QuorumGet => one(common.numbered("GET", "keys", "?quorum=true", None)),
        Load::CreateInOrder => one(common.numbered("POST", "queue", "", Some(&form))),
        Load::Mixed => Box::new(Mixed {
            read: common.numbered("GET", "keys", "", None),
            write: common.numbered("PUT", "keys", "", Some(&form)),
            reads_percent: plan.reads_percent,
            dice: shuffled,
            choice,
        }),
        Load::CompareAndSwap => Box::new(Swap {
            common: common.clone(),
            form,
            known: BTreeMap::new(),
            asked: 0,
            request: Vec::new(),
            choice,
        }),
        Load::Ttl => Box::new(Leases::new(plan, common, number)),
        Load::Listing => Box::new(Same(common.single("GET", &format!("/{}", listed(keys)), ""))),
        Load::WatchOne
        | Load::WatchAlong
        | Load::WatchMany
        | Load::WatchRecursive
        | Load::IdleWatchers
        | Load::PutV3
        | Load::RangeV3
        | Load::SerializableV3
        | Load::TxnV3
        | Load::KeepAliveV3
        | Load::WatchOneV3
        | Load::WatchManyV3 => unreachable!("these wait, or go over gRPC"),
    }
}

/// The directory that is listed; each number of children has its own.
fn listed(keys: u64) -> String {
    format!("listing-{keys}")
}

/// Makes what is needed before a load begins: each of its keys once.
pub(super) fn filling(plan: &Plan, common: &Common, next: &Arc<AtomicU64>) -> Box<dyn Asks> {
    let directory = if plan.load == Load::CompareAndSwap {
        "cas".to_owned()
    } else if plan.load == Load::Listing {
        listed(plan.keys)
    } else {
        "keys".to_owned()
    };
    let form = request::value(plan.value_bytes);
    let choice = Choice::InOrder { next: Arc::clone(next), keys: plan.keys };
    Box::new(OneOfMany { request: common.numbered("PUT", &directory, "", Some(&form)), choice })
}

/// The same for ever.
struct Same(Vec<u8>);

impl Asks for Same {
    fn next(&mut self) -> &[u8] {
        &self.0
    }
}

/// The same of one key or another.
struct OneOfMany {
    request: Template,
    choice: Choice,
}

impl Asks for OneOfMany {
    fn next(&mut self) -> &[u8] {
        self.request.of(self.choice.number())
    }
}

/// Reads and writes.
struct Mixed {
    read: Template,
    write: Template,
    reads_percent: u64,
    dice: SplitMix,
    choice: Choice,
}

impl Asks for Mixed {
    fn next(&mut self) -> &[u8] {
        let number = self.choice.number();
        // The upper half of the number: where keys are random too, theirs comes from the same seed.
        match (self.dice.next() >> 32) % 100 < self.reads_percent {
            true => self.read.of(number),
            false => self.write.of(number),
        }
    }
}

/// Writes if the key is still as this connection knows it.
struct Swap {
    common: Common,
    form: Vec<u8>,
    /// The last index that was seen, by key.
    known: BTreeMap<u64, u64>,
    asked: u64,
    request: Vec<u8>,
    choice: Choice,
}

impl Asks for Swap {
    fn next(&mut self) -> &[u8] {
        self.asked = self.choice.number();
        // The first guess is wrong, and its answer says what is right.
        let index = self.known.get(&self.asked).copied().unwrap_or(1);
        let query = format!("?prevIndex={index}");
        let mut request = self.common.numbered("PUT", "cas", &query, Some(&self.form));
        self.request.clear();
        self.request.extend_from_slice(request.of(self.asked));
        &self.request
    }

    fn looks(&self) -> bool {
        true
    }

    fn saw(&mut self, status: u16, body: &[u8]) {
        let index = match status {
            412 => number_behind(body, b" != "),
            _ => number_behind(body, b"\"modifiedIndex\":"),
        };
        match index {
            Some(index) => self.known.insert(self.asked, index),
            None => self.known.remove(&self.asked),
        };
    }
}

/// Keeps keys alive: each belongs to one connection.
struct Leases {
    create: Template,
    refresh: Template,
    /// Numbers of its keys, and which of them are there as far as it knows.
    keys: Vec<u64>,
    alive: BTreeSet<u64>,
    at: usize,
}

impl Leases {
    fn new(plan: &Plan, common: &Common, number: usize) -> Self {
        let value = request::value(plan.value_bytes);
        let lease = [&value[..], format!("&ttl={}", plan.ttl_s).as_bytes()].concat();
        let held = String::from_utf8_lossy(&value).replacen("value", "prevValue", 1);
        let again = [&lease[..], b"&", held.as_bytes()].concat();
        let (first, step) = (number as u64, plan.connections);
        Self {
            create: common.numbered("PUT", "ttl", "", Some(&lease)),
            refresh: common.numbered("PUT", "ttl", "", Some(&again)),
            keys: (first..plan.keys.max(first + 1)).step_by(step).collect(),
            alive: BTreeSet::new(),
            at: 0,
        }
    }
}

impl Asks for Leases {
    fn next(&mut self) -> &[u8] {
        self.at = (self.at + 1) % self.keys.len();
        let number = self.keys[self.at];
        match self.alive.contains(&number) {
            true => self.refresh.of(number),
            false => self.create.of(number),
        }
    }

    fn looks(&self) -> bool {
        true
    }

    fn saw(&mut self, status: u16, _body: &[u8]) {
        let number = self.keys[self.at];
        match status {
            200 | 201 => self.alive.insert(number),
            _ => self.alive.remove(&number),
        };
    }
}

/// The number behind the first of these words.
pub(super) fn number_behind(text: &[u8], word: &[u8]) -> Option<u64> {
    let rest = &text[memmem::find(text, word)? + word.len()..];
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::flags::{self, Asked};

    /// The way in which connection 1 asks.
    fn asks(line: &str) -> Box<dyn Asks> {
        let words = line.split_whitespace().map(str::to_owned);
        let Ok(Asked::Run(plan)) = flags::read(words) else { panic!("{line}") };
        of(&plan, &Common::new("a:1", None, "/b"), 1, &Arc::default())
    }

    fn first_line(asks: &mut dyn Asks) -> String {
        let request = String::from_utf8_lossy(asks.next()).into_owned();
        request.lines().next().unwrap_or_default().replace(" HTTP/1.1", "").replace("000000", "~")
    }

    #[test]
    fn each_load_asks_for_what_it_is_called() {
        for (line, first) in [
            ("put --keys 1", "PUT /v2/keys/b/keys/~0000"),
            ("get --keys 1", "GET /v2/keys/b/keys/~0000"),
            ("qget --keys 1", "GET /v2/keys/b/keys/~0000?quorum=true"),
            ("mixed --keys 1 --reads 0", "PUT /v2/keys/b/keys/~0000"),
            ("mixed --keys 1 --reads 100", "GET /v2/keys/b/keys/~0000"),
            ("create-in-order", "POST /v2/keys/b/queue/~0000"),
            ("listing --keys 40", "GET /v2/keys/b/listing-40"),
            ("ttl --keys 2 --connections 2", "PUT /v2/keys/b/ttl/~0001"),
        ] {
            assert_eq!(first_line(&mut *asks(line)), first, "{line}");
        }
    }

    #[test]
    fn keys_come_in_order_or_from_the_seed() {
        let mut ordered = asks("put --keys 3 --sequential");
        let seen: Vec<_> = (0..4).map(|_| first_line(&mut *ordered)).collect();
        let last: Vec<_> = seen.iter().map(|line| &line[line.len() - 1..]).collect();
        assert_eq!(last, ["0", "1", "2", "0"]);
        let series = |line| {
            let mut asks = asks(line);
            (0..20).map(|_| first_line(&mut *asks)).collect::<Vec<_>>()
        };
        assert_eq!(series("get --seed 7"), series("get --seed 7"));
        assert_ne!(series("get --seed 7"), series("get --seed 8"));
    }

    #[test]
    fn a_swap_is_made_with_what_the_last_answer_said() {
        let mut swap = asks("cas");
        assert!(first_line(&mut *swap).ends_with("?prevIndex=1"));
        swap.saw(412, br#"{"errorCode":101,"cause":"[1 != 17]","index":20}"#);
        assert!(first_line(&mut *swap).ends_with("?prevIndex=17"));
        swap.saw(
            200,
            br#"{"node":{"modifiedIndex":21,"createdIndex":3},"prevNode":{"modifiedIndex":17}}"#,
        );
        assert!(first_line(&mut *swap).ends_with("?prevIndex=21"));
    }

    #[test]
    fn a_lease_that_was_lost_is_taken_anew() {
        let mut leases = asks("ttl --connections 2 --keys 2 --ttl 3 --value-size 2");
        let form = |asks: &mut dyn Asks| {
            let request = String::from_utf8_lossy(asks.next()).into_owned();
            request.split("\r\n\r\n").nth(1).map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(form(&mut *leases), "value=xx&ttl=3");
        leases.saw(201, b"");
        assert_eq!(form(&mut *leases), "value=xx&ttl=3&prevValue=xx");
        leases.saw(404, b"");
        assert_eq!(form(&mut *leases), "value=xx&ttl=3");
    }
}
