//! Each op's definition against small results worked out by hand.

use super::*;

fn eval(
    op: &dyn Op,
    n_rows: usize,
    inputs: &[&[f32]],
    weights: &[&[f32]],
    n: &[usize],
) -> Vec<f32> {
    let mut outputs: Vec<Vec<f32>> = n.iter().map(|n| vec![f32::NAN; n * n_rows]).collect();
    let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    op.eval(&EvalInputs { n_rows, inputs, weights }, &mut slices);
    outputs.concat()
}

#[test]
fn op_names_are_unique_and_described() {
    for (i, op) in OPS.iter().enumerate() {
        assert!(OPS[..i].iter().all(|other| other.name() != op.name()), "{}", op.name());
        assert!(!op.about().is_empty());
    }
}

#[test]
fn embedding_copies_rows() {
    let table = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
    assert_eq!(eval(&Embedding, 2, &[&[2.0, 0.0]], &[&table], &[2]), [20.0, 21.0, 0.0, 1.0]);
    assert!(Embedding.out_features(&[2], &[&[3, 2]]).is_err());
}

#[test]
fn linear_has_n_outputs_and_counts_biases() {
    let op = Linear { biases: vec![false, true], activations: Activations::Float };
    assert_eq!((op.bias_of(0), op.bias_of(1)), (None, Some(2)));
    let y =
        eval(&op, 1, &[&[1.0, 2.0]], &[&[3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], &[0.5, -0.5]], &[1, 2]);
    assert_eq!(y, [11.0, 17.5, 22.5]);
    assert_eq!(op.out_features(&[2], &[&[1, 2], &[2, 2], &[2]]).unwrap(), [1, 2]);
    assert!(op.out_features(&[3], &[&[1, 2], &[2, 2], &[2]]).unwrap_err().contains("1x2"));
    assert!(op.out_features(&[2], &[&[1, 2], &[2, 2], &[3]]).unwrap_err().contains("bias"));
}

// proves B-1 (activations): codes of one row share a scale of absmax/127, ties go to even.
#[test]
fn int8_activations_are_rounded_per_row() {
    let x = [254.0, 1.0, 3.0, -254.0, 0.0, 0.0, 0.0, 0.0, 1e-6, 0.0, 0.0, 0.0];
    let ones = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let rows = eval(&Linear::int8(false), 3, &[&x], &[&ones], &[4]);
    assert_eq!(rows[..4], [254.0, 0.0, 4.0, -254.0], "0.5 and 1.5 scales round to 0 and 2");
    assert_eq!(rows[4..8], [0.0; 4]);
    assert!((rows[8] - 1e-6).abs() < 5e-8, "tiny rows keep the scale of 1e-5: {}", rows[8]);
    assert_eq!(eval(&Linear::new(false), 3, &[&x], &[&ones], &[4]), x);
    assert_eq!(Linear::int8(true).attributes(), "(bias) activations=int8");
}

// proves S-2 (the definition): all rows share a scale, and what is beyond its range is clipped.
#[test]
fn static_int8_activations_are_clipped_at_the_range() {
    let range = linear::Range::new(127.0).unwrap();
    let op = Linear { activations: Activations::Int8Static(range), ..Linear::new(false) };
    let x = [200.0, 1.5, -500.0, 0.4, 2.5, -127.0];
    assert_eq!(
        eval(&op, 3, &[&x], &[&[1.0, 0.0, 0.0, 1.0]], &[2])[..],
        [127.0, 2.0, -127.0, 0.0, 2.0, -127.0]
    );
    assert_eq!(op.attributes(), "activations=int8 within 127");
    for none in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-37] {
        assert_eq!(linear::Range::new(none), None, "{none}");
    }
}

#[test]
fn rms_norm_works_per_head() {
    let op = RmsNorm { eps: 0.0, group_len: 2 };
    let y = eval(&op, 1, &[&[3.0, 3.0, 0.0, 2.0]], &[&[1.0, 2.0]], &[4]);
    let root = std::f32::consts::SQRT_2;
    for (y, want) in y.iter().zip([1.0, 2.0, 0.0, 2.0 * root]) {
        assert!((y - want).abs() < 1e-6, "{y} {want}");
    }
    assert!(op.out_features(&[5], &[&[2]]).is_err());
}

#[test]
fn rope_layouts_are_the_same_turn_of_permuted_features() {
    let rope = |layout| Rope { head_dim: 6, rotary_dim: 4, layout, base: 100.0, scale: 2.0 };
    let x = [9., 9., 9., 9., 9., 9., 1., 2., 3., 4., 5., 6.];
    let permuted = [9., 9., 9., 9., 9., 9., 1., 3., 2., 4., 5., 6.];
    let half = eval(&rope(RopeLayout::Half), 2, &[&x], &[], &[6]);
    let interleaved = eval(&rope(RopeLayout::Interleaved), 2, &[&permuted], &[], &[6]);
    assert_eq!(half[..6], x[..6], "position 0 does not turn");
    assert_eq!(half[10..], x[10..], "features past rotary_dim pass through");
    let back: Vec<f32> = [0, 2, 1, 3, 4, 5].iter().map(|i| interleaved[6 + i]).collect();
    assert_eq!(half[6..], back);
    // Position 1, halved by the scale: the first pair turns by 0.5 radians, the second by 0.05.
    let (sin, cos) = 0.5f32.sin_cos();
    assert!((half[6] - (cos - 3.0 * sin)).abs() < 1e-6);
    let (sin, cos) = 0.05f32.sin_cos();
    assert!((half[9] - (2.0 * sin + 4.0 * cos)).abs() < 1e-6);
}

