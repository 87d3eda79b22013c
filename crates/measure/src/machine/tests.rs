//! Detection against this machine's own `/proc/cpuinfo`, and against made-up machines.

use super::*;
use crate::clock::{Clock, RealClock};
use expect_test::expect;
use std::time::Duration;

#[test]
#[cfg(target_os = "linux")]
fn detection_agrees_with_cpuinfo_and_cpuid() {
    // proves B-20
    let machine = Machine::detect();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
    let n_processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    assert_eq!(machine.n_online, n_processors);
    assert!((1..=machine.n_online).contains(&machine.n_cores));
    assert!((1..=machine.n_online).contains(&machine.usable_cpus()));
    let std_says = std::thread::available_parallelism().unwrap().get();
    assert!(machine.usable_cpus().abs_diff(std_says) <= 1, "{machine:?} but std says {std_says}");
    assert!(machine.usable_memory_bytes().unwrap() > 64 << 20);
    assert_eq!(machine.id(), Machine::detect().id());
    #[cfg(target_arch = "x86_64")]
    {
        let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap();
        assert!(machine.cpu.starts_with(name), "{} does not start with {name}", machine.cpu);
        for (flag, has) in cpuid_flags() {
            assert_eq!(machine.has(flag), has, "{flag}");
        }
    }
}

/// What the CPU itself says, by the kernel's names.
#[cfg(target_arch = "x86_64")]
fn cpuid_flags() -> [(&'static str, bool); 12] {
    [
        ("sse4_2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx_vnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512_vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512_bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512vbmi", is_x86_feature_detected!("avx512vbmi")),
    ]
}

/// A folder that looks like the root of a machine.
fn machine_of(files: &[(&str, &str)]) -> Machine {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Machine::detect_under(root.path())
}

const CPUINFO: &str = "processor\t: 0\nmodel\t\t: 97\nmodel name\t: Zen 4\nstepping\t: 2\n\
    cpu family\t: 25\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu avx2 fma avx512_vnni\n\n\
    processor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n";

const CACHE: &str = "sys/devices/system/cpu/cpu0/cache/";

#[test]
fn a_container_of_version_2() {
    let cache = |name: &str| format!("{CACHE}index0/{name}");
    let machine = machine_of(&[
        ("proc/cpuinfo", CPUINFO),
        ("proc/meminfo", "MemTotal:       16384 kB\n"),
        ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n"),
        ("proc/self/cgroup", "0::/box/inner\n"),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/fs/cgroup/box/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/box/inner/cpu.max", "max 100000\n"),
        ("sys/fs/cgroup/box/inner/memory.max", "8388608\n"),
        ("sys/fs/cgroup/memory.max", "max\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        (&cache("level"), "3\n"),
        (&cache("type"), "Unified\n"),
        (&cache("size"), "32768K\n"),
        (&cache("shared_cpu_list"), "0-7\n"),
    ]);
    expect![[r#"
        {
          "cpu": "Zen 4 (family 25 model 97 stepping 2)",
          "n_online": 4,
          "n_cores": 1,
          "affinity": [
            0,
            1
          ],
          "cpu_quota": 1.5,
          "isa": [
            "fma",
            "avx2",
            "avx512_vnni"
          ],
          "caches": [
            {
              "level": 3,
              "kind": "Unified",
              "bytes": 33554432,
              "n_sharing": 8
            }
          ],
          "ram_bytes": 16777216,
          "memory_limit_bytes": 8388608,
          "huge_pages": "madvise"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&machine).unwrap());
    assert_eq!((machine.usable_cpus(), machine.usable_memory_bytes()), (2, Some(8 << 20)));
}

#[test]
fn a_container_of_version_1() {
    let machine = machine_of(&[
        ("proc/cpuinfo", CPUINFO),
        ("proc/self/cgroup", "5:memory:/a/b\n3:cpu,cpuacct:/gone\n0::/\n"),
        ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ]);
    assert_eq!((machine.cpu_quota, machine.memory_limit_bytes), (Some(0.5), Some(1 << 20)));
    assert_eq!((machine.usable_cpus(), machine.n_online, machine.n_cores), (1, 2, 1));
}

#[test]
fn nothing_readable_is_nothing_claimed() {
    let machine = machine_of(&[("proc/self/status", "Cpus_allowed_list:\t0-99999999999\n")]);
    assert_eq!((machine.cpu.as_str(), machine.n_online), ("unknown CPU", 1));
    assert!(machine.isa.is_empty() && machine.caches.is_empty());
    assert_eq!((&machine.affinity, machine.ram_bytes, &machine.huge_pages), (&None, None, &None));
}

/// A clock that gains a fixed step on every look.
struct Ticking(crate::clock::SimulatedClock);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        self.0.advance(Duration::from_millis(100));
        self.0.now()
    }
}

fn ceilings(clock: &dyn Clock, max_threads: usize) -> Ceilings {
    let machine = machine_of(&[("proc/cpuinfo", CPUINFO)]);
    let effort = ceilings::Effort {
        memory_bytes: 1 << 20,
        n_repetitions: 3,
        repetition: Duration::from_millis(2),
    };
    Ceilings::measure(&PortableProbes, &machine, max_threads, &effort, clock, &|_| ()).unwrap()
}

#[test]
fn ceilings_cover_every_quantity_and_thread_count() {
    let ceilings = ceilings(&RealClock::new(), 3);
    let found: Vec<(&str, usize, bool)> = ceilings
        .all
        .iter()
        .map(|c| (c.figure.name(), c.n_threads, c.figure.value().is_some_and(|rate| rate > 1e6)))
        .collect();
    let names = ["memory_read", "cache_read", "int8_peak", "f32_peak", "bf16_peak"];
    let expected: Vec<(&str, usize, bool)> = names
        .iter()
        .flat_map(|name| [1, 2, 3].map(|n_threads| (*name, n_threads, *name != "bf16_peak")))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(ceilings.get("f32_peak", 9), ceilings.get("f32_peak", 3));
    assert_eq!((ceilings.get("bf16_peak", 1), ceilings.get("f32_peak", 0)), (None, None));
    assert_eq!(ceilings.table().lines().count(), 15);
}

#[test]
fn rates_are_work_over_time() {
    // Each repetition takes 100 ms by this clock; calibration sees 65536 ops in 100 ms where 2 ms
    // are wanted, so a repetition is 65536 / 50 ops, rounded up to whole steps, per thread.
    let ceilings = ceilings(&Ticking(crate::clock::SimulatedClock::default()), 2);
    let n_ops = (65536u64 / 50).div_ceil(128) * 128;
    let close = |rate: f64, wanted: f64| (rate / wanted - 1.0).abs() < 1e-9;
    assert!(close(ceilings.get("int8_peak", 1).unwrap(), n_ops as f64 / 0.1));
    assert!(close(ceilings.get("int8_peak", 2).unwrap(), 2.0 * n_ops as f64 / 0.1));
}

#[test]
fn the_profile_is_kept_per_machine() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("sterna");
    let machine = machine_of(&[("proc/cpuinfo", CPUINFO)]);
    assert_eq!(Profile::load(&folder, &machine), Ok(None));
    let ceilings = ceilings(&RealClock::new(), 1);
    let profile = Profile { machine: machine.clone(), ceilings };
    let path = profile.save(&folder).unwrap();
    assert!(path.ends_with(format!("machine-{}.json", machine.id())));
    let loaded = Profile::load(&folder, &machine).unwrap().unwrap();
    assert_eq!(loaded.machine, machine);
    assert_eq!(loaded.ceilings.all.len(), 5);
    let other = Machine { n_online: 64, ..machine.clone() };
    assert_eq!(Profile::load(&folder, &other), Ok(None));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file stays");
    fs::write(&path, "{}").unwrap();
    let error = Profile::load(&folder, &machine).unwrap_err().to_string();
    assert!(error.contains("delete it, and it is measured again"), "{error}");
}

