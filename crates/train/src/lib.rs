//! Runs a model's graph differentiably on Burn: training, quantization-aware training,
//! distillation.
//!
//! In: a graph of `model`, text, a configuration. Out: trained weights, written by `model`. This is
//! the only crate that knows Burn.
#![forbid(unsafe_code)]

pub mod config;
pub mod data;
pub mod text;
pub mod tokenizer;

pub mod forms;
pub mod init;
pub mod net;
pub mod quant;

pub mod loss;
pub mod optim;
pub mod schedule;

pub mod distill;
pub mod qad;
pub mod teacher;

pub mod state;
pub mod trainer;

pub mod backend;
pub mod export;
pub mod session;
pub mod shape;
pub mod throughput;

mod error;
mod matrix;

pub use config::Config;
pub use error::TrainError;
pub use net::Net;
pub use session::Session;
