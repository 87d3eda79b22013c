//! F32: plain IEEE single precision, little-endian.

use super::Encoding;

/// The F32 encoding.
pub struct F32;

impl Encoding for F32 {
    fn name(&self) -> &'static str {
        "F32"
    }

    fn ggml_type(&self) -> u32 {
        0
    }

    fn block_len(&self) -> usize {
        1
    }

    fn block_bytes(&self) -> usize {
        4
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty() && words.len() == values.len());
        for (value, &word) in values.iter_mut().zip(words) {
            *value = f32::from_le_bytes(word);
        }
    }

    fn encode(&self, values: &[f32], _importance: Option<&[f32]>, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<4>();
        assert!(rest.is_empty() && words.len() == values.len());
        for (word, value) in words.iter_mut().zip(values) {
            *word = value.to_le_bytes();
        }
    }
}
