//! `sterna convert`: any container to GGUF.

use crate::show;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::OpenOptions;
use sterna_formats::encodings::by_name;
use sterna_model::{Model, write_gguf};
use sterna_optimize::passes::rtn::encode_all;
use sterna_optimize::{Draft, Recipe};

/// Convert a model to one GGUF file that Sterna and llama.cpp load.
#[derive(clap::Args)]
pub struct Args {
    /// GGUF (also split), safetensors, Hugging Face directory, or llama2.c .bin.
    model: PathBuf,
    /// The GGUF file to write.
    out: PathBuf,
    /// Write matrices as this type: F32, F16, BF16, Q8_0 [default: as they are].
    #[arg(long, value_name = "TYPE")]
    outtype: Option<String>,
    /// The tokenizer file, for containers that keep it apart.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be read or the file not written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    may_write(&args.out, args.force)?;
    let options = OpenOptions { tokenizer: args.tokenizer };
    let model = Model::open_with(&args.model, &options)?;
    model.tokenizer()?;
    let mut draft = Draft::new(&model.graph, &model);
    if let Some(name) = &args.outtype {
        if by_name(name).is_none() {
            return Err(show::bad_input(format!(
                "--outtype {name} is no encoding; choose F32, F16, BF16 or Q8_0, or use `sterna \
                 quantize`"
            )));
        }
        encode_all(&mut draft, &Recipe::named(name)?.pure())?;
    }
    let progress = bytes_bar();
    write_gguf(&args.out, &model, draft.graph(), &draft, &mut |done, total| {
        progress.set_length(total);
        progress.set_position(done);
    })?;
    progress.finish_and_clear();
    for note in draft.notes().iter().chain(&model.warnings) {
        eprintln!("note: {note}");
    }
    let size = std::fs::metadata(&args.out)?.len();
    println!("{}: {}", args.out.display(), show::bytes(size));
    Ok(ExitCode::SUCCESS)
}

/// Refuses to write over a file unless told to.
///
/// # Errors
/// When the file is there.
pub fn may_write(path: &std::path::Path, force: bool) -> anyhow::Result<()> {
    if path.exists() && !force {
        let problem = format!("{} is there already; give another name or --force", path.display());
        return Err(show::bad_input(problem));
    }
    Ok(())
}

/// A bar over bytes, with rate and time left.
pub fn bytes_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left",
    )
    .expect("the template is a constant");
    ProgressBar::new(0).with_style(style)
}
