//! `tokenizer.json` files made here: they encode, come back, and say the same as GGUF metadata.

use super::{assert_round_trips, build, rebuilt};
use crate::Tokenizer;
use crate::tokenizer::vocab::char_of_byte;
use serde_json::{Map, Value as Json, json};

/// Llama-3's cut, as its `tokenizer.json` spells it.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// A small byte-level BPE with a control token that begins a text and a user-defined one.
pub(super) fn byte_level() -> Json {
    let merges = [["h", "e"], ["Ġ", "he"], ["l", "l"], ["he", "ll"], ["1", "2"]];
    let bytes = (0..=255).map(|b| char_of_byte(b).to_string());
    let tokens = bytes.chain(merges.iter().map(|m| m.concat()));
    let vocab: Map<String, Json> = tokens.zip(0..).map(|(t, id)| (t, json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [added(261, "<|begin|>", true), added(262, "<think>", false)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated",
             "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
             "use_regex": false},
        ]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<|begin|>":
                {"id": "<|begin|>", "ids": [261], "tokens": ["<|begin|>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": true},
    })
}

/// A small SentencePiece-style BPE in Llama-2's form, its merges all the pairs of its tokens.
pub(super) fn sentencepiece() -> Json {
    let words = ["▁t", "he", "▁the", "ab", "abc", "bc", "▁", "t", "h", "e", "a", "b", "c"];
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    tokens.extend(words.map(String::from));
    let is_token = |t: &str| words.contains(&t);
    let cuts = words.iter().flat_map(|w| w.char_indices().skip(1).map(|(at, _)| w.split_at(at)));
    let merges: Vec<[&str; 2]> =
        cuts.filter(|(l, r)| is_token(l) && is_token(r)).map(|(l, r)| [l, r]).collect();
    let vocab: Map<String, Json> =
        tokens.into_iter().zip(0..).map(|(t, i)| (t, json!(i))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                  "vocab": vocab, "merges": merges},
    })
}

fn added(id: u32, content: &str, special: bool) -> Json {
    json!({"id": id, "content": content, "special": special, "single_word": false,
           "lstrip": false, "rstrip": false, "normalized": false})
}

fn load(json: &Json) -> Tokenizer {
    Tokenizer::from_json_text(&json.to_string()).unwrap()
}

/// BERT's uncased tokenizer, as sentence encoders come with it.
fn wordpiece() -> Json {
    let words =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "naive", "!", "[unused1]"];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| (word.to_string(), json!(id))).collect();
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let token = |id: &str, n: u32| json!({"id": id, "ids": [n], "tokens": [id]});
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "[PAD]", true), added(1, "[UNK]", true),
                         added(2, "[CLS]", true), added(3, "[SEP]", true)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "lowercase": true,
                       "handle_chinese_chars": true, "strip_accents": null},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}},
                       special("[SEP]")],
            "pair": [],
            "special_tokens": {"[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3)}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

#[test]
fn wordpiece_says_the_same_as_gguf() {
    let tokenizer = load(&wordpiece());
    let again = rebuilt(&tokenizer);
    for tokenizer in [&tokenizer, &again] {
        assert_eq!(tokenizer.encode("The cats, NAÏVE!", true), [2, 4, 5, 6, 1, 7, 8, 3]);
        assert_eq!(tokenizer.encode("[unused1]", false), [1, 1, 1], "no text is such a token");
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(2), Some(3)));
        assert_eq!(tokenizer.decode(&[2, 4, 5, 6, 8, 3]), "the cats !");
    }
    for (place, value) in [
        ("/normalizer/clean_text", json!(false)),
        ("/pre_tokenizer", json!({"type": "Whitespace"})),
        ("/model/continuing_subword_prefix", json!("@@")),
    ] {
        let mut json = wordpiece();
        *json.pointer_mut(place).unwrap() = value;
        let error = load(&json).to_metadata().unwrap_err();
        assert!(error.contains("cannot be written as GGUF"), "{error}");
    }
}

const TEXTS: [&str; 7] = [
    "",
    "the abc",
    " hello  hell 12 123",
    "naïve 😀\n\n\tx",
    "a<|begin|>b<think> c</s>",
    "<s>",
    "ababcabc the  the",
];

