//! Speaks HTTP: OpenAI's routes and llama.cpp's, health and metrics. Knows no tensors.
//!
//! In: models, each an engine with its tokenizer and chat template ([`Served`]). Out: a router
//! ([`router`]) that [`serve`] puts on a socket. What a request asks for is honoured, refused with
//! the parameter's name, or listed in the answer's `warnings`; `tables.rs` says which, per
//! parameter. A client that goes away takes its requests with it.
//!
//! Reading order: `app` is the map of routes; `tables` and `params` what may be asked; `generation`
//! what both ways of generating share; `completions` and `chat` the two ways; `answer` and `sse`
//! how pieces of an engine's answer become a response.
#![forbid(unsafe_code)]

mod app;

mod edge;
mod errors;
mod fresh;
mod keys;
mod model;

mod fields;
mod params;
mod tables;

mod backend;
mod running;

mod asked;
mod generation;
mod hints;

mod completions;

mod chat;
mod controls;
mod conversation;
mod date;
mod marks;
mod python;
mod template;

mod answer;
mod cost;
mod logprobs;
mod sse;

mod health;
mod metrics;
mod pages;
mod sessions;
mod stats;
mod summary;
mod tokens;

#[cfg(test)]
#[path = "../tests/common/vocabulary.rs"]
mod vocabulary;

pub use app::{Options, SetupError, router, serve};
pub use backend::Backend;
pub use model::Served;
