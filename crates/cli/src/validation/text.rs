//! The held-out text: the same passages for both models, or a sentence before any work.
//!
//! In: a file and how to cut it. Out: [`Passages`] of tokens.

use crate::show::bad_input;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use sterna_measure::quality::{Passages, Scoring};
use sterna_measure::workload::TextRecipe;
use sterna_model::Tokenizer;

/// Tokens of the windows that a text without documents is scored in.
const WINDOW: usize = 512;

/// Beyond what anyone scores.
const MAX_BYTES: u64 = 1 << 30;

/// A text file and how it is cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Text {
    /// The file, UTF-8, plain or gzip.
    pub path: PathBuf,
    /// Between documents; without one the text is scored in windows.
    pub separator: Option<String>,
    /// Tokens at most.
    pub max_tokens: Option<usize>,
    /// Tokens of a sequence at most.
    pub context_len: usize,
}

impl Text {
    /// Documents if there is a separator, each cut at the context; else windows, twenty or more
    /// where the text allows, since intervals are drawn over them.
    ///
    /// # Errors
    /// When the file cannot be used, or leaves nothing to score.
    pub fn passages(&self, tokenizer: &Tokenizer) -> anyhow::Result<Passages> {
        let text = sterna_train::text::read(&self.path, MAX_BYTES, "cut it").map_err(bad_input)?;
        let name = self.path.file_name().map_or("text".into(), |n| n.to_string_lossy());
        let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
        let mut encode = |part: &str| tokenizer.encode(part, false);
        let token_bytes = |token| tokenizer.token_bytes(token).len();
        let mut recipe = TextRecipe { separator: self.separator.clone(), ..TextRecipe::whole() };
        if self.separator.is_none() {
            recipe.max_tokens = self.max_tokens;
            let workload = recipe.workload(&name, &text, &mut encode, &token_bytes)?;
            let n_ctx = (workload.n_tokens() / 20).clamp(16, WINDOW).min(self.context_len);
            return Ok(Passages::new(&workload, Scoring::Windows { n_ctx, bos })?);
        }
        recipe.max_tokens = Some(self.context_len);
        let all = recipe.workload(&name, &text, &mut encode, &token_bytes)?;
        let mut left = self.max_tokens.unwrap_or(usize::MAX);
        let fits = all.documents().iter().take_while(|document| {
            let fits = left >= document.len();
            left = left.saturating_sub(document.len());
            fits
        });
        let workload = all.first(fits.count().max(1))?;
        Ok(Passages::new(&workload, Scoring::Documents { bos, n_unscored: 0 })?)
    }
}
