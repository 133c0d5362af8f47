//! Which keys a part of the history is about, so that a search reads only the parts that may hold what it looks for.
//!
//! The history is cut into blocks. Once a block is full it gets a Bloom filter over two kinds of facts: "a watcher of just this
//! key sees an event in here", and "a recursive watcher of this directory sees an event below it in here". A search asks for
//! one of each. A filter may say yes without a reason, never no: what is read is decided by [`Filter::sees`] alone.
//!
//! Holds: memory and time follow what the history weighs. Two bytes for each fact, one fact for each key and directory that
//! a block's events name, repeated names for free; an append costs as much as its event has names, on average.

use std::ops::Range;
use std::sync::Arc;

use imbl::Vector;

use crate::model::{KEYS_PREFIX_HIDDEN, KeyPath, StoreIndex, scatter};
use crate::store::event::{Event, Removed};
use crate::store::filter::Filter;

/// Slots of a full block.
const SLOTS_MAX: u64 = 256;

/// A block is full as well when its events have this many names: long keys and large removals must not make its end a long
/// piece of work.
const NAMES_MAX: usize = 4096;

/// Of the Bloom filter, for each fact in it.
const BITS_PER_FACT: usize = 16;

/// Bits that each fact sets: one fact in a thousand is found by mistake.
const PROBES: u32 = 6;

/// The blocks of a history.
#[derive(Clone, Debug)]
pub(super) struct Summaries {
    full: Vector<Arc<Block>>,
    /// Where the block starts that is not full yet; it has no filter.
    open_from: StoreIndex,
    open_names: usize,
}

/// A full block.
#[derive(Debug)]
struct Block {
    slots: Range<StoreIndex>,
    facts: Bloom,
    /// Directories with so many keys that the event of their removal does not list them.
    large_removals: Box<[KeyPath]>,
}

impl Summaries {
    /// No blocks; the first slot will have the index `from`.
    pub(super) fn new(from: StoreIndex) -> Self {
        Self { full: Vector::new(), open_from: from, open_names: 0 }
    }

    /// A slot was appended, `next` comes after it. If that makes the open block full, returns where the block begins: it is
    /// to be closed.
    pub(super) fn appended(
        &mut self,
        event: Option<&Event>,
        next: StoreIndex,
    ) -> Option<StoreIndex> {
        self.open_names += event.map_or(0, names);
        let full = next.0 - self.open_from.0 >= SLOTS_MAX || self.open_names >= NAMES_MAX;
        full.then_some(self.open_from)
    }

    /// Closes the open block, which ends before `next`; `events` are those of it that are still kept.
    pub(super) fn close<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Arc<Event>>,
        next: StoreIndex,
    ) {
        let slots = self.open_from..next;
        self.full.push_back(Arc::new(Block::new(slots, events)));
        (self.open_from, self.open_names) = (next, 0);
    }

    /// Slots older than `oldest` are gone.
    pub(super) fn trim(&mut self, oldest: StoreIndex) {
        while self.full.front().is_some_and(|block| block.slots.end <= oldest) {
            self.full.pop_front();
        }
    }

    /// Bytes that the full blocks take, roughly.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let block = |block: &Arc<Block>| {
            std::mem::size_of::<Block>() + std::mem::size_of_val(&*block.facts.words)
        };
        self.full.iter().map(block).sum()
    }

    /// The parts of `slots` that may hold an event which `filter` sees, in order.
    pub(super) fn candidates<'a>(
        &'a self,
        slots: Range<StoreIndex>,
        filter: &'a Filter,
    ) -> impl Iterator<Item = Range<StoreIndex>> + 'a {
        let wanted = Wanted::by(filter);
        let (Ok(first) | Err(first)) =
            self.full.binary_search_by(|block| block.slots.end.cmp(&slots.start.next()));
        let full = self.full.focus().narrow(first..self.full.len());
        full.into_iter()
            .filter(move |block| block.may_hold(&wanted))
            .map(|block| block.slots.clone())
            .chain(std::iter::once(self.open_from..slots.end))
            .map(move |part| part.start.max(slots.start)..part.end.min(slots.end))
    }
}

