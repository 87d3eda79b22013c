//! Every kernel on every ISA of this CPU against its definition, bit for bit.

mod bf16;
mod random;
mod vocabulary;

use sterna_formats::encodings::ENCODINGS;
use sterna_kernels::acts::{RoundRows, ScaleOver};
use sterna_kernels::attention::{Attend, KvAppend, KvEncoding, KvShape, PAGE_LEN, Rows, Slots};
use sterna_kernels::dot::{FEW_ROWS, LinearCall, PANEL};
use sterna_kernels::elementwise::{AddTo, Gelu, Relu2, SwiGlu};
use sterna_kernels::norm::{LayerNorm, RmsNorm};
use sterna_kernels::rope::{Rope, RopePairs};
use sterna_kernels::{ColumnsMut, ISAS, Level, Line, PackedShape, Prepared, define};

/// A small seeded generator: tests must not depend on anything else.
struct Rng(u64);

impl Rng {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ self.0 >> 33;
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 16
    }
    /// Roughly normal.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| (self.bits() % 4096) as f32 / 2048.0 - 1.0).sum::<f32>() * 0.7
    }
    fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// Every ISA that this CPU has.
fn levels() -> Vec<Level> {
    let names = ISAS.iter().chain(&["avx512-no-vnni"]);
    names.filter_map(|name| Level::by_name(name).ok()).collect()
}

fn assert_same(found: &[f32], wanted: &[f32], what: &str) {
    let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    if let Some(i) = found.iter().zip(wanted).position(differs) {
        panic!("{what}: entry {i} is {} but the definition says {}", found[i], wanted[i]);
    }
    assert_eq!(found.len(), wanted.len(), "{what}");
}

/// Runs a linear layer in calls of `panels_per_call` panels.
fn run_linear(
    level: Level,
    shape: &PackedShape,
    lines: &[Line],
    x: &[f32],
    over: ScaleOver,
    panels_per_call: usize,
) -> Vec<f32> {
    let n_rows = x.len() / shape.cols;
    let prepared = Prepared::new(level, shape, x, over);
    let mut out = vec![f32::NAN; n_rows * shape.rows];
    let mut scratch = vec![Line::ZERO; shape.format.scratch_lines()];
    for first in (0..shape.n_panels).step_by(panels_per_call) {
        let panels = first..shape.n_panels.min(first + panels_per_call);
        let columns = panels.start * PANEL..(panels.end * PANEL).min(shape.rows);
        shape.format.linear(
            level,
            LinearCall {
                lines: &lines[panels.start * shape.panel_lines..panels.end * shape.panel_lines],
                panel_lines: shape.panel_lines,
                cols: shape.cols,
                code_min: shape.code_min,
                acts: prepared.acts(),
                out: ColumnsMut::new(&mut out, n_rows, shape.rows, columns),
                accumulate: false,
                few_rows: FEW_ROWS,
                scratch: &mut scratch,
            },
        );
    }
    out
}

// proves S-19, S-1, B-3: the encoding defines the number, on every ISA, for every number of rows and
// however panels are divided.
#[test]
fn linear_is_its_definition_for_every_encoding() {
    let mut rng = Rng(1);
    for &encoding in ENCODINGS {
        for (rows, blocks) in [(37, 1), (16, 3), (50, 9)] {
            let cols = encoding.block_len().max(32) * blocks;
            for (n_rows, over) in CALLS {
                linear_case(&mut rng, encoding, (rows, cols), n_rows, over, &[1, 3]);
            }
        }
        // Many rows: several tiles and row blocks, and a rest.
        let cols = encoding.block_len().max(32) * 2;
        linear_case(&mut rng, encoding, (20, cols), 64, ScaleOver::Chunk, &[2]);
        linear_case(&mut rng, encoding, (20, cols), 513, ScaleOver::Chunk, &[2]);
    }
}

