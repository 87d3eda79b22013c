//! What must hold for every registered encoding, and the packings they share.

use super::*;

/// A seeded generator (xorshift64*): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 56) as u8).collect()
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

// What is learned of a stored model is its factors: half of one is half of what it contributes.
#[test]
fn values_are_sums_over_the_factors_of_a_block() {
    let mut random = Random(7);
    for &encoding in ENCODINGS {
        assert_eq!(encoding.tunable().is_some(), encoding.grid().is_some(), "{encoding:?}");
        let Some(tunable) = encoding.tunable() else { continue };
        let (len, factors) = (encoding.block_len(), tunable.factors());
        for _ in 0..50 {
            let mut bytes = random.bytes(encoding.block_bytes());
            // Factors near one, so that sums in f32 are near what they would be in any order.
            for (i, &at) in factors.iter().enumerate() {
                bytes[at..at + 2]
                    .copy_from_slice(&half::f16::from_f32(0.5 + i as f32).to_le_bytes());
            }
            let decode = |bytes: &[u8]| {
                let mut values = vec![0.0; len];
                encoding.decode(bytes, &mut values);
                values
            };
            let mut sum = vec![0.0; len];
            for &at in factors {
                let mut part = bytes.clone();
                let others = factors.iter().filter(|&&other| other != at);
                others.for_each(|&other| part[other..other + 2].fill(0));
                let whole = decode(&part);
                part[at + 1] -= 4; // The exponent's lowest bit: half of it.
                let halved = decode(&part);
                assert!(whole.iter().zip(&halved).all(|(a, b)| a * 0.5 == *b), "{encoding:?}");
                sum.iter_mut().zip(&whole).for_each(|(sum, value)| *sum += value);
            }
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * (a.abs() + b.abs() + 1.0);
            assert!(sum.iter().zip(&decode(&bytes)).all(near));
        }
    }
}

// What is learned of a stored model besides is its codes.
#[test]
fn codes_are_replaced_and_nothing_else() {
    let mut random = Random(9);
    for &encoding in ENCODINGS {
        let (Some(grid), Some(tunable)) = (encoding.grid(), encoding.tunable()) else { continue };
        let n = 512;
        let known: Vec<i8> = match tunable.codes() {
            Codes::Range(first, last) => (first..=last).collect(),
            Codes::Table(table) => table.to_vec(),
        };
        assert!(known.is_sorted() && known[0] >= grid.code_min, "{encoding:?}");
        let read = |bytes: &[u8]| {
            let (mut codes, mut scales) = (vec![0; n], vec![0.0; n / grid.group_len]);
            let mut mins = vec![0.0; if grid.has_min { n / grid.group_len } else { 0 }];
            encoding.read_grid(bytes, &mut codes, &mut scales, &mut mins);
            let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            (codes, bits(scales), bits(mins))
        };
        for _ in 0..50 {
            let values: Vec<f32> = (0..n).map(|_| random.next() as i32 as f32).collect();
            let mut bytes = vec![0; encoding.row_bytes(n)];
            encoding.encode(&values, None, &mut bytes);
            let (codes, scales, mins) = read(&bytes);
            assert!(codes.iter().all(|code| known.contains(code)), "{encoding:?}");
            let mut same = bytes.clone();
            tunable.write_codes(&codes, &mut same);
            assert_eq!(same, bytes, "{encoding:?}");
            let others: Vec<i8> =
                (0..n).map(|_| known[random.next() as usize % known.len()]).collect();
            tunable.write_codes(&others, &mut bytes);
            assert_eq!(read(&bytes), (others, scales, mins), "{encoding:?}");
        }
    }
}

#[test]
fn names_and_numbers_are_found_again() {
    for &encoding in ENCODINGS {
        assert_eq!(by_name(&encoding.name().to_lowercase()), Some(encoding));
        assert_eq!(by_ggml_type(encoding.ggml_type()), Some(encoding));
    }
    assert_eq!(by_name("Q9_9"), None);
    assert_eq!(by_ggml_type(9), None);
}

#[test]
fn the_integer_view_gives_the_decoded_values_for_any_bytes() {
    let mut random = Random(42);
    for &encoding in ENCODINGS {
        let Some(grid) = encoding.grid() else { continue };
        let n = 1024;
        for _ in 0..50 {
            let bytes = random.bytes(encoding.row_bytes(n));
            let mut values = vec![0.0; n];
            encoding.decode(&bytes, &mut values);
            let n_groups = n / grid.group_len;
            let (mut codes, mut scales) = (vec![0; n], vec![0.0; n_groups]);
            let mut mins = vec![0.0; if grid.has_min { n_groups } else { 0 }];
            encoding.read_grid(&bytes, &mut codes, &mut scales, &mut mins);
            for (i, &value) in values.iter().enumerate() {
                let code = i16::from(codes[i]) - i16::from(grid.code_min);
                assert!(u8::try_from(code).is_ok(), "{encoding:?}: code {}", codes[i]);
                let g = i / grid.group_len;
                let product = scales[g] * f32::from(codes[i]);
                let expected = if grid.has_min { product + mins[g] } else { product };
                assert!(same(value, expected), "{encoding:?}: {value} is not {expected}");
            }
        }
    }
}
