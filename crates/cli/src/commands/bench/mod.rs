//! `sterna bench`: speed, in llama-bench's terms; beside other engines', in [`against`]; of
//! training, in [`train`].

mod against;
mod train;

use crate::compute::ComputeArgs;
use crate::probes;
use crate::scoring::Scorer;
use crate::show::{self, bad_input};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_measure::LanguageModel;
use sterna_measure::clock::{Clock, RealClock, timestamp_utc};
use sterna_measure::latency::{BenchResult, BenchSubject, markdown};

/// Measure prompt processing (-p) and generation (-n), with random tokens, as llama-bench does.
///
/// Beside each median stands its share of this machine's measured ceiling: generation against read
/// bandwidth (weight bytes per token), prompt processing against the int8 (or f32) peak.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  sterna bench model.gguf -p 512 -n 128
  sterna bench model.gguf --against llama.cpp,openvino --html race.html
  sterna bench train --preset llama-4m --set schedule.batch=8")]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// The models.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Prompt tokens; several by commas, 0 for none.
    #[arg(short = 'p', long, value_delimiter = ',', default_values_t = [512])]
    n_prompt: Vec<usize>,
    /// Generated tokens; several by commas, 0 for none.
    #[arg(short = 'n', long, value_delimiter = ',', default_values_t = [128])]
    n_gen: Vec<usize>,
    /// Repetitions of each test.
    #[arg(short = 'r', long, default_value_t = 5)]
    repetitions: usize,
    /// Print JSON (as llama-bench -o json).
    #[arg(long)]
    json: bool,
    /// json or md.
    #[arg(short = 'o', long, default_value = "md", value_parser = ["md", "json"])]
    output: String,
    /// Also print where the time of one run of each test goes, by kind of step.
    #[arg(long)]
    profile: bool,
    #[command(flatten, next_help_heading = "Race")]
    against: against::Args,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeArgs,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum Other {
    /// Measure training: tokens/s, CPU time and peak memory, with and without checkpointing.
    Train(train::Args),
}

/// Runs the command.
///
/// # Errors
/// When a model cannot be run.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Other::Train(args)) = args.other {
        return train::run(args);
    }
    if args.repetitions == 0 {
        return Err(bad_input("--repetitions must be at least 1"));
    }
    let tests: Vec<(usize, usize)> = (args.n_prompt.iter().map(|&p| (p, 0)))
        .chain(args.n_gen.iter().map(|&n| (0, n)))
        .filter(|test| *test != (0, 0))
        .collect();
    if tests.is_empty() {
        return Err(bad_input("there is nothing to measure: give -p or -n above 0"));
    }
    if args.against.is_race() {
        let asked = against::Asked {
            models: &args.models,
            tests: against::Test::all(&args.n_prompt, &args.n_gen),
            compute: &args.compute,
            json: args.json || args.output == "json",
        };
        return against::run(&args.against, &asked);
    }
    let mut results = Vec::new();
    let mut shares = Vec::new();
    for path in &args.models {
        let mut model = Scorer::open(path, &args.compute)?;
        for &(n_prompt, n_gen) in &tests {
            model.check_context(n_prompt + n_gen)?;
            let seconds = repeat(&mut model, n_prompt, n_gen, args.repetitions)?;
            let result = BenchResult::new(
                subject(&model, path),
                n_prompt,
                n_gen,
                0,
                timestamp_utc(),
                &seconds,
            )?;
            shares.push(share(&model, &result, n_gen > 0));
            results.push(result);
            if args.profile {
                let profile =
                    model.profile(|model| repeat(model, n_prompt, n_gen, 1).map(|_| ()))?;
                eprintln!("{}", profile.table());
            }
        }
    }
    if args.json || args.output == "json" {
        show::json(&results)?;
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", markdown(&results));
    for share in shares {
        println!("{share}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds of each repetition, after one that warms up.
fn repeat(
    model: &mut Scorer,
    n_prompt: usize,
    n_gen: usize,
    repetitions: usize,
) -> anyhow::Result<Vec<f64>> {
    let clock = RealClock::new();
    let vocab = model.vocab_len() as u32;
    // Any tokens do: the work does not depend on them. A fixed stride keeps runs alike.
    let token = |i: usize| (i as u32).wrapping_mul(7919) % vocab;
    let mut one = |measured: bool| -> anyhow::Result<f64> {
        let mut generation = model.generation();
        let start = clock.now();
        if n_prompt > 0 {
            let n = if measured { n_prompt } else { n_prompt.min(64) };
            let prompt: Vec<u32> = (0..n).map(token).collect();
            generation.push(&prompt)?;
        }
        let n = if measured { n_gen } else { n_gen.min(4) };
        for i in 0..n {
            generation.push(&[token(i)])?;
        }
        Ok((clock.now() - start).as_secs_f64())
    };
    one(false)?;
    (0..repetitions).map(|_| one(true)).collect()
}

fn subject(model: &Scorer, path: &std::path::Path) -> BenchSubject {
    let cost = model.cost();
    BenchSubject {
        build_commit: format!("sterna {}", env!("CARGO_PKG_VERSION")),
        cpu_info: sterna_measure::machine::Machine::detect().cpu,
        backends: model.level().name().to_owned(),
        model_filename: path.display().to_string(),
        model_type: model.describe(),
        model_size: cost.weight_bytes,
        model_n_params: cost.n_params,
        n_threads: model.n_threads(),
        type_k: model.kv_name().to_owned(),
        type_v: model.kv_name().to_owned(),
    }
}

/// How near a test came to the machine's ceiling, as a sentence.
fn share(model: &Scorer, result: &BenchResult, is_generation: bool) -> String {
    let samples = result.samples_ts();
    let median = sterna_measure::stats::median(samples);
    let profile = match probes::machine_profile(model.level(), false) {
        Ok(profile) => profile,
        Err(error) => return format!("{}: no ceiling: {error:#}", result.test()),
    };
    let threads = model.n_threads();
    let cost = model.cost();
    let (name, work, what) = if is_generation {
        ("memory_read", cost.read_bytes_per_token as f64, "read bandwidth")
    } else if cost.is_quantized {
        ("int8_peak", 2.0 * cost.linear_macs_per_token, "int8 peak")
    } else {
        ("f32_peak", 2.0 * cost.linear_macs_per_token, "f32 peak")
    };
    match profile.ceilings.get(name, threads) {
        Some(ceiling) => format!(
            "{}: median {median:.2} t/s, {:.0}% of the {what} of {:.1} G/s measured at {threads} \
             threads",
            result.test(),
            100.0 * median * work / ceiling,
            ceiling / 1e9,
        ),
        None => format!("{}: median {median:.2} t/s; the {what} is not measured", result.test()),
    }
}
