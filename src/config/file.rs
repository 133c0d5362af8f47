//! YAML file → [`Raw`].
//!
//! Keys are named as the flags. etcd passes over keys that it does not know; here they are refused: a misspelt key
//! would quietly mean its default.

use serde_norway::Value;

use crate::config::Failure;
use crate::config::flags::{self, Flag, Kind, Status};
use crate::config::parse::{Raw, misfit};

/// Flags that mean nothing in a file.
const NOT_IN_FILES: [&str; 3] = ["config-file", "version", "help"];
/// Keys with keys of their own, and a flag of what they are about.
const NESTED: [(&str, &str); 2] =
    [("client-transport-security", "cert-file"), ("peer-transport-security", "peer-cert-file")];

/// What is wrong with a file.
pub(super) fn failure(path: &str, why: &str) -> Failure {
    Failure::verifying(format!("--config-file {path}: {why}"))
}

/// Reads a file. It says everything or nothing: whatever it leaves out has its default.
pub(super) fn parse(path: &str, contents: &str) -> Result<Raw, Failure> {
    let fail = |why: String| failure(path, &why);
    let yaml = serde_norway::from_str(contents).map_err(|error| fail(error.to_string()))?;
    let keys = match yaml {
        Value::Null => return Ok(Raw::default()),
        Value::Mapping(keys) => keys,
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Sequence(_)
        | Value::Tagged(_) => {
            return Err(fail("write one `flag: value` on each line".to_owned()));
        }
    };
    let mut raw = Raw::default();
    for (key, value) in keys {
        let Some(key) = key.as_str() else {
            return Err(fail(format!("unknown key {key:?}: keys are named as the flags")));
        };
        if let Some((_, flag)) = NESTED.iter().find(|(name, _)| *name == key) {
            nested(key, flag, &value).map_err(&fail)?;
            continue;
        }
        let known = flags::find(key).filter(|flag| !NOT_IN_FILES.contains(&flag.name));
        let Some(flag) = known else {
            return Err(fail(format!("unknown key \"{key}\": keys are named as the flags")));
        };
        let Some(value) = text(flag, value).map_err(&fail)? else { continue };
        if let Some(why) = misfit(flag, &value) {
            return Err(fail(format!("invalid value \"{value}\" for {key}: {why}")));
        }
        raw.set(flag, value);
    }
    Ok(raw)
}

/// A value as it would stand on the command line; `None` for none.
///
/// A text must be written as one: YAML reads `0x10` and `1e3` as numbers and would not give back what was written.
fn text(flag: &Flag, value: Value) -> Result<Option<String>, String> {
    let key = flag.name;
    let list = matches!(flag.kind, Kind::Urls | Kind::Origins | Kind::List);
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Bool(value) if flag.kind == Kind::Bool => Ok(Some(value.to_string())),
        Value::Number(value) if flag.kind == Kind::Number => Ok(Some(value.to_string())),
        Value::Sequence(items) if list => {
            let texts: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
            let texts = texts
                .ok_or_else(|| format!("the items of {key} must be texts: put them in quotes"))?;
            Ok(Some(texts.join(",")))
        }
        Value::Bool(_)
        | Value::Number(_)
        | Value::Sequence(_)
        | Value::Mapping(_)
        | Value::Tagged(_) => Err(match flag.kind {
            Kind::Bool => format!("{key} must be true or false"),
            Kind::Number => format!("{key} must be a whole number"),
            Kind::Text | Kind::Choice(_) => format!("{key} must be a text: put it in quotes"),
            Kind::Urls | Kind::Origins | Kind::List => {
                format!("{key} must be a text or a list of texts: put them in quotes")
            }
        }),
    }
}

/// Both are about TLS, which is refused as its flags are; a block that says nothing may stay.
fn nested(key: &str, flag: &str, value: &Value) -> Result<(), String> {
    let silent = |field: &Value| match field {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(true)
        | Value::Number(_)
        | Value::Sequence(_)
        | Value::Mapping(_)
        | Value::Tagged(_) => false,
    };
    if value.is_null() || value.as_mapping().is_some_and(|fields| fields.values().all(silent)) {
        return Ok(());
    }
    match flags::find(flag).map(|flag| flag.status) {
        Some(Status::NotYet(instead)) => Err(format!("not supported yet: {key}: {instead}")),
        Some(Status::Works | Status::Ignored(_)) | None => Err(format!("unknown key \"{key}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(contents: &str, flag: &str) -> Option<String> {
        parse("f", contents).unwrap().said(flag).map(str::to_owned)
    }

    fn refused(contents: &str) -> String {
        let failure = parse("f", contents).unwrap_err();
        assert_eq!(failure.code, 1);
        failure.text
    }

    #[test]
    fn texts_numbers_booleans_and_lists_are_read() {
        assert_eq!(said("name: a b", "name").unwrap(), "a b");
        assert_eq!(said("heartbeat-interval: 50", "heartbeat-interval").unwrap(), "50");
        assert_eq!(said("heartbeat-interval: '50'", "heartbeat-interval").unwrap(), "50");
        assert_eq!(said("debug: true", "debug").unwrap(), "true");
        assert_eq!(said("log-outputs: [stdout, x]", "log-outputs").unwrap(), "stdout,x");
        assert_eq!(said("name:", "name"), None);
    }

    #[test]
    fn an_empty_file_says_nothing() {
        for contents in ["", "\n", "# nothing\n", "---\n"] {
            assert_eq!(said(contents, "name"), None);
        }
    }

    #[test]
    fn a_number_is_no_text_because_its_spelling_is_lost() {
        assert!(
            refused("initial-cluster-token: 0x10").contains("initial-cluster-token must be a text")
        );
        assert!(refused("name: true").contains("name must be a text"));
        assert!(refused("name: [a]").contains("name must be a text"));
    }

    #[test]
    fn unknown_keys_are_named() {
        assert!(refused("nope: 1").contains("unknown key \"nope\""));
        assert!(refused("help: true").contains("unknown key \"help\""));
        assert!(refused("5: true").contains("unknown key"));
    }

    #[test]
    fn a_key_stands_only_once() {
        assert!(refused("name: a\nname: b").contains("duplicate"));
    }

    #[test]
    fn what_is_no_list_of_keys_is_refused() {
        for contents in ["- a", "a", "a: b: c", "!x {}"] {
            assert!(refused(contents).starts_with("error verifying flags, --config-file f: "));
        }
    }

    #[test]
    fn blocks_about_tls_are_refused_unless_they_say_nothing() {
        for contents in [
            "client-transport-security:\n  cert-file: x",
            "peer-transport-security: {auto-tls: true}",
        ] {
            assert!(refused(contents).contains("not supported yet"), "{contents}");
        }
        assert_eq!(
            said("client-transport-security:\n  cert-file: ''\n  auto-tls: false", "name"),
            None
        );
    }
}
