//! Outcomes of commands, as `/v2/stats/store` shows them.

use crate::model::{DecodeError, Reader, Writer};

/// One number of `/v2/stats/store` that the log moves. Reads and watchers are counted where they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the wire name of the same spelling")]
pub enum Counter {
    SetsSuccess,
    SetsFail,
    DeleteSuccess,
    DeleteFail,
    UpdateSuccess,
    UpdateFail,
    CreateSuccess,
    CreateFail,
    CompareAndSwapSuccess,
    CompareAndSwapFail,
    CompareAndDeleteSuccess,
    CompareAndDeleteFail,
    ExpireCount,
}

/// How many [`Counter`]s there are.
const COUNT: usize = 13;

/// All counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; COUNT]);

impl Counters {
    /// One of them.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// With so many more of one of them.
    #[must_use]
    pub fn plus(mut self, counter: Counter, number: u64) -> Self {
        let slot = &mut self.0[counter as usize];
        *slot = slot.saturating_add(number);
        self
    }

    /// The sum of both.
    #[must_use]
    pub fn plus_all(self, other: &Self) -> Self {
        let mut sum = self;
        for (slot, number) in sum.0.iter_mut().zip(other.0) {
            *slot = slot.saturating_add(number);
        }
        sum
    }

    pub(super) fn count(&mut self, counter: Counter) {
        self.0[counter as usize] += 1;
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.varint(COUNT as u64);
        for number in self.0 {
            out.varint(number);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut counters = Self::default();
        let count = input.varint("counter count")?;
        for place in 0..count {
            let number = input.varint("counter")?;
            if let Some(slot) = usize::try_from(place).ok().and_then(|at| counters.0.get_mut(at)) {
                *slot = number;
            }
        }
        Ok(counters)
    }
}
