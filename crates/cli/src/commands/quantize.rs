//! `sterna quantize`: direct encoding without a search, streaming tensor by tensor.

use super::convert::{bytes_bar, may_write};
use crate::activations::{Activations, Ranges};
use crate::show::{self, bad_input};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::OpenOptions;
use sterna_model::{Model, write_gguf};
use sterna_optimize::importance::Importance;
use sterna_optimize::passes::int8::{Int8, Scales};
use sterna_optimize::passes::rtn::encode_all;
use sterna_optimize::passes::{Context, Pass};
use sterna_optimize::{Draft, Recipe, statistics};

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
    /// How layers see their inputs: as they are (integer kernels have a scale per 256 of them), as
    /// int8 codes with a scale per row, or with one scale from --imatrix for all rows.
    #[arg(long, value_enum, default_value_t)]
    activations: Activations,
    /// What static scales are made of [default: minmax, which clips nothing].
    #[arg(long, value_enum)]
    ranges: Option<Ranges>,
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
    see_int8(&args, &mut draft)?;
    // An encoder makes nonsense of NaN and infinity, and the result would look like a model.
    sterna_optimize::scan::finite(&model.graph, &model)?;
    let progress = bytes_bar();
    write_gguf(&args.out, &model, draft.graph(), &draft, &mut |done, total| {
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

/// Has layers see their inputs as was asked for.
fn see_int8(args: &Args, draft: &mut Draft<'_>) -> anyhow::Result<()> {
    let ranges;
    let scales = match (args.activations, args.ranges) {
        (Activations::Float, None) => return Ok(()),
        (Activations::Dynamic, None) => Scales::Dynamic,
        (Activations::Static, how) => {
            let why =
                "static scales are of text: give what `sterna calibrate` wrote with --imatrix";
            let path = args.imatrix.as_ref().ok_or_else(|| bad_input(why))?;
            ranges = statistics::ranges(path, how.unwrap_or(Ranges::Minmax).into())?;
            Scales::Static(&ranges)
        }
        (_, Some(_)) => return Err(bad_input("--ranges are for --activations static")),
    };
    if !Int8::applies(draft.graph()) {
        draft.note("int8: all layers but the head see int8 codes already");
        return Ok(());
    }
    let n_open = Int8::count(draft.graph());
    let mut context = Context { int8: Some(scales), ..Context::default() };
    Int8.apply(draft, &mut context)?;
    let n_left = Int8::count(draft.graph());
    if n_left == n_open {
        let why = "none of this model's layers is in the statistics: they are of another model";
        return Err(bad_input(why));
    }
    if n_left > 0 {
        draft.note(format!(
            "int8: {n_left} of {n_open} layers are not in the statistics: as before"
        ));
    }
    Ok(())
}
