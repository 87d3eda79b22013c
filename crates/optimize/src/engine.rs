//! What runs models while they are searched for and proven: a seam between search and run time.
//!
//! In: a graph and its weights. Out: something that scores and generates. `runner` is the real one;
//! tests use the plain evaluation of `sterna_model`.

use crate::error::Result;
use sterna_measure::LanguageModel;
use sterna_model::{Graph, WeightSource};

/// Makes models runnable.
pub trait Engine: Sync {
    /// Prepares a model; what it needs of the weights is taken now.
    ///
    /// # Errors
    /// When it cannot be run here.
    fn load(&self, graph: &Graph, weights: &dyn WeightSource) -> Result<Box<dyn Loaded>>;
    /// Threads in use.
    fn n_threads(&self) -> usize;
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
}
