//! Runs a graph on this machine: rewrite, lower, pack, arena, KV pages, thread team, execute.
//!
//! In: a graph and the bytes of its weights. Out: a [`Program`], from which any number of
//! [`Runner`]s compute logits for chunks of sequences. The numbers are defined by the encodings and
//! the kernels' fixed orders of addition, never by how the work is divided: threads, ISA, batch
//! composition, prefill chunking, KV pages and fusing change no bit of a logit. What can change
//! them are three settings: the precision of the KV cache, and, off unless asked for, a budget for
//! packing float weights in 8 bits and bf16 dots.
#![deny(unsafe_code)]

pub mod error;
pub mod flags;
pub mod settings;
pub mod tuning;

// The one address of unsafe code in this crate.
#[allow(unsafe_code)]
pub mod team;

pub mod region;

pub mod lower;

pub mod fuse;

pub mod steps;

pub mod arena;

pub mod kv;

pub mod cache;
pub mod pack;
pub mod precision;

pub mod program;

mod ahead;
pub mod chunk;
pub mod exec;
pub mod profile;
pub mod sample;
mod walk;

pub use cache::Cache;
pub use chunk::{Chunk, Logits, PagedChunk};
pub use error::RuntimeError;
pub use exec::Runner;
pub use flags::{FLAGS, Flags, OptLevel};
pub use kv::SequenceId;
pub use profile::Profile;
pub use program::{Means, Memory, Program};
pub use region::Lines;
pub use sample::{Sampler, SamplerMemory, SamplerSettings};
pub use settings::Settings;
pub use sterna_kernels::attention::KvEncoding;
pub use tuning::{KNOBS, Tuning};
