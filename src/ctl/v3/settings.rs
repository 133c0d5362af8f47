//! Options and variables → whom to ask, how, and how answers are printed.
//!
//! Owns: which of option, variable and default counts. Never knows: commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{self, Client, Endpoint};
use crate::config::TlsFlags;
use crate::ctl::failure::Failure;
use crate::ctl::parse::Said;
use crate::ctl::print::note;
use crate::ctl::settings::with_password;
use crate::ctl::table::{self, Flag, Kind, V3};
use crate::ctl::v3::{code, error};
use crate::ctl::values;
use crate::discovery;
use crate::tls::{Tls, Trust};

/// What holds for every command.
#[derive(Clone, Debug)]
pub(in crate::ctl) struct Settings {
    said: Said,
    variables: Vec<(String, String)>,
}

/// What shows who is asking, and whom to believe.
struct Credentials {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    cacert: Option<PathBuf>,
    insecure_transport: bool,
}

impl Settings {
    /// Those that these options and variables say.
    ///
    /// # Errors
    /// When a variable has a value that its option could not have.
    pub(in crate::ctl) fn new(
        said: &Said,
        variables: &[(String, String)],
    ) -> Result<Self, Failure> {
        let settings = Self { said: said.clone(), variables: variables.to_vec() };
        for flag in V3.globals {
            let text = settings.text(flag.names[0]);
            let fits = match flag.kind {
                Kind::Switch => text.is_empty() || values::switch(text).is_some(),
                Kind::Duration => values::duration(text).is_some(),
                Kind::Number => values::number(text).is_some(),
                Kind::Text | Kind::Texts | Kind::File | Kind::Choice(_) => true,
            };
            if !fits {
                let name = flag.variables.first().copied().unwrap_or(flag.names[0]);
                return Err(error(code::ERROR, format!("invalid value {text:?} for {name}")));
            }
        }
        if settings.is_on("debug") {
            settings.show();
        }
        Ok(settings)
    }

    fn variable(&self, flag: &Flag) -> Option<&str> {
        let set = |name: &&str| self.variables.iter().find(|(known, _)| known == name);
        let found = flag.variables.iter().find_map(set);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// An option of the tool: what was said, else what its variable says, else its default.
    pub(in crate::ctl) fn text(&self, name: &str) -> &str {
        let Some(flag) = table::flag_of(V3.globals, name) else { return "" };
        self.said.text(name).or_else(|| self.variable(flag)).unwrap_or(flag.default)
    }

    pub(in crate::ctl) fn is_on(&self, name: &str) -> bool {
        values::switch(self.text(name)).unwrap_or(false)
    }

    fn duration(&self, name: &str) -> Duration {
        values::duration(self.text(name)).expect("it was looked at when the settings were made")
    }

    /// For a command that does not go on.
    pub(in crate::ctl) fn command_timeout(&self) -> Duration {
        self.duration("command-timeout")
    }

    /// Is a user named without a password?
    pub(in crate::ctl) fn asks_for_a_password(&self) -> bool {
        let user = self.text("user");
        !user.is_empty() && !user.contains(':') && self.text("password").is_empty()
    }

    /// Every option with its value, as etcd's tool shows them.
    fn show(&self) {
        for flag in V3.globals {
            let Some(variable) = flag.variables.first() else { continue };
            let text = self.text(flag.names[0]);
            match flag.names[0] {
                "endpoints" => note(&format!("{variable}=[{}]", text.replace(',', " "))),
                // It is on a screen that others may see.
                "password" | "user" if !text.is_empty() => {
                    note(&format!("{variable}={}", text.split(':').next().unwrap_or_default()));
                }
                _ if flag.kind == Kind::Switch => {
                    note(&format!("{variable}={}", self.is_on(flag.names[0])));
                }
                _ => note(&format!("{variable}={text}")),
            }
        }
    }

    fn user(&self) -> Result<Option<(String, String)>, Failure> {
        match (self.text("user"), self.text("password")) {
            ("", _) => Ok(None),
            (user, "") => with_password(user, "Password: ").map(Some),
            (user, password) => Ok(Some((user.to_owned(), password.to_owned()))),
        }
    }

    fn credentials(&self) -> Credentials {
        let path = |name| Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from);
        Credentials {
            cert: path("cert"),
            key: path("key"),
            cacert: path("cacert"),
            insecure_transport: self.is_on("insecure-transport"),
        }
    }

