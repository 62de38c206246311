//! What a process has used so far, by the kernel's own accounting.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// Length of the ticks in /proc/PID/stat: USER_HZ is 100 on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time in user and kernel mode, of all threads.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = read(pid, "stat")?;
    // The program's name may hold spaces; it ends with the last parenthesis, and `utime` is the 12th field behind it.
    let (_, fields) = stat.rsplit_once(')').context("stat has a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

/// Resident memory in MB (1,000,000 bytes).
pub fn resident_megabytes(pid: u32) -> anyhow::Result<f64> {
    let status = read(pid, "status")?;
    let line = status
        .lines()
        .find_map(|it| it.strip_prefix("VmRSS:"))
        .context("status has VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
}

/// The value in the middle.
pub fn median(values: &[f64]) -> anyhow::Result<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
        .get(values.len() / 2)
        .copied()
        .context("there is nothing to take the median of")
}
