//! Plays the recorded corpus of `tests/conformance/` against the program under test.
//!
//! One test per area, each with servers of its own. Where we differ from etcd on purpose a row of
//! `improved.csv` says so. The variables and the format are explained in the README beside the data.
//!
//! `proxied` plays all of it once more through a proxy in front of each server; `proxied.csv` has the rows of what differs there.

#[path = "../support/mod.rs"]
mod support;

mod case;
mod expectations;
mod improved;
mod lane;
mod seen;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use improved::{Improved, improved, proxied};
use lane::{Lane, Way};
use serde_json::Value;
use support::server::subject_is_etcd;
use value::{list, text};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

macro_rules! areas {
    ($($test:ident $file:literal $lanes:literal;)*) => {
        mod areas {
            use crate::lane::Way;

            $(#[test]
            fn $test() {
                crate::play($file, $lanes, &[Way::FastPath, Way::Types, Way::Library]);
            })*
        }
        mod proxied {
            use crate::lane::Way;

            $(#[test]
            fn $test() {
                crate::play($file, $lanes, &[Way::Proxy]);
            })*
        }
        const AREAS: &[&str] = &[$($file),*];
    };
}

// The number is that of servers among which the cases are dealt out: areas that wait a lot have more.
areas! {
    keys_ttl "keys-ttl" 8;
    auth "auth" 3;
    watch "watch" 4;
    watch_actions "watch-actions" 3;
    stats "stats" 3;
    members "members" 2;
    limits "limits" 1;
    watch_history "watch-history" 2;
    keys_badinput "keys-badinput" 1;
    keys_basic "keys-basic" 1;
    keys_cas_matrix "keys-cas-matrix" 1;
    keys_cas "keys-cas" 1;
    keys_delete_matrix "keys-delete-matrix" 1;
    keys_dir_matrix "keys-dir-matrix" 1;
    keys_dir "keys-dir" 1;
    keys_hidden "keys-hidden" 1;
    keys_inorder "keys-inorder" 1;
    keys_paths "keys-paths" 1;
    headers "headers" 1;
    version_health "version-health" 1;
}

/// Plays one file, its cases dealt out to `lanes` servers, and fails with the list of what failed. Each case is played on each of
/// these ways.
fn play(area: &str, lanes: usize, ways: &[Way]) {
    let improved = match (subject_is_etcd(), ways) {
        (true, _) => BTreeMap::new(),
        (false, [Way::Proxy]) => with_proxied(improved()),
        (false, _) => improved(),
    };
    let only = env::var("CONFORMANCE_ONLY").unwrap_or_default();
    let cases: Vec<Value> =
        load(area).into_iter().filter(|case| text(case, "name").contains(&only)).collect();
    let failures: Vec<String> = thread::scope(|scope| {
        let dealt = (0..lanes).flat_map(|lane| ways.iter().map(move |way| (lane, *way)));
        let lanes: Vec<_> = dealt
            .map(|(lane, way)| {
                let cases = cases.iter().skip(lane).step_by(lanes).collect::<Vec<_>>();
                let improved = &improved;
                scope.spawn(move || Lane::new(area, lane, way).play(&cases, improved))
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane does not panic")).collect()
    });
    for failure in &failures {
        eprintln!("{failure}");
    }
    let names: Vec<&str> = failures.iter().filter_map(|f| f.lines().next()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases of {area} failed (again: CONFORMANCE_ONLY=NAME cargo test --test conformance):\n{}",
        failures.len(),
        ways.len() * cases.len(),
        names.join("\n")
    );
}

/// What differs through a proxy differs whatever the server does.
fn with_proxied(mut rows: BTreeMap<String, Improved>) -> BTreeMap<String, Improved> {
    rows.extend(proxied());
    rows
}

fn load(area: &str) -> Vec<Value> {
    let file = corpus().join(format!("{area}.json"));
    let data = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let doc: Value = serde_json::from_slice(&data).expect("the corpus is JSON");
    assert_eq!(doc["format"], "etcd-v2-conformance/1", "{}", file.display());
    list(&doc, "cases").to_vec()
}

#[test]
fn every_improved_case_is_a_quirk_of_the_corpus() {
    let cases: Vec<Value> = AREAS.iter().flat_map(|area| load(area)).collect();
    for name in improved().keys() {
        let case = cases.iter().find(|case| text(case, "name") == name);
        let case = case.unwrap_or_else(|| panic!("improved.csv names {name}, which is no case"));
        assert!(case.get("quirk").is_some(), "improved.csv names {name}, which is not a quirk");
    }
}

#[test]
fn every_proxied_case_is_one_of_the_corpus() {
    let cases: Vec<Value> = AREAS.iter().flat_map(|area| load(area)).collect();
    for name in proxied().keys() {
        assert!(cases.iter().any(|case| text(case, "name") == name), "proxied.csv: no case {name}");
    }
}

#[test]
fn every_file_of_the_corpus_is_played() {
    let mut files: Vec<String> = fs::read_dir(corpus())
        .expect("the corpus is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort_unstable();
    let mut areas = AREAS.to_vec();
    areas.sort_unstable();
    assert_eq!(files, areas);
}
