//! Text to documents, and the leakage check.

use super::*;
use crate::testing::fold;
use expect_test::expect;

/// One token per byte, after a BOS of 1000.
fn encode(text: &str) -> Vec<u32> {
    std::iter::once(1000).chain(text.bytes().map(u32::from)).collect()
}

fn token_bytes(token: u32) -> usize {
    usize::from(token != 1000)
}

fn documents(name: &str, documents: Vec<Vec<u32>>) -> Workload {
    Workload::new(name, documents, 0).unwrap()
}

#[test]
fn splits_and_cuts_as_told() {
    let recipe = TextRecipe {
        separator: Some("<|end|>".into()),
        max_documents: Some(2),
        skip_documents: 1,
        max_chars: Some(5),
        max_tokens: Some(5),
    };
    let text = "first\n<|end|>\n<|end|>\nzweiüns x<|end|>hi\n<|end|>fourth";
    assert_eq!(recipe.documents(text), ["zweiü", "hi"]);
    let workload = recipe.workload("t", text, &mut encode, &token_bytes).unwrap();
    // "zweiü" is 6 bytes and BOS: cut to BOS and 4 bytes.
    let sizes: Vec<usize> = workload.documents().iter().map(Vec::len).collect();
    assert_eq!((sizes, workload.n_bytes(), workload.n_tokens()), (vec![5, 3], 4 + 2, 8));
}

#[test]
fn a_whole_text_is_kept_to_the_byte() {
    let text = " leading and trailing \n";
    assert_eq!(TextRecipe::whole().documents(text), [text]);
    let error = TextRecipe::whole().workload("t.txt", "", &mut encode, &token_bytes);
    expect!["t.txt: it has no tokens; is the file empty, or the limit 0?"]
        .assert_eq(&fold(&error.unwrap_err().to_string()));
}

#[test]
fn the_hash_sees_tokens_and_boundaries() {
    let hash = |d| documents("x", d).hash().to_string();
    assert_eq!(hash(vec![vec![1, 2], vec![3]]), hash(vec![vec![1, 2], vec![3]]));
    assert_ne!(hash(vec![vec![1, 2], vec![3]]), hash(vec![vec![1], vec![2, 3]]));
    assert_ne!(hash(vec![vec![1, 2]]), hash(vec![vec![2, 1]]));
    assert_eq!(hash(vec![vec![1]]).len(), 64);
}

#[test]
fn shared_text_is_refused_with_its_place() {
    // proves B8: evaluation text inside calibration is refused
    let long = |from: u32| (from..from + 100).collect::<Vec<u32>>();
    let calibration = documents("calib.txt", vec![long(5000), long(0)]);
    assert_eq!(disjoint(&calibration, &documents("held.txt", vec![long(200)])), Ok(()));
    // 31 shared tokens are below the length that counts as a copy; 32 are a copy.
    let tail = |n_shared: u32| {
        let shared = 40..40 + n_shared;
        [7000, 7001].into_iter().chain(shared).chain([7002]).collect::<Vec<u32>>()
    };
    let of = |tokens| disjoint(&calibration, &documents("held.txt", vec![long(300), tokens]));
    assert_eq!(of(tail(31)), Ok(()));
    expect![[r#"
        held.txt: document 1 repeats 32 tokens from token 2 on that are also in the calibration
          text calib.txt, document 1, token 40; a quality figure from text that the optimization
          has seen is worthless: choose disjoint texts"#]]
    .assert_eq(&fold(&of(tail(32)).unwrap_err().to_string()));
}

#[test]
fn an_equal_short_document_is_a_leak_too() {
    let calibration = documents("c", vec![vec![1, 2, 3], vec![9; 50]]);
    assert!(disjoint(&calibration, &documents("h", vec![vec![4], vec![1, 2, 3]])).is_err());
    assert!(disjoint(&calibration, &documents("h", vec![vec![1, 2], vec![]])).is_ok());
}

#[test]
fn first_keeps_the_share_of_bytes() {
    let workload = Workload::new("w", vec![vec![1; 10], vec![2; 30]], 400).unwrap();
    let first = workload.first(1).unwrap();
    assert_eq!((first.n_tokens(), first.n_bytes()), (10, 100));
}
