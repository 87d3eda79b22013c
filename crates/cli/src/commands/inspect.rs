//! `sterna inspect`: what a model file holds.

use crate::show;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::{Checkpoint, Metadata, TensorInfo, Value};
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

/// Per encoding: tensors, values, bytes.
fn by_encoding(tensors: &[TensorInfo]) -> BTreeMap<String, (usize, u64, u64)> {
    let mut sums: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
    for tensor in tensors {
        let sum = sums.entry(tensor.stored.to_string()).or_default();
        sum.0 += 1;
        sum.1 += tensor.n_values() as u64;
        sum.2 += tensor.n_bytes as u64;
    }
    sums
}

fn summary(checkpoint: &Checkpoint) {
    let mut table = show::table(&["encoding", "tensors", "values", "bytes", "bits/weight"]);
    let sums = by_encoding(&checkpoint.tensors);
    for (name, (n, values, bytes)) in &sums {
        let bits = *bytes as f64 * 8.0 / (*values).max(1) as f64;
        table.add_row([
            name.clone(),
            n.to_string(),
            values.to_string(),
            show::bytes(*bytes),
            format!("{bits:.3}"),
        ]);
    }
    let values: u64 = sums.values().map(|s| s.1).sum();
    let bytes: u64 = sums.values().map(|s| s.2).sum();
    table.add_row([
        "all".into(),
        checkpoint.tensors.len().to_string(),
        values.to_string(),
        show::bytes(bytes),
        format!("{:.3}", bytes as f64 * 8.0 / values.max(1) as f64),
    ]);
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
    let encodings: BTreeMap<_, _> = by_encoding(&checkpoint.tensors)
        .into_iter()
        .map(|(name, (n, values, bytes))| {
            (name, serde_json::json!({ "tensors": n, "values": values, "bytes": bytes }))
        })
        .collect();
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
