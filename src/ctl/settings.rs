//! Options and variables → whom to ask, how, and how answers are printed.
//!
//! Owns: which of option, variable and default counts. Never knows: commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::ctl::failure::Failure;
use crate::ctl::parse::Said;
use crate::ctl::print::{Format, note};
use crate::ctl::table::{self, GLOBALS};
use crate::ctl::terminal;
use crate::ctl::values;
use crate::discovery;

/// What holds for every command.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How answers about keys are printed.
    pub(super) format: Format,
    /// How lists are printed, where that was said.
    pub(super) list_format: Option<Format>,
    /// Errors are printed as JSON.
    pub(super) json_errors: bool,
    /// Requests are shown.
    pub(super) debug: bool,
    /// The endpoints are not replaced by those that the members publish.
    pub(super) no_sync: bool,
    /// Until one member begins to answer; zero for no limit.
    pub(super) timeout: Duration,
    /// For the whole command.
    pub(super) total_timeout: Duration,
    said: Said,
    variables: Vec<(String, String)>,
}

impl Settings {
    /// Those that these options and variables say.
    pub(super) fn new(said: &Said, variables: &[(String, String)]) -> Self {
        let duration = |name: &str| {
            let default = table::flag_of(GLOBALS, name).map_or("", |flag| flag.default);
            let text = said.text(name).unwrap_or(default);
            values::duration(text).expect("the parser takes only durations")
        };
        let list_format = said.text("write-out").map(Format::named);
        let format = match &list_format {
            Some(format) => format.clone(),
            None => Format::named(said.text("output").unwrap_or("simple")),
        };
        Self {
            json_errors: format == Format::Json,
            format,
            list_format,
            debug: said.is_on("debug"),
            no_sync: said.is_on("no-sync"),
            timeout: duration("timeout"),
            total_timeout: duration("total-timeout"),
            said: said.clone(),
            variables: variables.to_vec(),
        }
    }

    /// What was said of an option of the tool, or of its variables; nothing is as if it were not there.
    fn text(&self, name: &str) -> Option<&str> {
        let flag = table::flag_of(GLOBALS, name)?;
        let said = self.said.text(name).filter(|text| !text.is_empty());
        let set = || {
            let mut values = flag
                .variables
                .iter()
                .filter_map(|variable| self.variables.iter().find(|(name, _)| name == variable));
            values.find(|(_, value)| !value.is_empty()).map(|(_, value)| value.as_str())
        };
        said.or_else(set)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Certificate, key and authorities.
    pub(super) fn files(&self) -> (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>) {
        (self.path("cert-file"), self.path("key-file"), self.path("ca-file"))
    }

    /// The name and password to ask with, asked for on the terminal if need be.
    ///
    /// # Errors
    /// When there is no password to be read.
    pub(super) fn credentials(&self) -> Result<Option<(String, String)>, Failure> {
        let Some(said) = self.text("username") else { return Ok(None) };
        with_password(said, "Password: ").map(Some)
    }

    /// Is a user named without a password?
    pub(super) fn asks_for_a_password(&self) -> bool {
        self.text("username").is_some_and(|said| !said.contains(':'))
    }

    fn insecure_discovery(&self) -> bool {
        // A variable means it whatever it holds, as in etcd's tool.
        self.said.is_on("insecure-discovery")
            || self
                .text("insecure-discovery")
                .is_some_and(|text| self.said.text("insecure-discovery") != Some(text))
    }

    /// The name that certificates have to be for when the endpoints come from the DNS: who answers for it could send us
    /// anywhere.
    pub(super) fn certified_name(&self) -> Option<String> {
        let domain = self.text("discovery-srv").filter(|_| !self.insecure_discovery());
        domain.map(str::to_owned)
    }

    /// Whom to ask.
    ///
    /// # Errors
    /// When the DNS is to be asked and does not answer.
    pub(super) async fn endpoints(&self) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        if let Some(domain) = self.text("discovery-srv") {
            let suffix = self.text("discovery-srv-name").unwrap_or_default();
            let server = self.name_server()?;
            let urls = discovery::client_urls(domain, suffix, server)
                .await
                .map_err(|error| Failure::line(error.to_string()))?;
            for url in urls {
                match url.starts_with("http://") && !self.insecure_discovery() {
                    true => note(&format!("ignoring discovered insecure endpoint {url:?}")),
                    false => found.push(url),
                }
            }
        }
        Ok(if found.is_empty() { self.named_endpoints() } else { found })
    }