/// One layer of random weights and rows on every ISA, in calls of so many panels.
fn linear_case(
    rng: &mut Rng,
    encoding: sterna_formats::EncodingRef,
    (rows, cols): (usize, usize),
    n_rows: usize,
    over: ScaleOver,
    panels_per_call: &[usize],
) {
    let row_bytes = encoding.row_bytes(cols);
    let mut bytes = vec![0u8; rows * row_bytes];
    if encoding.can_encode() {
        encoding.encode(&rng.normals(rows * cols), None, &mut bytes);
    } else {
        random_blocks(rng, encoding, &mut bytes);
    }
    let shape = PackedShape::new(encoding, rows, cols);
    let mut lines = vec![Line::ZERO; shape.total_lines()];
    shape.pack(0..shape.n_panels, &bytes, &mut lines);
    let x = rng.normals(n_rows * cols);
    let wanted: Vec<f32> = x
        .chunks(cols)
        .flat_map(|x| bytes.chunks(row_bytes).map(move |w| (w, x)))
        .map(|(w, x)| define::linear(encoding, w, x, over))
        .collect();
    for level in levels() {
        let level_name = level.name();
        let what = format!("{encoding:?} {rows}x{cols}, {n_rows} rows, {over:?}, {level_name}");
        for &panels in panels_per_call {
            let found = run_linear(level, &shape, &lines, &x, over, panels);
            assert_same(&found, &wanted, &what);
        }
    }
}

#[test]
fn rounded_rows_keep_what_is_no_number() {
    for over in [ScaleOver::Row, ScaleOver::All(1.0)] {
        for level in levels() {
            let mut x = vec![0.5f32; 40];
            (x[3], x[35]) = (f32::NAN, f32::NAN);
            level.run(RoundRows { over, cols: 40, x: &mut x });
            let is_kept = x[3].is_nan() && x[35].is_nan();
            assert!(is_kept && x[4].is_finite(), "{over:?} {}: {x:?}", level.name());
        }
    }
}

/// Rows of a call, and what shares a scale among their codes.
const CALLS: [(usize, ScaleOver); 10] = [
    (1, ScaleOver::Chunk),
    (2, ScaleOver::Chunk),
    (3, ScaleOver::Chunk),
    (7, ScaleOver::Chunk),
    (12, ScaleOver::Chunk),
    (16, ScaleOver::Chunk),
    (1, ScaleOver::Row),
    (15, ScaleOver::Row),
    // Less than the largest of them, so that some are clipped.
    (1, ScaleOver::All(1.5)),
    (15, ScaleOver::All(1.5)),
];

/// Random codes with sane f16 scales: any f16 field is made small by clearing its top exponent bit.
fn random_blocks(rng: &mut Rng, encoding: sterna_formats::EncodingRef, bytes: &mut [u8]) {
    for block in bytes.chunks_mut(encoding.block_bytes()) {
        block.iter_mut().for_each(|b| *b = rng.bits() as u8);
        block[1] = 0x20 | block[1] & 0x83;
    }
}

// Extremes: all codes at one end and all activations alike, where a sum in 16 bits must not
// saturate; zero rows. Few rows go one road, 13 the other.
#[test]
fn linear_is_exact_at_the_extremes() {
    let cols = 256;
    for name in ["Q8_0", "Q4_0", "Q4_K", "Q6_K", "TQ2_0", "Q1_0", "Q5_1"] {
        let encoding = sterna_formats::encodings::by_name(name).expect("it is registered");
        let row_bytes = encoding.row_bytes(cols);
        let mut bytes = vec![0; 4 * row_bytes];
        let values = [-1.0, 1.0, 0.0, 1.0].map(|x| vec![x; cols]).concat();
        encoding.encode(&values, None, &mut bytes);
        // Where an encoder would not use every code: all bits set, finite scales again.
        let finite = bytes[3 * row_bytes..].to_vec();
        bytes[3 * row_bytes..].fill(0xff);
        restore_scales(encoding, &finite, &mut bytes[3 * row_bytes..]);
        if name == "Q8_0" {
            // Codes of -128 too, which no encoder makes but a file may hold.
            bytes[2..34].fill(0x80);
        }
        let shape = PackedShape::new(encoding, 4, cols);
        let mut lines = vec![Line::ZERO; shape.total_lines()];
        shape.pack(0..1, &bytes, &mut lines);
        for n_rows in [3, 13] {
            let x: Vec<f32> =
                (0..n_rows).flat_map(|i| vec![[1.0, -1.0, 0.0][i % 3]; cols]).collect();
            let rows = bytes.chunks(row_bytes);
            let linear = |x, w| define::linear(encoding, w, x, ScaleOver::Chunk);
            let of_row = |x| rows.clone().map(move |w| linear(x, w));
            let wanted: Vec<f32> = x.chunks(cols).flat_map(of_row).collect();
            assert!(wanted.iter().all(|y| y.is_finite()), "{name}");
            for level in levels() {
                let found = run_linear(level, &shape, &lines, &x, ScaleOver::Chunk, 1);
                assert_same(&found, &wanted, &format!("{name} {n_rows} {}", level.name()));
            }
        }
    }
}

