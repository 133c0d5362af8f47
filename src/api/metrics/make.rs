//! Metrics from names that are known to be valid.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, exponential_buckets};

pub(super) fn counter(name: &str, help: &str) -> IntCounter {
    known(IntCounter::new(name, help))
}

pub(super) fn gauge(name: &str, help: &str) -> IntGauge {
    known(IntGauge::new(name, help))
}

pub(super) fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    known(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

pub(super) fn doubling(first: f64, count: usize) -> Vec<f64> {
    known(exponential_buckets(first, 2.0, count))
}

/// Names, labels and buckets stand in these files, and a test makes them all.
pub(super) fn known<T>(made: prometheus::Result<T>) -> T {
    made.expect("names, labels and buckets are valid")
}