#[test]
fn rope_factors_divide_the_frequencies() {
    let rope =
        Rope { head_dim: 4, rotary_dim: 4, layout: RopeLayout::Half, base: 100.0, scale: 1.0 };
    assert_eq!(rope.frequencies(Some(&[1.0, 8.0])), [1.0, 0.1 / 8.0]);
    assert_eq!(rope.table(None, 3..4).cos[0], 3f64.cos() as f32);
}

#[test]
fn llama3_factors_keep_fast_pairs_and_divide_slow_ones() {
    let scaling = Llama3Scaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192.0,
    };
    let factors = scaling.factors(500_000.0, 128);
    assert_eq!((factors[0], factors[63]), (1.0, 8.0));
    assert!(factors.is_sorted(), "{factors:?}");
    assert!(factors.iter().any(|&f| f > 1.0 && f < 8.0));
}

#[test]
fn attention_is_causal_grouped_and_windowed() {
    let op = Attention {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 1,
        scale: 1.0,
        window: None,
        causal: true,
    };
    let (q, k, v) = ([0.0; 6], [1.0, 2.0, 3.0], [3.0, 6.0, 12.0]);
    let y = eval(&op, 3, &[&q, &k, &v], &[], &[2]);
    assert_eq!(y, [3.0, 3.0, 4.5, 4.5, 7.0, 7.0], "zero queries average what they see");
    let windowed = Attention { window: Some(2), ..op.clone() };
    let y = eval(&windowed, 3, &[&q, &k, &v], &[], &[2]);
    assert_eq!(y, [3.0, 3.0, 4.5, 4.5, 9.0, 9.0]);
    assert_eq!(windowed.cost(&[], &[], 10).kv_read, 4.0);
    let whole = Attention { causal: false, ..op.clone() };
    assert_eq!(eval(&whole, 3, &[&q, &k, &v], &[], &[2]), [7.0; 6], "all see all");
    let both = Attention { causal: false, ..windowed };
    assert!(both.out_features(&[2, 1, 1], &[]).unwrap_err().contains("window"));
    assert!(op.out_features(&[2, 2, 1], &[]).is_err());
}

#[test]
fn position_embedding_adds_the_row_of_each_position() {
    let table = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let y = eval(&PositionEmbedding, 2, &[&[10.0, 10.0, 20.0, 20.0]], &[&table], &[2]);
    assert_eq!(y, [11.0, 12.0, 23.0, 24.0]);
    assert!(PositionEmbedding.out_features(&[2], &[&[3, 4]]).is_err());
}

#[test]
fn type_embedding_adds_the_row_of_a_single_text() {
    let table = [1.0, 2.0, 3.0, 4.0];
    let y = eval(&TypeEmbedding, 2, &[&[10.0, 10.0, 20.0, 20.0]], &[&table], &[2]);
    assert_eq!(y, [11.0, 12.0, 21.0, 22.0]);
    assert!(TypeEmbedding.out_features(&[2], &[&[2, 4]]).is_err());
}

#[test]
fn layer_norm_has_mean_0_and_variance_1_before_its_weights() {
    let y = eval(
        &LayerNorm { eps: 0.0 },
        2,
        &[&[1.0, 3.0, 5.0, 5.0]],
        &[&[2.0, 1.0], &[0.5, 0.0]],
        &[2],
    );
    assert_eq!(y[..2], [-1.5, 1.0]);
    assert!(y[2].is_nan(), "a row of one number has no variance to divide by");
    assert!(LayerNorm { eps: 0.0 }.out_features(&[2], &[&[2], &[3]]).is_err());
}

#[test]
fn squared_relu_and_gelu() {
    let y = eval(&Relu2, 1, &[&[-3.0, 3.0], &[5.0, 2.0]], &[], &[2]);
    assert_eq!(y, [0.0, 18.0]);
    // Values of the normal distribution function from tables.
    let y = eval(&Gelu, 1, &[&[0.0, 1.0, -1.0, 2.0, -3.0, 30.0, -30.0]], &[], &[7]);
    let want = [0.0, 0.841_344_7, -0.158_655_25, 1.954_499_7, -0.004_049_694, 30.0, 0.0];
    for (y, want) in y.iter().zip(want) {
        assert!((y - want).abs() < 1e-7 * want.abs().max(1.0), "{y} {want}");
    }
}

#[test]
fn swiglu_and_add() {
    let y = eval(&Swiglu, 1, &[&[0.0, 100.0], &[5.0, 2.0]], &[], &[2]);
    assert_eq!(y, [0.0, 200.0]);
    assert_eq!(eval(&Add, 1, &[&[1.0], &[2.0]], &[], &[1]), [3.0]);
}
