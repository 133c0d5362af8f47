//! Variables → [`Raw`].
//!
//! One rule: every flag is read from `ETCD_<NAME>`; `CAIRN_<NAME>` is another word for it and wins. An empty variable
//! was not set. A flag on the command line wins over both.

use std::collections::BTreeMap;

use crate::config::flags::{self, FORGOTTEN};
use crate::config::parse::{Raw, Source, forgotten, misfit};
use crate::config::{Failure, Level, Notice};

/// Prefixes, the one that wins first.
const PREFIXES: [&str; 2] = ["CAIRN_", "ETCD_"];

/// The variables that may be ours, in the order of their names.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        Self(
            variables.into_iter().filter(|(name, value)| ours(name) && !value.is_empty()).collect(),
        )
    }

    /// The file that a variable names.
    pub(super) fn config_file(&self) -> Option<String> {
        PREFIXES.iter().find_map(|prefix| self.0.get(&format!("{prefix}CONFIG_FILE")).cloned())
    }

    /// Says what the flags have not said.
    pub(super) fn apply(self, raw: &mut Raw, notices: &mut Vec<Notice>) -> Result<(), Failure> {
        let mut note = |level, text| notices.push(Notice { level, text });
        let mut left = self.0;
        for flag in flags::all().filter(|flag| flag.name != "help") {
            let mut shadow = raw.said(flag.name).map(|_| "corresponding flag".to_owned());
            for prefix in PREFIXES {
                let name = format!("{prefix}{}", flag.variable());
                let Some(value) = left.remove(&name) else { continue };
                if let Some(shadow) = &shadow {
                    note(
                        Level::Warning,
                        format!(
                            "recognized environment variable {name}, but unused: shadowed by {shadow}"
                        ),
                    );
                    continue;
                }
                if let Some(why) = misfit(flag, &value) {
                    return Err(Failure::verifying(format!(
                        "invalid value \"{value}\" for {name}: {why}"
                    )));
                }
                note(
                    Level::Info,
                    format!("recognized and used environment variable {name}={value}"),
                );
                raw.set(flag, value, Source::Variable(name.clone()));
                shadow = Some(name);
            }
        }
        for name in FORGOTTEN {
            for prefix in PREFIXES {
                let variable = format!("{prefix}{}", name.to_ascii_uppercase().replace('-', "_"));
                if left.remove(&variable).is_some() {
                    notices.push(forgotten(name));
                }
            }
        }
        for (name, value) in left {
            let text = format!("unrecognized environment variable {name}={value}");
            notices.push(Notice { level: Level::Warning, text });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(pairs: &[(&str, &str)], said: &[(&str, &str)]) -> Result<(Raw, Vec<Notice>), Failure> {
        let (mut raw, mut notices) = (Raw::default(), Vec::new());
        for (name, value) in said {
            raw.set(flags::find(name).unwrap(), (*value).to_owned(), Source::Flag);
        }
        let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Variables::new(owned).apply(&mut raw, &mut notices)?;
        Ok((raw, notices))
    }

    #[test]
    fn a_variable_speaks_where_its_flag_is_silent() {
        let (raw, notices) = apply(&[("ETCD_DATA_DIR", "x"), ("PATH", "y")], &[]).unwrap();
        assert_eq!(raw.said("data-dir"), Some("x"));
        assert_eq!(notices[0].text, "recognized and used environment variable ETCD_DATA_DIR=x");
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn a_flag_wins_over_a_variable_even_over_a_wrong_one() {
        let pairs = [("ETCD_HEARTBEAT_INTERVAL", "abc")];
        let (raw, notices) = apply(&pairs, &[("heartbeat-interval", "50")]).unwrap();
        assert_eq!(raw.said("heartbeat-interval"), Some("50"));
        assert!(notices[0].text.ends_with("shadowed by corresponding flag"));
    }

    #[test]
    fn our_prefix_wins_over_the_one_of_etcd() {
        let pairs = [("ETCD_MAX_HEADERS", "7"), ("CAIRN_MAX_HEADERS", "8"), ("CAIRN_NAME", "n")];
        let (raw, notices) = apply(&pairs, &[]).unwrap();
        assert_eq!((raw.said("max-headers"), raw.said("name")), (Some("8"), Some("n")));
        assert!(
            notices.iter().any(|notice| notice.text.ends_with("shadowed by CAIRN_MAX_HEADERS"))
        );
    }

    #[test]
    fn an_empty_variable_was_not_set() {
        let pairs = [("ETCD_NAME", ""), ("ETCD_NOPE", ""), ("CAIRN_DEBUG", "")];
        let (raw, notices) = apply(&pairs, &[]).unwrap();
        assert_eq!((raw.said("name"), raw.said("debug")), (None, None));
        assert_eq!(notices, []);
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        let failure = apply(&[("ETCD_DEBUG", "maybe")], &[]).unwrap_err();
        assert_eq!(failure.code, 1);
        assert!(failure.text.contains("invalid value \"maybe\" for ETCD_DEBUG: parse error"));
    }
}
