//! A draft reads like the model it would become, and refuses what cannot be stored.

use super::*;
use crate::importance::Importance;
use crate::passes::{Context, PASSES, by_name};
use crate::recipe::Recipe;
use crate::testing::tiny_model;
use std::borrow::Cow;
use std::sync::Arc;
use sterna_formats::encodings::by_name as encoding;

fn edit(name: &str) -> Edit {
    Edit { encoding: encoding(name).unwrap(), bytes: None, provenance: "test".into() }
}

#[test]
fn an_unedited_draft_is_its_source_without_a_copy() {
    let tiny = tiny_model(1);
    let draft = Draft::new(&tiny.graph, &tiny);
    for id in tiny.graph.weight_ids() {
        let (ours, source) = (draft.weight(id), tiny.weight(id));
        assert!(matches!(ours.bytes, Cow::Borrowed(_)));
        assert_eq!(ours.bytes, source.bytes);
        assert_eq!(
            (ours.encoding, ours.rows, ours.cols),
            (source.encoding, source.rows, source.cols)
        );
    }
    assert_eq!(draft.weight_bytes() as u64, tiny.graph.memory(&tiny).total());
}

#[test]
fn an_edited_weight_reads_as_its_encoding_makes_it_and_others_stay() {
    let tiny = tiny_model(2);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let id = tiny.graph.find_weight("blk.0.ffn_up.weight").unwrap();
    draft.encode(id, edit("Q4_0")).unwrap();
    let source = tiny.weight(id);
    let q4_0 = encoding("Q4_0").unwrap();
    let mut wanted = vec![0; source.rows * q4_0.row_bytes(source.cols)];
    q4_0.encode(&source.to_f32(), None, &mut wanted);
    assert_eq!(draft.weight(id).bytes, wanted);
    assert_eq!(
        draft.edits().map(|(id, e)| (id, e.provenance.as_str())).collect::<Vec<_>>(),
        [(id, "test")]
    );
    let other = tiny.graph.find_weight("blk.1.ffn_up.weight").unwrap();
    assert_eq!(draft.weight(other).bytes, tiny.weight(other).bytes);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let tiny = tiny_model(3);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let id = tiny.graph.find_weight("blk.0.ffn_down.weight").unwrap();
    let error = draft.encode(id, edit("Q8_0")).unwrap_err().to_string();
    assert!(error.contains("blk.0.ffn_down.weight as Q8_0: rows of 60 values"), "{error}");
}

#[test]
fn int8_and_int4_files_are_as_much_smaller_as_they_say() {
    // proves S-1 (file ratio) and S-3 (file ratio): weights of all matrices, from stored bytes.
    let tiny = tiny_model(4);
    let ratio = |name: &str| {
        let mut draft = Draft::new(&tiny.graph, &tiny);
        let id = tiny.graph.find_weight("token_embd.weight").unwrap();
        let before = draft.weight(id).bytes.len() as f64;
        draft.encode(id, edit(name)).unwrap();
        before / draft.weight(id).bytes.len() as f64
    };
    // One half-precision scale per 32 values is 0.5 bits per weight: 32 / 8.5 and 32 / 4.5.
    assert!((ratio("Q8_0") - 32.0 / 8.5).abs() < 1e-9, "{}", ratio("Q8_0"));
    assert!((ratio("Q4_0") - 32.0 / 4.5).abs() < 1e-9, "{}", ratio("Q4_0"));
    assert!((7.0..7.9).contains(&ratio("Q4_0")));
}

#[test]
fn kept_encodings_are_the_same_bytes_until_the_graph_changes() {
    let tiny = tiny_model(9);
    let mut plain = Draft::new(&tiny.graph, &tiny);
    let id = tiny.graph.find_weight("blk.1.attn_q.weight").unwrap();
    plain.encode(id, edit("Q5_0")).unwrap();
    let (mut kept, folder) = (plain.clone(), tempfile::tempdir().unwrap());
    kept.keep_encoded(folder.path(), 1 << 20);
    let copy = kept.clone();
    let wanted = plain.weight(id).bytes.into_owned();
    for draft in [&kept, &copy, &kept] {
        assert_eq!(draft.weight(id).bytes, wanted);
    }
}

