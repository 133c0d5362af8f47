//! Random numbers that can be had again: splitmix64 from a printed seed.

/// A stream of numbers that its seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end - 1`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(items.len() as u64)).expect("below a usize");
        &items[at]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// The seed from the variable `name`, else one from the clock; printed, so that a run can be had again.
pub(crate) fn seed_from_env(name: &str) -> u64 {
    let seed = std::env::var(name).ok().map_or_else(
        || super::time::since_1970().subsec_nanos().into(),
        |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    );
    eprintln!("seed: {name}={seed}");
    seed
}
