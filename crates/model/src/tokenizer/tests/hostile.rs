//! Broken and hostile vocabularies: each is a sentence, none a panic.

use super::json::{byte_level, sentencepiece};
use super::{bpe_metadata, spm_metadata, texts};
use crate::Tokenizer;
use serde_json::{Value as Json, json};
use sterna_formats::{Array, Metadata, Value};

/// One defect, and what its sentence says.
type Case = (&'static str, fn(&mut Metadata), &'static str);

const SPM_CASES: &[Case] = &[
    ("no model", |m| m.remove("tokenizer.ggml.model"), "tokenizer.ggml.model is missing"),
    ("unknown model", |m| set(m, "model", Value::Str("t5".into())), "llama, gpt2 and bert"),
    ("no tokens", |m| m.remove("tokenizer.ggml.tokens"), "tokens is missing"),
    ("empty tokens", |m| set(m, "tokens", texts([""; 0])), "has 0 entries"),
    ("tokens are a number", |m| set(m, "tokens", Value::U32(7)), "not an array of strings"),
    ("no scores", |m| m.remove("tokenizer.ggml.scores"), "scores is missing"),
    ("few scores", |m| set(m, "scores", floats(vec![1.0; 3])), "scores has 3 entries but"),
    ("NaN score", |m| set(m, "scores", floats(vec![f32::NAN; 261])), "of token 0 is not a"),
    ("few types", |m| set(m, "token_type", ints(vec![1; 3])), "token_type has 3 entries but"),
    ("odd type", |m| set(m, "token_type", ints(vec![9; 261])), "token_type of token 0 is 9"),
    ("all bytes", |m| set(m, "token_type", ints(vec![6; 261])), "byte token 0 is \"<unk>\""),
    ("bos too high", |m| set(m, "bos_token_id", Value::U32(261)), "but the vocabulary has 261"),
    ("eos is text", |m| set(m, "eos_token_id", Value::Str("</s>".into())), "not a token id"),
    ("negative eos", |m| set(m, "eos_token_id", Value::I32(-2)), "eos_token_id is not a token"),
    ("add_bos is 1", |m| set(m, "add_bos_token", Value::U32(1)), "is not a boolean"),
];

const BPE_CASES: &[Case] = &[
    ("unknown pre", |m| set(m, "pre", Value::Str("gpt-9".into())), "it knows default, gpt-2"),
    ("pre is a number", |m| set(m, "pre", Value::U32(1)), "pre is not a string"),
    ("no merges", |m| m.remove("tokenizer.ggml.merges"), "merges is missing"),
    ("unknown merge", |m| set(m, "merges", texts(["a b", "a q"])), "merge 1, \"a q\", needs"),
    ("half a merge", |m| set(m, "merges", texts(["ab"])), "merge 0, \"ab\", is not two tokens"),
    ("empty merge", |m| set(m, "merges", texts([""])), "merge 0, \"\", is not two tokens"),
    ("merge of nothing", |m| set(m, "merges", texts(["a "])), "is not two tokens"),
    (
        "eos to add is missing",
        |m| {
            m.remove("tokenizer.ggml.eos_token_id");
            set(m, "add_eos_token", Value::Bool(true));
        },
        "add_eos_token is set",
    ),
];

fn set(metadata: &mut Metadata, key: &str, value: Value) {
    metadata.set(format!("tokenizer.ggml.{key}"), value);
}

fn floats(values: Vec<f32>) -> Value {
    Value::Array(Array::F32(values))
}

fn ints(values: Vec<i32>) -> Value {
    Value::Array(Array::I32(values))
}

