//! `sterna calibrate`: what a model's weights meet on a text, as a statistics file.

use super::convert::may_write;
use crate::compute::ComputeArgs;
use crate::interrupt;
use crate::show;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::OpenOptions;
use sterna_model::Model;
use sterna_optimize::OptimizeError;
use sterna_optimize::calibration::{self, TextSettings};
use sterna_optimize::observe::observe;
use sterna_optimize::runner::RuntimeEngine;
use sterna_optimize::statistics::{self, Line, Text};

/// Run text through a model and write down what its weights meet: for each matrix the mean square
/// and the largest magnitude of every input, and the ranges that 8-bit integers would need.
///
/// The file has llama-imatrix's GGUF form: `sterna quantize --imatrix` and llama-quantize read it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna calibrate model.gguf --calib text.txt -o model.imatrix.gguf
  sterna quantize model.gguf small.gguf Q4_0 --imatrix model.imatrix.gguf
  sterna calibrate model.gguf --calib a.txt --eval b.txt -o m.gguf   # b.txt must not be in a.txt")]
pub struct Args {
    /// The model: GGUF, Hugging Face directory, safetensors or llama2.c .bin.
    model: PathBuf,
    /// The text: documents separated by <|endoftext|> or blank lines, JSON lines, or else one
    /// paragraph per line.
    #[arg(long, value_name = "FILE")]
    calib: PathBuf,
    /// Text that the model will be judged by: calibration that repeats any of it is refused.
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// The file to write.
    #[arg(long, short = 'o', value_name = "FILE")]
    out: PathBuf,
    /// Documents at most.
    #[arg(long, default_value_t = 128, value_name = "N")]
    calib_samples: usize,
    /// Tokens of a document at most.
    #[arg(long, default_value_t = 512, value_name = "N")]
    calib_seqlen: usize,
    /// Seed of the choice of documents.
    #[arg(long)]
    seed: Option<u64>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// Print the statistics of each input as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be run, the text cannot be used, or the file cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    may_write(&args.out, args.force)?;
    if args.calib_seqlen < 2 || args.calib_samples == 0 {
        return Err(show::bad_input("--calib-seqlen must be at least 2, --calib-samples 1"));
    }
    let options = OpenOptions { tokenizer: args.compute.tokenizer.clone() };
    let model = Model::open_with(&args.model, &options)?;
    let mut settings = args.compute.settings(model.config.context_len)?;
    let defaults = TextSettings::of(args.calib.clone());
    let text_settings = TextSettings {
        evaluation: args.eval.clone(),
        n_calibration: args.calib_samples,
        max_tokens: args.calib_seqlen,
        seed: args.seed.unwrap_or(defaults.seed),
        ..defaults
    };
    let context_len = settings.context_len;
    let passages = calibration::alone(&text_settings, &model, context_len)?;
    settings.context_len = context_len.min(args.calib_seqlen + 1);
    let text = Text::of(&args.calib, &passages);
    sterna_optimize::scan::finite(&model.graph, &model)?;
    interrupt::listen()?;
    let bar = documents_bar(passages.len());
    let mut told = |n_done: usize| {
        bar.set_position(n_done as u64);
        if interrupt::stopped() { Err(OptimizeError::Cancelled) } else { Ok(()) }
    };
    let engine = RuntimeEngine::new(settings)?;
    let observed = observe(&model.graph, &model, &engine, &passages, &mut told);
    bar.finish_and_clear();
    let observed = match observed {
        Err(OptimizeError::Cancelled) => anyhow::bail!("stopped; nothing was written"),
        observed => observed?,
    };
    let warnings = observed.warnings();
    warnings.iter().for_each(|warning| show::warn(warning));
    let lines: Vec<Line> = observed.inputs.iter().map(Line::of).collect();
    statistics::write(&args.out, &observed, &text, &lines)?;
    if args.json {
        show::json(&json!({
            "path": args.out,
            "text": text,
            "inputs": lines,
            "warnings": warnings,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", table(&lines));
    println!(
        "{}: {} inputs of {} matrices, from {} tokens in {} documents of {} (hash {})",
        args.out.display(),
        lines.len(),
        lines.iter().map(|line| line.matrices.len()).sum::<usize>(),
        text.n_tokens,
        text.n_documents,
        text.name,
        &text.hash[..12.min(text.hash.len())],
    );
    Ok(ExitCode::SUCCESS)
}

fn documents_bar(n: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} documents {eta} left")
        .expect("the template is a constant");
    ProgressBar::new(n as u64).with_style(style)
}

/// A line for each input.
fn table(lines: &[Line]) -> comfy_table::Table {
    let headings =
        ["read by", "channels", "always 0", "largest", "99.9%", "8-bit range", "outlier"];
    let mut table = show::table(&headings);
    for line in lines {
        let more = match line.matrices.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        table.add_row([
            format!("{}{more}", line.matrices[0]),
            line.channels.to_string(),
            line.dead_channels.to_string(),
            format!("{:.3}", line.largest),
            format!("{:.3}", line.p99_9),
            format!("{:.3}", line.entropy_int8),
            line.outlier.map_or("-".into(), |outlier| format!("{outlier:.1}x")),
        ]);
    }
    table
}