#[test]
fn portable_probes_do_what_they_count() {
    let probes = PortableProbes;
    assert_eq!(probes.reader(8 * 1001)(), 1001);
    assert_eq!(probes.int8_ops(1000), Some(1024));
    assert_eq!(probes.f32_ops(1), Some(128));
    assert_eq!(probes.bf16_ops(1), None);
}

// proves T-8
#[test]
fn what_was_tuned_belongs_to_one_machine_isa_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::detect();
    let tuned = Tuned {
        machine_id: machine.id(),
        isa: "avx2".into(),
        version: "1".into(),
        workload: "made".into(),
        timestamp_utc: "2026-11-21T12:00:00Z".into(),
        knobs: [("claims".to_owned(), 4)].into(),
        cost_ratio: None,
    };
    let load = |isa: &str, version: &str| Tuned::load(folder.path(), &machine, isa, version);
    assert_eq!(load("avx2", "1").unwrap(), None);
    let path = tuned.save(folder.path(), &machine).unwrap();
    assert_eq!(load("avx2", "1").unwrap(), Some(tuned));
    assert_eq!(load("avx2", "2").unwrap(), None);
    assert_eq!(load("scalar", "1").unwrap(), None);
    fs::write(&path, "{").unwrap();
    assert!(load("avx2", "1").unwrap_err().to_string().contains("sterna tune"));
}
