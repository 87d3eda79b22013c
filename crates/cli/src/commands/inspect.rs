//! `sterna inspect`: what a model file holds.

use crate::show;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::summary::Share;
use sterna_formats::{Checkpoint, Metadata, Stored, TensorInfo, Value};
use sterna_model::Model;

/// Show what a model file holds: architecture, sizes, encodings, tensors, metadata. Tensor data is
/// not read unless --validate asks for it.
#[derive(clap::Args)]
pub struct Args {
    /// GGUF file, safetensors file, Hugging Face directory or llama2.c .bin.
    model: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// List every metadata key.
    #[arg(long)]
    metadata: bool,
    /// Print the graph the architecture builds.
    #[arg(long)]
    graph: bool,
    /// Read all weights and report values that are not finite.
    #[arg(long)]
    validate: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the file is damaged or, with --graph, no model Sterna understands.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.model)?;
    if args.validate {
        checkpoint.validate(&checkpoint.tensors)?;
    }
    if args.json {
        show::json(&as_json(&checkpoint))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: {}", args.model.display(), checkpoint.container);
    summary(&checkpoint);
    if args.validate {
        println!("every value is finite");
    }
    if args.tensors {
        println!("\n{}", tensor_table(&checkpoint.tensors));
    }
    if args.metadata {
        println!();
        for (key, value) in checkpoint.metadata.iter() {
            println!("{key} = {}", shorten(value));
        }
    }
    understood(checkpoint, args.graph)
}

/// What the architecture makes of it, or why it cannot.
fn understood(checkpoint: Checkpoint, print_graph: bool) -> anyhow::Result<ExitCode> {
    match Model::from_checkpoint(checkpoint) {
        Ok(model) => {
            let c = &model.config;
            println!(
                "model: {} ({}), {} layers, width {}, ffn {}, {} heads ({} KV) of {}, vocabulary \
                 {}, context {}",
                model.name,
                model.arch.name(),
                c.n_layers,
                c.dim,
                c.ffn_dim,
                c.n_heads,
                c.n_kv_heads,
                c.head_dim,
                c.vocab_len,
                c.context_len
            );
            for warning in &model.warnings {
                eprintln!("warning: {warning}");
            }
            if print_graph {
                println!("\n{}", model.graph.print());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if print_graph => Err(error.into()),
        Err(error) => {
            println!("not a model Sterna can run: {error}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn summary(checkpoint: &Checkpoint) {
    let mut table = show::table(&["encoding", "tensors", "values", "bytes", "bits/weight"]);
    let summary = checkpoint.summary();
    let mut row = |name: String, share: &Share| {
        table.add_row([
            name,
            share.n_tensors.to_string(),
            share.n_values.to_string(),
            show::bytes(share.n_bytes),
            share.bits().map_or("-".into(), |bits| format!("{bits:.3}")),
        ]);
    };
    for (stored, share) in &summary.shares {
        row(stored.to_string(), share);
    }
    row("all".into(), &summary.total);
    println!("{table}");
}

fn tensor_table(tensors: &[TensorInfo]) -> comfy_table::Table {
    let mut table = show::table(&["tensor", "shape", "encoding", "bytes"]);
    for tensor in tensors {
        table.add_row([
            tensor.name.clone(),
            format!("{:?}", tensor.shape),
            tensor.stored.to_string(),
            tensor.n_bytes.to_string(),
        ]);
    }
    table
}

/// A value in at most a line.
fn shorten(value: &Value) -> String {
    if let Value::Array(array) = value {
        return format!("array of {}", array.len());
    }
    let text = match value {
        Value::Str(text) => format!("{text:?}"),
        other => format!("{other:?}"),
    };
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
        None => text,
    }
}

fn as_json(checkpoint: &Checkpoint) -> serde_json::Value {
    let share = |(stored, share): &(Stored, Share)| {
        let (n, values, bytes) = (share.n_tensors, share.n_values, share.n_bytes);
        let facts = serde_json::json!({ "tensors": n, "values": values, "bytes": bytes });
        (stored.to_string(), facts)
    };
    let encodings: BTreeMap<_, _> = checkpoint.summary().shares.iter().map(share).collect();
    let tensors: Vec<_> = checkpoint
        .tensors
        .iter()
        .map(|t| {
            serde_json::json!({
                "name": t.name,
                "shape": t.shape,
                "encoding": t.stored.to_string(),
                "bytes": t.n_bytes,
            })
        })
        .collect();
    serde_json::json!({
        "path": checkpoint.path,
        "container": checkpoint.container,
        "metadata": metadata_json(&checkpoint.metadata),
        "encodings": encodings,
        "tensors": tensors,
    })
}

fn metadata_json(metadata: &Metadata) -> BTreeMap<String, String> {
    metadata.iter().map(|(key, value)| (key.to_owned(), shorten(value))).collect()
}
