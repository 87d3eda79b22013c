//! `cargo xtask experiment`: training claims, re-derived: every arm with every seed.
//!
//! In: a file of `models/experiments/`, and the real texts it names. Out: a table of held-out loss
//! per arm (mean, spread over seeds, against the first arm) and `experiments/NAME/results.json` in
//! the target folder, with each run's config and curve beside it. Opt-in: it takes minutes to
//! hours. Every model is judged by `sterna eval` in the runtime, not by its own training loop.

use crate::root;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Options of `cargo xtask experiment`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a file in models/experiments/, without .toml
    name: String,
    /// Run with these seeds only, e.g. 1,2 [default: the file's]
    #[arg(long, value_delimiter = ',')]
    seeds: Vec<u64>,
    /// A built sterna to use [default: builds the release binary]
    #[arg(long)]
    sterna: Option<PathBuf>,
}

/// An experiment file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Experiment {
    /// What it shows, for the table.
    about: String,
    /// Texts, relative to the data folder (or to the repository, when they lie in it).
    texts: Vec<String>,
    /// The last part of each text, which nobody trains on.
    held_out_fraction: f64,
    /// Tokens of the tokenizer that is trained on the texts.
    vocab_size: usize,
    /// Tokens the judge sees at once.
    window: usize,
    /// Seeds of weights and data order.
    seeds: Vec<u64>,
    /// Arguments of every `sterna train`.
    args: Vec<String>,
    /// What is compared; the first is the baseline.
    arm: Vec<Arm>,
}

/// One way to make a model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arm {
    name: String,
    /// Arguments of `sterna train`; `{NAME}` is the model of that arm with the same seed.
    #[serde(default)]
    train: Vec<String>,
    /// Instead of training: that arm's model in this encoding, `NAME:TYPE`.
    #[serde(default)]
    quantize: Option<String>,
}

/// What one run gave.
#[derive(Serialize)]
struct Run {
    arm: String,
    seed: u64,
    held_out_nats_per_token: f64,
    held_out_tokens: u64,
    model_bytes: u64,
    seconds: f64,
}

/// Where everything is.
struct Place {
    sterna: PathBuf,
    folder: PathBuf,
    train: PathBuf,
    held_out: PathBuf,
    tokenizer: PathBuf,
}

/// Runs an experiment.
///
/// # Errors
/// When the file, a text or a run is not as it should be.
pub fn run(args: &Args) -> Result<bool> {
    let path = root::root().join("models/experiments").join(format!("{}.toml", args.name));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let experiment: Experiment =
        toml::from_str(&text).with_context(|| format!("{} is wrong", path.display()))?;
    let place = prepare(&experiment, args)?;
    let seeds = if args.seeds.is_empty() { &experiment.seeds } else { &args.seeds };
    let mut runs = Vec::new();
    for &seed in seeds {
        for arm in &experiment.arm {
            let run = one(&experiment, arm, seed, &place)
                .with_context(|| format!("arm {} with seed {seed}", arm.name))?;
            println!("{} seed {seed}: {:.4} nats/token", arm.name, run.held_out_nats_per_token);
            runs.push(run);
        }
    }
    let results = place.folder.join("results.json");
    std::fs::write(&results, serde_json::to_string_pretty(&runs)?)?;
    println!("\n{}\n\n{}", experiment.about, table(&experiment, &runs));
    println!("every run is in {}", results.display());
    Ok(true)
}

fn prepare(experiment: &Experiment, args: &Args) -> Result<Place> {
    let sterna = match &args.sterna {
        Some(path) => path.canonicalize().with_context(|| format!("no {}", path.display()))?,
        None => crate::bench::build_sterna()?,
    };
    let folder = root::target_dir().join("experiments").join(&args.name);
    std::fs::create_dir_all(&folder)?;
    let in_folder = |name: &str| folder.join(name);
    let place = Place {
        train: in_folder("train.txt"),
        held_out: in_folder("held_out.txt"),
        tokenizer: in_folder("tokenizer.json"),
        sterna,
        folder,
    };
    let (mut train, mut held_out) = (String::new(), String::new());
    for name in &experiment.texts {
        let text = read_text(name)?;
        let mut cut = (text.len() as f64 * (1.0 - experiment.held_out_fraction)) as usize;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        // At a line's end, so that no word is in both.
        cut = text[..cut].rfind('\n').map_or(cut, |at| at + 1);
        train.push_str(&text[..cut]);
        held_out.push_str(&text[cut..]);
    }
    std::fs::write(&place.train, train)?;
    std::fs::write(&place.held_out, held_out)?;
    let mut tokenizer = Command::new(&place.sterna);
    tokenizer.args(["tokenizer", "train", "--special", "<|endoftext|>", "--vocab-size"]);
    tokenizer.arg(experiment.vocab_size.to_string()).arg(&place.train);
    root::output_of(tokenizer.arg("-o").arg(&place.tokenizer).arg("--force"))?;
    Ok(place)
}

