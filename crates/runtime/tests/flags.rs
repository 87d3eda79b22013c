//! Levels and flags: each has its effect, and only what says so changes numbers.

mod common;

use common::*;
use std::sync::Arc;
use sterna_formats::encodings::by_name;
use sterna_model::{WeightId, WeightSource};
use sterna_runtime::flags::{FLAGS, Flags, LEVELS, OptLevel, PRECISION_BUDGET};
use sterna_runtime::precision::Choice;
use sterna_runtime::{Cache, Chunk, Logits, Program, Runner, Settings};

const TUNED: [(&str, usize); 2] = [("claims", 3), ("max_batch_rows", 24)];

fn of(flags: Flags, level: OptLevel) -> Settings {
    flags.settings(level, settings(), TUNED)
}

// proves T-3, T-5, T-9, T-12
#[test]
fn no_level_and_no_flag_but_precision_changes_a_bit() {
    let model = tiny(Shape { head_norm: true, ..SMALL }, &["Q4_0", "F16", "Q8_0", "F32"], 1);
    let tokens = tokens(40, 1);
    let logits = |settings: &Settings| {
        let mut runner = runner(&model, settings);
        let sequences = [runner.new_sequence(), runner.new_sequence()];
        let chunk = |sequence| Chunk { sequence, tokens: &tokens, logits: Logits::All };
        runner.forward(&sequences.map(chunk)).unwrap().to_vec()
    };
    let wanted = logits(&settings());
    for (name, level) in LEVELS {
        let flags = level.flags();
        assert_bits(&logits(&of(flags, *level)), &wanted, name);
        for flag in FLAGS {
            let mut other = flags;
            (flag.set)(&mut other, !(flag.get)(&flags));
            let found = logits(&of(other, *level));
            if flag.changes_numbers {
                let far = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(far > 0.0 && far < 0.5, "{}: {far}", flag.name);
            } else {
                assert_bits(&found, &wanted, flag.name);
            }
        }
    }
}

// proves T-3, T-6, T-12
#[test]
fn memory_and_steps_are_as_the_flags_say() {
    let model = tiny(SMALL, &["Q8_0"], 1);
    let compile =
        |settings: &Settings| Program::compile(&model.graph, &model, settings, None).unwrap();
    let roomy = Settings { max_batch_rows: 512, ..settings() };
    let default = compile(&roomy);
    let steps = |program: &Program| program.steps().count();
    let plain = compile(&Settings { fuse: false, ..roomy.clone() });
    assert!(steps(&default) < steps(&plain), "fusing saves steps");
    let apart = compile(&Settings { pool: false, ..roomy.clone() });
    assert!(default.memory().arena < apart.memory().arena / 2, "values share memory");
    let level = OptLevel::Memory;
    let small = compile(&level.flags().settings(level, roomy, TUNED));
    assert!(small.memory().arena * 4 <= default.memory().arena, "fewer rows at once");
    assert!(small.memory().scratch <= default.memory().scratch);
}

// proves T-4
#[test]
fn adaptive_precision_keeps_the_error_within_the_budget_and_logs_it() {
    let mut model = tiny(SMALL, &["F32", "F16", "BF16", "Q4_0"], 3);
    // One value so large that all others of its block round to nothing.
    let id = model.graph.find_weight("blk.0.attn_q.weight").unwrap();
    let n = model.weight(id).to_f32().len();
    let values: Vec<f32> = (0..n).map(|i| if i % 32 == 0 { 1.0 } else { 0.0039 }).collect();
    model.replace(id, "F32", &values);
    let settings = |budget| Settings { precision_budget: Some(budget), ..settings() };
    let program =
        Program::compile(&model.graph, &model, &settings(PRECISION_BUDGET), None).unwrap();
    let to = by_name("Q8_0").unwrap();
    let error = |id: WeightId| {
        let values = model.weight(id).to_f32();
        let mut bytes = vec![0; values.len() / to.block_len() * to.block_bytes()];
        to.encode(&values, None, &mut bytes);
        let mut again = vec![0.0; values.len()];
        to.decode(&bytes, &mut again);
        let wrong: f64 = values.iter().zip(&again).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        (wrong / values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()).sqrt()
    };
    assert!(program.choices().len() > 6, "{:?}", program.choices());
    for choice in program.choices() {
        let id = model.graph.find_weight(&choice.name).unwrap();
        assert!(["F32", "F16", "BF16"].contains(&choice.from), "{choice:?}");
        assert_eq!(choice.is_chosen, choice.error <= f64::from(PRECISION_BUDGET));
        // All rows of matrices up to 256 rows are measured, and half of the others here.
        let (whole, rows) = (error(id), model.graph.decl(id).matrix().0);
        let slack = if rows <= 256 { 1e-9 } else { 0.02 * whole };
        assert!((choice.error - whole).abs() <= slack, "{choice:?} but {whole}");
    }
    let is_kept = |choice: &&Choice| !choice.is_chosen;
    let kept: Vec<&Choice> = program.choices().iter().filter(is_kept).collect();
    assert!(kept.len() == 1 && kept[0].name == "blk.0.attn_q.weight", "{kept:?}");
    let plain = Program::compile(&model.graph, &model, &common::settings(), None).unwrap();
    assert!(program.memory().weights < plain.memory().weights * 3 / 4, "bytes are saved");
    let strict = Program::compile(&model.graph, &model, &settings(1e-6), None).unwrap();
    assert!(strict.choices().iter().all(|choice| !choice.is_chosen));
    assert_eq!(strict.memory().weights, plain.memory().weights);
    for budget in [0.0, 1.0, -1.0, f32::NAN] {
        assert!(Program::compile(&model.graph, &model, &settings(budget), None).is_err());
    }
}

// proves T-7 (that it changes nothing but time): weights that come from a file as steps need them.
#[test]
fn weights_asked_for_ahead_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(Shape { layers: 4, ..SMALL }, &["Q8_0", "F16"], 1);
    let cache = Cache::new(folder.path(), b"model", b"1");
    let logits = |overlap: bool, cache: Option<&Cache>| {
        let settings = Settings { overlap, ..settings() };
        let program = Program::compile(&model.graph, &model, &settings, cache).unwrap();
        all_logits(&mut Runner::new(Arc::new(program)).unwrap(), &tokens(12, 1))
    };
    let wanted = logits(false, None);
    for (overlap, what) in [(true, "written"), (true, "read"), (false, "read without")] {
        assert_bits(&logits(overlap, Some(&cache)), &wanted, what);
    }
    let file = sterna_runtime::cache::shelf::entries(folder.path()).remove(0).path;
    sterna_formats::mmap::evict(&file).unwrap();
    assert_bits(&logits(true, Some(&cache)), &wanted, "from the disk");
}