/// Puts the half-precision scales of a good row into another: the pairs of bytes that are no
/// number when all their bits are set.
fn restore_scales(encoding: sterna_formats::EncodingRef, good: &[u8], bytes: &mut [u8]) {
    let n = encoding.block_bytes();
    for (good, block) in good.chunks(n).zip(bytes.chunks_mut(n)) {
        for at in (0..n).step_by(2) {
            let mut tried = good.to_vec();
            tried[at..at + 2].fill(0xff);
            let mut values = vec![0.0; encoding.block_len()];
            encoding.decode(&tried, &mut values);
            if values.iter().any(|x: &f32| !x.is_finite()) {
                block[at..at + 2].copy_from_slice(&good[at..at + 2]);
            }
        }
    }
}

// Adding to the residual stream is the linear layer followed by an addition.
#[test]
fn accumulating_adds_the_same_numbers() {
    let encoding = sterna_formats::encodings::by_name("Q4_0").expect("Q4_0 is registered");
    let mut rng = Rng(7);
    let (rows, cols, n_rows) = (24, 64, 3);
    let mut bytes = vec![0; rows * encoding.row_bytes(cols)];
    encoding.encode(&rng.normals(rows * cols), None, &mut bytes);
    let shape = PackedShape::new(encoding, rows, cols);
    let mut lines = vec![Line::ZERO; shape.total_lines()];
    shape.pack(0..shape.n_panels, &bytes, &mut lines);
    let x = rng.normals(n_rows * cols);
    let residual = rng.normals(n_rows * rows);
    for level in levels() {
        let mut wanted = residual.clone();
        let y = run_linear(level, &shape, &lines, &x, ScaleOver::Chunk, 2);
        level.run(AddTo { x: &y, out: &mut wanted });
        let mut found = residual.clone();
        let prepared = Prepared::new(level, &shape, &x, ScaleOver::Chunk);
        shape.format.linear(
            level,
            LinearCall {
                lines: &lines,
                panel_lines: shape.panel_lines,
                cols,
                code_min: shape.code_min,
                acts: prepared.acts(),
                out: ColumnsMut::new(&mut found, n_rows, rows, 0..rows),
                accumulate: true,
                few_rows: FEW_ROWS,
                scratch: &mut vec![Line::ZERO; shape.format.scratch_lines()],
            },
        );
        assert_same(&found, &wanted, level.name());
    }
}

#[test]
fn norms_and_gates_are_their_definitions() {
    let mut rng = Rng(3);
    for n in [8, 16, 40, 64, 172, 2048] {
        let (x, weight, up) = (rng.normals(3 * n), rng.normals(n), rng.normals(3 * n));
        let wanted: Vec<f32> =
            x.chunks(n).flat_map(|x| define::rms_norm(x, &weight, 1e-5)).collect();
        let gated: Vec<f32> = x.iter().zip(&up).map(|(&g, &u)| define::swiglu(g, u)).collect();
        for level in levels() {
            let mut out = vec![0.0; x.len()];
            level.run(RmsNorm { x: &x, weight: &weight, eps: 1e-5, out: &mut out });
            assert_same(&out, &wanted, &format!("rms_norm of {n}, {}", level.name()));
            level.run(SwiGlu { gate: &x, up: &up, out: &mut out });
            assert_same(&out, &gated, &format!("swiglu of {n}, {}", level.name()));
        }
    }
}

