//! What encoding and decoding must do, for every encoding in the registry: sizes, errors,
//! exactness, extremes, importance.

use proptest::prelude::*;
use sterna_formats::encodings::shared::{pack, pack_group_scales, unpack, unpack_group_scales};
use sterna_formats::encodings::{ENCODINGS, EncodingRef, by_name};

const ROW: usize = 1024;

/// `(name, bits per value, most relative RMSE on Gaussian rows)`. The errors were measured and
/// rounded up by about 2%.
const EXPECTED: &[(&str, f64, f64)] = &[
    ("F32", 32.0, 0.0),
    ("F16", 16.0, 0.000_212),
    ("BF16", 16.0, 0.0017),
    ("Q8_0", 8.5, 0.00537),
    ("Q6_K", 6.5625, 0.0172),
    ("Q5_K", 5.5, 0.0351),
    ("Q5_1", 6.0, 0.0382),
    ("Q5_0", 5.5, 0.0429),
    ("Q4_K", 4.5, 0.0708),
    ("Q4_1", 5.0, 0.0792),
    ("Q4_0", 4.5, 0.0861),
    ("IQ4_NL", 4.5, 0.0743),
    ("IQ4_XS", 4.25, 0.0747),
    ("Q3_K", 3.4375, 0.145),
    ("Q2_K", 2.625, 0.262),
    ("TQ2_0", 2.0625, 0.822),
    ("TQ1_0", 1.6875, 0.822),
    ("Q1_0", 1.125, 0.61),
];

/// Encodings that search for their scales when importance is given.
const SEARCHED: &[&str] =
    &["Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K", "Q2_K"];

#[test]
fn every_encoding_has_its_size_and_its_error() {
    let values = gaussian(64 * ROW);
    let energy = squared_error(&vec![0.0; values.len()], &values, None);
    for &encoding in ENCODINGS {
        let error = squared_error(&round_trip(encoding, &values, None), &values, None);
        let error = (error / energy).sqrt();
        let Some((_, bits, most)) = EXPECTED.iter().find(|(name, ..)| *name == encoding.name())
        else {
            assert!(error < 1.0, "{encoding:?}: zeros would be nearer");
            continue;
        };
        assert_eq!(encoding.bits(), *bits, "{encoding:?}");
        assert!(error <= *most && error >= most * 0.9, "{encoding:?}: relative RMSE {error}");
    }
    for (name, ..) in EXPECTED {
        assert!(by_name(name).is_some(), "{name} is not registered");
    }
}

#[test]
fn decoded_values_encode_to_the_same_bytes_where_the_formula_keeps_its_ends() {
    for name in
        ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ2_0", "TQ1_0", "Q1_0"]
    {
        let encoding = by_name(name).unwrap();
        let bytes = encode(encoding, &gaussian(16 * ROW), None);
        let again = encode(encoding, &decode(encoding, &bytes), None);
        assert!(bytes == again, "{name} is not idempotent");
    }
}

#[test]
fn encoding_decoded_values_loses_less_than_the_first_time() {
    let values = gaussian(16 * ROW);
    for name in SEARCHED {
        let encoding = by_name(name).unwrap();
        let once = round_trip(encoding, &values, None);
        let twice = round_trip(encoding, &once, None);
        let (first, second) =
            (squared_error(&once, &values, None), squared_error(&twice, &once, None));
        assert!(second <= first / 2.0, "{name}: {first} then {second}");
    }
}

/// proves B-2 (storage): five trits to a byte, all 243 of them.
#[test]
fn every_five_trits_round_trip_in_a_tq1_0_byte() {
    let encoding = by_name("TQ1_0").unwrap();
    for number in 0..243 {
        let trit = |digit: usize| (number / 3i32.pow(digit as u32) % 3 - 1) as f32;
        // A run of 32 bytes holds digit d of byte i at d * 32 + i: byte 0 gets the trits.
        let mut values = [1.0; 256];
        for digit in 0..5 {
            values[digit * 32] = trit(digit);
        }
        assert_eq!(round_trip(encoding, &values, None), values, "{number}");
        let rotated: Vec<f32> = (0..256).map(|i| trit((i + i / 5) % 5)).collect();
        let expected = rotated.clone();
        assert_eq!(round_trip(encoding, &rotated, None), expected, "{number}");
    }
}

#[test]
fn zeros_stay_zeros_and_constants_nearly_constant() {
    for &encoding in ENCODINGS {
        assert_eq!(round_trip(encoding, &[0.0; ROW], None), [0.0; ROW], "{encoding:?}");
        for constant in [1.0, -1.0, 0.013] {
            for value in round_trip(encoding, &[constant; ROW], None) {
                let miss = (value - constant).abs() / constant.abs();
                assert!(miss < 0.01, "{encoding:?}: {constant} became {value}");
            }
        }
    }
}

#[test]
fn a_power_of_two_scales_the_result_and_changes_nothing_else() {
    let values = gaussian(4 * ROW);
    let larger: Vec<f32> = values.iter().map(|x| x * 64.0).collect();
    for &encoding in ENCODINGS.iter().filter(|encoding| encoding.grid().is_some()) {
        let expected: Vec<f32> =
            round_trip(encoding, &values, None).iter().map(|x| x * 64.0).collect();
        assert!(round_trip(encoding, &larger, None) == expected, "{encoding:?}");
    }
}

