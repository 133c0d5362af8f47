//! `cairn config`: whether a member could start with a configuration, and what it would run with.
//!
//! Owns: the words of this program. Never knows: what flags mean, which is for [`config`], and what a start needs
//! of the machine, which is for [`server`].

use std::io;

use crate::config::{self, Config, Failure, Level, Outcome, print};
use crate::disk::DataDir;
use crate::server;

const USAGE: &str = "Usage: cairn config check [FILE] [flags]
       cairn config print [--json] [FILE] [flags]
check says whether a member could start: flags, variables, FILE, certificates, directories. Nothing is made or changed.
print writes what a member would run with, as a FILE for --config-file, with the source of each value; --json as JSON.
FILE is short for --config-file FILE. Flags and variables are those of the server, see `cairn --help`.
Exits with 0 if a member could start, with 2 if words are no flags or values, else with 1.";

/// What is to be printed, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub complaint: String,
    /// 0, 1, or 2 for words that are no flags or values.
    pub code: u8,
}

impl Said {
    fn failed(failure: Failure) -> Self {
        Self { text: String::new(), complaint: failure.text, code: failure.code }
    }
}

/// Does what `words` ask for, where `variables` are the environment's and `read` fetches a configuration file.
pub fn run(
    words: Vec<String>,
    variables: Vec<(String, String)>,
    read: impl FnOnce(&str) -> io::Result<String>,
) -> Said {
    let mut words = words.into_iter();
    let what = words.next().unwrap_or_default();
    let mut rest: Vec<_> = words.collect();
    let json = what == "print" && rest.first().is_some_and(|word| word == "--json");
    if json {
        rest.remove(0);
    }
    if let Some(word) = rest.first_mut().filter(|word| !word.starts_with('-')) {
        *word = format!("--config-file={word}");
    }
    match what.as_str() {
        "check" => check(rest, variables, read),
        "print" => match config::settings(rest, variables, read, DataDir::has_member) {
            Ok(settings) => {
                let text = if json { print::json(&settings) } else { print::yaml(&settings) };
                Said { text, complaint: String::new(), code: 0 }
            }
            Err(failure) => Said::failed(failure),
        },
        "help" | "--help" | "-h" => {
            Said { text: format!("{USAGE}\n"), complaint: String::new(), code: 0 }
        }
        _ => Said { text: String::new(), complaint: USAGE.to_owned(), code: 2 },
    }
}

fn check(
    words: Vec<String>,
    variables: Vec<(String, String)>,
    read: impl FnOnce(&str) -> io::Result<String>,
) -> Said {
    match config::load(words, variables, read, DataDir::has_member) {
        Outcome::Fail(failure) => Said::failed(failure),
        Outcome::Print(text) => Said { text, complaint: String::new(), code: 0 },
        Outcome::Run(config, notices) => {
            let warnings = notices.iter().filter(|notice| notice.level == Level::Warning);
            let complaint: Vec<_> =
                warnings.map(|notice| format!("warning: {}", notice.text)).collect();
            let complaint = complaint.join("\n");
            match server::check(&config) {
                Ok(()) => Said { text: summary(&config), complaint, code: 0 },
                Err(error) => {
                    let separator = if complaint.is_empty() { "" } else { "\n" };
                    let complaint = format!("{complaint}{separator}{error}");
                    Said { text: String::new(), complaint, code: 1 }
                }
            }
        }
    }
}

/// One line: who would run, where the data is, and where the member is reached.
fn summary(config: &Config) -> String {
    format!(
        "ok: member {} with data in {}, for clients at {}, for members at {}\n",
        config.name,
        config.data_dir.display(),
        config.advertise_client_urls.join(","),
        config.advertise_peer_urls.join(","),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str], file: &str) -> Said {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        run(words, Vec::new(), |path| {
            if path == "f.yml" { Ok(file.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    }

    #[test]
    fn a_file_is_named_alone_or_by_its_flag() {
        let file = "name: a\ndata-dir: /nowhere/of/it";
        for words in [&["check", "f.yml"][..], &["check", "--config-file", "f.yml"]] {
            let said = ask(words, file);
            assert_eq!((said.code, said.complaint.as_str()), (0, ""));
            assert!(said.text.starts_with("ok: member a with data in /nowhere/of/it, "));
        }
        let said = ask(&["check", "g.yml"], file);
        assert_eq!((said.code, said.text.as_str()), (1, ""));
        assert!(said.complaint.contains("--config-file g.yml: "), "{}", said.complaint);
    }

    #[test]
    fn what_cannot_start_is_said_as_the_server_says_it() {
        assert_eq!(ask(&["check", "--nope"], "").code, 2);
        let missing =
            ask(&["check", "--cert-file=/no/cert", "--key-file=/no/key", "--data-dir=x"], "");
        assert_eq!(missing.code, 1);
        assert!(missing.complaint.contains("/no/cert"), "{}", missing.complaint);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("member")).unwrap();
        let foreign = ask(&["check", "--data-dir", dir.path().to_str().unwrap()], "");
        assert_eq!(foreign.code, 1);
        assert!(foreign.complaint.contains("data directory of etcd"), "{}", foreign.complaint);
    }

    #[test]
    fn no_member_is_made_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let said = ask(&["check", "--auto-tls", "--data-dir", data.to_str().unwrap()], "");
        assert_eq!(said.code, 0, "{}", said.complaint);
        assert!(!data.exists());
    }

    #[test]
    fn what_is_printed_is_json_where_that_is_asked_for() {
        let said = ask(&["print", "--json", "f.yml"], "name: a");
        let settings: serde_json::Value = serde_json::from_str(&said.text).unwrap();
        let name = &settings.as_array().unwrap()[0];
        assert_eq!((&name["name"], &name["value"]), (&"name".into(), &"a".into()));
        assert_eq!(name["from"], "file f.yml");
        assert!(
            ask(&["print", "f.yml"], "name: a").text.starts_with("name: \"a\"  # file f.yml\n")
        );
    }

    #[test]
    fn other_words_are_answered_with_the_usage() {
        assert_eq!(ask(&["look"], "").code, 2);
        assert_eq!(ask(&[], "").complaint, USAGE);
        assert_eq!(ask(&["--help"], "").code, 0);
    }
}