#[test]
fn layer_norm_squared_relu_gelu_and_rounded_rows_are_their_definitions() {
    let mut rng = Rng(4);
    for n in [8, 16, 40, 64, 172, 2048] {
        let (mut x, weight, bias) = (rng.normals(3 * n), rng.normals(n), rng.normals(n));
        x[n..2 * n].fill(0.0);
        let up = rng.normals(3 * n);
        let rows = |f: &dyn Fn(&[f32]) -> Vec<f32>| x.chunks(n).flat_map(f).collect::<Vec<f32>>();
        let normed = rows(&|x| define::layer_norm(x, &weight, &bias, 1e-5));
        let rounded = rows(&|x| define::round_row(x, ScaleOver::Row));
        let squared: Vec<f32> = x.iter().zip(&up).map(|(&g, &u)| define::relu2(g, u)).collect();
        let gelu: Vec<f32> = x.iter().map(|&x| define::gelu(x)).collect();
        for level in levels() {
            let what = |op: &str| format!("{op} of {n}, {}", level.name());
            let mut out = vec![0.0; x.len()];
            let (weight, bias) = (&weight, &bias);
            level.run(LayerNorm { x: &x, weight, bias, eps: 1e-5, out: &mut out });
            assert_same(&out, &normed, &what("layer_norm"));
            level.run(Relu2 { gate: &x, up: &up, out: &mut out });
            assert_same(&out, &squared, &what("relu2"));
            level.run(Gelu { x: &x, out: &mut out });
            assert_same(&out, &gelu, &what("gelu"));
            out.copy_from_slice(&x);
            level.run(RoundRows { over: ScaleOver::Row, cols: n, x: &mut out });
            assert_same(&out, &rounded, &what("rounded rows"));
        }
    }
}

#[test]
fn gelu_is_close_to_gelu() {
    // erf by its Taylor series, which converges fast enough up to 6 in f64.
    let erf = |z: f64| {
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    };
    for i in -500..=500 {
        let x = i as f32 / 100.0 + 0.003;
        let z = f64::from(x);
        let wanted = z / 2.0 * (1.0 + erf(z * std::f64::consts::FRAC_1_SQRT_2));
        let found = f64::from(define::gelu(x));
        assert!((found - wanted).abs() <= 3e-7 * z.abs(), "gelu({x}) = {found}, not {wanted}");
    }
    assert_eq!((define::gelu(-40.0), define::gelu(40.0)), (0.0, 40.0));
}

