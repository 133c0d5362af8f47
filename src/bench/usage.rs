//! What processes take of this machine, as Linux tells it.
//!
//! Owns: the files below /proc. Never knows: whose processes they are.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What some processes take, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time so far, their own and the system's for them; counted in hundredths of a second.
    pub(super) processor: Duration,
    /// Bytes of memory now.
    pub(super) resident_bytes: u64,
    /// Bytes of memory at most, since they were started.
    pub(super) peak_bytes: u64,
}

/// What these processes take.
///
/// # Errors
/// The first of them that cannot be asked, in words.
pub(super) fn of(pids: &[u32]) -> Result<Usage, String> {
    let mut usage = Usage::default();
    for pid in pids {
        let one = read(&pid.to_string())
            .ok_or_else(|| format!("--pid {pid}: there is no such process"))?;
        usage.processor += one.processor;
        usage.resident_bytes += one.resident_bytes;
        usage.peak_bytes += one.peak_bytes;
    }
    Ok(usage)
}

/// What this process takes.
pub(super) fn own() -> Usage {
    read("self").unwrap_or_default()
}

fn read(process: &str) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program is in brackets and may have any in it.
    let mut behind = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || behind.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let memory = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some(Usage {
        processor: Duration::from_millis(ticks * 1000 / clock_ticks_per_second()),
        resident_bytes: memory("VmRSS:")?,
        peak_bytes: memory("VmHWM:")?,
    })
}

/// Files that this process needs beside its connections: terminals, timers, what runtimes wait with.
const DESCRIPTORS: u64 = 64;

/// Raises the limit of open files as far as it goes.
///
/// # Errors
/// When so many connections do not fit, with the fix.
pub(super) fn allow(connections: usize) -> Result<(), String> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where even that is refused, what is there must do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    match getrlimit(Resource::Nofile).current {
        Some(limit) if (connections as u64).saturating_add(DESCRIPTORS) > limit => Err(format!(
            "--connections {connections}: this process may open {limit} files; raise the limit (`ulimit -n`)"
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_memory_and_time() {
        let usage = of(&[std::process::id()]).expect("this one runs");
        assert!(usage.resident_bytes > 0 && usage.peak_bytes >= usage.resident_bytes, "{usage:?}");
        let error = of(&[u32::MAX]).expect_err("there are no such ids");
        assert!(error.contains("--pid 4294967295"), "{error}");
    }
}
