//! What a model means: its graph, ops, architectures, tokenizer, Plan and Artifact.
//!
//! In: a [`sterna_formats::Checkpoint`]. Out: a [`Model`] that `runtime` can run and `optimize` can
//! edit. How it runs is not known here.
#![forbid(unsafe_code)]

pub mod graph;
pub mod ops;
pub mod weights;

pub mod archs;
pub mod config;
pub mod model;
pub mod presets;
pub mod tokenizer;

pub mod patch;
pub mod rewrites;

pub mod artifact;
pub mod plan;
pub mod write;

#[cfg(test)]
mod testing;

pub use archs::{ARCHS, Arch};
pub use artifact::Artifact;
pub use config::Config;
pub use graph::{Graph, Node, NodeId, ValueId, WeightDecl, WeightId, eval_graph};
pub use model::Model;
pub use ops::{Cost, Op};
pub use plan::{Plan, content_hash};
pub use tokenizer::Tokenizer;
pub use weights::{Role, WeightSource, WeightView};
pub use write::{write_gguf, write_new_gguf};
