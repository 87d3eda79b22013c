//! `sterna profile`: where the time of a prompt and of generation goes.

use crate::compute::ComputeArgs;
use crate::probes;
use crate::scoring::{Scorer, profiled};
use crate::sequences::{Sequences, kv_positions};
use crate::show::{self, bad_input};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::AtomicFile;
use sterna_measure::clock::RealClock;
use sterna_measure::latency::BenchTest;
use sterna_measure::profile::trace::{Event, Trace};
use sterna_measure::profile::{Profile, Roofs, StepTime, Work};
use sterna_runtime::profile as runtime;
use sterna_runtime::profile::Detail;

/// Show where the time of prompt processing (-p) and generation (-n) goes: per op and per layer the
/// exclusive time, the bytes and operations it needs, and its share of the roofline.
///
/// The roofline of a step is the greater of its bytes over the read bandwidth and its operations
/// over the peak that its kernel runs on, int8 or f32, at this number of threads; the ceilings are
/// those of `sterna doctor`, measured first where there are none. Bytes are the prepared weights
/// and the cached keys and values that a step reads. Time of no step is a row of its own. Numbers
/// are means of the repetitions.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna profile model.gguf
  sterna profile model.gguf -p 0 -n 64 -d 4096 --threads 1
  sterna profile model.gguf --trace trace.json     open it in ui.perfetto.dev or chrome://tracing")]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// Prompt tokens, 0 for none.
    #[arg(short = 'p', long, default_value_t = 512)]
    n_prompt: usize,
    /// Generated tokens, 0 for none.
    #[arg(short = 'n', long, default_value_t = 32)]
    n_gen: usize,
    /// Tokens in the KV cache before, not timed.
    #[arg(short = 'd', long, default_value_t = 0)]
    n_depth: usize,
    /// Repetitions.
    #[arg(short = 'r', long, default_value_t = 3)]
    repetitions: usize,
    /// Also write one more run as a Chrome trace: a track for the steps and one for each worker.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print JSON, with every step.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be run, or the trace not be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.repetitions == 0 {
        return Err(bad_input("--repetitions must be at least 1"));
    }
    let test =
        |n_prompt, n_gen| BenchTest { n_prompt, n_gen, n_depth: args.n_depth, n_sequences: 1 };
    let mut tests = vec![test(args.n_prompt, 0), test(0, args.n_gen)];
    tests.retain(|test| test.n_tokens() > 0);
    let Some(positions) = tests.iter().map(kv_positions).max() else {
        return Err(bad_input("there is nothing to profile: give -p or -n above 0"));
    };
    let mut model = Scorer::open_for(&args.model, &args.compute, positions)?;
    let ceilings = probes::machine_profile(model.level(), false)?.ceilings;
    let ceiling = |name: &str| ceilings.get(name, model.n_threads());
    let roofs = Roofs {
        read: ceiling("memory_read"),
        int8: ceiling("int8_peak"),
        bf16: ceiling("bf16_peak"),
        f32: ceiling("f32_peak"),
    };
    let mut trace = args.trace.is_some().then(Trace::default);
    let mut found = Vec::new();
    for test in tests {
        model.check_context(test.n_depth + test.n_tokens())?;
        found.push((test, profile(&mut model, test, args.repetitions, roofs, trace.as_mut())?));
    }
    if let (Some(path), Some(trace)) = (&args.trace, &trace) {
        AtomicFile::write_whole(path, trace.to_json().as_bytes())?;
    }
    print(&args, &model, &found)?;
    Ok(ExitCode::SUCCESS)
}

/// Profiles the repetitions of a test after one that warms up, and traces another.
fn profile(
    model: &mut Scorer,
    test: BenchTest,
    repetitions: usize,
    roofs: Roofs,
    trace: Option<&mut Trace>,
) -> anyhow::Result<Profile> {
    let clock = RealClock::new();
    let runner = model.runner();
    let sequences = Sequences::fill(runner, test)?;
    sequences.run(runner, false)?;
    sequences.rewind(runner)?;
    let (wall, profile) = profiled(runner, Detail::Sums, clock, |runner| {
        for _ in 0..repetitions {
            sequences.run(runner, true)?;
            sequences.rewind(runner)?;
        }
        Ok(())
    })?;
    if let Some(trace) = trace {
        let (_, traced) = profiled(runner, Detail::Spans, clock, |runner| {
            sequences.run(runner, true)?;
            sequences.rewind(runner)
        })?;
        let n_workers = runner.program().n_workers();
        trace.run(&test.name(), n_workers, &roofs, traced.spans.iter().map(|s| event(&traced, s)));
    }
    sequences.free(runner)?;
    let n = repetitions as f64;
    let step = |step: &runtime::StepProfile| StepTime {
        name: step.name.clone(),
        kind: step.kind.to_owned(),
        layer: step.layer,
        n_calls: profile.n_batches as f64 / n,
        seconds: step.time.as_secs_f64() / n,
        work: scaled(&step.work, 1.0 / n),
    };
    Ok(Profile::new(wall / n, profile.steps.iter().map(step).collect(), roofs)?)
}

fn scaled(work: &sterna_runtime::steps::Work, by: f64) -> Work {
    Work {
        bytes: work.bytes * by,
        flops: work.flops * by,
        int8_flops: work.int8_flops * by,
        bf16_flops: work.bf16_flops * by,
    }
}

fn event<'p>(profile: &'p runtime::Profile, span: &runtime::spans::Span) -> Event<'p> {
    let step = &profile.steps[span.step];
    Event {
        name: &step.name,
        kind: step.kind,
        layer: step.layer,
        batch: span.batch,
        worker: span.worker,
        start: span.start,
        end: span.end,
        work: scaled(&profile.works[span.batch][span.step], 1.0),
    }
}

fn print(args: &Args, model: &Scorer, found: &[(BenchTest, Profile)]) -> anyhow::Result<()> {
    if args.json {
        let one = |(test, profile): &(BenchTest, Profile)| {
            serde_json::json!({
                "test": test.name(),
                "tokens": test.n_tokens(),
                "profile": profile,
            })
        };
        return show::json(&serde_json::json!({
            "model": args.model.display().to_string(),
            "model_type": model.describe(),
            "isa": model.level().name(),
            "kernels": model.kernels_name(),
            "threads": model.n_threads(),
            "kv": model.kv_name(),
            "repetitions": args.repetitions,
            "tests": found.iter().map(one).collect::<Vec<_>>(),
        }));
    }
    println!(
        "{}: {}, {}, {} threads, KV {}, means of {}",
        args.model.display(),
        model.describe(),
        model.kernels_name(),
        model.n_threads(),
        model.kv_name(),
        args.repetitions
    );
    for (test, profile) in found {
        let rate = test.n_tokens() as f64 / profile.wall_seconds;
        println!("\n{}: {rate:.2} tokens/s", test.name());
        print!("{}", profile.table());
    }
    if let Some(path) = &args.trace {
        println!("\ntrace written to {}", path.display());
    }
    Ok(())
}
