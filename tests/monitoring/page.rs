//! One page of metrics, read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::support::http::{self, Request};

#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) families: BTreeMap<String, Family>,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// Names of labels, but for `le`.
    pub(crate) labels: BTreeSet<String>,
    /// Upper ends of the buckets of a histogram.
    pub(crate) buckets: BTreeSet<String>,
    /// Labels as they are written, and the value.
    pub(crate) samples: Vec<(String, f64)>,
}

impl Page {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        let reply = http::ask(addr, &Request::get("/metrics")).expect("an answer");
        assert_eq!(reply.status(), 200);
        Self::read(&reply.text())
    }

    pub(crate) fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').expect("a name and a type");
                let family = Family { kind: kind.to_owned(), ..Family::default() };
                let twice = page.families.insert(name.to_owned(), family);
                assert!(twice.is_none(), "{name} is there twice");
            } else if !line.starts_with('#') && !line.is_empty() {
                page.sample(line);
            }
        }
        page
    }

    fn sample(&mut self, line: &str) {
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest),
            None => line.split_once(' ').expect("a name and a value"),
        };
        let (labels, value) = rest.rsplit_once("} ").unwrap_or(("", rest));
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            let family = name.strip_suffix(end)?;
            self.families.get(family).filter(|family| family.kind != "gauge")?;
            Some(family.to_owned())
        });
        let family = histogram.unwrap_or_else(|| name.to_owned());
        let family = self.families.get_mut(&family).expect("a type comes before its samples");
        // None of the values has a comma or a quote in it.
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').expect("a label and a value");
            match label {
                "le" => {
                    // Go writes 1.048576e+06 for what others write as 1048576.
                    let end: f64 = value.trim_matches('"').parse().expect("a number");
                    family.buckets.insert(end.to_string());
                }
                _ => drop(family.labels.insert(label.to_owned())),
            }
        }
        family.samples.push((labels.to_owned(), value.parse().expect("a number")));
    }

    /// The value of a metric without labels, or of the one with these labels.
    pub(crate) fn value(&self, name: &str, labels: &str) -> Option<f64> {
        let samples = &self.families.get(name)?.samples;
        samples.iter().find(|(written, _)| written == labels).map(|(_, value)| *value)
    }
}
