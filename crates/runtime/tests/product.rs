//! The whole product: encodings x ISAs x rows x threads, through a program of one linear layer.

mod common;

use common::*;
use sterna_formats::encodings::ENCODINGS;
use sterna_model::ops::{Embedding, Linear};
use sterna_model::{Graph, Role};
use sterna_runtime::{Chunk, Logits, Runner, RuntimeError, Settings};

/// Rows of a call.
const ROWS: [usize; 7] = [1, 2, 3, 7, 16, 64, 513];

/// Outputs: two panels and a part of one.
const OUT: usize = 40;

/// Tokens looked up and multiplied by a matrix in an encoding, which is all.
fn one_layer(encoding: &'static str, cols: usize, seed: u64) -> Tiny {
    let mut graph = Graph::default();
    let shape = [SMALL.vocabulary, cols];
    let table = graph.weight("token_embd.weight", &shape, Role::TokenEmbedding, None);
    let x = graph.add("token_embd", Embedding, &[Graph::TOKENS], &[table]).unwrap();
    let weight = graph.weight("output.weight", &[OUT, cols], Role::Head, None);
    graph.output = Some(graph.add("output", Linear::new(false), &[x], &[weight]).unwrap());
    random(
        graph,
        seed,
        |graph, id| {
            if graph.decl(id).role == Role::Head { encoding } else { "F32" }
        },
    )
}

/// Room for the largest call in one batch.
fn settings(isa: &str, threads: usize, bf16_dot: bool) -> Settings {
    let isa = Some(isa.to_owned());
    let (context_len, max_batch_rows) = (640, 513);
    Settings {
        isa,
        bf16_dot,
        context_len,
        max_batch_rows,
        kv_positions: None,
        threads: Some(threads),
        ..common::settings()
    }
}

fn check(encoding: &'static str, cols: usize, bf16_dot: bool) {
    let model = one_layer(encoding, cols, cols as u64);
    let tokens = tokens(513, 9);
    let scalar = &mut runner(&model, &settings("scalar", 1, bf16_dot));
    let wanted = all_logits(scalar, &tokens);
    for isa in levels() {
        for threads in [1, 2, 3] {
            let settings = settings(isa, threads, bf16_dot);
            if bf16_dot && settings.level().is_err() {
                continue;
            }
            let runner = &mut runner(&model, &settings);
            for n_rows in ROWS {
                let found = all_logits(runner, &tokens[..n_rows]);
                let what = format!("{encoding}, {isa}, {n_rows} rows, {threads} threads");
                assert_bits(&found, &wanted[..n_rows * OUT], &what);
            }
        }
    }
}

// proves S-19, P-10
#[test]
fn encodings_isas_rows_and_threads_change_no_bit() {
    for encoding in ENCODINGS.iter().filter(|encoding| encoding.can_encode()) {
        // A chunk of 256 columns and a part of one, where the blocks allow it.
        let cols = if encoding.block_len() > 32 { 2 * encoding.block_len() } else { 288 };
        check(encoding.name(), cols, false);
    }
}

// proves S-19, P-10
#[test]
fn bf16_dots_are_the_same_bits_wherever_they_are_and_others_than_exact_ones() {
    check("BF16", 288, true);
    check("BF16", 1040, true);
    let model = one_layer("BF16", 288, 288);
    let logits = |bf16_dot| {
        let mut runner: Runner = runner(&model, &settings("scalar", 1, bf16_dot));
        let sequence = runner.new_sequence();
        let chunk = Chunk { sequence, tokens: &tokens(20, 9), logits: Logits::All };
        runner.forward(&[chunk]).unwrap().to_vec()
    };
    let (exact, rounded) = (logits(false), logits(true));
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
    let error =
        norm(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b)) / norm(&mut exact.into_iter());
    assert!(error > 1e-5 && error < 5e-3, "{error}");
}

#[test]
fn bf16_dots_are_refused_where_they_would_be_slower() {
    if let Err(error) = settings("avx2", 1, true).level() {
        let is_lack =
            matches!(error, RuntimeError::Bf16Dots { isa: "avx2" } | RuntimeError::Isa(_));
        assert!(is_lack, "{error}");
    } else {
        panic!("AVX2 has no bf16 dots");
    }
}
