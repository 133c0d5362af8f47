//! `cairn`, the one binary: the server, and under other names or words its tools.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use cairn::bench;
use cairn::config::{self, Config, Level, Outcome};
use cairn::ctl;
use cairn::disk::DataDir;
use cairn::health::{self, Surroundings};
use cairn::model::codes;
use cairn::program::Program;
use cairn::server::telemetry::{self, LogHandle, LogOptions};
use cairn::server::{self, ServerError, Signals};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys may be a thousand components deep, and trees are walked recursively.
const STACK_BYTES: usize = 8 << 20;

/// What shells say of a program that SIGINT has ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    // What is not UTF-8 is no name of a flag and fits no value; shown with replacements, it is refused as such.
    let text = |word: OsString| word.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    match Program::of(std::env::args_os().map(text)) {
        Program::Server(arguments) => serve(arguments, variables),
        Program::Health(arguments) => ask_health(arguments, variables),
        Program::Bench(arguments) => put_load(arguments),
        Program::Tool(..) if std::env::args_os().any(|word| word.to_str().is_none()) => {
            // With replacements it would be another key or another value.
            eprintln!(
                "an argument is no UTF-8, and keys and values are text: encode it, as with base64"
            );
            ExitCode::FAILURE
        }
        Program::Tool(name, words) => use_tool(&name, words, variables),
    }
}

fn print(text: &str) {
    // A closed standard output is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Answers are read and printed recursively, so there is as much of a stack as the server has.
fn use_tool(name: &str, words: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    let name = name.to_owned();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let code = runtime.block_on(ctl::run(&name, &words, &variables));
        // Neither a look-up of a name nor a program that was started is waited for.
        runtime.shutdown_background();
        Ok::<_, std::io::Error>(code)
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    match thread.map(|thread| thread.join().expect("a release aborts where a thread panics")) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) | Err(error) => {
            eprintln!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask_health(arguments: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    // Each word ends with a zero byte; an empty one is a word too.
    let command_line = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let words = command_line.strip_suffix(&[0]).unwrap_or(&command_line).split(|byte| *byte == 0);
    let first_process = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let surroundings = Surroundings { variables, first_process };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot ask: {error}");
            return ExitCode::FAILURE;
        }
    };
    let read = |path: &str| std::fs::read_to_string(path);
    let said = runtime.block_on(health::ask(arguments, surroundings, read));
    // A look-up of a name that is still under way is not waited for.
    runtime.shutdown_background();
    match said {
        Ok(text) => {
            print(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn put_load(arguments: Vec<String>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Then nothing but its end ends the run.
            std::future::pending::<()>().await;
        }
        tokio::spawn(async {
            // A second Ctrl-C ends the program at once.
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(i32::from(INTERRUPTED));
            }
        });
    };
    let ended = runtime.block_on(bench::run(arguments, interrupted));
    // A look-up of a name that is still under way is not waited for.
    runtime.shutdown_background();
    print(&ended.text);
    if !ended.complaint.is_empty() {
        eprintln!("{}", ended.complaint);
    }
    ExitCode::from(ended.code)
}

fn serve(arguments: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    let load = move || {
        let read = |path: &str| std::fs::read_to_string(path);
        config::load(arguments.clone(), variables.clone(), read, DataDir::has_member)
    };
    match load() {
        Outcome::Run(config, notices) => run(*config, &notices, load),
        Outcome::Print(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Outcome::Fail(failure) => {
            eprintln!("{}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn run(config: Config, notices: &[config::Notice], load: impl Fn() -> Outcome) -> ExitCode {
    // The allocator asks for huge pages, of which a small member would fill a tenth. Where the system cannot do without
    // them, it only takes more memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let log = telemetry::start(&LogOptions {
        format: config.log_format,
        outputs: &config.log_outputs,
        level: config.log_level,
        package_levels: &config.log_package_levels,
    });
    let log = match log {
        Ok(log) => log,
        Err(error) => {
            eprintln!("--log-outputs {:?}: {error}", config.log_outputs);
            return ExitCode::FAILURE;
        }
    };
    for notice in notices {
        match notice.level {
            Level::Info => info!(target: "pkg/flags", "{}", notice.text),
            Level::Warning => {
                warn!(target: "pkg/flags", code = codes::CONFIGURATION, "{}", notice.text)
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(until_signalled(config, log.clone(), load));
    // Also when the member did not get as far as to serve: the last lines say why.
    log.finish();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn until_signalled(
    config: Config,
    log: LogHandle,
    load: impl Fn() -> Outcome,
) -> Result<(), ServerError> {
    let stop = CancellationToken::new();
    let signals = Signals::listen();
    let signals = signals
        .map_err(|error| ServerError::Failed(format!("cannot listen for signals: {error}")))?;
    let level = || match load() {
        Outcome::Run(config, _) => {
            Ok(config.from_file.then_some((config.log_level, config.log_package_levels)))
        }
        Outcome::Fail(failure) => Err(failure.text),
        Outcome::Print(_) => Ok(None),
    };
    let hangup = Arc::new(Notify::new());
    let follow = signals.follow(stop.clone(), log.clone(), level, Arc::clone(&hangup));
    let member = server::run(config, log, stop, hangup);
    // A member that fails ends without a signal; one that is asked to stop takes its time.
    let mut member = std::pin::pin!(member);
    tokio::select! {
        ended = member.as_mut() => ended,
        () = follow => member.await,
    }
}
