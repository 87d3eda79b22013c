//! What a model means: its graph, ops, architectures, tokenizer, Plan and Artifact.
//!
//! In: a [`sterna_formats::Checkpoint`]. Out: a [`Model`] that `runtime` can run and `optimize` can
//! edit. How it runs is not known here.
#![forbid(unsafe_code)]

pub mod graph;
pub mod ops;
pub mod tokenizer;
pub mod weights;

pub use graph::{Graph, Node, NodeId, ValueId, WeightDecl, WeightId};
pub use ops::{Cost, Op};
pub use tokenizer::Tokenizer;
pub use weights::{Role, WeightSource, WeightView};