    /// Whom to ask, as far as that was said and not found.
    pub(super) fn named_endpoints(&self) -> Vec<String> {
        let names = ["endpoints", "endpoint", "peers"];
        let said = names.iter().find_map(|name| self.text(name));
        let said = said.unwrap_or(table::DEFAULT_ENDPOINTS);
        said.split(',').map(|url| with_scheme(url.trim())).collect()
    }

    fn name_server(&self) -> Result<Option<SocketAddr>, Failure> {
        let Some(text) = self.text("discovery-dns") else { return Ok(None) };
        let fail =
            |_| Failure::line(format!("--discovery-dns {text:?} is no address; write IP:PORT"));
        text.parse().map(Some).map_err(fail)
    }
}

/// `name:password`, or the name alone and the password from the terminal.
///
/// # Errors
/// When it cannot be read.
pub(super) fn with_password(said: &str, prompt: &str) -> Result<(String, String), Failure> {
    match said.split_once(':') {
        Some((name, password)) => Ok((name.to_owned(), password.to_owned())),
        None => Ok((said.to_owned(), terminal::password(prompt)?)),
    }
}

/// An address alone is asked without TLS.
fn with_scheme(url: &str) -> String {
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::parse::{self, Asked};

    fn settings(words: &str, variables: &[(&str, &str)]) -> Settings {
        let words: Vec<_> = format!("{words} ls").split_whitespace().map(str::to_owned).collect();
        let Ok(Asked::Do(line)) = parse::line(&words) else { panic!("{words:?}") };
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Settings::new(&line.said, &variables.iter().map(pair).collect::<Vec<_>>())
    }

    fn endpoints(words: &str, variables: &[(&str, &str)]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(settings(words, variables).endpoints()).unwrap().join(" ")
    }

    #[test]
    fn newer_names_and_options_count_before_older_names_and_variables() {
        assert_eq!(endpoints("", &[]), "http://127.0.0.1:2379 http://127.0.0.1:4001");
        assert_eq!(endpoints("-C http://c:1", &[]), "http://c:1");
        assert_eq!(endpoints("-C http://c:1 --endpoint http://b:1", &[]), "http://b:1");
        assert_eq!(
            endpoints("-C http://c:1", &[("ETCDCTL_ENDPOINTS", "http://a:1")]),
            "http://a:1"
        );
        assert_eq!(
            endpoints("--endpoints=https://a:1,b:2", &[("ETCDCTL_ENDPOINTS", "x")]),
            "https://a:1 http://b:2"
        );
        assert_eq!(
            endpoints("", &[("ETCDCTL_PEERS", "http://p:1"), ("ETCDCTL_ENDPOINT", "")]),
            "http://p:1"
        );
    }

    #[test]
    fn a_password_may_stand_behind_the_name() {
        let credentials =
            |words, variables: &[_]| settings(words, variables).credentials().unwrap();
        assert_eq!(credentials("", &[]), None);
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(credentials("-u root:a:b", &[]), pair("root", "a:b"));
        assert_eq!(credentials("", &[("ETCDCTL_USERNAME", "u:")]), pair("u", ""));
    }

    #[test]
    fn certificates_are_for_the_domain_unless_it_may_be_insecure() {
        assert_eq!(settings("-D x.y", &[]).certified_name(), Some("x.y".to_owned()));
        assert_eq!(settings("-D x.y --insecure-discovery", &[]).certified_name(), None);
        assert_eq!(
            settings("-D x.y", &[("ETCDCTL_INSECURE_DISCOVERY", "1")]).certified_name(),
            None
        );
    }
}
