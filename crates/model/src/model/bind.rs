//! Binding: which tensor of the checkpoint each weight of the graph is, and what has to happen to
//! its bytes to be in the graph's layout.
//!
//! BitNet's matrices are a case of their own, in `ternary.rs`: Hugging Face checkpoints hold the
//! numbers that training works on, or ternary codes packed in their own way, as bitnet.cpp does.

mod ternary;

use crate::archs::Arch;
use crate::config::Config;
use crate::{Graph, Role, WeightDecl, WeightId};
use std::borrow::Cow;
use std::collections::HashSet;
use sterna_formats::encodings::float32::F32;
use sterna_formats::{Checkpoint, EncodingRef, FormatError, TensorInfo};

/// Where a weight comes from.
pub enum Binding {
    /// A tensor of the checkpoint.
    Stored {
        /// Which.
        tensor: Box<TensorInfo>,
        /// How it is stored.
        encoding: EncodingRef,
        /// Vectors are small and always F32 here, as GGUF has them.
        as_f32: bool,
        /// Rows to be put in GGUF's order, by heads of this many.
        head_dim: Option<usize>,
    },
    /// A matrix of the checkpoint that the graph computes with as ternary.
    Ternary(ternary::Ternary),
    /// F32 numbers made from the config.
    Made(Vec<u8>),
}

impl Binding {
    /// The checkpoint's tensor, if it is one.
    pub fn tensor(&self) -> Option<&TensorInfo> {
        match self {
            Binding::Stored { tensor, .. } => Some(tensor),
            Binding::Ternary(ternary) => Some(&ternary.tensor),
            Binding::Made(_) => None,
        }
    }

    /// The encoding of [`Binding::bytes`].
    pub fn encoding(&self) -> EncodingRef {
        match *self {
            Binding::Stored { encoding, as_f32: false, .. } => encoding,
            Binding::Ternary(ref ternary) => ternary.encoding(),
            _ => &F32,
        }
    }

    /// The bytes in the graph's layout; borrowed where the file has them so.
    pub fn bytes<'a>(&'a self, checkpoint: &'a Checkpoint) -> Cow<'a, [u8]> {
        let (tensor, encoding, as_f32, head_dim) = match self {
            Binding::Made(bytes) => return Cow::Borrowed(bytes),
            Binding::Ternary(ternary) => return Cow::Owned(ternary.bytes(checkpoint)),
            Binding::Stored { tensor, encoding, as_f32, head_dim } => {
                (tensor, *encoding, *as_f32, *head_dim)
            }
        };
        let stored = checkpoint.bytes(tensor);
        let bytes = if as_f32 && encoding != (&F32 as EncodingRef) {
            let mut values = vec![0.0; tensor.n_values()];
            encoding.decode(stored, &mut values);
            Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
        } else {
            Cow::Borrowed(stored)
        };
        match head_dim {
            Some(head_dim) => Cow::Owned(interleaved(&bytes, tensor.shape[0], head_dim)),
            None => bytes,
        }
    }
}

/// Puts each head's rows `[first half, second half]` in the order first, second, first, ...: what
/// Hugging Face turns in pairs `(i, i + head_dim / 2)` then turns in pairs `(2i, 2i + 1)`.
fn interleaved(bytes: &[u8], n_rows: usize, head_dim: usize) -> Vec<u8> {
    let row_bytes = bytes.len() / n_rows;
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(head_dim * row_bytes) {
        let (first, second) = head.split_at(head.len() / 2);
        for (a, b) in first.chunks_exact(row_bytes).zip(second.chunks_exact(row_bytes)) {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
        }
    }
    out
}

