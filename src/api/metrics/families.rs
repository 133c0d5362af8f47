//! Metric families made on the spot, from numbers that others count.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Opts};

use crate::api::metrics::make::{counter, gauge, known};

/// What a page shows.
#[derive(Default)]
pub(super) struct Families(pub(super) Vec<MetricFamily>);

/// Numbers that every member of a vector has: the value of its one label, and the number.
pub(super) type Labelled<T> = Vec<(String, T)>;

impl Families {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let metric = gauge(name, help);
        metric.set(shown(value));
        self.0.extend(metric.collect());
    }

    pub(super) fn real(&mut self, name: &str, help: &str, value: f64) {
        let metric = known(Gauge::new(name, help));
        metric.set(value);
        self.0.extend(metric.collect());
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        let metric = counter(name, help);
        metric.inc_by(value);
        self.0.extend(metric.collect());
    }

    /// A gauge of 1 whose label is the news.
    pub(super) fn labelled(&mut self, name: &str, help: &str, label: &str, value: &str) {
        self.gauge_by(name, help, label, &[(value.to_owned(), 1)]);
    }

    pub(super) fn by_action(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        let values: Vec<_> =
            values.iter().map(|(action, value)| ((*action).to_owned(), *value)).collect();
        self.counter_by(name, help, "action", &values);
    }

    pub(super) fn counter_by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(String, u64)],
    ) {
        let metric = known(IntCounterVec::new(Opts::new(name, help), &[label]));
        for (key, value) in values {
            metric.with_label_values(&[key.as_str()]).inc_by(*value);
        }
        self.0.extend(metric.collect());
    }

    pub(super) fn gauge_by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(String, u64)],
    ) {
        let metric = known(IntGaugeVec::new(Opts::new(name, help), &[label]));
        for (key, value) in values {
            metric.with_label_values(&[key.as_str()]).set(shown(*value));
        }
        self.0.extend(metric.collect());
    }

    pub(super) fn seconds_by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(String, f64)],
    ) {
        let metric = known(GaugeVec::new(Opts::new(name, help), &[label]));
        for (key, value) in values {
            metric.with_label_values(&[key.as_str()]).set(*value);
        }
        self.0.extend(metric.collect());
    }

    pub(super) fn counter_between(
        &mut self,
        name: &str,
        help: &str,
        local: &str,
        values: &[(String, u64)],
    ) {
        let metric = known(IntCounterVec::new(Opts::new(name, help), &["Local", "Remote"]));
        for (remote, value) in values {
            metric.with_label_values(&[local, remote.as_str()]).inc_by(*value);
        }
        self.0.extend(metric.collect());
    }

    pub(super) fn gauge_between(
        &mut self,
        name: &str,
        help: &str,
        local: &str,
        values: &[(String, u64)],
    ) {
        let metric = known(IntGaugeVec::new(Opts::new(name, help), &["Local", "Remote"]));
        for (remote, value) in values {
            metric.with_label_values(&[local, remote.as_str()]).set(shown(*value));
        }
        self.0.extend(metric.collect());
    }
}

fn shown(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
