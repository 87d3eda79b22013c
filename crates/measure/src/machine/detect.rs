//! What the machine is: CPU, cores, instruction sets, caches, memory, limits.
//!
//! In: a root folder holding `proc` and `sys` (`/` but in tests). Out: [`Machine`]. Whatever cannot
//! be read is `None`, never a guess.

use super::cgroup;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs, path::Path};

/// One machine, as far as speed depends on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The CPU's own name.
    pub cpu: String,
    /// CPUs that are online.
    pub n_online: usize,
    /// Physical cores among them; fewer where two threads share a core.
    pub n_cores: usize,
    /// CPUs that this process may run on; `None` if the kernel does not say.
    pub affinity: Option<Vec<usize>>,
    /// CPU time that the cgroup allows, in CPUs.
    pub cpu_quota: Option<f64>,
    /// Instruction sets of [`ISA_FLAGS`] that the CPU has and the system has enabled.
    pub isa: Vec<String>,
    /// The first CPU's data and unified caches.
    pub caches: Vec<Cache>,
    /// Memory in the machine.
    pub ram_bytes: Option<u64>,
    /// Memory that the cgroup allows.
    pub memory_limit_bytes: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
}

/// One level of cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u32,
    /// `Data` or `Unified`.
    pub kind: String,
    /// Its size.
    pub bytes: u64,
    /// CPUs that share it.
    pub n_sharing: usize,
}

/// Instruction sets that kernels may use: the kernel's name of each.
pub const ISA_FLAGS: &[&str] = &[
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx512vbmi",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
];

impl Machine {
    /// This machine.
    pub fn detect() -> Self {
        Self::detect_under(Path::new("/"))
    }

    /// The machine whose `proc` and `sys` lie under `root`.
    pub fn detect_under(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let cpuinfo = read("proc/cpuinfo").unwrap_or_default();
        let n_online = read("sys/devices/system/cpu/online")
            .and_then(|list| Some(cpu_list(&list)?.len()))
            .unwrap_or_else(|| field_of_all(&cpuinfo, "processor").count().max(1));
        let status = read("proc/self/status").unwrap_or_default();
        let affinity = field(&status, "Cpus_allowed_list").and_then(cpu_list);
        let limits = cgroup::Limits::read(root);
        Self {
            cpu: cpu_name(&cpuinfo),
            n_online,
            n_cores: n_cores(&cpuinfo).unwrap_or(n_online),
            affinity,
            cpu_quota: limits.cpus,
            isa: isa(&cpuinfo),
            caches: caches(root),
            ram_bytes: read("proc/meminfo").as_deref().and_then(ram_bytes),
            memory_limit_bytes: limits.memory_bytes,
            huge_pages: read("sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_string())),
        }
    }

    /// CPUs' worth of time that this process can use at once: online, allowed and within quota;
    /// a quota of 1.5 rounds up, as the second thread does find time.
    pub fn usable_cpus(&self) -> usize {
        let allowed = self.affinity.as_ref().map_or(self.n_online, Vec::len).min(self.n_online);
        let quota = self.cpu_quota.map_or(usize::MAX, |quota| quota.ceil() as usize);
        allowed.min(quota).max(1)
    }

    /// Memory that this process can use at most.
    pub fn usable_memory_bytes(&self) -> Option<u64> {
        [self.ram_bytes, self.memory_limit_bytes].into_iter().flatten().min()
    }

    /// Whether the CPU has the instruction set of that name.
    pub fn has(&self, flag: &str) -> bool {
        self.isa.iter().any(|have| have == flag)
    }

    /// The largest cache.
    pub fn last_level_cache(&self) -> Option<&Cache> {
        self.caches.iter().max_by_key(|cache| (cache.level, cache.bytes))
    }

    /// The identity of everything above: the same for the same machine under the same limits.
    pub fn id(&self) -> String {
        let text = serde_json::to_string(self).expect("plain data");
        blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
    }
}

/// The value of the first `key : value` line.
fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    field_of_all(text, key).next()
}

fn field_of_all<'t>(text: &'t str, key: &str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// `0-3,8` as numbers; `None` if it is no such list.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // A hostile range must not fill the memory; no machine has so many CPUs.
        if last < first || last - first > 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn cpu_name(cpuinfo: &str) -> String {
    let names = ["model name", "Model", "Hardware", "CPU part"];
    let name = names.iter().find_map(|key| field(cpuinfo, key)).unwrap_or("unknown CPU");
    // Two steppings of one name are two machines to a benchmark.
    match (field(cpuinfo, "cpu family"), field(cpuinfo, "model"), field(cpuinfo, "stepping")) {
        (Some(family), Some(model), Some(stepping)) => {
            format!("{name} (family {family} model {model} stepping {stepping})")
        }
        _ => name.to_string(),
    }
}

fn n_cores(cpuinfo: &str) -> Option<usize> {
    let packages = field_of_all(cpuinfo, "physical id");
    let cores: BTreeSet<(&str, &str)> = packages.zip(field_of_all(cpuinfo, "core id")).collect();
    (!cores.is_empty()).then_some(cores.len())
}

fn isa(cpuinfo: &str) -> Vec<String> {
    let line = field(cpuinfo, "flags").or_else(|| field(cpuinfo, "Features")).unwrap_or_default();
    let have: BTreeSet<&str> = line.split_whitespace().collect();
    ISA_FLAGS.iter().filter(|flag| have.contains(*flag)).map(|flag| flag.to_string()).collect()
}

fn caches(root: &Path) -> Vec<Cache> {
    let folder = root.join("sys/devices/system/cpu/cpu0/cache");
    let cache = |index: usize| -> Option<Cache> {
        let read = |name: &str| {
            let text = fs::read_to_string(folder.join(format!("index{index}")).join(name)).ok()?;
            Some(text.trim().to_string())
        };
        Some(Cache {
            level: read("level")?.parse().ok()?,
            kind: read("type")?,
            bytes: size(&read("size")?)?,
            n_sharing: cpu_list(&read("shared_cpu_list")?)?.len(),
        })
    };
    (0..16).filter_map(cache).filter(|cache| cache.kind != "Instruction").collect()
}

/// `48K`, `2M` or plain bytes.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix('K') {
        Some(digits) => (digits, 10),
        None => text.strip_suffix('M').map_or((text, 0), |digits| (digits, 20)),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

fn ram_bytes(meminfo: &str) -> Option<u64> {
    let kilobytes: u64 = field(meminfo, "MemTotal")?.strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}
