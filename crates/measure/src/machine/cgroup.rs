//! The limits that a container sets, in both versions of the cgroup file system.
//!
//! In: a root folder with `proc` and `sys/fs/cgroup`. Out: CPU time and memory allowed, the
//! tightest of the process's own group and all groups above it, and how much of it is used.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the groups allow; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// CPU time, in CPUs.
    pub cpus: Option<f64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
}

/// Version 1 writes "no limit" as the largest page-aligned number; nothing real comes near it.
const NO_LIMIT_BYTES: u64 = 1 << 60;

impl Limits {
    /// The limits of this process.
    pub fn read(root: &Path) -> Self {
        let mut limits = Self::default();
        each_group(root, &mut |folder, version| {
            limits.tighten(if version == 2 { version_2(folder) } else { version_1(folder) });
        });
        limits
    }

    fn tighten(&mut self, other: Self) {
        self.cpus = [self.cpus, other.cpus].into_iter().flatten().reduce(f64::min);
        self.memory_bytes = [self.memory_bytes, other.memory_bytes].into_iter().flatten().min();
    }
}

/// The part of its memory that the fullest of the process's groups uses; file pages that the kernel
/// can drop are not in use. `None` where there is no limit.
pub fn memory_used(root: &Path) -> Option<f64> {
    let mut most: Option<f64> = None;
    each_group(root, &mut |folder, version| {
        let (limits, usage, dropped) = match version {
            2 => (version_2(folder), "memory.current", "inactive_file"),
            _ => (version_1(folder), "memory.usage_in_bytes", "total_inactive_file"),
        };
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let usage: Option<u64> = read(usage).trim().parse().ok();
        let stat = read("memory.stat");
        let mut fields = stat.lines().filter_map(|line| line.split_once(' '));
        let dropped = fields.find(|(key, _)| *key == dropped);
        let dropped: u64 = dropped.and_then(|(_, n)| n.trim().parse().ok()).unwrap_or(0);
        if let (Some(limit), Some(usage)) = (limits.memory_bytes.filter(|&n| n > 0), usage) {
            let used = usage.saturating_sub(dropped) as f64 / limit as f64;
            most = Some(most.unwrap_or(0.0).max(used));
        }
    });
    most
}

/// Visits the folders of the process's groups and of all above them, each with its version.
fn each_group(root: &Path, visit: &mut dyn FnMut(&Path, u8)) {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let base = root.join("sys/fs/cgroup");
    for line in groups.lines() {
        // `hierarchy:controllers:path`; version 2 has no controllers.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.is_empty() {
            up_the_tree(&base, path, &mut |folder| visit(folder, 2));
        }
        for controller in controllers.split(',') {
            up_the_tree(&base.join(controller), path, &mut |folder| visit(folder, 1));
        }
    }
}

/// Visits `path` under `tree` and every folder above it. In a container the path may be the host's
/// and not exist here; its limits are then those of the tree's root.
fn up_the_tree(tree: &Path, path: &str, visit: &mut dyn FnMut(&Path)) {
    let mut folder: PathBuf = tree.join(path.trim_start_matches('/'));
    while folder.starts_with(tree) {
        visit(&folder);
        if !folder.pop() {
            break;
        }
    }
}

fn version_2(folder: &Path) -> Limits {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let cpus = read("cpu.max").and_then(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        cpus(quota.parse().ok()?, period.parse().ok()?)
    });
    let memory_bytes = read("memory.max").and_then(|text| text.trim().parse().ok());
    Limits { cpus, memory_bytes }
}

fn version_1(folder: &Path) -> Limits {
    let read = |name: &str| -> Option<i64> {
        fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let quota = read("cpu.cfs_quota_us").zip(read("cpu.cfs_period_us"));
    let memory = read("memory.limit_in_bytes").and_then(|bytes| u64::try_from(bytes).ok());
    Limits {
        cpus: quota.and_then(|(quota, period)| cpus(quota as f64, period as f64)),
        memory_bytes: memory.filter(|bytes| *bytes < NO_LIMIT_BYTES),
    }
}

/// A quota of -1 is none.
fn cpus(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}
