//! The limits that a container sets, in both versions of the cgroup file system.
//!
//! In: a root folder with `proc` and `sys/fs/cgroup`. Out: CPU time and memory allowed, the
//! tightest of the process's own group and all groups above it.

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
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let base = root.join("sys/fs/cgroup");
        let mut limits = Self::default();
        for line in groups.lines() {
            // `hierarchy:controllers:path`; version 2 has no controllers.
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                up_the_tree(&base, path, &mut |folder| limits.tighten(version_2(folder)));
            }
            for controller in controllers.split(',') {
                let tree = base.join(controller);
                up_the_tree(&tree, path, &mut |folder| limits.tighten(version_1(folder)));
            }
        }
        limits
    }

    fn tighten(&mut self, other: Self) {
        self.cpus = [self.cpus, other.cpus].into_iter().flatten().reduce(f64::min);
        self.memory_bytes = [self.memory_bytes, other.memory_bytes].into_iter().flatten().min();
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
