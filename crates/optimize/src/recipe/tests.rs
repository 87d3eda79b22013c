//! Recipes by name: what each tensor gets.

use super::*;
use crate::testing::{llama_graph, tiny_model};
use expect_test::{Expect, expect};

/// The encodings of the value and down matrices by layer, and of what makes the logits.
fn check(name: &str, n_layers: usize, expect: Expect) {
    let graph = llama_graph(n_layers, 8, 2);
    let recipe = Recipe::named(name).unwrap();
    let mut text = String::new();
    for (id, encoding) in recipe.resolve(&graph).unwrap() {
        let decl = graph.decl(id);
        if [Role::AttentionValue, Role::MlpDown, Role::AttentionOutput, Role::Head]
            .contains(&decl.role)
            && encoding.name() != recipe.base.name()
        {
            text += &format!("{} {}\n", decl.name, encoding.name());
        }
    }
    expect.assert_eq(&text);
}

#[test]
fn q4_k_m_gives_more_bits_to_the_ends_and_every_third_layer() {
    check(
        "Q4_K_M",
        8,
        expect![[r#"
        blk.0.attn_v.weight Q6_K
        blk.0.ffn_down.weight Q6_K
        blk.3.attn_v.weight Q6_K
        blk.3.ffn_down.weight Q6_K
        blk.6.attn_v.weight Q6_K
        blk.6.ffn_down.weight Q6_K
        blk.7.attn_v.weight Q6_K
        blk.7.ffn_down.weight Q6_K
        output.weight Q6_K
    "#]],
    );
}

#[test]
fn q2_k_with_shared_heads_and_q3_k_m() {
    check(
        "Q2_K",
        2,
        expect![[r#"
        blk.0.attn_v.weight Q4_K
        blk.0.attn_output.weight Q3_K
        blk.0.ffn_down.weight Q3_K
        blk.1.attn_v.weight Q4_K
        blk.1.attn_output.weight Q3_K
        blk.1.ffn_down.weight Q3_K
        output.weight Q6_K
    "#]],
    );
    check(
        "Q3_K_M",
        3,
        expect![[r#"
        blk.0.attn_v.weight Q5_K
        blk.0.attn_output.weight Q4_K
        blk.0.ffn_down.weight Q4_K
        blk.1.attn_v.weight Q5_K
        blk.1.attn_output.weight Q4_K
        blk.1.ffn_down.weight Q4_K
        blk.2.attn_v.weight Q4_K
        blk.2.attn_output.weight Q4_K
        blk.2.ffn_down.weight Q4_K
        output.weight Q6_K
    "#]],
    );
}

#[test]
fn pure_and_overrides() {
    let graph = llama_graph(2, 8, 2);
    let recipe = Recipe::named("q4_k_m").unwrap().pure();
    assert!(recipe.resolve(&graph).unwrap().iter().all(|(_, e)| e.name() == "Q4_K"));
    let overrides = [r"attn_(q|k)=Q8_0".to_owned(), "attn=F16".to_owned()];
    let recipe = Recipe::named("Q4_0").unwrap().with_overrides(&overrides).unwrap();
    let of = |name: &str| {
        let id = graph.find_weight(name).unwrap();
        let resolved = recipe.resolve(&graph).unwrap();
        resolved.iter().find(|(i, _)| *i == id).unwrap().1.name()
    };
    assert_eq!(of("blk.1.attn_k.weight"), "Q8_0");
    assert_eq!(of("blk.1.attn_v.weight"), "F16");
    assert_eq!(of("blk.1.ffn_up.weight"), "Q4_0");
    assert_eq!(of("output.weight"), "Q6_K");
}

#[test]
fn what_is_unknown_is_said() {
    let error = |result: Result<Recipe>| result.unwrap_err().to_string();
    assert!(error(Recipe::named("Q4_K_X")).contains("Q4_K_M, "));
    let with = |text: &str| Recipe::named("Q4_0").unwrap().with_overrides(&[text.to_owned()]);
    assert!(error(with("attn")).contains("it has no ="));
    assert!(error(with("attn=Q9")).contains("no encoding Q9"));
    assert!(error(with("att(n=Q8_0")).contains("att(n=Q8_0"));
    let lost = with("no_such_tensor=Q8_0").unwrap().resolve(&llama_graph(1, 8, 2));
    assert!(lost.unwrap_err().to_string().contains("no matrix has a name like that"));
}

#[test]
fn a_tied_embedding_counts_as_the_head() {
    let tiny = tiny_model(1);
    let resolved = Recipe::named("Q4_0").unwrap().resolve(&tiny.graph).unwrap();
    let embedding = tiny.graph.find_weight("token_embd.weight").unwrap();
    assert_eq!(resolved.iter().find(|(id, _)| *id == embedding).unwrap().1.name(), "Q6_K");
}