#[test]
fn broken_metadata_is_one_sentence_that_names_the_key() {
    let spm = || spm_metadata(&["a", "▁"]);
    let bpe = || bpe_metadata("gpt-2", &["a b"]);
    let cases = SPM_CASES.iter().map(|c| (spm(), c)).chain(BPE_CASES.iter().map(|c| (bpe(), c)));
    for (mut metadata, (what, spoil, expected)) in cases {
        assert!(Tokenizer::from_metadata(&metadata).is_ok());
        spoil(&mut metadata);
        let error = Tokenizer::from_metadata(&metadata).err().unwrap_or_default();
        assert!(error.contains(expected), "{what}: {error:?}");
        assert!(error.starts_with("tokenizer.ggml.") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_broken_tokenizer_json_is_one_sentence_that_names_the_place() {
    let deep = "[".repeat(100_000);
    for (text, expected) in [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (deep.as_str(), "recursion limit"),
        ("[]", "not a JSON object"),
        ("{}", "model.type is missing"),
        (r#"{"model": {"type": "Tiktoken"}}"#, "model.type is `Tiktoken`"),
        (r#"{"model": {"type": "BPE"}}"#, "model.vocab is not an object"),
    ] {
        assert_sentence(Tokenizer::from_json_text(text), expected);
    }
    let cases: [(&str, Json, &str); 9] = [
        ("/decoder", json!(null), "decoder is null"),
        ("/decoder", json!({"type": "CTC"}), "decoder is \"CTC\""),
        ("/model/merges/0", json!(["h", "q"]), "merge 0 needs the token \"hq\""),
        ("/model/merges/0", json!(["h", ""]), "merge 0 needs the token \"\""),
        ("/model/merges/0", json!(5), "merge 0 is not a pair"),
        ("/model/vocab", json!({"a": "b"}), "needs the token \"h\""),
        ("/model/vocab/a", json!(4_000_000_000u32), "number them from 0"),
        ("/pre_tokenizer", json!({"type": "FixedLength", "length": 0}), "cannot encode a short"),
        ("/pre_tokenizer", json!({"type": "Nonsense"}), "do not fit together"),
    ];
    for (place, value, expected) in cases {
        let mut json = byte_level();
        *json.pointer_mut(place).unwrap() = value;
        assert_sentence(Tokenizer::from_json_text(&json.to_string()), expected);
    }
    for (key, value) in [("dropout", json!(0.5)), ("continuing_subword_prefix", json!("é"))] {
        let mut json = byte_level();
        json["model"][key] = value;
        let error = format!("model.{key} is");
        assert_sentence(Tokenizer::from_json_text(&json.to_string()), &error);
    }
}

fn assert_sentence(result: Result<Tokenizer, String>, expected: &str) {
    let error = result.err().unwrap_or_default();
    assert!(error.contains(expected), "{expected:?}: {error:?}");
    assert!(error.starts_with("tokenizer.json: ") && !error.contains('\n'), "{error}");
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn text(&mut self) -> String {
        let texts = ["", " ", "a", "▁", "<0x41>", "<s>", "</s>", "a a", "<|end|>", "語", "\u{0}"];
        texts[self.below(texts.len())].repeat(1 + self.below(3))
    }
}

impl Random {
    /// The place of a value in a document: at each level any child, or the value itself.
    fn place(&mut self, json: &Json) -> Option<String> {
        let (mut json, mut at) = (json, String::new());
        loop {
            let keys: Vec<String> = match json {
                Json::Object(map) => map.keys().cloned().collect(),
                Json::Array(values) => (0..values.len()).map(|i| i.to_string()).collect(),
                _ => vec![],
            };
            if keys.is_empty() || (!at.is_empty() && self.below(4) == 0) {
                return Some(at).filter(|at| !at.is_empty());
            }
            let key = keys[self.below(keys.len())].replace('~', "~0").replace('/', "~1");
            at = format!("{at}/{key}");
            json = json.pointer(&format!("/{key}")).expect("one of its own keys");
        }
    }
}

/// Uses a tokenizer in every way; whatever it does, it must not panic.
fn exercise(tokenizer: &Tokenizer, random: &mut Random) {
    let text: String = (0..8).map(|_| random.text()).collect();
    for parse_special in [false, true] {
        let mut ids = tokenizer.encode_special(&text, true, parse_special);
        ids.extend((0..4).map(|_| random.below(400) as u32));
        super::assert_streams(tokenizer, &ids);
    }
    let _ = tokenizer.to_metadata();
}

fn spoil_metadata(metadata: &mut Metadata, random: &mut Random) {
    let keys: Vec<String> = metadata.iter().map(|(k, _)| k.to_owned()).collect();
    let key = &keys[random.below(keys.len())];
    let mut value = metadata.get(key).unwrap().clone();
    let cut = random.below(300);
    match &mut value {
        Value::Array(Array::Str(v)) if !v.is_empty() && random.below(8) > 0 => {
            let at = random.below(v.len());
            v[at] = random.text();
        }
        Value::Array(Array::Str(v)) => v.truncate(cut),
        Value::Array(Array::I32(v)) if !v.is_empty() && random.below(8) > 0 => {
            let at = random.below(v.len());
            v[at] = random.below(8) as i32;
        }
        Value::Array(Array::I32(v)) => v.truncate(cut),
        Value::Array(Array::F32(v)) => {
            let at = random.below(v.len());
            v[at] = f32::from_bits(random.next() as u32);
        }
        Value::U32(v) => *v = random.below(300) as u32,
        Value::Str(v) => *v = random.text(),
        _ => {}
    }
    match random.below(40) {
        0 => metadata.remove(key),
        1 => metadata.set(key.clone(), Value::F64(0.5)),
        _ => metadata.set(key.clone(), value),
    }
}

#[test]
fn no_metadata_makes_it_panic() {
    let mut random = Random(7);
    let originals = [
        spm_metadata(&["▁t", "he", "▁the", "h", "e", "t", "▁", "a"]),
        bpe_metadata("gpt-2", &["a a", "aa a", "Ġ a"]),
    ];
    let mut n_built = 0;
    for round in 0..8000 {
        let mut metadata = originals[round % 2].clone();
        for _ in 0..1 + random.below(4) {
            spoil_metadata(&mut metadata, &mut random);
        }
        if let Ok(tokenizer) = Tokenizer::from_metadata(&metadata) {
            exercise(&tokenizer, &mut random);
            n_built += 1;
        }
    }
    assert!((800..7200).contains(&n_built), "both outcomes are tried: {n_built} of 8000");
}

#[test]
fn no_tokenizer_json_makes_it_panic() {
    let mut random = Random(7);
    let originals = [byte_level(), sentencepiece()];
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(4_294_967_295u32),
        json!(""),
        json!("▁"),
        json!("(a+)+b"),
        json!("["),
        json!([]),
        json!({}),
        json!([[]]),
        json!({"type": "NFC"}),
        json!({"type": "ByteLevel"}),
        json!({"type": "WordPiece"}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}),
    ];
    let mut n_built = 0;
    for round in 0..4000 {
        let mut json = originals[round % 2].clone();
        for _ in 0..1 + random.below(2) {
            let Some(place) = random.place(&json) else { continue };
            let other = random.place(&originals[round % 2]).unwrap();
            *json.pointer_mut(&place).unwrap() = match random.below(4) {
                0 => originals[round % 2].pointer(&other).unwrap().clone(),
                _ => values[random.below(values.len())].clone(),
            };
        }
        let mut text = json.to_string();
        if random.below(10) == 0 {
            let at = text.floor_char_boundary(random.below(text.len()));
            text.truncate(at);
        }
        if let Ok(tokenizer) = Tokenizer::from_json_text(&text) {
            exercise(&tokenizer, &mut random);
            n_built += 1;
        }
    }
    assert!((200..3800).contains(&n_built), "both outcomes are tried: {n_built} of 4000");
}
