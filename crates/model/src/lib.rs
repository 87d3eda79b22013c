//! What a model means: its graph, ops, architectures, tokenizer, Plan and Artifact.
//!
//! In: a [`sterna_formats::Checkpoint`]. Out: a [`Model`] that `runtime` can run and `optimize` can
//! edit. How it runs is not known here.
#![forbid(unsafe_code)]

pub mod archs;
pub mod config;
pub mod graph;
pub mod model;
pub mod ops;
pub mod patch;
pub mod rewrites;
pub mod tokenizer;
pub mod weights;
pub mod write;

pub use graph::eval_graph;
pub use graph::{Graph, Node, NodeId, ValueId, WeightDecl, WeightId};
pub use model::Model;
pub use ops::{Cost, Op};
pub use tokenizer::Tokenizer;
pub use weights::{Role, WeightSource, WeightView};
pub use write::write_gguf;
