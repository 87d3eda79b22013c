//! `cargo xtask budgets`: one table of what Sterna makes of models within bits per weight, beside
//! what llama.cpp makes of the same files.
//!
//! In: `models/budgets.toml`, real texts, llama.cpp's tools (`cargo xtask peers --only llama.cpp`).
//! Out: a table per model, and in `budgets/` of the target folder everything it is from. Every
//! model is judged by `sterna eval` on the same held-out text against the same baseline, whoever
//! made it. What rivals make is kept; what Sterna makes is made anew.

mod design;
mod rivals;
mod table;
pub mod texts;

use crate::root;
use anyhow::{Context, Result, ensure};
use design::{Design, Subject};
use rivals::Rivals;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use texts::Texts;

/// Options of `cargo xtask budgets`.
#[derive(clap::Args)]
pub struct Args {
    /// Only these models of models/budgets.toml
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How thorough Sterna searches: development, balanced, production
    #[arg(long, default_value = "development")]
    level: String,
    /// A built sterna to use [default: builds the release binary]
    #[arg(long)]
    sterna: Option<PathBuf>,
    /// The folder of llama.cpp's tools [default: where `cargo xtask peers` builds them]
    #[arg(long)]
    llama_cpp: Option<PathBuf>,
}

/// A quantized model, measured on held-out text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// `uniform`, `mix`, `imatrix` or `sterna`.
    pub kind: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Mean KL divergence from the source, nats per token.
    pub kl: f64,
    /// Rise of the perplexity in percent.
    pub drop_percent: f64,
    /// Tokens scored.
    pub n: u64,
}

/// A budget, and what came of it; `None` where no plan keeps it, with why.
pub type Outcome = (f64, Result<Row, String>);

/// Runs all; `false` where Sterna is not the better one often enough.
///
/// # Errors
/// When a file, a text or a run is not as it should be.
pub fn run(args: &Args) -> Result<bool> {
    let design = Design::read()?;
    let sterna = crate::bench::sterna(args.sterna.as_deref())?;
    let tools = args.llama_cpp.clone();
    let tools = tools.unwrap_or_else(|| root::target_dir().join("peers/build/bin"));
    ensure!(
        tools.join("llama-quantize").is_file() && tools.join("llama-imatrix").is_file(),
        "{} has no llama-quantize and llama-imatrix; `cargo xtask peers --only llama.cpp` builds \
         them",
        tools.display()
    );
    let mut results = Vec::new();
    for subject in design.model {
        if !args.only.is_empty() && !args.only.contains(&subject.name) {
            continue;
        }
        let folder = root::target_dir().join("budgets").join(&subject.name);
        std::fs::create_dir_all(&folder)?;
        let place = Place { sterna: sterna.clone(), tools: tools.clone(), folder };
        let (rivals, outcomes) = place.measure(&subject, &design.budgets, &args.level)?;
        results.push((subject.name, rivals, outcomes));
    }
    ensure!(!results.is_empty(), "no model of models/budgets.toml is called so");
    let (text, is_enough) = table::summary(&design.budgets, &results);
    println!("{text}");
    Ok(is_enough)
}

/// What an artifact may take.
#[derive(Clone, Copy)]
enum Cap {
    /// Bits per weight.
    Bits(f64),
    /// Bytes of the file.
    Bytes(u64),
}

impl Cap {
    /// The flag that asks for it, and its number.
    fn asked(self) -> (&'static str, String) {
        match self {
            Self::Bits(bits) => ("--target-bpw", bits.to_string()),
            Self::Bytes(bytes) => ("--max-size", bytes.to_string()),
        }
    }
}

/// Where one model's files are.
pub struct Place {
    sterna: PathBuf,
    tools: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn measure(
        &self,
        subject: &Subject,
        budgets: &[f64],
        level: &str,
    ) -> Result<(Vec<Row>, Vec<Outcome>)> {
        let texts = Texts::prepare(subject, &self.folder)?;
        let source = self.source(subject, &texts)?;
        let rivals = Rivals { place: self, source: &source, texts: &texts }.rows()?;
        let mut outcomes = Vec::new();
        for &budget in budgets {
            let outcome = self.optimize(&source, &texts, Cap::Bits(budget), level)?;
            match &outcome {
                Ok(row) => println!("{}: {} has KL {:.5}", subject.name, row.name, row.kl),
                Err(why) => println!("{}: {budget} bits: {why}", subject.name),
            }
            outcomes.push((budget, outcome));
        }
        println!("\n{}\n", table::of_model(&subject.name, &rivals, &outcomes));
        let mut pairs: Vec<(&Row, Row)> = Vec::new();
        for rival in table::better(&rivals, &outcomes) {
            // Quantizations with and without an importance matrix are of one size.
            let known = pairs.iter().find(|(other, _)| other.bytes == rival.bytes);
            let row = match known {
                Some((_, row)) => row.clone(),
                None => {
                    let made = self.optimize(&source, &texts, Cap::Bytes(rival.bytes), level)?;
                    made.map_err(anyhow::Error::msg)?
                }
            };
            pairs.push((rival, row));
        }
        println!("{}\n", table::within(&pairs));
        let json = serde_json::to_string_pretty(&(&outcomes, &pairs))? + "\n";
        std::fs::write(self.folder.join("sterna.json"), json)?;
        Ok((rivals, outcomes))
    }

