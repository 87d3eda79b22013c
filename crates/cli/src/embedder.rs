//! A model that makes vectors of texts, without a server: what `eval` measures embeddings with.

use crate::compute::ComputeArgs;
use crate::scoring::compiled;
use crate::show::bad_input;
use anyhow::Context;
use std::path::{Path, PathBuf};
use sterna_engine::Pooling;
use sterna_engine::embedding::Pool;
use sterna_model::Model;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Chunk, Logits, Runner, Settings};

/// How a model's embeddings are made of its tokens' states. An encoder that does not say takes the
/// mean, as most do. Another model that does not say is taken to be made for generating: its last
/// token is the only one that has seen all of a text. (llama.cpp makes an embedding per token of
/// such a model, which OpenAI's API has no form for.)
///
/// # Errors
/// When the file asks for a way that is not there: a sentence.
pub fn pooling(model: &Model) -> Result<Pooling, String> {
    let arch = model.metadata.str("general.architecture").unwrap_or_default();
    let key = format!("{arch}.pooling_type");
    let is_encoder = model.graph.is_encoder();
    // llama.cpp's numbers: none, mean, first and last; 4 is a score.
    match model.metadata.u64(&key) {
        None if is_encoder => Ok(Pooling::Mean),
        None => Ok(Pooling::Last),
        Some(0) if !is_encoder => Ok(Pooling::Last),
        Some(1) => Ok(Pooling::Mean),
        Some(2) if is_encoder => Ok(Pooling::First),
        Some(3) => Ok(Pooling::Last),
        Some(other) => Err(format!(
            "{key} is {other}, and only mean (1), last (3) and, for encoders, first (2) are there"
        )),
    }
}

/// Texts computed at once, at most.
const TEXTS_AT_ONCE: usize = 64;

/// Positions of keys and values that a batch of so many texts may take: each has whole pages.
pub fn positions_at_once(settings: &Settings, n_texts: usize) -> usize {
    settings.max_batch_rows.max(settings.context_len) + n_texts * PAGE_LEN
}

/// A model and its runner.
pub struct Embedder {
    path: PathBuf,
    model: Model,
    runner: Runner,
    pooling: Pooling,
}

impl Embedder {
    /// Opens and prepares a model.
    ///
    /// # Errors
    /// When it cannot be read or run, or makes no vectors.
    pub fn open(path: &Path, compute: &ComputeArgs) -> anyhow::Result<Self> {
        let mut compute = compute.clone();
        compute.hidden = true;
        let positions = |_: &Model, settings: &Settings| positions_at_once(settings, TEXTS_AT_ONCE);
        let (model, program) = compiled(path, &compute, &positions)?;
        let pooling =
            pooling(&model).map_err(|why| bad_input(format!("{}: {why}", path.display())))?;
        Ok(Self { path: path.to_owned(), model, runner: Runner::new(program)?, pooling })
    }

    /// The tokens of a text, with those that the model expects around it.
    ///
    /// # Errors
    /// When there are none, or more than fit.
    pub fn tokens(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let tokens = self.model.tokenizer()?.encode(text, true);
        let settings = self.runner.program().settings();
        let most = match self.runner.program().is_encoder() {
            true => settings.context_len.min(settings.max_batch_rows),
            false => settings.context_len,
        };
        if tokens.is_empty() || tokens.len() > most {
            let start: String = text.chars().take(40).collect();
            return Err(bad_input(format!(
                "the text {start:?}... has {} tokens; {} takes 1 to {most}",
                tokens.len(),
                self.path.display()
            )));
        }
        Ok(tokens)
    }

    /// The vectors of texts, of length 1, as many of them at once as fit a batch.
    ///
    /// # Errors
    /// When the model cannot be run.
    pub fn embed(&mut self, texts: &[Vec<u32>]) -> anyhow::Result<Vec<Vec<f32>>> {
        let most = self.runner.program().settings().max_batch_rows;
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut n_rows = 0;
            let fitting = rest.iter().take_while(|text| {
                n_rows += text.len();
                n_rows <= most
            });
            let (now, later) = rest.split_at(fitting.take(TEXTS_AT_ONCE).count().max(1));
            self.call(now, &mut vectors)?;
            rest = later;
        }
        Ok(vectors)
    }

    fn call(&mut self, texts: &[Vec<u32>], vectors: &mut Vec<Vec<f32>>) -> anyhow::Result<()> {
        let sequences: Vec<_> = texts.iter().map(|_| self.runner.new_sequence()).collect();
        let logits = match self.pooling {
            Pooling::Last => Logits::LastHidden,
            Pooling::Mean | Pooling::First => Logits::AllHidden,
        };
        let of = sequences.iter().zip(texts);
        let chunks: Vec<_> =
            of.map(|(&sequence, tokens)| Chunk { sequence, tokens, logits }).collect();
        self.runner.forward(&chunks)?;
        let len = self.runner.program().hidden_len().context("the program keeps states")?;
        let mut states = self.runner.hidden().chunks_exact(len);
        for text in texts {
            let mut pool = Pool::default();
            let n_told = logits.count_hidden(text.len());
            let n_pooled = if self.pooling == Pooling::First { 1 } else { n_told };
            let told: Vec<&[f32]> = states.by_ref().take(n_told).collect();
            told[..n_pooled].iter().for_each(|state| pool.add(state));
            let vector = pool.embedding();
            anyhow::ensure!(
                vector.iter().all(|x| x.is_finite()),
                "{} makes a vector that is not of numbers; it is damaged",
                self.path.display()
            );
            vectors.push(vector);
        }
        for sequence in sequences {
            self.runner.free(sequence)?;
        }
        Ok(())
    }
}
