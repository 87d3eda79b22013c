//! What architectures of the Llama family have in common.

pub mod names;
