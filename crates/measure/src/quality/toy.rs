//! A language model small enough to work out by hand: its logits depend on the last token only.

use crate::LanguageModel;

/// Row `t` of `table` predicts what follows token `t`.
#[derive(Debug, Clone)]
pub(crate) struct Bigram {
    pub table: Vec<Vec<f32>>,
    pub n_context: usize,
}

impl Bigram {
    /// Some fixed, uneven logits.
    pub fn new(n_vocab: usize) -> Self {
        let logit = |i: usize, j: usize| ((i * 7 + j * j * 3) % 11) as f32 * 0.4;
        let table = (0..n_vocab).map(|i| (0..n_vocab).map(|j| logit(i, j)).collect()).collect();
        Self { table, n_context: 64 }
    }

    /// The same model with every logit moved a little, worse or better by chance.
    pub fn disturbed(&self, size: f32) -> Self {
        let mut other = self.clone();
        for (i, row) in other.table.iter_mut().enumerate() {
            for (j, logit) in row.iter_mut().enumerate() {
                *logit += size * if (i * 5 + j * 3) % 7 < 3 { 1.0 } else { -1.0 };
            }
        }
        other
    }
}

impl LanguageModel for Bigram {
    fn vocab_len(&self) -> usize {
        self.table.len()
    }

    fn context_len(&self) -> usize {
        self.n_context
    }

    fn score(&mut self, tokens: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), String> {
        tokens.iter().enumerate().for_each(|(at, t)| sink(at, &self.table[*t as usize]));
        Ok(())
    }
}