    async fn endpoints(&self, secure: bool) -> Result<Vec<Endpoint>, Failure> {
        let found = match self.text("discovery-srv") {
            "" => Vec::new(),
            domain => {
                let suffix = self.text("discovery-srv-name");
                let urls = discovery::client_urls(domain, suffix, None)
                    .await
                    .map_err(|why| error(code::ERROR, why.to_string()))?;
                let secure_only = !self.is_on("insecure-discovery");
                urls.into_iter()
                    .filter(|url| !(secure_only && url.starts_with("http://")))
                    .collect()
            }
        };
        let named = self.text("endpoints").split(',').map(str::to_owned);
        let written = if found.is_empty() { named.collect() } else { found };
        written
            .iter()
            .filter(|text| !text.trim().is_empty())
            .map(|text| self.endpoint(text, secure))
            .collect()
    }

    fn endpoint(&self, written: &str, secure: bool) -> Result<Endpoint, Failure> {
        Endpoint::parse(written, secure).map_err(|why| error(code::BAD_ARGUMENTS, why.to_string()))
    }

    /// An endpoint that a member publishes.
    ///
    /// # Errors
    /// When it is none.
    pub(in crate::ctl) fn published(&self, url: &str) -> Result<Endpoint, Failure> {
        self.endpoint(url, false)
    }

    /// Asks those who were named.
    ///
    /// # Errors
    /// When certificates, password or DNS cannot be read, or nobody was named.
    pub(in crate::ctl) async fn client(&self) -> Result<Client, Failure> {
        let credentials = self.credentials();
        let endpoints = self.endpoints(credentials.secure()).await?;
        self.client_for(endpoints, &credentials)
    }

    /// Asks the destination of a mirror, with the certificates for it.
    ///
    /// # Errors
    /// As [`Settings::client`].
    pub(in crate::ctl) fn client_of(
        &self,
        destination: &str,
        said: &Said,
    ) -> Result<Client, Failure> {
        let path = |name| said.text(name).filter(|text| !text.is_empty()).map(PathBuf::from);
        let credentials = Credentials {
            cert: path("dest-cert"),
            key: path("dest-key"),
            cacert: path("dest-cacert"),
            insecure_transport: said
                .text("dest-insecure-transport")
                .is_none_or(|text| values::switch(text).unwrap_or(true)),
        };
        let endpoint = self.endpoint(destination, credentials.secure())?;
        self.client_for(vec![endpoint], &credentials)
    }

    fn client_for(
        &self,
        endpoints: Vec<Endpoint>,
        credentials: &Credentials,
    ) -> Result<Client, Failure> {
        if credentials.cert.is_some() != credentials.key.is_some() {
            let shown = |path: &Option<PathBuf>| {
                path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
            };
            let (key, cert) = (shown(&credentials.key), shown(&credentials.cert));
            let why =
                format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]");
            return Err(error(code::BAD_ARGUMENTS, why));
        }
        if endpoints.is_empty() {
            return Err(error(code::BAD_CONNECTION, "etcdclient: no available endpoints"));
        }
        let files = [&credentials.cert, &credentials.key, &credentials.cacert];
        for path in files.into_iter().flatten() {
            if let Err(why) = std::fs::File::open(path) {
                let why = why.to_string();
                let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
                return Err(error(code::BAD_ARGUMENTS, format!("open {}: {why}", path.display())));
            }
        }
        let any = self.is_on("insecure-skip-tls-verify");
        let tls = match credentials.named() || endpoints.iter().any(Endpoint::speaks_tls) {
            true => {
                let flags = TlsFlags {
                    cert: credentials.cert.clone(),
                    key: credentials.key.clone(),
                    trusted_ca: credentials.cacert.clone(),
                    ..TlsFlags::default()
                };
                let trust = if any { Trust::Anybody } else { Trust::Configured };
                let tls = Tls::load(flags, trust, &[])
                    .map_err(|why| error(code::BAD_ARGUMENTS, why.to_string()))?;
                Some(Arc::new(tls))
            }
            false => None,
        };
        let certified_name = match self.text("discovery-srv") {
            // Who answers for a domain could send us anywhere.
            domain if !domain.is_empty() && !self.is_on("insecure-discovery") => {
                Some(domain.to_owned())
            }
            _ => None,
        };
        Ok(Client::new(client::Settings {
            endpoints,
            tls,
            certified_name,
            user: self.user()?,
            dial: self.duration("dial-timeout"),
            keep_alive: (self.duration("keepalive-time"), self.duration("keepalive-timeout")),
        }))
    }
}

impl Credentials {
    fn named(&self) -> bool {
        self.cert.is_some() || self.key.is_some() || self.cacert.is_some()
    }

    /// Do endpoints without a scheme speak TLS?
    fn secure(&self) -> bool {
        self.named() || !self.insecure_transport
    }
}
