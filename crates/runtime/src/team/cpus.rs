//! Which CPUs this process was given: the affinity mask, the cgroup's quota, the physical cores.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The CPUs the process may run on, one per physical core first, then their hardware siblings.
pub fn given() -> Vec<usize> {
    let mask = affinity();
    let mut cores = HashSet::new();
    let (mut first, mut siblings) = (Vec::new(), Vec::new());
    for cpu in mask {
        let to = if cores.insert(core_of(cpu)) { &mut first } else { &mut siblings };
        to.push(cpu);
    }
    first.append(&mut siblings);
    first
}

/// How many workers to start: the physical cores given, but no more than the cgroup's quota pays
/// for.
pub fn default_workers() -> usize {
    let cpus = given();
    let cores: HashSet<String> = cpus.iter().map(|&cpu| core_of(cpu)).collect();
    cores.len().min(quota().unwrap_or(usize::MAX)).max(1)
}

/// Ties the calling thread to a CPU; where the system refuses, it stays where it may be.
pub fn pin(cpu: usize) {
    // SAFETY: cpu_set_t is plain bits, for which zeros are a value; CPU_SET ignores a CPU beyond
    // it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    set_mask(&set);
}

/// The calling thread tied to a CPU until this is dropped; then it may run where it might before.
pub struct Pinned {
    before: libc::cpu_set_t,
    here: std::marker::PhantomData<*mut ()>,
}

impl Pinned {
    /// Ties it; `None` where the system does not say where it may run.
    pub fn to(cpu: usize) -> Option<Self> {
        let before = mask()?;
        pin(cpu);
        Some(Self { before, here: std::marker::PhantomData })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        set_mask(&self.before);
    }
}

fn set_mask(set: &libc::cpu_set_t) {
    // SAFETY: the call reads the set only, which is of the size given.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

/// The calling thread's affinity mask.
fn mask() -> Option<libc::cpu_set_t> {
    // SAFETY: cpu_set_t is plain bits, for which zeros are a value; the call fills the set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(set)
    }
}

/// The CPUs of the calling thread's affinity mask, or one CPU per unit of parallelism where it
/// cannot be read.
fn affinity() -> Vec<usize> {
    let set = mask();
    // SAFETY: CPU_ISSET is asked only for CPUs within the set.
    let has = |set: &libc::cpu_set_t, cpu: usize| unsafe { libc::CPU_ISSET(cpu, set) };
    let cpus: Vec<usize> = set
        .map(|set| (0..libc::CPU_SETSIZE as usize).filter(|&cpu| has(&set, cpu)).collect())
        .unwrap_or_default();
    if !cpus.is_empty() {
        return cpus;
    }
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// A name for the physical core of a CPU: the list of its hardware threads.
fn core_of(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).map_or(cpu.to_string(), |list| list.trim().to_owned())
}

/// CPUs' worth of time that the cgroup (v2 or v1) allows, rounded up.
fn quota() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            found.extend(limits(Path::new("/sys/fs/cgroup"), group, v2_limit));
        } else if controllers.split(',').any(|c| c == "cpu") {
            let root = PathBuf::from("/sys/fs/cgroup").join(controllers);
            found.extend(limits(&root, group, v1_limit));
        }
    }
    found.into_iter().min()
}

/// The limits of a group and all above it. Inside a container the group's path may not exist; the
/// root then is the container's own.
fn limits(root: &Path, group: &str, read: fn(&Path) -> Option<usize>) -> Vec<usize> {
    let group = root.join(group.trim_start_matches('/'));
    group.ancestors().take_while(|path| path.starts_with(root)).filter_map(read).collect()
}

fn v2_limit(group: &Path) -> Option<usize> {
    parse_v2(&std::fs::read_to_string(group.join("cpu.max")).ok()?)
}

fn v1_limit(group: &Path) -> Option<usize> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let quota = read("cpu.cfs_quota_us")?;
    parse_v2(&format!("{} {}", quota.trim(), read("cpu.cfs_period_us")?.trim()))
}

/// Reads `quota period`; no number, or a negative one, is no limit.
pub(super) fn parse_v2(text: &str) -> Option<usize> {
    let mut fields = text.split_whitespace();
    let quota: u64 = fields.next()?.parse().ok()?;
    let period: u64 = fields.next()?.parse().ok().filter(|&period| period > 0)?;
    Some(quota.div_ceil(period).max(1) as usize)
}
