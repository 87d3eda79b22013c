//! Which tokens are run together and which of them are scored: the convention behind a perplexity.
//!
//! In: a workload and a [`Scoring`]. Out: [`Passages`]. Two tools that disagree on a perplexity
//! mostly disagree here, so the convention is part of every figure's method.

use crate::{MeasureError, Workload};
use serde::{Deserialize, Serialize};

/// The convention. A workload's documents hold text only; a BOS is added here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scoring {
    /// Each document is a sequence of its own and every token that has a prediction is scored,
    /// but for the first `n_unscored` predictions. With a BOS the first token has a prediction.
    Documents {
        /// Put before each document.
        bos: Option<u32>,
        /// Predictions left out at the start of each document.
        n_unscored: usize,
    },
    /// llama-perplexity's: the text is one stream, cut into chunks of `n_ctx` tokens, a rest left
    /// out. In each chunk the first token gives way to the BOS, and only the tokens after position
    /// `n_ctx / 2` are scored, so that each has at least that much before it. (That tool puts one
    /// BOS before the stream as well; so does this, since it shifts every chunk by one.) On
    /// stories260K and 28 chunks of 128 it printed 4.3960 +/- 0.18926, and these chunks give 4.3963
    /// +/- 0.18928 in f64.
    Windows {
        /// The chunk length; scores `n_ctx - 1 - n_ctx / 2` tokens each.
        n_ctx: usize,
        /// Replaces each chunk's first token.
        bos: Option<u32>,
    },
}

/// One sequence to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// What the model is given.
    pub tokens: Vec<u32>,
    /// The tokens from this index on are scored; at least 1.
    pub first_scored: usize,
}

impl Passage {
    /// How many tokens are scored.
    pub fn n_scored(&self) -> usize {
        self.tokens.len().saturating_sub(self.first_scored)
    }
}

/// A workload ready to be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Passages {
    workload: Workload,
    scoring: Scoring,
    passages: Vec<Passage>,
}

impl Passages {
    /// Cuts `workload` as `scoring` says.
    ///
    /// # Errors
    /// If no token is left to score.
    pub fn new(workload: &Workload, scoring: Scoring) -> Result<Self, MeasureError> {
        let passages: Vec<Passage> = match scoring {
            Scoring::Documents { bos, n_unscored } => {
                workload.documents().iter().map(|d| of_document(d, bos, n_unscored)).collect()
            }
            Scoring::Windows { n_ctx, bos } => windows(workload, n_ctx, bos)?,
        };
        let passages: Vec<Passage> = passages.into_iter().filter(|p| p.n_scored() > 0).collect();
        if passages.is_empty() {
            let why = format!(
                "{}: no token is left to score with {scoring:?}; the text is too short",
                workload.name()
            );
            return Err(MeasureError::Data(why));
        }
        Ok(Self { workload: workload.clone(), scoring, passages })
    }

    /// The sequences, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Passage> {
        self.passages.iter()
    }

    /// How many sequences.
    pub fn len(&self) -> usize {
        self.passages.len()
    }

    /// Never: there is at least one scored token.
    pub fn is_empty(&self) -> bool {
        self.passages.is_empty()
    }

    /// Scored tokens in all sequences.
    pub fn n_scored(&self) -> usize {
        self.passages.iter().map(Passage::n_scored).sum()
    }

    /// How they were cut.
    pub fn scoring(&self) -> Scoring {
        self.scoring
    }

    /// What they were cut from.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The convention in words, for a figure's method.
    pub fn method(&self) -> String {
        let bos = |bos: Option<u32>| if bos.is_some() { "BOS" } else { "no BOS" };
        let how = match self.scoring {
            Scoring::Documents { bos: b, n_unscored: 0 } => {
                format!("each document alone, {}, every predicted token scored", bos(b))
            }
            Scoring::Documents { bos: b, n_unscored } => {
                format!("each document alone, {}, first {n_unscored} predictions unscored", bos(b))
            }
            Scoring::Windows { n_ctx, bos: b } => {
                format!("chunks of {n_ctx} tokens, {} in each, second half scored", bos(b))
            }
        };
        let (name, hash) = (self.workload.name(), &self.workload.hash()[..12]);
        format!("{name} (blake3 {hash}): {how}; {} sequences", self.len())
    }
}

fn of_document(document: &[u32], bos: Option<u32>, n_unscored: usize) -> Passage {
    let tokens: Vec<u32> = bos.into_iter().chain(document.iter().copied()).collect();
    Passage { tokens, first_scored: n_unscored.saturating_add(1) }
}

fn windows(
    workload: &Workload,
    n_ctx: usize,
    bos: Option<u32>,
) -> Result<Vec<Passage>, MeasureError> {
    if n_ctx < 4 {
        let why = format!("a window of {n_ctx} tokens has no second half to score; take 4 or more");
        return Err(MeasureError::Data(why));
    }
    let text = workload.documents().iter().flatten().copied();
    let stream: Vec<u32> = bos.into_iter().chain(text).collect();
    let passage_of = |chunk: &[u32]| {
        let mut tokens = chunk.to_vec();
        if let Some(bos) = bos {
            tokens[0] = bos;
        }
        Passage { tokens, first_scored: n_ctx / 2 + 1 }
    };
    Ok(stream.chunks_exact(n_ctx).map(passage_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload::new("w", vec![vec![10, 11, 12], vec![], vec![13], vec![14, 15, 16]], 30).unwrap()
    }

    fn passages(scoring: Scoring) -> Vec<(Vec<u32>, usize)> {
        let passages = Passages::new(&workload(), scoring).unwrap();
        passages.iter().map(|p| (p.tokens.clone(), p.n_scored())).collect()
    }

    #[test]
    fn documents_with_and_without_bos() {
        assert_eq!(
            passages(Scoring::Documents { bos: Some(1), n_unscored: 0 }),
            [(vec![1, 10, 11, 12], 3), (vec![1, 13], 1), (vec![1, 14, 15, 16], 3)]
        );
        assert_eq!(
            passages(Scoring::Documents { bos: None, n_unscored: 0 }),
            [(vec![10, 11, 12], 2), (vec![14, 15, 16], 2)]
        );
        assert_eq!(
            passages(Scoring::Documents { bos: Some(1), n_unscored: 1 }),
            [(vec![1, 10, 11, 12], 2), (vec![1, 14, 15, 16], 2)]
        );
    }

    #[test]
    fn windows_score_their_second_half() {
        assert_eq!(
            passages(Scoring::Windows { n_ctx: 4, bos: Some(1) }),
            [(vec![1, 10, 11, 12], 1), (vec![1, 14, 15, 16], 1)]
        );
        assert_eq!(
            passages(Scoring::Windows { n_ctx: 5, bos: None }),
            [(vec![10, 11, 12, 13, 14], 2)]
        );
    }

    #[test]
    fn too_little_text_is_an_error() {
        let of = |scoring| Passages::new(&workload(), scoring).unwrap_err().to_string();
        assert!(of(Scoring::Windows { n_ctx: 64, bos: None }).contains("too short"));
        assert!(of(Scoring::Windows { n_ctx: 3, bos: None }).contains("4 or more"));
        assert!(of(Scoring::Documents { bos: None, n_unscored: 9 }).contains("no token is left"));
    }
}
