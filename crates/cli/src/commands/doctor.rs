//! `sterna doctor`: what this machine can do, and each thing that makes it slow with its remedy.

use crate::{compute, probes, show};
use std::process::ExitCode;
use sterna_kernels::Level;
use sterna_measure::Figure;
use sterna_measure::machine::{Machine, Profile, Tuned};
use sterna_runtime::cache::shelf::{Checked, entries, verify_all};

/// Show the CPU features used and missed, threads against cores, huge pages, memory and cgroup
/// limits, and the measured ceilings of this machine.
#[derive(clap::Args)]
pub struct Args {
    /// Measure the ceilings again even if they are cached.
    #[arg(long)]
    measure: bool,
    /// Do not measure or show ceilings.
    #[arg(long, conflicts_with = "measure")]
    quick: bool,
    /// Read every prepared program of the cache in full, and remove the damaged ones.
    #[arg(long)]
    program_cache: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::LevelArgs,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Finding {
    /// What it is about.
    pub topic: &'static str,
    /// `ok` or `slow`.
    pub verdict: &'static str,
    /// What was found, and what to do about it.
    pub text: String,
}

/// Runs the command.
///
/// # Errors
/// When the ISA asked for is not there, or measuring fails.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let level = args.compute.level()?;
    let threads = args.compute.threads()?;
    if args.program_cache {
        return check_programs(args.json);
    }
    let profile = match args.quick {
        true => None,
        false => Some(probes::machine_profile(level, args.measure)?),
    };
    let machine = profile.as_ref().map_or_else(Machine::detect, |p| p.machine.clone());
    let mut found = findings(&machine, level, threads);
    found.push(tuned(probes::tuned(level)?.as_ref()));
    found.push(programs());
    if args.json {
        let ceilings = profile.as_ref().map(|p| &p.ceilings);
        show::json(&serde_json::json!({
            "machine": machine,
            "isa": level.name(),
            "features_used": level.features(),
            "findings": found,
            "ceilings": ceilings,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&machine, level, &found, profile.as_ref());
    Ok(ExitCode::SUCCESS)
}

/// Checks the sums of every prepared program; code 1 where one was damaged.
fn check_programs(is_json: bool) -> anyhow::Result<ExitCode> {
    let checked = probes::program_folder().map(|folder| verify_all(&folder)).unwrap_or_default();
    let n_damaged = checked.iter().filter(|entry| entry.problem.is_some()).count();
    if is_json {
        let entry = |checked: &Checked| {
            serde_json::json!({
                "file": checked.entry.path,
                "bytes": checked.entry.bytes,
                "problem": checked.problem,
            })
        };
        show::json(&checked.iter().map(entry).collect::<Vec<_>>())?;
    } else {
        for Checked { entry, problem } in &checked {
            let size = show::bytes(entry.bytes);
            let verdict = match problem {
                Some(why) => format!("{why}; removed"),
                None => "every sum is right".into(),
            };
            println!("{size:>9}  {}  {verdict}", entry.path.display());
        }
        println!("{} prepared programs, {n_damaged} damaged", checked.len());
    }
    Ok(if n_damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(machine: &Machine, level: Level, found: &[Finding], profile: Option<&Profile>) {
    println!("CPU      {}", machine.cpu);
    println!("kernels  {} ({})", level.name(), level.features().join(", "));
    for cache in &machine.caches {
        let size = show::bytes(cache.bytes);
        println!("cache    L{} {} {size}, shared by {}", cache.level, cache.kind, cache.n_sharing);
    }
    println!();
    for finding in found {
        let mark = if finding.verdict == "ok" { "ok  " } else { "SLOW" };
        println!("{mark}  {:<12} {}", finding.topic, finding.text);
    }
    if let Some(profile) = profile {
        println!("\nmeasured ceilings ({} probes)", profile.ceilings.probes);
        print!("{}", profile.ceilings.table());
    }
}

/// What the machine's facts mean for speed. Pure, so that planted faults can be tested.
pub fn findings(machine: &Machine, level: Level, threads: Option<usize>) -> Vec<Finding> {
    vec![
        kernels(machine, level),
        threads_finding(machine, threads),
        quota(machine),
        huge_pages(machine),
        memory(machine),
    ]
}

fn finding(topic: &'static str, ok: bool, text: String) -> Finding {
    Finding { topic, verdict: if ok { "ok" } else { "slow" }, text }
}

/// Whether the machine is tuned. Untuned is no fault: the defaults are what most machines want.
fn tuned(tuned: Option<&Tuned>) -> Finding {
    let Some(tuned) = tuned else {
        return finding(
            "tuned",
            true,
            "no: the defaults are used; `sterna tune` measures whether others are faster".into(),
        );
    };
    let knobs: Vec<String> =
        tuned.knobs.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let gain = match tuned.cost_ratio.as_ref().and_then(Figure::value) {
        Some(ratio) => format!("{:+.1}% time against the defaults", (ratio - 1.0) * 100.0),
        None => "the defaults won".into(),
    };
    let text = format!(
        "{} ({gain}, {}); --opt-level aggressive uses it",
        knobs.join(", "),
        tuned.timestamp_utc
    );
    finding("tuned", true, text)
}

/// What the program cache holds.
fn programs() -> Finding {
    let entries = probes::program_folder().map(|folder| entries(&folder)).unwrap_or_default();
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let text = format!(
        "{} prepared programs, {}; --program-cache checks every byte of them",
        entries.len(),
        show::bytes(bytes)
    );
    finding("cache", true, text)
}

fn kernels(machine: &Machine, level: Level) -> Finding {
    let best = Level::detect();
    if level.name() != best.name() {
        let text = format!(
            "{} kernels were chosen though this CPU has {}; unset STERNA_ISA",
            level.name(),
            best.name()
        );
        return finding("instructions", false, text);
    }
    let wanted = ["avx2", "avx512f", "avx512_vnni"];
    let missed: Vec<&str> = wanted.into_iter().filter(|flag| !machine.has(flag)).collect();
    if missed.is_empty() {
        let is_unused = |flag: &&str| machine.has(flag) && !level.features().contains(flag);
        let unused: Vec<&str> = ["avx512_bf16", "amx_int8"].into_iter().filter(is_unused).collect();
        let rest = match unused.is_empty() {
            true => String::new(),
            false => format!("; not used yet: {}", unused.join(", ")),
        };
        return finding("instructions", true, format!("{} with VNNI{rest}", level.name()));
    }
    let text = format!(
        "this CPU (or the virtual machine's CPU model) lacks {}; int8 work runs slower",
        missed.join(", ")
    );
    finding("instructions", false, text)
}

fn threads_finding(machine: &Machine, threads: Option<usize>) -> Finding {
    let usable = machine.usable_cpus();
    let threads = threads.unwrap_or(usable);
    let text = format!(
        "{threads} threads, {usable} usable CPUs ({} online, {} cores)",
        machine.n_online, machine.n_cores
    );
    match threads.cmp(&usable) {
        std::cmp::Ordering::Greater => {
            let text = format!("{text}: threads wait for each other; use --threads {usable}");
            finding("threads", false, text)
        }
        std::cmp::Ordering::Less => {
            finding("threads", false, format!("{text}: CPUs stand idle; use --threads {usable}"))
        }
        std::cmp::Ordering::Equal => finding("threads", true, text),
    }
}

fn quota(machine: &Machine) -> Finding {
    let Some(quota) = machine.cpu_quota else {
        return finding("cgroup", true, "no CPU quota".into());
    };
    if quota < machine.n_online as f64 {
        let text = format!(
            "the cgroup allows {quota:.2} CPUs of {}; threads beyond are throttled in bursts: \
             raise cpu.max",
            machine.n_online
        );
        return finding("cgroup", false, text);
    }
    finding("cgroup", true, format!("quota of {quota:.2} CPUs"))
}

fn huge_pages(machine: &Machine) -> Finding {
    match machine.huge_pages.as_deref() {
        Some("never") => finding(
            "huge pages",
            false,
            "transparent huge pages are off: reading weights is up to a fifth slower; as root: \
             echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
                .into(),
        ),
        Some(mode) => finding("huge pages", true, format!("transparent huge pages: {mode}")),
        None => {
            finding("huge pages", false, "cannot be read from /sys; perhaps a container".into())
        }
    }
}

fn memory(machine: &Machine) -> Finding {
    match (machine.ram_bytes, machine.memory_limit_bytes) {
        (Some(ram), Some(limit)) if limit < ram => finding(
            "memory",
            false,
            format!(
                "the cgroup allows {} of {}: a model beyond that is killed or read from disk again \
                 and again",
                show::bytes(limit),
                show::bytes(ram)
            ),
        ),
        (Some(ram), _) => finding("memory", true, format!("{} of RAM, no limit", show::bytes(ram))),
        (None, _) => finding("memory", false, "the amount of RAM cannot be read".into()),
    }
}
