//! What leaves, what stays, and that the smaller model says the same where nothing was lost.

use super::*;
use crate::progress::Silent;
use crate::runner::RuntimeEngine;
use crate::testing::{Tiny, tiny_model};
use std::sync::atomic::AtomicBool;
use sterna_measure::Workload;
use sterna_measure::quality::Scoring;
use sterna_model::write_new_gguf;
use sterna_runtime::Settings;

const NOTHING: Wanted =
    Wanted { channels: Amount::NONE, kv_heads: Amount::NONE, layers: Amount::NONE, makes_up: true };

fn passages() -> Passages {
    let document = |i: u32| (0..40 + i).map(|at| (at * at * 7 + i * 3) % 48).collect();
    let workload = Workload::new("text", (0..6).map(document).collect(), 500).unwrap();
    Passages::new(&workload, Scoring::Documents { bos: None, n_unscored: 0 }).unwrap()
}

/// Prunes, and gives the divergence from the whole model too.
fn pruned(tiny: &Tiny, wanted: &Wanted) -> Result<(Cut, Config, f64)> {
    let settings = Settings { threads: Some(1), context_len: 64, ..Settings::default() };
    let engine = RuntimeEngine::new(settings).unwrap();
    let (passages, stop) = (passages(), AtomicBool::new(false));
    let subject = Subject {
        arch: tiny.arch,
        config: &tiny.config,
        graph: &tiny.graph,
        weights: tiny,
        engine: &engine,
        passages: &passages,
        quick: &passages,
        folder: Path::new("."),
        watch: Watch { progress: &Silent, stop: &stop },
    };
    let cut = cut(&subject, wanted, &mut Seen::default())?;
    let pruned = cut.apply(&subject)?;
    let whole = engine.load(&tiny.graph, tiny)?;
    let mut yardstick = Yardstick::new(whole, &passages, subject.folder)?;
    let mut loaded = engine.load(pruned.graph(), &pruned)?;
    let kl = yardstick.read(&mut *loaded)?.divergence.mean_kl();
    // It can be written, too: shapes and bytes agree.
    let folder = tempfile::tempdir().unwrap();
    let metadata = sterna_model::config::metadata(tiny.arch.name(), pruned.config());
    write_new_gguf(&folder.path().join("m"), pruned.graph(), &metadata, &pruned).unwrap();
    Ok((cut, pruned.config().clone(), kl))
}

/// Changes single values of a matrix.
fn edit(
    tiny: &mut Tiny,
    name: &str,
    new: impl Fn(usize, usize, &dyn Fn(usize, usize) -> f32) -> f32,
) {
    let id = tiny.graph.find_weight(name).unwrap();
    let (rows, cols) = tiny.graph.decl(id).matrix();
    let floats = tiny.weights[id.0].as_chunks::<4>().0;
    let old: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let at = |row: usize, col: usize| old[row * cols + col];
    let values = (0..rows * cols).map(|i| new(i / cols, i % cols, &at));
    tiny.weights[id.0] = values.flat_map(f32::to_le_bytes).collect();
}

// proves S-6, B11 (matrices shrink)
#[test]
fn channels_that_add_nothing_leave_and_nothing_changes() {
    let mut tiny = tiny_model(3);
    let dead = |channel: usize| channel % 5 == 2;
    for layer in 0..2 {
        let name = format!("blk.{layer}.ffn_down.weight");
        edit(&mut tiny, &name, |row, col, at| if dead(col) { 0.0 } else { at(row, col) });
    }
    let wanted = Wanted { channels: Amount::Share(0.2), ..NOTHING };
    let (cut, config, kl) = pruned(&tiny, &wanted).unwrap();
    assert_eq!((config.ffn_dim, config.n_layers, config.n_heads), (48, 2, 4));
    for kept in &cut.kept {
        assert!(kept.channels.iter().all(|&channel| !dead(channel)), "{:?}", kept.channels);
    }
    assert!(kl < 1e-9, "{kl}");
}

