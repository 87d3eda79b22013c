//! Text becomes batches of token windows, in an order that the seed and the step alone decide.
//!
//! In: text files (plain or `.gz`), a tokenizer. Out: a [`Corpus`] of token ids, and for any step
//! its windows of `seq_len + 1` tokens: so a resumed run sees exactly what the first would have.

#[cfg(test)]
mod tests;

use crate::config::Data;
use crate::{TrainError, text};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;
use sterna_model::Tokenizer;

/// The most text a run reads from its training or its held-out files: tokens are kept in memory.
const MAX_TEXT_BYTES: u64 = 8 << 30;

/// What to do with more.
const TOO_LONG: &str = "together the files may hold 8 GiB; name fewer, or cut them";

/// Tokens to learn from, and tokens that are only judged on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// Trained on.
    pub train: Vec<u32>,
    /// Never trained on.
    pub held_out: Vec<u32>,
}

impl Corpus {
    /// Reads and encodes the texts of a config.
    ///
    /// # Errors
    /// When a file cannot be read, is no UTF-8, or there is too little text for one window.
    pub fn open(config: &Data, tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        if config.text.is_empty() {
            let fix = "name text files in data.text, e.g. --set data.text=book.txt";
            return Err(TrainError::Input(format!("there is no text to train on: {fix}")));
        }
        let mut train = encode_files(&config.text, tokenizer)?;
        let held_out = if config.held_out.is_empty() {
            let n = (train.len() as f64 * config.held_out_fraction) as usize;
            train.split_off(train.len() - n)
        } else {
            encode_files(&config.held_out, tokenizer)?
        };
        let corpus = Self { train, held_out };
        let need = config.seq_len + 1;
        for (what, n) in [("to train on", corpus.train.len()), ("held out", corpus.held_out.len())]
        {
            if n < need {
                return Err(TrainError::Input(format!(
                    "there is too little text: {n} tokens are {what}, and one window of \
                     data.seq_len {} takes {need}; give more text or a smaller data.seq_len",
                    config.seq_len
                )));
            }
        }
        Ok(corpus)
    }

    /// The held-out text in order, cut into at most `limit` windows of `seq_len + 1` tokens spread
    /// over it, each overlapping the next by the token that is only predicted.
    pub fn held_out_windows(&self, seq_len: usize, limit: usize) -> Vec<&[u32]> {
        let n = (self.held_out.len() - 1) / seq_len;
        let stride = n.div_ceil(limit.max(1)).max(1);
        let window = |w: usize| &self.held_out[w * seq_len..=(w + 1) * seq_len];
        (0..n).step_by(stride).map(window).collect()
    }
}

/// The order of training windows.
#[derive(Clone, Debug)]
pub struct Windows {
    n_tokens: usize,
    seq_len: usize,
    seed: u64,
    shifts: bool,
    /// The epoch whose order is in `starts`.
    epoch: Option<usize>,
    starts: Vec<usize>,
}

impl Windows {
    /// Windows of `seq_len + 1` tokens over `n_tokens` tokens. Where it `shifts`, every epoch cuts
    /// the text at another place; else all have the same windows, in other orders.
    pub fn new(n_tokens: usize, seq_len: usize, seed: u64, shifts: bool) -> Self {
        assert!(n_tokens > seq_len, "Corpus::open has checked this");
        Self { n_tokens, seq_len, seed, shifts, epoch: None, starts: Vec::new() }
    }

    /// Windows in one pass over the text.
    pub fn per_epoch(&self) -> usize {
        // One less than would fit, so that every epoch may start at another token.
        ((self.n_tokens - 1) / self.seq_len).saturating_sub(1).max(1)
    }

    /// Where the `index`-th window of the run starts. Every epoch shuffles the windows.
    pub fn start(&mut self, index: usize) -> usize {
        let epoch = index / self.per_epoch();
        if self.epoch != Some(epoch) {
            let mix = (epoch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = StdRng::seed_from_u64(self.seed ^ mix);
            let spare = self.n_tokens - 1 - self.per_epoch() * self.seq_len;
            let last = if self.shifts { spare.min(self.seq_len - 1) } else { 0 };
            let offset = random.random_range(0..=last);
            self.starts = (0..self.per_epoch()).map(|w| offset + w * self.seq_len).collect();
            self.starts.shuffle(&mut random);
            self.epoch = Some(epoch);
        }
        self.starts[index % self.per_epoch()]
    }
}

fn encode_files(paths: &[PathBuf], tokenizer: &Tokenizer) -> Result<Vec<u32>, TrainError> {
    let (mut tokens, mut left) = (Vec::new(), MAX_TEXT_BYTES);
    for path in paths {
        let text = text::read(path, left, TOO_LONG).map_err(TrainError::Input)?;
        left -= text.len() as u64;
        tokens.extend(tokenizer.encode_special(&text, false, true));
        tokens.extend(tokenizer.eos());
    }
    Ok(tokens)
}
