//! What each command does.
//!
//! Owns: which function is which command's, and in which order arguments are checked; scripts see that order in errors and exit
//! codes. Never knows: how options are written.

mod auth;
mod check;
mod endpoints;
pub(in crate::ctl) mod keys;
mod leases;
mod maintenance;
mod members;
mod mirror;
mod roles;
mod sessions;
mod snapshots;
mod txn;
mod watches;
mod watching;

use std::process::Stdio;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Call, Client, Terms};
use crate::ctl::failure::Failure;
use crate::ctl::parse::Said;
use crate::ctl::print::{self, note};
use crate::ctl::table::{Action, OfV3, V3};
use crate::ctl::v3::format::Printer;
use crate::ctl::v3::parse::Line;
use crate::ctl::v3::settings::Settings;
use crate::ctl::v3::{code, error, refused};
use crate::ctl::{completion, man};
use crate::model::ETCD_VERSION;
use crate::rpc::status::DEADLINE_EXCEEDED;

/// What a shell says of a program that SIGINT has ended, and of one that SIGTERM has.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// What a command works with.
struct Job<'a> {
    said: &'a Said,
    arguments: &'a [String],
    /// How many arguments stood before `--`, if there was one.
    before_dashes: Option<usize>,
    settings: &'a Settings,
}

impl Job<'_> {
    /// The only argument.
    fn argument(&self, otherwise: &str) -> Result<&str, Failure> {
        match self.arguments {
            [only] => Ok(only),
            _ => Err(wrong(otherwise)),
        }
    }

    fn no_arguments(&self, otherwise: &str) -> Result<(), Failure> {
        if self.arguments.is_empty() { Ok(()) } else { Err(wrong(otherwise)) }
    }

    /// Whom to ask, and how to print.
    async fn client(&self) -> Result<(Client, Printer), Failure> {
        let printer = self.printer()?;
        Ok((self.settings.client().await?, printer))
    }

    fn printer(&self) -> Result<Printer, Failure> {
        Printer::new(self.settings.text("write-out"), self.settings.is_on("hex"))
    }

    fn terms(&self) -> Terms {
        Terms::within(self.settings.command_timeout())
    }

    async fn ask<C: Call>(&self, client: &Client, request: &C) -> Result<C::Answer, Failure> {
        match client.ask(request, self.terms()).await {
            Ok(answer) => Ok(answer),
            Err(status) => {
                if status == DEADLINE_EXCEEDED
                    && let Some(why) = client.unreachable().await
                {
                    note(&why);
                }
                Err(refused(&status))
            }
        }
    }
}

/// Wrong arguments.
fn wrong(why: &str) -> Failure {
    error(code::BAD_ARGUMENTS, why)
}

/// What Go says of a word that is no number.
fn no_number(kind: &str, word: &str) -> String {
    format!("strconv.Parse{kind}: parsing {}: invalid syntax", super::go::quoted(word.as_bytes()))
}

/// The number of a member, written with letters.
fn hex_u64(word: &str) -> Result<u64, String> {
    let plain = !word.starts_with('+');
    let number = u64::from_str_radix(word, 16).ok().filter(|_| plain);
    number.ok_or_else(|| no_number("Uint", word))
}

