//! A tokenizer as GGUF metadata, so that a model that came with a `tokenizer.json` can be written
//! as one GGUF file. What GGUF cannot say is an error, except NFC normalization, which every GGUF
//! of a model that has it leaves out.

use super::json::JsonTokenizer;
use super::pre::PRE_TOKENIZERS;
use super::vocab::{Kind, Spelling, Vocab};
use super::wordpiece::{MAX_WORD_CHARS, respelled};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};
use sterna_formats::{Array, Value};

/// Metadata in the order in which it is written.
pub(super) type Entries = Vec<(String, Value)>;

/// The keys of every tokenizer. `tokens` are the spellings, which only WordPiece changes.
pub(super) fn entries(model: &str, pre: &str, vocab: &Vocab) -> Entries {
    let kinds = vocab.kinds.iter().map(|&k| k as i32).collect();
    let mut entries = vec![
        ("tokenizer.ggml.model".into(), Value::Str(model.into())),
        ("tokenizer.ggml.pre".into(), Value::Str(pre.into())),
        ("tokenizer.ggml.tokens".into(), texts(vocab.tokens.iter())),
        ("tokenizer.ggml.token_type".into(), Value::Array(Array::I32(kinds))),
    ];
    let specials = &vocab.specials;
    let ids = [("bos", specials.bos), ("eos", specials.eos), ("unknown", specials.unknown)];
    for (name, id) in ids {
        let key = format!("tokenizer.ggml.{name}_token_id");
        entries.extend(id.map(|id| (key, Value::U32(id))));
    }
    let flags = [("add_bos_token", &specials.prefix), ("add_eos_token", &specials.suffix)];
    for (name, ids) in flags {
        entries.push((format!("tokenizer.ggml.{name}"), Value::Bool(!ids.is_empty())));
    }
    entries
}

/// An array of strings.
pub(super) fn texts(texts: impl Iterator<Item = impl AsRef<str>>) -> Value {
    Value::Array(Array::Str(texts.map(|t| t.as_ref().to_owned()).collect()))
}

/// The metadata of a `tokenizer.json`.
pub(super) fn from_json(tokenizer: &JsonTokenizer, vocab: &Vocab) -> Result<Entries, String> {
    let json = tokenizer.to_json();
    let kind = &json["model"]["type"];
    if kind != "BPE" && kind != "WordPiece" {
        return Err(format!(
            "tokenizer.json: model.type is {kind}, which cannot be written as GGUF; only BPE and \
             WordPiece can, so keep this model in its Hugging Face form"
        ));
    }
    let specials = &vocab.specials;
    for (what, ids, id) in [
        ("in front of", &specials.prefix, specials.bos),
        ("behind", &specials.suffix, specials.eos),
    ] {
        if !ids.is_empty() && *ids != Vec::from_iter(id) {
            return Err(format!(
                "tokenizer.json: post_processor puts the tokens {ids:?} {what} a text; GGUF knows \
                 only the one that begins or ends a text, {id:?}"
            ));
        }
    }
    match vocab.spelling {
        _ if kind == "WordPiece" => wordpiece(&json, vocab),
        Spelling::ByteLevel => byte_level(&json, vocab),
        _ => sentencepiece(&json, vocab),
    }
}

/// BERT's WordPiece: GGUF knows its normalizer with two switches, and nothing else of it.
fn wordpiece(json: &Json, vocab: &Vocab) -> Result<Entries, String> {
    let (normalizer, pre, model) = (&json["normalizer"], &json["pre_tokenizer"], &json["model"]);
    let is_whole = normalizer["clean_text"] == true && normalizer["handle_chinese_chars"] == true;
    if normalizer["type"] != "BertNormalizer" || !is_whole {
        return Err(cannot_say("normalizer", normalizer));
    }
    if pre["type"] != "BertPreTokenizer" {
        return Err(cannot_say("pre_tokenizer", pre));
    }
    for (key, wanted) in [
        ("continuing_subword_prefix", Json::from("##")),
        ("max_input_chars_per_word", Json::from(MAX_WORD_CHARS)),
    ] {
        if model[key] != wanted {
            let (given, why) = (&model[key], format!("model.{key}"));
            return Err(format!("{}, which is not {wanted}", cannot_say(&why, given)));
        }
    }
    let lowercase = normalizer["lowercase"] == true;
    let strip_accents = normalizer["strip_accents"].as_bool().unwrap_or(lowercase);
    let tokens = vocab.tokens.iter().map(|token| respelled(token)).collect();
    let vocab = Vocab { tokens, spelling: Spelling::Metaspace, ..vocab.clone() };
    Ok(super::wordpiece::metadata(&vocab, lowercase, strip_accents))
}

fn byte_level(json: &Json, vocab: &Vocab) -> Result<Entries, String> {
    let normalizer = &json["normalizer"];
    if !normalizer.is_null() && normalizer["type"] != "NFC" {
        return Err(cannot_say("normalizer", normalizer));
    }
    let patterns = patterns(&json["pre_tokenizer"])?;
    let ignore_merges = json["model"]["ignore_merges"] == Json::Bool(true);
    let pre = PRE_TOKENIZERS
        .iter()
        .filter(|p| p.ignore_merges == ignore_merges)
        .find(|p| p.patterns.iter().map(|p| original(p)).eq(patterns.iter().map(String::as_str)))
        .ok_or_else(|| {
            format!(
                "tokenizer.json: the patterns {patterns:?} of pre_tokenizer, with ignore_merges \
                 {ignore_merges}, are none that GGUF has a name for"
            )
        })?;
    let mut entries = entries("gpt2", pre.names[0], vocab);
    let merges = merges(&json["model"]).into_iter().map(|(l, r)| format!("{l} {r}"));
    entries.push(("tokenizer.ggml.merges".into(), texts(merges)));
    Ok(entries)
}

