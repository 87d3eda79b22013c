//! llama2.c's tokenizer file as GGUF's `tokenizer.ggml.*` keys.
//!
//! Layout: the longest token's length (i32), then per token its score (f32), length (i32), bytes.
//! The file spells spaces plainly and control tokens with line breaks around; GGUF spells them as
//! SentencePiece does, `▁` and `<s>`, so this is what comes out.

use crate::error::{DAMAGED, TRUNCATED, bytes_text};
use crate::{Array, FormatError, MappedFile, Metadata, OpenOptions, Value};
use std::path::{Path, PathBuf};

/// The ids of llama2.c, fixed in its code.
const UNKNOWN: usize = 0;
const BOS: usize = 1;
const EOS: usize = 2;

/// GGUF's numbers for kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN_KIND: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// Finds the tokenizer and adds its keys; without one the checkpoint has none.
pub(super) fn add(
    metadata: &mut Metadata,
    model: &Path,
    n_vocab: usize,
    options: &OpenOptions,
) -> Result<(), FormatError> {
    let Some(path) = options.tokenizer.clone().or_else(|| beside(model, n_vocab)) else {
        return Ok(());
    };
    let file = MappedFile::open(&path)?;
    let vocabulary = read(&file, n_vocab)?;
    let id = |n: usize| Value::U32(n as u32);
    metadata.set("tokenizer.ggml.model", Value::Str("llama".into()));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::Str(vocabulary.tokens)));
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(vocabulary.scores)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vocabulary.kinds)));
    metadata.set("tokenizer.ggml.bos_token_id", id(BOS));
    metadata.set("tokenizer.ggml.eos_token_id", id(EOS));
    metadata.set("tokenizer.ggml.unknown_token_id", id(UNKNOWN));
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    metadata.set("tokenizer.ggml.add_eos_token", Value::Bool(false));
    metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(true));
    Ok(())
}

/// `tok512.bin` says its size and so goes before `tokenizer.bin`.
fn beside(model: &Path, n_vocab: usize) -> Option<PathBuf> {
    [format!("tok{n_vocab}.bin"), "tokenizer.bin".to_owned()]
        .into_iter()
        .map(|name| model.with_file_name(name))
        .find(|path| path != model && path.exists())
}

struct Vocabulary {
    tokens: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
}

fn read(file: &MappedFile, n_vocab: usize) -> Result<Vocabulary, FormatError> {
    let fail = |problem: String, fix: &str| Err(FormatError::new(file.path(), problem, fix));
    let other = "give the tokenizer file that belongs to the model";
    // Each token takes at least eight bytes, so this also bounds what is allocated.
    let mut rest = file.bytes().get(4..).unwrap_or_default();
    if n_vocab > rest.len() / 8 {
        let has = bytes_text(file.bytes().len());
        return fail(format!("has {has} bytes, too few for the model's {n_vocab} tokens"), other);
    }
    let mut out = Vocabulary {
        tokens: Vec::with_capacity(n_vocab),
        scores: Vec::with_capacity(n_vocab),
        kinds: Vec::with_capacity(n_vocab),
    };
    for id in 0..n_vocab {
        let Some((head, tail)) = rest.split_first_chunk::<8>() else {
            return fail(format!("ends inside token {id} of {n_vocab}"), TRUNCATED);
        };
        let ([score, len], _) = head.as_chunks::<4>() else { unreachable!("8 is 2 times 4") };
        let (score, len) = (f32::from_le_bytes(*score), i32::from_le_bytes(*len));
        let Some(text) = usize::try_from(len).ok().and_then(|len| tail.get(..len)) else {
            return fail(format!("token {id} claims {len} bytes, more than are left"), TRUNCATED);
        };
        rest = &tail[text.len()..];
        let Ok(text) = std::str::from_utf8(text) else {
            return fail(format!("token {id} is not UTF-8"), DAMAGED);
        };
        let (text, kind) = spelled(id, text);
        out.tokens.push(text);
        out.scores.push(score);
        out.kinds.push(kind);
    }
    if !rest.is_empty() {
        let more = bytes_text(rest.len());
        return fail(format!("goes on for {more} bytes after the model's {n_vocab} tokens"), other);
    }
    Ok(out)
}

/// GGUF's spelling and kind of a token.
fn spelled(id: usize, text: &str) -> (String, i32) {
    match id {
        UNKNOWN => ("<unk>".into(), UNKNOWN_KIND),
        BOS => ("<s>".into(), CONTROL),
        EOS => ("</s>".into(), CONTROL),
        _ if text.is_empty() => (String::new(), CONTROL),
        _ if is_byte(text) => (text.into(), BYTE),
        _ => (text.replace(' ', "\u{2581}"), NORMAL),
    }
}

/// Whether a token is spelled `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}
