//! What runs models while they are searched for and proven: a seam between search and run time.
//!
//! In: a graph and its weights. Out: something that scores and generates. `runner` is the real one;
//! tests use the plain evaluation of `sterna_model`.

use crate::error::Result;
use std::time::Duration;
use sterna_measure::LanguageModel;
use sterna_model::{Graph, WeightId, WeightSource};

/// Who looks at what matrices read.
pub type See<'a> = &'a mut dyn FnMut(&[WeightId], usize, &[f32]);

/// Makes models runnable.
pub trait Engine: Sync {
    /// Prepares a model; what it needs of the weights is taken now.
    ///
    /// # Errors
    /// When it cannot be run here.
    fn load(&self, graph: &Graph, weights: &dyn WeightSource) -> Result<Box<dyn Loaded>>;
    /// Runs documents, and shows what linear layers read: their matrices, the features of a row,
    /// and rows, `[rows, features]`, in the order of the graph. Each token's logits are computed,
    /// so that the head reads all of them too. `told` is called after each document with how many
    /// are done.
    ///
    /// # Errors
    /// When the model cannot be run here, or whoever is told wants no more.
    fn observe(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        documents: &[&[u32]],
        see: See<'_>,
        told: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()>;
    /// Optimizations of how one sequence is run that are on and change no number.
    fn optimizations(&self) -> Vec<String>;
    /// The same engine with some of them off.
    ///
    /// # Errors
    /// When there is no such optimization.
    fn without(&self, names: &[String]) -> Result<Box<dyn Engine>>;
    /// How keys and values are kept, as Plans name it: `F16`, `F32`, `Q8_0`.
    fn kv(&self) -> String;
    /// The same engine that keeps them otherwise.
    ///
    /// # Errors
    /// When there is no such encoding.
    fn with_kv(&self, kv: &str) -> Result<Box<dyn Engine>>;
    /// Tokens that a sequence may have.
    fn context_len(&self) -> usize;
    /// Threads in use.
    fn n_threads(&self) -> usize;
    /// A name for everything that may change how long a step takes, besides threads and kernels.
    fn choices(&self) -> String;
    /// The kernels in use: `scalar`, `avx2`, `avx512`.
    fn isa(&self) -> String;
}

/// A model ready to run.
pub trait Loaded: LanguageModel {
    /// Runs `prompt` as a fresh sequence, then generates `n` tokens greedily; `on_token` is called
    /// after each.
    ///
    /// # Errors
    /// Whatever the runner reports, as a sentence.
    fn generate(
        &mut self,
        prompt: &[u32],
        n: usize,
        on_token: &mut dyn FnMut(),
    ) -> std::result::Result<(), String>;
    /// The same, timed step by step; `None` where the engine has no steps.
    ///
    /// # Errors
    /// Whatever the runner reports, as a sentence.
    fn profile(&mut self, prompt: &[u32], n: usize) -> std::result::Result<Option<Timed>, String> {
        let _ = (prompt, n);
        Ok(None)
    }
    /// A prompt as a fresh sequence up to its first token, timed step by step; `None` where the
    /// engine has no steps.
    ///
    /// # Errors
    /// Whatever the runner reports, as a sentence.
    fn profile_prompt(&mut self, prompt: &[u32]) -> std::result::Result<Option<Timed>, String> {
        let _ = prompt;
        Ok(None)
    }
}

/// How long generated tokens took, or prompts up to their first token.
#[derive(Debug, Clone, Default)]
pub struct Timed {
    /// Each, its choice included.
    pub tokens: Vec<Duration>,
    /// All of them, by the name of the node that a step belongs to.
    pub steps: Vec<(String, Duration)>,
}
