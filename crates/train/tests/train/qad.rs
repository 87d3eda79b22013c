//! Quantized models that learn from what they were made of.

use crate::common::*;
use std::sync::Arc;
use sterna_formats::encodings::by_name;
use sterna_model::archs;
use sterna_model::{Config, Graph, WeightId};
use sterna_train::backend::Cpu;
use sterna_train::config::Quantize;
use sterna_train::export::Trained;
use sterna_train::forms::Batch;
use sterna_train::net::Modes;
use sterna_train::qad::{self, Learned, Lessons, Pace};
use sterna_train::quant::Quantizer;
use sterna_train::{Net, TrainError};

fn graph() -> Graph {
    let arch = archs::by_name("llama").unwrap();
    arch.graph(&Config { dim: 64, ffn_dim: 64, head_dim: 16, rotary_dim: 16, ..config(arch) })
        .unwrap()
}

/// Documents of several lengths.
fn documents() -> Vec<Vec<u32>> {
    let document = |n: usize| (0..6 + n % 5).map(move |i| ((i * 7 + n * 13 + i * i) % 40) as u32);
    (0..32).map(|n| document(n).collect()).collect()
}

/// Learns at a pace; the divergences before each step, and what was learned.
fn learn(
    encoding: &str,
    pace: Pace,
    watch: &mut dyn FnMut(qad::Step) -> usize,
) -> Result<Vec<Learned>, TrainError> {
    let (graph, documents) = (Arc::new(graph()), documents());
    let values = weights(&graph, 3);
    let quantize = Quantize { encoding: Some(encoding.into()), ..Quantize::default() };
    let quantizer = Quantizer::new(&quantize, &graph).unwrap();
    let plain = full_precision(&graph);
    let stored = Trained {
        graph: &graph,
        weights: &values,
        quantizer: &quantizer,
        float: by_name("F32").unwrap(),
    };
    let original = source(&graph, &values, &plain);
    let tensors = tensors(&graph, &values);
    let mut teacher = |n: usize| {
        let inputs = &documents[n][..documents[n].len() - 1];
        let frozen = |id: WeightId| values[id.0].clone();
        let (device, modes) = (Default::default(), Modes::default());
        let net = Net::<Cpu>::new(graph.clone(), inputs.len(), &frozen, modes, &device)?;
        let ids: Vec<i32> = inputs.iter().map(|&token| token as i32).collect();
        let tokens = burn::tensor::Tensor::from_data(&ids[..], &device);
        let batch = Batch { tokens, n_sequences: 1, seq_len: inputs.len() };
        Ok(net.forward(&tensors, &batch).into_data().into_vec::<f32>().unwrap())
    };
    let lessons = Lessons {
        graph: graph.clone(),
        stored: &stored,
        original: &original,
        documents: documents.iter().map(|document| &document[..]).collect(),
        teacher: &mut teacher,
    };
    qad::learn::<Cpu>(lessons, &pace, &Default::default(), watch)
}

// proves S-7 (into a quantized student): codes and factors learn, and the same each time.
#[test]
fn a_quantized_model_learns_to_answer_as_its_original() {
    for encoding in ["Q4_0", "IQ4_NL", "Q4_1"] {
        let pace = Pace { epochs: 12, ..Pace::gentle(1, documents().len()) };
        let mut course = Vec::new();
        let learned = learn(encoding, pace, &mut |step| {
            course.push(step);
            step.of
        })
        .unwrap();
        let n_steps = pace.n_steps(documents().len());
        assert_eq!((course.len(), course[3].done, course[3].of), (n_steps, 4, n_steps));
        let mean =
            |steps: &[qad::Step]| steps.iter().map(|s| s.kl).sum::<f64>() / steps.len() as f64;
        let (first, last) = (mean(&course[..8]), mean(&course[n_steps - 8..]));
        assert!(last < 0.6 * first, "{encoding}: {first} to {last}");
        let names: Vec<String> =
            learned.iter().map(|(id, _)| graph().decl(*id).name.clone()).collect();
        assert_eq!(names.len(), 14, "{names:?}");
        // The same each time, and of no more steps than planned.
        assert_eq!(learn(encoding, pace, &mut |step| step.of + 1).unwrap(), learned);
    }
}

#[test]
fn it_ends_where_that_was_enough_and_refuses_what_cannot_learn() {
    let mut n_steps = 0;
    let learned =
        learn("Q4_0", Pace { epochs: 50, ..Pace::gentle(1, documents().len()) }, &mut |step| {
            n_steps = step.done;
            step.of.min(3)
        });
    assert_eq!((n_steps, learned.unwrap().is_empty()), (3, false));
    let arch = archs::by_name("bert").unwrap();
    let graph = Arc::new(arch.graph(&config(arch)).unwrap());
    let refused = qad::check::<Cpu>(&graph, &Default::default()).unwrap_err();
    assert!(refused.to_string().contains("it encodes texts"), "{refused}");
}

#[test]
fn few_documents_are_read_again_in_shorter_steps() {
    let gentle = |n_documents| {
        let pace = Pace::gentle(0, n_documents);
        (pace.epochs, pace.n_steps(n_documents), pace.factor_rate / 1e-3, pace.code_rate / 4e-3)
    };
    assert_eq!(gentle(1000), (1, 250, 1.0, 1.0));
    assert_eq!(gentle(512), (1, 128, 1.0, 1.0));
    let part = 0.75;
    assert_eq!(gentle(144), (2, 72, part, part), "the root of 72 of 128");
    let part = (32.0_f64 / 128.0).sqrt();
    assert_eq!(gentle(32), (4, 32, part, part), "no more often than that");
    assert_eq!(gentle(0).1, 0);
}
