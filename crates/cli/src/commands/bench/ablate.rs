//! `sterna bench --ablate`: every optimization of the runtime on against off.
//!
//! In: a model. Out: a row per flag with latency, memory, steps and the greatest difference of a
//! logit; what each brings or costs; what `--flags auto` would switch off.

use super::cold::{self, Cold};
use crate::ablation::{Case, Load, Pair, Side};
use crate::compute::ComputeArgs;
use crate::show::{self, bad_input};
use crate::validation::process::Process;
use crate::validation::worker::{Request, Work};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sterna_formats::OpenOptions;
use sterna_measure::ablation::{Effect, Outcome, Switch, effect};
use sterna_measure::compare;
use sterna_measure::stats::median;
use sterna_model::Model;
use sterna_runtime::cache::Cache;
use sterna_runtime::flags::{FLAGS, LEVELS, OptLevel};

/// Tokens of a run at most: each flag takes at least 26 runs.
const MAX_LOAD: Load = Load { n_prompt: 128, n_gen: 16 };

const EFFORT: compare::Settings =
    compare::Settings { n_warmup: 1, min_rounds: 6, max_rounds: 20, floor: 0.01, precision: 0.01 };

/// Prompt tokens of each sequence in the processes whose memory is read.
const MEMORY_PROMPT: usize = 128;

/// One way to run: with an optimization, or without.
#[derive(Clone, Debug, Serialize)]
struct Way {
    /// Median milliseconds of the prompt.
    prefill_ms: f64,
    /// Median milliseconds per token of one sequence.
    decode_ms: f64,
    /// Median milliseconds per step of four sequences.
    batched_ms: f64,
    /// Planned bytes of values and scratch.
    working_bytes: usize,
    /// PSS of a process of its own after the same work; the reason where it cannot be read.
    pss_bytes: Result<f64, String>,
    /// Its greatest RSS, which the packing of weights may have caused.
    peak_rss_bytes: Result<f64, String>,
    /// Steps of the program.
    n_steps: usize,
}

/// One flag, or one level.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: &'static str,
    about: &'static str,
    on: Way,
    off: Way,
    max_logit_difference: f64,
    /// `None` where on and off are the very same settings.
    outcome: Option<Outcome>,
    /// Off over on, of whole runs: above 1 it helps.
    cost_ratio_off_over_on: Option<f64>,
    cost_ratio_ci95: Option<[f64; 2]>,
    /// What `auto` does with it; `None` for levels and what changes numbers: the user's choice.
    auto_keeps: Option<bool>,
    finding: String,
    /// Of `compute_overlap`: cold starts, or why there are none.
    cold: Option<Result<Cold, String>>,
}

/// One model.
#[derive(Clone, Debug, Serialize)]
struct Ablation {
    model: PathBuf,
    load: Load,
    rows: Vec<Row>,
    /// The flags that `auto` switches off.
    auto_switches_off: Vec<&'static str>,
}

