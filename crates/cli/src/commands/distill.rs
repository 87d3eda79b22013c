//! `sterna distill`: `sterna train` with a teacher.

use super::train;
use std::path::PathBuf;
use std::process::ExitCode;

/// Train a student to answer as a teacher does: any graph of the teacher's vocabulary, with fewer
/// layers, narrower, or in the numbers of an encoding (--qat).
///
/// The loss mixes cross-entropy with the divergence from the teacher's softened distribution. The
/// teacher may be any model file; it runs in the CPU runtime, and its logits are kept on disk for
/// the next epoch. All flags and configs of `sterna train` work here.
#[derive(clap::Args)]
#[command(after_help = "Example:
  sterna distill big.gguf student.toml --preset llama-1m --temperature 2 -o student")]
pub struct Args {
    /// The teacher (teacher.model).
    teacher: PathBuf,
    /// Softens both distributions (teacher.temperature).
    #[arg(long)]
    temperature: Option<f64>,
    /// The part of the loss that is the divergence (teacher.weight).
    #[arg(long)]
    weight: Option<f64>,
    /// Weight of the squared difference of the last hidden states (teacher.hidden_weight).
    #[arg(long)]
    hidden_weight: Option<f64>,
    /// Folder of the teacher's logits (teacher.cache); by default in the result's folder.
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// The most bytes kept there (teacher.cache_bytes).
    #[arg(long, value_name = "BYTES")]
    cache_size: Option<u64>,
    #[command(flatten)]
    train: train::Args,
}

/// Runs the command.
///
/// # Errors
/// As `sterna train`, and when the teacher does not fit the student.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut settings = vec![format!("teacher.model={}", args.teacher.display())];
    settings.extend(args.temperature.map(|t| format!("teacher.temperature={t}")));
    settings.extend(args.weight.map(|w| format!("teacher.weight={w}")));
    settings.extend(args.hidden_weight.map(|w| format!("teacher.hidden_weight={w}")));
    settings.extend(args.cache.map(|path| format!("teacher.cache={}", path.display())));
    settings.extend(args.cache_size.map(|n| format!("teacher.cache_bytes={n}")));
    train::run_with(&args.train, &settings)
}
