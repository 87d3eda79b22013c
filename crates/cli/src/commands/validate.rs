//! `sterna validate`: does a ternary model keep its promises against its f32 twin?

use crate::compute::ComputeArgs;
use crate::show::bad_input;
use crate::validation::{self, Settings, worker};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sterna_formats::AtomicFile;
use sterna_measure::Level;
use sterna_measure::validation::Validation;

/// Compare a ternary (BitNet) model with its real f32 twin: file bytes, memory of fresh processes,
/// decode and prefill speed at batch 1 and 32 in interleaved runs, loss on held-out text, p95 per
/// token. Each is judged against its target: 8x smaller, 2x (at best 4x) faster, at most 10% more
/// loss, 50 ms.
///
/// Writes executive_summary.md, .html, .json and .csv. A model is production ready where size,
/// memory, 2x speed and loss are all met, and 4x speed or 50 ms. What is not evaluated is no pass:
/// without --baseline nothing can be compared. Ends with code 0 only if production ready.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna validate --bitnet ternary.gguf --baseline f32.gguf --text held_out.txt
  sterna validate --bitnet t.gguf --baseline f.gguf --text held_out.txt.gz --level production

Levels: development (basic, conservative), balanced (standard), production (comprehensive,
aggressive). They differ in how much is measured, never in what counts as met.")]
pub struct Args {
    /// The ternary model.
    #[arg(long, value_name = "MODEL")]
    bitnet: PathBuf,
    /// The same model trained in f32, as F32 on disk.
    #[arg(long, value_name = "MODEL")]
    baseline: Option<PathBuf>,
    /// Text that neither was trained on, UTF-8, plain or gzip.
    #[arg(long, short = 'f', value_name = "FILE")]
    text: Option<PathBuf>,
    /// Where one document of the text ends and the next begins [default: scored in windows].
    #[arg(long, requires = "text")]
    separator: Option<String>,
    /// How thorough: development, balanced or production, by any of their names.
    #[arg(long, visible_alias = "level", value_name = "LEVEL", default_value = "balanced")]
    validation_level: Level,
    /// The folder to write into.
    #[arg(long, short = 'o', default_value = "sterna-validation", value_name = "FOLDER")]
    out: PathBuf,
    /// Print the JSON summary.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// One model's own process; started by `sterna validate`, not by people.
#[derive(clap::Args)]
pub struct WorkerArgs {
    model: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// When a model cannot be run, the two not be compared, or the folder not be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.out.is_file() {
        return Err(bad_input(format!("{} is a file; name a folder", args.out.display())));
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a constant template"),
    );
    let settings = Settings {
        bitnet: args.bitnet,
        baseline: args.baseline,
        text: args.text,
        separator: args.separator,
        level: args.validation_level,
        compute: args.compute,
    };
    let outcome = validation::validate(&settings, &mut |what| {
        bar.set_message(what.to_owned());
        bar.tick();
    });
    bar.finish_and_clear();
    let validation = outcome?;
    write(&args.out, &validation)?;
    if args.json {
        print!("{}", validation.to_json()?);
    } else {
        print!("{}", validation.to_markdown());
        println!("\nwritten to {}", args.out.display());
    }
    Ok(ExitCode::from(u8::from(!validation.production_ready())))
}

/// Runs the hidden command.
///
/// # Errors
/// When the pipes break.
pub fn run_worker(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    worker::serve(&args.model, &args.compute)?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, validation: &Validation) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let files = [
        ("md", validation.to_markdown()),
        ("html", validation.to_html()),
        ("json", validation.to_json()?),
        ("csv", validation.to_csv()),
    ];
    for (ending, text) in files {
        let path = folder.join(format!("executive_summary.{ending}"));
        AtomicFile::write_whole(&path, text.as_bytes())?;
    }
    Ok(())
}