/// Measures and prints.
///
/// # Errors
/// When a model cannot be run or has too short a context.
pub fn run(
    models: &[PathBuf],
    compute: &ComputeArgs,
    n_prompt: usize,
    n_gen: usize,
    is_json: bool,
) -> anyhow::Result<ExitCode> {
    let load = Load { n_prompt: n_prompt.min(MAX_LOAD.n_prompt), n_gen: n_gen.min(MAX_LOAD.n_gen) };
    if load.n_gen == 0 || load.n_prompt == 0 {
        return Err(bad_input("--ablate measures prompts and generation: give -p and -n above 0"));
    }
    let measured: Vec<Ablation> =
        models.iter().map(|path| ablate(path, compute, load)).collect::<anyhow::Result<_>>()?;
    if is_json {
        show::json(&measured)?;
    } else {
        measured.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

fn ablate(path: &Path, compute: &ComputeArgs, load: Load) -> anyhow::Result<Ablation> {
    let options = OpenOptions { tokenizer: compute.tokenizer.clone() };
    let model = Model::open_with(path, &options)?;
    let context_len = compute.settings(model.config.context_len)?.context_len;
    if load.context_len() > context_len {
        return Err(bad_input(format!(
            "{} tokens do not fit the context of {context_len}; give a smaller -p or -n",
            load.context_len()
        )));
    }
    let cache = compute.program_cache(&model)?;
    let mut rows = Vec::new();
    for flag in FLAGS {
        let case = Case::flag(compute, flag);
        let mut row = row(&model, path, cache.as_ref(), &case, load)?;
        row.auto_keeps = (!flag.changes_numbers).then(|| row.outcome != Some(Outcome::Costs));
        if row.auto_keeps == Some(false) {
            row.finding += ", so auto switches it off";
        }
        if flag.name == "compute_overlap" {
            row.cold = Some(cold::measure(&model, cache.as_ref(), &case, load)?);
        }
        rows.push(row);
    }
    for (_, level) in LEVELS.iter().filter(|(_, level)| *level != OptLevel::Default) {
        rows.push(row(&model, path, cache.as_ref(), &Case::level(compute, *level), load)?);
    }
    let off = rows.iter().filter(|row| row.auto_keeps == Some(false)).map(|row| row.name);
    let auto_switches_off = off.collect();
    Ok(Ablation { model: path.to_owned(), load, rows, auto_switches_off })
}

fn row(
    model: &Model,
    path: &Path,
    cache: Option<&Cache>,
    case: &Case,
    load: Load,
) -> anyhow::Result<Row> {
    eprintln!("measuring {} ...", case.name);
    let mut pair = Pair::new(model, cache, case, load)?;
    let (effect, is_alike) = measure(&mut pair)?;
    let max_logit_difference = pair.max_difference()?;
    let on = way(&pair.on, path, &case.on, load);
    let off = way(&pair.off, path, &case.off, load);
    let finding = match is_alike {
        true => format!("{} switches nothing here: nothing is tuned on this machine", case.name),
        false => format!("{} {}", case.name, effect.change()),
    };
    let ratio = effect.comparison.ratio_ci95;
    Ok(Row {
        name: case.name,
        about: case.about,
        on,
        off,
        max_logit_difference,
        outcome: (!is_alike).then(|| effect.outcome()),
        cost_ratio_off_over_on: (!is_alike).then_some(effect.comparison.ratio),
        cost_ratio_ci95: (!is_alike).then_some([ratio.low, ratio.high]),
        auto_keeps: None,
        finding,
        cold: None,
    })
}

/// The effect of a pair; the same runs are made where both ways are alike, as their speed is shown.
fn measure(pair: &mut Pair) -> anyhow::Result<(Effect, bool)> {
    let is_alike = pair.is_alike();
    let effort = match is_alike {
        true => compare::Settings { max_rounds: EFFORT.min_rounds, ..EFFORT },
        false => EFFORT,
    };
    let switch: &mut dyn Switch = pair;
    Ok((effect(switch, &effort)?, is_alike))
}

fn way(side: &Side, path: &Path, compute: &ComputeArgs, load: Load) -> Way {
    let ms = |seconds: &[f64], n: usize| median(seconds) * 1e3 / n as f64;
    let (pss_bytes, peak_rss_bytes) = match memory(path, compute, load) {
        Ok(both) => both,
        Err(error) => (Err(format!("{error:#}")), Err(format!("{error:#}"))),
    };
    Way {
        prefill_ms: ms(&side.parts.prefill, 1),
        decode_ms: ms(&side.parts.decode, load.n_gen),
        batched_ms: ms(&side.parts.batched, load.n_gen),
        working_bytes: side.working_bytes(),
        pss_bytes,
        peak_rss_bytes,
        n_steps: side.program().steps().count(),
    }
}

/// A value in bytes, or why it cannot be read.
type Bytes = Result<f64, String>;

/// PSS and greatest RSS of a process of its own that does such work.
fn memory(path: &Path, compute: &ComputeArgs, load: Load) -> anyhow::Result<(Bytes, Bytes)> {
    let (mut process, _) = Process::loaded(path, &compute.as_flags())?;
    let n_prompt = load.n_prompt.min(MEMORY_PROMPT);
    let work = Work { batch: 4, n_prompt, n_generate: load.n_gen };
    let _: f64 = process.ask(&Request::Run(work)).map_err(anyhow::Error::msg)?;
    Ok((process.pss(), process.peak_rss()))
}

fn print(ablation: &Ablation) {
    let Load { n_prompt, n_gen } = ablation.load;
    println!(
        "{}: on / off; a prompt of {n_prompt} tokens, {n_gen} tokens of one sequence, {n_gen} of \
         four at once",
        ablation.model.display()
    );
    let mut table = show::table(&[
        "with / without",
        "prompt ms",
        "ms/token",
        "ms/4 tokens",
        "working",
        "PSS",
        "peak RSS",
        "steps",
        "max diff",
        "auto",
    ]);
    for row in &ablation.rows {
        let (on, off) = (&row.on, &row.off);
        let bytes = |value: &Bytes| match value {
            Ok(bytes) => show::bytes(*bytes as u64),
            Err(_) => "?".into(),
        };
        let size = |n: usize| show::bytes(n as u64);
        table.add_row([
            row.name.to_owned(),
            format!("{:.2}\n{:.2}", on.prefill_ms, off.prefill_ms),
            format!("{:.3}\n{:.3}", on.decode_ms, off.decode_ms),
            format!("{:.3}\n{:.3}", on.batched_ms, off.batched_ms),
            format!("{}\n{}", size(on.working_bytes), size(off.working_bytes)),
            format!("{}\n{}", bytes(&on.pss_bytes), bytes(&off.pss_bytes)),
            format!("{}\n{}", bytes(&on.peak_rss_bytes), bytes(&off.peak_rss_bytes)),
            format!("{}\n{}", on.n_steps, off.n_steps),
            format!("{:.1e}", row.max_logit_difference),
            match row.auto_keeps {
                Some(true) => "on",
                Some(false) => "off",
                None => "-",
            }
            .to_owned(),
        ]);
    }
    println!("{table}");
    for row in &ablation.rows {
        println!("{}", row.finding);
        match &row.cold {
            Some(Ok(cold)) => println!("  {}", cold.line()),
            Some(Err(why)) => println!("  {why}"),
            None => {}
        }
    }
    match ablation.auto_switches_off.as_slice() {
        [] => println!("auto switches nothing off"),
        names => println!("auto switches off: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded;
    use clap::Parser;
    use std::time::Duration;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        compute: ComputeArgs,
    }

    /// A real optimization that also sleeps where it is on.
    struct Slow(Pair);

    impl Switch for Slow {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn run(&mut self, on: bool) -> Result<f64, String> {
            let seconds = self.0.run(on)?;
            let pause = Duration::from_millis(if on { 5 } else { 0 });
            std::thread::sleep(pause);
            Ok(seconds + pause.as_secs_f64())
        }
    }

    // proves A6
    #[test]
    fn a_sleep_of_5_ms_in_an_optimization_is_found_and_switched_off() {
        let folder = tempfile::tempdir().unwrap();
        let files = embedded::write_into(folder.path()).unwrap();
        let model = Model::open(&files.model).unwrap();
        let compute = Line::parse_from(["sterna", "--no-program-cache", "-t", "1"]).compute;
        let load = Load { n_prompt: 4, n_gen: 1 };
        let flag = FLAGS.iter().find(|flag| flag.name == "memory_pooling").unwrap();
        let pair = Pair::new(&model, None, &Case::flag(&compute, flag), load).unwrap();
        let mut slow = Slow(pair);
        let found = effect(&mut slow, &EFFORT).unwrap();
        assert!(!found.keeps(), "{}", found.line());
        let cost = (found.seconds_on() - found.seconds_off()) * 1e3;
        assert!((3.0..15.0).contains(&cost), "5 ms were measured as {cost} ms");
        assert!(found.line().contains("memory_pooling costs"), "{}", found.line());
    }
}
