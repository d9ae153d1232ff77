//! What the machine is, what it withholds, and where processor time goes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// Returns what a reader must know of the machine to compare.
pub(crate) fn facts() -> Value {
    let line = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    json!({
        "cpu": line("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
        "load_average": fs::read_to_string("/proc/loadavg").ok().map(|text| text.trim().to_owned()),
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The processor time of the whole machine, in ticks: all, and what the host withheld.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stolen {
    all: u64,
    steal: u64,
    idle: u64,
}

impl Stolen {
    /// Reads the counters now.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is within user time.
        let at = |index: usize| fields.get(index).copied().unwrap_or(0);
        Self { all: fields.iter().take(8).sum(), steal: at(7), idle: at(3) + at(4) }
    }

    /// Returns the per cent of the machine's time since then that was withheld, and that was idle.
    pub(crate) fn since(self) -> (f64, f64) {
        let now = Self::now();
        let all = (now.all.saturating_sub(self.all)).max(1);
        let share = |part: u64| 100.0 * ratio(part, all);
        (share(now.steal.saturating_sub(self.steal)), share(now.idle.saturating_sub(self.idle)))
    }
}

/// Returns `part / whole`.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    let (part, whole) = (part as f64, whole as f64);
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Returns a process's resident memory in bytes; 0 where it is gone.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor time by thread name.
pub(crate) type ThreadTimes = BTreeMap<String, Duration>;

/// Returns the processor time that the threads of a process have used, summed by name without trailing numbers.
pub(crate) fn thread_times(pid: u32) -> ThreadTimes {
    let mut times = ThreadTimes::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return times };
    for task in tasks.flatten() {
        let path = task.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let used = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let nanos = used.split_whitespace().next().and_then(|text| text.parse().ok());
        let name = name.trim().trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
        *times.entry(name.to_owned()).or_default() += Duration::from_nanos(nanos.unwrap_or(0));
    }
    times
}

/// Returns the processor time that a process and all its threads have used.
pub(crate) fn process_time(pid: u32) -> Duration {
    thread_times(pid).values().sum()
}

/// Returns the processor time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the processes whose parent is `pid`.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let parent = |child: u32| -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        text.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&child| parent(child) == Some(pid))
        .collect()
}

/// Returns the median.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Returns the value that `share` of the values are at or below.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_of_values_is_the_middle_one() {
        assert_eq!(median(&[5.0, 1.0, 3.0]).to_bits(), 3.0_f64.to_bits());
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0).to_bits(), 5.0_f64.to_bits());
        assert_eq!(median(&[]).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let pid = std::process::id();
        assert!(resident_bytes(pid) > 0);
        assert!(!thread_times(pid).is_empty());
    }
}