#[test]
fn exp_is_close_to_exp() {
    for i in -870..=880 {
        let x = i as f32 / 10.0 + 0.037;
        let x = x.clamp(-87.0, 88.0);
        let (found, wanted) = (f64::from(define::exp(x)), f64::from(x).exp());
        assert!((found / wanted - 1.0).abs() < 3e-7, "exp({x}) = {found}, not {wanted}");
    }
    assert_eq!(define::exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(define::exp(0.0), 1.0);
}

#[test]
fn rope_rotates_pairs() {
    let mut rng = Rng(5);
    for (head_dim, n_pairs) in [(8, 4), (64, 32), (128, 64), (80, 20)] {
        let heads = rng.normals(2 * head_dim);
        let angles = rng.normals(n_pairs);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        for pairs in [RopePairs::Interleaved, RopePairs::Half] {
            let mut wanted = heads.clone();
            for head in wanted.chunks_mut(head_dim) {
                for i in 0..n_pairs {
                    let (i0, i1) = match pairs {
                        RopePairs::Interleaved => (2 * i, 2 * i + 1),
                        RopePairs::Half => (i, i + n_pairs),
                    };
                    let (a, b) = (head[i0], head[i1]);
                    head[i0] = a.mul_add(cos[i], -(b * sin[i]));
                    head[i1] = a.mul_add(sin[i], b * cos[i]);
                }
            }
            for level in levels() {
                let mut found = heads.clone();
                let heads = &mut found;
                level.run(Rope { heads, head_dim, cos: &cos, sin: &sin, pairs });
                assert_same(&found, &wanted, &format!("{pairs:?} {head_dim} {}", level.name()));
            }
        }
    }
}

// proves T-11: tiled attention equals the naive one, with causal and window masks and without any,
// on stale pages.
#[test]
fn attention_is_its_definition() {
    let mut rng = Rng(11);
    for encoding in KvEncoding::ALL {
        for (head_dim, n_heads, window) in
            [(8, 2, usize::MAX), (64, 8, usize::MAX), (48, 1, 20), (128, 3, 7), (64, 4, 1)]
        {
            if head_dim % encoding.head_multiple() == 0 {
                attention_case(&mut rng, encoding, head_dim, n_heads, window, false);
            }
            if head_dim % encoding.head_multiple() == 0 && window == usize::MAX {
                attention_case(&mut rng, encoding, head_dim, n_heads, window, true);
            }
        }
    }
}

fn attention_case(
    rng: &mut Rng,
    encoding: KvEncoding,
    head_dim: usize,
    n_heads: usize,
    window: usize,
    sees_all: bool,
) {
    let shape = KvShape { head_dim, encoding };
    let total = 75;
    let scale = 1.0 / (head_dim as f32).sqrt();
    for (first_position, n_rows) in [(0, total), (0, 1), (31, 2), (40, 35), (74, 1)] {
        let queries = rng.normals(n_rows * n_heads * head_dim);
        let (keys, values) = (rng.normals(total * head_dim), rng.normals(total * head_dim));
        let rows = |x: &[f32], from: usize, to: usize| -> Vec<Vec<f32>> {
            x.chunks(head_dim).take(to).skip(from).map(<[f32]>::to_vec).collect()
        };
        let mut wanted = Vec::new();
        for row in 0..n_rows {
            let end = if sees_all { first_position + n_rows } else { first_position + row + 1 };
            let start = end.saturating_sub(window);
            for head in 0..n_heads {
                let query = &queries[(row * n_heads + head) * head_dim..][..head_dim];
                let (keys, values) = (rows(&keys, start, end), rows(&values, start, end));
                wanted.extend(define::attention(query, &keys, &values, start, scale, encoding));
            }
        }
        for level in levels() {
            // Pages hold infinities where nothing was written: they must not leak.
            let stale = Line([0x7c; 64]);
            let n_pages = total.div_ceil(PAGE_LEN);
            let pages: Vec<u32> = (0..n_pages as u32).rev().collect();
            let (page_lines, first) = (shape.slot_lines() + 2, 1);
            let mut cache = vec![stale; n_pages * page_lines];
            // What came before in ones and threes, what is new as much at once as fits a page.
            let mut at = 0;
            while at < first_position + n_rows {
                let n = if at < first_position { [1, 3][at % 2] } else { PAGE_LEN };
                let n = n.min(PAGE_LEN - at % PAGE_LEN).min(first_position + n_rows - at);
                let start = pages[at / PAGE_LEN] as usize * page_lines + first;
                level.run(KvAppend {
                    shape,
                    slot: &mut cache[start..][..shape.slot_lines()],
                    at: at % PAGE_LEN,
                    n,
                    keys: Rows { features: &keys[at * head_dim..], stride: head_dim },
                    values: Rows { features: &values[at * head_dim..], stride: head_dim },
                });
                at += n;
            }
            let width = n_heads * head_dim;
            let mut out = vec![0.0; n_rows * width];
            let mut scratch = vec![f32::NAN; Attend::scratch_len(shape, total)];
            level.run(Attend {
                shape,
                slots: Slots { lines: &cache, pages: &pages, page_lines, first },
                queries: &queries,
                stride: width,
                n_rows,
                n_heads,
                first_position,
                window,
                sees: sees_all.then_some(first_position + n_rows),
                scale,
                out: ColumnsMut::new(&mut out, n_rows, width, 0..width),
                scratch: &mut scratch,
            });
            let what = format!("{encoding:?} {head_dim} at {first_position}, {}", level.name());
            assert_same(&out, &wanted, &what);
        }
    }
}
