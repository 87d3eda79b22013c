//! Prompt processing and generation, at depths and in sequences, each run beside a probe of its
//! ceiling.

use super::ceiling::Neighbours;
use super::{ablate, against};
use crate::compute::ComputeArgs;
use crate::scoring::Scorer;
use crate::sequences::{Sequences, kv_positions};
use crate::show::{self, bad_input};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sterna_measure::clock::{Clock, RealClock, timestamp_utc};
use sterna_measure::latency::{BenchResult, BenchSubject, BenchTest, markdown};

/// What to measure. (clap wants another name for each struct that is flattened into another.)
#[derive(clap::Args)]
pub struct SpeedArgs {
    /// The models.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Prompt tokens; several by commas, 0 for none [default: 512; none with --sequences].
    #[arg(short = 'p', long, value_delimiter = ',')]
    n_prompt: Vec<usize>,
    /// Generated tokens; several by commas, 0 for none.
    #[arg(short = 'n', long, value_delimiter = ',', default_values_t = [128])]
    n_gen: Vec<usize>,
    /// Tokens in the KV cache before each test, not timed; several by commas [default: 0; 256 with
    /// --sequences].
    #[arg(short = 'd', long, value_delimiter = ',')]
    n_depth: Vec<usize>,
    /// Generate in so many sequences at once, each with its own depth of tokens, all in one batch
    /// per step; several by commas. Rates are those of all sequences together.
    #[arg(short = 's', long, visible_alias = "npl", value_delimiter = ',')]
    sequences: Vec<usize>,
    /// Repetitions of each test.
    #[arg(short = 'r', long, default_value_t = 5)]
    repetitions: usize,
    /// Do not probe the machine's ceilings beside the runs; no shares are known then.
    #[arg(long)]
    no_probe: bool,
    /// Measure each optimization on against off, and each level against the default: latency,
    /// memory, greatest difference of a logit, steps, and what auto would switch off. At most 128
    /// prompt and 16 generated tokens.
    #[arg(long)]
    ablate: bool,
    /// Print JSON (as llama-bench -o json).
    #[arg(long)]
    json: bool,
    /// json or md.
    #[arg(short = 'o', long, default_value = "md", value_parser = ["md", "json"])]
    output: String,
    #[command(flatten, next_help_heading = "Race")]
    against: against::RaceArgs,
    #[command(flatten, next_help_heading = "Computing")]
    compute: ComputeArgs,
}

/// Runs the tests.
///
/// # Errors
/// When a model cannot be run.
pub fn run(args: &SpeedArgs) -> anyhow::Result<ExitCode> {
    if args.repetitions == 0 {
        return Err(bad_input("--repetitions must be at least 1"));
    }
    if args.sequences.contains(&0) {
        return Err(bad_input("--sequences must be at least 1 each"));
    }
    let tests = args.tests();
    if tests.is_empty() {
        return Err(bad_input("there is nothing to measure: give -p or -n above 0"));
    }
    if args.ablate {
        let n_prompt = args.n_prompt.first().copied().unwrap_or(512);
        let n_gen = args.n_gen.first().copied().unwrap_or(0);
        let is_json = args.json || args.output == "json";
        return ablate::run(&args.models, &args.compute, n_prompt, n_gen, is_json);
    }
    if args.against.is_race() {
        let asked = against::Asked {
            models: &args.models,
            tests,
            compute: &args.compute,
            json: args.json || args.output == "json",
        };
        return against::run(&args.against, &asked);
    }
    let positions = tests.iter().map(kv_positions).max().unwrap_or(0);
    let mut results = Vec::new();
    for path in &args.models {
        let mut model = Scorer::open_for(path, &args.compute, positions)?;
        let mut neighbours = Neighbours::of(&model);
        for &test in &tests {
            model.check_context(test.n_depth + test.n_prompt + test.n_gen)?;
            let neighbours = (!args.no_probe).then_some(&mut neighbours);
            results.push(measure(&mut model, path, test, args.repetitions, neighbours)?);
        }
    }
    if args.json || args.output == "json" {
        show::json(&results)?;
    } else {
        print!("{}", markdown(&results));
        if results.iter().any(|result| result.share().is_some_and(|share| share > 1.0)) {
            println!(
                "above 100%: what is read came from a cache, which is faster than memory, or AMX \
                 tiles computed, which pass the peaks of vectors"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl SpeedArgs {
    /// Prompts one sequence at a time, and generation in each number of sequences, at each depth.
    fn tests(&self) -> Vec<BenchTest> {
        let or = |given: &[usize], default: &[usize]| -> Vec<usize> {
            if given.is_empty() { default.to_vec() } else { given.to_vec() }
        };
        let batched = !self.sequences.is_empty();
        let prompts = or(&self.n_prompt, if batched { &[] } else { &[512] });
        let depths = or(&self.n_depth, if batched { &[256] } else { &[0] });
        let sequences = or(&self.sequences, &[1]);
        let mut tests = Vec::new();
        for n_depth in depths {
            let prompt = |&n_prompt| BenchTest { n_prompt, n_gen: 0, n_depth, n_sequences: 1 };
            tests.extend(prompts.iter().map(prompt));
            for &n_gen in &self.n_gen {
                let test = |&n_sequences| BenchTest { n_prompt: 0, n_gen, n_depth, n_sequences };
                tests.extend(sequences.iter().map(test));
            }
        }
        tests.retain(|test| test.n_tokens() > 0);
        tests
    }
}

/// Times a test, after a run that warms up.
fn measure(
    model: &mut Scorer,
    path: &Path,
    test: BenchTest,
    repetitions: usize,
    neighbours: Option<&mut Neighbours>,
) -> anyhow::Result<BenchResult> {
    let clock = RealClock::new();
    let mut beside = neighbours.map(|neighbours| neighbours.beside(model, &test));
    let runner = model.runner();
    let sequences = Sequences::fill(runner, test)?;
    sequences.run(runner, false)?;
    sequences.rewind(runner)?;
    let mut seconds = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        if let Some(beside) = &mut beside {
            beside.probe();
        }
        let start = clock.now();
        sequences.run(runner, true)?;
        seconds.push((clock.now() - start).as_secs_f64());
        sequences.rewind(runner)?;
    }
    sequences.free(runner)?;
    let result = BenchResult::new(subject(model, path), test, timestamp_utc(), &seconds)?;
    let held = match beside {
        Some(beside) => beside.held(result.samples_ts())?,
        None => None,
    };
    Ok(match held {
        Some(held) => result.held(held),
        None => result,
    })
}

fn subject(model: &Scorer, path: &Path) -> BenchSubject {
    let cost = model.cost();
    BenchSubject {
        build_commit: format!("sterna {}", env!("CARGO_PKG_VERSION")),
        cpu_info: sterna_measure::machine::Machine::detect().cpu,
        backends: model.kernels_name(),
        model_filename: path.display().to_string(),
        model_type: model.describe(),
        model_size: cost.weight_bytes,
        model_n_params: cost.n_params,
        n_threads: model.n_threads(),
        type_k: model.kv_name().to_owned(),
        type_v: model.kv_name().to_owned(),
    }
}