#[test]
fn what_was_kept_is_rounded_anew_where_errors_are_weighed() {
    let tiny = tiny_model(9);
    let id = tiny.graph.find_weight("blk.1.attn_q.weight").unwrap();
    let mut draft = Draft::new(&tiny.graph, &tiny);
    draft.encode(id, edit("Q4_0")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    draft.keep_encoded(folder.path(), 1 << 20);
    let plain = draft.weight(id).bytes.into_owned();
    let mut importance = Importance::default();
    importance.set("blk.1.attn_q.weight", (0..32).map(|i| (i * i) as f32).collect());
    draft.weigh(Arc::new(importance));
    let weighed = draft.weight(id).bytes.into_owned();
    assert_ne!(weighed, plain);
    assert_eq!(draft.weight(id).bytes, weighed);
}

#[test]
fn padding_changes_no_logit_and_lets_rows_fit() {
    let tiny = tiny_model(5);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let mut context = Context { may_pad: Some((tiny.arch, &tiny.config)), ..Context::default() };
    by_name("pad").unwrap().apply(&mut draft, &mut context).unwrap();
    assert_eq!(draft.config().unwrap().ffn_dim, 64);
    let tokens = [1, 5, 9, 2, 30, 17];
    let plain = sterna_model::eval_graph(&tiny.graph, &tiny, &tokens).unwrap();
    let padded = sterna_model::eval_graph(draft.graph(), &draft, &tokens).unwrap();
    assert_eq!(plain, padded);
    let id = tiny.graph.find_weight("blk.0.ffn_down.weight").unwrap();
    draft.encode(id, edit("Q8_0")).unwrap();
    assert_eq!(draft.weight(id).bytes.len(), 32 * 2 * 34);
}

#[test]
fn hidden_features_that_are_normalised_together_are_not_padded() {
    let tiny = crate::testing::tiny_model_of("bitnet-b1.58", 5);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let mut context = Context { may_pad: Some((tiny.arch, &tiny.config)), ..Context::default() };
    by_name("pad").unwrap().apply(&mut draft, &mut context).unwrap();
    assert!(draft.config().is_none(), "zeros would change the mean of 60 squares");
}

#[test]
fn fusing_keeps_weights_and_logits() {
    let tiny = tiny_model(6);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let mut context = Context { rewrites: &["fuse_qkv", "fuse_gate_up"], ..Context::default() };
    by_name("fuse").unwrap().apply(&mut draft, &mut context).unwrap();
    assert!(draft.graph().nodes.len() < tiny.graph.nodes.len());
    let tokens = [3, 1, 4, 1, 5];
    assert_eq!(
        sterna_model::eval_graph(draft.graph(), &draft, &tokens).unwrap(),
        sterna_model::eval_graph(&tiny.graph, &tiny, &tokens).unwrap()
    );
}

#[test]
fn passes_that_were_not_asked_for_do_nothing() {
    let tiny = tiny_model(7);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    for pass in PASSES {
        pass.apply(&mut draft, &mut Context::default()).unwrap();
        assert!(by_name(pass.name()).is_some() && !pass.about().is_empty());
    }
    assert_eq!((draft.edits().count(), draft.notes().len()), (0, 0));
}

#[test]
fn rtn_names_every_fallback() {
    let tiny = tiny_model(8);
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let recipe = Recipe::named("Q4_K").unwrap().pure();
    crate::passes::rtn::encode_all(&mut draft, &recipe).unwrap();
    let of = |name: &str| draft.encoding(tiny.graph.find_weight(name).unwrap()).name();
    assert_eq!(of("blk.0.attn_q.weight"), "Q5_0");
    assert_eq!(of("blk.0.ffn_down.weight"), "F16");
    assert_eq!(of("blk.0.attn_norm.weight"), "F32");
    let note = "rtn: blk.1.ffn_down.weight is F16 instead of Q4_K: rows of 60 are 0 blocks of 256 \
                and 60 values more";
    assert!(draft.notes().iter().any(|n| n == note), "{:#?}", draft.notes());
}
