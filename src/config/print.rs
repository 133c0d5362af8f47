//! What a member would run with, flag by flag, and where each value is from: as a configuration file, and as JSON.
//!
//! Never knows: what the values mean. Values that follow others are taken from the checked [`Config`].

use serde::Serialize;

use crate::config::Config;
use crate::config::flags::{self, Flag, Kind, Status};
use crate::config::parse::{Raw, Source, parse_bool, parse_number};

/// Flags that ask for something else than a member, or say where the others are.
const NO_SETTINGS: [&str; 3] = ["config-file", "version", "help"];
/// Other names of flags: shown only where they were used.
const OLD_NAMES: [&str; 3] = ["log-output", "ca-file", "peer-ca-file"];

/// One flag, as a member would run with it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The flag's name, without dashes.
    pub name: &'static str,
    /// Its value as it would be written on the command line.
    pub value: String,
    /// Where the value is from: `flag`, `variable NAME`, `file PATH`, `default`, or the flag that it follows.
    pub from: String,
    /// Why the flag has no effect; `None` when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignored: Option<&'static str>,
    #[serde(skip)]
    kind: Kind,
}

/// All flags that have an effect, and of the others those that were given.
pub(super) fn settings(raw: &Raw, config: &Config) -> Vec<Setting> {
    flags::all().filter_map(|flag| setting(raw, config, flag)).collect()
}

fn setting(raw: &Raw, config: &Config, flag: &Flag) -> Option<Setting> {
    let said = raw.source(flag.name);
    let ignored = match flag.status {
        Status::Works => None,
        Status::Ignored(why) => Some(why),
    };
    let quiet = ignored.is_some() || OLD_NAMES.contains(&flag.name);
    if NO_SETTINGS.contains(&flag.name) || (quiet && said.is_none()) {
        return None;
    }
    let (value, from) = match said {
        Some(source) => (raw.get(flag.name).to_owned(), origin(source)),
        None => unsaid(raw, config, flag)?,
    };
    Some(Setting { name: flag.name, value, from, ignored, kind: flag.kind })
}

fn origin(source: &Source) -> String {
    match source {
        Source::Flag => "flag".to_owned(),
        Source::Variable(name) => format!("variable {name}"),
        Source::File(path) => format!("file {path}"),
    }
}

/// The value of a flag that was not given; `None` where not even its default counts.
fn unsaid(raw: &Raw, config: &Config, flag: &Flag) -> Option<(String, String)> {
    let follows = |value: String, what: &str| Some((value, format!("follows {what}")));
    match flag.name {
        "data-dir" => follows(config.data_dir.display().to_string(), "--name"),
        // The founders are found elsewhere, or the list was for the first start.
        "initial-cluster" if config.discovery.is_some() || config.initial_cluster.is_empty() => {
            None
        }
        "initial-cluster" => {
            let pairs = config.initial_cluster.iter();
            let pairs =
                pairs.flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
            let list = pairs.collect::<Vec<_>>().join(",");
            follows(list, "--name and --initial-advertise-peer-urls")
        }
        "initial-cluster-token" if config.discovery.is_some() => {
            follows(config.initial_cluster_token.clone(), "--discovery or --discovery-srv")
        }
        "log-outputs" if raw.source("log-output").is_some() => None,
        "log-level" if raw.bool("debug") => follows("debug".to_owned(), "--debug"),
        "trusted-ca-file" if raw.source("ca-file").is_some() => None,
        "peer-trusted-ca-file" if raw.source("peer-ca-file").is_some() => None,
        _ => Some((flag.default.to_owned(), "default".to_owned())),
    }
}

/// A configuration file that says all this. A member that is started with it runs with the same values.
pub fn yaml(settings: &[Setting]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for setting in settings {
        let value = match setting.kind {
            // YAML reads other spellings otherwise than the command line does.
            Kind::Bool => parse_bool(&setting.value).unwrap_or(false).to_string(),
            Kind::Number => parse_number(&setting.value).unwrap_or(0).to_string(),
            Kind::Text | Kind::Urls | Kind::Origins | Kind::List | Kind::Choice(_) => {
                quoted(&setting.value)
            }
        };
        // A path can hold a line break, which would end the comment.
        let from = setting.from.escape_debug();
        let _ = write!(text, "{}: {value}  # {from}", setting.name);
        if let Some(why) = setting.ignored {
            let _ = write!(text, "; no effect: {why}");
        }
        text.push('\n');
    }
    text
}

/// The same as one array of objects.
pub fn json(settings: &[Setting]) -> String {
    let mut text = serde_json::to_string_pretty(settings).unwrap_or_default();
    text.push('\n');
    text
}

/// A text as YAML reads it back: JSON's form of a string is one of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings_of(words: &[&str]) -> Vec<Setting> {
        let words = words.iter().map(|word| (*word).to_owned());
        let none = |_: &str| -> std::io::Result<String> { unreachable!("no file") };
        let variables = [("ETCD_ELECTION_TIMEOUT".to_owned(), "0x7d0".to_owned())];
        config::settings(words, variables, none, |_| false).unwrap()
    }

    fn find<'a>(settings: &'a [Setting], name: &str) -> Option<(&'a str, &'a str)> {
        let found = settings.iter().find(|setting| setting.name == name);
        found.map(|setting| (setting.value.as_str(), setting.from.as_str()))
    }

    #[test]
    fn each_value_has_its_source() {
        let settings = settings_of(&["--name", "a b", "--max-wals=7"]);
        assert_eq!(find(&settings, "name"), Some(("a b", "flag")));
        assert_eq!(
            find(&settings, "election-timeout"),
            Some(("0x7d0", "variable ETCD_ELECTION_TIMEOUT"))
        );
        assert_eq!(find(&settings, "heartbeat-interval"), Some(("100", "default")));
        assert_eq!(find(&settings, "data-dir"), Some(("a b.cairn", "follows --name")));
        assert_eq!(find(&settings, "max-wals"), Some(("7", "flag")));
        assert_eq!(find(&settings, "max-snapshots"), None);
        assert!(yaml(&settings).contains("max-wals: 7  # flag; no effect: "));
    }
}
