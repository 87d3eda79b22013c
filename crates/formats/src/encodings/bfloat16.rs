//! BF16: the upper half of an F32, little-endian; encoding rounds to nearest, ties to even.

use half::bf16;

use super::Encoding;

/// The BF16 encoding.
pub struct Bf16;

impl Encoding for Bf16 {
    fn name(&self) -> &'static str {
        "BF16"
    }

    fn ggml_type(&self) -> u32 {
        30
    }

    fn block_len(&self) -> usize {
        1
    }

    fn block_bytes(&self) -> usize {
        2
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let (words, rest) = bytes.as_chunks::<2>();
        assert!(rest.is_empty() && words.len() == values.len());
        for (value, &word) in values.iter_mut().zip(words) {
            *value = f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16);
        }
    }

    fn encode(&self, values: &[f32], _importance: Option<&[f32]>, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<2>();
        assert!(rest.is_empty() && words.len() == values.len());
        for (word, &value) in words.iter_mut().zip(values) {
            *word = bf16::from_f32(value).to_le_bytes();
        }
    }
}
