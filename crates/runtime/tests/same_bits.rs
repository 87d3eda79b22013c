//! DESIGN's invariant 1 through whole models: the encoding defines the number. ISA, threads, batch
//! composition, prefill chunking and fusing change no bit of a logit.

mod common;

use common::*;
use sterna_model::eval_graph;
use sterna_model::ops::RopeLayout;
use sterna_runtime::{Chunk, KvEncoding, Logits, Runner, Settings};

/// Models that between them have every shape feature and packed format.
fn models() -> Vec<(String, Tiny)> {
    let qwen = Shape { bias: true, head_norm: true, tied: true, layout: RopeLayout::Half, ..SMALL };
    let narrow = Shape { head_dim: 24, kv_heads: 1, window: Some(9), ..SMALL };
    let wide = Shape { kv_heads: 4, ..SMALL };
    let cases: Vec<(Shape, Vec<&'static str>)> = vec![
        (SMALL, vec!["F32"]),
        (qwen, vec!["F16", "BF16", "F32"]),
        (wide, vec!["Q8_0"]),
        (SMALL, vec!["Q4_0"]),
        (qwen, vec!["Q4_K", "Q6_K"]),
        (wide, vec!["TQ2_0", "Q8_0"]),
        (SMALL, vec!["Q5_0", "F16", "Q4_0", "Q5_1", "Q3_K", "Q2_K", "Q5_K", "Q4_1", "TQ1_0"]),
        (Shape { window: Some(9), ..narrow }, vec!["F16"]),
    ];
    let model = |(i, (shape, encodings)): (usize, (Shape, Vec<&'static str>))| {
        (format!("{encodings:?} {shape:?}"), tiny(shape, &encodings, 40 + i as u64))
    };
    let mut models: Vec<(String, Tiny)> = cases.into_iter().enumerate().map(model).collect();
    models.push(("bitnet".into(), bitnet("bitnet-b1.58", "TQ2_0", 50)));
    models.push(("bitnet-gpt".into(), bitnet("bitnet-gpt", "TQ1_0", 51)));
    models.push(("mixed activations".into(), mixed(&["Q8_0", "F32", "TQ2_0"], 52)));
    models
}

// proves S-19
#[test]
fn isa_and_threads_change_no_bit() {
    let tokens = tokens(37, 1);
    for (what, model) in models() {
        let with = |isa: &str, threads: usize| {
            let settings = Settings { isa: Some(isa.into()), threads: Some(threads), ..settings() };
            all_logits(&mut runner(&model, &settings), &tokens)
        };
        let wanted = with("scalar", 1);
        assert!(wanted.iter().all(|x| x.is_finite()));
        for isa in levels() {
            for threads in 1..=4 {
                assert_bits(&with(isa, threads), &wanted, &format!("{what} {isa} {threads}"));
            }
        }
        let program =
            runner(&model, &Settings { threads: Some(3), ..settings() }).program().clone();
        for n_workers in [1, 2] {
            let mut other = Runner::with_workers(program.clone(), n_workers).unwrap();
            let what = format!("{what}, {n_workers} workers on a program for 3");
            assert_bits(&all_logits(&mut other, &tokens), &wanted, &what);
        }
    }
}

// proves S-19
#[test]
fn fusing_changes_no_bit() {
    let tokens = tokens(37, 2);
    for (what, model) in models() {
        let plain = Settings { fuse: false, ..settings() };
        let (mut fused, mut plain) = (runner(&model, &settings()), runner(&model, &plain));
        let fewer = fused.program().steps().count() < plain.program().steps().count();
        assert!(fewer, "{what}: fusing saves steps");
        let wanted = all_logits(&mut plain, &tokens);
        assert_bits(&all_logits(&mut fused, &tokens), &wanted, &what);
    }
}

/// The logits after each token, fed in pieces of the given sizes.
fn in_pieces(runner: &mut Runner, tokens: &[u32], sizes: &[usize]) -> Vec<f32> {
    let sequence = runner.new_sequence();
    let (mut logits, mut rest, mut turn) = (Vec::new(), tokens, 0);
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(sizes[turn % sizes.len()].min(rest.len()));
        let chunk = Chunk { sequence, tokens: piece, logits: Logits::All };
        logits.extend_from_slice(runner.forward(&[chunk]).unwrap());
        (rest, turn) = (later, turn + 1);
    }
    runner.free(sequence).unwrap();
    logits
}

