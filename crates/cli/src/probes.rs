//! The SIMD probes of `kernels`, as `measure` wants them, and the cached machine profile.

use anyhow::Context;
use std::path::PathBuf;
use sterna_kernels::{Level, Line, probe};
use sterna_measure::clock::RealClock;
use sterna_measure::machine::ceilings::{Effort, Reader};
use sterna_measure::machine::{Ceilings, Machine, Probes, Profile, Tuned};
use sterna_runtime::Lines;

/// The probes on one ISA.
#[derive(Clone, Copy)]
pub struct KernelProbes(pub Level);

/// Counts up whenever a probe of the kernels changes: ceilings of older ones are measured again.
const REVISION: u32 = 4;

impl Probes for KernelProbes {
    fn name(&self) -> String {
        format!("{}/{REVISION}", self.0.name())
    }

    fn reader(&self, n_bytes: usize) -> Reader<'_> {
        let level = self.0;
        // A reader that reads nothing would be taken for infinitely fast memory.
        let mut memory = Lines::zeroed(n_bytes / size_of::<Line>(), "a bandwidth probe")
            .unwrap_or_else(|error| panic!("{error}"));
        memory.advise_huge_pages();
        memory.lines_mut().fill(Line([1; 64]));
        Box::new(move || level.run(probe::ReadPass { lines: memory.lines() }))
    }

    fn int8_ops(&self, n: u64) -> Option<u64> {
        let one = probe::Int8Pass { rounds: 1 };
        let pass = probe::Int8Pass { rounds: n.div_ceil(2 * one.macs()) };
        let ops = 2 * pass.macs();
        std::hint::black_box(self.0.run(pass));
        Some(ops)
    }

    fn f32_ops(&self, n: u64) -> Option<u64> {
        let one = probe::FmaPass { rounds: 1 };
        let pass = probe::FmaPass { rounds: n.div_ceil(one.flops()) };
        let ops = pass.flops();
        std::hint::black_box(self.0.run(pass));
        Some(ops)
    }

    fn bf16_ops(&self, n: u64) -> Option<u64> {
        // Imitated dots are no ceiling of anything.
        self.0.features().contains(&"avx512_bf16").then(|| {
            let one = probe::Bf16Pass { rounds: 1 };
            let pass = probe::Bf16Pass { rounds: n.div_ceil(one.flops()) };
            let ops = pass.flops();
            std::hint::black_box(self.0.run_bf16(pass));
            ops
        })
    }
}

/// Where caches live: `$XDG_CACHE_HOME/sterna`, or `~/.cache/sterna`.
pub fn cache_folder() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    Some(base.join("sterna"))
}

/// Where prepared weights live.
pub fn program_folder() -> Option<PathBuf> {
    Some(cache_folder()?.join("programs"))
}

/// What `sterna tune` found on this machine on this ISA, with this version.
///
/// # Errors
/// When the file is damaged.
pub fn tuned(level: Level) -> anyhow::Result<Option<Tuned>> {
    let Some(cache) = cache_folder() else { return Ok(None) };
    Ok(Tuned::load(&cache, &Machine::detect(), level.name(), env!("CARGO_PKG_VERSION"))?)
}

/// This machine's profile: cached, or measured now (some seconds) and cached.
///
/// # Errors
/// When the cache holds a damaged profile or the measurement fails.
pub fn machine_profile(level: Level, measure_again: bool) -> anyhow::Result<Profile> {
    let machine = Machine::detect();
    let cache = cache_folder();
    if let (Some(cache), false) = (&cache, measure_again)
        && let Some(profile) = Profile::load(cache, &machine)?
        && profile.ceilings.probes == KernelProbes(level).name()
    {
        return Ok(profile);
    }
    eprintln!("measuring this machine's ceilings (kept for next time) ...");
    let ceilings = Ceilings::measure(
        &KernelProbes(level),
        &machine,
        machine.usable_cpus(),
        &Effort::thorough(&machine),
        &RealClock::new(),
        &|_| {},
    )
    .context("measuring the machine's ceilings")?;
    let profile = Profile { machine, ceilings };
    match &cache {
        Some(cache) => {
            profile.save(cache)?;
        }
        None => eprintln!("warning: neither XDG_CACHE_HOME nor HOME is set; nothing is kept"),
    }
    Ok(profile)
}
