//! Hugging Face's `tokenizer.json`, encoded by the `tokenizers` crate.
//!
//! That crate trusts its file: a merge of unknown tokens, a hostile pattern or a zero-length cut
//! makes it panic. So the file is checked first, a text is tried, and a panic is caught here.

use super::vocab::{Kind, Specials, Spelling, Vocab};
use serde_json::Value as Json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use tokenizers::Tokenizer as HfTokenizer;

/// The encoder of a `tokenizer.json`. Clones share it.
#[derive(Clone)]
pub(super) struct JsonTokenizer {
    /// Takes the special tokens in a text as text.
    plain: Arc<HfTokenizer>,
    /// Recognizes them; made when first asked for, since it doubles the memory.
    special: Arc<OnceLock<HfTokenizer>>,
}

/// No tokenizer comes near it; parsing takes a small multiple of the file's size in memory.
pub(super) const MAX_JSON_BYTES: usize = 256 << 20;

impl JsonTokenizer {
    /// Reads and checks the text of a `tokenizer.json`.
    pub fn new(text: &str) -> Result<(Vocab, Self), String> {
        let mut json = parse(text)?;
        check_model(&json)?;
        // Both are settings of batch processing and would change or pad what is encoded.
        json["padding"] = Json::Null;
        json["truncation"] = Json::Null;
        let (spelling, space_prefix) = spelling(&json["decoder"])?;
        let unknown = json["model"]["unk_token"].as_str().map(str::to_owned);
        let byte_fallback = json["model"]["byte_fallback"] == Json::Bool(true);
        let mut plain: HfTokenizer = contained(|| serde_json::from_value(json).ok())
            .ok_or("its parts do not fit together; save it again with the tokenizers library")?;
        plain.set_encode_special_tokens(true);
        let mut vocab = vocab(&plain, spelling, byte_fallback)?;
        vocab.space_prefix = space_prefix;
        if let Some(id) = unknown.and_then(|t| plain.token_to_id(&t)) {
            vocab.kinds[id as usize] = Kind::Unknown;
            vocab.specials.unknown = Some(id);
        }
        let tokenizer = Self { plain: Arc::new(plain), special: Arc::default() };
        (vocab.specials.prefix, vocab.specials.suffix) = tokenizer.surroundings()?;
        Ok((vocab, tokenizer))
    }

    /// Appends the tokens of a text. Where the crate gives up, on a run of spaces beyond what its
    /// pattern engine can take, each half is tried.
    pub fn encode(&self, text: &str, parse_special: bool, out: &mut Vec<u32>) {
        let tokenizer = if parse_special { self.special() } else { &self.plain };
        match ids(tokenizer, text, false) {
            Some(ids) => out.extend(ids),
            None => {
                let middle = text.floor_char_boundary(text.len() / 2);
                if middle > 0 {
                    self.encode(&text[..middle], parse_special, out);
                    self.encode(&text[middle..], parse_special, out);
                }
            }
        }
    }

    /// The tokenizer as JSON in the crate's own, canonical form.
    pub fn to_json(&self) -> Json {
        serde_json::to_value(&*self.plain).expect("a tokenizer is valid JSON")
    }

    fn special(&self) -> &HfTokenizer {
        self.special.get_or_init(|| {
            let mut special = (*self.plain).clone();
            special.set_encode_special_tokens(false);
            special
        })
    }

    /// What the post-processor puts in front of a text and behind it.
    fn surroundings(&self) -> Result<(Vec<u32>, Vec<u32>), String> {
        const PROBE: &str = "Hello, wörld 12\n  a";
        let broken = "it cannot encode a short text; save it again with the tokenizers library";
        let bare = ids(&self.plain, PROBE, false).ok_or(broken)?;
        let full = ids(&self.plain, PROBE, true).ok_or(broken)?;
        let at = (0..=full.len().saturating_sub(bare.len()))
            .find(|&at| full[at..].starts_with(&bare))
            .ok_or("post_processor changes the text's own tokens; use a TemplateProcessing")?;
        Ok((full[..at].to_vec(), full[at + bare.len()..].to_vec()))
    }
}

/// The ids of a text, or `None` where the crate fails or panics.
fn ids(tokenizer: &HfTokenizer, text: &str, add_special: bool) -> Option<Vec<u32>> {
    let encoding = contained(|| tokenizer.encode_fast(text, add_special).ok())?;
    Some(encoding.get_ids().to_vec())
}

/// Runs the crate's code; a panic in it is a failure, not our end.
fn contained<T>(f: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok().flatten()
}

/// Parses a JSON object of bounded size; the parser bounds its depth.
pub(super) fn parse(text: &str) -> Result<Json, String> {
    if text.len() > MAX_JSON_BYTES {
        return Err(format!("it has {} bytes; at most {MAX_JSON_BYTES} are read", text.len()));
    }
    let json: Json = serde_json::from_str(text)
        .map_err(|e| format!("it is not valid JSON ({e}); download it again"))?;
    if !json.is_object() {
        return Err("it is not a JSON object; download it again".into());
    }
    Ok(json)
}