/// Does it; returns the exit code.
///
/// # Errors
/// How it failed.
pub(in crate::ctl) async fn run(
    program: &str,
    line: &Line,
    settings: &Settings,
) -> Result<u8, Failure> {
    let (said, arguments) = (&line.said, &line.arguments);
    let job = &Job { said, arguments, before_dashes: line.before_dashes, settings };
    let Action::V3(action) = line.command.action else {
        unreachable!("the table of version 3 has only its own")
    };
    match action {
        OfV3::Put => keys::put(job).await?,
        OfV3::Get => keys::get(job).await?,
        OfV3::Del => keys::delete(job).await?,
        OfV3::Compaction => keys::compact(job).await?,
        OfV3::Txn => txn::run(job).await?,
        OfV3::Watch => return watches::run(job).await,
        OfV3::LeaseGrant => leases::grant(job).await?,
        OfV3::LeaseRevoke => leases::revoke(job).await?,
        OfV3::LeaseTimeToLive => leases::time_to_live(job).await?,
        OfV3::LeaseList => leases::list(job).await?,
        OfV3::LeaseKeepAlive => return until_signalled(leases::keep_alive(job)).await,
        OfV3::MemberAdd => members::add(job).await?,
        OfV3::MemberRemove => members::remove(job).await?,
        OfV3::MemberUpdate => members::update(job).await?,
        OfV3::MemberList => members::list(job).await?,
        OfV3::MemberPromote => members::promote(job).await?,
        OfV3::EndpointHealth => endpoints::health(job).await?,
        OfV3::EndpointStatus => endpoints::status(job).await?,
        OfV3::EndpointHashKv => endpoints::hash_kv(job).await?,
        OfV3::MoveLeader => maintenance::move_leader(job).await?,
        OfV3::AlarmList => maintenance::alarms(job).await?,
        OfV3::AlarmDisarm => maintenance::disarm(job).await?,
        OfV3::Defrag => maintenance::defragment(job).await?,
        OfV3::SnapshotSave => snapshots::save(job).await?,
        OfV3::SnapshotStatus => snapshots::status(job)?,
        OfV3::SnapshotRestore => snapshots::restore(job).await?,
        OfV3::MakeMirror => return until_signalled(mirror::run(job)).await,
        OfV3::Migrate => return Err(error(code::ERROR, MIGRATE)),
        OfV3::Lock => sessions::lock(job).await?,
        OfV3::Elect => sessions::elect(job).await?,
        OfV3::CheckPerf => check::perf(job).await?,
        OfV3::CheckDatascale => check::data_scale(job).await?,
        OfV3::AuthEnable => auth::enable(job).await?,
        OfV3::AuthDisable => auth::disable(job).await?,
        OfV3::UserAdd => auth::add(job).await?,
        OfV3::UserDelete => auth::delete(job).await?,
        OfV3::UserGet => auth::get(job).await?,
        OfV3::UserList => auth::list(job).await?,
        OfV3::UserPasswd => auth::password(job).await?,
        OfV3::UserGrantRole => auth::grant(job).await?,
        OfV3::UserRevokeRole => auth::revoke(job).await?,
        OfV3::RoleAdd => roles::add(job).await?,
        OfV3::RoleDelete => roles::delete(job).await?,
        OfV3::RoleGet => roles::get(job).await?,
        OfV3::RoleList => roles::list(job).await?,
        OfV3::RoleGrantPermission => roles::grant(job).await?,
        OfV3::RoleRevokePermission => roles::revoke(job).await?,
        OfV3::Version => {
            let own = env!("CARGO_PKG_VERSION");
            print::out(&format!(
                "etcdctl version: {ETCD_VERSION}\nAPI version: 3.4\ncairn version: {own}\n"
            ))?;
        }
        OfV3::Completion => {
            let shell = job.argument("provide a shell: bash, zsh or fish")?;
            print::out(&completion::script(shell)?)?;
        }
        OfV3::Man => print::out(&man::page(program, &V3))?,
    }
    Ok(0)
}

const MIGRATE: &str = "the keys of version 2 and those of version 3 live side by side here, so there is nothing to migrate in a \
                       member's directory; `cairn migrate` takes over a directory of etcd";

/// Goes on until it is done or someone ends it.
async fn until_signalled(work: impl Future<Output = Result<(), Failure>>) -> Result<u8, Failure> {
    let mut signals = Signals::new();
    tokio::select! {
        done = work => done.map(|()| 0),
        code = signals.next() => Ok(code),
    }
}

/// What ends commands that go on. The first process of a container gets SIGTERM only if it asks for it.
struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    fn new() -> Self {
        let of = |kind| signal(kind).ok();
        Self { interrupt: of(SignalKind::interrupt()), terminate: of(SignalKind::terminate()) }
    }

    /// Waits for one; returns what a shell says of a program that it has ended.
    async fn next(&mut self) -> u8 {
        async fn of(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = of(&mut self.interrupt) => INTERRUPTED,
            () = of(&mut self.terminate) => TERMINATED,
        }
    }
}

/// Runs a program with these variables and this input, its output where ours goes; how it ended if that was not well.
async fn execute(
    program: &[String],
    variables: &[(&str, String)],
    input: Stdio,
) -> Result<(), String> {
    let (name, arguments) = program.split_first().expect("a program has a name");
    let mut command = std::process::Command::new(name);
    command.args(arguments).stdin(input);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    // A thread for it: what runs programs with the runtime would need one more signal and more of the library.
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    let status = match ended.map_err(|error| error.to_string())? {
        Ok(status) => status,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = super::go::quoted(name.as_bytes());
            return Err(format!("exec: {name}: executable file not found in $PATH"));
        }
        Err(error) => return Err(error.to_string()),
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(format!("exit status {code}")),
        None => Err(format!("{status}")),
    }
}

/// Says that one of several endpoints failed; the others go on.
fn complain(what: &str) {
    note(what);
}
