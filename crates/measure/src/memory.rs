//! What a process and a file really occupy, as the kernel counts it.
//!
//! In: a process, or a path. Out: figures; where the kernel does not say, the figure says why.

use crate::{Figure, MeasureError, Unit};
use std::{fs, path::Path};

/// Whose memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// This one.
    Own,
    /// Another, by its id.
    Pid(u32),
}

/// Proportional set size now: shared pages count by their share, so that the sum over processes
/// is what the machine has given.
///
/// # Errors
/// Never in practice; an unreadable `/proc` makes the figure unavailable.
pub fn pss(process: Process) -> Result<Figure, MeasureError> {
    from_proc("pss_bytes", process, "smaps_rollup", "Pss:")
}

/// Memory of no file now, by its share: what the process asked for, without its code.
///
/// # Errors
/// As [`pss`].
pub fn own(process: Process) -> Result<Figure, MeasureError> {
    from_proc("own_bytes", process, "smaps_rollup", "Pss_Anon:")
}

/// Resident set size now.
///
/// # Errors
/// As [`pss`].
pub fn rss(process: Process) -> Result<Figure, MeasureError> {
    from_proc("rss_bytes", process, "status", "VmRSS:")
}

/// The greatest resident set size since the process began.
///
/// # Errors
/// As [`pss`].
pub fn peak_rss(process: Process) -> Result<Figure, MeasureError> {
    from_proc("peak_rss_bytes", process, "status", "VmHWM:")
}

/// The length of a file.
///
/// # Errors
/// As [`pss`].
pub fn file_bytes(path: &Path) -> Result<Figure, MeasureError> {
    let method = format!("length of {}", path.display());
    let of = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(format!("{} is not a file", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    figure("file_bytes", &method, of)
}

fn from_proc(name: &str, process: Process, file: &str, key: &str) -> Result<Figure, MeasureError> {
    let path = match process {
        Process::Own => format!("/proc/self/{file}"),
        Process::Pid(pid) => format!("/proc/{pid}/{file}"),
    };
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"));
    let bytes = text.and_then(|text| kilobytes(&text, key).ok_or(format!("{path} has no {key}")));
    figure(name, &format!("{} of {path}", key.trim_end_matches(':')), bytes.map(|kb| kb * 1024))
}

fn figure(name: &str, method: &str, bytes: Result<u64, String>) -> Result<Figure, MeasureError> {
    match bytes {
        Ok(bytes) => Figure::read(name, Unit::Bytes, method, bytes as f64),
        Err(reason) => Figure::unavailable(name, Unit::Bytes, method, &reason),
    }
}

/// The value of a line such as `Pss:   243 kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_lines() {
        let text =
            "Rss:  1772 kB\nPss:                 243 kB\nPss_Dirty:  116 kB\nVmHWM:\t 9 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(243));
        assert_eq!(kilobytes(text, "VmHWM:"), Some(9));
        assert_eq!(kilobytes(text, "Swap:"), None);
        assert_eq!(kilobytes("Pss: many kB", "Pss:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn touched_memory_shows() {
        // The kernel counts per CPU and sums now and then, and other tests run beside this one.
        let slack = 8e6;
        let value = |figure: Result<Figure, _>| figure.unwrap().value().unwrap();
        let before = value(rss(Process::Own));
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = value(rss(Process::Own));
        assert!(after - before > 67e6 - slack, "grew by {}", after - before);
        drop(touched);
        let peak = value(peak_rss(Process::Pid(std::process::id())));
        assert!(peak > after - slack, "peak {peak}, was {after}");
        assert!(value(pss(Process::Own)) >= value(own(Process::Own)));
        assert!(value(own(Process::Own)) > 0.0);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let figure = pss(Process::Pid(u32::MAX)).unwrap();
        assert_eq!(figure.value(), None);
        assert!(figure.reason().unwrap().contains("smaps_rollup"), "{:?}", figure.reason());
        let folder = tempfile::tempdir().unwrap();
        assert!(file_bytes(folder.path()).unwrap().reason().unwrap().contains("not a file"));
        assert!(file_bytes(&folder.path().join("x")).unwrap().reason().is_some());
        std::fs::write(folder.path().join("x"), [0; 77]).unwrap();
        assert_eq!(file_bytes(&folder.path().join("x")).unwrap().value(), Some(77.0));
    }
}
