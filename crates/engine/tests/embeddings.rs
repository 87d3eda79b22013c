//! Embeddings of a real model: what the runner gives by itself, whatever the company.

mod common;

use common::{Machine, ask, hear, requests};
use sterna_engine::embedding::Pool;
use sterna_engine::{Pooling, Request};
use sterna_runtime::{Chunk, Logits, Runner};

// proves A15: batch = single, for embeddings too
#[test]
fn embeddings_are_the_states_that_the_runner_gives_by_itself() {
    let machine = Machine::new(12);
    let texts = requests(&machine.tokenizer);
    let mut runner = Runner::new(machine.program.clone()).unwrap();
    let mut direct = |tokens: &[u32], pooling: Pooling| {
        let sequence = runner.new_sequence();
        let logits = match pooling {
            Pooling::Last => Logits::LastHidden,
            Pooling::Mean | Pooling::First => Logits::AllHidden,
        };
        runner.forward(&[Chunk { sequence, tokens, logits }]).unwrap();
        let mut pool = Pool::default();
        let len = machine.program.hidden_len().unwrap();
        runner.hidden().chunks_exact(len).for_each(|state| pool.add(state));
        runner.free(sequence).unwrap();
        pool.embedding()
    };
    let engine = machine.engine(8);
    let request = |i: usize, prompt: &[u32]| {
        let embed = Some([Pooling::Last, Pooling::Mean][i % 2]);
        Request { prompt: prompt.to_vec(), max_tokens: 0, embed, ..Request::default() }
    };
    // Beside requests that generate, on few pages.
    let asked: Vec<_> = (texts.iter().enumerate())
        .map(|(i, text)| (ask(&engine, request(i, &text.prompt)), ask(&engine, text.clone())))
        .collect();
    for (i, (embedding, generation)) in asked.into_iter().enumerate() {
        let finished = hear(embedding).finished.unwrap();
        let found = finished.embedding.unwrap();
        let request = request(i, &texts[i].prompt);
        assert_eq!(found, direct(&request.prompt, request.embed.unwrap()), "text {i}");
        let norm: f32 = found.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        assert!(hear(generation).finished.unwrap().embedding.is_none());
    }
}