/// A text of the data folder, or of the repository.
fn read_text(name: &str) -> Result<String> {
    let root = root::root();
    let data = std::env::var_os("STERNA_DATA").map(PathBuf::from);
    let beside = root.ancestors().map(|a| a.join("shared/data")).find(|path| path.is_dir());
    let folders = [data, beside, Some(root.clone())];
    let found = folders.iter().flatten().map(|f| f.join(name)).find(|path| path.is_file());
    let path = found.with_context(|| {
        format!("{name} is not there; set STERNA_DATA to the folder of the texts")
    })?;
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Makes an arm's model and judges it.
fn one(experiment: &Experiment, arm: &Arm, seed: u64, place: &Place) -> Result<Run> {
    let folder = place.folder.join(format!("{}-{seed}", arm.name));
    let model = folder.join("model.gguf");
    let mut seconds = 0.0;
    if let Some(quantize) = &arm.quantize {
        let (from, encoding) = quantize.split_once(':').context("quantize is NAME:TYPE")?;
        std::fs::create_dir_all(&folder)?;
        let source = place.folder.join(format!("{from}-{seed}/model.gguf"));
        let mut command = Command::new(&place.sterna);
        command.arg("quantize").arg(source).arg(&model).args([encoding, "--force"]);
        root::output_of(&mut command)?;
    } else {
        let mut command = Command::new(&place.sterna);
        command.arg("train").args(["--json", "--seed", &seed.to_string()]);
        command.arg("--text").arg(&place.train).arg("-o").arg(&folder);
        command.arg("--set").arg(format!("data.held_out={}", place.held_out.display()));
        command.arg("--set").arg(format!("data.tokenizer={}", place.tokenizer.display()));
        command.args(&experiment.args);
        for argument in &arm.train {
            command.arg(filled(argument, seed, place)?);
        }
        root::output_of(&mut command)?;
        let curve = std::fs::read_to_string(folder.join("curve.jsonl"))?;
        let last: serde_json::Value =
            serde_json::from_str(curve.lines().last().context("the curve is empty")?)?;
        seconds = last["seconds"].as_f64().unwrap_or_default();
    }
    let mut eval = Command::new(&place.sterna);
    eval.arg("eval").arg(&model).arg("--text").arg(&place.held_out);
    let window = experiment.window.to_string();
    let said = root::output_of(eval.args(["--json", "--windows", &window]))?;
    let judged: serde_json::Value = serde_json::from_str(&said)?;
    Ok(Run {
        arm: arm.name.clone(),
        seed,
        held_out_nats_per_token: judged["nll"].as_f64().context("eval gave no nll")?,
        held_out_tokens: judged["n"].as_u64().context("eval gave no n")?,
        model_bytes: std::fs::metadata(&model)?.len(),
        seconds,
    })
}

/// Puts the model of another arm for its name in braces.
fn filled(argument: &str, seed: u64, place: &Place) -> Result<String> {
    let Some((before, rest)) = argument.split_once('{') else { return Ok(argument.to_owned()) };
    let Some((name, after)) = rest.split_once('}') else {
        bail!("{argument} has no closing brace")
    };
    let model = place.folder.join(format!("{name}-{seed}/model.gguf"));
    ensure!(model.is_file(), "arm {name} comes after the arm that needs it");
    Ok(format!("{before}{}{after}", model.display()))
}

/// Loss per arm: mean and spread over seeds, and the change against the first arm, seed by seed.
fn table(experiment: &Experiment, runs: &[Run]) -> String {
    let of = |name: &str| -> BTreeMap<u64, &Run> {
        runs.iter().filter(|r| r.arm == name).map(|r| (r.seed, r)).collect()
    };
    let baseline = of(&experiment.arm[0].name);
    let mut lines = vec![
        "| arm | held-out nats/token, mean (sd, n) | against the first | model bytes |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for arm in &experiment.arm {
        let own = of(&arm.name);
        let losses: Vec<f64> = own.values().map(|r| r.held_out_nats_per_token).collect();
        let changes: Vec<f64> = own
            .iter()
            .filter_map(|(seed, run)| {
                let base = baseline.get(seed)?.held_out_nats_per_token;
                Some((run.held_out_nats_per_token / base - 1.0) * 100.0)
            })
            .collect();
        let ((loss, spread), (change, change_spread)) = (mean_sd(&losses), mean_sd(&changes));
        let bytes = own.values().next().map_or(0, |r| r.model_bytes);
        lines.push(format!(
            "| {} | {loss:.4} ({spread:.4}, {}) | {change:+.2}% ({change_spread:.2}) | {bytes} |",
            arm.name,
            losses.len()
        ));
    }
    lines.join("\n")
}

/// Mean and sample standard deviation; no spread of a single value.
fn mean_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (square / (n - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_samples() {
        assert_eq!(mean_sd(&[1.0, 3.0]), (2.0, 2.0f64.sqrt()));
        assert_eq!(mean_sd(&[4.0]), (4.0, 0.0));
    }

    #[test]
    fn every_experiment_reads_and_names_its_arms_in_order() {
        let folder = root::root().join("models/experiments");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let experiment: Experiment = toml::from_str(&text).unwrap();
            let mut known: Vec<&str> = Vec::new();
            for arm in &experiment.arm {
                let named = arm.train.iter().filter_map(|a| a.split_once('{')?.1.split_once('}'));
                let from = arm.quantize.iter().filter_map(|q| q.split_once(':'));
                for name in named.map(|n| n.0).chain(from.map(|f| f.0)) {
                    assert!(known.contains(&name), "{}: {name}", path.display());
                }
                known.push(&arm.name);
            }
            assert!(experiment.seeds.len() >= 3, "claims need three seeds");
        }
    }
}
