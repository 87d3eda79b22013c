//! The differentiable form of each op, one file each, written once for every backend.
//!
//! A form computes the same values as the op's `eval`, on tensors `[rows, features]` whose rows are
//! `n_sequences` sequences of `seq_len` tokens, one after the other. Burn derives the gradients.

mod attention;
mod elementwise;
mod embedding;
mod layer_norm;
mod linear;
mod precision;
mod rms_norm;
mod rope;

pub use precision::Precision;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use sterna_model::Op;

/// Sequences of equal length.
#[derive(Clone, Debug)]
pub struct Batch<B: Backend> {
    /// Token ids, `[n_sequences * seq_len]`.
    pub tokens: Tensor<B, 1, Int>,
    /// Sequences.
    pub n_sequences: usize,
    /// Tokens per sequence.
    pub seq_len: usize,
}

/// What a form reads.
pub struct Inputs<'a, B: Backend> {
    /// The op with its attributes.
    pub op: &'a dyn Op,
    /// The rows.
    pub batch: &'a Batch<B>,
    /// One `[rows, features]` tensor per input value (none for the token ids).
    pub values: &'a [Tensor<B, 2>],
    /// One tensor per weight: `[rows, cols]`, vectors as `[1, len]`.
    pub weights: &'a [Tensor<B, 2>],
    /// What [`Form::constants`] made.
    pub constants: &'a [Tensor<B, 2>],
    /// How matrices are multiplied.
    pub precision: Precision,
    /// Whether the node's matrices are stored in blocks, for which the runtime rounds their input.
    pub is_block_encoded: bool,
}

impl<B: Backend> Inputs<'_, B> {
    /// The concrete op.
    fn op<T: 'static>(&self) -> &T {
        self.op.as_any().downcast_ref().expect("the table of forms goes by the op's name")
    }

    /// The first input.
    fn x(&self) -> Tensor<B, 2> {
        self.values[0].clone()
    }
}

/// What the constants of a node are made from.
pub struct ConstantsFrom<'a, B: Backend> {
    /// The op with its attributes.
    pub op: &'a dyn Op,
    /// Features of each input value.
    pub features: &'a [usize],
    /// Tokens per sequence.
    pub seq_len: usize,
    /// The node's weights as plain numbers; only those that are not trained are of use here.
    pub weights: &'a [&'a [f32]],
    /// Where tensors are to lie.
    pub device: &'a B::Device,
}

/// An op on a backend.
pub struct Form<B: Backend> {
    /// The op's name.
    pub op: &'static str,
    /// Tensors that depend on the op and the sequence length only (tables, masks).
    pub constants: fn(&ConstantsFrom<'_, B>) -> Vec<Tensor<B, 2>>,
    /// One tensor per output.
    pub forward: fn(&Inputs<'_, B>) -> Vec<Tensor<B, 2>>,
}

/// Every op that can be trained.
pub fn forms<B: Backend>() -> Vec<Form<B>> {
    vec![
        Form { op: "embedding", constants: none, forward: embedding::forward },
        Form { op: "position_embedding", constants: none, forward: embedding::position },
        Form { op: "linear", constants: none, forward: linear::forward },
        Form { op: "rms_norm", constants: none, forward: rms_norm::forward },
        Form { op: "layer_norm", constants: none, forward: layer_norm::forward },
        Form { op: "rope", constants: rope::constants, forward: rope::forward },
        Form { op: "attention", constants: attention::constants, forward: attention::forward },
        Form { op: "swiglu", constants: none, forward: elementwise::swiglu },
        Form { op: "relu2", constants: none, forward: elementwise::relu2 },
        Form { op: "gelu", constants: none, forward: elementwise::gelu },
        Form { op: "add", constants: none, forward: elementwise::add },
    ]
}

/// The form of an op, if it can be trained.
pub fn by_op<B: Backend>(op: &dyn Op) -> Option<Form<B>> {
    forms().into_iter().find(|form| form.op == op.name())
}

fn none<B: Backend>(_from: &ConstantsFrom<'_, B>) -> Vec<Tensor<B, 2>> {
    Vec::new()
}
