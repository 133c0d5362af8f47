//! `cairn`, the one binary: the server, and under other names or words its tools.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use cairn::config::{self, Config, Level, LogFormat, LogLevel, LogOutput, Outcome};
use cairn::disk::DataDir;
use cairn::health::{self, Surroundings};
use cairn::program::Program;
use cairn::server::telemetry::{self, Format, LevelHandle, Output};
use cairn::server::{self, ServerError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys may be a thousand components deep, and trees are walked recursively.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    // What is not UTF-8 is no name of a flag and fits no value; shown with replacements, it is refused as such.
    let text = |word: OsString| word.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    match Program::of(std::env::args_os().map(text)) {
        Program::Server(arguments) => serve(arguments, variables),
        Program::Health(arguments) => ask_health(arguments, variables),
        Program::Tool(name) => {
            eprintln!(
                "not supported yet: {name} comes with a later version; use curl, or etcdctl of Debian's etcd-client with \
                 ETCDCTL_API=2"
            );
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) {
    // Nobody listening is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
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

fn serve(arguments: Vec<String>, variables: Vec<(String, String)>) -> ExitCode {
    let read = |path: &str| std::fs::read_to_string(path);
    match config::load(arguments, variables, read, DataDir::has_member) {
        Outcome::Run(config, notices) => run(*config, &notices),
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

fn run(config: Config, notices: &[config::Notice]) -> ExitCode {
    // The allocator asks for huge pages, of which a small member would fill a tenth. Where the system cannot do without
    // them, it only takes more memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let level = match start_log(&config) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("--log-outputs {:?}: {error}", config.log_outputs);
            return ExitCode::FAILURE;
        }
    };
    for notice in notices {
        match notice.level {
            Level::Info => info!(target: "pkg/flags", "{}", notice.text),
            Level::Warning => warn!(target: "pkg/flags", "{}", notice.text),
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
    match runtime.block_on(until_signalled(config, level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn until_signalled(config: Config, level: LevelHandle) -> Result<(), ServerError> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                return Err(ServerError::Failed(format!("cannot listen for signals: {error}")));
            }
        };
    let stopping = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "terminated",
            _ = interrupt.recv() => "interrupt",
        };
        info!(target: "pkg/osutil", "received {name} signal, shutting down...");
        stopping.cancel();
    });
    server::run(config, level, stop).await
}

fn start_log(config: &Config) -> std::io::Result<LevelHandle> {
    let format = match config.log_format {
        LogFormat::Capnslog => Format::Capnslog,
        LogFormat::Zap => Format::Zap,
    };
    let level = match config.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let output = |output: &LogOutput| match output {
        LogOutput::Stderr => Output::Stderr,
        LogOutput::Stdout => Output::Stdout,
        LogOutput::File(path) => Output::File(path.clone()),
    };
    let outputs: Vec<_> = config.log_outputs.iter().map(output).collect();
    telemetry::start(format, &outputs, level)
}
