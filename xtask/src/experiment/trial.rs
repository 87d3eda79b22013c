//! One run: an arm with a seed, made and judged.

use super::design::{Arm, Experiment};
use crate::root;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the texts have between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Where everything is.
pub struct Place {
    /// The binary.
    pub sterna: PathBuf,
    /// The experiment's folder.
    pub folder: PathBuf,
}

/// What one run gave.
#[derive(Clone, Serialize)]
pub struct Run {
    /// The arm.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// What `sterna eval` found on the held-out text.
    pub held_out_nats_per_token: f64,
    /// The tokens that this is the mean of.
    pub held_out_tokens: u64,
    /// Bytes of the model file.
    pub model_bytes: u64,
    /// Seconds of training by the wall clock, beside the other jobs.
    pub training_seconds: f64,
}

impl Place {
    /// Text that is trained on.
    pub fn train_text(&self) -> PathBuf {
        self.folder.join("train.txt")
    }

    /// Text that is not.
    pub fn held_out_text(&self) -> PathBuf {
        self.folder.join("held_out.txt")
    }

    /// That text as `sterna eval` reads it.
    pub fn judged_text(&self) -> PathBuf {
        self.folder.join("judged.txt")
    }

    fn tokenizer(&self) -> PathBuf {
        self.folder.join("tokenizer.json")
    }

    fn run_folder(&self, arm: &str, seed: u64) -> PathBuf {
        self.folder.join(format!("{arm}-{seed}"))
    }

    fn model(&self, arm: &str, seed: u64) -> PathBuf {
        self.run_folder(arm, seed).join("model.gguf")
    }

    /// Trains the tokenizer that all runs share.
    ///
    /// # Errors
    /// When sterna fails.
    pub fn train_tokenizer(&self, vocab_size: usize) -> Result<()> {
        let mut command = Command::new(&self.sterna);
        command.args(["tokenizer", "train", "--special", END_OF_TEXT, "--vocab-size"]);
        command.arg(vocab_size.to_string()).arg(self.train_text());
        root::output_of(command.arg("-o").arg(self.tokenizer()).arg("--force")).map(drop)
    }
}

/// Makes an arm's model and judges it. `sterna train` itself goes on from what is complete on disk.
///
/// # Errors
/// When sterna fails.
pub fn run(experiment: &Experiment, arm: &Arm, seed: u64, place: &Place) -> Result<Run> {
    let folder = place.run_folder(&arm.name, seed);
    std::fs::create_dir_all(&folder)?;
    let training_seconds = match &arm.quantize {
        Some(quantize) => {
            let (from, encoding) = quantize.split_once(':').context("quantize is NAME:TYPE")?;
            let from = place.model(from, experiment.partner_seed(from, seed));
            let mut command = Command::new(&place.sterna);
            command.arg("quantize").arg(from).arg(place.model(&arm.name, seed));
            root::output_of(command.args([encoding, "--force"]))?;
            0.0
        }
        None => train(experiment, arm, seed, place)?,
    };
    let model = place.model(&arm.name, seed);
    let mut eval = Command::new(&place.sterna);
    eval.arg("eval").arg(&model).arg("--text").arg(place.judged_text());
    let window = experiment.window.to_string();
    let said = root::output_of(eval.args(["--json", "--windows", &window]))?;
    let figures: Vec<Value> = serde_json::from_str(&said)?;
    let nll = figures.iter().find(|f| f["name"] == "nll").context("eval gave no nll")?;
    Ok(Run {
        arm: arm.name.clone(),
        seed,
        held_out_nats_per_token: nll["value"].as_f64().context("nll has no value")?,
        held_out_tokens: nll["n"].as_u64().context("nll has no n")?,
        model_bytes: std::fs::metadata(&model)?.len(),
        training_seconds,
    })
}

/// Trains; gives the seconds it took.
fn train(experiment: &Experiment, arm: &Arm, seed: u64, place: &Place) -> Result<f64> {
    let folder = place.run_folder(&arm.name, seed);
    let mut command = Command::new(&place.sterna);
    command.arg("train").args(["--json", "--seed", &seed.to_string()]);
    command.arg("--text").arg(place.train_text()).arg("-o").arg(&folder);
    command.arg("--set").arg(format!("data.held_out={}", place.held_out_text().display()));
    command.args(&experiment.args);
    // A model to start from brings its tokenizer.
    if !arm.train.iter().any(|argument| argument == "--init") {
        let setting = format!("data.tokenizer={}", place.tokenizer().display());
        command.arg("--set").arg(setting);
    }
    for argument in &arm.train {
        command.arg(filled(experiment, argument, seed, place)?);
    }
    root::output_of(&mut command)?;
    let curve = curve(&folder)?;
    Ok(curve.last().and_then(|point| point["seconds"].as_f64()).unwrap_or_default())
}

/// Puts the model of another arm for its name in braces.
fn filled(experiment: &Experiment, argument: &str, seed: u64, place: &Place) -> Result<String> {
    let Some((before, rest)) = argument.split_once('{') else { return Ok(argument.to_owned()) };
    let (name, after) = rest.split_once('}').context("a brace is not closed")?;
    let model = place.model(name, experiment.partner_seed(name, seed));
    ensure!(model.is_file(), "{} is missing", model.display());
    Ok(format!("{before}{}{after}", model.display()))
}

/// Every curve where it was evaluated: the mean training loss since the point before, and the
/// held-out loss by the training loop.
///
/// # Errors
/// When a curve cannot be read.
pub fn curves(runs: &[Run], place: &Place) -> Result<String> {
    let mut text = "arm,seed,step,training_loss,held_out_loss\n".to_owned();
    for run in runs {
        let folder = place.run_folder(&run.arm, run.seed);
        if !folder.join("curve.jsonl").is_file() {
            continue;
        }
        let mut since = Vec::new();
        for point in curve(&folder)? {
            since.extend(point["loss"].as_f64());
            let Some(held_out) = point["held_out"].as_f64() else { continue };
            let mean = since.iter().sum::<f64>() / since.len() as f64;
            let (arm, seed, step) = (&run.arm, run.seed, &point["step"]);
            text += &format!("{arm},{seed},{step},{mean:.4},{held_out:.4}\n");
            since.clear();
        }
    }
    Ok(text)
}

fn curve(folder: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder.join("curve.jsonl"))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
