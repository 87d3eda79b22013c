//! Behaviour on vocabularies small enough to follow by hand.

use super::{assert_round_trips, bpe_metadata, build, rebuilt, spm_metadata};
use crate::Tokenizer;
use crate::tokenizer::pre::{PRE_TOKENIZERS, Splitter, by_name};
use sterna_formats::{Array, Metadata, Value};

fn words<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
    let mut words = Vec::new();
    Splitter::new(by_name(pre).unwrap()).for_each(text, |word| words.push(word));
    words
}

fn spell(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| tokenizer.token(id).unwrap().to_owned()).collect()
}

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
    assert_round_trips(&tokenizer);
    assert_round_trips(&rebuilt(&tokenizer));
}

#[test]
fn spm_prefers_the_leftmost_of_equal_scores() {
    let mut metadata = spm_metadata(&["aa", "a", "▁"]);
    let mut scores = vec![0.0; 262];
    scores[260] = -1.0;
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    let tokenizer = build(&metadata);
    assert_eq!(spell(&tokenizer, &tokenizer.encode("aaaaa", false)), ["aa", "aa", "a"]);
}

#[test]
fn bpe_merges_within_words() {
    let tokenizer = build(&bpe_metadata("gpt-2", &["h e", "Ġ he", "l l"]));
    assert_eq!(tokenizer.encode("he hell", false), [256, 257, 258]);
    assert_eq!(tokenizer.decode(&[256, 257, 258, 259]), "he hell");
    assert_round_trips(&tokenizer);
    assert_round_trips(&rebuilt(&tokenizer));
}

#[test]
fn text_spells_no_control_token_unless_asked() {
    let spm = build(&spm_metadata(&["<", "s", ">", "<s", "▁"]));
    assert_eq!(spell(&spm, &spm.encode("<s>", false)), ["▁", "<s", ">"]);
    assert_eq!(spm.encode_special("<s>", true, true), [1, 1]);
    assert_eq!(spm.encode("<0x41>", false).len(), 6 + 1);

    let bpe = build(&bpe_metadata("gpt-2", &["a b"]));
    assert_eq!(bpe.encode("a<|end|>", false).len(), 8);
    assert_eq!(bpe.encode_special("a<|end|>", false, true), [bpe.encode("a", false)[0], 257]);
    assert!(bpe.is_end(257) && bpe.eos() == Some(257) && !bpe.add_bos());
}

#[test]
fn user_defined_tokens_are_always_found_the_longest_first() {
    let mut metadata = spm_metadata(&["a", "▁", "<x>", "<x><y>", "<z>"]);
    let mut types = vec![1; 264];
    types[..3].copy_from_slice(&[2, 3, 3]);
    types[3..259].fill(6);
    types[261..263].fill(4);
    types[263] = 3;
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    let tokenizer = build(&metadata);
    let encoded = |text, parse| spell(&tokenizer, &tokenizer.encode_special(text, false, parse));
    assert_eq!(encoded("a<x><y><x>a", false), ["▁", "a", "<x><y>", "<x>", "▁", "a"]);
    assert_eq!(encoded("<z>a", true), ["<z>", "▁", "a"]);
    assert_eq!(tokenizer.decode(&[263, 261, 259]), "<x>a", "control tokens do not show");
}

#[test]
fn a_stream_never_splits_a_character() {
    let tokenizer = build(&spm_metadata(&["▁", "a"]));
    let mut decoder = tokenizer.decoder();
    let euro = "€".bytes().map(|b| 3 + u32::from(b));
    let pieces: Vec<String> = [259].into_iter().chain(euro).map(|id| decoder.push(id)).collect();
    assert_eq!(pieces, ["", "", "", "€"]);
    assert_eq!(decoder.push(3 + 0xe2), "");
    assert_eq!(decoder.push(260), "\u{fffd}a");
    assert_eq!(decoder.push(3 + 0xf0), "");
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(tokenizer.continuation().push(259), " ", "what follows a prompt keeps its space");
    assert_eq!(tokenizer.decode(&[9999]), "\u{fffd}");
}