impl Block {
    fn new<'a>(slots: Range<StoreIndex>, events: impl Iterator<Item = &'a Arc<Event>>) -> Self {
        let (mut facts, mut large_removals) = (Vec::new(), Vec::new());
        for event in events.filter(|event| !event.refresh) {
            note_facts(event, &mut facts);
            if event.removed == Removed::Many {
                large_removals.push(event.path.clone());
            }
        }
        facts.sort_unstable();
        facts.dedup();
        Self { slots, facts: Bloom::of(&facts), large_removals: large_removals.into() }
    }

    fn may_hold(&self, wanted: &Wanted<'_>) -> bool {
        self.facts.may_hold(wanted.at)
            || wanted.below.is_some_and(|fact| self.facts.may_hold(fact))
            || self.large_removals.iter().any(|dir| dir.below(&wanted.filter.path).is_some())
    }
}

/// The facts that a filter looks for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    at: u64,
    below: Option<u64>,
    filter: &'a Filter,
}

impl<'a> Wanted<'a> {
    fn by(filter: &'a Filter) -> Self {
        let hash = Hash::new().with(filter.path.as_bytes());
        let below = filter.recursive.then(|| hash.below());
        Self { at: hash.at(), below, filter }
    }
}

/// Pushes a fact for each filter that sees `event`: the other side of [`Filter::sees`].
fn note_facts(event: &Event, facts: &mut Vec<u64>) {
    let path = event.path.as_bytes();
    let hidden = path.windows(2).rposition(|pair| pair == [b'/', KEYS_PREFIX_HIDDEN]);
    let mut hash = Hash::new();
    for (place, byte) in path.iter().enumerate() {
        // The directory that ends here, unless something hidden comes between it and the event.
        if *byte == b'/' && hidden.is_none_or(|hidden| hidden < place) {
            facts.push(hash.below());
        }
        hash = hash.with(&[*byte]);
    }
    facts.push(hash.at());
    if let Removed::Paths(paths) = &event.removed {
        facts.extend(paths.iter().map(|rest| hash.with(rest).at()));
    }
}

/// How many facts an event makes at most.
fn names(event: &Event) -> usize {
    let removed = match &event.removed {
        Removed::Paths(paths) => paths.len(),
        Removed::Nothing | Removed::Many => 0,
    };
    event.path.depth() + 1 + removed
}

/// The hash of a key, byte by byte (FNV-1a), so that its directories come for free. It is scattered in the end: FNV alone hardly
/// changes its upper bits for short keys.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn with(self, bytes: &[u8]) -> Self {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, mix))
    }

    /// The fact about the key itself.
    fn at(self) -> u64 {
        scatter(self.0)
    }

    /// The fact about what is below it.
    fn below(self) -> u64 {
        scatter(!self.0)
    }
}

/// A set that may hold more than was put in, never less.
#[derive(Debug)]
struct Bloom {
    words: Box<[u64]>,
}

impl Bloom {
    fn of(facts: &[u64]) -> Self {
        let words = (facts.len() * BITS_PER_FACT).div_ceil(64);
        let mut words = vec![0; words].into_boxed_slice();
        for fact in facts {
            for (word, bit) in places(*fact, words.len()) {
                words[word] |= bit;
            }
        }
        Self { words }
    }

    fn may_hold(&self, fact: u64) -> bool {
        !self.words.is_empty()
            && places(fact, self.words.len()).all(|(word, bit)| self.words[word] & bit != 0)
    }
}

/// The bits of a fact among so many words: a word and a bit of it for each probe.
fn places(fact: u64, words: usize) -> impl Iterator<Item = (usize, u64)> {
    let bits = words as u64 * 64;
    // Two halves of a good hash make as many others as are needed; an odd step never stands still.
    let (start, step) = (fact >> 32, (fact & 0xffff_ffff) | 1);
    (0..u64::from(PROBES)).map(move |probe| {
        let bit = start.wrapping_add(step.wrapping_mul(probe)) % bits;
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    })
}
