//! Blocks decoded and encoded by the PyPI `gguf` package 0.19, pinned; `reference.rs` compares far
//! more where that package is at hand.

use sterna_formats::encodings::by_name;

/// `(name, where the halves lie, hash of the decoded block, values 0, 17, 100 and 255 of it)`.
///
/// Byte `i` of the block is `i * 73 + 41 + i * i / 7`, modulo 256; then its first half is 0.1 and
/// its second -0.0375, rounded to half precision. The hash is FNV-1a over the values' bytes.
const DECODED: &[(&str, &[usize], u64, &[f32])] = &[
    ("F16", &[], 0x616a_9e80_3a07_263a, &[12616.0]),
    ("BF16", &[], 0x4c9a_927f_9d58_741a, &[3.34739e30]),
    ("Q8_0", &[0], 0x0746_1f0f_f19e_0770, &[-6.8983154, -5.6986084]),
    ("Q6_K", &[208], 0x7bc9_7b9a_acec_4a39, &[-86.07898, 2.4993896, 25.393799, 54.986572]),
    ("Q5_K", &[0, 2], 0x5930_44e8_3c9b_8bd8, &[29.168762, 45.664734, 1.087677, 0.9376526]),
    ("Q5_1", &[0, 2], 0x7871_b670_bf7c_fb3e, &[2.5618591, 1.1622009]),
    ("Q5_0", &[0], 0xeb4b_c7f7_1bbd_1877, &[0.39990234, 0.19995117]),
    ("Q4_K", &[0, 2], 0xceb8_4b66_790a_cab5, &[21.670593, 21.670593, 33.979645, 0.9376526]),
    ("Q4_1", &[0, 2], 0x1852_49a7_aa93_f256, &[1.4621277, 0.86227417]),
    ("Q4_0", &[0], 0xc457_29ef_b16c_387e, &[0.29992676, -0.7998047]),
    ("IQ4_NL", &[0], 0x8051_5090_9776_f0b5, &[3.7990723, -12.696899]),
    ("IQ4_XS", &[0], 0x24b9_568b_0c27_f819, &[77.48108, 164.25989, -8.997803, -206.94946]),
    ("Q3_K", &[108], 0x57dd_7f4d_2a7a_f493, &[3.8990479, -1.3996582, 0.0, -2.4993896]),
    ("Q2_K", &[80, 82], 0x7158_06a5_59bc_0789, &[0.9747925, 0.4624939, 0.52508545, 0.33755493]),
    ("TQ2_0", &[64], 0x5dee_436e_9707_83c4, &[0.0, 0.19995117, 0.0, 0.0]),
    (
        "TQ1_0",
        &[52],
        0x380c_fb55_286c_21d2,
        &[-0.099975586, -0.099975586, -0.099975586, -0.099975586],
    ),
];

/// `(name, bytes)` of one block (8 values for the float encodings) of the values
/// `((i * 37 + 11) % 101 - 50) / 16`.
const ENCODED: &[(&str, &str)] = &[
    ("F16", "e0c000b0604040bf0038a041c0bc803c"),
    ("BF16", "1cc000be0c40e8bf003f344098bf903f"),
    ("Q8_0", "4d269dfb59b61472d02e8be947a50361be1c7ad73593f14fac0a68c62481df3d9af8"),
    ("Q5_1", "533240c2b4b4a525f3bf6b27e2ae5a16d19d4904c07c38f3"),
    ("Q5_0", "4032b4b4a525f4bf7b27e3ae5a16d19d4904c08c38f4"),
    ("Q4_1", "893640c2f257bd1379cf358ae146ac0268bd2479"),
    ("Q4_0", "4036f258be1379df359bf147ac0268ce248a"),
    (
        "TQ2_0",
        "58611658851661851861865861165885166185186186586516598514618558611461855861165845\
         1661851861865861165885166185186186586116598516614042",
    ),
    (
        "TQ1_0",
        "466dd2467ad36c7a456dcf466dd3467ad36c7a456dcf4689d39b7a296d7a486d7f5174d51b7cf25d\
         7c515ed45174d51b339fb5204042",
    ),
];

/// The halves nearest to 0.1 and -0.0375.
const HALVES: [[u8; 2]; 2] = [[0x66, 0x2e], [0xcd, 0xa8]];

#[test]
fn blocks_decode_to_the_pinned_values() {
    for &(name, halves, hash, picks) in DECODED {
        let encoding = by_name(name).unwrap();
        let pattern = |i: usize| (i * 73 + 41 + i * i / 7) as u8;
        let mut bytes: Vec<u8> = (0..encoding.block_bytes()).map(pattern).collect();
        for (&at, half) in halves.iter().zip(HALVES) {
            bytes[at..at + 2].copy_from_slice(&half);
        }
        let mut values = vec![0.0; encoding.block_len()];
        encoding.decode(&bytes, &mut values);
        for (at, pick) in [0, 17, 100, 255].into_iter().zip(picks) {
            assert_eq!(values[at], *pick, "{name}: value {at}");
        }
        assert_eq!(fnv1a(values.iter().flat_map(|value| value.to_le_bytes())), hash, "{name}");
    }
}

#[test]
fn values_encode_to_the_pinned_bytes() {
    for &(name, expected) in ENCODED {
        let encoding = by_name(name).unwrap();
        let n = encoding.block_len().max(8);
        let values: Vec<f32> =
            (0..n as i32).map(|i| ((i * 37 + 11) % 101 - 50) as f32 / 16.0).collect();
        let mut bytes = vec![0; encoding.row_bytes(n)];
        encoding.encode(&values, None, &mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{name}");
    }
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
