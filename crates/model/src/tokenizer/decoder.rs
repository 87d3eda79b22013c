//! Tokens to text as they come: a character is held back until all of its bytes are there.

use super::Tokenizer;
use std::ops::Deref;

/// Decodes a stream of tokens. The pieces that [`Decoder::push`] and [`Decoder::finish`] return
/// are together what decoding all tokens at once gives. `T` is a reference to the tokenizer, or a
/// share of it.
#[derive(Clone)]
pub struct Decoder<T> {
    tokenizer: T,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    strip_space: bool,
}

impl<T: Deref<Target = Tokenizer>> Decoder<T> {
    pub(super) fn new(tokenizer: T, strip_space: bool) -> Self {
        Self { tokenizer, pending: Vec::new(), strip_space }
    }

    /// A decoder of what follows a text; see [`Tokenizer::continuation`].
    pub fn continuing(tokenizer: T) -> Self {
        Self::new(tokenizer, false)
    }

    /// The text that became certain with this token; often a word, sometimes nothing.
    pub fn push(&mut self, id: u32) -> String {
        let bytes = self.tokenizer.token_bytes(id);
        let mut bytes: &[u8] = &bytes;
        if self.strip_space && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.strip_space = false;
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let n_used = decode_complete(&self.pending, &mut text);
        self.pending.drain(..n_used);
        text
    }

    /// What is left at the end: a character that never became complete shows as U+FFFD.
    pub fn finish(mut self) -> String {
        self.take_rest()
    }

    /// The same for a decoder that is kept.
    pub fn take_rest(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

/// Decodes up to an incomplete character at the end, if there is one, and returns the bytes used.
/// Each invalid sequence becomes one U+FFFD, as in `String::from_utf8_lossy`.
fn decode_complete(bytes: &[u8], text: &mut String) -> usize {
    let mut n_used = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        n_used += chunk.valid().len();
        let invalid = chunk.invalid();
        let at_end = n_used + invalid.len() == bytes.len();
        let incomplete = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        if at_end && incomplete {
            break;
        }
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            n_used += invalid.len();
        }
    }
    n_used
}
