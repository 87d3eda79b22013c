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
