//! How short the machine's memory is: `MemAvailable`, the cgroup's limits, and stalls.
//!
//! In: a root folder with `proc` and `sys` (`/` but in tests). Out: a [`Reading`]. What cannot be
//! read says nothing.

use std::path::Path;
use sterna_measure::machine::cgroup;

/// The state of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The part of memory in use, of the machine or of the tightest cgroup, whichever is more.
    pub used: Option<f64>,
    /// The part of the last ten seconds in which every task stood still for memory (PSI `full`).
    pub stalled: Option<f64>,
}

/// More than this is too much, as system 001 has it.
const MOST_USED: f64 = 0.9;
/// Our own: when a tenth of all time is lost to paging, a model less is faster for everybody.
const MOST_STALLED: f64 = 0.1;

impl Reading {
    /// What the files under `root` say.
    pub fn under(root: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let machine = used_of_meminfo(&read("proc/meminfo"));
        let group = cgroup::memory_used(root);
        Self {
            used: [machine, group].into_iter().flatten().reduce(f64::max),
            stalled: stalled(&read("proc/pressure/memory")),
        }
    }

    /// Whether models have to go.
    pub fn is_pressed(&self) -> bool {
        self.used.is_some_and(|used| used > MOST_USED)
            || self.stalled.is_some_and(|stalled| stalled > MOST_STALLED)
    }
}

fn used_of_meminfo(text: &str) -> Option<f64> {
    let kilobytes = |key: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (total, available) = (kilobytes("MemTotal:")?, kilobytes("MemAvailable:")?);
    (total > 0.0).then(|| 1.0 - available / total)
}

/// `full avg10=1.50 avg60=...`, in percent.
fn stalled(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let percent = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
    percent.parse::<f64>().ok().map(|percent| percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_of_machine_and_groups_counts() {
        let meminfo = ("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n");
        let reading = Reading::under(root(&[meminfo]).path());
        assert_eq!(reading, Reading { used: Some(0.4), stalled: None });
        assert!(!reading.is_pressed());
        let group = root(&[
            meminfo,
            ("proc/self/cgroup", "0::/box/inner\n"),
            ("sys/fs/cgroup/box/memory.max", "1000\n"),
            ("sys/fs/cgroup/box/memory.current", "990\n"),
            ("sys/fs/cgroup/box/memory.stat", "anon 900\ninactive_file 40\n"),
            ("sys/fs/cgroup/box/inner/memory.max", "max\n"),
            ("sys/fs/cgroup/box/inner/memory.current", "990\n"),
        ]);
        let reading = Reading::under(group.path());
        assert_eq!(reading.used, Some(0.95));
        assert!(reading.is_pressed());
        let old = root(&[
            meminfo,
            ("proc/self/cgroup", "5:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "800\n"),
            ("sys/fs/cgroup/memory/a/memory.stat", "total_inactive_file 300\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(Reading::under(old.path()).used, Some(0.5));
    }

    #[test]
    fn stalls_are_pressure_too() {
        let text = "some avg10=30.00 avg60=0.00 avg300=0.00 total=1\n\
                    full avg10=12.50 avg60=0.00 avg300=0.00 total=1\n";
        let reading = Reading::under(root(&[("proc/pressure/memory", text)]).path());
        assert_eq!(reading, Reading { used: None, stalled: Some(0.125) });
        assert!(reading.is_pressed());
        let nothing = Reading::under(root(&[]).path());
        assert_eq!(nothing, Reading::default());
        assert!(!nothing.is_pressed());
    }
}
