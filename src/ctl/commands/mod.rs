//! What each command does.
//!
//! Owns: which function is which command's, and in which order members are asked and arguments checked; scripts see that order in
//! errors and exit codes. Never knows: how options are written.

mod backup;
mod health;
mod keys;
mod members;
mod roles;
mod snapshot;
mod transfer;
mod users;
mod watches;

use crate::ctl::client::Client;
use crate::ctl::completion;
use crate::ctl::failure::{CtlError, Failure};
use crate::ctl::man;
use crate::ctl::parse::{Line, Said};
use crate::ctl::print;
use crate::ctl::settings::Settings;
use crate::ctl::table::{Action, OnKeys, V2};

/// What a command works with.
struct Job<'a> {
    said: &'a Said,
    arguments: &'a [String],
    settings: &'a Settings,
}

impl Job<'_> {
    /// The first argument of a command on keys.
    fn key(&self) -> Result<&str, Failure> {
        self.arguments.first().map(String::as_str).ok_or_else(|| Failure::missing("key required"))
    }

    /// For commands that take none.
    fn no_arguments(&self) -> Result<(), Failure> {
        match self.arguments.is_empty() {
            true => Ok(()),
            false => Err(Failure::line("No arguments accepted")),
        }
    }

    /// For commands that take one.
    fn argument(&self, otherwise: &str) -> Result<&str, Failure> {
        match self.arguments {
            [only] => Ok(only),
            _ => Err(Failure::line(otherwise)),
        }
    }
}

/// Does it; returns the exit code.
///
/// # Errors
/// How it failed.
pub(super) async fn run(program: &str, line: &Line, settings: &Settings) -> Result<u8, Failure> {
    let job = Job { said: &line.said, arguments: &line.arguments, settings };
    let done = match line.command.action {
        Action::ClusterHealth => return health::run(&job).await,
        Action::Keys(action) => on_keys(action, &job).await,
        Action::MemberList => members::list(&job).await,
        Action::MemberAdd => members::add(&job).await,
        Action::MemberRemove => members::remove(&job).await,
        Action::MemberUpdate => members::update(&job).await,
        Action::UserAdd => users::add(&job).await,
        Action::UserGet => users::get(&job).await,
        Action::UserList => users::list(&job).await,
        Action::UserRemove => users::remove(&job).await,
        Action::UserGrant => users::grant(&job, true).await,
        Action::UserRevoke => users::grant(&job, false).await,
        Action::UserPassword => users::password(&job).await,
        Action::RoleAdd => roles::add(&job).await,
        Action::RoleGet => roles::get(&job).await,
        Action::RoleList => roles::list(&job).await,
        Action::RoleRemove => roles::remove(&job).await,
        Action::RoleGrant => roles::grant(&job, true).await,
        Action::RoleRevoke => roles::grant(&job, false).await,
        Action::AuthEnable => users::check_rights(&job, true).await,
        Action::AuthDisable => users::check_rights(&job, false).await,
        Action::Export => transfer::export(&job).await,
        Action::Import => transfer::import(&job).await,
        Action::Completion => {
            let shell = job.argument("Provide a shell: bash, zsh or fish")?;
            completion::script(shell).and_then(|script| print::out(&script))
        }
        Action::Man => job.no_arguments().and_then(|()| print::out(&man::page(program, &V2))),
        Action::Backup => backup::run(&job).await,
        Action::V3(_) => unreachable!("the table of version 2 has none of them"),
    };
    done.map(|()| 0)
}

/// The members are asked for each other before anything is checked, as in etcd's tool.
async fn on_keys(action: OnKeys, job: &Job<'_>) -> Result<(), Failure> {
    let client = &mut Client::new(job.settings).await?;
    match action {
        OnKeys::Get => keys::get(job, client).await,
        OnKeys::List => keys::list(job, client).await,
        OnKeys::Set => keys::write(job, client, None).await,
        OnKeys::Update => keys::write(job, client, Some(true)).await,
        OnKeys::Make => keys::write(job, client, Some(false)).await,
        OnKeys::MakeDir => keys::write_dir(job, client, Some(false)).await,
        OnKeys::SetDir => keys::write_dir(job, client, None).await,
        OnKeys::UpdateDir => keys::write_dir(job, client, Some(true)).await,
        OnKeys::Remove => keys::remove(job, client, false).await,
        OnKeys::RemoveDir => keys::remove(job, client, true).await,
        OnKeys::Wipe => keys::wipe(job, client).await,
        OnKeys::Watch => watches::watch(job, client).await,
        OnKeys::ExecWatch => watches::exec_watch(job, client).await,
    }
}

/// Asks about members, users or roles.
async fn administer<T>(
    client: &mut Client,
    ask: impl AsyncFnOnce(&mut Client) -> Result<T, CtlError>,
) -> Result<T, Failure> {
    client.within_total(ask).await.map_err(Failure::bare)
}
