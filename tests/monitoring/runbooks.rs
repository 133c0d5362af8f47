//! Each alert names a section that says what it means, where to look and what to do.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::prometheus::root;

const PAGE: &str = "docs/operations/runbooks.md";

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("it is there")
}

/// The alerts with their annotations.
fn alerts() -> Vec<(String, Value)> {
    let rules: Value = serde_norway::from_str(&read("monitoring/rules.yml")).expect("it is YAML");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let alerts = rules.filter_map(|rule| {
        let name = rule["alert"].as_str()?.to_owned();
        Some((name, rule["annotations"].clone()))
    });
    alerts.collect()
}

#[test]
fn each_alert_names_its_runbook_and_no_runbook_is_left_over() {
    let (alerts, page) = (alerts(), read(PAGE));
    assert!(alerts.len() > 10);
    let sections = page.split("\n## ").skip(1);
    let sections = sections.map(|section| section.split_once('\n').expect("a heading is a line"));
    let sections: Vec<_> = sections.filter(|(heading, _)| heading.starts_with("Cairn")).collect();
    for (alert, annotations) in &alerts {
        let wanted = format!("{PAGE}#{}", alert.to_lowercase());
        assert_eq!(annotations["runbook"], wanted, "the annotation of {alert}");
        let section = sections.iter().find(|(heading, _)| heading == alert);
        let (_, section) = section.unwrap_or_else(|| panic!("{PAGE} has no section {alert}"));
        for part in ["**Means:** ", "**Look:** ", "**Do:** "] {
            assert!(section.contains(part), "{alert} has no {part}");
        }
    }
    let named: BTreeSet<_> = alerts.iter().map(|(alert, _)| alert.as_str()).collect();
    let written: BTreeSet<_> = sections.iter().map(|(heading, _)| *heading).collect();
    assert_eq!(written, named);
}

/// Codes and metrics that a runbook sends its reader to.
#[test]
fn what_runbooks_point_at_is_there() {
    let (page, messages, metrics) =
        (read(PAGE), read("docs/messages.md"), read("docs/monitoring.md"));
    let letters = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let words: BTreeSet<_> = page.split(letters).collect();
    let is_code =
        |word: &&&str| word.len() == 4 && word.starts_with('C') && word[1..].parse::<u16>().is_ok();
    let codes: Vec<_> = words.iter().filter(is_code).collect();
    assert!(codes.len() > 10, "{codes:?}");
    for code in codes {
        assert!(messages.contains(&format!("\n### {code}\n")), "no message has the code {code}");
    }
    // The beginning of a name stands for all that begin so.
    let is_metric = |word: &&&str| word.starts_with("cairn_") || word.starts_with("etcd_");
    for metric in words.iter().filter(is_metric) {
        assert!(metrics.contains(&format!("| `{metric}")), "{metric} is no metric");
    }
}
