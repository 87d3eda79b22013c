//! Profiles: every step has its own time, the times sum to the wall, operations are the formula's.

mod common;

use common::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use sterna_model::ops::{Attention, Linear};
use sterna_model::{Graph, Role, WeightSource};
use sterna_runtime::profile::{ClockFn, Detail};
use sterna_runtime::{Chunk, Logits, Profile, Runner, Settings};

/// A clock every look at which takes a microsecond, while nothing else takes any time.
fn ticking() -> ClockFn {
    let ticks = AtomicU64::new(0);
    Box::new(move || Duration::from_micros(ticks.fetch_add(1, Relaxed)))
}

fn profiled(runner: &mut Runner, detail: Detail, work: impl FnOnce(&mut Runner)) -> Profile {
    runner.start_profile(ticking(), detail);
    work(runner);
    runner.end_profile()
}

// proves P-10
// proves B-13: exclusive times sum to at most the wall, and to at least 90% of it.
#[test]
fn every_step_has_its_own_time() {
    let model = tiny(SMALL, &["Q8_0"], 1);
    let mut runner = runner(&model, &settings());
    let profile = profiled(&mut runner, Detail::Sums, |runner| {
        all_logits(runner, &tokens(100, 1));
    });
    let names: Vec<&str> = runner.program().steps().map(|(name, _)| name).collect();
    assert_eq!(profile.n_batches, 2);
    assert!(profile.steps.iter().map(|s| s.name.as_str()).eq(names));
    assert!(profile.steps.iter().all(|s| s.time == Duration::from_micros(2)), "{profile:?}");
    let outside = profile.wall - profile.step_time();
    assert_eq!(outside, Duration::from_micros(4), "two looks around each batch");
    assert!(profile.step_time().as_secs_f64() >= 0.9 * profile.wall.as_secs_f64());
    assert!(profile.spans.is_empty() && profile.works.is_empty());
    assert!(runner.end_profile().steps.is_empty(), "it has ended");
}

/// The formula: two operations per multiply-accumulate of linear layers, on the rows they run on,
/// and of attention, which sees as many keys as its position has.
fn formula(graph: &Graph, positions: std::ops::Range<usize>, n_wanted: usize) -> (f64, f64) {
    let (mut linear, mut attention) = (0.0, 0.0);
    for position in positions.clone() {
        for (node, cost) in graph.nodes.iter().zip(graph.node_costs(position + 1)) {
            let op = node.op.as_any();
            let is_head = node.weights.iter().any(|&w| graph.decl(w).role == Role::Head);
            if op.is::<Attention>() {
                attention += 2.0 * cost.macs;
            } else if op.is::<Linear>() && !is_head {
                linear += 2.0 * cost.macs;
            } else if op.is::<Linear>() && position == positions.start {
                linear += 2.0 * cost.macs * n_wanted as f64;
            }
        }
    }
    (linear, attention)
}

/// The counted (linear, attention) operations of a profile.
fn counted(profile: &Profile) -> (f64, f64) {
    let sum = |is_attention: bool| {
        let steps = profile.steps.iter().filter(|s| (s.kind == "attention") == is_attention);
        steps.map(|s| s.work.flops).sum::<f64>()
    };
    (sum(false), sum(true))
}

// proves T-18: what a profile counts is the formula over the graph that the model is.
#[test]
fn operations_are_those_of_the_formula() {
    let windowed = Shape { window: Some(9), ..SMALL };
    let models = [
        tiny(SMALL, &["Q8_0"], 1),
        tiny(windowed, &["Q4_K", "F16", "Q6_K"], 2),
        bitnet("bitnet", "TQ2_0", 3),
        bitnet("bitnet-gpt", "TQ1_0", 4),
    ];
    for (m, model) in models.iter().enumerate() {
        for fuse in [true, false] {
            let settings = Settings { fuse, ..settings() };
            let mut runner = runner(model, &settings);
            let sequence = runner.new_sequence();
            let text = tokens(70, 1);
            for (range, n_wanted) in [(0..69, 1), (69..70, 1)] {
                let profile = profiled(&mut runner, Detail::Sums, |runner| {
                    let tokens = &text[range.clone()];
                    let chunk = Chunk { sequence, tokens, logits: Logits::Last };
                    runner.forward(&[chunk]).unwrap();
                });
                // Steps after the last attention run on the wanted rows only, as the head does.
                let wanted = formula(&model.graph, range.clone(), n_wanted);
                let (linear, attention) = counted(&profile);
                assert_eq!(attention, wanted.1, "model {m}, {range:?}, fuse {fuse}");
                let after = after_last_attention(&model.graph) * (range.len() - n_wanted) as f64;
                assert_eq!(linear, wanted.0 - after, "model {m}, {range:?}, fuse {fuse}");
            }
        }
    }
}