    /// The model as a GGUF file that everybody reads; trained first where it must be.
    fn source(&self, subject: &Subject, texts: &Texts) -> Result<PathBuf> {
        let path = self.folder.join("source.gguf");
        if path.is_file() {
            return Ok(path);
        }
        let given = match &subject.model {
            Some(model) => texts::find(model)?,
            None => self.train(subject, texts)?,
        };
        let mut convert = Command::new(&self.sterna);
        convert.arg("convert").arg(given).arg(&path);
        if let Some(tokenizer) = &subject.tokenizer {
            convert.arg("--tokenizer").arg(texts::find(tokenizer)?);
        }
        root::output_of(&mut convert)?;
        Ok(path)
    }

    fn train(&self, subject: &Subject, texts: &Texts) -> Result<PathBuf> {
        let config = subject.config.as_ref();
        let config = config.context("it has neither a model nor how to train it")?;
        let text = texts.train.as_ref().unwrap_or(&texts.calibration);
        println!("{}: training, which takes a while", subject.name);
        let tokenizer = self.folder.join("tokenizer.json");
        let mut make = Command::new(&self.sterna);
        make.args(["tokenizer", "train", "--vocab-size", "4096", "--force"]).arg(text);
        root::output_of(make.arg("-o").arg(&tokenizer))?;
        let mut train = Command::new(&self.sterna);
        train.arg("train").arg(texts::find(config)?).arg("-o").arg(self.folder.join("run"));
        let set = |key: &str, path: &Path| format!("{key}={}", path.display());
        train.arg("--text").arg(text).arg("--set").arg(set("data.tokenizer", &tokenizer));
        if texts.train.is_some() {
            train.arg("--set").arg(set("data.held_out", &texts.calibration));
        }
        root::output_of(&mut train)?;
        Ok(self.folder.join("run/model.gguf"))
    }

    /// What Sterna makes within so much.
    fn optimize(
        &self,
        source: &Path,
        texts: &Texts,
        cap: Cap,
        level: &str,
    ) -> Result<Result<Row, String>> {
        let (flag, number) = cap.asked();
        let out = self.folder.join(format!("sterna-{number}"));
        let mut command = Command::new(&self.sterna);
        command.arg("optimize").arg(source).arg("--calib").arg(&texts.calibration);
        command.arg("--eval").arg(&texts.held_out).args(["--level", level, flag]);
        command.arg(&number).args(["--allow", "distill", "--json", "--out"]).arg(&out);
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        // 1 is a report whose budget is missed; 2 an answer that it cannot be kept.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(2) && said.contains("cannot be kept") {
            let line = said.lines().last().unwrap_or_default();
            // What it offers instead is enough for a table's cell.
            let why = line.split_once("ask for ").map_or(line, |(_, least)| least);
            let least = why.split(',').next().unwrap_or(why);
            return Ok(Err(format!("cannot be kept; the least is {least}")));
        }
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said)?;
        let artifact =
            report["artefacts"][0]["path"].as_str().context("a report names its file")?;
        let name = format!("{number} {}", if flag == "--max-size" { "bytes" } else { "bits" });
        self.judge(&name, "sterna", Path::new(artifact), source, texts).map(Ok)
    }

    /// A model measured as all of them are.
    fn judge(
        &self,
        name: &str,
        kind: &str,
        model: &Path,
        source: &Path,
        texts: &Texts,
    ) -> Result<Row> {
        let mut eval = Command::new(&self.sterna);
        eval.arg("eval").arg(model).arg("--baseline").arg(source).arg("-f").arg(&texts.judged);
        let said = root::output_of(eval.args(["--windows", "256", "--json"]))?;
        let figures: Vec<Value> = serde_json::from_str(&said)?;
        let figure = |name: &str| {
            let found = figures.iter().find(|figure| figure["name"] == name);
            found.with_context(|| format!("eval gave no {name}"))
        };
        let kl = figure("kl_mean")?;
        Ok(Row {
            name: name.into(),
            kind: kind.into(),
            bytes: std::fs::metadata(model)?.len(),
            kl: kl["value"].as_f64().context("a divergence is a number")?,
            drop_percent: figure("perplexity_drop_percent")?["value"].as_f64().unwrap_or(f64::NAN),
            n: kl["n"].as_u64().unwrap_or(0),
        })
    }
}
