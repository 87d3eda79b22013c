//! What this process takes of the machine, as the system says; only Linux does.

use std::fs::read_to_string;
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

/// Clock ticks per second in `/proc`: part of Linux' interface to programs on every processor that
/// there are kernels for here.
const TICKS_PER_SECOND: f64 = 100.0;
/// Shorter times than this are too few ticks to say how busy a process is.
const SHORTEST: Duration = Duration::from_secs(1);

/// This process's share of memory: pages that it shares with others count in part.
pub fn pss_bytes() -> Option<u64> {
    kib_line(&read_to_string("/proc/self/smaps_rollup").ok()?, "Pss:")
}

/// Of what is in this process's memory, the part that other processes carry: pages that it shares
/// count in part, and this is the rest.
pub fn shared_bytes() -> Option<u64> {
    let rollup = read_to_string("/proc/self/smaps_rollup").ok()?;
    let (all, own) = (kib_line(&rollup, "Rss:")?, kib_line(&rollup, "Pss:")?);
    Some(all.saturating_sub(own))
}

/// Memory of this process, with all of what it shares.
pub fn resident_bytes() -> Option<u64> {
    kib_line(&read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Seconds of all CPUs together that this process was computing.
pub fn cpu_seconds() -> Option<f64> {
    cpu_seconds_in(&read_to_string("/proc/self/stat").ok()?)
}

/// The name, in parentheses, may hold spaces; user and system time are the 12th and 13th after it.
fn cpu_seconds_in(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// A line such as `Pss:   1234 kB`, in bytes.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// How busy this process is between two times that somebody asks.
#[derive(Debug, Default)]
pub struct Busy {
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    /// Since the server started.
    at: Duration,
    cpu_seconds: f64,
    share: Option<f64>,
}

impl Busy {
    /// Begins to watch.
    pub fn new() -> Self {
        let cpu_seconds = cpu_seconds().unwrap_or_default();
        Self { last: Mutex::new(Last { cpu_seconds, ..Last::default() }) }
    }

    /// The share of the CPUs that this process may use on which it was computing, 0 to 1, since
    /// this was asked last, or since the start; `None` in the first second, and where it is not
    /// known.
    pub fn share(&self, uptime: Duration) -> Option<f64> {
        self.share_at(uptime, cpu_seconds()?, available_parallelism().ok()?.get())
    }

    fn share_at(&self, uptime: Duration, cpu_seconds: f64, n_cpus: usize) -> Option<f64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = uptime.saturating_sub(last.at);
        if passed >= SHORTEST {
            let share = (cpu_seconds - last.cpu_seconds) / (passed.as_secs_f64() * n_cpus as f64);
            *last = Last { at: uptime, cpu_seconds, share: Some(share.clamp(0.0, 1.0)) };
        }
        last.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_seconds_in(stat), Some(3.0));
        assert_eq!(cpu_seconds_in("nonsense"), None);
        assert_eq!(kib_line("Rss: 1 kB\nPss:    2 kB\n", "Pss:"), Some(2048));
    }

    #[test]
    fn the_share_is_that_of_the_time_since_it_was_asked() {
        let busy = Busy { last: Mutex::default() };
        let second = Duration::from_secs;
        assert_eq!(busy.share_at(Duration::from_millis(500), 1.0, 2), None);
        assert_eq!(busy.share_at(second(2), 3.0, 2), Some(0.75));
        assert_eq!(busy.share_at(Duration::from_millis(2_500), 3.9, 2), Some(0.75));
        assert_eq!(busy.share_at(second(4), 4.0, 2), Some(0.25));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_all_of_it() {
        let known = [pss_bytes(), resident_bytes()];
        assert!(known.iter().all(|bytes| bytes.is_some_and(|bytes| bytes > 0)), "{known:?}");
        assert!(cpu_seconds().is_some());
    }
}
