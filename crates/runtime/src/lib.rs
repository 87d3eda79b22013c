//! Runs a graph on this machine: rewrite, lower, pack, arena, KV pages, thread team, execute.
//!
//! In: a graph and the bytes of its weights. Out: a [`Program`], from which any number of
//! [`Runner`]s compute logits for chunks of sequences. The numbers are defined by the encodings and
//! the kernels' fixed orders of addition, never by how the work is divided: threads, ISA, batch
//! composition, prefill chunking, KV pages and fusing change no bit of a logit. What can change
//! them is the precision of the KV cache, which is a setting, and nothing else here.
#![deny(unsafe_code)]

pub mod error;
pub mod settings;

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

pub mod program;

pub mod exec;
pub mod profile;
pub mod sample;

pub use cache::Cache;
pub use error::RuntimeError;
pub use exec::{Chunk, Logits, Runner};
pub use kv::SequenceId;
pub use profile::Profile;
pub use program::{Memory, Program};
pub use region::Lines;
pub use sample::{Sampler, SamplerSettings};
pub use settings::{KvEncoding, Settings};