/// Operations per row of the linear layers, without the head, that follow the last attention.
fn after_last_attention(graph: &Graph) -> f64 {
    let last = graph.nodes.iter().rposition(|node| node.op.as_any().is::<Attention>()).unwrap();
    let costs = graph.node_costs(1);
    let after = graph.nodes.iter().zip(costs).skip(last + 1);
    let linear = after.filter(|(node, _)| {
        let is_head = node.weights.iter().any(|&w| graph.decl(w).role == Role::Head);
        node.op.as_any().is::<Linear>() && !is_head
    });
    linear.map(|(_, cost)| 2.0 * cost.macs).sum()
}

#[test]
fn steps_know_their_layer_and_whether_they_count_in_integers() {
    let model = bitnet("bitnet", "TQ2_0", 1);
    let mut runner = runner(&model, &settings());
    let profile = profiled(&mut runner, Detail::Sums, |runner| {
        all_logits(runner, &tokens(5, 1));
    });
    for step in &profile.steps {
        let by_name = step.name.strip_prefix("blk.").and_then(|name| name.split('.').next());
        let by_name: Option<usize> = by_name.map(|layer| layer.parse().unwrap());
        // A step that prepares a value is named by the value and belongs to its reader.
        if !step.name.contains("prepare") && !step.name.contains("wanted") {
            assert_eq!(step.layer, by_name, "{}", step.name);
        }
        let integers = step.work.int8_flops;
        assert!(integers == 0.0 || integers == step.work.flops, "{}", step.name);
        let is_quantized = |w| model.encoding(w).name() == "TQ2_0";
        let node = model.graph.nodes.iter().find(|node| node.name == step.name);
        if let Some(node) = node.filter(|node| node.op.as_any().is::<Linear>()) {
            let wanted = node.weights.iter().any(|&w| is_quantized(w));
            assert_eq!(integers > 0.0, wanted, "{}", step.name);
        }
    }
    assert!((0..2).all(|layer| profile.steps.iter().any(|s| s.layer == Some(layer))));
}

#[test]
fn spans_lie_in_their_step_and_nothing_changes_by_them() {
    let model = tiny(SMALL, &["Q8_0"], 1);
    let settings = Settings { threads: Some(2), ..settings() };
    let mut runner = runner(&model, &settings);
    let wanted = all_logits(&mut runner, &tokens(100, 1));
    let profile = profiled(&mut runner, Detail::Spans, |runner| {
        assert_bits(&all_logits(runner, &tokens(100, 1)), &wanted, "traced");
    });
    let n_steps = profile.steps.len();
    assert_eq!((profile.works.len(), profile.works[0].len()), (2, n_steps));
    let whole: Vec<_> = profile.spans.iter().filter(|span| span.worker.is_none()).collect();
    assert_eq!(whole.len(), 2 * n_steps, "each step once in each batch");
    let of_steps: Duration = whole.iter().map(|span| span.end - span.start).sum();
    assert_eq!(of_steps, profile.step_time());
    assert!(whole.windows(2).all(|pair| pair[0].end <= pair[1].start));
    for span in profile.spans.iter().filter(|span| span.worker.is_some()) {
        let step = whole[span.batch * n_steps + span.step];
        assert!(span.start < span.end && span.end < step.end, "{span:?} in {step:?}");
        assert!(span.worker.is_some_and(|worker| worker < 2));
        // A worker may be past the barrier before worker 0 has looked at the clock there; it is
        // never past it before another has ended its part.
        let before = profile.spans.iter().filter(|other| other.worker.is_some());
        let mut before = before.filter(|other| (other.batch, other.step) < (span.batch, span.step));
        assert!(before.all(|other| other.end < span.start), "{span:?}");
    }
    for (s, step) in profile.steps.iter().enumerate() {
        let sum: f64 = profile.works.iter().map(|works| works[s].flops).sum();
        assert_eq!(sum, step.work.flops, "{}", step.name);
    }
}
