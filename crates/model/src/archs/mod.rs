//! The architectures: what a checkpoint's numbers mean, as a config and a graph.
//!
//! In: GGUF metadata or a `config.json`, and the names of the tensors. Out: a [`Config`] and its
//! [`Graph`]. An architecture is one file, plus one line in [`ARCHS`]; what the Llama family has in
//! common is in `shared/`.

pub mod shared;

pub mod bert;
pub mod bitnet;
pub mod bitnet_gpt;
pub mod llama;
pub mod qwen2;
pub mod qwen3;

#[cfg(test)]
mod tests;

use crate::config::{Config, GgufKeys, JsonKeys};
use crate::{Graph, Role};
use sterna_formats::{FormatError, Metadata};

/// Every architecture.
pub const ARCHS: &[&dyn Arch] = &[
    &llama::Llama,
    &qwen2::Qwen2,
    &qwen3::Qwen3,
    &bitnet::B158,
    &bitnet::SILU,
    &bitnet_gpt::BitNetGpt,
    &bert::Bert,
];

/// A kind of model.
pub trait Arch: Sync {
    /// Its `general.architecture` in GGUF files.
    fn name(&self) -> &'static str;
    /// The `architectures` of a `config.json` that are read as it.
    fn classes(&self) -> &'static [&'static str];
    /// Its hyper-parameters from GGUF metadata.
    ///
    /// # Errors
    /// When a key is missing or asks for something unsupported: the message names it.
    fn config_from_gguf(&self, keys: &GgufKeys<'_>) -> Result<Config, FormatError>;
    /// Its hyper-parameters from a `config.json`.
    ///
    /// # Errors
    /// As [`Arch::config_from_gguf`].
    fn config_from_json(&self, keys: &JsonKeys<'_>) -> Result<Config, FormatError>;
    /// The hyper-parameters as GGUF metadata, so that other engines read the same model.
    fn metadata(&self, config: &Config) -> Metadata {
        crate::config::metadata(self.name(), config)
    }
    /// The graph.
    ///
    /// # Errors
    /// When the numbers of the config do not fit each other.
    fn graph(&self, config: &Config) -> Result<Graph, String>;
    /// The name in a Hugging Face checkpoint of the tensor with this GGUF name, if it has one.
    fn huggingface_name(&self, gguf_name: &str) -> Option<String> {
        shared::names::huggingface(gguf_name)
    }
    /// Whether Hugging Face stores the rows of this weight in another order: it turns features half
    /// a head apart where the GGUF layout turns neighbours.
    fn is_permuted(&self, role: Role) -> bool {
        let _ = role;
        false
    }
}

/// The architecture of that GGUF name.
pub fn by_name(name: &str) -> Option<&'static dyn Arch> {
    ARCHS.iter().copied().find(|a| a.name() == name)
}

/// The architecture of a Hugging Face class.
pub fn by_class(class: &str) -> Option<&'static dyn Arch> {
    ARCHS.iter().copied().find(|a| a.classes().contains(&class))
}

/// What is supported, for messages.
pub fn supported() -> String {
    let one = |arch: &&dyn Arch| match arch.classes() {
        [] => arch.name().to_owned(),
        classes => format!("{} ({})", arch.name(), classes.join(", ")),
    };
    ARCHS.iter().map(one).collect::<Vec<_>>().join("; ")
}
