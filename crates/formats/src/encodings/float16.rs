//! F16: IEEE half precision, little-endian; encoding rounds to nearest, ties to even.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Encoding;

/// Values converted at a time: `half` uses the CPU's conversion on slices, and a buffer on the
/// stack lets the file's bytes lie at any address.
const RUN: usize = 256;

/// The F16 encoding.
pub struct F16;

impl Encoding for F16 {
    fn name(&self) -> &'static str {
        "F16"
    }

    fn ggml_type(&self) -> u32 {
        1
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
        let mut halves = [f16::ZERO; RUN];
        for (words, values) in words.chunks(RUN).zip(values.chunks_mut(RUN)) {
            let halves = &mut halves[..words.len()];
            for (half, &word) in halves.iter_mut().zip(words) {
                *half = f16::from_le_bytes(word);
            }
            halves.convert_to_f32_slice(values);
        }
    }

    fn encode(&self, values: &[f32], _importance: Option<&[f32]>, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<2>();
        assert!(rest.is_empty() && words.len() == values.len());
        let mut halves = [f16::ZERO; RUN];
        for (words, values) in words.chunks_mut(RUN).zip(values.chunks(RUN)) {
            let halves = &mut halves[..words.len()];
            halves.convert_from_f32_slice(values);
            for (word, half) in words.iter_mut().zip(halves) {
                *word = half.to_le_bytes();
            }
        }
    }
}
