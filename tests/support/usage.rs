//! What a process takes of the machine, as Linux tells it.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

fn read(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}")).expect("it runs")
}

fn memory(pid: u32, name: &str) -> u64 {
    let status = read(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") << 10
}

/// Bytes of memory that it holds now.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// Bytes of memory that it held at most.
pub(crate) fn resident_bytes_max(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

/// Processor time that it has used, its own and the system's for it.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    let behind = stat.rsplit(')').next().expect("a state");
    let ticks = behind.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_millis(ticks * 1000 / clock_ticks_per_second())
}