#[test]
fn searches_survive_values_that_no_half_can_scale() {
    for name in SEARCHED {
        let encoding = by_name(name).unwrap();
        let importance = [1.0; ROW];
        for magnitude in [1e-45, 1e-38, 1e-12, 1e-6, 1e12, 1e30, 1e37] {
            let values: Vec<f32> = gaussian(ROW).iter().map(|x| x * magnitude).collect();
            let decoded = round_trip(encoding, &values, Some(&importance));
            // Beyond the halves' range only the min of the two formats that have one may overflow.
            let may_overflow = ["Q5_1", "Q4_1"].contains(name) && magnitude > 1e4;
            let finite = decoded.iter().all(|value| value.is_finite());
            assert!(finite || may_overflow, "{name} at {magnitude:e}");
            if magnitude < 1e-9 {
                assert!(decoded.iter().all(|value| value.abs() < 1e-4), "{name} at {magnitude:e}");
            }
        }
    }
}

#[test]
fn importance_lowers_the_error_that_it_weighs() {
    let values = gaussian(16 * ROW);
    let importance: Vec<f32> = gaussian(16 * ROW).iter().map(|x| x * x * x * x).collect();
    for name in SEARCHED {
        let encoding = by_name(name).unwrap();
        let error = |importance_used: Option<&[f32]>| {
            let decoded = round_trip(encoding, &values, importance_used);
            squared_error(&decoded, &values, Some(&importance))
        };
        let (without, with) = (error(None), error(Some(&importance)));
        assert!(with < without * 0.97, "{name}: {without} without, {with} with importance");
    }
}

#[test]
fn zero_importance_is_not_a_licence_to_forget() {
    let values = gaussian(4 * ROW);
    for &encoding in ENCODINGS {
        let decoded = round_trip(encoding, &values, Some(&vec![0.0; values.len()]));
        let expected = round_trip(encoding, &values, Some(&vec![1.0; values.len()]));
        assert!(decoded == expected, "{encoding:?}");
    }
}

/// Rows as real tensors are not: values of any magnitude, zeros, repeats.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        4 => -1.0f32..1.0,
        1 => -1e4f32..1e4,
        1 => -1e-5f32..1e-5,
        1 => Just(0.0f32),
        1 => Just(-0.25f32),
    ];
    proptest::collection::vec(value, 256..=256)
}

proptest! {
    // A failing case is printed; it becomes a test of its own, not a file beside this one.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_row_decodes_to_something_nearer_than_zeros(values in rows(), weigh in any::<bool>()) {
        let importance: Vec<f32> = values.iter().map(|x| x.abs().min(2.0)).collect();
        let energy = squared_error(&[0.0; 256], &values, None);
        for &encoding in ENCODINGS {
            let decoded = round_trip(encoding, &values, weigh.then_some(&importance[..]));
            prop_assert!(decoded.iter().all(|x| x.is_finite()), "{encoding:?}");
            if !weigh {
                let error = squared_error(&decoded, &values, None);
                prop_assert!(error <= energy * 1.001, "{encoding:?}: {error} of {energy}");
            }
        }
    }

    #[test]
    fn packing_undoes_unpacking(bytes in proptest::collection::vec(any::<u8>(), 64)) {
        fn check<const BITS: usize, const WIDTH: usize>(bytes: &[u8]) {
            let mut codes = vec![0; bytes.len() * 8 / BITS];
            unpack::<BITS, WIDTH>(bytes, &mut codes);
            let codes: Vec<u8> = codes.iter().map(|&code| code as u8).collect();
            let mut again = vec![0; bytes.len()];
            pack::<BITS, WIDTH>(&codes, &mut again);
            assert_eq!(bytes, again);
        }
        check::<4, 16>(&bytes);
        check::<4, 1>(&bytes);
        check::<2, 32>(&bytes);
        check::<1, 32>(&bytes);
        check::<1, 1>(&bytes);
    }

    #[test]
    fn group_scales_round_trip(bytes in any::<[u8; 12]>()) {
        let (scales, mins) = unpack_group_scales(&bytes);
        prop_assert!(scales.iter().chain(&mins).all(|&x| x < 64));
        prop_assert_eq!(pack_group_scales(&scales, &mins), bytes);
    }
}

fn encode(encoding: EncodingRef, values: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; encoding.row_bytes(values.len())];
    encoding.encode(values, importance, &mut bytes);
    bytes
}

fn decode(encoding: EncodingRef, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / encoding.block_bytes() * encoding.block_len()];
    encoding.decode(bytes, &mut values);
    values
}

fn round_trip(encoding: EncodingRef, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    decode(encoding, &encode(encoding, values, importance))
}

fn squared_error(decoded: &[f32], values: &[f32], weights: Option<&[f32]>) -> f64 {
    let weight = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[i]));
    let squares = decoded.iter().zip(values).enumerate();
    squares.map(|(i, (a, b))| weight(i) * (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Seeded numbers, near enough to Gaussian: the sum of 12 uniform ones.
fn gaussian(n: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ n as u64;
    let mut uniform = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}
