//! `sterna bench train`: how fast a config trains here, and in how much memory.
//!
//! Each measurement is a process of its own, this program again with a hidden flag, so that its
//! peak memory is its own. The two ways of keeping activations take turns.

use crate::commands::train::ConfigArgs;
use crate::probes;
use crate::show::{self, bad_input};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use std::process::{Command, ExitCode, Stdio};
use sterna_kernels::Level;
use sterna_measure::clock::{ProcessCpuClock, RealClock};
use sterna_measure::{Figure, Samples, Unit};
use sterna_train::throughput::{self, Throughput};

/// Measure how fast a config trains on this machine: tokens per second, CPU seconds per step and
/// the peak memory of the process, keeping all activations and with gradient checkpointing.
///
/// Tokens are random, the work does not depend on them; nothing is written. The share of the
/// machine's measured f32 ceiling counts the operations of matrix products once: what checkpointing
/// computes again is its price.
#[derive(clap::Args)]
#[command(after_help = "Example:
  sterna bench train --preset llama-4m --set schedule.batch=8 --threads 2")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Tokens of the vocabulary.
    #[arg(long, default_value_t = 2048)]
    vocab: usize,
    /// Steps that count, in each process.
    #[arg(short = 'n', long, default_value_t = 8)]
    n_steps: usize,
    /// Processes for each way, by turns.
    #[arg(short = 'r', long, default_value_t = 3)]
    repetitions: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Measure in this process and print the raw numbers.
    #[arg(long, hide = true)]
    worker: bool,
}

/// The ways that are compared.
const WAYS: [(&str, bool); 2] = [("kept", false), ("checkpointed", true)];

/// Runs the command.
///
/// # Errors
/// When the config is wrong or a process cannot be started.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.config.read(&[])?;
    if args.n_steps == 0 || args.repetitions == 0 {
        return Err(bad_input("--n-steps and --repetitions must be at least 1"));
    }
    if args.vocab == 0 || args.vocab > 1 << 24 {
        return Err(bad_input(format!("--vocab {} is not in 1..={}", args.vocab, 1 << 24)));
    }
    if args.worker {
        let (wall, cpu) = (RealClock::new(), ProcessCpuClock);
        let found = throughput::measure(&config, args.vocab, args.n_steps, &wall, &cpu)?;
        println!("{}", serde_json::to_string(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut found: [Vec<Throughput>; 2] = Default::default();
    let bar = ProgressBar::new((args.repetitions * WAYS.len()) as u64);
    let shape = "{bar:24} {pos}/{len} {msg} {eta} left";
    bar.set_style(ProgressStyle::with_template(shape).expect("a constant template"));
    for _ in 0..args.repetitions {
        for ((name, checkpointing), found) in WAYS.iter().zip(&mut found) {
            bar.set_message(format!("activations {name}"));
            found.push(worker(*checkpointing)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let threads = match config.run.threads {
        0 => sterna_measure::machine::Machine::detect().usable_cpus(),
        n => n,
    };
    let on_cpu = config.run.backend == "cpu";
    let ceiling = if on_cpu { f32_peak(threads)? } else { None };
    let ways = WAYS.iter().zip(&found).map(|((name, _), found)| way(name, found, ceiling));
    let ways = ways.collect::<anyhow::Result<Vec<Way>>>()?;
    let any = &found[0][0];
    if args.json {
        return show::json(&serde_json::json!({
            "backend": config.run.backend,
            "precision": config.run.precision,
            "threads": threads,
            "parameters": any.n_parameters,
            "tokens_per_step": any.tokens_per_step,
            "flops_per_step": any.flops_per_step,
            "ways": ways,
        }))
        .map(|()| ExitCode::SUCCESS);
    }
    println!(
        "{} parameters, {} tokens per step, {}, {threads} threads",
        any.n_parameters, any.tokens_per_step, config.run.backend
    );
    let mut table = show::table(&[
        "activations",
        "tokens/s, median (least to most)",
        "CPU s/step",
        "peak memory",
        "of the f32 peak",
    ]);
    for way in &ways {
        table.add_row(way.row());
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// This command again, in a process of its own.
fn worker(checkpointing: bool) -> anyhow::Result<Throughput> {
    let program = std::env::current_exe().context("finding this program")?;
    let output = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--worker", "--set", &format!("run.checkpointing={checkpointing}")])
        .stderr(Stdio::inherit())
        .output()
        .context("starting a process to measure in")?;
    if !output.status.success() {
        return Err(bad_input(format!("the process that measures ended with {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The machine's f32 operations per second, where they are known.
fn f32_peak(threads: usize) -> anyhow::Result<Option<f64>> {
    let profile = probes::machine_profile(Level::detect(), false)?;
    Ok(profile.ceilings.get("f32_peak", threads))
}

/// What one way of keeping activations came to.
#[derive(serde::Serialize)]
struct Way {
    activations: &'static str,
    tokens_per_s: Figure,
    tokens_per_s_range: [f64; 2],
    cpu_seconds_per_step: Figure,
    peak_memory: Figure,
    share_of_f32_peak: Option<f64>,
}

fn way(name: &'static str, found: &[Throughput], ceiling: Option<f64>) -> anyhow::Result<Way> {
    let any = &found[0];
    let method = format!("{} processes, each step timed", found.len());
    let seconds = found.iter().flat_map(|one| one.step_seconds.iter().copied());
    let rates = seconds.map(|s| any.tokens_per_step as f64 / s).collect();
    let rates = Samples::new("tokens_per_s", rates)?;
    let cpu = found.iter().map(|one| one.cpu_seconds_per_step).collect();
    let cpu = Samples::new("cpu_seconds_per_step", cpu)?;
    let peaks: Vec<f64> = found.iter().filter_map(|one| one.peak_bytes).collect();
    let peak_memory = match peaks.is_empty() {
        true => {
            let reason = "/proc/self/status has no VmHWM";
            Figure::unavailable("peak_rss_bytes", Unit::Bytes, &method, reason)?
        }
        false => {
            let peaks = Samples::new("peak_rss_bytes", peaks)?;
            Figure::measured("peak_rss_bytes", Unit::Bytes, "VmHWM of each process", &peaks)?
        }
    };
    let per_token = any.flops_per_step / any.tokens_per_step as f64;
    Ok(Way {
        activations: name,
        tokens_per_s_range: [rates.min(), rates.max()],
        share_of_f32_peak: ceiling.map(|ceiling| rates.median() * per_token / ceiling),
        tokens_per_s: Figure::measured("tokens_per_s", Unit::TokensPerSecond, &method, &rates)?,
        cpu_seconds_per_step: Figure::measured(
            "cpu_seconds_per_step",
            Unit::Seconds,
            &method,
            &cpu,
        )?,
        peak_memory,
    })
}

impl Way {
    fn row(&self) -> [String; 5] {
        let median = |figure: &Figure| figure.median().or(figure.value()).unwrap_or(f64::NAN);
        let [least, most] = self.tokens_per_s_range;
        [
            self.activations.to_owned(),
            format!("{:.0} ({least:.0} to {most:.0})", median(&self.tokens_per_s)),
            format!("{:.3}", median(&self.cpu_seconds_per_step)),
            match self.peak_memory.reason() {
                Some(reason) => reason.to_owned(),
                None => show::bytes(median(&self.peak_memory) as u64),
            },
            self.share_of_f32_peak.map_or("not measured".into(), |s| format!("{:.0}%", s * 100.0)),
        ]
    }
}
