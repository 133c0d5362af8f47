//! `user` and `auth`.
//!
//! Owns: what they print. Never knows: how passwords are kept.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ctl::client::Client;
use crate::ctl::commands::{Job, administer};
use crate::ctl::failure::{CtlError, Failure};
use crate::ctl::print::{self, Format};
use crate::ctl::settings::with_password;
use crate::ctl::terminal;
use crate::ctl::wire::{Request, Role, UserChange, path};

const NO_NAME: &str = "Please provide a username";

/// A client for commands on users and roles, which show their endpoints twice with `--debug`, as in etcd's tool.
pub(super) async fn client(job: &Job<'_>) -> Result<Client, Failure> {
    let client = Client::new(job.settings).await?;
    client.show_endpoints();
    Ok(client)
}

/// Asks; the answer if it is one of success.
pub(super) async fn ask(client: &mut Client, request: &Request) -> Result<Value, Failure> {
    administer(client, async |client| {
        let answer = client.ask(request).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED if answer.body.is_empty() => Ok(Value::Null),
            StatusCode::OK | StatusCode::CREATED => answer.read(),
            _ => Err(answer.refusal()),
        }
    })
    .await
}

/// What is read in an answer.
pub(super) fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::bare(CtlError::Plain(error.to_string())))
}

/// Names, each on a line, or as was said.
pub(super) fn print_names(
    job: &Job<'_>,
    what: &str,
    rows: &[(String, String)],
    second: &str,
) -> Result<(), Failure> {
    print::out(&match job.settings.list_format {
        Some(Format::Json) => {
            let names: Vec<_> = rows.iter().map(|(name, _)| name).collect();
            format!("{}\n", print::go_json(&json!({ format!("{what}s"): names })))
        }
        Some(Format::Table) => {
            let rows: Vec<_> =
                rows.iter().map(|(name, more)| vec![name.clone(), more.clone()]).collect();
            print::table(&[&what.to_uppercase(), second], &rows)
        }
        _ => rows.iter().map(|(name, _)| format!("{name}\n")).collect(),
    })
}

fn target(user: &str) -> String {
    format!("/v2/auth/users/{}", path(user))
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    user: String,
    /// Names, or roles with all they may do.
    #[serde(default)]
    roles: Option<Vec<NameOrRole>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrRole {
    Name(String),
    Role(Role),
}

impl NameOrRole {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Role(role) => &role.role,
        }
    }
}

impl User {
    fn roles(&self) -> Vec<&str> {
        self.roles.iter().flatten().map(NameOrRole::name).collect()
    }
}

/// `user list`
pub(super) async fn list(job: &Job<'_>) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Users {
        #[serde(default)]
        users: Option<Vec<User>>,
    }
    job.no_arguments()?;
    let client = &mut client(job).await?;
    let users: Users = read(ask(client, &Request::get("/v2/auth/users")).await?)?;
    let users = users.users.unwrap_or_default();
    let rows: Vec<_> =
        users.iter().map(|user| (user.user.clone(), user.roles().join(","))).collect();
    print_names(job, "user", &rows, "ROLES")
}

/// `user get`
pub(super) async fn get(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    let user: User = read(ask(client, &Request::get(target(name))).await?)?;
    // Where roles are printed, etcd's tool leaves an empty word for each before them.
    let roles = user.roles();
    let blanks = " ".repeat(roles.len());
    print::out(&format!("User: {}\nRoles: {blanks}{}\n", user.user, roles.join(" ")))
}

/// `user add`
pub(super) async fn add(job: &Job<'_>) -> Result<(), Failure> {
    let said = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    let (name, password) = with_password(said, "New password: ")?;
    let change = UserChange { user: &name, password: Some(&password), ..UserChange::default() };
    ask(client, &Request::new(Method::PUT, target(&name)).with_json(&change)).await?;
    print::out(&format!("User {name} created\n"))
}

/// `user remove`
pub(super) async fn remove(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    ask(client, &Request::new(Method::DELETE, target(name))).await?;
    print::out(&format!("User {name} removed\n"))
}

/// `user passwd`
pub(super) async fn password(job: &Job<'_>) -> Result<(), Failure> {
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    let password = terminal::password("New password: ")?;
    let change = UserChange { user: name, password: Some(&password), ..UserChange::default() };
    ask(client, &Request::new(Method::PUT, target(name)).with_json(&change)).await?;
    print::out("Password updated\n")
}

/// `user grant` and `user revoke`
pub(super) async fn grant(job: &Job<'_>, grant: bool) -> Result<(), Failure> {
    let said = job.said.texts("roles").iter().flat_map(|roles| roles.split(','));
    let roles: Vec<_> = said.filter(|role| !role.is_empty()).map(str::to_owned).collect();
    if roles.is_empty() {
        return Err(Failure::line("No roles specified; please use `--roles`"));
    }
    let name = job.argument(NO_NAME)?;
    let client = &mut client(job).await?;
    let mut change = UserChange { user: name, ..UserChange::default() };
    match grant {
        true => change.grant = Some(&roles),
        false => change.revoke = Some(&roles),
    }
    ask(client, &Request::new(Method::PUT, target(name)).with_json(&change)).await?;
    print::out(&format!("User {name} updated\n"))
}

/// `auth enable` and `auth disable`
pub(super) async fn check_rights(job: &Job<'_>, enable: bool) -> Result<(), Failure> {
    job.no_arguments()?;
    let client = &mut client(job).await?;
    let method = if enable { Method::PUT } else { Method::DELETE };
    ask(client, &Request::new(method, "/v2/auth/enable")).await?;
    let word = if enable { "Enabled" } else { "Disabled" };
    print::out(&format!("Authentication {word}\n"))
}
