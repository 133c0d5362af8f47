//! Command line, variables and file → [`Raw`]: what was said, not yet what is true.

use std::collections::BTreeMap;

use crate::config::flags::{self, FORGOTTEN, Flag, Kind};
use crate::config::url::Url;
use crate::config::{Failure, Level, Notice};

/// What was said, by flag.
#[derive(Debug, Default)]
pub(super) struct Raw {
    said: BTreeMap<&'static str, String>,
}

impl Raw {
    /// A flag's value; its default when nothing was said.
    pub(super) fn get(&self, name: &str) -> &str {
        self.said(name).unwrap_or_else(|| flags::find(name).map_or("", |flag| flag.default))
    }

    /// A flag's value if one was given.
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        self.said.get(name).map(String::as_str)
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        parse_bool(self.get(name)).unwrap_or(false)
    }

    fn set(&mut self, flag: &'static Flag, value: String) {
        self.said.insert(flag.name, value);
    }
}

/// As Go reads it.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Why `value` cannot be a value of `flag`.
fn misfit(flag: &Flag, value: &str) -> Option<String> {
    match flag.kind {
        Kind::Text => None,
        Kind::Bool if parse_bool(value).is_some() => None,
        Kind::Bool => Some("parse error: write true or false".to_owned()),
        Kind::Number if value.parse::<u64>().is_ok() => None,
        Kind::Number => Some("parse error: write a whole number".to_owned()),
        Kind::Urls if value.is_empty() => None,
        Kind::Urls => Url::parse_list(value).err().map(|error| error.to_string()),
    }
}

/// Reads the command line.
pub(super) fn arguments(
    arguments: impl IntoIterator<Item = String>,
    raw: &mut Raw,
    notices: &mut Vec<Notice>,
) -> Result<(), Failure> {
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let dashes = argument.bytes().take_while(|byte| *byte == b'-').count();
        let body = &argument[dashes..];
        if argument == "--" || dashes == 0 || dashes > 2 || body.is_empty() || body.starts_with('=')
        {
            let word = if argument == "--" { arguments.next() } else { Some(argument) };
            return match word {
                None => Ok(()),
                Some(word) => Err(Failure::new(1, format!("'{word}' is not a valid flag"))),
            };
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if FORGOTTEN.contains(&name) {
            let text = format!("flag \"-{name}\" is no longer supported - ignoring.");
            notices.push(Notice { level: Level::Warning, text });
            continue;
        }
        let name = if name == "h" { "help" } else { name };
        let Some(flag) = flags::find(name) else {
            let text = format!("flag provided but not defined: -{name}\nSee 'cairn --help'.");
            return Err(Failure::new(2, text));
        };
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => arguments.next().ok_or_else(|| {
                Failure::new(2, format!("flag needs an argument: -{name}\nSee 'cairn --help'."))
            })?,
        };
        if let Some(why) = misfit(flag, &value) {
            let text =
                format!("invalid value \"{value}\" for flag -{name}: {why}\nSee 'cairn --help'.");
            return Err(Failure::new(2, text));
        }
        raw.set(flag, value);
    }
    Ok(())
}

/// Reads the variables. What a flag has said already stays.
pub(super) fn variables(
    variables: impl IntoIterator<Item = (String, String)>,
    raw: &mut Raw,
    notices: &mut Vec<Notice>,
) -> Result<(), Failure> {
    for (name, value) in variables {
        if !name.starts_with("ETCD_") || value.is_empty() {
            continue;
        }
        let Some(flag) = flags::all().find(|flag| flag.variable() == name) else {
            let text = format!("unrecognized environment variable {name}={value}");
            notices.push(Notice { level: Level::Warning, text });
            continue;
        };
        if raw.said(flag.name).is_some() {
            let text = format!(
                "recognized environment variable {name}, but unused: shadowed by corresponding flag"
            );
            notices.push(Notice { level: Level::Warning, text });
            continue;
        }
        if let Some(why) = misfit(flag, &value) {
            return Err(Failure::verifying(format!("invalid value \"{value}\" for {name}: {why}")));
        }
        let text = format!("recognized and used environment variable {name}={value}");
        notices.push(Notice { level: Level::Info, text });
        raw.set(flag, value);
    }
    Ok(())
}

/// Reads the YAML file, which says everything or nothing.
pub(super) fn file(path: &str, contents: &str) -> Result<Raw, Failure> {
    let fail = |why: String| Failure::new(1, format!("error reading --config-file {path}: {why}"));
    let yaml: BTreeMap<String, serde_norway::Value> = if contents.trim().is_empty() {
        BTreeMap::new()
    } else {
        serde_norway::from_str(contents).map_err(|error| fail(error.to_string()))?
    };
    let mut raw = Raw::default();
    for (key, value) in yaml {
        let value = match value {
            serde_norway::Value::Null => continue,
            serde_norway::Value::Bool(value) => value.to_string(),
            serde_norway::Value::Number(value) => value.to_string(),
            serde_norway::Value::String(value) => value,
            serde_norway::Value::Sequence(items) => sequence(&key, items).map_err(&fail)?,
            serde_norway::Value::Mapping(_) | serde_norway::Value::Tagged(_) => {
                nested(&key, &value).map_err(&fail)?;
                continue;
            }
        };
        let Some(flag) = flags::find(&key) else {
            return Err(fail(format!("unknown key \"{key}\": keys are named as the flags")));
        };
        if let Some(why) = misfit(flag, &value) {
            return Err(fail(format!("invalid value \"{value}\" for {key}: {why}")));
        }
        raw.set(flag, value);
    }
    Ok(raw)
}

fn sequence(key: &str, items: Vec<serde_norway::Value>) -> Result<String, String> {
    let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    texts.map(|texts| texts.join(",")).ok_or_else(|| format!("the items of {key} must be texts"))
}

/// etcd has two keys with keys of their own, both about TLS.
fn nested(key: &str, value: &serde_norway::Value) -> Result<(), String> {
    let tls = matches!(key, "client-transport-security" | "peer-transport-security");
    if !tls {
        return Err(format!("unknown key \"{key}\": keys are named as the flags"));
    }
    let unused = value.as_mapping().is_some_and(|fields| {
        fields.values().all(|field| {
            field.is_null() || field.as_bool() == Some(false) || field.as_str() == Some("")
        })
    });
    if unused {
        return Ok(());
    }
    let flags::Status::NotYet(instead) =
        flags::find("cert-file").expect("the table has this row").status
    else {
        return Ok(());
    };
    Err(format!("not supported yet: {key}: {instead}"))
}
