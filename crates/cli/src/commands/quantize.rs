//! `sterna quantize`: direct encoding without a search, streaming tensor by tensor.

use super::convert::{bytes_bar, may_write};
use crate::show;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::{Metadata, OpenOptions};
use sterna_model::{Model, write_gguf};
use sterna_optimize::importance::Importance;
use sterna_optimize::passes::rtn::encode_all;
use sterna_optimize::{Draft, Recipe};

/// Encode a model's weights directly (round to nearest), without a search.
///
/// TYPE is an encoding (Q8_0, Q4_0, Q4_K, TQ2_0, ...) or a mix that users know (Q4_K_M, Q5_K_M,
/// ...). Rows that do not divide into the type's blocks fall back, and each fallback is said.
#[derive(clap::Args)]
pub struct Args {
    /// The model to encode.
    model: PathBuf,
    /// The GGUF file to write.
    out: PathBuf,
    /// Encoding or mix, e.g. Q8_0, Q4_0, Q4_K_M.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Every matrix in exactly this encoding, without the rules that go with its name.
    #[arg(long)]
    pure: bool,
    /// Give tensors whose name matches a regular expression another encoding; may be repeated.
    #[arg(long, value_name = "REGEX=TYPE")]
    tensor_type: Vec<String>,
    /// Importance matrix (as llama-imatrix writes it) that weighs errors.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// Print what each tensor became, as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be read, the type is unknown, or the file cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    may_write(&args.out, args.force)?;
    let model = Model::open_with(&args.model, &OpenOptions::default())?;
    let mut recipe = Recipe::named(&args.kind)?.with_overrides(&args.tensor_type)?;
    if args.pure {
        recipe = recipe.pure();
    }
    if let Some(path) = &args.imatrix {
        recipe = recipe.with_importance(Importance::open(path)?);
    }
    let mut draft = Draft::new(&model.graph, &model);
    encode_all(&mut draft, &recipe)?;
    // An encoder makes nonsense of NaN and infinity, and the result would look like a model.
    sterna_optimize::scan::finite(&model.graph, &model)?;
    let progress = bytes_bar();
    write_gguf(&args.out, &model, &draft, &Metadata::default(), &mut |done, total| {
        progress.set_length(total);
        progress.set_position(done);
    })?;
    progress.finish_and_clear();
    let size = std::fs::metadata(&args.out)?.len();
    if args.json {
        let tensors: Vec<_> = model
            .graph
            .weight_ids()
            .map(|id| {
                let name = &model.graph.decl(id).name;
                let encoding = sterna_model::WeightSource::encoding(&draft, id).name();
                serde_json::json!({ "name": name, "encoding": encoding })
            })
            .collect();
        show::json(&serde_json::json!({
            "path": args.out, "bytes": size, "tensors": tensors, "notes": draft.notes(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for note in draft.notes() {
        eprintln!("note: {note}");
    }
    println!("{}: {}", args.out.display(), show::bytes(size));
    Ok(ExitCode::SUCCESS)
}
