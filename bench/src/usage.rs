//! Processor time and memory of a process, as the kernel counts them.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};

/// Resource use of a process so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user and kernel mode.
    pub processor: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Peak resident memory in bytes.
    pub peak: u64,
}

impl Usage {
    /// Resource use of a running process.
    ///
    /// # Panics
    /// When no process has this number.
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{path} cannot be read: {cause}"))
        };
        let (stat, status) = (read("stat"), read("status"));
        let (resident, peak) = (kibibytes(&status, "VmRSS:"), kibibytes(&status, "VmHWM:"));
        Self { processor: processor(&stat), resident: resident << 10, peak: peak << 10 }
    }
}

/// `utime` and `stime`: the 14th and 15th field of `/proc/PID/stat` (proc_pid_stat(5)), in ticks. The second is a name in
/// parentheses, which may hold anything.
fn processor(stat: &str) -> Duration {
    let (_, fields) = stat.rsplit_once(") ").expect("the name ends with a parenthesis");
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Share of a core that each process uses, in several consecutive windows.
///
/// # Panics
/// When one of the processes exits meanwhile.
pub async fn shares<const N: usize>(pids: [u32; N], windows: usize, window: Duration) -> [Vec<f64>; N] {
    let mut shares = [const { Vec::new() }; N];
    for _ in 0..windows {
        let (begun, before) = (Instant::now(), pids.map(|pid| Usage::of(pid).processor));
        sleep(window).await;
        let lasted = begun.elapsed();
        for (index, pid) in pids.into_iter().enumerate() {
            let used = Usage::of(pid).processor - before[index];
            shares[index].push(used.as_secs_f64() / lasted.as_secs_f64());
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_may_contain_any_character() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1 1 1";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(processor(stat), Duration::from_secs_f64(200.0 / ticks));
    }

    #[test]
    fn resident_memory_does_not_exceed_its_peak() {
        let usage = Usage::of(std::process::id());
        assert!(usage.resident > 0 && usage.peak >= usage.resident, "{usage:?}");
    }
}
