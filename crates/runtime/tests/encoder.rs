//! Encoders: every token sees all of its text, so a text is computed at once, and what comes of it
//! does not depend on what is computed beside it, nor on kernels, threads or fusion.

mod common;

use common::*;
use sterna_model::{Config, archs, eval_graph};
use sterna_runtime::{
    Chunk, KvEncoding, Logits, Program, Runner, RuntimeError, SequenceId, Settings,
};

/// A small BERT whose matrices are in this encoding.
fn bert(encoding: &'static str) -> Tiny {
    let preset = sterna_model::presets::by_name("bitnet-tiny").unwrap().config();
    let config = Config {
        n_layers: 2,
        vocab_len: SMALL.vocabulary,
        dim: 256,
        ffn_dim: 512,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 64,
        context_len: 64,
        rotary_dim: 0,
        biases: archs::bert::biases(),
        ..preset
    };
    let graph = archs::by_name("bert").unwrap().graph(&config).unwrap();
    random(graph, 5, |_, _| encoding)
}

fn settings() -> Settings {
    Settings { context_len: 64, kv: KvEncoding::F32, ..common::settings() }
}

/// The states of all tokens of some texts, in one call.
fn states(runner: &mut Runner, texts: &[&[u32]]) -> Vec<f32> {
    let sequences: Vec<SequenceId> = texts.iter().map(|_| runner.new_sequence()).collect();
    let logits = Logits::AllHidden;
    let of = sequences.iter().zip(texts);
    let chunks: Vec<_> =
        of.map(|(&sequence, &tokens)| Chunk { sequence, tokens, logits }).collect();
    assert!(runner.forward(&chunks).unwrap().is_empty(), "an encoder has no logits");
    sequences.into_iter().for_each(|sequence| runner.free(sequence).unwrap());
    runner.hidden().to_vec()
}

#[test]
fn states_are_those_of_the_definition() {
    let model = bert("F32");
    let tokens = tokens(37, 1);
    let wanted = eval_graph(&model.graph, &model, &tokens).unwrap();
    let got = states(&mut runner(&model, &settings()), &[&tokens]);
    assert_eq!(got.len(), wanted.len());
    let far = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 2e-4, "{far}");
}

#[test]
fn states_are_the_same_on_every_isa_with_any_threads_fused_or_not_and_beside_others() {
    let texts: Vec<Vec<u32>> = [37, 1, 64, 33, 9].map(|n| tokens(n, n as u64)).into();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    for encoding in ["F32", "Q8_0", "Q4_K"] {
        let model = bert(encoding);
        let plain = Settings { isa: Some("scalar".into()), threads: Some(1), ..settings() };
        let mut scalar = runner(&model, &plain);
        let alone: Vec<f32> = texts.iter().flat_map(|text| states(&mut scalar, &[text])).collect();
        for isa in levels() {
            for (threads, fuse) in [(1, false), (3, true)] {
                let isa = Some(isa.to_owned());
                let settings = Settings { isa, threads: Some(threads), fuse, ..settings() };
                let together = states(&mut runner(&model, &settings), &texts);
                assert_bits(&together, &alone, &format!("{encoding} {settings:?}"));
            }
        }
    }
}

#[test]
fn only_the_wanted_states_are_told() {
    let model = bert("Q8_0");
    let mut runner = runner(&model, &settings());
    let tokens = tokens(20, 3);
    let all = states(&mut runner, &[&tokens]);
    let sequence = runner.new_sequence();
    let chunk = Chunk { sequence, tokens: &tokens, logits: Logits::LastHidden };
    runner.forward(&[chunk]).unwrap();
    assert_bits(runner.hidden(), &all[19 * 256..], "the last one's");
}

#[test]
fn logits_and_texts_in_parts_are_refused() {
    let model = bert("Q8_0");
    let mut runner = runner(&model, &settings());
    let tokens = tokens(20, 3);
    let sequence = runner.new_sequence();
    let ask = |tokens, logits| [Chunk { sequence, tokens, logits }];
    let logits = runner.forward(&ask(&tokens, Logits::Last)).unwrap_err();
    assert!(logits.to_string().contains("/v1/embeddings"), "{logits}");
    runner.forward(&ask(&tokens[..10], Logits::None)).unwrap();
    let more = runner.forward(&ask(&tokens[10..], Logits::AllHidden)).unwrap_err();
    assert!(matches!(more, RuntimeError::Whole { given: 10, position: 10, most: 64 }), "{more}");
    let small = Settings { max_batch_rows: 16, ..settings() };
    let error = Program::compile(&model.graph, &model, &small, None).err().unwrap();
    assert!(error.to_string().contains("max_batch_rows is 16"), "{error}");
}