/// Binds every weight of the graph.
///
/// # Errors
/// When a tensor is missing, misshapen, or in an encoding that Sterna cannot read.
pub fn all(
    checkpoint: &Checkpoint,
    arch: &dyn Arch,
    config: &Config,
    graph: &Graph,
) -> Result<Vec<Binding>, FormatError> {
    // A bias is permuted with its matrix, so it takes the role of the matrix of its name.
    let role_of = |decl: &WeightDecl| match decl.role {
        Role::Bias => {
            let matrix = decl.name.replace(".bias", ".weight");
            graph.find_weight(&matrix).map_or(Role::Bias, |id| graph.decl(id).role)
        }
        role => role,
    };
    let bit_matrices = graph.bit_matrices();
    let bind = |id: WeightId| {
        let decl = graph.decl(id);
        if bit_matrices.contains(&id) {
            if checkpoint.config.is_some() {
                let name = file_name(checkpoint, arch, &decl.name);
                return ternary::Ternary::find(checkpoint, name, decl).map(Binding::Ternary);
            }
            if let Some(ternary) = ternary::Ternary::find_i2_s(checkpoint, decl)? {
                return Ok(Binding::Ternary(ternary));
            }
        }
        if let (Role::RopeFactors, Some(llama3)) = (decl.role, config.llama3) {
            let factors = llama3.factors(config.rope_base, config.rotary_dim);
            return Ok(Binding::Made(factors.iter().flat_map(|f| f.to_le_bytes()).collect()));
        }
        let permuted = checkpoint.config.is_some() && arch.is_permuted(role_of(decl));
        stored(checkpoint, arch, decl, permuted.then_some(config.head_dim))
    };
    graph.weight_ids().map(bind).collect()
}

fn stored(
    checkpoint: &Checkpoint,
    arch: &dyn Arch,
    decl: &WeightDecl,
    head_dim: Option<usize>,
) -> Result<Binding, FormatError> {
    let tensor = named(checkpoint, &file_name(checkpoint, arch, &decl.name), &decl.shape)?;
    let as_f32 = decl.shape.len() == 1;
    let encoding = checkpoint.encoding(tensor)?;
    let tensor = Box::new(tensor.clone());
    Ok(Binding::Stored { tensor, encoding, as_f32, head_dim })
}

/// The tensor of that name, if it is of the shape.
fn named<'a>(
    checkpoint: &'a Checkpoint,
    name: &str,
    expected: &[usize],
) -> Result<&'a TensorInfo, FormatError> {
    let Some(tensor) = checkpoint.tensor(name) else {
        let problem = format!("tensor {name} of shape {expected:?} is missing");
        let fix = "the model is incomplete, download or convert it again";
        return Err(FormatError::new(&checkpoint.path, problem, fix));
    };
    if tensor.shape != expected {
        let problem = format!("tensor {name} has shape {:?}, expected {expected:?}", tensor.shape);
        let fix = "weights and hyper-parameters are of different models, get both from one source";
        return Err(FormatError::new(checkpoint.file_of(tensor).path(), problem, fix));
    }
    Ok(tensor)
}

/// The name of a GGUF-named tensor in this checkpoint.
fn file_name(checkpoint: &Checkpoint, arch: &dyn Arch, name: &str) -> String {
    match checkpoint.config {
        Some(_) => arch.huggingface_name(name).unwrap_or_else(|| name.to_owned()),
        None => name.to_owned(),
    }
}

/// One sentence naming the tensors that the graph does not read, if there are any.
pub fn unused(
    checkpoint: &Checkpoint,
    arch: &dyn Arch,
    graph: &Graph,
    bindings: &[Binding],
) -> Vec<String> {
    let mut used: HashSet<String> =
        graph.weights.iter().map(|w| file_name(checkpoint, arch, &w.name)).collect();
    used.extend(bindings.iter().filter_map(|binding| match binding {
        Binding::Ternary(ternary) => ternary.scale_name(),
        _ => None,
    }));
    let unused: Vec<&str> = checkpoint
        .tensors
        .iter()
        .map(|t| t.name.as_str())
        // Derived from the config; old checkpoints stored them beside the weights.
        .filter(|name| !used.contains(*name) && !name.ends_with("rotary_emb.inv_freq"))
        .collect();
    match unused.as_slice() {
        [] => Vec::new(),
        [first, ..] => vec![format!(
            "{} tensors are not part of the {} graph and are left out, e.g. {first}",
            unused.len(),
            arch.name()
        )],
    }
}
