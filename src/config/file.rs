//! YAML file → [`Raw`].
//!
//! Keys are named as the flags. etcd passes over keys that it does not know; here they are refused: a misspelt key
//! would quietly mean its default.

use serde_norway::Value;

use crate::config::Failure;
use crate::config::flags::{self, Flag, Kind};
use crate::config::parse::{Raw, Source, misfit};

/// Flags that mean nothing in a file.
const NOT_IN_FILES: [&str; 3] = ["config-file", "version", "help"];
/// Keys with keys of their own, and the flags that those stand for.
const NESTED: [(&str, &[(&str, &str)]); 2] = [
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("ca-file", "ca-file"),
            ("auto-tls", "auto-tls"),
            ("crl-file", "client-crl-file"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("peer-client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("ca-file", "peer-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
        ],
    ),
];

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
        if let Some((_, inside)) = NESTED.iter().find(|(name, _)| *name == key) {
            nested(&mut raw, path, key, inside, value).map_err(&fail)?;
            continue;
        }
        let known = flags::find(key).filter(|flag| !NOT_IN_FILES.contains(&flag.name));
        let Some(flag) = known else {
            return Err(fail(format!("unknown key \"{key}\": keys are named as the flags")));
        };
        set(&mut raw, path, flag, key, value).map_err(&fail)?;
    }
    Ok(raw)
}

fn set(
    raw: &mut Raw,
    path: &str,
    flag: &'static Flag,
    key: &str,
    value: Value,
) -> Result<(), String> {
    let Some(value) = text(flag, value)? else { return Ok(()) };
    if let Some(why) = misfit(flag, &value) {
        return Err(format!("invalid value \"{value}\" for {key}: {why}"));
    }
    raw.set(flag, value, Source::File(path.to_owned()));
    Ok(())
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

/// A block of keys that stand for flags with other names.
fn nested(
    raw: &mut Raw,
    path: &str,
    block: &str,
    inside: &[(&str, &'static str)],
    value: Value,
) -> Result<(), String> {
    let fields = match value {
        Value::Null => return Ok(()),
        Value::Mapping(fields) => fields,
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Sequence(_)
        | Value::Tagged(_) => {
            return Err(format!("{block} must be a block: write its keys below it, indented"));
        }
    };
    for (key, value) in fields {
        let known = key.as_str().and_then(|key| inside.iter().find(|(name, _)| *name == key));
        let Some((name, flag)) = known else {
            let names: Vec<_> = inside.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown key {key:?} in {block}: it takes {}", names.join(", ")));
        };
        let flag = flags::find(flag).expect("the table has each of them");
        set(raw, path, flag, &format!("{block}: {name}"), value)?;
    }
    Ok(())
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
    fn blocks_stand_for_flags() {
        let client =
            "client-transport-security:\n  cert-file: x\n  client-cert-auth: true\n  key-file: ''";
        assert_eq!(said(client, "cert-file").unwrap(), "x");
        assert_eq!(said(client, "client-cert-auth").unwrap(), "true");
        assert_eq!(
            said("peer-transport-security: {auto-tls: true}", "peer-auto-tls").unwrap(),
            "true"
        );
        assert_eq!(said("peer-transport-security:", "peer-auto-tls"), None);
        assert!(refused("peer-transport-security: x").contains("must be a block"));
        assert!(refused("peer-transport-security: {nope: 1}").contains("it takes cert-file, "));
        for (block, inside) in NESTED {
            for (name, flag) in inside {
                assert!(flags::find(flag).is_some(), "{block}: {name}");
            }
        }
    }
}
