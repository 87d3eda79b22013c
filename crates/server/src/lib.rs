//! Speaks HTTP: the routes of OpenAI, Anthropic, Ollama and llama.cpp, health and metrics. Knows no
//! tensors.
//!
//! In: models, each an engine with its tokenizer and chat template ([`Served`]), kept by whoever is
//! the [`Models`]. Out: a router ([`router`]) that [`serve`] puts on a socket. What a request asks
//! for is honoured, refused with the parameter's name, or listed in the answer's `warnings`;
//! `tables.rs` says which, per parameter. A client that goes away takes its requests with it.
//!
//! Reading order: `routes` is the map of routes; `tables` and `params` what may be asked;
//! `generation` what both ways of generating share; `completions` and `chat` the two ways; `answer`
//! and `sse` how pieces of an engine's answer become a response. `translation` puts what other APIs
//! are asked into a chat's words, and `telling` says the answer in theirs: `responses`, `messages`,
//! `ollama`. `models` is who keeps models in memory, and `agents` who asks.
#![forbid(unsafe_code)]

mod app;
mod routes;

mod access;
mod body;
mod cors;
mod dialect;
mod edge;
mod errors;
mod fresh;
mod groups;
mod keys;

mod agents;
mod keep_alive;
mod metered;
mod model;
mod models;
mod past;
mod quotas;
mod trace;
mod traces;

mod fields;
mod params;
mod tables;

mod backend;
mod running;

mod asked;
mod constraints;
mod gbnf;
mod generation;
mod hints;
mod posted;
mod prediction;
mod queried;

mod completions;
mod embeddings;

pub mod calls;
mod chat;
mod controls;
mod conversation;
mod date;
mod marks;
mod messages;
mod ollama;
mod python;
mod reading;
mod reasoning;
mod responses;
mod template;
mod tools;
mod translation;

mod answer;
mod cost;
mod logprobs;
mod sse;
mod telling;

mod cache;
mod changes;
mod health;
mod metrics;
mod openapi;
mod ops;
mod pages;
mod process;
mod sessions;
mod stats;
mod summary;
mod tokens;

mod incoming;
mod patient;
mod serve;
mod tls;

#[cfg(test)]
#[path = "../tests/common/vocabulary.rs"]
mod vocabulary;

pub use access::{Access, Noted};
pub use agents::{Agent, Agents};
pub use app::{Options, OptionsError, router};
pub use backend::Backend;
pub use cache::{CacheStats, InMemory, LOAD_BOUNDS};
pub use cors::check_origin;
pub use cost::Cost;
pub use incoming::{Connection, Incoming};
pub use keep_alive::KeepAlive;
pub use keys::Keys;
pub use model::{Lease, Model, Served};
pub use models::{Evidence, Listed, Models, Status, Unavailable, Waiting};
pub use past::{Counted, Past};
pub use quotas::Quotas;
pub use serve::serve;
pub use tls::{Tls, TlsError};
pub use trace::TraceParent;
pub use traces::{Collected, Traces};