// proves S-19
#[test]
fn prefill_chunking_changes_no_bit() {
    let tokens = tokens(75, 3);
    for (what, model) in models() {
        let mut whole = runner(&model, &Settings { max_batch_rows: 100, ..settings() });
        let wanted = all_logits(&mut whole, &tokens);
        let mut cut = runner(&model, &Settings { max_batch_rows: 13, ..settings() });
        for sizes in [&[1][..], &[7], &[75], &[31, 2, 1, 40]] {
            assert_bits(&in_pieces(&mut whole, &tokens, sizes), &wanted, &what);
            assert_bits(&in_pieces(&mut cut, &tokens, sizes), &wanted, &format!("{what}, cut"));
        }
    }
}

// proves S-19, A15
#[test]
fn neighbours_change_no_bit() {
    for (what, model) in models() {
        let mut runner = runner(&model, &settings());
        let texts: Vec<Vec<u32>> =
            [33, 1, 50, 12, 64].iter().map(|&n| tokens(n, n as u64)).collect();
        let wanted: Vec<Vec<f32>> = texts.iter().map(|t| all_logits(&mut runner, t)).collect();
        // Together: all prompts but their last tokens in one call, then one token of each.
        let sequences: Vec<_> = texts.iter().map(|_| runner.new_sequence()).collect();
        let chunks: Vec<Chunk<'_>> = texts
            .iter()
            .zip(&sequences)
            .map(|(t, &sequence)| Chunk {
                sequence,
                tokens: &t[..t.len() - 1],
                logits: Logits::All,
            })
            .collect();
        let n = runner.program().n_outputs();
        let together: Vec<f32> = wanted.iter().flat_map(|w| &w[..w.len() - n]).copied().collect();
        assert_bits(runner.forward(&chunks).unwrap(), &together, &what);
        let chunks: Vec<Chunk<'_>> = texts
            .iter()
            .zip(&sequences)
            .map(|(t, &sequence)| Chunk {
                sequence,
                tokens: &t[t.len() - 1..],
                logits: Logits::Last,
            })
            .collect();
        let last: Vec<f32> = wanted.iter().flat_map(|w| &w[w.len() - n..]).copied().collect();
        assert_bits(runner.forward(&chunks).unwrap(), &last, &what);
    }
}

#[test]
fn wanted_rows_are_those_of_all_rows() {
    let model = tiny(SMALL, &["Q8_0"], 5);
    let mut runner = runner(&model, &settings());
    let tokens = tokens(70, 4);
    let all = all_logits(&mut runner, &tokens);
    let sequence = runner.new_sequence();
    let chunk = Chunk { sequence, tokens: &tokens, logits: Logits::Last };
    let n = runner.program().n_outputs();
    assert_bits(runner.forward(&[chunk]).unwrap(), &all[all.len() - n..], "last");
    let other = runner.new_sequence();
    let none = Chunk { sequence: other, tokens: &tokens, logits: Logits::None };
    assert!(runner.forward(&[none]).unwrap().is_empty());
    assert_eq!(runner.len(other).unwrap(), 70);
}

#[test]
fn a_cut_sequence_goes_on_as_a_fresh_one() {
    for kv in KvEncoding::ALL {
        let model = tiny(SMALL, &["Q4_0", "F16"], 6);
        let mut runner = runner(&model, &Settings { kv, ..settings() });
        let (first, second) = (tokens(90, 5), tokens(60, 6));
        let sequence = runner.new_sequence();
        let chunk = Chunk { sequence, tokens: &first, logits: Logits::None };
        runner.forward(&[chunk]).unwrap();
        runner.truncate(sequence, 37).unwrap();
        let chunk = Chunk { sequence, tokens: &second, logits: Logits::Last };
        let cut = runner.forward(&[chunk]).unwrap().to_vec();
        let fresh: Vec<u32> = first[..37].iter().chain(&second).copied().collect();
        let wanted = all_logits(&mut runner, &fresh);
        assert_bits(&cut, &wanted[wanted.len() - cut.len()..], &format!("{kv:?}"));
    }
}

#[test]
fn logits_are_those_of_the_ops_definitions() {
    let shapes = [
        SMALL,
        Shape { bias: true, head_norm: true, tied: true, layout: RopeLayout::Half, ..SMALL },
        Shape { window: Some(9), kv_heads: 1, head_dim: 24, ..SMALL },
    ];
    for (i, shape) in shapes.into_iter().enumerate() {
        let model = tiny(shape, &["F32"], 70 + i as u64);
        let tokens = tokens(41, 7);
        let wanted = eval_graph(&model.graph, &model, &tokens).unwrap();
        let mut runner = runner(&model, &Settings { kv: KvEncoding::F32, ..settings() });
        let got = all_logits(&mut runner, &tokens);
        let norm = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let difference: Vec<f32> = got.iter().zip(&wanted).map(|(a, b)| a - b).collect();
        let relative = norm(&difference) / norm(&wanted);
        assert!(relative < 1e-4, "{shape:?}: {relative}");
    }
}
