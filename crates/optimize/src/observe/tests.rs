//! What is gathered of a small model: all of it, the same whoever computes it.

use super::*;
use crate::runner::RuntimeEngine;
use crate::statistics::{self, Line, Text};
use crate::testing::{killed, tiny_model};
use sterna_measure::Workload;
use sterna_measure::quality::Scoring;
use sterna_runtime::Settings;

fn engine(threads: usize) -> RuntimeEngine {
    let threads = Some(threads);
    RuntimeEngine::new(Settings { threads, context_len: 64, ..Settings::default() }).unwrap()
}

fn passages() -> Passages {
    let document = |i: u32| (0..20 + i).map(|at| (at * 7 + i * 3) % 48).collect();
    let workload = Workload::new("text", (0..5).map(document).collect(), 500).unwrap();
    Passages::new(&workload, Scoring::Documents { bos: None, n_unscored: 0 }).unwrap()
}

fn observed(threads: usize) -> Observed {
    let model = tiny_model(3);
    let told = &mut |_| Ok(());
    observe(&model.graph, &model, &engine(threads), &passages(), told).unwrap()
}

// proves B8 (coverage: every matrix of a layer and the head, every token)
#[test]
fn every_matrix_is_seen_with_all_tokens() {
    let (model, observed) = (tiny_model(3), observed(2));
    let n_tokens = 20 + 21 + 22 + 23 + 24;
    assert_eq!(observed.n_tokens, n_tokens);
    let names: Vec<&str> =
        observed.inputs.iter().flat_map(|i| &i.matrices).map(String::as_str).collect();
    for id in model.graph.weight_ids() {
        let decl = model.graph.decl(id);
        // The table of embeddings is the head too: it is tied.
        assert_eq!(names.contains(&&*decl.name), decl.role.is_matrix(), "{}", decl.name);
    }
    for input in &observed.inputs {
        assert_eq!(input.n_rows as usize, n_tokens, "{:?}", input.matrices);
        assert_eq!(input.magnitudes.n() as usize, n_tokens * input.sum2.len());
        let largest = input.largest.iter().copied().fold(0.0, f32::max);
        assert_eq!(largest, input.magnitudes.largest());
    }
    assert_eq!(observed.warnings(), [] as [&str; 0]);
}

// The sums are in the order of tokens, whoever computed them.
#[test]
fn threads_change_no_bit_and_the_same_text_gives_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = Text::of("some/text.txt".as_ref(), &passages());
    let file = |observed: &Observed, name: &str| {
        let lines: Vec<Line> = observed.inputs.iter().map(Line::of).collect();
        let path = folder.path().join(name);
        statistics::write(&path, observed, &text, &lines).unwrap();
        std::fs::read(path).unwrap()
    };
    assert_eq!(file(&observed(1), "one"), file(&observed(2), "two"));
}

#[test]
fn a_file_gives_back_the_weights_of_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.gguf");
    let observed = observed(2);
    let lines: Vec<Line> = observed.inputs.iter().map(Line::of).collect();
    statistics::write(&path, &observed, &Text::of("t".as_ref(), &passages()), &lines).unwrap();
    let (read, own) = (Importance::open(&path).unwrap(), observed.importance());
    for input in &observed.inputs {
        for name in &input.matrices {
            let n = input.sum2.len();
            let (read, own) = (read.of(name, n).unwrap(), own.of(name, n).unwrap());
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
            assert!(read.iter().zip(&*own).all(close), "{name}");
        }
    }
}

#[test]
fn whoever_is_told_can_end_it() {
    let model = tiny_model(3);
    let told = &mut |n| if n == 2 { Err(killed()) } else { Ok(()) };
    let ended = observe(&model.graph, &model, &engine(1), &passages(), told);
    assert_eq!(ended.unwrap_err().to_string(), killed().to_string());
}
