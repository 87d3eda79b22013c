//! Behaviour on vocabularies small enough to follow by hand.

use super::{bpe_metadata, build, spm_metadata};

#[test]
fn spm_merges_by_score_and_falls_back_to_bytes() {
    let words = ["▁t", "he", "▁the", "h", "e", "t", "▁", "a"];
    let tokenizer = build(&spm_metadata(&words));
    let id = |w: &str| 259 + words.iter().position(|x| *x == w).unwrap() as u32;
    assert_eq!(tokenizer.encode("the", false), [id("▁the")]);
    assert_eq!(tokenizer.encode("the", true), [1, id("▁the")]);
    assert_eq!(tokenizer.encode("hé", false), [id("▁"), id("h"), 3 + 0xc3, 3 + 0xa9]);
    assert_eq!(tokenizer.encode("", true), [1]);
    assert_eq!(tokenizer.decode(&[1, id("▁the"), 3 + 0xc3, 3 + 0xa9, 2]), "theé");
}

#[test]
fn bpe_merges_within_words() {
    let tokenizer = build(&bpe_metadata("gpt-2", &["h e", "Ġ he", "l l"]));
    assert_eq!(tokenizer.encode("he hell", false), [256, 257, 258]);
    assert_eq!(tokenizer.decode(&[256, 257, 258, 259]), "he hell");
}
