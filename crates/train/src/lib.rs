//! Runs a model's graph differentiably on Burn: training, quantization-aware training,
//! distillation.
//!
//! In: a graph of `model`, text, a configuration. Out: trained weights, written by `model`. This is
//! the only crate that knows Burn.
#![forbid(unsafe_code)]

pub mod text;

pub mod tokenizer;

pub mod teacher;