#[test]
fn byte_level_bpe_says_the_same_as_gguf() {
    let tokenizer = load(&byte_level());
    let again = rebuilt(&tokenizer);
    for tokenizer in [&tokenizer, &again] {
        assert_round_trips(tokenizer);
        assert_eq!(tokenizer.encode("hell", true), [261, 259]);
        assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(261), true));
        assert_eq!(tokenizer.encode("<think>", false), [262], "user-defined: always found");
        assert_eq!(tokenizer.encode("<|begin|>", false).len(), 9, "control: only where asked");
        assert_eq!(tokenizer.encode_special("<|begin|>", false, true), [261]);
    }
    for text in TEXTS {
        for parse in [false, true] {
            let ids = tokenizer.encode_special(text, true, parse);
            assert_eq!(ids, again.encode_special(text, true, parse), "{text:?}");
        }
    }
}

#[test]
fn sentencepiece_bpe_says_the_same_as_gguf() {
    let tokenizer = load(&sentencepiece());
    let again = rebuilt(&tokenizer);
    for text in TEXTS {
        let ids = tokenizer.encode(text, false);
        assert_eq!(ids, again.encode(text, false), "{text:?}");
        assert_eq!(tokenizer.decode(&ids), text);
    }
    assert_round_trips(&tokenizer);
    assert_round_trips(&again);
}

#[test]
fn files_beside_it_name_the_special_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, json: &Json| {
        std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    };
    write("tokenizer.json", &sentencepiece());
    write(
        "tokenizer_config.json",
        &json!({
            "bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true,
        }),
    );
    write("generation_config.json", &json!({"eos_token_id": [2, 260]}));
    let tokenizer = Tokenizer::from_json(folder.path()).unwrap();
    for tokenizer in [&tokenizer, &rebuilt(&tokenizer)] {
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
        assert_eq!(tokenizer.encode("", true), [1]);
    }
    assert!(tokenizer.is_end(2) && tokenizer.is_end(260) && !tokenizer.is_end(1));

    write("config.json", &json!({"eos_token_id": 9999}));
    let error = Tokenizer::from_json(folder.path()).err().unwrap();
    assert!(error.contains("config.json: eos_token_id is 9999"), "{error}");
}

#[test]
fn padding_names_every_row_of_a_model() {
    for json in [byte_level(), sentencepiece()] {
        let mut tokenizer = load(&json);
        let n_tokens = tokenizer.vocab_len();
        tokenizer.pad(n_tokens + 5);
        let again = rebuilt(&tokenizer);
        assert_eq!(again.vocab_len(), n_tokens + 5);
        assert_eq!(again.encode("hello", false), tokenizer.encode("hello", false));
    }
}

#[test]
fn what_gguf_cannot_say_is_an_error() {
    let cases: [(&str, Json, &str); 5] = [
        ("/normalizer", json!({"type": "Lowercase"}), "normalizer"),
        ("/pre_tokenizer", json!({"type": "WhitespaceSplit"}), "pre_tokenizer"),
        (
            "/pre_tokenizer",
            json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": true, "use_regex": true}),
            "none that GGUF has a name for",
        ),
        (
            "/post_processor/single/0",
            json!({"SpecialToken": {"id": "<think>", "type_id": 0}}),
            "post_processor",
        ),
        (
            "/model",
            json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b", -1.0]]}),
            "only BPE and WordPiece can",
        ),
    ];
    for (place, value, expected) in cases {
        let mut json = byte_level();
        *json.pointer_mut(place).unwrap() = value;
        if place.contains("single") {
            json["post_processor"]["special_tokens"] = json!({"<think>":
                {"id": "<think>", "ids": [262, 261], "tokens": ["<think>", "x"]}});
        }
        let error = load(&json).to_metadata().unwrap_err();
        assert!(error.contains(expected), "{place}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let mut open = sentencepiece();
    open["model"]["merges"].as_array_mut().unwrap().retain(|m| m[0] != "a");
    let error = load(&open).to_metadata().unwrap_err();
    assert!(error.contains(r#"lacks ("a", "b"#), "{error}");
}

#[test]
fn the_metadata_is_what_other_readers_expect() {
    let entries = load(&byte_level()).to_metadata().unwrap();
    let keys: Vec<&str> =
        entries.iter().map(|(k, _)| k.trim_start_matches("tokenizer.ggml.")).collect();
    expect_test::expect![[r#"
        [
            "model",
            "pre",
            "tokens",
            "token_type",
            "bos_token_id",
            "add_bos_token",
            "add_eos_token",
            "merges",
        ]
    "#]]
    .assert_debug_eq(&keys);
    let mut metadata = sterna_formats::Metadata::default();
    entries.into_iter().for_each(|(key, value)| metadata.set(key, value));
    assert_eq!(metadata.str("tokenizer.ggml.pre"), Some("llama-bpe"));
    assert_eq!(build(&metadata).token(261), Some("<|begin|>"));
}