#[test]
fn pre_tokenizers_cut_as_their_models_do() {
    let text = "I'll  pay 12345 €, OK?\n\n x";
    let llama = ["I", "'ll", " ", " pay", " ", "123", "45", " €,", " OK", "?\n\n", " x"];
    assert_eq!(words("llama-bpe", text), llama);
    let qwen = ["I", "'ll", " ", " pay", " ", "1", "2", "3", "4", "5", " €,", " OK", "?\n\n", " x"];
    assert_eq!(words("qwen2", text), qwen);
    let gpt = ["I", "'ll", " ", " pay", " 12345", " €,", " OK", "?", "\n\n", " x"];
    assert_eq!(words("gpt-2", text), gpt);
    assert_eq!(words("deepseek-llm", "a  \t 5"), ["a", "  \t ", "5"]);
}

#[test]
fn every_pre_tokenizer_keeps_every_byte_of_any_length() {
    let word = "Straße \u{3000}12345'S\r\n\t  …語 ";
    let long = word.repeat((5 << 18) / word.len());
    for pre in PRE_TOKENIZERS {
        let splitter = Splitter::new(pre);
        let mut n_bytes = 0;
        splitter.for_each(&long, |word| n_bytes += word.len());
        assert_eq!(n_bytes, long.len(), "{}", pre.names[0]);
    }
    let mut names: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|p| p.names).copied().collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]), "a name occurs twice");
}

#[test]
fn sections_of_a_long_text_change_nothing() {
    let text = "Ein Wort, und noch ein Wort. ".repeat(50_000);
    let once = words("gpt-2", &text[..29_000]);
    let all = words("gpt-2", &text);
    assert_eq!(all[..once.len() - 1], once[..once.len() - 1]);
    assert_eq!(all.len(), 50_000 * 8 + 1, "eight words each, and the last space");
}

#[test]
fn repetition_is_not_quadratic() {
    let merges = ["a a", "aa aa", "aaaa aaaa"];
    let bpe = build(&bpe_metadata("llama-bpe", &merges));
    let spm = build(&spm_metadata(&["aaaaaaaa", "aaaa", "aa", "a", "▁"]));
    for (text, n_tokens) in [("a".repeat(1 << 20), 1 << 17), (" ".repeat(1 << 20), 1 << 20)] {
        // Quadratic work would take hours here.
        assert_eq!(bpe.encode(&text, false).len(), n_tokens);
        assert_eq!(spm.encode(&text, false).len(), n_tokens + 1);
    }
}

#[test]
fn an_absent_pre_is_default_and_an_absent_token_type_is_guessed() {
    let mut metadata = bpe_metadata("gpt-2", &["1 2"]);
    metadata.remove("tokenizer.ggml.pre");
    metadata.remove("tokenizer.ggml.token_type");
    let tokenizer = build(&metadata);
    assert_eq!(tokenizer.encode("12", false), [256]);
    assert_eq!(tokenizer.decode(&[256, 257]), "12", "the end token is hidden all the same");
    let mut metadata = spm_metadata(&["a"]);
    metadata.remove("tokenizer.ggml.token_type");
    let tokenizer = build(&metadata);
    assert_eq!(tokenizer.decode(&[1, 3 + 0x41, 2]), "A");
}

#[test]
fn wordpiece_takes_the_longest_pieces_of_normalized_words() {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁play", "ing", "▁,", "▁été", "▁ete"];
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::Str("bert".into()));
    metadata.set("tokenizer.ggml.tokens", super::texts(tokens));
    metadata.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(vec![3, 2, 3, 3, 1, 1, 1, 1, 1])),
    );
    for (name, id) in [("unknown", 1), ("cls", 2), ("seperator", 3)] {
        metadata.set(format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    let tokenizer = build(&metadata);
    for tokenizer in [&tokenizer, &rebuilt(&tokenizer)] {
        assert_eq!(tokenizer.encode("Playing, Été x", true), [2, 4, 5, 6, 8, 1, 3]);
        assert_eq!(tokenizer.decode(&[2, 4, 5, 6, 8, 3]), "playing , ete");
    }
}