fn check_model(json: &Json) -> Result<(), String> {
    let model = &json["model"];
    match model["type"].as_str() {
        Some("BPE") => check_bpe(model),
        Some("WordPiece" | "WordLevel") => check_unknown(model, true),
        Some("Unigram") => Ok(()),
        Some(other) => Err(format!(
            "model.type is `{other}`, which Sterna does not know; it knows BPE, WordPiece, \
             WordLevel and Unigram"
        )),
        None => Err("model.type is missing; save it again with a newer tokenizers library".into()),
    }
}

fn check_bpe(model: &Json) -> Result<(), String> {
    for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
        let value = &model[key];
        if !(value.is_null() || value.as_f64() == Some(0.0) || value.as_str() == Some("")) {
            return Err(format!("model.{key} is {value}; Sterna needs it to be null"));
        }
    }
    check_unknown(model, false)?;
    let vocab = model["vocab"].as_object().ok_or("model.vocab is not an object of ids")?;
    let merges = model["merges"].as_array().ok_or("model.merges is not an array of pairs")?;
    for (rank, merge) in merges.iter().enumerate() {
        let parts = match merge {
            Json::String(text) => text.split_once(' '),
            Json::Array(pair) if pair.len() == 2 => pair[0].as_str().zip(pair[1].as_str()),
            _ => None,
        };
        let Some((left, right)) = parts else {
            return Err(format!("model.merges: merge {rank} is not a pair of tokens"));
        };
        for part in [left, right, &[left, right].concat()] {
            if part.is_empty() || !vocab.contains_key(part) {
                return Err(format!(
                    "model.merges: merge {rank} needs the token {part:?}, which model.vocab \
                     lacks; download the file again"
                ));
            }
        }
    }
    Ok(())
}

/// Checks that the unknown token is one.
fn check_unknown(model: &Json, needed: bool) -> Result<(), String> {
    match model["unk_token"].as_str() {
        None if needed => Err("model.unk_token is missing; name the token for unknown text".into()),
        Some(token) if model["vocab"].get(token).is_none() => Err(format!(
            "model.unk_token is {token:?}, which model.vocab lacks; name a token that it has"
        )),
        _ => Ok(()),
    }
}

/// How the decoder spells tokens, and whether it takes a leading space away.
fn spelling(decoder: &Json) -> Result<(Spelling, bool), String> {
    let steps = match decoder["type"].as_str() {
        Some("Sequence") => decoder["decoders"].as_array().map_or(&[][..], |d| d),
        _ => std::slice::from_ref(decoder),
    };
    let step = |name: &str| steps.iter().find(|s| s["type"].as_str() == Some(name));
    let strip = step("Strip").is_some_and(|s| s["start"].as_u64() > Some(0));
    if step("ByteLevel").is_some() {
        return Ok((Spelling::ByteLevel, false));
    }
    if let Some(metaspace) = step("Metaspace") {
        let never =
            metaspace["prepend_scheme"] == "never" || metaspace["add_prefix_space"] == false;
        return Ok((Spelling::Metaspace, !never));
    }
    if step("Replace").is_some_and(|s| s["pattern"]["String"] == "▁" && s["content"] == " ") {
        return Ok((Spelling::Metaspace, strip));
    }
    if step("WordPiece").is_some_and(|s| s["prefix"] == "##") {
        return Ok((Spelling::Hashes, true));
    }
    Err(format!(
        "decoder is {}, which Sterna cannot stream; it knows ByteLevel, Metaspace, WordPiece with \
         `##`, and SentencePiece's Replace of `▁`",
        decoder["type"]
    ))
}

fn vocab(hf: &HfTokenizer, spelling: Spelling, byte_fallback: bool) -> Result<Vocab, String> {
    let ids = hf.get_vocab(true);
    let n_tokens = ids.values().max().map_or(0, |&max| max as usize + 1);
    // Ids leave holes where tokens were removed, but not many.
    if ids.is_empty() || n_tokens > 2 * ids.len() + 1024 {
        return Err(format!(
            "model.vocab has {} tokens with ids below {n_tokens}; number them from 0",
            ids.len()
        ));
    }
    let mut tokens: Vec<Box<str>> =
        (0..n_tokens).map(|id| unused_token(id).into_boxed_str()).collect();
    let mut kinds = vec![Kind::Unused; n_tokens];
    for (token, id) in ids {
        let is_byte = byte_fallback && super::vocab::byte_of(&token).is_some();
        kinds[id as usize] = if is_byte { Kind::Byte } else { Kind::Normal };
        tokens[id as usize] = token.into();
    }
    for (id, added) in hf.get_added_tokens_decoder() {
        kinds[id as usize] = if added.special { Kind::Control } else { Kind::UserDefined };
    }
    let specials = Specials::default();
    Ok(Vocab { tokens, kinds, spelling, specials, space_prefix: false })
}

/// The spelling of an id that no token has, as other converters have it.
pub(super) fn unused_token(id: usize) -> String {
    format!("[PAD{id}]")
}
