//! The only place that asks what time it is; everything else takes a [`Clock`].
//!
//! In: nothing. Out: time since the clock's start, real or simulated, so that whatever measures
//! time can be tested with time that does as it is told.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Time since some fixed start; never runs backwards.
pub trait Clock: Sync {
    /// The time now.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    start: Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl RealClock {
    /// Starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others take")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// CPU time of all threads of this process, in the kernel's ticks of 10 ms.
#[derive(Debug, Default, Clone, Copy)]
pub struct ProcessCpuClock;

impl Clock for ProcessCpuClock {
    fn now(&self) -> Duration {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Duration::from_millis(10 * cpu_ticks(&stat).unwrap_or(0))
    }
}

/// User and system time of a line of `/proc/PID/stat`, in hundredths of a second on every Linux.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// A clock that stands still until told to move.
#[derive(Debug, Default)]
pub struct SimulatedClock {
    now: Mutex<Duration>,
}

impl SimulatedClock {
    /// Moves on by `step`.
    pub fn advance(&self, step: Duration) {
        *self.now.lock().expect("no holder panics") += step;
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        *self.now.lock().expect("no holder panics")
    }
}

/// Today's date and time in UTC for a report, as `2026-11-21T12:00:00Z`.
#[expect(clippy::disallowed_methods, reason = "reports take their timestamp from here")]
pub fn timestamp_utc() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since_epoch.as_secs())
}

/// The civil date of a count of seconds since 1970 (the proleptic Gregorian calendar).
fn rfc3339(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Counted from 1 March of year 0, the leap day ends the year and months follow one formula.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_move_forward() {
        let real = RealClock::new();
        let before = real.now();
        assert!(real.now() >= before);
        let simulated = SimulatedClock::default();
        simulated.advance(Duration::from_millis(3));
        simulated.advance(Duration::from_millis(4));
        assert_eq!(simulated.now(), Duration::from_millis(7));
    }

    #[test]
    fn cpu_time_is_read_behind_any_program_name() {
        let line = "7 (a) (b c) R 1 2 3 4 5 6 7 8 9 10 250 17 0 0 20 0 1";
        assert_eq!(cpu_ticks(line), Some(267));
        assert_eq!(cpu_ticks("7 (a"), None);
        let before = ProcessCpuClock.now();
        assert!(ProcessCpuClock.now() >= before);
    }

    #[test]
    fn dates_of_known_seconds() {
        let known = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_262_400, "2026-11-21T12:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        known.iter().for_each(|(seconds, date)| assert_eq!(&rfc3339(*seconds), date));
        assert_eq!(timestamp_utc().len(), 20);
    }
}
