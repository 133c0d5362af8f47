//! `cairn`, the one binary: the server, and under other names or words its tools.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use cairn::backup::{self, Ended, Task};
use cairn::bench;
use cairn::config::{self, Config, Level, LogFormat, LogLevel, LogOutput, Outcome};
use cairn::configuration;
use cairn::copy;
use cairn::ctl;
use cairn::disk::DataDir;
use cairn::health::{self, Surroundings};
use cairn::migrate;
use cairn::mirror;
use cairn::model::codes;
use cairn::program::Program;
use cairn::server::telemetry::{self, LogHandle, LogOptions};
use cairn::server::{self, ServerError, Service, Signals};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys may be a thousand components deep, and trees are walked recursively.
const STACK_BYTES: usize = 8 << 20;

/// A thread looks into the queue that all threads share behind so many tasks of its own. With more connections that are ready than its own
/// queue holds, the others stand in the shared one and must not wait for all that come meanwhile (ADR 41).
const SHARED_QUEUE_INTERVAL: u32 = 3;

/// A look at certificates that waits to begin stands for all who ask meanwhile.
const REREADS_WAITING: usize = 1;

/// How long a member that has stopped waits for what is still under way beside it: the look-up of a name while no name server
/// answers, which takes ten seconds and more, or a checkpoint. Neither is needed: all that was acknowledged is in the log. Docker kills
/// ten seconds after it has asked to stop, of which a leader and its clients may take four.
const LEFTOVERS_MAX: Duration = Duration::from_millis(500);

/// What shells say of a program that SIGINT has ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    // What is not UTF-8 is no name of a flag and fits no value; shown with replacements, it is refused as such.
    let text = |word: OsString| word.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    match Program::of(std::env::args_os().map(text)) {
        Program::Server(arguments) => serve(arguments, variables),
        Program::Health(arguments) => ask_health(arguments, variables),
        Program::Config(words) => ask_config(words, variables),
        Program::Bench(arguments) => put_load(arguments),
        Program::Backup(arguments) => back_up(Task::Backup, arguments, variables),
        Program::Restore(arguments) => back_up(Task::Restore, arguments, variables),
        Program::Verify(arguments) => back_up(Task::Verify, arguments, variables),
        Program::Migrate(arguments) => {
            on_a_large_stack(async move || told(&migrate::run(arguments, variables)))
        }
        Program::Export(arguments) => {
            on_a_large_stack(async move || told(&migrate::export(arguments, variables)))
        }
        Program::Mirror(arguments) => on_a_large_stack(async move || {
            told(&Box::pin(mirror::run(arguments, variables, asked_to_end())).await)
        }),
        Program::Copy(arguments) => on_a_large_stack(async move || {
            told(&Box::pin(copy::run(arguments, variables, asked_to_end())).await)
        }),
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

fn use_tool(name: &str, words: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    let name = name.to_owned();
    on_a_large_stack(async move || ctl::run(&name, &words, &variables).await)
}

fn back_up(task: Task, arguments: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    on_a_large_stack(async move || told(&backup::run(task, arguments, variables).await))
}

/// Says how it ended; returns the exit code.
fn told(ended: &Ended) -> u8 {
    print(&ended.text);
    if !ended.complaint.is_empty() {
        eprintln!("{}", ended.complaint);
    }
    ended.code
}

/// Answers and trees of keys are walked recursively, so there is as much of a stack as the server has.
fn on_a_large_stack(work: impl AsyncFnOnce() -> u8 + Send + 'static) -> ExitCode {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(STACK_BYTES)
            .build()?;
        let code = runtime.block_on(work());
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

fn ask_config(words: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    // What a start would log of certificates and directories.
    let log = telemetry::start(&LogOptions {
        format: LogFormat::Capnslog,
        outputs: &[LogOutput::Stderr],
        level: LogLevel::Warn,
        package_levels: &[],
    });
    let said = configuration::run(words, variables, |path| std::fs::read_to_string(path));
    if let Ok(log) = log {
        log.finish();
    }
    if !said.complaint.is_empty() {
        eprintln!("{}", said.complaint);
    }
    print(&said.text);
    ExitCode::from(said.code)
}

/// Ends with Ctrl-C, or with what a service manager sends.
async fn asked_to_end() {
    let signals = SignalKind::terminate();
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(signals), signal(SignalKind::interrupt()))
    else {
        // Then nothing but its end ends the run.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        // A second Ctrl-C ends the program at once.
        if interrupt.recv().await.is_some() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
}

fn put_load(arguments: Vec<String>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(bench::run(arguments, asked_to_end()));
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
    // While there is one thread: it takes variables out of the environment.
    let service = match Service::of_environment() {
        Ok(service) => service,
        Err(error) => {
            eprintln!("cairn: {error}");
            return ExitCode::FAILURE;
        }
    };
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
        .global_queue_interval(SHARED_QUEUE_INTERVAL)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(until_signalled(config, log.clone(), service, load));
    runtime.shutdown_timeout(LEFTOVERS_MAX);
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
    service: Service,
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
    let (certificates, reread) = mpsc::channel(REREADS_WAITING);
    let manager = service.manager.clone();
    let follow = signals.follow(stop.clone(), log.clone(), level, certificates, manager);
    let member = server::run(config, log, service, stop, reread);
    // A member that fails ends without a signal; one that is asked to stop takes its time.
    let mut member = std::pin::pin!(member);
    tokio::select! {
        ended = member.as_mut() => ended,
        () = follow => member.await,
    }
}