/// A pattern as `tokenizer.json` files have it, without our look-behind.
fn original(pattern: &'static str) -> &'static str {
    if pattern == super::pre::TRAILING_SPACE { r"\s+$" } else { pattern }
}

/// The patterns of a pre-tokenizer in turn, each of which cuts out what it matches.
fn patterns(pre: &Json) -> Result<Vec<String>, String> {
    let mut patterns = Vec::new();
    for step in steps(pre, "pretokenizers") {
        let isolates = step["behavior"] == "Isolated" && step["invert"] == false;
        let removes_rest = step["behavior"] == "Removed" && step["invert"] == true;
        match step["type"].as_str() {
            Some("ByteLevel") if step["add_prefix_space"] == true => {
                return Err(cannot_say("pre_tokenizer", step));
            }
            Some("ByteLevel") if step["use_regex"] == false => {}
            Some("ByteLevel") => patterns.push(super::pre::GPT2.to_owned()),
            Some("Digits") if step["individual_digits"] == true => patterns.push(r"\p{N}".into()),
            Some("Digits") => patterns.push(r"\p{N}+".into()),
            Some("Split") if isolates || removes_rest => match step["pattern"]["Regex"].as_str() {
                Some(pattern) => patterns.push(pattern.to_owned()),
                None => return Err(cannot_say("pre_tokenizer", step)),
            },
            _ => return Err(cannot_say("pre_tokenizer", step)),
        }
    }
    Ok(patterns)
}

/// SentencePiece-style BPE: the ranks of the merges become the scores of what they make.
fn sentencepiece(json: &Json, vocab: &Vocab) -> Result<Entries, String> {
    if json["model"]["byte_fallback"] != true {
        return Err(
            "tokenizer.json: model.byte_fallback is off and the decoder is not ByteLevel; \
             GGUF knows no such BPE"
                .into(),
        );
    }
    let space_prefix = check_spaces(json)?;
    let merges = merges(&json["model"]);
    let ids = vocab.ids(|k| k == Kind::Normal);
    let mut scores = vec![0.0f32; vocab.tokens.len()];
    for (rank, (left, right)) in merges.iter().enumerate().rev() {
        if let Some(&id) = ids.get([left.as_str(), right].concat().as_str()) {
            scores[id as usize] = -(rank as f32) - 1.0;
        }
    }
    check_closed(&ids, &merges)?;
    let mut entries = entries("llama", "default", vocab);
    entries.push(("tokenizer.ggml.scores".into(), Value::Array(Array::F32(scores))));
    entries.push(("tokenizer.ggml.add_space_prefix".into(), Value::Bool(space_prefix)));
    Ok(entries)
}

/// Whether a space is put in front of a text, if all that is done to the text is to spell spaces
/// as `▁`.
fn check_spaces(json: &Json) -> Result<bool, String> {
    let mut space_prefix = false;
    for step in steps(&json["normalizer"], "normalizers") {
        let spells = step["pattern"]["String"] == " " && step["content"] == "▁";
        match step["type"].as_str() {
            Some("Prepend") if step["prepend"] == "▁" => space_prefix = true,
            Some("Replace") if spells => {}
            _ => return Err(cannot_say("normalizer", step)),
        }
    }
    for step in steps(&json["pre_tokenizer"], "pretokenizers") {
        // After normalization there is no space left to split at, so Gemma's Split does nothing.
        let idle = step["pattern"]["String"] == " " && !json["normalizer"].is_null();
        match step["type"].as_str() {
            Some("Metaspace") if step["split"] == false => {
                space_prefix |= step["prepend_scheme"] != "never";
            }
            Some("Split") if idle => {}
            _ => return Err(cannot_say("pre_tokenizer", step)),
        }
    }
    Ok(space_prefix)
}

/// GGUF's `llama` merges any two pieces that make a token, so all such pairs must be merges.
fn check_closed(ids: &HashMap<&str, u32>, merges: &[(String, String)]) -> Result<(), String> {
    let merges: HashSet<(&str, &str)> = merges.iter().map(|(l, r)| (&**l, &**r)).collect();
    for token in ids.keys() {
        for (at, _) in token.char_indices().skip(1) {
            let pair = token.split_at(at);
            let both = ids.contains_key(pair.0) && ids.contains_key(pair.1);
            if both && !merges.contains(&pair) {
                return Err(format!(
                    "tokenizer.json: model.merges lacks {pair:?}, which make the token {token:?}; \
                     GGUF's `llama` tokenizer would merge them, so it would encode differently"
                ));
            }
        }
    }
    Ok(())
}

/// A component's steps: those of a sequence, itself, or none.
fn steps<'a>(component: &'a Json, list: &str) -> Vec<&'a Json> {
    match component["type"].as_str() {
        None => vec![],
        Some("Sequence") => {
            component[list].as_array().into_iter().flatten().flat_map(|s| steps(s, list)).collect()
        }
        Some(_) => vec![component],
    }
}

/// The merges by rank, from the canonical form.
fn merges(model: &Json) -> Vec<(String, String)> {
    let pair = |pair: &Json| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
    model["merges"].as_array().into_iter().flatten().filter_map(pair).collect()
}

fn cannot_say(part: &str, step: &Json) -> String {
    format!(
        "tokenizer.json: {part} {step} cannot be written as GGUF; keep this model in its Hugging \
         Face form"
    )
}
