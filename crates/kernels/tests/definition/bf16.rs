//! BF16 weights by bf16 dots against their definition, on every ISA: by instruction where there is
//! one, imitated where there is none.

use super::{Rng, assert_same, levels, run_linear};
use sterna_formats::encodings::by_name;
use sterna_kernels::acts::{ScaleOver, to_bf16};
use sterna_kernels::{Level, Line, PackedShape, define};

/// A layer of weights about `spread` in size and rows about `spread`, by dots and by definition.
fn case(rng: &mut Rng, (rows, cols): (usize, usize), n_rows: usize, over: ScaleOver, spread: f32) {
    let encoding = by_name("BF16").expect("BF16 is registered");
    let scaled = |rng: &mut Rng, n| rng.normals(n).into_iter().map(|x| x * spread).collect();
    let values: Vec<f32> = scaled(rng, rows * cols);
    let x: Vec<f32> = scaled(rng, n_rows * cols);
    let mut bytes = vec![0; rows * cols * 2];
    encoding.encode(&values, None, &mut bytes);
    let shape = PackedShape::for_bf16_dots(encoding, rows, cols);
    let mut lines = vec![Line::ZERO; shape.total_lines()];
    shape.pack(0..shape.n_panels, &bytes, &mut lines);
    let define = |x, w| define::linear_bf16(w, x, over);
    let wanted: Vec<f32> =
        x.chunks(cols).flat_map(|x| bytes.chunks(cols * 2).map(move |w| define(x, w))).collect();
    for level in levels() {
        let what =
            format!("{rows}x{cols}, {n_rows} rows of {spread:e}, {over:?}, {}", level.name());
        for panels in [1, 3] {
            assert_same(&run_linear(level, &shape, &lines, &x, over, panels), &wanted, &what);
        }
    }
}

// proves S-19, B-3: one definition for vectors and tiles, for every number of rows.
#[test]
fn bf16_dots_are_their_definition() {
    let mut rng = Rng(31);
    for (rows, cols) in [(37, 32), (16, 96), (50, 517)] {
        for n_rows in [1, 2, 3, 5, 7, 12, 16, 64] {
            case(&mut rng, (rows, cols), n_rows, ScaleOver::Chunk, 1.0);
        }
        case(&mut rng, (rows, cols), 15, ScaleOver::Row, 1.0);
    }
    case(&mut rng, (20, 288), 513, ScaleOver::Chunk, 1.0);
}

// Products and sums about the least normal number: what is flushed, and what is rounded up to it.
#[test]
fn bf16_dots_flush_as_defined() {
    let mut rng = Rng(32);
    for spread in [1e-18, 1e-19, 5e-20, 2e-20, 1e-38, 1e-39] {
        for n_rows in [1, 4, 13] {
            case(&mut rng, (40, 160), n_rows, ScaleOver::Chunk, spread);
        }
    }
}

#[test]
fn bf16_is_rounded_to_nearest_even_and_flushed() {
    let mut rng = Rng(33);
    for _ in 0..100_000 {
        let x = f32::from_bits(rng.bits() as u32);
        let rounded = half::bf16::from_f32(x);
        let wanted = if rounded.to_f32().is_subnormal() {
            rounded.to_bits() & 0x8000
        } else {
            rounded.to_bits()
        };
        assert_eq!(to_bf16(x), u32::from(wanted), "{x:e}");
    }
}

#[test]
fn a_level_says_whether_it_has_bf16_dots() {
    assert!(Level::scalar().has_bf16_dots());
    for level in levels() {
        let has = level.features().contains(&"avx512_bf16") || level.name() == "scalar";
        assert_eq!(level.has_bf16_dots(), has, "{}", level.name());
    }
}
