//! Histograms for openraft's runtime statistics: one counter for each power of two.
//!
//! Stands in for the library of this name, of which it has what openraft calls. That library fills tables for sixteen precisions
//! when the first histogram is made, 25 MiB that stay resident, and openraft uses one of them. Cairn never shows these statistics,
//! so a power of two is precise enough; see `docs/adr/0031-a-histogram-without-tables.md`.

use std::fmt;
use std::marker::PhantomData;

/// Values have 0 to 64 bits.
const BUCKETS: usize = 65;

/// The longest bar of a chart, in characters.
const BAR: u64 = 40;

/// How often values of each length in bits were recorded. `T` is what the other library calls its slots by; there are none here.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentile_stats().fmt(f)
    }
}

impl<T> Histogram<T> {
    /// One in which nothing is recorded.
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], slots: PhantomData }
    }

    /// Records a value once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bits = u64::BITS - value.leading_zeros();
        if let Some(count) = self.counts.get_mut(bits as usize) {
            *count = count.saturating_add(times);
        }
    }

    /// How many values were recorded.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    /// The least number that is as long, in bits, as the value below which this part of all recorded values is, `part` between 0 and 1;
    /// 0 if there are none.
    pub fn percentile(&self, part: f64) -> u64 {
        let wanted = (self.total() as f64 * part).ceil().max(1.0);
        let mut so_far = 0_u64;
        for (bits, count) in self.counts.iter().enumerate() {
            so_far = so_far.saturating_add(*count);
            if so_far as f64 >= wanted {
                return least_of(bits);
            }
        }
        0
    }

    /// What is shown of it.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// The least number with so many bits.
fn least_of(bits: usize) -> u64 {
    match bits {
        0 => 0,
        bits => 1 << (bits - 1),
    }
}

/// Percentiles of a [`Histogram`], as [`Histogram::percentile`] says them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were recorded.
    pub samples: u64,
    /// One in a thousand is less.
    pub p0_1: u64,
    /// One in a hundred is less.
    pub p1: u64,
    /// One in twenty is less.
    pub p5: u64,
    /// One in ten is less.
    pub p10: u64,
    /// Half of them are less.
    pub p50: u64,
    /// Nine in ten are less.
    pub p90: u64,
    /// All but one in a hundred are less.
    pub p99: u64,
    /// All but one in a thousand are less.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[samples: {}", self.samples)?;
        for (name, value) in [
            ("P0.1", self.p0_1),
            ("P1", self.p1),
            ("P5", self.p5),
            ("P10", self.p10),
            ("P50", self.p50),
            ("P90", self.p90),
            ("P99", self.p99),
            ("P99.9", self.p99_9),
        ] {
            write!(f, ", {name}: {value}")?;
        }
        f.write_str("]")
    }
}

/// Histograms one below the other, with a bar for each power of two that occurs.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// One without a histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more, under this name.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.0.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            writeln!(f, "{name}")?;
            let most = histogram.counts.iter().copied().max().unwrap_or_default().max(1);
            for (bits, count) in
                histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0)
            {
                let bar = u128::from(*count) * u128::from(BAR) / u128::from(most);
                let bar = "#".repeat(usize::try_from(bar).unwrap_or_default());
                writeln!(f, "{:>20} {count:>12} {bar}", least_of(bits))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_power_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        for value in 1..=1000 {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        let found = [stats.samples, stats.p0_1, stats.p1, stats.p50, stats.p90, stats.p99_9];
        assert_eq!(found, [1000, 1, 8, 256, 512, 512]);
        histogram.record(0);
        histogram.record_n(u64::MAX, 2);
        assert_eq!((histogram.percentile(0.0), histogram.percentile(1.0)), (0, 1 << 63));
        assert_eq!(histogram.total(), 1003);
    }

    #[test]
    fn a_chart_has_a_line_for_each_power_of_two_that_occurs() {
        let mut histogram = Histogram::new();
        for value in [0, 5, 6] {
            histogram.record(value);
        }
        let chart = AsciiChart::new().add("sizes", histogram).to_string();
        let lines: Vec<_> =
            chart.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0], ["sizes"]);
        assert_eq!(lines[1..], [["0", "1", &"#".repeat(20)], ["4", "2", &"#".repeat(40)]]);
    }
}