#[test]
fn what_stays_makes_up_for_what_leaves() {
    let mut tiny = tiny_model(4);
    // The second half of the hidden channels says what the first half says.
    for (layer, part) in [(0, "gate"), (0, "up"), (1, "gate"), (1, "up")] {
        let name = format!("blk.{layer}.ffn_{part}.weight");
        edit(&mut tiny, &name, |row, col, at| at(row % 30, col));
    }
    let wanted = Wanted { channels: Amount::Count(3), ..NOTHING };
    let (_, config, fitted) = pruned(&tiny, &wanted).unwrap();
    let (_, _, plain) = pruned(&tiny, &Wanted { makes_up: false, ..wanted }).unwrap();
    assert_eq!(config.ffn_dim, 57);
    assert!(fitted < plain / 3.0, "{fitted} against {plain}");
}

#[test]
fn heads_leave_in_groups_that_share_keys() {
    let mut tiny = tiny_model(5);
    // The first key head's two query heads are not listened to, in either layer.
    for layer in 0..2 {
        let name = format!("blk.{layer}.attn_output.weight");
        edit(&mut tiny, &name, |row, col, at| if col < 16 { 0.0 } else { at(row, col) });
    }
    let wanted = Wanted { kv_heads: Amount::Count(1), ..NOTHING };
    let (cut, config, kl) = pruned(&tiny, &wanted).unwrap();
    assert_eq!((config.n_heads, config.n_kv_heads, config.head_dim), (2, 1, 8));
    assert!(cut.kept.iter().all(|kept| kept.kv_heads == [1]));
    assert!(kl < 1e-9, "{kl}");
}

#[test]
fn the_layer_that_does_least_leaves() {
    let mut tiny = tiny_model(6);
    for part in ["attn_output", "ffn_down"] {
        edit(&mut tiny, &format!("blk.0.{part}.weight"), |row, col, at| 1e-4 * at(row, col));
    }
    let wanted = Wanted { layers: Amount::Share(0.5), ..NOTHING };
    let (cut, config, kl) = pruned(&tiny, &wanted).unwrap();
    assert_eq!((config.n_layers, cut.kept[0].layer), (1, 1));
    assert!(kl < 1e-4, "{kl}");
    assert_eq!(cut.notes[0], "1 of 2 layers left, 50.0%");
    assert!(cut.notes[1].starts_with("layer 0 left"), "{:?}", cut.notes);
    // All three together fit each other.
    let all = Wanted { channels: Amount::Count(6), kv_heads: Amount::Count(1), ..wanted };
    let (_, config, _) = pruned(&tiny, &all).unwrap();
    assert_eq!((config.n_layers, config.ffn_dim, config.n_kv_heads), (1, 54, 1));
}

#[test]
fn no_more_leaves_than_there_is() {
    let tiny = tiny_model(7);
    let wanted = Wanted { layers: Amount::Count(2), ..NOTHING };
    let error = pruned(&tiny, &wanted).unwrap_err().to_string();
    assert!(error.contains("of 2 layers, 2 cannot leave"), "{error}");
    let wanted = Wanted { kv_heads: Amount::Share(0.2), ..NOTHING };
    let error = pruned(&tiny, &wanted).unwrap_err().to_string();
    assert!(error.contains("of 2 key and value heads, so few are none"), "{error}");
    assert_eq!("20%".parse(), Ok(Amount::Share(0.2)));
    assert_eq!(" 3 ".parse(), Ok(Amount::Count(3)));
    assert!("120%".parse::<Amount>().is_err() && "some".parse::<Amount>().is_err());
}

#[test]
fn models_with_sub_norms_keep_their_channels() {
    let tiny = crate::testing::tiny_model_of("bitnet", 8);
    let wanted = Wanted { channels: Amount::Count(4), ..NOTHING };
    let error = pruned(&tiny, &wanted).unwrap_err().to_string();
    assert!(error.contains("sub-norms"), "{error}");
}
