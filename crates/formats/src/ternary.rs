//! Weights of BitNet: a whole tensor as one scale times -1, 0 or 1 (or -1 or 1), rounded here and
//! nowhere else.
//!
//! In: the numbers a model was trained with. Out: the numbers that it computes with. Training's
//! forward pass and the reading of such checkpoints both call this, and because the scale is an
//! f16, TQ2_0 and TQ1_0 (and Q1_0 for the binary ones) hold the result without loss.

/// BitNet b1.58: `scale * RoundClip(value / scale, -1, 1)`, ties to even, with one scale per
/// tensor: the mean absolute value, rounded to f16. Returns the scale; a tensor of zeros has 0.
///
/// The values are finite. Source: "The Era of 1-bit LLMs" (arXiv 2402.17764), equations 1 to 3.
pub fn ternarize(values: &mut [f32]) -> f32 {
    let scale = absolute_mean(values);
    for value in values.iter_mut() {
        *value = match scale {
            0.0 => 0.0,
            _ => (*value / scale).round_ties_even().clamp(-1.0, 1.0) * scale,
        };
    }
    scale
}

/// The 1-bit variant: `scale` where a value is positive, else `-scale`, with the scale of
/// [`ternarize`]. Source: "BitNet" (arXiv 2310.11453), equations 1, 2 and 11, without centring.
pub fn binarize(values: &mut [f32]) -> f32 {
    let scale = absolute_mean(values);
    for value in values.iter_mut() {
        *value = match scale {
            0.0 => 0.0,
            _ if *value > 0.0 => scale,
            _ => -scale,
        };
    }
    scale
}

/// The mean absolute value as an f16, summed in f64 in order; at most the largest f16.
fn absolute_mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|&x| f64::from(x.abs())).sum();
    let mean = (sum / values.len().max(1) as f64) as f32;
    half::f16::from_f32(mean.min(half::f16::MAX.to_f32())).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encodings::by_name;

    #[test]
    fn ternary_by_the_mean_of_magnitudes() {
        let mut values = [3.0, -1.0, 0.5, -0.25, 0.0, 1.25];
        assert_eq!(ternarize(&mut values), 1.0);
        assert_eq!(values, [1.0, -1.0, 0.0, 0.0, 0.0, 1.0], "a half rounds to the even 0");
        let mut values = [0.3, -0.1];
        let scale = half::f16::from_f32(0.2).to_f32();
        assert_eq!(ternarize(&mut values), scale);
        assert_eq!(values, [scale, -scale], "the scale is an f16, a little below 0.2");
        assert_eq!((ternarize(&mut [0.0; 4]), ternarize(&mut [])), (0.0, 0.0));
        let mut huge = [1e30, -1e30];
        assert_eq!(ternarize(&mut huge), 65504.0);
        assert_eq!(huge, [65504.0, -65504.0]);
    }

    #[test]
    fn binary_by_sign() {
        let mut values = [3.0, -1.0, 0.0, 0.0];
        assert_eq!(binarize(&mut values), 1.0);
        assert_eq!(values, [1.0, -1.0, -1.0, -1.0]);
        let mut zeros = [0.0; 3];
        assert_eq!((binarize(&mut zeros), zeros), (0.0, [0.0; 3]));
    }

    fn encoded(name: &str, values: &[f32]) -> Vec<f32> {
        let encoding = by_name(name).expect("it is registered");
        let mut bytes = vec![0; encoding.row_bytes(values.len())];
        encoding.encode(values, None, &mut bytes);
        let mut decoded = vec![f32::NAN; values.len()];
        encoding.decode(&bytes, &mut decoded);
        decoded
    }

    // proves B-2: packing at 2 bits and at 5 codes to a byte loses nothing: every one of the 243
    // groups of five codes in every place of a block, with scales over the range of f16.
    #[test]
    fn ternary_encodings_keep_every_group_of_codes() {
        for scale in [6e-8, 1e-4, 0.0123, 1.0, 65504.0] {
            let scale = half::f16::from_f32(scale).to_f32();
            for number in 0..243i32 {
                // Digit d of byte i is code d * 32 + i there: all bytes hold the same five codes.
                let digit = |k: i32| (number / 3i32.pow(k as u32 % 5)) % 3 - 1;
                let mut values: Vec<f32> = (0..256).map(|k| digit(k / 32) as f32 * scale).collect();
                let rotated = (0..256).map(|k| digit(k) as f32 * scale);
                values.extend(rotated);
                for name in ["TQ2_0", "TQ1_0"] {
                    assert_eq!(encoded(name, &values), values, "{name} {number} x {scale}");
                }
            }
        }
    }

    // proves B-2: at 1 bit, too, for binary tensors whose rows are whole blocks.
    #[test]
    fn binary_tensors_are_packed_at_one_bit() {
        for mean in [6e-8f32, 0.0123, 1.0, 300.0] {
            let mut values: Vec<f32> = (0..384)
                .map(|i| mean * (i % 7) as f32 * if i % 3 == 0 { -1.0 } else { 1.0 })
                .collect();
            binarize(&mut values);
            assert_eq!(encoded("Q1_0", &values), values, "{mean}");
        }
        let encoding = by_name("Q1_0").expect("it is registered");
        assert_eq!((encoding.row_bytes(256), encoding.bits()), (36, 1.125));
    }

    // proves B-1, B-2: what training computes with is what the file holds, zero blocks included.
    #[test]
    fn ternary_and_binary_tensors_are_packed_exactly() {
        let mut bits = 9u64;
        let mut random = || {
            bits = bits.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        for n_blocks in [1, 7] {
            let mut latent: Vec<f32> = (0..n_blocks * 256).map(|_| random() * 0.05).collect();
            latent.extend([1e-6; 256]);
            for round in [ternarize, binarize] {
                let mut values = latent.clone();
                let scale = round(&mut values);
                assert!(values.iter().all(|x| x.abs() == scale || *x == 0.0));
                for name in ["TQ2_0", "TQ1_0"] {
                    assert_eq!(encoded(name, &values), values, "{name}");
                }
            }
        }
        assert_eq!(encoded("TQ2_0", &[0.0; 256]), [0.0; 256]);
        assert_eq!(encoded("TQ1_0", &[0.0; 256]), [0.0; 256]);
    }
}
